//! Tests of benchmark results: derived values (checked against hand computation), the page, and comparisons.

#[path = "../../report/tests/it/page.rs"]
mod page;

use page::{assert_self_contained, well_formed};
use std::fs;
use wgrad_bench::results::{
    Bench, BenchComparison, BenchFileError, Ceilings, Check, ColdStart, CompareError, DeviceReport, FORMAT,
    Group, Host, Measurement, Noise, RunCost, Status, SweepPoint, Timing,
};

fn timing(ms: f64, cost: RunCost) -> Timing {
    Timing {
        ms,
        p10_ms: 0.95 * ms,
        p90_ms: 1.05 * ms,
        repeats: 20,
        runs_per_repeat: 1,
        device_ms: None,
        host_us: None,
        load_ms: 1.0,
        gflops: cost.flops as f64 / ms / 1e6,
        gbytes_per_s: cost.bytes as f64 / ms / 1e6,
        samples_per_s: None,
        roofline_share: None,
        allocated_bytes: cost.footprint,
        watts: None,
    }
}

fn case(device: &str, group: Group, name: &str, ms: f64, flops: u64, bytes: u64) -> Measurement {
    let cost = RunCost { flops, bytes, dispatches: 1, footprint: bytes };
    Measurement {
        case: name.into(),
        group,
        device: device.into(),
        status: Status::Timed,
        reason: None,
        check: Some(Check { by: "reference".into(), worst: Some(0.01), at: "y[0]".into() }),
        cost: Some(cost),
        samples: None,
        sweeps: Vec::new(),
        time: Some(timing(ms, cost)),
    }
}

fn step(device: &str, batch: u64, ms: f64) -> Measurement {
    let mut result = case(device, Group::Step, &format!("mlp-batch-{batch}"), ms, 1_000_000 * batch, 100_000);
    result.samples = Some(batch);
    result.sweeps = vec![SweepPoint { axis: "batch".into(), at: batch }];
    if let Some(time) = &mut result.time {
        time.samples_per_s = Some(1e3 * batch as f64 / ms);
    }
    result
}

fn report(device: &str, kind: &str) -> DeviceReport {
    DeviceReport {
        device: device.into(),
        kind: kind.into(),
        name: format!("A <{kind}> & more"),
        class: kind.into(),
        backend: "vulkan".into(),
        driver: "1.0".into(),
        tuned: 0,
        ceilings: Ceilings::default(),
        cold_start: Some(ColdStart {
            workload: "mlp".into(),
            process_ms: 1.0,
            device_ms: 2.0,
            plan_ms: 3.0,
            load_ms: 4.0,
            first_step_ms: 5.0,
            total_ms: 15.0,
            peak_rss_bytes: None,
        }),
    }
}

const MIB: u64 = 1 << 20;

/// Returns ceiling measurements of a device that copies 1 MiB at 100 GB/s and 100 MiB at 10 GB/s, and multiplies
/// matrices at 200 GFLOP/s.
fn results(device: &str) -> Vec<Measurement> {
    let at = |bytes: u64, rate: f64| bytes as f64 / rate / 1e6;
    vec![
        case(device, Group::Ceiling, "copy-1MiB", at(MIB, 100.0), 0, MIB),
        case(device, Group::Ceiling, "copy-100MiB", at(100 * MIB, 10.0), 0, 100 * MIB),
        case(device, Group::Ceiling, "fma-64", 1.0, 50_000_000, 8 * MIB),
        case(device, Group::Gemm, "matmul-512", 1.0, 200_000_000, 3 * MIB),
    ]
}

fn bench(results: Vec<Measurement>) -> Bench {
    let mut bench = Bench {
        format: FORMAT,
        version: "0.1.0".into(),
        command: "wgrad bench --only 'a&b'".into(),
        date: "2026-01-02T03:04:05Z".into(),
        seconds: 12.5,
        quick: false,
        host: Host { os: "linux".into(), arch: "x86_64".into(), processors: 2 },
        devices: vec![report("cpu", "cpu"), report("gpu:0", "gpu")],
        results,
        crossovers: Vec::new(),
        noise: Noise::default(),
    };
    bench.analyze();
    bench
}

fn roofline_fraction(bench: &Bench, case: &str) -> Option<f64> {
    bench.results.iter().find(|result| result.case == case)?.time.as_ref()?.roofline_share
}

