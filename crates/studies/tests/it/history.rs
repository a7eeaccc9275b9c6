//! Tests of the history of training compute with Epoch AI's published file, which is not part of the repository. For
//! the same selections of systems, the doubling times must agree with those published with the file.

use crate::page::well_formed;
use std::io::Write;
use std::path::PathBuf;
use wgrad_studies::scaling::history::{
    History, LocalMachine, Quantity, Selection, Trend, builtin_table, page, parse,
};
use wgrad_studies::scaling::{RESAMPLES, SEED};

/// Returns Epoch's file. If the data folder is missing, writes the name of the skipped test to the file named by the
/// environment variable `WGRAD_SKIP_LOG` and returns `None`.
fn epoch_file(test: &str) -> Option<Vec<u8>> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
    if folder.is_dir() {
        return Some(std::fs::read(folder.join("compute/epoch_notable_2025-02-24.csv")).unwrap());
    }
    let line = format!("skipped: {test}: no ../shared/data");
    eprintln!("{line}");
    if let Some(log) = std::env::var_os("WGRAD_SKIP_LOG") {
        let mut log = std::fs::OpenOptions::new().append(true).create(true).open(log).unwrap();
        writeln!(log, "{line}").unwrap();
    }
    None
}

#[test]
fn doubling_times_of_epochs_file_agree_with_the_published_ones() {
    let Some(text) = epoch_file("doubling_times_of_epochs_file_agree_with_the_published_ones") else {
        return;
    };
    let table = parse(&text, "epoch_notable_2025-02-24.csv").unwrap();
    assert_eq!(table.systems.iter().filter(|system| system.flops.is_some()).count(), 451);
    assert!(table.credit.contains("Epoch AI") && table.credit.contains("CC BY"), "{}", table.credit);
    let history = History::new(&table, RESAMPLES, SEED).unwrap();
    let find = |era: &str, selection: Selection| -> &Trend {
        let mut compute = history.trends_of(Quantity::Compute);
        compute.find(|trend| trend.spec.era.name == era && trend.spec.selection == selection).unwrap()
    };
    // From shared/data/README.md. Figures without an interval must agree to their last digit.
    let cases = [
        ("before 2012", Selection::All, 19.9, Some((16.5, 23.8))),
        ("2012 to mid-2018", Selection::Largest(3), 3.1, Some((2.8, 3.6))),
        ("2012 to mid-2018", Selection::Largest(10), 3.6, Some((3.1, 4.4))),
        ("2012 to mid-2018", Selection::All, 9.5, None),
        ("since 2010", Selection::Largest(10), 5.1, None),
        // Not published with the file; computed independently of this crate by least squares in another language.
        ("2012 to mid-2018", Selection::LargestOfAll(3), 3.5, Some((2.9, 4.2))),
        ("since mid-2018", Selection::LargestOfAll(3), 5.93, Some((5.2, 6.9))),
    ];
    for (era, selection, months, interval) in cases {
        let doubling = find(era, selection).doubling.unwrap();
        let context = format!("{era}, {selection}: {doubling}");
        assert!((doubling.months - months).abs() < 0.06, "{context}");
        assert!(doubling.contains(months), "{context}");
        if let Some((low, high)) = interval {
            assert!((doubling.low / low - 1.0).abs() < 0.05, "{context}");
            assert!((doubling.high.unwrap() / high - 1.0).abs() < 0.05, "{context}");
        }
    }
}

#[test]
fn entries_of_epochs_file_have_the_line_of_their_record() {
    let Some(text) = epoch_file("entries_of_epochs_file_have_the_line_of_their_record") else { return };
    let table = parse(&text, "epoch_notable_2025-02-24.csv").unwrap();
    let text = String::from_utf8(text).unwrap();
    let lines: Vec<&str> = text.split('\n').collect();
    let record_begins = |line: u64, name: &str| {
        let record = lines[line as usize - 1].trim_start_matches('"');
        // A name may contain quotes and line ends.
        let word = name.split(['"', '\n', '\r']).find(|word| !word.is_empty()).unwrap_or("");
        assert!(
            record.trim_start().trim_start_matches('"').starts_with(word),
            "{line}: {name:?} is not in {record:?}"
        );
    };
    for system in &table.systems {
        record_begins(system.line, &system.name);
    }
    for out in &table.left_out {
        record_begins(out.line, &out.name);
    }
    assert!(table.left_out.iter().any(|out| out.reason.contains("training compute: none given")));
}

