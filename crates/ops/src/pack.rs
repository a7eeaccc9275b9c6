//! Concatenation of tensors into one flat tensor at given offsets; used to store all gradients in one buffer.

use wgrad_graph::{ALIGN, Graph, Lowered, Op, Rule, TensorType, Var, Vjp};

use crate::op_info::{ErrorInput, GradientOrder, OpInfo};
use crate::sample::{ANY, Input, Sample, pick, shape_of_rank};
use crate::tensor::TensorOps;
use crate::view::reshape;

/// Alignment of the offset of an f32 tensor, in elements.
const ALIGN_F32: usize = ALIGN / 4;

/// Operations of this family.
pub(crate) static OPS: &[OpInfo] = &[OpInfo {
    name: "pack",
    doc: "Tensors copied into one flat tensor at given offsets, with zeros between them.",
    sample: |random| {
        let (mut inputs, mut offsets, mut end) = (Vec::new(), Vec::new(), 0);
        for _ in 0..1 + random.below(4) {
            let rank = pick(random, &[0, 1, 2, 3]);
            let input = Input::f32(shape_of_rank(random, rank), ANY);
            let offset = usize::next_multiple_of(end, ALIGN_F32) + pick(random, &[0, 0, ALIGN_F32]);
            end = offset + input.ty.shape.numel();
            offsets.push(offset);
            inputs.push(input);
        }
        let len = end + pick(random, &[0, 5]);
        // Squared, because packing is linear and a second derivative of zero would test nothing.
        Sample::new(inputs, move |graph, ins| pack(graph, ins, &offsets, len).square())
    },
    tolerance: 1e-6,
    gradient_order: GradientOrder::Any,
    error_inputs: || {
        let xs = || vec![TensorType::f32([2, 3]), TensorType::f32([4])];
        let mixed = vec![TensorType::f32([2]), TensorType::u32([2])];
        vec![
            ErrorInput::new(xs(), "input 1 at offset 5 overlaps input 0, which ends at 6", |graph, ins| {
                pack(graph, ins, &[0, 5], 20)
            }),
            ErrorInput::new(xs(), "input 1 ends at 10, beyond the length 9", |graph, ins| {
                pack(graph, ins, &[0, 6], 9)
            }),
            ErrorInput::new(xs(), "input 1 starts at 7, which is not a multiple of 64", |graph, ins| {
                pack(graph, ins, &[0, 7], 20)
            }),
            ErrorInput::new(xs(), "one offset for each input", |graph, ins| pack(graph, ins, &[0], 9)),
            ErrorInput::new(mixed, "the same element type", |graph, ins| pack(graph, ins, &[0, 2], 4)),
            ErrorInput::new(Vec::new(), "nothing to pack", |graph, ins| pack(graph, ins, &[], 4)),
        ]
    },
}];

/// Copies tensors into one flat tensor of `len` elements, at ascending `offsets`; the other elements are zero. Each
/// offset is a multiple of [`ALIGN`] bytes, so that a kernel can write its result in place.
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
                "there must be one offset for each input; {inputs} inputs have {offsets} offsets"
            )));
        }
        let mut end = 0;
        for (i, (input, &offset)) in ins.iter().zip(&self.offsets).enumerate() {
            if input.dtype != first.dtype {
                return Err(Rule::new("all inputs must have the same element type"));
            }
            if offset < end {
                return Err(Rule::new(format!(
                    "input {i} at offset {offset} overlaps input {}, which ends at {end}",
                    i - 1
                )));
            }
            end = offset.saturating_add(input.shape.numel());
            if end > self.len {
                return Err(Rule::new(format!("input {i} ends at {end}, beyond the length {}", self.len)));
            }
            let align = ALIGN / input.dtype.bytes();
            if offset % align != 0 {
                return Err(Rule::new(format!(
                    "input {i} starts at {offset}, which is not a multiple of {align}"
                )));
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
