//! Optimizers, clipping, accumulation, moving average, early stopping and dropout. Updates are compared with plain loops.

use crate::support::largest_difference;
use wgrad::prelude::*;
use wgrad::train::{Finished, NamedTensor, Stop};

/// Minimises Σ cᵢ·θᵢ² / 2 on the CPU device and returns θ after `steps` steps.
///
/// Weight decay applies to the first parameter (three elements), but not to the second (two elements).
fn minimize(optimizer: Optimizer, clip: Option<f64>, rate: f64, steps: u64) -> Vec<f32> {
    let mut states = States::new();
    let mut builder = Builder::new();
    builder.param("weight", [3], Init::Constant(1.0), true);
    builder.param("bias", [2], Init::Constant(-2.0), false);
    let params = builder.finish(&mut states);
    let moments = optimizer.declare(&mut states, &params);
    let graph = graph(states);
    let hyper = graph.input("hyper", TensorType::f32([Optimizer::HYPER]));
    let cx = Context::new(&graph, &params);
    let (vars, offsets): (Vec<Var>, Vec<usize>) = cx.all_params().into_iter().unzip();
    let curvature = iota(&graph, [3], 0).cast(DType::F32) + 1.0;
    let loss = (vars[0].square() * curvature).sum_all() * 0.5 + vars[1].square().sum_all() * 0.5;
    let mut grads =
        pack(&graph, &grad(loss, &vars).unwrap(), &offsets, graph.states().get(params.group()).len());
    if let Some(max) = clip {
        grads = Optimizer::clip(grads, max).0;
    }
    optimizer.update(&graph, &moments, &params, grads, hyper);
    let program = compile(&graph, Options::default()).unwrap();
    let mut session = CpuDevice::new().session(&program.states).unwrap();
    let id = session.load(&program).unwrap();
    session
        .write_group(params.group(), Data::F32(&params.initial(&program.states, params.group(), 0)))
        .unwrap();
    for t in 1..=steps {
        session.run(id, &[Data::F32(&optimizer.hyper(rate, t))]).unwrap();
    }
    let flat = session.read_group(params.group()).unwrap().to_f32();
    let states = &program.states;
    let group = states.get(params.group());
    assert!(
        group
            .entries
            .iter()
            .all(|e| flat[e.offset + e.shape.numel()..].iter().take(8).all(|&x| x == 0.0 || e.offset == 0))
    );
    group.entries.iter().flat_map(|e| flat[e.offset..e.offset + e.shape.numel()].to_vec()).collect()
}

/// Reference for [`minimize`]: computes the same updates with plain loops in f64.
///
/// The arguments of `rule` are θ, the gradient, whether weight decay applies, the two moments and the step. It returns
/// the new θ.
fn minimize_reference(
    clip: Option<f64>,
    steps: u64,
    rule: impl Fn(f64, f64, bool, &mut [f64; 2], u64) -> f64,
) -> Vec<f32> {
    let mut theta = [1.0f64, 1.0, 1.0, -2.0, -2.0];
    let curvature = [1.0f64, 2.0, 3.0, 1.0, 1.0];
    let mut state = [[0.0f64; 2]; 5];
    for t in 1..=steps {
        let mut grads: Vec<f64> = theta.iter().zip(curvature).map(|(x, c)| x * c).collect();
        if let Some(max) = clip {
            let norm = grads.iter().map(|g| g * g).sum::<f64>().sqrt();
            let scale = (max / (norm + 1e-6)).min(1.0);
            grads.iter_mut().for_each(|g| *g *= scale);
        }
        for i in 0..5 {
            theta[i] = rule(theta[i], grads[i], i < 3, &mut state[i], t);
        }
    }
    theta.map(|x| x as f32).to_vec()
}

#[test]
fn sgd_follows_the_rule_of_pytorch() {
    for (momentum, nesterov, weight_decay) in [(0.0, false, 0.0), (0.9, false, 0.1), (0.9, true, 0.1)] {
        let optimizer = Optimizer::Sgd(Sgd { momentum, nesterov, weight_decay, ..Sgd::default() });
        let expected = minimize_reference(None, 20, |x, g, decays, state, _| {
            let g = g + if decays { weight_decay * x } else { 0.0 };
            state[0] = momentum * state[0] + g;
            x - 0.05 * if nesterov { g + momentum * state[0] } else { state[0] }
        });
        let found = minimize(optimizer, None, 0.05, 20);
        assert!(
            largest_difference(&found, &expected) < 1e-5,
            "{optimizer:?}: {found:?} instead of {expected:?}"
        );
    }
}

#[test]
fn adam_and_adamw_follow_their_papers() {
    for (weight_decay, decoupled) in [(0.0, false), (0.1, false), (0.1, true)] {
        let betas = [0.9, 0.99];
        let optimizer = match decoupled {
            true => Optimizer::AdamW(AdamW { betas, weight_decay, ..AdamW::default() }),
            false => Optimizer::Adam(Adam { betas, weight_decay, ..Adam::default() }),
        };
        let expected = minimize_reference(None, 20, |x, g, decays, state, t| {
            let decay = if decays { weight_decay } else { 0.0 };
            let g = if decoupled { g } else { g + decay * x };
            state[0] = 0.9 * state[0] + 0.1 * g;
            state[1] = 0.99 * state[1] + 0.01 * g * g;
            let corrected = |m: f64, beta: f64| m / (1.0 - beta.powi(t as i32));
            let x = if decoupled { x - 0.05 * decay * x } else { x };
            x - 0.05 * corrected(state[0], 0.9) / (corrected(state[1], 0.99).sqrt() + 1e-8)
        });
        let found = minimize(optimizer, None, 0.05, 20);
        assert!(
            largest_difference(&found, &expected) < 1e-4,
            "{optimizer:?}: {found:?} instead of {expected:?}"
        );
    }
}

