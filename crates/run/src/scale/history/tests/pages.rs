//! The page of the history.

use super::*;
use crate::page;

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
    let history = History::of(&own().unwrap(), RESAMPLES, 1).unwrap();
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
            && sentences[1].contains("3.4 months, which the interval holds")
    );
    for system in &history.systems {
        assert!(html.contains(&page::Escaped(&system.name).to_string()), "{}", system.name);
    }
    for part in [
        "AlexNet</text>",
        "you are here</text>",
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
    assert!(html.contains("No trend of before 2012, all systems: 0 systems are fewer than 3."));
    assert!(html.contains("Left out of my.csv, by line (1)") && html.contains("2012 is only a year"));
    assert!(!html.contains("You are here") && !html.contains("Estimates that differ"));
}

#[test]
fn eras_that_are_drawn_do_not_overlap() {
    let history = History::of(&own().unwrap(), RESAMPLES, 1).unwrap();
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
