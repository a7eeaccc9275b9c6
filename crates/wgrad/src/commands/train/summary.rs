//! Summary of a finished training run: as text, and as JSON for `--json` and `done.json`.

use std::path::PathBuf;

use serde_json::{Map, Value, json};
use wgrad_recipe::Recipe;
use wgrad_run::Scores;
use wgrad_train::{CommStats, Finished, RankConfig, Stop, Trainer};

use crate::commands::ceiling::{Sustained, describe_flops};
use crate::commands::common::device_json;
use crate::commands::profile::Profiled;
use crate::terminal::{self, say};

/// Finished or interrupted training run.
pub struct Trained<'r> {
    /// Recipe that was trained.
    pub recipe: &'r Recipe,
    /// Trainer with the final state.
    pub trainer: Trainer,
    /// Result of the training loop.
    pub finished: Finished,
    /// Scores on the test set, for classifiers.
    pub scores: Option<Scores>,
    /// Mean compute rate of the timed steps; `None` if no step was timed.
    pub sustained: Option<Sustained>,
    /// Seconds from the start of the program to the end of its first step.
    pub first_step: Option<f64>,
    /// Profile, if one was requested.
    pub profiled: Option<Profiled>,
    /// Communication statistics and rank of this replica; `None` without replicas.
    pub traffic: Option<(CommStats, Option<RankConfig>)>,
    /// Run directory.
    pub dir: PathBuf,
    /// Path of the report.
    pub report: PathBuf,
}

impl Trained<'_> {
    /// Returns the summary that `--json` prints and `done.json` holds.
    pub fn to_json(&self) -> Value {
        let finished = &self.finished;
        let mut test = Map::from_iter([("loss".to_owned(), number(finished.test.loss))]);
        if let Some(accuracy) = finished.test.accuracy {
            test.insert("accuracy".into(), number(accuracy));
        }
        if let Some(binary) = self.scores.as_ref().and_then(|scores| scores.binary.as_ref()) {
            test.insert("auc".into(), number(binary.auc.value));
        }
        json!({
            "recipe": self.recipe.name,
            "device": device_json(self.trainer.device()),
            "steps": finished.steps,
            "seconds": finished.seconds,
            "first_step_seconds": self.first_step,
            "replicas": self.traffic.as_ref().map(|(traffic, replica)| traffic_json(traffic, *replica)),
            "profile": self.profiled.as_ref().map(|profiled| &profiled.path),
            "flops": finished.flops.training(),
            "petaflop_s_days": finished.flops.petaflop_s_days(),
            "flops_by": finished.flops,
            "sustained": self.sustained.as_ref().map(Sustained::to_json),
            "parameters": self.trainer.plan().params.count(),
            "train": { "loss": number(finished.train_loss) },
            "test": test,
            "run": self.dir,
            "interrupted": finished.stop == Stop::Interrupted,
        })
    }
}

/// Returns the communication statistics as JSON. Times are in seconds per step.
fn traffic_json(traffic: &CommStats, replica: Option<RankConfig>) -> Value {
    let a_step = |seconds: f64| seconds / (traffic.steps as f64).max(1.0);
    json!({
        "count": replica.map_or(1, |replica| replica.size),
        "sharded": replica.is_some_and(|replica| replica.shard),
        "gradient_bytes": traffic.bytes,
        "buckets": traffic.buckets,
        "step_seconds": a_step(traffic.total),
        "compute_seconds": a_step(traffic.compute),
        "communication_seconds": a_step(traffic.busy),
        "exposed_seconds": a_step(traffic.exposed),
        "hidden": traffic.hidden(),
    })
}

/// Returns a JSON number, or null for NaN and infinities, which JSON does not support.
fn number(x: f64) -> Value {
    if x.is_finite() { json!(x) } else { Value::Null }
}

/// Prints the summary and suggested commands. `recipe` is the name or path that the user gave.
pub fn print_summary(trained: &Trained<'_>, recipe: &str) {
    say(&format!("\n{}\n", terminal::table(&figures(trained), false)));
    if let Some(profiled) = &trained.profiled {
        say(&profiled.table);
    }
    let next: Vec<Vec<String>> = next_commands(trained, recipe).into_iter().map(Vec::from).collect();
    say(&format!("Next:\n{}", terminal::table(&next, false)));
}

