//! Matrix products compared with plain loops in f64. The tests vary strides, batches, element types and epilogues.

mod common;

use common::build::{Case, assert_close};
use common::naive;
use common::random::Generator;
use common::{ADD, MID, RELU};
use wgrad_cpu::Precision;
use wgrad_graph::{Affine, DType, Layout, View};
use wgrad_program::*;

/// Creates a factor of shape batch ++ [rows, columns] in f32 or f16. It may be transposed, or broadcast along the
/// batch.
fn factor(
    generator: &mut Generator,
    case: &mut Case,
    batch: &[usize],
    rows: usize,
    columns: usize,
) -> (TensorRef, Layout) {
    let shape = [batch, &[rows, columns]].concat();
    let mut stored = shape.clone();
    let repeated = generator.below(3) == 0;
    if repeated {
        stored[..batch.len()].fill(1);
    }
    let transposed = generator.below(2) == 0;
    let rank = shape.len();
    if transposed {
        stored.swap(rank - 2, rank - 1);
    }
    let mut layout = Layout::contiguous(&stored);
    if transposed {
        let mut axes: Vec<usize> = (0..rank).collect();
        axes.swap(rank - 2, rank - 1);
        layout = layout.permute(&axes);
    }
    layout.shape = shape;
    let gap = generator.below(3) as isize;
    layout.offset = gap;
    let values = generator.floats(stored.iter().product::<usize>() + gap as usize);
    let dtype = generator.pick(&[DType::F32, DType::F32, DType::F16]);
    (case.input(dtype, values), layout)
}

fn case(seed: u64) -> Case {
    let mut generator = Generator::new(seed);
    let mut case = Case::default();
    let sizes = [1, 2, 3, 8, 17, 33, 64];
    let batch: Vec<usize> = (0..generator.below(3)).map(|_| generator.pick(&[1, 2, 3])).collect();
    let (m, n, k) = (generator.pick(&sizes), generator.pick(&sizes), generator.pick(&sizes));
    let domain = [batch.as_slice(), &[m, n]].concat();
    let (a, a_layout) = factor(&mut generator, &mut case, &batch, m, k);
    let (b, b_layout) = factor(&mut generator, &mut case, &batch, k, n);
    let mut operands = vec![(a, Access::Read), (b, Access::Read)];
    let mut body = vec![Instr::Product];
    let mut stores = Vec::new();
    let written = |case: &mut Case, generator: &mut Generator, dtype, operands: &mut Vec<_>| {
        let (layout, n) = generator.layout(&domain, false, false);
        operands.push((case.slab(dtype, n), Access::Write));
        (operands.len() - 1, layout)
    };
    match generator.below(5) {
        // Stores only the product, in any layout.
        0 => {
            let (operand, layout) = written(&mut case, &mut generator, DType::F32, &mut operands);
            stores.push(Store { value: 0, operand, layout });
        }
        // Adds a bias and applies an activation. The value before the activation is stored too.
        1 => {
            let bias = generator.floats(n);
            operands.push((case.input(DType::F32, bias), Access::Read));
            let mut layout = Layout::contiguous(&domain);
            layout.strides[..domain.len() - 1].fill(0);
            body.push(Instr::Load { operand: 2, layout });
            body.push(Instr::Call(&ADD, vec![0, 1]));
            body.push(Instr::Call(&RELU, vec![2]));
            for value in [3, 2] {
                let (operand, layout) = written(&mut case, &mut generator, DType::F32, &mut operands);
                stores.push(Store { value, operand, layout });
            }
        }
        // Stores the product in f16 only.
        2 => {
            let (operand, layout) = written(&mut case, &mut generator, DType::F16, &mut operands);
            stores.push(Store { value: 0, operand, layout });
        }
        // Updates a residual in place. No tensor can then hold the product, so it must be written to scratch memory.
        3 => {
            let (layout, n) = generator.layout(&domain, false, false);
            let values = generator.floats(n);
            operands.push((case.group(values), Access::ReadWrite));
            body.push(Instr::Load { operand: 2, layout: layout.clone() });
            body.push(Instr::Call(&MID, vec![1, 0]));
            stores.push(Store { value: 2, operand: 2, layout });
        }
        // Stores the product itself and a value computed from it.
        _ => {
            body.push(Instr::Call(&RELU, vec![0]));
            for value in [0, 1] {
                let (operand, layout) = written(&mut case, &mut generator, DType::F32, &mut operands);
                stores.push(Store { value, operand, layout });
            }
        }
    }
    let epilogue = Loop { outer: domain.clone(), inner: Vec::new(), body, stores: stores.clone() };
    let kernel = Gemm { batch, m: vec![m], n: vec![n], k: vec![k], a: 0, a_layout, b: 1, b_layout, epilogue };
    case.dispatch(Kernel::Gemm(kernel), operands.clone());
    for store in stores.into_iter().filter(|store| operands[store.operand].1 == Access::Write) {
        let (from, layout) = (operands[store.operand].0.clone(), store.layout);
        let to = case.output(from.dtype, layout.numel());
        let body = vec![Instr::Load { operand: 0, layout }];
        let kernel =
            common::build::loop_kernel(&domain, &[], body, vec![common::build::store(0, 1, &domain)]);
        case.dispatch(kernel, vec![(from, Access::Read), (to, Access::Write)]);
    }
    case
}

