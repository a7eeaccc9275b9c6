//! Written files are read back with equal values in the same order, and writes are atomic.

mod support;

use std::fs;
use support::{bits, fixture};
use wgrad_weights::{Tensor, Weights, WeightsError};

#[test]
fn a_round_trip_keeps_values_names_shapes_and_order() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["resnet18-w4.pth", "pth/dtypes.pth", "convs.safetensors"] {
        let path = folder.path().join("written.safetensors");
        let weights = Weights::read(&fixture(name)).unwrap();
        weights.write_safetensors(&path).unwrap();
        let read = Weights::read(&path).unwrap();
        assert_eq!(bits(&read), bits(&weights), "{name}");
        assert_eq!(read.metadata().get("format").map(String::as_str), Some("pt"));
        assert!(
            weights.metadata().iter().all(|(key, value)| read.metadata().get(key) == Some(value)),
            "{name}"
        );
        let first = fs::read(&path).unwrap();
        read.write_safetensors(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), first, "{name}: equal weights should give equal bytes");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file should not remain");
    }
}

#[test]
fn every_tensor_is_aligned_to_its_elements() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aligned.safetensors");
    let mut weights = Weights::new();
    weights.insert("b", Tensor::new(vec![1], vec![1.0]).unwrap()).unwrap();
    weights.insert_integers("z", Tensor::new(vec![1], vec![2]).unwrap()).unwrap();
    weights.insert("a", Tensor::new(vec![3], vec![1.0; 3]).unwrap()).unwrap();
    weights.write_safetensors(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let header = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    assert_eq!(header % 8, 0);
    let json = std::str::from_utf8(&bytes[8..8 + header]).unwrap();
    let expected = r#"{"__metadata__":{"format":"pt"},"z":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},"a":{"dtype":"F32","shape":[3],"data_offsets":[12,24]}}"#;
    assert_eq!(json.trim_end(), expected);
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let error = Weights::new().write_safetensors(&folder.path().join("missing/w.safetensors")).unwrap_err();
    assert!(matches!(error, WeightsError::File { action: "write the weights", .. }), "{error}");
    // A directory at the path makes the rename fail after all data is written.
    let path = folder.path().join("taken");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("file"), b"kept").unwrap();
    Weights::new().write_safetensors(&path).unwrap_err();
    assert_eq!(fs::read(path.join("file")).unwrap(), b"kept");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file should not remain");
}

#[test]
fn an_unreadable_file_is_named_in_the_error() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Weights::read(&folder.path().join("none.pth")).unwrap_err().to_string();
    assert!(missing.contains("none.pth") && missing.contains("cannot read the weights"), "{missing}");
    let directory = Weights::read(folder.path()).unwrap_err().to_string();
    assert!(directory.contains("not a regular file"), "{directory}");
}

#[test]
fn inserting_a_name_again_replaces_the_tensor() {
    let mut weights = Weights::new();
    weights.insert_integers("w", Tensor::new(vec![], vec![1]).unwrap()).unwrap();
    weights.insert("w", Tensor::new(vec![], vec![1.0]).unwrap()).unwrap();
    assert_eq!((weights.len(), weights.integers().len()), (1, 0));
    for name in ["", "__metadata__"] {
        let error = weights.insert(name, Tensor::new(vec![], vec![1.0]).unwrap()).unwrap_err();
        assert!(matches!(error, WeightsError::Name(_)), "{error}");
    }
    assert!(matches!(Tensor::new(vec![2, 2], vec![1.0]), Err(WeightsError::Shape { .. })));
}

#[test]
fn a_prefix_is_stripped_from_all_names_or_none() {
    let one = || Tensor::new(vec![], vec![1.0]).unwrap();
    let mut weights = Weights::new();
    assert!(!weights.strip_prefix("module."));
    weights.insert("module.a", one()).unwrap();
    weights.insert("a", one()).unwrap();
    assert!(!weights.strip_prefix("module."));
    assert_eq!(weights.len(), 2);
}
