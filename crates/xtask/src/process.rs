//! Runs child processes with inherited output, captured output, or both.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

/// Largest length of a command line in messages, in characters.
const MAX_SHOWN: usize = 120;

/// Whether an environment variable is 1.
pub fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| value == "1")
}

/// Runs the command with the stdout and stderr of xtask.
pub fn run(command: &mut Command) -> Result<()> {
    announce(command);
    let status = command.stdin(Stdio::null()).status().with_context(|| cannot_start(command))?;
    check(command, status, "")
}

/// Runs the command without showing its output, and returns its stdout.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| cannot_start(command))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    check(command, output.status, if stderr.trim().is_empty() { &stdout } else { &stderr })?;
    Ok(stdout)
}

/// Runs the command with the stderr of xtask, and returns its stdout.
pub fn stdout(command: &mut Command) -> Result<String> {
    output(command.stderr(Stdio::inherit()))
}

/// Exit status and output of a command. The lines of stdout and stderr are in order of arrival.
pub struct Captured {
    pub status: ExitStatus,
    pub lines: Vec<String>,
}

/// Runs the command, prints its output line by line and returns status and output.
pub fn run_and_capture(command: &mut Command) -> Result<Captured> {
    announce(command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| cannot_start(command))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let lines = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| stdout.map(|pipe| copy_lines(pipe, std::io::stdout(), &lines)));
        scope.spawn(|| stderr.map(|pipe| copy_lines(pipe, std::io::stderr(), &lines)));
    });
    let status = child.wait().with_context(|| format!("cannot wait for `{}`", shown(command)))?;
    Ok(Captured { status, lines: lines.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) })
}

fn copy_lines(pipe: impl Read, mut to: impl Write, lines: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(pipe);
    let mut bytes = Vec::new();
    // Read bytes, not strings: an error on a line that is not UTF-8 would end the loop and block the child.
    while reader.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
        // The output of xtask may be a closed pipe. Ignore the error, because the exit status of the child is still
        // needed.
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
    let tail = last_lines(output, 8);
    let separator = if tail.is_empty() { "" } else { "\n" };
    bail!("`{}`: {status}{separator}{tail}", shown(command))
}

fn announce(command: &Command) {
    eprintln!("$ {}", shown(command));
}

fn cannot_start(command: &Command) -> String {
    format!("cannot start `{}`", shown(command))
}

/// Returns the command line without the folder of the program, truncated to [`MAX_SHOWN`] characters.
fn shown(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let args = command.get_args().map(|arg| arg.to_string_lossy());
    let whole = std::iter::once(program.to_string_lossy()).chain(args).collect::<Vec<_>>().join(" ");
    match whole.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &whole[..end]),
        None => whole,
    }
}

/// Returns the last `count` lines that are not blank.
fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_lines_skip_blank_ones() {
        assert_eq!(last_lines("a\n\nb\n \nc\n", 2), "b\nc");
        assert_eq!(last_lines("a", 8), "a");
        assert_eq!(last_lines("", 8), "");
    }

    #[test]
    fn a_shown_command_is_short_and_has_no_folder() {
        let mut command = Command::new("/some/where/cargo");
        command.args(["test", "--doc"]);
        assert_eq!(shown(&command), "cargo test --doc");
        command.arg("é".repeat(MAX_SHOWN));
        assert_eq!(shown(&command).chars().count(), MAX_SHOWN + 1);
    }
}
