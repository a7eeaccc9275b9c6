//! What the tests share: failing with the whole list, and counting what is skipped.

#![allow(dead_code)]

use std::io::Write;

use wgrad_conformance::Report;

/// Fails with every failure there is, not only the first.
pub fn expect_clean(report: &Report) {
    for row in report.rows() {
        let (worst, whose) = row.worst;
        eprintln!(
            "{}: {} checks of {} subjects, worst {worst:.3} by {whose}",
            row.device, row.checks, row.subjects
        );
    }
    for (outcome, reason) in &report.expected {
        eprintln!("expected: {outcome} ({reason})");
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
    assert!(!report.outcomes.is_empty(), "nothing was checked");
}

/// Says that something was skipped where people and `cargo xtask test` read it.
pub fn skip(what: &str) {
    eprintln!("skipped: {what}");
    if let Some(path) = std::env::var_os("WGRAD_SKIP_LOG") {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(path);
        log.and_then(|mut log| writeln!(log, "skipped: {what}"))
            .expect("the log of skipped tests can be written");
    }
}
