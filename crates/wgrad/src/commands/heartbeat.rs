//! Writes heartbeats and progress of a rank to stderr for `wgrad launch`.

use std::time::{Duration, Instant};

use serde_json::json;

use super::replicas::LAUNCHED;
use crate::terminal::say;

/// Prefix of the heartbeat and progress lines, by which the launcher recognises them.
pub const MARK: &str = "@wgrad ";
/// Time between two heartbeats.
const EVERY: Duration = Duration::from_secs(1);

/// Whether a launcher reads the stderr of this process.
pub fn is_launched() -> bool {
    std::env::var_os(LAUNCHED).is_some()
}

/// Returns the name of this host, or an empty string if the name is unknown.
pub fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.map(|name| name.trim().to_owned()).unwrap_or_default()
}

/// Starts a thread that sends a heartbeat every second, if a launcher reads stderr.
pub fn start() {
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
    // If the thread cannot start, training still works; only the launcher's diagnosis is less precise.
    let _ = std::thread::Builder::new().name("heartbeat".into()).spawn(beat);
}

/// Reports the progress of a training run, at most once per second.
#[derive(Default)]
pub struct Steps {
    last: Option<Instant>,
}

impl Steps {
    /// Reports the finished step number `step` of `steps`, and its training loss. Does nothing without a launcher.
    pub fn step(&mut self, step: u64, steps: u64, loss: f32) {
        if !is_launched() || self.last.is_some_and(|last| last.elapsed() < EVERY) {
            return;
        }
        self.last = Some(Instant::now());
        say(&format!("{MARK}{}", json!({ "step": step, "steps": steps, "loss": loss })));
    }
}
