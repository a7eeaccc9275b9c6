//! Entry point of the `wgrad` binary: parses arguments, runs a command and returns its exit code. The commands are in
//! `commands`.

mod cli;
mod commands;
mod failure;
mod terminal;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    terminal::since_start();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match commands::run(cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => failure::report(&error),
    }
}
