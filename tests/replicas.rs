//! Training on several replicas (threads, processes and adapters) matches training on one replica.

use std::fs;
use std::path::Path;

use crate::support::{adapters, mpi_binary, mpirun, stderr, wgrad};
use wgrad::run::Checkpoint;

const STEPS: u64 = 50;
/// Maximum relative difference of losses and parameters. They differ because replicas compute sums in a different
/// order.
const TOLERANCE: f64 = 1e-5;

const MODELS: [(&str, &str); 2] = [
    // Dropout must drop the same elements of an example on every replica.
    ("mlp", "kind = \"mlp\"\nhidden = [64, 32]\ndropout = 0.2"),
    ("resnet", "kind = \"resnet\"\ndepth = 8\nwidth = 4\nnorm = \"group\""),
];
const OPTIMIZERS: [(&str, &str); 2] = [
    ("sgd", "kind = \"sgd\"\nlr = 0.01\nmomentum = 0.9\nweight_decay = 1e-3"),
    // With the default ε the first updates are close to the signs of the gradients, which rounding may flip.
    ("adamw", "kind = \"adamw\"\nlr = 0.001\neps = 1e-5"),
];

/// Writes the recipe `<model>-<optimizer>.toml` and returns its name.
fn write_recipe(folder: &Path, model: (&str, &str), optimizer: (&str, &str)) -> String {
    let name = format!("{}-{}", model.0, optimizer.0);
    let text = format!(
        "name = \"{name}\"\n[data]\nkind = \"digits\"\n[model]\n{}\n[optimizer]\n{}\n[train]\nsteps = {STEPS}\n\
         batch = 32\nlog_every = 1\n[schedule]\nkind = \"constant\"\n",
        model.1, optimizer.1
    );
    fs::write(folder.join(format!("{name}.toml")), text).unwrap();
    name
}

/// Name and values of a tensor.
type NamedTensor = (String, Vec<f32>);

/// Result of a run: the loss of each step and all tensors of the last checkpoint.
#[derive(Debug, PartialEq)]
struct RunResult {
    losses: Vec<f64>,
    tensors: Vec<NamedTensor>,
}

fn read_result(run: &Path) -> RunResult {
    let rows = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let losses = rows.lines().filter(|row| row.contains("\"train\"")).map(|row| {
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        row["loss"].as_f64().unwrap()
    });
    let latest = wgrad::run::checkpoint::latest(run).unwrap().expect("a checkpoint");
    let checkpoint = Checkpoint::load(&latest).unwrap();
    let values = |tensor: &wgrad::run::Tensor<'_>| tensor.as_f32().unwrap().to_vec();
    let tensors = checkpoint.tensors.iter().map(|(name, tensor)| (name.clone(), values(tensor)));
    RunResult { losses: losses.collect(), tensors: tensors.collect() }
}

/// Returns the largest relative difference among the losses and the model tensors of two runs.
///
/// Differences of a tensor are relative to its largest element.
fn largest_difference(a: &RunResult, b: &RunResult) -> f64 {
    assert_eq!(a.losses.len(), b.losses.len());
    let losses = a.losses.iter().zip(&b.losses).map(|(a, b)| (a - b).abs() / b.abs());
    let tensor_difference = |((name, a), (other_name, b)): (&NamedTensor, &NamedTensor)| {
        assert_eq!((name, a.len()), (other_name, b.len()));
        let largest = b.iter().map(|x| x.abs()).fold(f32::MIN_POSITIVE, f32::max);
        let difference = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        f64::from(difference / largest)
    };
    // Moments of the optimizer are skipped: some are tiny, and their effect shows in the parameters.
    let is_model_tensor = |(a, _): &(&NamedTensor, &NamedTensor)| !a.0.contains('/');
    let tensors = a.tensors.iter().zip(&b.tensors).filter(is_model_tensor).map(tensor_difference);
    losses.chain(tensors).fold(0.0, f64::max)
}

