//! Gradient reducer: sums the gradients of all replicas while the backward pass is still running.
//!
//! Gradients are laid out like the parameters, and are cut into buckets in the order in which the backward pass
//! completes the gradients. Each full bucket is sent to the communication thread at once.

use std::sync::Arc;
use std::time::Instant;

use wgrad_comm::{CommError, Completion, Job, Ticket, Worker};
use wgrad_program::{DeviceError, Readback, ReadbackHandler};
use wgrad_stdx::{InternalError, never};

use crate::error::TrainError;
use crate::plan::Phase;
use crate::replicas::buckets::Bucket;
use crate::replicas::readbacks::{Action, Readbacks};

/// Function that writes summed gradients, given the index of the first element and the values.
pub(crate) type WriteGradients<'w> = dyn FnMut(usize, &[f32]) -> Result<(), TrainError> + 'w;

/// Result of the reduction of a step.
pub(crate) struct Reduced {
    /// Sums of the values that were sent with the last bucket.
    pub tail: Vec<f32>,
    /// Time at which the last bucket was received.
    pub ended: Instant,
    /// Total seconds spent exchanging buckets.
    pub seconds: f64,
}

/// Buckets of a replica, and the state of their reduction.
#[derive(Default)]
pub(crate) struct GradientReducer {
    /// Readbacks of the gradients in the last pass of a step.
    pub readbacks: Vec<Readback>,
    pub buckets: Vec<Bucket>,
    /// Readbacks of each pass.
    passes: Vec<(Phase, Arc<Readbacks>)>,
    /// Gradients of the bucket that is being filled.
    filling: Vec<f32>,
    /// Last bucket of the step, held until the metrics of the pass are known.
    held: Option<Vec<f32>>,
    /// Buckets that were submitted and not yet received.
    tickets: Vec<Ticket>,
    /// Whether the current pass still has statistics to sum.
    sums_pending: bool,
    /// Full buckets that are submitted after the last sum of the pass.
    delayed: Vec<Job>,
    /// First error of the communication thread.
    error: Option<CommError>,
    /// Seconds that the passes of the current step waited for sums.
    pub waited: f64,
}

impl GradientReducer {
    /// Sets the readbacks of a pass.
    pub fn set_readbacks(&mut self, phase: Phase, readbacks: Readbacks) {
        self.passes.retain(|(other, _)| *other != phase);
        self.passes.push((phase, Arc::new(readbacks)));
    }

    /// Returns the readbacks of a pass.
    pub fn pass_readbacks(&self, phase: Phase) -> Result<Arc<Readbacks>, InternalError> {
        let found = self.passes.iter().find(|(other, _)| *other == phase);
        found
            .map(|(_, readbacks)| Arc::clone(readbacks))
            .ok_or_else(|| never!("the joined trainer has no readbacks for the phase {phase:?}"))
    }

