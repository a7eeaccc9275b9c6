//! Compares operations on images with PyTorch. The f64 reference computes outputs and gradients. The expected values
//! are in `tests/fixtures/convs.safetensors`.
//!
//! `wgrad-conformance` compares gradients and backends with the forward computation of the table. This test checks that
//! the forward computation itself agrees with PyTorch.

use std::path::PathBuf;

use serde_json::Value;
use wgrad_cpu::reference::{Array, State, evaluate};
use wgrad_graph::{States, TensorType, Var, grad_with};
use wgrad_ops::{Conv, ImageOps, Pool, TensorOps, graph};
use wgrad_weights::{Tensor, Weights};

fn fixtures() -> Weights {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/convs.safetensors");
    Weights::read(&file).unwrap_or_else(|error| panic!("{error}"))
}

fn array(tensor: &Tensor) -> Array {
    Array::float(
        TensorType::f32(tensor.shape()),
        tensor.values().iter().map(|&x| f64::from(x)).collect::<Vec<_>>(),
    )
}

/// One use of an operation, with its parameters and tensors.
struct Case<'w> {
    name: &'w str,
    parameters: Value,
    weights: &'w Weights,
}

impl Case<'_> {
    fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.weights.get(&format!("{}.{name}", self.name))
    }

    fn pair(&self, key: &str) -> [usize; 2] {
        [0, 1].map(|i| {
            self.parameters[key][i].as_u64().unwrap_or_else(|| panic!("{}: {key}", self.name)) as usize
        })
    }

    fn number(&self, key: &str) -> f64 {
        self.parameters[key].as_f64().unwrap_or_else(|| panic!("{}: {key}", self.name))
    }

    fn bool(&self, key: &str) -> bool {
        self.parameters[key].as_bool().unwrap_or_else(|| panic!("{}: {key}", self.name))
    }

    fn conv(&self) -> Conv {
        Conv {
            stride: self.pair("stride"),
            padding: self.pair("padding"),
            dilation: self.pair("dilation"),
            groups: self.number("groups") as usize,
        }
    }

    fn pool(&self) -> Pool {
        Pool {
            kernel: self.pair("kernel"),
            stride: self.pair("stride"),
            padding: self.pair("padding"),
            ..Pool::new(1)
        }
    }

    /// Records the operation. `input` returns the input with the given name, if the case has one.
    fn record<'g>(&self, input: impl Fn(&str) -> Option<Var<'g>>) -> Var<'g> {
        let required = |name: &str| input(name).unwrap_or_else(|| panic!("{} has no {name}", self.name));
        let x = required("input");
        let add_bias = |y: Var<'g>| match input("bias") {
            Some(bias) => y + bias.reshape([bias.shape()[0], 1, 1]),
            None => y,
        };
        match self.parameters["op"].as_str() {
            Some("conv2d") => add_bias(x.conv2d(required("weight"), self.conv())),
            Some("conv_transpose2d") => {
                add_bias(x.conv_transpose2d(required("weight"), self.conv(), self.pair("output_padding")))
            }
            Some("max_pool2d") => x.max_pool2d(Pool { dilation: self.pair("dilation"), ..self.pool() }),
            Some("avg_pool2d") => {
                x.avg_pool2d(Pool { counts_padding: self.bool("count_include_pad"), ..self.pool() })
            }
            Some("batch_norm") if self.bool("training") => {
                x.batch_norm(required("weight"), required("bias"), self.number("eps")).out
            }
            Some("batch_norm") => {
                let (mean, variance) = (required("running_mean"), required("running_var"));
                x.batch_norm_with(mean, variance, required("weight"), required("bias"), self.number("eps"))
            }
            Some("group_norm") => {
                let groups = self.number("groups") as usize;
                x.group_norm(groups, required("weight"), required("bias"), self.number("eps"))
            }
            Some("interpolate") if self.parameters["mode"] == "nearest" => {
                x.resize_nearest(self.pair("size"))
            }
            Some("interpolate") => x.resize_bilinear(self.pair("size")),
            other => panic!("{}: unknown operation {other:?}", self.name),
        }
    }
}

