//! Behaviour of a session beyond single kernels: state, records, memory and errors. Results must be bit-identical for
//! any number of threads.

mod common;

use common::build::{Case, assert_close, load, loop_kernel, operands, store};
use common::random::Generator;
use common::{ADD, DIV, FULL_EXP, MUL, SQRT, SUB};
use wgrad_cpu::{CpuDevice, Precision};
use wgrad_graph::philox::Stream;
use wgrad_graph::{Combine, DType, GroupId, Layout, States};
use wgrad_program::*;

/// A layout over `shape` with these strides.
fn strided(shape: &[usize], strides: &[isize]) -> Layout {
    Layout::strided(shape, strides.to_vec(), 0)
}

fn reduced(combine: Combine, rows: &[Vec<f32>], dtype: DType) -> HostData {
    let mut case = Case::default();
    let (n, m) = (rows.len(), rows[0].len());
    let from = case.input(DType::F32, HostData::F32(rows.concat()));
    let to = case.output(dtype, n);
    let body = vec![load(0, &[n, m]), Instr::Reduce(combine, 0)];
    case.dispatch(loop_kernel(&[n], &[m], body, vec![store(1, 1, &[n])]), operands(&[&from], &[&to]));
    case.run(Precision::F32).0.remove(0)
}

fn bits(data: &HostData) -> Vec<u32> {
    match data {
        HostData::F32(values) => values.iter().map(|x| x.to_bits()).collect(),
        HostData::U32(values) => values.clone(),
    }
}

#[test]
fn reductions_propagate_nan_and_argmax_takes_the_first() {
    let nan = f32::NAN;
    // With 3 columns, the lanes run along the rows. With 200 columns, the lanes run along the columns.
    for width in [3, 200] {
        let row = |first: &[f32], fill: f32| {
            let mut row = first.to_vec();
            row.resize(width, fill);
            row
        };
        let rows: Vec<Vec<f32>> = vec![
            row(&[1.0, 5.0, 5.0], 0.0),
            row(&[1.0, nan, 5.0], 0.0),
            row(&[nan, nan, f32::INFINITY], 0.0),
            row(&[], f32::NEG_INFINITY),
            row(&[-2.0, -1.0], -3.0),
        ];
        let repeated: Vec<Vec<f32>> =
            rows.iter().cycle().take(if width == 3 { 500 } else { 5 }).cloned().collect();
        let check = |combine, expected: [f64; 5], dtype| {
            let expected: Vec<f64> = expected.into_iter().cycle().take(repeated.len()).collect();
            assert_close(
                &reduced(combine, &repeated, dtype),
                &expected,
                0.0,
                &format!("{combine:?}, {width} columns"),
            );
        };
        let infinite = f64::NEG_INFINITY;
        check(Combine::ArgMax, [1.0, 1.0, 0.0, 0.0, 1.0], DType::U32);
        check(Combine::Max, [5.0, f64::NAN, f64::NAN, infinite, -1.0], DType::F32);
        let least = |x: f64| if width == 3 { x } else { x.min(0.0) };
        check(Combine::Min, [least(1.0), f64::NAN, f64::NAN, infinite, -3.0], DType::F32);
    }
}

#[test]
fn out_of_range_gathers_give_nan_or_zero() {
    let mut case = Case::default();
    let table = case.input(DType::F32, HostData::F32(vec![1.0, 2.0, 3.0, 4.0]));
    let u32_table = case.input(DType::U32, HostData::U32(vec![7, 8, 9, 10]));
    let index = case.input(DType::U32, HostData::U32(vec![1, 2, 0, u32::MAX]));
    let (floats_to, u32_to) = (case.output(DType::F32, 8), case.output(DType::U32, 8));
    let row = strided(&[4, 2], &[0, 1]);
    let gather = |operand| Instr::Gather { operand, layout: row.clone(), index: 0, stride: 2, bound: 2 };
    let body = vec![Instr::Load { operand: 2, layout: strided(&[4, 2], &[1, 0]) }, gather(0), gather(1)];
    let kernel = loop_kernel(&[4, 2], &[], body, vec![store(1, 3, &[4, 2]), store(2, 4, &[4, 2])]);
    case.dispatch(kernel, operands(&[&table, &u32_table, &index], &[&floats_to, &u32_to]));
    for precision in [Precision::F32, Precision::F64] {
        let (found, _) = case.run(precision);
        let nan = f64::NAN;
        assert_close(&found[0], &[3.0, 4.0, nan, nan, 1.0, 2.0, nan, nan], 0.0, "floats");
        assert_close(&found[1], &[9.0, 10.0, 0.0, 0.0, 7.0, 8.0, 0.0, 0.0], 0.0, "u32 elements");
    }
}

