//! Pooling over windows of images, built on two linear maps: unfolding into windows, and its transpose, folding.

use wgrad_graph::{Affine, Combine, DType, Lowered, Op, Rule, TensorType, Var, View, Vjp};

use crate::constant::{full, iota};
use crate::conv::Conv;
use crate::image::ImageOps;
use crate::op_info::{ErrorInput, GradientOrder, OpInfo};
use crate::reduce::reduce;
use crate::rules::{check_dtype, image_sizes};
use crate::sample::{ANY, Distribution, Input, Sample, pick};
use crate::tensor::TensorOps;
use crate::view::reshape;

/// Windows of a pooling operation: kernel, stride, padding and dilation, each for height and width.
///
/// ```
/// use wgrad_ops::Pool;
///
/// assert_eq!(Pool::new(2).output([7, 8]), Some([3, 4]));
/// assert_eq!(Pool::new(3).stride(2).padding(1).output([7, 8]), Some([4, 4]));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// Height and width of a window.
    pub kernel: [usize; 2],
    /// Distance between windows in pixels.
    pub stride: [usize; 2],
    /// Number of rows and columns of padding on each side of the image; at most half a window.
    pub padding: [usize; 2],
    /// Distance between the elements of a window in pixels.
    pub dilation: [usize; 2],
    /// Whether a mean includes the zeros of the padding, like `count_include_pad` in PyTorch.
    pub counts_padding: bool,
}

impl Pool {
    /// Creates square windows that do not overlap: the stride is the kernel size.
    pub fn new(kernel: usize) -> Self {
        let kernel = [kernel; 2];
        Self { kernel, stride: kernel, padding: [0; 2], dilation: [1; 2], counts_padding: true }
    }

    /// Sets the stride in both directions.
    pub fn stride(self, stride: usize) -> Self {
        Self { stride: [stride; 2], ..self }
    }

    /// Sets the padding on all sides.
    pub fn padding(self, padding: usize) -> Self {
        Self { padding: [padding; 2], ..self }
    }

    /// Returns height and width of the result; `None` if no window fits.
    pub fn output(&self, image: [usize; 2]) -> Option<[usize; 2]> {
        let Self { kernel, stride, padding, dilation, .. } = *self;
        Conv { stride, padding, dilation, groups: 1 }.output(image, kernel)
    }

    /// Checks that `x` is a tensor of images into which the windows fit. Returns height and width of the result.
    fn check(&self, x: &TensorType) -> Result<[usize; 2], Rule> {
        check_dtype(DType::F32, std::slice::from_ref(x))?;
        let [_, _, h, w] = image_sizes(&x.shape)?;
        if [self.kernel, self.stride, self.dilation].iter().any(|sizes| sizes.contains(&0)) {
            return Err(Rule::new("windows, strides and dilations must be at least 1"));
        }
        if (0..2).any(|axis| self.padding[axis] * 2 > self.kernel[axis]) {
            let rule = format!(
                "the padding must be at most half a window; {:?} is more than half of {:?}",
                self.padding, self.kernel
            );
            return Err(Rule::new(rule));
        }
        self.output([h, w]).ok_or_else(|| {
            Rule::new(format!(
                "a window of {:?} must fit into the padded image; {h}×{w} is too small",
                self.kernel
            ))
        })
    }
}

