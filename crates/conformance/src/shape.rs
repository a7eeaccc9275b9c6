//! Shape rules: what was produced has the type that was inferred, and what is wrong is refused in words that help.

use wgrad_cpu::reference::Values;
use wgrad_graph::{DType, GraphError, States};
use wgrad_ops::{OpInfo, ErrorInput};

use crate::report::{Failure, Verdict};
use crate::trial::{Expected, Trial, With};

/// Every output of a trial, gradients included, has the element type and the size of its type, and a gradient the type of
/// its input.
pub fn shape(trial: &Trial) -> Verdict {
    let Expected { graph, inputs, outputs } = trial.expected(With::Gradient)?;
    for ((name, id), value) in graph.outputs().into_iter().zip(&outputs) {
        let ty = graph.var(id).ty();
        let words = matches!(value.values, Values::Word(_));
        let fits =
            words == (ty.dtype == DType::U32) && value.values.len() == ty.shape.numel() && value.ty == ty;
        if !fits {
            let kind = if words { "words" } else { "floats" };
            return Err(Failure::Broken(format!(
                "{name} is {ty}, but {} {kind} came out",
                value.values.len()
            )));
        }
        let input = name.strip_prefix('d').and_then(|i| i.parse::<usize>().ok());
        if let Some(input) = input.and_then(|i| inputs.get(i))
            && input.ty != ty
        {
            return Err(Failure::Broken(format!(
                "the gradient {name} is {ty}, but the input is {}",
                input.ty
            )));
        }
    }
    Ok(0.0)
}

/// Every use that the entry lists as wrong is refused with the operation, the shapes and the rule.
pub fn refusal(entry: &OpInfo) -> Verdict {
    for (i, case) in (entry.error_inputs)().iter().enumerate() {
        refused(case).map_err(|failure| Failure::Broken(format!("wrong use {i}: {failure}")))?;
    }
    Ok(0.0)
}

fn refused(case: &ErrorInput) -> Verdict {
    let graph = wgrad_ops::graph(States::new());
    let input = |(i, ty): (usize, &wgrad_graph::TensorType)| graph.input(&format!("x{i}"), ty.clone());
    let ins: Vec<_> = case.inputs.iter().enumerate().map(input).collect();
    let out = (case.build)(&graph, &ins);
    let error = match graph.finish() {
        Ok(()) => return Err(Failure::Broken(format!("accepted, as {}", out.ty()))),
        Err(error) => error,
    };
    let message = error.to_string();
    let GraphError::Shape { op, inputs, location, .. } = error else {
        return Err(Failure::Broken(format!("refused, but not as a mistake in a shape: {message}")));
    };
    // A composition is refused by one of the operations it is made of, which then is in the table under its own name.
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
            Err(Failure::Broken(format!("the message lacks {what} ({}): {message}", case.message)))
        }
        None => Ok(0.0),
    }
}
