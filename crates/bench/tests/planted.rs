//! A device whose results are wrong gets no time, however little is wrong with them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use wgrad_bench::results::{Group, Measurement, Status};
use wgrad_bench::{
    Case, Effort, Expected, Judge, Loaded, Recorder, Subject, Work, measure, selected, workload,
};
use wgrad_cpu::CpuDevice;
use wgrad_graph::{GraphError, GroupId, States};
use wgrad_ops::TensorOps;
use wgrad_program::{
    Data, Device, DeviceError, DeviceInfo, HostData, Profile, Program, ProgramId, Readback, ReadbackHandler,
    Record, Session,
};

/// Changes results on their way out.
type Plant = fn(&mut [f32]);

/// The CPU backend, but for what is planted in it.
struct Planted {
    inner: CpuDevice,
    outputs: Plant,
    groups: Plant,
}

struct PlantedSession {
    inner: Box<dyn Session>,
    outputs: Plant,
    groups: Plant,
}

fn nothing(_: &mut [f32]) {}

fn planted(outputs: Plant, groups: Plant) -> Planted {
    Planted { inner: CpuDevice::new(), outputs, groups }
}

impl Device for Planted {
    fn info(&self) -> &DeviceInfo {
        self.inner.info()
    }

    fn session(&self, states: &States) -> Result<Box<dyn Session>, DeviceError> {
        let Self { outputs, groups, .. } = *self;
        Ok(Box::new(PlantedSession { inner: self.inner.session(states)?, outputs, groups }))
    }
}

fn changed(mut data: HostData, plant: Plant) -> HostData {
    if let HostData::F32(values) = &mut data {
        plant(values);
    }
    data
}

impl Session for PlantedSession {
    fn load(&mut self, program: &Program) -> Result<ProgramId, DeviceError> {
        self.inner.load(program)
    }

