//! Training step of several replicas.

use std::time::Instant;

use wgrad_program::Data;
use wgrad_stdx::never;

use crate::error::TrainError;
use crate::pass::PassRunner;
use crate::plan::Phase;
use crate::profile::Profiler;
use crate::records::{recorded_names, split_loss};
use crate::replicas::group::ProcessGroup;

/// Name and value of each metric.
type Metrics = Vec<(String, f32)>;

/// Gradients and metrics of a step, summed over all replicas.
struct Summed {
    /// Values of the metrics of a pass.
    metrics: Vec<f32>,
    /// Euclidean norm of the gradients over all shards; `None` unless sharded gradients are clipped.
    norm: Option<f64>,
    /// Time at which the last bucket was received.
    ended: Instant,
    /// Total seconds spent exchanging buckets.
    seconds: f64,
}

/// Runs one step together with the other replicas. Returns the loss and the other metrics of the step.
///
/// Every replica computes the gradients of its rows. The gradients are summed over all replicas, and each replica then
/// makes the same update, or updates its shard.
pub(crate) fn run(
    group: &mut ProcessGroup,
    runner: &mut PassRunner,
    profiler: Option<&mut Profiler>,
) -> Result<(f32, Metrics), TrainError> {
    let begun = Instant::now();
    // The first step compiles kernels and takes longer than the timeout of a bucket.
    let bucket_timeout =
        (group.stats.steps == 0).then(|| group.worker.set_timeout(group.options.setup_timeout));
    let loss_weights = run_passes(group, runner, profiler)?;
    let local = local_metrics(runner, &loss_weights)?;
    let computed = Instant::now();
    let summed = sum_gradients(group, runner, local)?;
    let mut metrics = named_metrics(runner, &summed.metrics)?;
    metrics.extend(update(group, runner, summed.norm)?);
    let (step, every) = (runner.step + 1, group.options.check_every);
    if every > 0 && step.is_multiple_of(every) {
        let parameters = runner.session.read_group(runner.plan.params.group())?.to_f32();
        group.compare_parameters(step, &parameters)?;
    }
    if let Some(timeout) = bucket_timeout {
        group.worker.set_timeout(timeout);
    }
    group.record_step(begun, computed, summed.ended, summed.seconds);
    split_loss(metrics)
}

/// Runs all passes of a step. Gradients are sent during the last pass. Returns the loss weight of the local rows in
/// each pass.
fn run_passes(
    group: &mut ProcessGroup,
    runner: &mut PassRunner,
    mut profiler: Option<&mut Profiler>,
) -> Result<Vec<f32>, TrainError> {
    let ProcessGroup { worker, reducer, .. } = group;
    let passes = runner.plan.config.passes();
    let gradients =
        runner.plan.gradients.ok_or_else(|| never!("the plan for replicas has no gradient group"))?;
    let mut loss_weights = Vec::new();
    for pass in 0..passes {
        let (phase, done) = (runner.plan.phase(pass), runner.step);
        let (id, label) = (runner.program(phase)?, runner.source.label());
        let since = profiler.as_deref().map_or(0, Profiler::now);
        let readbacks = reducer.pass_readbacks(phase)?;
        let loss_weight = runner.run_pass(pass, &mut |session, inputs| match &mut profiler {
            // A profiled pass has no readbacks: the gradients are read after the pass.
            Some(profiler) => {
                profiler.run(session, (id, phase), done, (label, since), inputs)?;
                if pass + 1 == passes {
                    reducer.add_all(worker, &session.read_group(gradients)?.to_f32());
                }
                Ok(())
            }
            None if readbacks.readbacks.is_empty() => session.run(id, inputs),
            None => reducer.run(worker, &readbacks, |readbacks, handler| {
                session.run_with_readbacks(id, inputs, readbacks, handler)
            }),
        })?;
        reducer.check()?;
        loss_weights.push(loss_weight);
    }
    Ok(loss_weights)
}

