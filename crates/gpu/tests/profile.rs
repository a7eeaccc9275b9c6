//! Profiled runs give the same results as other runs, and time every dispatch.

mod common;

use common::functions::ADD;
use common::plan::{Body, Plan, contiguous};
use common::{each_adapter, open, poisoned, random_f32};
use wgrad_gpu::Options;
use wgrad_graph::{Combine, DType, GroupId, States};
use wgrad_program::{Access, Clock, Device, Instr, Program};

const N: usize = 1024;

/// Builds a program that adds the input to a group `times` times, one dispatch each, and outputs the sum.
fn additions(times: usize) -> Program {
    let mut states = States::new();
    let group = states.group("parameters", DType::F32);
    states.entry(group, "w", [N]);
    let mut plan = Plan::with_states(&states);
    let x = plan.input("x", DType::F32, &[N]);
    let sum = plan.output("sum", DType::F32, &[]);
    let weights = plan.group(group);
    for i in 0..times {
        let mut body = Body::over(&[N], &[]);
        let (w, value) = (body.load(0, contiguous(&[N])), body.load(1, contiguous(&[N])));
        let updated = body.call(&ADD, &[w, value]);
        body.store(updated, 0, contiguous(&[N]));
        let operands = [(&weights, Access::ReadWrite), (&x, Access::Read)];
        plan.dispatch(&format!("add {i}"), body.build(), &operands);
    }
    let mut body = Body::over(&[], &[N]);
    let w = body.load(0, contiguous(&[N]));
    let total = body.push(Instr::Reduce(Combine::Sum, w));
    body.store(total, 1, contiguous(&[]));
    plan.dispatch("sum", body.build(), &[(&weights, Access::Read), (&sum, Access::Write)]);
    plan.program
}

#[test]
fn profiled_runs_give_the_same_results() {
    let (program, input) = (additions(5), random_f32(N, 40));
    each_adapter("profile", |index| {
        let device = open(index, poisoned());
        let [plain, profiled] = [false, true].map(|profile| {
            let mut session = device.session(&program.states).unwrap();
            let id = session.load(&program).unwrap();
            for run in 0..100 {
                if profile && run % 3 > 0 {
                    session.profile(id, &[input.as_data()]).unwrap();
                } else {
                    session.run(id, &[input.as_data()]).unwrap();
                }
            }
            let output = session.output(id, 0).unwrap();
            let records = session.records(id, true).unwrap();
            assert_eq!(records.len(), 100);
            (records, output, session.read_group(GroupId(0)).unwrap(), session.allocated_bytes())
        });
        assert_eq!(plain, profiled);
    });
}

/// Once all buffers exist, neither plain nor profiled runs create objects on the device.
#[test]
fn steady_runs_create_no_objects_on_the_device() {
    let (program, input) = (additions(20), random_f32(N, 42));
    each_adapter("steady", |index| {
        let device = open(index, Options::default());
        let mut session = device.session(&program.states).unwrap();
        let id = session.load(&program).unwrap();
        let mut runs = |times: usize| {
            for run in 0..times {
                match run % 50 {
                    49 => drop(session.profile(id, &[input.as_data()]).unwrap()),
                    _ => session.run(id, &[input.as_data()]).unwrap(),
                }
                session.records(id, false).unwrap();
            }
        };
        // How far runs get ahead of the device depends on the scheduler, and each run in flight needs a buffer.
        let creates_none = |_| {
            let before = device.objects_created();
            runs(200);
            device.objects_created() == before
        };
        assert!((0..10).any(creates_none), "objects were created on the device in each batch of 200 runs");
    });
}

/// Profiles more dispatches than one query set has timestamps for. Each dispatch has a span, and spans are in order.
#[test]
fn every_dispatch_is_timed_in_order() {
    let (program, input) = (additions(2100), random_f32(N, 41));
    each_adapter("times", |index| {
        let device = open(index, poisoned());
        let mut session = device.session(&program.states).unwrap();
        let id = session.load(&program).unwrap();
        session.run(id, &[input.as_data()]).unwrap();
        let profile = session.profile(id, &[input.as_data()]).unwrap();
        let has_timestamps = device.info().features.iter().any(|feature| feature == "timestamp-query");
        assert_eq!(profile.clock, if has_timestamps { Clock::Device } else { Clock::Host });
        assert_eq!(profile.dispatches.len(), program.dispatches.len());
        for pair in profile.dispatches.windows(2) {
            assert!(pair[0].start_ns <= pair[0].end_ns && pair[0].end_ns <= pair[1].start_ns, "{pair:?}");
        }
        let wall = profile.host.last().unwrap().span.end_ns;
        let busy: u64 = profile.dispatches.iter().map(|span| span.ns()).sum();
        eprintln!("{:?}: {busy} of {wall} ns in {} dispatches", profile.clock, profile.dispatches.len());
        assert!(busy > 0, "no time was measured");
        let names: Vec<&str> = profile.host.iter().map(|host| host.name).collect();
        match profile.clock {
            Clock::Device => assert_eq!(names, ["drain", "upload", "record", "submit", "wait"]),
            Clock::Host => assert_eq!(names, ["drain", "upload", "wait", "run", "submit", "wait"]),
        }
        assert!(profile.host.windows(2).all(|pair| pair[0].span.end_ns == pair[1].span.start_ns));
    });
}