/// Operations of this family.
pub(crate) static OPS: &[OpInfo] = &[
    OpInfo {
        name: "max_pool2d",
        doc: "Maximum over windows of images; NaN if the window contains NaN. Of equal elements, the first in row-major order gets the gradient, as in PyTorch.",
        sample: |random| draw_sample(random, Distribution::Distinct, |x, pool| x.max_pool2d(pool)),
        tolerance: 1e-6,
        gradient_order: GradientOrder::Any,
        error_inputs: || error_inputs(|x, pool| x.max_pool2d(pool)),
    },
    OpInfo {
        name: "avg_pool2d",
        doc: "Mean over windows of images, including the zeros of the padding, as by default in PyTorch.",
        sample: |random| draw_sample(random, ANY, |x, pool| x.avg_pool2d(pool)),
        tolerance: 1e-5,
        gradient_order: GradientOrder::Any,
        error_inputs: || error_inputs(|x, pool| x.avg_pool2d(pool)),
    },
    OpInfo {
        name: "global_avg_pool2d",
        doc: "Mean over height and width of images, `[n, c, h, w]` → `[n, c]`.",
        sample: |random| {
            let shape = [(); 4].map(|()| pick(random, &[1, 2, 3, 5, 7]));
            Sample::new(vec![Input::f32(shape, ANY)], |_, ins| ins[0].global_avg_pool2d())
        },
        tolerance: 1e-5,
        gradient_order: GradientOrder::Any,
        error_inputs: || {
            vec![ErrorInput::new(vec![TensorType::f32([2, 3])], "images have 4 dimensions", |_, ins| {
                ins[0].global_avg_pool2d()
            })]
        },
    },
];

type PoolOp = for<'g> fn(Var<'g>, Pool) -> Var<'g>;

fn draw_sample(
    random: &mut wgrad_graph::philox::Stream,
    distribution: Distribution,
    pool_op: PoolOp,
) -> Sample {
    let mut two = |choices: &[usize]| [pick(random, choices), pick(random, choices)];
    let (kernel, stride) = (two(&[1, 2, 3, 3]), two(&[1, 2, 2, 3]));
    let padding = [0, 1].map(|axis| pick(random, &[0, 1]).min(kernel[axis] / 2));
    let shape = [
        pick(random, &[1, 2, 3]),
        pick(random, &[1, 2, 5]),
        pick(random, &[3, 5, 8]),
        pick(random, &[3, 4, 7]),
    ];
    let dilation = pick(random, &[[1, 1], [1, 1], [1, 1], [2, 1], [1, 2]]);
    let counts_padding = pick(random, &[true, false]);
    let dilation =
        [0, 1].map(|axis| if shape[2 + axis] > 2 * (kernel[axis] - 1) { dilation[axis] } else { 1 });
    let pool = Pool { kernel, stride, padding, dilation, counts_padding };
    Sample::new(vec![Input::f32(shape, distribution)], move |_, ins| pool_op(ins[0], pool))
}

fn error_inputs(pool_op: PoolOp) -> Vec<ErrorInput> {
    let error = |shape: &[usize], pool: Pool, message| {
        ErrorInput::new(vec![TensorType::f32(shape)], message, move |_, ins| pool_op(ins[0], pool))
    };
    let u32_images = vec![TensorType::u32([1, 2, 4, 4])];
    vec![
        error(&[1, 2, 4, 4], Pool::new(5), "4×4 is too small"),
        error(&[1, 2, 4, 4], Pool::new(2).padding(2), "the padding must be at most half a window"),
        error(&[1, 2, 4, 4], Pool::new(2).stride(0), "windows, strides and dilations must be at least 1"),
        error(&[2, 4, 4], Pool::new(2), "images have 4 dimensions"),
        ErrorInput::new(u32_images, "elements must be f32", move |_, ins| pool_op(ins[0], Pool::new(2))),
    ]
}

