//! Pooling over windows of images, and the two maps behind it: windows, and their transpose, which adds windows up.

use wgrad_graph::{Affine, Combine, DType, Lowered, Op, Rule, TensorType, Var, View, Vjp};

use crate::constant::{full, iota};
use crate::conv::Conv;
use crate::image::ImageOps;
use crate::pointwise::all_of;
use crate::reduce::reduce;
use crate::sample::{Input, Sample, Values, pick};
use crate::scalar::ANY;
use crate::table::{Entry, Order, Refused};
use crate::tensor::TensorOps;
use crate::view::reshape;

/// Windows of a pooling: kernel, stride, padding and dilation, each for height and width.
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
    /// Pixels from one window to the next.
    pub stride: [usize; 2],
    /// Pixels around the image, on each side, that belong to windows: at most half a window.
    pub padding: [usize; 2],
    /// Pixels from one element of a window to the next.
    pub dilation: [usize; 2],
    /// Whether the zeros of the padding count in a mean.
    pub counts_padding: bool,
}

impl Pool {
    /// Square windows side by side.
    pub fn new(kernel: usize) -> Self {
        let kernel = [kernel; 2];
        Self { kernel, stride: kernel, padding: [0; 2], dilation: [1; 2], counts_padding: true }
    }

    /// With this stride in both directions.
    pub fn stride(self, stride: usize) -> Self {
        Self { stride: [stride; 2], ..self }
    }

    /// With this padding on all sides.
    pub fn padding(self, padding: usize) -> Self {
        Self { padding: [padding; 2], ..self }
    }

    /// Height and width of the result; `None` where no window fits.
    pub fn output(&self, image: [usize; 2]) -> Option<[usize; 2]> {
        let Self { kernel, stride, padding, dilation, .. } = *self;
        Conv { stride, padding, dilation, groups: 1 }.output(image, kernel)
    }

    fn check(&self, x: &TensorType) -> Result<[usize; 2], Rule> {
        all_of(DType::F32, std::slice::from_ref(x))?;
        let &[_, _, h, w] = &x.shape[..] else {
            return Err(Rule::new(format!("images have 4 dimensions; {} has {}", x.shape, x.shape.len())));
        };
        if [self.kernel, self.stride, self.dilation].iter().any(|sizes| sizes.contains(&0)) {
            return Err(Rule::new("windows, strides and dilations are at least 1"));
        }
        if (0..2).any(|axis| self.padding[axis] * 2 > self.kernel[axis]) {
            let rule =
                format!("padding is at most half a window; {:?} of {:?} is not", self.padding, self.kernel);
            return Err(Rule::new(rule));
        }
        self.output([h, w]).ok_or_else(|| {
            Rule::new(format!(
                "a window of {:?} fits into the padded image; {h}×{w} is too small",
                self.kernel
            ))
        })
    }
}

/// Entries of this family.
pub(crate) static ENTRIES: &[Entry] = &[
    Entry {
        name: "max_pool2d",
        doc: "Maximum over windows of images; NaN if there is one. Of elements that tie the first of the window, row by row, has the gradient, as in PyTorch.",
        sample: |random| sample(random, Values::Distinct, |x, pool| x.max_pool2d(pool)),
        tolerance: 1e-6,
        order: Order::Any,
        refuses: || refused(|x, pool| x.max_pool2d(pool)),
    },
    Entry {
        name: "avg_pool2d",
        doc: "Mean over windows of images, zeros of the padding included, as by default in PyTorch.",
        sample: |random| sample(random, ANY, |x, pool| x.avg_pool2d(pool)),
        tolerance: 1e-5,
        order: Order::Any,
        refuses: || refused(|x, pool| x.avg_pool2d(pool)),
    },
    Entry {
        name: "global_avg_pool2d",
        doc: "Mean over height and width of images, `[n, c, h, w]` → `[n, c]`.",
        sample: |random| {
            let shape = [(); 4].map(|()| pick(random, &[1, 2, 3, 5, 7]));
            Sample::new(vec![Input::f32(shape, ANY)], |_, ins| ins[0].global_avg_pool2d())
        },
        tolerance: 1e-5,
        order: Order::Any,
        refuses: || {
            vec![Refused::new(vec![TensorType::f32([2, 3])], "images have 4 dimensions", |_, ins| {
                ins[0].global_avg_pool2d()
            })]
        },
    },
];

type Pooled = for<'g> fn(Var<'g>, Pool) -> Var<'g>;

fn sample(random: &mut wgrad_graph::philox::Stream, values: Values, pooled: Pooled) -> Sample {
    let mut two = |of: &[usize]| [pick(random, of), pick(random, of)];
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
    Sample::new(vec![Input::f32(shape, values)], move |_, ins| pooled(ins[0], pool))
}

