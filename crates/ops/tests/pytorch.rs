//! Operations on images against PyTorch: outputs and gradients of `tests/fixtures/convs.safetensors`, by the f64 judge.
//!
//! Conformance holds gradients and backends to the forward computation. That the forward computation is what everybody
//! calls a convolution, a pooling or a batch norm has to be held to something else.

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

/// One use of an operation.
struct Case<'w> {
    name: &'w str,
    parameters: Value,
    weights: &'w Weights,
}

impl Case<'_> {
    fn tensor(&self, what: &str) -> Option<&Tensor> {
        self.weights.get(&format!("{}.{what}", self.name))
    }

    fn pair(&self, key: &str) -> [usize; 2] {
        [0, 1].map(|i| {
            self.parameters[key][i].as_u64().unwrap_or_else(|| panic!("{}: {key}", self.name)) as usize
        })
    }

    fn number(&self, key: &str) -> f64 {
        self.parameters[key].as_f64().unwrap_or_else(|| panic!("{}: {key}", self.name))
    }

    fn is(&self, key: &str) -> bool {
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
        let plain = Pool { kernel: self.pair("kernel"), ..Pool::new(1) };
        Pool { stride: self.pair("stride"), padding: self.pair("padding"), ..plain }
    }

    /// Records the operation on its inputs, in the order of [`INPUTS`].
    fn record<'g>(&self, of: impl Fn(&str) -> Option<Var<'g>>) -> Var<'g> {
        let some = |what: &str| of(what).unwrap_or_else(|| panic!("{} has no {what}", self.name));
        let x = some("input");
        let biased = |y: Var<'g>| match of("bias") {
            Some(bias) => y + bias.reshape([bias.shape()[0], 1, 1]),
            None => y,
        };
        match self.parameters["op"].as_str() {
            Some("conv2d") => biased(x.conv2d(some("weight"), self.conv())),
            Some("conv_transpose2d") => {
                biased(x.conv_transpose2d(some("weight"), self.conv(), self.pair("output_padding")))
            }
            Some("max_pool2d") => x.max_pool2d(Pool { dilation: self.pair("dilation"), ..self.pool() }),
            Some("avg_pool2d") => {
                x.avg_pool2d(Pool { counts_padding: self.is("count_include_pad"), ..self.pool() })
            }
            Some("batch_norm") if self.is("training") => {
                x.batch_norm(some("weight"), some("bias"), self.number("eps")).out
            }
            Some("batch_norm") => {
                let (mean, variance) = (some("running_mean"), some("running_var"));
                x.batch_norm_with(mean, variance, some("weight"), some("bias"), self.number("eps"))
            }
            Some("group_norm") => {
                let groups = self.number("groups") as usize;
                x.group_norm(groups, some("weight"), some("bias"), self.number("eps"))
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
fn assert_close(what: &str, found: &Array, wanted: &Tensor) {
    assert_eq!(found.ty.shape[..], *wanted.shape(), "{what}");
    let largest = wanted.values().iter().fold(1.0f64, |most, &x| most.max(f64::from(x).abs()));
    for (i, (found, &wanted)) in found.to_f64().into_iter().zip(wanted.values()).enumerate() {
        let distance = (found - f64::from(wanted)).abs();
        assert!(distance <= 1e-6 * largest, "{what}: element {i} is {found}, not {wanted}");
    }
}

#[test]
fn outputs_and_gradients_are_those_of_pytorch() {
    let weights = fixtures();
    let mut cases = 0;
    for (name, parameters) in weights.metadata().iter().filter(|(name, _)| *name != "format") {
        let parameters = serde_json::from_str(parameters).unwrap_or_else(|error| panic!("{name}: {error}"));
        let case = Case { name, parameters, weights: &weights };
        let graph = graph(States::new());
        let given: Vec<(&str, &Tensor)> =
            INPUTS.iter().filter_map(|what| Some((*what, case.tensor(what)?))).collect();
        let ins: Vec<Var<'_>> =
            given.iter().map(|(what, tensor)| graph.input(what, TensorType::f32(tensor.shape()))).collect();
        let of = |what: &str| given.iter().position(|(known, _)| *known == what).map(|i| ins[i]);
        let out = case.record(of);
        let cotangent = case.tensor("cotangent").unwrap_or_else(|| panic!("{name} has no cotangent"));
        let upstream = graph.input("cotangent", TensorType::f32(cotangent.shape()));
        let grads = grad_with(out, upstream, &ins).unwrap_or_else(|error| panic!("{name}: {error}"));
        let arrays: Vec<Array> =
            given.iter().map(|(_, tensor)| array(tensor)).chain([array(cotangent)]).collect();
        let wanted: Vec<_> = std::iter::once(out).chain(grads).map(|var| var.id()).collect();
        let results = evaluate(&graph, &arrays, &State::zeros(graph.states()), &wanted);
        let results = results.unwrap_or_else(|error| panic!("{name}: {error}"));
        let output = case.tensor("output").unwrap_or_else(|| panic!("{name} has no output"));
        assert_close(&format!("{name}, output"), &results[0], output);
        for ((what, _), result) in given.iter().zip(&results[1..]) {
            if let Some(wanted) = case.tensor(&format!("grad.{what}")) {
                assert_close(&format!("{name}, gradient of {what}"), result, wanted);
            }
        }
        cases += 1;
    }
    assert_eq!(cases, 20, "every case of the file");
}

/// The running statistics that a layer keeps are made of these.
#[test]
fn statistics_of_a_batch_are_those_of_pytorch() {
    let weights = fixtures();
    let get = |what: &str| weights.get(&format!("batch_norm_train.{what}")).expect("a tensor of the case");
    let graph = graph(States::new());
    let names = ["input", "weight", "bias"];
    let [x, gamma, beta] = names.map(|what| graph.input(what, TensorType::f32(get(what).shape())));
    let normed = x.batch_norm(gamma, beta, 1e-5);
    let arrays = names.map(|what| array(get(what)));
    let results =
        evaluate(&graph, &arrays, &State::zeros(graph.states()), &[normed.mean.id(), normed.variance.id()]);
    let results = results.expect("a mean and a variance");
    let count = get("input").values().len() / 4;
    let unbiased = count as f64 / (count as f64 - 1.0);
    for (result, (what, scale)) in results.iter().zip([("mean", 1.0), ("var", unbiased)]) {
        let (old, new) = (get(&format!("running_{what}")), get(&format!("new_running_{what}")));
        let kept = old.values().iter().zip(result.to_f64());
        let kept: Vec<f64> = kept.map(|(&old, batch)| 0.9 * f64::from(old) + 0.1 * scale * batch).collect();
        assert_close(what, &Array::float(TensorType::f32([4]), kept), new);
    }
}
