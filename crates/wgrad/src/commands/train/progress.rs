//! Progress of a training run: a bar if stderr is a terminal, and one line per evaluation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use wgrad_train::{Callback, Evaluation, SplitName, StepRecord, Trainer};

use crate::commands::heartbeat;
use crate::commands::replicas::FaultInjection;
use crate::terminal::{self, say};

/// Callback that shows progress, sends heartbeats, and stops on Ctrl-C.
pub struct Progress {
    bar: Option<ProgressBar>,
    stop: Arc<AtomicBool>,
    start: Instant,
    first: u64,
    examples: u64,
    /// Moving average of the training loss.
    loss: Option<f32>,
    /// Moving average of the training accuracy.
    accuracy: Option<f32>,
    /// Seconds from the start of the program to the end of the first step; `None` before that step.
    pub first_step: Option<f64>,
    /// Total number of steps of the training run.
    steps: u64,
    heartbeat: heartbeat::Steps,
    /// Faults to inject, for tests of replicas.
    pub faults: Option<FaultInjection>,
}

impl Progress {
    /// Creates the callback, and shows a bar if stderr is a terminal. If `stop` is set, training ends after the current
    /// step.
    pub fn new(trainer: &Trainer, steps: u64, stop: Arc<AtomicBool>) -> Self {
        let bar = terminal::is_interactive().then(|| {
            let bar = ProgressBar::new(steps);
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}  {eta} left");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_position(trainer.steps_done());
            bar.reset_eta();
            bar
        });
        Self {
            bar,
            stop,
            start: Instant::now(),
            first: trainer.steps_done(),
            examples: trainer.examples_per_step(),
            loss: None,
            accuracy: None,
            first_step: None,
            steps,
            heartbeat: heartbeat::Steps::default(),
            faults: None,
        }
    }

    /// Removes the progress bar.
    pub fn close(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(line)),
            None => say(line),
        }
    }
}

impl Callback for Progress {
    fn on_first_step(&mut self) {
        self.first_step = Some(terminal::since_start().as_secs_f64());
    }

    fn on_step(&mut self, record: &StepRecord) {
        // A moving average is easier to read than the noise of single batches.
        let smooth = |old: Option<f32>, new: f32| Some(old.map_or(new, |old| 0.95 * old + 0.05 * new));
        self.loss = smooth(self.loss, record.loss);
        if let Some((_, accuracy)) = record.metrics.iter().find(|(name, _)| name == "accuracy") {
            self.accuracy = smooth(self.accuracy, *accuracy);
        }
        self.heartbeat.step(record.step, self.steps, record.loss);
        if let Some(faults) = &mut self.faults {
            faults.on_step(record);
        }
        if let Some(bar) = &self.bar {
            let done = (record.step - self.first) * self.examples;
            let rate = done as f64 / self.start.elapsed().as_secs_f64().max(1e-9);
            let accuracy = self.accuracy.map_or(String::new(), |a| format!("  accuracy {:.1}%", 100.0 * a));
            bar.set_position(record.step);
            bar.set_message(format!(
                "loss {:.4}{accuracy}  {} samples/s",
                self.loss.unwrap_or(f32::NAN),
                terminal::count(rate)
            ));
        }
    }

    fn on_evaluation(&mut self, evaluation: &Evaluation, step: u64) {
        let accuracy = evaluation.accuracy.map_or(String::new(), |a| format!(", accuracy {:.2}%", 100.0 * a));
        let train = self.loss.map_or(String::new(), |loss| format!("train loss (avg) {loss:.4}, "));
        let split = if evaluation.split == SplitName::Test { "test" } else { "validation" };
        self.line(&format!("step {step:>6}: {train}{split} loss {:.4}{accuracy}", evaluation.loss));
    }

    fn should_stop(&mut self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}
