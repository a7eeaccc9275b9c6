//! Barrier for the threads of one process. Waits return an error once the group is aborted or a member has exited.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::collective::AbortHandle;
use crate::error::CommError;
use wgrad_stdx::ErrorKind;

/// Reusable barrier for `size` threads.
pub(crate) struct Barrier {
    size: usize,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Number of members that wait in the current generation.
    arrived: usize,
    /// Number of times that all members have arrived.
    generation: u64,
    aborted: Option<AbortReason>,
    /// Member that exited first; other members may still be waiting for it.
    exited: Option<usize>,
    /// Abort handle of the enclosing group, and the rank of this group's member 0 in the enclosing group.
    parent: Option<(AbortHandle, usize)>,
}

/// Rank that aborted the group, with its exit code and message.
///
/// The rank is a rank of the enclosing group if there is one, otherwise a rank of this group.
#[derive(Clone)]
struct AbortReason {
    rank: usize,
    code: u8,
    message: String,
}

impl Barrier {
    pub fn new(size: usize) -> Self {
        let state = State { arrived: 0, generation: 0, aborted: None, exited: None, parent: None };
        Self { size, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Waits until all members have arrived. `operation` names the collective in errors.
    pub fn wait(&self, operation: impl Fn() -> String) -> Result<(), CommError> {
        let mut state = self.lock();
        if let Some(error) = state.failure(&operation) {
            return Err(error);
        }
        state.arrived += 1;
        if state.arrived == self.size {
            state.arrived = 0;
            state.generation += 1;
            self.changed.notify_all();
            return Ok(());
        }
        let generation = state.generation;
        loop {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            // A completed generation is a success even if a member exits right after it.
            if state.generation != generation {
                return Ok(());
            }
            if let Some(error) = state.failure(&operation) {
                return Err(error);
            }
        }
    }

    /// Aborts the group and its enclosing group. Only the first abort takes effect.
    pub fn abort(&self, member: usize, code: u8, message: &str) {
        let state = self.lock();
        if state.aborted.is_some() {
            return;
        }
        let parent = state.parent.clone();
        drop(state);
        let rank = member + parent.as_ref().map_or(0, |(_, first)| *first);
        // Abort the enclosing group first: a leader that learns of the abort exits, and the other leaders need the
        // reason before it exits. The lock is released, because aborting the parent may end the process, which may wait
        // for other threads.
        if let Some((parent, _)) = parent {
            parent.abort(code, &self.message_for_parent(rank, message));
        }
        self.abort_from_parent(rank, code, message);
    }

    /// Aborts this group only, because `rank` of the enclosing group aborted the enclosing group.
    pub fn abort_from_parent(&self, rank: usize, code: u8, message: &str) {
        self.lock().aborted.get_or_insert_with(|| AbortReason { rank, code, message: message.to_owned() });
        self.changed.notify_all();
    }

    /// Prefixes the message with the rank of the replica, because a rank of the enclosing group may be a group of
    /// replicas.
    fn message_for_parent(&self, rank: usize, message: &str) -> String {
        if self.size == 1 { message.to_owned() } else { format!("replica {rank}: {message}") }
    }

    /// Records that a member has exited.
    pub fn exit(&self, member: usize) {
        self.lock().exited.get_or_insert(member);
        self.changed.notify_all();
    }

    /// Joins an enclosing group, in which this group's member 0 has rank `first`. An earlier abort is forwarded to the
    /// enclosing group.
    pub fn set_parent(&self, parent: AbortHandle, first: usize) {
        let mut state = self.lock();
        state.parent = Some((parent.clone(), first));
        let aborted = state.aborted.as_mut().map(|reason| {
            reason.rank += first;
            reason.clone()
        });
        drop(state);
        if let Some(AbortReason { rank, code, message }) = aborted {
            parent.abort(code, &self.message_for_parent(rank, &message));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns the error that every wait returns once the group is aborted or a member has exited. Returns `None`
    /// before that.
    fn failure(&self, operation: &impl Fn() -> String) -> Option<CommError> {
        if let Some(AbortReason { rank, code, message }) = self.aborted.clone() {
            return Some(CommError::Aborted { rank, code, message });
        }
        let first = self.parent.as_ref().map_or(0, |(_, first)| *first);
        self.exited.map(|member| {
            let message = format!("it exited before completing this call: {}", operation());
            CommError::Aborted { rank: first + member, code: ErrorKind::Replica.exit_code(), message }
        })
    }
}
