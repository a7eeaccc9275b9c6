//! The commands of the binary, one file or folder per command. This file only dispatches.

mod bench;
mod ceiling;
mod cluster;
pub mod common;
mod data;
mod devices;
mod eval;
mod export;
mod heartbeat;
mod launch;
mod network;
mod predict;
mod profile;
mod recipe;
mod replicas;
mod scale;
mod study;
mod summary;
mod train;
mod tune;
mod verify;

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::{Cli, Command};

/// Runs a command and returns the exit code of the process.
pub fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Command::Train(args) => train::run(&args),
        Command::Launch(args) => launch::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Predict(args) => predict::run(&args),
        Command::Summary(args) => summary::run(&args),
        Command::Devices(args) => devices::run(&args),
        Command::Tune(args) => tune::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Study(args) => study::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Cluster(args) => cluster::run(&args),
        Command::Scale(args) => scale::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Data(args) => data::run(&args),
        Command::RecipeFile(args) => recipe::run(&args),
    }
}
