//! Conclusions of the depth study, computed from its numbers.
//!
//! A family degrades with depth if two conditions hold. The median final training loss of its deepest networks exceeds
//! the median of the best shallower depth by at least 2% of the loss of a uniform guess. And every seed of the deepest
//! networks is worse than every seed of the best shallower depth. With three seeds at each depth, the second condition
//! holds by chance once in 20 times.

use super::{Activation, DepthStudy, Family, SigmoidRun, Spread};
use wgrad_report::page::number;
use wgrad_stdx::format::percent;

/// Minimum increase of the loss for a degradation, as a fraction of the loss of a uniform guess, ln(classes).
const MIN_INCREASE: f64 = 0.02;
/// Threshold of the ratio of the first layer's weight change to the last layer's. Below it, the first layer hardly
/// learns.
const MIN_MOVEMENT_RATIO: f64 = 0.1;

/// Conclusion about plain and residual networks.
#[derive(Debug, Clone, PartialEq)]
pub struct Conclusion {
    /// Trend of plain networks. `None` with fewer than two depths.
    pub plain: Option<Trend>,
    /// Trend of residual networks. `None` with fewer than two depths.
    pub residual: Option<Trend>,
    /// Finding on the degradation that He et al. reported.
    pub finding: DepthFinding,
}

/// Final training losses of a family: the deepest networks compared with the best shallower depth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trend {
    /// Depth with the lowest median loss, of all depths except the greatest.
    pub best_depth: u32,
    /// Spread of the losses over the seeds at `best_depth`.
    pub best: Spread,
    /// Greatest depth.
    pub deepest_depth: u32,
    /// Spread of the losses over the seeds at `deepest_depth`.
    pub deepest: Spread,
    /// Direction in which the loss changes with depth.
    pub direction: Direction,
}

/// Direction in which the loss changes with depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The loss increases.
    Increases,
    /// The loss does not increase.
    NoIncrease,
    /// The loss increases by less than 2% of the loss of a uniform guess.
    Negligible,
    /// The loss increases, but the losses of the seeds at the two depths overlap.
    WithinSeeds,
}

/// Finding on the degradation of plain networks with depth (He et al., 2016).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DepthFinding {
    /// Plain networks degrade, residual networks do not.
    Shown,
    /// Both families degrade, residual networks by less than half as much as plain networks.
    Partial,
    /// Both families degrade, residual networks by at least half as much as plain networks.
    BothDegrade,
    /// Plain networks do not degrade.
    NotShown,
    /// There are too few runs for a conclusion.
    TooFewRuns,
}

impl Trend {
    fn new(study: &DepthStudy, family: Family) -> Option<Self> {
        let losses = study.runs.iter().filter(|run| run.family == family);
        let depths = Spread::by_key(losses.map(|run| (u64::from(run.depth), run.loss())));
        let ((deepest_depth, deepest), shallower) = depths.split_last()?;
        let (best_depth, best) = shallower.iter().min_by(|a, b| a.1.median.total_cmp(&b.1.median))?;
        let mut trend = Self {
            best_depth: *best_depth as u32,
            best: *best,
            deepest_depth: *deepest_depth as u32,
            deepest: *deepest,
            direction: Direction::NoIncrease,
        };
        let increase = trend.increase();
        trend.direction = if increase <= 0.0 {
            Direction::NoIncrease
        } else if increase < min_increase(study) {
            Direction::Negligible
        } else if deepest.low <= best.high {
            Direction::WithinSeeds
        } else {
            Direction::Increases
        };
        Some(trend)
    }

    /// Returns the increase of the median loss. The increase is infinite if only the median at the greatest depth is
    /// infinite, and 0 if the medians at both depths are infinite.
    pub fn increase(&self) -> f64 {
        if self.deepest.median == self.best.median { 0.0 } else { self.deepest.median - self.best.median }
    }
}

impl Conclusion {
    pub(super) fn new(study: &DepthStudy) -> Self {
        let [plain, residual] = Family::ALL.map(|family| Trend::new(study, family));
        let finding = match (plain, residual) {
            (Some(plain), Some(residual)) => match (plain.direction, residual.direction) {
                (Direction::Increases, Direction::Increases)
                    if residual.increase() < 0.5 * plain.increase() =>
                {
                    DepthFinding::Partial
                }
                (Direction::Increases, Direction::Increases) => DepthFinding::BothDegrade,
                (Direction::Increases, _) => DepthFinding::Shown,
                _ => DepthFinding::NotShown,
            },
            _ => DepthFinding::TooFewRuns,
        };
        Self { plain, residual, finding }
    }