/// Sums of many values of the same sign. Sequential addition in f32 would have an error of 1e-3.
#[test]
fn long_sums_are_accurate_in_both_directions() {
    let mut random = Stream::new(5, 0);
    let n = 1 << 20;
    let values: Vec<f32> = (0..n).map(|_| 0.1 + random.uniform()).collect();
    for rows in [1, 4, 256] {
        let columns = n / rows;
        for down in [false, true] {
            let strides: [isize; 2] = if down { [1, rows as isize] } else { [columns as isize, 1] };
            let mut case = Case::default();
            let from = case.input(DType::F32, HostData::F32(values.clone()));
            let to = case.output(DType::F32, rows);
            let body = vec![
                Instr::Load { operand: 0, layout: strided(&[rows, columns], &strides) },
                Instr::Reduce(Combine::Sum, 0),
            ];
            case.dispatch(
                loop_kernel(&[rows], &[columns], body, vec![store(1, 1, &[rows])]),
                operands(&[&from], &[&to]),
            );
            let at =
                |r: usize, c: usize| f64::from(values[r * strides[0] as usize + c * strides[1] as usize]);
            let expected: Vec<f64> = (0..rows).map(|r| (0..columns).map(|c| at(r, c)).sum()).collect();
            let found = case.run(Precision::F32).0[0].to_f32();
            for (&x, &y) in found.iter().zip(&expected) {
                let error = (f64::from(x) - y).abs() / y;
                assert!(
                    error < 2e-7,
                    "{rows} rows, down {down}: {x}, expected {y}, relative error {error:e}"
                );
            }
        }
    }
}

/// A program with normalized rows, column sums, a global norm and a matrix product. The results of all these
/// computations depend on the order of addition.
fn order_sensitive(seed: u64) -> Case {
    let mut generator = Generator::new(seed);
    let mut case = Case::default();
    let (n, m) = (generator.pick(&[3, 300, 513]), generator.pick(&[700, 1000]));
    let values = generator.floats(n * m);
    let x = case.input(DType::F32, values);
    let softmax = case.output(DType::F32, n * m);
    let body = vec![
        load(0, &[n, m]),
        Instr::Reduce(Combine::Max, 0),
        Instr::Call(&SUB, vec![0, 1]),
        Instr::Call(&FULL_EXP, vec![2]),
        Instr::Reduce(Combine::Sum, 3),
        Instr::Call(&DIV, vec![3, 4]),
    ];
    case.dispatch(loop_kernel(&[n], &[m], body, vec![store(5, 1, &[n, m])]), operands(&[&x], &[&softmax]));
    let sums = case.output(DType::F32, m);
    let down = Instr::Load { operand: 0, layout: strided(&[m, n], &[1, m as isize]) };
    let body = vec![down, Instr::Reduce(Combine::Sum, 0)];
    case.dispatch(loop_kernel(&[m], &[n], body, vec![store(1, 1, &[m])]), operands(&[&x], &[&sums]));
    let norm = case.output(DType::F32, 1);
    let body = vec![
        load(0, &[n, m]),
        Instr::Call(&MUL, vec![0, 0]),
        Instr::Reduce(Combine::Sum, 1),
        Instr::Call(&SQRT, vec![2]),
    ];
    case.dispatch(loop_kernel(&[], &[n, m], body, vec![store(3, 1, &[])]), operands(&[&x], &[&norm]));
    // The sum cancels to a small remainder, which depends on the last bit of every partial sum.
    let mut balanced = generator.floats(100_000).to_f32();
    balanced.extend(balanced.clone().iter().rev().map(|x| -x));
    generator.random.shuffle(&mut balanced);
    let y = case.input(DType::F32, HostData::F32(balanced));
    let rest = case.output(DType::F32, 1);
    // The values are cubed, because sums of the values themselves are exact in f64.
    let square = Instr::Call(&MUL, vec![0, 0]);
    let body =
        vec![load(0, &[200_000]), square, Instr::Call(&MUL, vec![0, 1]), Instr::Reduce(Combine::Sum, 2)];
    case.dispatch(loop_kernel(&[], &[200_000], body, vec![store(3, 1, &[])]), operands(&[&y], &[&rest]));
    let product = case.output(DType::F32, n * n);
    let epilogue = Loop {
        outer: vec![n, n],
        inner: vec![],
        body: vec![Instr::Product],
        stores: vec![store(0, 1, &[n, n])],
    };
    let kernel = Gemm {
        batch: vec![],
        m: vec![n],
        n: vec![n],
        k: vec![m],
        a: 0,
        a_layout: Layout::contiguous(&[n, m]),
        b: 0,
        b_layout: strided(&[m, n], &[1, m as isize]),
        epilogue,
    };
    case.dispatch(Kernel::Gemm(kernel), operands(&[&x], &[&product]));
    case
}

