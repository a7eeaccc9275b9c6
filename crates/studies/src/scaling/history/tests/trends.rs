//! Trends: planted ones come back, what determines none is refused, and which systems a selection takes.

use super::*;

/// A system every half year whose compute doubles every `months`, and above it now and then a decade more.
fn doubling(months: f64) -> Vec<(String, String)> {
    (0..40)
        .map(|index| {
            let date = format!("{}-{:02}-01", 1980 + index / 2, 1 + 6 * (index % 2));
            let years = date.parse::<Date>().unwrap().years() - 1980.0;
            (date, format!("{:e}", 1e3 * 2f64.powf(12.0 * years / months)))
        })
        .collect()
}

fn borrowed(rows: &[(String, String)]) -> Vec<(&str, &str)> {
    rows.iter().map(|(date, flops)| (date.as_str(), flops.as_str())).collect()
}

#[test]
fn a_planted_doubling_time_is_found() {
    for months in [3.4, 24.0] {
        let rows = doubling(months);
        let trend = trend(&borrowed(&rows), Selection::All).unwrap();
        let doubling = trend.doubling.unwrap();
        assert!((doubling.months / months - 1.0).abs() < 1e-6, "{doubling}");
        assert!((doubling.low / months - 1.0).abs() < 1e-6 && doubling.high.unwrap() / months < 1.0 + 1e-6);
        assert_eq!(trend.systems, (0..40).collect::<Vec<_>>());
        assert!((trend.at(1980.0).log10() - 3.0).abs() < 1e-6);
    }
}

#[test]
fn noise_widens_the_interval_and_the_truth_lies_in_it() {
    let mut rows = doubling(12.0);
    for (index, (_, flops)) in rows.iter_mut().enumerate() {
        *flops = format!("{:e}", flops.parse::<f64>().unwrap() * [0.2, 3.0, 1.0, 5.0, 0.3][index * 7 % 5]);
    }
    let doubling = trend(&borrowed(&rows), Selection::All).unwrap().doubling.unwrap();
    assert!(doubling.holds(12.0) && doubling.high.unwrap() - doubling.low > 0.2, "{doubling}");
    assert!(!doubling.holds(20.0) && !doubling.holds(6.0));
}

#[test]
fn what_determines_no_line_is_refused() {
    let rows = [("2000-01-01", "1e3"), ("2001-01-01", "1e4"), ("2001-01-01", "")];
    assert_eq!(trend(&rows, Selection::All), Err(TrendError::Few { count: 2 }));
    let rows = [("2000-01-01", "1e3"), ("2000-01-01", "1e4"), ("2000-01-01", "1e5")];
    assert_eq!(trend(&rows, Selection::All), Err(TrendError::OneDate));
}

#[test]
fn what_does_not_grow_has_no_doubling_time_and_says_so() {
    let rows = [("2000-01-01", "1e5"), ("2001-01-01", "1e4"), ("2002-01-01", "1e3")];
    let trend = trend(&rows, Selection::All).unwrap();
    assert!(trend.slope < 0.0 && trend.doubling.is_none());
    assert!(trend.says().contains("does not grow"));
    // Some resamples grow, others do not: no end above.
    let rows = [("2000-01-01", "1e3"), ("2001-01-01", "1e6"), ("2002-01-01", "1e4"), ("2003-01-01", "1e5")];
    let doubling = super::trend(&rows, Selection::All).unwrap().doubling.unwrap();
    assert_eq!(doubling.high, None);
    assert!(doubling.to_string().ends_with("no end]") && doubling.holds(1e9));
}