#[test]
fn page_of_epochs_file_has_its_credit() {
    let Some(text) = epoch_file("page_of_epochs_file_has_its_credit") else { return };
    let history =
        History::new(&parse(&text, "epoch_notable_2025-02-24.csv").unwrap(), RESAMPLES, SEED).unwrap();
    let mut html = String::new();
    page::write(&mut html, &history, &LocalMachine::default()).unwrap();
    let text = well_formed(&format!("<main>{html}</main>"));
    assert!(text.contains("Epoch AI, Notable AI Models, CC BY"));
    for sentence in history.sentences() {
        assert!(text.contains(&sentence), "{sentence}");
    }
    assert!(!html.contains("http:") && !html.contains("https:"));
}

/// Returns the rows of the table of doubling times in docs/scale.md. The first column is the name of the trend. The
/// other columns are the doubling times from wgrad's table, from Epoch's file and from the book.
fn documented_trends() -> Vec<[&'static str; 4]> {
    let (_, rows) = DOCS.split_once("| months to double, 95% interval |").unwrap();
    let cells = |row: &'static str| -> Vec<&'static str> {
        row.trim_matches('|').split('|').map(str::trim).collect()
    };
    rows.lines()
        .skip(2)
        .take_while(|row| row.starts_with('|'))
        .map(|row| cells(row).try_into().unwrap())
        .collect()
}

const DOCS: &str = include_str!("../../../../docs/scale.md");

/// Checks two columns of the table in docs/scale.md against a history: the column with the index `column`, and the
/// last column, which holds the doubling times from the book.
fn check_column(history: &History, column: usize) {
    let rows = documented_trends();
    assert!(rows.len() >= 8, "{rows:?}");
    let (mut wrong, mut previous_row) = (Vec::new(), None);
    for row in rows {
        let (quantity, name) = match row[0].strip_prefix("parameters ") {
            Some(name) => (Quantity::Parameters, name),
            None => (Quantity::Compute, row[0]),
        };
        let has_name = |trend: &&Trend| format!("{}, {}", trend.spec.era.name, trend.spec.selection) == name;
        let trend = history.trends_of(quantity).find(has_name).unwrap_or_else(|| panic!("no trend {name}"));
        let expected = format!("{}, of {}", trend.doubling.unwrap(), trend.systems.len());
        // If two successive trends have the same systems, the row of the second trend contains "the same".
        let same = row[column] == "the same"
            && previous_row.is_some_and(|previous: &Trend| {
                previous.systems == trend.systems && previous.spec.quantity == quantity
            });
        previous_row = Some(trend);
        if !same && row[column].replace(" [", " months [") != expected {
            wrong.push(format!("{}: found {:?}, expected {expected:?}", row[0], row[column]));
        }
        let published = history.published.iter().find(|published| history.trends[published.trend] == *trend);
        assert_eq!(
            row[3],
            published.map_or_else(String::new, |published| published.months.to_string()),
            "{name}"
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn documentation_has_the_figures_of_the_builtin_table() {
    let history = History::new(&builtin_table().unwrap(), RESAMPLES, SEED).unwrap();
    check_column(&history, 1);
    let systems = format!("has {} systems from the", history.systems.len());
    let before = format!("{} milestones are few", history.trends[0].systems.len());
    assert!(DOCS.contains(&systems) && DOCS.contains(&before), "{systems}; {before}");
}

#[test]
fn documentation_has_the_figures_of_epochs_file() {
    let Some(text) = epoch_file("documentation_has_the_figures_of_epochs_file") else { return };
    let table = parse(&text, "epoch_notable_2025-02-24.csv").unwrap();
    let history = History::new(&table, RESAMPLES, SEED).unwrap();
    check_column(&history, 2);
    let before = format!("Epoch's {} systems do", history.trends[0].systems.len());
    assert!(DOCS.contains(&before), "{before}");
}
