//! Comparison of the effects of data and architecture: a plain and a better architecture are trained with equal compute
//! on several amounts of data.

use super::{BETTER, PLAIN, prediction};
use crate::scaling::{Role, Trial};
use serde::{Deserialize, Serialize};
use wgrad_report::Spread;
use wgrad_report::page::number;
use wgrad_stdx::format::thousands;

/// Maximum ratio of the compute of two training runs with the same budget. Architectures cannot have exactly equal
/// compute, because the number of steps is an integer.
const MAX_BUDGET_RATIO: f64 = 1.25;

/// Results of one architecture with one amount of data and one compute budget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparisonPoint {
    /// Name of the architecture, `mlp` or `resnet`.
    pub family: String,
    /// Number of distinct training examples.
    pub examples: u64,
    /// Spread of the test loss over the seeds. The loss of a diverged run is infinite.
    pub loss: Spread,
    /// Spread over the seeds of the fraction of the test examples classified correctly.
    pub accuracy: Spread,
    /// Ids of the training runs, one per seed.
    pub trials: Vec<String>,
    /// Ids of the training runs that were still improving at their last step. The loss of these runs is limited by
    /// compute, not by data.
    pub improving: Vec<String>,
}

/// Crossing of the loss curves of the two architectures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Crossing {
    /// Measured numbers of examples directly below and above the crossing.
    pub between: [u64; 2],
    /// Number of examples at the crossing, by linear interpolation of ln(loss) against ln D.
    pub examples: f64,
    /// Whether the plain architecture is the better one if there is more data than at the crossing.
    pub plain_above: bool,
    /// Whether the losses of the seeds overlap on both sides, so that the crossing may be due to chance.
    pub overlap: bool,
}

/// Amount of data with which the plain architecture reaches the loss that the better architecture reaches with the
/// smallest measured amount.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataEquivalent {
    /// Number of examples, between two measured amounts.
    Examples(
        /// Number of examples, by linear interpolation of ln(loss) against ln D.
        f64,
    ),
    /// The plain architecture matches the better one even with the least amount of data.
    #[serde(rename = "nothing")]
    Least,
    /// More than the largest measured amount.
    MoreThan(
        /// Largest measured amount.
        u64,
    ),
}

/// Result of comparing the effect of more data with the effect of a better architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LargerEffect {
    /// Every seed of the plain architecture with the most data is better than every seed of the better architecture
    /// with the least data.
    Data,
    /// Every seed of the better architecture with the least data is better than every seed of the plain architecture
    /// with the most data.
    Architecture,
    /// The losses of the plain architecture with the most data and of the better architecture with the least data
    /// overlap.
    WithinSeeds,
    /// With the least data, the better architecture is not clearly better, so there is no effect of architecture to
    /// compare.
    #[serde(rename = "no-better")]
    NotBetter,
}

/// Results of training runs with about equal compute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComputeBudget {
    /// Smallest and largest training FLOPs of the runs.
    pub flops: [f64; 2],
    /// Results in order of architecture and ascending number of examples.
    pub points: Vec<ComparisonPoint>,
    /// Crossings of the loss curves, in ascending order of the number of examples.
    pub crossings: Vec<Crossing>,
    /// Amount of data that the better architecture is equivalent to. `None` unless both architectures were trained with
    /// the least amount of data.
    #[serde(rename = "worth")]
    pub data_equivalent: Option<DataEquivalent>,
    /// Whether data or architecture has the larger effect. `None` unless both architectures were trained with two
    /// amounts of data.
    #[serde(rename = "verdict")]
    pub larger_effect: Option<LargerEffect>,
}

/// Comparison of data and architecture on one data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Name of the data set.
    pub dataset: String,
    /// Results of each budget, in order of ascending compute.
    pub budgets: Vec<ComputeBudget>,
}

