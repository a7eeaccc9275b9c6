//! The page of the history.

use super::*;
use wgrad_report::page;

fn here() -> Here {
    let rate = |device: &str, sustained_flops, ceiling_flops| Rate {
        device: device.into(),
        measured_on: "a step of fashion-mnist, batch 128".into(),
        sustained_flops,
        ceiling_flops,
    };
    let run = |name: &str, date: &str, flops, parameters| OwnRun {
        name: name.into(),
        date: date.parse().unwrap(),
        flops,
        parameters,
    };
    Here {
        devices: vec![rate("CPU, 2 threads", 4.2e10, 1.1e11), rate("GPU <one>", 6.1e12, 2.4e13)],
        own: vec![
            run("digits", "2026-01-02", 4.1e9, 9098),
            run("fashion-mnist", "2026-03-02", 3.5e12, 421_642),
            run("cifar10", "2026-11-02", 2.4e15, 272_474),
        ],
    }
}

fn html(history: &History, here: &Here) -> String {
    let mut html = String::new();
    page::begin(&mut html, "Scale", "a test").unwrap();
    super::super::page::write(&mut html, history, here).unwrap();
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

/// Where `WGRAD_PAGE` names a folder, pages are left there to be looked at.
fn show(name: &str, html: &str) {
    if let Some(folder) = std::env::var_os("WGRAD_PAGE") {
        std::fs::write(std::path::Path::new(&folder).join(name), html).unwrap();
    }
}

#[test]
fn a_page_says_the_selections_and_shows_what_is_in_the_history() {
    let history = History::of(&own().unwrap(), RESAMPLES, SEED).unwrap();
    let html = html(&history, &here());
    show("history.html", &html);
    well_formed(&html);
    for sentence in history.sentences().iter().chain(&here().sentences(&history)) {
        assert!(html.contains(&page::Escaped(sentence).to_string()), "{sentence}");
    }
    let sentences = history.sentences();
    assert!(
        sentences[0].contains("before 2012, all systems") && sentences[0].contains("The book says 24 months")
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
        "you are here: cifar10</text>",
        "fashion-mnist</text>",
        "digits</text>",
        "a year of GPU &lt;one&gt;</text>",
        "Left out of",
        "1860 petaflop/s-days",
    ] {
        assert!(html.contains(part), "{part}");
    }
    // Names in the pictures: most of a small table.
    let callouts = html.matches("class=\"callout\"").count();
    assert!(callouts > 80, "{callouts}");
}

#[test]
fn a_page_without_devices_or_trends_is_whole() {
    let text =
        "Model,Publication date,Parameters,Training compute (FLOP)\na<b,2012-01-02,5,1e3\nbad,2012,,\n";
    let history = History::of(&parse(text.as_bytes(), "my.csv").unwrap(), RESAMPLES, 1).unwrap();
    let html = html(&history, &Here::default());
    well_formed(&html);
    assert!(html.contains("No trend of training compute 2012 to mid-2018: it has 1 of the 3 systems"));
    assert!(
        html.contains("No systems with parameters: before 2012.")
            && html.contains("Parameters of each system")
    );
    assert!(html.contains("Left out of my.csv, by line (1)") && html.contains("2012 is only a year"));
    assert!(!html.contains("You are here") && !html.contains("Estimates that differ"));
}

/// The pictures of a page, and the lowest mark of each one's vertical axis.
fn pictures(html: &str) -> Vec<&str> {
    html.split("<svg").skip(1).map(|picture| picture.split("</svg>").next().unwrap()).collect()
}

fn lowest(picture: &str) -> f64 {
    let marks = picture.split("text-anchor=\"end\">").skip(1);
    marks.filter_map(|mark| mark.split('<').next()?.parse().ok()).fold(f64::INFINITY, f64::min)
}

#[test]
fn own_runs_are_in_the_whole_picture_and_do_not_stretch_that_of_late_years() {
    let history = History::of(&own().unwrap(), RESAMPLES, SEED).unwrap();
    let html = html(&history, &here());
    let [all, late, parameters] = pictures(&html)[..] else { panic!("three pictures") };
    assert!(all.contains("you are here") && parameters.contains("you are here"));
    assert!(!late.contains("you are here") && !late.contains("your runs"), "{late}");
    assert!(lowest(late) >= 1e14, "{}", lowest(late));
    // What a device does is written in both, and a rate of nothing is no line.
    for picture in [all, late] {
        assert!(picture.contains("a day of CPU, 2 threads</text>"), "{picture}");
    }
    let slow =
        Here { devices: vec![Rate { sustained_flops: 1e-9, ..here().devices.remove(0) }], own: Vec::new() };
    let html = self::html(&history, &slow);
    assert!(!html.contains("a day of") && lowest(pictures(&html)[1]) >= 1e14);
}

#[test]
fn runs_whose_compute_is_no_number_are_not_drawn_and_break_nothing() {
    let history = History::of(&own().unwrap(), RESAMPLES, SEED).unwrap();
    let good = here();
    let mut bad = here();
    for (index, flops) in [f64::NAN, -1e9, 0.0, f64::INFINITY].into_iter().enumerate() {
        let name = format!("broken {index}");
        bad.own.push(OwnRun { name, date: "1900-01-01".parse().unwrap(), flops, parameters: 0 });
    }
    let (good, bad) = (html(&history, &good), html(&history, &bad));
    well_formed(&bad);
    // To the byte: neither a point nor a longer axis.
    assert_eq!(pictures(&good), pictures(&bad));
    assert_eq!(bad.matches(">unknown<").count(), 4);
    let rates = [f64::NAN, -1.0, f64::INFINITY];
    let rate = here().devices.remove(0);
    let devices = rates.map(|sustained_flops| Rate { sustained_flops, ..rate.clone() }).to_vec();
    let html = html(&history, &Here { devices, own: Vec::new() });
    well_formed(&html);
    assert!(!html.contains("a day of"));
}

#[test]
fn many_runs_are_folded_and_few_are_not() {
    let history = History::of(&own().unwrap(), RESAMPLES, SEED).unwrap();
    let run = here().own.remove(0);
    let with = |count: usize| {
        let own = (0..count).map(|index| OwnRun { name: format!("run {index}"), ..run.clone() }).collect();
        html(&history, &Here { devices: Vec::new(), own })
    };
    assert!(with(3).contains("<th>your run</th>") && !with(3).contains("<summary>Your runs"));
    assert!(with(30).contains("<summary>Your runs (30)</summary>"));
}

#[test]
fn a_table_without_parameters_has_no_picture_of_them() {
    let text = "Model,Publication date,Training compute (FLOP)\na,1990-01-02,1e3\nb,1995-01-02,1e4\nc,2000-01-02,1e5\n";
    let history = History::of(&parse(text.as_bytes(), "my.csv").unwrap(), RESAMPLES, SEED).unwrap();
    let html = html(&history, &here());
    well_formed(&html);
    assert!(
        !html.contains("Parameters of each system") && html.contains("No system of my.csv has parameters.")
    );
}

#[test]
fn estimates_are_shown_where_they_differ() {
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
    let history = History::of(&parse(text.as_bytes(), "my.csv").unwrap(), RESAMPLES, SEED).unwrap();
    let html = html(&history, &Here::default());
    for (source, shown) in [("near", false), ("nearer", false), ("above", true), ("below", true)] {
        assert_eq!(html.contains(&format!("<td>{source}</td>")), shown, "{source}");
    }
    assert!(html.contains("Another 2 agree within 10%."));
}

#[test]
fn a_selection_that_takes_all_systems_is_one_row() {
    let rows = [("2013-01-01", "1e3"), ("2014-01-01", "1e4"), ("2015-01-01", "1e5")];
    let history = History::of(&table(&rows), RESAMPLES, SEED).unwrap();
    let html = html(&history, &Here::default());
    assert_eq!(html.matches("compute, 2012 to mid-2018</th>").count(), 1, "{html}");
    let all = "the 3 largest at release = the 3 largest at release of all eras = the 10 largest at release = all systems</td>";
    assert!(html.contains(all), "{html}");
}

#[test]
fn eras_that_are_drawn_do_not_overlap() {
    let history = History::of(&own().unwrap(), RESAMPLES, SEED).unwrap();
    let names = |quantity| -> Vec<String> {
        let drawn = super::super::charts::drawn(&history, quantity);
        drawn.iter().map(|trend| format!("{}, {}", trend.asked.era.name, trend.asked.selection)).collect()
    };
    let compute = [
        "before 2012, all systems",
        "2012 to mid-2018, the 3 largest at release",
        "since mid-2018, the 3 largest at release of all eras",
    ];
    assert_eq!(names(Quantity::Compute), compute);
    assert_eq!(names(Quantity::Parameters), ["before 2012, all systems", "since 2012, all systems"]);
}
