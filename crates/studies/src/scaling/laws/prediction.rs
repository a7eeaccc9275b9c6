//! Predictions of held-out training runs, made before the runs start, and their comparison with the measurements.

use super::fit::{self, Law, LawError, Sample, Variable};
use crate::scaling::{Role, Trial};
use serde::{Deserialize, Serialize};
use wgrad_report::Spread;

/// Prediction of the test loss of a training run by a law fitted to smaller runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Name of the training run, unique in the sweep.
    pub id: String,
    /// Name of the data set.
    pub dataset: String,
    /// Name of the architecture, `mlp` or `resnet`.
    pub family: String,
    /// Number of layers, counted as in [`Trial::depth`].
    pub depth: u64,
    /// Description of the network, e.g. `784-32-32-10`.
    pub network: String,
    /// Number of trainable parameters, N.
    pub parameters: u64,
    /// Number of distinct training examples, D.
    pub examples: u64,
    /// Predicted test loss in nats per example.
    pub loss: f64,
    /// 95% interval of the test loss of a run with one seed, computed from the laws fitted to bootstrap resamples and
    /// from randomly drawn residuals. The interval is valid only if the law holds beyond the range of its points.
    /// `None` if the law has no intervals.
    pub interval: Option<[f64; 2]>,
    /// Time of the prediction in UTC, as 2026-01-02T03:04:05Z.
    #[serde(rename = "made")]
    pub predicted_at: String,
    /// Law of N and D that the prediction is computed from.
    pub law: Law,
    /// Ids of the training runs that the law was fitted to.
    pub trials: Vec<String>,
}

/// Training run whose test loss is to be predicted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlannedTraining<'a> {
    /// Name of the training run, unique in the sweep.
    pub id: &'a str,
    /// Name of the data set.
    pub dataset: &'a str,
    /// Name of the architecture, `mlp` or `resnet`.
    pub family: &'a str,
    /// Number of layers, counted as in [`Trial::depth`].
    pub depth: u64,
    /// Description of the network, e.g. `784-32-32-10`.
    pub network: &'a str,
    /// Number of trainable parameters, N.
    pub parameters: u64,
    /// Number of distinct training examples, D.
    pub examples: u64,
}

impl Prediction {
    /// Predicts the test loss of a training run. The law of N and D is fitted to the trials with the role [`Role::Fit`]
    /// and the same data set, architecture and depth. `now` is the current time in UTC, as 2026-01-02T03:04:05Z.
    ///
    /// # Errors
    /// Returns an error if the law cannot be fitted.
    pub fn new(
        planned: PlannedTraining<'_>,
        trials: &[Trial],
        now: &str,
        resamples: usize,
        seed: u64,
    ) -> Result<Self, LawError> {
        let PlannedTraining { id, dataset, family, depth, network, parameters, examples } = planned;
        let used: Vec<&Trial> = fit_trials(trials, FamilyKey { dataset, family, depth }).collect();
        let samples: Vec<Sample> = used.iter().map(|trial| sample(trial)).collect();
        let fitted = fit::fit(&[Variable::Parameters, Variable::Examples], &samples, resamples, seed)?;
        let x = [parameters as f64, examples as f64];
        Ok(Self {
            id: id.to_owned(),
            dataset: dataset.to_owned(),
            family: family.to_owned(),
            depth,
            network: network.to_owned(),
            parameters,
            examples,
            loss: fitted.law.at(&x),
            interval: fitted.interval_at(x, seed),
            predicted_at: now.to_owned(),
            law: fitted.law,
            trials: used.iter().map(|trial| trial.id.clone()).collect(),
        })
    }

    /// Whether the training run has more parameters or more examples than every run that the law was fitted to.
    pub fn is_larger(&self) -> bool {
        self.law.terms.iter().any(|term| {
            let value = match term.variable {
                Variable::Parameters => self.parameters,
                Variable::Examples => self.examples,
                Variable::Compute => return false,
            };
            value as f64 > term.range[1]
        })
    }
}

/// Data set, architecture and depth shared by the training runs that a law is fitted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FamilyKey<'a> {
    pub dataset: &'a str,
    pub family: &'a str,
    pub depth: u64,
}

impl<'a> FamilyKey<'a> {
    pub fn of_trial(trial: &'a Trial) -> Self {
        Self { dataset: &trial.dataset, family: &trial.family, depth: trial.depth }
    }

    pub fn of_prediction(prediction: &'a Prediction) -> Self {
        Self { dataset: &prediction.dataset, family: &prediction.family, depth: prediction.depth }
    }
}

/// Returns the training runs that the laws of a family are fitted to: those with the role [`Role::Fit`] that did not
/// diverge.
pub(super) fn fit_trials<'a>(trials: &'a [Trial], key: FamilyKey<'a>) -> impl Iterator<Item = &'a Trial> {
    trials
        .iter()
        .filter(move |trial| trial.role == Role::Fit && !trial.diverged && FamilyKey::of_trial(trial) == key)
}

/// Returns the ids of the training runs that were still improving at their last step.
pub(super) fn improving<'a>(trials: impl Iterator<Item = &'a Trial>) -> Vec<String> {
    trials.filter(|trial| trial.is_still_improving()).map(|trial| trial.id.clone()).collect()
}

/// Returns N, D and the test loss of a training run.
pub(super) fn sample(trial: &Trial) -> Sample {
    Sample { x: [trial.parameters as f64, trial.examples as f64], loss: trial.test_loss }
}

