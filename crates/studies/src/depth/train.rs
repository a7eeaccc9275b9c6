//! The study of depth: plain and residual networks of growing depth with one budget, and deep perceptrons.
//!
//! What He et al. (2016) saw: with more layers a plain network trains worse, not for want of capacity but because it is
//! harder to train; with shortcuts it does not. And what came before: with sigmoid units the gradient fades on its way
//! down, and only the last layers learn.

use crate::depth::{self, CurvePoint, DepthRun, Family, LayerValue, SigmoidRun};
use wgrad_data::{Data, Normalize, Splits};
use wgrad_nn::{
    Activation, CosineSchedule, Mlp, MlpConfig, Optimizer, ResNet, ResNetConfig, Schedule, Sgd, Shortcut,
};
use wgrad_program::Device;

use wgrad_train::TrainError;
use wgrad_train::{Config, Model, Plan, SplitName};
use wgrad_train::{NamedTensor, Trainer};

/// Width of the hidden layers of the perceptrons, and how many there are.
const PERCEPTRON: (usize, usize) = (64, 7);
/// Points of a curve, and how many of them have a test error.
const POINTS: u64 = 12;
const EVALUATIONS: u64 = 4;

/// What to train.
#[derive(Debug, Clone, PartialEq)]
pub struct DepthOptions {
    /// The data.
    pub data: Data,
    /// Depths of the networks, 6n + 2 each.
    pub depths: Vec<usize>,
    /// Seeds; each network is trained once with each.
    pub seeds: Vec<u64>,
    /// Optimizer steps of each network.
    pub steps: u64,
    /// Examples of a step.
    pub batch: usize,
    /// Channels of the first stage.
    pub width: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Training examples, drawn by class.
    pub examples: usize,
    /// Whether the perceptrons are trained too.
    pub perceptrons: bool,
}

/// What is trained next: in words, how many are done and how many there are.
pub type Progress<'p> = &'p mut dyn FnMut(&str, usize, usize);

/// What came out of a study, without what only its caller knows (command, date, time).
#[derive(Debug, Clone, PartialEq)]
pub struct DepthResults {
    /// The convolutional networks.
    pub runs: Vec<DepthRun>,
    /// The perceptrons.
    pub sigmoid: Vec<SigmoidRun>,
    /// Examples trained and tested on.
    pub examples: (usize, usize),
    /// Classes of the data.
    pub classes: usize,
    /// The perceptrons, in words.
    pub perceptrons: String,
}

/// Trains everything.
///
/// # Errors
/// Data that is missing; a depth that is not 6n + 2; what the device reports. A run whose loss is no longer finite is no
/// error but a result.
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
                let what = format!("perceptron with {} units, seed {seed}", activation.name());
                progress(&what, runs.len() + sigmoid.len(), total);
                sigmoid.push(perceptron(device, options, &splits, activation, seed)?);
            }
        }
    }
    let (width, hidden) = PERCEPTRON;
    let words = format!(
        "{hidden} hidden layers of {width}, the same steps, batch and data, Glorot's initial weights"
    );
    Ok(DepthResults {
        runs,
        sigmoid,
        examples: (splits.train.len(), splits.test.len()),
        classes: splits.train.targets().outputs(),
        perceptrons: words,
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
    let known = ResNetConfig::cifar(depth);
    let known =
        known.ok_or_else(|| TrainError::Config(format!("a depth is 6n + 2, e.g. 20; {depth} is not")))?;
    let shortcut = match family {
        Family::Plain => Shortcut::None,
        Family::Residual => Shortcut::Pad,
    };
    let network = ResNetConfig { width: options.width, shortcut, ..known };
    let channels = splits.train.feature_shape()[0];
    let classes = splits.train.targets().outputs();
    let model = Model::new(|b| ResNet::new(b, network, channels, classes));
    let mut probe = Probe::new(device, model, splits, config(options, options.lr, seed), options.steps)?;
    let gradient_norms_init = probe.gradients()?;
    let course = probe.train()?;
    Ok(DepthRun {
        family,
        depth: depth as u32,
        seed,
        parameters: probe.trainer.plan().params.count() as u64,
        flops_per_step: probe.trainer.plan().flops_per_step(),
        gradient_norms_init,
        gradient_norms_final: probe.gradients()?,
        final_train_loss: course.train_loss,
        final_test_loss: course.test_loss,
        final_test_accuracy: course.test_accuracy,
        diverged: course.diverged,
        curve: course.curve,
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
    let course = probe.train()?;
    let after = probe.trainer.parameters(false)?;
    Ok(SigmoidRun {
        activation,
        depth: (hidden + 1) as u32,
        seed,
        gradient_norms_init,
        gradient_norms_final: probe.gradients()?,
        movement: movement(&before, &after),
        final_train_loss: course.train_loss,
        final_test_loss: course.test_loss,
        final_test_accuracy: course.test_accuracy,
        diverged: course.diverged,
    })
}

/// ‖W − W₀‖ / ‖W₀‖ of each weight matrix, from the input on.
fn movement(before: &[NamedTensor], after: &[NamedTensor]) -> Vec<LayerValue> {
    let weights = before.iter().zip(after).filter(|(tensor, _)| tensor.shape.len() > 1);
    let norm =
        |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let moved = weights.enumerate().map(|(i, (before, after))| {
        let change = norm(&mut before.values.iter().zip(&after.values).map(|(a, b)| b - a));
        let value = change / norm(&mut before.values.iter().copied()).max(f64::MIN_POSITIVE);
        LayerValue { layer: i as u32 + 1, name: before.name.clone(), value }
    });
    moved.collect()
}

/// A network in training, looked at on the way.
struct Probe {
    trainer: Trainer,
    steps: u64,
}

/// How a training went.
struct Course {
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

    /// The gradient's norm for each weight that is a matrix or a kernel, on the batch that comes next.
    fn gradients(&mut self) -> Result<Vec<LayerValue>, TrainError> {
        let norms = self.trainer.gradient_norms()?;
        if self.trainer.steps_done() == 0 {
            // The running statistics of the probe are not those of the training.
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

    fn train(&mut self) -> Result<Course, TrainError> {
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
            let judged = done == self.steps || done.is_multiple_of(every * (POINTS / EVALUATIONS));
            let test = if judged && !diverged { Some(self.trainer.evaluate(SplitName::Test)?) } else { None };
            curve.push(CurvePoint {
                step: done,
                train_loss,
                test_loss: test.as_ref().map(|test| test.loss),
                test_accuracy: test.as_ref().and_then(|test| test.accuracy),
            });
        }
        let end = curve.last().cloned();
        let of = |pick: fn(&CurvePoint) -> Option<f64>| end.as_ref().and_then(pick).unwrap_or(f64::NAN);
        Ok(Course {
            train_loss: of(|point| Some(point.train_loss)),
            test_loss: of(|point| point.test_loss),
            test_accuracy: of(|point| point.test_accuracy),
            diverged,
            curve,
        })
    }
}
