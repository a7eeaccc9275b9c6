//! Bad input gets a clear error with its exit code, and loses nothing. Never a panic.

use std::fs;
use std::path::Path;

use crate::support::{stderr, wgrad};

/// Runs a command that must fail with `code`, saying each of `parts`.
fn refused(folder: &Path, arguments: &str, code: i32, parts: &[&str]) {
    let output = wgrad(folder, arguments);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "wgrad {arguments}\n{said}");
    for part in parts {
        assert!(said.contains(part), "wgrad {arguments}: {part:?} is missing in\n{said}");
    }
    assert!(!said.contains("panicked"), "wgrad {arguments}\n{said}");
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn unknown_names_are_answered_with_the_nearest() {
    let dir = folder();
    refused(dir.path(), "train digit", 2, &["digit", "did you mean `digits`"]);
    refused(dir.path(), "train digits --set train.bacth=3", 2, &["train.bacth", "train.batch"]);
    refused(dir.path(), "train digits --set model.kind=residual-mpl", 2, &["residual-mpl", "residual-mlp"]);
    refused(dir.path(), "data get fashion-minst", 3, &["fashion-minst", "fashion-mnist"]);
    refused(dir.path(), "trian digits", 2, &["trian", "train"]);
    refused(dir.path(), "tune", 2, &["RECIPE"]);
    refused(dir.path(), "tune --shapes 64,64", 2, &["64,64", "M,N,K"]);
    let recipe = "name = \"mine\"\n[data]\nkind = \"digits\"\n[model]\nkind = \"mlp\"\n\
        [optimizer]\nkind = \"sgd\"\n[train]\nepoch = 3\n";
    fs::write(dir.path().join("mine.toml"), recipe).unwrap();
    refused(dir.path(), "train mine.toml", 2, &["mine.toml:9:1", "epoch", "epochs"]);
}

#[test]
fn values_out_of_range_name_the_key() {
    let dir = folder();
    refused(dir.path(), "train digits --set train.batch=0", 2, &["train.batch"]);
    refused(dir.path(), "train digits --device cpu --set train.batch=2000", 3, &["2000", "1437"]);
    refused(dir.path(), "train digits --set train.batch=many", 2, &["train.batch", "many"]);
    refused(dir.path(), "train digits --set optimizer.lr=-1", 2, &["optimizer.lr"]);
    refused(dir.path(), "train digits --set model.dropout=1.5", 2, &["model.dropout"]);
}

#[test]
fn devices_that_are_not_there_are_said_to_be_missing() {
    let dir = folder();
    refused(dir.path(), "train digits --device gpu:99", 4, &["gpu:99"]);
    refused(dir.path(), "train digits --device tpu", 2, &["tpu", "gpu:N"]);
    refused(dir.path(), "tune digits --device gpu:99", 4, &["gpu:99"]);
    refused(dir.path(), "tune digits --device cpu", 2, &["only GPUs"]);
}

#[test]
fn a_model_that_cannot_fit_is_refused_with_its_largest_tensors() {
    let dir = folder();
    let huge = "train digits --device cpu --set model.width=20000";
    refused(dir.path(), huge, 4, &["does not fit", "largest"]);
    assert!(!dir.path().join("runs").exists(), "nothing was begun");
}

#[test]
fn broken_tables_name_line_and_column() {
    let dir = folder();
    let csv = |name: &str, text: &str| {
        fs::write(dir.path().join(format!("{name}.csv")), text).unwrap();
        let recipe = format!(
            "name = \"{name}\"\n[data]\nkind = \"csv\"\npath = \"{name}.csv\"\n[model]\nkind = \"mlp\"\n"
        );
        fs::write(dir.path().join(format!("{name}.toml")), recipe).unwrap();
        format!("train {name}.toml --device cpu")
    };
    refused(dir.path(), &csv("word", "a,b,y\n1,2,0\n1,x,1\n"), 3, &["word.csv", "3", "x"]);
    refused(dir.path(), &csv("short", "1,2,0\n1,0\n"), 3, &["short.csv", "2"]);
    refused(dir.path(), &csv("empty", ""), 3, &["empty.csv"]);
    refused(dir.path(), "train digits --set data.kind=csv --set data.path=none.csv", 3, &["none.csv"]);
}

