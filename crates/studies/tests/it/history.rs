//! The history of training compute in Epoch AI's published file, which is not part of the project: doubling times agree with
//! those that its keepers found, within their intervals, for the same selections.

use crate::page::well_formed;
use std::io::Write;
use std::path::PathBuf;
use wgrad_studies::scaling::history::{Here, History, Quantity, Selection, Trend, own, page, parse};
use wgrad_studies::scaling::{RESAMPLES, SEED};

/// The file's text, or a line in the file named by `WGRAD_SKIP_LOG` that says which test went without.
fn epoch(test: &str) -> Option<Vec<u8>> {
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
fn doubling_times_of_epochs_file_agree_with_its_keepers() {
    let Some(text) = epoch("doubling_times_of_epochs_file_agree_with_its_keepers") else { return };
    let table = parse(&text, "epoch_notable_2025-02-24.csv").unwrap();
    assert_eq!(table.systems.iter().filter(|system| system.flops.is_some()).count(), 451);
    assert!(table.credit.contains("Epoch AI") && table.credit.contains("CC BY"), "{}", table.credit);
    let history = History::of(&table, RESAMPLES, SEED).unwrap();
    let find = |era: &str, selection: Selection| -> &Trend {
        let mut compute = history.of_quantity(Quantity::Compute);
        compute.find(|trend| trend.asked.era.name == era && trend.asked.selection == selection).unwrap()
    };
    // shared/data/README.md; where it gives no interval, the figure is given to its last digit.
    let cases = [
        ("before 2012", Selection::All, 19.9, Some((16.5, 23.8))),
        ("2012 to mid-2018", Selection::Largest(3), 3.1, Some((2.8, 3.6))),
        ("2012 to mid-2018", Selection::Largest(10), 3.6, Some((3.1, 4.4))),
        ("2012 to mid-2018", Selection::All, 9.5, None),
        ("since 2010", Selection::Largest(10), 5.1, None),
        // Not in the keepers' table; computed apart from this crate with least squares in another language.
        ("2012 to mid-2018", Selection::LargestOfAll(3), 3.5, Some((2.9, 4.2))),
        ("since mid-2018", Selection::LargestOfAll(3), 5.93, Some((5.2, 6.9))),
    ];
    for (era, selection, months, interval) in cases {
        let doubling = find(era, selection).doubling.unwrap();
        let what = format!("{era}, {selection}: {doubling}");
        assert!((doubling.months - months).abs() < 0.06, "{what}");
        assert!(doubling.holds(months), "{what}");
        if let Some((low, high)) = interval {
            assert!((doubling.low / low - 1.0).abs() < 0.05, "{what}");
            assert!((doubling.high.unwrap() / high - 1.0).abs() < 0.05, "{what}");
        }
    }
}

#[test]
fn what_epochs_file_lacks_is_listed_by_the_line_it_stands_on() {
    let Some(text) = epoch("what_epochs_file_lacks_is_listed_by_the_line_it_stands_on") else { return };
    let table = parse(&text, "epoch_notable_2025-02-24.csv").unwrap();
    let text = String::from_utf8(text).unwrap();
    let lines: Vec<&str> = text.split('\n').collect();
    let begins = |line: u64, name: &str| {
        let record = lines[line as usize - 1].trim_start_matches('"');
        // A name may itself have quotes or ends of lines.
        let word = name.split(['"', '\n', '\r']).find(|word| !word.is_empty()).unwrap_or("");
        assert!(
            record.trim_start().trim_start_matches('"').starts_with(word),
            "{line}: {name:?} is not in {record:?}"
        );
    };
    for system in &table.systems {
        begins(system.line, &system.name);
    }
    for out in &table.left_out {
        begins(out.line, &out.name);
    }
    assert!(table.left_out.iter().any(|out| out.reason.contains("training compute: none given")));
}

#[test]
fn epochs_file_makes_a_page_with_its_credit() {
    let Some(text) = epoch("epochs_file_makes_a_page_with_its_credit") else { return };
    let history =
        History::of(&parse(&text, "epoch_notable_2025-02-24.csv").unwrap(), RESAMPLES, SEED).unwrap();
    let mut html = String::new();
    page::write(&mut html, &history, &Here::default()).unwrap();
    let text = well_formed(&format!("<main>{html}</main>"));
    assert!(text.contains("Epoch AI, Notable AI Models, CC BY"));
    for sentence in history.sentences() {
        assert!(text.contains(&sentence), "{sentence}");
    }
    assert!(!html.contains("http:") && !html.contains("https:"));
}

/// The rows of the table in docs/scale.md: the trend, wgrad's figure, Epoch's, the book's.
fn documented() -> Vec<[&'static str; 4]> {
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

/// Holds a column of the table in docs/scale.md to a history: each cell is what comes out, and the figures of the book are too.
fn check_column(history: &History, column: usize) {
    let rows = documented();
    assert!(rows.len() >= 8, "{rows:?}");
    let (mut wrong, mut above) = (Vec::new(), None);
    for row in rows {
        let (quantity, name) = match row[0].strip_prefix("parameters ") {
            Some(name) => (Quantity::Parameters, name),
            None => (Quantity::Compute, row[0]),
        };
        let called = |trend: &&Trend| format!("{}, {}", trend.asked.era.name, trend.asked.selection) == name;
        let trend = history.of_quantity(quantity).find(called).unwrap_or_else(|| panic!("no trend {name}"));
        let expected = format!("{}, of {}", trend.doubling.unwrap(), trend.systems.len());
        // Of two selections that take the same systems the figure is said once.
        let same = row[column] == "the same"
            && above.is_some_and(|above: &Trend| {
                above.systems == trend.systems && above.asked.quantity == quantity
            });
        above = Some(trend);
        if !same && row[column].replace(" [", " months [") != expected {
            wrong.push(format!("{}: {:?} and not {expected:?}", row[0], row[column]));
        }
        let beside = history.beside.iter().find(|beside| history.trends[beside.trend] == *trend);
        assert_eq!(row[3], beside.map_or_else(String::new, |beside| beside.months.to_string()), "{name}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_documentation_has_the_figures_of_our_table() {
    let history = History::of(&own().unwrap(), RESAMPLES, SEED).unwrap();
    check_column(&history, 1);
    let systems = format!("has {} systems from the", history.systems.len());
    let before = format!("{} milestones are few", history.trends[0].systems.len());
    assert!(DOCS.contains(&systems) && DOCS.contains(&before), "{systems}; {before}");
}

#[test]
fn the_documentation_has_the_figures_of_epochs_file() {
    let Some(text) = epoch("the_documentation_has_the_figures_of_epochs_file") else { return };
    let table = parse(&text, "epoch_notable_2025-02-24.csv").unwrap();
    let history = History::of(&table, RESAMPLES, SEED).unwrap();
    check_column(&history, 2);
    let before = format!("Epoch's {} systems do", history.trends[0].systems.len());
    assert!(DOCS.contains(&before), "{before}");
}
