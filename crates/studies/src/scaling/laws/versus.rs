//! Data against architecture: the same compute spent on a plain and a better architecture, with little and with much data.

use super::{BETTER, PLAIN, prediction};
use crate::scaling::{Role, Trial};
use serde::{Deserialize, Serialize};
use wgrad_report::Spread;
use wgrad_report::page::{count, number};

/// Trainings whose compute differs by no more than this factor have the same budget: architectures cannot be made to cost
/// exactly the same.
const SAME: f64 = 1.25;

/// One family with one amount of data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The architecture.
    pub family: String,
    /// Different training examples.
    pub examples: u64,
    /// Test loss over seeds; infinite for those that diverged.
    pub loss: Spread,
    /// Share of the test examples that are right, over seeds.
    pub accuracy: Spread,
    /// The trainings, one a seed.
    pub trials: Vec<String>,
    /// Those of them that were still improving when their compute was spent, so that compute limits them, and not data.
    pub improving: Vec<String>,
}

/// Where the line of one architecture crosses that of the other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Crossing {
    /// Between these two amounts of data.
    pub between: [u64; 2],
    /// There, by straight lines of ln loss over ln D.
    pub examples: f64,
    /// Whether the plain one is better above.
    pub plain_above: bool,
    /// Whether the seeds of both architectures overlap at both of the two: then the crossing may be chance.
    pub overlap: bool,
}

/// How much data the plain architecture takes to equal the better one with the least.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Worth {
    /// So many examples, between two amounts that were tried.
    Examples(
        /// D by straight lines of ln loss over ln D.
        f64,
    ),
    /// It is as good with the least already.
    Nothing,
    /// More than the most that was tried.
    MoreThan(
        /// That.
        u64,
    ),
}

/// Which of the two matters more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every seed of the plain one with the most data is better than every seed of the better one with the least.
    Data,
    /// The other way round.
    Architecture,
    /// Seeds of the two overlap.
    WithinSeeds,
    /// The better one is not better with the least data, so it has nothing that data could make up for.
    NoBetter,
}

/// Trainings that cost about the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// The least and the most training FLOPs of its trainings.
    pub flops: [f64; 2],
    /// By family and rising examples.
    pub points: Vec<Point>,
    /// By rising examples.
    pub crossings: Vec<Crossing>,
    /// Of the better architecture in data. None without both families at the least amount of data.
    pub worth: Option<Worth>,
    /// None without both families at two amounts of data.
    pub verdict: Option<Verdict>,
}

/// All budgets of a data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Versus {
    /// The data.
    pub dataset: String,
    /// By rising compute.
    pub budgets: Vec<Budget>,
}

impl Versus {
    /// Of the trainings of the role [`Role::Versus`] on a data set.
    pub(super) fn of(trials: &[Trial], dataset: &str) -> Self {
        let mut trials: Vec<&Trial> =
            trials.iter().filter(|trial| trial.role == Role::Versus && trial.dataset == dataset).collect();
        trials.sort_by(|a, b| a.flops.training().total_cmp(&b.flops.training()));
        let mut budgets = Vec::new();
        let mut rest = &trials[..];
        while let Some(first) = rest.first() {
            let most = SAME * first.flops.training();
            let (same, others) = rest.split_at(rest.partition_point(|t| t.flops.training() <= most));
            budgets.push(Budget::of(same));
            rest = others;
        }
        Self { dataset: dataset.to_owned(), budgets }
    }
}

impl Budget {
    fn of(trials: &[&Trial]) -> Self {
        let flops = || trials.iter().map(|trial| trial.flops.training());
        let mut keys: Vec<(&str, u64)> =
            trials.iter().map(|trial| (trial.family.as_str(), trial.examples)).collect();
        keys.sort_unstable();
        keys.dedup();
        let point = |(family, examples): (&str, u64)| {
            let of = || trials.iter().filter(move |t| t.family == family && t.examples == examples);
            Some(Point {
                family: family.to_owned(),
                examples,
                loss: Spread::of(of().map(|trial| trial.test_loss))?,
                accuracy: Spread::of(of().map(|trial| trial.test_accuracy))?,
                trials: of().map(|trial| trial.id.clone()).collect(),
                improving: prediction::improving(of().copied()),
            })
        };
        let mut budget = Self {
            flops: [flops().fold(f64::INFINITY, f64::min), flops().fold(0.0, f64::max)],
            points: keys.into_iter().filter_map(point).collect(),
            crossings: Vec::new(),
            worth: None,
            verdict: None,
        };
        budget.crossings = budget.crossings();
        budget.worth = budget.worth();
        budget.verdict = budget.verdict();
        budget
    }

