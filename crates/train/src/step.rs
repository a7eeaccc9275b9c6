//! A step that several replicas make together, and the state that they share.

use std::time::{Duration, Instant};

use wgrad_graph::{Entry, GroupId};
use wgrad_program::{Data, Program, ProgramId};

use crate::error::TrainError;
use crate::plan::{Phase, Plan};
use crate::profile::Profiler;
use crate::team::{Listening, Team, Traffic};
use crate::trainer::{StepRecord, Trainer, Watch, scalar_names};

/// Bytes a second that every disk can write.
const SLOW_DISK: f64 = 10e6;

impl Trainer {
    /// Makes this trainer, whose plan is for one of several replicas, one of a team. All of them call this at the same time.
    ///
    /// # Errors
    /// The plan is for another replica or another number of them; the other replicas cannot be reached.
    pub fn join(&mut self, mut team: Team) -> Result<(), TrainError> {
        let part = self.plan.config.part;
        let (Some(part), Some(gradients)) = (part, self.plan.gradients) else {
            return Err(TrainError::Config("the plan is for a replica that trains alone".into()));
        };
        if (part.rank, part.ranks) != (team.rank(), team.size()) {
            return Err(TrainError::Config(format!(
                "the plan is for replica {} of {}, the team's is {} of {}",
                part.rank,
                part.ranks,
                team.rank(),
                team.size()
            )));
        }
        let no_passes = || TrainError::Config("the plan has no passes".into());
        let (last, program) = self.plan.last_pass().ok_or_else(no_passes)?;
        let shares = self.plan.shard.as_ref().map(|shard| &shard.shares[..]);
        team.cut(program, &self.plan.states, gradients, shares)?;
        for (phase, program) in &self.plan.passes {
            let gradients = if phase == last { &team.readings[..] } else { &[] };
            let listening = Listening::to(self.plan.exchanges(program), gradients);
            team.listen(*phase, listening);
        }
        self.team = Some(team);
        self.count_together()
    }

    /// Leaves the team, and gives back what the other replicas are reached through.
    pub fn leave(&mut self) -> Option<wgrad_comm::Worker> {
        self.team.take().map(|team| team.worker)
    }

    /// Gives all replicas the state of the first: parameters, moments, place in the data. Every replica calls this once,
    /// when it is ready to train.
    ///
    /// # Errors
    /// The other replicas cannot be reached; what the device reports.
    pub fn share_state(&mut self) -> Result<(), TrainError> {
        if self.team.is_none() {
            return Ok(());
        }
        let (model, others) = self.plan.kept_groups();
        for id in [model, others].concat() {
            let own = match (self.plan.sharded(id), self.unshared.iter().position(|(of, _)| *of == id)) {
                // Of a moment the first replica has but its share; what it was given as a whole is what counts.
                (Some(_), Some(at)) => self.unshared.swap_remove(at).1,
                (Some(_), None) => vec![0.0; self.plan.flat_len(id)],
                (None, _) => self.read_flat(id)?,
            };
            if let Some(team) = &mut self.team {
                let flat = team.patiently(|worker| worker.broadcast(own, 0))?;
                self.write_flat(id, &flat)?;
            }
        }
        let position = self.feed.position();
        let place = serde_json::json!({
            "step": self.step,
            "position": position,
            "best": self.watch.best.map(f64::to_bits),
            "worse": self.watch.worse,
            "spent": self.flops(),
        });
        let Some(team) = &mut self.team else { return Ok(()) };
        let messages = team.patiently(|worker| worker.exchange(place.to_string().as_bytes()))?;
        let damaged = || TrainError::Config("the first replica's place in the data came damaged".into());
        let first: serde_json::Value =
            messages.first().and_then(|bytes| serde_json::from_slice(bytes).ok()).ok_or_else(damaged)?;
        self.step = first["step"].as_u64().ok_or_else(damaged)?;
        let position = serde_json::from_value(first["position"].clone()).map_err(|_| damaged())?;
        self.feed.restore(position)?;
        let (best, worse) =
            (first["best"].as_u64().map(f64::from_bits), first["worse"].as_u64().unwrap_or(0));
        self.watch = Watch { best, worse };
        let spent = serde_json::from_value(first["spent"].clone()).map_err(|_| damaged())?;
        self.ledger.go_on(spent, self.step);
        Ok(())
    }

