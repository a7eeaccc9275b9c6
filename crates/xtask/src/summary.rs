//! Summary of a test run: passed and failed tests, and the names of skipped tests. All functions parse text only.

use std::collections::BTreeSet;

/// Returns the lines of nextest's output starting at `Summary`; empty if the output has no summary.
pub fn of_nextest(lines: &[String]) -> Vec<String> {
    let start = lines.iter().rposition(|line| line.trim_start().starts_with("Summary ["));
    start.map(|start| lines[start..].to_vec()).unwrap_or_default()
}

/// Sums the `test result:` lines of libtest. Returns one line, or nothing if the output has no results.
pub fn of_libtest(title: &str, lines: &[String]) -> Vec<String> {
    let results: Vec<&String> = lines.iter().filter(|line| line.starts_with("test result:")).collect();
    if results.is_empty() {
        return Vec::new();
    }
    let sum = |what| results.iter().filter_map(|line| count_before(line, what)).sum::<usize>();
    let (passed, failed, ignored) = (sum("passed"), sum("failed"), sum("ignored"));
    vec![format!("{title}: {passed} passed, {failed} failed, {ignored} ignored")]
}

/// Lists the skipped tests, from a log with lines `skipped: TEST_NAME: reason`. Duplicate lines, which tests log once
/// per device or process, are listed once.
pub fn of_skips(log: &str) -> Vec<String> {
    let skips: BTreeSet<&str> = log.lines().map(|line| line.trim().trim_start_matches("skipped: ")).collect();
    let skips: Vec<&str> = skips.into_iter().filter(|skip| !skip.is_empty()).collect();
    let mut lines = vec![format!("skipped: {}", skips.len())];
    lines.extend(skips.iter().map(|skip| format!("  {skip}")));
    lines
}

/// Returns the number before a word, e.g. 3 for `passed` in `ok. 3 passed; 0 failed`.
fn count_before(line: &str, what: &str) -> Option<usize> {
    let words: Vec<&str> = line.split([' ', ';']).filter(|word| !word.is_empty()).collect();
    let position = words.iter().position(|&word| word == what)?;
    words.get(position.checked_sub(1)?)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_string).collect()
    }

    #[test]
    fn of_nextest_returns_the_summary_only() {
        let output = lines(
            "        PASS [   0.004s] (1/2) a b\n\
             \x20    Summary [   0.008s] 2 tests run: 1 passed, 1 failed\n\
             \x20       FAIL [   0.004s] (2/2) a c",
        );
        assert_eq!(of_nextest(&output), output[1..]);
        assert!(of_nextest(&lines("error: could not compile")).is_empty());
    }

    #[test]
    fn libtest_results_are_summed() {
        let output = lines(
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s\n\
             test x ... ok\n\
             test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
        );
        assert_eq!(of_libtest("doc tests", &output), ["doc tests: 13 passed, 2 failed, 1 ignored"]);
        assert!(of_libtest("doc tests", &lines("error: no")).is_empty());
    }

    #[test]
    fn skips_are_counted_once_and_sorted() {
        let log = "skipped: b: no f16\nskipped: a: no adapter\n\nskipped: b: no f16\n";
        assert_eq!(of_skips(log), ["skipped: 2", "  a: no adapter", "  b: no f16"]);
        assert_eq!(of_skips(""), ["skipped: 0"]);
    }
}