fn train(folder: &Path, name: &str, options: &str, out: &str) -> RunResult {
    let output = wgrad(folder, &format!("train {name}.toml --device cpu --out {out} {options}"));
    assert!(output.status.success(), "{name} {options}: {}", stderr(&output));
    read_result(&folder.join(out))
}

/// Trains each model with each optimizer on one replica, and passes folder, recipe name and result to `test`.
fn for_each_recipe(test: impl Fn(&Path, &str, RunResult)) {
    for model in MODELS {
        for optimizer in OPTIMIZERS {
            let dir = tempfile::tempdir().unwrap();
            let name = write_recipe(dir.path(), model, optimizer);
            let alone = train(dir.path(), &name, "", "alone");
            assert_eq!(alone.losses.len(), STEPS as usize);
            test(dir.path(), &name, alone);
        }
    }
}

#[test]
fn threads_match_a_single_replica() {
    for_each_recipe(|folder, name, alone| {
        let one = train(folder, name, "--replicas 1", "one");
        assert_eq!(one, alone, "{name}: --replicas 1 must not change a bit");
        // 3 replicas divide the 32 examples unevenly.
        for n in 2..=4 {
            let together = train(folder, name, &format!("--replicas {n} --bucket-mb 0.01"), &format!("n{n}"));
            let difference = largest_difference(&together, &alone);
            assert!(difference <= TOLERANCE, "{name} with {n}: {difference}");
        }
    });
}

#[test]
fn processes_match_a_single_replica() {
    let Some(binary) = mpi_binary("processes_match_a_single_replica") else { return };
    for_each_recipe(|folder, name, alone| {
        for (ranks, extra) in [(2, ""), (3, "--shard optimizer"), (4, ""), (2, "--replicas 2")] {
            let out = format!("mpi{ranks}{}", extra.len());
            let arguments = format!("train {name}.toml --device cpu --out {out} {extra}");
            let output = mpirun(&binary, folder, ranks, &arguments);
            assert!(output.status.success(), "{arguments}: {}", stderr(&output));
            let difference = largest_difference(&read_result(&folder.join(out)), &alone);
            assert!(difference <= TOLERANCE, "{name} with {ranks} ranks {extra}: {difference}");
        }
    });
}

/// Also checks that checkpoints contain the whole optimizer state.
#[test]
fn sharded_optimizer_has_identical_bits() {
    for_each_recipe(|folder, name, _| {
        let unsharded = train(folder, name, "--replicas 3 --bucket-mb 0.01", "unsharded");
        let sharded = train(folder, name, "--replicas 3 --bucket-mb 0.02 --shard optimizer", "sharded");
        assert_eq!(sharded, unsharded, "{name}");
    });
}

/// Combines several passes per step, gradient clipping, a moving average and class weights.
#[test]
fn combined_training_options_match_a_single_replica() {
    let dir = tempfile::tempdir().unwrap();
    let name = write_recipe(dir.path(), MODELS[1], OPTIMIZERS[0]);
    let options = "--set train.accumulate=3 --set optimizer.clip_norm=0.5 --set train.ema=0.9 \
        --set train.balance_classes=true --set train.steps=20 --set optimizer.lr=0.02";
    let alone = train(dir.path(), &name, options, "alone");
    for (i, extra) in ["--replicas 3", "--replicas 2 --shard optimizer"].into_iter().enumerate() {
        let together = train(dir.path(), &name, &format!("{options} {extra}"), &format!("together{i}"));
        let difference = largest_difference(&together, &alone);
        assert!(difference <= TOLERANCE, "{extra}: {difference}");
    }
}

