//! Training of one job of a sweep, with evaluations during training and early stopping.

use crate::scaling::sweep::{Family, Job, Network, Sweep, TrainingLength};
use crate::scaling::{CurvePoint, Role, Trial};
use std::time::Instant;
use wgrad_data::split::{Purpose, draw};
use wgrad_data::{Data, Normalize, Splits};
use wgrad_nn::{
    AdamW, ConstantSchedule, ImageNorm, Mlp, MlpConfig, Optimizer, ResNet, ResNetConfig, Schedule,
};
use wgrad_program::Device;
use wgrad_run::Flops;
use wgrad_train::{Config, Model, Plan, SplitName, TrainError, Trainer};

/// Seed for drawing the validation and test examples. All training runs share these examples.
const SEED: u64 = 0;
/// Maximum batch size of an evaluation.
const EVAL_BATCH: usize = 500;

/// Data set of a sweep, split into training, validation and test examples.
#[derive(Debug, Clone)]
pub struct SweepData {
    splits: Splits,
}

impl SweepData {
    /// Loads a classification data set by its name in the catalogue. Images are normalised by the mean and the standard
    /// deviation of all training images.
    ///
    /// # Errors
    /// Returns an error if the name is unknown or the data is not on this machine.
    pub fn load(name: &str, sweep: &Sweep) -> Result<Self, TrainError> {
        let data: Data = name.parse()?;
        let splits = wgrad_data::load(&data.with_normalize(Normalize::Dataset))?;
        let total = splits.train.len();
        let validation = total - sweep.training_examples(total as u64) as usize;
        let (train, validation) = draw(&splits.train, validation, SEED, Purpose::Validation);
        let test = draw(&splits.test, sweep.training.test as usize, SEED, Purpose::Limit).1;
        let (train, validation) = (splits.train.subset(&train)?, splits.train.subset(&validation)?);
        let test = splits.test.subset(&test)?;
        Ok(Self { splits: Splits { train, validation: Some(validation), test, ..splits } })
    }

    /// Returns the number of examples available for training, without the validation examples.
    pub fn examples(&self) -> u64 {
        self.splits.train.len() as u64
    }

    /// Returns the splits of a job. The training examples are drawn with the seed of the job, stratified by class. For
    /// a perceptron, all examples are flattened.
    fn splits_for(&self, job: &Job) -> Result<Splits, TrainError> {
        let Splits { train, validation, test, .. } = &self.splits;
        let drawn = draw(train, job.examples as usize, job.seed, Purpose::Limit).1;
        let splits =
            Splits { validation: validation.clone(), ..Splits::new(train.subset(&drawn)?, test.clone()) };
        Ok(if job.key.network.family == Family::Mlp { splits.flattened() } else { splits })
    }
}

/// Returns the description of a job's network and its number of trainable parameters.
///
/// # Errors
/// Returns an error if the network does not fit the data.
pub fn describe_network(data: &SweepData, job: &Job) -> Result<(String, u64), TrainError> {
    let (model, description) = build_model(job.key.network, &data.splits_for(job)?)?;
    let mut states = wgrad_graph::States::new();
    Ok((description, model.builder.finish(&mut states).count() as u64))
}

/// Builds a network for the data. Returns it with its description, e.g. `784-32-32-10`.
fn build_model(network: Network, splits: &Splits) -> Result<(Model, String), TrainError> {
    let Network { family, depth, width } = network;
    let (width, depth) = (width as usize, depth as usize);
    let outputs = splits.train.targets().outputs();
    match family {
        Family::Mlp => {
            let inputs = splits.train.feature_len();
            let config = MlpConfig { hidden: vec![width; depth], ..MlpConfig::default() };
            let model = Model::new(|b| Mlp::new(b, &config, inputs, outputs));
            let sizes: Vec<String> =
                [inputs].iter().chain(&config.hidden).chain([&outputs]).map(usize::to_string).collect();
            Ok((model, sizes.join("-")))
        }
        Family::ResNet => {
            let base = ResNetConfig::cifar(depth).ok_or_else(|| {
                TrainError::Config(format!("depth {depth} is not of the form 6n + 2; use 8, 14, 20 …"))
            })?;
            let &[channels, _, _] = splits.train.feature_shape() else {
                return Err(TrainError::Config(
                    "a residual network requires images, but the examples of the data set are not images"
                        .into(),
                ));
            };
            let network = ResNetConfig { width, norm: ImageNorm::Group, ..base };
            let model = Model::new(|b| ResNet::new(b, network, channels, outputs));
            Ok((model, format!("{depth} layers of {width}, {}, {} channels", 2 * width, 4 * width)))
        }
    }
}