#[test]
fn a_loss_that_is_no_number_names_the_first_bad_operation() {
    let dir = folder();
    let output = "train digits-mlp --device cpu --set optimizer.lr=1e30 --out run";
    refused(dir.path(), output, 5, &["step 2", "matmul", "layer 3", "forward pass"]);
    let rows = fs::read_to_string(dir.path().join("run/metrics.jsonl")).unwrap_or_default();
    assert!(!rows.contains("NaN"), "{rows}");
}

#[test]
fn a_test_loss_that_is_no_number_is_an_error_too() {
    let dir = folder();
    let once =
        "train digits-mlp --device cpu --set optimizer.kind=sgd --set optimizer.lr=1e30 --set train.steps=1";
    refused(dir.path(), once, 5, &["test loss", "step 1"]);
}

/// What a run leaves that ended before its first checkpoint can be resumed: it begins again.
#[test]
fn a_run_without_a_checkpoint_starts_again() {
    let dir = folder();
    refused(dir.path(), "train digits-mlp --device cpu --set optimizer.lr=1e30 --out run", 5, &["step 2"]);
    let again = wgrad(
        dir.path(),
        "train digits-mlp --device cpu --resume --out run --set optimizer.lr=1e-3 --set train.epochs=1",
    );
    assert!(again.status.success(), "{}", stderr(&again));
    let rows = fs::read_to_string(dir.path().join("run/metrics.jsonl")).unwrap();
    assert_eq!(rows.lines().filter(|row| row.contains("\"step\":1,")).count(), 1, "{rows}");
}

#[test]
fn checkpoints_that_are_broken_or_foreign_are_refused() {
    let dir = folder();
    let trained = wgrad(dir.path(), "train digits-mlp --device cpu --set train.epochs=1 --out run");
    assert!(trained.status.success(), "{}", stderr(&trained));
    refused(dir.path(), "train digits-mlp --out run", 6, &["already contains", "--resume"]);
    refused(dir.path(), "train digits --resume --out run", 2, &["digits-mlp"]);
    refused(dir.path(), "eval nowhere", 6, &["nowhere"]);
    let again = "train digits-mlp --device cpu --resume --out run";
    refused(dir.path(), again, 2, &["22 steps", "train.epochs"]);
    refused(dir.path(), &format!("{again} --set train.epochs=2 --set train.batch=32"), 2, &["train.batch"]);
    assert!(dir.path().join("run/done.json").is_file(), "a refused resume changes nothing");
    refused(dir.path(), "eval run --device gpu:99", 4, &["gpu:99"]);
    let wider =
        "train digits-mlp --device cpu --resume --out run --set train.epochs=2 --set model.hidden=[64,64]";
    refused(dir.path(), wider, 6, &["0.weight", "[128, 64]", "[64, 64]"]);
    let model = dir.path().join("run/checkpoints/step-000022/model.safetensors");
    let mut bytes = fs::read(&model).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&model, &bytes).unwrap();
    refused(dir.path(), "eval run --device cpu", 6, &["model.safetensors", "SHA-256"]);
    fs::write(&model, &bytes[..middle]).unwrap();
    refused(dir.path(), "eval run --device cpu", 6, &["model.safetensors", "bytes"]);
}

#[test]
fn files_to_predict_from_are_checked() {
    let dir = folder();
    let trained = wgrad(dir.path(), "train digits-mlp --device cpu --set train.epochs=1 --out run");
    assert!(trained.status.success(), "{}", stderr(&trained));
    fs::write(dir.path().join("narrow.csv"), "1,2,3\n").unwrap();
    refused(dir.path(), "predict run narrow.csv --device cpu", 3, &["narrow.csv", "64", "3"]);
    refused(dir.path(), "predict run none.csv --device cpu", 3, &["none.csv"]);
}
