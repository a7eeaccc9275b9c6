//! The history of training compute in Epoch AI's published file, which is not part of the project: doubling times agree with
//! those that its keepers found, within their intervals, for the same selections.

use crate::page::well_formed;
use std::io::Write;
use std::path::PathBuf;
use wgrad_run::scale::history::{Here, History, Quantity, RESAMPLES, Selection, Trend, page, parse};

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
    let history = History::of(&table, RESAMPLES, 1).unwrap();
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
    let history = History::of(&parse(&text, "epoch_notable_2025-02-24.csv").unwrap(), RESAMPLES, 1).unwrap();
    let mut html = String::new();
    page::write(&mut html, &history, &Here::default()).unwrap();
    let text = well_formed(&format!("<main>{html}</main>"));
    assert!(text.contains("Epoch AI, Notable AI Models, CC BY"));
    for sentence in history.sentences() {
        assert!(text.contains(&sentence), "{sentence}");
    }
    assert!(!html.contains("http:") && !html.contains("https:"));
}
