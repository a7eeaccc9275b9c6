//! Tests of sessions: state, inputs, outputs, records, memory, and errors.

mod common;

use common::functions::{ADD, MUL};
use common::plan::{Body, Plan, contiguous, strided};
use common::{assert_close, each_adapter, open, poisoned, random_f32};
use wgrad_gpu::{GpuDevice, Lanes, Options, adapters};
use wgrad_graph::{Combine, DType, States};
use wgrad_program::{
    Access, Data, Device, DeviceError, HostData, Instr, Kernel, Program, Readback, session_bytes,
};

/// Builds a program that adds an input to a group in place and outputs the sum of the group and its first element.
fn accumulate() -> Program {
    let mut states = States::new();
    let group = states.group("parameters", DType::F32);
    states.entry(group, "w", [100]);
    let mut plan = Plan::with_states(&states);
    let x = plan.input("x", DType::F32, &[128]);
    let sum = plan.output("sum", DType::F32, &[]);
    let first = plan.output("first", DType::F32, &[]);
    let weights = plan.group(group);
    let mut body = Body::over(&[128], &[]);
    let (w, value) = (body.load(0, contiguous(&[128])), body.load(1, contiguous(&[128])));
    let updated = body.call(&ADD, &[w, value]);
    body.store(updated, 0, contiguous(&[128]));
    plan.dispatch("update", body.build(), &[(&weights, Access::ReadWrite), (&x, Access::Read)]);
    let mut body = Body::over(&[], &[128]);
    let w = body.load(0, contiguous(&[128]));
    let total = body.push(Instr::Reduce(Combine::Sum, w));
    body.store(total, 1, contiguous(&[]));
    plan.dispatch("sum", body.build(), &[(&weights, Access::Read), (&sum, Access::Write)]);
    let mut body = Body::over(&[], &[]);
    let w = body.load(0, contiguous(&[]));
    body.store(w, 1, contiguous(&[]));
    plan.dispatch("first", body.build(), &[(&weights, Access::Read), (&first, Access::Write)]);
    plan.program
}

#[test]
fn state_is_updated_in_place_and_records_arrive_in_order() {
    let program = accumulate();
    let ones = vec![1.0f32; 128];
    each_adapter("records", |index| {
        let mut session = open(index, poisoned()).session(&program.states).unwrap();
        let id = session.load(&program).unwrap();
        let start: Vec<f32> = (0..128).map(|i| i as f32).collect();
        session.write_group(wgrad_graph::GroupId(0), Data::F32(&start)).unwrap();
        let mut records = Vec::new();
        for run in 0..333 {
            session.run(id, &[Data::F32(&ones)]).unwrap();
            if run % 10 == 0 {
                records.extend(session.records(id, false).unwrap());
            }
        }
        assert_eq!(session.output(id, 1).unwrap(), HostData::F32(vec![333.0]));
        records.extend(session.records(id, true).unwrap());
        assert_eq!(records.len(), 333);
        for (i, record) in records.iter().enumerate() {
            assert_eq!(record.run, i as u64);
            let added = (i + 1) as f32;
            assert_eq!(record.values, [8128.0 + 128.0 * added, added]);
        }
        assert!(session.records(id, true).unwrap().is_empty());
        let expected: Vec<f32> = start.iter().map(|x| x + 333.0).collect();
        assert_eq!(session.read_group(wgrad_graph::GroupId(0)).unwrap(), HostData::F32(expected));
    });
}

#[test]
fn allocated_bytes_match_the_plan() {
    let program = accumulate();
    each_adapter("bytes", |index| {
        let device = open(index, Options::default());
        let mut session = device.session(&program.states).unwrap();
        assert_eq!(session.allocated_bytes(), program.state_bytes());
        session.load(&program).unwrap();
        assert_eq!(session.allocated_bytes(), program.peak_bytes());
        let compiled = device.pipeline_count();
        session.load(&program).unwrap();
        assert_eq!(session.allocated_bytes(), session_bytes(&program.states, [&program, &program]));
        assert_eq!(device.pipeline_count(), compiled, "equal shaders should be compiled once");
    });
}