#[test]
fn clipping_bounds_the_global_gradient_norm() {
    let optimizer = Optimizer::Sgd(Sgd { momentum: 0.0, ..Sgd::default() });
    for max in [0.5, 100.0] {
        let expected = minimize_reference(Some(max), 10, |x, g, _, _, _| x - 0.1 * g);
        let found = minimize(optimizer, Some(max), 0.1, 10);
        assert!(largest_difference(&found, &expected) < 1e-5, "{max}: {found:?} instead of {expected:?}");
    }
}

fn digits() -> Splits {
    wgrad::data::load(&"digits".parse().unwrap()).unwrap().flattened()
}

fn trainer(config: Config) -> Trainer {
    let model = Model::new(|b| Mlp::new(b, &MlpConfig { hidden: vec![32], ..MlpConfig::default() }, 64, 10));
    let splits = digits();
    let device = CpuDevice::new();
    let plan = Plan::new(model, &splits, config, &device.info().limits).unwrap();
    Trainer::new(&device, plan, splits, 100).unwrap()
}

/// Returns losses and parameters after `steps` steps.
fn train(config: Config, steps: u64) -> (Vec<f32>, Vec<f32>) {
    let mut trainer = trainer(config);
    (0..steps).for_each(|_| trainer.step().unwrap());
    let losses = trainer.records(true).unwrap().into_iter().map(|r| r.loss).collect();
    (losses, trainer.parameters(false).unwrap().into_iter().flat_map(|tensor| tensor.values).collect())
}

#[test]
fn accumulation_matches_one_large_batch() {
    let config = |batch, accumulate| Config { batch, accumulate, ..Config::default() };
    let (losses, parameters) = train(config(96, 1), 10);
    for accumulate in [2, 3, 4] {
        let (accumulated_losses, accumulated) = train(config(96 / accumulate as usize, accumulate), 10);
        assert!(
            largest_difference(&accumulated_losses, &losses) < 1e-4,
            "{accumulate} passes: {accumulated_losses:?} instead of {losses:?}"
        );
        let difference = accumulated.iter().zip(&parameters).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(difference < 1e-4, "{accumulate} passes: parameters differ by {difference}");
    }
}

#[test]
fn moving_average_matches_its_definition() {
    let decay = 0.75;
    let mut trainer = trainer(Config { ema: Some(decay), ..Config::default() });
    let mut expected: Vec<f64> = Vec::new();
    for step in 0..6 {
        let flat = |parameters: Vec<NamedTensor>| -> Vec<f32> {
            parameters.into_iter().flat_map(|tensor| tensor.values).collect()
        };
        let now = flat(trainer.parameters(false).unwrap());
        if step == 0 {
            expected = now.iter().map(|&x| f64::from(x)).collect();
        } else {
            expected.iter_mut().zip(&now).for_each(|(e, &x)| *e = decay * *e + (1.0 - decay) * f64::from(x));
        }
        let average = flat(trainer.parameters(true).unwrap());
        let difference =
            average.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
        assert!(difference < 1e-6, "after {step} steps: {difference}");
        trainer.step().unwrap();
    }
}

/// Returns a configuration with AdamW and a learning rate of 0.
fn zero_rate_config() -> Config {
    Config { optimizer: Optimizer::AdamW(AdamW { lr: 0.0, ..AdamW::default() }), ..Config::default() }
}

#[test]
fn early_stopping_ends_a_run_without_improvement() {
    let mut trainer = trainer(zero_rate_config());
    let options = FitOptions {
        steps: 10_000,
        log_every: 1,
        eval_every_epochs: 1,
        patience: Some(2),
        checkpoint_every_epochs: 0,
        keep_checkpoints: 1,
    };
    let Finished { stop, steps, .. } = fit(&mut trainer, &options, None, &mut ()).unwrap();
    assert_eq!(stop, Stop::Patience);
    assert_eq!(
        steps,
        3 * trainer.steps_per_epoch(),
        "the first evaluation is the best, two more do not improve"
    );
}

#[test]
fn dropout_differs_between_steps_and_repeats_with_the_seed() {
    let run = |seed| {
        let mlp = MlpConfig { hidden: vec![32], dropout: 0.5, ..MlpConfig::default() };
        let model = Model::new(|b| Mlp::new(b, &mlp, 64, 10));
        let splits = digits();
        let device = CpuDevice::new();
        // With a learning rate of 0, the losses of one batch differ only by the dropped elements.
        let config = Config { batch: 1437, seed, ..zero_rate_config() };
        let plan = Plan::new(model, &splits, config, &device.info().limits).unwrap();
        let mut trainer = Trainer::new(&device, plan, splits, 10).unwrap();
        (0..4).for_each(|_| trainer.step().unwrap());
        trainer.records(true).unwrap().into_iter().map(|r| r.loss.to_bits()).collect::<Vec<_>>()
    };
    let losses = run(1);
    assert_eq!(losses, run(1));
    assert_ne!(losses, run(2));
    assert!(losses.windows(2).all(|pair| pair[0] != pair[1]), "two steps dropped the same elements");
}
