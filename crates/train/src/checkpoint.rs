//! Checkpoints of a trainer: the named tensors that training changes, and the position of the run in its data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use wgrad_graph::GroupId;
use wgrad_run::checkpoint::LoaderPosition;
use wgrad_run::{Checkpoint, CheckpointState, Tensor};

use crate::early_stopping::EarlyStopping;
use crate::error::TrainError;
use crate::flops::checkpoint_entries;
use crate::plan::Plan;
use crate::snapshot::Snapshot;
use crate::trainer::Trainer;

/// JSON key of the lowest evaluation loss.
const BEST: &str = "best_loss";
/// JSON key of the number of evaluations since the lowest loss.
const SINCE_BEST: &str = "evaluations_since_best";

/// Writes a checkpoint of the state after all queued steps into a run directory, and removes all but the last `keep`
/// checkpoints. `extra` is stored in the checkpoint as additional JSON. Returns the path of the new checkpoint.
///
/// The checkpoint holds the complete state, independent of the number of replicas. Only the first replica calls this;
/// the others send their shards in [`fit()`](crate::fit()).
///
/// # Errors
/// Returns an error if the files cannot be written, if the device fails, or if the other replicas cannot be reached.
pub fn save(
    trainer: &mut Trainer,
    run: &Path,
    keep: usize,
    extra: Map<String, Value>,
) -> Result<PathBuf, TrainError> {
    let tensors = tensors(trainer)?;
    let state = state(trainer, extra)?;
    let path = Checkpoint::save(run, &tensors, &state, keep)?;
    trainer.snapshot = Some(Snapshot::take(&mut trainer.runner)?);
    trainer.replicas.wait_for_writer(tensor_bytes(&trainer.runner.plan))?;
    Ok(path)
}

/// Sends the shards of this replica to the first replica, which writes the checkpoint.
pub(crate) fn save_shards(trainer: &mut Trainer) -> Result<(), TrainError> {
    for (id, _) in groups(&trainer.runner.plan) {
        if trainer.runner.plan.sharding(id).is_some() {
            trainer.read_full_group(id)?;
        }
    }
    trainer.snapshot = Some(Snapshot::take(&mut trainer.runner)?);
    trainer.replicas.wait_for_writer(tensor_bytes(&trainer.runner.plan))
}

/// Restores the state of a trainer from a checkpoint. This includes the parameters and buffers, the state of the
/// optimizer, the position in the data, the state of early stopping, and the counters of steps and FLOPs.
///
/// # Errors
/// Returns an error if a tensor of the model or its optimizer is missing or has another shape, if the checkpoint has
/// additional tensors, if its data position is outside the data, or if the device fails.
pub fn restore(trainer: &mut Trainer, checkpoint: &Checkpoint) -> Result<(), TrainError> {
    for (id, prefix) in groups(&trainer.runner.plan) {
        load_group(trainer, id, &prefix, checkpoint)?;
    }
    let plan = &trainer.runner.plan;
    let expected: usize = groups(plan).iter().map(|(id, _)| plan.full_entries(*id).len()).sum();
    if checkpoint.tensors.len() != expected {
        let found = checkpoint.tensors.len();
        return Err(TrainError::WrongModel(format!(
            "the checkpoint has {found} tensors, but the model and its optimizer have {expected}"
        )));
    }
    let CheckpointState { step, loader, schedule, .. } = &checkpoint.state;
    let narrow = |x: u64| {
        u32::try_from(x)
            .map_err(|_| TrainError::WrongModel(format!("data position {x} exceeds the u32 range")))
    };
    let position = wgrad_data::LoaderPosition { epoch: narrow(loader.epoch)?, batch: narrow(loader.batch)? };
    trainer.runner.source.restore(position)?;
    trainer.runner.step = *step;
    trainer.early_stopping = EarlyStopping {
        best: schedule.get(BEST).and_then(Value::as_f64),
        since_best: schedule.get(SINCE_BEST).and_then(Value::as_u64).unwrap_or(0),
    };
    trainer.flops.restore(schedule, *step);
    trainer.snapshot = Some(Snapshot::take(&mut trainer.runner)?);
    Ok(())
}

/// Loads only the parameters and buffers of a checkpoint and, if the plan keeps one, the moving average of the
/// parameters. The state of the optimizer, the step and the position in the data are not loaded.
///
/// # Errors
/// Returns an error if a tensor of the model is missing or has another shape, or if the device fails.
pub fn load_parameters(trainer: &mut Trainer, checkpoint: &Checkpoint) -> Result<(), TrainError> {
    for (id, prefix) in groups(&trainer.runner.plan) {
        if prefix.is_empty() || Some(id) == trainer.runner.plan.average {
            load_group(trainer, id, &prefix, checkpoint)?;
        }
    }
    Ok(())
}

/// Returns the groups of tensors that a checkpoint holds, each with the prefix of its tensor names. Parameters and
/// buffers have no prefix, so that the file is a plain state dictionary.
fn groups(plan: &Plan) -> Vec<(GroupId, String)> {
    let prefix = |id: GroupId| format!("{}/", plan.states.get(id).name);
    let (model, others) = plan.checkpoint_groups();
    let model = model.into_iter().map(|id| (id, String::new()));
    model.chain(others.into_iter().map(|id| (id, prefix(id)))).collect()
}