    /// The points of a family by rising examples.
    pub fn of_family(&self, family: &str) -> impl DoubleEndedIterator<Item = &Point> {
        self.points.iter().filter(move |point| point.family == family)
    }

    /// Both families where they have the same amount of data, by rising examples.
    fn pairs(&self) -> Vec<(&Point, &Point)> {
        let other = |plain: &Point| self.of_family(BETTER).find(|better| better.examples == plain.examples);
        self.of_family(PLAIN).filter_map(|plain| Some((plain, other(plain)?))).collect()
    }

    fn crossings(&self) -> Vec<Crossing> {
        let pairs = self.pairs();
        let ahead = |(plain, better): (&Point, &Point)| better.loss.median.ln() - plain.loss.median.ln();
        let crossing = |two: &[(&Point, &Point)]| {
            let (low, high) = (two[0], two[1]);
            let (from, to) = (ahead(low), ahead(high));
            let between = [low.0.examples, high.0.examples];
            // One that diverges has no place to interpolate from.
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

    fn worth(&self) -> Option<Worth> {
        let least = self.points.iter().map(|point| point.examples).min()?;
        let goal = self.of_family(BETTER).find(|point| point.examples == least)?.loss.median;
        let plain: Vec<&Point> = self.of_family(PLAIN).collect();
        let first = plain.first().filter(|point| point.examples == least)?;
        if first.loss.median <= goal {
            return Some(Worth::Nothing);
        }
        let reaches = plain.windows(2).find(|two| two[1].loss.median <= goal);
        let Some(two) = reaches else { return Some(Worth::MoreThan(plain.last()?.examples)) };
        let logs = [two[0].loss.median.ln(), two[1].loss.median.ln()];
        let between = [two[0].examples, two[1].examples];
        let share = (logs[0] - goal.ln()) / (logs[0] - logs[1]);
        // From an infinite loss the way down has no middle: the amount that was seen to be enough.
        let examples = if share.is_finite() { interpolate(between, share) } else { between[1] as f64 };
        Some(Worth::Examples(examples))
    }

    fn verdict(&self) -> Option<Verdict> {
        let pairs = self.pairs();
        let [(plain_little, better_little), .., (plain_much, _)] = pairs[..] else { return None };
        Some(match () {
            () if better_little.loss.median >= plain_little.loss.median
                || overlap(&better_little.loss, &plain_little.loss) =>
            {
                Verdict::NoBetter
            }
            () if overlap(&plain_much.loss, &better_little.loss) => Verdict::WithinSeeds,
            () if plain_much.loss.median < better_little.loss.median => Verdict::Data,
            () => Verdict::Architecture,
        })
    }

    /// What it comes to, a sentence each; the first goes on from "on some data,".
    pub fn sentences(&self) -> Vec<String> {
        let pairs = self.pairs();
        let ([(plain_little, better_little), .., (plain_much, better_much)], Some(verdict)) =
            (&pairs[..], self.verdict)
        else {
            return vec![format!(
                "at {} there are no two amounts of data with both {PLAIN} and {BETTER}: no comparison.",
                self.compute()
            )];
        };
        let (little, much) = (count(plain_little.examples), count(plain_much.examples));
        let losses = format!(
            "with {little} examples {PLAIN} comes to {} and {BETTER} to {}, with {much} to {} and {}",
            plain_little.loss, better_little.loss, plain_much.loss, better_much.loss
        );
        let what = match verdict {
            Verdict::Data => format!(
                "more data beats the better architecture: every seed of {PLAIN} with much data is better than every seed of \
                 {BETTER} with little"
            ),
            Verdict::Architecture => format!(
                "the better architecture beats more data: every seed of {BETTER} with little data is better than every seed of \
                 {PLAIN} with much"
            ),
            Verdict::WithinSeeds => {
                format!("{PLAIN} with much data and {BETTER} with little are not told apart by these seeds")
            }
            Verdict::NoBetter => format!(
                "the effect does not show at this size: {BETTER} is not clearly better than {PLAIN} with little data"
            ),
        };
        let mut sentences = vec![format!("at {}, {what}; {losses}.", self.compute())];
        sentences.extend(self.crossings.iter().map(Crossing::sentence));
        if self.crossings.is_empty() {
            let first = ahead_name(plain_little, better_little);
            sentences.push(format!("The two lines do not cross over these amounts of data: {first} has the lower median throughout."));
        }
        let least = count(plain_little.examples);
        match self.worth {
            Some(Worth::Examples(examples)) => sentences.push(format!(
                "It takes {PLAIN} about {} examples to equal {BETTER} with {least}: the architecture is worth {} times the data.",
                count(examples.round() as u64),
                number(examples / plain_little.examples as f64)
            )),
            Some(Worth::MoreThan(most)) => sentences.push(format!(
                "Even with {} examples {PLAIN} does not equal {BETTER} with {least}: the architecture is worth more than {} \
                 times the data.",
                count(most),
                number(most as f64 / plain_little.examples as f64)
            )),
            // The first sentence says it, or there is nothing to say.
            Some(Worth::Nothing) | None => {}
        }
        sentences.extend([PLAIN, BETTER].into_iter().filter_map(|family| self.limited(family)));
        sentences
    }

    /// With how much data a family was limited by its compute, if anywhere.
    fn limited(&self, family: &str) -> Option<String> {
        let limited = self.of_family(family).filter(|point| !point.improving.is_empty());
        let each = |point: &Point| {
            let (still, all) = (point.improving.len(), point.trials.len());
            let seeds = if still < all { format!(" ({still} of {all} seeds)") } else { String::new() };
            count(point.examples) + &seeds
        };
        let each: Vec<String> = limited.map(each).collect();
        let (last, others) = each.split_last()?;
        let and = if others.is_empty() { "" } else { " and " };
        Some(format!(
            "{family} was still improving when its compute was spent with {}{and}{last} examples: there it is limited by \
             compute, not by data.",
            others.join(", ")
        ))
    }

    /// `about 3.20e12 FLOPs`.
    pub(super) fn compute(&self) -> String {
        let [low, high] = self.flops;
        format!("about {} FLOPs", number((low * high).sqrt()))
    }
}

impl Crossing {
    fn sentence(&self) -> String {
        let Self { between: [low, high], examples, plain_above, overlap } = self;
        let (below, above) = if *plain_above { (BETTER, PLAIN) } else { (PLAIN, BETTER) };
        let chance = if *overlap { ", which may be chance: on both sides their seeds overlap" } else { "" };
        format!(
            "The lines cross at about {} examples, between {} and {}: below it {below} is better, above it {above}{chance}.",
            count(examples.round() as u64),
            count(*low),
            count(*high)
        )
    }
}

fn ahead_name(plain: &Point, better: &Point) -> &'static str {
    if plain.loss.median < better.loss.median { PLAIN } else { BETTER }
}

/// Whether some value may be of both.
fn overlap(a: &Spread, b: &Spread) -> bool {
    a.low <= b.high && b.low <= a.high
}

/// On a logarithmic scale.
fn interpolate([low, high]: [u64; 2], share: f64) -> f64 {
    low as f64 * (high as f64 / low as f64).powf(share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::laws::testing;

    /// Losses by family over 100, 1000 and 10 000 examples, each with two seeds that far apart.
    fn budget(plain: [f64; 3], better: [f64; 3], apart: f64) -> Budget {
        let of = |family: &'static str, losses: [f64; 3]| {
            losses.into_iter().zip([100, 1000, 10_000]).flat_map(move |(loss, examples)| {
                [-0.5, 0.5].map(|side| {
                    let mut trial =
                        testing::trial(family, Role::Versus, 8, examples, u64::from(side > 0.0), 0.0);
                    trial.test_loss = loss + side * apart;
                    // A little dearer.
                    trial.flops.forward +=
                        f64::from(u8::from(family == BETTER)) * trial.flops.training() / 10.0;
                    trial
                })
            })
        };
        let trials: Vec<Trial> = of(PLAIN, plain).chain(of(BETTER, better)).collect();
        let versus = Versus::of(&trials, "fashion-mnist");
        assert_eq!(versus.budgets.len(), 1, "a tenth more is the same budget");
        versus.budgets.into_iter().next().unwrap()
    }

    #[test]
    fn data_beats_architecture_where_it_does() {
        let budget = budget([1.0, 0.6, 0.36], [0.8, 0.6 * 0.9, 0.3], 0.01);
        assert_eq!(budget.verdict, Some(Verdict::Data));
        assert!(budget.crossings.is_empty());
        let Some(Worth::Examples(examples)) = budget.worth else { panic!("{:?}", budget.worth) };
        // ln loss falls by ln(1/0.6) a decade.
        let planted = 100.0 * 10f64.powf((1.0f64 / 0.8).ln() / (1.0f64 / 0.6).ln());
        assert!((examples / planted - 1.0).abs() < 1e-9, "{examples} for {planted}");
        let text = budget.sentences().join(" ");
        assert!(text.contains("more data beats the better architecture"), "{text}");
        assert!(text.contains("takes mlp about 273 examples") && text.contains("worth 2.73"), "{text}");
    }

    #[test]
    fn a_crossing_is_found_with_its_neighbours() {
        let budget = budget([0.9, 0.6, 0.3], [1.1, 0.62, 0.2], 0.01);
        let [crossing] = budget.crossings[..] else { panic!("{:?}", budget.crossings) };
        assert_eq!(
            (crossing.between, crossing.plain_above, crossing.overlap),
            ([1000, 10_000], false, false)
        );
        let (from, to) = ((0.62f64 / 0.6).ln(), (0.2f64 / 0.3).ln());
        assert!((crossing.examples - 1000.0 * 10f64.powf(from / (from - to))).abs() < 1e-6);
        assert_eq!(budget.worth, Some(Worth::Nothing));
        assert_eq!(budget.verdict, Some(Verdict::NoBetter));
        let text = budget.sentences().join(" ");
        assert!(text.contains("below it mlp is better, above it resnet."), "{text}");
    }

    #[test]
    fn no_effect_is_called_none() {
        let same = budget([1.0, 0.6, 0.4], [0.99, 0.61, 0.39], 0.1);
        assert_eq!(same.verdict, Some(Verdict::NoBetter));
        let text = same.sentences().join(" ");
        assert!(text.contains("does not show at this size") && text.contains("may be chance"), "{text}");
        let close = budget([1.0, 0.7, 0.5], [0.52, 0.4, 0.3], 0.05);
        assert_eq!(close.verdict, Some(Verdict::WithinSeeds));
    }

    #[test]
    fn architecture_beats_data_where_it_does() {
        let budget = budget([1.0, 0.9, 0.8], [0.5, 0.45, 0.4], 0.01);
        assert_eq!(
            (budget.verdict, budget.worth),
            (Some(Verdict::Architecture), Some(Worth::MoreThan(10_000)))
        );
        assert!(budget.sentences().join(" ").contains("more than 100"), "{:?}", budget.sentences());
    }

    #[test]
    fn budgets_are_apart_and_divergence_is_infinite() {
        let mut trials = testing::sweep();
        let versus = Versus::of(&trials, "fashion-mnist");
        assert_eq!(versus.budgets.len(), 2);
        assert!(versus.budgets[0].flops[1] < versus.budgets[1].flops[0]);
        assert!(
            versus
                .budgets
                .iter()
                .all(|budget| budget.points.len() == 8 && budget.points[0].trials.len() == 3)
        );
        for trial in trials.iter_mut().filter(|trial| trial.role == Role::Versus && trial.family == PLAIN) {
            *trial = testing::diverged(trial.clone());
        }
        let budget = Versus::of(&trials, "fashion-mnist").budgets.into_iter().next().unwrap();
        assert_eq!(
            (budget.verdict, budget.worth),
            (Some(Verdict::Architecture), Some(Worth::MoreThan(30_000)))
        );
        trials.retain(|trial| trial.family == PLAIN);
        let budget = Versus::of(&trials, "fashion-mnist").budgets.into_iter().next().unwrap();
        assert_eq!((budget.verdict, budget.worth), (None, None));
        assert!(budget.sentences()[0].contains("no comparison"));
    }
}
