//! Bad input is reported with a clear error and its exit code, without a panic and without loss of files.

use std::fs;
use std::path::Path;

use crate::support::{stderr, wgrad};

/// Runs a command and checks that it fails with `code` and prints each of `parts`.
#[track_caller]
fn assert_fails(folder: &Path, arguments: &str, code: i32, parts: &[&str]) {
    let output = wgrad(folder, arguments);
    let messages = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "wgrad {arguments}\n{messages}");
    for part in parts {
        assert!(messages.contains(part), "wgrad {arguments}: {part:?} is missing in\n{messages}");
    }
    assert!(!messages.contains("panicked"), "wgrad {arguments}\n{messages}");
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn unknown_names_suggest_the_nearest_name() {
    let dir = folder();
    assert_fails(dir.path(), "train digit", 2, &["digit", "did you mean `digits`"]);
    assert_fails(dir.path(), "train digits --set train.bacth=3", 2, &["train.bacth", "train.batch"]);
    assert_fails(
        dir.path(),
        "train digits --set model.kind=residual-mpl",
        2,
        &["residual-mpl", "residual-mlp"],
    );
    assert_fails(dir.path(), "data get fashion-minst", 3, &["fashion-minst", "fashion-mnist"]);
    assert_fails(dir.path(), "trian digits", 2, &["trian", "train"]);
    assert_fails(dir.path(), "tune", 2, &["RECIPE"]);
    assert_fails(dir.path(), "tune --shapes 64,64", 2, &["64,64", "M,N,K"]);
    let recipe = "name = \"mine\"\n[data]\nkind = \"digits\"\n[model]\nkind = \"mlp\"\n\
        [optimizer]\nkind = \"sgd\"\n[train]\nepoch = 3\n";
    fs::write(dir.path().join("mine.toml"), recipe).unwrap();
    assert_fails(dir.path(), "train mine.toml", 2, &["mine.toml:9:1", "epoch", "epochs"]);
}

#[test]
fn values_out_of_range_name_the_key() {
    let dir = folder();
    assert_fails(dir.path(), "train digits --set train.batch=0", 2, &["train.batch"]);
    assert_fails(dir.path(), "train digits --device cpu --set train.batch=2000", 3, &["2000", "1437"]);
    assert_fails(dir.path(), "train digits --set train.batch=many", 2, &["train.batch", "many"]);
    assert_fails(dir.path(), "train digits --set optimizer.lr=-1", 2, &["optimizer.lr"]);
    assert_fails(dir.path(), "train digits --set model.dropout=1.5", 2, &["model.dropout"]);
}

#[test]
fn missing_devices_are_reported() {
    let dir = folder();
    assert_fails(dir.path(), "train digits --device gpu:99", 4, &["gpu:99"]);
    assert_fails(dir.path(), "train digits --device tpu", 2, &["tpu", "gpu:N"]);
    assert_fails(dir.path(), "tune digits --device gpu:99", 4, &["gpu:99"]);
    assert_fails(dir.path(), "tune digits --device cpu", 2, &["only GPUs"]);
}

#[test]
fn oversized_model_is_refused_with_its_largest_tensors() {
    let dir = folder();
    let huge = "train digits --device cpu --set model.width=20000";
    assert_fails(dir.path(), huge, 4, &["does not fit", "largest"]);
    assert!(!dir.path().join("runs").exists(), "no run directory is created");
}

#[test]
fn malformed_csv_files_are_reported_with_line_and_column() {
    let dir = folder();
    let csv = |name: &str, text: &str| {
        fs::write(dir.path().join(format!("{name}.csv")), text).unwrap();
        let recipe = format!(
            "name = \"{name}\"\n[data]\nkind = \"csv\"\npath = \"{name}.csv\"\n[model]\nkind = \"mlp\"\n"
        );
        fs::write(dir.path().join(format!("{name}.toml")), recipe).unwrap();
        format!("train {name}.toml --device cpu")
    };
    assert_fails(dir.path(), &csv("word", "a,b,y\n1,2,0\n1,x,1\n"), 3, &["word.csv", "3", "x"]);
    assert_fails(dir.path(), &csv("short", "1,2,0\n1,0\n"), 3, &["short.csv", "2"]);
    assert_fails(dir.path(), &csv("empty", ""), 3, &["empty.csv"]);
    assert_fails(dir.path(), "train digits --set data.kind=csv --set data.path=none.csv", 3, &["none.csv"]);
}

