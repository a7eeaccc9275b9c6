//! Training runs of the depth study: plain and residual networks of increasing depth with the same budget, and deep
//! perceptrons.
//!
//! He et al. (2016) observed that a plain network with more layers has a higher training loss, although its capacity is
//! larger, and that a network with shortcuts does not. Earlier work observed that, with sigmoid units, the gradient
//! shrinks towards the input and only the last layers learn.

use crate::depth::{self, CurvePoint, DepthRun, Family, LayerValue, SigmoidRun};
use wgrad_data::{Data, Normalize, Splits};
use wgrad_nn::{
    Activation, CosineSchedule, Mlp, MlpConfig, Optimizer, ResNet, ResNetConfig, Schedule, Sgd, Shortcut,
};
use wgrad_program::Device;
use wgrad_train::{Config, Model, NamedTensor, Plan, SplitName, TrainError, Trainer};

/// Width and number of the hidden layers of the perceptrons.
const PERCEPTRON: (usize, usize) = (64, 7);
/// Number of points of a training curve.
const POINTS: u64 = 12;
/// Number of points of a training curve at which the test examples are evaluated.
const EVALUATIONS: u64 = 4;

/// Networks to train and their budget.
#[derive(Debug, Clone, PartialEq)]
pub struct DepthOptions {
    /// Data set to train on.
    pub data: Data,
    /// Depths of the networks, each of the form 6n + 2.
    pub depths: Vec<usize>,
    /// Seeds of the runs. Each network is trained once per seed.
    pub seeds: Vec<u64>,
    /// Number of optimizer steps per network.
    pub steps: u64,
    /// Number of examples per step.
    pub batch: usize,
    /// Number of channels of the first stage.
    pub width: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Number of training examples, drawn by class.
    pub examples: usize,
    /// Whether to train the perceptrons in addition to the convolutional networks.
    pub perceptrons: bool,
}

/// Callback that is called before each training run. Arguments: description of the run, number of finished runs, total
/// number of runs.
pub type Progress<'p> = &'p mut dyn FnMut(&str, usize, usize);

/// Results of a study. The caller adds the command, the date and the duration.
#[derive(Debug, Clone, PartialEq)]
pub struct DepthResults {
    /// Runs of the convolutional networks.
    pub runs: Vec<DepthRun>,
    /// Runs of the perceptrons.
    pub sigmoid: Vec<SigmoidRun>,
    /// Numbers of training and test examples.
    pub examples: (usize, usize),
    /// Number of classes.
    pub classes: usize,
    /// Description of the perceptrons.
    pub perceptrons: String,
}

/// Trains all networks of a study. A run whose loss becomes NaN or infinite is a result, not an error.
///
/// # Errors
/// Returns an error if the data is missing, a depth is not of the form 6n + 2, or the device fails.
pub fn study_depth(
    device: &dyn Device,
    options: &DepthOptions,
    progress: Progress<'_>,
) -> Result<DepthResults, TrainError> {
    let data = options.data.clone().with_limit(options.examples).with_normalize(Normalize::Dataset);
    let splits = wgrad_data::load(&data)?;
    let networks = options.depths.len() * Family::ALL.len() * options.seeds.len();
    let perceptrons =
        if options.perceptrons { depth::Activation::ALL.len() * options.seeds.len() } else { 0 };
    let total = networks + perceptrons;
    let (mut runs, mut sigmoid) = (Vec::new(), Vec::new());
    for &depth in &options.depths {
        for family in Family::ALL {
            for &seed in &options.seeds {
                progress(
                    &format!("{} network of depth {depth}, seed {seed}", family.name()),
                    runs.len(),
                    total,
                );
                runs.push(network(device, options, &splits, family, depth, seed)?);
            }
        }
    }
    if options.perceptrons {
        for activation in depth::Activation::ALL {
            for &seed in &options.seeds {
                let description = format!("perceptron with {} units, seed {seed}", activation.name());
                progress(&description, runs.len() + sigmoid.len(), total);
                sigmoid.push(perceptron(device, options, &splits, activation, seed)?);
            }
        }
    }
    let (width, hidden) = PERCEPTRON;
    let description = format!(
        "{hidden} hidden layers of {width}, the same steps, batch and data, Glorot's initial weights"
    );
    Ok(DepthResults {
        runs,
        sigmoid,
        examples: (splits.train.len(), splits.test.len()),
        classes: splits.train.targets().outputs(),
        perceptrons: description,
    })
}

fn config(options: &DepthOptions, lr: f64, seed: u64) -> Config {
    Config {
        optimizer: Optimizer::Sgd(Sgd { lr, ..Sgd::default() }),
        schedule: Schedule::Cosine(CosineSchedule { warmup_steps: options.steps / 20, min_lr: 0.0 }),
        batch: options.batch,
        eval_batch: 500,
        seed,
        ..Config::default()
    }
}

fn network(
    device: &dyn Device,
    options: &DepthOptions,
    splits: &Splits,
    family: Family,
    depth: usize,
    seed: u64,
) -> Result<DepthRun, TrainError> {
    let base = ResNetConfig::cifar(depth).ok_or_else(|| {
        TrainError::Config(format!("depth {depth} is not of the form 6n + 2; use 8, 14, 20 …"))
    })?;
    let shortcut = match family {
        Family::Plain => Shortcut::None,
        Family::Residual => Shortcut::Pad,
    };
    let network = ResNetConfig { width: options.width, shortcut, ..base };
    let channels = splits.train.feature_shape()[0];
    let classes = splits.train.targets().outputs();
    let model = Model::new(|b| ResNet::new(b, network, channels, classes));
    let mut probe = Probe::new(device, model, splits, config(options, options.lr, seed), options.steps)?;
    let gradient_norms_init = probe.gradients()?;
    let outcome = probe.train()?;
    Ok(DepthRun {
        family,
        depth: depth as u32,
        seed,
        parameters: probe.trainer.plan().params.count() as u64,
        flops_per_step: probe.trainer.plan().flops_per_step(),
        gradient_norms_init,
        gradient_norms_final: probe.gradients()?,
        final_train_loss: outcome.train_loss,
        final_test_loss: outcome.test_loss,
        final_test_accuracy: outcome.test_accuracy,
        diverged: outcome.diverged,
        curve: outcome.curve,
    })
}

