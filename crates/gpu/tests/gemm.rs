//! Compares every GEMM variant with the interpreter, on every adapter, with sizes that are not multiples of any tile.

mod common;

use common::functions::{ADD, CUBE, MUL, RELU};
use common::plan::{Body, Plan, contiguous, strided};
use common::{assert_agrees, each_adapter, open, poisoned, random_f32};
use wgrad_gpu::{GemmVariant, Options};
use wgrad_graph::{Affine, DType, Layout, View};
use wgrad_program::{Access, Device, Gemm, HostData, Instr, Kernel, Program};

/// Sizes m, n and k: small sizes, and sizes just above or below those of the tiles.
const SIZES: [(usize, usize, usize); 4] = [(1, 1, 1), (3, 5, 7), (65, 63, 17), (130, 129, 10)];

struct Case {
    batch: Vec<usize>,
    /// Sizes of m, n and k.
    size: [Vec<usize>; 3],
    /// Layouts of A and B and their numbers of elements.
    a: (Layout, usize),
    b: (Layout, usize),
}

impl Case {
    fn plain((m, n, k): (usize, usize, usize)) -> Case {
        let (a, b) = ((contiguous(&[m, k]), m * k), (contiguous(&[k, n]), k * n));
        Case { batch: Vec::new(), size: [vec![m], vec![n], vec![k]], a, b }
    }

    /// Builds a program of the GEMM with an epilogue, whose extra operands `more` follow A and B.
    fn program(
        &self,
        dtype: DType,
        more: &[&[usize]],
        epilogue: impl Fn(&mut Body) -> usize,
    ) -> (Program, Vec<HostData>) {
        let [m, n, k] = self.size.clone();
        let shape = [self.batch.as_slice(), &m, &n].concat();
        let mut plan = Plan::default();
        let a = plan.input("a", dtype, &[self.a.1]);
        let b = plan.input("b", dtype, &[self.b.1]);
        let more_inputs: Vec<_> = more.iter().map(|shape| plan.input("more", DType::F32, shape)).collect();
        let c = plan.output("c", DType::F32, &shape);
        let mut body = Body::over(&shape, &[]);
        let value = epilogue(&mut body);
        body.store(value, 2 + more.len(), contiguous(&shape));
        let gemm = Gemm {
            batch: self.batch.clone(),
            m,
            n,
            k,
            a: 0,
            a_layout: self.a.0.clone(),
            b: 1,
            b_layout: self.b.0.clone(),
            epilogue: body.kernel,
        };
        let mut operands = vec![(&a, Access::Read), (&b, Access::Read)];
        operands.extend(more_inputs.iter().map(|input| (input, Access::Read)));
        operands.push((&c, Access::Write));
        plan.dispatch("product", Kernel::Gemm(gemm), &operands);
        let sizes = plan.program.inputs.iter().map(|input| input.ty.shape.numel());
        let inputs = sizes.enumerate().map(|(i, n)| random_f32(n, 20 + i as u32)).collect();
        (plan.program, inputs)
    }
}

/// Checks every variant and the default choice against the interpreter.
///
/// The first adapter checks all cases. Other adapters check one case per variant, because some drivers take seconds to
/// compile a kernel.
fn check_every_variant(name: &str, cases: &[(Program, Vec<HostData>)]) {
    each_adapter(name, |index| {
        let target = open(index, poisoned()).target().clone();
        let fitting = GemmVariant::ALL.into_iter().filter(|variant| variant.fits(&target));
        for (number, gemm) in fitting.map(Some).chain([None]).enumerate() {
            let device = open(index, Options { gemm, ..poisoned() });
            let chosen = |case: &usize| index == 0 || case % cases.len() == number % cases.len();
            for case in (0..cases.len()).filter(chosen) {
                eprintln!("{gemm:?}, case {case}");
                assert_agrees(&device, &cases[case].0, &cases[case].1, 1e-5);
            }
        }
    });
}

fn product(body: &mut Body) -> usize {
    body.push(Instr::Product)
}

#[test]
fn gemms_of_sizes_that_are_not_multiples_of_tiles() {
    check_every_variant("products", &SIZES.map(|size| Case::plain(size).program(DType::F32, &[], product)));
}

