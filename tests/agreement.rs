//! Agreement of devices on one training run. Compares CPU f32 with CPU f64, every adapter with the CPU, and repeated
//! runs on one device with each other. Also compares the bytes that a device allocates with the planned bytes.

use crate::support::{adapters, largest_difference, losses};
use wgrad::prelude::*;

const STEPS: u64 = 50;

#[test]
fn cpu_f32_agrees_with_f64() {
    for recipe in ["digits", "digits-mlp"] {
        let (single, double) =
            (losses(&CpuDevice::new(), recipe, STEPS), losses(&CpuDevice::f64(), recipe, STEPS));
        let difference = largest_difference(&single, &double);
        assert!(difference < 1e-3, "{recipe}: {difference}\n{single:?}\n{double:?}");
        assert!(
            single[STEPS as usize - 1] < 0.8 * single[0],
            "{recipe}: the loss does not decrease: {single:?}"
        );
    }
}

#[test]
fn every_adapter_agrees_with_the_cpu() {
    let reference = losses(&CpuDevice::new(), "digits", STEPS);
    for (index, info) in adapters("every_adapter_agrees_with_the_cpu") {
        let device = GpuDevice::open(index).unwrap_or_else(|error| panic!("{}: {error}", info.name));
        let found = losses(&device, "digits", STEPS);
        let difference = largest_difference(&found, &reference);
        assert!(
            difference < 1e-3,
            "{} ({}): {difference}\n{found:?}\n{reference:?}",
            info.name,
            info.backend
        );
    }
}

#[test]
fn same_seed_gives_identical_bits() {
    let bits = |device: &dyn Device| {
        losses(device, "digits", STEPS).into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    assert_eq!(bits(&CpuDevice::new()), bits(&CpuDevice::new()));
    for (index, info) in adapters("same_seed_gives_identical_bits") {
        let device = GpuDevice::open(index).unwrap_or_else(|error| panic!("{}: {error}", info.name));
        assert_eq!(bits(&device), bits(&device), "{} ({})", info.name, info.backend);
    }
}

#[test]
fn allocated_bytes_equal_the_plan() {
    let check = |device: &dyn Device| {
        let recipe = wgrad::recipe::load("digits").unwrap();
        let parts = wgrad::train::setup(&recipe).unwrap();
        let plan = Plan::new(parts.model, &parts.splits, parts.config, &device.info().limits).unwrap();
        let planned = plan.peak_bytes();
        let trainer = Trainer::new(device, plan, parts.splits, 1).unwrap();
        assert_eq!(trainer.allocated_bytes(), planned, "{}", device.info().name);
    };
    check(&CpuDevice::new());
    for (index, _) in adapters("allocated_bytes_equal_the_plan") {
        check(&GpuDevice::open(index).unwrap());
    }
}
