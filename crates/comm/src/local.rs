//! A team of threads of one process.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::collective::{Abort, Collective, check_root, check_shares};
use crate::error::{CommError, PANICKED};
use crate::meeting::Meeting;

/// One rank of a team of threads. Sums are made in the order of the ranks, element by element, so their bits do not
/// depend on which thread comes first.
///
/// One that is dropped leaves the team, and waits for it end with an error; one that is dropped by a panic aborts the team.
pub struct Local {
    rank: usize,
    team: Arc<Team>,
}

struct Team {
    meeting: Meeting,
    desks: Vec<Desk>,
}

/// What a rank shows the others. It is written only before a meeting and read only after it, so no lock is ever waited
/// for; that they are locks is what makes this safe Rust.
#[derive(Default)]
struct Desk {
    call: Mutex<Call>,
    /// What it gives.
    given: RwLock<Vec<f32>>,
    /// Its part of the result.
    result: RwLock<Vec<f32>>,
    message: RwLock<Vec<u8>>,
}

/// A call with all that must be the same on every rank.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Call {
    #[default]
    None,
    AllReduce(usize),
    ReduceScatter(usize, Vec<Range<usize>>),
    AllGather(usize, Vec<Range<usize>>),
    Broadcast(usize, usize),
    Exchange,
    Barrier,
}

impl Local {
    /// The ranks 0 to `n - 1` of a team, one for each thread.
    pub fn team(n: usize) -> Vec<Self> {
        let desks = std::iter::repeat_with(Desk::default).take(n).collect();
        let team = Arc::new(Team { meeting: Meeting::new(n), desks });
        (0..n).map(|rank| Self { rank, team: Arc::clone(&team) }).collect()
    }

    /// Lets the team be part of a larger group, in which its rank 0 is `first`: who aborts the team aborts that too.
    pub(crate) fn belongs_to(&self, outside: Abort, first: usize) {
        self.team.meeting.belongs_to(outside, first);
    }

    /// Ends the waits of the team because what it is part of has ended, by `rank` as counted there.
    pub(crate) fn ended_outside(&self, rank: usize, code: u8, message: &str) {
        self.team.meeting.ended_outside(rank, code, message);
    }

    /// Meets the others, and checks that all make this call.
    fn begin(&self, call: &Call) -> Result<(), CommError> {
        lock(&self.team.desks[self.rank].call).clone_from(call);
        self.meet(call)?;
        for (rank, desk) in self.team.desks.iter().enumerate() {
            let theirs = lock(&desk.call).clone();
            if theirs != *call {
                // Nobody goes on before all have seen it.
                self.meet(call)?;
                let (a, b) = (self.rank, rank);
                return Err(CommError::Usage(format!("replica {a} makes {call}, replica {b} {theirs}")));
            }
        }
        Ok(())
    }

    /// Waits until all are done with what is on the desks.
    fn meet(&self, call: &Call) -> Result<(), CommError> {
        self.team.meeting.wait(|| call.to_string())
    }

    fn own(&self) -> &Desk {
        &self.team.desks[self.rank]
    }

    fn give(&self, values: &[f32]) {
        let mut given = write(&self.own().given);
        given.clear();
        given.extend_from_slice(values);
    }

    /// Sums `part` of what was given, over ranks in their order.
    fn sum(&self, part: Range<usize>, out: &mut [f32]) {
        for (rank, desk) in self.team.desks.iter().enumerate() {
            let given = read(&desk.given);
            let given = &given[part.clone()];
            match rank {
                0 => out.copy_from_slice(given),
                _ => out.iter_mut().zip(given).for_each(|(sum, x)| *sum += x),
            }
        }
    }
}

impl Collective for Local {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.team.desks.len()
    }

    fn all_reduce(&mut self, values: &mut [f32]) -> Result<(), CommError> {
        let call = Call::AllReduce(values.len());
        self.give(values);
        self.begin(&call)?;
        // Each rank sums a part, and then all copy all parts.
        let (len, size) = (values.len(), self.size());
        let part = |rank: usize| len * rank / size..len * (rank + 1) / size;
        {
            let mut sums = write(&self.own().result);
            sums.resize(part(self.rank).len(), 0.0);
            self.sum(part(self.rank), &mut sums);
        }
        self.meet(&call)?;
        let parts: Vec<_> = (0..self.size()).map(part).collect();
        for (part, desk) in parts.into_iter().zip(&self.team.desks) {
            values[part].copy_from_slice(&read(&desk.result));
        }
        // The next call writes results only after another meeting.
        Ok(())
    }

    fn reduce_scatter(&mut self, values: &mut [f32], shares: &[Range<usize>]) -> Result<(), CommError> {
        check_shares(shares, self.size(), values.len())?;
        let call = Call::ReduceScatter(values.len(), shares.to_vec());
        self.give(values);
        self.begin(&call)?;
        let own = shares[self.rank].clone();
        self.sum(own.clone(), &mut values[own]);
        self.meet(&call)
    }

    fn all_gather(&mut self, values: &mut [f32], shares: &[Range<usize>]) -> Result<(), CommError> {
        check_shares(shares, self.size(), values.len())?;
        let call = Call::AllGather(values.len(), shares.to_vec());
        self.give(&values[shares[self.rank].clone()]);
        self.begin(&call)?;
        for (rank, (share, desk)) in shares.iter().zip(&self.team.desks).enumerate() {
            if rank != self.rank {
                values[share.clone()].copy_from_slice(&read(&desk.given));
            }
        }
        self.meet(&call)
    }

    fn broadcast(&mut self, values: &mut [f32], root: usize) -> Result<(), CommError> {
        check_root(root, self.size())?;
        let call = Call::Broadcast(values.len(), root);
        if root == self.rank {
            self.give(values);
        }
        self.begin(&call)?;
        if root != self.rank {
            values.copy_from_slice(&read(&self.team.desks[root].given));
        }
        self.meet(&call)
    }

    fn exchange(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CommError> {
        let call = Call::Exchange;
        *write(&self.own().message) = bytes.to_vec();
        self.begin(&call)?;
        let messages = self.team.desks.iter().map(|desk| read(&desk.message).clone()).collect();
        self.meet(&call)?;
        Ok(messages)
    }

    fn barrier(&mut self) -> Result<(), CommError> {
        self.begin(&Call::Barrier)?;
        self.meet(&Call::Barrier)
    }

    fn abort(&self) -> Abort {
        let (team, rank) = (Arc::clone(&self.team), self.rank);
        Abort::new(move |code, message| team.meeting.end(rank, code, message))
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.team.meeting.end(self.rank, PANICKED, "it panicked");
        }
        self.team.meeting.leave(self.rank);
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
            Self::AllReduce(len) => write!(f, "an all-reduce of {len} numbers"),
            Self::ReduceScatter(len, shares) => write!(f, "a reduce-scatter of {len} numbers as {shares:?}"),
            Self::AllGather(len, shares) => write!(f, "an all-gather of {len} numbers as {shares:?}"),
            Self::Broadcast(len, root) => write!(f, "a broadcast of {len} numbers from rank {root}"),
            Self::Exchange => f.write_str("an exchange of messages"),
            Self::Barrier => f.write_str("a barrier"),
        }
    }
}

// A panic of a rank ends the team by other means than a poisoned lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