/// Trains one job of a sweep on a device. `device_name` is the name of the device on the command line. `stop` is
/// called before every step. If it returns true, training ends and the result is `None`. A loss that becomes NaN or
/// infinite ends the training run and is a result, not an error.
///
/// # Errors
/// Returns an error if the network does not fit the data, or the device fails.
pub fn train_job(
    (device_name, device): (&str, &dyn Device),
    data: &SweepData,
    sweep: &Sweep,
    job: &Job,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Trial>, TrainError> {
    let splits = data.splits_for(job)?;
    let training = &sweep.training;
    let examples = splits.train.len() as u64;
    let (model, network) = build_model(job.key.network, &splits)?;
    let config = config(sweep, job, splits.test.len());
    let plan = Plan::new(model, &splits, config, &device.info().limits)?;
    let parameters = plan.params.count() as u64;
    let steps = match job.length {
        TrainingLength::Steps(steps) => steps,
        TrainingLength::Flops(budget) => (budget / plan.step_flops()?.training()).round().max(1.0) as u64,
    };
    let mut trainer = Trainer::new(device, plan, splits, steps)?;
    let Some(Progress { curve, best, diverged, seconds, .. }) =
        train(&mut trainer, sweep, job.role, steps, stop)?
    else {
        return Ok(None);
    };
    let best = curve.get(best).copied();
    let at_best = |value: fn(&CurvePoint) -> f64, if_diverged: f64| {
        best.as_ref().filter(|_| !diverged).map_or(if_diverged, value)
    };
    Ok(Some(Trial {
        id: job.id.clone(),
        role: job.role,
        dataset: job.key.dataset.clone(),
        family: job.key.network.family.name().to_owned(),
        depth: job.key.network.depth,
        network,
        width: job.key.network.width,
        parameters,
        examples,
        batch: training.batch,
        steps: trainer.steps_done(),
        lr: job.lr,
        seed: job.seed,
        flops: trainer.flops()?,
        best_step: best.map_or(0, |point| point.step),
        test_loss: at_best(|point| point.test_loss, f64::INFINITY),
        test_accuracy: at_best(|point| point.test_accuracy, 0.0),
        flops_to_best: best.map_or(0.0, |point| point.flops),
        diverged,
        seconds,
        device: device_name.to_owned(),
        curve,
    }))
}

fn config(sweep: &Sweep, job: &Job, test_examples: usize) -> Config {
    let training = &sweep.training;
    Config {
        optimizer: Optimizer::AdamW(AdamW { lr: job.lr, weight_decay: 0.0, ..AdamW::default() }),
        schedule: Schedule::Constant(ConstantSchedule { warmup_steps: training.warmup }),
        batch: training.batch as usize,
        eval_batch: EVAL_BATCH.min(test_examples),
        ema: (training.ema > 0.0).then_some(training.ema),
        seed: job.seed,
        ..Config::default()
    }
}

/// Trains for `steps` steps, or until the run diverges or stops early. Returns `None` if `stop` returned true.
fn train(
    trainer: &mut Trainer,
    sweep: &Sweep,
    role: Role,
    steps: u64,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Progress>, TrainError> {
    // Training runs that are compared at equal compute must use the entire budget, so they do not stop early.
    let patience = if role == Role::Comparison { u64::MAX } else { sweep.training.patience };
    let mut progress = Progress::default();
    for until in sweep.evaluation_steps(role, steps) {
        let start = Instant::now();
        while trainer.steps_done() < until {
            if stop() {
                return Ok(None);
            }
            trainer.step()?;
        }
        let records = trainer.records(true)?;
        progress.seconds += start.elapsed().as_secs_f64();
        let total: f64 = records.iter().map(|record| f64::from(record.loss)).sum();
        let train_loss = total / records.len().max(1) as f64;
        progress.evaluate(trainer, train_loss)?;
        if progress.diverged || progress.since_best >= patience {
            break;
        }
    }
    Ok(Some(progress))
}

/// Training curve and state of early stopping.
#[derive(Default)]
struct Progress {
    curve: Vec<CurvePoint>,
    /// Index in `curve` of the point with the lowest validation loss.
    best: usize,
    /// Number of evaluations since the lowest validation loss.
    since_best: u64,
    diverged: bool,
    /// Total duration of the steps in seconds, without evaluations.
    seconds: f64,
}

impl Progress {
    /// Computes the losses on the validation and test examples and appends a point to the curve. `train_loss` is the
    /// mean training loss of the steps since the previous point.
    fn evaluate(&mut self, trainer: &mut Trainer, train_loss: f64) -> Result<(), TrainError> {
        self.diverged = !train_loss.is_finite();
        let (mut validation_loss, mut test_loss, mut test_accuracy) = (f64::NAN, f64::NAN, f64::NAN);
        if !self.diverged {
            validation_loss = trainer.evaluate(SplitName::Validation)?.loss;
            let test = trainer.evaluate(SplitName::Test)?;
            (test_loss, test_accuracy) = (test.loss, test.accuracy.unwrap_or(f64::NAN));
            self.diverged = !validation_loss.is_finite() || !test_loss.is_finite();
        }
        let lowest = self.curve.get(self.best).map_or(f64::INFINITY, |point| point.validation_loss);
        if validation_loss < lowest {
            (self.best, self.since_best) = (self.curve.len(), 0);
        } else {
            self.since_best += 1;
        }
        let (step, flops) = (trainer.steps_done(), trainer.flops()?);
        let flops = Flops::training(&flops);
        self.curve.push(CurvePoint { step, flops, train_loss, validation_loss, test_loss, test_accuracy });
        Ok(())
    }
}
