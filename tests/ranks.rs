//! Failures of a rank. The job must end, name the rank and the reason, and leave no process behind. A run resumed from
//! its checkpoint must produce the same bits as a run without the failure.
//!
//! No test asserts how fast a failure is detected. A job with a stopped or missing rank never ends by itself, so its end
//! shows that the failure was detected.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::support::{mpi_binary, skip, stderr, wait_until};

/// Arguments of a training run that is long enough to be still running when a test injects a failure.
const TRAIN: &str = "train digits --device cpu --set train.epochs=12 --set schedule.kind=constant";

/// A temporary folder, and the binary that runs jobs in it.
struct Job {
    binary: PathBuf,
    folder: tempfile::TempDir,
}

impl Job {
    fn new(test: &str) -> Option<Self> {
        Some(Self { binary: mpi_binary(test)?, folder: tempfile::tempdir().unwrap() })
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments.split_whitespace()).current_dir(self.folder.path());
        command.env("NO_COLOR", "1").env("RAYON_NUM_THREADS", "1").env_remove("RUST_BACKTRACE");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn launch(&self, arguments: &str) -> Output {
        self.command(&format!("launch {arguments}")).output().unwrap()
    }

    fn run_dir(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// Starts a job of three ranks and waits until it has written a checkpoint.
    fn start(&self) -> Child {
        let child = self.command(&format!("launch -n 3 -- {TRAIN} --out run")).spawn().unwrap();
        self.wait_for_checkpoint();
        child
    }

    fn wait_for_checkpoint(&self) {
        let latest = || wgrad::run::checkpoint::latest(&self.run_dir()).ok().flatten();
        wait_until(|| latest().is_some(), || "no checkpoint was written".into());
    }

    /// Returns the process ids of one rank, or of all ranks.
    fn processes(&self, rank: Option<usize>) -> Vec<u32> {
        let here = fs::canonicalize(self.folder.path()).unwrap();
        let belongs = |pid: &u32| {
            let proc = Path::new("/proc").join(pid.to_string());
            let environment = fs::read(proc.join("environ")).unwrap_or_default();
            let has_variable =
                |text: String| environment.split(|&byte| byte == 0).any(|entry| entry == text.as_bytes());
            let zombie = fs::read_to_string(proc.join("stat")).is_ok_and(|stat| stat.contains(") Z"));
            fs::read_link(proc.join("cwd")).is_ok_and(|cwd| cwd == here)
                && !zombie
                && rank.is_none_or(|rank| has_variable(format!("OMPI_COMM_WORLD_RANK={rank}")))
        };
        let all =
            fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        all.filter(belongs).collect()
    }

    fn signal(&self, name: &str, rank: usize) {
        let pids = self.processes(Some(rank));
        assert_eq!(pids.len(), 1, "processes of rank {rank}: {pids:?}");
        let status = Command::new("kill").args([format!("-{name}"), pids[0].to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits until a job ends. Returns its exit code and its stderr.
    fn wait(&self, child: Child) -> (Option<i32>, String) {
        let output = child.wait_with_output().unwrap();
        self.wait_for_processes();
        (output.status.code(), stderr(&output))
    }

    /// Waits until all processes of the job have ended.
    fn wait_for_processes(&self) {
        let remaining = || self.processes(None);
        wait_until(|| remaining().is_empty(), || format!("processes {:?} are still running", remaining()));
    }

    fn parameters(&self, run: &str) -> Vec<u8> {
        let latest = wgrad::run::checkpoint::latest(&self.folder.path().join(run)).unwrap().unwrap();
        assert!(latest.ends_with("step-000264"), "{}", latest.display());
        fs::read(latest.join("model.safetensors")).unwrap()
    }

    /// Resumes the run and checks that its parameters have the same bits as those of a run without a failure.
    fn assert_resumed_run_has_same_bits(&self) {
        let output = self.launch(&format!("-n 3 -- {TRAIN} --out run --resume"));
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(stderr(&output).contains("Resuming"), "{}", stderr(&output));
        let output = self.launch(&format!("-n 3 -- {TRAIN} --out uninterrupted"));
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(self.parameters("run") == self.parameters("uninterrupted"), "parameters differ");
    }
}

#[test]
fn killed_rank_is_named_and_resumed_run_has_the_same_bits() {
    let Some(job) = Job::new("killed_rank_is_named_and_resumed_run_has_the_same_bits") else { return };
    let child = job.start();
    job.signal("KILL", 1);
    let (code, messages) = job.wait(child);
    assert_eq!(code, Some(7), "{messages}");
    assert!(messages.contains("rank 1 was killed by signal 9"), "{messages}");
    job.assert_resumed_run_has_same_bits();
}

#[test]
fn stopped_rank_is_named_and_resumed_run_has_the_same_bits() {
    let test = "stopped_rank_is_named_and_resumed_run_has_the_same_bits";
    let Some(job) = Job::new(test) else { return };
    for rank in [0, 2] {
        let child = job.start();
        job.signal("STOP", rank);
        let (code, messages) = job.wait(child);
        assert_eq!(code, Some(7), "{messages}");
        assert!(messages.contains(&format!("rank {rank} sent no heartbeat")), "{messages}");
        if rank == 0 {
            fs::remove_dir_all(job.run_dir()).unwrap();
        }
    }
    job.assert_resumed_run_has_same_bits();
}

/// Without `wgrad launch` no process reads the heartbeats. The waiting ranks must end the job themselves.
#[test]
fn comm_timeout_of_waiting_ranks_ends_the_job() {
    let Some(job) = Job::new("comm_timeout_of_waiting_ranks_ends_the_job") else { return };
    let mut command = Command::new("mpirun");
    command.args(["--allow-run-as-root", "--oversubscribe", "-n", "3"]).arg(&job.binary);
    command.args(TRAIN.split_whitespace()).args(["--comm-timeout", "10", "--out", "run"]);
    command.current_dir(job.folder.path()).env("RAYON_NUM_THREADS", "1");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    job.wait_for_checkpoint();
    job.signal("STOP", 2);
    let (code, messages) = job.wait(child);
    assert_eq!(code, Some(7), "{messages}");
    assert!(messages.contains("no answer from the other replicas within 10 s"), "{messages}");
}

#[test]
fn panicking_rank_is_named_and_restarted_run_has_the_same_bits() {
    let Some(job) = Job::new("panicking_rank_is_named_and_restarted_run_has_the_same_bits") else {
        return;
    };
    let output = job.launch(&format!("-n 3 -- {TRAIN} --out run --panic-at 1:100"));
    let messages = stderr(&output);
    assert_eq!(output.status.code(), Some(101), "{messages}");
    assert!(messages.contains("rank 1 failed: panicked: injected by --panic-at"), "{messages}");
    job.wait_for_processes();
    // The rank panics again at the same step. Only a restart from a later checkpoint could succeed.
    let output = job.launch(&format!("-n 3 --restarts 1 -- {TRAIN} --out run --resume --panic-at 1:100"));
    assert_eq!(output.status.code(), Some(101), "{}", stderr(&output));
    assert!(stderr(&output).contains("Restart 1 of 1, from the last checkpoint"), "{}", stderr(&output));
    job.assert_resumed_run_has_same_bits();
}

#[test]
fn full_disk_is_reported_and_run_resumes_on_another_disk() {
    let test = "full_disk_is_reported_and_run_resumes_on_another_disk";
    let Some(job) = Job::new(test) else { return };
    let disk = job.folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    // The disk holds two checkpoints of 1.3 MB, but not a third, which is written before an old one is removed.
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=3500k", "tmpfs"]).arg(&disk).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        return skip(test, "cannot mount a tmpfs");
    }
    let options = "--set train.keep_checkpoints=2 --set train.checkpoint_every_epochs=1";
    let output = job.launch(&format!("-n 3 -- {TRAIN} {options} --out disk/run"));
    let messages = stderr(&output);
    // Copy the run to a disk with enough space.
    let copied = Command::new("cp").arg("-a").arg(disk.join("run")).arg(job.run_dir()).status();
    assert!(copied.is_ok_and(|status| status.success()));
    let unmounted = Command::new("umount").arg(&disk).status();
    assert!(unmounted.is_ok_and(|status| status.success()));
    assert_eq!(output.status.code(), Some(6), "{messages}");
    assert!(messages.contains("rank 0 failed") && messages.contains("no space left"), "{messages}");
    job.wait_for_processes();
    job.assert_resumed_run_has_same_bits();
}

#[test]
fn job_ends_at_its_deadline() {
    let Some(job) = Job::new("job_ends_at_its_deadline") else { return };
    let output =
        job.launch("-n 2 --deadline 4 -- train digits --device cpu --set train.epochs=100000 --out run");
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
    assert!(stderr(&output).contains("did not finish within 4 s"), "{}", stderr(&output));
    job.wait_for_processes();
}

#[test]
fn ctrl_c_writes_a_checkpoint_and_ends_all_ranks() {
    let Some(job) = Job::new("ctrl_c_writes_a_checkpoint_and_ends_all_ranks") else { return };
    let child = job.start();
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let (code, messages) = job.wait(child);
    assert_eq!(code, Some(130), "{messages}");
    assert!(messages.contains("interrupted"), "{messages}");
    job.assert_resumed_run_has_same_bits();
}

/// Otherwise ranks that are not connected would each train a model in the same run directory.
#[test]
fn unconnected_rank_is_an_error() {
    let Some(job) = Job::new("unconnected_rank_is_an_error") else { return };
    let output = job.command("train digits --device cpu --out run").env("WGRAD_RANKS", "3").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("a group of 3 processes"), "{}", stderr(&output));
    // The same holds for a binary without MPI under mpirun.
    let output = Command::new(crate::support::binary())
        .args(["train", "digits", "--device", "cpu", "--out", "run"])
        .current_dir(job.folder.path())
        .env("OMPI_COMM_WORLD_SIZE", "2")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("--features mpi"), "{}", stderr(&output));
    assert!(!job.run_dir().exists());
}

#[test]
fn invalid_arguments_are_reported_before_the_job_starts() {
    let Some(job) = Job::new("invalid_arguments_are_reported_before_the_job_starts") else { return };
    for (arguments, message) in [
        ("-n 2 -- train digit", "did you mean"),
        ("-n 2 -- train digits --colour red", "--colour"),
        ("-n 2 -- train digits --resume", "--out"),
        ("-n 0 -- train digits", "1 to 256"),
        ("-n 2", "train"),
    ] {
        let output = job.launch(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {}", stderr(&output));
        assert!(stderr(&output).contains(message), "{arguments}: {}", stderr(&output));
    }
    let output = job.launch("-n 2 --mpirun no-such-program -- train digits");
    assert!(stderr(&output).contains("no-such-program"), "{}", stderr(&output));
    assert!(!output.status.success());
}