    /// What travelled between replicas; `None` where there is one.
    pub fn traffic(&self) -> Option<Traffic> {
        self.team.as_ref().map(Team::traffic)
    }

    /// Whether to stop after this step: what this replica wishes, or as soon as all know it, what one of several does.
    pub(crate) fn agree(&mut self, wish: bool) -> bool {
        match &mut self.team {
            None => wish,
            Some(team) => {
                team.wish = wish;
                team.agreed
            }
        }
    }

    /// What the first replica that found something found.
    pub(crate) fn first_culprit(&mut self, own: Option<String>) -> Result<Option<String>, TrainError> {
        let Some(team) = &mut self.team else { return Ok(own) };
        let found = team.patiently(|worker| worker.exchange(own.unwrap_or_default().as_bytes()))?;
        let first = found.iter().enumerate().find(|(_, text)| !text.is_empty());
        Ok(first.map(|(rank, text)| format!("{}, on replica {rank}", String::from_utf8_lossy(text))))
    }

    /// Waits until the first replica has written so many bytes, for as long as a slow disk takes.
    pub(crate) fn meet_after_writing(&mut self, bytes: usize) -> Result<(), TrainError> {
        let Some(team) = &mut self.team else { return Ok(()) };
        let limit = team.worker.timeout() + Duration::from_secs_f64(bytes as f64 / SLOW_DISK);
        Ok(team.worker.within(limit, |worker| worker.barrier())?)
    }

    /// One step, together: every replica computes the gradients of its rows, all add them up, and each makes the same update,
    /// or that of its share.
    pub(crate) fn step_together(&mut self, team: &mut Team) -> Result<(), TrainError> {
        let (begun, first) = (Instant::now(), team.traffic.steps == 0);
        let (lr, epoch) = (self.rate(self.step), self.epoch());
        let usual = first.then(|| team.worker.set_timeout(team.options.patience));
        let mut profiler = self.profiler.take_if(|profiler| profiler.covers(self.step));
        let passes = self.passes_together(team, &mut profiler);
        self.profiler = profiler.take().or(self.profiler.take());
        passes?;
        let own = self.own_metrics()?;
        let (after, metrics) = (Instant::now(), own.len());
        let mut tail = own;
        tail.push(if team.wish { 1.0 } else { 0.0 });
        let buffers = self.plan.params.buffer_group();
        if let Some(buffers) = buffers {
            let share = 1.0 / team.size() as f32;
            tail.extend(self.session.read_group(buffers)?.to_f32().into_iter().map(|x| x * share));
        }
        let (to, start) = match (&self.plan.shard, self.plan.gradients) {
            (Some(shard), _) => (shard.gradients, shard.range.start),
            (None, Some(gradients)) => (gradients, 0),
            (None, None) => return Err(TrainError::Config("the plan has no gradients".into())),
        };
        let session = &mut self.session;
        let mut squares = 0.0;
        let clips = self.plan.shard.is_some() && self.plan.config.clip_norm.is_some();
        let (tail, ended) = team.collect(tail, &mut |at, values| {
            if clips {
                squares += values.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
            }
            Ok(session.write_group_range(to, at - start, values)?)
        })?;
        team.agreed |= tail[metrics] > 0.0;
        if let Some(buffers) = buffers {
            self.session.write_group(buffers, Data::F32(&tail[metrics + 1..]))?;
        }
        let mut summed = self.named(&tail[..metrics]);
        let norm = if clips { Some(team.sum([squares, 0.0])?[0].sqrt()) } else { None };
        summed.extend(self.update_together(team, norm)?);
        self.step += 1;
        self.last_epoch = epoch;
        let loss = if summed.is_empty() { f32::NAN } else { summed.remove(0).1 };
        self.shared.push_back(StepRecord { step: self.step, epoch, lr, loss, metrics: summed });
        let every = team.options.check_every;
        if every > 0 && self.step.is_multiple_of(every) {
            let parameters = self.session.read_group(self.plan.params.group())?.to_f32();
            team.compare(self.step, &parameters)?;
        }
        if let Some(usual) = usual {
            team.worker.set_timeout(usual);
        }
        let (waited, traffic) = (std::mem::take(&mut team.waited), &mut team.traffic);
        traffic.steps += 1;
        traffic.compute += (after - begun).as_secs_f64() - waited;
        traffic.busy += waited;
        traffic.exposed += ended.saturating_duration_since(after).as_secs_f64() + waited;
        traffic.total += begun.elapsed().as_secs_f64();
        Ok(())
    }

