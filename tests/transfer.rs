//! Training of convolutional networks with the binary: initial weights, frozen layers, scores and the depth study.

use std::fs;
use std::path::Path;

use crate::support::{last_json, stderr, wgrad};
use wgrad::weights::Weights;

/// Recipe of a residual network on the embedded digits that trains in a second.
const SMALL: &str = "\
name = \"small\"
data = { kind = \"digits\", limit = 400, augment = { crop = 1, brightness = 0.1 } }
model = { kind = \"resnet\", depth = 8, width = 4, shortcut = \"projection\" }
optimizer = { kind = \"sgd\", lr = 0.05 }
train = { batch = 40, steps = 9, eval_batch = 100 }
";

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("small.toml"), SMALL).unwrap();
    dir
}

/// Runs a command that must succeed, and returns its stderr.
#[track_caller]
fn run(dir: &Path, arguments: &str) -> String {
    let output = wgrad(dir, arguments);
    assert!(output.status.success(), "{arguments}: {}", stderr(&output));
    stderr(&output)
}

/// Exports the weights of a run and reads them.
fn export_weights(dir: &Path, run: &str) -> Weights {
    let output = wgrad(dir, &format!("export {run}"));
    assert!(output.status.success(), "{}", stderr(&output));
    Weights::read(&dir.join(run).join("weights.safetensors")).unwrap()
}

fn tensor<'w>(weights: &'w Weights, name: &str) -> &'w [f32] {
    weights.get(name).unwrap_or_else(|| panic!("tensor {name} is missing")).values()
}

/// Resume must restore augmentation and the running statistics of batch norms.
#[test]
fn resumed_convolutional_run_has_identical_bits() {
    let dir = folder();
    run(dir.path(), "train small.toml --device cpu --out uninterrupted");
    run(dir.path(), "train small.toml --device cpu --out resumed --set train.steps=4");
    run(dir.path(), "train small.toml --device cpu --resume --out resumed --set train.steps=9");
    let model =
        |run: &str| fs::read(dir.path().join(run).join("checkpoints/step-000009/model.safetensors")).unwrap();
    assert!(model("uninterrupted") == model("resumed"), "models differ");
    let weights = export_weights(dir.path(), "uninterrupted");
    let updated = tensor(&weights, "bn1.running_mean").iter().any(|&mean| mean != 0.0);
    assert!(updated, "the running statistics were not updated");
}

/// The replaced head, the frozen layers and the layers with their own learning rate are selected by name patterns.
#[test]
fn init_loads_weights_of_another_run() {
    let dir = folder();
    run(dir.path(), "train small.toml --device cpu --out first");
    let first = export_weights(dir.path(), "first");
    let messages = run(
        dir.path(),
        "train small.toml --device cpu --out second --init first/weights.safetensors --set train.seed=7 \
         --set transfer.replace=[\"fc.*\"] --set transfer.freeze=[\"conv1.*\",\"bn1.*\",\"layer1.*\"] \
         --set transfer.rates={\"fc.*\"=2.0}",
    );
    assert!(messages.contains("of them trained"), "{messages}");
    let second = export_weights(dir.path(), "second");
    for name in ["conv1.weight", "bn1.running_var", "layer1.0.conv2.weight", "layer1.0.bn1.running_mean"] {
        assert_eq!(tensor(&first, name), tensor(&second, name), "{name} is frozen");
    }
    for name in ["layer2.0.conv1.weight", "layer3.0.bn2.running_mean", "fc.weight"] {
        assert_ne!(tensor(&first, name), tensor(&second, name), "{name} is trained");
    }
    // Frozen parameters have no moments.
    let checkpoint = dir.path().join("second/checkpoints/step-000009/model.safetensors");
    let saved = Weights::read(&checkpoint).unwrap();
    let names: Vec<&str> = saved.iter().map(|(name, _)| name).collect();
    assert!(names.contains(&"momentum/fc.weight"), "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with("momentum/layer1")), "{names:?}");
}

/// The learning rate is negligible, so the weights must stay those of the first run.
#[test]
fn init_accepts_a_run_directory() {
    let dir = folder();
    run(dir.path(), "train small.toml --device cpu --out first");
    let options = "--device cpu --set train.steps=1 --set optimizer.lr=1e-30 --set optimizer.momentum=0";
    run(dir.path(), &format!("train small.toml {options} --out again --init first"));
    let (first, again) = (export_weights(dir.path(), "first"), export_weights(dir.path(), "again"));
    for name in ["conv1.weight", "layer3.0.conv1.weight", "fc.bias"] {
        assert_eq!(tensor(&first, name), tensor(&again, name), "{name}");
    }
}

#[test]
fn mismatched_weights_and_settings_are_refused_by_name() {
    let dir = folder();
    run(dir.path(), "train small.toml --device cpu --out first --set train.steps=1");
    export_weights(dir.path(), "first");
    let assert_fails = |arguments: &str, code: i32, parts: &[&str]| {
        let output = wgrad(dir.path(), &format!("train small.toml --device cpu {arguments}"));
        let messages = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments}: {messages}");
        for part in parts {
            assert!(messages.contains(part), "{arguments}: {part:?} is missing in {messages}");
        }
    };
    let file = "first/weights.safetensors";
    assert_fails(
        &format!("--init {file} --set model.width=6"),
        6,
        &[file, "conv1.weight", "[4, 1, 3, 3]", "[6, 1, 3, 3]"],
    );
    assert_fails(&format!("--init {file} --set model.depth=14"), 6, &["layer1.1"]);
    assert_fails("--init missing.pth", 6, &["missing.pth"]);
    fs::write(dir.path().join("noise.pth"), b"nothing that PyTorch wrote").unwrap();
    assert_fails("--init noise.pth", 6, &["noise.pth"]);
    assert_fails("--set transfer.freeze=[\"layer9.*\"]", 6, &["layer9.*"]);
    assert_fails("--set transfer.frieze=[\"fc.*\"]", 2, &["transfer.freeze"]);
    assert_fails("--set model.depth=21", 2, &["6n + 2"]);
    assert_fails("--set train.class_weights=[1.0,2.0]", 2, &["10 classes"]);
    assert_fails("--set data.augment.crop=9", 2, &["data.augment.crop"]);
}

