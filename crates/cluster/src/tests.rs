//! The page says what the JSON says.

use super::*;
use serde_json::Value;
use std::collections::BTreeSet;
use wgrad_report::page::number;
use wgrad_stdx::format::thousands;

fn cluster(work: &str) -> Cluster {
    let mut machines = builtin_machines();
    machines.truncate(3);
    let options = Options { devices: 256, ..Options::default() };
    let work = builtin_work(work).unwrap();
    let predictions = machines.iter().map(|machine| Prediction::of(&work, machine, &options)).collect();
    let samples: Vec<Sample> =
        [(4096.0, 0.11e-3), (1e6, 1.2e-3)].map(|(bytes, seconds)| Sample { bytes, seconds }).to_vec();
    Cluster {
        format: FORMAT,
        version: "0.0.0".into(),
        command: "wgrad cluster".into(),
        date: "2026-01-02T03:04:05Z".into(),
        options,
        work,
        measured: Some(Measured {
            device: "made-up".into(),
            steps: vec![MeasuredStep { batch: 64, passes: 0.0123, update: 0.00171 }],
        }),
        link: fit(2, &samples),
        machines,
        predictions,
        published: published(options.bucket_bytes).unwrap(),
    }
}

/// Every number of a value, written in each way that the page knows.
fn written(value: &Value, all: &mut BTreeSet<String>) {
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
        Value::Array(values) => values.iter().for_each(|value| written(value, all)),
        Value::Object(values) => values.values().for_each(|value| written(value, all)),
        _ => {}
    }
}

#[test]
fn every_number_in_a_table_of_the_page_is_in_the_json() {
    for work in ["vgg16", "transformer-1.3b"] {
        let cluster = cluster(work);
        let html = cluster.html();
        let json = serde_json::to_value(&cluster).unwrap();
        let mut known = BTreeSet::new();
        written(&json, &mut known);
        let document = roxmltree::Document::parse_with_options(
            &html,
            roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() },
        )
        .unwrap();
        let tables = document.descendants().filter(|node| node.has_tag_name("table"));
        let tables: Vec<_> = tables.filter(|table| table.attribute("class") != Some("facts")).collect();
        assert!(tables.len() > 12, "{} tables", tables.len());
        let mut numbers = 0;
        for cell in tables.iter().flat_map(|table| table.descendants()).filter(|n| n.has_tag_name("td")) {
            let text = cell.text().unwrap_or_default();
            if text.starts_with(|c: char| c.is_ascii_digit() || c == '+' || c == '-') {
                assert!(known.contains(text), "{work}: {text} is not in the JSON");
                numbers += 1;
            }
        }
        assert!(numbers > 500, "{numbers}");
        // A figure has its table.
        let figures = document.descendants().filter(|node| node.has_tag_name("figure")).count();
        assert!(tables.len() >= figures, "{figures} figures, {} tables", tables.len());
        assert_eq!(
            serde_json::from_value::<Cluster>(json).unwrap(),
            cluster,
            "what is read is what was written"
        );
    }
}

#[test]
fn a_page_shows_what_is_in_a_prediction() {
    let html = cluster("transformer-1.3b").html();
    for part in [
        "Pipeline: bubble",
        "Tensor parallel",
        "Measured link",
        "Measured steps",
        "pascal-25gbe",
        "prefers-color-scheme",
    ] {
        assert!(html.contains(part), "{part}");
    }
    let html = cluster("resnet50").html();
    assert!(!html.contains("Pipeline"));
    for sentence in cluster("resnet50").sentences() {
        assert!(html.contains(&sentence), "{sentence}");
    }
    assert_eq!(cluster("resnet50").sentences().len(), 3);
    assert!(!html.contains("does not fit"));
    let transformer = cluster("transformer-1.3b").sentences();
    // 1.3157 billion parameters of 16 bytes and 8 samples of 3.42 GB.
    let expected = "a device has 16.00 GB and needs 48.43; nor does it with ZeRO-1";
    assert!(transformer[2].contains(expected), "{}", transformer[2]);
    assert!(!transformer[0].contains("does not fit"), "{}", transformer[0]);
}

#[test]
fn files_are_written_and_a_folder_that_cannot_be_is_named() {
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
fn measured_steps_are_a_line_over_the_batch() {
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
    // More than in proportion: no time below zero.
    let steep = steps(&[(16, 1.0), (64, 16.0)]).compute().unwrap();
    assert_eq!((steep.fixed, steep.sample), (0.0, 0.25));
    assert_eq!(steps(&[]).compute(), None);
}