/// Tests transposed A and B, A as a block of columns of a wider matrix, and A as a broadcast row.
#[test]
fn transposed_and_strided_factors() {
    let (m, n, k) = (37, 21, 18);
    let (mi, ni, ki) = (m as isize, n as isize, k as isize);
    let a_of = [
        (strided(&[m, k], &[1, mi], 0), m * k),
        (strided(&[m, k], &[2 * ki, 1], ki), 2 * m * k),
        (strided(&[m, k], &[0, 1], 0), k),
    ];
    let b_of = [(strided(&[k, n], &[1, ki], 0), n * k), (strided(&[k, n], &[2 * ni, 2], 1), 2 * k * n)];
    let case = |a: usize, b: usize| {
        let size = [vec![m], vec![n], vec![k]];
        let case = Case { batch: Vec::new(), size, a: a_of[a].clone(), b: b_of[b].clone() };
        case.program(DType::F32, &[], product)
    };
    let cases = [case(0, 0), case(1, 1), case(2, 0)];
    check_every_variant("strided factors", &cases);
}

/// Tests two batch dimensions. A is broadcast along one of them and B along the other.
#[test]
fn batches_that_broadcast() {
    let (m, n, k) = (9, 20, 5);
    let (mi, ni, ki) = (m as isize, n as isize, k as isize);
    let case = Case {
        batch: vec![2, 3],
        size: [vec![m], vec![n], vec![k]],
        a: (strided(&[2, 3, m, k], &[mi * ki, 0, ki, 1], 0), 2 * m * k),
        b: (strided(&[2, 3, k, n], &[0, ki * ni, ni, 1], 0), 3 * k * n),
    };
    check_every_variant("batches", &[case.program(DType::F32, &[], product)]);
}

/// Returns the layout and element count of a tensor viewed through coordinates `offset + Σ step · index[dimension]`.
fn viewed(of: &[usize], shape: &[usize], coordinates: &[(isize, &[(usize, isize)])]) -> (Layout, usize) {
    let affine = |&(offset, terms): &(isize, &[(usize, isize)])| Affine { offset, terms: terms.to_vec() };
    let coordinates = coordinates.iter().map(affine).collect();
    let layout = contiguous(of).apply(&View::Affine { shape: shape.to_vec(), coordinates });
    (layout.expect("the view should fit in a layout"), of.iter().product())
}

/// Returns a layout of windows over channels-last images `[n, h, w, c]`, as `[n, i, j, u, v, c]`.
///
/// There are more rows of windows than any tile has. The windows use padding, and a stride and a dilation in one
/// direction. `first` is prepended to the shape.
fn windows(first: &[usize]) -> (Layout, usize) {
    let shape = [first, &[2, 9, 9, 3, 2, 3]].concat();
    let at = first.len();
    let rows = [(at + 1, 1), (at + 3, 1)];
    let columns = [(at + 2, 2), (at + 4, 3)];
    viewed(&[2, 9, 18, 3], &shape, &[(0, &[(at, 1)]), (-1, &rows), (-2, &columns), (0, &[(at + 5, 1)])])
}

/// Tests a convolution, the gradient of its weight (windows as B), and a transposed convolution of stride 2.
///
/// The transposed convolution is a batched GEMM over the remainders of output positions divided by the stride, with
/// taps in reverse order.
#[test]
fn windows_over_images() {
    let (rows, taps) = (vec![2, 9, 9], vec![3, 2, 3]);
    let weight = (contiguous(&[3, 2, 3, 5]), 90);
    let forward =
        Case { batch: vec![], size: [rows.clone(), vec![5], taps.clone()], a: windows(&[]), b: weight };
    let (image, count) = windows(&[]);
    let gradient = Case {
        batch: vec![],
        size: [vec![5], taps, rows],
        a: (strided(&[5, 2, 9, 9], &[1, 405, 45, 5], 0), 810),
        b: (image, count),
    };
    // [remainder, remainder, n, quotient, quotient, tap, tap, output]
    let backwards = viewed(
        &[2, 4, 5, 3],
        &[2, 2, 2, 5, 6, 2, 2, 3],
        &[(0, &[(2, 1)]), (0, &[(3, 1), (5, -1)]), (1, &[(4, 1), (6, -1)]), (0, &[(7, 1)])],
    );
    // [remainder, remainder, tap, tap, output, channel] of a kernel of 3×4.
    let kernel = viewed(
        &[3, 7, 3, 4],
        &[2, 2, 2, 2, 3, 7],
        &[(0, &[(4, 1)]), (0, &[(5, 1)]), (0, &[(0, 1), (2, 2)]), (0, &[(1, 1), (3, 2)])],
    );
    let transposed =
        Case { batch: vec![2, 2], size: [vec![2, 5, 6], vec![7], vec![2, 2, 3]], a: backwards, b: kernel };
    let cases = [forward, gradient, transposed].map(|case| case.program(DType::F32, &[], product));
    check_every_variant("windows", &cases);
}

