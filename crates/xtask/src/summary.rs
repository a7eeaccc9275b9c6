//! The last words of a test run: what the runner counted and which tests were skipped, by name. Pure text.

use std::collections::BTreeSet;

/// The lines of nextest's output from its `Summary` on; empty where it did not get that far.
pub fn of_nextest(lines: &[String]) -> Vec<String> {
    let plain: Vec<String> = lines.iter().map(|line| without_colour(line)).collect();
    let start = plain.iter().rposition(|line| line.trim_start().starts_with("Summary ["));
    start.map(|start| plain[start..].to_vec()).unwrap_or_default()
}

/// One line of the sums of all `test result:` lines that libtest wrote; empty where it wrote none.
pub fn of_libtest(title: &str, lines: &[String]) -> Vec<String> {
    let plain = lines.iter().map(|line| without_colour(line));
    let results: Vec<String> = plain.filter(|line| line.starts_with("test result:")).collect();
    if results.is_empty() {
        return Vec::new();
    }
    let sum = |what| results.iter().filter_map(|line| count_before(line, what)).sum::<usize>();
    let (passed, failed, ignored) = (sum("passed"), sum("failed"), sum("ignored"));
    vec![format!("{title}: {passed} passed, {failed} failed, {ignored} ignored")]
}

/// The tests that skipped themselves, from the lines `skipped: TEST_NAME: reason` of their log. A test that says
/// the same twice (once a device, in several processes) counts once.
pub fn of_skips(log: &str) -> Vec<String> {
    let skips: BTreeSet<&str> = log.lines().map(|line| line.trim().trim_start_matches("skipped: ")).collect();
    let skips: Vec<&str> = skips.into_iter().filter(|skip| !skip.is_empty()).collect();
    let mut lines = vec![format!("skipped themselves: {}", skips.len())];
    lines.extend(skips.iter().map(|skip| format!("  {skip}")));
    lines
}

/// `3` of `ok. 3 passed; 0 failed`.
fn count_before(line: &str, what: &str) -> Option<usize> {
    let words: Vec<&str> = line.split([' ', ';']).filter(|word| !word.is_empty()).collect();
    let at = words.iter().position(|&word| word == what)?;
    words.get(at.checked_sub(1)?)?.parse().ok()
}

/// The line without its escape sequences `ESC [ … letter`.
fn without_colour(line: &str) -> String {
    let mut plain = String::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_string).collect()
    }

    #[test]
    fn nextest_from_its_summary_on() {
        let heard = lines(
            "        PASS [   0.004s] (1/2) a b\n\
             \u{1b}[31;1m     Summary\u{1b}[0m [   0.008s] 2 tests run: 1 passed, 1 \u{1b}[31mfailed\u{1b}[0m\n\
             \x20       FAIL [   0.004s] (2/2) a c",
        );
        assert_eq!(
            of_nextest(&heard),
            [
                "     Summary [   0.008s] 2 tests run: 1 passed, 1 failed",
                "        FAIL [   0.004s] (2/2) a c"
            ]
        );
        assert!(of_nextest(&lines("error: could not compile")).is_empty());
    }

    #[test]
    fn libtest_results_are_summed() {
        let heard = lines(
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s\n\
             test x ... ok\n\
             test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
        );
        assert_eq!(of_libtest("doc tests", &heard), ["doc tests: 13 passed, 2 failed, 1 ignored"]);
        assert!(of_libtest("doc tests", &lines("error: no")).is_empty());
    }

    #[test]
    fn skips_are_counted_once_and_sorted() {
        let log = "skipped: b: no f16\nskipped: a: no adapter\n\nskipped: b: no f16\n";
        assert_eq!(of_skips(log), ["skipped themselves: 2", "  a: no adapter", "  b: no f16"]);
        assert_eq!(of_skips(""), ["skipped themselves: 0"]);
    }
}
