//! Checks of every kernel's WGSL without a GPU.
//!
//! naga parses and validates each shader and translates it to every backend language. The number of bindings must
//! match the operands of the dispatch. The workgroup size, the workgroup memory and the number of workgroups must be
//! within the limits of the target.

use std::collections::HashSet;

use naga::AddressSpace;
use wgrad_gpu::{Class, GemmVariant, Lanes, Shader, Target, validate, wgsl};
use wgrad_graph::Graph;
use wgrad_program::{Dispatch, Kernel, Options, compile};

use crate::report::{Comparison, Failure};
use crate::step::Training;
use crate::trial::{Trial, With};

/// Workgroup sizes of reductions that are tested in addition to the default: one lane per row, all lanes on one row,
/// and several rows with several lanes each.
pub const LANES: [Lanes; 3] =
    [Lanes { rows: 32, lanes: 1 }, Lanes { rows: 1, lanes: 64 }, Lanes { rows: 4, lanes: 8 }];

/// Checks every kernel of a trial, with and without fusion, in every kernel variant.
pub fn trial(trial: &Trial) -> Comparison {
    let (graph, _) = trial.graph(With::Gradient)?;
    check_every_kernel(&graph)
}

/// Checks every kernel of the training steps, with and without fusion, in every kernel variant.
pub fn training() -> Comparison {
    check_every_kernel(&Training::dense()?.graph)?;
    check_every_kernel(&Training::images()?.graph)
}

fn check_every_kernel(graph: &Graph) -> Comparison {
    let mut seen = HashSet::new();
    for fuse in [true, false] {
        let program = compile(graph, Options { fuse, ..Options::default() })?;
        for dispatch in &program.dispatches {
            for target in targets(dispatch) {
                let shader = wgsl(dispatch, &target);
                if seen.insert(shader.text.clone()) {
                    check(&shader, dispatch, &target).map_err(|message| {
                        Failure::Violation(format!("{}, {}: {message}", dispatch.name, shader.choice))
                    })?;
                }
            }
        }
    }
    Ok(0.0)
}

/// Returns a list of targets. Together, they make code generation produce all variants of a dispatch.
fn targets(dispatch: &Dispatch) -> Vec<Target> {
    let portable = || Target::portable(Class::Discrete);
    let subgroups = || Target { subgroup_size: Some(8), ..portable() };
    let mut targets = vec![portable(), Target::portable(Class::Software)];
    match &dispatch.kernel {
        Kernel::Gemm(_) => targets.extend(GemmVariant::ALL.map(|v| Target { gemm: Some(v), ..subgroups() })),
        Kernel::Loop(kernel) if !kernel.inner.is_empty() => {
            targets.extend(LANES.map(|lanes| Target { lanes: Some(lanes), ..portable() }));
        }
        Kernel::Loop(_) => {}
    }
    targets
}

fn check(shader: &Shader, dispatch: &Dispatch, target: &Target) -> Result<(), String> {
    validate(&shader.text)?;
    let module =
        naga::front::wgsl::parse_str(&shader.text).map_err(|error| error.emit_to_string(&shader.text))?;
    let sizes = module.to_ctx();
    let bytes = |ty: naga::Handle<naga::Type>| module.types[ty].inner.size(sizes);
    let variables = || module.global_variables.iter().map(|(_, variable)| variable);
    let shared: u32 = variables().filter(|v| v.space == AddressSpace::WorkGroup).map(|v| bytes(v.ty)).sum();
    let bound = variables().filter(|v| v.binding.is_some()).count();
    let Some(entry) = module.entry_points.iter().find(|entry| entry.name == "main") else {
        return Err("no entry point is named main".into());
    };
    let invocations: u32 = entry.workgroup_size.iter().product();
    let rules = [
        (
            bound == dispatch.operands.len(),
            format!("the shader has {bound} bindings for {} operands", dispatch.operands.len()),
        ),
        (
            shader.read_only.len() == bound,
            format!("{} of {bound} bindings have an access mode", shader.read_only.len()),
        ),
        (
            invocations == shader.invocations,
            format!("a workgroup has {invocations} invocations, expected {}", shader.invocations),
        ),
        (
            invocations <= target.max_invocations,
            format!("{invocations} invocations exceed the limit of {}", target.max_invocations),
        ),
        (
            shared <= target.max_workgroup_bytes,
            format!("{shared} bytes of workgroup memory exceed the limit of {}", target.max_workgroup_bytes),
        ),
        (
            shader.workgroups.iter().all(|&n| (1..=target.max_workgroups).contains(&n)),
            format!(
                "{:?} workgroups exceed the limit of {} in each dimension",
                shader.workgroups, target.max_workgroups
            ),
        ),
    ];
    rules.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, rule)| Err(rule))
}
