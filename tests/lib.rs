//! What the tests of this package share: the built binary, and the devices of this machine.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use wgrad::prelude::*;
use wgrad::program::DeviceInfo;

/// The `wgrad` binary of this workspace, built in the profile of the tests.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let built =
            Command::new(env!("CARGO")).args(["build", "--quiet", "--locked", "--package", "wgrad"]).status();
        assert!(built.is_ok_and(|status| status.success()), "the binary does not build");
        // The test runs from target/<profile>/deps.
        let test = std::env::current_exe().expect("a running test has a path");
        let profile =
            test.parent().and_then(Path::parent).expect("tests are two folders below the profile's");
        profile.join(format!("wgrad{}", std::env::consts::EXE_SUFFIX))
    })
}

/// Runs the binary in `folder` with arguments separated by spaces.
pub fn wgrad(folder: &Path, arguments: &str) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments.split_whitespace()).current_dir(folder).env("NO_COLOR", "1");
    command.output().expect("the binary starts")
}

/// The JSON object on the last line of stdout.
pub fn last_json(output: &Output) -> serde_json::Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last:?}\n{}", stderr(output)))
}

/// What a run wrote for people.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The binary with MPI, where `cargo xtask test` could build one. Else the test is counted as skipped by name, or fails if
/// `WGRAD_REQUIRE_MPI` is 1.
pub fn mpi_binary(test: &str) -> Option<PathBuf> {
    let own = std::env::current_exe().expect("a running test has a path");
    let profile = own.parent().and_then(Path::parent).expect("tests are two folders below the profile's");
    let path = profile.join("wgrad-mpi");
    let runs = Command::new("mpirun").arg("--version").output().is_ok_and(|output| output.status.success());
    if path.is_file() && runs {
        return Some(path);
    }
    assert_ne!(std::env::var("WGRAD_REQUIRE_MPI").as_deref(), Ok("1"), "{test}: no build with MPI");
    skip(test, "no mpirun, or no build with MPI");
    None
}

/// Starts ranks of the binary with MPI by plain mpirun, and waits for them.
pub fn mpirun(binary: &Path, folder: &Path, ranks: usize, arguments: &str) -> Output {
    let mut command = Command::new("mpirun");
    command.args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", &ranks.to_string()]);
    command.args(["--mca", "mpi_yield_when_idle", "1"]).arg(binary).args(arguments.split_whitespace());
    command.current_dir(folder).env("NO_COLOR", "1").env("RAYON_NUM_THREADS", "1");
    command.output().expect("mpirun starts")
}

/// The adapters of this machine with their numbers. Where there is none the test is counted as skipped by name, or fails
/// if `WGRAD_REQUIRE_GPU` is 1.
pub fn adapters(test: &str) -> Vec<(usize, DeviceInfo)> {
    let found = wgrad::gpu::adapters();
    if found.is_empty() {
        assert_ne!(
            std::env::var("WGRAD_REQUIRE_GPU").as_deref(),
            Ok("1"),
            "{test}: no adapter, and one is required"
        );
        skip(test, "no adapter");
    }
    found.iter().map(|adapter| (adapter.index, adapter.info.clone())).collect()
}

/// Counts a test as skipped.
#[allow(clippy::print_stderr)]
pub fn skip(test: &str, reason: &str) {
    let line = format!("skipped: {test}: {reason}");
    eprintln!("{line}");
    if let Some(path) = std::env::var_os("WGRAD_SKIP_LOG") {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(path);
        log.and_then(|mut log| writeln!(log, "{line}")).expect("the log of skipped tests can be written");
    }
}

/// Losses of the first `steps` steps of a recipe on a device.
pub fn losses(device: &dyn Device, recipe: &str, steps: u64) -> Vec<f32> {
    let recipe = wgrad::recipe::load(recipe).expect("a built-in recipe");
    let parts = wgrad::train::setup(&recipe).expect("embedded data");
    let plan =
        Plan::new(parts.model, &parts.splits, parts.config, &device.info().limits).expect("a right model");
    let mut trainer = Trainer::new(device, plan, parts.splits, parts.fit.steps).expect("a working device");
    for _ in 0..steps {
        trainer.step().expect("a working device");
    }
    trainer.records(true).expect("finite losses").into_iter().map(|record| record.loss).collect()
}

/// Largest difference of two series, relative to the values.
pub fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs() / b.abs().max(1e-6)).fold(0.0, f32::max)
}
