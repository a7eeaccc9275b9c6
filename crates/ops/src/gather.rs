//! Rows of a tensor selected by index, and their gradient.

use wgrad_graph::{DType, Lowered, Op, Rule, Shape, TensorType, Var, Vjp};

use crate::constant::iota;
use crate::op_info::{ErrorInput, GradientOrder, OpInfo};
use crate::rules::check_dtype;
use crate::sample::{ANY, Input, Sample, pick, shape_of_rank, size};
use crate::tensor::TensorOps;
use crate::view::{reshape, transpose, unsqueeze};

/// Operations of this family.
pub(crate) static OPS: &[OpInfo] = &[
    OpInfo {
        name: "gather",
        doc: "Rows of a table selected by index, out[i…, d…] = table[index[i…], d…]; an index out of range gives NaN.",
        sample: |random| {
            let (rank, dims) = (pick(random, &[0, 1, 1, 2]), pick(random, &[0, 1, 1, 2]));
            let rows = size(random);
            let table = Input::f32([vec![rows], shape_of_rank(random, dims)].concat(), ANY);
            let index = Input::u32(shape_of_rank(random, rank), rows as u32);
            Sample::new(vec![table, index], |_, ins| ins[0].gather(ins[1]))
        },
        tolerance: 0.0,
        gradient_order: GradientOrder::Any,
        error_inputs: || {
            let error = |table: TensorType, index: TensorType, message| {
                ErrorInput::new(vec![table, index], message, |_, ins| ins[0].gather(ins[1]))
            };
            vec![
                error(TensorType::f32([4, 3]), TensorType::f32([2]), "elements must be u32"),
                error(TensorType::f32([]), TensorType::u32([2]), "a table must have rows"),
            ]
        },
    },
    OpInfo {
        name: "scatter_add",
        doc: "Adds rows to a table at the given indices. Rows with the same index are summed.",
        sample: |random| {
            let (rank, dims) = (pick(random, &[0, 1, 1, 2]), pick(random, &[0, 1, 2]));
            let (rows, row, picked) =
                (size(random), shape_of_rank(random, dims), shape_of_rank(random, rank));
            let table = Input::f32([vec![rows], row.clone()].concat(), ANY);
            let index = Input::u32(picked.clone(), rows as u32);
            let values = Input::f32([picked, row].concat(), ANY);
            Sample::new(vec![table, index, values], |_, ins| ins[0].scatter_add(ins[1], ins[2]))
        },
        tolerance: 1e-5,
        gradient_order: GradientOrder::Any,
        error_inputs: || {
            let error = |index: TensorType, rows: TensorType, message| {
                let table = TensorType::f32([4, 3]);
                ErrorInput::new(vec![table, index, rows], message, |_, ins| {
                    ins[0].scatter_add(ins[1], ins[2])
                })
            };
            vec![
                error(TensorType::f32([2]), TensorType::f32([2, 3]), "elements must be u32"),
                error(TensorType::u32([2]), TensorType::f32([2, 4]), "one row for each index"),
            ]
        },
    },
    OpInfo {
        name: "one_hot",
        doc: "1 at the index of each element along a new last axis, else 0. An index out of range gives only zeros.",
        sample: |random| {
            let rank = pick(random, &[0, 1, 2]);
            let (shape, classes) = (shape_of_rank(random, rank), size(random));
            let bound = classes as u32 + random.below(2);
            Sample::new(vec![Input::u32(shape, bound)], move |_, ins| ins[0].one_hot(classes))
        },
        tolerance: 0.0,
        gradient_order: GradientOrder::Zero,
        error_inputs: || {
            let f32_index = vec![TensorType::f32([2])];
            vec![
                ErrorInput::new(f32_index, "elements must be u32", |_, ins| ins[0].one_hot(3)),
                ErrorInput::new(vec![TensorType::u32([2])], "at least 1", |_, ins| ins[0].one_hot(0)),
            ]
        },
    },
];

/// Selects rows by index: `out[i…, d…] = table[index[i…], d…]`.
#[track_caller]
pub(crate) fn gather<'g>(table: Var<'g>, index: Var<'g>) -> Var<'g> {
    table.graph().push(Gather, &[table, index])
}

/// Adds `rows[i…, d…]` to row `index[i…]` of `table`.
///
/// Computed as a product with a one-hot matrix instead of float atomics, so that the order of the additions, and
/// therefore every bit of the result, is fixed.
#[track_caller]
pub(crate) fn scatter_add<'g>(table: Var<'g>, index: Var<'g>, rows: Var<'g>) -> Var<'g> {
    let expected = Gather.infer(&[table.ty(), index.ty()]);
    match expected {
        Ok(ty) if ty == rows.ty() => table.add(scatter_rows(table.shape(), index, rows)),
        Ok(ty) => {
            let rule = Rule::new(format!("`rows` must have one row for each index, as {ty}"));
            table.graph().refuse("scatter_add", &[table, index, rows], rule)
        }
        Err(rule) => table.graph().refuse("scatter_add", &[table, index, rows], rule),
    }
}

/// Sums `rows` into a tensor of zeros of shape `table`.
#[track_caller]
fn scatter_rows<'g>(table: Shape, index: Var<'g>, rows: Var<'g>) -> Var<'g> {
    let (picked, row) = (index.shape().numel(), table[1..].iter().product::<usize>());
    let one_hot = one_hot(reshape(index, [picked]), table[0]);
    reshape(transpose(one_hot).matmul(reshape(rows, [picked, row])), table)
}

/// Returns 1 at the index of each element along a new last axis, else 0.
#[track_caller]
pub(crate) fn one_hot(index: Var<'_>, classes: usize) -> Var<'_> {
    if let Err(rule) = check_dtype(DType::U32, &[index.ty()]) {
        return index.graph().refuse("one_hot", &[index], rule);
    }
    if classes == 0 {
        return index.graph().refuse(
            "one_hot",
            &[index],
            Rule::new("the number of classes must be at least 1"),
        );
    }
    unsqueeze(index, index.rank()).eq(iota(index.graph(), [classes], 0))
}

/// Rows selected by index.
#[derive(Debug)]
struct Gather;

impl Op for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn infer(&self, ins: &[TensorType]) -> Result<TensorType, Rule> {
        let (table, index) = (&ins[0], &ins[1]);
        check_dtype(DType::U32, std::slice::from_ref(index))?;
        if table.shape.is_empty() {
            return Err(Rule::new("a table must have rows; a scalar has none"));
        }
        let shape = Shape::from([&index.shape[..], &table.shape[1..]].concat());
        Ok(TensorType::new(table.dtype, shape))
    }

    fn vjp<'g>(&self, ins: &[Var<'g>], _: Var<'g>, cotangent: Var<'g>) -> Vjp<'g> {
        Vjp::Grads(vec![Some(scatter_rows(ins[0].shape(), ins[1], cotangent)), None])
    }

    fn lower(&self, _: &[TensorType], _: &TensorType) -> Lowered {
        Lowered::Gather
    }
}