    /// Returns the finding as a sentence.
    pub fn headline(&self) -> &'static str {
        match self.finding {
            DepthFinding::Shown => {
                "The effect is observed: deeper plain networks train worse, deeper residual networks do not."
            }
            DepthFinding::Partial => {
                "The effect is partly observed: deeper networks of both families train worse, residual networks by less than \
                 half as much."
            }
            DepthFinding::BothDegrade => {
                "The effect is not observed: deeper networks of both families train worse, and residual connections make no \
                 large difference."
            }
            DepthFinding::NotShown => {
                "The effect is not observed: with this budget, deeper plain networks do not clearly train worse."
            }
            DepthFinding::TooFewRuns => {
                "There is no conclusion, because both families must be trained at two or more depths."
            }
        }
    }

    /// Returns the numbers that the finding is based on, as sentences.
    pub fn sentences(&self, study: &DepthStudy) -> Vec<String> {
        let trends = [(Family::Plain, &self.plain), (Family::Residual, &self.residual)];
        let mut sentences: Vec<String> = trends
            .into_iter()
            .filter_map(|(family, trend)| Some(trend.as_ref()?.sentence(family, min_increase(study))))
            .collect();
        if let (Some(plain), Some(residual)) = (&self.plain, &self.residual)
            && plain.deepest_depth == residual.deepest_depth
        {
            let depth = plain.deepest_depth;
            sentences.push(format!(
                "At {depth} layers, the final training loss is {} for plain networks and {} for residual networks{}.",
                plain.deepest,
                residual.deepest,
                test_errors(study, depth).unwrap_or_default(),
            ));
        }
        let diverged = study.runs.iter().filter(|run| run.diverged).count();
        if diverged > 0 {
            let total = study.runs.len();
            sentences.push(format!(
                "{diverged} of {total} runs diverged. Their final loss is treated as infinite, and they have no test error."
            ));
        }
        if study.seeds.len() < 2 && !study.runs.is_empty() {
            sentences.push("With one seed, an effect cannot be distinguished from chance.".to_owned());
        }
        sentences
    }
}

fn test_errors(study: &DepthStudy, depth: u32) -> Option<String> {
    let error = |family| Spread::of(study.runs_of(family, depth).filter_map(|run| run.test_error()));
    let (plain, residual) = (error(Family::Plain)?, error(Family::Residual)?);
    Some(format!(", the test error {} and {}", percent(plain.median, 2), percent(residual.median, 2)))
}

impl Trend {
    fn sentence(&self, family: Family, min_increase: f64) -> String {
        let Self { best_depth, best, deepest_depth, deepest, direction } = self;
        let (family, increase) = (capitalized(family.name()), number(self.increase()));
        let from = format!(
            "{family} networks: of the shallower depths, {best_depth} layers end with the lowest training loss, {best}"
        );
        let to = format!("at {deepest_depth} layers it is {deepest}");
        match direction {
            Direction::Increases if deepest.median.is_infinite() => {
                format!("{from}; at {deepest_depth} layers most runs diverge.")
            }
            Direction::Increases if deepest.count > 1 || best.count > 1 => {
                format!(
                    "{from}; {to}, higher by {increase}, and every seed is worse than every seed at {best_depth} layers."
                )
            }
            Direction::Increases => format!("{from}; {to}, higher by {increase}."),
            Direction::NoIncrease => format!("{from}; {to}, not higher."),
            Direction::Negligible => format!(
                "{from}; {to}, higher by {increase}, which is below the threshold of {} (2% of the loss of a uniform \
                 guess).",
                number(min_increase)
            ),
            Direction::WithinSeeds => {
                format!("{from}; {to}, higher by {increase}, but the seeds of the two depths overlap.")
            }
        }
    }
}