/// Returns this replica's contribution to the loss and the other metrics of the step. The sum of the contributions of
/// all replicas is the mean over the batch.
fn local_metrics(runner: &mut PassRunner, loss_weights: &[f32]) -> Result<Vec<f32>, TrainError> {
    let config = &runner.plan.config;
    let passes = config.passes() as f32;
    let rows = runner.plan.rows().len() as f32 / config.batch as f32;
    let mut records = Vec::new();
    for phase in [Phase::Whole, Phase::First, Phase::Middle, Phase::Last] {
        if let Some(id) = runner.find_program(phase) {
            records.extend(runner.session.records(id, true)?);
        }
    }
    if records.len() != loss_weights.len() {
        let (found, expected) = (records.len(), loss_weights.len());
        return Err(never!("a step of {expected} passes returned {found} records").into());
    }
    let mut metrics: Vec<f32> = Vec::new();
    for (record, loss_weight) in records.into_iter().zip(loss_weights) {
        metrics.resize(record.values.len(), 0.0);
        for (i, (sum, value)) in metrics.iter_mut().zip(record.values).enumerate() {
            *sum += value * if i == 0 { *loss_weight } else { rows } / passes;
        }
    }
    Ok(metrics)
}

/// Sums the gradients over all replicas. Metrics, stop requests and running statistics are summed with the last bucket.
/// Writes the gradients that this replica needs, and the mean statistics, to the device.
fn sum_gradients(
    group: &mut ProcessGroup,
    runner: &mut PassRunner,
    local: Vec<f32>,
) -> Result<Summed, TrainError> {
    let PassRunner { plan, session, .. } = runner;
    let (metrics, size) = (local.len(), group.size());
    let mut tail = local;
    tail.push(if group.stop_requested { 1.0 } else { 0.0 });
    let buffers = plan.params.buffer_group();
    if let Some(buffers) = buffers {
        let fraction = 1.0 / size as f32;
        tail.extend(session.read_group(buffers)?.to_f32().into_iter().map(|x| x * fraction));
    }
    let (to, start) = match (&plan.shard, plan.gradients) {
        (Some(shard), _) => (shard.gradients, shard.range.start),
        (None, Some(gradients)) => (gradients, 0),
        (None, None) => return Err(never!("the plan for replicas has no gradient group").into()),
    };
    let mut squares = 0.0;
    let clips_shards = plan.shard.is_some() && plan.config.optimizer.clip_norm().is_some();
    let reduced = group.reducer.finish(&mut group.worker, tail, &mut |first, values| {
        if clips_shards {
            squares += values.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
        }
        Ok(session.write_group_range(to, first - start, values)?)
    })?;
    let mut tail = reduced.tail;
    let statistics = tail.split_off(metrics + 1);
    group.stop_agreed |= tail[metrics] > 0.0;
    tail.truncate(metrics);
    if let Some(buffers) = buffers {
        session.write_group(buffers, Data::F32(&statistics))?;
    }
    let norm = if clips_shards { Some(group.sum([squares, 0.0])?[0].sqrt()) } else { None };
    Ok(Summed { metrics: tail, norm, ended: reduced.ended, seconds: reduced.seconds })
}

/// Names the metrics of a pass, which are in the order of the recorded outputs of the last pass.
fn named_metrics(runner: &PassRunner, values: &[f32]) -> Result<Metrics, TrainError> {
    let (_, program) = runner.plan.last_pass()?;
    let names = recorded_names(program);
    if names.len() != values.len() {
        return Err(never!(
            "the {} recorded metrics and the {} summed values differ in number",
            names.len(),
            values.len()
        )
        .into());
    }
    Ok(names.into_iter().zip(values.iter().copied()).collect())
}

