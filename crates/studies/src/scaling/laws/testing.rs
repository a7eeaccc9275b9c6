//! Synthetic trials that follow a known law.

use crate::scaling::{CurvePoint, Role, Trial};
use wgrad_run::Flops;
use wgrad_stdx::random::SplitMix64;

/// Draws a sample from the standard normal distribution by the Box–Muller transform.
pub fn normal(random: &mut SplitMix64) -> f64 {
    let mut unit = || ((random.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    let (radius, angle) = (unit(), unit());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

/// Parameters E, A, α, B, β of the law that synthetic perceptrons follow.
pub const MLP: [f64; 5] = [0.25, 12.0, 0.5, 12.0, 0.4];
/// Parameters E, A, α, B, β of the law that synthetic residual networks follow.
pub const RESNET: [f64; 5] = [0.2, 6.0, 0.45, 30.0, 0.5];

/// Returns the loss of the law E + A·N^(−α) + B·D^(−β) for N parameters and D examples.
pub fn loss([e, a, alpha, b, beta]: [f64; 5], parameters: u64, examples: u64) -> f64 {
    e + a * (parameters as f64).powf(-alpha) + b * (examples as f64).powf(-beta)
}

/// Returns a trial whose test loss is the value of the family's law, [`MLP`] or [`RESNET`], times exp(`noise`).
pub fn trial(family: &str, role: Role, width: u64, examples: u64, seed: u64, noise: f64) -> Trial {
    let theta = if family == "mlp" { MLP } else { RESNET };
    let parameters = 800 * width;
    let (steps, batch) = (400, 64);
    let end = loss(theta, parameters, examples) * noise.exp();
    let training = |step: u64| (6 * parameters * batch * step) as f64;
    let curve: Vec<CurvePoint> = (1..=10u64)
        .map(|index| {
            let step = steps * index / 10;
            // The loss falls with 1 / step until the eighth point, then rises slightly.
            let current = end
                * (1.0 + 0.8 * (8.0 / index.min(8) as f64 - 1.0))
                * (1.0 + 0.02 * index.saturating_sub(8) as f64);
            CurvePoint {
                step,
                flops: training(step),
                train_loss: current * 0.9,
                validation_loss: current,
                test_loss: current.min(2.3),
                test_accuracy: 1.0 - current.min(2.3) / 2.5,
            }
        })
        .collect();
    Trial {
        id: format!(
            "fashion-mnist-{family}-w{width}-d{examples}-s{seed}{}",
            if role == Role::Comparison { "-v" } else { "" }
        ),
        role,
        dataset: "fashion-mnist".into(),
        family: family.into(),
        depth: if family == "mlp" { 2 } else { 8 },
        network: format!("{family} of width {width}"),
        width,
        parameters,
        examples,
        batch,
        steps,
        lr: 1e-3,
        seed,
        flops: Flops {
            forward: training(steps) / 3.0,
            backward: training(steps) * 2.0 / 3.0,
            update: 0.0,
            evaluation: 1000.0,
        },
        curve,
        best_step: 320,
        test_loss: end,
        test_accuracy: 1.0 - end / 2.5,
        flops_to_best: training(320),
        diverged: false,
        seconds: 1.5,
        device: "cpu".into(),
    }
}

/// Marks a trial as diverged and returns it.
pub fn diverged(mut trial: Trial) -> Trial {
    (trial.diverged, trial.test_loss, trial.test_accuracy) = (true, f64::INFINITY, 0.0);
    trial.id += "-lost";
    trial
}

/// Returns the trials of a sweep. Each of the two families has the trials of a grid with five widths, four amounts of
/// data and three seeds. Each family also has one diverged trial, two held-out trials, and the trials of a comparison
/// with two compute budgets.
pub fn sweep() -> Vec<Trial> {
    let mut random = SplitMix64(7);
    let mut trials = Vec::new();
    for family in ["mlp", "resnet"] {
        for width in [4, 8, 16, 32, 64] {
            for examples in [500, 2000, 8000, 32_000] {
                for seed in 1..=3 {
                    trials.push(trial(family, Role::Fit, width, examples, seed, 0.02 * normal(&mut random)));
                }
            }
        }
        trials.push(diverged(trial(family, Role::Fit, 64, 8000, 4, 0.0)));
        for seed in 1..=2 {
            trials.push(trial(family, Role::HeldOut, 256, 50_000, seed, 0.02 * normal(&mut random)));
        }
        for (width, examples) in [16, 64].into_iter().flat_map(|w| [300, 1500, 7500, 30_000].map(|d| (w, d)))
        {
            for seed in 1..=3 {
                trials.push(trial(
                    family,
                    Role::Comparison,
                    width,
                    examples,
                    seed,
                    0.02 * normal(&mut random),
                ));
            }
        }
    }
    trials
}
