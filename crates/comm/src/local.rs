//! Collective of the threads of one process, through shared memory.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::barrier::Barrier;
use crate::collective::{AbortHandle, Collective, check_root, check_shards};
use crate::error::{CommError, PANICKED};

/// One rank of a group of threads. Sums are computed in the order of the ranks, element by element, so their bits do
/// not depend on which thread arrives first.
///
/// After a rank is dropped, the waits of the other ranks return an error. Dropping a rank during a panic aborts the
/// group.
pub struct Local {
    rank: usize,
    group: Arc<Group>,
}

struct Group {
    barrier: Barrier,
    mailboxes: Vec<Mailbox>,
}

/// Data that a rank publishes to the others. The data is written only before a barrier and read only after the barrier,
/// so no lock is ever contended. The locks exist because safe Rust cannot express that protocol.
#[derive(Default)]
struct Mailbox {
    call: Mutex<Call>,
    /// Elements that this rank contributes to the call.
    input: RwLock<Vec<f32>>,
    /// Slice of the result that this rank computes.
    result: RwLock<Vec<f32>>,
    message: RwLock<Vec<u8>>,
}

/// A collective call, with the arguments that must be equal on all ranks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Call {
    #[default]
    None,
    AllReduce(usize),
    ReduceScatter(usize, Vec<Range<usize>>),
    AllGather(usize, Vec<Range<usize>>),
    Broadcast(usize, usize),
    AllGatherBytes,
    Barrier,
}

impl Local {
    /// Creates a group of `n` ranks for `n` threads. Returns the ranks in order, from 0.
    pub fn group(n: usize) -> Vec<Self> {
        let mailboxes = std::iter::repeat_with(Mailbox::default).take(n).collect();
        let group = Arc::new(Group { barrier: Barrier::new(n), mailboxes });
        (0..n).map(|rank| Self { rank, group: Arc::clone(&group) }).collect()
    }

    /// Joins an enclosing group, in which rank 0 of this group has rank `first`. An abort of this group also aborts the
    /// enclosing group.
    pub(crate) fn set_parent(&self, parent: AbortHandle, first: usize) {
        self.group.barrier.set_parent(parent, first);
    }

    /// Aborts this group because `rank` of the enclosing group aborted the enclosing group.
    pub(crate) fn abort_from_parent(&self, rank: usize, code: u8, message: &str) {
        self.group.barrier.abort_from_parent(rank, code, message);
    }

    /// Waits for the other ranks and checks that all ranks make the same call.
    fn begin(&self, call: &Call) -> Result<(), CommError> {
        lock(&self.group.mailboxes[self.rank].call).clone_from(call);
        self.wait(call)?;
        for (rank, mailbox) in self.group.mailboxes.iter().enumerate() {
            let other = lock(&mailbox.call).clone();
            if other != *call {
                // All ranks compare the calls before any of them can overwrite its mailbox.
                self.wait(call)?;
                return Err(CommError::Mismatch(format!(
                    "the replicas called different collective operations: {call} on replica {}, {other} on replica {rank}",
                    self.rank
                )));
            }
        }
        Ok(())
    }

    /// Waits until all ranks have reached this point of the call.
    fn wait(&self, call: &Call) -> Result<(), CommError> {
        self.group.barrier.wait(|| call.to_string())
    }

    fn mailbox(&self) -> &Mailbox {
        &self.group.mailboxes[self.rank]
    }

    /// Copies `values` to the input of this rank's mailbox.
    fn publish(&self, values: &[f32]) {
        let mut input = write(&self.mailbox().input);
        input.clear();
        input.extend_from_slice(values);
    }

    /// Sums the elements in `range` of the inputs of all ranks into `out`, in the order of the ranks.
    fn sum_inputs(&self, range: Range<usize>, out: &mut [f32]) {
        for (rank, mailbox) in self.group.mailboxes.iter().enumerate() {
            let input = read(&mailbox.input);
            let input = &input[range.clone()];
            match rank {
                0 => out.copy_from_slice(input),
                _ => out.iter_mut().zip(input).for_each(|(sum, x)| *sum += x),
            }
        }
    }
}