#[test]
fn nan_loss_names_the_first_non_finite_operation() {
    let dir = folder();
    let output = "train digits-mlp --device cpu --set optimizer.lr=1e30 --out run";
    assert_fails(dir.path(), output, 5, &["step 2", "matmul", "layer 3", "forward pass"]);
    let rows = fs::read_to_string(dir.path().join("run/metrics.jsonl")).unwrap_or_default();
    assert!(!rows.contains("NaN"), "{rows}");
}

#[test]
fn nan_test_loss_is_an_error() {
    let dir = folder();
    let once =
        "train digits-mlp --device cpu --set optimizer.kind=sgd --set optimizer.lr=1e30 --set train.steps=1";
    assert_fails(dir.path(), once, 5, &["test loss", "step 1"]);
}

/// A run that failed before its first checkpoint is resumed from step 0.
#[test]
fn run_without_checkpoint_resumes_from_the_start() {
    let dir = folder();
    assert_fails(
        dir.path(),
        "train digits-mlp --device cpu --set optimizer.lr=1e30 --out run",
        5,
        &["step 2"],
    );
    let again = wgrad(
        dir.path(),
        "train digits-mlp --device cpu --resume --out run --set optimizer.lr=1e-3 --set train.epochs=1",
    );
    assert!(again.status.success(), "{}", stderr(&again));
    let rows = fs::read_to_string(dir.path().join("run/metrics.jsonl")).unwrap();
    assert_eq!(rows.lines().filter(|row| row.contains("\"step\":1,")).count(), 1, "{rows}");
}

#[test]
fn damaged_or_mismatched_checkpoints_are_refused() {
    let dir = folder();
    let trained = wgrad(dir.path(), "train digits-mlp --device cpu --set train.epochs=1 --out run");
    assert!(trained.status.success(), "{}", stderr(&trained));
    assert_fails(dir.path(), "train digits-mlp --out run", 6, &["already contains", "--resume"]);
    assert_fails(dir.path(), "train digits --resume --out run", 2, &["digits-mlp"]);
    assert_fails(dir.path(), "eval nowhere", 6, &["nowhere"]);
    let again = "train digits-mlp --device cpu --resume --out run";
    assert_fails(dir.path(), again, 2, &["22 steps", "train.epochs"]);
    assert_fails(
        dir.path(),
        &format!("{again} --set train.epochs=2 --set train.batch=32"),
        2,
        &["train.batch"],
    );
    assert!(dir.path().join("run/done.json").is_file(), "a refused resume keeps done.json");
    assert_fails(dir.path(), "eval run --device gpu:99", 4, &["gpu:99"]);
    let wider =
        "train digits-mlp --device cpu --resume --out run --set train.epochs=2 --set model.hidden=[64,64]";
    assert_fails(dir.path(), wider, 6, &["0.weight", "[128, 64]", "[64, 64]"]);
    let model = dir.path().join("run/checkpoints/step-000022/model.safetensors");
    let mut bytes = fs::read(&model).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&model, &bytes).unwrap();
    assert_fails(dir.path(), "eval run --device cpu", 6, &["model.safetensors", "SHA-256"]);
    fs::write(&model, &bytes[..middle]).unwrap();
    assert_fails(dir.path(), "eval run --device cpu", 6, &["model.safetensors", "bytes"]);
}

#[test]
fn invalid_prediction_files_are_refused() {
    let dir = folder();
    let trained = wgrad(dir.path(), "train digits-mlp --device cpu --set train.epochs=1 --out run");
    assert!(trained.status.success(), "{}", stderr(&trained));
    fs::write(dir.path().join("narrow.csv"), "1,2,3\n").unwrap();
    assert_fails(dir.path(), "predict run narrow.csv --device cpu", 3, &["narrow.csv", "64", "3"]);
    assert_fails(dir.path(), "predict run none.csv --device cpu", 3, &["none.csv"]);
}