impl Comparison {
    /// Compares the trials with the role [`Role::Comparison`] on a data set.
    pub(super) fn new(trials: &[Trial], dataset: &str) -> Self {
        let mut trials: Vec<&Trial> = trials
            .iter()
            .filter(|trial| trial.role == Role::Comparison && trial.dataset == dataset)
            .collect();
        trials.sort_by(|a, b| a.flops.training().total_cmp(&b.flops.training()));
        let mut budgets = Vec::new();
        let mut remaining = &trials[..];
        while let Some(first) = remaining.first() {
            let most = MAX_BUDGET_RATIO * first.flops.training();
            let (same, others) =
                remaining.split_at(remaining.partition_point(|t| t.flops.training() <= most));
            budgets.push(ComputeBudget::new(same));
            remaining = others;
        }
        Self { dataset: dataset.to_owned(), budgets }
    }
}

impl ComputeBudget {
    fn new(trials: &[&Trial]) -> Self {
        let flops = || trials.iter().map(|trial| trial.flops.training());
        let mut keys: Vec<(&str, u64)> =
            trials.iter().map(|trial| (trial.family.as_str(), trial.examples)).collect();
        keys.sort_unstable();
        keys.dedup();
        let point = |(family, examples): (&str, u64)| {
            let selected = || trials.iter().filter(move |t| t.family == family && t.examples == examples);
            Some(ComparisonPoint {
                family: family.to_owned(),
                examples,
                loss: Spread::of(selected().map(|trial| trial.test_loss))?,
                accuracy: Spread::of(selected().map(|trial| trial.test_accuracy))?,
                trials: selected().map(|trial| trial.id.clone()).collect(),
                improving: prediction::improving(selected().copied()),
            })
        };
        let mut budget = Self {
            flops: [flops().fold(f64::INFINITY, f64::min), flops().fold(0.0, f64::max)],
            points: keys.into_iter().filter_map(point).collect(),
            crossings: Vec::new(),
            data_equivalent: None,
            larger_effect: None,
        };
        budget.crossings = budget.crossings();
        budget.data_equivalent = budget.data_equivalent();
        budget.larger_effect = budget.larger_effect();
        budget
    }

    /// Returns the points of an architecture in ascending order of the number of examples.
    pub fn points_of(&self, family: &str) -> impl DoubleEndedIterator<Item = &ComparisonPoint> {
        self.points.iter().filter(move |point| point.family == family)
    }

    /// Returns the points of both architectures with the same amount of data, in ascending order of the number of
    /// examples.
    fn pairs(&self) -> Vec<(&ComparisonPoint, &ComparisonPoint)> {
        let other =
            |plain: &ComparisonPoint| self.points_of(BETTER).find(|better| better.examples == plain.examples);
        self.points_of(PLAIN).filter_map(|plain| Some((plain, other(plain)?))).collect()
    }

    fn crossings(&self) -> Vec<Crossing> {
        let pairs = self.pairs();
        let difference = |(plain, better): (&ComparisonPoint, &ComparisonPoint)| {
            better.loss.median.ln() - plain.loss.median.ln()
        };
        let crossing = |two: &[(&ComparisonPoint, &ComparisonPoint)]| {
            let (low, high) = (two[0], two[1]);
            let (from, to) = (difference(low), difference(high));
            let between = [low.0.examples, high.0.examples];
            // Infinite losses cannot be interpolated.
            let crosses = from.is_finite() && to.is_finite() && (from < 0.0) != (to < 0.0);
            crosses.then(|| Crossing {
                between,
                examples: interpolate(between, from / (from - to)),
                plain_above: to > 0.0,
                overlap: [low, high].iter().all(|(plain, better)| overlap(&plain.loss, &better.loss)),
            })
        };
        pairs.windows(2).filter_map(crossing).collect()
    }

