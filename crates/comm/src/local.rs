//! Replicas as threads of one process, which hand each other copies.

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::collective::{Abort, Collective, check_root, check_shares};
use crate::error::CommError;

/// One of several threads. Sums are taken in the order of the ranks, so their bits depend on nothing else.
pub struct Local {
    rank: usize,
    shared: Arc<Shared>,
}

struct Shared {
    size: usize,
    meeting: Mutex<Meeting>,
    turn: Condvar,
    /// What each replica brings to the call under way.
    brought: Vec<Mutex<Vec<f32>>>,
    /// What each contributes to the result.
    results: Vec<Mutex<Vec<f32>>>,
    messages: Vec<Mutex<Vec<u8>>>,
}

#[derive(Default)]
struct Meeting {
    /// Replicas that are here, and what they were asked for.
    here: usize,
    call: Option<(usize, &'static str, usize)>,
    /// Meetings so far.
    round: u64,
    over: Option<CommError>,
}

impl Local {
    /// A team of `n` replicas, one for each of as many threads; rank i is number i.
    pub fn team(n: usize) -> Vec<Local> {
        let floats = || (0..n).map(|_| Mutex::default()).collect();
        let messages = (0..n).map(|_| Mutex::default()).collect();
        let shared = Arc::new(Shared {
            size: n,
            meeting: Mutex::default(),
            turn: Condvar::new(),
            brought: floats(),
            results: floats(),
            messages,
        });
        (0..n).map(|rank| Local { rank, shared: Arc::clone(&shared) }).collect()
    }

    /// Waits until every replica is here for the same thing.
    fn meet(&self, call: &'static str, len: usize) -> Result<(), CommError> {
        let shared = &self.shared;
        let mut meeting = held(&shared.meeting);
        if let Some(over) = &meeting.over {
            return Err(over.clone());
        }
        match meeting.call {
            Some((rank, other, others_len)) if (other, others_len) != (call, len) => {
                let message = format!(
                    "replica {} was asked for {call} of {len} elements, replica {rank} for {other} of {others_len}",
                    self.rank
                );
                shared.end(&mut meeting, CommError::Usage(message.clone()));
                return Err(CommError::Usage(message));
            }
            Some(_) => {}
            None => meeting.call = Some((self.rank, call, len)),
        }
        meeting.here += 1;
        let round = meeting.round;
        if meeting.here == shared.size {
            (meeting.here, meeting.call, meeting.round) = (0, None, round + 1);
            shared.turn.notify_all();
            return Ok(());
        }
        while meeting.round == round && meeting.over.is_none() {
            meeting = shared.turn.wait(meeting).unwrap_or_else(PoisonError::into_inner);
        }
        match &meeting.over {
            Some(over) if meeting.round == round => Err(over.clone()),
            _ => Ok(()),
        }
    }

    fn bring(&self, values: &[f32]) {
        put(&self.shared.brought[self.rank], values);
    }

    /// The sum of what all brought in a range, in the order of the ranks.
    fn sum(&self, range: Range<usize>) -> Vec<f32> {
        let mut sum = held(&self.shared.brought[0])[range.clone()].to_vec();
        for other in &self.shared.brought[1..] {
            sum.iter_mut().zip(&held(other)[range.clone()]).for_each(|(sum, x)| *sum += x);
        }
        sum
    }
}

impl Shared {
    fn end(&self, meeting: &mut Meeting, why: CommError) {
        // What comes first is why.
        meeting.over.get_or_insert(why);
        self.turn.notify_all();
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn put<T: Clone>(to: &Mutex<Vec<T>>, values: &[T]) {
    let mut to = held(to);
    to.clear();
    to.extend_from_slice(values);
}

impl Collective for Local {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.shared.size
    }

    fn all_reduce(&mut self, values: &mut [f32]) -> Result<(), CommError> {
        let (len, size) = (values.len(), self.shared.size);
        self.bring(values);
        self.meet("all_reduce", len)?;
        // Each adds up a part of it.
        let part = |rank: usize| len * rank / size..len * (rank + 1) / size;
        let own = self.sum(part(self.rank));
        put(&self.shared.results[self.rank], &own);
        self.meet("all_reduce", len)?;
        for (rank, result) in self.shared.results.iter().enumerate() {
            values[part(rank)].copy_from_slice(&held(result));
        }
        // Nobody brings the next tensor while another still copies this one.
        self.meet("all_reduce", len)
    }

    fn reduce_scatter(&mut self, values: &mut [f32], shares: &[Range<usize>]) -> Result<(), CommError> {
        check_shares(shares, self.shared.size, values.len())?;
        self.bring(values);
        self.meet("reduce_scatter", values.len())?;
        let own = shares[self.rank].clone();
        values[own.clone()].copy_from_slice(&self.sum(own));
        self.meet("reduce_scatter", values.len())
    }

    fn all_gather(&mut self, values: &mut [f32], shares: &[Range<usize>]) -> Result<(), CommError> {
        check_shares(shares, self.shared.size, values.len())?;
        self.bring(&values[shares[self.rank].clone()]);
        self.meet("all_gather", values.len())?;
        for (brought, share) in self.shared.brought.iter().zip(shares) {
            let brought = held(brought);
            if brought.len() != share.len() {
                let message =
                    format!("shares of an all_gather differ: {} and {}", brought.len(), share.len());
                return Err(CommError::Usage(message));
            }
            values[share.clone()].copy_from_slice(&brought);
        }
        self.meet("all_gather", values.len())
    }

    fn broadcast(&mut self, values: &mut [f32], root: usize) -> Result<(), CommError> {
        check_root(root, self.shared.size)?;
        if self.rank == root {
            self.bring(values);
        }
        self.meet("broadcast", values.len())?;
        if self.rank != root {
            values.copy_from_slice(&held(&self.shared.brought[root]));
        }
        self.meet("broadcast", values.len())
    }

    fn exchange(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CommError> {
        put(&self.shared.messages[self.rank], bytes);
        self.meet("exchange", 0)?;
        let all = self.shared.messages.iter().map(|message| held(message).clone()).collect();
        self.meet("exchange", 0)?;
        Ok(all)
    }

    fn barrier(&mut self) -> Result<(), CommError> {
        self.meet("barrier", 0)
    }

    fn abort(&self) -> Abort {
        let (rank, shared) = (self.rank, Arc::clone(&self.shared));
        Abort::new(move |code, message| {
            let why = CommError::Aborted { rank, code, message: message.to_owned() };
            shared.end(&mut held(&shared.meeting), why);
        })
    }
}

impl Drop for Local {
    /// A replica that panics ends the job, or the others would wait for it.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.abort().call(101, "it panicked");
        }
    }
}