/// Returns the maximum of each window.
#[track_caller]
pub(crate) fn max_pool2d(x: Var<'_>, pool: Pool) -> Var<'_> {
    let graph = x.graph();
    if let Err(rule) = pool.check(&x.ty()) {
        return graph.refuse("max_pool2d", &[x], rule);
    }
    let windows = unfold(x, pool);
    let taps = [4, 5];
    // The padding is never the maximum.
    let lowest = full(graph, [], f64::NEG_INFINITY);
    let candidates = inside_mask(x, pool).map_or(windows, |inside| inside.select(windows, lowest));
    let first = reduce(Combine::ArgMax, candidates.stop_gradient(), &taps, true);
    let [rows, columns] = pool.kernel;
    let number = reshape(iota(graph, [rows * columns], 0), [1, 1, 1, 1, rows, columns]);
    number.eq(first).select(candidates, full(graph, [], 0.0)).sum(&taps)
}

/// Returns the mean of each window.
#[track_caller]
pub(crate) fn avg_pool2d(x: Var<'_>, pool: Pool) -> Var<'_> {
    if let Err(rule) = pool.check(&x.ty()) {
        return x.graph().refuse("avg_pool2d", &[x], rule);
    }
    let taps = [4, 5];
    match inside_mask(x, pool).filter(|_| !pool.counts_padding) {
        Some(inside) => unfold(x, pool).sum(&taps).div(inside.sum(&taps)),
        None => unfold(x, pool).mean(&taps),
    }
}

/// Returns windows that are 1 inside the image and 0 in the padding; `None` without padding.
#[track_caller]
fn inside_mask(x: Var<'_>, pool: Pool) -> Option<Var<'_>> {
    let (graph, shape) = (x.graph(), x.shape());
    let ones = full(graph, [1, 1, shape[2], shape[3]], 1.0);
    (pool.padding != [0, 0]).then(|| unfold(ones, pool))
}

/// Returns the mean of each channel of each image.
#[track_caller]
pub(crate) fn global_avg_pool2d(x: Var<'_>) -> Var<'_> {
    match image_sizes(&x.shape()) {
        Ok(_) => x.mean(&[2, 3]),
        Err(rule) => x.graph().refuse("global_avg_pool2d", &[x], rule),
    }
}

/// Unfolds images `[n, c, h, w]` into windows `[n, c, h′, w′, kh, kw]`; zero in the padding. Requires [`Pool::check`].
#[track_caller]
fn unfold(x: Var<'_>, pool: Pool) -> Var<'_> {
    let shape = x.shape();
    // `Fold` supports only one of stride and dilation above 1. With both, unfold at stride 1 and keep every stride-th
    // window.
    let strided_and_dilated = |axis: usize| pool.dilation[axis] > 1 && pool.stride[axis] > 1;
    let stride = [0, 1].map(|axis| if strided_and_dilated(axis) { 1 } else { pool.stride[axis] });
    let out = Pool { stride, ..pool }.output([shape[2], shape[3]]).unwrap_or([1, 1]);
    let padding = pool.padding.map(|padding| padding as isize);
    let (kernel, dilation) = (pool.kernel, pool.dilation);
    let mut windows = x.graph().push(Windows { kernel, stride, dilation, padding, out }, &[x]);
    for axis in (0..2).filter(|&axis| strided_and_dilated(axis)) {
        windows = windows.slice_step(2 + axis, 0..out[axis], pool.stride[axis]);
    }
    windows
}

/// `y[n, c, i, j, u, v] = x[n, c, stride·i + dilation·u − padding, stride·j + dilation·v − padding]`, zero outside. In
/// each direction, stride or dilation must be 1.
#[derive(Debug, Clone, Copy)]
struct Windows {
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    padding: [isize; 2],
    out: [usize; 2],
}

/// Transpose of [`Windows`], before the result is cropped to the image. Pixel `stride·q + r` is the sum of all window
/// elements that read this pixel: `y[n, c, q + shift − dilation·t, …, r + stride·t, …]` over t. The result has the
/// shape `[n, c, q, r, q′, r′, 1, 1]`.
///
/// `shift` is the padding of the windows without the pixels that are cropped.
#[derive(Debug, Clone, Copy)]
struct Fold {
    stride: [usize; 2],
    dilation: [usize; 2],
    shift: [isize; 2],
    quotients: [usize; 2],
}

impl Op for Windows {
    fn name(&self) -> &'static str {
        "windows"
    }

    fn infer(&self, ins: &[TensorType]) -> Result<TensorType, Rule> {
        let shape = &ins[0].shape;
        let ([h, w], [u, v]) = (self.out, self.kernel);
        Ok(TensorType::f32([shape[0], shape[1], h, w, u, v]))
    }

    fn vjp<'g>(&self, ins: &[Var<'g>], _: Var<'g>, cotangent: Var<'g>) -> Vjp<'g> {
        let shape = ins[0].shape();
        let [n, c, h, w] = [shape[0], shape[1], shape[2], shape[3]];
        let skipped = [0, 1].map(|axis| self.padding[axis].rem_euclid(self.stride[axis] as isize) as usize);
        let shift = [0, 1].map(|axis| self.padding[axis].div_euclid(self.stride[axis] as isize));
        let quotients = [0, 1].map(|axis| (skipped[axis] + [h, w][axis]).div_ceil(self.stride[axis]));
        let whole = [quotients[0] * self.stride[0], quotients[1] * self.stride[1]];
        let folded = cotangent
            .graph()
            .push(Fold { stride: self.stride, dilation: self.dilation, shift, quotients }, &[cotangent]);
        let image = reshape(folded, [n, c, whole[0], whole[1]]);
        let image = image.slice(2, skipped[0]..skipped[0] + h).slice(3, skipped[1]..skipped[1] + w);
        Vjp::Grads(vec![Some(image)])
    }

    fn lower(&self, _: &[TensorType], out: &TensorType) -> Lowered {
        let pixel = |axis: usize| Affine {
            offset: -self.padding[axis],
            terms: vec![(2 + axis, self.stride[axis] as isize), (4 + axis, self.dilation[axis] as isize)],
        };
        let same = |axis: usize| Affine { offset: 0, terms: vec![(axis, 1)] };
        let coordinates = vec![same(0), same(1), pixel(0), pixel(1)];
        Lowered::View(View::Affine { shape: out.shape.to_vec(), coordinates })
    }
}

impl Op for Fold {
    fn name(&self) -> &'static str {
        "fold"
    }

    fn infer(&self, ins: &[TensorType]) -> Result<TensorType, Rule> {
        let shape = &ins[0].shape;
        let ([q, r], [s, t]) = (self.quotients, self.stride);
        Ok(TensorType::f32([shape[0], shape[1], q, s, r, t, 1, 1]))
    }

    fn vjp<'g>(&self, ins: &[Var<'g>], _: Var<'g>, cotangent: Var<'g>) -> Vjp<'g> {
        let shape = ins[0].shape();
        let image =
            [shape[0], shape[1], self.quotients[0] * self.stride[0], self.quotients[1] * self.stride[1]];
        let padding = [0, 1].map(|axis| self.shift[axis] * self.stride[axis] as isize);
        let (out, kernel) = ([shape[2], shape[3]], [shape[4], shape[5]]);
        let windows = Windows { kernel, stride: self.stride, dilation: self.dilation, padding, out };
        Vjp::Grads(vec![Some(cotangent.graph().push(windows, &[reshape(cotangent, image)]))])
    }

    fn lower(&self, ins: &[TensorType], out: &TensorType) -> Lowered {
        let mut shape = out.shape.to_vec();
        for axis in 0..2 {
            shape[6 + axis] = ins[0].shape[4 + axis].div_ceil(self.stride[axis]);
        }
        // [n, c, row quotient, row remainder, column quotient, column remainder, row taps, column taps]
        let window = |axis: usize| Affine {
            offset: self.shift[axis],
            terms: vec![(2 + 2 * axis, 1), (6 + axis, -(self.dilation[axis] as isize))],
        };
        let tap = |axis: usize| Affine {
            offset: 0,
            terms: vec![(3 + 2 * axis, 1), (6 + axis, self.stride[axis] as isize)],
        };
        let same = |axis: usize| Affine { offset: 0, terms: vec![(axis, 1)] };
        let coordinates = vec![same(0), same(1), window(0), window(1), tap(0), tap(1)];
        Lowered::Reduce {
            views: vec![View::Affine { shape, coordinates }],
            combine: Combine::Sum,
            axes: vec![6, 7],
        }
    }
}
