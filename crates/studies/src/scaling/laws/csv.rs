//! Table of the training runs of a sweep as CSV.

use crate::scaling::{Role, Trial};

const COLUMNS: [&str; 25] = [
    "id",
    "role",
    "dataset",
    "family",
    "depth",
    "network",
    "width",
    "parameters",
    "examples",
    "batch",
    "steps",
    "peak_learning_rate",
    "seed",
    "forward_flop",
    "backward_flop",
    "update_flop",
    "evaluation_flop",
    "training_flop",
    "best_step",
    "training_flop_to_best",
    "test_loss_nats",
    "test_accuracy_share",
    "diverged",
    "seconds",
    "device",
];

/// Returns a CSV table with a header and one row per training run. Loss and accuracy are measured at the step with the
/// lowest validation loss. Losses that are not finite are written as `inf` or `NaN`.
pub fn trials_csv(trials: &[Trial]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    // Writing cannot fail: rows have as many fields as the header, and the writer writes to memory.
    let _ = writer.write_record(COLUMNS);
    for trial in trials {
        let _ = writer.write_record(row(trial));
    }
    let bytes = writer.into_inner().unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn row(trial: &Trial) -> [String; COLUMNS.len()] {
    [
        trial.id.clone(),
        role_name(trial.role).into(),
        trial.dataset.clone(),
        trial.family.clone(),
        trial.depth.to_string(),
        trial.network.clone(),
        trial.width.to_string(),
        trial.parameters.to_string(),
        trial.examples.to_string(),
        trial.batch.to_string(),
        trial.steps.to_string(),
        trial.lr.to_string(),
        trial.seed.to_string(),
        trial.flops.forward.to_string(),
        trial.flops.backward.to_string(),
        trial.flops.update.to_string(),
        trial.flops.evaluation.to_string(),
        trial.flops.training().to_string(),
        trial.best_step.to_string(),
        trial.flops_to_best.to_string(),
        trial.test_loss.to_string(),
        trial.test_accuracy.to_string(),
        trial.diverged.to_string(),
        trial.seconds.to_string(),
        trial.device.clone(),
    ]
}

/// Returns the name of a role, as in `scale.json`.
pub(super) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Rate => "rate",
        Role::Fit => "fit",
        Role::HeldOut => "held-out",
        Role::Comparison => "versus",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::laws::testing;

    #[test]
    fn table_round_trips() {
        let mut trials = testing::sweep();
        trials[0].network = "784-\"32\", 10\nlayers".into();
        trials[1] = testing::diverged(trials[1].clone());
        let text = trials_csv(&trials);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        assert_eq!(reader.headers().unwrap(), COLUMNS.as_slice());
        let column = |name: &str| COLUMNS.iter().position(|other| *other == name).unwrap();
        let mut count = 0;
        for (record, trial) in reader.records().zip(&trials) {
            let record = record.unwrap();
            let float = |name: &str| record[column(name)].parse::<f64>().unwrap();
            let whole = |name: &str| record[column(name)].parse::<u64>().unwrap();
            assert_eq!((&record[0], &record[column("network")]), (&*trial.id, &*trial.network));
            let (loss, accuracy) = (float("test_loss_nats"), float("test_accuracy_share"));
            assert_eq!(
                (loss, accuracy),
                (trial.test_loss, trial.test_accuracy),
                "floats are written exactly"
            );
            assert_eq!(float("peak_learning_rate"), trial.lr);
            assert_eq!(
                whole("training_flop"),
                whole("forward_flop") + whole("backward_flop") + whole("update_flop")
            );
            assert_eq!((whole("parameters"), whole("examples")), (trial.parameters, trial.examples));
            assert_eq!((&record[column("family")], whole("depth")), (&*trial.family, trial.depth));
            assert_eq!(record[column("diverged")].parse::<bool>().unwrap(), trial.diverged);
            assert_eq!(&record[column("device")], "cpu");
            count += 1;
        }
        assert_eq!(count, trials.len());
    }

    #[test]
    fn role_names_match_json() {
        for role in [Role::Rate, Role::Fit, Role::HeldOut, Role::Comparison] {
            assert_eq!(serde_json::to_string(&role).unwrap(), format!("\"{}\"", role_name(role)));
        }
    }
}
