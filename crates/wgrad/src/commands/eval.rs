//! `wgrad eval`.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Map, json};
use wgrad_train::{SplitName, score};

use crate::cli::Eval;
use crate::commands::{device_json, trained};
use crate::terminal;

/// Evaluates a run's last checkpoint on its test data.
pub fn run(args: &Eval) -> Result<ExitCode> {
    let (run, mut trainer) = trained(&args.run, args.device)?;
    let test = trainer.evaluate(SplitName::Test)?;
    let scores = score(&mut trainer, SplitName::Test)?;
    let mut rows = vec![
        vec!["examples".to_owned(), test.examples.to_string()],
        vec!["test loss".into(), format!("{:.4}", test.loss)],
    ];
    let mut figures = Map::from_iter([("loss".to_owned(), json!(test.loss))]);
    if let Some(accuracy) = test.accuracy {
        rows.push(vec!["test accuracy".into(), format!("{:.2}%", 100.0 * accuracy)]);
        figures.insert("accuracy".into(), json!(accuracy));
    }
    if !args.json {
        terminal::result(&terminal::table(&rows, false))?;
        for line in scores.iter().flat_map(|scores| scores.lines()) {
            terminal::result(&line)?;
        }
    } else {
        let object = json!({
            "recipe": run.recipe()?.name,
            "run": run.path(),
            "device": device_json(trainer.device()),
            "examples": test.examples,
            "test": figures,
            "scores": scores,
        });
        terminal::result(&object.to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}
