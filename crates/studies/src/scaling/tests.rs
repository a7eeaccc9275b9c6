//! The page says what the JSON says.

use super::*;
use crate::scaling::history::{OwnRun, Rate};
use crate::scaling::laws::testing;
use serde_json::Value;

fn scale() -> Scale {
    let history = History::of(&history::own().unwrap(), RESAMPLES, SEED).unwrap();
    let rate = |device: &str, sustained_flops: f64| Rate {
        device: device.into(),
        measured_on: "mlp".into(),
        sustained_flops,
        ceiling_flops: 1.37 * sustained_flops,
    };
    let own = OwnRun {
        name: "digits".into(),
        date: "2026-01-02".parse().unwrap(),
        flops: 2.917e10,
        parameters: 109_706,
    };
    let here = Here { devices: vec![rate("cpu", 1.234e11), rate("gpu:0", 2.345e13)], own: vec![own] };
    let trials = testing::sweep();
    Scale {
        format: FORMAT,
        version: "0.0.0".into(),
        command: "wgrad scale".into(),
        date: "2026-01-02T03:04:05Z".into(),
        seconds: 345.6,
        quick: true,
        interrupted: false,
        kept: None,
        times: here.times(&history),
        laws: Some(Laws::of(&trials, &[], 200, SEED)),
        history: Some(history),
        here,
        hardware: None,
        sweep: Some(sweep::builtin(true).unwrap()),
        missing: vec!["cifar-10".into()],
        unpredicted: Vec::new(),
        trials,
    }
}

/// Every number of a value.
fn numbers(value: &Value, all: &mut Vec<f64>) {
    match value {
        Value::Number(number) => all.extend(number.as_f64()),
        Value::Array(values) => values.iter().for_each(|value| numbers(value, all)),
        Value::Object(values) => values.values().for_each(|value| numbers(value, all)),
        _ => {}
    }
}

/// A number as it is printed, with half of its last digit; none if it has fewer than three digits, or is no number.
fn printed(token: &str) -> Option<(f64, f64)> {
    let token = token.trim_matches(|c: char| "()[]×%,;+".contains(c)).replace(',', "");
    let value: f64 = token.parse().ok()?;
    let mantissa = token.split('e').next().unwrap_or_default();
    let digits = mantissa.trim_start_matches('-').trim_start_matches(['0', '.']).replace('.', "").len();
    let places = mantissa.split_once('.').map_or(0, |(_, places)| places.len() as i32);
    let exponent: i32 = token.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    (digits >= 3).then(|| (value, 0.5001 * 10f64.powi(exponent - places)))
}

/// Numbers of the tables that are no number of the JSON in any unit that the page uses.
fn unknown(html: &str, json: &Value) -> (Vec<String>, usize) {
    let mut all = Vec::new();
    numbers(json, &mut all);
    // By how much compute is multiplied in a year is 10 to the power of a trend's slope, and the compute of all trainings a sum.
    let trends = json["history"]["trends"].as_array().unwrap();
    all.extend(trends.iter().map(|trend| 10f64.powf(trend["slope"].as_f64().unwrap())));
    let parts = ["forward", "backward", "update"];
    let trials = json["trials"].as_array().unwrap();
    let training =
        |trial: &Value| parts.map(|part| trial["flops"][part].as_f64().unwrap()).iter().sum::<f64>();
    all.push(trials.iter().map(training).sum());
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(html, options).unwrap();
    let units = [1.0, 100.0, 1e3, 1e-9];
    let (mut unknown, mut seen) = (Vec::new(), 0);
    for table in document.descendants().filter(|node| node.has_tag_name("table")) {
        let head: Vec<&str> =
            table.descendants().filter(|n| n.has_tag_name("th")).filter_map(|n| n.text()).collect();
        // What was published elsewhere, and what a law comes to at the sizes of a chart.
        if head.first() == Some(&"source") || table.ancestors().any(|node| node.has_tag_name("figure")) {
            continue;
        }
        for text in table.descendants().filter(|n| n.has_tag_name("td")).filter_map(|n| n.text()) {
            for (value, half) in text.split_whitespace().filter_map(printed) {
                seen += 1;
                let is = |known: &f64| units.iter().any(|unit| (unit * known - value).abs() <= half);
                if !all.iter().any(is) {
                    unknown.push(text.to_owned());
                }
            }
        }
    }
    (unknown, seen)
}

#[test]
fn every_number_of_a_table_is_in_the_json() {
    let scale = scale();
    let (html, json) = (scale.html(), serde_json::to_value(&scale).unwrap());
    let (unknown_ones, seen) = unknown(&html, &json);
    assert!(unknown_ones.is_empty(), "{unknown_ones:?}");
    assert!(seen > 800, "{seen}");
    // A page that says something else is seen to.
    let cell = format!("<td>{}</td>", wgrad_report::page::number(scale.trials[3].test_loss));
    // The last one: figures have tables too, with what laws come to.
    let at = html.rfind(&cell).unwrap();
    let other = format!("{}<td>0.98765</td>{}", &html[..at], &html[at + cell.len()..]);
    assert_eq!(unknown(&other, &json).0, ["0.98765"]);
}

#[test]
fn a_report_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let scale = scale();
    let page = scale.write(&folder.path().join("there")).unwrap();
    assert_eq!(page, folder.path().join("there/report.html"));
    let text = std::fs::read_to_string(folder.path().join("there/scale.json")).unwrap();
    // A training that diverged has no loss.
    let read: Scale = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), serde_json::to_value(&scale).unwrap());
    let error = scale.write(&folder.path().join("there/report.html")).unwrap_err().to_string();
    assert!(error.contains("report.html"), "{error}");
}

#[test]
fn parts_that_were_not_asked_for_are_kept_from_before() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(Scale::read(folder.path()), None);
    let before = scale();
    before.write(folder.path()).unwrap();
    let read = || Scale::read(folder.path()).unwrap();
    let empty = || Scale {
        history: None,
        laws: None,
        sweep: None,
        trials: Vec::new(),
        here: Here::default(),
        date: "2026-02-03T04:05:06Z".into(),
        ..scale()
    };
    // Only the history was made again.
    let mut now = Scale { history: before.history.clone(), ..empty() };
    now.keep(read());
    assert_eq!((now.trials.len(), now.laws.is_some()), (before.trials.len(), true));
    assert_eq!(now.kept.as_deref(), Some("2026-01-02T03:04:05Z"));
    assert!(now.html().contains("2026-01-02T03:04:05Z"));
    // All of it was.
    let mut now = scale();
    now.keep(read());
    assert_eq!((now.kept.as_ref(), &now.trials[..2]), (None, &before.trials[..2]));
    std::fs::write(folder.path().join("scale.json"), "{\"format\":1}").unwrap();
    assert_eq!(Scale::read(folder.path()), None);
}

#[test]
fn parts_that_were_not_asked_for_are_not_on_the_page() {
    let whole = scale();
    let parts = ["A history of training compute", "You are here", "Laws measured here", "The hardware"];
    let there = |scale: &Scale| -> Vec<bool> {
        let html = scale.html();
        parts.iter().map(|part| html.contains(part)).collect()
    };
    assert_eq!(there(&whole), [true, true, true, false]);
    let history = Scale { laws: None, sweep: None, trials: Vec::new(), here: Here::default(), ..whole };
    assert_eq!(there(&history), [true, false, false, false]);
    assert_eq!(there(&Scale { history: None, ..history }), [false; 4]);
}
