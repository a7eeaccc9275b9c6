//! Checks of shape rules. Results must have the inferred types, and invalid uses must be rejected with helpful
//! messages.

use wgrad_cpu::reference::Values;
use wgrad_graph::{DType, GraphError, States};
use wgrad_ops::{ErrorInput, OpInfo};

use crate::report::{Comparison, Failure};
use crate::trial::{ReferenceRun, Trial, With};

/// Checks the types of a trial's outputs. Every result must have the dtype and size of its inferred type, and every
/// gradient the type of its input.
pub fn shape(trial: &Trial) -> Comparison {
    let ReferenceRun { graph, inputs, outputs } = trial.run_reference(With::Gradient)?;
    for ((name, id), value) in graph.outputs().into_iter().zip(&outputs) {
        let ty = graph.var(id).ty();
        let is_u32 = matches!(value.values, Values::U32(_));
        let fits =
            is_u32 == (ty.dtype == DType::U32) && value.values.len() == ty.shape.numel() && value.ty == ty;
        if !fits {
            let kind = if is_u32 { "u32 values" } else { "floats" };
            return Err(Failure::Violation(format!(
                "{name} is {ty}, but the reference returned {} {kind}",
                value.values.len()
            )));
        }
        let input = name.strip_prefix('d').and_then(|i| i.parse::<usize>().ok());
        if let Some(input) = input.and_then(|i| inputs.get(i))
            && input.ty != ty
        {
            return Err(Failure::Violation(format!(
                "the gradient {name} is {ty}, but the input is {}",
                input.ty
            )));
        }
    }
    Ok(0.0)
}

/// Checks that every invalid use of the operation is rejected. The message must contain the operation's name, the
/// shapes and the violated rule.
pub fn refusal(entry: &OpInfo) -> Comparison {
    for (i, case) in (entry.error_inputs)().iter().enumerate() {
        check_refusal(case).map_err(|failure| Failure::Violation(format!("invalid use {i}: {failure}")))?;
    }
    Ok(0.0)
}

fn check_refusal(case: &ErrorInput) -> Comparison {
    let graph = wgrad_ops::graph(States::new());
    let input = |(i, ty): (usize, &wgrad_graph::TensorType)| graph.input(&format!("x{i}"), ty.clone());
    let ins: Vec<_> = case.inputs.iter().enumerate().map(input).collect();
    let out = (case.build)(&graph, &ins);
    let error = match graph.finish() {
        Ok(()) => {
            return Err(Failure::Violation(format!("the use was accepted with result type {}", out.ty())));
        }
        Err(error) => error,
    };
    let message = error.to_string();
    let GraphError::Shape { op, inputs, location, .. } = error else {
        return Err(Failure::Violation(format!(
            "the use was rejected, but not with a shape error: {message}"
        )));
    };
    // A composite operation may be rejected by one of its parts. The name in the message is then the name of the part,
    // which is also in the table.
    let named = wgrad_ops::ops().any(|entry| entry.name == op) || message.starts_with(&format!("{op}("));
    let shown = case.inputs.is_empty() || case.inputs.iter().any(|ty| inputs.contains(&ty.to_string()));
    let missing = [
        (!named || op.is_empty(), "the name of the operation"),
        (!shown, "the type of an input"),
        (!message.contains(case.message), "the rule"),
        (!location.contains(':'), "the line of the call"),
    ];
    match missing.into_iter().find(|(missing, _)| *missing) {
        Some((_, what)) => {
            Err(Failure::Violation(format!("the message lacks {what} ({}): {message}", case.message)))
        }
        None => Ok(0.0),
    }
}
