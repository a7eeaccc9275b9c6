//! A larger training, predicted before it is trained, and what came of it.

use super::fit::{self, Law, LawError, Sample, Variable};
use crate::scaling::{Role, Trial};
use serde::{Deserialize, Serialize};
use wgrad_report::Spread;

/// What a training is going to come to, by a law of smaller ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Its name.
    pub id: String,
    /// Its data.
    pub dataset: String,
    /// Its architecture.
    pub family: String,
    /// Its layers, as in a [`Trial`].
    pub depth: u64,
    /// The network in words.
    pub network: String,
    /// Trained numbers, N.
    pub parameters: u64,
    /// Different training examples, D.
    pub examples: u64,
    /// Test loss by the law.
    pub loss: f64,
    /// Where the test loss of one seed lies in 95%: the bootstrap's laws, each with a residual drawn. That the law holds so far
    /// from where it was fitted is assumed. None where the law has no intervals.
    pub interval: Option<[f64; 2]>,
    /// When it was made, as 2026-01-02T03:04:05Z.
    pub made: String,
    /// The law.
    pub law: Law,
    /// The trainings that the law was fitted to.
    pub trials: Vec<String>,
}

/// A training that is to be predicted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Planned<'a> {
    /// Its name.
    pub id: &'a str,
    /// Its data.
    pub dataset: &'a str,
    /// Its architecture.
    pub family: &'a str,
    /// Its layers, as in a [`Trial`].
    pub depth: u64,
    /// The network in words.
    pub network: &'a str,
    /// Trained numbers, N.
    pub parameters: u64,
    /// Different training examples, D.
    pub examples: u64,
}

impl Prediction {
    /// By the law of N and D of the trainings in `trials` with the same data, architecture and depth and the role [`Role::Fit`].
    /// `made` is now, as 2026-01-02T03:04:05Z.
    ///
    /// # Errors
    /// [`LawError`] where there is no such law.
    pub fn of(
        planned: Planned<'_>,
        trials: &[Trial],
        made: &str,
        resamples: usize,
        seed: u64,
    ) -> Result<Self, LawError> {
        let Planned { id, dataset, family, depth, network, parameters, examples } = planned;
        let used: Vec<&Trial> = fitted_to(trials, Key { dataset, family, depth }).collect();
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
            made: made.to_owned(),
            law: fitted.law,
            trials: used.iter().map(|trial| trial.id.clone()).collect(),
        })
    }

    /// Whether it has more parameters or more examples than any training that its law was fitted to.
    pub fn is_larger(&self) -> bool {
        self.law.terms.iter().any(|term| {
            let own = match term.variable {
                Variable::Parameters => self.parameters,
                Variable::Examples => self.examples,
                Variable::Compute => return false,
            };
            own as f64 > term.range[1]
        })
    }
}

/// What trainings have in common that one law is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key<'a> {
    pub dataset: &'a str,
    pub family: &'a str,
    pub depth: u64,
}

impl<'a> Key<'a> {
    pub fn of(trial: &'a Trial) -> Self {
        Self { dataset: &trial.dataset, family: &trial.family, depth: trial.depth }
    }

    pub fn of_prediction(prediction: &'a Prediction) -> Self {
        Self { dataset: &prediction.dataset, family: &prediction.family, depth: prediction.depth }
    }
}

/// The trainings that laws of a family are fitted to.
pub(super) fn fitted_to<'a>(trials: &'a [Trial], key: Key<'a>) -> impl Iterator<Item = &'a Trial> {
    trials.iter().filter(move |trial| trial.role == Role::Fit && !trial.diverged && Key::of(trial) == key)
}

/// The trainings that were still improving when their steps ran out.
pub(super) fn improving<'a>(trials: impl Iterator<Item = &'a Trial>) -> Vec<String> {
    trials.filter(|trial| trial.improves_to_its_end()).map(|trial| trial.id.clone()).collect()
}

/// N, D and the loss.
pub(super) fn sample(trial: &Trial) -> Sample {
    Sample { x: [trial.parameters as f64, trial.examples as f64], loss: trial.test_loss }
}

/// A prediction beside what was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// What was said before.
    pub prediction: Prediction,
    /// What came out. None as long as it has not been trained, or if it diverged with each seed.
    pub measured: Option<Measured>,
}

