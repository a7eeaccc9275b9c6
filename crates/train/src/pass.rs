//! Passes of a training step: drawing a batch, assembling the program inputs and running the program.

use wgrad_data::Splits;
use wgrad_program::{Data, Device, DeviceError, ProgramId, Session};
use wgrad_stdx::{InternalError, never};

use crate::error::TrainError;
use crate::plan::{Phase, Plan};
use crate::profile::Profiler;
use crate::source::BatchSource;

/// Function that runs a program of the session on the inputs of a pass.
pub(crate) type RunProgram<'r> = dyn FnMut(&mut dyn Session, &[Data<'_>]) -> Result<(), DeviceError> + 'r;

/// Plan loaded on a device, with the source of batches and the number of steps done.
pub(crate) struct PassRunner {
    pub plan: Plan,
    pub session: Box<dyn Session>,
    /// Loaded programs of [`Plan::passes`], in the same order.
    pub programs: Vec<(Phase, ProgramId)>,
    pub splits: Splits,
    pub source: BatchSource,
    /// Number of steps done.
    pub step: u64,
    /// Number of steps that the learning-rate schedule spans.
    pub total_steps: u64,
}

impl PassRunner {
    /// Allocates the state of a plan on a device and loads the programs of a step.
    pub fn new(
        device: &dyn Device,
        plan: Plan,
        splits: Splits,
        total_steps: u64,
    ) -> Result<Self, TrainError> {
        let source = BatchSource::new(&plan, &splits)?;
        let load = || {
            let mut session = device.session(&plan.states)?;
            let mut programs = Vec::new();
            for (phase, program) in &plan.passes {
                programs.push((*phase, session.load(program)?));
            }
            Ok((session, programs))
        };
        let (session, programs) = load().map_err(|error| with_tensor_table(error, &plan))?;
        Ok(Self { plan, session, programs, splits, source, step: 0, total_steps })
    }

    /// Returns the learning rate of the next step after `step` steps.
    pub fn learning_rate(&self, step: u64) -> f64 {
        let config = &self.plan.config;
        config.schedule.rate(config.optimizer.lr(), step, self.total_steps)
    }

    /// Returns the hyperparameter input of the optimizer for the current step.
    pub fn optimizer_input(&self) -> [f32; wgrad_nn::Optimizer::HYPER] {
        self.plan.config.optimizer.hyper(self.learning_rate(self.step), self.step + 1)
    }

    /// Returns the key of a pass's random number generator: the seed, and a counter that is unique within the run.
    fn rng_key(&self, pass: u64) -> [u32; 3] {
        let seed = self.plan.config.seed;
        let count = self.step * self.plan.config.passes() + pass;
        [seed as u32, (seed >> 32) as u32, count as u32]
    }

    /// Returns the program of a phase, or `None` if a step has no such phase.
    pub fn find_program(&self, phase: Phase) -> Option<ProgramId> {
        self.programs.iter().find(|(other, _)| *other == phase).map(|(_, id)| *id)
    }

    /// Returns the program of a phase, or an internal error if a step has no such phase.
    pub fn program(&self, phase: Phase) -> Result<ProgramId, InternalError> {
        self.find_program(phase).ok_or_else(|| never!("the plan has no program for the phase {phase:?}"))
    }

    /// Calls `run` with the inputs of pass number `pass` of the current step, on the next batch. Returns the fraction
    /// of the loss of the global batch that the local rows account for.
    pub fn run_pass(&mut self, pass: u64, run: &mut RunProgram<'_>) -> Result<f32, TrainError> {
        let (hyper, rng) = (self.optimizer_input(), self.rng_key(pass));
        let config = &self.plan.config;
        let batch = self.source.next_batch(config, &self.splits.train)?;
        let loss_weight = [batch.loss_weight];
        let mut inputs = batch.inputs;
        inputs.extend([Data::U32(&rng), Data::F32(&hyper)]);
        if config.has_loss_weight_input() {
            inputs.push(Data::F32(&loss_weight));
        }
        run(&mut *self.session, &inputs)?;
        Ok(batch.loss_weight)
    }

    /// Queues all passes of a step without other replicas.
    pub fn run_step(&mut self, mut profiler: Option<&mut Profiler>) -> Result<(), TrainError> {
        for pass in 0..self.plan.config.passes() {
            let (phase, done) = (self.plan.phase(pass), self.step);
            let (id, label) = (self.program(phase)?, self.source.label());
            let since = profiler.as_deref().map_or(0, Profiler::now);
            self.run_pass(pass, &mut |session, inputs| match &mut profiler {
                Some(profiler) => profiler.run(session, (id, phase), done, (label, since), inputs),
                None => session.run(id, inputs),
            })?;
        }
        Ok(())
    }
}

/// Adds a table of the plan's largest tensors to an out-of-memory error. The device itself knows only buffer sizes.
pub(crate) fn with_tensor_table(error: DeviceError, plan: &Plan) -> DeviceError {
    match error {
        DeviceError::DoesNotFit { name, reason, .. } => {
            DeviceError::DoesNotFit { name, reason, table: plan.largest_tensors() }
        }
        DeviceError::OutOfMemory { name, what, needed } => {
            let reason = format!("{what} needs {needed} bytes, but the device is out of memory");
            DeviceError::DoesNotFit { name, reason, table: plan.largest_tensors() }
        }
        other => other,
    }
}
