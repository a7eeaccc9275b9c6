//! Jobs of a sweep: the training runs to perform.

use super::{Comparison, Family, LawGrid, Sweep};
use crate::scaling::{Role, Trial};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Network of a sweep: architecture and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Architecture of the network.
    pub family: Family,
    /// Depth: for a perceptron, the number of hidden layers; for a residual network, the number of layers, 6n + 2.
    pub depth: u64,
    /// Width: for a perceptron, the number of units of each hidden layer; for a residual network, the number of
    /// channels of the first stage.
    pub width: u64,
}

/// Data set and network that a learning rate is chosen for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RateKey {
    /// Name of the data set.
    pub dataset: String,
    /// Architecture and size of the network.
    pub network: Network,
}

impl RateKey {
    /// Returns the name of the data set and network, e.g. `fashion-mnist-mlp2-w32`.
    fn name(&self) -> String {
        let Network { family, depth, width } = self.network;
        format!("{}-{}{depth}-w{width}", self.dataset, family.name())
    }
}

/// Length of a training run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrainingLength {
    /// Number of steps.
    Steps(u64),
    /// Compute budget in training FLOPs. The number of steps is the nearest integer, at least 1.
    Flops(f64),
}

/// Training run to perform.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Name of the training run, unique in a sweep.
    pub id: String,
    /// Purpose of the training run.
    pub role: Role,
    /// Data set and network of the run.
    pub key: RateKey,
    /// Number of distinct training examples.
    pub examples: u64,
    /// Seed of the initial values, of the order of the batches, and of the random choice of training examples.
    pub seed: u64,
    /// Peak learning rate.
    pub lr: f64,
    /// Length of the training run.
    #[serde(rename = "aim")]
    pub length: TrainingLength,
}

/// Learning rate of each network on each data set.
pub type LearningRates = BTreeMap<RateKey, f64>;

impl Sweep {
    /// Returns the short training runs that determine learning rates, one per network and candidate rate. If
    /// `held_out` is true, the runs are for the held-out networks, otherwise for the networks of the laws and
    /// comparisons.
    pub fn rate_jobs(&self, held_out: bool) -> Vec<Job> {
        let mut keys: Vec<RateKey> = Vec::new();
        let mut add = |dataset: &str, network: Network| {
            let key = RateKey { dataset: dataset.to_owned(), network };
            if !keys.contains(&key) {
                keys.push(key);
            }
        };
        for grid in &self.laws {
            let larger = grid.held_out.iter().map(|other| other.width);
            let widths: Vec<u64> = if held_out { larger.collect() } else { grid.widths.clone() };
            widths.into_iter().for_each(|width| add(&grid.dataset, grid.network(width)));
        }
        for comparison in self.comparisons.iter().filter(|_| !held_out) {
            comparison.networks.iter().for_each(|network| add(&comparison.dataset, *network));
        }
        let jobs = |key: RateKey| {
            let training = &self.training;
            training.rates.iter().map(move |&lr| Job {
                id: format!("rate-{}-lr{lr}", key.name()),
                role: Role::Rate,
                key: key.clone(),
                examples: training.rate_examples,
                seed: 0,
                lr,
                length: TrainingLength::Steps(training.rate_steps),
            })
        };
        keys.into_iter().flat_map(jobs).collect()
    }

    /// Returns all training runs except those that determine learning rates. The learning rates of these jobs are
    /// placeholders, because the rates have not been chosen yet.
    pub fn all_jobs(&self) -> Vec<Job> {
        let rate_jobs = [self.rate_jobs(false), self.rate_jobs(true)].concat();
        let placeholders: LearningRates = rate_jobs.into_iter().map(|job| (job.key, job.lr)).collect();
        [
            self.law_jobs(&placeholders, false),
            self.law_jobs(&placeholders, true),
            self.comparison_jobs(&placeholders),
        ]
        .concat()
    }

