//! Compares the FLOPs that plans and runs report with counts that were computed by hand from the shapes of the layers.
//! A multiply-add counts as two FLOPs.

use crate::support::{last_json, wgrad};
use wgrad::prelude::*;
use wgrad::program::Limits;

const LIMITS: Limits = Limits { buffer_bytes: 1 << 40, operand_bytes: 1 << 20, operands: 8, f16: false };

/// Returns splits of zeros. Plans depend only on the shape of the examples.
fn zero_splits(shape: [usize; 3], count: usize) -> Splits {
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

/// Asserts that a count is within 1% of the count computed by hand.
#[track_caller]
fn assert_within_one_percent(what: &str, found: f64, by_hand: f64) {
    let error = found / by_hand - 1.0;
    assert!(
        error.abs() < 0.01,
        "{what}: {found:.4e}, by hand {by_hand:.4e}, difference {:.2}%",
        100.0 * error
    );
}

#[test]
fn mlp_flops_match_count_by_hand() {
    let sizes = [784, 1024, 512, 10];
    let (batch, examples) = (64, 100);
    let mlp = |b: &mut Builder| {
        Mlp::new(b, &MlpConfig { hidden: vec![1024, 512], ..MlpConfig::default() }, 784, 10)
    };
    let data = zero_splits([1, 28, 28], examples).flattened();
    let plan = Plan::new(Model::new(mlp), &data, config(batch), &LIMITS).unwrap();
    let layer = |pair: &[usize]| (2 * batch * pair[0] * pair[1]) as f64;
    let forward: f64 = sizes.windows(2).map(layer).sum();
    // Weight gradients cost as much as the forward pass. Input gradients are needed for every layer except the first.
    let backward = 2.0 * forward - layer(&sizes[..2]);
    let flops = plan.step_flops().unwrap();
    assert_within_one_percent("forward", flops.forward, forward);
    assert_within_one_percent("backward", flops.backward, backward);
    // Momentum and step: one multiply-add each for every weight and bias.
    let parameters: usize = sizes.windows(2).map(|pair| pair[0] * pair[1] + pair[1]).sum();
    assert_within_one_percent("update", flops.update, 4.0 * parameters as f64);
    assert_eq!(flops.training(), plan.flops_per_step() as f64);
    // 100 examples are two batches of 64.
    assert_within_one_percent("evaluation", plan.evaluation_flops(SplitName::Test), 2.0 * forward);
}

#[test]
fn accumulation_repeats_passes_but_not_the_update() {
    let mlp = |b: &mut Builder| Mlp::new(b, &MlpConfig { hidden: vec![64], ..MlpConfig::default() }, 784, 10);
    let data = zero_splits([1, 28, 28], 64).flattened();
    let flops = |accumulate| {
        let config = Config { accumulate, ..config(16) };
        Plan::new(Model::new(mlp), &data, config, &LIMITS).unwrap().step_flops().unwrap()
    };
    let (one, four) = (flops(1), flops(4));
    assert_eq!((four.forward, four.update), (4.0 * one.forward, one.update));
    // The sum of four gradients needs three additions.
    assert!(four.backward > 4.0 * one.backward && four.backward < 4.1 * one.backward, "{one:?} {four:?}");
}

/// A convolution: output rows, output columns, input channels, output channels and kernel side.
type Conv = [usize; 5];

fn macs([rows, columns, from, to, side]: Conv) -> usize {
    rows * columns * from * to * side * side
}

/// Returns the multiply-adds of the input gradient of a 3×3 convolution with stride 2.
///
/// The pixels of the image form four groups by the parity of row and column. Each group is a convolution with a 2×2 part
/// of the kernel, which is padded with zeros to 4×4. The padding makes each group one row and one column larger than the
/// output.
fn strided_input_gradient([rows, columns, from, to, _]: Conv) -> usize {
    4 * (rows + 1) * (columns + 1) * from * to * (2 * 2)
}

#[test]
fn cifar_resnet_flops_match_count_by_hand() {
    let batch = 8;
    let base = ResNetConfig::cifar(8).unwrap();
    let network = ResNetConfig { width: 64, norm: ImageNorm::None, ..base };
    let model = Model::new(|b| ResNet::new(b, network, 3, 10));
    let plan = Plan::new(model, &zero_splits([3, 32, 32], 8), config(batch), &LIMITS).unwrap();
    // One convolution, then three stages with one block of two convolutions each. Padded shortcuts have no weights.
    let first: Conv = [32, 32, 3, 64, 3];
    let blocks: [Conv; 6] = [
        [32, 32, 64, 64, 3],
        [32, 32, 64, 64, 3],
        [16, 16, 64, 128, 3],
        [16, 16, 128, 128, 3],
        [8, 8, 128, 256, 3],
        [8, 8, 256, 256, 3],
    ];
    let later_macs: usize = blocks.into_iter().map(macs).sum::<usize>() + 256 * 10;
    let per_mac = 2.0 * batch as f64;
    let forward = per_mac * (macs(first) + later_macs) as f64;
    let flops = plan.step_flops().unwrap();
    assert_within_one_percent("forward", flops.forward, forward);
    let input_gradient =
        |conv: Conv| if conv[2] < conv[3] { strided_input_gradient(conv) } else { macs(conv) };
    let input_gradients: usize = blocks.into_iter().map(input_gradient).sum::<usize>() + 256 * 10;
    assert_within_one_percent(
        "backward",
        flops.backward,
        per_mac * (macs(first) + later_macs + input_gradients) as f64,
    );
    assert_within_one_percent("evaluation", plan.evaluation_flops(SplitName::Test), forward);
}

#[test]
fn resnet_50_flops_match_count_by_hand() {
    let network = ResNetConfig::imagenet(50).unwrap();
    let model = Model::new(|b| ResNet::new(b, network, 3, 10));
    let plan = Plan::new(model, &zero_splits([3, 224, 224], 1), config(1), &LIMITS).unwrap();
    let first = macs([112, 112, 3, 64, 7]);
    let (mut forward, mut strided_extra, mut channels) = (first, 0, 64);
    for (stage, blocks) in [3, 4, 6, 3].into_iter().enumerate() {
        let (width, side) = (64 << stage, 56 >> stage);
        for block in 0..blocks {
            // In every stage except the first, the 3×3 convolution of the first block halves the height and width of
            // the image.
            let input_side = if block == 0 && stage > 0 { 2 * side } else { side };
            forward += macs([input_side, input_side, channels, width, 1]);
            let middle: Conv = [side, side, width, width, 3];
            forward += macs(middle) + macs([side, side, width, 4 * width, 1]);
            strided_extra +=
                if block == 0 && stage > 0 { strided_input_gradient(middle) - macs(middle) } else { 0 };
            forward += if block == 0 { macs([side, side, channels, 4 * width, 1]) } else { 0 };
            channels = 4 * width;
        }
    }
    let classifier = |classes: usize| 2048 * classes;
    // With the 1,000 classes of ImageNet this is the published count of 4.1 billion multiply-adds.
    assert_within_one_percent("published", (forward + classifier(1000)) as f64, 4.09e9);
    let forward = 2.0 * (forward + classifier(10)) as f64;
    assert_within_one_percent("evaluation", plan.evaluation_flops(SplitName::Test), forward);
    // In training, batch norms compute mean and variance of the batch from the 11.1 million elements that they normalise.
    let normalised_elements = 11.1e6;
    let flops = plan.step_flops().unwrap();
    let per_element = (flops.forward - forward) / normalised_elements;
    assert!((5.0..20.0).contains(&per_element), "{per_element} FLOPs per normalised element");
    let backward = 2.0 * forward - 2.0 * first as f64 + 2.0 * strided_extra as f64;
    let per_element = (flops.backward - backward) / normalised_elements;
    assert!((5.0..40.0).contains(&per_element), "{per_element} FLOPs per normalised element");
}

#[test]
fn run_reports_flops_and_resume_continues_the_count() {
    let folder = tempfile::tempdir().unwrap();
    let train = "train digits --device cpu --json --out run --set train.epochs=";
    let first = last_json(&wgrad(folder.path(), &format!("{train}2")));
    let resumed = last_json(&wgrad(folder.path(), &format!("{train}3 --resume")));
    let number = |json: &serde_json::Value, key: &str| json[key].as_f64().unwrap();
    assert_eq!(number(&resumed, "flops") / number(&first, "flops"), 1.5);
    assert_eq!(number(&resumed, "petaflop_s_days"), number(&resumed, "flops") / 8.64e19);
    let parts = &resumed["flops_by"];
    let sum: f64 = ["forward", "backward", "update"].map(|part| number(parts, part)).iter().sum();
    assert_eq!(sum, number(&resumed, "flops"));
    // A run evaluates after each epoch and at its end.
    let evaluations = number(parts, "evaluation") / number(&first["flops_by"], "evaluation");
    assert!((1.4..=2.0).contains(&evaluations), "{evaluations}");
    let sustained = &resumed["sustained"];
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
    assert_eq!(number(&done["summary"], "flops"), number(&resumed, "flops"));
}

#[test]
fn replicas_report_the_sum_of_their_flops() {
    let folder = tempfile::tempdir().unwrap();
    let flops = |options: &str, out: &str| {
        let arguments =
            format!("train digits --device cpu --json --set train.epochs=1 --out {out} {options}");
        last_json(&wgrad(folder.path(), &arguments))
    };
    let single = flops("", "single");
    let replicated = flops("--replicas 3", "replicated");
    let part = |json: &serde_json::Value, key: &str| json["flops_by"][key].as_f64().unwrap();
    assert!(part(&single, "forward") > 0.0);
    // The replicas divide the rows of the batch, and each runs the update.
    let ratio = part(&replicated, "forward") / part(&single, "forward");
    assert!((ratio - 1.0).abs() < 0.01, "{ratio}");
    let ratio = part(&replicated, "update") / part(&single, "update");
    assert!((ratio - 3.0).abs() < 0.05, "{ratio}");
    assert!(replicated["sustained"]["mfu"].is_null());
}
