//! Tests of checkpoints: round trips, damaged files, and replacement of existing checkpoints.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use wgrad_run::checkpoint::*;

const WEIGHTS: [f32; 6] = [1.0, -0.0, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE / 3.0, 0.1];

fn tensors() -> BTreeMap<String, Tensor<'static>> {
    [
        ("blocks.0.weight".to_owned(), Tensor::f32(&[2, 3], WEIGHTS.to_vec()).unwrap()),
        ("steps".to_owned(), Tensor::u32(&[], vec![u32::MAX]).unwrap()),
        ("empty".to_owned(), Tensor::f32(&[0, 4], vec![]).unwrap()),
        ("a".to_owned(), Tensor::f32(&[1], vec![0.5]).unwrap()),
    ]
    .into()
}

fn state(step: u64) -> CheckpointState {
    let map = |text: &str| serde_json::from_str(text).unwrap();
    CheckpointState {
        step,
        loader: LoaderPosition { epoch: 3, batch: 11 },
        generator: map(r#"{"seed": 18446744073709551615}"#),
        schedule: map(r#"{"best": 0.30000000000000004, "waited": 2}"#),
        kernels: map(r#"{"gemm": {"tile": [64, 64]}}"#),
        extra: map("{}"),
    }
}

fn save(run: &Path, step: u64, keep: usize) -> PathBuf {
    Checkpoint::save(run, &tensors(), &state(step), keep).unwrap()
}

fn names(run: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory(run))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn bits(tensor: &Tensor<'_>) -> Vec<u32> {
    match tensor.values() {
        Values::F32(values) => values.iter().map(|value| value.to_bits()).collect(),
        Values::U32(values) => values.to_vec(),
    }
}

#[test]
fn save_and_load_round_trip_bit_exactly() {
    let run = tempfile::tempdir().unwrap();
    let path = save(run.path(), 123, 3);
    assert_eq!(path, run.path().join("checkpoints/step-000123"));
    let loaded = Checkpoint::load(&path).unwrap();
    assert_eq!(loaded.state, state(123));
    assert_eq!(loaded.tensors.len(), 4);
    for (name, tensor) in tensors() {
        assert_eq!(
            (loaded.tensors[&name].shape(), bits(&loaded.tensors[&name])),
            (tensor.shape(), bits(&tensor)),
            "{name}"
        );
    }
    assert!(loaded.tensors["steps"].as_u32().is_some() && loaded.tensors["steps"].as_f32().is_none());
    assert!(loaded.tensors["a"].as_f32().is_some() && loaded.tensors["a"].as_u32().is_none());
}

#[test]
fn equal_states_produce_equal_bytes() {
    let runs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let read = |run: &Path, file: &str| fs::read(save(run, 5, 3).join(file)).unwrap();
    for file in ["model.safetensors", "state.json"] {
        assert_eq!(read(runs[0].path(), file), read(runs[1].path(), file), "{file}");
    }
}

/// Checks the bytes against the safetensors specification: header length, JSON header, little-endian data.
#[test]
fn model_is_a_plain_safetensors_file() {
    let run = tempfile::tempdir().unwrap();
    let tensors = [("w".to_owned(), Tensor::f32(&[2], &[1.0f32, 2.0][..]).unwrap())].into();
    let path = Checkpoint::save(run.path(), &tensors, &state(1), 1).unwrap();
    let bytes = fs::read(path.join("model.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let expected = serde_json::json!({
        "__metadata__": { "format": "pt", "wgrad_format": "1" },
        "w": { "dtype": "F32", "shape": [2], "data_offsets": [0, 8] },
    });
    assert_eq!(header, expected);
    assert_eq!(bytes[8 + length..], [0, 0, 128, 63, 0, 0, 0, 64]);
}

#[test]
fn save_keeps_the_last_checkpoints() {
    let run = tempfile::tempdir().unwrap();
    for step in [1, 20, 300, 1_000_000, 9_999_999] {
        save(run.path(), step, 3);
    }
    assert_eq!(names(run.path()), ["step-000300", "step-1000000", "step-9999999"]);
    assert_eq!(latest(run.path()).unwrap().unwrap(), directory(run.path()).join("step-9999999"));
    save(run.path(), 10_000_000, 0);
    assert_eq!(
        names(run.path()),
        ["step-10000000"],
        "expected one checkpoint, and steps compared as numbers"
    );
}

#[test]
fn checkpoint_of_the_same_step_is_replaced() {
    let run = tempfile::tempdir().unwrap();
    save(run.path(), 1, 3);
    save(run.path(), 2, 3);
    let other = [("w".to_owned(), Tensor::f32(&[1], vec![7.0]).unwrap())].into();
    let path = Checkpoint::save(run.path(), &other, &state(2), 3).unwrap();
    assert_eq!(Checkpoint::load(&path).unwrap().tensors, other);
    assert_eq!(names(run.path()), ["step-000001", "step-000002"]);
}

/// If a process crashes after renaming the old checkpoint and before renaming the new checkpoint, the old checkpoint
/// has the suffix `.replaced`.
#[test]
fn crash_during_replacement_keeps_the_old_checkpoint() {
    let run = tempfile::tempdir().unwrap();
    save(run.path(), 1, 3);
    let path = save(run.path(), 2, 3);
    let replaced = directory(run.path()).join("step-000002.replaced");
    fs::rename(&path, &replaced).unwrap();
    assert_eq!(latest(run.path()).unwrap().unwrap(), replaced);
    assert_eq!(Checkpoint::load(&replaced).unwrap().state.step, 2);
    assert_eq!(save(run.path(), 2, 3), path);
    assert_eq!(
        latest(run.path()).unwrap().unwrap(),
        path,
        "the new checkpoint must be newer than the replaced checkpoint"
    );
}

#[test]
fn incomplete_checkpoints_are_ignored() {
    let run = tempfile::tempdir().unwrap();
    assert_eq!(latest(run.path()).unwrap(), None);
    let good = save(run.path(), 7, 3);
    let parent = directory(run.path());
    for name in [".tmp-step-1", "step-000008", "step-000009", "step-x", "notes"] {
        fs::create_dir(parent.join(name)).unwrap();
    }
    fs::write(parent.join("step-000008/state.json"), "{}").unwrap();
    fs::copy(good.join("model.safetensors"), parent.join("step-000009/model.safetensors")).unwrap();
    fs::write(parent.join("step-000010"), "a file").unwrap();
    assert_eq!(latest(run.path()).unwrap().unwrap(), good);
    save(run.path(), 11, 1);
    assert!(!parent.join(".tmp-step-1").exists(), "the temporary directory of a crash was not removed");
    assert!(!good.exists() && parent.join("notes").exists(), "expected only checkpoints to be removed");
}

/// Changes each byte of the model file, and truncates the file. Loading must return an error that contains the path.
#[test]
fn damaged_model_is_an_error() {
    let run = tempfile::tempdir().unwrap();
    let path = save(run.path(), 1, 1);
    let model = path.join("model.safetensors");
    let good = fs::read(&model).unwrap();
    let load_error = |bytes: &[u8]| {
        fs::write(&model, bytes).unwrap();
        let error = Checkpoint::load(&path).unwrap_err();
        assert!(matches!(&error, CheckpointError::Corrupt { path, .. } if *path == model), "{error}");
        error.to_string()
    };
    for index in 0..good.len() {
        let mut bad = good.clone();
        bad[index] ^= 0x10;
        assert!(load_error(&bad).contains("SHA-256"), "byte {index}");
    }
    for length in [0, 1, 7, 8, 9, good.len() - 1] {
        assert!(load_error(&good[..length]).contains(&format!("it has {length} bytes")), "length {length}");
    }
    assert!(load_error(&[&good[..], b"x"].concat()).contains("bytes"));
    fs::write(&model, &good).unwrap();
    Checkpoint::load(&path).unwrap();
}

/// Replaces the model file and its stored hash, then loads the checkpoint.
fn load_replaced(bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
    let run = tempfile::tempdir().unwrap();
    let path = save(run.path(), 1, 1);
    fs::write(path.join("model.safetensors"), bytes).unwrap();
    let mut state: serde_json::Value =
        serde_json::from_slice(&fs::read(path.join("state.json")).unwrap()).unwrap();
    let hash: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    state["model"] = serde_json::json!({ "bytes": bytes.len(), "sha256": hash });
    fs::write(path.join("state.json"), state.to_string()).unwrap();
    Checkpoint::load(&path)
}

fn load_forged(bytes: &[u8]) -> CheckpointError {
    load_replaced(bytes).unwrap_err()
}

fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

#[test]
fn model_that_is_not_a_safetensors_file_is_an_error() {
    for (bytes, expected) in [
        (vec![], "header too small"),
        (f64::NAN.to_le_bytes().to_vec(), "header too large"),
        (vec![0xff; 64], "header too large"),
        (100u64.to_le_bytes().to_vec(), "invalid header length"),
        (safetensors("nonsense", &[]), "invalid JSON"),
        (safetensors(r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, &[0; 4]), "invalid"),
        (safetensors(r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, &[0; 3]), "incomplete"),
        (
            safetensors(
                r#"{"w":{"dtype":"F32","shape":[18446744073709551615,3],"data_offsets":[0,4]}}"#,
                &[0; 4],
            ),
            "overflow",
        ),
    ] {
        let error = load_forged(&bytes);
        assert!(matches!(error, CheckpointError::Corrupt { .. }), "{error}");
        assert!(
            error.to_string().contains(expected) && error.to_string().contains("model.safetensors"),
            "{error}"
        );
    }
}

#[test]
fn newer_model_format_is_an_error_and_missing_format_version_is_accepted() {
    let error = load_forged(&safetensors(r#"{"__metadata__":{"wgrad_format":"2"}}"#, &[]));
    assert!(matches!(&error, CheckpointError::Version { found, known: 1, .. } if found == "2"), "{error}");
    let message = error.to_string();
    assert!(message.contains("has format version 2; this wgrad reads version 1"), "{message}");
    let old = r#"{"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let checkpoint = load_replaced(&safetensors(old, &1f32.to_le_bytes())).unwrap();
    assert_eq!(checkpoint.tensors["w"].as_f32(), Some(&[1.0][..]));
}

#[test]
fn tensor_with_an_unsupported_dtype_is_an_error() {
    let error =
        load_forged(&safetensors(r#"{"w":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}"#, &[0; 4]));
    assert!(
        matches!(&error, CheckpointError::DType { tensor, dtype, .. } if tensor == "w" && dtype == "F16"),
        "{error}"
    );
}

#[test]
fn damaged_state_is_an_error() {
    let run = tempfile::tempdir().unwrap();
    let path = save(run.path(), 1, 1);
    let file = path.join("state.json");
    let good = fs::read_to_string(&file).unwrap();
    for (bad, expected) in [
        (String::new(), "damaged: EOF"),
        (good[..good.len() / 2].to_owned(), "damaged: EOF"),
        ("[]".to_owned(), "`version` is missing"),
        (
            good.replace("\"version\": 1", "\"version\": 2"),
            "has format version 2; this wgrad reads version 1",
        ),
        (good.replace("\"version\": 1", "\"version\": \"x\""), "has format version \"x\""),
        (good.replace("\"loader\"", "\"reader\""), "unknown field `reader`"),
        (good.replace("\"step\": 1", "\"step\": -1"), "invalid value: integer `-1`"),
    ] {
        fs::write(&file, bad).unwrap();
        let message = Checkpoint::load(&path).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains("state.json"), "{message}");
    }
}

#[test]
fn missing_file_error_includes_the_path() {
    for file in ["model.safetensors", "state.json"] {
        let run = tempfile::tempdir().unwrap();
        let path = save(run.path(), 1, 1);
        fs::remove_file(path.join(file)).unwrap();
        let message = Checkpoint::load(&path).unwrap_err().to_string();
        assert!(message.contains(file) && message.contains("file not found"), "{message}");
    }
}

#[test]
fn tensor_with_wrong_number_of_values_or_reserved_name_is_an_error() {
    assert!(matches!(Tensor::f32(&[2, 3], vec![0.0; 5]), Err(CheckpointError::Shape { found: 5, .. })));
    assert!(matches!(Tensor::u32(&[], vec![]), Err(CheckpointError::Shape { found: 0, .. })));
    assert!(
        Tensor::f32(&[usize::MAX, 2], vec![]).is_err(),
        "expected an error, because the number of elements overflows"
    );
    let run = tempfile::tempdir().unwrap();
    for name in ["", "__metadata__"] {
        let bad = [(name.to_owned(), Tensor::f32(&[1], vec![0.0]).unwrap())].into();
        assert!(matches!(Checkpoint::save(run.path(), &bad, &state(1), 1), Err(CheckpointError::Name(_))));
    }
    assert_eq!(latest(run.path()).unwrap(), None);
}

#[test]
fn unwritable_directory_error_includes_the_path() {
    let run = tempfile::tempdir().unwrap();
    fs::write(run.path().join("checkpoints"), "a file").unwrap();
    let error = Checkpoint::save(run.path(), &tensors(), &state(1), 1).unwrap_err();
    assert!(
        matches!(error, CheckpointError::File { .. }) && error.to_string().contains("checkpoints"),
        "{error}"
    );
}
