//! Terminal output. Messages go to stderr, and only results go to stdout.

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

pub use wgrad_stdx::format::{bytes, count};

/// Returns the time since the first call of this function, which is the first statement of `main`.
pub fn since_start() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// Whether stderr is a terminal and can show progress bars.
pub fn is_interactive() -> bool {
    std::io::stderr().is_terminal()
}

/// Whether stderr shows colours.
pub fn is_coloured() -> bool {
    is_interactive() && std::env::var_os("NO_COLOR").is_none()
}

/// Returns the command that started this program, for use in suggested commands. Cargo sets the environment variable
/// `CARGO`. If it is set, the command is `cargo run`, otherwise `wgrad`.
pub fn invocation() -> String {
    match std::env::var_os("CARGO") {
        Some(_) if cfg!(debug_assertions) => "cargo run --".into(),
        Some(_) => "cargo run --release --".into(),
        None => "wgrad".into(),
    }
}

/// Returns the command line of this process, for pages and JSON files.
pub fn command_line() -> String {
    std::iter::once("wgrad".to_owned()).chain(std::env::args().skip(1)).collect::<Vec<_>>().join(" ")
}

/// Prints a line to stderr.
pub fn say(line: &str) {
    // Errors are ignored because a closed pipe must not stop training. A single write keeps lines of several processes
    // apart.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Replaces the current line of the terminal; an empty string clears the line.
pub fn status(line: &str) {
    let mut stderr = std::io::stderr();
    let _ = write!(stderr, "\r\x1b[2K{line}");
    let _ = stderr.flush();
}

/// Prints an error message to stderr.
pub fn error(message: &str) {
    match is_coloured() {
        true => say(&format!("\x1b[1;31merror:\x1b[0m {message}")),
        false => say(&format!("error: {message}")),
    }
}

/// Prints a result to stdout.
pub fn result(line: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{line}")
}

/// Formats rows as aligned columns. The first column is left-aligned; the others are right-aligned if `right` is true.
pub fn table(rows: &[Vec<String>], right: bool) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| {
        rows.iter().filter_map(|row| row.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(c, cell)| match right && c > 0 {
            true => format!("{cell:>width$}", width = widths[c]),
            false => format!("{cell:<width$}", width = widths[c]),
        });
        format!("  {}", cells.collect::<Vec<_>>().join("  ")).trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["a".into(), "10".into()], vec!["long".into(), "7".into()]];
        assert_eq!(table(&rows, true), "  a     10\n  long   7");
    }
}
