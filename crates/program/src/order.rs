//! In which order the elements of a value lie in memory.
//!
//! A value may be stored with its dimensions in another order than its operation has them, and is then seen through a
//! permutation. A product is stored as its lowering says, e.g. an image with its channels last; what is computed from it
//! element by element keeps that order, so that a chain of operations fuses and reads memory from front to back, whatever
//! the order that its author thinks in.

use wgrad_graph::{Combine, Contract, Expr, Layout, Shape, TensorType, View};

use crate::value::{Form, ProductDims, Source, Value, Values, iotas};

/// Elements of a reduction down the columns from which on it is worth two kernels.
const LARGE: usize = 1 << 15;
/// Rows that keep a device busy: the first of two kernels leaves as many sums, where it can.
const BUSY: usize = 2048;

impl Values {
    /// Adds an element-by-element value, stored in the order of its arguments. Along a dimension in which they all repeat
    /// themselves it is computed once.
    pub(crate) fn map(&mut self, expr: Expr, args: Vec<Source>, mut value: Value) -> Source {
        let repeated = repeated_axes(&expr, &args, &value.ty.shape);
        // What scalars alone make is computed on the spot anyway.
        let worth = args.iter().any(|arg| self.all[arg.value].ty.shape.numel() > 1);
        if worth && !repeated.is_empty() {
            let shape = value.ty.shape.to_vec();
            let once: Vec<usize> =
                (0..shape.len()).map(|axis| if repeated.contains(&axis) { 1 } else { shape[axis] }).collect();
            let (start, step) = (vec![0; shape.len()], vec![1; shape.len()]);
            let first = View::Slice { start, end: once.clone(), step };
            let args = args.into_iter().map(|arg| self.view(arg, first.clone())).collect();
            value.ty.shape = once.into();
            let stored = self.map(expr, args, value);
            return self.view(stored, View::Broadcast(shape));
        }
        let computed =
            |arg: &&Source| !self.all[arg.value].is_given() && !self.all[arg.value].args().is_empty();
        let order = args.iter().filter(computed).chain(&args).find_map(|arg| order_of(&arg.layout));
        let Some(order) = order.filter(|order| !order.is_sorted()) else {
            value.form = Form::Map { expr, args };
            return self.push(value);
        };
        value.ty.shape = permuted(&value.ty.shape, &order).into();
        let args = args.into_iter().map(|arg| self.view(arg, View::Permute(order.clone()))).collect();
        value.form = Form::Map { expr: permuted_iotas(expr, &order), args };
        let stored = self.push(value);
        self.view(stored, View::Permute(inverse(&order)))
    }

    /// A value of its own with the elements of `source`, in the order in which they lie in memory, if it can be seen
    /// through the view that `source` cannot.
    pub(crate) fn copy_in_order(&mut self, source: &Source, view: &View) -> Option<Source> {
        let order = order_of(&source.layout)?;
        let stored = Layout::contiguous(&permuted(&source.layout.shape, &order));
        stored.apply(&View::Permute(inverse(&order)))?.apply(view)?;
        let source = self.view(source.clone(), View::Permute(order.clone()));
        let copy = self.copy(source);
        Some(self.view(copy, View::Permute(inverse(&order))))
    }

    /// Adds a reduction, stored in the order of its argument. One over axes of size 1 only is no reduction.
    pub(crate) fn reduce(
        &mut self,
        combine: Combine,
        axes: Vec<usize>,
        arg: Source,
        mut value: Value,
    ) -> Source {
        if axes.iter().all(|&axis| arg.layout.shape[axis] == 1) {
            return match combine {
                Combine::ArgMax => self.map(Expr::U32(0), Vec::new(), value),
                _ => self.map(Expr::Input(0), vec![arg], value),
            };
        }
        // An argmax numbers the elements along its axes in their order.
        let keeps = |order: &Vec<usize>| {
            combine != Combine::ArgMax || order.iter().filter(|axis| axes.contains(axis)).is_sorted()
        };
        let order =
            order_of(&arg.layout).filter(keeps).unwrap_or_else(|| (0..arg.layout.shape.len()).collect());
        let arg = if order.is_sorted() { arg } else { self.view(arg, View::Permute(order.clone())) };
        let axes: Vec<usize> = (0..order.len()).filter(|&i| axes.contains(&order[i])).collect();
        let shape = Shape::from(arg.layout.shape.as_slice());
        let first = if combine == Combine::ArgMax { 0 } else { first_axes(&shape, &axes) };
        let (arg, axes) = if first == 0 {
            (arg, axes)
        } else {
            let (leading, rest) = axes.split_at(first);
            let ty = TensorType::new(value.ty.dtype, shape.reduced(leading));
            let form = Form::Reduce { combine, axes: leading.to_vec(), arg };
            (self.push(Value { form, ty, ..value.clone() }), rest.to_vec())
        };
        value.ty.shape = Shape::from(arg.layout.shape.as_slice()).reduced(&axes);
        value.form = Form::Reduce { combine, axes, arg };
        let stored = self.push(value);
        if order.is_sorted() { stored } else { self.view(stored, View::Permute(inverse(&order))) }
    }

    /// Adds a product of factors that are seen as its lowering says.
    pub(crate) fn contract(&mut self, contract: Contract, a: Source, b: Source, mut value: Value) -> Source {
        let Contract { batch, rows, columns, order, out, .. } = contract;
        let depth = a.layout.shape.len() - batch - rows;
        let domain = [&a.layout.shape[..batch + rows], &b.layout.shape[batch + depth..]].concat();
        value.ty.shape = permuted(&domain, &order).into();
        let dims = ProductDims { batch, rows, columns, order };
        let stored = self.product(a, b, dims, value);
        out.into_iter().fold(stored, |source, view| self.view(source, view))
    }

