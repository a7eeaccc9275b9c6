//! Tests of the command `wgrad bench`: covered devices and cases, comparison with an earlier result, and errors.

use std::fs;

use crate::support::{adapters, last_json, stderr, wgrad};
use serde_json::Value;

/// Returns the device names in the list `key` of a benchmark.
fn device_names(value: &Value, key: &str) -> Vec<String> {
    let entries = value[key].as_array().cloned().unwrap_or_default();
    entries.iter().map(|entry| entry["device"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn quick_bench_covers_the_cpu_and_every_adapter() {
    let folder = tempfile::tempdir().unwrap();
    let output = wgrad(folder.path(), "bench --quick --only relu --json --out here");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let bench = last_json(&output);
    let adapters = adapters("quick_bench_covers_the_cpu_and_every_adapter");
    let expected: Vec<String> =
        std::iter::once("cpu".into()).chain(adapters.iter().map(|(i, _)| format!("gpu:{i}"))).collect();
    assert_eq!(device_names(&bench, "devices"), expected);
    for device in &expected {
        let results = bench["results"].as_array().unwrap();
        let device_results: Vec<&Value> = results.iter().filter(|r| r["device"] == device.as_str()).collect();
        let relu = device_results.iter().find(|result| result["case"] == "relu-1M").unwrap();
        assert_eq!(relu["status"], "timed", "{relu}");
        assert!(relu["time"]["ms"].as_f64().unwrap() > 0.0);
        assert!(relu["time"]["roofline_share"].as_f64().unwrap() > 0.0);
        assert_eq!(relu["time"]["host_us"].is_null(), device == "cpu");
        // 2^20 f32 elements, read and written.
        assert_eq!(relu["work"]["bytes"], 8 << 20);
        assert_eq!(relu["work"]["flops"], 1 << 20);
        assert_eq!(relu["check"]["by"], "reference");
        for case in ["copy-16MiB", "fma-64x1M", "launch-100", "upload-16MiB", "readback-16MiB"] {
            assert!(device_results.iter().any(|result| result["case"] == case), "{case} on {device}");
        }
        assert!(
            !device_results.iter().any(|result| result["case"] == "exp-1M"),
            "--only relu excludes exp-1M"
        );
    }
    let written = fs::read_to_string(folder.path().join("here/bench.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), bench);
    assert!(fs::read_to_string(folder.path().join("here/bench.html")).unwrap().contains("relu-1M"));
}

#[test]
fn bench_is_compared_with_an_earlier_result() {
    let folder = tempfile::tempdir().unwrap();
    let bench = |more: &str| {
        wgrad(folder.path(), &format!("bench --quick --only sum-all --devices cpu --json {more}"))
    };
    assert_eq!(bench("--out old").status.code(), Some(0));
    let output = bench("--out new --compare old/bench.json");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let changes = last_json(&output)["comparison"]["changes"].clone();
    let changes = changes.as_array().unwrap();
    assert!(changes.iter().any(|change| change["case"] == "sum-all-1024x1024"), "{changes:?}");
    assert!(changes.iter().all(|change| change["ratio"].as_f64().unwrap() > 0.0));
    let file = folder.path().join("old/bench.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("\"format\":1", "\"format\":77")).unwrap();
    let output = bench("--out new --compare old/bench.json");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("format version 77"), "{}", stderr(&output));
}

#[test]
fn cold_start_phases_sum_to_the_total() {
    let folder = tempfile::tempdir().unwrap();
    let output = wgrad(folder.path(), "bench --devices cpu --cold-start mlp");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let cold = last_json(&output);
    let parts = ["process_ms", "device_ms", "plan_ms", "load_ms", "first_step_ms"];
    let sum: f64 = parts.iter().map(|part| cold[part].as_f64().unwrap()).sum();
    let total = cold["total_ms"].as_f64().unwrap();
    assert!(sum > 0.0 && sum <= total && total < 1.1 * sum + 20.0, "{sum} of {total}: {cold}");
}

#[test]
fn invalid_arguments_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("taken"), "").unwrap();
    for (arguments, code, parts) in [
        ("bench --only relu --devices cpu --out taken", 2, ["cannot create", "taken"]),
        ("bench --only mtamul-512", 2, ["mtamul-512", "did you mean `matmul-512`"]),
        ("bench --devices cpu,tpu", 2, ["tpu", "gpu:N"]),
        ("bench --devices auto", 2, ["--devices", "auto"]),
        ("bench --devices gpu:99", 4, ["gpu:99", "does not exist"]),
        ("bench --compare missing.json", 2, ["missing.json", "cannot read"]),
    ] {
        let output = wgrad(folder.path(), arguments);
        let messages = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments}: {messages}");
        for part in parts {
            assert!(messages.contains(part), "{arguments}: {part:?} is missing in {messages}");
        }
    }
    assert!(!folder.path().join("bench-results").exists(), "no result directory is created");
}
