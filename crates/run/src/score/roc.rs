//! ROC curve of a classifier, the area under the curve (AUC), and operating points on the curve.

use serde::{Deserialize, Serialize};
use wgrad_stdx::random::SplitMix64;

/// Number of bootstrap resamples. With 1000 resamples, two digits of the ends of a 95% interval are stable.
const RESAMPLES: usize = 1000;

/// Receiver operating characteristic (ROC) curve: sensitivity and specificity at every distinct threshold.
///
/// At the first point, no example is predicted positive. One point follows for each distinct score, because examples of
/// equal score are predicted positive together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Roc {
    /// Number of positive examples, at least 1.
    pub positives: u64,
    /// Number of negative examples, at least 1.
    pub negatives: u64,
    /// Points in order of decreasing threshold. The first point has false and true positive rates of 0, the last point
    /// has rates of 1, and neither rate decreases from point to point.
    pub points: Vec<RocPoint>,
}

/// Threshold on a ROC curve with its sensitivity and specificity.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RocPoint {
    /// Smallest score that is predicted positive. `None` means that the threshold is above every score.
    pub threshold: Option<f32>,
    /// Fraction of positive examples predicted positive: the true positive rate.
    pub sensitivity: f64,
    /// Fraction of negative examples predicted negative: 1 − false positive rate.
    pub specificity: f64,
}

/// Area under a ROC curve (AUC), with a standard error and a confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Auc {
    /// Area under the curve: the probability that a positive example has a higher score than a negative example.
    pub value: f64,
    /// Standard error of the area according to formula (1) of Hanley and McNeil (1982), with Q₁ and Q₂ from the ranks
    /// of the data.
    ///
    /// The value is 0 if the scores separate the classes completely, which underestimates the error.
    pub standard_error: f64,
    /// 95% confidence interval of the area, from a percentile bootstrap.
    ///
    /// The interval has width 0 if the scores separate the classes completely, because they then separate the classes
    /// in every resample.
    pub interval: [f64; 2],
}

/// Point of a ROC curve that maximizes one rate while the other rate is at least a target.
///
/// The rates are optimistic if the threshold was chosen on the same examples. To avoid this, choose the threshold on a
/// validation split and pass it to [`Roc::at_threshold`] of the test split.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OperatingPoint {
    /// Required minimum of the other rate, from 0 to 1.
    pub target: f64,
    /// Point of the curve that was chosen.
    pub point: RocPoint,
}

impl OperatingPoint {
    /// Formats the point, e.g. `sensitivity 0.8710, specificity 0.9524, threshold 0.3120`.
    pub(super) fn describe(&self) -> String {
        let RocPoint { threshold, sensitivity, specificity } = self.point;
        let threshold =
            threshold.map_or_else(|| "above all".to_owned(), |threshold| format!("{threshold:.4}"));
        format!("sensitivity {sensitivity:.4}, specificity {specificity:.4}, threshold {threshold}")
    }
}

/// Numbers of positive and negative examples that have the same score.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tie {
    positives: u64,
    negatives: u64,
}

impl Roc {
    /// Creates the curve from pairs of a finite score and whether the example is positive.
    ///
    /// Returns `None` if there are no positive or no negative examples.
    pub(super) fn of(mut scored: Vec<(f32, bool)>) -> Option<Self> {
        let positives = scored.iter().filter(|(_, positive)| *positive).count() as u64;
        let negatives = scored.len() as u64 - positives;
        if positives == 0 || negatives == 0 {
            return None;
        }
        scored.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let mut points = vec![RocPoint { threshold: None, sensitivity: 0.0, specificity: 1.0 }];
        let mut above = Tie { positives: 0, negatives: 0 };
        // Compare by value, because -0.0 and 0.0 are the same score but are distinguished by `total_cmp`.
        for tie in scored.chunk_by(|a, b| a.0 == b.0) {
            let hits = tie.iter().filter(|(_, positive)| *positive).count() as u64;
            above.positives += hits;
            above.negatives += tie.len() as u64 - hits;
            points.push(RocPoint {
                threshold: tie.last().map(|(score, _)| *score),
                sensitivity: above.positives as f64 / positives as f64,
                specificity: (negatives - above.negatives) as f64 / negatives as f64,
            });
        }
        Some(Self { positives, negatives, points })
    }

    /// Returns the area under the curve by the trapezoidal rule.
    ///
    /// The area equals U / (positives · negatives), where U is the rank statistic of Mann and Whitney (1947). This is
    /// the fraction of pairs of a positive and a negative example in which the positive example has the higher score.
    /// A pair with equal scores is counted as one half (Hanley and McNeil, "The Meaning and Use of the Area under a
    /// Receiver Operating Characteristic (ROC) Curve", Radiology 143, 1982).
    pub fn area(&self) -> f64 {
        area(&self.ties())
    }

    /// Returns the area with its standard error and a 95% confidence interval.
    ///
    /// The interval is computed from 1000 resamples, which are drawn separately within each class. `seed` is the seed
    /// of the random number generator.
    pub fn auc(&self, seed: u64) -> Auc {
        let ties = self.ties();
        let (members, mut random) = (members(&ties), SplitMix64(seed));
        let resampled = (0..RESAMPLES).map(|_| area(&resample(ties.len(), &members, &mut random)));
        let mut areas: Vec<f64> = resampled.collect();
        areas.sort_unstable_by(f64::total_cmp);
        let cut = RESAMPLES / 40;
        Auc {
            value: area(&ties),
            standard_error: standard_error(&ties),
            interval: [areas[cut], areas[RESAMPLES - 1 - cut]],
        }
    }

