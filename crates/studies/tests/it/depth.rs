//! Tests of the page of the depth study. The page must be complete and well-formed for all results, including those of
//! diverged runs, and the conclusions must follow from the data.

use crate::page::{assert_self_contained, well_formed};
use std::path::Path;
use wgrad_studies::depth::{
    Activation, Budget, CurvePoint, DepthFinding, DepthRun, DepthStudy, Direction, Family, LayerValue,
    SigmoidFinding, SigmoidRun, Spread, StudyError,
};

const DEPTHS: [u32; 6] = [8, 14, 20, 32, 44, 56];

/// Returns a pseudorandom number from −1 to 1 that depends only on `key`.
fn noise(key: [u64; 3]) -> f64 {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for part in key {
        state = (state ^ part).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state ^= state >> 29;
    }
    (state % 2001) as f64 / 1000.0 - 1.0
}

fn layers(depth: u32, value: impl Fn(u32) -> f64) -> Vec<LayerValue> {
    (1..=depth)
        .map(|layer| LayerValue {
            layer,
            name: format!("stage{}.conv{layer}.weight", layer % 3),
            value: value(layer),
        })
        .collect()
}

/// Returns a run with the final training loss `last`.
fn run(family: Family, depth: u32, seed: u64, last: f64) -> DepthRun {
    let curve = (0..=40).map(|index| {
        let step = (index * 50).max(1);
        let wiggle = 1.0 + 0.04 * noise([index, seed, u64::from(depth)]);
        let train_loss = (last + (2.3 - last) * (-(step as f64) / 350.0).exp()) * wiggle;
        let evaluated = index % 4 == 0;
        CurvePoint {
            step,
            train_loss,
            test_loss: evaluated.then_some(train_loss + 0.1),
            test_accuracy: evaluated.then_some(1.0 - train_loss / 2.6),
        }
    });
    let fade: f64 = if family == Family::Plain { 0.9 } else { 0.99 };
    let norm = |scale: f64| {
        move |layer: u32| {
            scale * fade.powi((depth - layer) as i32) * (1.0 + 0.2 * noise([layer.into(), seed, 7]))
        }
    };
    DepthRun {
        family,
        depth,
        seed,
        parameters: 4_600 * u64::from(depth),
        flops_per_step: 81_000_000 * u64::from(depth),
        curve: curve.collect(),
        gradient_norms_init: layers(depth, norm(0.6)),
        gradient_norms_final: layers(depth, norm(0.08)),
        final_train_loss: last,
        final_test_loss: last + 0.1,
        final_test_accuracy: 1.0 - last / 3.0,
        diverged: false,
    }
}

fn perceptron(activation: Activation, depth: u32, seed: u64) -> SigmoidRun {
    let fade: f64 = if activation == Activation::Sigmoid { 0.18 } else { 0.9 };
    let by = |scale: f64| {
        move |layer: u32| {
            scale * fade.powi((depth - layer) as i32) * (1.0 + 0.2 * noise([layer.into(), seed, 9]))
        }
    };
    SigmoidRun {
        activation,
        depth,
        seed,
        gradient_norms_init: layers(depth, by(0.5)),
        gradient_norms_final: layers(depth, by(0.2)),
        movement: layers(depth, by(0.7)),
        final_train_loss: 2.3 * (1.0 - fade),
        final_test_loss: 2.3,
        final_test_accuracy: fade,
        diverged: false,
    }
}