/// What a predicted training came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Mean test loss over the seeds.
    pub loss: f64,
    /// Over the seeds.
    pub spread: Spread,
    /// (predicted − measured) / measured.
    pub error: f64,
    /// Whether the mean lies in the prediction's interval, if that has one.
    pub within: Option<bool>,
    /// The trainings, one a seed.
    pub trials: Vec<String>,
    /// Those of them that were still improving when their steps ran out.
    pub improving: Vec<String>,
}

impl Outcome {
    /// The trainings of the role [`Role::HeldOut`] with the prediction's data, architecture, depth and sizes, without those that
    /// diverged.
    pub fn of(prediction: Prediction, trials: &[Trial]) -> Self {
        let is_it = |trial: &&Trial| {
            trial.role == Role::HeldOut
                && !trial.diverged
                && Key::of(trial) == Key::of_prediction(&prediction)
                && (trial.parameters, trial.examples) == (prediction.parameters, prediction.examples)
        };
        let found: Vec<&Trial> = trials.iter().filter(is_it).collect();
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

    const PLANNED: Planned<'_> = Planned {
        id: "large",
        dataset: "fashion-mnist",
        family: "mlp",
        depth: 2,
        network: "large",
        parameters: 800 * 256,
        examples: 50_000,
    };

    fn predict(trials: &[Trial]) -> Prediction {
        Prediction::of(PLANNED, trials, "2026-01-02T03:04:05Z", 200, 1).unwrap()
    }

    #[test]
    fn what_follows_the_law_is_predicted() {
        let trials = testing::sweep();
        let prediction = predict(&trials);
        let planted = loss(MLP, PLANNED.parameters, PLANNED.examples);
        assert!((prediction.loss / planted - 1.0).abs() < 0.05, "{prediction:?}");
        assert_eq!(prediction.trials.len(), 60, "neither other families, nor other roles, nor what diverged");
        let [low, high] = prediction.interval.unwrap();
        assert!(low < planted && planted < high);
        let outcome = Outcome::of(prediction.clone(), &trials);
        let measured = outcome.measured.unwrap();
        assert_eq!((measured.spread.count, measured.trials.len(), measured.within), (2, 2, Some(true)));
        let alike = |role| testing::trial("mlp", role, 256, 50_000, 9, 0.5);
        let more: Vec<Trial> =
            trials.iter().cloned().chain([alike(Role::Fit), alike(Role::Versus)]).collect();
        assert_eq!(Outcome::of(prediction.clone(), &more).measured.unwrap(), measured, "only those held out");
        assert!((measured.error - (prediction.loss / measured.loss - 1.0)).abs() < 1e-12);
    }

    #[test]
    fn larger_is_what_lies_beyond() {
        let trials = testing::sweep();
        let larger = |parameters, examples| {
            let planned = Planned { parameters, examples, ..PLANNED };
            Prediction::of(planned, &trials, "", 0, 1).unwrap().is_larger()
        };
        assert!(larger(800 * 256, 50_000) && larger(800 * 65, 500) && larger(800 * 4, 32_001));
        assert!(!larger(800 * 64, 32_000) && !larger(800 * 10, 1000));
    }

    #[test]
    fn what_is_trained_later_does_not_change_a_prediction() {
        let (mut trials, all) = (testing::sweep(), testing::sweep());
        trials.retain(|trial| trial.role == Role::Fit);
        assert_eq!(predict(&trials), predict(&all));
        assert_eq!(Outcome::of(predict(&trials), &trials).measured, None, "not trained yet");
    }

    #[test]
    fn what_breaks_the_law_lies_outside() {
        let mut trials = testing::sweep();
        let prediction = predict(&trials);
        for trial in trials.iter_mut().filter(|trial| trial.role == Role::HeldOut) {
            trial.test_loss *= 1.5;
        }
        let measured = Outcome::of(prediction, &trials).measured.unwrap();
        assert_eq!(measured.within, Some(false));
        assert!((-0.37..-0.28).contains(&measured.error), "{measured:?}");
    }

    #[test]
    fn without_a_law_there_is_no_prediction() {
        let mut trials = testing::sweep();
        trials.retain(|trial| trial.examples < 4000);
        let error = Prediction::of(PLANNED, &trials, "", 10, 1).unwrap_err();
        assert_eq!(error, LawError::TooFewValues { variable: Variable::Examples, values: 2 });
    }
}