#[test]
fn results_are_bit_identical_on_any_number_of_threads() {
    for seed in 0..6 {
        let case = order_sensitive(seed);
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| {
                let both = [Precision::F32, Precision::F64].map(|precision| case.run(precision).0);
                both.iter().flatten().map(bits).collect::<Vec<_>>()
            })
        };
        let one = on(1);
        assert!(one == on(2), "2 threads, seed {seed}");
        assert!(one == on(4), "4 threads, seed {seed}");
    }
}

/// A counter in the state. Each run adds the input to the counter. The value of the counter is a scalar output.
fn counter() -> Case {
    let mut case = Case::default();
    let count = case.group(HostData::F32(vec![10.0]));
    let step = case.input(DType::F32, HostData::F32(vec![2.0]));
    let (value_out, wide) = (case.output(DType::F32, 1), case.output(DType::F32, 3));
    let body = vec![load(0, &[]), load(1, &[]), Instr::Call(&ADD, vec![0, 1])];
    let mut bound = vec![(count.clone(), Access::ReadWrite)];
    bound.extend(operands(&[&step], &[&value_out]));
    case.dispatch(loop_kernel(&[], &[], body, vec![store(2, 0, &[]), store(2, 2, &[])]), bound);
    let body = vec![Instr::Load { operand: 0, layout: strided(&[3], &[0]) }];
    case.dispatch(loop_kernel(&[3], &[], body, vec![store(0, 1, &[3])]), operands(&[&count], &[&wide]));
    case
}

#[test]
fn state_persists_and_records_number_the_runs() {
    for precision in [Precision::F32, Precision::F64] {
        let (mut session, id) = counter().session(precision);
        for _ in 0..3 {
            session.run(id, &[Data::F32(&[2.0])]).expect("a successful run");
        }
        let values =
            |records: &[Record]| records.iter().map(|r| (r.run, r.values.clone())).collect::<Vec<_>>();
        let records = session.records(id, true).expect("records");
        assert_eq!(values(&records), [(0, vec![12.0]), (1, vec![14.0]), (2, vec![16.0])]);
        session.run(id, &[Data::F32(&[-1.0])]).expect("a successful run");
        assert_eq!(values(&session.records(id, false).expect("records")), [(3, vec![15.0])]);
        assert_eq!(session.output(id, 1).expect("output"), HostData::F32(vec![15.0; 3]));
        let group = session.read_group(GroupId(0)).expect("group").to_f32();
        assert_eq!((group[0], &group[1..]), (15.0, [0.0; 63].as_slice()));
    }
}

