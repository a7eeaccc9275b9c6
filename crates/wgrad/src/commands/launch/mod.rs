//! `wgrad launch`: the same training as ranks on one or many machines, watched until it is over.

mod job;
mod lines;
mod watch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use wgrad_comm::LOST;
use wgrad_run::{Run, RunDir};

use crate::cli::{Cli, Command, Launch};
use crate::commands::common::{RUNS, load_recipe};
use crate::failure::Usage;
use crate::terminal::say;

use job::Job;
use watch::{Ended, watch};

/// Starts the ranks, and again where they fail and that is wanted; gives the exit code of what failed.
pub fn run(args: &Launch) -> Result<ExitCode> {
    if !cfg!(feature = "mpi") {
        let message = "this wgrad is built without MPI: install an MPI library and libclang (Debian: libopenmpi-dev \
            openmpi-bin libclang-dev), then build with --features mpi. One machine needs none of that: wgrad train … \
            --replicas N";
        return Err(Usage(message.into()).into());
    }
    let (train, out) = training_arguments(args)?;
    let mut resume = false;
    for attempt in 0..=args.restarts {
        let job = Job::new(args, &train, &out, resume)?;
        if attempt == 0 {
            say(&format!("Launching {} ranks; their logs: {}.", args.ranks, job.logs().display()));
        }
        let code = match watch(&job, args)? {
            Ended::Well => return Ok(ExitCode::SUCCESS),
            Ended::Interrupted => return Ok(ExitCode::from(130)),
            Ended::Failed { code, why } => {
                crate::terminal::error(&why);
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
    Ok(ExitCode::from(LOST))
}

/// The arguments of the training, checked before anything is started, and its run directory.
fn training_arguments(args: &Launch) -> Result<(Vec<String>, PathBuf)> {
    let mut words = args.command.clone();
    if words.first().is_some_and(|word| word == "train") {
        words.remove(0);
    }
    let all = ["wgrad", "train"].into_iter().chain(words.iter().map(String::as_str));
    let parsed = Cli::try_parse_from(all).unwrap_or_else(|error| error.exit());
    let Command::Train(train) = parsed.command else {
        return Err(Usage("what is launched is a training: wgrad launch -n 2 -- train digits".into()).into());
    };
    let recipe = load_recipe(&train.recipe)?;
    let out = match &train.out {
        Some(out) => out.clone(),
        None if train.resume => {
            return Err(Usage("--resume needs --out DIR, so that all ranks mean the same run".into()).into());
        }
        None => RunDir::path_for(Path::new(RUNS), &recipe.name),
    };
    if train.out.is_none() {
        words.extend(["--out".into(), out.display().to_string()]);
    }
    Ok((words, out))
}
