//! The FLOPs that a run says it took, against counts by hand from the layers' shapes: a multiply-add is two.

use crate::support::{last_json, wgrad};
use wgrad::prelude::*;
use wgrad::program::Limits;

const LIMITS: Limits = Limits { buffer_bytes: 1 << 40, operand_bytes: 1 << 20, operands: 8, f16: false };

/// Examples that are all zero: plans need their shape only.
fn splits(shape: [usize; 3], count: usize) -> Splits {
    let part = || {
        let names = (0..10).map(|class| class.to_string()).collect();
        let labels = (0..count).map(|i| (i % 10) as u32).collect();
        let bytes = vec![0; count * shape.iter().product::<usize>()];
        Dataset::from_pixels("zero", bytes, shape, 255, Targets::Classes { labels, names }).unwrap()
    };
    Splits::new(part(), part())
}

fn config(batch: usize) -> Config {
    let optimizer = Optimizer::Sgd(Sgd::default());
    Config { optimizer, batch, eval_batch: batch, ..Config::default() }
}

/// Within 1% of a count by hand.
fn agrees(what: &str, found: f64, by_hand: f64) {
    let error = found / by_hand - 1.0;
    assert!(error.abs() < 0.01, "{what}: {found:.4e}, by hand {by_hand:.4e}, {:.2}% apart", 100.0 * error);
}

#[test]
fn a_perceptron_counts_as_by_hand() {
    let sizes = [784, 1024, 512, 10];
    let (batch, examples) = (64, 100);
    let mlp = |b: &mut Builder| {
        Mlp::new(b, &MlpConfig { hidden: vec![1024, 512], ..MlpConfig::default() }, 784, 10)
    };
    let data = splits([1, 28, 28], examples).flattened();
    let plan = Plan::new(Model::new(mlp), &data, config(batch), &LIMITS).unwrap();
    let layer = |pair: &[usize]| (2 * batch * pair[0] * pair[1]) as f64;
    let forward: f64 = sizes.windows(2).map(layer).sum();
    // Gradients of weights as the forward pass, and of every layer's input but the first's.
    let backward = 2.0 * forward - layer(&sizes[..2]);
    let flops = plan.step_flops().unwrap();
    agrees("forward", flops.forward, forward);
    agrees("backward", flops.backward, backward);
    // Momentum and step: a multiply-add each, for weights and biases.
    let parameters: usize = sizes.windows(2).map(|pair| pair[0] * pair[1] + pair[1]).sum();
    agrees("update", flops.update, 4.0 * parameters as f64);
    assert_eq!(flops.training(), plan.flops_per_step() as f64);
    // 100 examples are two batches of 64.
    agrees("evaluation", plan.evaluation_flops(SplitName::Test), 2.0 * forward);
}

#[test]
fn accumulation_repeats_passes_and_not_the_update() {
    let mlp = |b: &mut Builder| Mlp::new(b, &MlpConfig { hidden: vec![64], ..MlpConfig::default() }, 784, 10);
    let data = splits([1, 28, 28], 64).flattened();
    let flops = |accumulate| {
        let config = Config { accumulate, ..config(16) };
        Plan::new(Model::new(mlp), &data, config, &LIMITS).unwrap().step_flops().unwrap()
    };
    let (one, four) = (flops(1), flops(4));
    assert_eq!((four.forward, four.update), (4.0 * one.forward, one.update));
    // Gradients are added up three times.
    assert!(four.backward > 4.0 * one.backward && four.backward < 4.1 * one.backward, "{one:?} {four:?}");
}

/// Rows, columns, channels in and out, and side of the kernel.
type Conv = [usize; 5];

fn macs([rows, columns, from, to, side]: Conv) -> usize {
    rows * columns * from * to * side * side
}

/// Multiply-adds of the gradient by the image of a 3×3 convolution that moves by two pixels, whose output has `rows` and
/// `columns`. Pixels whose row and column agree modulo two make four groups, each of which sees two of the kernel's three rows
/// and columns, the missing fourth ones being zeros; the padding makes a group one pixel longer.
fn strided_gradient([rows, columns, from, to, _]: Conv) -> usize {
    4 * (rows + 1) * (columns + 1) * from * to * (2 * 2)
}

#[test]
fn a_convolutional_network_counts_as_by_hand() {
    let batch = 8;
    let known = ResNetConfig::cifar(8).unwrap();
    let network = ResNetConfig { width: 64, norm: ImageNorm::None, ..known };
    let model = Model::new(|b| ResNet::new(b, network, 3, 10));
    let plan = Plan::new(model, &splits([3, 32, 32], 8), config(batch), &LIMITS).unwrap();
    // A first convolution, then three stages of one block with two convolutions; shortcuts are padded, without weights.
    let first: Conv = [32, 32, 3, 64, 3];
    let blocks: [Conv; 6] = [
        [32, 32, 64, 64, 3],
        [32, 32, 64, 64, 3],
        [16, 16, 64, 128, 3],
        [16, 16, 128, 128, 3],
        [8, 8, 128, 256, 3],
        [8, 8, 256, 256, 3],
    ];
    let rest: usize = blocks.into_iter().map(macs).sum::<usize>() + 256 * 10;
    let per_mac = 2.0 * batch as f64;
    let forward = per_mac * (macs(first) + rest) as f64;
    let flops = plan.step_flops().unwrap();
    agrees("forward", flops.forward, forward);
    let by_image = |conv: Conv| if conv[2] < conv[3] { strided_gradient(conv) } else { macs(conv) };
    let by_images: usize = blocks.into_iter().map(by_image).sum::<usize>() + 256 * 10;
    agrees("backward", flops.backward, per_mac * (macs(first) + rest + by_images) as f64);
    agrees("evaluation", plan.evaluation_flops(SplitName::Test), forward);
}