    /// Chooses the learning rate of each network from the results `trials` of the short training runs `jobs`. This is
    /// the rate with the lowest validation loss at any evaluation. Of two rates with equal loss, the lower one is
    /// chosen. A network whose runs all diverged gets the lowest rate.
    pub fn choose_rates(&self, jobs: &[Job], trials: &[Trial]) -> LearningRates {
        let mut best: BTreeMap<RateKey, (f64, f64)> = BTreeMap::new();
        for job in jobs.iter().filter(|job| job.role == Role::Rate) {
            let Some(trial) = trials.iter().find(|trial| trial.id == job.id) else { continue };
            let finite =
                trial.curve.iter().map(|point| point.validation_loss).filter(|loss| loss.is_finite());
            let loss = if trial.diverged { f64::INFINITY } else { finite.fold(f64::INFINITY, f64::min) };
            let entry = best.entry(job.key.clone()).or_insert((loss, job.lr));
            if loss < entry.0 {
                *entry = (loss, job.lr);
            }
        }
        best.into_iter().map(|(key, (_, lr))| (key, lr)).collect()
    }

    /// Returns the held-out training runs if `held_out` is true, otherwise the runs that laws are fitted to. Networks
    /// without a learning rate are left out.
    pub fn law_jobs(&self, rates: &LearningRates, held_out: bool) -> Vec<Job> {
        let mut jobs = Vec::new();
        for grid in &self.laws {
            let sizes: Vec<(u64, u64)> = match held_out {
                true => grid.held_out.iter().map(|larger| (larger.width, larger.examples)).collect(),
                false => {
                    let of_width =
                        |&width: &u64| grid.examples.iter().map(move |&examples| (width, examples));
                    grid.widths.iter().flat_map(of_width).collect()
                }
            };
            let role = if held_out { Role::HeldOut } else { Role::Fit };
            for (width, examples) in sizes {
                let key = RateKey { dataset: grid.dataset.clone(), network: grid.network(width) };
                let length = TrainingLength::Steps(self.steps(grid, examples));
                jobs.extend(jobs_of_seeds(rates, role, &key, examples, &grid.seeds, length));
            }
        }
        jobs
    }

    /// Returns the training runs of the comparisons. Networks without a learning rate are left out.
    pub fn comparison_jobs(&self, rates: &LearningRates) -> Vec<Job> {
        let mut jobs = Vec::new();
        for Comparison { dataset, flops, examples, seeds, networks, .. } in &self.comparisons {
            for &budget in flops {
                let length = TrainingLength::Flops(budget);
                for &network in networks {
                    let key = RateKey { dataset: dataset.clone(), network };
                    for &examples in examples {
                        jobs.extend(jobs_of_seeds(rates, Role::Comparison, &key, examples, seeds, length));
                    }
                }
            }
        }
        jobs
    }

    /// Returns the number of steps of a training run on `examples` examples: the epochs of the grid, within its limits
    /// of steps.
    fn steps(&self, grid: &LawGrid, examples: u64) -> u64 {
        let [least, most] = grid.steps;
        grid.epochs.saturating_mul(examples).div_ceil(self.training.batch).clamp(least, most)
    }
}

impl LawGrid {
    /// Returns the network of the grid with a given width.
    pub fn network(&self, width: u64) -> Network {
        Network { family: self.family, depth: self.depth, width }
    }
}

/// Returns one job per seed, or no jobs if the network has no learning rate.
fn jobs_of_seeds(
    rates: &LearningRates,
    role: Role,
    key: &RateKey,
    examples: u64,
    seeds: &[u64],
    length: TrainingLength,
) -> Vec<Job> {
    let Some(&lr) = rates.get(key) else { return Vec::new() };
    let prefix = match length {
        TrainingLength::Flops(budget) => format!("versus-{budget:e}-"),
        TrainingLength::Steps(_) => String::new(),
    };
    let job = |&seed: &u64| {
        let id = format!("{prefix}{}-d{examples}-s{seed}", key.name());
        Job { id, role, key: key.clone(), examples, seed, lr, length }
    };
    seeds.iter().map(job).collect()
}
