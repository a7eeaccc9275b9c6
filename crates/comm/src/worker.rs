//! The communication thread: opens a collective, makes every call, and is watched while it does.

use std::ops::Range;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use crate::collective::{Abort, Collective};
use crate::error::{CommError, LOST};

/// How long a collective may take to open at least: processes wait in it until all of them have been started. Tests have less
/// patience.
const OPENING: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 60 });

/// A call to make.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Job {
    AllReduce(Vec<f32>),
    ReduceScatter(Vec<f32>, Vec<Range<usize>>),
    AllGather(Vec<f32>, Vec<Range<usize>>),
    Broadcast(Vec<f32>, usize),
    Exchange(Vec<u8>),
    Barrier,
}

impl Job {
    fn name(&self) -> String {
        match self {
            Job::AllReduce(values) => format!("an all-reduce of {} values", values.len()),
            Job::ReduceScatter(values, _) => format!("a reduce-scatter of {} values", values.len()),
            Job::AllGather(values, _) => format!("an all-gather of {} values", values.len()),
            Job::Broadcast(values, _) => format!("a broadcast of {} values", values.len()),
            Job::Exchange(_) => "an exchange of messages".into(),
            Job::Barrier => "a barrier".into(),
        }
    }
}

/// A call that was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// The values of the job, as they are afterwards.
    pub values: Vec<f32>,
    /// What replicas said in an exchange, by rank.
    pub messages: Vec<Vec<u8>>,
    /// When the call began; it waits for replicas that come later.
    pub started: Instant,
    /// When it was over.
    pub ended: Instant,
}

/// A job that was submitted. Tickets are waited for in the order in which they were given.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket {
    number: u64,
    what: String,
}

/// The communication thread of a replica.
pub struct Worker {
    rank: usize,
    size: usize,
    abort: Abort,
    timeout: Duration,
    jobs: Sender<Message>,
    done: Receiver<Result<Done, CommError>>,
    submitted: u64,
    waited: u64,
}

enum Message {
    Job(Job),
    Close,
}

impl Worker {
    /// Starts the thread, which opens the collective. A job that takes longer than `timeout` ends the run.
    ///
    /// # Errors
    /// The collective cannot be opened, or not within a minute (or `timeout`, if that is longer), or there is no thread for
    /// it.
    pub fn start(
        open: impl FnOnce() -> Result<Box<dyn Collective>, CommError> + Send + 'static,
        timeout: Duration,
    ) -> Result<Self, CommError> {
        let (jobs, inbox) = channel::<Message>();
        let (outbox, done) = channel();
        let (opened, opening) = channel();
        let work = move || {
            let mut collective = match open() {
                Ok(collective) => collective,
                Err(error) => {
                    let _ = opened.send(Err(error));
                    return;
                }
            };
            let _ = opened.send(Ok((collective.rank(), collective.size(), collective.abort())));
            for message in inbox {
                let Message::Job(job) = message else { return };
                // Nobody waits any more for what cannot be sent.
                if outbox.send(make(&mut *collective, job)).is_err() {
                    break;
                }
            }
            // A replica that ends without closing has failed: closing would wait for the others.
            std::mem::forget(collective);
        };
        let thread = std::thread::Builder::new().name("wgrad-comm".into()).spawn(work);
        thread.map_err(|error| CommError::Usage(format!("there is no thread for communication: {error}")))?;
        let limit = timeout.max(OPENING);
        // A thread that is stuck in there goes with the process.
        let (rank, size, abort) = opening.recv_timeout(limit).map_err(|error| match error {
            RecvTimeoutError::Disconnected => CommError::Closed,
            RecvTimeoutError::Timeout => {
                CommError::Timeout { what: "the start of communication".into(), seconds: limit.as_secs() }
            }
        })??;
        Ok(Self { rank, size, abort, timeout, jobs, done, submitted: 0, waited: 0 })
    }

    /// Number of this replica.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Number of replicas.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Sets how long a job may take, and gives what it was.
    pub fn set_timeout(&mut self, timeout: Duration) -> Duration {
        std::mem::replace(&mut self.timeout, timeout)
    }

    /// How long a job may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Calls `talk` with another limit of how long a job may take.
    pub fn within<T>(&mut self, limit: Duration, talk: impl FnOnce(&mut Self) -> T) -> T {
        let usual = self.set_timeout(limit);
        let said = talk(self);
        self.set_timeout(usual);
        said
    }