#[test]
fn profiled_runs_compute_the_same_and_time_every_dispatch() {
    let program = counter().program;
    let input = [Data::F32(&[2.0])];
    let device = CpuDevice::new();
    let [plain, profiled] = [false, true].map(|profile| {
        let mut session = device.session(&program.states).unwrap();
        let id = session.load(&program).unwrap();
        for _ in 0..4 {
            if !profile {
                session.run(id, &input).unwrap();
                continue;
            }
            let profile = session.profile(id, &input).unwrap();
            assert_eq!(profile.clock, Clock::Host);
            assert_eq!(profile.dispatches.len(), program.dispatches.len());
            let [upload, run] = profile.host.as_slice() else { panic!("{:?}", profile.host) };
            assert_eq!((upload.name, run.name), ("upload", "run"));
            let mut since = run.span.start_ns;
            for span in &profile.dispatches {
                assert!(since <= span.start_ns && span.start_ns <= span.end_ns, "{span:?}");
                since = span.end_ns;
            }
            assert!(since <= run.span.end_ns);
        }
        (session.records(id, true).unwrap(), session.read_group(GroupId(0)).unwrap())
    });
    assert_eq!(plain, profiled);
}

/// A value that is written to the second entry of a group must be at the same position when the whole group is read.
#[test]
fn group_and_entries_agree_on_element_positions() {
    for dtype in [DType::F32, DType::F16, DType::U32] {
        for precision in [Precision::F32, Precision::F64] {
            let mut case = Case::default();
            let group = case.program.states.group("group", dtype);
            case.program.states.entry(group, "first", [3]);
            let second = case.program.states.entry(group, "second", [5]);
            let offset = case.program.states.get_entry(second).offset;
            let len = case.program.states.get(group).len();
            let buffer = Buffer::State(group);
            let entry = TensorRef { buffer, offset: offset * dtype.bytes(), elements: 5, dtype };
            let whole = TensorRef { buffer, offset: 0, elements: len, dtype };
            let given: Vec<u32> = (1..6).collect();
            let from = case.input(
                dtype,
                match dtype {
                    DType::U32 => HostData::U32(given.clone()),
                    _ => HostData::F32(given.iter().map(|&x| x as f32).collect()),
                },
            );
            let to = case.output(dtype, len);
            case.dispatch(
                loop_kernel(&[5], &[], vec![load(0, &[5])], vec![store(0, 1, &[5])]),
                operands(&[&from], &[&entry]),
            );
            case.dispatch(
                loop_kernel(&[len], &[], vec![load(0, &[len])], vec![store(0, 1, &[len])]),
                operands(&[&whole], &[&to]),
            );
            let mut expected = vec![0.0; len];
            expected[offset..offset + 5].iter_mut().zip(&given).for_each(|(to, &x)| *to = f64::from(x));
            let (mut session, id) = case.session(precision);
            let inputs: Vec<Data<'_>> = case.inputs.iter().map(HostData::as_data).collect();
            session.run(id, &inputs).expect("the inputs fit");
            assert_close(
                &session.output(id, 0).expect("an output"),
                &expected,
                0.0,
                "the whole group as an operand",
            );
            assert_close(
                &session.read_group(group).expect("a group"),
                &expected,
                0.0,
                "the group as the host reads it",
            );
        }
    }
}

#[test]
fn allocated_memory_matches_the_plan() {
    let mut case = order_sensitive(1);
    case.group(HostData::F32(vec![0.0; 100]));
    case.slab(DType::F16, 77);
    case.program.packs.push(512);
    let (session, _) = case.session(Precision::F32);
    assert_eq!(session.allocated_bytes(), case.program.peak_bytes());
    let (session, _) = case.session(Precision::F64);
    assert_eq!(session.allocated_bytes(), 2 * case.program.peak_bytes());
}

#[test]
fn usage_errors_name_the_cause() {
    let (mut session, id) = counter().session(Precision::F32);
    let mut message = |inputs: &[Data<'_>]| match session.run(id, inputs) {
        Err(DeviceError::Usage(text)) => text,
        other => panic!("{other:?}"),
    };
    assert_eq!(message(&[]), "the program takes 1 inputs (`in0`); 0 were given");
    assert_eq!(
        message(&[Data::F32(&[1.0, 2.0])]),
        "input `in0` takes f32[1], 1 values; 2 f32 values were given"
    );
    assert_eq!(message(&[Data::U32(&[1])]), "input `in0` takes f32[1], 1 values; 1 u32 values were given");
    assert!(matches!(session.output(id, 0), Err(DeviceError::Usage(_))), "no run yet");
    assert!(matches!(session.run(ProgramId(7), &[]), Err(DeviceError::Usage(_))));
    assert!(matches!(session.write_group(GroupId(0), Data::F32(&[1.0])), Err(DeviceError::Usage(_))));
    assert!(matches!(session.read_group(GroupId(3)), Err(DeviceError::Usage(_))));
    assert!(matches!(session.load(&Program::default()), Err(DeviceError::Usage(_))), "another state");
}

