//! Where the threads of a team wait for one another: a barrier whose waits end when the team is aborted or a member
//! has left, and which carries what each member is about to do.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::collective::Abort;
use crate::error::{CommError, LOST};

/// One of `size` members has come, is waiting, or has gone.
pub(crate) struct Meeting {
    size: usize,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// How many of the present round have come.
    come: usize,
    round: u64,
    ended: Option<Ended>,
    /// The first member that has gone, while the others might still wait for it.
    left: Option<usize>,
    /// What to end together with the team, and the number of the team's first rank outside.
    outside: Option<(Abort, usize)>,
}

/// How the team was ended, and by which rank, as counted outside if there is an outside.
#[derive(Clone)]
struct Ended {
    rank: usize,
    code: u8,
    message: String,
}

impl Meeting {
    pub fn new(size: usize) -> Self {
        let state = State { come: 0, round: 0, ended: None, left: None, outside: None };
        Self { size, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Waits until all members have come here for `what`.
    pub fn wait(&self, what: impl Fn() -> String) -> Result<(), CommError> {
        let mut state = self.lock();
        if let Some(error) = state.over(&what) {
            return Err(error);
        }
        state.come += 1;
        if state.come == self.size {
            state.come = 0;
            state.round += 1;
            self.changed.notify_all();
            return Ok(());
        }
        let round = state.round;
        loop {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            // A round that is complete counts, even if a member left right after it.
            if state.round != round {
                return Ok(());
            }
            if let Some(error) = state.over(&what) {
                return Err(error);
            }
        }
    }

    /// Ends the team, and what it is part of. The first one counts.
    pub fn end(&self, member: usize, code: u8, message: &str) {
        let state = self.lock();
        if state.ended.is_some() {
            return;
        }
        let outside = state.outside.clone();
        drop(state);
        let rank = member + outside.as_ref().map_or(0, |(_, first)| *first);
        // First outside: a leader that hears of it leaves the others, who are to know why. And not under the lock: it
        // may end the process, and so wait for other threads.
        if let Some((outside, _)) = outside {
            outside.call(code, &self.for_outside(rank, message));
        }
        self.ended_outside(rank, code, message);
    }

    /// Ends the team because of what it is part of, where `rank` is counted as outside.
    pub fn ended_outside(&self, rank: usize, code: u8, message: &str) {
        self.lock().ended.get_or_insert_with(|| Ended { rank, code, message: message.to_owned() });
        self.changed.notify_all();
    }

    /// Names the replica, where the other processes know only the whole of it.
    fn for_outside(&self, rank: usize, message: &str) -> String {
        if self.size == 1 { message.to_owned() } else { format!("replica {rank}: {message}") }
    }

    /// A member goes.
    pub fn leave(&self, member: usize) {
        self.lock().left.get_or_insert(member);
        self.changed.notify_all();
    }

    /// From now on the team is part of something larger, in which its first member has the number `first`.
    pub fn belongs_to(&self, outside: Abort, first: usize) {
        let mut state = self.lock();
        state.outside = Some((outside.clone(), first));
        let ended = state.ended.as_mut().map(|ended| {
            ended.rank += first;
            ended.clone()
        });
        drop(state);
        if let Some(Ended { rank, code, message }) = ended {
            outside.call(code, &self.for_outside(rank, &message));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Why nobody should wait any longer.
    fn over(&self, what: &impl Fn() -> String) -> Option<CommError> {
        if let Some(Ended { rank, code, message }) = self.ended.clone() {
            return Some(CommError::Aborted { rank, code, message });
        }
        let first = self.outside.as_ref().map_or(0, |(_, first)| *first);
        self.left.map(|member| {
            let message = format!("it has left, and was needed for {}", what());
            CommError::Aborted { rank: first + member, code: LOST, message }
        })
    }
}
