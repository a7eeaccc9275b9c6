//! Tests that `cluster.html` and `cluster.json` are created and agree. Also tests the fit of measured steps.

use super::*;
use serde_json::Value;
use std::collections::BTreeSet;
use wgrad_report::page::number;
use wgrad_stdx::format::thousands;

fn cluster(workload: &str) -> Cluster {
    let mut machines = builtin_machines();
    machines.truncate(3);
    let options = Options { devices: 256, ..Options::default() };
    let workload = builtin_workload(workload).unwrap();
    let predictions = machines.iter().map(|machine| Prediction::of(&workload, machine, &options)).collect();
    let samples: Vec<Sample> =
        [(4096.0, 0.11e-3), (1e6, 1.2e-3)].map(|(bytes, seconds)| Sample { bytes, seconds }).to_vec();
    Cluster {
        format: FORMAT,
        version: "0.0.0".into(),
        command: "wgrad cluster".into(),
        date: "2026-01-02T03:04:05Z".into(),
        options,
        workload,
        measured: Some(Measured {
            device: "synthetic".into(),
            steps: vec![MeasuredStep { batch: 64, passes: 0.0123, update: 0.00171 }],
        }),
        link: fit(2, &samples),
        machines,
        predictions,
        published: published(options.bucket_bytes).unwrap(),
    }
}

/// Adds every number of a JSON value to `all`, in each number format that the page uses.
fn collect_numbers(value: &Value, all: &mut BTreeSet<String>) {
    match value {
        Value::Number(n) => {
            let v = n.as_f64().unwrap();
            all.extend([1.0, 1e3, 1e6, 1e-6, 1e-9, 1e-12].map(|unit| number(unit * v)));
            all.extend([
                format!("{:.1}%", 100.0 * v),
                format!("{:+.1}%", 100.0 * v),
                thousands(v.abs() as u64),
            ]);
        }
        Value::Array(values) => values.iter().for_each(|value| collect_numbers(value, all)),
        Value::Object(values) => values.values().for_each(|value| collect_numbers(value, all)),
        _ => {}
    }
}

#[test]
fn every_number_in_the_tables_of_the_page_is_in_the_json() {
    for workload in ["vgg16", "transformer-1.3b"] {
        let cluster = cluster(workload);
        let html = cluster.html();
        let json = serde_json::to_value(&cluster).unwrap();
        let mut known = BTreeSet::new();
        collect_numbers(&json, &mut known);
        let document = roxmltree::Document::parse_with_options(
            &html,
            roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() },
        )
        .unwrap();
        let tables = document.descendants().filter(|node| node.has_tag_name("table"));
        let tables: Vec<_> = tables.filter(|table| table.attribute("class") != Some("facts")).collect();
        assert!(tables.len() > 12, "expected more than 12 tables, found {}", tables.len());
        let mut numbers = 0;
        for cell in tables.iter().flat_map(|table| table.descendants()).filter(|n| n.has_tag_name("td")) {
            let text = cell.text().unwrap_or_default();
            if text.starts_with(|c: char| c.is_ascii_digit() || c == '+' || c == '-') {
                assert!(known.contains(text), "{workload}: {text} is not in the JSON");
                numbers += 1;
            }
        }
        assert!(numbers > 500, "expected more than 500 numbers, found {numbers}");
        // Each figure has a table.
        let figures = document.descendants().filter(|node| node.has_tag_name("figure")).count();
        assert!(tables.len() >= figures, "{figures} figures, {} tables", tables.len());
        assert_eq!(serde_json::from_value::<Cluster>(json).unwrap(), cluster, "the JSON does not round-trip");
    }
}

#[test]
fn page_contains_all_sections_and_summary_sentences() {
    let html = cluster("transformer-1.3b").html();
    for part in [
        "Pipeline: bubble",
        "Tensor parallel",
        "Measured link",
        "Measured steps",
        "pascal-25gbe",
        "prefers-color-scheme",
    ] {
        assert!(html.contains(part), "`{part}` is missing");
    }
    let html = cluster("resnet50").html();
    assert!(!html.contains("Pipeline"));
    for sentence in cluster("resnet50").sentences() {
        assert!(html.contains(&sentence), "{sentence}");
    }
    assert_eq!(cluster("resnet50").sentences().len(), 3);
    assert!(!html.contains("does not fit"));
    let transformer = cluster("transformer-1.3b").sentences();
    // 1.3157 billion parameters of 16 bytes each, and activations of 3.42 GB for each of 8 samples.
    let expected = "a device has 16.00 GB of memory and needs 48.43 GB; it does not fit with ZeRO-1 either";
    assert!(transformer[2].contains(expected), "{}", transformer[2]);
    assert!(!transformer[0].contains("does not fit"), "{}", transformer[0]);
}

#[test]
fn write_creates_both_files_and_directory_errors_include_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let page = cluster("resnet50").write(&folder.path().join("there")).unwrap();
    assert!(page.ends_with("there/cluster.html") && page.is_file());
    let json = std::fs::read(folder.path().join("there/cluster.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Cluster>(&json).unwrap(), cluster("resnet50"));
    let taken = folder.path().join("taken");
    std::fs::write(&taken, "").unwrap();
    let error = Cluster::make_directory(&taken).unwrap_err().to_string();
    assert!(error.contains("cannot create") && error.contains("taken"), "{error}");
}

#[test]
fn measured_steps_are_fitted_with_a_line_over_batch_size() {
    let steps = |steps: &[(u64, f64)]| Measured {
        device: String::new(),
        steps: steps.iter().map(|&(batch, passes)| MeasuredStep { batch, passes, update: 0.5 }).collect(),
    };
    let compute = steps(&[(16, 5.0), (64, 17.0)]).compute().unwrap();
    assert_eq!((compute.fixed, compute.sample, compute.update), (1.0, 0.25, 0.5));
    let one = steps(&[(8, 2.0)]).compute().unwrap();
    assert_eq!((one.fixed, one.sample), (0.0, 0.25));
    let flat = steps(&[(16, 5.0), (64, 4.0)]).compute().unwrap();
    assert_eq!((flat.fixed, flat.sample), (4.0, 0.0));
    // The time grows faster than the batch size; the fixed time is clamped to 0.
    let steep = steps(&[(16, 1.0), (64, 16.0)]).compute().unwrap();
    assert_eq!((steep.fixed, steep.sample), (0.0, 0.25));
    assert_eq!(steps(&[]).compute(), None);
}
