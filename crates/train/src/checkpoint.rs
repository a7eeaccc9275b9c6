//! From a trainer to a checkpoint and back: every group of the state that training changes, by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use wgrad_graph::GroupId;
use wgrad_run::checkpoint::LoaderPosition;
use wgrad_run::{Checkpoint, CheckpointState, Tensor};

use crate::error::TrainError;
use crate::plan::Plan;
use crate::trainer::{Trainer, Watch};

/// Best loss that early stopping has seen.
const BEST: &str = "best_loss";
/// Evaluations since.
const WORSE: &str = "evaluations_since_best";

/// The groups that a checkpoint holds, with the prefix of their tensors' names; parameters and buffers have none, so that
/// the file is a plain state dictionary.
fn groups(plan: &Plan) -> Vec<(GroupId, String)> {
    let prefix = |id: GroupId| format!("{}/", plan.states.get(id).name);
    let (model, others) = plan.kept_groups();
    model
        .into_iter()
        .map(|id| (id, String::new()))
        .chain(others.into_iter().map(|id| (id, prefix(id))))
        .collect()
}

/// Writes a checkpoint of the state after all queued steps into a run directory. It holds all of the state, whatever the
/// number of replicas: each of them calls this, and the first one writes.
///
/// # Errors
/// The disk, and what the device reports.
pub fn save(
    trainer: &mut Trainer,
    run: &Path,
    keep: usize,
    extra: Map<String, Value>,
) -> Result<PathBuf, TrainError> {
    let (tensors, state) = gathered(trainer, extra)?;
    let path = Checkpoint::save(run, &tensors, &state, keep)?;
    trainer.set_anchor()?;
    trainer.meet_after_writing(bytes(&trainer.plan))?;
    Ok(path)
}

/// A replica's part in a checkpoint that the first one writes.
///
/// # Errors
/// The other replicas cannot be reached; what the device reports.
pub(crate) fn assist(trainer: &mut Trainer) -> Result<(), TrainError> {
    // What it has whole the first one has as well; of the rest it gives its share.
    for (id, _) in groups(&trainer.plan) {
        if trainer.plan.sharded(id).is_some() {
            trainer.read_flat(id)?;
        }
    }
    trainer.set_anchor()?;
    trainer.meet_after_writing(bytes(&trainer.plan))
}

/// Bytes of the tensors of a checkpoint.
fn bytes(plan: &Plan) -> usize {
    let of_group = |id: GroupId| plan.entries(id).iter().map(|entry| 4 * entry.shape.numel()).sum::<usize>();
    groups(plan).into_iter().map(|(id, _)| of_group(id)).sum()
}

/// The tensors and the state of a checkpoint.
fn gathered(
    trainer: &mut Trainer,
    extra: Map<String, Value>,
) -> Result<(BTreeMap<String, Tensor<'static>>, CheckpointState), TrainError> {
    let mut tensors = BTreeMap::new();
    for (id, prefix) in groups(&trainer.plan) {
        for tensor in trainer.tensors(id)? {
            tensors.insert(format!("{prefix}{}", tensor.name), Tensor::f32(&tensor.shape, tensor.values)?);
        }
    }
    let position = trainer.feed.position();
    let config = &trainer.plan.config;
    let device = trainer.device();
    let replicas = config.part.map_or(1, |part| part.ranks);
    let state = CheckpointState {
        step: trainer.step,
        loader: LoaderPosition { epoch: u64::from(position.epoch), batch: u64::from(position.batch) },
        generator: Map::from_iter([("philox_seed".into(), config.seed.into())]),
        schedule: Map::from_iter([
            ("lr".into(), trainer.rate(trainer.step).into()),
            (BEST.into(), trainer.watch.best.filter(|best| best.is_finite()).into()),
            (WORSE.into(), trainer.watch.worse.into()),
        ])
        .into_iter()
        .chain(trainer.spent_json())
        .collect(),
        kernels: Map::from_iter([
            ("device".into(), device.name.clone().into()),
            ("backend".into(), device.backend.clone().into()),
            ("driver".into(), device.driver.clone().into()),
            ("replicas".into(), replicas.into()),
        ]),
        extra,
    };
    Ok((tensors, state))
}

/// Puts a trainer where a checkpoint was written.
///
/// # Errors
/// The checkpoint is of another model.
pub fn restore(trainer: &mut Trainer, checkpoint: &Checkpoint) -> Result<(), TrainError> {
    for (id, prefix) in groups(&trainer.plan) {
        write(trainer, id, &prefix, checkpoint)?;
    }
    let expected: usize = groups(&trainer.plan).iter().map(|(id, _)| trainer.plan.entries(*id).len()).sum();
    if checkpoint.tensors.len() != expected {
        let found = checkpoint.tensors.len();
        return Err(TrainError::WrongModel(format!(
            "it has {found} tensors, the model and its optimizer {expected}"
        )));
    }
    let loader = checkpoint.state.loader;
    let narrow =
        |x: u64| u32::try_from(x).map_err(|_| TrainError::WrongModel(format!("position {x} in the data")));
    let position = wgrad_data::LoaderPosition { epoch: narrow(loader.epoch)?, batch: narrow(loader.batch)? };
    trainer.feed.restore(position)?;
    trainer.step = checkpoint.state.step;
    let schedule = &checkpoint.state.schedule;
    trainer.watch = Watch {
        best: schedule.get(BEST).and_then(Value::as_f64),
        worse: schedule.get(WORSE).and_then(Value::as_u64).unwrap_or(0),
    };
    trainer.restore_spent(schedule);
    trainer.set_anchor()
}

/// Loads the parameters of a checkpoint, as they were trained or averaged, and nothing else.
///
/// # Errors
/// The checkpoint is of another model.
pub fn load_parameters(trainer: &mut Trainer, checkpoint: &Checkpoint) -> Result<(), TrainError> {
    for (id, prefix) in groups(&trainer.plan) {
        if prefix.is_empty() || Some(id) == trainer.plan.average {
            write(trainer, id, &prefix, checkpoint)?;
        }
    }
    Ok(())
}

fn write(
    trainer: &mut Trainer,
    id: GroupId,
    prefix: &str,
    checkpoint: &Checkpoint,
) -> Result<(), TrainError> {
    let entries = trainer.plan.entries(id).to_vec();
    let mut flat = vec![0.0; trainer.plan.flat_len(id)];
    for entry in &entries {
        let name = format!("{prefix}{}", entry.name);
        let wrong = |what: String| TrainError::WrongModel(format!("{name} {what}"));
        let tensor = checkpoint.tensors.get(&name).ok_or_else(|| wrong("is missing".into()))?;
        if tensor.shape() != &entry.shape[..] {
            return Err(wrong(format!("has shape {:?}, the model's has {}", tensor.shape(), entry.shape)));
        }
        let values = tensor.as_f32().ok_or_else(|| wrong("is not f32".into()))?;
        flat[entry.offset..entry.offset + values.len()].copy_from_slice(values);
    }
    trainer.write_flat(id, &flat)
}
