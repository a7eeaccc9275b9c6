//! Convolution over images `[n, channels, height, width]`, its two gradients, and transposed convolution.
//!
//! All three are the same sum over different dimensions, like a matrix product with windows of the image as one matrix:
//!
//! ```text
//! out[n, o, i, j]    = Σ c, u, v   weight[o, c, u, v] · x[n, c, s·i + d·u − p, s·j + d·v − p]
//! weight[o, c, u, v] = Σ n, i, j   out[n, o, i, j]    · x[n, c, s·i + d·u − p, s·j + d·v − p]
//! x[n, c, y, z]      = Σ o, u, v   weight[o, c, u, v] · out[n, o, i, j]   where s·i + d·u − p = y, s·j + d·v − p = z
//! ```
//!
//! Each of the three operations is bilinear, and its gradients are computed by the other two. No im2col matrix is
//! stored.

mod op_info;
pub(crate) use op_info::OPS;

use wgrad_graph::{Affine, Contract, DType, Lowered, Op, Rule, TensorType, Var, View, Vjp};

use crate::rules::check_dtype;
use crate::view::{dilate, pad, strided};

/// Stride, padding, dilation and groups of a convolution, each for height and width. The defaults are PyTorch's.
///
/// ```
/// use wgrad_ops::Conv;
///
/// let same = Conv::default().padding(1);
/// assert_eq!(same.output([32, 32], [3, 3]), Some([32, 32]));
/// assert_eq!(same.stride(2).output([32, 32], [3, 3]), Some([16, 16]));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv {
    /// Distance between windows in pixels.
    pub stride: [usize; 2],
    /// Zeros added on each side of the image.
    pub padding: [usize; 2],
    /// Distance between the elements of the kernel in pixels.
    pub dilation: [usize; 2],
    /// Number of groups of channels that are convolved separately.
    pub groups: usize,
}

impl Default for Conv {
    fn default() -> Self {
        Self { stride: [1; 2], padding: [0; 2], dilation: [1; 2], groups: 1 }
    }
}

impl Conv {
    /// Sets the stride in both directions.
    pub fn stride(self, stride: usize) -> Self {
        Self { stride: [stride; 2], ..self }
    }

    /// Sets the padding on all sides.
    pub fn padding(self, padding: usize) -> Self {
        Self { padding: [padding; 2], ..self }
    }

    /// Sets the dilation in both directions.
    pub fn dilation(self, dilation: usize) -> Self {
        Self { dilation: [dilation; 2], ..self }
    }

    /// Sets the number of groups.
    pub fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// Returns height and width of the result for an image and a kernel; `None` if no window fits.
    pub fn output(&self, image: [usize; 2], kernel: [usize; 2]) -> Option<[usize; 2]> {
        let along = |axis: usize| {
            let window = self.dilation[axis].checked_mul(kernel[axis].checked_sub(1)?)?.checked_add(1)?;
            let room = (image[axis] + 2 * self.padding[axis]).checked_sub(window)?;
            Some(room.checked_div(self.stride[axis])? + 1)
        };
        Some([along(0)?, along(1)?])
    }

    /// Returns height and width of the transposed convolution with output padding `extra`; `None` if the result is
    /// empty.
    fn transposed_output(
        &self,
        image: [usize; 2],
        kernel: [usize; 2],
        extra: [usize; 2],
    ) -> Option<[usize; 2]> {
        let along = |axis: usize| {
            let window = self.dilation[axis].checked_mul(kernel[axis].checked_sub(1)?)?.checked_add(1)?;
            let unpadded =
                (image[axis] - 1).checked_mul(self.stride[axis])?.checked_add(window + extra[axis])?;
            unpadded.checked_sub(2 * self.padding[axis]).filter(|&size| size > 0)
        };
        Some([along(0)?, along(1)?])
    }

    /// Checks that no parameter is zero.
    fn check(&self) -> Result<(), Rule> {
        let zero = |parameter: &str| Err(Rule::new(format!("{parameter} must be at least 1")));
        match self {
            Conv { stride: [0, _] | [_, 0], .. } => zero("the stride"),
            Conv { dilation: [0, _] | [_, 0], .. } => zero("the dilation"),
            Conv { groups: 0, .. } => zero("the number of groups"),
            _ => Ok(()),
        }
    }
}

