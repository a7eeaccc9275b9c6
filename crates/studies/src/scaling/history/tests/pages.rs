//! Tests of the history section of the page.

use super::*;
use wgrad_report::page;

fn machine() -> LocalMachine {
    let rate = |device: &str, sustained_flops, ceiling_flops| DeviceRate {
        device: device.into(),
        measured_on: "a step of fashion-mnist, batch 128".into(),
        sustained_flops,
        ceiling_flops,
    };
    let run = |name: &str, date: &str, flops, parameters| LocalRun {
        name: name.into(),
        date: date.parse().unwrap(),
        flops,
        parameters,
    };
    LocalMachine {
        devices: vec![rate("CPU, 2 threads", 4.2e10, 1.1e11), rate("GPU <one>", 6.1e12, 2.4e13)],
        runs: vec![
            run("digits", "2026-01-02", 4.1e9, 9098),
            run("fashion-mnist", "2026-03-02", 3.5e12, 421_642),
            run("cifar10", "2026-11-02", 2.4e15, 272_474),
        ],
    }
}

fn html(history: &History, machine: &LocalMachine) -> String {
    let mut html = String::new();
    page::begin(&mut html, "Scale", "a test").unwrap();
    super::super::page::write(&mut html, history, machine).unwrap();
    page::end(&mut html);
    html
}

