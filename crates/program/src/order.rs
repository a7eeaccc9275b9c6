//! Memory order of the elements of a value.
//!
//! The dimensions of a value may be stored in a different order from the order that its operation defines. The value is
//! then read through a permutation. The lowering of a matrix product determines its storage order, e.g. an image with
//! its channels last. Elementwise operations keep the order of their inputs. A chain of operations therefore fuses and
//! accesses memory sequentially, regardless of the order of the dimensions in the model code.

use wgrad_graph::{Combine, Contract, Expr, Layout, Shape, TensorType, View};

use crate::value::{GemmDims, Source, Value, ValueKind, Values, iotas};

/// Minimum number of elements for which a reduction over columns is split into two kernels.
const TWO_STEP_ELEMENTS: usize = 1 << 15;
/// Minimum number of rows that the first of two kernels must compute, so that the kernel uses the whole device.
const MIN_ROWS: usize = 2048;

impl Values {
    /// Adds an elementwise value, stored in the order of its arguments. Along dimensions in which all arguments are
    /// broadcast, the value is computed only once.
    pub(crate) fn map(&mut self, expr: Expr, args: Vec<Source>, mut value: Value) -> Source {
        let repeated = repeated_axes(&expr, &args, &value.ty.shape);
        // Values computed only from scalars are inlined anyway.
        let has_tensor_arg = args.iter().any(|arg| self.all[arg.value].ty.shape.numel() > 1);
        if has_tensor_arg && !repeated.is_empty() {
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
        let is_computed =
            |arg: &&Source| !self.all[arg.value].has_no_kernel() && !self.all[arg.value].args().is_empty();
        let order = args.iter().filter(is_computed).chain(&args).find_map(|arg| order_of(&arg.layout));
        let Some(order) = order.filter(|order| !order.is_sorted()) else {
            value.kind = ValueKind::Map { expr, args };
            return self.push(value);
        };
        value.ty.shape = permute(&value.ty.shape, &order).into();
        let args = args.into_iter().map(|arg| self.view(arg, View::Permute(order.clone()))).collect();
        value.kind = ValueKind::Map { expr: permute_iotas(expr, &order), args };
        let stored = self.push(value);
        self.view(stored, View::Permute(inverse_permutation(&order)))
    }

    /// Adds a copy of `source` that keeps its memory order, and returns the copy with one more view. Returns `None` if
    /// no layout can express `view` of the copy.
    pub(crate) fn copy_in_order(&mut self, source: &Source, view: &View) -> Option<Source> {
        let order = order_of(&source.layout)?;
        let stored = Layout::contiguous(&permute(&source.layout.shape, &order));
        stored.apply(&View::Permute(inverse_permutation(&order)))?.apply(view)?;
        let source = self.view(source.clone(), View::Permute(order.clone()));
        let copy = self.copy(source);
        Some(self.view(copy, View::Permute(inverse_permutation(&order))))
    }

    /// Adds a reduction, stored in the order of its argument. If all reduced axes have size 1, adds a map instead.
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
        // The result of an argmax depends on the order of the reduced axes.
        let preserves_argmax = |order: &Vec<usize>| {
            combine != Combine::ArgMax || order.iter().filter(|axis| axes.contains(axis)).is_sorted()
        };
        let order = order_of(&arg.layout)
            .filter(preserves_argmax)
            .unwrap_or_else(|| (0..arg.layout.shape.len()).collect());
        let arg = if order.is_sorted() { arg } else { self.view(arg, View::Permute(order.clone())) };
        let axes: Vec<usize> = (0..order.len()).filter(|&i| axes.contains(&order[i])).collect();
        let shape = Shape::from(arg.layout.shape.as_slice());
        let first = if combine == Combine::ArgMax { 0 } else { leading_axis_count(&shape, &axes) };
        let (arg, axes) = if first == 0 {
            (arg, axes)
        } else {
            let (leading, rest) = axes.split_at(first);
            let ty = TensorType::new(value.ty.dtype, shape.reduced(leading));
            let kind = ValueKind::Reduce { combine, axes: leading.to_vec(), arg };
            (self.push(Value { kind, ty, ..value.clone() }), rest.to_vec())
        };
        value.ty.shape = Shape::from(arg.layout.shape.as_slice()).reduced(&axes);
        value.kind = ValueKind::Reduce { combine, axes, arg };
        let stored = self.push(value);
        if order.is_sorted() { stored } else { self.view(stored, View::Permute(inverse_permutation(&order))) }
    }

    /// Adds a matrix product. The views of its lowering are already applied to `a` and `b`.
    pub(crate) fn contract(&mut self, contract: Contract, a: Source, b: Source, mut value: Value) -> Source {
        let Contract { batch, rows, columns, order, out, .. } = contract;
        let depth = a.layout.shape.len() - batch - rows;
        let domain = [&a.layout.shape[..batch + rows], &b.layout.shape[batch + depth..]].concat();
        value.ty.shape = permute(&domain, &order).into();
        let dims = GemmDims { batch, rows, columns, order };
        let stored = self.product(a, b, dims, value);
        out.into_iter().fold(stored, |source, view| self.view(source, view))
    }

    /// Adds a variant of the matrix product `source` that is stored in permuted order, so that the permutation needs no
    /// copy. The product must have no other use. Returns `None` if `source` is not a matrix product without views.
    pub(crate) fn permute_product(&mut self, source: &Source, axes: &[usize]) -> Option<Source> {
        let mut value = self.all[source.value].clone();
        let ValueKind::Gemm { a, b, mut dims } = value.kind.clone() else { return None };
        if !source.views.is_empty() {
            return None;
        }
        dims.order = axes.iter().map(|&axis| dims.order[axis]).collect();
        value.ty.shape = permute(&value.ty.shape, axes).into();
        Some(self.product(a, b, dims, value))
    }

