//! Views: the same elements with another shape or at other indices. No data is copied if strides can express the view.

use wgrad_graph::{DType, Graph, Lowered, Op, Rule, Shape, TensorType, Var, View, Vjp};

use crate::rules::{check_dtype, no_axis};
use crate::tensor::TensorOps;

mod op_info;
pub(crate) use op_info::OPS;

/// Reshapes `x`; the elements stay in row-major order.
#[track_caller]
pub(crate) fn reshape(x: Var<'_>, shape: impl Into<Shape>) -> Var<'_> {
    view(x, View::Reshape(shape.into().to_vec()))
}

/// Broadcasts `x` to `shape`: repeats dimensions of size 1 and adds missing leading dimensions.
#[track_caller]
pub(crate) fn broadcast_to(x: Var<'_>, shape: impl Into<Shape>) -> Var<'_> {
    view(x, View::Broadcast(shape.into().to_vec()))
}

/// Permutes the dimensions: dimension i of the result is dimension `axes[i]` of `x`.
#[track_caller]
pub(crate) fn permute<'g>(x: Var<'g>, axes: &[usize]) -> Var<'g> {
    view(x, View::Permute(axes.to_vec()))
}

/// Swaps the last two dimensions.
#[track_caller]
pub(crate) fn transpose(x: Var<'_>) -> Var<'_> {
    let rank = x.rank();
    if rank < 2 {
        return x.graph().refuse("t", &[x], Rule::new("a transpose needs at least 2 dimensions"));
    }
    let mut axes: Vec<usize> = (0..rank).collect();
    axes.swap(rank - 2, rank - 1);
    permute(x, &axes)
}

/// Selects every `step`-th index of `axis` within `range`, starting at the first index of the range.
#[track_caller]
pub(crate) fn slice_step(x: Var<'_>, axis: usize, range: std::ops::Range<usize>, step: usize) -> Var<'_> {
    let shape = x.shape();
    if axis >= shape.len() {
        return x.graph().refuse("slice", &[x], no_axis(axis, &shape));
    }
    let (mut start, mut end, mut steps) = (vec![0; shape.len()], shape.to_vec(), vec![1; shape.len()]);
    (start[axis], end[axis], steps[axis]) = (range.start, range.end, step);
    view(x, View::Slice { start, end, step: steps })
}

/// Adds `before` zeros before the elements along `axis`, and `after` zeros after them.
#[track_caller]
pub(crate) fn pad(x: Var<'_>, axis: usize, before: usize, after: usize) -> Var<'_> {
    let rank = x.rank();
    if axis >= rank {
        return x.graph().refuse("pad", &[x], no_axis(axis, &x.shape()));
    }
    let (mut befores, mut afters) = (vec![0; rank], vec![0; rank]);
    (befores[axis], afters[axis]) = (before, after);
    view(x, View::Pad { before: befores, after: afters })
}

/// Merges all dimensions starting at `axis` into one dimension.
#[track_caller]
pub(crate) fn flatten(x: Var<'_>, axis: usize) -> Var<'_> {
    let shape = x.shape();
    match shape.get(axis..) {
        Some(merged) if !merged.is_empty() => {
            reshape(x, [&shape[..axis], &[merged.iter().product()]].concat())
        }
        _ => x.graph().refuse("flatten", &[x], no_axis(axis, &shape)),
    }
}

/// Returns all axes of `x` in increasing order.
pub(crate) fn all_axes(x: Var<'_>) -> Vec<usize> {
    (0..x.rank()).collect()
}

/// Removes dimension `axis`, which must have size 1.
#[track_caller]
pub(crate) fn squeeze(x: Var<'_>, axis: usize) -> Var<'_> {
    let mut shape = x.shape().to_vec();
    match shape.get(axis) {
        Some(1) => {
            shape.remove(axis);
            reshape(x, shape)
        }
        Some(size) => {
            let rule = format!("only a dimension of size 1 can be removed; dimension {axis} has size {size}");
            x.graph().refuse("squeeze", &[x], Rule::new(rule))
        }
        None => x.graph().refuse("squeeze", &[x], no_axis(axis, &shape.into())),
    }
}

/// Inserts a dimension of size 1 as dimension `axis` of the result.
#[track_caller]
pub(crate) fn unsqueeze(x: Var<'_>, axis: usize) -> Var<'_> {
    let mut shape = x.shape().to_vec();
    if axis > shape.len() {
        let rule = format!("the new dimension must be at 0 to {}, not at {axis}", shape.len());
        return x.graph().refuse("unsqueeze", &[x], Rule::new(rule));
    }
    shape.insert(axis, 1);
    reshape(x, shape)
}

/// Concatenates f32 tensors along an existing axis. Their other dimensions must be equal.
///
/// Recorded as a sum of padded tensors, which a backend reads in place without a copy.
///
/// ```
/// # use wgrad_graph::{States, TensorType};
/// # let graph = wgrad_ops::graph(States::new());
/// let x = graph.input("x", TensorType::f32([2, 3]));
/// let y = graph.input("y", TensorType::f32([2, 5]));
/// assert_eq!(wgrad_ops::concat(&graph, &[x, y], 1).ty(), TensorType::f32([2, 8]));
/// ```
#[track_caller]
pub fn concat<'g>(graph: &'g Graph, parts: &[Var<'g>], axis: usize) -> Var<'g> {
    let types: Vec<TensorType> = parts.iter().map(|v| v.ty()).collect();
    if let Err(rule) = concat_rule(&types, axis) {
        return graph.refuse("concat", parts, rule);
    }
    let total: usize = types.iter().map(|ty| ty.shape[axis]).sum();
    let mut before = 0;
    let mut sum: Option<Var<'g>> = None;
    for (&part, ty) in parts.iter().zip(&types) {
        let size = ty.shape[axis];
        let padded = pad(part, axis, before, total - before - size);
        sum = Some(sum.map_or(padded, |sum| sum.add(padded)));
        before += size;
    }
    sum.unwrap_or_else(|| graph.refuse("concat", parts, Rule::new("there are no tensors to concatenate")))
}

/// Stacks f32 tensors of one shape along a new axis, which becomes dimension `axis` of the result.
///
/// ```
/// # use wgrad_graph::{States, TensorType};
/// # let graph = wgrad_ops::graph(States::new());
/// let x = graph.input("x", TensorType::f32([2, 3]));
/// assert_eq!(wgrad_ops::stack(&graph, &[x, x, x, x], 1).ty(), TensorType::f32([2, 4, 3]));
/// ```
#[track_caller]
pub fn stack<'g>(graph: &'g Graph, parts: &[Var<'g>], axis: usize) -> Var<'g> {
    if let Some(other) = parts.iter().find(|part| part.shape() != parts[0].shape()) {
        let rule =
            format!("the tensors must have one shape; {} and {} differ", parts[0].shape(), other.shape());
        return graph.refuse("stack", parts, Rule::new(rule));
    }
    // A loop, because `track_caller` does not work through a closure.
    let mut wide = Vec::with_capacity(parts.len());
    for &part in parts {
        wide.push(unsqueeze(part, axis));
    }
    concat(graph, &wide, axis)
}

fn concat_rule(parts: &[TensorType], axis: usize) -> Result<(), Rule> {
    let Some(first) = parts.first() else { return Err(Rule::new("there are no tensors to concatenate")) };
    check_dtype(DType::F32, parts)?;
    if axis >= first.shape.len() {
        return Err(no_axis(axis, &first.shape));
    }
    match parts.iter().find(|part| part.shape.reduced(&[axis]) != first.shape.reduced(&[axis])) {
        Some(part) => Err(Rule::new(format!(
            "sizes must agree in every dimension except {axis}; {} and {} do not",
            first.shape, part.shape
        ))),
        None => Ok(()),
    }
}

/// Records a view, or returns `x` if the view is the identity.
#[track_caller]
fn view(x: Var<'_>, view: View) -> Var<'_> {
    let is_identity = match &view {
        View::Reshape(shape) | View::Broadcast(shape) => shape[..] == x.shape()[..],
        View::Permute(axes) => axes.len() == x.rank() && axes.iter().enumerate().all(|(i, &a)| i == a),
        View::Slice { start, end, step } => {
            end[..] == x.shape()[..] && start.iter().all(|&s| s == 0) && step.iter().all(|&s| s == 1)
        }
        View::Pad { before, after } => before.iter().chain(after).all(|&n| n == 0),
        View::Affine { .. } => false,
    };
    if is_identity { x } else { x.graph().push(ViewOp(view), &[x]) }
}

/// Operation that applies a view.
#[derive(Debug)]
struct ViewOp(View);

impl Op for ViewOp {
    fn name(&self) -> &'static str {
        match self.0 {
            View::Reshape(_) => "reshape",
            View::Permute(_) => "permute",
            View::Broadcast(_) => "broadcast_to",
            View::Slice { .. } => "slice",
            View::Pad { .. } => "pad",
            View::Affine { .. } => "affine",
        }
    }

    fn infer(&self, ins: &[TensorType]) -> Result<TensorType, Rule> {
        let shape = &ins[0].shape;
        check(&self.0, shape)?;
        let shape = self.0.shape(shape);
        Ok(TensorType::new(ins[0].dtype, shape))
    }

    fn vjp<'g>(&self, ins: &[Var<'g>], _: Var<'g>, cotangent: Var<'g>) -> Vjp<'g> {
        let shape = ins[0].shape();
        Vjp::Grads(vec![Some(match &self.0 {
            View::Reshape(_) => reshape(cotangent, shape),
            View::Permute(axes) => {
                let mut inverse = vec![0; axes.len()];
                axes.iter().enumerate().for_each(|(i, &a)| inverse[a] = i);
                permute(cotangent, &inverse)
            }
            View::Broadcast(wide) => {
                let missing = wide.len() - shape.len();
                let repeated = |&i: &usize| i < missing || (shape[i - missing] == 1 && wide[i] != 1);
                let axes: Vec<usize> = (0..wide.len()).filter(repeated).collect();
                reshape(cotangent.sum_keep(&axes), shape)
            }
            View::Slice { start, step, .. } => unslice(cotangent, &shape, start, step),
            View::Pad { before, .. } => {
                let end = (0..shape.len()).map(|i| before[i] + shape[i]).collect();
                view(cotangent, View::Slice { start: before.clone(), end, step: vec![1; shape.len()] })
            }
            View::Affine { .. } => {
                return Vjp::Undefined(
                    "affine views are created only within operations that define their own gradient",
                );
            }
        })])
    }

    fn lower(&self, _: &[TensorType], _: &TensorType) -> Lowered {
        Lowered::View(self.0.clone())
    }
}

/// Selects every `step[i]`-th index of axis i, starting at 0.
#[track_caller]
pub(crate) fn strided<'g>(x: Var<'g>, step: &[usize]) -> Var<'g> {
    let end = x.shape().to_vec();
    view(x, View::Slice { start: vec![0; end.len()], end, step: step.to_vec() })
}

/// Inserts `step[i]` − 1 zeros between neighbouring elements along axis i.
#[track_caller]
pub(crate) fn dilate<'g>(y: Var<'g>, step: &[usize]) -> Var<'g> {
    let shape = y.shape();
    let gaps: Vec<usize> = step.iter().flat_map(|&step| [0, step - 1]).collect();
    let separated = reshape(y, shape.iter().flat_map(|&size| [size, 1]).collect::<Vec<_>>());
    let padded = view(separated, View::Pad { before: vec![0; gaps.len()], after: gaps });
    let dilated: Vec<usize> = shape.iter().zip(step).map(|(size, step)| size * step).collect();
    let end = shape.iter().zip(step).map(|(size, step)| (size - 1) * step + 1).collect();
    let (start, step) = (vec![0; dilated.len()], vec![1; dilated.len()]);
    view(reshape(padded, dilated), View::Slice { start, end, step })
}

/// Transpose of a slice: puts the elements of `y` at their indices in a tensor of `shape`, with zeros elsewhere.
fn unslice<'g>(y: Var<'g>, shape: &Shape, start: &[usize], step: &[usize]) -> Var<'g> {
    let y = if step.iter().any(|&step| step > 1) { dilate(y, step) } else { y };
    let after = (0..shape.len()).map(|i| shape[i] - start[i] - y.shape()[i]).collect();
    view(y, View::Pad { before: start.to_vec(), after })
}

