//! The contract, and the collective of one.

use std::ops::Range;
use std::sync::Arc;

use crate::error::CommError;

/// What replicas do together. Every replica makes the same calls in the same order, with tensors of the same length.
pub trait Collective: Send {
    /// Number of this replica, from 0.
    fn rank(&self) -> usize;

    /// Number of replicas.
    fn size(&self) -> usize;

    /// Sums over replicas, in place; the same bits everywhere.
    fn all_reduce(&mut self, values: &mut [f32]) -> Result<(), CommError>;

    /// Sums over replicas, of which each gets its share in place; the rest of its values is then unspecified. `shares` are one
    /// range a replica, in order and without gaps, together all of `values`; some may be empty.
    fn reduce_scatter(&mut self, values: &mut [f32], shares: &[Range<usize>]) -> Result<(), CommError>;

    /// Every replica gives its share of `values` and gets all of them, in place. `shares` as in
    /// [`Collective::reduce_scatter`].
    fn all_gather(&mut self, values: &mut [f32], shares: &[Range<usize>]) -> Result<(), CommError>;

    /// Every replica gets the values of one, in place.
    fn broadcast(&mut self, values: &mut [f32], root: usize) -> Result<(), CommError>;

    /// Every replica gives bytes, of any length, and gets those of all, by rank.
    fn exchange(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CommError>;

    /// Waits until every replica is here.
    fn barrier(&mut self) -> Result<(), CommError>;

    /// What ends the job, from any thread.
    fn abort(&self) -> Abort;
}

/// Ends a job: the other replicas stop waiting, and learn why.
#[derive(Clone)]
pub struct Abort(Arc<End>);

type End = dyn Fn(u8, &str) + Send + Sync;

impl Abort {
    /// Wraps what ends a job, given an exit code and a message.
    pub fn new(end: impl Fn(u8, &str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(end))
    }

    /// Ends the job with an exit code and a message. Between processes this one ends as well.
    pub fn call(&self, code: u8, message: &str) {
        (self.0)(code, message);
    }
}

impl std::fmt::Debug for Abort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Abort")
    }
}

/// Checks that shares are one a replica, in order, and together all of `len` elements.
pub(crate) fn check_shares(shares: &[Range<usize>], size: usize, len: usize) -> Result<(), CommError> {
    let mut end = 0;
    let in_order = shares.iter().all(|share| {
        let follows = share.start == end && share.end >= share.start;
        end = share.end;
        follows
    });
    if shares.len() == size && in_order && end == len {
        return Ok(());
    }
    Err(CommError::Usage(format!("{shares:?} are no shares of {len} elements for {size} replicas")))
}

/// The collective of one replica: there is nobody to talk to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Single;

impl Collective for Single {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn all_reduce(&mut self, _: &mut [f32]) -> Result<(), CommError> {
        Ok(())
    }

    fn reduce_scatter(&mut self, values: &mut [f32], shares: &[Range<usize>]) -> Result<(), CommError> {
        check_shares(shares, 1, values.len())
    }

    fn all_gather(&mut self, values: &mut [f32], shares: &[Range<usize>]) -> Result<(), CommError> {
        check_shares(shares, 1, values.len())
    }

    fn broadcast(&mut self, _: &mut [f32], root: usize) -> Result<(), CommError> {
        check_root(root, 1)
    }

    fn exchange(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CommError> {
        Ok(vec![bytes.to_vec()])
    }

    fn barrier(&mut self) -> Result<(), CommError> {
        Ok(())
    }

    fn abort(&self) -> Abort {
        Abort::new(|_, _| {})
    }
}

/// Checks that there is such a replica.
pub(crate) fn check_root(root: usize, size: usize) -> Result<(), CommError> {
    if root < size {
        return Ok(());
    }
    Err(CommError::Usage(format!("there is no replica {root} of {size}")))
}
