//! Going back: the state to return to when a step goes wrong, and the way from there to any later step.

use wgrad_data::LoaderPosition;
use wgrad_graph::GroupId;
use wgrad_program::{Data, HostData, Program, ProgramId};

use crate::error::TrainError;
use crate::trainer::Trainer;

/// A state to go back to: every group that training changes, and where the batches stood.
pub(crate) struct Anchor {
    step: u64,
    position: LoaderPosition,
    groups: Vec<(GroupId, HostData)>,
}

impl Trainer {
    /// Remembers the state as it is, to go back to it if a later step goes wrong.
    pub(crate) fn set_anchor(&mut self) -> Result<(), TrainError> {
        let (model, others) = self.plan.kept_groups();
        let groups = [model, others].concat().into_iter().map(|id| Ok((id, self.session.read_group(id)?)));
        let groups = groups.collect::<Result<Vec<_>, TrainError>>()?;
        self.anchor = Some(Anchor { step: self.step, position: self.feed.position(), groups });
        Ok(())
    }

    /// Goes back to the state after `step` steps.
    pub(crate) fn rewind(&mut self, step: u64) -> Result<(), TrainError> {
        match self.anchor.take().filter(|anchor| anchor.step <= step) {
            None => self.reset()?,
            Some(anchor) => {
                for (id, values) in &anchor.groups {
                    self.session.write_group(*id, values.as_data())?;
                }
                if let (Some(shard), Some((_, HostData::F32(values)))) =
                    (&self.plan.shard, anchor.groups.iter().find(|(id, _)| *id == self.plan.params.group()))
                {
                    let share = Data::F32(&values[shard.range.clone()]);
                    self.session.write_group(shard.parameters, share)?;
                }
                self.step = anchor.step;
                self.feed.restore(anchor.position)?;
                self.anchor = Some(anchor);
            }
        }
        while self.step < step {
            self.step()?;
        }
        for &(_, id) in &self.passes {
            self.session.records(id, true)?;
        }
        self.pending.clear();
        self.shared.clear();
        Ok(())
    }

    /// Runs the next pass on `program`, whose inputs are those of a pass, without counting it as a step.
    pub(crate) fn rerun(&mut self, program: &Program, pass: u64) -> Result<ProgramId, TrainError> {
        let id = self.session.load(program)?;
        self.run_pass(id, program, pass)?;
        Ok(id)
    }
}
