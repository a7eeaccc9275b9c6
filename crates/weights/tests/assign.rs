//! Assignment of a file's tensors to a model: found, replaced, missing, unused and mismatched tensors.

mod support;

use support::fixture;
use wgrad_weights::{AssignOptions, Assignment, Pattern, Tensor, Weights, WeightsError};

/// Returns the tensors of a model that needs exactly the float tensors of the file: names and shapes.
fn wanted(weights: &Weights) -> Vec<(String, Vec<usize>)> {
    weights.iter().map(|(name, tensor)| (name.to_owned(), tensor.shape().to_vec())).collect()
}

fn replace(patterns: &[&str]) -> AssignOptions {
    AssignOptions { replace: patterns.iter().map(|pattern| Pattern::new(pattern).unwrap()).collect() }
}

fn resnet() -> Weights {
    Weights::read(&fixture("resnet18-w4.pth")).unwrap()
}

#[test]
fn the_same_model_gets_every_tensor_in_its_own_order() {
    let weights = resnet();
    let mut wanted = wanted(&weights);
    wanted.reverse();
    let assignment = weights.assign(&wanted, &AssignOptions::default()).unwrap();
    assignment.complete().unwrap();
    assert!(assignment.unused.is_empty(), "counters should not be listed as unused: {:?}", assignment.unused);
    for ((name, shape), (found, tensor)) in wanted.iter().zip(&assignment.found) {
        assert_eq!((name.as_str(), shape.as_slice()), (*found, tensor.shape()));
        assert_eq!(weights.get(name), Some(*tensor));
    }
    assert_eq!(assignment.found.len(), wanted.len());
}

#[test]
fn a_shape_mismatch_reports_both_shapes() {
    let weights = resnet();
    let mut wanted = wanted(&weights);
    wanted.last_mut().unwrap().1 = vec![100];
    let error = weights.assign(&wanted, &AssignOptions::default()).unwrap_err().to_string();
    for part in ["resnet18-w4.pth", "`fc.bias`", "[10]", "[100]", "fc.*"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

#[test]
fn a_replaced_head_keeps_its_values_regardless_of_shape() {
    let weights = resnet();
    let mut wanted = wanted(&weights);
    wanted.last_mut().unwrap().1 = vec![100];
    let assignment = weights.assign(&wanted, &replace(&["fc.*"])).unwrap();
    assert_eq!(assignment.replaced, ["fc.weight", "fc.bias"]);
    assert_eq!(assignment.found.len(), wanted.len() - 2);
    assert!(assignment.unused.is_empty());
    assignment.complete().unwrap();
}

#[test]
fn a_pattern_that_matches_nothing_is_an_error() {
    let weights = resnet();
    let error = weights.assign(&wanted(&weights), &replace(&["fc.*", "head.*"])).unwrap_err();
    assert!(matches!(&error, WeightsError::Unmatched { pattern, .. } if pattern == "head.*"), "{error}");
    assert!(error.to_string().contains("`conv1.weight`"), "{error}");
}

#[test]
fn missing_and_unused_names_are_reported() {
    let mut weights = Weights::new();
    weights.insert("stem.weight", Tensor::new(vec![2], vec![1.0, 2.0]).unwrap()).unwrap();
    weights.insert("fc.bias", Tensor::new(vec![1], vec![3.0]).unwrap()).unwrap();
    weights.insert_integers("steps", Tensor::new(vec![], vec![4]).unwrap()).unwrap();
    let wanted = [("conv1.weight".to_owned(), vec![2]), ("fc.bias".to_owned(), vec![1])];
    let assignment = weights.assign(&wanted, &AssignOptions::default()).unwrap();
    assert_eq!(assignment.found, [("fc.bias", weights.get("fc.bias").unwrap())]);
    assert_eq!(
        (&assignment.missing[..], &assignment.unused[..]),
        (&["conv1.weight".to_owned()][..], &["stem.weight"][..])
    );
    let error = assignment.complete().unwrap_err().to_string();
    assert!(error.contains("lacks 1 of the model's tensors: `conv1.weight`; unused names"), "{error}");
    assert!(error.contains("`stem.weight`"), "{error}");
    let counter = [("steps".to_owned(), vec![])];
    let error = weights.assign(&counter, &AssignOptions::default()).unwrap_err();
    assert!(matches!(error, WeightsError::DType { .. }), "{error}");
}

#[test]
fn the_prefix_of_data_parallel_is_reported() {
    let weights = Weights::read(&fixture("pth/data-parallel.pth")).unwrap();
    let wanted = [("0.weight".to_owned(), vec![2, 3])];
    let complete = |assignment: Assignment<'_>| assignment.complete();
    let error =
        complete(weights.assign(&wanted, &AssignOptions::default()).unwrap()).unwrap_err().to_string();
    assert!(error.contains("start with `module.`, which must be stripped"), "{error}");
}
