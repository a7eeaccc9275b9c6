//! Cases for elementwise operations, sums and optimizer updates.

use crate::results::Group;
use wgrad_graph::{Graph, GraphError, TensorType, Var};
use wgrad_nn::{AdamW, Builder, Init, Optimizer, Sgd};
use wgrad_ops::TensorOps;

use crate::cases::Case;
use crate::workload::{Recorder, Update, Workload};

/// Elementwise function of two tensors of the same shape.
type Binary = for<'g> fn(Var<'g>, Var<'g>) -> Var<'g>;
/// Function of one tensor, such as a sum.
type Unary = for<'g> fn(Var<'g>) -> Var<'g>;

const POINTWISE: [(&str, Binary); 4] =
    [("add", |x, y| x + y), ("relu", |x, _| x.relu()), ("gelu", |x, _| x.gelu()), ("exp", |x, _| x.exp())];
const SUMS: [(&str, Unary); 3] =
    [("sum-all", |x| x.sum_all()), ("sum-rows", |x| x.sum(&[1])), ("sum-columns", |x| x.sum(&[0]))];

pub(super) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (millions, quick) in [(1, true), (16, false)] {
        for (name, function) in POINTWISE {
            let build = move || pointwise(millions << 20, function, name == "add");
            all.push(Case::new(Group::Pointwise, format!("{name}-{millions}M"), build).quick_if(quick));
        }
    }
    for (side, quick) in [(1024, true), (4096, false)] {
        for (name, function) in SUMS {
            let build = move || sum(side, function);
            all.push(Case::new(Group::Reduction, format!("{name}-{side}x{side}"), build).quick_if(quick));
        }
    }
    let momentum = Optimizer::Sgd(Sgd::default());
    let adamw = Optimizer::AdamW(AdamW::default());
    for (millions, quick) in [(1, true), (10, false)] {
        for (name, optimizer) in [("sgd-momentum", momentum), ("adamw", adamw)] {
            let build = move || update(millions << 20, optimizer);
            all.push(Case::new(Group::Optimizer, format!("{name}-{millions}M"), build).quick_if(quick));
        }
    }
    all
}

fn pointwise(elements: usize, function: Binary, binary: bool) -> Result<Workload, GraphError> {
    let mut recorder = Recorder::new();
    let x = recorder.floats("x", [elements]);
    let y = if binary { recorder.floats("y", [elements]) } else { x };
    recorder.record(|graph| {
        graph.output("result", function(graph.entry(x), graph.entry(y)));
        Ok(())
    })
}

fn sum(side: usize, function: Unary) -> Result<Workload, GraphError> {
    let mut recorder = Recorder::new();
    let x = recorder.floats("x", [side, side]);
    recorder.record(|graph: &Graph| {
        graph.output("sum", function(graph.entry(x)));
        Ok(())
    })
}

/// Optimizer update of one parameter tensor with a given gradient.
fn update(elements: usize, optimizer: Optimizer) -> Result<Workload, GraphError> {
    let mut recorder = Recorder::new();
    let mut builder = Builder::new();
    builder.param("weight", [elements], Init::Normal(0.02), true);
    let params = builder.finish(recorder.states());
    let moments = optimizer.declare(recorder.states(), &params);
    let initial = params.initial(recorder.states(), params.group(), 1);
    recorder.fill(params.group(), initial);
    let gradient = recorder.floats("gradient", [elements]);
    let workload = recorder.record(|graph| {
        let hyper = graph.input("hyper", TensorType::f32([Optimizer::HYPER]));
        optimizer.update(graph, &moments, &params, graph.entry(gradient), hyper);
        Ok(())
    })?;
    Ok(Workload { update: Some(Update { optimizer, rate: 1e-3, has_rng: false }), ..workload })
}