/// Convolves `x` `[n, in, h, w]` with `weight` `[out, in / groups, kh, kw]` → `[n, out, h′, w′]`.
#[track_caller]
pub(crate) fn conv2d<'g>(x: Var<'g>, weight: Var<'g>, conv: Conv) -> Var<'g> {
    let pointwise = weight.rank() == 4 && weight.shape()[2..] == [1, 1] && conv.padding == [0, 0];
    if pointwise && conv.stride != [1, 1] && x.rank() == 4 && conv.check().is_ok() {
        // Drops the pixels that no window reads, so that no gradient is computed for them.
        let kept = strided(x, &[1, 1, conv.stride[0], conv.stride[1]]);
        return conv2d(kept, weight, conv.stride(1));
    }
    x.graph().push(Forward { conv }, &[x, weight])
}

/// Transposed convolution of `x` `[n, in, h, w]` with `weight` `[in, out / groups, kh, kw]` → `[n, out, h′, w′]`.
///
/// This is the transpose of the linear map of [`conv2d`] with the same weight. The result is `extra` pixels larger than
/// the smallest image for which [`conv2d`] has a result of the size of `x`.
#[track_caller]
pub(crate) fn conv_transpose2d<'g>(x: Var<'g>, weight: Var<'g>, conv: Conv, extra: [usize; 2]) -> Var<'g> {
    let graph = x.graph();
    let refuse = |rule| graph.refuse("conv_transpose2d", &[x, weight], rule);
    let (image, kernel) =
        match (sizes4(&x.ty(), "the image"), sizes4(&weight.ty(), "the weight"), conv.check()) {
            (Ok(image), Ok(kernel), Ok(())) => (image, kernel),
            (Err(rule), ..) | (_, Err(rule), _) | (.., Err(rule)) => return refuse(rule),
        };
    if (0..2).any(|axis| extra[axis] >= conv.stride[axis].max(conv.dilation[axis])) {
        let rule =
            format!("the output padding must be less than the stride or the dilation; {extra:?} is not");
        return refuse(Rule::new(rule));
    }
    match conv.transposed_output([image[2], image[3]], [kernel[2], kernel[3]], extra) {
        Some(size) => transposed(x, weight, conv, size),
        None => refuse(Rule::new(format!("a padding of {:?} leaves an empty result", conv.padding))),
    }
}

/// Returns the transpose of a convolution over images of size `image`.
#[track_caller]
fn transposed<'g>(y: Var<'g>, weight: Var<'g>, conv: Conv, image: [usize; 2]) -> Var<'g> {
    // If both stride and dilation are above 1, the kernel pattern does not repeat with the stride, so `Transposed`
    // cannot be used. Zeros inserted between the pixels of y replace the stride.
    let (mut y, mut conv) = (y, conv);
    for axis in [0, 1] {
        if conv.stride[axis] > 1 && conv.dilation[axis] > 1 && y.rank() == 4 {
            let mut step = [1; 4];
            step[axis + 2] = conv.stride[axis];
            y = dilate(y, &step);
            conv.stride[axis] = 1;
            // Zeros for the windows that a stride of 1 adds at the end.
            let kernel = weight.shape().get(axis + 2).copied().unwrap_or(1);
            let windows = image[axis] + 2 * conv.padding[axis] - conv.dilation[axis] * (kernel - 1);
            y = pad(y, axis + 2, 0, windows.saturating_sub(y.shape()[axis + 2]));
        }
    }
    y.graph().push(Transposed { conv, image }, &[y, weight])
}

/// Returns the gradient of the weight of a convolution, for images `x` and a cotangent `y`.
#[track_caller]
fn weight_gradient<'g>(x: Var<'g>, y: Var<'g>, conv: Conv, kernel: [usize; 2]) -> Var<'g> {
    y.graph().push(WeightGrad { conv, kernel }, &[y, x])
}

/// Returns the four sizes of a tensor of images or of a weight.
fn sizes4(ty: &TensorType, name: &str) -> Result<[usize; 4], Rule> {
    check_dtype(DType::F32, std::slice::from_ref(ty))?;
    <[usize; 4]>::try_from(&ty.shape[..])
        .map_err(|_| Rule::new(format!("{name} must have 4 dimensions; {} has {}", ty.shape, ty.shape.len())))
}

