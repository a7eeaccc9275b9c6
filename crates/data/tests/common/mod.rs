//! What the integration tests share: the mirror folder, and how a test says that it did not run.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use wgrad_data::FetchOptions;

/// The mirror of this project, or a line in the file named by `WGRAD_SKIP_LOG` that says which test went without.
pub fn mirror(test: &str) -> Option<PathBuf> {
    let mirror = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
    if mirror.is_dir() {
        return Some(mirror);
    }
    skip(test, "no ../shared/data");
    None
}

/// Says that a test did not run and why.
pub fn skip(test: &str, reason: &str) {
    let line = format!("skipped: {test}: {reason}");
    eprintln!("{line}");
    if let Some(log) = std::env::var_os("WGRAD_SKIP_LOG") {
        let mut log = std::fs::OpenOptions::new().append(true).create(true).open(log).unwrap();
        writeln!(log, "{line}").unwrap();
    }
}

/// Without proxy and pauses.
pub fn options() -> FetchOptions {
    FetchOptions { pause: Duration::ZERO, use_proxy: false, ..FetchOptions::default() }
}
