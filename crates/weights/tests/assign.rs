//! Matching a file with a model: what is found, what is missing, what is left over, what is wrong.

mod support;

use support::fixture;
use wgrad_weights::{AssignOptions, Assignment, Pattern, Tensor, Weights, WeightsError};

/// What the model of the file itself wants.
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
fn the_same_model_takes_everything_in_its_order() {
    let weights = resnet();
    let mut wanted = wanted(&weights);
    wanted.reverse();
    let assignment = weights.assign(&wanted, &AssignOptions::default()).unwrap();
    assignment.complete().unwrap();
    assert!(assignment.unused.is_empty(), "counters are no leftovers: {:?}", assignment.unused);
    for ((name, shape), (found, tensor)) in wanted.iter().zip(&assignment.found) {
        assert_eq!((name.as_str(), shape.as_slice()), (*found, tensor.shape()));
        assert_eq!(weights.get(name), Some(*tensor));
    }
    assert_eq!(assignment.found.len(), wanted.len());
}

#[test]
fn another_shape_is_an_error_with_both() {
    let weights = resnet();
    let mut wanted = wanted(&weights);
    wanted.last_mut().unwrap().1 = vec![100];
    let error = weights.assign(&wanted, &AssignOptions::default()).unwrap_err().to_string();
    for part in ["resnet18-w4.pth", "`fc.bias`", "[10]", "[100]", "fc.*"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

#[test]
fn a_head_to_replace_keeps_its_values_whatever_its_shape() {
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
fn missing_and_unused_names_are_told() {
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
    assert!(error.contains("lacks 1 of the model's tensors: `conv1.weight`; it has others"), "{error}");
    assert!(error.contains("`stem.weight`"), "{error}");
    let counter = [("steps".to_owned(), vec![])];
    let error = weights.assign(&counter, &AssignOptions::default()).unwrap_err();
    assert!(matches!(error, WeightsError::DType { .. }), "{error}");
}

#[test]
fn names_of_data_parallel_are_hinted_at() {
    let weights = Weights::read(&fixture("pth/data-parallel.pth")).unwrap();
    let wanted = [("0.weight".to_owned(), vec![2, 3])];
    let complete = |assignment: Assignment<'_>| assignment.complete();
    let error =
        complete(weights.assign(&wanted, &AssignOptions::default()).unwrap()).unwrap_err().to_string();
    assert!(error.contains("begin with `module.`, which has to be stripped"), "{error}");
}
