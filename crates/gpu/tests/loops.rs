//! Compares loop kernels with the interpreter, on every adapter, with several workgroup sizes and poisoned outputs.

mod common;

use common::functions::{ADD, CUBE, DIV, EXP, MIX, MUL, SUB, TO_FLOAT};
use common::plan::{Body, Plan, constant, contiguous, strided};
use common::{assert_agrees, each_adapter, open, poisoned, random_f32, random_u32, workgroup_options};
use wgrad_graph::{Combine, DType, Layout};
use wgrad_program::{Access, Buffer, Device, HostData, Instr, Program, TensorRef};

/// Compares a program with the interpreter on every adapter, with several workgroup sizes.
fn check_everywhere(name: &str, program: &Program, inputs: &[HostData], tolerance: f64) {
    each_adapter(name, |index| {
        for options in workgroup_options() {
            eprintln!("{:?}", options.lanes);
            assert_agrees(&open(index, options), program, inputs, tolerance);
        }
    });
}

/// Tests `x[3, 4, 5]` combined with a broadcast vector and a padded slice, stored transposed.
#[test]
fn pointwise_with_broadcast_strides_and_padding() {
    let shape = [3, 4, 5];
    let mut plan = Plan::default();
    let x = plan.input("x", DType::F32, &shape);
    let b = plan.input("b", DType::F32, &[5]);
    let c = plan.input("c", DType::F32, &[2, 3]);
    let y = plan.output("y", DType::F32, &[5, 4, 3]);
    let mut body = Body::over(&shape, &[]);
    let x_value = body.load(0, contiguous(&shape));
    let b_value = body.load(1, strided(&shape, &[0, 0, 1], 0));
    // c[2, 3] padded by one row above and below and one column left and right, broadcast three times.
    let padded = Layout::strided(&shape, vec![0, 3, 1], -4).with_valid_ranges(&[(0, 3), (1, 3), (1, 4)]);
    let c_value = body.load(2, padded);
    let sum = body.call(&ADD, &[x_value, b_value]);
    let cube = body.call(&CUBE, &[c_value]);
    let product = body.call(&MUL, &[sum, cube]);
    let all = body.call(&ADD, &[product, sum]);
    body.store(all, 3, strided(&shape, &[1, 3, 12], 0));
    let operands = [(&x, Access::Read), (&b, Access::Read), (&c, Access::Read), (&y, Access::Write)];
    plan.dispatch("pointwise", body.build(), &operands);
    let inputs = [random_f32(60, 1), random_f32(5, 2), random_f32(6, 3)];
    check_everywhere("pointwise", &plan.program, &inputs, 1e-6);
}

/// Builds a softmax along the last dimension that also outputs the sum of each row.
fn softmax(rows: usize, columns: usize) -> (Program, [HostData; 1]) {
    let shape = [rows, columns];
    let mut plan = Plan::default();
    let x = plan.input("x", DType::F32, &shape);
    let y = plan.output("y", DType::F32, &shape);
    let total = plan.output("total", DType::F32, &[rows]);
    let mut body = Body::over(&[rows], &[columns]);
    let value = body.load(0, contiguous(&shape));
    let max = body.push(Instr::Reduce(Combine::Max, value));
    let less = body.call(&SUB, &[value, max]);
    let exp = body.call(&EXP, &[less]);
    let sum = body.push(Instr::Reduce(Combine::Sum, exp));
    let fraction = body.call(&DIV, &[exp, sum]);
    body.store(fraction, 1, contiguous(&shape));
    body.store(sum, 2, contiguous(&[rows]));
    plan.dispatch(
        "softmax",
        body.build(),
        &[(&x, Access::Read), (&y, Access::Write), (&total, Access::Write)],
    );
    (plan.program, [random_f32(rows * columns, 4)])
}

#[test]
fn softmax_stores_elements_and_rows() {
    for (rows, columns) in [(1, 1), (7, 33), (130, 5), (3, 1000)] {
        let (program, inputs) = softmax(rows, columns);
        check_everywhere("softmax", &program, &inputs, 1e-5);
    }
}

