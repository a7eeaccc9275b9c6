//! Data-parallel training of one model on several replicas.
//!
//! Every replica holds the complete model and processes some rows of each batch. The gradients are summed over all
//! replicas while the backward pass is still running. Every replica then makes the same update, or updates its shard of
//! the parameters. After a step, the parameters of all replicas are bit-identical.

mod buckets;
mod group;
mod rank;
mod readbacks;
mod reducer;
mod step;

pub use group::{CommStats, ProcessGroup, ProcessGroupOptions};
pub use rank::RankConfig;
pub(crate) use rank::Shard;

use std::time::Duration;

use serde_json::Value;
use wgrad_comm::Worker;
use wgrad_graph::GroupId;
use wgrad_program::{Data, Program, ProgramId};
use wgrad_stdx::never;

use crate::error::TrainError;
use crate::pass::PassRunner;
use crate::plan::Plan;
use crate::profile::Profiler;
use crate::replicas::readbacks::Readbacks;

/// Lower bound for the write speed of a disk, in bytes per second.
const SLOW_DISK: f64 = 10e6;

/// Communication of a trainer with other replicas. Without a process group, the trainer is the only replica.
#[derive(Default)]
pub(crate) struct Replicas {
    group: Option<ProcessGroup>,
    /// Full contents of sharded groups that were written before a process group was joined.
    full_groups: Vec<(GroupId, Vec<f32>)>,
}

impl Replicas {
    /// Joins a process group, after checking that rank and size match the plan. All replicas agree on the buckets.
    pub fn join(&mut self, plan: &Plan, mut group: ProcessGroup) -> Result<(), TrainError> {
        let (Some(replica), Some(gradients)) = (plan.config.replica, plan.gradients) else {
            return Err(TrainError::Config(
                "the plan was made without `Config::replica`, so its trainer cannot join a process group"
                    .into(),
            ));
        };
        if (replica.rank, replica.size) != (group.rank(), group.size()) {
            return Err(TrainError::Config(format!(
                "the plan is for replica {} of {}, but the process group has replica {} of {}",
                replica.rank,
                replica.size,
                group.rank(),
                group.size()
            )));
        }
        let (last, program) = plan.last_pass()?;
        let shards = plan.shard.as_ref().map(|shard| &shard.shards[..]);
        group.cut_buckets(program, &plan.states, gradients, shards)?;
        for (phase, program) in &plan.passes {
            let gradients = if phase == last { &group.reducer.readbacks[..] } else { &[] };
            let readbacks = Readbacks::merge(plan.statistics_readbacks(program), gradients);
            group.reducer.set_readbacks(*phase, readbacks);
        }
        self.group = Some(group);
        Ok(())
    }

    /// Leaves the process group and returns its communication thread.
    pub fn leave(&mut self) -> Option<Worker> {
        self.group.take().map(|group| group.worker)
    }

    /// Whether the trainer is in a process group.
    pub fn is_joined(&self) -> bool {
        self.group.is_some()
    }

    /// Rank of this replica and number of replicas.
    pub fn rank_and_size(&self) -> (usize, usize) {
        self.group.as_ref().map_or((0, 1), |group| (group.rank(), group.size()))
    }

    /// Communication statistics so far.
    pub fn comm_stats(&self) -> Option<CommStats> {
        self.group.as_ref().map(|group| group.stats)
    }

    /// Whether all replicas stop after the current step. Without other replicas, `requested` is returned. With several
    /// replicas, all of them stop one step after the first request, once every replica knows of it.
    pub fn stop_agreed(&mut self, requested: bool) -> bool {
        match &mut self.group {
            None => requested,
            Some(group) => {
                group.stop_requested = requested;
                group.stop_agreed
            }
        }
    }

    /// Runs one step together with the other replicas. Returns the loss and the other metrics of the step.
    pub fn step(
        &mut self,
        runner: &mut PassRunner,
        profiler: Option<&mut Profiler>,
    ) -> Result<(f32, Vec<(String, f32)>), TrainError> {
        let group = self.group.as_mut().ok_or_else(|| never!("a replicated step has no process group"))?;
        step::run(group, runner, profiler)
    }

    /// Runs a program on the next batch as pass number `pass` of the current step. Statistics are
    /// summed over all replicas; gradients are not.
    pub fn run_pass(
        &mut self,
        runner: &mut PassRunner,
        (id, program): (ProgramId, &Program),
        pass: u64,
    ) -> Result<(), TrainError> {
        let Some(ProcessGroup { worker, reducer, .. }) = &mut self.group else {
            runner.run_pass(pass, &mut |session, inputs| session.run(id, inputs))?;
            return Ok(());
        };
        let readbacks = Readbacks::merge(runner.plan.statistics_readbacks(program), &[]);
        runner.run_pass(pass, &mut |session, inputs| {
            reducer.run(worker, &readbacks, |readbacks, handler| {
                session.run_with_readbacks(id, inputs, readbacks, handler)
            })
        })?;
        reducer.check()
    }

