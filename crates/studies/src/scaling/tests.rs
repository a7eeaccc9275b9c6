//! Tests that every number on the page is in `scale.json`, and that studies are read, written and merged correctly.

use super::*;
use crate::scaling::history::{DeviceRate, LocalRun};
use crate::scaling::laws::testing;
use serde_json::Value;

fn scale() -> ScalingStudy {
    let history = History::new(&history::builtin_table().unwrap(), RESAMPLES, SEED).unwrap();
    let rate = |device: &str, sustained_flops: f64| DeviceRate {
        device: device.into(),
        measured_on: "mlp".into(),
        sustained_flops,
        ceiling_flops: 1.37 * sustained_flops,
    };
    let run = LocalRun {
        name: "digits".into(),
        date: "2026-01-02".parse().unwrap(),
        flops: 2.917e10,
        parameters: 109_706,
    };
    let machine =
        LocalMachine { devices: vec![rate("cpu", 1.234e11), rate("gpu:0", 2.345e13)], runs: vec![run] };
    let trials = testing::sweep();
    ScalingStudy {
        format: FORMAT,
        version: "0.0.0".into(),
        command: "wgrad scale".into(),
        date: "2026-01-02T03:04:05Z".into(),
        seconds: 345.6,
        quick: true,
        interrupted: false,
        carried_over_from: None,
        times: machine.times(&history),
        laws: Some(Laws::fit(&trials, &[], 200, SEED)),
        history: Some(history),
        machine,
        hardware: None,
        sweep: Some(sweep::builtin(true).unwrap()),
        missing: vec!["cifar-10".into()],
        unpredicted: Vec::new(),
        trials,
    }
}

/// Appends every number in a JSON value to `all`.
fn numbers(value: &Value, all: &mut Vec<f64>) {
    match value {
        Value::Number(number) => all.extend(number.as_f64()),
        Value::Array(values) => values.iter().for_each(|value| numbers(value, all)),
        Value::Object(values) => values.values().for_each(|value| numbers(value, all)),
        _ => {}
    }
}

/// Parses a printed number. Returns the number and its rounding error, half a unit of the last digit. Returns `None`
/// for text and for numbers with fewer than three digits.
fn parse_printed(token: &str) -> Option<(f64, f64)> {
    let token = token.trim_matches(|c: char| "()[]×%,;+".contains(c)).replace(',', "");
    let value: f64 = token.parse().ok()?;
    let mantissa = token.split('e').next().unwrap_or_default();
    let digits = mantissa.trim_start_matches('-').trim_start_matches(['0', '.']).replace('.', "").len();
    let places = mantissa.split_once('.').map_or(0, |(_, places)| places.len() as i32);
    let exponent: i32 = token.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    (digits >= 3).then(|| (value, 0.5001 * 10f64.powi(exponent - places)))
}

/// Returns the table cells with a number that is not in the JSON. A number is found in the JSON if it equals a JSON
/// number in the same unit or in another unit of the page, e.g. percent. Also returns the count of checked numbers.
fn unknown(html: &str, json: &Value) -> (Vec<String>, usize) {
    let mut all = Vec::new();
    numbers(json, &mut all);
    // Two kinds of numbers on the page are computed from numbers of the JSON. The yearly growth factor is 10 to the
    // power of the slope. The total compute is the sum over all training runs.
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
        // Skips two kinds of tables: published laws are not in the JSON, and the tables of charts contain values
        // computed from the fitted laws.
        if head.first() == Some(&"source") || table.ancestors().any(|node| node.has_tag_name("figure")) {
            continue;
        }
        for text in table.descendants().filter(|n| n.has_tag_name("td")).filter_map(|n| n.text()) {
            for (value, half) in text.split_whitespace().filter_map(parse_printed) {
                seen += 1;
                let matches = |known: &f64| units.iter().any(|unit| (unit * known - value).abs() <= half);
                if !all.iter().any(matches) {
                    unknown.push(text.to_owned());
                }
            }
        }
    }
    (unknown, seen)
}

#[test]
fn numbers_in_tables_are_in_the_json() {
    let scale = scale();
    let (html, json) = (scale.html(), serde_json::to_value(&scale).unwrap());
    let (missing, seen) = unknown(&html, &json);
    assert!(missing.is_empty(), "{missing:?}");
    assert!(seen > 800, "{seen}");
    // A changed number is detected.
    let cell = format!("<td>{}</td>", wgrad_report::page::number(scale.trials[3].test_loss));
    // Replaces the last occurrence, because the tables of charts come first and are not checked.
    let at = html.rfind(&cell).unwrap();
    let other = format!("{}<td>0.98765</td>{}", &html[..at], &html[at + cell.len()..]);
    assert_eq!(unknown(&other, &json).0, ["0.98765"]);
}

#[test]
fn study_round_trips_through_json() {
    let folder = tempfile::tempdir().unwrap();
    let scale = scale();
    let page = scale.write(&folder.path().join("there")).unwrap();
    assert_eq!(page, folder.path().join("there/report.html"));
    let text = std::fs::read_to_string(folder.path().join("there/scale.json")).unwrap();
    // Compares JSON values, because diverged training runs have NaN losses, which are not equal to themselves.
    let read: ScalingStudy = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), serde_json::to_value(&scale).unwrap());
    let error = scale.write(&folder.path().join("there/report.html")).unwrap_err().to_string();
    assert!(error.contains("report.html"), "{error}");
}

#[test]
fn missing_parts_are_filled_in_from_an_earlier_study() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(ScalingStudy::read(folder.path()), None);
    let earlier = scale();
    earlier.write(folder.path()).unwrap();
    let read = || ScalingStudy::read(folder.path()).unwrap();
    let empty = || ScalingStudy {
        history: None,
        laws: None,
        sweep: None,
        trials: Vec::new(),
        machine: LocalMachine::default(),
        date: "2026-02-03T04:05:06Z".into(),
        ..scale()
    };
    // The current study has only a history, so the laws are copied.
    let mut current = ScalingStudy { history: earlier.history.clone(), ..empty() };
    current.fill_missing_from(read());
    assert_eq!((current.trials.len(), current.laws.is_some()), (earlier.trials.len(), true));
    assert_eq!(current.carried_over_from.as_deref(), Some("2026-01-02T03:04:05Z"));
    assert!(current.html().contains("2026-01-02T03:04:05Z"));
    // The current study has all parts, so nothing is copied.
    let mut current = scale();
    current.fill_missing_from(read());
    assert_eq!((current.carried_over_from.as_ref(), &current.trials[..2]), (None, &earlier.trials[..2]));
    std::fs::write(folder.path().join("scale.json"), "{\"format\":1}").unwrap();
    assert_eq!(ScalingStudy::read(folder.path()), None);
}

#[test]
fn page_omits_missing_parts() {
    let whole = scale();
    let parts = [
        "A history of training compute",
        "This machine",
        "Scaling laws of the training runs on this machine",
        "<h2>Hardware",
    ];
    let present = |scale: &ScalingStudy| -> Vec<bool> {
        let html = scale.html();
        parts.iter().map(|part| html.contains(part)).collect()
    };
    assert_eq!(present(&whole), [true, true, true, false]);
    let history = ScalingStudy {
        laws: None,
        sweep: None,
        trials: Vec::new(),
        machine: LocalMachine::default(),
        ..whole
    };
    assert_eq!(present(&history), [true, false, false, false]);
    assert_eq!(present(&ScalingStudy { history: None, ..history }), [false; 4]);
}
