//! Runs the suite of collectives between MPI processes. Needs mpirun and the program `comm-suite`, which
//! `cargo xtask test` builds. Without them the tests are counted as skipped, or fail if `WGRAD_REQUIRE_MPI` is 1.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

/// Returns the path of `comm-suite`, or `None` and logs a skip if it or mpirun is missing.
fn comm_suite(test: &str) -> Option<PathBuf> {
    let exe = std::env::current_exe().unwrap();
    let path = exe.parent().and_then(|deps| deps.parent()).unwrap().join("comm-suite");
    let has_mpirun =
        Command::new("mpirun").arg("--version").output().is_ok_and(|output| output.status.success());
    if path.is_file() && has_mpirun {
        return Some(path);
    }
    assert_ne!(
        std::env::var("WGRAD_REQUIRE_MPI").as_deref(),
        Ok("1"),
        "{test}: mpirun or comm-suite is missing"
    );
    let line =
        format!("skipped: {test}: mpirun is missing, or comm-suite was not built with the feature mpi\n");
    eprint!("{line}");
    if let Some(path) = std::env::var_os("WGRAD_SKIP_LOG") {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(path);
        log.and_then(|mut log| log.write_all(line.as_bytes())).expect("the skip log is writable");
    }
    None
}

fn run_suite(test: &str, processes: usize, replicas: usize) {
    let Some(program) = comm_suite(test) else { return };
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
        .arg(program)
        .arg(replicas.to_string())
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    assert_eq!(stdout.matches("suite passed").count(), processes * replicas, "{stdout}\n{stderr}");
}

#[test]
fn suite_passes_on_one_process() {
    run_suite("suite_passes_on_one_process", 1, 1);
}

#[test]
fn suite_passes_on_two_processes() {
    run_suite("suite_passes_on_two_processes", 2, 1);
}

#[test]
fn suite_passes_on_three_processes() {
    run_suite("suite_passes_on_three_processes", 3, 1);
}

#[test]
fn suite_passes_on_four_processes() {
    run_suite("suite_passes_on_four_processes", 4, 1);
}

#[test]
fn suite_passes_on_two_processes_of_two_replicas() {
    run_suite("suite_passes_on_two_processes_of_two_replicas", 2, 2);
}
