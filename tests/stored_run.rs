//! A run of an earlier version of wgrad can be evaluated, resumed and exported. Newer formats are refused.
//! `fixtures/README.md` describes how the run was made.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{last_json, stderr, wgrad};
use serde_json::Value;

/// Returns the path of a file or folder in `tests/fixtures`.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

/// Copies the stored run into a temporary folder, as `run`.
fn stored_run() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy_folder(&fixture("run-format-1"), &folder.path().join("run"));
    folder
}

/// Copies a folder with its content.
fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// Returns the values that the earlier version printed.
fn expected() -> Value {
    serde_json::from_slice(&fs::read(fixture("run-format-1-expected.json")).unwrap()).unwrap()
}

/// Compares with a value from another machine, where CPU kernels may round differently.
#[track_caller]
fn assert_close(found: &Value, expected: &Value, name: &str) {
    let (found, expected) = (found.as_f64().unwrap(), expected.as_f64().unwrap());
    assert!((found - expected).abs() <= 1e-5 * expected.abs(), "{name}: {found}, expected {expected}");
}

#[test]
fn stored_run_evaluates_to_the_same_loss() {
    let folder = stored_run();
    let output = wgrad(folder.path(), "eval run --device cpu --json");
    assert!(output.status.success(), "{}", stderr(&output));
    let (found, expected) = (last_json(&output), &expected()["eval"]);
    assert_close(&found["test"]["loss"], &expected["loss"], "loss");
    assert_eq!(found["scores"]["confusion"], expected["confusion"]);
}

#[test]
fn stored_run_resumes_with_the_same_losses() {
    let folder = stored_run();
    let output =
        wgrad(folder.path(), "train digits-mlp --device cpu --resume --out run --set train.epochs=3");
    assert!(output.status.success(), "{}", stderr(&output));
    let text = fs::read_to_string(folder.path().join("run/metrics.jsonl")).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let resumed: Vec<&Value> = rows.iter().filter(|row| row["step"].as_u64() > Some(44)).collect();
    let expected = expected()["resumed"].as_array().unwrap().clone();
    assert_eq!(resumed.len(), expected.len());
    for (row, expected) in resumed.iter().zip(&expected) {
        assert_eq!((&row["step"], &row["split"]), (&expected["step"], &expected["split"]));
        assert_close(
            &row["loss"],
            &expected["loss"],
            &format!("{} loss of step {}", row["split"], row["step"]),
        );
    }
}

#[test]
fn stored_run_exports_the_same_weights() {
    let folder = stored_run();
    let output = wgrad(folder.path(), "export run --to weights.safetensors");
    assert!(output.status.success(), "{}", stderr(&output));
    let exported = fs::read(folder.path().join("weights.safetensors")).unwrap();
    assert!(
        exported == fs::read(fixture("run-format-1-weights.safetensors")).unwrap(),
        "exported weights differ"
    );
}

/// Replaces text in a file of the run, evaluates the run, and returns the exit code and stderr.
fn eval_modified_run(file: &str, from: &str, to: &str) -> (Option<i32>, String) {
    let folder = stored_run();
    let path = folder.path().join("run").join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} does not contain {from}");
    fs::write(&path, text.replacen(from, to, 1)).unwrap();
    let output = wgrad(folder.path(), "eval run --device cpu");
    (output.status.code(), stderr(&output))
}

#[test]
fn newer_formats_are_refused_with_both_versions() {
    let (code, message) = eval_modified_run("recipe.toml", "name =", "format = 99\nname =");
    assert_eq!(code, Some(2), "{message}");
    assert!(
        message.contains("format 99") && message.contains(&wgrad::recipe::FORMAT.to_string()),
        "{message}"
    );

    let state = "checkpoints/step-000044/state.json";
    let (code, message) = eval_modified_run(state, "\"version\": 1", "\"version\": 99");
    let current = wgrad::run::checkpoint::FORMAT_VERSION.to_string();
    assert_eq!(code, Some(6), "{message}");
    assert!(message.contains("99") && message.contains(&current), "{message}");
}
