//! Test helpers: iteration over adapters with counted skips, hand-made programs, and an interpreter of programs.

#![allow(dead_code)]

pub mod functions;
pub mod interpret;
pub mod plan;

use std::io::Write;

use wgrad_gpu::{GpuDevice, Lanes, Options, adapters};
use wgrad_program::{Data, Device, HostData, Program};

use interpret::interpret;

/// Calls `test` with the index of each adapter.
///
/// Without an adapter the test is counted as skipped, or fails if `WGRAD_REQUIRE_GPU` is 1.
pub fn each_adapter(name: &str, mut test: impl FnMut(usize)) {
    let all = adapters();
    if all.is_empty() {
        assert_ne!(std::env::var("WGRAD_REQUIRE_GPU").as_deref(), Ok("1"), "{name}: no adapter");
        let line = format!("skipped: {name}: no adapter\n");
        eprint!("{line}");
        if let Some(path) = std::env::var_os("WGRAD_SKIP_LOG") {
            let log = std::fs::OpenOptions::new().create(true).append(true).open(path);
            log.and_then(|mut log| log.write_all(line.as_bytes())).expect("the skip log should be writable");
        }
    }
    for adapter in all {
        eprintln!("{name} on gpu:{} {} ({})", adapter.index, adapter.info.name, adapter.info.backend);
        test(adapter.index);
    }
}

pub fn open(index: usize, options: Options) -> GpuDevice {
    GpuDevice::with_options(index, options).expect("the adapter should open")
}

/// Returns options that poison outputs, so that every element has to be written.
pub fn poisoned() -> Options {
    Options { poison: true, ..Options::default() }
}

/// Returns options for several workgroup sizes: one lane, several lanes, and more lanes than columns.
pub fn workgroup_options() -> Vec<Options> {
    let lanes = [None, Some((64, 1)), (Some((3, 4))), Some((1, 64)), Some((16, 8)), Some((2, 128))];
    let options =
        lanes.map(|pair| Options { lanes: pair.map(|(rows, lanes)| Lanes { rows, lanes }), ..poisoned() });
    options.to_vec()
}

/// Runs a program without state on a device and compares its outputs with the interpreter's.
pub fn assert_agrees(device: &GpuDevice, program: &Program, inputs: &[HostData], tolerance: f64) {
    let mut session = device.session(&program.states).expect("the session should open");
    let id = session.load(program).unwrap_or_else(|error| panic!("{error}"));
    let data: Vec<Data<'_>> = inputs.iter().map(HostData::as_data).collect();
    session.run(id, &data).expect("the run should succeed");
    let expected = interpret(program, inputs, &mut Vec::new());
    for (i, (output, expected)) in program.outputs.iter().zip(expected).enumerate() {
        let found = session.output(id, i).expect("the output should be readable");
        assert_close(&output.name, &found, &expected, tolerance);
    }
}

/// Compares element by element. u32 and non-finite values must be equal.
pub fn assert_close(name: &str, found: &HostData, expected: &[f64], tolerance: f64) {
    let found: Vec<f64> = match found {
        HostData::F32(values) => values.iter().map(|&x| f64::from(x)).collect(),
        HostData::U32(values) => values.iter().map(|&x| f64::from(x)).collect(),
    };
    assert_eq!(found.len(), expected.len(), "{name}");
    for (i, (&x, &y)) in found.iter().zip(expected).enumerate() {
        let same = x == y || (x.is_nan() && y.is_nan());
        let near = (x - y).abs() <= tolerance * (1.0 + y.abs());
        assert!(same || near, "{name}[{i}] is {x}, expected {y}");
    }
}

/// Returns `n` random values from -1 to 1, the same for the same seed.
pub fn random_f32(n: usize, seed: u32) -> HostData {
    let mut random = wgrad_graph::philox::Stream::new(u64::from(seed), 0);
    HostData::F32((0..n).map(|_| random.below(20_001) as f32 / 10_000.0 - 1.0).collect())
}

/// Returns `n` random u32 values below `bound`.
pub fn random_u32(n: usize, bound: u32, seed: u32) -> HostData {
    let mut random = wgrad_graph::philox::Stream::new(u64::from(seed), 1);
    HostData::U32((0..n).map(|_| random.below(bound)).collect())
}
