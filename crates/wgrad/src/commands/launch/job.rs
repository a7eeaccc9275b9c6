//! Command line that starts the ranks through mpirun.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::cli::{AllReduce, Launch};
use crate::commands::replicas::{LAUNCHED, RANKS};

/// Job of several ranks that has not been started.
pub struct Job {
    program: PathBuf,
    arguments: Vec<String>,
    out: PathBuf,
}

impl Job {
    /// Creates a job that runs `wgrad train` with the arguments `train`.
    pub fn new(args: &Launch, train: &[String], out: &Path, resume: bool) -> Result<Self> {
        let own = std::env::current_exe().context("the path of this program is unknown")?;
        let mut arguments = flags(args, is_root());
        arguments.extend([own.display().to_string(), "train".into()]);
        arguments.extend(train.iter().cloned());
        if resume && !train.iter().any(|arg| arg == "--resume") {
            arguments.push("--resume".into());
        }
        Ok(Self { program: args.mpirun.clone(), arguments, out: out.to_owned() })
    }

    /// Run directory.
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// Folder of the ranks' log files.
    pub fn logs(&self) -> PathBuf {
        let mut name = self.out.file_name().unwrap_or_default().to_owned();
        name.push("-ranks");
        self.out.with_file_name(name)
    }

    /// Creates the folder of the logs and returns the command.
    pub fn command(&self, ranks: usize) -> Result<Command> {
        let logs = self.logs();
        fs::create_dir_all(&logs).with_context(|| format!("cannot create the folder {}", logs.display()))?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env(RANKS, ranks.to_string()).env(LAUNCHED, "1");
        // Ctrl-C on a terminal reaches the whole process group. mpirun must not receive the signal, because it would
        // end its ranks before they save a checkpoint.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        #[cfg(target_os = "linux")]
        end_with_this_process(&mut command);
        Ok(command)
    }
}

/// Makes the kernel send SIGTERM to the command when this process ends for any reason. mpirun then ends its ranks.
#[cfg(target_os = "linux")]
fn end_with_this_process(command: &mut Command) {
    use std::ffi::c_int;
    use std::os::unix::process::CommandExt;

    const PR_SET_PDEATHSIG: c_int = 1;
    const SIGTERM: c_int = 15;
    unsafe extern "C" {
        fn prctl(option: c_int, ...) -> c_int;
    }
    let set = || {
        // SAFETY: `prctl` with these arguments takes no pointers and is async-signal-safe.
        match unsafe { prctl(PR_SET_PDEATHSIG, SIGTERM) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec the closure makes one system call and does not allocate.
    unsafe { command.pre_exec(set) };
}

/// Whether this process runs as root, which Open MPI refuses without `--allow-run-as-root`.
fn is_root() -> bool {
    std::env::var("USER").is_ok_and(|user| user == "root")
        || fs::metadata("/proc/self").is_ok_and(|own| owner(&own) == 0)
}

#[cfg(unix)]
fn owner(metadata: &fs::Metadata) -> u32 {
    std::os::unix::fs::MetadataExt::uid(metadata)
}

#[cfg(not(unix))]
fn owner(_: &fs::Metadata) -> u32 {
    u32::MAX
}

/// Returns the arguments of Open MPI's mpirun.
fn flags(args: &Launch, root: bool) -> Vec<String> {
    let mut flags: Vec<String> = vec!["-n".into(), args.ranks.to_string(), "--tag-output".into()];
    let mut mca = |key: &str, value: &str| flags.extend(["--mca".into(), key.into(), value.into()]);
    // Detect a lost connection within seconds; the default takes hours.
    mca("oob_tcp_keepalive_time", "3");
    mca("oob_tcp_keepalive_intvl", "2");
    mca("oob_tcp_keepalive_probes", "3");
    // The order of sums depends on the algorithm, and a resumed run needs the same order.
    if let Some(number) = args.all_reduce.number() {
        mca("coll_tuned_use_dynamic_rules", "1");
        mca("coll_tuned_allreduce_algorithm", number);
    }
    match &args.hosts {
        Some(hosts) => flags.extend(["--hostfile".into(), hosts.display().to_string()]),
        None => {
            // Ranks that share cores must yield while they wait.
            flags.extend(["--oversubscribe".into(), "--bind-to".into(), "none".into()]);
            flags.extend(["--mca".into(), "mpi_yield_when_idle".into(), "1".into()]);
        }
    }
    if root {
        flags.push("--allow-run-as-root".into());
    }
    let kept = |(name, _): &(String, String)| {
        [RANKS, LAUNCHED, "RUST_LOG", "RAYON_NUM_THREADS", "NO_COLOR", "VK_ICD_FILENAMES"]
            .contains(&name.as_str())
            || name.starts_with("WGRAD_")
            || name.starts_with("WGPU_")
    };
    let mut names: Vec<String> = std::env::vars().filter(kept).map(|(name, _)| name).collect();
    names.extend([RANKS.to_owned(), LAUNCHED.to_owned()]);
    names.sort();
    names.dedup();
    flags.extend(names.into_iter().flat_map(|name| ["-x".to_owned(), name]));
    flags.extend(args.mpi_args.iter().flat_map(|text| text.split_whitespace().map(str::to_owned)));
    flags
}

impl AllReduce {
    /// Returns Open MPI's number of the algorithm, or `None` if Open MPI chooses the algorithm.
    fn number(self) -> Option<&'static str> {
        match self {
            AllReduce::Auto => None,
            AllReduce::RecursiveDoubling => Some("3"),
            AllReduce::Ring => Some("4"),
            AllReduce::Rabenseifner => Some("6"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command as Subcommand};
    use clap::Parser;

    fn parsed(text: &str) -> Launch {
        match Cli::try_parse_from(text.split(' ')).unwrap().command {
            Subcommand::Launch(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_pin_the_all_reduce_and_enable_keepalive() {
        let args = parsed("wgrad launch -n 3 -- train digits");
        let flags = flags(&args, true).join(" ");
        for part in [
            "-n 3",
            "--mca oob_tcp_keepalive_time 3",
            "--mca coll_tuned_allreduce_algorithm 4",
            "--oversubscribe",
            "-x WGRAD_RANKS",
            "--allow-run-as-root",
        ] {
            assert!(flags.contains(part), "{part} is missing in {flags}");
        }
    }

    #[test]
    fn hostfile_and_mpi_arguments_are_passed_to_mpirun() {
        let args = parsed(
            "wgrad launch -n 2 --hosts h.txt --all-reduce auto --mpi-arg=--display-map train digits --json",
        );
        assert_eq!(args.command, ["train", "digits", "--json"]);
        let flags = flags(&args, false).join(" ");
        assert!(flags.contains("--hostfile h.txt") && flags.ends_with("--display-map"), "{flags}");
        for absent in ["--oversubscribe", "coll_tuned", "--allow-run-as-root"] {
            assert!(!flags.contains(absent), "{absent} in {flags}");
        }
    }
}
