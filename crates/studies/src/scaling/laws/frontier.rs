//! Compute-optimal frontier of a family of networks. For each amount of compute, the frontier gives the lowest test
//! loss that a training run reached with this compute, and the size of the network that reached it.

use super::fit::{self, Estimate, EstimateStatus, Law, LawError, Sample, Variable};
use crate::scaling::Trial;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use wgrad_stdx::random::SplitMix64;

/// Number of bins per decade of compute. Of the points in a bin, only the one with the lowest loss is used. Without
/// bins, the points of the small networks, which are all at low compute, would outweigh the other points.
const BINS_PER_DECADE: f64 = 5.0;
/// Minimum number of distinct network sizes for fitting the growth of the best size.
const MIN_SIZES: usize = 3;
/// Minimum number of points for a bootstrap interval of the exponent. With fewer points, there are only a few distinct
/// resamples.
const MIN_RESAMPLED_POINTS: usize = 6;

/// Training curve of one network trained on a given number of examples, averaged over the seeds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MeanCurve {
    pub parameters: u64,
    pub examples: u64,
    /// Step, mean training FLOPs and mean test loss, for each evaluated step that all seeds reached.
    pub points: Vec<(u64, f64, f64)>,
    pub trials: Vec<String>,
}

/// Returns the training curves averaged over the seeds, one per combination of network, number of examples and batch
/// size. Without averaging, the frontier would contain only the best seed of each size. Diverged training runs are
/// left out.
pub(super) fn mean_curves(trials: &[&Trial]) -> Vec<MeanCurve> {
    let mut cells: BTreeMap<(u64, u64, u64, u64), Vec<&Trial>> = BTreeMap::new();
    for trial in trials.iter().filter(|trial| !trial.diverged) {
        cells.entry((trial.parameters, trial.examples, trial.width, trial.batch)).or_default().push(trial);
    }
    let mean = |((parameters, examples, ..), seeds): ((u64, u64, u64, u64), Vec<&Trial>)| {
        let mut steps: BTreeMap<u64, Vec<(f64, f64)>> = BTreeMap::new();
        for point in seeds.iter().flat_map(|trial| &trial.curve) {
            steps.entry(point.step).or_default().push((point.flops, point.test_loss));
        }
        let common = steps.into_iter().filter(|(_, points)| points.len() == seeds.len());
        let points = common.map(|(step, points)| {
            let count = points.len() as f64;
            let (flops, loss) = points.iter().fold((0.0, 0.0), |sum, p| (sum.0 + p.0, sum.1 + p.1));
            (step, flops / count, loss / count)
        });
        // Points with zero compute are dropped, because the logarithm of zero is undefined.
        let points = points.filter(|(_, flops, loss)| *flops > 0.0 && loss.is_finite()).collect();
        MeanCurve {
            parameters,
            examples,
            points,
            trials: seeds.iter().map(|trial| trial.id.clone()).collect(),
        }
    };
    cells.into_iter().map(mean).collect()
}

/// Point of the frontier: no averaged training curve has a lower loss with the same or less compute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrontierPoint {
    /// Training FLOPs up to the point, averaged over the seeds.
    pub flops: f64,
    /// Test loss at the point, averaged over the seeds.
    pub loss: f64,
    /// Number of trainable parameters of the network.
    pub parameters: u64,
    /// Number of distinct training examples.
    pub examples: u64,
    /// Number of training steps done at the point.
    pub step: u64,
    /// Ids of the training runs that are averaged, one per seed.
    pub trials: Vec<String>,
    /// Whether the law of compute and the growth of the best size are fitted to the point. False for the points before
    /// the last one of the smallest network, because an even smaller network might be better there.
    pub fitted: bool,
}