/// Readbacks return the contents of a group between dispatches, and do not change the results of the run.
#[test]
fn readbacks_return_parts_of_groups_during_a_run() {
    let program = accumulate();
    let group = wgrad_graph::GroupId(0);
    let readback =
        |range: std::ops::Range<usize>, after: usize| Readback { group, range, after, reply: None };
    let readbacks = [readback(0..64, 0), readback(3..3, 1), readback(60..128, 1), readback(0..128, 3)];
    assert_eq!(program.final_after(group, &(0..64)), 1);
    each_adapter("readbacks", |index| {
        let mut session = open(index, poisoned()).session(&program.states).unwrap();
        let id = session.load(&program).unwrap();
        for run in 0..3 {
            let mut found: Vec<(usize, Vec<f32>)> = Vec::new();
            let inputs = [Data::F32(&[1.0; 128])];
            session
                .run_with_readbacks(id, &inputs, &readbacks, &mut |i, values| {
                    found.push((i, values.to_vec()));
                    Vec::new()
                })
                .unwrap();
            let (old, new) = (run as f32, run as f32 + 1.0);
            let expected = [(0, vec![old; 64]), (1, vec![]), (2, vec![new; 68]), (3, vec![new; 128])];
            assert_eq!(found, expected, "run {run}");
        }
        let records = session.records(id, true).unwrap();
        assert_eq!(records.iter().map(|r| r.values[0]).collect::<Vec<_>>(), [128.0, 256.0, 384.0]);
        session.write_group_range(group, 100, &[7.0; 28]).unwrap();
        let HostData::F32(values) = session.read_group(group).unwrap() else {
            panic!("the group should hold f32")
        };
        assert_eq!((values[99], values[100], values[127]), (3.0, 7.0, 7.0));
        for (readbacks, fragment) in [
            (vec![readback(0..129, 0)], "0..129"),
            (vec![readback(0..1, 4)], "after 4 dispatches"),
            (vec![readback(0..1, 2), readback(0..1, 1)], "readback 1"),
        ] {
            let error = session
                .run_with_readbacks(id, &[Data::F32(&[1.0; 128])], &readbacks, &mut |_, _| Vec::new())
                .unwrap_err();
            assert!(matches!(&error, DeviceError::Usage(text) if text.contains(fragment)), "{error}");
        }
        assert!(matches!(session.write_group_range(group, 120, &[0.0; 9]), Err(DeviceError::Usage(_))));
        assert_eq!(session.records(id, true).unwrap().len(), 0, "a rejected run should not be executed");
    });
}

/// A reply of the host is visible to the next dispatch, regardless of earlier readbacks.
#[test]
fn a_run_uses_the_reply_of_the_host() {
    let program = accumulate();
    let group = wgrad_graph::GroupId(0);
    let readback = |range: std::ops::Range<usize>, after, reply| Readback { group, range, after, reply };
    let readbacks = [readback(0..4, 0, None), readback(2..128, 1, Some(group)), readback(0..4, 3, None)];
    each_adapter("replies", |index| {
        let mut session = open(index, poisoned()).session(&program.states).unwrap();
        let id = session.load(&program).unwrap();
        let (mut answered, mut sums) = (0.0, Vec::new());
        for run in 0..3 {
            let mut found: Vec<(usize, Vec<f32>)> = Vec::new();
            let answer = &mut |i, values: &[f32]| {
                found.push((i, values.to_vec()));
                values.iter().map(|x| x * 10.0).collect()
            };
            session.run_with_readbacks(id, &[Data::F32(&[1.0; 128])], &readbacks, answer).unwrap();
            let (old, new) = (run as f32, run as f32 + 1.0);
            let expected = [
                (0, vec![old, old, answered, answered]),
                (1, vec![answered + 1.0; 126]),
                (2, vec![new, new, 10.0 * (answered + 1.0), 10.0 * (answered + 1.0)]),
            ];
            assert_eq!(found, expected, "run {run}");
            answered = 10.0 * (answered + 1.0);
            sums.push(2.0 * new + 126.0 * answered);
        }
        let records = session.records(id, true).unwrap();
        assert_eq!(records.iter().map(|r| r.values[0]).collect::<Vec<_>>(), sums);
        for (readbacks, fragment) in [
            (vec![readback(0..4, 1, Some(group))], "the reply to readback 0 must have 4 values; found 1"),
            (vec![readback(0..4, 1, Some(wgrad_graph::GroupId(7)))], "readback 0 replies to group 7"),
        ] {
            let answer = &mut |_, _: &[f32]| vec![0.0];
            let error =
                session.run_with_readbacks(id, &[Data::F32(&[1.0; 128])], &readbacks, answer).unwrap_err();
            assert!(matches!(&error, DeviceError::Usage(text) if text.contains(fragment)), "{error}");
        }
    });
}

