//! What people read: everything here goes to stderr, so that stdout belongs to results.

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

pub use wgrad_stdx::format::{bytes, count};

/// How long the program has been running; counts from the first call, which `main` makes.
pub fn since_start() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// True when stderr shows moving bars.
pub fn is_interactive() -> bool {
    std::io::stderr().is_terminal()
}

/// True when stderr shows colours.
pub fn is_coloured() -> bool {
    is_interactive() && std::env::var_os("NO_COLOR").is_none()
}

/// How this program was started, for commands that a reader may copy: Cargo tells the programs that it runs.
pub fn invocation() -> String {
    match std::env::var_os("CARGO") {
        Some(_) if cfg!(debug_assertions) => "cargo run --".into(),
        Some(_) => "cargo run --release --".into(),
        None => "wgrad".into(),
    }
}

/// A line for people.
pub fn say(line: &str) {
    // A reader that went away (a closed pipe) is no reason to stop training.
    // In one write, or lines of several processes on one terminal would be mixed.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Replaces the line that the cursor is on; an empty one clears it.
pub fn status(line: &str) {
    let mut stderr = std::io::stderr();
    let _ = write!(stderr, "\r\x1b[2K{line}");
    let _ = stderr.flush();
}

/// An error for people.
pub fn error(message: &str) {
    match is_coloured() {
        true => say(&format!("\x1b[1;31merror:\x1b[0m {message}")),
        false => say(&format!("error: {message}")),
    }
}

/// A result on stdout.
pub fn result(line: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{line}")
}

/// Rows of cells in columns; the first column left-aligned, the others right-aligned where `right`.
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
    fn columns_line_up() {
        let rows = [vec!["a".into(), "10".into()], vec!["long".into(), "7".into()]];
        assert_eq!(table(&rows, true), "  a     10\n  long   7");
    }
}
