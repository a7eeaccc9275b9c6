//! Process group: the connection of one replica to the other replicas of a training run.

use std::ops::Range;
use std::time::{Duration, Instant};

use wgrad_comm::{CommError, Worker};
use wgrad_graph::{GroupId, States, fnv1a};
use wgrad_program::Program;
use wgrad_stdx::never;

use crate::error::TrainError;
use crate::replicas::buckets::GradientTensors;
use crate::replicas::reducer::GradientReducer;

/// Options of a process group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessGroupOptions {
    /// Minimum size of a gradient bucket in bytes.
    pub bucket_bytes: usize,
    /// Number of steps between two comparisons of the parameters of all replicas; 0 disables the comparison.
    pub check_every: u64,
    /// Timeout for rare, slow work of other replicas: loading, the first step, the first evaluation, checkpoints.
    pub setup_timeout: Duration,
}

impl Default for ProcessGroupOptions {
    /// Returns buckets of 25 MB as in PyTorch, a comparison every 10 steps and a setup timeout of five minutes.
    fn default() -> Self {
        Self { bucket_bytes: 25_000_000, check_every: 10, setup_timeout: Duration::from_secs(300) }
    }
}

/// Communication statistics of a process group, summed over its steps.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CommStats {
    /// Number of steps in the statistics.
    pub steps: u64,
    /// Bytes of gradients per step.
    pub bytes: usize,
    /// Number of buckets per step.
    pub buckets: usize,
    /// Seconds spent exchanging buckets and statistics, including the wait for slower replicas.
    pub busy: f64,
    /// Seconds of communication after the backward pass, or while a pass waited for statistics.
    pub exposed: f64,
    /// Seconds spent in forward and backward passes, without the wait for statistics.
    pub compute: f64,
    /// Total seconds of all steps.
    pub total: f64,
}

impl CommStats {
    /// Returns the fraction of the communication time that overlapped with the computation of gradients.
    pub fn hidden(&self) -> f64 {
        if self.busy > 0.0 { 1.0 - (self.exposed / self.busy).min(1.0) } else { 0.0 }
    }
}

/// Connection of a replica to the other replicas of a training run.
pub struct ProcessGroup {
    pub(crate) worker: Worker,
    pub(crate) options: ProcessGroupOptions,
    pub(crate) reducer: GradientReducer,
    pub(crate) stats: CommStats,
    /// Whether this replica requests a stop.
    pub(crate) stop_requested: bool,
    /// Whether a replica has requested a stop and all replicas know of the request.
    pub(crate) stop_agreed: bool,
    /// Whether an evaluation was summed. The first evaluation takes longer because kernels are compiled.
    has_evaluated: bool,
}

impl ProcessGroup {
    /// Creates a process group that communicates through `worker`.
    pub fn new(worker: Worker, options: ProcessGroupOptions) -> Self {
        Self {
            worker,
            options,
            reducer: GradientReducer::default(),
            stats: CommStats::default(),
            stop_requested: false,
            stop_agreed: false,
            has_evaluated: false,
        }
    }

    /// Rank of this replica, from 0.
    pub fn rank(&self) -> usize {
        self.worker.rank()
    }

    /// Number of replicas.
    pub fn size(&self) -> usize {
        self.worker.size()
    }

    /// Cuts the gradients that a program computes into buckets. All replicas use the completion order of the first
    /// replica. Kernels may be fused differently on other replicas and complete gradients in another order.
    pub(crate) fn cut_buckets(
        &mut self,
        program: &Program,
        states: &States,
        gradients: GroupId,
        shards: Option<&[Range<usize>]>,
    ) -> Result<(), TrainError> {
        let tensors = GradientTensors::new(program, states, gradients);
        let bytes: Vec<u8> =
            tensors.ready_after.iter().flat_map(|&after| (after as u64).to_le_bytes()).collect();
        let first = self.with_setup_timeout(|worker| worker.all_gather_bytes(&bytes))?.into_iter().next();
        let first = first.ok_or_else(|| never!("the all-gather returned no message of the first replica"))?;
        let order = first.as_chunks::<8>().0.iter().map(|after| u64::from_le_bytes(*after) as usize);
        let order: Vec<usize> = order.collect();
        if order.len() != tensors.len() {
            return Err(TrainError::Config(format!(
                "this replica trains {} parameter tensors, but the first replica trains {}",
                tensors.len(),
                order.len()
            )));
        }
        let (readbacks, buckets) = tensors.cut(&order, self.options.bucket_bytes / 4, shards);
        (self.stats.bytes, self.stats.buckets) = (states.get(gradients).bytes(), buckets.len());
        (self.reducer.readbacks, self.reducer.buckets) = (readbacks, buckets);
        Ok(())
    }

