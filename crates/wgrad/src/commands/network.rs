//! `wgrad summary resnet50`: summary of a published network for one input image.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;
use wgrad_graph::{States, TensorType};
use wgrad_nn::{Builder, Context, Module, Params, ResNet, ResNetConfig};
use wgrad_program::{Kernel, Options, Program, compile};

use crate::terminal;

/// Published residual network, with its input size and number of classes.
pub struct Network {
    name: String,
    config: ResNetConfig,
    side: usize,
    classes: usize,
}

impl Network {
    /// Returns the network with this name: `resnet20` and other 6n + 2 depths for images of 32×32; `resnet18`,
    /// `resnet34` and `resnet50` for images of 224×224. Returns `None` for any other name.
    pub fn named(name: &str) -> Option<Self> {
        let depth: usize = name.strip_prefix("resnet")?.parse().ok()?;
        let network = |config, side, classes| Self { name: name.to_owned(), config, side, classes };
        match ResNetConfig::imagenet(depth) {
            Some(config) => Some(network(config, 224, 1000)),
            None => ResNetConfig::cifar(depth).map(|config| network(config, 32, 10)),
        }
    }

    /// Prints layers, parameters, and the FLOPs and memory needed to evaluate one image.
    ///
    /// # Errors
    /// Returns an error if stdout cannot be written.
    pub fn summarize(self, as_json: bool) -> Result<ExitCode> {
        let mut states = States::new();
        let mut builder = Builder::new();
        let model = ResNet::new(&mut builder, self.config, 3, self.classes);
        let params = builder.finish(&mut states);
        let graph = wgrad_ops::graph(states);
        let x = graph.input("images", TensorType::f32([1, 3, self.side, self.side]));
        graph.output("logits", model.forward(&Context::new(&graph, &params), x));
        let program = compile(&graph, Options::default())?;
        let macs = multiply_adds(&program);
        if as_json {
            let object = json!({
                "network": self.name,
                "image": [3, self.side, self.side],
                "classes": self.classes,
                "parameters": params.count(),
                "multiply_adds": macs,
                "flops": program.cost().flops,
                "bytes": program.peak_bytes(),
            });
            terminal::result(&object.to_string())?;
            return Ok(ExitCode::SUCCESS);
        }
        terminal::result(&terminal::table(&layers(&params), true))?;
        let totals = vec![
            vec!["network".to_owned(), format!("{}, images of 3×{side}×{side}", self.name, side = self.side)],
            vec!["parameters".into(), params.count().to_string()],
            vec!["multiply-adds an image".into(), format!("{}MAC", terminal::count(macs as f64))],
            vec!["FLOP an image".into(), format!("{}FLOP", terminal::count(program.cost().flops as f64))],
            vec!["memory for one image".into(), terminal::bytes(program.peak_bytes() as u64)],
        ];
        terminal::result(&format!("\n{}", terminal::table(&totals, false)))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn layers(params: &Params) -> Vec<Vec<String>> {
    let head = vec![["parameter", "shape", "elements"].map(str::to_owned).to_vec()];
    let row = |spec: &wgrad_nn::ParamSpec| {
        vec![spec.name.clone(), spec.shape.to_string(), spec.shape.numel().to_string()]
    };
    head.into_iter().chain(params.specs().iter().map(row)).collect()
}

/// Counts the multiply-adds of convolutions and linear layers, as published in papers.
fn multiply_adds(program: &Program) -> u64 {
    let of = |kernel: &Kernel| match kernel {
        Kernel::Gemm(gemm) => (gemm.products() * gemm.rows() * gemm.columns() * gemm.depth()) as u64,
        Kernel::Loop(_) => 0,
    };
    program.dispatches.iter().map(|dispatch| of(&dispatch.kernel)).sum()
}