/// Tests sums, maxima and minima along the columns of a matrix, and long sums.
#[test]
fn reductions_along_any_dimension() {
    for (rows, columns) in [(5, 70), (97, 3), (1, 40_000)] {
        let mut plan = Plan::default();
        let x = plan.input("x", DType::F32, &[columns, rows]);
        let outputs = ["sum", "max", "min"].map(|name| plan.output(name, DType::F32, &[rows]));
        let mut body = Body::over(&[rows], &[columns]);
        let value = body.load(0, strided(&[rows, columns], &[1, rows as isize], 0));
        for (i, combine) in [Combine::Sum, Combine::Max, Combine::Min].into_iter().enumerate() {
            let result = body.push(Instr::Reduce(combine, value));
            body.store(result, i + 1, contiguous(&[rows]));
        }
        let [sum, max, min] = &outputs;
        let operands = [(&x, Access::Read), (sum, Access::Write), (max, Access::Write), (min, Access::Write)];
        plan.dispatch("columns", body.build(), &operands);
        check_everywhere("columns", &plan.program, &[random_f32(rows * columns, 5)], 2e-5);
    }
}

/// Tests elements with NaN and infinities: the first NaN wins, otherwise the first of equal maxima.
#[test]
fn argmax_returns_the_first_maximum_and_nan_wins() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let rows: [[f32; 5]; 7] = [
        [1.0, 3.0, 3.0, 2.0, 3.0],
        [1.0, nan, 3.0, nan, inf],
        [-inf, -inf, -inf, -inf, -inf],
        [-5.0, -4.0, -inf, -4.0, -6.0],
        [nan, nan, nan, nan, nan],
        [0.0, 1.0, 2.0, 3.0, nan],
        [inf, inf, 0.0, -1.0, inf],
    ];
    let mut plan = Plan::default();
    let x = plan.input("x", DType::F32, &[7, 5]);
    let index = plan.output("argmax", DType::U32, &[7]);
    let (max, min) = (plan.output("max", DType::F32, &[7]), plan.output("min", DType::F32, &[7]));
    let mut body = Body::over(&[7], &[5]);
    let value = body.load(0, contiguous(&[7, 5]));
    for (i, combine) in [Combine::ArgMax, Combine::Max, Combine::Min].into_iter().enumerate() {
        let result = body.push(Instr::Reduce(combine, value));
        body.store(result, i + 1, contiguous(&[7]));
    }
    let operands =
        [(&x, Access::Read), (&index, Access::Write), (&max, Access::Write), (&min, Access::Write)];
    plan.dispatch("argmax", body.build(), &operands);
    let inputs = [HostData::F32(rows.concat())];
    check_everywhere("argmax", &plan.program, &inputs, 0.0);
    each_adapter("argmax by hand", |adapter| {
        let mut session = open(adapter, poisoned()).session(&plan.program.states).unwrap();
        let id = session.load(&plan.program).unwrap();
        session.run(id, &[inputs[0].as_data()]).unwrap();
        assert_eq!(session.output(id, 0).unwrap(), HostData::U32(vec![1, 1, 0, 1, 0, 4, 0]));
    });
}

#[test]
fn gather_out_of_range_returns_nan_or_zero() {
    let mut plan = Plan::default();
    let table = plan.input("table", DType::F32, &[4, 3]);
    let labels = plan.input("labels", DType::U32, &[4]);
    let index = plan.input("index", DType::U32, &[6]);
    let rows = plan.output("rows", DType::F32, &[6, 3]);
    let picked = plan.output("picked", DType::U32, &[6, 3]);
    let shape = [6, 3];
    let mut body = Body::over(&shape, &[]);
    let at = body.load(2, strided(&shape, &[1, 0], 0));
    let row = body.push(Instr::Gather {
        operand: 0,
        layout: strided(&shape, &[0, 1], 0),
        index: at,
        stride: 3,
        bound: 4,
    });
    let label =
        body.push(Instr::Gather { operand: 1, layout: constant(&shape), index: at, stride: 1, bound: 4 });
    body.store(row, 3, contiguous(&shape));
    body.store(label, 4, contiguous(&shape));
    let read = Access::Read;
    let operands =
        [(&table, read), (&labels, read), (&index, read), (&rows, Access::Write), (&picked, Access::Write)];
    plan.dispatch("gather", body.build(), &operands);
    let index = HostData::U32(vec![0, 3, 4, u32::MAX, 2, 1]);
    check_everywhere("gather", &plan.program, &[random_f32(12, 6), random_u32(4, 100, 7), index], 0.0);
}