#[test]
fn oversized_state_is_rejected_before_allocation() {
    let mut states = States::new();
    let group = states.group("parameters", DType::F32);
    states.entry(group, "weight", [1 << 46]);
    let refused = CpuDevice::new().session(&states).err();
    assert!(
        matches!(refused, Some(DeviceError::DoesNotFit { .. } | DeviceError::OutOfMemory { .. })),
        "{refused:?}"
    );
}

/// Kernels that could access memory outside of their tensors or cause data races must be rejected at load time.
#[test]
fn unsound_kernels_are_rejected() {
    let is_rejected = |change: &dyn Fn(&mut Dispatch)| {
        let mut case = Case::default();
        let from = case.input(DType::F32, HostData::F32(vec![0.0; 12]));
        let to = case.output(DType::F32, 12);
        case.dispatch(
            loop_kernel(&[3, 4], &[], vec![load(0, &[3, 4])], vec![store(0, 1, &[3, 4])]),
            operands(&[&from], &[&to]),
        );
        change(&mut case.program.dispatches[0]);
        let mut session = CpuDevice::new().session(&case.program.states).expect("an empty state");
        matches!(session.load(&case.program), Err(DeviceError::Internal { .. }))
    };
    fn body(dispatch: &mut Dispatch) -> &mut Loop {
        match &mut dispatch.kernel {
            Kernel::Loop(kernel) => kernel,
            Kernel::Gemm(_) => unreachable!("all kernels are loops"),
        }
    }
    assert!(!is_rejected(&|_| {}), "the unchanged kernel is accepted");
    let layout = |offset, strides: [isize; 2]| Layout { offset, ..strided(&[3, 4], &strides) };
    assert!(
        is_rejected(&|d| body(d).body[0] = Instr::Load { operand: 0, layout: layout(1, [4, 1]) }),
        "past the end"
    );
    assert!(
        is_rejected(&|d| body(d).body[0] = Instr::Load { operand: 0, layout: layout(0, [-4, 1]) }),
        "before the start"
    );
    assert!(
        is_rejected(&|d| body(d).body[0] = Instr::Load { operand: 1, layout: layout(0, [4, 1]) }),
        "load from a write-only operand"
    );
    assert!(
        is_rejected(&|d| body(d).body[0] = Instr::Load { operand: 2, layout: layout(0, [4, 1]) }),
        "operand does not exist"
    );
    assert!(is_rejected(&|d| body(d).stores[0].layout = layout(0, [3, 1])), "store writes an element twice");
    assert!(is_rejected(&|d| body(d).stores[0].operand = 0), "store to a read-only operand");
    assert!(is_rejected(&|d| body(d).stores[0].value = 5), "value index out of range");
    assert!(is_rejected(&|d| body(d).body[0] = Instr::U32(1)), "u32 value stored to an f32 tensor");
    assert!(
        is_rejected(&|d| body(d).body[0] = Instr::Call(&ADD, vec![0, 0])),
        "argument defined after its use"
    );
    assert!(is_rejected(&|d| body(d).body[0] = Instr::Product), "product instruction in a loop");
    assert!(
        is_rejected(&|d| d.operands[0].tensor = TensorRef { elements: 12, ..d.operands[1].tensor.clone() }),
        "operands overlap"
    );
    assert!(is_rejected(&|d| d.operands[0].tensor.offset = 4096), "operand outside its buffer");
    assert!(is_rejected(&|d| d.operands[0].tensor.buffer = Buffer::Slab(0)), "buffer does not exist");
}

#[test]
fn device_info_describes_the_cpu() {
    let device = CpuDevice::new();
    let info = device.info();
    assert_eq!((info.kind, info.backend.as_str(), info.class), (DeviceKind::Cpu, "rayon", "cpu"));
    assert!(!info.name.is_empty() && info.driver.starts_with("gemm 0.19, ") && info.limits.f16);
}
