//! Runs the test suite of collectives across processes. The tests need `mpirun` and the feature `mpi`. If either is
//! missing, the tests are logged as skipped. If `WGRAD_REQUIRE_MPI` is 1, they fail instead.

use std::io::Write;
use std::process::Command;

/// Whether `mpirun` is installed and the feature `mpi` is enabled. If not, logs the test named `test` as skipped.
fn has_mpi(test: &str) -> bool {
    let runs = Command::new("mpirun").arg("--version").output().is_ok_and(|output| output.status.success());
    if runs && cfg!(feature = "mpi") {
        return true;
    }
    assert_ne!(
        std::env::var("WGRAD_REQUIRE_MPI").as_deref(),
        Ok("1"),
        "{test}: no mpirun, or built without the feature mpi"
    );
    let line = format!("skipped: {test}: no mpirun, or built without the feature mpi\n");
    eprint!("{line}");
    if let Some(path) = std::env::var_os("WGRAD_SKIP_LOG") {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(path);
        log.and_then(|mut log| log.write_all(line.as_bytes())).expect("writable log of skipped tests");
    }
    false
}

/// Runs the suite in `processes` processes with `replicas` threads in each process.
fn check_suite(test: &str, processes: usize, replicas: usize) {
    if !has_mpi(test) {
        return;
    }
    let output = Command::new("mpirun")
        .args([
            "--allow-run-as-root",
            "--oversubscribe",
            "--bind-to",
            "none",
            "--mca",
            "mpi_yield_when_idle",
            "1",
        ])
        .args(["-n", &processes.to_string()])
        // With the feature `mpi`, cargo builds this program for the tests.
        .arg(env!("CARGO_BIN_EXE_comm-suite"))
        .arg(replicas.to_string())
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    assert_eq!(stdout.matches("suite passed").count(), processes * replicas, "{stdout}\n{stderr}");
}

#[test]
fn suite_passes_with_one_process() {
    check_suite("suite_passes_with_one_process", 1, 1);
}

#[test]
fn suite_passes_with_two_processes() {
    check_suite("suite_passes_with_two_processes", 2, 1);
}

#[test]
fn suite_passes_with_three_processes() {
    check_suite("suite_passes_with_three_processes", 3, 1);
}

#[test]
fn suite_passes_with_four_processes() {
    check_suite("suite_passes_with_four_processes", 4, 1);
}

#[test]
fn suite_passes_with_two_processes_of_two_replicas() {
    check_suite("suite_passes_with_two_processes_of_two_replicas", 2, 2);
}