/// Sizes of a convolution: images `[n, groups · inputs, h, w]`, results `[n, groups · outputs, out…]`.
struct Sizes {
    batch: usize,
    groups: usize,
    inputs: usize,
    outputs: usize,
    image: [usize; 2],
    kernel: [usize; 2],
    out: [usize; 2],
}

impl Sizes {
    /// Checks that image, weight and convolution fit together, and returns their sizes.
    fn new(
        conv: &Conv,
        batch: usize,
        channels: usize,
        weight: [usize; 4],
        image: [usize; 2],
    ) -> Result<Sizes, Rule> {
        conv.check()?;
        let (groups, [outputs, inputs, rows, columns]) = (conv.groups, weight);
        if channels != groups * inputs {
            return Err(Rule::new(format!(
                "a weight for {} channels (groups: {groups}) does not fit an image with {channels}",
                groups * inputs
            )));
        }
        if !outputs.is_multiple_of(groups) {
            return Err(Rule::new(format!(
                "the number of groups must divide the {outputs} outputs; {groups} does not"
            )));
        }
        let kernel = [rows, columns];
        let Some(out) = conv.output(image, kernel) else {
            return Err(Rule::new(format!(
                "the kernel must fit into the padded image; {rows}×{columns} with dilation {:?} does not fit into {}×{}",
                conv.dilation,
                image[0] + 2 * conv.padding[0],
                image[1] + 2 * conv.padding[1]
            )));
        };
        Ok(Sizes { batch, groups, inputs, outputs: outputs / groups, image, kernel, out })
    }

    /// Returns the view of images as `[group, n, out row, out column, kernel row, kernel column, channel]`.
    fn windows(&self, conv: &Conv) -> View {
        let pixel = |axis: usize| {
            let steps = [(2 + axis, conv.stride[axis]), (4 + axis, conv.dilation[axis])];
            affine(-(conv.padding[axis] as isize), &steps)
        };
        let [(rows, columns), (u, v)] = [self.out, self.kernel].map(|[a, b]| (a, b));
        View::Affine {
            shape: vec![self.groups, self.batch, rows, columns, u, v, self.inputs],
            coordinates: vec![
                affine(0, &[(1, 1)]),
                affine(0, &[(0, self.inputs), (6, 1)]),
                pixel(0),
                pixel(1),
            ],
        }
    }
}

/// Creates an affine coordinate from pairs of dimension and step.
fn affine(offset: isize, terms: &[(usize, usize)]) -> Affine {
    Affine { offset, terms: terms.iter().map(|&(dim, step)| (dim, step as isize)).collect() }
}

/// Returns the views from a product with channels last, `[n, h, w, groups, channels]`, to `[n, c, h, w]`.
fn channels_first([n, h, w, channels]: [usize; 4]) -> Vec<View> {
    vec![View::Reshape(vec![n, h, w, channels]), View::Permute(vec![0, 3, 1, 2])]
}

/// Convolution as an operation. Inputs: images and weight.
#[derive(Debug)]
struct Forward {
    conv: Conv,
}

impl Forward {
    fn sizes(&self, ins: &[TensorType]) -> Result<Sizes, Rule> {
        let [n, channels, h, w] = sizes4(&ins[0], "the image")?;
        Sizes::new(&self.conv, n, channels, sizes4(&ins[1], "the weight")?, [h, w])
    }
}

impl Op for Forward {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn infer(&self, ins: &[TensorType]) -> Result<TensorType, Rule> {
        let sizes = self.sizes(ins)?;
        Ok(TensorType::f32([sizes.batch, sizes.groups * sizes.outputs, sizes.out[0], sizes.out[1]]))
    }

    fn vjp<'g>(&self, ins: &[Var<'g>], _: Var<'g>, cotangent: Var<'g>) -> Vjp<'g> {
        let (x, weight) = (ins[0], ins[1]);
        let image = transposed(cotangent, weight, self.conv, size(x));
        Vjp::Grads(vec![Some(image), Some(weight_gradient(x, cotangent, self.conv, size(weight)))])
    }

    fn lower(&self, ins: &[TensorType], _: &TensorType) -> Lowered {
        let Ok(sizes) = self.sizes(ins) else { return Lowered::Contract(Contract::default()) };
        let Sizes { batch, groups, inputs, outputs, kernel, out, .. } = sizes;
        // [group, kernel row, kernel column, channel, output]
        let weight = View::Affine {
            shape: vec![groups, kernel[0], kernel[1], inputs, outputs],
            coordinates: vec![
                affine(0, &[(0, outputs), (4, 1)]),
                affine(0, &[(3, 1)]),
                affine(0, &[(1, 1)]),
                affine(0, &[(2, 1)]),
            ],
        };
        Lowered::Contract(Contract {
            a: vec![sizes.windows(&self.conv)],
            b: vec![weight],
            batch: 1,
            rows: 3,
            columns: 1,
            order: vec![1, 2, 3, 0, 4],
            out: channels_first([batch, out[0], out[1], groups * outputs]),
        })
    }
}