    fn data_equivalent(&self) -> Option<DataEquivalent> {
        let least = self.points.iter().map(|point| point.examples).min()?;
        let target = self.points_of(BETTER).find(|point| point.examples == least)?.loss.median;
        let plain: Vec<&ComparisonPoint> = self.points_of(PLAIN).collect();
        let first = plain.first().filter(|point| point.examples == least)?;
        if first.loss.median <= target {
            return Some(DataEquivalent::Least);
        }
        let reached = plain.windows(2).find(|two| two[1].loss.median <= target);
        let Some(two) = reached else {
            return Some(DataEquivalent::MoreThan(plain.last()?.examples));
        };
        let logs = [two[0].loss.median.ln(), two[1].loss.median.ln()];
        let between = [two[0].examples, two[1].examples];
        let fraction = (logs[0] - target.ln()) / (logs[0] - logs[1]);
        // An infinite loss cannot be interpolated: the measured amount is an upper bound.
        let examples = if fraction.is_finite() { interpolate(between, fraction) } else { between[1] as f64 };
        Some(DataEquivalent::Examples(examples))
    }

    fn larger_effect(&self) -> Option<LargerEffect> {
        let pairs = self.pairs();
        let [(plain_little, better_little), .., (plain_much, _)] = pairs[..] else { return None };
        let not_better = better_little.loss.median >= plain_little.loss.median
            || overlap(&better_little.loss, &plain_little.loss);
        Some(if not_better {
            LargerEffect::NotBetter
        } else if overlap(&plain_much.loss, &better_little.loss) {
            LargerEffect::WithinSeeds
        } else if plain_much.loss.median < better_little.loss.median {
            LargerEffect::Data
        } else {
            LargerEffect::Architecture
        })
    }

    /// Returns the results as sentences. The first sentence begins in lower case, because the caller puts the name of
    /// the data set in front.
    pub fn sentences(&self) -> Vec<String> {
        let pairs = self.pairs();
        let ([(plain_little, better_little), .., (plain_much, better_much)], Some(effect)) =
            (&pairs[..], self.larger_effect)
        else {
            return vec![format!(
                "with {}, no comparison is possible, because {PLAIN} and {BETTER} were not both trained with two \
                 amounts of data.",
                self.compute()
            )];
        };
        let (little, much) = (thousands(plain_little.examples), thousands(plain_much.examples));
        let losses = format!(
            "with {little} examples, the test loss is {} for {PLAIN} and {} for {BETTER}; with {much} \
             examples, {} and {}",
            plain_little.loss, better_little.loss, plain_much.loss, better_much.loss
        );
        let result = match effect {
            LargerEffect::Data => format!(
                "more data beats the better architecture: every seed of {PLAIN} with the most data is better than \
                 every seed of {BETTER} with the least"
            ),
            LargerEffect::Architecture => format!(
                "the better architecture beats more data: every seed of {BETTER} with the least data is better \
                 than every seed of {PLAIN} with the most"
            ),
            LargerEffect::WithinSeeds => {
                format!("the seeds of {PLAIN} with the most data and of {BETTER} with the least data overlap")
            }
            LargerEffect::NotBetter => format!(
                "there is no visible effect at this size: {BETTER} is not clearly better than {PLAIN} with the least data"
            ),
        };
        let mut sentences = vec![format!("with {}, {result}; {losses}.", self.compute())];
        sentences.extend(self.crossings.iter().map(Crossing::sentence));
        if self.crossings.is_empty() {
            let lower = if plain_little.loss.median < better_little.loss.median { PLAIN } else { BETTER };
            sentences.push(format!(
                "The curves do not cross in this range of data: {lower} has the lower median at all amounts."
            ));
        }
        let least = thousands(plain_little.examples);
        match self.data_equivalent {
            Some(DataEquivalent::Examples(examples)) => sentences.push(format!(
                "{PLAIN} requires about {} examples to match {BETTER} with {least}: the architecture is worth {} times the data.",
                thousands(examples.round() as u64),
                number(examples / plain_little.examples as f64)
            )),
            Some(DataEquivalent::MoreThan(most)) => sentences.push(format!(
                "Even with {} examples, {PLAIN} does not match {BETTER} with {least}: the architecture is worth more than {} \
                 times the data.",
                thousands(most),
                number(most as f64 / plain_little.examples as f64)
            )),
            // The first sentence covers these cases.
            Some(DataEquivalent::Least) | None => {}
        }
        sentences
            .extend([PLAIN, BETTER].into_iter().filter_map(|family| self.compute_limited_sentence(family)));
        sentences
    }

