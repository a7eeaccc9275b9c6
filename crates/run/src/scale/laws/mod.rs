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

use crate::scale::{Role, Trial};
use fit::Sample;
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
    /// By data set and architecture.
    pub families: Vec<FamilyLaws>,
    /// By data set.
    pub versus: Vec<Versus>,
    /// Larger trainings that were predicted.
    pub outcomes: Vec<Outcome>,
    /// Trainings that diverged, which no law is fitted to.
    pub diverged: Vec<String>,
}

/// The laws of one architecture on one data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FamilyLaws {
    /// The data.
    pub dataset: String,
    /// The architecture.
    pub family: String,
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
    /// The law.
    pub law: Result<Law, LawError>,
}

impl Laws {
    /// Of the trainings of a sweep, and of what was predicted before the largest ones were trained. Intervals are of `resamples`
    /// bootstraps, with random numbers from `seed`.
    pub fn of(trials: &[Trial], predictions: &[Prediction], resamples: usize, seed: u64) -> Self {
        let keys = |role: Role| {
            let of_role = trials.iter().filter(move |trial| trial.role == role);
            of_role.map(|trial| (trial.dataset.as_str(), trial.family.as_str())).collect::<BTreeSet<_>>()
        };
        let family = |(dataset, family)| FamilyLaws::of(trials, (dataset, family), resamples, seed);
        let datasets: BTreeSet<&str> = keys(Role::Versus).into_iter().map(|key| key.0).collect();
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
    fn of(trials: &[Trial], (dataset, family): (&str, &str), resamples: usize, seed: u64) -> Self {
        let used: Vec<&Trial> = prediction::fitted_to(trials, dataset, family).collect();
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
            Fit { held, trials: of.iter().map(|trial| trial.id.clone()).collect(), law }
        };
        Self {
            dataset: dataset.to_owned(),
            family: family.to_owned(),
            by_parameters: fit(examples, &[Variable::Parameters], &|trial| Some(trial.examples) == examples),
            by_examples: fit(parameters, &[Variable::Examples], &|trial| {
                Some(trial.parameters) == parameters
            }),
            joint: fit(None, &[Variable::Parameters, Variable::Examples], &|_| true),
            frontier: Frontier::of(&used, resamples, seed),
        }
    }

    /// `mlp on fashion-mnist`.
    pub fn name(&self) -> String {
        format!("{} on {}", self.family, self.dataset)
    }
}

#[cfg(test)]
mod tests;