/// Returns the height and width of images or of a weight.
fn size(x: Var<'_>) -> [usize; 2] {
    let shape = x.shape();
    [shape[2], shape[3]]
}

/// Gradient of the weight as an operation. Inputs: cotangent and images.
#[derive(Debug)]
struct WeightGrad {
    conv: Conv,
    kernel: [usize; 2],
}

impl WeightGrad {
    fn sizes(&self, ins: &[TensorType]) -> Result<Sizes, Rule> {
        let [m, outputs, rows, columns] = sizes4(&ins[0], "the cotangent")?;
        let [n, channels, h, w] = sizes4(&ins[1], "the image")?;
        let weight = [outputs, channels / self.conv.groups.max(1), self.kernel[0], self.kernel[1]];
        let sizes = Sizes::new(&self.conv, n, channels, weight, [h, w])?;
        if n != m || sizes.out != [rows, columns] {
            return Err(Rule::new("the cotangent must have the shape of the result of the convolution"));
        }
        Ok(sizes)
    }
}

impl Op for WeightGrad {
    fn name(&self) -> &'static str {
        "conv2d_weight"
    }

    fn infer(&self, ins: &[TensorType]) -> Result<TensorType, Rule> {
        let sizes = self.sizes(ins)?;
        let [rows, columns] = sizes.kernel;
        Ok(TensorType::f32([sizes.groups * sizes.outputs, sizes.inputs, rows, columns]))
    }

    fn vjp<'g>(&self, ins: &[Var<'g>], _: Var<'g>, cotangent: Var<'g>) -> Vjp<'g> {
        let (y, x) = (ins[0], ins[1]);
        let image = transposed(y, cotangent, self.conv, size(x));
        Vjp::Grads(vec![Some(x.graph().push(Forward { conv: self.conv }, &[x, cotangent])), Some(image)])
    }

    fn lower(&self, ins: &[TensorType], out: &TensorType) -> Lowered {
        let Ok(sizes) = self.sizes(ins) else { return Lowered::Contract(Contract::default()) };
        // [group, output, n, row, column]
        let cotangent = View::Affine {
            shape: vec![sizes.groups, sizes.outputs, sizes.batch, sizes.out[0], sizes.out[1]],
            coordinates: vec![
                affine(0, &[(2, 1)]),
                affine(0, &[(0, sizes.outputs), (1, 1)]),
                affine(0, &[(3, 1)]),
                affine(0, &[(4, 1)]),
            ],
        };
        Lowered::Contract(Contract {
            a: vec![cotangent],
            b: vec![sizes.windows(&self.conv)],
            batch: 1,
            rows: 1,
            columns: 3,
            // The layout of the weight: [group, output, channel, kernel row, kernel column].
            order: vec![0, 1, 4, 2, 3],
            out: vec![View::Reshape(out.shape.to_vec())],
        })
    }
}

/// Transposed convolution, as one product for each phase.
///
/// Image rows whose indices are equal modulo the stride read the same rows of the kernel, i.e. every `stride`-th row:
/// with y + p = s·q + r and u = r + s·t, the condition s·i + u − p = y becomes i = q − t. The remainders r therefore
/// form a batch of products, each with its own taps t. A kernel whose size is not a multiple of the stride is padded
/// with zeros.
#[derive(Debug)]
struct Transposed {
    conv: Conv,
    image: [usize; 2],
}

/// Phases of a transposed convolution along one axis.
struct Phases {
    /// Number of remainders r, which is the stride.
    count: usize,
    /// Number of quotients q that the image needs.
    quotients: usize,
    /// First quotient q.
    first: usize,
    /// Number of pixels of the product before the first pixel of the image.
    skipped: usize,
    /// Number of taps of each phase.
    taps: usize,
    /// Distance in the input between taps.
    step: usize,
}

