//! Scaling laws fitted to the training runs of a sweep. The laws give the test loss as a function of the number of
//! parameters, of the number of examples and of compute. The module also finds the compute-optimal frontier, predicts
//! held-out training runs, and compares more data with a better architecture. Each result lists the ids of the runs it
//! is based on.

mod charts;
mod comparison;
mod conclusion;
mod csv;
mod fit;
mod frontier;
mod optimize;
pub mod page;
mod prediction;

#[cfg(test)]
pub(super) mod testing;

pub use self::csv::trials_csv;
pub use comparison::{Comparison, ComparisonPoint, ComputeBudget, Crossing, DataEquivalent, LargerEffect};
pub use fit::{Estimate, EstimateStatus, Law, LawError, Term, Variable};
pub use frontier::{Frontier, FrontierPoint, Optimum};
pub use prediction::{Measured, Outcome, PlannedTraining, Prediction};

use crate::scaling::{Role, Trial};
use fit::Sample;
use prediction::FamilyKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Name of the plain architecture in the comparisons: a multilayer perceptron.
pub const PLAIN: &str = "mlp";
/// Name of the better architecture in the comparisons: a residual network.
pub const BETTER: &str = "resnet";

/// Laws, predictions and comparisons from the training runs of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Laws {
    /// Number of bootstrap resamples per confidence interval.
    pub resamples: usize,
    /// Seed of the bootstrap resamples.
    pub seed: u64,
    /// Laws, one entry per family, in order of data set, architecture and depth.
    pub families: Vec<FamilyLaws>,
    /// Comparisons of more data with a better architecture, one per data set.
    #[serde(rename = "versus")]
    pub comparisons: Vec<Comparison>,
    /// Predictions of held-out training runs, each with its measurement if there is one.
    pub outcomes: Vec<Outcome>,
    /// Ids of the training runs that diverged. Laws are fitted to the other runs only.
    pub diverged: Vec<String>,
}

/// Laws of one architecture with one depth on one data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FamilyLaws {
    /// Name of the data set.
    pub dataset: String,
    /// Name of the architecture, `mlp` or `resnet`.
    pub family: String,
    /// Number of layers, counted as in [`Trial::depth`].
    pub depth: u64,
    /// Law of the loss against the number of parameters N, fitted to the runs with the largest number of examples.
    pub by_parameters: LawFit,
    /// Law of the loss against the number of examples D, fitted to the runs with the largest number of parameters.
    pub by_examples: LawFit,
    /// Law of the loss against N and D, fitted to all runs of the family.
    pub joint: LawFit,
    /// Compute-optimal frontier: lowest loss and best network size against compute.
    pub frontier: Frontier,
}

/// Result of fitting a law, with the ids of the training runs that were used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LawFit {
    /// Value of the variable that is held constant: D for a law of N, N for a law of D, `None` for the joint law.
    #[serde(rename = "held")]
    pub fixed: Option<u64>,
    /// Ids of the training runs that the law is fitted to.
    pub trials: Vec<String>,
    /// Ids of the training runs that were still improving at their last step. The loss of these runs is limited by the
    /// number of steps, in addition to N and D.
    pub improving: Vec<String>,
    /// Fitted law, or the reason why no law can be fitted.
    pub law: Result<Law, LawError>,
}

impl Laws {
    /// Fits the laws to the training runs of a sweep and evaluates the predictions. Intervals are computed from
    /// `resamples` bootstrap resamples, drawn with random numbers from `seed`.
    pub fn fit(trials: &[Trial], predictions: &[Prediction], resamples: usize, seed: u64) -> Self {
        let keys = |role: Role| {
            trials
                .iter()
                .filter(move |trial| trial.role == role)
                .map(FamilyKey::of_trial)
                .collect::<BTreeSet<_>>()
        };
        let family = |key| FamilyLaws::fit(trials, key, resamples, seed);
        let datasets: BTreeSet<&str> = keys(Role::Comparison).into_iter().map(|key| key.dataset).collect();
        let outcomes = predictions.iter().cloned().map(|prediction| Outcome::new(prediction, trials));
        Self {
            resamples,
            seed,
            families: keys(Role::Fit).into_iter().map(family).collect(),
            comparisons: datasets.into_iter().map(|dataset| Comparison::new(trials, dataset)).collect(),
            outcomes: outcomes.collect(),
            diverged: trials.iter().filter(|trial| trial.diverged).map(|trial| trial.id.clone()).collect(),
        }
    }

    /// Returns the main result as a sentence.
    pub fn headline(&self) -> String {
        conclusion::headline(self)
    }

    /// Returns the detailed results as sentences.
    pub fn sentences(&self) -> Vec<String> {
        conclusion::sentences(self)
    }
}

impl FamilyLaws {
    fn fit(trials: &[Trial], key: FamilyKey<'_>, resamples: usize, seed: u64) -> Self {
        let family_trials: Vec<&Trial> = prediction::fit_trials(trials, key).collect();
        let most = |value: fn(&Trial) -> u64| family_trials.iter().map(|trial| value(trial)).max();
        let (parameters, examples) = (most(|trial| trial.parameters), most(|trial| trial.examples));
        let fit = |fixed: Option<u64>, variables: &[Variable], include: &dyn Fn(&Trial) -> bool| {
            let included: Vec<&&Trial> = family_trials.iter().filter(|trial| include(trial)).collect();
            let by_examples = variables == [Variable::Examples];
            let sample = |trial: &&&Trial| {
                let Sample { x: [n, d], loss } = prediction::sample(trial);
                Sample { x: if by_examples { [d, n] } else { [n, d] }, loss }
            };
            let samples: Vec<Sample> = included.iter().map(sample).collect();
            let law = fit::fit(variables, &samples, resamples, seed).map(|fitted| fitted.law);
            LawFit {
                fixed,
                trials: included.iter().map(|trial| trial.id.clone()).collect(),
                improving: prediction::improving(included.iter().map(|trial| **trial)),
                law,
            }
        };
        let FamilyKey { dataset, family, depth } = key;
        Self {
            dataset: dataset.to_owned(),
            family: family.to_owned(),
            depth,
            by_parameters: fit(examples, &[Variable::Parameters], &|trial| Some(trial.examples) == examples),
            by_examples: fit(parameters, &[Variable::Examples], &|trial| {
                Some(trial.parameters) == parameters
            }),
            joint: fit(None, &[Variable::Parameters, Variable::Examples], &|_| true),
            frontier: Frontier::fit(&family_trials, resamples, seed),
        }
    }

    /// Returns the name of the family, e.g. `mlp of 2 hidden layers on fashion-mnist`.
    pub fn name(&self) -> String {
        let layers = match (self.family.as_str(), self.depth) {
            (PLAIN, 1) => "hidden layer",
            (PLAIN, _) => "hidden layers",
            (_, 1) => "layer",
            _ => "layers",
        };
        format!("{} of {} {layers} on {}", self.family, self.depth, self.dataset)
    }

    fn key(&self) -> FamilyKey<'_> {
        FamilyKey { dataset: &self.dataset, family: &self.family, depth: self.depth }
    }
}

#[cfg(test)]
mod tests;
