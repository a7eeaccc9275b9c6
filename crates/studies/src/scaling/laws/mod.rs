//! Laws that the trainings of a sweep follow: loss against parameters, data and compute, the compute-optimal frontier, larger
//! trainings predicted beforehand, and data against architecture. Each names the trainings that it was made of.

mod charts;
mod conclusion;
mod csv;
mod fit;
mod frontier;
mod optimize;
pub mod page;
mod prediction;
mod versus;

#[cfg(test)]
pub(super) mod testing;

pub use self::csv::trials_csv;
pub use fit::{Estimate, Law, LawError, Standing, Term, Variable};
pub use frontier::{Frontier, FrontierPoint, Optimum};
pub use prediction::{Measured, Outcome, Planned, Prediction};
pub use versus::{Budget, Crossing, Point, Verdict, Versus, Worth};

use crate::scaling::{Role, Trial};
use fit::Sample;
use prediction::Key;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The plain architecture of the comparison with data.
pub const PLAIN: &str = "mlp";
/// The better one.
pub const BETTER: &str = "resnet";

/// All that trainings of a sweep say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Laws {
    /// Bootstraps behind each interval.
    pub resamples: usize,
    /// Where their random numbers begin.
    pub seed: u64,
    /// By data set, architecture and depth.
    pub families: Vec<FamilyLaws>,
    /// By data set.
    pub versus: Vec<Versus>,
    /// Larger trainings that were predicted.
    pub outcomes: Vec<Outcome>,
    /// Trainings that diverged, which no law is fitted to.
    pub diverged: Vec<String>,
}

/// The laws of one architecture of one depth on one data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FamilyLaws {
    /// The data.
    pub dataset: String,
    /// The architecture.
    pub family: String,
    /// Its layers, as in a [`Trial`].
    pub depth: u64,
    /// Loss against N, at the most examples.
    pub by_parameters: Fit,
    /// Loss against D, with the most parameters.
    pub by_examples: Fit,
    /// Loss against N and D.
    pub joint: Fit,
    /// Loss and size against compute.
    pub frontier: Frontier,
}

/// A law, or why there is none, and what it was fitted to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fit {
    /// What is the same in all of them: D of a law of N, N of a law of D. None of the joint law.
    pub held: Option<u64>,
    /// The trainings.
    pub trials: Vec<String>,
    /// Those of them that were still improving when their steps ran out, so that steps limit them as well as N and D.
    pub improving: Vec<String>,
    /// The law.
    pub law: Result<Law, LawError>,
}

impl Laws {
    /// Of the trainings of a sweep, and of what was predicted before the largest ones were trained. Intervals are of `resamples`
    /// bootstraps, with random numbers from `seed`.
    pub fn of(trials: &[Trial], predictions: &[Prediction], resamples: usize, seed: u64) -> Self {
        let keys = |role: Role| {
            trials.iter().filter(move |trial| trial.role == role).map(Key::of).collect::<BTreeSet<_>>()
        };
        let family = |key| FamilyLaws::of(trials, key, resamples, seed);
        let datasets: BTreeSet<&str> = keys(Role::Versus).into_iter().map(|key| key.dataset).collect();
        let outcomes = predictions.iter().cloned().map(|prediction| Outcome::of(prediction, trials));
        Self {
            resamples,
            seed,
            families: keys(Role::Fit).into_iter().map(family).collect(),
            versus: datasets.into_iter().map(|dataset| Versus::of(trials, dataset)).collect(),
            outcomes: outcomes.collect(),
            diverged: trials.iter().filter(|trial| trial.diverged).map(|trial| trial.id.clone()).collect(),
        }
    }

    /// What it comes to, in a sentence.
    pub fn headline(&self) -> String {
        conclusion::headline(self)
    }

    /// The figures behind it, a sentence each.
    pub fn sentences(&self) -> Vec<String> {
        conclusion::sentences(self)
    }
}

impl FamilyLaws {
    fn of(trials: &[Trial], key: Key<'_>, resamples: usize, seed: u64) -> Self {
        let used: Vec<&Trial> = prediction::fitted_to(trials, key).collect();
        let most = |key: fn(&Trial) -> u64| used.iter().map(|trial| key(trial)).max();
        let (parameters, examples) = (most(|trial| trial.parameters), most(|trial| trial.examples));
        let fit = |held: Option<u64>, variables: &[Variable], within: &dyn Fn(&Trial) -> bool| {
            let of: Vec<&&Trial> = used.iter().filter(|trial| within(trial)).collect();
            let single = variables == [Variable::Examples];
            let sample = |trial: &&&Trial| {
                let Sample { x: [n, d], loss } = prediction::sample(trial);
                Sample { x: if single { [d, n] } else { [n, d] }, loss }
            };
            let samples: Vec<Sample> = of.iter().map(sample).collect();
            let law = fit::fit(variables, &samples, resamples, seed).map(|fitted| fitted.law);
            Fit {
                held,
                trials: of.iter().map(|trial| trial.id.clone()).collect(),
                improving: prediction::improving(of.iter().map(|trial| **trial)),
                law,
            }
        };
        let Key { dataset, family, depth } = key;
        Self {
            dataset: dataset.to_owned(),
            family: family.to_owned(),
            depth,
            by_parameters: fit(examples, &[Variable::Parameters], &|trial| Some(trial.examples) == examples),
            by_examples: fit(parameters, &[Variable::Examples], &|trial| {
                Some(trial.parameters) == parameters
            }),
            joint: fit(None, &[Variable::Parameters, Variable::Examples], &|_| true),
            frontier: Frontier::of(&used, resamples, seed),
        }
    }

    /// `mlp of 2 hidden layers on fashion-mnist`.
    pub fn name(&self) -> String {
        let layers = match (self.family.as_str(), self.depth) {
            (PLAIN, 1) => "hidden layer",
            (PLAIN, _) => "hidden layers",
            (_, 1) => "layer",
            _ => "layers",
        };
        format!("{} of {} {layers} on {}", self.family, self.depth, self.dataset)
    }

    fn key(&self) -> Key<'_> {
        Key { dataset: &self.dataset, family: &self.family, depth: self.depth }
    }
}

#[cfg(test)]
mod tests;
