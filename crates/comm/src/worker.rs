//! Communication thread of a replica: opens a collective, makes all its calls, and enforces timeouts.

use std::ops::Range;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use crate::collective::{AbortHandle, Collective};
use crate::error::CommError;

/// Minimum timeout for opening a collective, which waits until all processes have started. Shorter in tests.
const MIN_SETUP_TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 60 });

/// A call of a [`Collective`] method, with its arguments, for the communication thread to make.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Job {
    AllReduce(Vec<f32>),
    ReduceScatter(Vec<f32>, Vec<Range<usize>>),
    AllGather(Vec<f32>, Vec<Range<usize>>),
    Broadcast(Vec<f32>, usize),
    AllGatherBytes(Vec<u8>),
    Barrier,
}

impl Job {
    fn name(&self) -> String {
        match self {
            Job::AllReduce(values) => format!("all-reduce of {} elements", values.len()),
            Job::ReduceScatter(values, _) => format!("reduce-scatter of {} elements", values.len()),
            Job::AllGather(values, _) => format!("all-gather of {} elements", values.len()),
            Job::Broadcast(values, _) => format!("broadcast of {} elements", values.len()),
            Job::AllGatherBytes(_) => "all-gather of messages".into(),
            Job::Barrier => "barrier".into(),
        }
    }
}

/// Values or messages returned by a completed job, with the times of the call.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// Values of the job after the call; empty for jobs without values.
    pub values: Vec<f32>,
    /// Messages of [`Job::AllGatherBytes`], in order of rank; empty for other jobs.
    pub messages: Vec<Vec<u8>>,
    /// Time at which the call started. The call includes the wait for replicas that arrive later.
    pub started: Instant,
    /// Time at which the call ended.
    pub ended: Instant,
}

/// Handle to a submitted job. Tickets must be passed to [`Worker::wait`] in order of submission.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket {
    index: u64,
    operation: String,
}

/// Communication thread of a replica.
pub struct Worker {
    rank: usize,
    size: usize,
    abort: AbortHandle,
    timeout: Duration,
    jobs: Sender<Message>,
    completions: Receiver<Result<Completion, CommError>>,
    submitted: u64,
    waited: u64,
}

enum Message {
    Job(Job),
    Close,
}

impl Worker {
    /// Starts the thread and opens the collective on that thread. A job that takes longer than `timeout` aborts the
    /// run.
    ///
    /// # Errors
    /// Returns the error of `open`, [`CommError::Timeout`] if `open` takes longer than both one minute and `timeout`,
    /// [`CommError::Closed`] if `open` panics, and [`CommError::Spawn`] if the thread cannot be started.
    pub fn start(
        open: impl FnOnce() -> Result<Box<dyn Collective>, CommError> + Send + 'static,
        timeout: Duration,
    ) -> Result<Self, CommError> {
        let (jobs, inbox) = channel::<Message>();
        let (outbox, completions) = channel();
        let (opened, opening) = channel();
        let run = move || {
            let mut collective = match open() {
                Ok(collective) => collective,
                Err(error) => {
                    let _ = opened.send(Err(error));
                    return;
                }
            };
            let _ = opened.send(Ok((collective.rank(), collective.size(), collective.abort_handle())));
            for message in inbox {
                let Message::Job(job) = message else { return };
                // The send fails once the `Worker` has been dropped.
                if outbox.send(execute(&mut *collective, job)).is_err() {
                    break;
                }
            }
            // The replica failed before it called `close`. Dropping the collective would wait for the other replicas.
            std::mem::forget(collective);
        };
        let thread = std::thread::Builder::new().name("wgrad-comm".into()).spawn(run);
        thread.map_err(|error| CommError::Spawn(error.to_string()))?;
        let limit = timeout.max(MIN_SETUP_TIMEOUT);
        // A thread that hangs in `open` is not joined; the thread ends with the process.
        let (rank, size, abort) = opening.recv_timeout(limit).map_err(|error| match error {
            RecvTimeoutError::Disconnected => CommError::Closed,
            RecvTimeoutError::Timeout => {
                CommError::Timeout { operation: "setup of communication".into(), seconds: limit.as_secs() }
            }
        })??;
        Ok(Self { rank, size, abort, timeout, jobs, completions, submitted: 0, waited: 0 })
    }

    /// Returns the rank of this replica, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Returns the number of replicas.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Sets the timeout of jobs and returns the previous timeout.
    pub fn set_timeout(&mut self, timeout: Duration) -> Duration {
        std::mem::replace(&mut self.timeout, timeout)
    }

    /// Returns the timeout of jobs.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Calls `f` with `timeout` as the timeout of jobs, then restores the previous timeout.
    pub fn with_timeout<T>(&mut self, timeout: Duration, f: impl FnOnce(&mut Self) -> T) -> T {
        let previous = self.set_timeout(timeout);
        let result = f(self);
        self.set_timeout(previous);
        result
    }

    /// Queues a job. Jobs run in the order of submission.
    ///
    /// # Errors
    /// Returns [`CommError::Closed`] if the thread has exited.
    pub fn submit(&mut self, job: Job) -> Result<Ticket, CommError> {
        let ticket = Ticket { index: self.submitted, operation: job.name() };
        self.jobs.send(Message::Job(job)).map_err(|_| CommError::Closed)?;
        self.submitted += 1;
        Ok(ticket)
    }

