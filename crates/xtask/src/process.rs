//! Child processes in the three ways the tasks need them: seen, silent, and seen while also kept.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

/// So many characters of a command stand in messages.
const SHOWN: usize = 120;

/// Runs the command with our stdout and stderr; anything but success is an error.
pub fn run(command: &mut Command) -> Result<()> {
    announce(command);
    let status = command.stdin(Stdio::null()).status().with_context(|| cannot_start(command))?;
    check(command, status, "")
}

/// Runs the command silently and returns its stdout; an error carries the last lines of its output.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| cannot_start(command))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    check(command, output.status, if stderr.trim().is_empty() { &stdout } else { &stderr })?;
    Ok(stdout)
}

/// What the command wrote, in the order in which the lines came.
pub struct Heard {
    pub status: ExitStatus,
    pub lines: Vec<String>,
}

/// Runs the command with its output passed on line by line and kept as well.
pub fn run_and_hear(command: &mut Command) -> Result<Heard> {
    announce(command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| cannot_start(command))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let lines = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| stdout.map(|pipe| pass_on(pipe, std::io::stdout(), &lines)));
        scope.spawn(|| stderr.map(|pipe| pass_on(pipe, std::io::stderr(), &lines)));
    });
    let status = child.wait().with_context(|| format!("lost {}", shown(command)))?;
    Ok(Heard { status, lines: lines.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) })
}

/// Is there a program of this name on the path?
pub fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn pass_on(pipe: impl Read, mut to: impl Write, lines: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(pipe);
    let mut bytes = Vec::new();
    // By bytes: a line that is not UTF-8 must not end the reading, which would block the child.
    while reader.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
        // Nobody may be reading us (a closed pipe); the child's status still counts.
        let _ = to.write_all(&bytes).and_then(|()| to.flush());
        let line = String::from_utf8_lossy(&bytes).trim_end().to_string();
        lines.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(line);
        bytes.clear();
    }
}

fn check(command: &Command, status: ExitStatus, output: &str) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    let tail = tail(output, 8);
    let separator = if tail.is_empty() { "" } else { "\n" };
    bail!("`{}`: {status}{separator}{tail}", shown(command))
}

fn announce(command: &Command) {
    eprintln!("$ {}", shown(command));
}

fn cannot_start(command: &Command) -> String {
    format!("cannot start `{}`", shown(command))
}

fn shown(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let args = command.get_args().map(|arg| arg.to_string_lossy());
    let whole = std::iter::once(program.to_string_lossy()).chain(args).collect::<Vec<_>>().join(" ");
    match whole.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &whole[..end]),
        None => whole,
    }
}

fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_keeps_the_last_lines_that_say_something() {
        assert_eq!(tail("a\n\nb\n \nc\n", 2), "b\nc");
        assert_eq!(tail("a", 8), "a");
        assert_eq!(tail("", 8), "");
    }

    #[test]
    fn shown_is_what_one_would_type() {
        let mut command = Command::new("/some/where/cargo");
        command.args(["test", "--doc"]);
        assert_eq!(shown(&command), "cargo test --doc");
        command.arg("é".repeat(SHOWN));
        assert_eq!(shown(&command).chars().count(), SHOWN + 1);
    }
}