#[test]
fn random_products_agree_with_plain_loops() {
    for seed in 0..400 {
        let case = case(seed);
        let (expected, state) = naive::run(&case);
        for (precision, tolerance) in [(Precision::F32, 2e-5), (Precision::F64, 2e-7)] {
            let (found, found_state) = case.run(precision);
            for (i, (found, expected)) in
                found.iter().chain(&found_state).zip(expected.iter().chain(&state)).enumerate()
            {
                let outputs = &case.program.outputs;
                let half = outputs.get(i).is_some_and(|output| output.tensor.dtype == DType::F16);
                let tolerance = if half { tolerance + 1e-3 } else { tolerance };
                let what =
                    format!("seed {seed}, {precision:?}, result {i} of {:?}", case.program.dispatches[0]);
                assert_close(found, expected, tolerance, &what);
            }
        }
    }
}

/// Creates padded windows over images `[n, h, w, c]`, stored in this order or as `[n, c, h, w]`. The windows have the
/// shape batch ++ pixels ++ (kernel and channel). Returns the tensor, the layout of the windows, and the two parts of
/// their shape.
fn windows(
    generator: &mut Generator,
    case: &mut Case,
    channels: usize,
) -> (TensorRef, Layout, [Vec<usize>; 2]) {
    let (stride, dilation, padding) = (1 + generator.below(2), 1 + generator.below(2), generator.below(3));
    let kernel = generator.pick(&[1, 3, 3]);
    let size = 17;
    let out = (size + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1;
    let stored = if generator.below(2) == 0 { [2, size, size, channels] } else { [2, channels, size, size] };
    let mut image = Layout::contiguous(&stored);
    if stored[1] == channels {
        image = image.permute(&[0, 2, 3, 1]);
    }
    let at = |out: usize, tap: usize| Affine {
        offset: -(padding as isize),
        terms: vec![(out, stride as isize), (tap, dilation as isize)],
    };
    let same = |dim: usize| Affine { offset: 0, terms: vec![(dim, 1)] };
    let view = View::Affine {
        shape: vec![2, out, out, kernel, kernel, channels],
        coordinates: vec![same(0), at(1, 3), at(2, 4), same(5)],
    };
    let layout = image.apply(&view).expect("windows need no copy");
    let values = generator.floats(stored.iter().product());
    (case.input(DType::F32, values), layout, [vec![2, out, out], vec![kernel, kernel, channels]])
}

/// Convolutions and their gradients are products in which one factor consists of windows. Some cases have large
/// factors that are packed block by block, either as A or as B. Other cases have factors small enough to be copied.
#[test]
fn products_with_windows_agree_with_plain_loops() {
    let mut packed = 0;
    for seed in 0..40 {
        let mut generator = Generator::new(1000 + seed);
        let mut case = Case::default();
        let channels = generator.pick(&[2, 33, 64]);
        let (image, layout, [pixels, taps]) = windows(&mut generator, &mut case, channels);
        packed += usize::from(layout.numel() > 1 << 17);
        let other = vec![generator.pick(&[1, 3, 8])];
        let as_a = generator.below(2) == 0;
        let (m, n, k) = if as_a { (pixels, other, taps) } else { (other, taps, pixels) };
        let shape = if as_a { [k.as_slice(), &n].concat() } else { [m.as_slice(), &k].concat() };
        let values = generator.floats(shape.iter().product());
        let matrix = (case.input(DType::F32, values), Layout::contiguous(&shape));
        let domain = [m.as_slice(), &n].concat();
        // The result is stored with its dimensions in any order.
        let (stored, elements) = generator.layout(&domain, false, false);
        let slab = case.slab(DType::F32, elements);
        let store = Store { value: 0, operand: 2, layout: stored.clone() };
        let epilogue = Loop {
            outer: domain.clone(),
            inner: Vec::new(),
            body: vec![Instr::Product],
            stores: vec![store],
        };
        let ((a, a_layout), (b, b_layout)) =
            if as_a { ((image, layout), matrix) } else { (matrix, (image, layout)) };
        let kernel = Gemm { batch: Vec::new(), m, n, k, a: 0, a_layout, b: 1, b_layout, epilogue };
        case.dispatch(
            Kernel::Gemm(kernel),
            vec![(a, Access::Read), (b, Access::Read), (slab.clone(), Access::Write)],
        );
        let to = case.output(DType::F32, domain.iter().product());
        let body = vec![Instr::Load { operand: 0, layout: stored }];
        let copy = common::build::loop_kernel(&domain, &[], body, vec![common::build::store(0, 1, &domain)]);
        case.dispatch(copy, vec![(slab, Access::Read), (to, Access::Write)]);
        let (expected, _) = naive::run(&case);
        for (precision, tolerance) in [(Precision::F32, 2e-5), (Precision::F64, 2e-7)] {
            let (found, _) = case.run(precision);
            assert_close(&found[0], &expected[0], tolerance, &format!("seed {seed}, {precision:?}"));
        }
    }
    assert!(packed >= 5, "only {packed} of the cases were large enough to be packed");
}
