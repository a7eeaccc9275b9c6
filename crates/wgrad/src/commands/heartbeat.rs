//! Signs of life of a rank for the launcher that reads its stderr, and how far the training is.

use std::time::{Duration, Instant};

use serde_json::json;

use super::replicas::LAUNCHED;
use crate::terminal::say;

/// What such a line begins with.
pub const MARK: &str = "@wgrad ";
/// How often they come.
const EVERY: Duration = Duration::from_secs(1);

/// Whether a launcher reads what this process writes.
pub fn is_launched() -> bool {
    std::env::var_os(LAUNCHED).is_some()
}

/// Name of this host.
pub fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.map(|name| name.trim().to_owned()).unwrap_or_default()
}

/// Gives a sign of life every second, if a launcher listens, for as long as the process lives.
pub fn begin() {
    if !is_launched() {
        return;
    }
    let line = format!("{MARK}{}", json!({ "pid": std::process::id(), "host": host() }));
    let beat = move || {
        loop {
            say(&line);
            std::thread::sleep(EVERY);
        }
    };
    // Without it the launcher knows less, and the training is the same.
    let _ = std::thread::Builder::new().name("heartbeat".into()).spawn(beat);
}

/// Says how far the training is, once a second at most.
#[derive(Default)]
pub struct Steps {
    last: Option<Instant>,
}

impl Steps {
    /// After a step.
    pub fn step(&mut self, step: u64, steps: u64, loss: f32) {
        if !is_launched() || self.last.is_some_and(|last| last.elapsed() < EVERY) {
            return;
        }
        self.last = Some(Instant::now());
        say(&format!("{MARK}{}", json!({ "step": step, "steps": steps, "loss": loss })));
    }
}
