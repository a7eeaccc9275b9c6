//! Sums over the replicas that train one model, in the midst of a program.
//!
//! Not a row of the table: without places reserved for it and a host that adds up, it means nothing.

use wgrad_graph::{DType, EntryId, Lowered, Op, Rule, TensorType, Var, Vjp};

use crate::pointwise::all_of;
use crate::tensor::TensorOps;
use crate::view::{reshape, stack};

/// Where a tensor goes and its sum over all replicas comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// What this replica adds.
    pub sent: EntryId,
    /// The sum.
    pub received: EntryId,
}

/// A replica's part in statistics that several replicas have together.
#[derive(Debug, Clone, Copy)]
pub struct Shares<'g> {
    /// The replica's share of the examples: what its means weigh.
    pub share: f64,
    /// Numbers near the means, `[c]`, the same on all replicas: sums of squares about them are more exact than about zero.
    pub origin: Var<'g>,
    /// Places of f32 `[2, c]` for the forward pass.
    pub forward: Places,
    /// Others for the backward pass.
    pub backward: Places,
}

/// The mean over all replicas of two means over the examples of each, of one shape with c elements.
#[track_caller]
pub(crate) fn mean_of_both<'g>(pair: [Var<'g>; 2], share: f64, places: Places) -> [Var<'g>; 2] {
    let (graph, shape) = (pair[0].graph(), pair[0].shape());
    let sent = stack(graph, &pair.map(|mean| reshape(mean, [shape.numel()])), 0) * share;
    let places_are = [places.sent, places.received].map(|entry| graph.states().entry_type(entry));
    if let Some(place) = places_are.into_iter().find(|place| *place != sent.ty()) {
        let rule = Rule::new(format!("a tensor of {} does not fit a place for {place}", sent.ty()));
        return [graph.refuse("exchange", &[sent], rule); 2];
    }
    let sum = graph.push(Exchange(places), &[sent]);
    [0, 1].map(|i| reshape(sum.slice(0, i..i + 1), shape.clone()))
}

#[derive(Debug)]
struct Exchange(Places);

impl Op for Exchange {
    fn name(&self) -> &'static str {
        "exchange"
    }

    fn infer(&self, ins: &[TensorType]) -> Result<TensorType, Rule> {
        all_of(DType::F32, ins)?;
        Ok(ins[0].clone())
    }

    fn vjp<'g>(&self, _: &[Var<'g>], _: Var<'g>, _: Var<'g>) -> Vjp<'g> {
        Vjp::Undefined("its gradient would need another exchange, for which no place is reserved")
    }

    fn lower(&self, _: &[TensorType], _: &TensorType) -> Lowered {
        Lowered::HostCallback { sent: self.0.sent, received: self.0.received }
    }
}
