//! `wgrad launch`: trains on several MPI ranks, monitors the ranks and restarts them after failures.

mod diagnosis;
mod job;
mod lines;
mod monitor;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use wgrad_run::{Run, RunDir};
use wgrad_stdx::ErrorKind;

use crate::cli::{Cli, Command, Launch};
use crate::commands::common::{INTERRUPTED, RUNS, load_recipe};
use crate::failure::Usage;
use crate::terminal::say;

use job::Job;
use monitor::{Outcome, monitor};

/// Exit code of a job with a rank that was lost or did not answer.
const LOST_RANK: u8 = ErrorKind::Replica.exit_code();

/// Starts the ranks, and restarts them after failures at most `--restarts` times. Returns the exit code of the last
/// failure if the job failed, otherwise the exit code of success.
pub fn run(args: &Launch) -> Result<ExitCode> {
    if !cfg!(feature = "mpi") {
        let message = "this wgrad is built without MPI: install an MPI library and libclang (Debian: libopenmpi-dev \
            openmpi-bin libclang-dev), then build with --features mpi. On one machine, wgrad train … --replicas N needs \
            no MPI";
        return Err(Usage(message.into()).into());
    }
    let (train, out) = training_arguments(args)?;
    let mut resume = false;
    for attempt in 0..=args.restarts {
        let job = Job::new(args, &train, &out, resume)?;
        if attempt == 0 {
            say(&format!("Launching {} ranks; their logs: {}.", args.ranks, job.logs().display()));
        }
        let code = match monitor(&job, args)? {
            Outcome::Finished => return Ok(ExitCode::SUCCESS),
            Outcome::Interrupted => return Ok(ExitCode::from(INTERRUPTED)),
            Outcome::Failed { code, message } => {
                crate::terminal::error(&message);
                code
            }
        };
        if attempt == args.restarts {
            return Ok(ExitCode::from(code));
        }
        resume = Run::open(&out).is_ok();
        let from = if resume { "from the last checkpoint" } else { "from the start" };
        say(&format!("Restart {} of {}, {from}.", attempt + 1, args.restarts));
    }
    Ok(ExitCode::from(LOST_RANK))
}

/// Returns the validated arguments of `wgrad train`, and the run directory.
fn training_arguments(args: &Launch) -> Result<(Vec<String>, PathBuf)> {
    let mut train_args = args.command.clone();
    if train_args.first().is_some_and(|arg| arg == "train") {
        train_args.remove(0);
    }
    let all = ["wgrad", "train"].into_iter().chain(train_args.iter().map(String::as_str));
    let parsed = Cli::try_parse_from(all).unwrap_or_else(|error| error.exit());
    let Command::Train(train) = parsed.command else {
        return Err(Usage("launch expects a train command: wgrad launch -n 2 -- train digits".into()).into());
    };
    let recipe = load_recipe(&train.recipe)?;
    let out = match &train.out {
        Some(out) => out.clone(),
        None if train.resume => {
            return Err(
                Usage("--resume needs --out DIR, so that all ranks resume the same run".into()).into()
            );
        }
        None => RunDir::path_for(Path::new(RUNS), &recipe.name),
    };
    if train.out.is_none() {
        train_args.extend(["--out".into(), out.display().to_string()]);
    }
    Ok((train_args, out))
}
