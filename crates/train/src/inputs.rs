//! What goes into a pass: a batch by its indices where the data lies on the device, else the examples themselves.

use wgrad_data::{Dataset, Targets};
use wgrad_graph::GroupId;
use wgrad_program::{Data, DeviceError, HostData, Session};

use crate::error::TrainError;
use crate::plan::Plan;

/// Host memory of a batch, kept from step to step.
#[derive(Default)]
pub(crate) struct Upload {
    features: Vec<f32>,
    classes: Vec<u32>,
    values: Vec<f32>,
}

/// Where the batches of a part of the data come from.
pub(crate) struct Inputs<'d> {
    pub data: &'d Dataset,
    pub resident: bool,
}

impl Inputs<'_> {
    /// Calls `run` with the inputs of a pass: the indices of a batch, or the examples themselves, then `rest`.
    pub fn run(
        &self,
        indices: &[u32],
        buffers: &mut Upload,
        rest: &[Data<'_>],
        run: &mut dyn FnMut(&[Data<'_>]) -> Result<(), DeviceError>,
    ) -> Result<(), TrainError> {
        if self.resident {
            let inputs: Vec<Data<'_>> =
                std::iter::once(Data::U32(indices)).chain(rest.iter().copied()).collect();
            return Ok(run(&inputs)?);
        }
        buffers.fill(self.data, indices);
        let targets = match self.data.targets() {
            Targets::Classes { .. } => Data::U32(&buffers.classes),
            Targets::Values { .. } => Data::F32(&buffers.values),
        };
        let inputs: Vec<Data<'_>> =
            [Data::F32(&buffers.features), targets].into_iter().chain(rest.iter().copied()).collect();
        Ok(run(&inputs)?)
    }
}

impl Upload {
    fn fill(&mut self, data: &Dataset, indices: &[u32]) {
        self.features.clear();
        self.classes.clear();
        self.values.clear();
        for &index in indices {
            let i = index as usize;
            let start = self.features.len();
            self.features.resize(start + data.feature_len(), 0.0);
            data.fill(i, &mut self.features[start..]);
            match data.targets() {
                Targets::Classes { labels, .. } => self.classes.push(labels[i]),
                Targets::Values { values, width } => {
                    self.values.extend_from_slice(&values[i * width..(i + 1) * width])
                }
            }
        }
    }
}

/// Writes a group that holds one tensor, with its padding.
pub(crate) fn write_padded(
    session: &mut dyn Session,
    plan: &Plan,
    group: GroupId,
    data: HostData,
) -> Result<(), TrainError> {
    let len = plan.states.get(group).len();
    let data = match data {
        HostData::F32(mut values) => {
            values.resize(len, 0.0);
            HostData::F32(values)
        }
        HostData::U32(mut values) => {
            values.resize(len, 0);
            HostData::U32(values)
        }
    };
    Ok(session.write_group(group, data.as_data())?)
}