/// With the same number of replicas the bits are identical. Otherwise the run differs by rounding, and prints a note.
#[test]
fn run_resumes_on_any_number_of_replicas() {
    let dir = tempfile::tempdir().unwrap();
    let name = write_recipe(dir.path(), MODELS[0], OPTIMIZERS[1]);
    let uninterrupted = train(dir.path(), &name, "--replicas 2 --shard optimizer", "uninterrupted");
    for (replicas, same) in [("2 --shard optimizer", true), ("2", true), ("3", false), ("1", false)] {
        let out = format!("resumed{}", replicas.replace(' ', ""));
        train(dir.path(), &name, "--replicas 2 --shard optimizer --set train.steps=21", &out);
        let arguments = format!(
            "train {name}.toml --device cpu --out {out} --resume --replicas {replicas} --set train.steps={STEPS}"
        );
        let output = wgrad(dir.path(), &arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        let has_note = stderr(&output).contains("not bit-identical");
        let resumed = read_result(&dir.path().join(&out));
        let difference = largest_difference(&resumed, &uninterrupted);
        assert!(difference <= TOLERANCE, "{replicas}: {difference}");
        assert_eq!((resumed == uninterrupted, has_note), (same, !same), "{replicas}: {}", stderr(&output));
    }
}

#[test]
fn replicas_on_adapters_match_a_single_replica() {
    let test = "replicas_on_adapters_match_a_single_replica";
    let dir = tempfile::tempdir().unwrap();
    let name = write_recipe(dir.path(), MODELS[0], OPTIMIZERS[0]);
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
            read_result(&dir.path().join(out))
        };
        let alone = run("", format!("alone{index}"));
        let together = run("--replicas 2 --bucket-mb 0.01", format!("together{index}"));
        let difference = largest_difference(&together, &alone);
        assert!(difference <= TOLERANCE, "gpu:{index}: {difference}");
    }
}

const BATCH_NORMS: (&str, &str) = ("batch", "kind = \"resnet\"\ndepth = 8\nwidth = 4\nnorm = \"batch\"");
const SYNC: &str = "--set train.sync_batch_norm=true";

/// Also checks that batch norms without synchronisation differ from a single replica.
#[test]
fn synchronised_batch_norms_match_a_single_replica() {
    let dir = tempfile::tempdir().unwrap();
    let name = write_recipe(dir.path(), BATCH_NORMS, OPTIMIZERS[0]);
    // Gradients are exchanged only in the last of three passes, but batch-norm statistics are exchanged in all passes.
    // The runs are short because in longer ones rounding eventually changes the sign of a ReLU input in one run but
    // not in the other.
    let accumulate = "--set train.steps=10 --set train.accumulate=3 --set train.balance_classes=true";
    for (i, settings) in ["--set train.steps=20", accumulate].into_iter().enumerate() {
        let train = |options: &str, out: &str| {
            train(dir.path(), &name, &format!("{settings} {options}"), &format!("{out}{i}"))
        };
        let alone = train("", "alone");
        assert_eq!(train(SYNC, "one"), alone, "synchronisation of one replica must not change a bit");
        for (j, extra) in
            ["2 --bucket-mb 0.01", "3", "3 --shard optimizer --bucket-mb 0.01"].into_iter().enumerate()
        {
            let together = train(&format!("{SYNC} --replicas {extra}"), &format!("sync{j}-"));
            let difference = largest_difference(&together, &alone);
            assert!(difference <= TOLERANCE, "{extra} {settings}: {difference}");
        }
        let difference = largest_difference(&train("--replicas 3", "local"), &alone);
        assert!(difference > 100.0 * TOLERANCE, "{settings}: without synchronisation: {difference}");
    }
}