    /// Adds a matrix product C = A·B. If the row dimensions of C, not its column dimensions, are contiguous in memory,
    /// computes Cᵀ = Bᵀ·Aᵀ instead.
    fn product(&mut self, a: Source, b: Source, dims: GemmDims, mut value: Value) -> Source {
        let GemmDims { batch, rows, columns, ref order } = dims;
        let last = order.iter().zip(value.ty.shape.iter()).rfind(|(_, size)| **size != 1);
        if !last.is_some_and(|(&dim, _)| (batch..batch + rows).contains(&dim)) {
            value.kind = ValueKind::Gemm { a, b, dims };
            return self.push(value);
        }
        let swap_operands = |dim: usize| match dim {
            dim if dim < batch => dim,
            dim if dim < batch + rows => dim + columns,
            dim => dim - rows,
        };
        let order = order.iter().map(|&dim| swap_operands(dim)).collect();
        let transposed = |source: &Source, first: usize| {
            let rank = source.layout.shape.len();
            View::Permute((0..batch).chain(batch + first..rank).chain(batch..batch + first).collect())
        };
        let depth = a.layout.shape.len() - batch - rows;
        let (a_view, b_view) = (transposed(&b, depth), transposed(&a, rows));
        let (a, b) = (self.view(b, a_view), self.view(a, b_view));
        value.kind = ValueKind::Gemm { a, b, dims: GemmDims { batch, rows: columns, columns: rows, order } };
        self.push(value)
    }
}

/// Returns the dimensions of a layout in memory order, outermost first. Returns `None` if elements are repeated or
/// windows overlap, because the memory order is then undefined. Dimensions of size 1 keep their position, and a
/// dimension that only adds padding stays after the dimension that precedes it.
fn order_of(layout: &Layout) -> Option<Vec<usize>> {
    let nontrivial: Vec<usize> = (0..layout.shape.len()).filter(|&i| layout.shape[i] != 1).collect();
    let stride = |i: usize| layout.strides[i].unsigned_abs();
    let is_padding_only =
        |i: usize| stride(i) == 0 && layout.bounds.iter().any(|bound| bound.strides[i] != 0);
    let (zeros, mut sorted): (Vec<usize>, Vec<usize>) = nontrivial.iter().partition(|&&i| is_padding_only(i));
    sorted.sort_by_key(|&i| std::cmp::Reverse(stride(i)));
    let disjoint = |w: &[usize]| stride(w[0]) >= stride(w[1]) * layout.shape[w[1]];
    if sorted.iter().any(|&i| stride(i) == 0) || !sorted.windows(2).all(disjoint) {
        return None;
    }
    for i in zeros {
        let before = nontrivial.iter().rev().find(|&&other| other < i);
        let at = before.and_then(|before| sorted.iter().position(|other| other == before));
        sorted.insert(at.map_or(0, |at| at + 1), i);
    }
    let mut order: Vec<usize> = (0..layout.shape.len()).collect();
    nontrivial.iter().zip(sorted).for_each(|(&at, axis)| order[at] = axis);
    Some(order)
}

/// Returns the number of leading axes that a first kernel reduces before a second kernel reduces the remaining axes, or
/// 0 if a single kernel reduces all axes. A sum over the rows of a matrix with few columns has few results, and the
/// elements of each result are spread over the whole matrix. After the split, the first kernel computes many results,
/// each from elements that are close in memory.
fn leading_axis_count(shape: &[usize], axes: &[usize]) -> usize {
    let numel: usize = shape.iter().product();
    let reduces_last_axis = shape.iter().rposition(|&size| size != 1).is_none_or(|last| axes.contains(&last));
    if reduces_last_axis || numel < TWO_STEP_ELEMENTS {
        return 0;
    }
    let rows_left = |count: usize| numel / axes[..count].iter().map(|&axis| shape[axis]).product::<usize>();
    let all = rows_left(axes.len());
    let is_worthwhile = |&count: &usize| {
        rows_left(count) >= MIN_ROWS && rows_left(count) > all && rows_left(count) * 4 <= numel
    };
    (1..axes.len()).rev().find(is_worthwhile).unwrap_or(0)
}

/// Returns the dimensions along which an expression of these arguments is constant.
fn repeated_axes(expr: &Expr, args: &[Source], shape: &[usize]) -> Vec<usize> {
    let iotas = iotas(expr);
    let constant_along = |layout: &Layout, axis: usize| {
        layout.strides[axis] == 0 && layout.bounds.iter().all(|bound| bound.strides[axis] == 0)
    };
    let is_repeated = |&axis: &usize| {
        shape[axis] > 1
            && iotas.iter().all(|strides| strides[axis] == 0)
            && args.iter().all(|arg| constant_along(&arg.layout, axis))
    };
    (0..shape.len()).filter(is_repeated).collect()
}

fn permute(shape: &[usize], order: &[usize]) -> Vec<usize> {
    order.iter().map(|&axis| shape[axis]).collect()
}

fn inverse_permutation(order: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; order.len()];
    order.iter().enumerate().for_each(|(i, &axis)| inverse[axis] = i);
    inverse
}

fn permute_iotas(expr: Expr, order: &[usize]) -> Expr {
    match expr {
        Expr::Iota(strides) => Expr::Iota(permute(&strides, order)),
        Expr::Call(f, args) => Expr::Call(f, args.into_iter().map(|arg| permute_iotas(arg, order)).collect()),
        other => other,
    }
}
