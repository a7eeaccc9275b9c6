//! What the tests share: devices with counted skips, programs made by hand, and the plainest interpreter of programs there is.

#![allow(dead_code)]

pub mod functions;
pub mod interpret;
pub mod plan;

use std::io::Write;

use wgrad_gpu::{GpuDevice, Lanes, Options, adapters};
use wgrad_program::{Data, Device, HostData, Program};

use interpret::interpret;

/// Calls `test` for each adapter, with its index. Without any the test is counted as skipped, and fails where
/// `WGRAD_REQUIRE_GPU` is 1.
pub fn each_adapter(name: &str, mut test: impl FnMut(usize)) {
    let all = adapters();
    if all.is_empty() {
        assert_ne!(std::env::var("WGRAD_REQUIRE_GPU").as_deref(), Ok("1"), "{name}: no adapter");
        let line = format!("skipped: {name}: no adapter\n");
        eprint!("{line}");
        if let Some(path) = std::env::var_os("WGRAD_SKIP_LOG") {
            let log = std::fs::OpenOptions::new().create(true).append(true).open(path);
            log.and_then(|mut log| log.write_all(line.as_bytes())).expect("the skip log is writable");
        }
    }
    for adapter in all {
        eprintln!("{name} on gpu:{} {} ({})", adapter.index, adapter.info.name, adapter.info.backend);
        test(adapter.index);
    }
}

pub fn open(index: usize, options: Options) -> GpuDevice {
    GpuDevice::with_options(index, options).expect("the adapter opens")
}

/// Poisoned, so that every element has to be written.
pub fn poisoned() -> Options {
    Options { poison: true, ..Options::default() }
}

/// Workgroups of every kind: one lane, neighbours in rows or columns, more lanes than columns.
pub fn shapes_of_workgroups() -> Vec<Options> {
    let lanes = [None, Some((64, 1)), (Some((3, 4))), Some((1, 64)), Some((16, 8)), Some((2, 128))];
    let options =
        lanes.map(|pair| Options { lanes: pair.map(|(rows, lanes)| Lanes { rows, lanes }), ..poisoned() });
    options.to_vec()
}

/// Runs a program without state on a device and compares its outputs with the interpreter's.
pub fn agrees(device: &GpuDevice, program: &Program, inputs: &[HostData], tolerance: f64) {
    let mut session = device.session(&program.states).expect("a session");
    let id = session.load(program).unwrap_or_else(|error| panic!("{error}"));
    let data: Vec<Data<'_>> = inputs.iter().map(HostData::as_data).collect();
    session.run(id, &data).expect("it runs");
    let wanted = interpret(program, inputs, &mut Vec::new());
    for (i, (output, wanted)) in program.outputs.iter().zip(wanted).enumerate() {
        let found = session.output(id, i).expect("an output");
        close(&output.name, &found, &wanted, tolerance);
    }
}

/// Compares element by element; words and what is not finite must be the same.
pub fn close(name: &str, found: &HostData, wanted: &[f64], tolerance: f64) {
    let found: Vec<f64> = match found {
        HostData::F32(values) => values.iter().map(|&x| f64::from(x)).collect(),
        HostData::U32(values) => values.iter().map(|&x| f64::from(x)).collect(),
    };
    assert_eq!(found.len(), wanted.len(), "{name}");
    for (i, (&x, &y)) in found.iter().zip(wanted).enumerate() {
        let same = x == y || (x.is_nan() && y.is_nan());
        let near = (x - y).abs() <= tolerance * (1.0 + y.abs());
        assert!(same || near, "{name}[{i}] is {x}, not {y}");
    }
}

/// Numbers in -1..1 that look random and are the same every time.
pub fn numbers(n: usize, seed: u32) -> HostData {
    let mut random = wgrad_graph::philox::Stream::new(u64::from(seed), 0);
    HostData::F32((0..n).map(|_| random.below(20_001) as f32 / 10_000.0 - 1.0).collect())
}

/// Words below `bound`.
pub fn words(n: usize, bound: u32, seed: u32) -> HostData {
    let mut random = wgrad_graph::philox::Stream::new(u64::from(seed), 1);
    HostData::U32((0..n).map(|_| random.below(bound)).collect())
}