/// Growth of the best number of parameters N with compute C: N ∝ C^a.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Optimum {
    /// Exponent a. Its interval is from a bootstrap over the points. The interval is somewhat too narrow, because the
    /// points of one training run are not independent. With fewer than 6 points, the interval is `None`.
    pub exponent: Estimate,
    /// Intercept of the line ln N = intercept + a · ln C, i.e. ln N at C = 1.
    pub intercept: f64,
    /// Number of distinct network sizes among the points that the line is fitted to.
    pub sizes: usize,
    /// Number of points that the line is fitted to. Of the points with [`FrontierPoint::fitted`], these are the points
    /// up to the first one of the largest network. With more compute, an even larger network might be better.
    pub points: usize,
}

impl Optimum {
    /// Returns the best number of parameters for a compute budget of `flops` FLOPs.
    pub fn at(&self, flops: f64) -> f64 {
        (self.intercept + self.exponent.value * flops.ln()).exp()
    }
}

/// Compute-optimal frontier of a family on one data set, with the laws fitted to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frontier {
    /// Points in order of ascending compute. The loss decreases from each point to the next.
    pub points: Vec<FrontierPoint>,
    /// Law of the loss along the frontier against compute, or the reason why it cannot be fitted.
    pub law: Result<Law, LawError>,
    /// Growth of the best network size with compute, or the reason why it cannot be fitted.
    pub optimum: Result<Optimum, LawError>,
}

impl Frontier {
    /// Computes the frontier of the training runs of one family on one data set, and fits its laws. Intervals are
    /// computed from `resamples` bootstrap resamples, drawn with random numbers from `seed`.
    pub(super) fn fit(trials: &[&Trial], resamples: usize, seed: u64) -> Self {
        let curves = mean_curves(trials);
        let mut points = envelope(&curves);
        let sizes = || curves.iter().map(|curve| curve.parameters);
        let is_of = |size: Option<u64>| move |point: &FrontierPoint| Some(point.parameters) == size;
        let first = points.iter().rposition(is_of(sizes().min())).unwrap_or(0);
        points.iter_mut().skip(first).for_each(|point| point.fitted = true);
        let fitted = &points[first..];
        let samples: Vec<Sample> =
            fitted.iter().map(|point| Sample { x: [point.flops, 0.0], loss: point.loss }).collect();
        let law = fit::fit(&[Variable::Compute], &samples, resamples, seed).map(|fitted| fitted.law);
        let last = fitted.iter().position(is_of(sizes().max())).map_or(fitted.len(), |index| index + 1);
        let optimum = optimum(&fitted[..last], resamples, seed);
        Self { points, law, optimum }
    }
}

/// Returns the point with the lowest loss in each bin of compute. A point is left out if a point with less compute has
/// an equal or lower loss.
fn envelope(curves: &[MeanCurve]) -> Vec<FrontierPoint> {
    let mut best: BTreeMap<i64, FrontierPoint> = BTreeMap::new();
    for curve in curves {
        for &(step, flops, loss) in &curve.points {
            let bin = (flops.log10() * BINS_PER_DECADE).floor() as i64;
            if best.get(&bin).is_none_or(|point| loss < point.loss) {
                let MeanCurve { parameters, examples, trials, .. } = curve;
                let (parameters, examples, trials) = (*parameters, *examples, trials.clone());
                best.insert(
                    bin,
                    FrontierPoint { flops, loss, parameters, examples, step, trials, fitted: false },
                );
            }
        }
    }
    let mut lowest = f64::INFINITY;
    let falls = |point: &FrontierPoint| {
        let lower = point.loss < lowest;
        lowest = lowest.min(point.loss);
        lower
    };
    best.into_values().filter(falls).collect()
}