impl Transposed {
    fn sizes(&self, ins: &[TensorType]) -> Result<Sizes, Rule> {
        let [n, outputs, rows, columns] = sizes4(&ins[0], "the image")?;
        let weight = sizes4(&ins[1], "the weight")?;
        if weight[0] != outputs {
            return Err(Rule::new(format!(
                "a weight for {} channels does not fit an image with {outputs}",
                weight[0]
            )));
        }
        let sizes = Sizes::new(&self.conv, n, self.conv.groups * weight[1], weight, self.image)?;
        if sizes.out != [rows, columns] {
            return Err(Rule::new(format!(
                "a convolution of an image of {:?} does not have size {rows}×{columns}",
                self.image
            )));
        }
        Ok(sizes)
    }

    fn phases(&self, axis: usize, kernel: usize) -> Phases {
        let Conv { stride, padding, dilation, .. } = self.conv;
        let (stride, padding) = (stride[axis], padding[axis]);
        let (first, skipped) = (padding / stride, padding % stride);
        Phases {
            count: stride,
            quotients: (self.image[axis] + skipped).div_ceil(stride),
            first,
            skipped,
            taps: kernel.div_ceil(stride),
            step: if stride == 1 { dilation[axis] } else { 1 },
        }
    }
}

impl Op for Transposed {
    fn name(&self) -> &'static str {
        "conv_transpose2d"
    }

    fn infer(&self, ins: &[TensorType]) -> Result<TensorType, Rule> {
        let sizes = self.sizes(ins)?;
        Ok(TensorType::f32([sizes.batch, sizes.groups * sizes.inputs, self.image[0], self.image[1]]))
    }

    fn vjp<'g>(&self, ins: &[Var<'g>], _: Var<'g>, cotangent: Var<'g>) -> Vjp<'g> {
        let (y, weight) = (ins[0], ins[1]);
        let image = y.graph().push(Forward { conv: self.conv }, &[cotangent, weight]);
        Vjp::Grads(vec![Some(image), Some(weight_gradient(cotangent, y, self.conv, size(weight)))])
    }

    fn lower(&self, ins: &[TensorType], _: &TensorType) -> Lowered {
        let Ok(sizes) = self.sizes(ins) else { return Lowered::Contract(Contract::default()) };
        let Sizes { batch, groups, inputs, outputs, image, kernel, .. } = sizes;
        let [y, x] = [0, 1].map(|axis| self.phases(axis, kernel[axis]));
        // [group, row and column remainder, n, row and column quotient, row and column tap, output]
        let pixel = |phases: &Phases, axis: usize| Affine {
            offset: phases.first as isize,
            terms: vec![(4 + axis, 1), (6 + axis, -(phases.step as isize))],
        };
        let a = View::Affine {
            shape: vec![groups, y.count, x.count, batch, y.quotients, x.quotients, y.taps, x.taps, outputs],
            coordinates: vec![
                affine(0, &[(3, 1)]),
                affine(0, &[(0, outputs), (8, 1)]),
                pixel(&y, 0),
                pixel(&x, 1),
            ],
        };
        // [group, row and column remainder, row and column tap, output, channel]
        let b = View::Affine {
            shape: vec![groups, y.count, x.count, y.taps, x.taps, outputs, inputs],
            coordinates: vec![
                affine(0, &[(0, outputs), (5, 1)]),
                affine(0, &[(6, 1)]),
                affine(0, &[(1, 1), (3, y.count)]),
                affine(0, &[(2, 1), (4, x.count)]),
            ],
        };
        let uncut = [y.quotients * y.count, x.quotients * x.count];
        let channels = groups * inputs;
        let mut out = vec![View::Reshape(vec![batch, uncut[0], uncut[1], channels])];
        if uncut != image {
            let start = vec![0, y.skipped, x.skipped, 0];
            let end = vec![batch, y.skipped + image[0], x.skipped + image[1], channels];
            out.push(View::Slice { start, end, step: vec![1; 4] });
        }
        out.push(View::Permute(vec![0, 3, 1, 2]));
        // [n, row quotient, row remainder, column quotient, column remainder, group, channel]
        let order = vec![3, 4, 1, 5, 2, 0, 6];
        Lowered::Contract(Contract { a: vec![a], b: vec![b], batch: 3, rows: 3, columns: 1, order, out })
    }
}
