//! Interface of collectives, and the collective of a single replica.

use std::ops::Range;
use std::sync::Arc;

use crate::error::CommError;

/// Collective operations between replicas. All replicas make the same calls in the same order, with tensors of equal
/// length.
///
/// Apart from the errors listed at each method, a call returns [`CommError::Aborted`] if another replica aborts the job
/// or exits, [`CommError::Mismatch`] if the implementation finds that the replicas made different calls, and
/// [`CommError::Mpi`] if MPI reports an error.
pub trait Collective: Send {
    /// Rank of this replica, from 0.
    fn rank(&self) -> usize;

    /// Number of replicas.
    fn size(&self) -> usize;

    /// Sums `values` over all replicas, in place. The results of all replicas are bit-identical.
    ///
    /// # Errors
    /// Returns an error if another replica aborts, exits or makes a different call, or if MPI fails.
    fn all_reduce(&mut self, values: &mut [f32]) -> Result<(), CommError>;

    /// Sums `values` over all replicas; each replica gets its shard of the sum, in place.
    ///
    /// The other elements of `values` are unspecified afterwards. `shards` has one range for each replica, in order and
    /// without gaps. Together the ranges cover `values`; ranges may be empty.
    ///
    /// # Errors
    /// Returns [`CommError::Usage`] if `shards` does not cover `values` as described, and an error if another replica
    /// aborts, exits or makes a different call, or if MPI fails.
    fn reduce_scatter(&mut self, values: &mut [f32], shards: &[Range<usize>]) -> Result<(), CommError>;

    /// Gathers the shards of all replicas into `values`, in place. `shards` has the same form as in
    /// [`Collective::reduce_scatter`].
    ///
    /// # Errors
    /// Returns the same errors as [`Collective::reduce_scatter`].
    fn all_gather(&mut self, values: &mut [f32], shards: &[Range<usize>]) -> Result<(), CommError>;

    /// Copies the values of replica `root` to all replicas, in place.
    ///
    /// # Errors
    /// Returns [`CommError::Usage`] if `root` is not a rank of the group, and an error if another replica aborts, exits
    /// or makes a different call, or if MPI fails.
    fn broadcast(&mut self, values: &mut [f32], root: usize) -> Result<(), CommError>;

    /// Gathers a message of any length from each replica. Returns the messages in order of rank.
    ///
    /// # Errors
    /// Returns an error if another replica aborts, exits or makes a different call, or if MPI fails.
    fn all_gather_bytes(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CommError>;

    /// Waits until all replicas have called `barrier`.
    ///
    /// # Errors
    /// Returns an error if another replica aborts, exits or makes a different call, or if MPI fails.
    fn barrier(&mut self) -> Result<(), CommError>;

    /// Returns a handle that aborts the job from any thread.
    fn abort_handle(&self) -> AbortHandle;
}

/// Handle that aborts a job: the other replicas stop waiting and receive the exit code and the message.
#[derive(Clone)]
pub struct AbortHandle(Arc<AbortFn>);

type AbortFn = dyn Fn(u8, &str) + Send + Sync;

impl AbortHandle {
    /// Wraps a function that aborts a job with an exit code and a message.
    pub fn new(abort: impl Fn(u8, &str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(abort))
    }

    /// Aborts the job with an exit code and a message. With MPI, this process also exits.
    pub fn abort(&self, code: u8, message: &str) {
        (self.0)(code, message);
    }
}

impl std::fmt::Debug for AbortHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AbortHandle")
    }
}

/// Checks that `shards` has one range for each of `size` replicas, in order, together covering `len` elements.
pub(crate) fn check_shards(shards: &[Range<usize>], size: usize, len: usize) -> Result<(), CommError> {
    let mut end = 0;
    let contiguous = shards.iter().all(|shard| {
        let follows = shard.start == end && shard.end >= shard.start;
        end = shard.end;
        follows
    });
    if shards.len() == size && contiguous && end == len {
        return Ok(());
    }
    Err(CommError::Usage(format!(
        "shards {shards:?} do not cover {len} elements with one range for each of {size} replicas"
    )))
}

/// Collective of one replica. Every call returns immediately.
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

    fn reduce_scatter(&mut self, values: &mut [f32], shards: &[Range<usize>]) -> Result<(), CommError> {
        check_shards(shards, 1, values.len())
    }

    fn all_gather(&mut self, values: &mut [f32], shards: &[Range<usize>]) -> Result<(), CommError> {
        check_shards(shards, 1, values.len())
    }

    fn broadcast(&mut self, _: &mut [f32], root: usize) -> Result<(), CommError> {
        check_root(root, 1)
    }

    fn all_gather_bytes(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CommError> {
        Ok(vec![bytes.to_vec()])
    }

    fn barrier(&mut self) -> Result<(), CommError> {
        Ok(())
    }

    fn abort_handle(&self) -> AbortHandle {
        AbortHandle::new(|_, _| {})
    }
}

/// Checks that `root` is a rank of a group of `size` replicas.
pub(crate) fn check_root(root: usize, size: usize) -> Result<(), CommError> {
    if root < size {
        return Ok(());
    }
    Err(CommError::Usage(format!(
        "root {root} is not a rank of a group of {size} replicas; ranks start at 0"
    )))
}
