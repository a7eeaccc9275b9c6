//! Profiling: results are bit-identical, and the timeline contains every dispatch of the profiled steps.

use crate::support::{adapters, last_json, stderr, wgrad};
use serde_json::Value;
use wgrad::prelude::*;
use wgrad::train::{ProfileOptions, Profiler};

fn trainer(device: &dyn Device, recipe: &str, settings: &[&str]) -> Trainer {
    let mut recipe = wgrad::recipe::load(recipe).expect("a built-in recipe");
    let settings: Vec<String> = settings.iter().map(|&setting| setting.into()).collect();
    recipe.set_all(&settings).expect("known keys");
    let parts = wgrad::train::setup(&recipe).expect("embedded data");
    let plan =
        Plan::new(parts.model, &parts.splits, parts.config, &device.info().limits).expect("a valid plan");
    Trainer::new(device, plan, parts.splits, parts.fit.steps).expect("a working device")
}

/// Returns the CPU and every adapter, each with its name.
fn devices(test: &str) -> Vec<(String, Box<dyn Device>)> {
    let cpu: (String, Box<dyn Device>) = ("cpu".into(), Box::new(CpuDevice::new()));
    let gpus = adapters(test).into_iter().map(|(index, info)| {
        let device: Box<dyn Device> = Box::new(GpuDevice::open(index).expect("the adapter opens"));
        (format!("gpu:{index} {} ({})", info.name, info.backend), device)
    });
    std::iter::once(cpu).chain(gpus).collect()
}

/// Trains 1,000 steps. Returns the bits of the losses, and the bits of the final parameters and their moving averages.
fn train_thousand_steps(device: &dyn Device, options: Option<ProfileOptions>) -> (Vec<u32>, Vec<u32>) {
    let settings =
        ["model.hidden=[16]", "model.dropout=0.1", "train.batch=16", "train.ema=0.9", "train.eval_batch=20"];
    let mut trainer = trainer(device, "digits-mlp", &settings);
    if let Some(options) = options {
        trainer.profile(options, 1000).unwrap();
    }
    let mut losses = Vec::new();
    for step in 0..1000 {
        trainer.step().expect("a working device");
        if step % 16 == 0 {
            losses.extend(trainer.records(false).expect("a working device"));
        }
    }
    losses.extend(trainer.records(true).expect("a working device"));
    if let Some(options) = options {
        let profiler = trainer.take_profile().expect("profiling is enabled");
        assert_eq!(profiler.profiled_steps() as u64, options.steps);
    }
    assert_eq!(losses.len(), 1000);
    let mut tensors = trainer.parameters(false).expect("a working device");
    tensors.extend(trainer.parameters(true).expect("a working device"));
    let values = tensors.iter().flat_map(|tensor| &tensor.values);
    (losses.iter().map(|record| record.loss.to_bits()).collect(), values.map(|x| x.to_bits()).collect())
}

#[test]
fn profiled_training_has_identical_bits() {
    for (name, device) in devices("profiled_training_has_identical_bits") {
        let first = train_thousand_steps(&*device, None);
        let options = Some(ProfileOptions { warmup: 400, steps: 100 });
        assert!(first == train_thousand_steps(&*device, options), "{name}: losses or parameters differ");
    }
}

/// Returns the spans of a timeline: track, name, start and end in microseconds, and arguments.
fn spans(trace: &Value) -> Vec<(u64, String, f64, f64, &Value)> {
    let events = trace["traceEvents"].as_array().expect("a list of events");
    let complete = events.iter().filter(|event| event["ph"] == "X");
    let span = |event: &'_ Value| {
        let number = |key: &str| event[key].as_f64().unwrap_or_else(|| panic!("{key}: {event}"));
        let (start, length) = (number("ts"), number("dur"));
        assert!(start >= 0.0 && length >= 0.0, "{event}");
        let name = event["name"].as_str().expect("a name").to_owned();
        (event["tid"].as_u64().expect("a track"), name, start, start + length)
    };
    complete
        .map(|event| {
            let (track, name, start, end) = span(event);
            (track, name, start, end, &event["args"])
        })
        .collect()
}

/// Tolerance in microseconds for the rounding of times in JSON.
const ROUNDING: f64 = 0.01;