    /// Queues a job; jobs are done in order.
    ///
    /// # Errors
    /// The thread has ended.
    pub fn submit(&mut self, job: Job) -> Result<Ticket, CommError> {
        let ticket = Ticket { number: self.submitted, what: job.name() };
        self.jobs.send(Message::Job(job)).map_err(|_| CommError::Closed)?;
        self.submitted += 1;
        Ok(ticket)
    }

    /// Waits for a job. Where it takes too long, the run is ended for all replicas.
    ///
    /// # Errors
    /// What the collective reports; [`CommError::Timeout`]; a ticket out of order.
    pub fn wait(&mut self, ticket: Ticket) -> Result<Done, CommError> {
        if ticket.number != self.waited {
            return Err(CommError::Usage(
                "jobs are waited for in the order in which they were submitted".into(),
            ));
        }
        match self.done.recv_timeout(self.timeout) {
            Ok(done) => {
                self.waited += 1;
                done
            }
            Err(RecvTimeoutError::Disconnected) => Err(CommError::Closed),
            Err(RecvTimeoutError::Timeout) => {
                let error = CommError::Timeout { what: ticket.what, seconds: self.timeout.as_secs() };
                self.abort.call(LOST, &error.to_string());
                Err(error)
            }
        }
    }

    fn call(&mut self, job: Job) -> Result<Done, CommError> {
        let ticket = self.submit(job)?;
        self.wait(ticket)
    }

    /// Sums over replicas.
    ///
    /// # Errors
    /// Those of [`Worker::wait`], as for the other calls.
    pub fn all_reduce(&mut self, values: Vec<f32>) -> Result<Vec<f32>, CommError> {
        Ok(self.call(Job::AllReduce(values))?.values)
    }

    /// All shares, of which each replica gives its own.
    ///
    /// # Errors
    /// Those of [`Worker::wait`].
    pub fn all_gather(&mut self, values: Vec<f32>, shares: Vec<Range<usize>>) -> Result<Vec<f32>, CommError> {
        Ok(self.call(Job::AllGather(values, shares))?.values)
    }

    /// The values of one replica.
    ///
    /// # Errors
    /// Those of [`Worker::wait`].
    pub fn broadcast(&mut self, values: Vec<f32>, root: usize) -> Result<Vec<f32>, CommError> {
        Ok(self.call(Job::Broadcast(values, root))?.values)
    }

    /// What every replica says, by rank.
    ///
    /// # Errors
    /// Those of [`Worker::wait`].
    pub fn exchange(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CommError> {
        Ok(self.call(Job::Exchange(bytes.to_vec()))?.messages)
    }

    /// Waits until every replica is here.
    ///
    /// # Errors
    /// Those of [`Worker::wait`].
    pub fn barrier(&mut self) -> Result<(), CommError> {
        self.call(Job::Barrier).map(drop)
    }

    /// Closes the collective, for which processes wait for each other, though not for ever. A worker that is dropped in
    /// another way leaves it open.
    pub fn close(self) {
        if self.jobs.send(Message::Close).is_ok() {
            let end = Instant::now() + self.timeout;
            while self.done.recv_timeout(end.saturating_duration_since(Instant::now())).is_ok() {}
        }
    }

    /// What ends the run, for keeping.
    pub fn abort_handle(&self) -> Abort {
        self.abort.clone()
    }
}

fn make(collective: &mut dyn Collective, job: Job) -> Result<Done, CommError> {
    let started = Instant::now();
    let mut messages = Vec::new();
    let values = match job {
        Job::AllReduce(mut values) => collective.all_reduce(&mut values).map(|()| values),
        Job::ReduceScatter(mut values, shares) => {
            collective.reduce_scatter(&mut values, &shares).map(|()| values)
        }
        Job::AllGather(mut values, shares) => collective.all_gather(&mut values, &shares).map(|()| values),
        Job::Broadcast(mut values, root) => collective.broadcast(&mut values, root).map(|()| values),
        Job::Exchange(bytes) => collective.exchange(&bytes).map(|all| {
            messages = all;
            Vec::new()
        }),
        Job::Barrier => collective.barrier().map(|()| Vec::new()),
    }?;
    Ok(Done { values, messages, started, ended: Instant::now() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collective::Single;

    #[test]
    fn a_start_that_hangs_or_panics_is_an_error() {
        let timeout = Duration::from_millis(10);
        let hang = || {
            std::thread::sleep(Duration::from_secs(600));
            Ok(Box::new(Single) as Box<dyn Collective>)
        };
        let what = "the start of communication".into();
        assert_eq!(Worker::start(hang, timeout).err(), Some(CommError::Timeout { what, seconds: 1 }));
        assert_eq!(Worker::start(|| panic!("on purpose"), timeout).err(), Some(CommError::Closed));
    }
}