/// Checks that a view is valid for a tensor of this shape.
fn check(view: &View, shape: &Shape) -> Result<(), Rule> {
    let broken = match view {
        View::Reshape(new) if product(new) != Some(shape.numel()) => {
            let has = product(new).map_or("too many".to_owned(), |n| n.to_string());
            format!(
                "a reshape must keep the number of elements; {new:?} has {has} instead of {}",
                shape.numel()
            )
        }
        View::Permute(axes) if !is_permutation(axes, shape.len()) => {
            format!("a permutation must contain each of the {} axes once; {axes:?} does not", shape.len())
        }
        View::Broadcast(new) if shape.broadcast(&new.as_slice().into())?[..] != new[..] => {
            format!(
                "a broadcast repeats only sizes of 1 and missing leading dimensions; {shape} does not broadcast to {new:?}"
            )
        }
        View::Slice { start, end, step } => {
            match (0..shape.len()).find(|&i| start[i] >= end[i] || end[i] > shape[i] || step[i] == 0) {
                Some(i) => {
                    let range = format!("{}..{} with step {}", start[i], end[i], step[i]);
                    format!(
                        "a slice must be nonempty and end within the {} elements of axis {i}; {range} is not valid",
                        shape[i]
                    )
                }
                None => return Ok(()),
            }
        }
        View::Reshape(_) | View::Permute(_) | View::Broadcast(_) | View::Pad { .. } | View::Affine { .. } => {
            return Ok(());
        }
    };
    Err(Rule::new(broken))
}

/// Returns the number of elements of a shape, or `None` if the product overflows.
fn product(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size))
}

fn is_permutation(axes: &[usize], rank: usize) -> bool {
    axes.len() == rank && (0..rank).all(|axis| axes.contains(&axis))
}
