//! Several replicas train as one: threads of a process, and processes.

use std::fs;
use std::path::Path;

use crate::support::{adapters, mpi_binary, mpirun, stderr, wgrad};
use wgrad::run::Checkpoint;

const STEPS: u64 = 50;
/// Of losses and parameters, relative: sums in another order.
const TOLERANCE: f64 = 1e-5;

const MODELS: [(&str, &str); 2] = [
    // Dropout has to drop the same of each example, whichever replica has it.
    ("mlp", "kind = \"mlp\"\nhidden = [64, 32]\ndropout = 0.2"),
    ("resnet", "kind = \"resnet\"\ndepth = 8\nwidth = 4\nnorm = \"group\""),
];
const OPTIMIZERS: [(&str, &str); 2] = [
    ("sgd", "kind = \"sgd\"\nlr = 0.01\nmomentum = 0.9\nweight_decay = 1e-3"),
    // With a tiny ε the first steps are signs of gradients, which rounding may turn.
    ("adamw", "kind = \"adamw\"\nlr = 0.001\neps = 1e-5"),
];

/// Writes the recipe `<model>-<optimizer>.toml`, and gives its name.
fn recipe(folder: &Path, model: (&str, &str), optimizer: (&str, &str)) -> String {
    let name = format!("{}-{}", model.0, optimizer.0);
    let text = format!(
        "name = \"{name}\"\n[data]\nkind = \"digits\"\n[model]\n{}\n[optimizer]\n{}\n[train]\nsteps = {STEPS}\n\
         batch = 32\nlog_every = 1\n[schedule]\nkind = \"constant\"\n",
        model.1, optimizer.1
    );
    fs::write(folder.join(format!("{name}.toml")), text).unwrap();
    name
}

/// A tensor and its name.
type Named = (String, Vec<f32>);

/// What a run came to: its losses by step, and everything in its last checkpoint.
#[derive(Debug, PartialEq)]
struct Result {
    losses: Vec<f64>,
    tensors: Vec<Named>,
}

fn result(run: &Path) -> Result {
    let rows = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let losses = rows.lines().filter(|row| row.contains("\"train\"")).map(|row| {
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        row["loss"].as_f64().unwrap()
    });
    let latest = wgrad::run::checkpoint::latest(run).unwrap().expect("a checkpoint");
    let checkpoint = Checkpoint::load(&latest).unwrap();
    let values = |tensor: &wgrad::run::Tensor<'_>| tensor.as_f32().unwrap().to_vec();
    let tensors = checkpoint.tensors.iter().map(|(name, tensor)| (name.clone(), values(tensor)));
    Result { losses: losses.collect(), tensors: tensors.collect() }
}

/// Largest difference of losses, and of a tensor of the model relative to its largest element.
fn difference(a: &Result, b: &Result) -> f64 {
    assert_eq!(a.losses.len(), b.losses.len());
    let losses = a.losses.iter().zip(&b.losses).map(|(a, b)| (a - b).abs() / b.abs());
    let of_tensor = |((name, a), (other, b)): (&Named, &Named)| {
        assert_eq!((name, a.len()), (other, b.len()));
        let largest = b.iter().map(|x| x.abs()).fold(f32::MIN_POSITIVE, f32::max);
        let apart = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        f64::from(apart / largest)
    };
    // Moments belong to the optimizer; they are small where gradients are, and the parameters show what they do.
    let of_model = |(a, _): &(&Named, &Named)| !a.0.contains('/');
    let tensors = a.tensors.iter().zip(&b.tensors).filter(of_model).map(of_tensor);
    losses.chain(tensors).fold(0.0, f64::max)
}

fn train(folder: &Path, name: &str, options: &str, out: &str) -> Result {
    let output = wgrad(folder, &format!("train {name}.toml --device cpu --out {out} {options}"));
    assert!(output.status.success(), "{name} {options}: {}", stderr(&output));
    result(&folder.join(out))
}

