//! Evaluation of each kind of [`Lowered`]. The code follows the definitions directly and is not optimized for speed.

use wgrad_graph::{Call, Combine, Contract, Expr, Lowered, ScalarFn, TensorType, View};

use super::{Array, Values};

/// Returns the result of one operation. The error is a message that describes how the inputs do not match the
/// operation.
pub(super) fn evaluate(lowered: &Lowered, ins: &[&Array], out: &TensorType) -> Result<Values, String> {
    let input = |i: usize| ins.get(i).copied().ok_or_else(|| format!("input {i} is missing"));
    match lowered {
        Lowered::Leaf(_) => Err("a leaf cannot be computed from inputs".into()),
        Lowered::View(view) => view_of(view, input(0)?, out),
        Lowered::Map(expr) => map(expr, ins, out),
        Lowered::Reduce { views, combine, axes } => {
            reduce(*combine, axes, &apply_views(input(0)?, views)?, out)
        }
        Lowered::Contract(contract) => product(contract, input(0)?, input(1)?, out),
        Lowered::Gather => gather(input(0)?, input(1)?),
        Lowered::Pack { offsets } => pack(offsets, ins, out),
        // The reference has no host that replies to the callback, so the output is the input.
        Lowered::HostCallback { .. } => Ok(input(0)?.values.clone()),
    }
}

/// Returns the multi-dimensional index of an element of a tensor with this shape. `number` is its position in
/// row-major order.
fn index_of(mut number: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (i, &size) in index.iter_mut().zip(shape).rev() {
        *i = number % size;
        number /= size;
    }
    index
}

/// Returns the position in row-major order of the element at a multi-dimensional index.
fn number_of(index: &[usize], shape: &[usize]) -> usize {
    index.iter().zip(shape).fold(0, |number, (&i, &size)| number * size + i)
}

fn floats(array: &Array) -> Result<&[f64], String> {
    match &array.values {
        Values::Float(values) => Ok(values),
        Values::U32(_) => Err(format!("{} must be a float tensor", array.ty)),
    }
}

/// Returns the elements of `from` at these positions in row-major order. The result is 0 where the position is `None`.
fn select(from: &Array, numbers: impl Iterator<Item = Option<usize>>) -> Result<Values, String> {
    fn elements<T: Copy + Default>(
        from: &[T],
        numbers: impl Iterator<Item = Option<usize>>,
    ) -> Result<Vec<T>, String> {
        let element = |number: Option<usize>| match number {
            None => Ok(T::default()),
            Some(i) => from
                .get(i)
                .copied()
                .ok_or_else(|| format!("element {i} is out of range; there are {} elements", from.len())),
        };
        numbers.map(element).collect()
    }
    Ok(match &from.values {
        Values::Float(x) => Values::Float(elements(x, numbers)?),
        Values::U32(x) => Values::U32(elements(x, numbers)?),
    })
}

fn view_of(view: &View, from: &Array, out: &TensorType) -> Result<Values, String> {
    let shape = &from.ty.shape;
    if view.shape(shape) != out.shape {
        return Err(format!("{view:?} of {} does not have type {out}", from.ty));
    }
    let source = |number: usize| -> Option<usize> {
        let at = index_of(number, &out.shape);
        let index: Vec<usize> = match view {
            View::Reshape(_) => return Some(number),
            View::Permute(axes) => {
                let mut index = vec![0; axes.len()];
                axes.iter().zip(&at).for_each(|(&axis, &i)| index[axis] = i);
                index
            }
            View::Broadcast(_) => {
                let missing = at.len() - shape.len();
                shape.iter().zip(&at[missing..]).map(|(&size, &i)| if size == 1 { 0 } else { i }).collect()
            }
            View::Slice { start, step, .. } => (0..at.len()).map(|i| start[i] + at[i] * step[i]).collect(),
            View::Pad { before, .. } => {
                let inside = (0..at.len()).all(|i| at[i] >= before[i] && at[i] < before[i] + shape[i]);
                if !inside {
                    return None;
                }
                (0..at.len()).map(|i| at[i] - before[i]).collect()
            }
            View::Affine { coordinates, .. } => {
                let mut index = Vec::with_capacity(shape.len());
                for (coordinate, &size) in coordinates.iter().zip(shape.iter()) {
                    let steps = coordinate.terms.iter().map(|&(i, step)| at[i] as isize * step);
                    let place = coordinate.offset + steps.sum::<isize>();
                    if place < 0 || place >= size as isize {
                        return None;
                    }
                    index.push(place as usize);
                }
                index
            }
        };
        Some(number_of(&index, shape))
    };
    select(from, (0..out.shape.numel()).map(source))
}