/// Returns the rows of the summary: name and value.
fn figures(trained: &Trained<'_>) -> Vec<Vec<String>> {
    let Trained { trainer, finished, .. } = trained;
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let rate = finished.new_steps as f64 * trainer.examples_per_step() as f64 / finished.seconds.max(1e-9);
    let reason = match finished.stop {
        Stop::Done => "all steps done",
        Stop::Patience => "early stopping: the loss no longer decreased",
        Stop::Interrupted => "interrupted",
    };
    let first = trained.first_step.map_or("none".into(), |s| format!("done {s:.2} s after the start"));
    let sustained = trained.sustained.as_ref().map_or("no step was timed".into(), Sustained::text);
    let speed = format!("{:.1} s, {} samples/s with evaluation", finished.seconds, terminal::count(rate));
    let mut rows = vec![
        row("steps", format!("{} ({reason})", finished.steps)),
        row("time", speed),
        row("first step", first),
        row("compute", describe_flops(&finished.flops)),
        row("sustained", sustained),
        row("train loss", format!("{:.4} (mean of the last epoch)", finished.train_loss)),
        row("test loss", format!("{:.4}", finished.test.loss)),
    ];
    if let Some(accuracy) = finished.test.accuracy {
        let examples = finished.test.examples;
        let right = (accuracy * examples as f64).round();
        rows.push(row("test accuracy", format!("{:.2}% ({right} of {examples})", 100.0 * accuracy)));
    }
    if let Some(binary) = trained.scores.as_ref().and_then(|scores| scores.binary.as_ref()) {
        let [low, high] = binary.auc.interval;
        rows.push(row("test AUC", format!("{:.3} (95%: {low:.3} to {high:.3})", binary.auc.value)));
    }
    if let Some((time, times)) = trainer.data_wait() {
        rows.push(row("waited for data", format!("{:.2} s, at {times} of the steps", time.as_secs_f64())));
    }
    if let Some((traffic, replica)) = &trained.traffic {
        rows.extend(communication(traffic, *replica));
    }
    rows.push(row("run", trained.dir.display().to_string()));
    rows.push(row("report", trained.report.display().to_string()));
    rows.extend(
        trained.profiled.as_ref().map(|profiled| row("profile", profiled.path.display().to_string())),
    );
    rows
}

/// Returns the summary rows for replicas and gradient communication.
fn communication(traffic: &CommStats, replica: Option<RankConfig>) -> [Vec<String>; 2] {
    let ms = |seconds: f64| 1e3 * seconds / (traffic.steps as f64).max(1.0);
    let sharded = if replica.is_some_and(|replica| replica.shard) { ", optimizer state sharded" } else { "" };
    let buckets = match traffic.buckets {
        1 => "one bucket".to_owned(),
        count => format!("{count} buckets"),
    };
    let text = format!(
        "{} of gradients in {buckets} a step: {:.2} ms of {:.2} ms, {:.0}% of it hidden behind computation",
        terminal::bytes(traffic.bytes as u64),
        ms(traffic.busy),
        ms(traffic.total),
        100.0 * traffic.hidden(),
    );
    let replicas = format!("{}{sharded}", replica.map_or(1, |replica| replica.size));
    [vec!["replicas".into(), replicas], vec!["communication".into(), text]]
}

/// Returns suggested commands, each with purpose and command line.
fn next_commands(trained: &Trained<'_>, recipe: &str) -> Vec<[String; 2]> {
    let (dir, wgrad) = (trained.dir.display(), terminal::invocation());
    if trained.finished.stop == Stop::Interrupted {
        return vec![["resume the run".into(), format!("{wgrad} train {recipe} --resume --out {dir}")]];
    }
    let change = format!("{wgrad} train {recipe} --set optimizer.lr=0.003 --set train.epochs=50");
    vec![
        ["look at the curves".into(), format!("open the report in a browser, or tensorboard --logdir {dir}")],
        ["evaluate it again".into(), format!("{wgrad} eval {dir}")],
        ["see its kernels and memory".into(), format!("{wgrad} summary {recipe}")],
        ["change a setting".into(), change],
    ]
}