    /// Waits until a job has completed. A job that exceeds the timeout aborts the run of all replicas.
    ///
    /// # Errors
    /// Returns the error of the collective, [`CommError::Timeout`] if the job takes too long, [`CommError::Usage`] if
    /// an earlier ticket has not been waited for, and [`CommError::Closed`] if the thread has exited.
    pub fn wait(&mut self, ticket: Ticket) -> Result<Completion, CommError> {
        if ticket.index != self.waited {
            let (found, expected) = (ticket.index, self.waited);
            let message = format!(
                "jobs must be awaited in the order of their submission: expected job {expected}, found job {found}"
            );
            return Err(CommError::Usage(message));
        }
        match self.completions.recv_timeout(self.timeout) {
            Ok(result) => {
                self.waited += 1;
                result
            }
            Err(RecvTimeoutError::Disconnected) => Err(CommError::Closed),
            Err(RecvTimeoutError::Timeout) => {
                let seconds = self.timeout.as_secs();
                let error = CommError::Timeout { operation: ticket.operation, seconds };
                self.abort.abort(error.abort_code(), &error.to_string());
                Err(error)
            }
        }
    }

    fn call(&mut self, job: Job) -> Result<Completion, CommError> {
        let ticket = self.submit(job)?;
        self.wait(ticket)
    }

    /// Sums `values` over all replicas.
    ///
    /// # Errors
    /// Returns the errors of [`Worker::submit`] and [`Worker::wait`].
    pub fn all_reduce(&mut self, values: Vec<f32>) -> Result<Vec<f32>, CommError> {
        Ok(self.call(Job::AllReduce(values))?.values)
    }

    /// Gathers the shards of all replicas into `values`. `shards` has the same form as in
    /// [`Collective::reduce_scatter`].
    ///
    /// # Errors
    /// Returns the errors of [`Worker::submit`] and [`Worker::wait`].
    pub fn all_gather(&mut self, values: Vec<f32>, shards: Vec<Range<usize>>) -> Result<Vec<f32>, CommError> {
        Ok(self.call(Job::AllGather(values, shards))?.values)
    }

    /// Returns the values of replica `root`. `values` must have the same length on all replicas.
    ///
    /// # Errors
    /// Returns the errors of [`Worker::submit`] and [`Worker::wait`].
    pub fn broadcast(&mut self, values: Vec<f32>, root: usize) -> Result<Vec<f32>, CommError> {
        Ok(self.call(Job::Broadcast(values, root))?.values)
    }

    /// Gathers a message from each replica. Returns the messages in order of rank.
    ///
    /// # Errors
    /// Returns the errors of [`Worker::submit`] and [`Worker::wait`].
    pub fn all_gather_bytes(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CommError> {
        Ok(self.call(Job::AllGatherBytes(bytes.to_vec()))?.messages)
    }

    /// Waits until all replicas have called `barrier`.
    ///
    /// # Errors
    /// Returns the errors of [`Worker::submit`] and [`Worker::wait`].
    pub fn barrier(&mut self) -> Result<(), CommError> {
        self.call(Job::Barrier).map(drop)
    }

    /// Closes the collective. With MPI, this waits for the other processes, but not longer than the timeout.
    ///
    /// If a worker is dropped without `close`, its collective stays open.
    pub fn close(self) {
        if self.jobs.send(Message::Close).is_ok() {
            let deadline = Instant::now() + self.timeout;
            let remaining = || deadline.saturating_duration_since(Instant::now());
            while self.completions.recv_timeout(remaining()).is_ok() {}
        }
    }

    /// Returns a handle that aborts the run and stays valid after this worker is dropped.
    pub fn abort_handle(&self) -> AbortHandle {
        self.abort.clone()
    }
}

/// Makes the collective call of a job and records when it started and ended.
fn execute(collective: &mut dyn Collective, job: Job) -> Result<Completion, CommError> {
    let started = Instant::now();
    let mut messages = Vec::new();
    let values = match job {
        Job::AllReduce(mut values) => collective.all_reduce(&mut values).map(|()| values),
        Job::ReduceScatter(mut values, shards) => {
            collective.reduce_scatter(&mut values, &shards).map(|()| values)
        }
        Job::AllGather(mut values, shards) => collective.all_gather(&mut values, &shards).map(|()| values),
        Job::Broadcast(mut values, root) => collective.broadcast(&mut values, root).map(|()| values),
        Job::AllGatherBytes(bytes) => collective.all_gather_bytes(&bytes).map(|all| {
            messages = all;
            Vec::new()
        }),
        Job::Barrier => collective.barrier().map(|()| Vec::new()),
    }?;
    Ok(Completion { values, messages, started, ended: Instant::now() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collective::Single;

    #[test]
    fn start_returns_an_error_if_open_hangs_or_panics() {
        let timeout = Duration::from_millis(10);
        let hang = || {
            std::thread::sleep(Duration::from_secs(600));
            Ok(Box::new(Single) as Box<dyn Collective>)
        };
        let operation = "setup of communication".into();
        assert_eq!(Worker::start(hang, timeout).err(), Some(CommError::Timeout { operation, seconds: 1 }));
        assert_eq!(Worker::start(|| panic!("test panic"), timeout).err(), Some(CommError::Closed));
    }
}
