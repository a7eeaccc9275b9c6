//! `wgrad predict`: outputs of a run's last checkpoint for files of examples.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Value, json};
use wgrad_data::{Targets, read_features};
use wgrad_recipe::Recipe;
use wgrad_train::{Trainer, run_recipe};

use crate::cli::Predict;
use crate::commands::common::load_run;
use crate::terminal;

/// Applies a run's last checkpoint to the examples of files.
pub fn run(args: &Predict) -> Result<ExitCode> {
    let (run, mut trainer) = load_run(&args.run, args.device)?;
    let (delimiter, label) = table_form(&run_recipe(&run)?);
    let mut list = Vec::new();
    for path in &args.files {
        let raw = read_features(path, trainer.features(), delimiter, label.as_deref())?;
        let outputs = trainer.predict(&raw)?;
        for (row, values) in outputs.chunks_exact(trainer.plan().task.outputs()).enumerate() {
            let name = path.display().to_string();
            let prediction = describe(&trainer, values);
            if !args.json {
                terminal::result(&format!("{name}\t{}\t{}", row + 1, line(&prediction)))?;
            }
            list.push(json!({ "file": name, "row": row + 1, "prediction": prediction }));
        }
    }
    if args.json {
        terminal::result(&Value::from(list).to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the delimiter and the label column of the CSV files that the run was trained on. For other data, returns a
/// comma and `None`.
fn table_form(recipe: &Recipe) -> (u8, Option<String>) {
    match &recipe.data {
        wgrad_recipe::Data::Csv(csv) => (u8::try_from(csv.delimiter).unwrap_or(b','), csv.label.clone()),
        _ => (b',', None),
    }
}

/// Returns the prediction for one example as JSON: for a classifier, the most probable class and all probabilities;
/// otherwise, the predicted values. `values` are the outputs of the model.
fn describe(trainer: &Trainer, values: &[f32]) -> Value {
    match trainer.targets() {
        Targets::Classes { names, .. } => {
            let best = (0..values.len()).max_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap_or(0);
            json!({ "class": names.get(best), "index": best, "probability": values[best], "probabilities": values })
        }
        Targets::Values { .. } => json!({ "values": values }),
    }
}

fn line(prediction: &Value) -> String {
    match prediction["class"].as_str() {
        Some(class) => format!("{class}\t{:.4}", prediction["probability"].as_f64().unwrap_or(f64::NAN)),
        None => prediction["values"].to_string(),
    }
}
