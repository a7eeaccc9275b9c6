//! One training that is to be made.

use super::{Family, Law, Sweep, Versus};
use crate::scaling::{Role, Trial};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A network, by what tells it from others of its family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// The architecture.
    pub family: Family,
    /// Hidden layers of a perceptron, layers (6n + 2) of a residual network.
    pub depth: u64,
    /// Units of a hidden layer, or channels of the first stage.
    pub width: u64,
}

/// A network on a data set: what a learning rate is chosen for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// The data.
    pub dataset: String,
    /// The network.
    pub network: Network,
}

impl Key {
    /// `fashion-mnist-mlp2-w32`.
    fn name(&self) -> String {
        let Network { family, depth, width } = self.network;
        format!("{}-{}{depth}-w{width}", self.dataset, family.name())
    }
}

/// How long a training is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Aim {
    /// So many steps.
    Steps(u64),
    /// As many steps as take these training FLOPs, at least one.
    Flops(f64),
}

/// One training that is to be made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its name, unique in a sweep.
    pub id: String,
    /// What it is for.
    pub role: Role,
    /// Data and network.
    pub key: Key,
    /// Different training examples.
    pub examples: u64,
    /// Seed of initial values, batches and the draw of examples.
    pub seed: u64,
    /// Peak learning rate.
    pub lr: f64,
    /// How long.
    pub aim: Aim,
}

/// The learning rate of each network.
pub type Rates = BTreeMap<Key, f64>;

impl Sweep {
    /// Short trainings by which the learning rate of each network is chosen: those that laws are fitted to and those of the
    /// comparison, or with `held_out` the larger ones.
    pub fn rate_jobs(&self, held_out: bool) -> Vec<Job> {
        let mut keys: Vec<Key> = Vec::new();
        let mut want = |dataset: &str, network: Network| {
            let key = Key { dataset: dataset.to_owned(), network };
            if !keys.contains(&key) {
                keys.push(key);
            }
        };
        for law in &self.laws {
            let larger = law.held_out.iter().map(|other| other.width);
            let widths: Vec<u64> = if held_out { larger.collect() } else { law.widths.clone() };
            widths.into_iter().for_each(|width| want(&law.dataset, law.network(width)));
        }
        for versus in self.versus.iter().filter(|_| !held_out) {
            versus.networks.iter().for_each(|network| want(&versus.dataset, *network));
        }
        let rates = |key: Key| {
            let training = &self.training;
            training.rates.iter().map(move |&lr| Job {
                id: format!("rate-{}-lr{lr}", key.name()),
                role: Role::Rate,
                key: key.clone(),
                examples: training.rate_examples,
                seed: 0,
                lr,
                aim: Aim::Steps(training.rate_steps),
            })
        };
        keys.into_iter().flat_map(rates).collect()
    }

    /// Every training but those for rates, before rates are chosen: its learning rates mean nothing.
    pub fn all_jobs(&self) -> Vec<Job> {
        let rate_jobs = [self.rate_jobs(false), self.rate_jobs(true)].concat();
        let any: Rates = rate_jobs.into_iter().map(|job| (job.key, job.lr)).collect();
        [self.law_jobs(&any, false), self.law_jobs(&any, true), self.versus_jobs(&any)].concat()
    }

    /// The rate of each network among some trials: that of the lowest validation loss at any time, the lower one of two that are
    /// equal. A network of which all diverged has the lowest rate that was tried.
    pub fn choose_rates(&self, jobs: &[Job], trials: &[Trial]) -> Rates {
        let mut best: BTreeMap<Key, (f64, f64)> = BTreeMap::new();
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

    /// The trainings that laws are fitted to, or with `held_out` the larger ones, where the rate of the network is known.
    pub fn law_jobs(&self, rates: &Rates, held_out: bool) -> Vec<Job> {
        let mut jobs = Vec::new();
        for law in &self.laws {
            let sizes: Vec<(u64, u64)> = match held_out {
                true => law.held_out.iter().map(|larger| (larger.width, larger.examples)).collect(),
                false => {
                    let of_width = |&width: &u64| law.examples.iter().map(move |&examples| (width, examples));
                    law.widths.iter().flat_map(of_width).collect()
                }
            };
            let role = if held_out { Role::HeldOut } else { Role::Fit };
            for (width, examples) in sizes {
                let aim = Aim::Steps(self.steps(law, examples));
                self.push(
                    &mut jobs,
                    rates,
                    role,
                    (&law.dataset, law.network(width)),
                    examples,
                    &law.seeds,
                    aim,
                );
            }
        }
        jobs
    }

    /// The trainings of the comparison.
    pub fn versus_jobs(&self, rates: &Rates) -> Vec<Job> {
        let mut jobs = Vec::new();
        for Versus { dataset, flops, examples, seeds, networks, .. } in &self.versus {
            for &budget in flops {
                for &network in networks {
                    for &examples in examples {
                        let of = (dataset.as_str(), network);
                        self.push(&mut jobs, rates, Role::Versus, of, examples, seeds, Aim::Flops(budget));
                    }
                }
            }
        }
        jobs
    }

    #[expect(clippy::too_many_arguments, reason = "a job is made of them")]
    fn push(
        &self,
        jobs: &mut Vec<Job>,
        rates: &Rates,
        role: Role,
        (dataset, network): (&str, Network),
        examples: u64,
        seeds: &[u64],
        aim: Aim,
    ) {
        let key = Key { dataset: dataset.to_owned(), network };
        let Some(&lr) = rates.get(&key) else { return };
        for &seed in seeds {
            let budget =
                if let Aim::Flops(budget) = aim { format!("versus-{budget:e}-") } else { String::new() };
            let id = format!("{budget}{}-d{examples}-s{seed}", key.name());
            jobs.push(Job { id, role, key: key.clone(), examples, seed, lr, aim });
        }
    }

    /// Steps of a training on so many examples.
    fn steps(&self, law: &Law, examples: u64) -> u64 {
        let [least, most] = law.steps;
        law.epochs.saturating_mul(examples).div_ceil(self.training.batch).clamp(least, most)
    }
}

impl Law {
    /// Its network of a width.
    pub fn network(&self, width: u64) -> Network {
        Network { family: self.family, depth: self.depth, width }
    }
}