    /// A permuted product as the product stored in that order: its kernel writes it there itself, where else a copy would
    /// have to. Only for a product that nothing else uses.
    pub(crate) fn permuted_product(&mut self, source: &Source, axes: &[usize]) -> Option<Source> {
        let mut value = self.all[source.value].clone();
        let Form::Gemm { a, b, mut dims } = value.form.clone() else { return None };
        if !source.views.is_empty() {
            return None;
        }
        dims.order = axes.iter().map(|&axis| dims.order[axis]).collect();
        value.ty.shape = permuted(&value.ty.shape, axes).into();
        Some(self.product(a, b, dims, value))
    }

    /// Where the elements of a row of C would lie apart in memory and those of a column next to each other, it is
    /// Cᵀ = Bᵀ·Aᵀ that is computed.
    fn product(&mut self, a: Source, b: Source, dims: ProductDims, mut value: Value) -> Source {
        let ProductDims { batch, rows, columns, ref order } = dims;
        let last = order.iter().zip(value.ty.shape.iter()).rfind(|(_, size)| **size != 1);
        if !last.is_some_and(|(&dim, _)| (batch..batch + rows).contains(&dim)) {
            value.form = Form::Gemm { a, b, dims };
            return self.push(value);
        }
        let swapped = |dim: usize| match dim {
            dim if dim < batch => dim,
            dim if dim < batch + rows => dim + columns,
            dim => dim - rows,
        };
        let order = order.iter().map(|&dim| swapped(dim)).collect();
        let transposed = |source: &Source, first: usize| {
            let rank = source.layout.shape.len();
            View::Permute((0..batch).chain(batch + first..rank).chain(batch..batch + first).collect())
        };
        let depth = a.layout.shape.len() - batch - rows;
        let (a_view, b_view) = (transposed(&b, depth), transposed(&a, rows));
        let (a, b) = (self.view(b, a_view), self.view(a, b_view));
        value.form = Form::Gemm { a, b, dims: ProductDims { batch, rows: columns, columns: rows, order } };
        self.push(value)
    }
}

/// The order of its dimensions in which a layout lies in memory, outermost first; `None` where that is no order, because
/// elements are repeated or windows overlap. Dimensions of size 1 stay where they are, and one that only adds zeros stays
/// behind the dimension before it.
fn order_of(layout: &Layout) -> Option<Vec<usize>> {
    let wide: Vec<usize> = (0..layout.shape.len()).filter(|&i| layout.shape[i] != 1).collect();
    let stride = |i: usize| layout.strides[i].unsigned_abs();
    let adds_zeros = |i: usize| stride(i) == 0 && layout.bounds.iter().any(|bound| bound.strides[i] != 0);
    let (zeros, mut sorted): (Vec<usize>, Vec<usize>) = wide.iter().partition(|&&i| adds_zeros(i));
    sorted.sort_by_key(|&i| std::cmp::Reverse(stride(i)));
    let apart = |w: &[usize]| stride(w[0]) >= stride(w[1]) * layout.shape[w[1]];
    if sorted.iter().any(|&i| stride(i) == 0) || !sorted.windows(2).all(apart) {
        return None;
    }
    for i in zeros {
        let before = wide.iter().rev().find(|&&other| other < i);
        let at = before.and_then(|before| sorted.iter().position(|other| other == before));
        sorted.insert(at.map_or(0, |at| at + 1), i);
    }
    let mut order: Vec<usize> = (0..layout.shape.len()).collect();
    wide.iter().zip(sorted).for_each(|(&at, axis)| order[at] = axis);
    Some(order)
}

/// How many of the axes, outermost first, a kernel of its own combines before another combines the rest: 0 for all at
/// once. A reduction down the columns of a matrix with few columns has few rows in the sense of a kernel, each spread over
/// all of memory; in two steps the first has many, next to each other.
fn first_axes(shape: &[usize], axes: &[usize]) -> usize {
    let numel: usize = shape.iter().product();
    let along_rows = shape.iter().rposition(|&size| size != 1).is_none_or(|last| axes.contains(&last));
    if along_rows || numel < LARGE {
        return 0;
    }
    let left = |count: usize| numel / axes[..count].iter().map(|&axis| shape[axis]).product::<usize>();
    let all = left(axes.len());
    let fits = |&count: &usize| left(count) >= BUSY && left(count) > all && left(count) * 4 <= numel;
    (1..axes.len()).rev().find(fits).unwrap_or(0)
}

/// The dimensions along which an expression of these arguments has one value.
fn repeated_axes(expr: &Expr, args: &[Source], shape: &[usize]) -> Vec<usize> {
    let iotas = iotas(expr);
    let still = |layout: &Layout, axis: usize| {
        layout.strides[axis] == 0 && layout.bounds.iter().all(|bound| bound.strides[axis] == 0)
    };
    let repeats = |&axis: &usize| {
        shape[axis] > 1
            && iotas.iter().all(|strides| strides[axis] == 0)
            && args.iter().all(|arg| still(&arg.layout, axis))
    };
    (0..shape.len()).filter(repeats).collect()
}

fn permuted(shape: &[usize], order: &[usize]) -> Vec<usize> {
    order.iter().map(|&axis| shape[axis]).collect()
}

fn inverse(order: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; order.len()];
    order.iter().enumerate().for_each(|(i, &axis)| inverse[axis] = i);
    inverse
}

fn permuted_iotas(expr: Expr, order: &[usize]) -> Expr {
    match expr {
        Expr::Iota(strides) => Expr::Iota(permuted(&strides, order)),
        Expr::Call(f, args) => {
            Expr::Call(f, args.into_iter().map(|arg| permuted_iotas(arg, order)).collect())
        }
        other => other,
    }
}
