//! Tests of trends: planted doubling times, trends that cannot be fitted, and selections of systems.

use super::*;

/// Returns rows of systems, one per half year, whose compute doubles every `months` months.
fn doubling(months: f64) -> Vec<(String, String)> {
    (0..40)
        .map(|index| {
            let date = format!("{}-{:02}-01", 1980 + index / 2, 1 + 6 * (index % 2));
            let years = date.parse::<Date>().unwrap().years() - 1980.0;
            (date, format!("{:e}", 1e3 * 2f64.powf(12.0 * years / months)))
        })
        .collect()
}

fn as_strs(rows: &[(String, String)]) -> Vec<(&str, &str)> {
    rows.iter().map(|(date, flops)| (date.as_str(), flops.as_str())).collect()
}

#[test]
fn planted_doubling_time_is_found() {
    for months in [3.4, 24.0] {
        let rows = doubling(months);
        let trend = trend(&as_strs(&rows), Selection::All).unwrap();
        let doubling = trend.doubling.unwrap();
        assert!((doubling.months / months - 1.0).abs() < 1e-6, "{doubling}");
        assert!((doubling.low / months - 1.0).abs() < 1e-6 && doubling.high.unwrap() / months < 1.0 + 1e-6);
        assert_eq!(trend.systems, (0..40).collect::<Vec<_>>());
        assert!((trend.at(1980.0).log10() - 3.0).abs() < 1e-6);
    }
}

#[test]
fn noise_widens_the_interval_around_the_planted_doubling_time() {
    let mut rows = doubling(12.0);
    for (index, (_, flops)) in rows.iter_mut().enumerate() {
        *flops = format!("{:e}", flops.parse::<f64>().unwrap() * [0.2, 3.0, 1.0, 5.0, 0.3][index * 7 % 5]);
    }
    let doubling = trend(&as_strs(&rows), Selection::All).unwrap().doubling.unwrap();
    assert!(doubling.contains(12.0) && doubling.high.unwrap() - doubling.low > 0.2, "{doubling}");
    assert!(!doubling.contains(20.0) && !doubling.contains(6.0));
}

#[test]
fn too_few_systems_or_a_single_date_are_errors() {
    let rows = [("2000-01-01", "1e3"), ("2001-01-01", "1e4"), ("2001-01-01", "")];
    assert_eq!(trend(&rows, Selection::All), Err(TrendError::TooFewSystems { count: 2 }));
    let rows = [("2000-01-01", "1e3"), ("2000-01-01", "1e4"), ("2000-01-01", "1e5")];
    assert_eq!(trend(&rows, Selection::All), Err(TrendError::SingleDate));
}

#[test]
fn quantity_that_does_not_grow_has_no_doubling_time() {
    let rows = [("2000-01-01", "1e5"), ("2001-01-01", "1e4"), ("2002-01-01", "1e3")];
    let trend = trend(&rows, Selection::All).unwrap();
    assert!(trend.slope < 0.0 && trend.doubling.is_none());
    assert!(trend.doubling_text().contains("does not grow"));
    // Some resamples do not grow, so the interval has no upper end.
    let rows = [("2000-01-01", "1e3"), ("2001-01-01", "1e6"), ("2002-01-01", "1e4"), ("2003-01-01", "1e5")];
    let doubling = super::trend(&rows, Selection::All).unwrap().doubling.unwrap();
    assert_eq!(doubling.high, None);
    assert!(doubling.to_string().ends_with("no end]") && doubling.contains(1e9));
}

