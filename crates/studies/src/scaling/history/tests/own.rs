//! The project's own table: each row is whole, its arithmetic is right, and what it says of both eras.

use super::*;

#[test]
fn every_row_of_our_table_has_what_a_row_needs() {
    let table = own().unwrap();
    assert!((45..=60).contains(&table.systems.len()), "{} systems", table.systems.len());
    for left_out in &table.left_out {
        assert_eq!((left_out.part, left_out.reason.as_str()), (Part::Parameters, "parameters: none given"));
    }
    let mut reader = csv::Reader::from_reader(OWN.as_bytes());
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
    assert!(table.systems.is_sorted_by_key(|system| system.date), "by date");
}

/// The number that a factor begins with; a percentage is its part of 1.
fn leading(factor: &str) -> f64 {
    let factor = factor.trim();
    let word = factor.split(' ').next().unwrap_or(factor);
    let percent = word.strip_suffix('%');
    let value: f64 =
        percent.unwrap_or(word).parse().unwrap_or_else(|_| panic!("{factor:?} begins with no number"));
    if percent.is_some() { value / 100.0 } else { value }
}

/// The first sentence of each note is a sum of products: `2 FLOP · 3e6 weights · 10 examples = 6.0e7. …`.
#[test]
fn the_arithmetic_of_every_row_gives_its_training_compute() {
    for system in own().unwrap().systems {
        let (sum, rest) = system.notes.split_once(" = ").unwrap_or_else(|| panic!("{}", system.name));
        let value: f64 =
            sum.split(" + ").map(|product| product.split('·').map(leading).product::<f64>()).sum();
        let said = rest.split(' ').next().unwrap_or(rest).trim_end_matches('.');
        let said: f64 = said.parse().unwrap_or_else(|_| panic!("{}: {said}", system.name));
        // Half of the second digit.
        let close = 0.051 * 10f64.powf(value.log10().floor());
        for (what, other) in [("said", said), ("column", system.flops.unwrap_or(f64::NAN))] {
            assert!((other - value).abs() <= close, "{}: {what} {other:e}, product {value:e}", system.name);
        }
    }
}

#[test]
fn the_frontier_after_2012_doubles_as_the_book_says() {
    let history = History::of(&own().unwrap(), RESAMPLES, SEED).unwrap();
    assert!(history.refused.is_empty(), "{:?}", history.refused);
    let [before, after] = &history.beside[..] else { panic!("{:?}", history.beside) };
    let of = |beside: &Beside| &history.trends[beside.trend];
    assert_eq!((before.months, after.months), (24.0, 3.4));
    assert_eq!(of(after).asked.selection, Selection::Largest(3));
    assert!(after.within, "{}", of(after).says());
    // What came out for the earlier era, beside the book's 24: faster.
    assert!(!before.within && of(before).doubling.unwrap().months < 20.0, "{}", of(before).says());
    for trend in &history.trends {
        assert!(trend.systems.len() >= 3 && trend.systems.iter().all(|id| history.systems[*id].id == *id));
    }
}

#[test]
fn other_estimates_are_beside_ours_with_their_ratio() {
    let history = History::of(&own().unwrap(), RESAMPLES, 1).unwrap();
    let zero = history.systems.iter().find(|system| system.name == "AlphaGo Zero").unwrap();
    let changed = history.changed.iter().find(|changed| changed.system == zero.id).unwrap();
    assert!(
        changed.other.source.contains("1860 petaflop/s-days") && (changed.ratio - 0.5).abs() < 1e-9,
        "{changed:?}"
    );
    assert!(history.changed.len() >= 20, "{}", history.changed.len());
}

#[test]
fn a_history_is_the_same_for_the_same_seed_and_survives_json() {
    let table = own().unwrap();
    let history = History::of(&table, RESAMPLES, 7).unwrap();
    assert_eq!(history, History::of(&table, RESAMPLES, 7).unwrap());
    assert_ne!(history.trends, History::of(&table, RESAMPLES, 8).unwrap().trends);
    let json = serde_json::to_string(&history).unwrap();
    assert_eq!(serde_json::from_str::<History>(&json).unwrap(), history);
}