    /// Calls `communicate` with the setup timeout instead of the timeout of a bucket.
    pub(crate) fn with_setup_timeout<T>(
        &mut self,
        communicate: impl FnOnce(&mut Worker) -> Result<T, CommError>,
    ) -> Result<T, CommError> {
        self.worker.with_timeout(self.options.setup_timeout, communicate)
    }

    /// Sums values over all replicas, in the same order on every replica.
    pub(crate) fn sum<const N: usize>(&mut self, own: [f64; N]) -> Result<[f64; N], CommError> {
        sum_over(&mut self.worker, own)
    }

    /// Sums values over all replicas with the setup timeout.
    pub(crate) fn sum_during_setup<const N: usize>(&mut self, own: [f64; N]) -> Result<[f64; N], CommError> {
        self.with_setup_timeout(|worker| sum_over(worker, own))
    }

    /// Sums the results of an evaluation over all replicas.
    pub(crate) fn sum_evaluation(&mut self, own: [f64; 2]) -> Result<[f64; 2], CommError> {
        match std::mem::replace(&mut self.has_evaluated, true) {
            true => self.sum(own),
            false => self.sum_during_setup(own),
        }
    }

    /// Returns an error if the parameters of the replicas differ after `step` steps.
    pub(crate) fn compare_parameters(&mut self, step: u64, parameters: &[f32]) -> Result<(), TrainError> {
        let hash = fingerprint(parameters);
        let hashes = self.worker.all_gather_bytes(&hash.to_le_bytes())?;
        // The parameters of the majority are assumed to be correct; with two replicas, those of the first replica.
        let votes = |hash: &Vec<u8>| hashes.iter().filter(|other| *other == hash).count();
        let most = hashes.iter().map(votes).max();
        let right = hashes.iter().find(|hash| Some(votes(hash)) == most);
        let ranks: Vec<usize> = (0..hashes.len()).filter(|&rank| Some(&hashes[rank]) != right).collect();
        if ranks.is_empty() {
            return Ok(());
        }
        Err(TrainError::Diverged { step, since: self.options.check_every, ranks, size: hashes.len() })
    }

    /// Adds a step to the statistics. The passes ran from `begun` to `computed`, the last bucket was received at
    /// `ended`, and all buckets took `seconds` in total.
    pub(crate) fn record_step(&mut self, begun: Instant, computed: Instant, ended: Instant, seconds: f64) {
        let (waited, stats) = (std::mem::take(&mut self.reducer.waited), &mut self.stats);
        stats.steps += 1;
        stats.compute += (computed - begun).as_secs_f64() - waited;
        stats.busy += seconds + waited;
        stats.exposed += ended.saturating_duration_since(computed).as_secs_f64() + waited;
        stats.total += begun.elapsed().as_secs_f64();
    }
}

fn sum_over<const N: usize>(worker: &mut Worker, own: [f64; N]) -> Result<[f64; N], CommError> {
    let bytes: Vec<u8> = own.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut sums = [0.0; N];
    for message in worker.all_gather_bytes(&bytes)? {
        for (sum, bytes) in sums.iter_mut().zip(message.as_chunks::<8>().0) {
            *sum += f64::from_le_bytes(*bytes);
        }
    }
    Ok(sums)
}

/// FNV-1a hash over elements instead of bytes, in four independent lanes because it must hash all parameters quickly.
fn fingerprint(values: &[f32]) -> u64 {
    let mut lanes = [0xcbf2_9ce4_8422_2325_u64; 4];
    for chunk in values.chunks(4) {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = (*lane ^ u64::from(value.to_bits())).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    fnv1a(bytemuck::cast_slice(&lanes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_depends_on_every_bit_and_position() {
        let values: Vec<f32> = (0..1001).map(|i| i as f32 * 0.37).collect();
        let whole = fingerprint(&values);
        for at in [0, 1, 499, 1000] {
            let mut other = values.clone();
            other[at] = f32::from_bits(other[at].to_bits() ^ 1);
            assert_ne!(fingerprint(&other), whole, "element {at}");
        }
        let mut swapped = values.clone();
        swapped.swap(3, 7);
        assert_ne!(fingerprint(&swapped), whole);
        assert_ne!(fingerprint(&values[..1000]), whole);
    }
}
