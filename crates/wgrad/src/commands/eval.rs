//! `wgrad eval`: loss and scores of a run's last checkpoint.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Map, json};
use wgrad_train::{SplitName, run_recipe, score};

use crate::cli::{Eval, Split};
use crate::commands::common::{device_json, load_run};
use crate::terminal;

/// Evaluates a run's last checkpoint on one split of its data.
pub fn run(args: &Eval) -> Result<ExitCode> {
    let (run, mut trainer) = load_run(&args.run, args.device)?;
    let split = match args.split {
        Split::Test => SplitName::Test,
        Split::Validation => SplitName::Validation,
    };
    let name = split.as_str();
    let test = trainer.evaluate(split)?;
    let scores = score(&mut trainer, split)?;
    let mut rows = vec![vec![format!("{name} loss"), format!("{:.4}", test.loss)]];
    let mut figures = Map::from_iter([("loss".to_owned(), json!(test.loss))]);
    if let Some(accuracy) = test.accuracy {
        rows.push(vec![format!("{name} accuracy"), format!("{:.2}%", 100.0 * accuracy)]);
        figures.insert("accuracy".into(), json!(accuracy));
    }
    if !args.json {
        terminal::result(&terminal::table(&rows, false))?;
        match &scores {
            Some(scores) => terminal::result(&format!("\n{}", scores.lines().join("\n")))?,
            None => terminal::result(&format!("  examples  {}", test.examples))?,
        }
    } else {
        let object = json!({
            "recipe": run_recipe(&run)?.name,
            "run": run.path(),
            "device": device_json(trainer.device()),
            "examples": test.examples,
            name: figures,
            "scores": scores,
        });
        terminal::result(&object.to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}