fn well_formed(html: &str) {
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    roxmltree::Document::parse_with_options(html, options).unwrap();
    for outside in ["http:", "https:", "<script", "<link", "src=", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
}

/// Writes a page to the folder named by `WGRAD_PAGE`, if it is set, for viewing.
fn save_for_viewing(name: &str, html: &str) {
    if let Some(folder) = std::env::var_os("WGRAD_PAGE") {
        std::fs::write(std::path::Path::new(&folder).join(name), html).unwrap();
    }
}

#[test]
fn page_shows_selections_systems_and_callouts() {
    let history = History::new(&builtin_table().unwrap(), MIN_RESAMPLES, SEED).unwrap();
    let html = html(&history, &machine());
    save_for_viewing("history.html", &html);
    well_formed(&html);
    for sentence in history.sentences().iter().chain(&machine().sentences(&history)) {
        assert!(html.contains(&page::Escaped(sentence).to_string()), "{sentence}");
    }
    let sentences = history.sentences();
    assert!(
        sentences[0].contains("before 2012, all systems")
            && sentences[0].contains("The book gives 24 months")
    );
    assert!(
        sentences[1].contains("the 3 largest at release")
            && sentences[1].contains("3.4 months, which the interval contains")
    );
    for system in &history.systems {
        assert!(html.contains(&page::Escaped(&system.name).to_string()), "{}", system.name);
    }
    for part in [
        "AlexNet</text>",
        "this machine: cifar10</text>",
        "fashion-mnist</text>",
        "digits</text>",
        "one year of GPU &lt;one&gt;</text>",
        "Entries of",
        "1860 petaflop/s-days",
    ] {
        assert!(html.contains(part), "{part}");
    }
    // In a table of this size, most systems have a callout.
    let callouts = html.matches("class=\"callout\"").count();
    assert!(callouts > 80, "{callouts}");
}

#[test]
fn page_without_devices_and_trends_is_well_formed() {
    let text =
        "Model,Publication date,Parameters,Training compute (FLOP)\na<b,2012-01-02,5,1e3\nbad,2012,,\n";
    let history = History::new(&parse(text.as_bytes(), "my.csv").unwrap(), MIN_RESAMPLES, 1).unwrap();
    let html = html(&history, &LocalMachine::default());
    well_formed(&html);
    assert!(html.contains(
        "No trend of training compute 2012 to mid-2018: a trend requires at least 3 systems, found 1"
    ));
    assert!(
        html.contains("No systems with parameters: before 2012.")
            && html.contains("Parameters of each system")
    );
    assert!(
        html.contains("Entries of my.csv that were left out (1)") && html.contains("2012 is only a year")
    );
    assert!(!html.contains("This machine") && !html.contains("<h2>Other estimates"));
}

/// Returns the SVG charts of a page.
fn charts(html: &str) -> Vec<&str> {
    html.split("<svg").skip(1).map(|chart| chart.split("</svg>").next().unwrap()).collect()
}

/// Returns the lowest tick of the vertical axis of a chart.
fn lowest_tick(chart: &str) -> f64 {
    let marks = chart.split("text-anchor=\"end\">").skip(1);
    marks.filter_map(|mark| mark.split('<').next()?.parse().ok()).fold(f64::INFINITY, f64::min)
}

#[test]
fn runs_are_in_the_chart_of_all_years_only() {
    let history = History::new(&builtin_table().unwrap(), MIN_RESAMPLES, SEED).unwrap();
    let html = html(&history, &machine());
    let [all, late, parameters] = charts(&html)[..] else { panic!("expected three charts") };
    assert!(all.contains("this machine:") && parameters.contains("this machine:"));
    assert!(!late.contains("this machine:") && !late.contains("runs of this machine"), "{late}");
    assert!(lowest_tick(late) >= 1e14, "{}", lowest_tick(late));
    // Both charts have the lines of each device. A device with a tiny rate has no line.
    for chart in [all, late] {
        assert!(chart.contains("one day of CPU, 2 threads</text>"), "{chart}");
    }
    let slow = LocalMachine {
        devices: vec![DeviceRate { sustained_flops: 1e-9, ..machine().devices.remove(0) }],
        runs: Vec::new(),
    };
    let html = self::html(&history, &slow);
    assert!(!html.contains("one day of") && lowest_tick(charts(&html)[1]) >= 1e14);
}

#[test]
fn runs_with_invalid_compute_are_not_drawn() {
    let history = History::new(&builtin_table().unwrap(), MIN_RESAMPLES, SEED).unwrap();
    let good = machine();
    let mut bad = machine();
    for (index, flops) in [f64::NAN, -1e9, 0.0, f64::INFINITY].into_iter().enumerate() {
        let name = format!("broken {index}");
        bad.runs.push(LocalRun { name, date: "1900-01-01".parse().unwrap(), flops, parameters: 0 });
    }
    let (good, bad) = (html(&history, &good), html(&history, &bad));
    well_formed(&bad);
    // The charts are identical: invalid runs add no point and do not extend an axis.
    assert_eq!(charts(&good), charts(&bad));
    assert_eq!(bad.matches(">unknown<").count(), 4);
    let rates = [f64::NAN, -1.0, f64::INFINITY];
    let rate = machine().devices.remove(0);
    let devices = rates.map(|sustained_flops| DeviceRate { sustained_flops, ..rate.clone() }).to_vec();
    let html = html(&history, &LocalMachine { devices, runs: Vec::new() });
    well_formed(&html);
    assert!(!html.contains("one day of"));
}

#[test]
fn table_of_many_runs_is_folded() {
    let history = History::new(&builtin_table().unwrap(), MIN_RESAMPLES, SEED).unwrap();
    let run = machine().runs.remove(0);
    let with = |count: usize| {
        let runs = (0..count).map(|index| LocalRun { name: format!("run {index}"), ..run.clone() }).collect();
        html(&history, &LocalMachine { devices: Vec::new(), runs })
    };
    assert!(with(3).contains("<th>run</th>") && !with(3).contains("<summary>Runs"));
    assert!(with(30).contains("<summary>Runs (30)</summary>"));
}

#[test]
fn table_without_parameters_has_no_chart_of_parameters() {
    let text = "Model,Publication date,Training compute (FLOP)\na,1990-01-02,1e3\nb,1995-01-02,1e4\nc,2000-01-02,1e5\n";
    let history = History::new(&parse(text.as_bytes(), "my.csv").unwrap(), MIN_RESAMPLES, SEED).unwrap();
    let html = html(&history, &machine());
    well_formed(&html);
    assert!(
        !html.contains("Parameters of each system") && html.contains("No system of my.csv has parameters.")
    );
}

#[test]
fn only_differing_estimates_are_shown() {
    let estimate = |flops: f64, source: &str| format!("{flops:e} ({source})");
    let others = [
        estimate(1.05e3, "near"),
        estimate(0.95e3, "nearer"),
        estimate(1.2e3, "above"),
        estimate(2e2, "below"),
    ];
    let text = format!(
        "Model,Publication date,Training compute (FLOP),Other estimates\na,2012-01-02,1e3,\"{}\"\n",
        others.join("; ")
    );
    let history = History::new(&parse(text.as_bytes(), "my.csv").unwrap(), MIN_RESAMPLES, SEED).unwrap();
    let html = html(&history, &LocalMachine::default());
    for (source, shown) in [("near", false), ("nearer", false), ("above", true), ("below", true)] {
        assert_eq!(html.contains(&format!("<td>{source}</td>")), shown, "{source}");
    }
    assert!(html.contains("2 other estimates agree within 10%."));
}

#[test]
fn selections_with_equal_systems_share_a_row() {
    let rows = [("2013-01-01", "1e3"), ("2014-01-01", "1e4"), ("2015-01-01", "1e5")];
    let history = History::new(&table(&rows), MIN_RESAMPLES, SEED).unwrap();
    let html = html(&history, &LocalMachine::default());
    assert_eq!(html.matches("compute, 2012 to mid-2018</th>").count(), 1, "{html}");
    let all = "the 3 largest at release = the 3 largest at release of all eras = the 10 largest at release = all systems</td>";
    assert!(html.contains(all), "{html}");
}

#[test]
fn drawn_eras_do_not_overlap() {
    let history = History::new(&builtin_table().unwrap(), MIN_RESAMPLES, SEED).unwrap();
    let names = |quantity| -> Vec<String> {
        let drawn = super::super::charts::drawn_trends(&history, quantity);
        drawn.iter().map(|trend| format!("{}, {}", trend.spec.era.name, trend.spec.selection)).collect()
    };
    let compute = [
        "before 2012, all systems",
        "2012 to mid-2018, the 3 largest at release",
        "since mid-2018, the 3 largest at release of all eras",
    ];
    assert_eq!(names(Quantity::Compute), compute);
    assert_eq!(names(Quantity::Parameters), ["before 2012, all systems", "since 2012, all systems"]);
}