    /// All passes of a step; gradients set out on their way in the last one.
    fn passes_together(
        &mut self,
        team: &mut Team,
        profiler: &mut Option<Profiler>,
    ) -> Result<(), TrainError> {
        let passes = self.plan.config.accumulate.max(1);
        self.shares.clear();
        for pass in 0..passes {
            let (phase, done) = (self.plan.phase(pass), self.step);
            let (id, batch) = (self.program(phase)?, self.feed.name());
            let since = profiler.as_ref().map_or(0, Profiler::now);
            let gradients = self.plan.gradients;
            let listening = team.listening(phase);
            self.pass(pass, &mut |session, inputs| match (&mut *profiler, gradients) {
                (Some(profiler), Some(gradients)) => {
                    profiler.run(session, (id, phase), done, (batch, since), inputs)?;
                    if pass + 1 == passes {
                        let flat = session.read_group(gradients)?.to_f32();
                        let all = listening.readings.iter().enumerate();
                        all.for_each(|(i, reading)| team.arrived(i, &flat[reading.range.clone()]));
                    }
                    Ok(())
                }
                _ if listening.readings.is_empty() => session.run(id, inputs),
                _ => team.run(&listening, |readings, each| session.run_with_readbacks(id, inputs, readings, each)),
            })?;
            team.check()?;
        }
        Ok(())
    }

    /// Runs a program on the next batch as pass number `pass` of the step under way, but for its gradients.
    pub(crate) fn run_pass(&mut self, id: ProgramId, program: &Program, pass: u64) -> Result<(), TrainError> {
        let listening = Listening::to(self.plan.exchanges(program), &[]);
        let mut team = self.team.take();
        let run = self.pass(pass, &mut |session, inputs| match &mut team {
            Some(team) => {
                team.run(&listening, |readings, each| session.run_with_readbacks(id, inputs, readings, each))
            }
            None => session.run(id, inputs),
        });
        self.team = team;
        run?;
        self.team.as_mut().map_or(Ok(()), Team::check)
    }

    /// This replica's part of the loss and the other metrics of the step's passes: they add up to those of the batch.
    fn own_metrics(&mut self) -> Result<Vec<f32>, TrainError> {
        let passes = self.plan.config.accumulate.max(1);
        let rows = self.plan.rows().len() as f32 / self.plan.config.batch as f32;
        let mut records = Vec::new();
        for phase in [Phase::Whole, Phase::First, Phase::Middle, Phase::Last] {
            if let Ok(id) = self.program(phase) {
                records.extend(self.session.records(id, true)?);
            }
        }
        let mut own: Vec<f32> = Vec::new();
        for (record, loss) in records.into_iter().zip(&self.shares) {
            own.resize(record.values.len(), 0.0);
            for (i, (sum, value)) in own.iter_mut().zip(record.values).enumerate() {
                *sum += value * if i == 0 { *loss } else { rows } / passes as f32;
            }
        }
        Ok(own)
    }