#[test]
fn roofline_fractions_match_hand_computation() {
    let mut all = results("cpu");
    // 50 MB at the 10 GB/s of memory: minimum 5 ms, measured 20 ms.
    all.push(case("cpu", Group::Pointwise, "large", 20.0, 1_000, 50_000_000));
    // 1 MB at the 100 GB/s of the cache: minimum 0.01 ms, measured 0.02 ms.
    all.push(case("cpu", Group::Pointwise, "small", 0.02, 1_000, 1_000_000));
    // 1 GFLOP at 200 GFLOP/s: minimum 5 ms, measured 8 ms. The memory traffic of 10 MB takes only 1 ms.
    all.push(case("cpu", Group::Conv, "conv", 8.0, 1_000_000_000, 10_000_000));
    // 2 GB, more than the largest copy, at the 10 GB/s of memory: minimum 200 ms, measured 400 ms.
    all.push(case("cpu", Group::Reduction, "huge", 400.0, 1_000, 2_000_000_000));
    let bench = bench(all);
    for (case, expected) in
        [("large", 0.25), ("small", 0.5), ("conv", 0.625), ("huge", 0.5), ("matmul-512", 1.0)]
    {
        let found = roofline_fraction(&bench, case).unwrap();
        assert!((found - expected).abs() < 1e-9, "{case}: expected {expected}, found {found}");
    }
    let ceilings = &bench.devices[0].ceilings;
    assert!((ceilings.compute_gflops.unwrap() - 200.0).abs() < 1e-9);
    assert_eq!(ceilings.compute_by.as_deref(), Some("matmul-512"));
    assert!((ceilings.fma_gflops.unwrap() - 50.0).abs() < 1e-9);
    assert!((ceilings.bandwidth_gbytes_per_s.unwrap() - 10.0).abs() < 1e-9);
    assert_eq!(roofline_fraction(&bench, "copy-1MiB"), None, "a ceiling must not have a roofline fraction");
    // The other device has no measurements.
    assert_eq!(bench.devices[1].ceilings, Ceilings::default());
}

#[test]
fn launch_time_is_per_dispatch() {
    let mut launches = case("cpu", Group::Ceiling, "launch-100", 0.5, 0, 1000);
    launches.cost = Some(RunCost { flops: 0, bytes: 1000, dispatches: 100, footprint: 1000 });
    let bench = bench(vec![launches, case("cpu", Group::Ceiling, "round-trip", 0.02, 0, 1000)]);
    let ceilings = &bench.devices[0].ceilings;
    assert!((ceilings.launch_us.unwrap() - 5.0).abs() < 1e-9);
    assert!((ceilings.round_trip_us.unwrap() - 20.0).abs() < 1e-9);
}