fn refused(pooled: Pooled) -> Vec<Refused> {
    let refused = |shape: &[usize], pool: Pool, why| {
        Refused::new(vec![TensorType::f32(shape)], why, move |_, ins| pooled(ins[0], pool))
    };
    let words = vec![TensorType::u32([1, 2, 4, 4])];
    vec![
        refused(&[1, 2, 4, 4], Pool::new(5), "4×4 is too small"),
        refused(&[1, 2, 4, 4], Pool::new(2).padding(2), "padding is at most half a window"),
        refused(&[1, 2, 4, 4], Pool::new(2).stride(0), "windows, strides and dilations are at least 1"),
        refused(&[2, 4, 4], Pool::new(2), "images have 4 dimensions"),
        Refused::new(words, "elements must be f32", move |_, ins| pooled(ins[0], Pool::new(2))),
    ]
}

/// The maximum of each window.
#[track_caller]
pub(crate) fn max_pool2d(x: Var<'_>, pool: Pool) -> Var<'_> {
    let graph = x.graph();
    if let Err(rule) = pool.check(&x.ty()) {
        return graph.refuse("max_pool2d", &[x], rule);
    }
    let windows = windows_of(x, pool);
    let taps = [4, 5];
    // Outside the image nothing is a maximum.
    let lowest = full(graph, [], f64::NEG_INFINITY);
    let candidates = inside(x, pool).map_or(windows, |inside| inside.select(windows, lowest));
    let first = reduce(Combine::ArgMax, candidates.stop_gradient(), &taps, true);
    let [rows, columns] = pool.kernel;
    let number = reshape(iota(graph, [rows * columns], 0), [1, 1, 1, 1, rows, columns]);
    number.eq(first).select(candidates, full(graph, [], 0.0)).sum(&taps)
}

/// The mean of each window.
#[track_caller]
pub(crate) fn avg_pool2d(x: Var<'_>, pool: Pool) -> Var<'_> {
    if let Err(rule) = pool.check(&x.ty()) {
        return x.graph().refuse("avg_pool2d", &[x], rule);
    }
    let taps = [4, 5];
    match inside(x, pool).filter(|_| !pool.counts_padding) {
        Some(inside) => windows_of(x, pool).sum(&taps).div(inside.sum(&taps)),
        None => windows_of(x, pool).mean(&taps),
    }
}

/// Windows that hold 1 inside the image and 0 outside; `None` where they are inside.
#[track_caller]
fn inside(x: Var<'_>, pool: Pool) -> Option<Var<'_>> {
    let (graph, shape) = (x.graph(), x.shape());
    let ones = full(graph, [1, 1, shape[2], shape[3]], 1.0);
    (pool.padding != [0, 0]).then(|| windows_of(ones, pool))
}

/// The mean of each channel.
#[track_caller]
pub(crate) fn global_avg_pool2d(x: Var<'_>) -> Var<'_> {
    match x.rank() {
        4 => x.mean(&[2, 3]),
        rank => {
            let rule = Rule::new(format!("images have 4 dimensions; {} has {rank}", x.shape()));
            x.graph().refuse("global_avg_pool2d", &[x], rule)
        }
    }
}

/// Images `[n, c, h, w]` as `[n, c, h′, w′, kh, kw]`; zero outside the image. The pooling has been checked.
#[track_caller]
fn windows_of(x: Var<'_>, pool: Pool) -> Var<'_> {
    let shape = x.shape();
    // Windows with gaps that are also apart fold into no even pattern: of windows at every pixel some are taken.
    let apart = |axis: usize| pool.dilation[axis] > 1 && pool.stride[axis] > 1;
    let stride = [0, 1].map(|axis| if apart(axis) { 1 } else { pool.stride[axis] });
    let out = Pool { stride, ..pool }.output([shape[2], shape[3]]).unwrap_or([1, 1]);
    let padding = pool.padding.map(|padding| padding as isize);
    let (kernel, dilation) = (pool.kernel, pool.dilation);
    let mut windows = x.graph().push(Windows { kernel, stride, dilation, padding, out }, &[x]);
    for axis in (0..2).filter(|&axis| apart(axis)) {
        windows = windows.slice_step(2 + axis, 0..out[axis], pool.stride[axis]);
    }
    windows
}

/// `y[n, c, i, j, u, v] = x[n, c, stride·i + dilation·u − padding, stride·j + dilation·v − padding]`, zero outside. In each
/// direction the stride or the dilation is 1.
#[derive(Debug, Clone, Copy)]
struct Windows {
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    padding: [isize; 2],
    out: [usize; 2],
}

/// The transpose of [`Windows`], before it is cut to the image: pixel `stride·q + r` is the sum of the elements of windows
/// that look at it, `y[n, c, q + shift − dilation·t, …, r + stride·t, …]` over t, in `[n, c, q, r, q′, r′, 1, 1]`.
///
/// `shift` and the padding of the windows differ by the pixels that are cut away.
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
        // [n, c, quotient, remainder, quotient, remainder, taps, taps]
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
