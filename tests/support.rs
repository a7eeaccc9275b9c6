//! Helpers shared by the tests: running the `wgrad` binary, listing adapters and comparing losses.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use wgrad::prelude::*;
use wgrad::program::DeviceInfo;

/// Returns the path of the `wgrad` binary, which cargo builds for these tests.
pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_wgrad"))
}

/// Runs the binary in `folder` with arguments separated by spaces.
pub fn wgrad(folder: &Path, arguments: &str) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments.split_whitespace()).current_dir(folder).env("NO_COLOR", "1");
    command.output().expect("the binary starts")
}

/// Parses the JSON object on the last line of stdout.
pub fn last_json(output: &Output) -> serde_json::Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last:?}\n{}", stderr(output)))
}

/// Returns the stderr of a command as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns the path of the binary with the feature `mpi`, which `cargo xtask test` builds where MPI is installed.
///
/// Without it the test is logged as skipped, or fails if `WGRAD_REQUIRE_MPI` is 1.
pub fn mpi_binary(test: &str) -> Option<PathBuf> {
    let path = binary().with_file_name("wgrad-mpi");
    let runs = Command::new("mpirun").arg("--version").output().is_ok_and(|output| output.status.success());
    if path.is_file() && runs {
        return Some(path);
    }
    assert_ne!(
        std::env::var("WGRAD_REQUIRE_MPI").as_deref(),
        Ok("1"),
        "{test}: mpirun or the binary with the feature mpi is missing, and WGRAD_REQUIRE_MPI=1 requires both"
    );
    skip(test, "mpirun or the binary with the feature mpi is missing");
    None
}

/// Runs the binary with MPI on `ranks` ranks under plain `mpirun`.
pub fn mpirun(binary: &Path, folder: &Path, ranks: usize, arguments: &str) -> Output {
    let mut command = Command::new("mpirun");
    command.args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", &ranks.to_string()]);
    command.args(["--mca", "mpi_yield_when_idle", "1"]).arg(binary).args(arguments.split_whitespace());
    command.current_dir(folder).env("NO_COLOR", "1").env("RAYON_NUM_THREADS", "1");
    command.output().expect("mpirun starts")
}

/// Returns the adapters of this machine with their indices.
///
/// Without an adapter the test is logged as skipped, or fails if `WGRAD_REQUIRE_GPU` is 1.
pub fn adapters(test: &str) -> Vec<(usize, DeviceInfo)> {
    let found = wgrad::gpu::adapters();
    if found.is_empty() {
        assert_ne!(
            std::env::var("WGRAD_REQUIRE_GPU").as_deref(),
            Ok("1"),
            "{test}: no adapter was found, and WGRAD_REQUIRE_GPU=1 requires one"
        );
        skip(test, "no adapter was found");
    }
    found.iter().map(|adapter| (adapter.index, adapter.info.clone())).collect()
}

/// Timeout of [`wait_until`]. It only ends tests that hang; a wait on a busy machine is far shorter.
const WAIT_TIMEOUT: Duration = Duration::from_secs(300);

/// Waits until a condition holds. Panics with the text of `state` after [`WAIT_TIMEOUT`].
pub fn wait_until(mut condition: impl FnMut() -> bool, state: impl Fn() -> String) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < WAIT_TIMEOUT,
            "still waiting after {} s: {}",
            WAIT_TIMEOUT.as_secs(),
            state()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Logs a test as skipped: on stderr, and in the file `WGRAD_SKIP_LOG` if this variable is set.
#[allow(clippy::print_stderr)]
pub fn skip(test: &str, reason: &str) {
    let line = format!("skipped: {test}: {reason}");
    eprintln!("{line}");
    if let Some(path) = std::env::var_os("WGRAD_SKIP_LOG") {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(path);
        log.and_then(|mut log| writeln!(log, "{line}")).expect("the log of skipped tests is writable");
    }
}

/// Returns the losses of the first `steps` steps of a recipe on a device.
pub fn losses(device: &dyn Device, recipe: &str, steps: u64) -> Vec<f32> {
    let recipe = wgrad::recipe::load(recipe).expect("a built-in recipe");
    let parts = wgrad::train::setup(&recipe).expect("embedded data");
    let plan =
        Plan::new(parts.model, &parts.splits, parts.config, &device.info().limits).expect("a valid plan");
    let mut trainer = Trainer::new(device, plan, parts.splits, parts.fit.steps).expect("a working device");
    for _ in 0..steps {
        trainer.step().expect("a working device");
    }
    trainer.records(true).expect("finite losses").into_iter().map(|record| record.loss).collect()
}

/// Returns the largest difference of the elements of `a` and `b`, relative to the elements of `b`.
pub fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs() / b.abs().max(1e-6)).fold(0.0, f32::max)
}
