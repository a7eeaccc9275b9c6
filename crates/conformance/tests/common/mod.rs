//! Test helpers that report all failures and log skipped tests.

#![allow(dead_code)]

use std::io::Write;

use wgrad_conformance::Report;

/// Panics with a list of all failures if the report contains any.
pub fn expect_clean(report: &Report) {
    for row in report.summaries() {
        let (worst, check) = row.worst;
        eprintln!(
            "{}: {} checks of {} subjects, worst {worst:.3} in {check}",
            row.device, row.checks, row.subjects
        );
    }
    for (outcome, reason) in &report.expected {
        eprintln!("expected failure: {outcome} ({reason})");
    }
    report.skipped.iter().for_each(|what| skip(what));
    let failures: Vec<String> = report.failures().iter().map(ToString::to_string).collect();
    assert!(
        failures.is_empty(),
        "{} of {} checks failed:\n{}",
        failures.len(),
        report.outcomes.len(),
        failures.join("\n")
    );
    assert!(!report.outcomes.is_empty(), "no checks ran");
}

/// Reports a skipped test on stderr and in the skip log, which `cargo xtask test` reads. `what` names the test and the
/// reason.
pub fn skip(what: &str) {
    eprintln!("skipped: {what}");
    if let Some(path) = std::env::var_os("WGRAD_SKIP_LOG") {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(path);
        log.and_then(|mut log| writeln!(log, "skipped: {what}")).expect("the skip log should be writable");
    }
}