/// Tests a reduction over gathered elements, as in the cross-entropy of a label.
#[test]
fn gather_inside_a_reduction() {
    let mut plan = Plan::default();
    let table = plan.input("table", DType::F32, &[50, 3]);
    let index = plan.input("index", DType::U32, &[9, 40]);
    let sums = plan.output("sums", DType::F32, &[9, 3]);
    let shape = [9, 3, 40];
    let mut body = Body::over(&[9, 3], &[40]);
    let at = body.load(1, strided(&shape, &[40, 0, 1], 0));
    let value = body.push(Instr::Gather {
        operand: 0,
        layout: strided(&shape, &[0, 1, 0], 0),
        index: at,
        stride: 3,
        bound: 50,
    });
    let sum = body.push(Instr::Reduce(Combine::Sum, value));
    body.store(sum, 2, contiguous(&[9, 3]));
    plan.dispatch(
        "sums",
        body.build(),
        &[(&table, Access::Read), (&index, Access::Read), (&sums, Access::Write)],
    );
    check_everywhere("gathered sums", &plan.program, &[random_f32(150, 8), random_u32(360, 50, 9)], 1e-5);
}

/// Tests floats, u32 values, positions, calls with u32 arguments, and non-finite constants.
#[test]
fn constants_iotas_and_u32_values() {
    let shape = [4, 6];
    let mut plan = Plan::default();
    let seed = plan.input("seed", DType::U32, &[2]);
    let names = ["mixed", "nan", "infinity", "negative infinity", "tiny", "negative zero", "tenth"];
    let outputs = names.map(|name| plan.output(name, DType::F32, &shape));
    let position = plan.output("position", DType::U32, &shape);
    let mut body = Body::over(&shape, &[]);
    let (low, high) = (body.load(0, constant(&shape)), body.load(0, strided(&shape, &[0, 0], 1)));
    let iota = body.push(Instr::Iota(strided(&shape, &[10, 1], 3)));
    let (stream, step) = (body.push(Instr::U32(17)), body.push(Instr::U32(u32::MAX)));
    let mixed = body.call(&MIX, &[iota, low, high, stream, step]);
    body.store(mixed, 1, contiguous(&shape));
    let floats = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-38, -0.0, 0.1];
    for (i, x) in floats.into_iter().enumerate() {
        let constant = body.push(Instr::Float(x));
        let float = body.call(&TO_FLOAT, &[iota]);
        // This value is known only at run time, so that the constant is not folded away.
        let zero = body.call(&SUB, &[float, float]);
        let sum = body.call(&ADD, &[constant, zero]);
        body.store(sum, i + 2, contiguous(&shape));
    }
    body.store(iota, 8, contiguous(&shape));
    let mut operands = vec![(&seed, Access::Read)];
    operands.extend(outputs.iter().map(|output| (output, Access::Write)));
    operands.push((&position, Access::Write));
    plan.dispatch("constants", body.build(), &operands);
    let inputs = [HostData::U32(vec![123_456_789, 987_654_321])];
    check_everywhere("constants", &plan.program, &inputs, 1e-6);
}