fn each_recipe(test: impl Fn(&Path, &str, Result)) {
    for model in MODELS {
        for optimizer in OPTIMIZERS {
            let dir = tempfile::tempdir().unwrap();
            let name = recipe(dir.path(), model, optimizer);
            let alone = train(dir.path(), &name, "", "alone");
            assert_eq!(alone.losses.len(), STEPS as usize);
            test(dir.path(), &name, alone);
        }
    }
}

#[test]
fn threads_train_as_one() {
    each_recipe(|folder, name, alone| {
        let one = train(folder, name, "--replicas 1", "one");
        assert_eq!(one, alone, "{name}: one replica is no team");
        // 32 examples are uneven shares for three.
        for n in 2..=4 {
            let together = train(folder, name, &format!("--replicas {n} --bucket-mb 0.01"), &format!("n{n}"));
            let apart = difference(&together, &alone);
            assert!(apart <= TOLERANCE, "{name} with {n}: {apart}");
        }
    });
}

#[test]
fn processes_train_as_one() {
    let Some(binary) = mpi_binary("processes_train_as_one") else { return };
    each_recipe(|folder, name, alone| {
        for (ranks, extra) in [(2, ""), (3, "--shard optimizer"), (4, ""), (2, "--replicas 2")] {
            let out = format!("mpi{ranks}{}", extra.len());
            let arguments = format!("train {name}.toml --device cpu --out {out} {extra}");
            let output = mpirun(&binary, folder, ranks, &arguments);
            assert!(output.status.success(), "{arguments}: {}", stderr(&output));
            let apart = difference(&result(&folder.join(out)), &alone);
            assert!(apart <= TOLERANCE, "{name} with {ranks} ranks {extra}: {apart}");
        }
    });
}

/// A share of the optimizer's state is updated as all of it would be; checkpoints hold all of it.
#[test]
fn shares_of_the_optimizer_give_the_same_bits() {
    each_recipe(|folder, name, _| {
        let whole = train(folder, name, "--replicas 3 --bucket-mb 0.01", "whole");
        let shares = train(folder, name, "--replicas 3 --bucket-mb 0.02 --shard optimizer", "shares");
        assert_eq!(shares, whole, "{name}");
    });
}

/// All that can come together: several passes, clipping, a moving average, weights of classes, augmented images.
#[test]
fn passes_clipping_averages_and_class_weights_are_those_of_one() {
    let dir = tempfile::tempdir().unwrap();
    let name = recipe(dir.path(), MODELS[1], OPTIMIZERS[0]);
    let options = "--set train.accumulate=3 --set optimizer.clip_norm=0.5 --set train.ema=0.9 \
        --set train.balance_classes=true --set train.steps=20 --set optimizer.lr=0.02";
    let alone = train(dir.path(), &name, options, "alone");
    for (i, extra) in ["--replicas 3", "--replicas 2 --shard optimizer"].into_iter().enumerate() {
        let together = train(dir.path(), &name, &format!("{options} {extra}"), &format!("together{i}"));
        let apart = difference(&together, &alone);
        assert!(apart <= TOLERANCE, "{extra}: {apart}");
    }
}

