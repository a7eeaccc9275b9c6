//! What becomes of a job when a rank fails: it ends soon, says which rank and why, leaves nothing behind, and goes on from
//! its checkpoint to the bits it would have had.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use wgrad_tests::{mpi_binary, skip, stderr};

/// How long a failure may take to end a job.
const SOON: Duration = Duration::from_secs(30);
/// Enough epochs that a job is under way when something happens to it.
const LONG: &str = "train digits --device cpu --set train.epochs=12 --set schedule.kind=constant";

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

    fn run(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// Starts a job of three ranks and waits until it has written a checkpoint.
    fn begin(&self, options: &str) -> Child {
        let child = self.command(&format!("launch -n 3 {options} -- {LONG} --out run")).spawn().unwrap();
        let begun = Instant::now();
        while wgrad::run::checkpoint::latest(&self.run()).ok().flatten().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(120), "no checkpoint was written");
            std::thread::sleep(Duration::from_millis(20));
        }
        child
    }

    /// Processes of a rank of the job, or of all of them.
    fn processes(&self, rank: Option<usize>) -> Vec<u32> {
        let here = fs::canonicalize(self.folder.path()).unwrap();
        let is_rank = |pid: &u32| {
            let proc = Path::new("/proc").join(pid.to_string());
            let environment = fs::read(proc.join("environ")).unwrap_or_default();
            let has =
                |text: String| environment.split(|&byte| byte == 0).any(|found| found == text.as_bytes());
            let zombie = fs::read_to_string(proc.join("stat")).is_ok_and(|stat| stat.contains(") Z"));
            fs::read_link(proc.join("cwd")).is_ok_and(|cwd| cwd == here)
                && !zombie
                && rank.is_none_or(|rank| has(format!("OMPI_COMM_WORLD_RANK={rank}")))
        };
        let all =
            fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        all.filter(is_rank).collect()
    }

    fn signal(&self, name: &str, rank: usize) {
        let pids = self.processes(Some(rank));
        assert_eq!(pids.len(), 1, "processes of rank {rank}: {pids:?}");
        let status = Command::new("kill").args([format!("-{name}"), pids[0].to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for a job that something just happened to.
    fn ends_soon(&self, child: Child) -> (Option<i32>, String) {
        let begun = Instant::now();
        let output = child.wait_with_output().unwrap();
        assert!(begun.elapsed() < SOON, "it took {:?}\n{}", begun.elapsed(), stderr(&output));
        self.assert_nothing_left();
        (output.status.code(), stderr(&output))
    }

    fn assert_nothing_left(&self) {
        let begun = Instant::now();
        while !self.processes(None).is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(10), "left behind: {:?}", self.processes(None));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn parameters(&self, run: &str) -> Vec<u8> {
        let latest = wgrad::run::checkpoint::latest(&self.folder.path().join(run)).unwrap().unwrap();
        assert!(latest.ends_with("step-000264"), "{}", latest.display());
        fs::read(latest.join("model.safetensors")).unwrap()
    }

    /// The job, gone on with, has the bits of one that nothing happened to.
    fn goes_on_to_the_same_bits(&self) {
        let output = self.launch(&format!("-n 3 -- {LONG} --out run --resume"));
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(stderr(&output).contains("Resuming"), "{}", stderr(&output));
        let output = self.launch(&format!("-n 3 -- {LONG} --out whole"));
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(self.parameters("run") == self.parameters("whole"), "the bits differ");
    }
}

#[test]
fn a_killed_rank_is_named_and_the_run_goes_on_to_the_same_bits() {
    let Some(job) = Job::new("a_killed_rank_is_named_and_the_run_goes_on_to_the_same_bits") else { return };
    let child = job.begin("");
    job.signal("KILL", 1);
    let (code, said) = job.ends_soon(child);
    assert_eq!(code, Some(7), "{said}");
    assert!(said.contains("rank 1 was killed by signal 9"), "{said}");
    job.goes_on_to_the_same_bits();
}

#[test]
fn a_stopped_rank_is_named_and_the_run_goes_on_to_the_same_bits() {
    let test = "a_stopped_rank_is_named_and_the_run_goes_on_to_the_same_bits";
    let Some(job) = Job::new(test) else { return };
    for rank in [0, 2] {
        let child = job.begin("");
        job.signal("STOP", rank);
        let (code, said) = job.ends_soon(child);
        assert_eq!(code, Some(7), "{said}");
        assert!(said.contains(&format!("rank {rank} sent no heartbeat")), "{said}");
        if rank == 0 {
            fs::remove_dir_all(job.run()).unwrap();
        }
    }
    job.goes_on_to_the_same_bits();
}

/// Without `wgrad launch` nobody hears signs of life: the ranks that wait end the job themselves.
#[test]
fn ranks_that_wait_in_vain_end_the_job() {
    let Some(job) = Job::new("ranks_that_wait_in_vain_end_the_job") else { return };
    let mut command = Command::new("mpirun");
    command.args(["--allow-run-as-root", "--oversubscribe", "-n", "3"]).arg(&job.binary);
    command.args(LONG.split_whitespace()).args(["--comm-timeout", "5", "--out", "run"]);
    command.current_dir(job.folder.path()).env("RAYON_NUM_THREADS", "1");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while wgrad::run::checkpoint::latest(&job.run()).ok().flatten().is_none() {
        std::thread::sleep(Duration::from_millis(20));
    }
    job.signal("STOP", 2);
    let (code, said) = job.ends_soon(child);
    assert_eq!(code, Some(7), "{said}");
    assert!(said.contains("no answer from the other replicas within 5 s"), "{said}");
}

#[test]
fn a_panicking_rank_is_named_and_restarted_to_the_same_bits() {
    let Some(job) = Job::new("a_panicking_rank_is_named_and_restarted_to_the_same_bits") else { return };
    let begun = Instant::now();
    let output = job.launch(&format!("-n 3 -- {LONG} --out run --panic-at 1:100"));
    let said = stderr(&output);
    assert!(begun.elapsed() < SOON, "{said}");
    assert_eq!(output.status.code(), Some(101), "{said}");
    assert!(said.contains("rank 1 failed: panicked: injected by --panic-at"), "{said}");
    job.assert_nothing_left();
    // It panics again where it did, so that only a start after that step goes through.
    let output = job.launch(&format!("-n 3 --restarts 1 -- {LONG} --out run --resume --panic-at 1:100"));
    assert_eq!(output.status.code(), Some(101), "{}", stderr(&output));
    assert!(stderr(&output).contains("Restart 1 of 1, from the last checkpoint"), "{}", stderr(&output));
    job.goes_on_to_the_same_bits();
}

#[test]
fn a_full_disk_is_the_error_of_its_rank_and_the_run_goes_on_elsewhere() {
    let test = "a_full_disk_is_the_error_of_its_rank_and_the_run_goes_on_elsewhere";
    let Some(job) = Job::new(test) else { return };
    let disk = job.folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    // Room for two checkpoints of 1.3 MB, not for the third, which is written before one is removed.
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=3500k", "tmpfs"]).arg(&disk).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        return skip(test, "no tmpfs can be mounted");
    }
    let options = "--set train.keep_checkpoints=2 --set train.checkpoint_every_epochs=1";
    let begun = Instant::now();
    let output = job.launch(&format!("-n 3 -- {LONG} {options} --out disk/run"));
    let said = stderr(&output);
    // To a disk with room.
    let copied = Command::new("cp").arg("-a").arg(disk.join("run")).arg(job.run()).status();
    assert!(copied.is_ok_and(|status| status.success()));
    let unmounted = Command::new("umount").arg(&disk).status();
    assert!(unmounted.is_ok_and(|status| status.success()));
    assert!(begun.elapsed() < SOON, "{said}");
    assert_eq!(output.status.code(), Some(6), "{said}");
    assert!(said.contains("rank 0 failed") && said.contains("no space left"), "{said}");
    job.assert_nothing_left();
    job.goes_on_to_the_same_bits();
}

#[test]
fn a_job_past_its_deadline_is_ended() {
    let Some(job) = Job::new("a_job_past_its_deadline_is_ended") else { return };
    let begun = Instant::now();
    let output =
        job.launch("-n 2 --deadline 4 -- train digits --device cpu --set train.epochs=100000 --out run");
    assert!(begun.elapsed() < SOON);
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
    assert!(stderr(&output).contains("did not finish within 4 s"), "{}", stderr(&output));
    job.assert_nothing_left();
}

#[test]
fn ctrl_c_saves_and_ends_all_ranks() {
    let Some(job) = Job::new("ctrl_c_saves_and_ends_all_ranks") else { return };
    let child = job.begin("");
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let (code, said) = job.ends_soon(child);
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("interrupted"), "{said}");
    job.goes_on_to_the_same_bits();
}