/// Tests a domain of more than 65,535 workgroups.
#[test]
fn a_domain_of_more_than_65535_workgroups() {
    let n = 65_535 * 64 + 77;
    let mut plan = Plan::default();
    let y = plan.output("y", DType::U32, &[n]);
    let mut body = Body::over(&[n], &[]);
    let iota = body.push(Instr::Iota(contiguous(&[n])));
    body.store(iota, 0, contiguous(&[n]));
    plan.dispatch("many", body.build(), &[(&y, Access::Write)]);
    let program = plan.program;
    each_adapter("many groups", |index| {
        let mut session = open(index, poisoned()).session(&program.states).unwrap();
        let id = session.load(&program).unwrap();
        session.run(id, &[]).unwrap();
        let HostData::U32(found) = session.output(id, 0).unwrap() else {
            panic!("the output should be a u32 tensor")
        };
        assert!(found.iter().enumerate().all(|(i, &x)| x == i as u32));
    });
}

/// Tests more than 65,535 rows with several lanes each, which needs a bounds check in a split grid with barriers.
#[test]
fn more_than_65535_workgroups_with_lanes() {
    let rows = 65_536;
    let mut plan = Plan::default();
    let x = plan.input("x", DType::F32, &[16]);
    let y = plan.output("y", DType::F32, &[rows]);
    let mut body = Body::over(&[rows], &[16]);
    let value = body.load(0, strided(&[rows, 16], &[0, 1], 0));
    let iota = body.push(Instr::Iota(strided(&[rows, 16], &[1, 0], 0)));
    let scale = body.call(&TO_FLOAT, &[iota]);
    let scaled = body.call(&MUL, &[value, scale]);
    let sum = body.push(Instr::Reduce(Combine::Sum, scaled));
    body.store(sum, 1, contiguous(&[rows]));
    plan.dispatch("lanes", body.build(), &[(&x, Access::Read), (&y, Access::Write)]);
    let inputs = [random_f32(16, 10)];
    each_adapter("many groups with lanes", |index| {
        let lanes = Some(wgrad_gpu::Lanes { rows: 1, lanes: 4 });
        assert_agrees(&open(index, wgrad_gpu::Options { lanes, ..poisoned() }), &plan.program, &inputs, 1e-4);
    });
}

/// Tests loads and stores of f16 tensors with an odd number of elements, in one kernel with f32.
#[test]
fn f16_tensors_are_loaded_and_stored() {
    let n = 37;
    let mut plan = Plan::default();
    let x = plan.input("x", DType::F16, &[n]);
    let half = plan.scratch(DType::F16, &[n]);
    let y = plan.output("y", DType::F32, &[n]);
    for (from, to) in [(&x, &half), (&half, &y)] {
        let mut body = Body::over(&[n], &[]);
        let value = body.load(0, contiguous(&[n]));
        let square = body.call(&MUL, &[value, value]);
        body.store(square, 1, contiguous(&[n]));
        plan.dispatch("square", body.build(), &[(from, Access::Read), (to, Access::Write)]);
    }
    each_adapter("f16", |index| {
        let device = open(index, poisoned());
        if device.info().limits.f16 {
            assert_agrees(&device, &plan.program, &[random_f32(n, 11)], 1e-3);
        } else {
            let error = device.session(&plan.program.states).unwrap().load(&plan.program).unwrap_err();
            assert!(matches!(error, wgrad_program::DeviceError::Unsupported { .. }), "{error}");
        }
    });
}

/// Tests two tensors in one buffer, of which one is read and one is written. Both must be bound read-write.
#[test]
fn a_buffer_read_and_written_in_one_dispatch() {
    let n = 64;
    let mut plan = Plan::default();
    let x = plan.input("x", DType::F32, &[n]);
    let y = plan.output("y", DType::F32, &[n]);
    plan.program.slabs.push(512);
    let part = |offset| TensorRef { buffer: Buffer::Slab(0), offset, elements: n, dtype: DType::F32 };
    let (first, second) = (part(0), part(256));
    for (from, to) in [(&x, &first), (&first, &second), (&second, &y)] {
        let mut body = Body::over(&[n], &[]);
        let value = body.load(0, contiguous(&[n]));
        let sum = body.call(&ADD, &[value, value]);
        body.store(sum, 1, contiguous(&[n]));
        plan.dispatch("double", body.build(), &[(from, Access::Read), (to, Access::Write)]);
    }
    check_everywhere("one buffer", &plan.program, &[random_f32(n, 12)], 0.0);
}