/// A run goes on with the same bits on as many replicas, and as closely as sums allow on others.
#[test]
fn a_run_is_resumed_by_any_number_of_replicas() {
    let dir = tempfile::tempdir().unwrap();
    let name = recipe(dir.path(), MODELS[0], OPTIMIZERS[1]);
    let whole = train(dir.path(), &name, "--replicas 2 --shard optimizer", "whole");
    for (replicas, same) in [("2 --shard optimizer", true), ("2", true), ("3", false), ("1", false)] {
        let out = format!("parts{}", replicas.replace(' ', ""));
        train(dir.path(), &name, "--replicas 2 --shard optimizer --set train.steps=21", &out);
        let arguments = format!(
            "train {name}.toml --device cpu --out {out} --resume --replicas {replicas} --set train.steps={STEPS}"
        );
        let output = wgrad(dir.path(), &arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        let noted = stderr(&output).contains("bits will differ");
        let parts = result(&dir.path().join(&out));
        let apart = difference(&parts, &whole);
        assert!(apart <= TOLERANCE, "{replicas}: {apart}");
        assert_eq!((parts == whole, noted), (same, !same), "{replicas}: {}", stderr(&output));
    }
}

#[test]
fn replicas_on_adapters_train_as_one() {
    let test = "replicas_on_adapters_train_as_one";
    let dir = tempfile::tempdir().unwrap();
    let name = recipe(dir.path(), MODELS[0], OPTIMIZERS[0]);
    for (index, info) in adapters(test) {
        if info.backend == "gl" {
            let arguments = format!("train {name}.toml --device gpu:{index} --replicas 2 --out gl{index}");
            let output = wgrad(dir.path(), &arguments);
            assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
            assert!(stderr(&output).contains("serves one replica"), "{}", stderr(&output));
            continue;
        }
        let run = |options: &str, out: String| {
            let arguments =
                format!("train {name}.toml --device gpu:{index} --set train.steps=10 {options} --out {out}");
            let output = wgrad(dir.path(), &arguments);
            assert!(output.status.success(), "{}", stderr(&output));
            result(&dir.path().join(out))
        };
        let alone = run("", format!("alone{index}"));
        let together = run("--replicas 2 --bucket-mb 0.01", format!("together{index}"));
        let apart = difference(&together, &alone);
        assert!(apart <= TOLERANCE, "gpu:{index}: {apart}");
    }
}

const BATCH_NORMS: (&str, &str) = ("batch", "kind = \"resnet\"\ndepth = 8\nwidth = 4\nnorm = \"batch\"");
const SYNC: &str = "--set train.sync_batch_norm=true";

/// Batch norms that go by the whole batch are those of one replica, and others are not.
#[test]
fn synchronised_batch_norms_are_those_of_one() {
    let dir = tempfile::tempdir().unwrap();
    let name = recipe(dir.path(), BATCH_NORMS, OPTIMIZERS[0]);
    // With three passes the gradients of the last only set out on their way, but all of them exchange statistics. No more
    // steps than these: sooner or later rounding turns a ReLU on in one run and off in another.
    let passes = "--set train.steps=10 --set train.accumulate=3 --set train.balance_classes=true";
    for (i, how) in ["--set train.steps=20", passes].into_iter().enumerate() {
        let train = |options: &str, out: &str| {
            train(dir.path(), &name, &format!("{how} {options}"), &format!("{out}{i}"))
        };
        let alone = train("", "alone");
        assert_eq!(train(SYNC, "one"), alone, "one replica has nobody to synchronise with");
        for (j, extra) in
            ["2 --bucket-mb 0.01", "3", "3 --shard optimizer --bucket-mb 0.01"].into_iter().enumerate()
        {
            let together = train(&format!("{SYNC} --replicas {extra}"), &format!("sync{j}-"));
            let apart = difference(&together, &alone);
            assert!(apart <= TOLERANCE, "{extra} {how}: {apart}");
        }
        let apart = difference(&train("--replicas 3", "local"), &alone);
        assert!(apart > 100.0 * TOLERANCE, "{how}: without it they should differ, not by {apart}");
    }
}

#[test]
fn batch_norms_are_synchronised_on_adapters() {
    let dir = tempfile::tempdir().unwrap();
    let name = recipe(dir.path(), BATCH_NORMS, OPTIMIZERS[0]);
    for (index, info) in adapters("batch_norms_are_synchronised_on_adapters") {
        // It serves one replica.
        if info.backend == "gl" {
            continue;
        }
        let run = |options: &str, out: String| {
            let arguments =
                format!("train {name}.toml --device gpu:{index} --set train.steps=20 {options} --out {out}");
            let output = wgrad(dir.path(), &arguments);
            assert!(output.status.success(), "{}", stderr(&output));
            result(&dir.path().join(out))
        };
        let alone = run("", format!("alone{index}"));
        for replicas in [2, 3] {
            let options = format!("{SYNC} --replicas {replicas} --bucket-mb 0.01");
            let together = run(&options, format!("together{index}-{replicas}"));
            let apart = difference(&together, &alone);
            assert!(apart <= TOLERANCE, "gpu:{index}, {replicas} replicas: {apart}");
        }
    }
}

#[test]
fn processes_synchronise_batch_norms() {
    let Some(binary) = mpi_binary("processes_synchronise_batch_norms") else { return };
    let dir = tempfile::tempdir().unwrap();
    let name = recipe(dir.path(), BATCH_NORMS, OPTIMIZERS[0]);
    let alone = train(dir.path(), &name, "--set train.steps=20", "alone");
    for (ranks, extra) in [(3, ""), (2, "--replicas 2")] {
        let out = format!("mpi{ranks}");
        let arguments =
            format!("train {name}.toml --device cpu --set train.steps=20 {SYNC} --out {out} {extra}");
        let output = mpirun(&binary, dir.path(), ranks, &arguments);
        assert!(output.status.success(), "{arguments}: {}", stderr(&output));
        let apart = difference(&result(&dir.path().join(&out)), &alone);
        assert!(apart <= TOLERANCE, "{ranks} ranks {extra}: {apart}");
    }
}

#[test]
fn what_replicas_cannot_do_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |arguments: &str, code: i32, words: &str| {
        let output = wgrad(dir.path(), arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "wgrad {arguments}\n{said}");
        assert!(said.contains(words), "wgrad {arguments}: {words:?} is missing in\n{said}");
        assert!(!said.contains("panicked"), "{said}");
    };
    refused("train digits --replicas 0", 2, "1 to 256");
    refused(
        "train digits --device cpu --replicas 5 --set train.batch=4",
        2,
        "5 replicas need at least 5 examples",
    );
    refused("train digits --replicas 2 --device gpu:99", 4, "gpu:99");
    refused("launch -n 2 -- train digits", 2, "--features mpi");
    let name = recipe(dir.path(), BATCH_NORMS, OPTIMIZERS[0]);
    let sync = format!("train {name}.toml --device cpu --replicas 2 {SYNC}");
    refused(&format!("{sync} --set train.recompute=true"), 2, "train.recompute exclude each other");
    refused(&format!("{sync} --profile"), 2, "cannot be profiled");
    refused(&format!("{sync} --set train.accumulate=2 --set optimizer.lr=1e30"), 5, "on replica 0");
    refused("train digits --replicas 2 --device cpu --set optimizer.lr=1e30", 5, "on replica 0");
}

