//! The ROC curve of a score that should be high for positive examples, the area under it, and points chosen on it.

use serde::{Deserialize, Serialize};
use wgrad_stdx::random::SplitMix64;

/// Resamples of the bootstrap: enough that the ends of a 95% interval repeat in two digits.
const RESAMPLES: usize = 1000;

/// A receiver operating characteristic: what shares of the positive and of the negative examples score at least a
/// threshold, for every threshold that makes a difference.
///
/// Examples of equal score are called positive together, so there is one point for each distinct score, after the point
/// at which nothing is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Roc {
    /// How many examples are positive, at least 1.
    pub positives: u64,
    /// How many are not, at least 1.
    pub negatives: u64,
    /// By falling threshold: from (0, 0) to (1, 1), neither rate ever falling.
    pub points: Vec<RocPoint>,
}

/// A threshold and what it does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RocPoint {
    /// Examples that score at least this are called positive. None is above every score: none is.
    pub threshold: Option<f32>,
    /// Share of the positive examples called positive, the true positive rate.
    pub sensitivity: f64,
    /// Share of the negative examples called negative, 1 − false positive rate.
    pub specificity: f64,
}

/// The area under a ROC curve with its uncertainty.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Auc {
    /// The area: how probable it is that a positive example scores higher than a negative one.
    pub value: f64,
    /// By formula (1) of Hanley and McNeil, with Q₁ and Q₂ from the ranks of the data. 0 where the classes are apart,
    /// which is then too small; see the interval's note.
    pub standard_error: f64,
    /// 95% by the percentile bootstrap. No wider than a point where the classes are apart: no resample of such data
    /// overlaps, however few they are.
    pub interval: [f64; 2],
}

/// A point chosen to keep one rate and have the best of the other. Its figures are optimistic where the threshold was
/// chosen on the same examples; choose it on a validation split and apply it by [`Roc::at_threshold`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OperatingPoint {
    /// The rate that was to be kept, from 0 to 1.
    pub target: f64,
    /// The point.
    pub point: RocPoint,
}

impl OperatingPoint {
    /// `sensitivity 0.8710, specificity 0.9524, threshold 0.3120`.
    pub(super) fn describe(&self) -> String {
        let RocPoint { threshold, sensitivity, specificity } = self.point;
        let threshold =
            threshold.map_or_else(|| "above all".to_owned(), |threshold| format!("{threshold:.4}"));
        format!("sensitivity {sensitivity:.4}, specificity {specificity:.4}, threshold {threshold}")
    }
}

/// How many positive and how many negative examples have a score.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tie {
    positives: u64,
    negatives: u64,
}

impl Roc {
    /// The curve of finite scores, each with whether its example is positive. None if all are, or none is.
    pub(super) fn of(mut scored: Vec<(f32, bool)>) -> Option<Self> {
        let positives = scored.iter().filter(|(_, positive)| *positive).count() as u64;
        let negatives = scored.len() as u64 - positives;
        if positives == 0 || negatives == 0 {
            return None;
        }
        scored.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let mut points = vec![RocPoint { threshold: None, sensitivity: 0.0, specificity: 1.0 }];
        let mut above = Tie { positives: 0, negatives: 0 };
        // By value: -0.0 and 0.0 are one score, although they sort apart.
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

    /// The area under the curve by the trapezoidal rule. It is the rank statistic of Mann and Whitney (1947) over the
    /// number of pairs, U / (positives · negatives): the share of pairs of a positive and a negative example in which
    /// the positive one scores higher, equal scores counted half (Hanley and McNeil, "The Meaning and Use of the Area
    /// under a Receiver Operating Characteristic (ROC) Curve", Radiology 143, 1982).
    pub fn area(&self) -> f64 {
        area(&self.ties())
    }

    /// The area with its standard error and a 95% interval by 1000 resamples, drawn from `seed` within each class.
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

    /// The point of highest sensitivity whose specificity is at least `target`; of equals that of highest specificity.
    /// There always is one: at the first point specificity is 1.
    pub fn at_specificity(&self, target: f64) -> OperatingPoint {
        self.best(target, |point| (point.specificity, point.sensitivity))
    }

    /// The point of highest specificity whose sensitivity is at least `target`; of equals that of highest sensitivity.
    /// There always is one: at the last point sensitivity is 1.
    pub fn at_sensitivity(&self, target: f64) -> OperatingPoint {
        self.best(target, |point| (point.sensitivity, point.specificity))
    }

    /// What a threshold chosen elsewhere does here.
    pub fn at_threshold(&self, threshold: f32) -> RocPoint {
        let calls = |point: &&RocPoint| point.threshold.is_none_or(|least| least >= threshold);
        let last = self.points.iter().take_while(calls).last();
        let point = last.copied().unwrap_or(RocPoint { threshold: None, sensitivity: 0.0, specificity: 1.0 });
        RocPoint { threshold: Some(threshold), ..point }
    }

    /// `rates` gives the one to keep and the one to have the best of.
    fn best(&self, target: f64, rates: impl Fn(&RocPoint) -> (f64, f64)) -> OperatingPoint {
        // A target above 1 is met by no point; the one that keeps most is the nearest to what was meant.
        let least = target.min(1.0);
        let kept = self.points.iter().filter(|point| rates(point).0 >= least);
        let key = |point: &&RocPoint| (rates(point).1, rates(point).0);
        let best = kept.max_by(|a, b| key(a).partial_cmp(&key(b)).unwrap_or(std::cmp::Ordering::Equal));
        let first = RocPoint { threshold: None, sensitivity: 0.0, specificity: 1.0 };
        OperatingPoint { target, point: best.copied().unwrap_or(first) }
    }

    /// The examples behind each point but the first. Rates are counts over counts, so rounding gives the counts back.
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

/// Share of pairs in which the positive example comes first, ties by falling score, equal scores counted half.
fn area(ties: &[Tie]) -> f64 {
    let (mut above, mut doubled, mut negatives) = (0, 0, 0);
    for tie in ties {
        doubled += tie.negatives as u128 * u128::from(2 * above + tie.positives);
        above += tie.positives;
        negatives += tie.negatives;
    }
    doubled as f64 / (2.0 * above as f64 * negatives as f64)
}

/// √((A (1 − A) + (p − 1)(Q₁ − A²) + (n − 1)(Q₂ − A²)) / (p n)) for p positives and n negatives, by Hanley and McNeil
/// (1982). Q₁ is how probable it is that two positives score higher than one negative, Q₂ that one positive scores
/// higher than two negatives; among equal scores every order is as probable.
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
    // Rounding may leave a zero slightly below.
    variance.max(0.0).sqrt()
}

/// The index of the tie of each positive example, and of each negative one.
fn members(ties: &[Tie]) -> [Vec<usize>; 2] {
    [|tie: &Tie| tie.positives, |tie: &Tie| tie.negatives].map(|count| {
        let of = |(index, tie): (usize, &Tie)| std::iter::repeat_n(index, count(tie) as usize);
        ties.iter().enumerate().flat_map(of).collect()
    })
}

/// As many examples of each class, drawn with replacement.
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