/// Returns a study with the given seeds. The final loss at depth d is about `0.35 + slope · d`. `slopes` holds the
/// slope of the plain networks and that of the residual networks.
fn study(slopes: [f64; 2], seeds: &[u64]) -> DepthStudy {
    let losses = |family: Family, slope: f64| {
        let run_at = move |depth: u32, seed: u64| {
            let loss = 0.35 + slope * f64::from(depth) + 0.012 * noise([seed, depth.into(), 3]);
            run(family, depth, seed, loss)
        };
        DEPTHS.iter().flat_map(move |depth| seeds.iter().map(move |seed| run_at(*depth, *seed)))
    };
    let perceptrons = [Activation::Sigmoid, Activation::Relu]
        .into_iter()
        .flat_map(|activation| seeds.iter().map(move |seed| perceptron(activation, 10, *seed)));
    DepthStudy {
        title: "Do deeper networks train better?".to_owned(),
        command: "wgrad study depth --depths 8,14,20,32,44,56 --seeds 3 --steps 2000".to_owned(),
        device: "NVIDIA H100 (Vulkan)".to_owned(),
        dataset: "Fashion-MNIST".to_owned(),
        classes: 10,
        date: "2026-01-02T03:04:05Z".to_owned(),
        seconds: 3725.0,
        budget: Budget {
            steps: 2000,
            batch: 128,
            lr: 0.1,
            schedule: "cosine to 0 after 100 steps of warm-up".to_owned(),
            optimizer: "SGD, momentum 0.9, weight decay 1e-4".to_owned(),
            train_examples: 60_000,
            test_examples: 10_000,
            networks: "3 × 3 convolutions of 16, 32 and 64 channels, batch normalisation, He initial values"
                .to_owned(),
            perceptrons: "10 layers of 128, Glorot initial values, SGD, lr 0.1, 2000 steps".to_owned(),
        },
        seeds: seeds.to_vec(),
        runs: losses(Family::Plain, slopes[0]).chain(losses(Family::Residual, slopes[1])).collect(),
        sigmoid: perceptrons.collect(),
    }
}

fn study_with_degradation() -> DepthStudy {
    study([0.011, -0.002], &[1, 2, 3])
}

/// Checks that the page is self-contained and well-formed. Returns its text and its HTML.
fn page(study: &DepthStudy) -> (String, String) {
    let html = study.html();
    assert_self_contained(&html);
    let drawn: String = html.split("<svg").skip(1).map(|svg| svg.split("</svg>").next().unwrap()).collect();
    for word in ["NaN", "inf ", "inf\""] {
        assert!(!drawn.contains(word), "the SVG contains {word}");
    }
    (well_formed(&html), html)
}

#[test]
fn page_has_every_run_and_chart() {
    let study = study_with_degradation();
    let (text, html) = page(&study);
    let rows: Vec<&str> = html.split("<h2>All runs</h2>").nth(1).unwrap().split("<tr>").collect();
    for run in &study.runs {
        let name = run.family.name();
        let start = format!("<th>{name}</th><td>{}</td><td>{}</td>", run.depth, run.seed);
        assert_eq!(rows.iter().filter(|row| row.starts_with(&start)).count(), 1, "{start}");
    }
    for run in &study.sigmoid {
        let name = run.activation.name();
        let start = format!("<th>{name} perceptron</th><td>{}</td><td>{}</td>", run.depth, run.seed);
        assert_eq!(rows.iter().filter(|row| row.starts_with(&start)).count(), 1, "{start}");
    }
    let captions: Vec<&str> =
        html.split("<figcaption>").skip(1).map(|rest| rest.split('<').next().unwrap()).collect();
    assert_eq!(
        captions,
        [
            "Final training loss",
            "Test error, %",
            "plain: training loss",
            "residual: training loss",
            "plain: test error, %",
            "residual: test error, %",
            "8 layers: gradient norm (logarithmic)",
            "14 layers: gradient norm (logarithmic)",
            "20 layers: gradient norm (logarithmic)",
            "32 layers: gradient norm (logarithmic)",
            "44 layers: gradient norm (logarithmic)",
            "56 layers: gradient norm (logarithmic)",
            "10 layers: gradient norm (logarithmic)",
            "10 layers: relative change of the weights (logarithmic)",
        ]
    );
    for figure in html.split("<figure>").skip(1) {
        let figure = figure.split("</figure>").next().unwrap();
        assert!(
            figure.contains("<svg") && figure.contains("<tbody>\n<tr>"),
            "the chart or its table is missing: {figure}"
        );
    }
    assert!(
        text.contains(&study.command) && text.contains("1 h 2 min") && text.contains("60,000 for training")
    );
}

#[test]
fn finding_follows_the_data() {
    for (slopes, finding) in [
        ([0.011, -0.002], DepthFinding::Shown),
        ([-0.002, -0.002], DepthFinding::NotShown),
        ([0.011, 0.010], DepthFinding::BothDegrade),
        ([0.011, 0.003], DepthFinding::Partial),
        ([-0.002, 0.011], DepthFinding::NotShown),
    ] {
        let study = study(slopes, &[1, 2, 3]);
        let conclusion = study.conclusion();
        assert_eq!(conclusion.finding, finding, "{slopes:?}: {conclusion:?}");
        assert!(page(&study).0.contains(conclusion.headline()));
    }
}