/// Returns the minimum increase of the loss for a degradation, in nats per example.
fn min_increase(study: &DepthStudy) -> f64 {
    MIN_INCREASE * f64::from(study.classes.max(2)).ln()
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Conclusion about perceptrons with sigmoid units, at the greatest depth.
#[derive(Debug, Clone, PartialEq)]
pub struct SigmoidConclusion {
    /// Ratios for perceptrons with sigmoid units. `None` if no run finished.
    pub sigmoid: Option<LayerRatios>,
    /// Ratios for perceptrons with ReLU. `None` if no run finished.
    pub relu: Option<LayerRatios>,
    /// Finding on the layers that learn in networks with sigmoid units.
    pub finding: SigmoidFinding,
}

/// Ratios of the first layer's values to the last layer's, as spreads over the seeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerRatios {
    /// Number of layers.
    pub depth: u32,
    /// Ratio of the gradient norms at initialisation.
    pub gradient: Spread,
    /// Ratio of the relative weight changes.
    pub movement: Spread,
}

/// Finding on the layers that learn in networks with sigmoid units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigmoidFinding {
    /// With sigmoid units, the relative weight change of the first layer is less than a tenth of that of the last
    /// layer. With ReLU it is at least a tenth, or no run with ReLU finished.
    Shown,
    /// The first layer hardly learns with either activation.
    BothActivations,
    /// The first layer learns with sigmoid units.
    NotShown,
    /// No perceptron with sigmoid units finished training.
    NoRuns,
}

impl LayerRatios {
    fn new(study: &DepthStudy, activation: Activation) -> Option<Self> {
        let runs = || study.sigmoid.iter().filter(|run| run.activation == activation && !run.diverged);
        let depth = runs().map(|run| run.depth).max()?;
        let ratios = |values: fn(&SigmoidRun) -> &[super::LayerValue]| {
            let ratio = |run| {
                let values = values(run);
                let ratio = values.first()?.value / values.last()?.value;
                ratio.is_finite().then_some(ratio)
            };
            Spread::of(runs().filter(|run| run.depth == depth).filter_map(ratio))
        };
        let gradient = ratios(|run| &run.gradient_norms_init)?;
        Some(Self { depth, gradient, movement: ratios(|run| &run.movement)? })
    }

    fn first_layer_hardly_learns(&self) -> bool {
        self.movement.median < MIN_MOVEMENT_RATIO
    }

    fn sentence(&self, activation: Activation) -> String {
        let Self { depth, gradient, movement } = self;
        format!(
            "With {} and {depth} layers, the initial gradient norm of the first layer is {gradient} times that of the last \
             layer, and the relative change of its weights is {movement} times that of the last layer.",
            activation.name()
        )
    }
}

impl SigmoidConclusion {
    pub(super) fn new(study: &DepthStudy) -> Self {
        let [sigmoid, relu] = Activation::ALL.map(|activation| LayerRatios::new(study, activation));
        let finding = match (&sigmoid, &relu) {
            (None, _) => SigmoidFinding::NoRuns,
            (Some(sigmoid), _) if !sigmoid.first_layer_hardly_learns() => SigmoidFinding::NotShown,
            (Some(_), Some(relu)) if relu.first_layer_hardly_learns() => SigmoidFinding::BothActivations,
            (Some(_), _) => SigmoidFinding::Shown,
        };
        Self { sigmoid, relu, finding }
    }

    /// Returns the finding as a sentence.
    pub fn headline(&self) -> &'static str {
        match self.finding {
            SigmoidFinding::Shown => "With sigmoid units, only the last layers learn.",
            SigmoidFinding::BothActivations => {
                "The first layers hardly learn, neither with sigmoid units nor with ReLU."
            }
            SigmoidFinding::NotShown => {
                "The effect is not observed: with sigmoid units, the first layers learn as well."
            }
            SigmoidFinding::NoRuns => {
                "There is no conclusion, because no perceptron with sigmoid units finished training."
            }
        }
    }

    /// Returns the numbers that the finding is based on, as sentences.
    pub fn sentences(&self) -> Vec<String> {
        let each = [(Activation::Sigmoid, &self.sigmoid), (Activation::Relu, &self.relu)];
        each.into_iter()
            .filter_map(|(activation, ratios)| Some(ratios.as_ref()?.sentence(activation)))
            .collect()
    }
}
