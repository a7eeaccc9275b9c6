//! One training of a sweep: a network of some size on some of the data, evaluated on the way, ended early.

use std::time::Instant;

use crate::scaling::sweep::{Aim, Family, Job, Network, Sweep};
use crate::scaling::{Curve, Role, Trial};
use wgrad_data::split::{Purpose, draw};
use wgrad_data::{Data, Normalize, Splits};
use wgrad_nn::{
    AdamW, ConstantSchedule, ImageNorm, Mlp, MlpConfig, Optimizer, ResNet, ResNetConfig, Schedule,
};
use wgrad_program::Device;
use wgrad_run::Flops;

use wgrad_train::TrainError;
use wgrad_train::Trainer;
use wgrad_train::{Config, Model, Plan, SplitName};

/// Seed of the draws that all trainings share: of validation and test examples.
const SEED: u64 = 0;
/// Examples of a pass of an evaluation.
const EVAL_BATCH: usize = 500;

/// A data set as all trainings of a sweep see it: what is left to train on, and what they are judged by.
#[derive(Debug, Clone)]
pub struct SweepData {
    splits: Splits,
}

impl SweepData {
    /// Loads a data set of classes by its name in the catalogue. Images are normalised by the mean and deviation of all training
    /// images.
    ///
    /// # Errors
    /// An unknown name; data that is not on this machine.
    pub fn load(name: &str, sweep: &Sweep) -> Result<Self, TrainError> {
        let data: Data = name.parse()?;
        let splits = wgrad_data::load(&data.with_normalize(Normalize::Dataset))?;
        let all = splits.train.len();
        let validation = all - sweep.left_of(all as u64) as usize;
        let (rest, drawn) = draw(&splits.train, validation, SEED, Purpose::Validation);
        let test = draw(&splits.test, sweep.training.test as usize, SEED, Purpose::Limit).1;
        let (train, validation) = (splits.train.subset(&rest)?, splits.train.subset(&drawn)?);
        let test = splits.test.subset(&test)?;
        Ok(Self { splits: Splits { train, validation: Some(validation), test, ..splits } })
    }

    /// Examples that there are to train on.
    pub fn examples(&self) -> u64 {
        self.splits.train.len() as u64
    }

    /// What a training sees: `examples` of the training data, drawn by class with its seed, as rows of numbers for a network
    /// that knows no images.
    fn of(&self, job: &Job) -> Result<Splits, TrainError> {
        let Splits { train, validation, test, .. } = &self.splits;
        let drawn = draw(train, job.examples as usize, job.seed, Purpose::Limit).1;
        let splits =
            Splits { validation: validation.clone(), ..Splits::new(train.subset(&drawn)?, test.clone()) };
        Ok(if job.key.network.family == Family::Mlp { splits.flattened() } else { splits })
    }
}

/// What a job's network is in words, and how many numbers it trains.
///
/// # Errors
/// Mistakes in the job.
pub fn network_of(data: &SweepData, job: &Job) -> Result<(String, u64), TrainError> {
    let (model, words) = model(job.key.network, &data.of(job)?)?;
    let mut states = wgrad_graph::States::new();
    Ok((words, model.builder.finish(&mut states).count() as u64))
}

/// A network of a sweep for some data, and what it is in words.
fn model(network: Network, splits: &Splits) -> Result<(Model, String), TrainError> {
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
            let known = ResNetConfig::cifar(depth)
                .ok_or_else(|| TrainError::Config(format!("a depth is 6n + 2, e.g. 8; {depth} is not")))?;
            let &[channels, _, _] = splits.train.feature_shape() else {
                return Err(TrainError::Config(
                    "a residual network is for images, and the data has none".into(),
                ));
            };
            let network = ResNetConfig { width, norm: ImageNorm::Group, ..known };
            let model = Model::new(|b| ResNet::new(b, network, channels, outputs));
            Ok((model, format!("{depth} layers of {width}, {}, {} channels", 2 * width, 4 * width)))
        }
    }
}

/// Makes one training of a sweep; `None` if `stop` ended it. A loss that is no longer finite ends it, and is a result.
/// `called` is what `device` is called on the command line.
///
/// # Errors
/// Mistakes in the job; what the device reports.
pub fn train_job(
    (called, device): (&str, &dyn Device),
    data: &SweepData,
    sweep: &Sweep,
    job: &Job,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Trial>, TrainError> {
    let splits = data.of(job)?;
    let training = &sweep.training;
    let examples = splits.train.len() as u64;
    let config = Config {
        optimizer: Optimizer::AdamW(AdamW { lr: job.lr, weight_decay: 0.0, ..AdamW::default() }),
        schedule: Schedule::Constant(ConstantSchedule { warmup_steps: training.warmup }),
        batch: training.batch as usize,
        eval_batch: EVAL_BATCH.min(splits.test.len()),
        ema: (training.ema > 0.0).then_some(training.ema),
        seed: job.seed,
        ..Config::default()
    };
    let (model, network) = model(job.key.network, &splits)?;
    let plan = Plan::new(model, &splits, config, &device.info().limits)?;
    let parameters = plan.params.count() as u64;
    let steps = match job.aim {
        Aim::Steps(steps) => steps,
        Aim::Flops(budget) => (budget / plan.step_flops()?.training()).round().max(1.0) as u64,
    };
    let mut trainer = Trainer::new(device, plan, splits, steps)?;
    let mut course = Course::default();
    for until in sweep.evaluations(job.role, steps) {
        let begun = Instant::now();
        while trainer.steps_done() < until {
            if stop() {
                return Ok(None);
            }
            trainer.step()?;
        }
        let records = trainer.records(true)?;
        course.seconds += begun.elapsed().as_secs_f64();
        let total: f64 = records.iter().map(|record| f64::from(record.loss)).sum();
        let train_loss = total / records.len().max(1) as f64;
        course.look(&mut trainer, train_loss)?;
        // What is compared by its compute spends all of it.
        let patience = if job.role == Role::Versus { u64::MAX } else { training.patience };
        if course.diverged || course.since_best >= patience {
            break;
        }
    }
    let best = course.curve.get(course.best);
    let of = |value: fn(&Curve) -> f64, otherwise: f64| match best {
        Some(point) if !course.diverged => value(point),
        _ => otherwise,
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
        test_loss: of(|point| point.test_loss, f64::INFINITY),
        test_accuracy: of(|point| point.test_accuracy, 0.0),
        flops_to_best: best.map_or(0.0, |point| point.flops),
        diverged: course.diverged,
        seconds: course.seconds,
        device: called.to_owned(),
        curve: course.curve,
    }))
}

/// How a training goes.
#[derive(Default)]
struct Course {
    curve: Vec<Curve>,
    /// Where on it the validation loss is lowest.
    best: usize,
    since_best: u64,
    diverged: bool,
    /// Of steps, not of evaluations.
    seconds: f64,
}

impl Course {
    /// Evaluates.
    fn look(&mut self, trainer: &mut Trainer, train_loss: f64) -> Result<(), TrainError> {
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
        self.curve.push(Curve { step, flops, train_loss, validation_loss, test_loss, test_accuracy });
        Ok(())
    }
}