#[test]
fn trend_compares_the_deepest_with_the_best_shallower_depth() {
    let mut study = study_with_degradation();
    study.runs.clear();
    for (depth, losses) in [(8, [0.5, 0.6, 0.7]), (20, [0.3, 0.35, 0.4]), (56, [0.41, 0.5, 0.9])] {
        study.runs.extend((0..3).map(|seed| run(Family::Plain, depth, seed, losses[seed as usize])));
    }
    let trend = study.conclusion().plain.unwrap();
    assert_eq!((trend.best_depth, trend.deepest_depth, trend.direction), (20, 56, Direction::Increases));
    assert_eq!(trend.deepest, Spread { low: 0.41, median: 0.5, high: 0.9, count: 3 });
    assert!((trend.increase() - 0.15).abs() < 1e-12);
    // The lowest loss at depth 56 is now equal to the highest loss at depth 20, the best depth.
    study.runs[6].final_train_loss = 0.4;
    assert_eq!(study.conclusion().plain.unwrap().direction, Direction::WithinSeeds);
    // The increase is below the threshold of 0.046, which is 2% of ln 10.
    for (seed, run) in study.runs[6..].iter_mut().enumerate() {
        run.final_train_loss = 0.35 + 0.04 + 0.001 * seed as f64;
    }
    assert_eq!(study.conclusion().plain.unwrap().direction, Direction::Negligible);
    assert_eq!(study.conclusion().finding, DepthFinding::TooFewRuns, "no residual runs");
}

#[test]
fn conclusion_quotes_the_numbers_of_the_runs() {
    let mut study = study_with_degradation();
    study.runs.clear();
    for (family, losses) in [(Family::Plain, [0.25, 0.75]), (Family::Residual, [0.25, 0.125])] {
        study.runs.extend([8, 56].into_iter().zip(losses).map(|(depth, loss)| run(family, depth, 1, loss)));
    }
    study.seeds = vec![1];
    let sentences = study.conclusion().sentences(&study);
    assert_eq!(
        sentences,
        [
            "Plain networks: of the shallower depths, 8 layers end with the lowest training loss, 0.2500; at 56 layers it \
             is 0.7500, higher by 0.5000.",
            "Residual networks: of the shallower depths, 8 layers end with the lowest training loss, 0.2500; at 56 layers \
             it is 0.1250, not higher.",
            "At 56 layers, the final training loss is 0.7500 for plain networks and 0.1250 for residual networks, the test \
             error 25.00% and 4.17%.",
            "With one seed, an effect cannot be distinguished from chance.",
        ]
    );
}

#[test]
fn diverged_runs_have_infinite_loss_and_a_cross() {
    let mut study = study_with_degradation();
    for run in study.runs.iter_mut().filter(|run| run.family == Family::Plain && run.depth == 56) {
        run.diverged = true;
        run.final_train_loss = f64::NAN;
        run.final_test_accuracy = f64::NAN;
        run.curve.last_mut().unwrap().train_loss = f64::INFINITY;
        run.gradient_norms_final.iter_mut().for_each(|layer| layer.value = f64::NAN);
    }
    let (text, html) = page(&study);
    assert_eq!(study.conclusion().finding, DepthFinding::Shown);
    assert!(text.contains("at 56 layers most runs diverge") && text.contains("3 of 36 runs diverged"));
    let first = html.split("<svg").nth(1).unwrap().split("</svg>").next().unwrap();
    assert_eq!(first.matches("class=\"cross s1\"").count(), 3, "one cross per diverged run");
    assert_eq!(html.matches("<td>diverged</td>").count(), 3);
    // The recorded loss of a diverged run is ignored.
    study.runs.iter_mut().filter(|run| run.diverged).for_each(|run| run.final_train_loss = 0.01);
    assert_eq!(study.conclusion().plain.unwrap().deepest.low, f64::INFINITY);
}

