//! Tensors laid into one flat tensor: how gradients become one buffer.

use wgrad_graph::{ALIGN, Graph, Lowered, Op, Rule, TensorType, Var, Vjp};

use crate::sample::{Input, Sample, pick, shape_of};
use crate::scalar::ANY;
use crate::table::{Entry, Order, Refused};
use crate::tensor::TensorOps;
use crate::view::reshape;

/// Elements from one place where an f32 tensor may start to the next.
const SLOT: usize = ALIGN / 4;

/// Entries of this family.
pub(crate) static ENTRIES: &[Entry] = &[Entry {
    name: "pack",
    doc: "Tensors laid into one flat tensor at given offsets; zero between them.",
    sample: |random| {
        let (mut inputs, mut offsets, mut end) = (Vec::new(), Vec::new(), 0);
        for _ in 0..1 + random.below(4) {
            let rank = pick(random, &[0, 1, 2, 3]);
            let input = Input::f32(shape_of(random, rank), ANY);
            let offset = usize::next_multiple_of(end, SLOT) + pick(random, &[0, 0, SLOT]);
            end = offset + input.ty.shape.numel();
            offsets.push(offset);
            inputs.push(input);
        }
        let len = end + pick(random, &[0, 5]);
        // Squared, since packing is linear: its own second derivative could not be wrong.
        Sample::new(inputs, move |graph, ins| pack(graph, ins, &offsets, len).square())
    },
    tolerance: 1e-6,
    order: Order::Any,
    refuses: || {
        let xs = || vec![TensorType::f32([2, 3]), TensorType::f32([4])];
        let mixed = vec![TensorType::f32([2]), TensorType::u32([2])];
        vec![
            Refused::new(xs(), "input 1 at 5 lies on elements before 6", |graph, ins| {
                pack(graph, ins, &[0, 5], 20)
            }),
            Refused::new(xs(), "input 1 ends at 10, after the end at 9", |graph, ins| {
                pack(graph, ins, &[0, 6], 9)
            }),
            Refused::new(xs(), "input 1 starts at 7, not at a multiple of 64", |graph, ins| {
                pack(graph, ins, &[0, 7], 20)
            }),
            Refused::new(xs(), "one offset an input", |graph, ins| pack(graph, ins, &[0], 9)),
            Refused::new(mixed, "the same element type", |graph, ins| pack(graph, ins, &[0, 2], 4)),
            Refused::new(Vec::new(), "nothing to pack", |graph, ins| pack(graph, ins, &[], 4)),
        ]
    },
}];

/// Tensors, in ascending order of `offsets`, laid into one flat tensor of `len` elements that is zero elsewhere. Each starts
/// at a multiple of [`ALIGN`] bytes, so that a kernel can write it in place.
///
/// ```
/// # use wgrad_graph::{States, TensorType};
/// # let graph = wgrad_ops::graph(States::new());
/// let weight = graph.input("weight", TensorType::f32([2, 3]));
/// let bias = graph.input("bias", TensorType::f32([3]));
/// assert_eq!(wgrad_ops::pack(&graph, &[weight, bias], &[0, 64], 128).ty(), TensorType::f32([128]));
/// ```
#[track_caller]
pub fn pack<'g>(graph: &'g Graph, parts: &[Var<'g>], offsets: &[usize], len: usize) -> Var<'g> {
    graph.push(Pack { offsets: offsets.to_vec(), len }, parts)
}

#[derive(Debug)]
struct Pack {
    offsets: Vec<usize>,
    len: usize,
}

impl Op for Pack {
    fn name(&self) -> &'static str {
        "pack"
    }

    fn infer(&self, ins: &[TensorType]) -> Result<TensorType, Rule> {
        let Some(first) = ins.first() else { return Err(Rule::new("there is nothing to pack")) };
        if ins.len() != self.offsets.len() {
            let (inputs, offsets) = (ins.len(), self.offsets.len());
            return Err(Rule::new(format!(
                "there is one offset an input; {inputs} inputs have {offsets} offsets"
            )));
        }
        let mut end = 0;
        for (i, (input, &offset)) in ins.iter().zip(&self.offsets).enumerate() {
            if input.dtype != first.dtype {
                return Err(Rule::new("all inputs have the same element type"));
            }
            if offset < end {
                return Err(Rule::new(format!("input {i} at {offset} lies on elements before {end}")));
            }
            end = offset.saturating_add(input.shape.numel());
            if end > self.len {
                return Err(Rule::new(format!("input {i} ends at {end}, after the end at {}", self.len)));
            }
            let slot = ALIGN / input.dtype.bytes();
            if offset % slot != 0 {
                return Err(Rule::new(format!("input {i} starts at {offset}, not at a multiple of {slot}")));
            }
        }
        let out = TensorType::new(first.dtype, [self.len]);
        Ok(out)
    }

    fn vjp<'g>(&self, ins: &[Var<'g>], _: Var<'g>, cotangent: Var<'g>) -> Vjp<'g> {
        let part = |x: &Var<'g>, &offset: &usize| {
            let range = offset..offset + x.shape().numel();
            reshape(cotangent.slice(0, range), x.shape())
        };
        Vjp::Grads(ins.iter().zip(&self.offsets).map(|(x, offset)| Some(part(x, offset))).collect())
    }

    fn lower(&self, _: &[TensorType], _: &TensorType) -> Lowered {
        Lowered::Pack { offsets: self.offsets.clone() }
    }
}
