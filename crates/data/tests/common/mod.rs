//! Helpers for integration tests: the mirror folder and reports of skipped tests.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use wgrad_data::FetchOptions;

/// Returns the mirror folder of this project. If the folder does not exist, reports `test` as skipped and returns
/// `None`.
pub fn mirror(test: &str) -> Option<PathBuf> {
    let mirror = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
    if mirror.is_dir() {
        return Some(mirror);
    }
    skip(test, "the folder ../shared/data does not exist");
    None
}

/// Reports a skipped test on stderr, and in the file named by `WGRAD_SKIP_LOG`.
pub fn skip(test: &str, reason: &str) {
    let line = format!("skipped: {test}: {reason}");
    eprintln!("{line}");
    if let Some(log) = std::env::var_os("WGRAD_SKIP_LOG") {
        let mut log = std::fs::OpenOptions::new().append(true).create(true).open(log).unwrap();
        writeln!(log, "{line}").unwrap();
    }
}

/// Fetch options without a proxy and without pauses.
pub fn options() -> FetchOptions {
    FetchOptions { pause: Duration::ZERO, use_proxy: false, ..FetchOptions::default() }
}
