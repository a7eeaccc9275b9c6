//! Tests that wrong results are detected and not timed. The wrong results come from a device with injected faults.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use wgrad_bench::results::{Group, Measurement, Status};
use wgrad_bench::{
    Budget, Case, Expected, LoadedWorkload, NamedDevice, Recorder, Reference, Workload, measure, selected,
    workload,
};
use wgrad_cpu::CpuDevice;
use wgrad_graph::{GraphError, GroupId, States};
use wgrad_ops::TensorOps;
use wgrad_program::{
    Data, Device, DeviceError, DeviceInfo, HostData, Profile, Program, ProgramId, Readback, ReadbackHandler,
    Record, Session,
};

/// Function that corrupts results before the device returns them.
type Fault = fn(&mut [f32]);

/// CPU backend that injects faults into its results.
struct FaultyDevice {
    inner: CpuDevice,
    outputs: Fault,
    groups: Fault,
}

struct FaultySession {
    inner: Box<dyn Session>,
    outputs: Fault,
    groups: Fault,
}

fn no_fault(_: &mut [f32]) {}

fn faulty(outputs: Fault, groups: Fault) -> FaultyDevice {
    FaultyDevice { inner: CpuDevice::new(), outputs, groups }
}

impl Device for FaultyDevice {
    fn info(&self) -> &DeviceInfo {
        self.inner.info()
    }

    fn session(&self, states: &States) -> Result<Box<dyn Session>, DeviceError> {
        let Self { outputs, groups, .. } = *self;
        Ok(Box::new(FaultySession { inner: self.inner.session(states)?, outputs, groups }))
    }
}

fn apply(mut data: HostData, fault: Fault) -> HostData {
    if let HostData::F32(values) = &mut data {
        fault(values);
    }
    data
}

impl Session for FaultySession {
    fn load(&mut self, program: &Program) -> Result<ProgramId, DeviceError> {
        self.inner.load(program)
    }