    /// Runs a program. Adds the gradients that are read back to buckets, and sums the statistics over all replicas.
    pub fn run(
        &mut self,
        worker: &mut Worker,
        readbacks: &Readbacks,
        run: impl FnOnce(&[Readback], &mut ReadbackHandler<'_>) -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        self.sums_pending = readbacks.has_sums();
        run(&readbacks.readbacks, &mut |i, values| match readbacks.actions[i] {
            Action::AddToBucket(number) => {
                self.add(worker, number, values);
                Vec::new()
            }
            Action::Sum { last } => self.sum(worker, values, last),
        })
    }

    /// Adds all gradients of a finished pass, given as one flat slice, to the buckets.
    pub fn add_all(&mut self, worker: &mut Worker, gradients: &[f32]) {
        for (number, readback) in self.readbacks.clone().iter().enumerate() {
            self.add(worker, number, &gradients[readback.range.clone()]);
        }
    }

    /// Returns the error of the communication thread during the last pass, if there was one.
    pub fn check(&mut self) -> Result<(), TrainError> {
        self.error.take().map_or(Ok(()), |error| Err(error.into()))
    }

    /// Sums values over all replicas. After an error, the values are returned unchanged and [`Self::check`] returns the
    /// error.
    fn sum(&mut self, worker: &mut Worker, values: &[f32], last: bool) -> Vec<f32> {
        let begun = Instant::now();
        let sum = match self.error {
            None => worker.all_reduce(values.to_vec()).map_err(|error| self.error = Some(error)).ok(),
            Some(_) => None,
        };
        self.waited += begun.elapsed().as_secs_f64();
        if last {
            self.sums_pending = false;
            std::mem::take(&mut self.delayed).into_iter().for_each(|job| self.submit(worker, job));
        }
        sum.unwrap_or_else(|| values.to_vec())
    }

    /// Adds the values of a readback to its bucket, and sends the bucket if it is full.
    fn add(&mut self, worker: &mut Worker, number: usize, values: &[f32]) {
        self.filling.extend_from_slice(values);
        let Some(at) = self.buckets.iter().position(|bucket| bucket.readbacks.end == number + 1) else {
            return;
        };
        let full = std::mem::take(&mut self.filling);
        match self.buckets[at].shards.clone() {
            Some(shards) => self.submit(worker, Job::ReduceScatter(full, shards)),
            None if at + 1 == self.buckets.len() => self.held = Some(full),
            None => self.submit(worker, Job::AllReduce(full)),
        }
    }

    /// Submits a job. All replicas must submit their jobs in the same order, but gradients may be ready before or after
    /// a sum depending on the replica. Gradients are therefore delayed until the last sum of the pass.
    fn submit(&mut self, worker: &mut Worker, job: Job) {
        if self.sums_pending {
            return self.delayed.push(job);
        }
        match worker.submit(job) {
            Ok(ticket) => self.tickets.push(ticket),
            Err(error) => self.error = self.error.take().or(Some(error)),
        }
    }

    /// Sends the last bucket together with `tail`, and waits for all buckets. Calls `write` with every range of summed
    /// gradients that this replica needs.
    pub fn finish(
        &mut self,
        worker: &mut Worker,
        tail: Vec<f32>,
        write: &mut WriteGradients<'_>,
    ) -> Result<Reduced, TrainError> {
        let mut last = self.held.take().unwrap_or_default();
        let last_len = last.len();
        last.extend(tail);
        self.submit(worker, Job::AllReduce(last));
        let tickets = std::mem::take(&mut self.tickets);
        self.check()?;
        let count = tickets.len();
        let mut reduced = Reduced { tail: Vec::new(), ended: Instant::now(), seconds: 0.0 };
        for (i, ticket) in tickets.into_iter().enumerate() {
            let Completion { mut values, started, ended, .. } = worker.wait(ticket)?;
            reduced.seconds += (ended - started).as_secs_f64();
            reduced.ended = ended;
            if i + 1 == count {
                reduced.tail = values.split_off(last_len);
            }
            // With shards, the tail is a separate message after all buckets.
            if let Some(bucket) = self.buckets.get(i) {
                self.write_bucket(bucket, worker.rank(), &values, write)?;
            }
        }
        Ok(reduced)
    }

    /// Writes the part of a summed bucket that the replica `rank` needs.
    fn write_bucket(
        &self,
        bucket: &Bucket,
        rank: usize,
        values: &[f32],
        write: &mut WriteGradients<'_>,
    ) -> Result<(), TrainError> {
        let wanted = match &bucket.shards {
            Some(shards) => {
                let shard = shards.get(rank).cloned();
                shard.ok_or_else(|| never!("a bucket has no shard for rank {rank}"))?
            }
            None => 0..values.len(),
        };
        let mut offset = 0;
        for readback in &self.readbacks[bucket.readbacks.clone()] {
            let range = offset..offset + readback.range.len();
            let (start, end) = (range.start.max(wanted.start), range.end.min(wanted.end));
            if start < end {
                write(readback.range.start + (start - offset), &values[start..end])?;
            }
            offset = range.end;
        }
        Ok(())
    }
}