/// A rank that finds itself alone would train a model of its own, and all of them into one directory.
#[test]
fn a_rank_that_is_alone_refuses() {
    let Some(job) = Job::new("a_rank_that_is_alone_refuses") else { return };
    let output = job.command("train digits --device cpu --out run").env("WGRAD_RANKS", "3").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("one of 3 processes"), "{}", stderr(&output));
    // A build without MPI under mpirun is as many trainings beside each other.
    let output = Command::new(wgrad_tests::binary())
        .args(["train", "digits", "--device", "cpu", "--out", "run"])
        .current_dir(job.folder.path())
        .env("OMPI_COMM_WORLD_SIZE", "2")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("--features mpi"), "{}", stderr(&output));
    assert!(!job.run().exists());
}

#[test]
fn mistakes_are_said_before_anything_starts() {
    let Some(job) = Job::new("mistakes_are_said_before_anything_starts") else { return };
    for (arguments, words) in [
        ("-n 2 -- train digit", "did you mean"),
        ("-n 2 -- train digits --colour red", "--colour"),
        ("-n 2 -- train digits --resume", "--out"),
        ("-n 0 -- train digits", "1 to 256"),
        ("-n 2", "train"),
    ] {
        let output = job.launch(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{arguments}: {}", stderr(&output));
    }
    let output = job.launch("-n 2 --mpirun no-such-program -- train digits");
    assert!(stderr(&output).contains("no-such-program"), "{}", stderr(&output));
    assert!(!output.status.success());
}