    fn run(&mut self, program: ProgramId, inputs: &[Data<'_>]) -> Result<(), DeviceError> {
        self.inner.run(program, inputs)
    }

    fn output(&mut self, program: ProgramId, output: usize) -> Result<HostData, DeviceError> {
        Ok(apply(self.inner.output(program, output)?, self.outputs))
    }

    fn records(&mut self, program: ProgramId, wait: bool) -> Result<Vec<Record>, DeviceError> {
        self.inner.records(program, wait)
    }

    fn read_group(&mut self, group: GroupId) -> Result<HostData, DeviceError> {
        Ok(apply(self.inner.read_group(group)?, self.groups))
    }

    fn write_group(&mut self, group: GroupId, data: Data<'_>) -> Result<(), DeviceError> {
        self.inner.write_group(group, data)
    }

    fn run_with_readbacks(
        &mut self,
        program: ProgramId,
        inputs: &[Data<'_>],
        readings: &[Readback],
        each: &mut ReadbackHandler<'_>,
    ) -> Result<(), DeviceError> {
        self.inner.run_with_readbacks(program, inputs, readings, each)
    }

    fn write_group_range(&mut self, group: GroupId, start: usize, values: &[f32]) -> Result<(), DeviceError> {
        self.inner.write_group_range(group, start, values)
    }

    fn wait(&mut self) -> Result<(), DeviceError> {
        self.inner.wait()
    }

    fn profile(&mut self, program: ProgramId, inputs: &[Data<'_>]) -> Result<Profile, DeviceError> {
        self.inner.profile(program, inputs)
    }

    fn allocated_bytes(&self) -> usize {
        self.inner.allocated_bytes()
    }
}

const BUDGET: Budget = Budget {
    kernel: Duration::from_millis(1),
    step: Duration::from_millis(1),
    max_case: Duration::from_secs(60),
    deadline: None,
};

/// Returns a list with the one case whose name is exactly `name`.
fn case_named(name: &str) -> Vec<Case> {
    let cases = selected(false, Some(name)).unwrap();
    cases.into_iter().filter(|case| case.name == name).collect()
}

fn measure_case(name: &str, device: &dyn Device) -> Measurement {
    let named = NamedDevice { name: "cpu".into(), device };
    let mut results = measure(&case_named(name), &[named], BUDGET, &mut |_| true).unwrap();
    results.remove(0)
}

fn scale_largest(values: &mut [f32]) {
    let largest = (0..values.len()).max_by(|&a, &b| values[a].abs().total_cmp(&values[b].abs()));
    if let Some(at) = largest {
        values[at] *= 1.01;
    }
}

fn zero_last_tile(values: &mut [f32]) {
    // Simulates a kernel that does not process the last tile.
    let start = values.len().saturating_sub(8);
    values[start..].fill(0.0);
}

fn zero_inner_tile(values: &mut [f32]) {
    let middle = values.len() / 2;
    values[middle..middle + 64].fill(0.0);
}

fn first_is_nan(values: &mut [f32]) {
    values[0] = f32::NAN;
}

#[test]
fn correct_result_is_timed() {
    for name in ["matmul-128", "relu-1M", "copy-64KiB", "upload-16MiB", "sgd-momentum-1M"] {
        let result = measure_case(name, &faulty(no_fault, no_fault));
        assert_eq!((result.status, result.reason), (Status::Timed, None), "{name}");
        let (time, check) = (result.time.unwrap(), result.check.unwrap());
        assert!(time.ms > 0.0 && time.p10_ms <= time.ms && time.ms <= time.p90_ms, "{time:?}");
        assert!(check.worst.unwrap() <= 1.0 && time.repeats >= 5);
    }
}

/// Leaves the first result unchanged and corrupts all later results.
fn scale_largest_except_first(values: &mut [f32]) {
    static READ: AtomicUsize = AtomicUsize::new(0);
    if READ.fetch_add(1, Ordering::Relaxed) > 0 {
        scale_largest(values);
    }
}

#[test]
fn result_that_becomes_wrong_during_timing_has_no_time() {
    let result = measure_case("matmul-128", &faulty(scale_largest_except_first, no_fault));
    assert_eq!((result.status, result.time), (Status::Wrong, None));
    assert!(result.reason.is_some_and(|reason| reason.contains("after it was timed")));
}

#[test]
fn wrong_result_has_no_time_and_names_the_element() {
    for (fault, what) in
        [(scale_largest as Fault, "one element"), (zero_last_tile, "the last tile"), (first_is_nan, "a NaN")]
    {
        for name in ["matmul-128", "matmul-256", "sum-rows-1024x1024", "softmax-ce-256x1000"] {
            let result = measure_case(name, &faulty(fault, no_fault));
            assert_eq!(result.status, Status::Wrong, "{what} of {name}: {result:?}");
            assert!(result.time.is_none(), "{what} of {name}");
            let reason = result.reason.unwrap();
            assert!(reason.contains('['), "{reason}");
            assert!(result.check.unwrap().worst.is_none_or(|worst| worst > 1.0), "{what} of {name}");
        }
    }
}

#[test]
fn wrong_state_is_detected() {
    // The optimizer case has no output; its results are the parameters and the momentum.
    for fault in [scale_largest as Fault, zero_last_tile] {
        assert_eq!(measure_case("sgd-momentum-1M", &faulty(no_fault, fault)).status, Status::Wrong);
        assert_eq!(measure_case("upload-16MiB", &faulty(no_fault, fault)).status, Status::Wrong);
    }
    // A training step with a correct loss, but with momentum that is wrong in one tile or slightly wrong everywhere.
    for fault in [zero_inner_tile as Fault, |values| values.iter_mut().for_each(|x| *x *= 1.02)] {
        assert_eq!(measure_case("mlp-batch-16", &faulty(no_fault, fault)).status, Status::Wrong);
    }
    assert_eq!(measure_case("mlp-batch-16", &faulty(scale_largest, no_fault)).status, Status::Wrong);
    assert_eq!(measure_case("mlp-batch-16", &CpuDevice::new()).status, Status::Timed);
}

#[test]
fn both_references_agree() {
    let workload = workload("matmul-33").unwrap();
    for reference in [Reference::Interpreter, Reference::CpuF64] {
        let expected = Expected::compute_with(reference, &workload).unwrap();
        let mut loaded = LoadedWorkload::new(&CpuDevice::new(), &workload).unwrap();
        let comparison = expected.compare(&workload, &mut loaded).unwrap();
        assert!(comparison.passed() && comparison.worst > 0.0, "{comparison:?}");
    }
}

fn square(elements: usize) -> Result<Workload, GraphError> {
    let mut recorder = Recorder::new();
    let x = recorder.floats("x", [elements]);
    recorder.record(|graph| {
        graph.output("y", graph.entry(x).square());
        Ok(())
    })
}

#[test]
fn cases_that_take_too_long_are_skipped_with_the_reason() {
    let cases = [
        Case::new(Group::Pointwise, "small", || square(1 << 12)),
        Case::new(Group::Pointwise, "large", || square(1 << 22)),
    ];
    let device = CpuDevice::new();
    let devices = || [NamedDevice { name: "cpu".into(), device: &device }];
    let budget = Budget { max_case: Duration::from_nanos(1), ..BUDGET };
    let results = measure(&cases, &devices(), budget, &mut |_| true).unwrap();
    // Before the first case, no rate of the device is known, so the case is not skipped.
    assert_eq!(results[0].status, Status::Timed);
    assert_eq!((results[1].case.as_str(), results[1].status), ("large", Status::Skipped));
    let reason = results[1].reason.clone().unwrap();
    assert!(reason.contains("GFLOP/s") && reason.contains("would take"), "{reason}");
    let budget = Budget { deadline: Some(std::time::Instant::now()), ..BUDGET };
    let results = measure(&cases, &devices(), budget, &mut |_| true).unwrap();
    assert!(results.iter().all(|result| result.status == Status::Skipped));
    assert_eq!(results[0].reason.as_deref(), Some("the time limit was reached"));
}

#[test]
fn reset_restores_the_first_loss() {
    let workload = workload("mlp").unwrap();
    let mut loaded = LoadedWorkload::new(&CpuDevice::new(), &workload).unwrap();
    let first = loaded.step(true).unwrap();
    let second = loaded.step(true).unwrap();
    loaded.reset().unwrap();
    assert_ne!(first, second);
    assert_eq!(loaded.step(true).unwrap(), first);
    assert_eq!(loaded.step(true).unwrap(), second, "the momentum was not reset to zero");
}

#[test]
fn unknown_workload_is_an_error() {
    let refused = workload("mpl").err().unwrap().to_string();
    assert!(refused.contains("mpl") && refused.contains("mlp-big"), "{refused}");
}