    /// Returns a sentence about the amounts of data at which compute limited an architecture, if any.
    fn compute_limited_sentence(&self, family: &str) -> Option<String> {
        let limited = self.points_of(family).filter(|point| !point.improving.is_empty());
        let amount = |point: &ComparisonPoint| {
            let (still, all) = (point.improving.len(), point.trials.len());
            let seeds = if still < all { format!(" ({still} of {all} seeds)") } else { String::new() };
            thousands(point.examples) + &seeds
        };
        let amounts: Vec<String> = limited.map(amount).collect();
        let (last, others) = amounts.split_last()?;
        let and = if others.is_empty() { "" } else { " and " };
        Some(format!(
            "{family} was still improving at its last step with {}{and}{last} examples: its loss is limited by compute \
             there, not by data.",
            others.join(", ")
        ))
    }

    /// Returns the compute as text, e.g. `about 3.20e12 FLOPs`.
    pub(super) fn compute(&self) -> String {
        let [low, high] = self.flops;
        format!("about {} FLOPs", number((low * high).sqrt()))
    }
}

impl Crossing {
    fn sentence(&self) -> String {
        let Self { between: [low, high], examples, plain_above, overlap } = self;
        let (below, above) = if *plain_above { (BETTER, PLAIN) } else { (PLAIN, BETTER) };
        let chance = if *overlap {
            ". The crossing may be due to chance, because the seeds overlap on both sides"
        } else {
            ""
        };
        format!(
            "The curves cross at about {} examples, between {} and {}: with less data, {below} is better; with more \
             data, {above}{chance}.",
            thousands(examples.round() as u64),
            thousands(*low),
            thousands(*high)
        )
    }
}

/// Whether the ranges of two spreads overlap.
fn overlap(a: &Spread, b: &Spread) -> bool {
    a.low <= b.high && b.low <= a.high
}

