//! Training with the binary: accuracy, files of a run, resuming with identical bits, interrupts, prediction and summary.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{binary, last_json, stderr, wgrad};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn parameters(run: &Path, step: u64) -> Vec<u8> {
    fs::read(run.join(format!("checkpoints/step-{step:06}/model.safetensors"))).unwrap()
}

#[test]
fn digits_reaches_the_expected_accuracy_and_reports_it() {
    let dir = folder();
    let output = wgrad(dir.path(), "train digits --device cpu --json");
    assert!(output.status.success(), "{}", stderr(&output));
    let result = last_json(&output);
    let accuracy = result["test"]["accuracy"].as_f64().unwrap();
    assert!(accuracy >= 0.975, "{accuracy}");
    assert_eq!((result["recipe"].as_str(), result["device"]["kind"].as_str()), (Some("digits"), Some("cpu")));
    for key in ["steps", "seconds", "parameters"] {
        assert!(result[key].as_f64().unwrap() > 0.0, "{key}: {result}");
    }
    assert!(result["train"]["loss"].as_f64().unwrap() < 0.5);
    let run = dir.path().join(result["run"].as_str().unwrap());
    for file in ["recipe.toml", "metrics.jsonl", "report.html", "done.json"] {
        assert!(run.join(file).is_file(), "{file}");
    }
    let rows = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let first: serde_json::Value = serde_json::from_str(rows.lines().next().unwrap()).unwrap();
    for key in ["step", "epoch", "split", "loss", "lr"] {
        assert!(!first[key].is_null(), "{key}: {first}");
    }
    let evaluated = last_json(&wgrad(dir.path(), &format!("eval {} --device cpu --json", run.display())));
    assert_eq!(evaluated["test"]["accuracy"], result["test"]["accuracy"]);
}

#[test]
fn resume_in_the_middle_of_an_epoch_has_identical_bits() {
    let dir = folder();
    // Resume must restore the state of dropout, moments, accumulation and the moving average.
    let options = "--device cpu --set train.epochs=3 --set schedule.kind=constant --set train.accumulate=3 \
        --set train.batch=32 --set train.ema=0.9";
    let run = |extra: &str| {
        let output = wgrad(dir.path(), &format!("train digits {options} {extra}"));
        assert!(output.status.success(), "{}", stderr(&output));
    };
    run("--out uninterrupted");
    run("--out resumed --set train.steps=17");
    let output = wgrad(dir.path(), "train digits --device cpu --resume --out resumed --set train.steps=42");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        parameters(&dir.path().join("uninterrupted"), 42) == parameters(&dir.path().join("resumed"), 42),
        "parameters differ"
    );
    let losses = |run: &str| {
        let rows = fs::read_to_string(dir.path().join(run).join("metrics.jsonl")).unwrap();
        rows.lines().filter(|row| row.contains("\"train\"")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(losses("uninterrupted"), losses("resumed"));
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_a_checkpoint_and_exits_with_130() {
    let dir = folder();
    let mut child = Command::new(binary())
        .args(["train", "digits-mlp", "--device", "cpu", "--set", "train.epochs=100000", "--out", "run"])
        .current_dir(dir.path())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let metrics = dir.path().join("run/metrics.jsonl");
    let start = Instant::now();
    while fs::metadata(&metrics).map_or(0, |m| m.len()) < 1000 {
        assert!(start.elapsed() < Duration::from_secs(60), "the training does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!dir.path().join("run/done.json").exists(), "an interrupted run must not be marked as done");
    let saved =
        fs::read_dir(dir.path().join("run/checkpoints")).unwrap().map(|entry| entry.unwrap().file_name());
    let last =
        saved.filter_map(|name| name.to_str()?.strip_prefix("step-")?.parse::<u64>().ok()).max().unwrap();
    let arguments =
        format!("train digits-mlp --device cpu --resume --out run --set train.steps={}", last + 1);
    let resumed = wgrad(dir.path(), &arguments);
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    assert!(stderr(&resumed).contains("Resuming"), "{}", stderr(&resumed));
}

#[test]
fn predict_accepts_rows_in_the_format_of_the_training_data() {
    let dir = folder();
    let trained = wgrad(dir.path(), "train digits-mlp --device cpu --set train.epochs=8 --out run");
    assert!(trained.status.success(), "{}", stderr(&trained));
    let splits = wgrad::data::load(&"digits".parse().unwrap()).unwrap();
    let rows = (0..50).map(|i| {
        let pixels = splits.test.example(i).unwrap().into_iter().map(|x| (x * 16.0).to_string());
        pixels.collect::<Vec<_>>().join(",")
    });
    fs::write(dir.path().join("rows.csv"), rows.collect::<Vec<_>>().join("\n")).unwrap();
    let output = wgrad(dir.path(), "predict run rows.csv --device cpu --json");
    assert!(output.status.success(), "{}", stderr(&output));
    let wgrad::data::Targets::Classes { labels, .. } = splits.test.targets() else {
        panic!("digits must have class targets")
    };
    let predicted = last_json(&output);
    let correct = (0..50).filter(|&i| predicted[i]["prediction"]["index"] == labels[i]).count();
    assert!(correct >= 44, "{correct} of 50: {predicted}");
}

#[test]
fn summary_matches_the_training_program() {
    let dir = folder();
    let summary = last_json(&wgrad(dir.path(), "summary digits-mlp --device cpu --json"));
    assert_eq!(summary["parameters"], 64 * 128 + 128 + 128 * 128 + 128 + 128 * 10 + 10);
    assert!(summary["dispatches_per_step"].as_u64().unwrap() <= 20, "{summary}");
    let products = 2 * 64 * (2 * 64 * 128 + 3 * 128 * 128 + 3 * 128 * 10);
    let flops = summary["flops_per_step"].as_u64().unwrap();
    assert!(
        flops >= products && flops < products * 11 / 10,
        "{flops} FLOPs, of which {products} in matrix products"
    );
    let kernels = summary["kernels"].as_array().unwrap();
    let count: u64 = kernels.iter().map(|kernel| kernel["count"].as_u64().unwrap()).sum();
    assert_eq!(Some(count), summary["dispatches_per_step"].as_u64());
    assert!(summary["peak_bytes"].as_u64().unwrap() > 0);
}

#[test]
fn closed_stdout_is_not_an_error() {
    let dir = folder();
    let mut child = Command::new(binary())
        .args(["summary", "digits", "--device", "cpu"])
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}