#[test]
fn published_networks_have_their_published_sizes() {
    let dir = folder();
    let published = [
        ("resnet18", 11_689_512, Some(1.81e9)),
        ("resnet34", 21_797_672, Some(3.66e9)),
        ("resnet50", 25_557_032, Some(4.09e9)),
        ("resnet20", 269_722, Some(40.6e6)),
        ("resnet110", 1_727_962, None),
    ];
    for (name, parameters, multiply_adds) in published {
        let output = wgrad(dir.path(), &format!("summary {name} --json"));
        assert!(output.status.success(), "{}", stderr(&output));
        let summary = last_json(&output);
        assert_eq!(summary["parameters"].as_u64(), Some(parameters), "{name}");
        if let Some(expected) = multiply_adds {
            let found = summary["multiply_adds"].as_f64().unwrap();
            assert!((found / expected - 1.0f64).abs() < 0.01, "{name}: {found}, expected {expected}");
        }
    }
}

#[test]
fn classifier_has_a_confusion_matrix_in_report_and_scores() {
    let dir = folder();
    run(dir.path(), "train small.toml --device cpu --out run --set train.balance_classes=true");
    let report = fs::read_to_string(dir.path().join("run/report.html")).unwrap();
    assert!(report.contains("Confusion"), "the report has no confusion matrix");
    let scores = last_json(&wgrad(dir.path(), "eval run --device cpu --json"))["scores"].clone();
    let counts = scores["confusion"].as_array().unwrap().iter().flat_map(|row| row.as_array().unwrap());
    assert_eq!(counts.map(|count| count.as_u64().unwrap()).sum::<u64>(), 360);
}

#[test]
fn depth_study_writes_page_and_json() {
    let dir = folder();
    let options = "--data digits --depths 8,14 --seeds 3 --steps 12 --batch 32 --width 2 --examples 200 --device cpu --out d";
    let output = wgrad(dir.path(), &format!("study depth {options} --json"));
    assert!(output.status.success(), "{}", stderr(&output));
    let study = last_json(&output);
    assert_eq!(study["runs"].as_array().map(Vec::len), Some(4));
    let norms = study["runs"][0]["gradient_norms_init"].as_array().unwrap();
    assert!(norms.len() == 8 && norms.iter().all(|norm| norm["value"].as_f64().unwrap() > 0.0), "{norms:?}");
    let movement = study["sigmoid"][0]["movement"].as_array().unwrap();
    assert!(movement.iter().all(|layer| layer["value"].as_f64().unwrap() > 0.0), "{movement:?}");
    assert!(fs::read_to_string(dir.path().join("d/depth.html")).unwrap().contains("<svg"));
    assert!(dir.path().join("d/depth.json").is_file());
    let output = wgrad(dir.path(), "study depth --data digits --depths 9 --device cpu");
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}