fn perceptron(
    device: &dyn Device,
    options: &DepthOptions,
    splits: &Splits,
    activation: depth::Activation,
    seed: u64,
) -> Result<SigmoidRun, TrainError> {
    let splits = splits.clone().flattened();
    let unit = match activation {
        depth::Activation::Sigmoid => Activation::Sigmoid,
        depth::Activation::Relu => Activation::Relu,
    };
    let (width, hidden) = PERCEPTRON;
    let (inputs, classes) = (splits.train.feature_len(), splits.train.targets().outputs());
    let mlp = MlpConfig { hidden: vec![width; hidden], activation: unit, ..MlpConfig::default() };
    let model = Model::new(|b| Mlp::new(b, &mlp, inputs, classes));
    let mut probe =
        Probe::new(device, model, &splits, config(options, options.lr / 2.0, seed), options.steps)?;
    let gradient_norms_init = probe.gradients()?;
    let before = probe.trainer.parameters(false)?;
    let outcome = probe.train()?;
    let after = probe.trainer.parameters(false)?;
    Ok(SigmoidRun {
        activation,
        depth: (hidden + 1) as u32,
        seed,
        gradient_norms_init,
        gradient_norms_final: probe.gradients()?,
        movement: movement(&before, &after),
        final_train_loss: outcome.train_loss,
        final_test_loss: outcome.test_loss,
        final_test_accuracy: outcome.test_accuracy,
        diverged: outcome.diverged,
    })
}

/// Returns ‖W − W₀‖ / ‖W₀‖ of each weight matrix, from the input to the output.
fn movement(before: &[NamedTensor], after: &[NamedTensor]) -> Vec<LayerValue> {
    let weights = before.iter().zip(after).filter(|(tensor, _)| tensor.shape.len() > 1);
    let norm =
        |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let changes = weights.enumerate().map(|(i, (before, after))| {
        let change = norm(&mut before.values.iter().zip(&after.values).map(|(a, b)| b - a));
        let value = change / norm(&mut before.values.iter().copied()).max(f64::MIN_POSITIVE);
        LayerValue { layer: i as u32 + 1, name: before.name.clone(), value }
    });
    changes.collect()
}

/// Trainer of one network that also records gradient norms and losses.
struct Probe {
    trainer: Trainer,
    steps: u64,
}

/// Curve and final losses of a training run.
struct Outcome {
    curve: Vec<CurvePoint>,
    train_loss: f64,
    test_loss: f64,
    test_accuracy: f64,
    diverged: bool,
}

impl Probe {
    fn new(
        device: &dyn Device,
        model: Model,
        splits: &Splits,
        config: Config,
        steps: u64,
    ) -> Result<Self, TrainError> {
        let plan = Plan::new(model, splits, config, &device.info().limits)?;
        Ok(Self { trainer: Trainer::new(device, plan, splits.clone(), steps)?, steps })
    }

    /// Returns the gradient norm of each weight matrix and kernel on the first batch.
    fn gradients(&mut self) -> Result<Vec<LayerValue>, TrainError> {
        let norms = self.trainer.gradient_norms()?;
        if self.trainer.steps_done() == 0 {
            // The pass that measured the gradients also updated the running statistics.
            self.trainer.reset()?;
        }
        let values = norms.into_iter().enumerate();
        let value = |(i, (name, value)): (usize, (String, f32))| LayerValue {
            layer: i as u32 + 1,
            name,
            value: f64::from(value),
        };
        Ok(values.map(value).collect())
    }

    fn train(&mut self) -> Result<Outcome, TrainError> {
        let every = (self.steps / POINTS).max(1);
        let mut curve = Vec::new();
        let mut diverged = false;
        while self.trainer.steps_done() < self.steps && !diverged {
            self.trainer.step()?;
            let done = self.trainer.steps_done();
            if !done.is_multiple_of(every) && done != self.steps {
                continue;
            }
            let records = self.trainer.records(true)?;
            let total: f64 = records.iter().map(|record| f64::from(record.loss)).sum();
            let train_loss = total / records.len().max(1) as f64;
            diverged = !train_loss.is_finite();
            let evaluate = done == self.steps || done.is_multiple_of(every * (POINTS / EVALUATIONS));
            let test =
                if evaluate && !diverged { Some(self.trainer.evaluate(SplitName::Test)?) } else { None };
            curve.push(CurvePoint {
                step: done,
                train_loss,
                test_loss: test.as_ref().map(|test| test.loss),
                test_accuracy: test.as_ref().and_then(|test| test.accuracy),
            });
        }
        let end = curve.last().cloned();
        let at_end = |pick: fn(&CurvePoint) -> Option<f64>| end.as_ref().and_then(pick).unwrap_or(f64::NAN);
        Ok(Outcome {
            train_loss: at_end(|point| Some(point.train_loss)),
            test_loss: at_end(|point| point.test_loss),
            test_accuracy: at_end(|point| point.test_accuracy),
            diverged,
            curve,
        })
    }
}
