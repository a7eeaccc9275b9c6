//! Views: the same elements under another shape or at other indices. They move no data where a layout can say it.

use wgrad_graph::{DType, Graph, Lowered, Op, Rule, Shape, TensorType, Var, View, Vjp};

use crate::tensor::TensorOps;

mod entries;
pub(crate) use entries::ENTRIES;

/// `x` under another shape with as many elements, in row-major order.
#[track_caller]
pub(crate) fn reshape(x: Var<'_>, shape: impl Into<Shape>) -> Var<'_> {
    view(x, View::Reshape(shape.into().to_vec()))
}

/// `x` repeated to `shape` along dimensions of size 1 and missing leading ones.
#[track_caller]
pub(crate) fn broadcast_to(x: Var<'_>, shape: impl Into<Shape>) -> Var<'_> {
    view(x, View::Broadcast(shape.into().to_vec()))
}

/// Dimension i of the result is dimension `axes[i]` of `x`.
#[track_caller]
pub(crate) fn permute<'g>(x: Var<'g>, axes: &[usize]) -> Var<'g> {
    view(x, View::Permute(axes.to_vec()))
}

/// The last two dimensions swapped.
#[track_caller]
pub(crate) fn transpose(x: Var<'_>) -> Var<'_> {
    let rank = x.rank();
    if rank < 2 {
        return x.graph().refuse(
            "t",
            &[x],
            Rule::new("only a tensor with at least 2 dimensions has a transpose"),
        );
    }
    let mut axes: Vec<usize> = (0..rank).collect();
    axes.swap(rank - 2, rank - 1);
    permute(x, &axes)
}

/// Every `step`-th index of one axis from `start` to before `end`.
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

/// Zeros before and after the elements along one axis.
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

/// The dimensions from `axis` on merged into one.
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

/// Every axis of `x`.
pub(crate) fn all_axes(x: Var<'_>) -> Vec<usize> {
    (0..x.rank()).collect()
}

/// Without a dimension of size 1.
#[track_caller]
pub(crate) fn squeeze(x: Var<'_>, axis: usize) -> Var<'_> {
    let mut shape = x.shape().to_vec();
    match shape.get(axis) {
        Some(1) => {
            shape.remove(axis);
            reshape(x, shape)
        }
        Some(size) => {
            let rule =
                format!("only a dimension of size 1 can be squeezed away; dimension {axis} has size {size}");
            x.graph().refuse("squeeze", &[x], Rule::new(rule))
        }
        None => x.graph().refuse("squeeze", &[x], no_axis(axis, &shape.into())),
    }
}

/// With one more dimension of size 1, at `axis` of the result.
#[track_caller]
pub(crate) fn unsqueeze(x: Var<'_>, axis: usize) -> Var<'_> {
    let mut shape = x.shape().to_vec();
    if axis > shape.len() {
        let rule = format!("the new dimension lies at 0 to {}, not at {axis}", shape.len());
        return x.graph().refuse("unsqueeze", &[x], Rule::new(rule));
    }
    shape.insert(axis, 1);
    reshape(x, shape)
}

/// f32 tensors one after the other along an axis of all of them; their other dimensions agree.
///
/// It is a sum of padded tensors, which a backend reads in place: nothing is copied before it is used.
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
    sum.unwrap_or_else(|| graph.refuse("concat", parts, Rule::new("there is nothing to concatenate")))
}

/// f32 tensors of one shape along a new axis.
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
        let rule = format!("the tensors have one shape; {} and {} differ", parts[0].shape(), other.shape());
        return graph.refuse("stack", parts, Rule::new(rule));
    }
    // A loop, since a closure would hide the place of the call.
    let mut wide = Vec::with_capacity(parts.len());
    for &part in parts {
        wide.push(unsqueeze(part, axis));
    }
    concat(graph, &wide, axis)
}

fn concat_rule(parts: &[TensorType], axis: usize) -> Result<(), Rule> {
    let Some(first) = parts.first() else { return Err(Rule::new("there is nothing to concatenate")) };
    crate::pointwise::all_of(DType::F32, parts)?;
    if axis >= first.shape.len() {
        return Err(no_axis(axis, &first.shape));
    }
    match parts.iter().find(|part| part.shape.reduced(&[axis]) != first.shape.reduced(&[axis])) {
        Some(part) => Err(Rule::new(format!(
            "sizes agree in every dimension but {axis}; {} and {} do not",
            first.shape, part.shape
        ))),
        None => Ok(()),
    }
}

