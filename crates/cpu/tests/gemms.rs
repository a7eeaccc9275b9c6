//! Matrix products against plain loops in f64: strides, batches, element types and epilogues.

mod common;

use common::build::{Case, assert_close};
use common::naive;
use common::random::Generator;
use common::{ADD, MID, RELU};
use wgrad_cpu::Precision;
use wgrad_graph::{DType, Layout};
use wgrad_program::*;

/// A factor of this shape, perhaps transposed, perhaps repeated along the batch, in f32 or f16.
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
        // The product alone, wherever it goes.
        0 => {
            let (operand, layout) = written(&mut case, &mut generator, DType::F32, &mut operands);
            stores.push(Store { value: 0, operand, layout });
        }
        // Bias and activation; the product before the activation is stored too.
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
        // Into f16 only.
        2 => {
            let (operand, layout) = written(&mut case, &mut generator, DType::F16, &mut operands);
            stores.push(Store { value: 0, operand, layout });
        }
        // A residual updated in place: the product has nowhere to go but scratch memory.
        3 => {
            let (layout, n) = generator.layout(&domain, false, false);
            let values = generator.floats(n);
            operands.push((case.group(values), Access::ReadWrite));
            body.push(Instr::Load { operand: 2, layout: layout.clone() });
            body.push(Instr::Call(&MID, vec![1, 0]));
            stores.push(Store { value: 2, operand: 2, layout });
        }
        // The product itself and something made of it.
        _ => {
            body.push(Instr::Call(&RELU, vec![0]));
            for value in [0, 1] {
                let (operand, layout) = written(&mut case, &mut generator, DType::F32, &mut operands);
                stores.push(Store { value, operand, layout });
            }
        }
    }
    let epilogue = Loop { outer: domain.clone(), inner: Vec::new(), body, stores: stores.clone() };
    let kernel = Gemm { batch, m, n, k, a: 0, a_layout, b: 1, b_layout, epilogue };
    case.dispatch(Kernel::Gemm(kernel), operands.clone());
    for store in stores.into_iter().filter(|store| operands[store.operand].1 == Access::Write) {
        let (from, layout) = (operands[store.operand].0.clone(), store.layout);
        let to = case.output(from.dtype, layout.numel());
        let body = vec![Instr::Load { operand: 0, layout }];
        let kernel = common::build::looped(&domain, &[], body, vec![common::build::store(0, 1, &domain)]);
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