/// Returns the total size of a checkpoint's tensors in bytes.
fn tensor_bytes(plan: &Plan) -> usize {
    let group_bytes =
        |id: GroupId| plan.full_entries(id).iter().map(|entry| 4 * entry.shape.numel()).sum::<usize>();
    groups(plan).into_iter().map(|(id, _)| group_bytes(id)).sum()
}

/// Reads all tensors that a checkpoint holds from the device. The keys are the names in the checkpoint.
fn tensors(trainer: &mut Trainer) -> Result<BTreeMap<String, Tensor<'static>>, TrainError> {
    let mut tensors = BTreeMap::new();
    for (id, prefix) in groups(&trainer.runner.plan) {
        for tensor in trainer.tensors(id)? {
            tensors.insert(format!("{prefix}{}", tensor.name), Tensor::f32(&tensor.shape, tensor.values)?);
        }
    }
    Ok(tensors)
}

/// Returns the data of a checkpoint other than its tensors. This includes the step, the position in the data, the
/// seed, the learning rate, the state of early stopping, the FLOP counters, the device and `extra`.
fn state(trainer: &Trainer, extra: Map<String, Value>) -> Result<CheckpointState, TrainError> {
    let position = trainer.runner.source.position();
    let (config, device) = (&trainer.plan().config, trainer.device());
    let (step, early_stopping) = (trainer.steps_done(), trainer.early_stopping);
    let schedule = [
        ("lr".into(), trainer.learning_rate(step).into()),
        (BEST.into(), early_stopping.best.filter(|best| best.is_finite()).into()),
        (SINCE_BEST.into(), early_stopping.since_best.into()),
    ];
    Ok(CheckpointState {
        step,
        loader: LoaderPosition { epoch: u64::from(position.epoch), batch: u64::from(position.batch) },
        generator: Map::from_iter([("philox_seed".into(), config.seed.into())]),
        schedule: schedule.into_iter().chain(checkpoint_entries(trainer.flops()?)).collect(),
        kernels: Map::from_iter([
            ("device".into(), device.name.clone().into()),
            ("backend".into(), device.backend.clone().into()),
            ("driver".into(), device.driver.clone().into()),
            ("replicas".into(), config.replicas().into()),
        ]),
        extra,
    })
}

/// Copies tensors of a checkpoint into a group. The name of each tensor is `prefix` followed by the name of an entry
/// of the group.
fn load_group(
    trainer: &mut Trainer,
    id: GroupId,
    prefix: &str,
    checkpoint: &Checkpoint,
) -> Result<(), TrainError> {
    let plan = &trainer.runner.plan;
    let mut full = vec![0.0; plan.full_len(id)];
    for entry in plan.full_entries(id) {
        let name = format!("{prefix}{}", entry.name);
        let wrong = |what: String| TrainError::WrongModel(format!("{name} {what}"));
        let tensor = checkpoint.tensors.get(&name).ok_or_else(|| wrong("is missing".into()))?;
        if tensor.shape() != &entry.shape[..] {
            return Err(wrong(format!(
                "has shape {:?}, but the model expects {}",
                tensor.shape(),
                entry.shape
            )));
        }
        let values = tensor.as_f32().ok_or_else(|| wrong("does not have type f32".into()))?;
        full[entry.offset..entry.offset + values.len()].copy_from_slice(values);
    }
    trainer.write_full_group(id, &full)
}

#[cfg(test)]
mod tests {
    use wgrad_cpu::CpuDevice;
    use wgrad_nn::{AdamW, Optimizer, Schedule};
    use wgrad_program::Device;

    use super::*;
    use crate::{Config, FitOptions, Stop, fit};

    /// Returns a trainer whose loss never changes, and options with a patience of three evaluations.
    fn trainer_without_learning() -> (Trainer, FitOptions) {
        let recipe = wgrad_recipe::load("digits-mlp").unwrap();
        let setup = crate::setup(&recipe).unwrap();
        let optimizer = Optimizer::AdamW(AdamW { lr: 0.0, ..AdamW::default() });
        let config = Config { optimizer, schedule: Schedule::default(), ..setup.config };
        let device = CpuDevice::new();
        let plan = Plan::new(setup.model, &setup.splits, config, &device.info().limits).unwrap();
        let trainer = Trainer::new(&device, plan, setup.splits, 1000).unwrap();
        let options = FitOptions {
            steps: 1000,
            log_every: 1,
            eval_every_epochs: 1,
            patience: Some(3),
            checkpoint_every_epochs: 0,
            keep_checkpoints: 1,
        };
        (trainer, options)
    }

    #[test]
    fn resume_keeps_the_early_stopping_counter() {
        let folder = tempfile::tempdir().unwrap();
        let (mut trainer, options) = trainer_without_learning();
        let epoch = trainer.steps_per_epoch();
        let short = FitOptions { steps: 3 * epoch, ..options.clone() };
        assert_eq!(fit(&mut trainer, &short, None, &mut ()).unwrap().stop, Stop::Done);
        let stopped = trainer.early_stopping;
        assert_eq!(stopped.since_best, 1, "the evaluation after the first epoch is the best one");
        let path = save(&mut trainer, folder.path(), 1, Map::new()).unwrap();

        let (mut trainer, _) = trainer_without_learning();
        restore(&mut trainer, &Checkpoint::load(&path).unwrap()).unwrap();
        assert_eq!(trainer.early_stopping, stopped);
        let finished = fit(&mut trainer, &options, None, &mut ()).unwrap();
        assert_eq!((finished.stop, finished.steps), (Stop::Patience, 5 * epoch));
        assert_eq!(finished.new_steps, 2 * epoch);
    }
}