    /// Reads all elements of a group; a sharded group is gathered from all replicas.
    pub fn read_full_group(&mut self, runner: &mut PassRunner, id: GroupId) -> Result<Vec<f32>, TrainError> {
        let own = runner.session.read_group(id)?.to_f32();
        let (Some(shard), Some(group)) = (runner.plan.sharding(id), &mut self.group) else {
            return Ok(own);
        };
        let (full, shards) = (shard.padded_to(runner.plan.full_len(id), &own), shard.shards.clone());
        Ok(group.with_setup_timeout(|worker| worker.all_gather(full, shards))?)
    }

    /// Writes all elements of a group; of a sharded group, the shard of this replica.
    pub fn write_full_group(
        &mut self,
        runner: &mut PassRunner,
        id: GroupId,
        full: &[f32],
    ) -> Result<(), TrainError> {
        let PassRunner { plan, session, .. } = runner;
        match plan.sharding(id) {
            Some(shard) => {
                if self.group.is_none() {
                    self.full_groups.retain(|(other, _)| *other != id);
                    self.full_groups.push((id, full.to_vec()));
                }
                session.write_group(id, Data::F32(&full[shard.range.clone()]))?;
            }
            None => session.write_group(id, Data::F32(full))?,
        }
        if let (true, Some(shard)) = (id == plan.params.group(), &plan.shard) {
            session.write_group(shard.parameters, Data::F32(&full[shard.range.clone()]))?;
        }
        Ok(())
    }

    /// Copies the checkpointed groups of the first replica to all replicas.
    pub fn broadcast_groups(&mut self, runner: &mut PassRunner) -> Result<(), TrainError> {
        let (model, others) = runner.plan.checkpoint_groups();
        for id in [model, others].concat() {
            let written = self.full_groups.iter().position(|(other, _)| *other == id);
            let own = match (runner.plan.sharding(id).is_some(), written) {
                // The device of the first replica holds only its own shard of a moment, so the copy in host memory is
                // used.
                (true, Some(at)) => self.full_groups.swap_remove(at).1,
                (true, None) => vec![0.0; runner.plan.full_len(id)],
                (false, _) => self.read_full_group(runner, id)?,
            };
            if let Some(group) = &mut self.group {
                let full = group.with_setup_timeout(|worker| worker.broadcast(own, 0))?;
                self.write_full_group(runner, id, &full)?;
            }
        }
        Ok(())
    }

    /// Returns the JSON value of the first replica, or [`Value::Null`] if its message is not valid JSON.
    pub fn broadcast_json(&mut self, own: &Value) -> Result<Value, TrainError> {
        let Some(group) = &mut self.group else { return Ok(own.clone()) };
        let messages =
            group.with_setup_timeout(|worker| worker.all_gather_bytes(own.to_string().as_bytes()))?;
        let first =
            messages.first().ok_or_else(|| never!("the all-gather returned no message of replica 0"))?;
        Ok(serde_json::from_slice(first).unwrap_or(Value::Null))
    }

    /// Sums values over all replicas with the setup timeout.
    pub fn sum_during_setup<const N: usize>(&mut self, own: [f64; N]) -> Result<[f64; N], TrainError> {
        match &mut self.group {
            Some(group) => Ok(group.sum_during_setup(own)?),
            None => Ok(own),
        }
    }

    /// Sums the results of an evaluation over all replicas.
    pub fn sum_evaluation(&mut self, own: [f64; 2]) -> Result<[f64; 2], TrainError> {
        match &mut self.group {
            Some(group) => Ok(group.sum_evaluation(own)?),
            None => Ok(own),
        }
    }

    /// Returns the text of the lowest-ranked replica that found one, followed by the rank.
    pub fn first_found(&mut self, own: Option<String>) -> Result<Option<String>, TrainError> {
        let Some(group) = &mut self.group else { return Ok(own) };
        let texts =
            group.with_setup_timeout(|worker| worker.all_gather_bytes(own.unwrap_or_default().as_bytes()))?;
        let first = texts.iter().enumerate().find(|(_, text)| !text.is_empty());
        Ok(first.map(|(rank, text)| format!("{}, on replica {rank}", String::from_utf8_lossy(text))))
    }

    /// Waits until the first replica has written `bytes` bytes. The timeout allows for a slow disk.
    pub fn wait_for_writer(&mut self, bytes: usize) -> Result<(), TrainError> {
        let Some(group) = &mut self.group else { return Ok(()) };
        let limit = group.worker.timeout() + Duration::from_secs_f64(bytes as f64 / SLOW_DISK);
        Ok(group.worker.with_timeout(limit, |worker| worker.barrier())?)
    }
}