#[test]
fn sigmoid_conclusion_follows_the_weight_changes() {
    let mut study = study_with_degradation();
    let conclusion = study.sigmoid_conclusion();
    assert_eq!(conclusion.finding, SigmoidFinding::Shown);
    let sigmoid = conclusion.sigmoid.unwrap();
    assert!(sigmoid.gradient.median < 1e-5 && sigmoid.movement.median < 1e-5, "{sigmoid:?}");
    assert!(page(&study).0.contains("With sigmoid units, only the last layers learn."));
    for run in &mut study.sigmoid {
        run.movement = layers(10, |_| 0.5);
    }
    assert_eq!(study.sigmoid_conclusion().finding, SigmoidFinding::NotShown);
    for run in &mut study.sigmoid {
        run.movement = layers(10, |layer| 0.5 / f64::from(11 - layer).powi(3));
    }
    assert_eq!(study.sigmoid_conclusion().finding, SigmoidFinding::BothActivations);
    study.sigmoid.retain(|run| run.activation == Activation::Relu);
    assert_eq!(study.sigmoid_conclusion().finding, SigmoidFinding::NoRuns);
    page(&study);
}

#[test]
fn page_of_empty_and_extreme_studies_is_well_formed() {
    let full = study_with_degradation();
    let empty = DepthStudy { runs: Vec::new(), sigmoid: Vec::new(), ..full.clone() };
    assert!(page(&empty).0.contains("Nothing has been trained yet."));
    let only_sigmoid = DepthStudy { runs: Vec::new(), ..full.clone() };
    assert!(page(&only_sigmoid).0.contains("All runs"));
    let one = DepthStudy { runs: full.runs[..1].to_vec(), seeds: vec![1], ..full.clone() };
    assert!(page(&one).0.contains("There is no conclusion"));
    let mut odd = full;
    odd.title = "</title><img src=\"x\"> & more".replace("src=", "alt=");
    for run in &mut odd.runs {
        run.gradient_norms_init[0].value = 0.0;
        run.gradient_norms_final.clear();
        run.curve.truncate(1);
        run.final_train_loss = f64::MAX;
        run.final_test_accuracy = f64::NEG_INFINITY;
    }
    odd.sigmoid[0].movement.clear();
    odd.sigmoid[1].movement[9].value = 0.0;
    odd.seconds = f64::NAN;
    let (text, html) = page(&odd);
    assert!(text.contains(&odd.title) && !html.contains("<img"));
    assert!(html.contains("not above 0)"), "zero cannot be drawn on a logarithmic axis");
}

#[test]
fn study_round_trips_through_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let mut study = study_with_degradation();
    study.runs[0].final_train_loss = f64::INFINITY;
    study.runs[0].curve[3].test_accuracy = Some(f64::NEG_INFINITY);
    let html = study.write(&directory.path().join("new")).unwrap();
    assert_eq!(std::fs::read_to_string(&html).unwrap(), study.html());
    let json = html.with_file_name("depth.json");
    assert_eq!(DepthStudy::read(&json).unwrap(), study);
    assert!(std::fs::read_to_string(&json).unwrap().contains("\"final_train_loss\":\"inf\""));
    std::fs::write(&json, "{\"title\":\"x\"}").unwrap();
    let error = DepthStudy::read(&json).unwrap_err();
    assert!(matches!(&error, StudyError::Json { .. }) && error.to_string().contains("command"), "{error}");
    let missing = DepthStudy::read(&directory.path().join("none.json")).unwrap_err();
    assert!(matches!(missing, StudyError::Read { .. }));
}

/// Writes `study/depth.html` and `diverged/depth.html` to the folder `tmp` of the build directory, for viewing.
#[test]
fn write_example_pages() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = study_with_degradation().write(&directory.join("study")).unwrap();
    assert!(std::fs::metadata(path).unwrap().len() < 1_000_000);
    let mut study = study([0.011, 0.003], &[1]);
    for run in study.runs.iter_mut().filter(|run| run.family == Family::Plain && run.depth > 40) {
        run.diverged = true;
        run.final_train_loss = f64::INFINITY;
        run.curve.iter_mut().skip(9).for_each(|point| point.train_loss = f64::NAN);
    }
    study.write(&directory.join("diverged")).unwrap();
}