fn map(expr: &Expr, ins: &[&Array], out: &TensorType) -> Result<Values, String> {
    let len = out.shape.numel();
    match expr {
        Expr::Input(i) => {
            let array = ins.get(*i).ok_or_else(|| format!("input {i} is missing"))?;
            if array.ty.shape != out.shape {
                return Err(format!("input {i} is {}; expected shape {}", array.ty, out.shape));
            }
            Ok(array.values.clone())
        }
        Expr::Float(x) => Ok(Values::Float(vec![*x; len])),
        Expr::U32(x) => Ok(Values::U32(vec![*x; len])),
        Expr::Iota(strides) => {
            let value = |number: usize| {
                let index = index_of(number, &out.shape);
                index.iter().zip(strides).map(|(&i, &stride)| i * stride).sum::<usize>() as u32
            };
            Ok(Values::U32((0..len).map(value).collect()))
        }
        Expr::Call(f, args) => {
            let args = args.iter().map(|arg| map(arg, ins, out)).collect::<Result<Vec<_>, _>>()?;
            call(f, &args, len)
        }
    }
}

fn call(f: &ScalarFn, args: &[Values], len: usize) -> Result<Values, String> {
    let float = |i: usize| match args.get(i) {
        Some(Values::Float(values)) => Ok(values.as_slice()),
        _ => Err(format!("argument {i} of {} must be a float", f.name)),
    };
    let u32s = |i: usize| match args.get(i) {
        Some(Values::U32(values)) => Ok(values.as_slice()),
        _ => Err(format!("argument {i} of {} must be a u32", f.name)),
    };
    if args.len() != f.f64.arity() {
        return Err(format!("{} takes {} arguments, not {}", f.name, f.f64.arity(), args.len()));
    }
    let mut floats = vec![0.0; len];
    match f.f64 {
        Call::Unary(body) => body(float(0)?, &mut floats),
        Call::Binary(body) => body(float(0)?, float(1)?, &mut floats),
        Call::Ternary(body) => body(float(0)?, float(1)?, float(2)?, &mut floats),
        Call::FromU32(body) => body(u32s(0)?, &mut floats),
        Call::CompareU32(body) => body(u32s(0)?, u32s(1)?, &mut floats),
        Call::Random(body) => body([u32s(0)?, u32s(1)?, u32s(2)?, u32s(3)?, u32s(4)?], &mut floats),
        Call::ToU32(body) => {
            let mut result = vec![0; len];
            body(float(0)?, &mut result);
            return Ok(Values::U32(result));
        }
    }
    Ok(Values::Float(floats))
}

fn reduce(combine: Combine, axes: &[usize], from: &Array, out: &TensorType) -> Result<Values, String> {
    let (shape, values) = (&from.ty.shape, floats(from)?);
    let start = match combine {
        Combine::Sum => 0.0,
        Combine::Max | Combine::ArgMax => f64::NEG_INFINITY,
        Combine::Min => f64::INFINITY,
    };
    if shape.reduced(axes) != out.shape {
        return Err(format!("{} reduced along {axes:?} does not have type {out}", from.ty));
    }
    let mut results = vec![start; out.shape.numel()];
    let mut indices = vec![0; out.shape.numel()];
    let reduced: Vec<usize> = axes.iter().map(|&axis| shape[axis]).collect();
    for (number, &x) in values.iter().enumerate() {
        let mut index = index_of(number, shape);
        let along: Vec<usize> = axes.iter().map(|&axis| index[axis]).collect();
        axes.iter().for_each(|&axis| index[axis] = 0);
        let row = number_of(&index, &out.shape);
        let best = &mut results[row];
        match combine {
            Combine::Sum => *best += x,
            Combine::Max if x > *best || x.is_nan() => *best = x,
            Combine::Min if x < *best || x.is_nan() => *best = x,
            Combine::ArgMax if x > *best || (x.is_nan() && !best.is_nan()) => {
                *best = x;
                indices[row] = number_of(&along, &reduced) as u32;
            }
            _ => {}
        }
    }
    Ok(if combine == Combine::ArgMax { Values::U32(indices) } else { Values::Float(results) })
}