    fn named(&self, values: &[f32]) -> Vec<(String, f32)> {
        let names = self.plan.last_pass().map(|(_, program)| scalar_names(program)).unwrap_or_default();
        names.into_iter().zip(values.iter().copied()).collect()
    }

    /// The update by the summed gradients, whose norm is known where it has to be. Gives what it reports.
    fn update_together(
        &mut self,
        team: &mut Team,
        norm: Option<f64>,
    ) -> Result<Vec<(String, f32)>, TrainError> {
        let hyper = self.plan.config.optimizer.hyper(self.rate(self.step), self.step + 1);
        let mut metrics = Vec::new();
        let mut inputs = vec![Data::F32(&hyper)];
        let max = self.plan.config.clip_norm.unwrap_or(f64::INFINITY);
        let scale = [norm.map_or(1.0, |norm| (max / (norm + 1e-6)).min(1.0)) as f32];
        if let Some(norm) = norm {
            inputs.push(Data::F32(&scale));
            metrics.push(("grad_norm".to_owned(), norm as f32));
        }
        if let Ok(id) = self.program(Phase::Update) {
            self.session.run(id, &inputs)?;
            if norm.is_none() && self.plan.config.clip_norm.is_some() {
                let record = self.session.records(id, true)?.pop();
                metrics.extend(record.and_then(|r| Some(("grad_norm".to_owned(), *r.values.first()?))));
            }
        }
        if let Some(shard) = self.plan.shard.clone() {
            let group = self.plan.params.group();
            let own = self.session.read_group(shard.parameters)?.to_f32();
            let flat = shard.in_place(&own, self.plan.states.get(group).len());
            let flat = team.worker.all_gather(flat, shard.shares)?;
            self.session.write_group(group, Data::F32(&flat))?;
        }
        if let Ok(id) = self.program(Phase::Average) {
            self.session.run(id, &[])?;
        }
        Ok(metrics)
    }

    /// All of a group, flat; where each replica keeps a share of it, put together.
    pub(crate) fn read_flat(&mut self, id: GroupId) -> Result<Vec<f32>, TrainError> {
        let own = self.session.read_group(id)?.to_f32();
        let (Some(shard), Some(team)) = (self.plan.sharded(id).cloned(), &mut self.team) else {
            return Ok(own);
        };
        let flat = shard.in_place(&own, self.plan.flat_len(id));
        Ok(team.patiently(|worker| worker.all_gather(flat, shard.shares))?)
    }

    /// Writes all of a group, given flat; of one of which each replica keeps a share, this one's.
    pub(crate) fn write_flat(&mut self, id: GroupId, flat: &[f32]) -> Result<(), TrainError> {
        if self.plan.sharded(id).is_some() && self.team.is_none() {
            self.unshared.retain(|(of, _)| *of != id);
            self.unshared.push((id, flat.to_vec()));
        }
        match self.plan.sharded(id) {
            Some(shard) => self.session.write_group(id, Data::F32(&flat[shard.range.clone()]))?,
            None => self.session.write_group(id, Data::F32(flat))?,
        }
        if let (true, Some(shard)) = (id == self.plan.params.group(), &self.plan.shard) {
            self.session.write_group(shard.parameters, Data::F32(&flat[shard.range.clone()]))?;
        }
        Ok(())
    }
}

impl Plan {
    /// The pass of a step that ends with its gradients.
    fn last_pass(&self) -> Option<&(Phase, Program)> {
        let last = self.phase(self.config.accumulate.max(1) - 1);
        self.passes.iter().find(|(phase, _)| *phase == last)
    }

    /// The shares of a group of which each replica keeps one.
    pub(crate) fn sharded(&self, id: GroupId) -> Option<&crate::part::Shard> {
        self.shard.as_ref().filter(|_| self.optim.moments.contains(&id))
    }