const INPUTS: [&str; 5] = ["input", "weight", "bias", "running_mean", "running_var"];

#[track_caller]
fn assert_close(name: &str, found: &Array, expected: &Tensor) {
    assert_eq!(found.ty.shape[..], *expected.shape(), "{name}");
    let largest = expected.values().iter().fold(1.0f64, |most, &x| most.max(f64::from(x).abs()));
    for (i, (found, &expected)) in found.to_f64().into_iter().zip(expected.values()).enumerate() {
        let distance = (found - f64::from(expected)).abs();
        assert!(distance <= 1e-6 * largest, "{name}: element {i} is {found} instead of {expected}");
    }
}

#[test]
fn outputs_and_gradients_equal_pytorch() {
    let weights = fixtures();
    let mut cases = 0;
    for (name, parameters) in weights.metadata().iter().filter(|(name, _)| *name != "format") {
        let parameters = serde_json::from_str(parameters).unwrap_or_else(|error| panic!("{name}: {error}"));
        let case = Case { name, parameters, weights: &weights };
        let graph = graph(States::new());
        let tensors: Vec<(&str, &Tensor)> =
            INPUTS.iter().filter_map(|name| Some((*name, case.tensor(name)?))).collect();
        let ins: Vec<Var<'_>> =
            tensors.iter().map(|(name, tensor)| graph.input(name, TensorType::f32(tensor.shape()))).collect();
        let input = |name: &str| tensors.iter().position(|(known, _)| *known == name).map(|i| ins[i]);
        let out = case.record(input);
        let cotangent = case.tensor("cotangent").unwrap_or_else(|| panic!("{name} has no cotangent"));
        let upstream = graph.input("cotangent", TensorType::f32(cotangent.shape()));
        let grads = grad_with(out, upstream, &ins).unwrap_or_else(|error| panic!("{name}: {error}"));
        let arrays: Vec<Array> =
            tensors.iter().map(|(_, tensor)| array(tensor)).chain([array(cotangent)]).collect();
        let outputs: Vec<_> = std::iter::once(out).chain(grads).map(|var| var.id()).collect();
        let results = evaluate(&graph, &arrays, &State::zeros(graph.states()), &outputs);
        let results = results.unwrap_or_else(|error| panic!("{name}: {error}"));
        let output = case.tensor("output").unwrap_or_else(|| panic!("{name} has no output"));
        assert_close(&format!("{name}, output"), &results[0], output);
        for ((input, _), result) in tensors.iter().zip(&results[1..]) {
            if let Some(expected) = case.tensor(&format!("grad.{input}")) {
                assert_close(&format!("{name}, gradient of {input}"), result, expected);
            }
        }
        cases += 1;
    }
    assert_eq!(cases, 20, "number of cases in the file");
}

/// Batch-norm layers use these statistics to update their running statistics.
#[test]
fn batch_statistics_equal_pytorch() {
    let weights = fixtures();
    let get = |name: &str| weights.get(&format!("batch_norm_train.{name}")).expect("a tensor of the case");
    let graph = graph(States::new());
    let names = ["input", "weight", "bias"];
    let [x, gamma, beta] = names.map(|name| graph.input(name, TensorType::f32(get(name).shape())));
    let normed = x.batch_norm(gamma, beta, 1e-5);
    let arrays = names.map(|name| array(get(name)));
    let results =
        evaluate(&graph, &arrays, &State::zeros(graph.states()), &[normed.mean.id(), normed.variance.id()]);
    let results = results.expect("a mean and a variance");
    let count = get("input").values().len() / 4;
    let unbiased = count as f64 / (count as f64 - 1.0);
    for (result, (name, scale)) in results.iter().zip([("mean", 1.0), ("var", unbiased)]) {
        let (old, new) = (get(&format!("running_{name}")), get(&format!("new_running_{name}")));
        let updated = old.values().iter().zip(result.to_f64());
        let updated: Vec<f64> =
            updated.map(|(&old, batch)| 0.9 * f64::from(old) + 0.1 * scale * batch).collect();
        assert_close(name, &Array::float(TensorType::f32([4]), updated), new);
    }
}
