//! Matrix product.

use wgrad_graph::{Contract, DType, Lowered, Op, Rule, Shape, TensorType, Var, Vjp};

use crate::op_info::{ErrorInput, GradientOrder, OpInfo};
use crate::rules::check_dtype;
use crate::sample::{ANY, Input, Sample, broadcastable, chance, pick, shape_of_rank};
use crate::tensor::TensorOps;
use crate::view::{broadcast_to, reshape, transpose};

/// Operations of this family.
pub(crate) static OPS: &[OpInfo] = &[OpInfo {
    name: "matmul",
    doc: "Matrix product of the last two dimensions, [batch…, m, k] · [batch…, k, n] → [batch…, m, n]; batches broadcast.",
    sample: |random| {
        let sizes = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65];
        let [mut m, mut n, mut k] = [pick(random, &sizes), pick(random, &sizes), pick(random, &sizes)];
        let rank = pick(random, &[0, 0, 0, 1, 2]);
        if rank > 0 {
            [m, n, k] = [m.min(9), n.min(9), k.min(9)];
        }
        let batch = shape_of_rank(random, rank).into_iter().map(|n| n.min(5)).collect::<Vec<_>>();
        let (first, second) = (chance(random, 2), broadcastable(random, &batch));
        let (a_batch, b_batch) = if first { (batch, second) } else { (second, batch) };
        let (a_transposed, b_transposed) = (chance(random, 3), chance(random, 3));
        let shape = |batch: Vec<usize>, rows: usize, columns: usize, transposed: bool| {
            let matrix = if transposed { [columns, rows] } else { [rows, columns] };
            [batch, matrix.to_vec()].concat()
        };
        let a = Input::f32(shape(a_batch, m, k, a_transposed), ANY);
        let b = Input::f32(shape(b_batch, k, n, b_transposed), ANY);
        Sample::new(vec![a, b], move |_, ins| {
            let a = if a_transposed { ins[0].t() } else { ins[0] };
            let b = if b_transposed { ins[1].t() } else { ins[1] };
            a.matmul(b)
        })
    },
    tolerance: 2e-5,
    gradient_order: GradientOrder::Any,
    error_inputs: || {
        let error = |a: &[usize], b: &[usize], message| {
            ErrorInput::new(vec![TensorType::f32(a), TensorType::f32(b)], message, |_, ins| {
                ins[0].matmul(ins[1])
            })
        };
        let mixed = vec![TensorType::f32([2, 3]), TensorType::u32([3, 2])];
        vec![
            error(&[2, 3], &[4, 5], "the inner dimensions must agree; 3 and 4 do not"),
            error(&[3], &[3, 5], "at least 2 dimensions"),
            error(&[2, 2, 3], &[3, 3, 5], "2 and 3 do not"),
            ErrorInput::new(mixed, "elements must be f32", |_, ins| ins[0].matmul(ins[1])),
        ]
    },
}];

/// Matrix product `[batch…, m, k] · [batch…, k, n]`; batches broadcast with each other.
#[track_caller]
pub(crate) fn matmul<'g>(a: Var<'g>, b: Var<'g>) -> Var<'g> {
    let graph = a.graph();
    let out = match product_shape(&a.ty(), &b.ty()) {
        Ok(out) => out,
        Err(rule) => return graph.refuse("matmul", &[a, b], rule),
    };
    let (a_shape, b_shape) = (a.shape(), b.shape());
    let [m, k] = last_two(&a_shape);
    let [_, n] = last_two(&b_shape);
    if out.len() > 2 && b_shape.numel() == k * n && a_shape.numel() == out.numel() / n * k {
        // The whole batch uses one matrix, as in a linear layer, so one tall product is enough, and one product for the
        // gradient of the matrix. A broadcast would need one product for each element of the batch and a sum over these
        // products.
        let tall = reshape(a, [a_shape.numel() / k, k]);
        return reshape(graph.push(MatMul, &[tall, reshape(b, [k, n])]), out);
    }
    let batch = &out[..out.len() - 2];
    let a = broadcast_to(a, [batch, &[m, k]].concat());
    let b = broadcast_to(b, [batch, &[k, n]].concat());
    graph.push(MatMul, &[a, b])
}

fn last_two(shape: &[usize]) -> [usize; 2] {
    [shape[shape.len() - 2], shape[shape.len() - 1]]
}

/// Returns the shape of the product of operands whose batches are not broadcast yet.
fn product_shape(a: &TensorType, b: &TensorType) -> Result<Shape, Rule> {
    check_dtype(DType::F32, &[a.clone(), b.clone()])?;
    if a.shape.len() < 2 || b.shape.len() < 2 {
        return Err(Rule::new(
            "operands must have at least 2 dimensions; reshape a vector to a row or a column",
        ));
    }
    let ([m, k], [rows, n]) = (last_two(&a.shape), last_two(&b.shape));
    if k != rows {
        return Err(Rule::new(format!("the inner dimensions must agree; {k} and {rows} do not")));
    }
    let batch = |shape: &Shape| Shape::from(&shape[..shape.len() - 2]);
    let batch = batch(&a.shape).broadcast(&batch(&b.shape))?;
    Ok(Shape::from([&batch[..], &[m, n]].concat()))
}

/// Product of operands with the same batch.
#[derive(Debug)]
struct MatMul;

impl Op for MatMul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn infer(&self, ins: &[TensorType]) -> Result<TensorType, Rule> {
        let shape = product_shape(&ins[0], &ins[1])?;
        let batch = shape.len() - 2;
        if ins.iter().any(|input| input.shape.len() != shape.len() || input.shape[..batch] != shape[..batch])
        {
            return Err(Rule::new("operands must be broadcast to the same batch"));
        }
        Ok(TensorType::f32(shape))
    }

    fn vjp<'g>(&self, ins: &[Var<'g>], _: Var<'g>, cotangent: Var<'g>) -> Vjp<'g> {
        let a = cotangent.matmul(transpose(ins[1]));
        let b = transpose(ins[0]).matmul(cotangent);
        Vjp::Grads(vec![Some(a), Some(b)])
    }

    fn lower(&self, _: &[TensorType], out: &TensorType) -> Lowered {
        Lowered::Contract(Contract::matmul(out.shape.len() - 2))
    }
}