/// Fits the line ln N = intercept + a · ln C to the points, with an interval of a.
fn optimum(points: &[FrontierPoint], resamples: usize, seed: u64) -> Result<Optimum, LawError> {
    let mut sizes: Vec<u64> = points.iter().map(|point| point.parameters).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let sizes = sizes.len();
    if sizes < MIN_SIZES {
        return Err(LawError::TooFewSizes { sizes });
    }
    let logs: Vec<(f64, f64)> =
        points.iter().map(|point| (point.flops.ln(), (point.parameters as f64).ln())).collect();
    // The points have distinct compute, so a line always exists.
    let (intercept, value) = line(&logs).ok_or(LawError::TooFewSizes { sizes })?;
    let mut random = SplitMix64(seed);
    let resamples = if logs.len() < MIN_RESAMPLED_POINTS { 0 } else { resamples };
    let draws = (0..resamples).filter_map(|_| {
        let drawn: Vec<(f64, f64)> = (0..logs.len()).map(|_| logs[random.below(logs.len())]).collect();
        Some(line(&drawn)?.1)
    });
    let interval = fit::interval(&draws.collect::<Vec<f64>>());
    let exponent = Estimate { value, interval, status: EstimateStatus::Within };
    Ok(Optimum { exponent, intercept, sizes, points: points.len() })
}