    /// The tensors of a group: a moment has those of the parameters, though a share of it is in one piece.
    pub(crate) fn entries(&self, id: GroupId) -> &[Entry] {
        let group = if self.sharded(id).is_some() { self.params.group() } else { id };
        &self.states.get(group).entries
    }

    /// Elements of a group, of a moment those of all shares.
    pub(crate) fn flat_len(&self, id: GroupId) -> usize {
        let group = if self.sharded(id).is_some() { self.params.group() } else { id };
        self.states.get(group).len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wgrad_comm::{Collective, Local, Worker};
    use wgrad_cpu::CpuDevice;
    use wgrad_program::Device;

    use super::*;
    use crate::part::Part;
    use crate::team::TeamOptions;

    /// Trains digits on three replicas; `meddle` is called before each step. Gives what ended each, or its peak memory.
    fn three(shard: bool, meddle: impl Fn(&mut Trainer, usize) + Sync) -> Vec<Result<usize, TrainError>> {
        let run = |local: Local| {
            let rank = local.rank();
            let part = Part { rank, ranks: 3, shard };
            let recipe = wgrad_recipe::load("digits").unwrap();
            let parts = crate::setup(&recipe).unwrap();
            // Clipping takes a copy more, of what is updated.
            let config = crate::Config { part: Some(part), clip_norm: None, ..parts.config };
            let device = CpuDevice::new();
            let plan = Plan::new(parts.model, &parts.splits, config, &device.info().limits).unwrap();
            let planned = plan.peak_bytes();
            let mut trainer = Trainer::new(&device, plan, parts.splits, 100).unwrap();
            let worker = Worker::start(move || Ok(Box::new(local)), Duration::from_secs(60)).unwrap();
            trainer
                .join(Team::new(worker, TeamOptions { check_every: 5, ..TeamOptions::default() }))
                .unwrap();
            trainer.share_state()?;
            for _ in 0..12 {
                meddle(&mut trainer, rank);
                trainer.step()?;
            }
            assert_eq!(trainer.records(true)?.len(), 12);
            assert_eq!(trainer.allocated_bytes(), planned, "what was planned");
            Ok(planned)
        };
        std::thread::scope(|scope| {
            let run = &run;
            let threads: Vec<_> =
                Local::team(3).into_iter().map(|local| scope.spawn(move || run(local))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn a_replica_with_other_parameters_is_named_within_one_interval() {
        let meddle = |trainer: &mut Trainer, rank: usize| {
            if (rank, trainer.steps_done()) == (1, 6) {
                let group = trainer.plan.params.group();
                let mut flat = trainer.read_flat(group).unwrap();
                // The lowest bit of one number.
                flat[100] = f32::from_bits(flat[100].to_bits() ^ 1);
                trainer.write_flat(group, &flat).unwrap();
            }
        };
        for result in three(false, meddle) {
            let error = result.unwrap_err();
            let TrainError::Diverged { step: 10, ref ranks, of: 3, .. } = error else { panic!("{error}") };
            assert_eq!(ranks, &[1]);
            assert!(error.to_string().contains("replica 1 has other parameters"), "{error}");
            assert_eq!(error.exit_code(), 7);
        }
    }

    #[test]
    fn shares_of_the_optimizer_take_less_memory_and_as_much_as_planned() {
        let bytes = |shard| three(shard, |_, _| ()).into_iter().map(|bytes| bytes.unwrap()).max().unwrap();
        let recipe = wgrad_recipe::load("digits").unwrap();
        let parts = crate::setup(&recipe).unwrap();
        let plan = Plan::new(parts.model, &parts.splits, parts.config, &Default::default()).unwrap();
        let parameters = 4 * plan.states.get(plan.params.group()).len();
        // Two moments become a third of two; a share and its gradient come in addition.
        let (whole, share) = (bytes(false), bytes(true));
        let expected = 2 * parameters - 4 * parameters / 3;
        let saved = whole - share;
        assert!(saved.abs_diff(expected) < parameters / 20, "{saved} of {parameters} a copy, not {expected}");
    }
}