impl Collective for Local {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.group.mailboxes.len()
    }

    fn all_reduce(&mut self, values: &mut [f32]) -> Result<(), CommError> {
        let call = Call::AllReduce(values.len());
        self.publish(values);
        self.begin(&call)?;
        // Reduce-scatter, then all-gather: each rank sums one slice, then all ranks copy all slices.
        let (len, size) = (values.len(), self.size());
        let slice = |rank: usize| len * rank / size..len * (rank + 1) / size;
        {
            let mut sums = write(&self.mailbox().result);
            sums.resize(slice(self.rank).len(), 0.0);
            self.sum_inputs(slice(self.rank), &mut sums);
        }
        self.wait(&call)?;
        let slices: Vec<_> = (0..self.size()).map(slice).collect();
        for (slice, mailbox) in slices.into_iter().zip(&self.group.mailboxes) {
            values[slice].copy_from_slice(&read(&mailbox.result));
        }
        // No barrier here: the next call writes results only after its own first barrier.
        Ok(())
    }

    fn reduce_scatter(&mut self, values: &mut [f32], shards: &[Range<usize>]) -> Result<(), CommError> {
        check_shards(shards, self.size(), values.len())?;
        let call = Call::ReduceScatter(values.len(), shards.to_vec());
        self.publish(values);
        self.begin(&call)?;
        let shard = shards[self.rank].clone();
        self.sum_inputs(shard.clone(), &mut values[shard]);
        self.wait(&call)
    }

    fn all_gather(&mut self, values: &mut [f32], shards: &[Range<usize>]) -> Result<(), CommError> {
        check_shards(shards, self.size(), values.len())?;
        let call = Call::AllGather(values.len(), shards.to_vec());
        self.publish(&values[shards[self.rank].clone()]);
        self.begin(&call)?;
        for (rank, (shard, mailbox)) in shards.iter().zip(&self.group.mailboxes).enumerate() {
            if rank != self.rank {
                values[shard.clone()].copy_from_slice(&read(&mailbox.input));
            }
        }
        self.wait(&call)
    }

    fn broadcast(&mut self, values: &mut [f32], root: usize) -> Result<(), CommError> {
        check_root(root, self.size())?;
        let call = Call::Broadcast(values.len(), root);
        if root == self.rank {
            self.publish(values);
        }
        self.begin(&call)?;
        if root != self.rank {
            values.copy_from_slice(&read(&self.group.mailboxes[root].input));
        }
        self.wait(&call)
    }

    fn all_gather_bytes(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CommError> {
        let call = Call::AllGatherBytes;
        *write(&self.mailbox().message) = bytes.to_vec();
        self.begin(&call)?;
        let messages = self.group.mailboxes.iter().map(|mailbox| read(&mailbox.message).clone()).collect();
        self.wait(&call)?;
        Ok(messages)
    }

    fn barrier(&mut self) -> Result<(), CommError> {
        self.begin(&Call::Barrier)?;
        self.wait(&Call::Barrier)
    }

    fn abort_handle(&self) -> AbortHandle {
        let (group, rank) = (Arc::clone(&self.group), self.rank);
        AbortHandle::new(move |code, message| group.barrier.abort(rank, code, message))
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.group.barrier.abort(self.rank, PANICKED, "it panicked");
        }
        self.group.barrier.exit(self.rank);
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Local({} of {})", self.rank, self.size())
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no call"),
            Self::AllReduce(len) => write!(f, "all-reduce of {len} elements"),
            Self::ReduceScatter(len, shards) => {
                write!(f, "reduce-scatter of {len} elements in shards {shards:?}")
            }
            Self::AllGather(len, shards) => write!(f, "all-gather of {len} elements in shards {shards:?}"),
            Self::Broadcast(len, root) => write!(f, "broadcast of {len} elements from rank {root}"),
            Self::AllGatherBytes => f.write_str("all-gather of messages"),
            Self::Barrier => f.write_str("barrier"),
        }
    }
}

// A poisoned lock is not an error: a rank that panics aborts the group when it is dropped.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