/// One that panics takes the others along, with its exit code.
#[test]
fn a_panicking_thread_ends_all() {
    let dir = tempfile::tempdir().unwrap();
    for rank in [0, 1] {
        let output = wgrad(
            dir.path(),
            &format!("train digits --device cpu --replicas 2 --out r{rank} --panic-at {rank}:30"),
        );
        assert_eq!(output.status.code(), Some(101), "{}", stderr(&output));
        assert!(stderr(&output).contains("injected by --panic-at"), "{}", stderr(&output));
    }
}

/// The linear scaling rule: N times the batch at N times the rate, which it takes five epochs to reach.
#[test]
fn a_scaled_batch_is_that_of_each_replica() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = "train digits-mlp --device cpu --replicas 3 --scale-batch --set train.steps=4 \
        --set optimizer.lr=0.01 --set train.batch=40 --set schedule.kind=constant --set train.log_every=1 --out run";
    let output = wgrad(dir.path(), arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("Batch 120 and learning rate 0.03 for 3 replicas"),
        "{}",
        stderr(&output)
    );
    let recipe = wgrad::train::run_recipe(&wgrad::run::Run::open(&dir.path().join("run")).unwrap()).unwrap();
    assert_eq!((recipe.train.batch, recipe.optimizer.lr()), (120, 0.03));
    // 1437 examples are eleven batches of 120, so that the first of 55 steps of warm-up is at a 55th of the rate.
    let rows = fs::read_to_string(dir.path().join("run/metrics.jsonl")).unwrap();
    let first: serde_json::Value = serde_json::from_str(rows.lines().next().unwrap()).unwrap();
    assert!((first["lr"].as_f64().unwrap() - 0.03 / 55.0).abs() < 1e-9, "{first}");
    // A run that goes on keeps its batch.
    let refused = wgrad(dir.path(), "train digits-mlp --resume --out run --scale-batch");
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
}