/// Checks that the timeline has one span per dispatch of `steps`, in order, with its FLOPs and bytes.
fn check_timeline(name: &str, plan: &Plan, profiler: &Profiler, steps: std::ops::Range<u64>) {
    let trace = profiler.trace(plan, name).to_json();
    let spans = spans(&trace);
    let mut kernels = spans.iter().filter(|(track, ..)| *track == 2);
    let host: Vec<_> = spans.iter().filter(|(track, ..)| *track == 1).collect();
    let mut last = 0.0;
    for step in steps {
        let step_spans: Vec<_> = host
            .iter()
            .filter(|(_, name, ..)| name.split(':').next() == Some(&format!("step {step}")))
            .collect();
        assert_eq!(step_spans.len() as u64, plan.config.accumulate, "{name}: step {step}");
        let programs = plan.step_programs().into_iter();
        let programs = programs.flat_map(|(program, repeats)| (0..repeats).map(move |_| program));
        for (program, (.., start, end, _)) in programs.zip(step_spans) {
            for (number, dispatch) in program.dispatches.iter().enumerate() {
                let (_, found, from, to, args) =
                    kernels.next().expect("the timeline has a span per dispatch");
                assert_eq!(found, &dispatch.name, "{name}");
                assert_eq!((&args["step"], &args["dispatch"]), (&step.into(), &number.into()), "{name}");
                assert_eq!(args["flops"], dispatch.cost.flops);
                assert_eq!(args["bytes"], dispatch.cost.read + dispatch.cost.written);
                assert!(last <= *from + ROUNDING && from <= to, "{name}: {found} from {from} to {to}");
                assert!(*start <= from + ROUNDING, "{name}: {found} from {from}, step from {start}");
                last = *to;
            }
            let host_spans = host.iter().filter(|(_, _, from, to, _)| from >= start && to <= end);
            assert!(host_spans.count() >= 2, "{name}: a step contains at least two host spans");
        }
    }
    assert!(kernels.next().is_none(), "{name}: the timeline has dispatches of other steps");
    let table = profiler.kernels(plan);
    let sum = |value: fn(&wgrad::train::KernelTime) -> f64| table.iter().map(value).sum::<f64>();
    assert!((sum(|kernel| kernel.fraction) - 1.0).abs() < 1e-9, "{name}");
    assert!((sum(|kernel| kernel.dispatches) - plan.dispatches_per_step() as f64).abs() < 1e-9, "{name}");
}

/// Covers a perceptron, steps of several passes, and a residual network.
#[test]
fn timeline_has_every_dispatch_of_the_profiled_steps() {
    let resnet =
        ["model.kind=resnet", "model.depth=8", "model.width=4", "train.batch=4", "train.eval_batch=4"];
    let recipes: [(&str, &[&str]); 3] =
        [("digits-mlp", &[]), ("digits", &["train.accumulate=3", "train.batch=16"]), ("digits-mlp", &resnet)];
    for (name, device) in devices("timeline_has_every_dispatch_of_the_profiled_steps") {
        // Software adapters take long to compile the kernels of a residual network, so only the CPU runs it.
        let count = if name == "cpu" { recipes.len() } else { recipes.len() - 1 };
        for &(recipe, settings) in &recipes[..count] {
            let mut trainer = trainer(&*device, recipe, settings);
            trainer.profile(ProfileOptions { warmup: 2, steps: 3 }, 7).unwrap();
            for _ in 0..7 {
                trainer.step().expect("a working device");
            }
            let profiler = trainer.take_profile().expect("profiling is enabled");
            check_timeline(&format!("{name}: {recipe}"), trainer.plan(), &profiler, 3..6);
        }
    }
}

#[test]
fn train_writes_the_timeline_to_the_given_path() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &str| {
        let output = wgrad(folder.path(), &format!("train digits --device cpu {arguments}"));
        assert!(output.status.success(), "{}", stderr(&output));
        (last_json(&output), stderr(&output))
    };
    let read = |path: &str| -> Value {
        serde_json::from_str(&std::fs::read_to_string(folder.path().join(path)).unwrap()).unwrap()
    };
    let names = |trace: &Value| spans(trace).into_iter().map(|(_, name, ..)| name).collect::<Vec<_>>();
    let (result, text) = run("--out run --json --set train.steps=30 --profile");
    assert_eq!(result["profile"], "run/profile.json");
    assert!(result["first_step_seconds"].as_f64().unwrap() > 0.0);
    assert!(text.contains("mean of 10 profiled steps") && text.contains("GFLOP/s"), "{text}");
    let found = names(&read("run/profile.json"));
    for expected in ["step 11", "step 20", "prepare batch", "upload", "run", "evaluation", "checkpoint"] {
        assert!(found.iter().any(|name| name == expected), "{expected}: {found:?}");
    }
    assert!(!found.iter().any(|name| name == "step 10" || name == "step 21"), "{found:?}");
    // Only two steps remain, fewer than the default warm-up before the first profiled step.
    let (result, _) =
        run("--resume --out run --json --set train.steps=32 --profile here.json --profile-steps 2");
    assert_eq!(result["profile"], "here.json");
    let found = names(&read("here.json"));
    assert!(found.contains(&"step 31".into()) && found.contains(&"step 32".into()), "{found:?}");
    let (result, _) = run("--out plain --json --set train.steps=2");
    assert!(result["profile"].is_null() && !folder.path().join("plain/profile.json").exists());

    let refused = wgrad(folder.path(), "train digits --device cpu --profile missing/p.json --out no");
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("missing/p.json") && !folder.path().join("no").exists());
    let refused = wgrad(folder.path(), "train digits --device cpu --profile-steps 3");
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
}
