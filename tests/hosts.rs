//! Training on several hosts across a network, and failures of the network. The hosts are network namespaces (see
//! `tests/hosts.sh`). Needs root and iproute2.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{mpi_binary, skip, stderr, wait_until, wgrad};

/// Network namespaces that simulate hosts. They are removed on drop.
struct Hosts {
    name: String,
    script: PathBuf,
    binary: PathBuf,
    folder: tempfile::TempDir,
}

impl Hosts {
    /// Creates `count` hosts with 1 Gbit/s each. Without root the test is logged as skipped.
    fn new(test: &str, count: usize) -> Option<Self> {
        let binary = mpi_binary(test)?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/hosts.sh");
        let folder = tempfile::tempdir().unwrap();
        // Names must be short, and differ between the tests of a process and between concurrent processes.
        static SETS: AtomicUsize = AtomicUsize::new(0);
        let set = SETS.fetch_add(1, Ordering::Relaxed);
        let name = format!("w{:04}{}", std::process::id() % 10_000, ["a", "b", "c", "d"][set % 4]);
        let hosts = Self { name, script, binary, folder };
        // A killed test may have left hosts with this name.
        hosts.command(&["down"]).output().unwrap();
        let created = hosts.command(&["up", &count.to_string(), "1gbit"]).output().unwrap();
        if !created.status.success() {
            let error = String::from_utf8_lossy(&created.stderr).trim().to_owned();
            assert_ne!(std::env::var("WGRAD_REQUIRE_MPI").as_deref(), Ok("1"), "{test}: {error}");
            skip(test, "cannot create network namespaces (root and iproute2 are needed)");
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

    /// Returns the command `wgrad launch` on the first host.
    fn launch(&self, ranks: usize, train: &str) -> Command {
        let agent = self.command(&["agent"]).output().unwrap();
        let agent = String::from_utf8_lossy(&agent.stdout).trim().to_owned();
        let network = "10.97.0.0/24";
        // Several daemons of Open MPI 4.1 on one machine share the topology in memory, and one start in eight crashes
        // in hwloc_shmem_topology_write. Without a hole in the address space (vmhole), each daemon keeps its own copy
        // of the topology.
        let mpi_args = format!(
            "--mca plm_rsh_agent {agent} --mca pml ob1 --mca btl self,vader,tcp --mca btl_tcp_if_include {network} \
             --mca oob_tcp_if_include {network} --mca mpi_yield_when_idle 1 --mca rtc_hwloc_vmhole none"
        );
        let mut command = self.command(&["in", "0"]);
        command.arg(&self.binary).args([
            "launch",
            "-n",
            &ranks.to_string(),
            "--hosts",
            "hosts",
            "--mpi-arg",
            &mpi_args,
        ]);
        command.arg("--").args(train.split_whitespace());
        command
    }

    /// Returns the process ids on a host, one per line.
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

fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}", stderr(output));
}

fn parameters(run: &Path, step: u64) -> Vec<u8> {
    fs::read(run.join(format!("checkpoints/step-{step:06}/model.safetensors"))).unwrap()
}

/// Returns the losses of all rows in `metrics.jsonl`.
fn losses(run: &Path) -> Vec<f32> {
    let rows = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let loss = |row: &str| serde_json::from_str::<serde_json::Value>(row).unwrap()["loss"].as_f64().unwrap();
    rows.lines().map(|row| loss(row) as f32).collect()
}

#[test]
fn ranks_on_three_hosts_train_like_threads() {
    let Some(hosts) = Hosts::new("ranks_on_three_hosts_train_like_threads", 3) else { return };
    // No failure is injected, but on a busy machine a step may exceed the default timeout.
    let train = "train digits --device cpu --set train.epochs=1 --set train.log_every=1 --comm-timeout 300";
    assert_success(&hosts.launch(3, &format!("{train} --out hosts-run")).output().unwrap());
    assert_success(&wgrad(hosts.folder.path(), &format!("{train} --out threads-run --replicas 3")));
    let losses = |run: &str| losses(&hosts.folder.path().join(run));
    let difference = crate::support::largest_difference(&losses("hosts-run"), &losses("threads-run"));
    assert!(difference <= 1e-4, "{difference}");
}

#[test]
fn cut_link_ends_the_job_and_resumed_run_has_the_same_bits() {
    let test = "cut_link_ends_the_job_and_resumed_run_has_the_same_bits";
    let Some(hosts) = Hosts::new(test, 2) else { return };
    let train = "train digits-mlp --device cpu --set train.epochs=20 --set schedule.kind=constant";
    let child = hosts.launch(2, &format!("{train} --out run")).spawn().unwrap();
    let run = hosts.folder.path().join("run");
    let latest = || wgrad::run::checkpoint::latest(&run).ok().flatten();
    wait_until(|| latest().is_some(), || "no checkpoint was written".into());
    assert_success(&hosts.command(&["cut", "1"]).output().unwrap());
    // Without the link the job cannot finish. It ends only because the failure is detected.
    let output = child.wait_with_output().unwrap();
    let messages = stderr(&output);
    assert_eq!(output.status.code(), Some(7), "{messages}");
    assert!(messages.contains("cannot be reached"), "{messages}");
    // The disconnected host must detect the failure as well.
    let remaining =
        || (0..2).map(|host| hosts.processes(host)).filter(|pids| !pids.is_empty()).collect::<Vec<_>>();
    wait_until(|| remaining().is_empty(), || format!("processes {:?} are still running", remaining()));
    drop(hosts.command(&["down"]).output().unwrap());
    assert_success(&hosts.command(&["up", "2", "1gbit"]).output().unwrap());
    assert_success(&hosts.launch(2, &format!("{train} --out run --resume")).output().unwrap());
    assert_success(&hosts.launch(2, &format!("{train} --out uninterrupted")).output().unwrap());
    let last = wgrad::run::checkpoint::latest(&run).unwrap().unwrap();
    let step = last.file_name().unwrap().to_str().unwrap().trim_start_matches("step-").parse().unwrap();
    let uninterrupted = hosts.folder.path().join("uninterrupted");
    assert!(
        parameters(&run, step) == parameters(&uninterrupted, step),
        "parameters differ after {step} steps"
    );
}
