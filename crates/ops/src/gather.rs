//! Rows picked by index, and their way back.

use wgrad_graph::{DType, Lowered, Op, Rule, Shape, TensorType, Var, Vjp};

use crate::constant::iota;
use crate::pointwise::all_of;
use crate::sample::{Input, Sample, pick, shape_of, size};
use crate::scalar::ANY;
use crate::table::{Entry, Order, Refused};
use crate::tensor::TensorOps;
use crate::view::{reshape, transpose, unsqueeze};

/// Entries of this family.
pub(crate) static ENTRIES: &[Entry] = &[
    Entry {
        name: "gather",
        doc: "Rows of a table picked by index, out[i…, d…] = table[index[i…], d…]; an index out of range gives NaN.",
        sample: |random| {
            let (rank, dims) = (pick(random, &[0, 1, 1, 2]), pick(random, &[0, 1, 1, 2]));
            let rows = size(random);
            let table = Input::f32([vec![rows], shape_of(random, dims)].concat(), ANY);
            let index = Input::words(shape_of(random, rank), rows as u32);
            Sample::new(vec![table, index], |_, ins| ins[0].gather(ins[1]))
        },
        tolerance: 0.0,
        order: Order::Any,
        refuses: || {
            let gathered = |table: TensorType, index: TensorType, why| {
                Refused::new(vec![table, index], why, |_, ins| ins[0].gather(ins[1]))
            };
            vec![
                gathered(TensorType::f32([4, 3]), TensorType::f32([2]), "elements must be u32"),
                gathered(TensorType::f32([]), TensorType::u32([2]), "a table has rows"),
            ]
        },
    },
    Entry {
        name: "scatter_add",
        doc: "Rows added to a table at the rows that an index names, several to one row if it is named several times.",
        sample: |random| {
            let (rank, dims) = (pick(random, &[0, 1, 1, 2]), pick(random, &[0, 1, 2]));
            let (rows, row, picked) = (size(random), shape_of(random, dims), shape_of(random, rank));
            let table = Input::f32([vec![rows], row.clone()].concat(), ANY);
            let index = Input::words(picked.clone(), rows as u32);
            let values = Input::f32([picked, row].concat(), ANY);
            Sample::new(vec![table, index, values], |_, ins| ins[0].scatter_add(ins[1], ins[2]))
        },
        tolerance: 1e-5,
        order: Order::Any,
        refuses: || {
            let scattered = |index: TensorType, rows: TensorType, why| {
                let table = TensorType::f32([4, 3]);
                Refused::new(vec![table, index, rows], why, |_, ins| ins[0].scatter_add(ins[1], ins[2]))
            };
            vec![
                scattered(TensorType::f32([2]), TensorType::f32([2, 3]), "elements must be u32"),
                scattered(TensorType::u32([2]), TensorType::f32([2, 4]), "one row an index"),
            ]
        },
    },
    Entry {
        name: "one_hot",
        doc: "1 at the index of each element along a new last axis, else 0; an index out of range gives zeros only.",
        sample: |random| {
            let rank = pick(random, &[0, 1, 2]);
            let (shape, classes) = (shape_of(random, rank), size(random));
            let bound = classes as u32 + random.below(2);
            Sample::new(vec![Input::words(shape, bound)], move |_, ins| ins[0].one_hot(classes))
        },
        tolerance: 0.0,
        order: Order::Zero,
        refuses: || {
            let float = vec![TensorType::f32([2])];
            vec![
                Refused::new(float, "elements must be u32", |_, ins| ins[0].one_hot(3)),
                Refused::new(vec![TensorType::u32([2])], "at least one class", |_, ins| ins[0].one_hot(0)),
            ]
        },
    },
];

/// `out[i…, d…] = table[index[i…], d…]`.
#[track_caller]
pub(crate) fn gather<'g>(table: Var<'g>, index: Var<'g>) -> Var<'g> {
    table.graph().push(Gather, &[table, index])
}

/// `table` with `rows[i…, d…]` added at row `index[i…]`.
///
/// It is a product with a one-hot matrix: no float atomics, so the order of the sum, and with it every bit, is fixed.
#[track_caller]
pub(crate) fn scatter_add<'g>(table: Var<'g>, index: Var<'g>, rows: Var<'g>) -> Var<'g> {
    let expected = Gather.infer(&[table.ty(), index.ty()]);
    match expected {
        Ok(ty) if ty == rows.ty() => table.add(scattered(table.shape(), index, rows)),
        Ok(ty) => {
            let rule = Rule::new(format!("there is one row an index, {ty} in all"));
            table.graph().refuse("scatter_add", &[table, index, rows], rule)
        }
        Err(rule) => table.graph().refuse("scatter_add", &[table, index, rows], rule),
    }
}

/// `rows` summed into a tensor of zeros of this shape.
#[track_caller]
fn scattered<'g>(table: Shape, index: Var<'g>, rows: Var<'g>) -> Var<'g> {
    let (picked, row) = (index.shape().numel(), table[1..].iter().product::<usize>());
    let one_hot = one_hot(reshape(index, [picked]), table[0]);
    reshape(transpose(one_hot).matmul(reshape(rows, [picked, row])), table)
}

/// 1 at the index of each element along a new last axis.
#[track_caller]
pub(crate) fn one_hot(index: Var<'_>, classes: usize) -> Var<'_> {
    if let Err(rule) = all_of(DType::U32, &[index.ty()]) {
        return index.graph().refuse("one_hot", &[index], rule);
    }
    if classes == 0 {
        return index.graph().refuse("one_hot", &[index], Rule::new("there is at least one class"));
    }
    unsqueeze(index, index.rank()).eq(iota(index.graph(), [classes], 0))
}

/// Rows picked by index.
#[derive(Debug)]
struct Gather;

impl Op for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn infer(&self, ins: &[TensorType]) -> Result<TensorType, Rule> {
        let (table, index) = (&ins[0], &ins[1]);
        all_of(DType::U32, std::slice::from_ref(index))?;
        if table.shape.is_empty() {
            return Err(Rule::new("a table has rows; a scalar has none"));
        }
        let shape = Shape::from([&index.shape[..], &table.shape[1..]].concat());
        Ok(TensorType::new(table.dtype, shape))
    }

    fn vjp<'g>(&self, ins: &[Var<'g>], _: Var<'g>, cotangent: Var<'g>) -> Vjp<'g> {
        Vjp::Grads(vec![Some(scattered(ins[0].shape(), ins[1], cotangent)), None])
    }

    fn lower(&self, _: &[TensorType], _: &TensorType) -> Lowered {
        Lowered::Gather
    }
}
