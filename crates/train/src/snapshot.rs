//! Snapshots of the training state in host memory, from which later steps can be repeated.

use wgrad_data::LoaderPosition;
use wgrad_graph::GroupId;
use wgrad_program::{Data, HostData};

use crate::error::TrainError;
use crate::pass::PassRunner;
use crate::trainer::Trainer;

/// State after a step: all groups that training changes, and the position in the data.
pub(crate) struct Snapshot {
    step: u64,
    position: LoaderPosition,
    groups: Vec<(GroupId, HostData)>,
}

impl Snapshot {
    /// Copies the current state from the device.
    pub fn take(runner: &mut PassRunner) -> Result<Self, TrainError> {
        let (model, others) = runner.plan.checkpoint_groups();
        let groups = [model, others].concat().into_iter();
        let groups = groups.map(|id| Ok((id, runner.session.read_group(id)?)));
        let groups = groups.collect::<Result<Vec<_>, TrainError>>()?;
        Ok(Self { step: runner.step, position: runner.source.position(), groups })
    }

    /// Writes the state back to the device.
    fn restore(&self, runner: &mut PassRunner) -> Result<(), TrainError> {
        for (id, values) in &self.groups {
            runner.session.write_group(*id, values.as_data())?;
        }
        let params = runner.plan.params.group();
        if let (Some(shard), Some((_, HostData::F32(values)))) =
            (&runner.plan.shard, self.groups.iter().find(|(id, _)| *id == params))
        {
            let local = Data::F32(&values[shard.range.clone()]);
            runner.session.write_group(shard.parameters, local)?;
        }
        runner.step = self.step;
        Ok(runner.source.restore(self.position)?)
    }
}

/// Restores the state of a trainer after `step` steps by repeating the steps since the last snapshot, or since the
/// start.
pub(crate) fn rewind(trainer: &mut Trainer, step: u64) -> Result<(), TrainError> {
    match trainer.snapshot.take().filter(|snapshot| snapshot.step <= step) {
        None => trainer.reset()?,
        Some(snapshot) => {
            snapshot.restore(&mut trainer.runner)?;
            trainer.snapshot = Some(snapshot);
        }
    }
    while trainer.steps_done() < step {
        trainer.step()?;
    }
    let PassRunner { session, programs, .. } = &mut trainer.runner;
    for &(_, id) in &*programs {
        session.records(id, true)?;
    }
    trainer.records.clear();
    Ok(())
}