#[test]
fn largest_selects_systems_with_few_larger_ones_before() {
    let rows = [
        ("2000-01-01", "1e3"),
        ("2001-01-01", "1e5"),
        ("2002-01-01", "1e4"), // One earlier system is larger.
        ("2003-01-01", "1e3"), // Two earlier systems are larger; one is equal.
        ("2004-01-01", "1e6"),
        ("2005-01-01", "1e7"),
        ("2005-01-01", "1e8"), // Larger than the other system of the same day.
    ];
    let ids = |selection| trend(&rows, selection).unwrap().systems;
    assert_eq!(ids(Selection::All), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(ids(Selection::Largest(1)), [0, 1, 4, 6]);
    assert_eq!(ids(Selection::Largest(2)), [0, 1, 2, 4, 5, 6]);
    assert_eq!(ids(Selection::Largest(3)), [0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn era_includes_its_first_day_and_excludes_its_end() {
    let era = |from: &str, until: &str| Era {
        name: String::new(),
        from: from.parse().ok(),
        until: until.parse().ok(),
    };
    let day = |text: &str| text.parse::<Date>().unwrap();
    let years = era("2012-01-01", "2018-07-01");
    assert!(years.contains(day("2012-01-01")) && years.contains(day("2018-06-30")));
    assert!(!years.contains(day("2011-12-31")) && !years.contains(day("2018-07-01")));
    assert!(era("", "").contains(day("0001-01-01")));
    // `Largest` ignores larger systems before the era.
    let rows =
        table(&[("2011-01-01", "1e9"), ("2012-01-01", "1e3"), ("2013-01-01", "1e4"), ("2014-01-01", "1e5")]);
    let spec = TrendSpec { quantity: Quantity::Compute, era: years, selection: Selection::Largest(1) };
    assert_eq!(Trend::fit(&rows.systems, spec.clone(), MIN_RESAMPLES, 1).unwrap().systems, [1, 2, 3]);
    // `LargestOfAll` includes larger systems before the era.
    let of_all_eras = |most| {
        let spec = TrendSpec { selection: Selection::LargestOfAll(most), ..spec.clone() };
        Trend::fit(&rows.systems, spec, MIN_RESAMPLES, 1)
    };
    assert_eq!(of_all_eras(1), Err(TrendError::TooFewSystems { count: 0 }));
    assert_eq!(of_all_eras(2).unwrap().systems, [1, 2, 3]);
}

#[test]
fn history_requires_compute_and_resamples() {
    let empty = table(&[("2012-02-30", "1e3")]);
    let error = History::new(&empty, MIN_RESAMPLES, 1).unwrap_err().to_string();
    assert!(
        error.contains("entries left out: 1, the first on line 2: 2012-02-30 is not a valid date"),
        "{error}"
    );
    let error = History::new(&table(&[]), MIN_RESAMPLES, 1).unwrap_err().to_string();
    assert_eq!(error, "rows has a header but no rows");
    let error = History::new(&builtin_table().unwrap(), 100, 1).unwrap_err();
    assert_eq!(error, HistoryError::Resamples { resamples: 100, least: 2000 });
    // A table of one era has the trend of that era only.
    let rows: Vec<(String, String)> = doubling(12.0);
    let history = History::new(&table(&as_strs(&rows)), MIN_RESAMPLES, 1).unwrap();
    assert_eq!((history.trends.len(), history.unfitted.len()), (1, 9));
    assert_eq!(history.published.len(), 1);
    let sentences = &history.sentences()[1..];
    let expected = [
        "No systems with training compute: 2012 to mid-2018, since mid-2018, since 2010.",
        "No system of rows has parameters.",
    ];
    assert_eq!(sentences, expected);
}

#[test]
fn unfitted_trends_are_listed_with_the_reason() {
    let sentences = |rows: &[(&str, &str)]| {
        History::new(&table(rows), MIN_RESAMPLES, SEED).unwrap().sentences().join(" ")
    };
    let few = sentences(&[("2013-01-01", "1e3"), ("2014-01-01", "1e4")]);
    assert!(
        few.contains(
            "No trend of training compute 2012 to mid-2018: a trend requires at least 3 systems, found 2."
        ),
        "{few}"
    );
    assert_eq!(few.matches("2012 to mid-2018").count(), 1, "{few}");
    assert!(few.contains("No systems with training compute: before 2012, since mid-2018."), "{few}");
    let day = sentences(&[("2013-01-01", "1e3"), ("2013-01-01", "1e4"), ("2013-01-01", "1e5")]);
    assert!(
        day.contains("No trend of training compute 2012 to mid-2018: all systems have the same date."),
        "{day}"
    );
    // A missing trend of an era with other trends has its own sentence.
    let rows = [
        ("2011-01-01", "1e9"),
        ("2011-02-01", "1e9"),
        ("2011-03-01", "1e9"),
        ("2013-01-01", "1e3"),
        ("2014-01-01", "1e4"),
        ("2015-01-01", "1e5"),
    ];
    let frontier = sentences(&rows);
    let expected = "No trend of training compute 2012 to mid-2018, the 3 largest at release of all eras: a trend \
        requires at least 3 systems, found 0.";
    assert!(frontier.contains(expected), "{frontier}");
}

#[test]
fn published_doubling_time_outside_the_interval_is_stated() {
    let sentence = |months: f64| {
        let rows = doubling(months);
        History::new(&table(&as_strs(&rows)), MIN_RESAMPLES, SEED).unwrap().sentences().remove(0)
    };
    assert!(
        sentence(12.0).ends_with("The book gives 24 months, which the interval does not contain."),
        "{}",
        sentence(12.0)
    );
}

#[test]
fn training_time_is_compute_divided_by_the_rate() {
    let history = History::new(&builtin_table().unwrap(), MIN_RESAMPLES, 1).unwrap();
    let rate = |sustained_flops| DeviceRate {
        device: "d".into(),
        measured_on: "w".into(),
        sustained_flops,
        ceiling_flops: 2e10,
    };
    let machine =
        LocalMachine { devices: vec![rate(1e10), rate(0.0), rate(f64::NAN), rate(2e10)], runs: Vec::new() };
    let times = machine.times(&history);
    assert_eq!(times.len(), 2 * history.systems.len(), "devices without a positive rate have no time");
    let alexnet = history.systems.iter().find(|system| system.name == "AlexNet").unwrap();
    let times: Vec<&TrainingTime> = times.iter().filter(|time| time.system == alexnet.id).collect();
    assert_eq!([times[0].device, times[1].device], [0, 3]);
    assert_eq!(wgrad_stdx::format::duration(times[0].seconds), "1.5 years");
    assert_eq!(times[0].seconds, 2.0 * times[1].seconds);
}

#[test]
fn record_systems_are_the_largest_of_all_at_release() {
    let rows = [
        ("2001-01-01", "1e5"),
        ("2000-01-01", "1e3"),
        ("2001-01-01", "1e4"),
        ("2002-01-01", "1e5"),
        ("2003-01-01", "1e6"),
    ];
    let history = History::new(&table(&rows), MIN_RESAMPLES, 1).unwrap();
    let records = super::super::charts::record_systems(&history, Quantity::Compute);
    let ids: Vec<usize> = records.into_iter().map(|system| system.id).collect();
    assert_eq!(ids, [1, 0, 4]);
}