/// Prediction and measurement of a held-out training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Prediction made before the run started.
    pub prediction: Prediction,
    /// Measurement, or `None` if the run has not been trained yet or diverged with every seed.
    pub measured: Option<Measured>,
}

/// Measured test loss of a training run that was predicted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Mean test loss over the seeds.
    pub loss: f64,
    /// Spread of the test loss over the seeds.
    pub spread: Spread,
    /// Relative error of the prediction: (predicted − measured) / measured.
    pub error: f64,
    /// Whether the mean lies in the interval of the prediction. `None` if the prediction has no interval.
    pub within: Option<bool>,
    /// Ids of the training runs, one per seed.
    pub trials: Vec<String>,
    /// Ids of the training runs that were still improving at their last step.
    pub improving: Vec<String>,
}

impl Outcome {
    /// Compares a prediction with the trials that have the role [`Role::HeldOut`] and agree with the prediction in data
    /// set, architecture, depth, number of parameters and number of examples. Diverged trials are left out.
    pub fn new(prediction: Prediction, trials: &[Trial]) -> Self {
        let is_predicted = |trial: &&Trial| {
            trial.role == Role::HeldOut
                && !trial.diverged
                && FamilyKey::of_trial(trial) == FamilyKey::of_prediction(&prediction)
                && (trial.parameters, trial.examples) == (prediction.parameters, prediction.examples)
        };
        let found: Vec<&Trial> = trials.iter().filter(is_predicted).collect();
        let losses = || found.iter().map(|trial| trial.test_loss);
        let measured = Spread::of(losses()).map(|spread| {
            let loss = losses().sum::<f64>() / found.len() as f64;
            Measured {
                loss,
                spread,
                error: prediction.loss / loss - 1.0,
                within: prediction.interval.map(|[low, high]| (low..=high).contains(&loss)),
                trials: found.iter().map(|trial| trial.id.clone()).collect(),
                improving: improving(found.iter().copied()),
            }
        });
        Self { prediction, measured }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::laws::testing::{self, MLP, loss};

    const PLANNED: PlannedTraining<'_> = PlannedTraining {
        id: "large",
        dataset: "fashion-mnist",
        family: "mlp",
        depth: 2,
        network: "large",
        parameters: 800 * 256,
        examples: 50_000,
    };

    fn predict(trials: &[Trial]) -> Prediction {
        Prediction::new(PLANNED, trials, "2026-01-02T03:04:05Z", 200, 1).unwrap()
    }

    #[test]
    fn run_that_follows_the_law_is_predicted() {
        let trials = testing::sweep();
        let prediction = predict(&trials);
        let planted = loss(MLP, PLANNED.parameters, PLANNED.examples);
        assert!((prediction.loss / planted - 1.0).abs() < 0.05, "{prediction:?}");
        assert_eq!(
            prediction.trials.len(),
            60,
            "other families, other roles and diverged trials are excluded"
        );
        let [low, high] = prediction.interval.unwrap();
        assert!(low < planted && planted < high);
        let outcome = Outcome::new(prediction.clone(), &trials);
        let measured = outcome.measured.unwrap();
        assert_eq!((measured.spread.count, measured.trials.len(), measured.within), (2, 2, Some(true)));
        let trial_of_role = |role| testing::trial("mlp", role, 256, 50_000, 9, 0.5);
        let more: Vec<Trial> = trials
            .iter()
            .cloned()
            .chain([trial_of_role(Role::Fit), trial_of_role(Role::Comparison)])
            .collect();
        assert_eq!(
            Outcome::new(prediction.clone(), &more).measured.unwrap(),
            measured,
            "only held-out trials are compared"
        );
        assert!((measured.error - (prediction.loss / measured.loss - 1.0)).abs() < 1e-12);
    }

    #[test]
    fn is_larger_compares_with_the_range_of_the_law() {
        let trials = testing::sweep();
        let larger = |parameters, examples| {
            let planned = PlannedTraining { parameters, examples, ..PLANNED };
            Prediction::new(planned, &trials, "", 0, 1).unwrap().is_larger()
        };
        assert!(larger(800 * 256, 50_000) && larger(800 * 65, 500) && larger(800 * 4, 32_001));
        assert!(!larger(800 * 64, 32_000) && !larger(800 * 10, 1000));
    }

    #[test]
    fn held_out_trials_do_not_change_the_prediction() {
        let (mut trials, all) = (testing::sweep(), testing::sweep());
        trials.retain(|trial| trial.role == Role::Fit);
        assert_eq!(predict(&trials), predict(&all));
        assert_eq!(
            Outcome::new(predict(&trials), &trials).measured,
            None,
            "the held-out run has not been trained yet"
        );
    }

    #[test]
    fn run_that_deviates_from_the_law_is_outside_the_interval() {
        let mut trials = testing::sweep();
        let prediction = predict(&trials);
        for trial in trials.iter_mut().filter(|trial| trial.role == Role::HeldOut) {
            trial.test_loss *= 1.5;
        }
        let measured = Outcome::new(prediction, &trials).measured.unwrap();
        assert_eq!(measured.within, Some(false));
        assert!((-0.37..-0.28).contains(&measured.error), "{measured:?}");
    }

    #[test]
    fn prediction_requires_a_law() {
        let mut trials = testing::sweep();
        trials.retain(|trial| trial.examples < 4000);
        let error = Prediction::new(PLANNED, &trials, "", 10, 1).unwrap_err();
        assert_eq!(error, LawError::TooFewValues { variable: Variable::Examples, values: 2 });
    }
}