/// Returns the intercept and slope of the least-squares line through the points (x, y), or `None` if all x are equal.
fn line(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let count = points.len() as f64;
    let (x, y) =
        points.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0 / count, sum.1 + point.1 / count));
    let squares: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let products: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    (squares > 1e-9).then(|| (y - products / squares * x, products / squares))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::laws::testing;
    use crate::scaling::{CurvePoint, Role};

    /// Returns two trials per width, with different seeds. Their curves touch the frontier loss = 0.2 + 50·C^(−0.2): a
    /// network with N parameters touches it at C = N².
    fn planted(widths: &[u64]) -> Vec<Trial> {
        let trial = |(width, seed): (u64, u64)| {
            let mut trial = testing::trial("mlp", Role::Fit, width, 1000, seed, 0.0);
            let best = (trial.parameters as f64).powi(2);
            let point = |index: i32| {
                let flops = best * 10f64.powf(f64::from(index) / 10.0);
                let envelope = 0.2 + 50.0 * flops.powf(-0.2);
                let off = (flops / best).ln();
                // Noise that cancels in the mean of the two seeds.
                let noise = if seed == 1 { 1.05 } else { 0.95 };
                CurvePoint {
                    step: (index + 30) as u64,
                    flops,
                    test_loss: noise * envelope * (1.0 + 0.1 * off * off),
                    ..trial.curve[0]
                }
            };
            trial.curve = (-5..=5).map(point).collect();
            trial
        };
        widths.iter().flat_map(|width| [(*width, 1), (*width, 2)]).map(trial).collect()
    }

    fn frontier(trials: &[Trial]) -> Frontier {
        Frontier::fit(&trials.iter().collect::<Vec<_>>(), 100, 1)
    }

    #[test]
    fn planted_frontier_is_found() {
        let trials = planted(&[4, 8, 16, 32, 64, 128]);
        let frontier = frontier(&trials);
        assert!(frontier.points.is_sorted_by(|a, b| a.flops < b.flops && a.loss > b.loss), "{frontier:#?}");
        let curves = mean_curves(&trials.iter().collect::<Vec<_>>());
        for point in &frontier.points {
            assert_eq!(point.trials.len(), 2, "each point is a mean over both seeds");
            let better =
                curves.iter().flat_map(|c| &c.points).find(|p| p.1 <= point.flops && p.2 < point.loss);
            assert_eq!(better, None, "{point:?}");
        }
        let law = frontier.law.unwrap();
        assert!((law.terms[0].exponent.value - 0.2).abs() < 0.03, "{law:?}");
        assert_eq!(law.terms[0].variable, Variable::Compute);
        let optimum = frontier.optimum.unwrap();
        let [low, high] = optimum.exponent.interval.unwrap();
        assert!((optimum.exponent.value - 0.5).abs() < 0.05 && low < 0.5 && 0.5 < high, "{optimum:?}");
        assert_eq!(optimum.sizes, 6);
        let fitted = || frontier.points.iter().filter(|point| point.fitted);
        let largest = fitted().position(|point| point.parameters == 800 * 128).unwrap();
        assert_eq!(optimum.points, largest + 1);
        assert!((optimum.at(1e8) / 1e4 - 1.0).abs() < 0.3, "{}", optimum.at(1e8));
    }

    #[test]
    fn points_of_the_smallest_and_largest_network_are_left_out() {
        let mut trials = planted(&[4, 8, 16, 32, 64, 128]);
        let inner = frontier(&trials);
        // Extends the curves of the smallest network to less compute, and the curves of the largest network to more
        // compute.
        for trial in &mut trials {
            let (first, last) = (trial.curve[0], trial.curve[10]);
            let point = |from: CurvePoint, factor: f64, step: u64, loss: f64| CurvePoint {
                step,
                flops: from.flops * factor,
                test_loss: from.test_loss * loss,
                ..from
            };
            if trial.width == 4 {
                trial.curve.splice(0..0, (1..8).map(|i| point(first, 10f64.powi(i - 8), i as u64, 1.5)));
            } else if trial.width == 128 {
                trial
                    .curve
                    .extend((1..8).map(|i| point(last, 10f64.powi(i), 100 + i as u64, 0.99f64.powi(i))));
            }
        }
        let outer = frontier(&trials);
        assert!(outer.points.len() > inner.points.len() + 5, "{outer:#?}");
        assert_eq!(outer.optimum, inner.optimum);
        assert!(!outer.points[0].fitted && outer.points.last().unwrap().fitted);
        let law = outer.law.unwrap();
        assert_eq!(law.terms[0].range[0], inner.law.unwrap().terms[0].range[0]);
    }

    #[test]
    fn mean_curve_has_only_steps_of_all_seeds() {
        let mut trials = planted(&[4]);
        trials[1].curve.truncate(3);
        let curves = mean_curves(&trials.iter().collect::<Vec<_>>());
        let [curve] = &curves[..] else { panic!("{curves:?}") };
        assert_eq!(curve.points.len(), 3, "steps of a single seed are left out");
        let mean = 0.5 * (trials[0].curve[2].test_loss + trials[1].curve[2].test_loss);
        assert!((curve.points[2].2 - mean).abs() < 1e-12);
    }

    #[test]
    fn optimum_requires_three_sizes() {
        let found = frontier(&planted(&[4, 64]));
        assert_eq!(found.optimum, Err(LawError::TooFewSizes { sizes: 2 }));
        let none = frontier(&[]);
        assert_eq!(none.optimum, Err(LawError::TooFewSizes { sizes: 0 }));
        assert!(none.points.is_empty() && none.law.is_err());
    }

    #[test]
    fn optimum_of_few_points_has_no_interval() {
        let few = |widths: &[u64]| {
            let mut trials = planted(widths);
            trials.iter_mut().for_each(|trial| trial.curve = vec![trial.curve[5]]);
            frontier(&trials)
        };
        let three = few(&[4, 16, 64]);
        let optimum = three.optimum.unwrap();
        assert!((optimum.exponent.value - 0.5).abs() < 1e-9, "{optimum:?}");
        assert_eq!((optimum.points, optimum.exponent.interval), (3, None));
        assert!(three.law.unwrap().is_saturated());
        let six = few(&[4, 8, 16, 32, 64, 128]).optimum.unwrap();
        assert!(six.points == 6 && six.exponent.interval.is_some(), "{six:?}");
    }

    #[test]
    fn diverged_runs_are_left_out() {
        let mut trials = planted(&[4, 8, 16]);
        let without = frontier(&trials);
        let mut lost = testing::diverged(trials[0].clone());
        lost.curve.iter_mut().for_each(|point| point.test_loss = 1e-6);
        trials.push(lost);
        assert_eq!(frontier(&trials), without);
    }
}