/// The rule broken by an axis that is not there.
pub(crate) fn no_axis(axis: usize, shape: &Shape) -> Rule {
    Rule::new(format!("{shape} has no axis {axis}"))
}

/// Records a view, unless it changes nothing.
#[track_caller]
fn view(x: Var<'_>, view: View) -> Var<'_> {
    let changes_nothing = match &view {
        View::Reshape(shape) | View::Broadcast(shape) => shape[..] == x.shape()[..],
        View::Permute(axes) => axes.len() == x.rank() && axes.iter().enumerate().all(|(i, &a)| i == a),
        View::Slice { start, end, step } => {
            end[..] == x.shape()[..] && start.iter().all(|&s| s == 0) && step.iter().all(|&s| s == 1)
        }
        View::Pad { before, after } => before.iter().chain(after).all(|&n| n == 0),
        View::Affine { .. } => false,
    };
    if changes_nothing { x } else { x.graph().push(ViewOp(view), &[x]) }
}

/// One view.
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
                return Vjp::Undefined("an affine view belongs to an operation, which has the gradient");
            }
        })])
    }

    fn lower(&self, _: &[TensorType], _: &TensorType) -> Lowered {
        Lowered::View(self.0.clone())
    }
}

/// Every `step[i]`-th index of each axis, from the first on.
#[track_caller]
pub(crate) fn strided<'g>(x: Var<'g>, step: &[usize]) -> Var<'g> {
    let end = x.shape().to_vec();
    view(x, View::Slice { start: vec![0; end.len()], end, step: step.to_vec() })
}

/// `y` with `step[i]` − 1 zeros between neighbours along each axis.
#[track_caller]
pub(crate) fn dilate<'g>(y: Var<'g>, step: &[usize]) -> Var<'g> {
    let shape = y.shape();
    let gaps: Vec<usize> = step.iter().flat_map(|&step| [0, step - 1]).collect();
    let apart = reshape(y, shape.iter().flat_map(|&size| [size, 1]).collect::<Vec<_>>());
    let padded = view(apart, View::Pad { before: vec![0; gaps.len()], after: gaps });
    let spread: Vec<usize> = shape.iter().zip(step).map(|(size, step)| size * step).collect();
    let end = shape.iter().zip(step).map(|(size, step)| (size - 1) * step + 1).collect();
    let (start, step) = (vec![0; spread.len()], vec![1; spread.len()]);
    view(reshape(padded, spread), View::Slice { start, end, step })
}

/// The elements of `y` back where a slice of a tensor of `shape` took them from, zeros elsewhere.
fn unslice<'g>(y: Var<'g>, shape: &Shape, start: &[usize], step: &[usize]) -> Var<'g> {
    let y = if step.iter().any(|&step| step > 1) { dilate(y, step) } else { y };
    let after = (0..shape.len()).map(|i| shape[i] - start[i] - y.shape()[i]).collect();
    view(y, View::Pad { before: start.to_vec(), after })
}

/// The rule that a view of a tensor of this shape breaks.
fn check(view: &View, shape: &Shape) -> Result<(), Rule> {
    let broken = match view {
        View::Reshape(new) if product(new) != Some(shape.numel()) => {
            let has = product(new).map_or("far more".to_owned(), |n| n.to_string());
            format!("the number of elements stays; {new:?} has {has}, not {}", shape.numel())
        }
        View::Permute(axes) if !is_permutation(axes, shape.len()) => {
            format!("each of the {} axes is named once; {axes:?} does not", shape.len())
        }
        View::Broadcast(new) if shape.broadcast(&new.as_slice().into())?[..] != new[..] => {
            format!(
                "only sizes of 1 and missing leading dimensions are repeated; {shape} does not become {new:?}"
            )
        }
        View::Slice { start, end, step } => {
            match (0..shape.len()).find(|&i| start[i] >= end[i] || end[i] > shape[i] || step[i] == 0) {
                Some(i) => {
                    let range = format!("{}..{} by {}", start[i], end[i], step[i]);
                    format!(
                        "a slice takes some elements and ends within the {} of axis {i}; {range} does not",
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

fn product(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size))
}

fn is_permutation(axes: &[usize], rank: usize) -> bool {
    axes.len() == rank && (0..rank).all(|axis| axes.contains(&axis))
}