#[test]
fn the_largest_at_release_are_those_that_few_before_them_surpass() {
    let rows = [
        ("2000-01-01", "1e3"),
        ("2001-01-01", "1e5"),
        ("2002-01-01", "1e4"), // One before is larger.
        ("2003-01-01", "1e3"), // Two are; the one of equal size is not.
        ("2004-01-01", "1e6"),
        ("2005-01-01", "1e7"),
        ("2005-01-01", "1e8"), // Surpasses the one of its own day.
    ];
    let ids = |selection| trend(&rows, selection).unwrap().systems;
    assert_eq!(ids(Selection::All), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(ids(Selection::Largest(1)), [0, 1, 4, 6]);
    assert_eq!(ids(Selection::Largest(2)), [0, 1, 2, 4, 5, 6]);
    assert_eq!(ids(Selection::Largest(3)), [0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn an_era_has_its_first_day_and_not_the_day_after_its_last() {
    let era = |from: &str, until: &str| Era {
        name: String::new(),
        from: from.parse().ok(),
        until: until.parse().ok(),
    };
    let day = |text: &str| text.parse::<Date>().unwrap();
    let years = era("2012-01-01", "2018-07-01");
    assert!(years.holds(day("2012-01-01")) && years.holds(day("2018-06-30")));
    assert!(!years.holds(day("2011-12-31")) && !years.holds(day("2018-07-01")));
    assert!(era("", "").holds(day("0001-01-01")));
    // Larger ones before the era do not count against those in it.
    let rows =
        table(&[("2011-01-01", "1e9"), ("2012-01-01", "1e3"), ("2013-01-01", "1e4"), ("2014-01-01", "1e5")]);
    let asked = Asked { quantity: Quantity::Compute, era: years, selection: Selection::Largest(1) };
    assert_eq!(Trend::of(&rows.systems, asked.clone(), RESAMPLES, 1).unwrap().systems, [1, 2, 3]);
    // Unless earlier eras are counted.
    let counted = |most| {
        let asked = Asked { selection: Selection::LargestOfAll(most), ..asked.clone() };
        Trend::of(&rows.systems, asked, RESAMPLES, 1)
    };
    assert_eq!(counted(1), Err(TrendError::Few { count: 0 }));
    assert_eq!(counted(2).unwrap().systems, [1, 2, 3]);
}

#[test]
fn a_history_needs_compute_and_resamples() {
    let empty = table(&[("2012-02-30", "1e3")]);
    let error = History::of(&empty, RESAMPLES, 1).unwrap_err().to_string();
    assert!(error.contains("left out: 1, line 2 first: 2012-02-30 is no day"), "{error}");
    let error = History::of(&table(&[]), RESAMPLES, 1).unwrap_err().to_string();
    assert_eq!(error, "rows has no rows, only a header");
    let error = History::of(&own().unwrap(), 100, 1).unwrap_err();
    assert_eq!(error, HistoryError::Resamples { resamples: 100, least: 2000 });
    // A table of one era has trends of that one; the others are refused by name.
    let rows: Vec<(String, String)> = doubling(12.0);
    let history = History::of(&table(&borrowed(&rows)), RESAMPLES, 1).unwrap();
    assert_eq!((history.trends.len(), history.refused.len()), (1, 9));
    assert_eq!(history.beside.len(), 1);
    let said = &history.sentences()[1..];
    let expected = [
        "No systems with training compute: 2012 to mid-2018, since mid-2018, since 2010.",
        "No system of rows has parameters.",
    ];
    assert_eq!(said, expected);
}

#[test]
fn trends_that_a_table_does_not_determine_are_said() {
    let said =
        |rows: &[(&str, &str)]| History::of(&table(rows), RESAMPLES, SEED).unwrap().sentences().join(" ");
    let few = said(&[("2013-01-01", "1e3"), ("2014-01-01", "1e4")]);
    assert!(
        few.contains(
            "No trend of training compute 2012 to mid-2018: it has 2 of the 3 systems that a trend takes."
        ),
        "{few}"
    );
    assert_eq!(few.matches("2012 to mid-2018").count(), 1, "{few}");
    assert!(few.contains("No systems with training compute: before 2012, since mid-2018."), "{few}");
    let day = said(&[("2013-01-01", "1e3"), ("2013-01-01", "1e4"), ("2013-01-01", "1e5")]);
    assert!(
        day.contains("No trend of training compute 2012 to mid-2018: all its systems are of one day."),
        "{day}"
    );
    // A frontier without all of the era's systems is missed by itself.
    let rows = [
        ("2011-01-01", "1e9"),
        ("2011-02-01", "1e9"),
        ("2011-03-01", "1e9"),
        ("2013-01-01", "1e3"),
        ("2014-01-01", "1e4"),
        ("2015-01-01", "1e5"),
    ];
    let frontier = said(&rows);
    let missed = "No trend of training compute 2012 to mid-2018, the 3 largest at release of all eras: it has 0 of the 3";
    assert!(frontier.contains(missed), "{frontier}");
}

#[test]
fn a_published_time_lies_in_the_interval_or_not() {
    let said = |months: f64| {
        let rows = doubling(months);
        History::of(&table(&borrowed(&rows)), RESAMPLES, SEED).unwrap().sentences().remove(0)
    };
    assert!(
        said(12.0).ends_with("The book says 24 months, which the interval does not contain."),
        "{}",
        said(12.0)
    );
}

#[test]
fn durations_have_the_unit_that_suits() {
    let cases = [
        (0.0, "0 s"),
        (4e-10, "0.4 ns"),
        (3.14e-6, "3.1 µs"),
        (0.0421, "42 ms"),
        (59.99, "1.0 min"),
        (8640.0, "2.4 h"),
        (86_400.0, "1.0 day"),
        (11.0 * DAY, "11 days"),
        (7.9 * YEAR, "7.9 years"),
        (999.9 * YEAR, "1.0 thousand years"),
        (14e3 * YEAR, "14 thousand years"),
        (3.2e6 * YEAR, "3.2 million years"),
        (5e20 * YEAR, "5.0e8 trillion years"),
        (f64::NAN, "unknown"),
        (f64::INFINITY, "unknown"),
        (-1.0, "unknown"),
    ];
    for (seconds, text) in cases {
        assert_eq!(duration(seconds), text, "{seconds}");
    }
}

#[test]
fn a_device_takes_compute_over_its_rate() {
    let history = History::of(&own().unwrap(), RESAMPLES, 1).unwrap();
    let rate = |sustained_flops| Rate {
        device: "d".into(),
        measured_on: "w".into(),
        sustained_flops,
        ceiling_flops: 2e10,
    };
    let here = Here { devices: vec![rate(1e10), rate(0.0), rate(f64::NAN), rate(2e10)], own: Vec::new() };
    let times = here.times(&history);
    assert_eq!(times.len(), 2 * history.systems.len(), "a rate of nothing gives no time");
    let alexnet = history.systems.iter().find(|system| system.name == "AlexNet").unwrap();
    let of: Vec<&Time> = times.iter().filter(|time| time.system == alexnet.id).collect();
    assert_eq!([of[0].device, of[1].device], [0, 3]);
    assert_eq!(duration(of[0].seconds), "1.5 years");
    assert_eq!(of[0].seconds, 2.0 * of[1].seconds);
}

#[test]
fn records_are_the_largest_of_all_at_release() {
    let rows = [
        ("2001-01-01", "1e5"),
        ("2000-01-01", "1e3"),
        ("2001-01-01", "1e4"),
        ("2002-01-01", "1e5"),
        ("2003-01-01", "1e6"),
    ];
    let history = History::of(&table(&rows), RESAMPLES, 1).unwrap();
    let records = super::super::charts::records(&history, Quantity::Compute);
    let ids: Vec<usize> = records.into_iter().map(|system| system.id).collect();
    assert_eq!(ids, [1, 0, 4]);
}
