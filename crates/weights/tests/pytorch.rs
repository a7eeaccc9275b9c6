//! Files written by PyTorch are read exactly. `tests/fixtures/README.md` describes how the files were made.

mod support;

use support::{bits, fixture, sorted_bits};
use wgrad_weights::{Weights, WeightsError};

/// Reads a `.pth` file and the safetensors file of the same tensors.
fn pair(name: &str) -> (Weights, Weights) {
    let read = |extension| Weights::read(&fixture(&format!("{name}.{extension}"))).unwrap();
    (read("pth"), read("safetensors"))
}

#[test]
fn a_state_dict_is_the_same_in_both_formats() {
    let names = [
        "resnet18-w4",
        "pth/plain",
        "pth/strided",
        "pth/shared",
        "pth/dtypes",
        "pth/data-parallel",
        "pth/parameters",
        "pth/checkpoint",
    ];
    for name in names {
        let (pth, safetensors) = pair(name);
        assert!(!pth.is_empty(), "{name}");
        assert_eq!(sorted_bits(&pth), sorted_bits(&safetensors), "{name}");
    }
}

#[test]
fn a_resnet_has_the_names_of_torchvision_in_model_order() {
    let (weights, _) = pair("resnet18-w4");
    // As in torchvision: 20 convolutions, 20 norms of four tensors and a counter, and the head.
    assert_eq!((weights.len(), weights.integers().len()), (20 + 20 * 4 + 2, 20));
    let names: Vec<&str> = weights.iter().map(|(name, _)| name).collect();
    assert_eq!(names[..3], ["conv1.weight", "bn1.weight", "bn1.bias"]);
    assert_eq!(names.last(), Some(&"fc.bias"));
    assert_eq!(weights.get("layer2.0.downsample.0.weight").unwrap().shape(), [8, 4, 1, 1]);
    assert!(
        weights
            .integers()
            .all(|(name, tensor)| name.ends_with("num_batches_tracked") && tensor.values() == [7])
    );
}

#[test]
fn strided_views_are_read_correctly() {
    let (pth, _) = pair("pth/strided");
    let (shared, _) = pair("pth/shared");
    // All tensors of both files are views of one grid, [4, 6].
    let grid = shared.get("whole").unwrap().values();
    let transposed = pth.get("transposed").unwrap();
    assert_eq!(transposed.shape(), [6, 4]);
    assert_eq!(transposed.values()[4 * 5 + 2], grid[6 * 2 + 5]);
    assert_eq!(pth.get("every_other").unwrap().values(), [grid[6], grid[9], grid[18], grid[21]]);
    assert_eq!(shared.get("row").unwrap().values(), &grid[12..18]);
    assert_eq!(shared.get("expanded").unwrap().values(), [grid[0]; 6]);
}

#[test]
fn every_type_becomes_f32_or_i64() {
    let (pth, _) = pair("pth/dtypes");
    let floats = |name| pth.get(name).unwrap().values();
    assert_eq!(floats("half")[1].to_bits(), (-0f32).to_bits());
    assert_eq!(floats("half")[3..6], [-2.5, 1.192_092_9e-7, 65504.0]);
    assert_eq!(floats("bfloat16")[4..6], [1.001_171_8e-7, 65536.0]);
    assert!(floats("bfloat16")[6].is_infinite() && floats("bfloat16")[7].is_nan());
    assert!(floats("double")[8].is_infinite());
    let integers: Vec<_> = pth.integers().map(|(name, tensor)| (name, tensor.values())).collect();
    let expected: [(&str, &[i64]); 6] = [
        ("long", &[-(1 << 40), 7]),
        ("int", &[-3, i64::from(i32::MAX)]),
        ("short", &[-300]),
        ("char", &[-128, 127]),
        ("byte", &[0, 255]),
        ("bool", &[1, 0, 1]),
    ];
    assert_eq!(integers, expected);
    assert_eq!(pth.get("scalar").unwrap().shape(), [0usize; 0]);
    assert_eq!(pth.get("empty").unwrap().shape(), [0, 3]);
}

#[test]
fn the_prefix_of_data_parallel_can_be_stripped() {
    let (mut parallel, _) = pair("pth/data-parallel");
    let (checkpoint, _) = pair("pth/checkpoint");
    assert!(parallel.get("module.0.weight").is_some());
    assert!(parallel.strip_prefix("module."));
    let names = |weights: &Weights| bits(weights).into_iter().map(|(name, ..)| name).collect::<Vec<_>>();
    assert_eq!(names(&parallel), names(&checkpoint));
    assert!(!parallel.strip_prefix("module."), "the prefix should have been removed");
}

#[test]
fn a_pickle_that_would_run_code_is_rejected_by_name() {
    let error = Weights::read(&fixture("pth/forbidden.pth")).unwrap_err();
    assert!(matches!(&error, WeightsError::Global { global, .. } if global == "posix.system"), "{error}");
    assert!(error.to_string().contains("forbidden.pth"), "{error}");
}

#[test]
fn the_old_format_is_rejected_with_a_way_to_convert() {
    let error = Weights::read(&fixture("pth/old-format.pth")).unwrap_err();
    assert!(matches!(error, WeightsError::OldFormat { .. }), "{error}");
    assert!(error.to_string().contains("torch.save(torch.load(OLD"), "{error}");
}

#[test]
fn the_metadata_of_the_cases_is_read() {
    let weights = Weights::read(&fixture("convs.safetensors")).unwrap();
    let cases: Vec<&String> = weights.metadata().keys().filter(|key| *key != "format").collect();
    assert_eq!(cases.len(), 20);
    for case in cases {
        let output = weights.get(&format!("{case}.output")).unwrap();
        assert_eq!(output.shape(), weights.get(&format!("{case}.cotangent")).unwrap().shape());
        let input = weights.get(&format!("{case}.input")).unwrap();
        assert_eq!(input.shape(), weights.get(&format!("{case}.grad.input")).unwrap().shape());
    }
}