/// Updates the parameters with the summed gradients. `norm` is the gradient norm over all shards if sharded gradients
/// are clipped. Returns the metrics of the update.
fn update(
    group: &mut ProcessGroup,
    runner: &mut PassRunner,
    norm: Option<f64>,
) -> Result<Metrics, TrainError> {
    let hyper = runner.optimizer_input();
    let (updating, averaging) = (runner.find_program(Phase::Update), runner.find_program(Phase::Average));
    let PassRunner { plan, session, .. } = runner;
    let mut metrics = Vec::new();
    let mut inputs = vec![Data::F32(&hyper)];
    let max = plan.config.optimizer.clip_norm().unwrap_or(f64::INFINITY);
    let scale = [norm.map_or(1.0, |norm| (max / (norm + 1e-6)).min(1.0)) as f32];
    if let Some(norm) = norm {
        inputs.push(Data::F32(&scale));
        metrics.push(("grad_norm".to_owned(), norm as f32));
    }
    // A replica with an empty shard has no update.
    if let Some(id) = updating {
        session.run(id, &inputs)?;
        if norm.is_none() && plan.config.optimizer.clip_norm().is_some() {
            let record = session.records(id, true)?.pop();
            let norm = record.and_then(|record| record.values.first().copied());
            let norm = norm.ok_or_else(|| never!("an update with gradient clipping recorded no norm"))?;
            metrics.push(("grad_norm".to_owned(), norm));
        }
    }
    if let Some(shard) = &plan.shard {
        let params = plan.params.group();
        let own = session.read_group(shard.parameters)?.to_f32();
        let full = shard.padded_to(plan.states.get(params).len(), &own);
        let full = group.worker.all_gather(full, shard.shards.clone())?;
        session.write_group(params, Data::F32(&full))?;
    }
    if let Some(id) = averaging {
        session.run(id, &[])?;
    }
    Ok(metrics)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wgrad_comm::{Collective, Local, Worker};
    use wgrad_cpu::CpuDevice;
    use wgrad_program::Device;
    use wgrad_stdx::ErrorKind;

    use super::*;
    use crate::{Plan, ProcessGroupOptions, RankConfig, Trainer};

    /// Trains the recipe `digits` on three replicas and calls `tamper` before each step. Returns the planned peak
    /// memory in bytes, or the error, of each replica.
    fn train_three(
        shard: bool,
        tamper: impl Fn(&mut Trainer, usize) + Sync,
    ) -> Vec<Result<usize, TrainError>> {
        let run = |local: Local| {
            let rank = local.rank();
            let replica = RankConfig { rank, size: 3, shard };
            let recipe = wgrad_recipe::load("digits").unwrap();
            let setup = crate::setup(&recipe).unwrap();
            // Clipping would need one more copy of the updated parameters.
            let optimizer = wgrad_nn::Optimizer::default();
            let config = crate::Config { replica: Some(replica), optimizer, ..setup.config };
            let device = CpuDevice::new();
            let plan = Plan::new(setup.model, &setup.splits, config, &device.info().limits).unwrap();
            let planned = plan.peak_bytes();
            let mut trainer = Trainer::new(&device, plan, setup.splits, 100).unwrap();
            let worker = Worker::start(move || Ok(Box::new(local)), Duration::from_secs(60)).unwrap();
            let options = ProcessGroupOptions { check_every: 5, ..ProcessGroupOptions::default() };
            trainer.join(ProcessGroup::new(worker, options)).unwrap();
            trainer.broadcast_state()?;
            for _ in 0..12 {
                tamper(&mut trainer, rank);
                trainer.step()?;
            }
            assert_eq!(trainer.records(true)?.len(), 12);
            assert_eq!(trainer.allocated_bytes(), planned, "allocated and planned bytes differ");
            Ok(planned)
        };
        std::thread::scope(|scope| {
            let run = &run;
            let threads: Vec<_> =
                Local::group(3).into_iter().map(|local| scope.spawn(move || run(local))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn a_replica_with_different_parameters_is_reported_at_the_next_check() {
        let tamper = |trainer: &mut Trainer, rank: usize| {
            if (rank, trainer.steps_done()) == (1, 6) {
                let group = trainer.plan().params.group();
                let mut flat = trainer.read_full_group(group).unwrap();
                // Flip the lowest bit of one element.
                flat[100] = f32::from_bits(flat[100].to_bits() ^ 1);
                trainer.write_full_group(group, &flat).unwrap();
            }
        };
        for result in train_three(false, tamper) {
            let error = result.unwrap_err();
            let TrainError::Diverged { step: 10, ref ranks, size: 3, .. } = error else { panic!("{error}") };
            assert_eq!(ranks, &[1]);
            assert!(error.to_string().contains("parameters of replica 1 differ"), "{error}");
            assert_eq!(error.kind(), ErrorKind::Replica);
        }
    }

    #[test]
    fn sharding_the_optimizer_saves_the_planned_memory() {
        let bytes =
            |shard| train_three(shard, |_, _| ()).into_iter().map(|bytes| bytes.unwrap()).max().unwrap();
        let recipe = wgrad_recipe::load("digits").unwrap();
        let setup = crate::setup(&recipe).unwrap();
        let plan = Plan::new(setup.model, &setup.splits, setup.config, &Default::default()).unwrap();
        let parameters = 4 * plan.states.get(plan.params.group()).len();
        // Two moments shrink to one third each; a copy of the shard and the gradients of the shard are added.
        let (whole, sharded) = (bytes(false), bytes(true));
        let expected = 2 * parameters - 4 * parameters / 3;
        let saved = whole - sharded;
        assert!(saved.abs_diff(expected) < parameters / 20, "saved {saved} bytes, expected {expected}");
    }
}