#[test]
fn batch_norms_are_synchronised_on_adapters() {
    let dir = tempfile::tempdir().unwrap();
    let name = write_recipe(dir.path(), BATCH_NORMS, OPTIMIZERS[0]);
    for (index, info) in adapters("batch_norms_are_synchronised_on_adapters") {
        // A device of the OpenGL backend supports only one replica.
        if info.backend == "gl" {
            continue;
        }
        let run = |options: &str, out: String| {
            let arguments =
                format!("train {name}.toml --device gpu:{index} --set train.steps=20 {options} --out {out}");
            let output = wgrad(dir.path(), &arguments);
            assert!(output.status.success(), "{}", stderr(&output));
            read_result(&dir.path().join(out))
        };
        let alone = run("", format!("alone{index}"));
        for replicas in [2, 3] {
            let options = format!("{SYNC} --replicas {replicas} --bucket-mb 0.01");
            let together = run(&options, format!("together{index}-{replicas}"));
            let difference = largest_difference(&together, &alone);
            assert!(difference <= TOLERANCE, "gpu:{index}, {replicas} replicas: {difference}");
        }
    }
}

#[test]
fn processes_synchronise_batch_norms() {
    let Some(binary) = mpi_binary("processes_synchronise_batch_norms") else { return };
    let dir = tempfile::tempdir().unwrap();
    let name = write_recipe(dir.path(), BATCH_NORMS, OPTIMIZERS[0]);
    let alone = train(dir.path(), &name, "--set train.steps=20", "alone");
    for (ranks, extra) in [(3, ""), (2, "--replicas 2")] {
        let out = format!("mpi{ranks}");
        let arguments =
            format!("train {name}.toml --device cpu --set train.steps=20 {SYNC} --out {out} {extra}");
        let output = mpirun(&binary, dir.path(), ranks, &arguments);
        assert!(output.status.success(), "{arguments}: {}", stderr(&output));
        let difference = largest_difference(&read_result(&dir.path().join(&out)), &alone);
        assert!(difference <= TOLERANCE, "{ranks} ranks {extra}: {difference}");
    }
}

#[test]
fn unsupported_replica_options_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let assert_fails = |arguments: &str, code: i32, message: &str| {
        let output = wgrad(dir.path(), arguments);
        let messages = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "wgrad {arguments}\n{messages}");
        assert!(messages.contains(message), "wgrad {arguments}: {message:?} is missing in\n{messages}");
        assert!(!messages.contains("panicked"), "{messages}");
    };
    assert_fails("train digits --replicas 0", 2, "1 to 256");
    assert_fails(
        "train digits --device cpu --replicas 5 --set train.batch=4",
        2,
        "5 replicas need at least 5 examples",
    );
    assert_fails("train digits --replicas 2 --device gpu:99", 4, "gpu:99");
    assert_fails("launch -n 2 -- train digits", 2, "--features mpi");
    let name = write_recipe(dir.path(), BATCH_NORMS, OPTIMIZERS[0]);
    let sync = format!("train {name}.toml --device cpu --replicas 2 {SYNC}");
    assert_fails(&format!("{sync} --set train.recompute=true"), 2, "train.recompute cannot be combined");
    assert_fails(&format!("{sync} --profile"), 2, "cannot be profiled");
    assert_fails(&format!("{sync} --set train.accumulate=2 --set optimizer.lr=1e30"), 5, "on replica 0");
    assert_fails("train digits --replicas 2 --device cpu --set optimizer.lr=1e30", 5, "on replica 0");
}

/// The process exits with the exit code of a panic.
#[test]
fn panicking_replica_ends_all_replicas() {
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

/// Linear scaling rule: N times the batch and N times the learning rate, after a warm-up of five epochs.
#[test]
fn scale_batch_multiplies_batch_and_learning_rate() {
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
    // 1437 examples are 11 batches of 120, so the warm-up has 55 steps. The first step uses 1/55 of the learning rate.
    let rows = fs::read_to_string(dir.path().join("run/metrics.jsonl")).unwrap();
    let first: serde_json::Value = serde_json::from_str(rows.lines().next().unwrap()).unwrap();
    assert!((first["lr"].as_f64().unwrap() - 0.03 / 55.0).abs() < 1e-9, "{first}");
    // A resumed run keeps its batch.
    let refused = wgrad(dir.path(), "train digits-mlp --resume --out run --scale-batch");
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
}