    fn run(&mut self, program: ProgramId, inputs: &[Data<'_>]) -> Result<(), DeviceError> {
        self.inner.run(program, inputs)
    }

    fn output(&mut self, program: ProgramId, output: usize) -> Result<HostData, DeviceError> {
        Ok(changed(self.inner.output(program, output)?, self.outputs))
    }

    fn records(&mut self, program: ProgramId, wait: bool) -> Result<Vec<Record>, DeviceError> {
        self.inner.records(program, wait)
    }

    fn read_group(&mut self, group: GroupId) -> Result<HostData, DeviceError> {
        Ok(changed(self.inner.read_group(group)?, self.groups))
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

const EFFORT: Effort = Effort {
    kernel: Duration::from_millis(1),
    step: Duration::from_millis(1),
    longest: Duration::from_secs(60),
    until: None,
};

fn named(name: &str) -> Vec<Case> {
    let cases = selected(false, Some(name)).unwrap();
    cases.into_iter().filter(|case| case.name == name).collect()
}

fn one(name: &str, device: &dyn Device) -> Measurement {
    let subject = Subject { name: "cpu".into(), device };
    let mut results = measure(&named(name), &[subject], EFFORT, &mut |_| true).unwrap();
    results.remove(0)
}

fn one_of(values: &mut [f32]) {
    let largest = (0..values.len()).max_by(|&a, &b| values[a].abs().total_cmp(&values[b].abs()));
    if let Some(at) = largest {
        values[at] *= 1.01;
    }
}

fn last_tile(values: &mut [f32]) {
    // What a kernel leaves that does not reach the end.
    let start = values.len().saturating_sub(8);
    values[start..].fill(0.0);
}

fn inner_tile(values: &mut [f32]) {
    let middle = values.len() / 2;
    values[middle..middle + 64].fill(0.0);
}

fn not_a_number(values: &mut [f32]) {
    values[0] = f32::NAN;
}

#[test]
fn a_right_result_is_timed() {
    for name in ["matmul-128", "relu-1M", "copy-64KiB", "upload-16MiB", "sgd-momentum-1M"] {
        let result = one(name, &planted(nothing, nothing));
        assert_eq!((result.status, result.reason), (Status::Timed, None), "{name}");
        let (time, check) = (result.time.unwrap(), result.check.unwrap());
        assert!(time.ms > 0.0 && time.p10_ms <= time.ms && time.ms <= time.p90_ms, "{time:?}");
        assert!(check.worst.unwrap() <= 1.0 && time.repeats >= 5);
    }
}

/// The first result is right; those of later runs are not.
fn all_but_the_first(values: &mut [f32]) {
    static READ: AtomicUsize = AtomicUsize::new(0);
    if READ.fetch_add(1, Ordering::Relaxed) > 0 {
        one_of(values);
    }
}

#[test]
fn a_result_that_becomes_wrong_while_it_is_timed_has_no_time() {
    let result = one("matmul-128", &planted(all_but_the_first, nothing));
    assert_eq!((result.status, result.time), (Status::Wrong, None));
    assert!(result.reason.is_some_and(|reason| reason.contains("after it was timed")));
}

#[test]
fn a_wrong_result_has_no_time_and_says_where_it_is_wrong() {
    for (plant, what) in
        [(one_of as Plant, "one element"), (last_tile, "the last tile"), (not_a_number, "a NaN")]
    {
        for name in ["matmul-128", "matmul-256", "sum-rows-1024x1024", "softmax-ce-256x1000"] {
            let result = one(name, &planted(plant, nothing));
            assert_eq!(result.status, Status::Wrong, "{what} of {name}: {result:?}");
            assert!(result.time.is_none(), "{what} of {name}");
            let reason = result.reason.unwrap();
            assert!(reason.contains('['), "{reason}");
            assert!(result.check.unwrap().worst.is_none_or(|worst| worst > 1.0), "{what} of {name}");
        }
    }
}

#[test]
fn state_that_becomes_wrong_is_found_too() {
    // The optimizer has no output: what it leaves is in the parameters and the momentum.
    for plant in [one_of as Plant, last_tile] {
        assert_eq!(one("sgd-momentum-1M", &planted(nothing, plant)).status, Status::Wrong);
        assert_eq!(one("upload-16MiB", &planted(nothing, plant)).status, Status::Wrong);
    }
    // A whole step: its loss is right, and its momentum is not, in one tile or everywhere by a little.
    for plant in [inner_tile as Plant, |values| values.iter_mut().for_each(|x| *x *= 1.02)] {
        assert_eq!(one("mlp-batch-16", &planted(nothing, plant)).status, Status::Wrong);
    }
    assert_eq!(one("mlp-batch-16", &planted(one_of, nothing)).status, Status::Wrong);
    assert_eq!(one("mlp-batch-16", &CpuDevice::new()).status, Status::Timed);
}

#[test]
fn both_judges_agree_where_both_can_judge() {
    let work = wgrad_bench::workload("matmul-33").unwrap();
    for judge in [Judge::Reference, Judge::CpuF64] {
        let expected = Expected::by(judge, &work).unwrap();
        let mut loaded = Loaded::new(&CpuDevice::new(), &work).unwrap();
        let verdict = expected.judge(&work, &mut loaded).unwrap();
        assert!(verdict.is_right() && verdict.worst > 0.0, "{verdict:?}");
    }
}

fn double(elements: usize) -> Result<Work, GraphError> {
    let mut recorder = Recorder::new();
    let x = recorder.floats("x", [elements]);
    recorder.record(|graph| {
        graph.output("y", graph.entry(x).square());
        Ok(())
    })
}

#[test]
fn what_takes_too_long_is_skipped_by_name() {
    let cases = [
        Case::new(Group::Pointwise, "small", || double(1 << 12)),
        Case::new(Group::Pointwise, "large", || double(1 << 22)),
    ];
    let device = CpuDevice::new();
    let subject = || [Subject { name: "cpu".into(), device: &device }];
    let effort = Effort { longest: Duration::from_nanos(1), ..EFFORT };
    let results = measure(&cases, &subject(), effort, &mut |_| true).unwrap();
    // Nothing is known of the device before the first case.
    assert_eq!(results[0].status, Status::Timed);
    assert_eq!((results[1].case.as_str(), results[1].status), ("large", Status::Skipped));
    let reason = results[1].reason.clone().unwrap();
    assert!(reason.contains("GFLOP/s") && reason.contains("would take"), "{reason}");
    let over = Effort { until: Some(std::time::Instant::now()), ..EFFORT };
    let results = measure(&cases, &subject(), over, &mut |_| true).unwrap();
    assert!(results.iter().all(|result| result.status == Status::Skipped));
    assert_eq!(results[0].reason.as_deref(), Some("the time is up"));
}

#[test]
fn a_reset_gives_the_first_loss_again() {
    let work = workload("mlp").unwrap();
    let mut loaded = Loaded::new(&CpuDevice::new(), &work).unwrap();
    let first = loaded.step(true).unwrap();
    let second = loaded.step(true).unwrap();
    loaded.reset().unwrap();
    assert_ne!(first, second);
    assert_eq!(loaded.step(true).unwrap(), first);
    assert_eq!(loaded.step(true).unwrap(), second, "the momentum began at zero again");
}

#[test]
fn an_unknown_workload_is_refused() {
    let refused = workload("mpl").err().unwrap().to_string();
    assert!(refused.contains("mpl") && refused.contains("mlp-big"), "{refused}");
}