/// The state of a session starts at zero and is shared by its programs.
#[test]
fn programs_share_zeroed_state() {
    let program = accumulate();
    each_adapter("shared state", |index| {
        let mut session = open(index, poisoned()).session(&program.states).unwrap();
        let group = wgrad_graph::GroupId(0);
        assert_eq!(session.read_group(group).unwrap(), HostData::F32(vec![0.0; 128]));
        let (first, second) = (session.load(&program).unwrap(), session.load(&program).unwrap());
        session.run(first, &[Data::F32(&[1.0; 128])]).unwrap();
        session.run(second, &[Data::F32(&[2.0; 128])]).unwrap();
        assert_eq!(session.read_group(group).unwrap(), HostData::F32(vec![3.0; 128]));
        session.wait().unwrap();
    });
}

#[test]
fn misuse_returns_usage_errors() {
    let program = accumulate();
    let usage = |result: Result<(), DeviceError>, fragments: &[&str]| match result {
        Err(DeviceError::Usage(text)) => {
            fragments
                .iter()
                .for_each(|part| assert!(text.contains(part), "{text} does not contain `{part}`"));
        }
        other => panic!("{other:?}"),
    };
    each_adapter("misuse", |index| {
        let device = open(index, Options::default());
        let mut session = device.session(&program.states).unwrap();
        let id = session.load(&program).unwrap();
        usage(session.output(id, 0).map(drop), &["has not run"]);
        usage(session.run(id, &[]), &["1 inputs", "`x`", "0 were given"]);
        usage(session.run(id, &[Data::F32(&[0.0; 3])]), &["`x`", "128", "3 f32 values"]);
        usage(session.run(id, &[Data::U32(&[0; 128])]), &["`x`", "u32"]);
        usage(session.run(wgrad_program::ProgramId(7), &[]), &["no program 7"]);
        session.run(id, &[Data::F32(&[0.0; 128])]).unwrap();
        usage(session.output(id, 9).map(drop), &["no output 9"]);
        usage(session.write_group(wgrad_graph::GroupId(0), Data::F32(&[1.0])), &["`parameters`", "128"]);
        usage(session.read_group(wgrad_graph::GroupId(3)).map(drop), &["no group 3"]);
        let mut other = device.session(&States::new()).unwrap();
        usage(other.load(&program).map(drop), &["differs from the state of the session"]);
    });
    let error = GpuDevice::open(9999).unwrap_err();
    assert!(matches!(&error, DeviceError::NotFound { wanted, .. } if wanted == "gpu:9999"), "{error}");
}

#[test]
fn a_program_that_does_not_fit_is_rejected_with_its_largest_tensors() {
    each_adapter("does not fit", |index| {
        let limits = adapters()[index].info.limits;
        let mut plan = Plan::default();
        let n = limits.operand_bytes as usize / 4 + 64;
        let (huge, y) = (plan.scratch(DType::F32, &[n]), plan.output("y", DType::F32, &[1]));
        let mut body = Body::over(&[1], &[]);
        let value = body.load(0, contiguous(&[1]));
        body.store(value, 1, contiguous(&[1]));
        plan.dispatch("huge", body.build(), &[(&huge, Access::Read), (&y, Access::Write)]);
        let mut session = open(index, Options::default()).session(&States::new()).unwrap();
        let error = session.load(&plan.program).unwrap_err();
        let DeviceError::DoesNotFit { table, .. } = &error else { panic!("{error}") };
        assert!(table.contains("scratch1") && table.contains(&n.to_string()), "{table}");
        assert_eq!(session.allocated_bytes(), 0);
    });
}