/// Applies several views to an array, one after the other.
fn apply_views(from: &Array, views: &[View]) -> Result<Array, String> {
    views.iter().try_fold(from.clone(), |from, view| {
        let ty = TensorType::new(from.ty.dtype, view.shape(&from.ty.shape));
        Ok(Array { values: view_of(view, &from, &ty)?, ty })
    })
}

fn product(contract: &Contract, a: &Array, b: &Array, out: &TensorType) -> Result<Values, String> {
    let Contract { batch, rows, columns, order, .. } = contract;
    let (a, b) = (apply_views(a, &contract.a)?, apply_views(b, &contract.b)?);
    let mismatch = || {
        format!(
            "{} · {} with {batch} batch, {rows} row and {columns} column dimensions is not {out}",
            a.ty, b.ty
        )
    };
    let (a_shape, b_shape) = (&a.ty.shape, &b.ty.shape);
    let (Some(rest), Some(depth)) = (a_shape.get(batch + rows..), b_shape.len().checked_sub(batch + columns))
    else {
        return Err(mismatch());
    };
    if a_shape[..*batch] != b_shape[..*batch] || *rest != b_shape[*batch..batch + depth] {
        return Err(mismatch());
    }
    let size = |sizes: &[usize]| sizes.iter().product::<usize>();
    let (m, k, n) = (size(&a_shape[*batch..batch + rows]), size(rest), size(&b_shape[batch + depth..]));
    let domain = [&a_shape[..batch + rows], &b_shape[batch + depth..]].concat();
    let (a, b) = (floats(&a)?, floats(&b)?);
    let mut c = vec![0.0; size(&domain)];
    for matrix in 0..size(&a_shape[..*batch]) {
        for i in 0..m {
            for p in 0..k {
                let x = a[(matrix * m + i) * k + p];
                for j in 0..n {
                    c[(matrix * m + i) * n + j] += x * b[(matrix * k + p) * n + j];
                }
            }
        }
    }
    let c = Array { ty: TensorType::f32(domain), values: Values::Float(c) };
    let stored = apply_views(&c, &[View::Permute(order.clone())])?;
    let result = apply_views(&stored, &contract.out)?;
    if result.ty != *out { Err(mismatch()) } else { Ok(result.values) }
}

fn gather(table: &Array, index: &Array) -> Result<Values, String> {
    let Values::U32(index) = &index.values else { return Err("the index must be u32".into()) };
    let (Some(&rows), width) = (table.ty.shape.first(), table.ty.shape.iter().skip(1).product::<usize>())
    else {
        return Err("the table must have at least one dimension".into());
    };
    let numbers = index.iter().flat_map(|&row| (0..width).map(move |column| (row as usize, column)));
    Ok(match &table.values {
        Values::Float(x) => Values::Float(
            numbers.map(|(row, at)| if row < rows { x[row * width + at] } else { f64::NAN }).collect(),
        ),
        Values::U32(x) => {
            Values::U32(numbers.map(|(row, at)| if row < rows { x[row * width + at] } else { 0 }).collect())
        }
    })
}

fn pack(offsets: &[usize], ins: &[&Array], out: &TensorType) -> Result<Values, String> {
    let mut packed = Array::zeros(out.clone()).values;
    for (array, &first) in ins.iter().zip(offsets) {
        let range = first..first + array.values.len();
        let room = match (&mut packed, &array.values) {
            (Values::Float(to), Values::Float(from)) => to.get_mut(range).map(|to| to.copy_from_slice(from)),
            (Values::U32(to), Values::U32(from)) => to.get_mut(range).map(|to| to.copy_from_slice(from)),
            _ => None,
        };
        room.ok_or_else(|| format!("{} does not fit in {out} at element {first}", array.ty))?;
    }
    Ok(packed)
}