#[test]
fn crossover_is_the_value_from_which_a_device_is_always_faster() {
    // Each tuple has the batch size, the CPU time and the GPU time, in milliseconds.
    let crossovers = |times: &[(u64, f64, f64)]| {
        let both =
            |&(batch, cpu, gpu): &(u64, f64, f64)| [step("cpu", batch, cpu), step("gpu:0", batch, gpu)];
        let bench = bench(times.iter().flat_map(both).collect());
        bench.crossovers.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let one = |text: &str| vec![text.to_owned()];
    // The GPU is faster at 4, slower again at 16, and faster from 64 on.
    assert_eq!(
        crossovers(&[(1, 1.0, 2.0), (4, 2.0, 1.9), (16, 3.0, 4.0), (64, 9.0, 5.0), (256, 30.0, 6.0)]),
        one("gpu:0 is faster than cpu from batch 64 on (measured 1 to 256).")
    );
    assert_eq!(
        crossovers(&[(1, 1.0, 2.0), (64, 2.0, 3.0)]),
        one("gpu:0 is not faster than cpu at any batch from 1 to 64.")
    );
    assert_eq!(
        crossovers(&[(1, 2.0, 1.0), (64, 4.0, 3.0)]),
        one("gpu:0 is faster than cpu at every batch from 1 to 64.")
    );
    assert!(crossovers(&[(1, 2.0, 1.0)]).is_empty(), "a sweep with one value must not have a crossover");
}

#[test]
fn high_noise_produces_a_warning() {
    let mut quiet = bench(results("cpu"));
    assert_eq!(quiet.noise.warning, None);
    quiet.noise.foreign_cpu_share = Some(0.31);
    quiet.analyze();
    assert!(quiet.noise.warning.as_ref().unwrap().contains("31%"), "{:?}", quiet.noise);
    let mut wide = results("cpu");
    wide.iter_mut().filter_map(|result| result.time.as_mut()).for_each(|time| time.p90_ms = 2.0 * time.ms);
    assert!(bench(wide).noise.warning.unwrap().contains("105%"));
}

#[test]
fn change_is_marked_if_it_exceeds_the_spread_of_both() {
    let timed = |ms: f64| bench(vec![case("cpu", Group::Gemm, "matmul-512", ms, 1_000_000, 1_000)]);
    let change =
        |old: f64, new: f64| BenchComparison::new(&timed(old), &timed(new)).unwrap().changes.remove(0);
    // The percentiles are 0.95 and 1.05 times the median: 9.5 to 10.5 ms for 10 ms, and 10.26 to 11.34 ms for 10.8 ms.
    let same = change(10.0, 10.8);
    assert_eq!((same.beyond_spread, same.label()), (false, ""));
    assert!((same.ratio - 1.08).abs() < 1e-9);
    assert_eq!(change(10.0, 12.0).label(), "slower");
    assert_eq!(change(12.0, 10.0).label(), "faster");
}

#[test]
fn comparison_lists_cases_of_only_one_benchmark() {
    let mut old = bench(vec![
        case("cpu", Group::Gemm, "matmul-512", 1.0, 1_000, 1_000),
        case("cpu", Group::Gemm, "matmul-1024", 1.0, 1_000, 1_000),
        case("gpu:0", Group::Gemm, "matmul-512", 1.0, 1_000, 1_000),
    ]);
    let mut wrong = case("gpu:0", Group::Gemm, "matmul-512", 1.0, 1_000, 1_000);
    (wrong.status, wrong.time) = (Status::Wrong, None);
    let mut new = bench(vec![
        case("cpu", Group::Gemm, "matmul-512", 2.0, 1_000, 1_000),
        wrong,
        case("cpu", Group::Pointwise, "relu", 1.0, 1_000, 1_000),
    ]);
    new.devices[0].driver = "2.0".into();
    old.devices.push(report("gpu:1", "gpu"));
    let comparison = BenchComparison::new(&old, &new).unwrap();
    assert_eq!(comparison.changes.len(), 1);
    assert_eq!(comparison.only_old, ["matmul-1024 on cpu", "matmul-512 on gpu:0"]);
    assert_eq!(comparison.only_new, ["relu on cpu"]);
    let notes = comparison.notes.join("\n");
    assert!(notes.contains("cpu was") && notes.contains("2.0"), "{notes}");
    assert!(notes.contains("gpu:1 is only in the old benchmark"), "{notes}");
    let nothing = bench(vec![case("cpu", Group::Conv, "conv", 1.0, 1, 1)]);
    let refused = BenchComparison::new(&old, &nothing).unwrap_err();
    assert!(matches!(refused, CompareError::NothingInCommon { .. }));
    assert!(refused.to_string().contains("conv on cpu"), "{refused}");
}

#[test]
fn file_with_an_unsupported_format_version_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let bench = bench(results("cpu"));
    let page = bench.write(folder.path(), None).unwrap();
    assert_eq!(page, folder.path().join("bench.html"));
    let file = folder.path().join("bench.json");
    assert_eq!(Bench::read(&file).unwrap(), bench);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("\"format\":1", "\"format\":2")).unwrap();
    let refused = Bench::read(&file).unwrap_err();
    assert!(matches!(refused, BenchFileError::Format { found: 2, .. }), "{refused}");
    fs::write(&file, "{\"format\":1}").unwrap();
    assert!(matches!(Bench::read(&file).unwrap_err(), BenchFileError::Json { .. }));
    fs::write(&file, "[]").unwrap();
    assert!(matches!(Bench::read(&file).unwrap_err(), BenchFileError::Json { .. }));
}

#[test]
fn page_is_well_formed_for_all_outcomes() {
    let mut all = results("cpu");
    all.extend(results("gpu:0"));
    all.extend([1, 4, 16].into_iter().flat_map(|batch| [step("cpu", batch, 1.0), step("gpu:0", batch, 2.0)]));
    let mut wrong = case("gpu:0", Group::Rows, "softmax <&>", 1.0, 10, 10);
    (wrong.status, wrong.time) = (Status::Wrong, None);
    wrong.reason = Some("y[0] is 1 < 2".into());
    wrong.check = Some(Check { by: "reference".into(), worst: None, at: "y[0]".into() });
    all.push(wrong);
    let mut skipped = case("gpu:0", Group::Gemm, "matmul-4096", 1.0, 10, 10);
    (skipped.status, skipped.time, skipped.cost, skipped.check) = (Status::Skipped, None, None, None);
    skipped.reason = Some("a run would take about 17.0 s".into());
    all.push(skipped);
    let full = bench(all);
    assert!(!full.passed());
    let comparison = BenchComparison::new(&full, &full).unwrap();
    let page = full.html(Some(&comparison));
    let text = well_formed(&page);
    assert_self_contained(&page);
    for part in [
        "1 results were wrong and not timed",
        "softmax <&> on gpu:0: wrong, y[0] is 1 < 2",
        "Skipped (a run would take about 17.0 s)",
        "gpu:0 is not faster than cpu",
        "Comparison",
        "matmul-512: 200.0 GFLOP/s, 100% of its roofline",
    ] {
        assert!(text.contains(part), "`{part}` is missing");
    }
    let mut nothing = bench(Vec::new());
    nothing.devices.clear();
    assert_self_contained(&nothing.html(None));
    well_formed(&nothing.html(None));
    assert!(!nothing.passed(), "a benchmark without a timed case must not pass");
}