#[test]
fn a_program_with_out_of_bounds_accesses_is_rejected() {
    let mut program = accumulate();
    let Kernel::Loop(kernel) = &mut program.dispatches[1].kernel else { unreachable!() };
    kernel.body[0] = Instr::Load { operand: 0, layout: strided(&[128], &[2], 0) };
    each_adapter("out of bounds", |index| {
        let mut session = open(index, Options::default()).session(&program.states).unwrap();
        let error = session.load(&program).unwrap_err();
        assert!(
            matches!(&error, DeviceError::Internal { reason, .. } if reason.contains("128 elements")),
            "{error}"
        );
    });
}

/// All lanes of a row read a value that one lane updates. No lane may read the new value.
#[test]
fn a_row_value_is_read_before_it_is_updated() {
    let (rows, columns) = (19, 300);
    let mut states = States::new();
    let group = states.group("statistics", DType::F32);
    states.entry(group, "mean", [64]);
    let mut plan = Plan::with_states(&states);
    let x = plan.input("x", DType::F32, &[rows, columns]);
    let y = plan.output("y", DType::F32, &[rows, columns]);
    let statistics = plan.group(group);
    let mut body = Body::over(&[rows], &[columns]);
    let shape = [rows, columns];
    let value = body.load(0, contiguous(&shape));
    let old = body.load(1, strided(&shape, &[1, 0], 0));
    let sum = body.push(Instr::Reduce(Combine::Sum, value));
    let new = body.call(&ADD, &[old, sum]);
    let scaled = body.call(&MUL, &[value, old]);
    body.store(new, 1, contiguous(&[rows]));
    body.store(scaled, 2, contiguous(&shape));
    let operands = [(&x, Access::Read), (&statistics, Access::ReadWrite), (&y, Access::Write)];
    plan.dispatch("statistics", body.build(), &operands);
    let (program, input) = (plan.program, random_f32(rows * columns, 30));
    each_adapter("row update", |index| {
        for lanes in [(1, 128), (4, 16), (8, 1)] {
            let lanes = Some(Lanes { rows: lanes.0, lanes: lanes.1 });
            let mut session = open(index, Options { lanes, ..poisoned() }).session(&program.states).unwrap();
            let id = session.load(&program).unwrap();
            let mut groups = vec![vec![0.0; 64]];
            for _ in 0..3 {
                session.run(id, &[input.as_data()]).unwrap();
                let expected =
                    common::interpret::interpret(&program, std::slice::from_ref(&input), &mut groups);
                assert_close("y", &session.output(id, 0).unwrap(), &expected[0], 1e-4);
                assert_close("statistics", &session.read_group(group).unwrap(), &groups[0], 1e-4);
            }
        }
    });
}

/// Repeated runs with the same inputs give bit-identical results.
#[test]
fn repeated_runs_are_bit_identical() {
    let n = 50_000;
    let mut plan = Plan::default();
    let x = plan.input("x", DType::F32, &[n]);
    let y = plan.output("y", DType::F32, &[]);
    let mut body = Body::over(&[], &[n]);
    let value = body.load(0, contiguous(&[n]));
    let sum = body.push(Instr::Reduce(Combine::Sum, value));
    body.store(sum, 1, contiguous(&[]));
    plan.dispatch("sum", body.build(), &[(&x, Access::Read), (&y, Access::Write)]);
    let input = random_f32(n, 31);
    each_adapter("same bits", |index| {
        let mut session = open(index, poisoned()).session(&States::new()).unwrap();
        let id = session.load(&plan.program).unwrap();
        for _ in 0..5 {
            session.run(id, &[input.as_data()]).unwrap();
        }
        let records = session.records(id, true).unwrap();
        assert!(
            records.iter().all(|r| r.values[0].to_bits() == records[0].values[0].to_bits()),
            "{records:?}"
        );
    });
}