/// Tests bounds on rows alone, on depth alone, on batch and rows, on all three, and a bound that never holds.
#[test]
fn bounds_of_any_kind() {
    let b = || (contiguous(&[3, 6, 8]), 144);
    let case = |of: &[usize], coordinates: &[(isize, &[(usize, isize)])]| {
        let a = viewed(of, &[3, 10, 6], coordinates);
        let case = Case { batch: vec![3], size: [vec![10], vec![8], vec![6]], a, b: b() };
        case.program(DType::F32, &[], product)
    };
    let cases = [
        case(&[3, 7, 4], &[(0, &[(0, 1)]), (-2, &[(1, 1)]), (-1, &[(2, 1)])]),
        case(&[4, 6], &[(5, &[(0, -2), (1, -1)]), (0, &[(2, 1)])]),
        case(&[5, 9], &[(-4, &[(0, 2), (1, 1), (2, -1)]), (0, &[(1, 1)])]),
        case(&[3, 7, 4], &[(0, &[(0, 1)]), (-20, &[(1, 1)]), (0, &[(2, 1)])]),
    ];
    check_every_variant("bounds", &cases);
}

/// Tests relu(C + bias) · residual, an epilogue that is short enough to be unrolled.
#[test]
fn bias_and_relu_in_the_epilogue() {
    let cases = [(3, 5, 7), (64, 128, 16), (33, 65, 9)].map(|(m, n, k)| {
        Case::plain((m, n, k)).program(DType::F32, &[&[n], &[m, n]], |body| {
            let product = body.push(Instr::Product);
            let bias = body.load(2, strided(&[m, n], &[0, 1], 0));
            let residual = body.load(3, contiguous(&[m, n]));
            let sum = body.call(&ADD, &[product, bias]);
            let relu = body.call(&RELU, &[sum]);
            body.call(&MUL, &[relu, residual])
        })
    });
    check_every_variant("bias and relu", &cases);
}

/// Tests an epilogue that calls its own function, so that it runs in a loop, and that loads a padded operand.
#[test]
fn epilogues_with_functions_and_padding() {
    let (m, n, k) = (33, 18, 12);
    let padded =
        Layout::strided(&[m, n], vec![n as isize - 2, 1], -1).with_valid_ranges(&[(0, m), (1, n - 1)]);
    let case = Case::plain((m, n, k)).program(DType::F32, &[&[m, n - 2]], |body| {
        let product = body.push(Instr::Product);
        let inner = body.load(2, padded.clone());
        let sum = body.call(&ADD, &[product, inner]);
        body.call(&CUBE, &[sum])
    });
    check_every_variant("heavy epilogue", &[case]);
}

#[test]
fn f16_factors() {
    let case = Case::plain((33, 18, 12)).program(DType::F16, &[], product);
    each_adapter("f16 factors", |index| {
        for variant in GemmVariant::ALL {
            let device = open(index, Options { gemm: Some(variant), ..poisoned() });
            if device.info().limits.f16 {
                assert_agrees(&device, &case.0, &case.1, 1e-5);
            }
        }
    });
}

/// A GEMM without its last step along k must not pass the comparison.
#[test]
#[should_panic(expected = ", expected ")]
fn a_wrong_gemm_fails_the_comparison() {
    let (program, inputs) = Case::plain((3, 5, 7)).program(DType::F32, &[], product);
    let expected = common::interpret::interpret(&program, &inputs, &mut Vec::new());
    let mut short = program.clone();
    let Kernel::Gemm(gemm) = &mut short.dispatches[0].kernel else { unreachable!() };
    gemm.k = vec![6];
    let found = common::interpret::interpret(&short, &inputs, &mut Vec::new());
    let found = HostData::F32(found[0].iter().map(|&x| x as f32).collect());
    common::assert_close("c", &found, &expected[0], 1e-5);
}