#[test]
fn resnet_50_counts_as_by_hand() {
    let network = ResNetConfig::imagenet(50).unwrap();
    let model = Model::new(|b| ResNet::new(b, network, 3, 10));
    let plan = Plan::new(model, &splits([3, 224, 224], 1), config(1), &LIMITS).unwrap();
    let first = macs([112, 112, 3, 64, 7]);
    let (mut forward, mut beside, mut channels) = (first, 0, 64);
    for (stage, blocks) in [3, 4, 6, 3].into_iter().enumerate() {
        let (width, side) = (64 << stage, 56 >> stage);
        for block in 0..blocks {
            // The first block of a stage but the first halves the image in its 3×3 convolution.
            let before = if block == 0 && stage > 0 { 2 * side } else { side };
            forward += macs([before, before, channels, width, 1]);
            let middle: Conv = [side, side, width, width, 3];
            forward += macs(middle) + macs([side, side, width, 4 * width, 1]);
            beside += if block == 0 && stage > 0 { strided_gradient(middle) - macs(middle) } else { 0 };
            forward += if block == 0 { macs([side, side, channels, 4 * width, 1]) } else { 0 };
            channels = 4 * width;
        }
    }
    let classifier = |classes: usize| 2048 * classes;
    // With the 1,000 classes of ImageNet it is the 4.1 billion that are known of it.
    agrees("published", (forward + classifier(1000)) as f64, 4.09e9);
    let forward = 2.0 * (forward + classifier(10)) as f64;
    agrees("evaluation", plan.evaluation_flops(SplitName::Test), forward);
    // Training normalises by the batch: of each of the 11.1 million values that a batch norm reads it takes a mean and a variance.
    let normalised = 11.1e6;
    let flops = plan.step_flops().unwrap();
    let beyond = (flops.forward - forward) / normalised;
    assert!((5.0..20.0).contains(&beyond), "{beyond} operations for each value that is normalised");
    let backward = 2.0 * forward - 2.0 * first as f64 + 2.0 * beside as f64;
    let beyond = (flops.backward - backward) / normalised;
    assert!((5.0..40.0).contains(&beyond), "{beyond} operations for each value that is normalised");
}

#[test]
fn a_run_says_what_it_took_and_goes_on_counting() {
    let folder = tempfile::tempdir().unwrap();
    let train = "train digits --device cpu --json --out run --set train.epochs=";
    let first = last_json(&wgrad(folder.path(), &format!("{train}2")));
    let whole = last_json(&wgrad(folder.path(), &format!("{train}3 --resume")));
    let number = |json: &serde_json::Value, key: &str| json[key].as_f64().unwrap();
    assert_eq!(number(&whole, "flops") / number(&first, "flops"), 1.5);
    assert_eq!(number(&whole, "petaflop_s_days"), number(&whole, "flops") / 8.64e19);
    let parts = &whole["flops_by"];
    let sum: f64 = ["forward", "backward", "update"].map(|part| number(parts, part)).iter().sum();
    assert_eq!(sum, number(&whole, "flops"));
    // An evaluation after each epoch, and where a run ends.
    let evaluations = number(parts, "evaluation") / number(&first["flops_by"], "evaluation");
    assert!((1.4..=2.0).contains(&evaluations), "{evaluations}");
    let sustained = &whole["sustained"];
    let mfu = number(sustained, "flops_per_second") / number(sustained, "ceiling_flops_per_second");
    assert_eq!(mfu, number(sustained, "mfu"));
    let rows = std::fs::read_to_string(folder.path().join("run/metrics.jsonl")).unwrap();
    let rows: Vec<serde_json::Value> = rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    let per_step = number(&rows[0], "flops");
    for row in &rows {
        assert_eq!(number(row, "flops"), per_step * number(row, "step"), "{row}");
    }
    let done = std::fs::read_to_string(folder.path().join("run/done.json")).unwrap();
    let done: serde_json::Value = serde_json::from_str(&done).unwrap();
    assert_eq!(number(&done["summary"], "flops"), number(&whole, "flops"));
}

#[test]
fn replicas_count_together() {
    let folder = tempfile::tempdir().unwrap();
    let flops = |options: &str, out: &str| {
        let arguments =
            format!("train digits --device cpu --json --set train.epochs=1 --out {out} {options}");
        last_json(&wgrad(folder.path(), &arguments))
    };
    let alone = flops("", "alone");
    let team = flops("--replicas 3", "team");
    let part = |json: &serde_json::Value, key: &str| json["flops_by"][key].as_f64().unwrap();
    assert!(part(&alone, "forward") > 0.0);
    // They share the rows, and each makes the update.
    let ratio = part(&team, "forward") / part(&alone, "forward");
    assert!((ratio - 1.0).abs() < 0.01, "{ratio}");
    let ratio = part(&team, "update") / part(&alone, "update");
    assert!((ratio - 3.0).abs() < 0.05, "{ratio}");
    assert!(team["sustained"]["mfu"].is_null());
}
