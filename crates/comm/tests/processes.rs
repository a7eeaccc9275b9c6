//! The suite between processes. Needs mpirun and the program `comm-suite`, which `cargo xtask test` builds; without them
//! the tests are counted as skipped, and fail where `WGRAD_REQUIRE_MPI` is 1.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

fn program(test: &str) -> Option<PathBuf> {
    let own = std::env::current_exe().unwrap();
    let path = own.parent().and_then(|deps| deps.parent()).unwrap().join("comm-suite");
    let runs = Command::new("mpirun").arg("--version").output().is_ok_and(|output| output.status.success());
    if path.is_file() && runs {
        return Some(path);
    }
    assert_ne!(std::env::var("WGRAD_REQUIRE_MPI").as_deref(), Ok("1"), "{test}: no mpirun or no comm-suite");
    let line = format!("skipped: {test}: no mpirun, or comm-suite was not built with the feature mpi\n");
    eprint!("{line}");
    if let Some(path) = std::env::var_os("WGRAD_SKIP_LOG") {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(path);
        log.and_then(|mut log| log.write_all(line.as_bytes())).expect("the skip log is writable");
    }
    None
}

fn holds(test: &str, processes: usize, replicas: usize) {
    let Some(program) = program(test) else { return };
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
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{errors}");
    assert_eq!(said.matches("the suite holds").count(), processes * replicas, "{said}\n{errors}");
}

#[test]
fn the_suite_holds_for_one_process() {
    holds("the_suite_holds_for_one_process", 1, 1);
}

#[test]
fn the_suite_holds_for_two_processes() {
    holds("the_suite_holds_for_two_processes", 2, 1);
}

#[test]
fn the_suite_holds_for_three_processes() {
    holds("the_suite_holds_for_three_processes", 3, 1);
}

#[test]
fn the_suite_holds_for_four_processes() {
    holds("the_suite_holds_for_four_processes", 4, 1);
}

#[test]
fn the_suite_holds_for_two_processes_of_two_replicas() {
    holds("the_suite_holds_for_two_processes_of_two_replicas", 2, 2);
}