/// Interpolates on a logarithmic scale: `fraction` 0 gives `low`, and 1 gives `high`.
fn interpolate([low, high]: [u64; 2], fraction: f64) -> f64 {
    low as f64 * (high as f64 / low as f64).powf(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::laws::testing;

    /// Returns a budget with the losses of both architectures for 100, 1000 and 10 000 examples. The losses of the two
    /// seeds differ by `distance`.
    fn budget(plain: [f64; 3], better: [f64; 3], distance: f64) -> ComputeBudget {
        let trials_of = |family: &'static str, losses: [f64; 3]| {
            losses.into_iter().zip([100, 1000, 10_000]).flat_map(move |(loss, examples)| {
                [-0.5, 0.5].map(|side| {
                    let mut trial =
                        testing::trial(family, Role::Comparison, 8, examples, u64::from(side > 0.0), 0.0);
                    trial.test_loss = loss + side * distance;
                    // The better architecture uses 10% more compute.
                    trial.flops.forward +=
                        f64::from(u8::from(family == BETTER)) * trial.flops.training() / 10.0;
                    trial
                })
            })
        };
        let trials: Vec<Trial> = trials_of(PLAIN, plain).chain(trials_of(BETTER, better)).collect();
        let comparison = Comparison::new(&trials, "fashion-mnist");
        assert_eq!(comparison.budgets.len(), 1, "10% more compute belongs to the same budget");
        comparison.budgets.into_iter().next().unwrap()
    }

    #[test]
    fn data_beats_architecture() {
        let budget = budget([1.0, 0.6, 0.36], [0.8, 0.6 * 0.9, 0.3], 0.01);
        assert_eq!(budget.larger_effect, Some(LargerEffect::Data));
        assert!(budget.crossings.is_empty());
        let Some(DataEquivalent::Examples(examples)) = budget.data_equivalent else {
            panic!("{:?}", budget.data_equivalent)
        };
        // ln(loss) falls by ln(1/0.6) per decade of data.
        let planted = 100.0 * 10f64.powf((1.0f64 / 0.8).ln() / (1.0f64 / 0.6).ln());
        assert!((examples / planted - 1.0).abs() < 1e-9, "found {examples}, expected {planted}");
        let text = budget.sentences().join(" ");
        assert!(text.contains("more data beats the better architecture"), "{text}");
        assert!(text.contains("mlp requires about 273 examples") && text.contains("worth 2.73"), "{text}");
    }

    #[test]
    fn crossing_is_between_two_amounts_of_data() {
        let budget = budget([0.9, 0.6, 0.3], [1.1, 0.62, 0.2], 0.01);
        let [crossing] = budget.crossings[..] else { panic!("{:?}", budget.crossings) };
        assert_eq!(
            (crossing.between, crossing.plain_above, crossing.overlap),
            ([1000, 10_000], false, false)
        );
        let (from, to) = ((0.62f64 / 0.6).ln(), (0.2f64 / 0.3).ln());
        assert!((crossing.examples - 1000.0 * 10f64.powf(from / (from - to))).abs() < 1e-6);
        assert_eq!(budget.data_equivalent, Some(DataEquivalent::Least));
        assert_eq!(budget.larger_effect, Some(LargerEffect::NotBetter));
        let text = budget.sentences().join(" ");
        assert!(text.contains("with less data, mlp is better; with more data, resnet."), "{text}");
    }

    #[test]
    fn overlapping_seeds_show_no_effect() {
        let same = budget([1.0, 0.6, 0.4], [0.99, 0.61, 0.39], 0.1);
        assert_eq!(same.larger_effect, Some(LargerEffect::NotBetter));
        let text = same.sentences().join(" ");
        assert!(
            text.contains("no visible effect at this size") && text.contains("may be due to chance"),
            "{text}"
        );
        let close = budget([1.0, 0.7, 0.5], [0.52, 0.4, 0.3], 0.05);
        assert_eq!(close.larger_effect, Some(LargerEffect::WithinSeeds));
    }

    #[test]
    fn architecture_beats_data() {
        let budget = budget([1.0, 0.9, 0.8], [0.5, 0.45, 0.4], 0.01);
        assert_eq!(
            (budget.larger_effect, budget.data_equivalent),
            (Some(LargerEffect::Architecture), Some(DataEquivalent::MoreThan(10_000)))
        );
        assert!(budget.sentences().join(" ").contains("more than 100"), "{:?}", budget.sentences());
    }

    #[test]
    fn budgets_are_separated_and_diverged_losses_are_infinite() {
        let mut trials = testing::sweep();
        let comparison = Comparison::new(&trials, "fashion-mnist");
        assert_eq!(comparison.budgets.len(), 2);
        assert!(comparison.budgets[0].flops[1] < comparison.budgets[1].flops[0]);
        assert!(
            comparison
                .budgets
                .iter()
                .all(|budget| budget.points.len() == 8 && budget.points[0].trials.len() == 3)
        );
        for trial in trials.iter_mut().filter(|trial| trial.role == Role::Comparison && trial.family == PLAIN)
        {
            *trial = testing::diverged(trial.clone());
        }
        let budget = Comparison::new(&trials, "fashion-mnist").budgets.into_iter().next().unwrap();
        assert_eq!(
            (budget.larger_effect, budget.data_equivalent),
            (Some(LargerEffect::Architecture), Some(DataEquivalent::MoreThan(30_000)))
        );
        trials.retain(|trial| trial.family == PLAIN);
        let budget = Comparison::new(&trials, "fashion-mnist").budgets.into_iter().next().unwrap();
        assert_eq!((budget.larger_effect, budget.data_equivalent), (None, None));
        assert!(budget.sentences()[0].contains("no comparison"));
    }
}
