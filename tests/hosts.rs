//! Ranks on hosts of their own, which are network namespaces (see `tests/hosts.sh`): what crosses a network, and what happens
//! when that is cut. Needs root and iproute2.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::{mpi_binary, skip, stderr, wgrad};

/// Hosts that are removed at the end, whatever happens.
struct Hosts {
    name: String,
    script: PathBuf,
    binary: PathBuf,
    folder: tempfile::TempDir,
}

impl Hosts {
    /// `count` hosts at 1 Gbit/s; without root the test is counted as skipped.
    fn new(test: &str, count: usize) -> Option<Self> {
        let binary = mpi_binary(test)?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/hosts.sh");
        let folder = tempfile::tempdir().unwrap();
        let hosts = Self { name: format!("w{}", std::process::id() % 10_000), script, binary, folder };
        let made = hosts.command(&["up", &count.to_string(), "1gbit"]).output().unwrap();
        if !made.status.success() {
            let why = String::from_utf8_lossy(&made.stderr).trim().to_owned();
            assert_ne!(std::env::var("WGRAD_REQUIRE_MPI").as_deref(), Ok("1"), "{test}: {why}");
            skip(test, "network namespaces cannot be made (root and iproute2 are needed)");
            return None;
        }
        let lines: Vec<String> = (1..=count).map(|i| format!("10.97.0.{i} slots=1")).collect();
        fs::write(hosts.folder.path().join("hosts"), lines.join("\n") + "\n").unwrap();
        Some(hosts)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command.arg(&self.script).arg(&self.name).args(arguments).current_dir(self.folder.path());
        command.env("NO_COLOR", "1").env("RAYON_NUM_THREADS", "1");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// `wgrad launch` on the first host.
    fn launch(&self, ranks: usize, train: &str) -> Command {
        let agent = self.command(&["agent"]).output().unwrap();
        let agent = String::from_utf8_lossy(&agent.stdout).trim().to_owned();
        let only = "10.97.0.0/24";
        let words = format!(
            "--mca plm_rsh_agent {agent} --mca pml ob1 --mca btl self,vader,tcp --mca btl_tcp_if_include {only} \
             --mca oob_tcp_if_include {only} --mca mpi_yield_when_idle 1"
        );
        let mut command = self.command(&["in", "0"]);
        command.arg(&self.binary).args([
            "launch",
            "-n",
            &ranks.to_string(),
            "--hosts",
            "hosts",
            "--mpi-arg",
            &words,
        ]);
        command.arg("--").args(train.split_whitespace());
        command
    }

    fn processes(&self, host: usize) -> String {
        let pids =
            Command::new("ip").args(["netns", "pids", &format!("{}-h{host}", self.name)]).output().unwrap();
        String::from_utf8_lossy(&pids.stdout).trim().to_owned()
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        let _ = self.command(&["down"]).status();
    }
}

fn succeeded(output: &Output) {
    assert!(output.status.success(), "{}", stderr(output));
}

fn parameters(run: &Path, step: u64) -> Vec<u8> {
    fs::read(run.join(format!("checkpoints/step-{step:06}/model.safetensors"))).unwrap()
}

#[test]
fn ranks_on_three_hosts_train_as_threads_do() {
    let Some(hosts) = Hosts::new("ranks_on_three_hosts_train_as_threads_do", 3) else { return };
    let train = "train digits --device cpu --set train.epochs=1 --set train.log_every=1";
    let output = hosts.launch(3, &format!("{train} --out hosts-run")).output().unwrap();
    succeeded(&output);
    succeeded(&wgrad(hosts.folder.path(), &format!("{train} --out threads-run --replicas 3")));
    let losses = |run: &str| {
        let rows = fs::read_to_string(hosts.folder.path().join(run).join("metrics.jsonl")).unwrap();
        let loss =
            |row: &str| serde_json::from_str::<serde_json::Value>(row).unwrap()["loss"].as_f64().unwrap();
        rows.lines().map(|row| loss(row) as f32).collect::<Vec<f32>>()
    };
    let apart = crate::support::largest_difference(&losses("hosts-run"), &losses("threads-run"));
    assert!(apart <= 1e-4, "{apart}");
}

#[test]
fn a_cut_link_ends_the_job_and_the_run_goes_on_to_the_same_bits() {
    let test = "a_cut_link_ends_the_job_and_the_run_goes_on_to_the_same_bits";
    let Some(hosts) = Hosts::new(test, 2) else { return };
    let train = "train digits-mlp --device cpu --set train.epochs=20 --set schedule.kind=constant";
    let child = hosts.launch(2, &format!("{train} --out run")).spawn().unwrap();
    let (run, begun) = (hosts.folder.path().join("run"), Instant::now());
    while wgrad::run::checkpoint::latest(&run).ok().flatten().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(120), "no checkpoint was written");
        std::thread::sleep(Duration::from_millis(20));
    }
    succeeded(&hosts.command(&["cut", "1"]).output().unwrap());
    let cut = Instant::now();
    let output = child.wait_with_output().unwrap();
    let said = stderr(&output);
    assert!(cut.elapsed() < Duration::from_secs(30), "{:?}\n{said}", cut.elapsed());
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert!(said.contains("cannot be reached"), "{said}");
    // The host that was cut off notices by itself.
    while !(hosts.processes(0).is_empty() && hosts.processes(1).is_empty()) {
        assert!(
            cut.elapsed() < Duration::from_secs(60),
            "left: {} {}",
            hosts.processes(0),
            hosts.processes(1)
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    drop(hosts.command(&["down"]).output().unwrap());
    succeeded(&hosts.command(&["up", "2", "1gbit"]).output().unwrap());
    succeeded(&hosts.launch(2, &format!("{train} --out run --resume")).output().unwrap());
    succeeded(&hosts.launch(2, &format!("{train} --out whole")).output().unwrap());
    let last = wgrad::run::checkpoint::latest(&run).unwrap().unwrap();
    let step = last.file_name().unwrap().to_str().unwrap().trim_start_matches("step-").parse().unwrap();
    let whole = hosts.folder.path().join("whole");
    assert!(parameters(&run, step) == parameters(&whole, step), "the bits differ after {step} steps");
}
