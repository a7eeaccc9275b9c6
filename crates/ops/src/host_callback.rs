//! Sums over replicas within a program, computed by the host.
//!
//! The operation is not in the table of operations, because it needs reserved state entries and a host that computes
//! the sums.

use wgrad_graph::{DType, EntryId, Lowered, Op, Rule, TensorType, Var, Vjp};

use crate::rules::check_dtype;
use crate::tensor::TensorOps;
use crate::view::{reshape, stack};

/// State entries through which the host sums a tensor over all replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllReduceSlots {
    /// State entry for the summand of this replica.
    pub sent: EntryId,
    /// State entry for the sum over all replicas.
    pub received: EntryId,
}

/// Synchronization of batch statistics over replicas, as in PyTorch's `SyncBatchNorm`.
#[derive(Debug, Clone, Copy)]
pub struct SyncBatch<'g> {
    /// Fraction of the examples of the batch that this replica has. Weight of the means of this replica.
    pub fraction: f64,
    /// Values close to the means, `[c]`, equal on all replicas. Squared differences from these values are summed,
    /// because their rounding error is smaller than that of squares of the elements.
    pub origin: Var<'g>,
    /// Slots of f32 `[2, c]` for the forward pass.
    pub forward: AllReduceSlots,
    /// Slots of f32 `[2, c]` for the backward pass.
    pub backward: AllReduceSlots,
}

/// Averages two means over the examples of all replicas. Both have the same shape, with c elements.
#[track_caller]
pub(crate) fn all_reduce_means<'g>(
    means: [Var<'g>; 2],
    fraction: f64,
    slots: AllReduceSlots,
) -> [Var<'g>; 2] {
    let (graph, shape) = (means[0].graph(), means[0].shape());
    let sent = stack(graph, &means.map(|mean| reshape(mean, [shape.numel()])), 0) * fraction;
    let slot_types = [slots.sent, slots.received].map(|entry| graph.states().entry_type(entry));
    if let Some(slot) = slot_types.into_iter().find(|slot| *slot != sent.ty()) {
        let rule = Rule::new(format!("a slot has type {slot}, but the tensor has type {}", sent.ty()));
        return [graph.refuse("all_reduce", &[sent], rule); 2];
    }
    let sum = graph.push(AllReduce(slots), &[sent]);
    [0, 1].map(|i| reshape(sum.slice(0, i..i + 1), shape.clone()))
}

/// Sum of a tensor over all replicas.
#[derive(Debug)]
struct AllReduce(AllReduceSlots);

impl Op for AllReduce {
    fn name(&self) -> &'static str {
        "all_reduce"
    }

    fn infer(&self, ins: &[TensorType]) -> Result<TensorType, Rule> {
        check_dtype(DType::F32, ins)?;
        Ok(ins[0].clone())
    }

    fn vjp<'g>(&self, _: &[Var<'g>], _: Var<'g>, _: Var<'g>) -> Vjp<'g> {
        Vjp::Undefined("its gradient would need another all-reduce, for which no slots are reserved")
    }

    fn lower(&self, _: &[TensorType], _: &TensorType) -> Lowered {
        Lowered::HostCallback { sent: self.0.sent, received: self.0.received }
    }
}