    /// Returns the point with the highest sensitivity among the points with a specificity of at least `target`.
    ///
    /// If several points have the same sensitivity, returns the point with the highest specificity. A point always
    /// exists, because the first point has specificity 1.
    pub fn at_specificity(&self, target: f64) -> OperatingPoint {
        self.best(target, |point| (point.specificity, point.sensitivity))
    }

    /// Returns the point with the highest specificity among the points with a sensitivity of at least `target`.
    ///
    /// If several points have the same specificity, returns the point with the highest sensitivity. A point always
    /// exists, because the last point has sensitivity 1.
    pub fn at_sensitivity(&self, target: f64) -> OperatingPoint {
        self.best(target, |point| (point.sensitivity, point.specificity))
    }

    /// Returns the rates at a given threshold, e.g. a threshold chosen on a validation split.
    pub fn at_threshold(&self, threshold: f32) -> RocPoint {
        let reached = |point: &&RocPoint| point.threshold.is_none_or(|least| least >= threshold);
        let last = self.points.iter().take_while(reached).last();
        let point = last.copied().unwrap_or(RocPoint { threshold: None, sensitivity: 0.0, specificity: 1.0 });
        RocPoint { threshold: Some(threshold), ..point }
    }

    /// Returns the point with the highest second rate among all points whose first rate is at least `target`.
    fn best(&self, target: f64, rates: impl Fn(&RocPoint) -> (f64, f64)) -> OperatingPoint {
        // No point reaches a target above 1, so 1 is used instead.
        let least = target.min(1.0);
        let candidates = self.points.iter().filter(|point| rates(point).0 >= least);
        let key = |point: &&RocPoint| (rates(point).1, rates(point).0);
        let best = candidates.max_by(|a, b| key(a).partial_cmp(&key(b)).unwrap_or(std::cmp::Ordering::Equal));
        let first = RocPoint { threshold: None, sensitivity: 0.0, specificity: 1.0 };
        OperatingPoint { target, point: best.copied().unwrap_or(first) }
    }

    /// Returns the numbers of examples at each point except the first.
    ///
    /// The rates are ratios of counts, so the exact counts are recovered by rounding.
    fn ties(&self) -> Vec<Tie> {
        let above = |point: &RocPoint| Tie {
            positives: (point.sensitivity * self.positives as f64).round() as u64,
            negatives: self
                .negatives
                .saturating_sub((point.specificity * self.negatives as f64).round() as u64),
        };
        let pairs = self.points.windows(2).map(|pair| (above(&pair[0]), above(&pair[1])));
        pairs
            .map(|(before, after)| Tie {
                positives: after.positives.saturating_sub(before.positives),
                negatives: after.negatives.saturating_sub(before.negatives),
            })
            .collect()
    }
}

/// Returns the fraction of pairs in which the positive example has a higher score than the negative example.
///
/// A pair with equal scores is counted as one half. `ties` must be in order of decreasing score.
fn area(ties: &[Tie]) -> f64 {
    let (mut above, mut doubled, mut negatives) = (0, 0, 0);
    for tie in ties {
        doubled += tie.negatives as u128 * u128::from(2 * above + tie.positives);
        above += tie.positives;
        negatives += tie.negatives;
    }
    doubled as f64 / (2.0 * above as f64 * negatives as f64)
}

/// Returns the standard error of the area according to Hanley and McNeil (1982).
///
/// For an area A, p positive examples and n negative examples, the standard error is
/// √((A (1 − A) + (p − 1)(Q₁ − A²) + (n − 1)(Q₂ − A²)) / (p n)).
///
/// Q₁ is the probability that two positive examples have higher scores than one negative example. Q₂ is the probability
/// that one positive example has a higher score than two negative examples. All orders of equal scores are treated as equally probable.
fn standard_error(ties: &[Tie]) -> f64 {
    let p = ties.iter().map(|tie| tie.positives).sum::<u64>() as f64;
    let n = ties.iter().map(|tie| tie.negatives).sum::<u64>() as f64;
    let (mut above, mut q1, mut q2) = (0.0, 0.0, 0.0);
    let mut below = n;
    for tie in ties {
        let (hits, others) = (tie.positives as f64, tie.negatives as f64);
        below -= others;
        q1 += others * (above * above + above * hits + hits * hits / 3.0);
        q2 += hits * (below * below + below * others + others * others / 3.0);
        above += hits;
    }
    let (a, q1, q2) = (area(ties), q1 / (n * p * p), q2 / (p * n * n));
    let variance = (a * (1.0 - a) + (p - 1.0) * (q1 - a * a) + (n - 1.0) * (q2 - a * a)) / (p * n);
    // Rounding can make a variance of zero slightly negative.
    variance.max(0.0).sqrt()
}

/// Returns the index of the [`Tie`] of each positive example, and of each negative example.
fn members(ties: &[Tie]) -> [Vec<usize>; 2] {
    [|tie: &Tie| tie.positives, |tie: &Tie| tie.negatives].map(|count| {
        let repeated = |(index, tie): (usize, &Tie)| std::iter::repeat_n(index, count(tie) as usize);
        ties.iter().enumerate().flat_map(repeated).collect()
    })
}

/// Draws examples with replacement from each class, keeping the number of examples of the class.
fn resample(ties: usize, [positives, negatives]: &[Vec<usize>; 2], random: &mut SplitMix64) -> Vec<Tie> {
    let mut drawn = vec![Tie { positives: 0, negatives: 0 }; ties];
    for _ in positives {
        drawn[positives[random.below(positives.len())]].positives += 1;
    }
    for _ in negatives {
        drawn[negatives[random.below(negatives.len())]].negatives += 1;
    }
    drawn
}
