//! Tests of the built-in table: complete rows, correct products in the notes, and the trends of both eras.

use super::*;

#[test]
fn rows_of_the_builtin_table_are_complete() {
    let table = builtin_table().unwrap();
    assert!((45..=60).contains(&table.systems.len()), "{} systems", table.systems.len());
    for left_out in &table.left_out {
        assert_eq!(
            (left_out.part, left_out.reason.as_str()),
            (LeftOutPart::Parameters, "parameters: none given")
        );
    }
    let mut reader = csv::Reader::from_reader(BUILTIN_CSV.as_bytes());
    let header = reader.headers().unwrap().clone();
    let index = |name: &str| header.iter().position(|column| column == name).unwrap();
    for (record, system) in reader.records().zip(&table.systems) {
        let record = record.unwrap();
        let cell = |name: &str| record.get(index(name)).unwrap();
        for column in ["Domain", "Organization", "Reference", "Link", "Training compute notes"] {
            assert!(!cell(column).is_empty(), "{}: {column}", system.name);
        }
        assert!(system.flops.is_some(), "{}", system.name);
        assert!(system.link.starts_with("https://"), "{}", system.link);
        assert!(system.parameters.is_some() || !cell("Parameters notes").is_empty(), "{}", system.name);
        assert!(system.notes.ends_with('.'), "{}: {}", system.name, system.notes);
    }
    assert!(table.systems.is_sorted_by_key(|system| system.date), "systems are in order of date");
}

/// Parses the number at the beginning of a factor. A percentage becomes a fraction.
fn leading_number(factor: &str) -> f64 {
    let factor = factor.trim();
    let word = factor.split(' ').next().unwrap_or(factor);
    let percent = word.strip_suffix('%');
    let value: f64 =
        percent.unwrap_or(word).parse().unwrap_or_else(|_| panic!("{factor:?} does not begin with a number"));
    if percent.is_some() { value / 100.0 } else { value }
}

/// The notes begin with a sum of products: `2 FLOP · 3e6 weights · 10 examples = 6.0e7. …`.
#[test]
fn products_in_the_notes_give_the_training_compute() {
    for system in builtin_table().unwrap().systems {
        let (sum, rest) = system.notes.split_once(" = ").unwrap_or_else(|| panic!("{}", system.name));
        let value: f64 =
            sum.split(" + ").map(|product| product.split('·').map(leading_number).product::<f64>()).sum();
        let stated = rest.split(' ').next().unwrap_or(rest).trim_end_matches('.');
        let stated: f64 = stated.parse().unwrap_or_else(|_| panic!("{}: {stated}", system.name));
        // Half a unit of the second significant digit.
        let tolerance = 0.051 * 10f64.powf(value.log10().floor());
        for (source, other) in [("stated", stated), ("column", system.flops.unwrap_or(f64::NAN))] {
            assert!(
                (other - value).abs() <= tolerance,
                "{}: {source} {other:e}, product {value:e}",
                system.name
            );
        }
    }
}

#[test]
fn doubling_time_of_the_frontier_from_2012_agrees_with_the_book() {
    let history = History::new(&builtin_table().unwrap(), MIN_RESAMPLES, SEED).unwrap();
    assert!(history.unfitted.is_empty(), "{:?}", history.unfitted);
    let [before, after] = &history.published[..] else { panic!("{:?}", history.published) };
    let trend_of = |published: &PublishedDoubling| &history.trends[published.trend];
    assert_eq!((before.months, after.months), (24.0, 3.4));
    assert_eq!(trend_of(after).spec.selection, Selection::Largest(3));
    assert!(after.within, "{}", trend_of(after).doubling_text());
    // Before 2012, training compute doubled faster than every 24 months, the book's figure.
    assert!(
        !before.within && trend_of(before).doubling.unwrap().months < 20.0,
        "{}",
        trend_of(before).doubling_text()
    );
    for trend in &history.trends {
        assert!(trend.systems.len() >= 3 && trend.systems.iter().all(|id| history.systems[*id].id == *id));
    }
}

#[test]
fn other_estimates_have_their_ratio_to_the_table() {
    let history = History::new(&builtin_table().unwrap(), MIN_RESAMPLES, 1).unwrap();
    let zero = history.systems.iter().find(|system| system.name == "AlphaGo Zero").unwrap();
    let estimate = history.other_estimates.iter().find(|estimate| estimate.system == zero.id).unwrap();
    assert!(
        estimate.other.source.contains("1860 petaflop/s-days") && (estimate.ratio - 0.5).abs() < 1e-9,
        "{estimate:?}"
    );
    assert!(history.other_estimates.len() >= 20, "{}", history.other_estimates.len());
}

#[test]
fn history_is_reproducible_and_round_trips_through_json() {
    let table = builtin_table().unwrap();
    let history = History::new(&table, MIN_RESAMPLES, 7).unwrap();
    assert_eq!(history, History::new(&table, MIN_RESAMPLES, 7).unwrap());
    assert_ne!(history.trends, History::new(&table, MIN_RESAMPLES, 8).unwrap().trends);
    let json = serde_json::to_string(&history).unwrap();
    assert_eq!(serde_json::from_str::<History>(&json).unwrap(), history);
}
