//! What a study says, computed from its numbers, so that the words follow the data whatever they are.
//!
//! A family gets worse with depth if the median final training loss of its deepest networks is above that of the best
//! shallower ones, by at least 2% of the loss of a guess, and if each seed of the deepest is worse than each seed of
//! those. With three seeds on both sides the last happens by chance once in 20 times.

use super::{Activation, DepthStudy, Family, SigmoidRun, Spread};
use wgrad_report::page::number;

/// A smaller rise of the loss than this share of a guess's loss, ln(classes), counts as none.
const LEAST_RISE: f64 = 0.02;
/// A first layer that moves less than this share of what the last one does, learns next to nothing.
const STARVED: f64 = 0.1;

/// What came of depth.
#[derive(Debug, Clone, PartialEq)]
pub struct Conclusion {
    /// How plain networks do with depth. None with fewer than two depths.
    pub plain: Option<Trend>,
    /// How residual networks do.
    pub residual: Option<Trend>,
    /// What follows.
    pub verdict: Verdict,
}

/// Final training losses of a family: the deepest against the best of the shallower ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trend {
    /// Depth with the lowest median loss but for the deepest.
    pub best_depth: u32,
    /// Losses there.
    pub best: Spread,
    /// The greatest depth.
    pub deepest_depth: u32,
    /// Losses there.
    pub deepest: Spread,
    /// Which way it goes.
    pub direction: Direction,
}

/// Which way the loss goes with depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// It rises.
    Grows,
    /// It does not rise.
    Falls,
    /// It rises by less than what counts.
    Small,
    /// It rises, and seeds differ by as much.
    WithinSeeds,
}

/// Whether the effect of He et al. shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Plain networks get worse, residual ones do not.
    Shown,
    /// Both get worse, residual ones by less than half as much.
    Weaker,
    /// Both get worse by about as much, or residual ones by more.
    Both,
    /// Plain networks do not get worse.
    NotShown,
    /// There are too few runs to say.
    Missing,
}

impl Trend {
    fn of(study: &DepthStudy, family: Family) -> Option<Self> {
        let losses = study.runs.iter().filter(|run| run.family == family);
        let depths = Spread::by_key(losses.map(|run| (u64::from(run.depth), run.loss())));
        let ((deepest_depth, deepest), shallower) = depths.split_last()?;
        let (best_depth, best) = shallower.iter().min_by(|a, b| a.1.median.total_cmp(&b.1.median))?;
        let mut trend = Self {
            best_depth: *best_depth as u32,
            best: *best,
            deepest_depth: *deepest_depth as u32,
            deepest: *deepest,
            direction: Direction::Falls,
        };
        let rise = trend.rise();
        trend.direction = match () {
            () if rise <= 0.0 => Direction::Falls,
            () if rise < least_rise(study) => Direction::Small,
            () if deepest.low <= best.high => Direction::WithinSeeds,
            () => Direction::Grows,
        };
        Some(trend)
    }

    /// By how much the median rises; infinite if the deepest diverge, 0 if all do.
    pub fn rise(&self) -> f64 {
        if self.deepest.median == self.best.median { 0.0 } else { self.deepest.median - self.best.median }
    }
}

impl Conclusion {
    pub(super) fn of(study: &DepthStudy) -> Self {
        let [plain, residual] = Family::ALL.map(|family| Trend::of(study, family));
        let verdict = match (plain, residual) {
            (Some(plain), Some(residual)) => match (plain.direction, residual.direction) {
                (Direction::Grows, Direction::Grows) if residual.rise() < 0.5 * plain.rise() => {
                    Verdict::Weaker
                }
                (Direction::Grows, Direction::Grows) => Verdict::Both,
                (Direction::Grows, _) => Verdict::Shown,
                _ => Verdict::NotShown,
            },
            _ => Verdict::Missing,
        };
        Self { plain, residual, verdict }
    }

    /// The verdict in a sentence.
    pub fn headline(&self) -> &'static str {
        match self.verdict {
            Verdict::Shown => {
                "The effect shows: plain networks train worse when they are deeper, residual ones do not."
            }
            Verdict::Weaker => {
                "The effect shows in part: both families train worse when they are deeper, residual ones by less than \
                 half as much."
            }
            Verdict::Both => {
                "The effect does not show: both families train worse when they are deeper, and residual connections \
                 make no large difference."
            }
            Verdict::NotShown => {
                "The effect does not show: with this budget, deeper plain networks do not clearly train worse."
            }
            Verdict::Missing => "There is no conclusion: it needs both families at two depths or more.",
        }
    }

    /// The figures behind it, a sentence each.
    pub fn sentences(&self, study: &DepthStudy) -> Vec<String> {
        let trends = [(Family::Plain, &self.plain), (Family::Residual, &self.residual)];
        let mut sentences: Vec<String> = trends
            .into_iter()
            .filter_map(|(family, trend)| Some(trend.as_ref()?.sentence(family, least_rise(study))))
            .collect();
        if let (Some(plain), Some(residual)) = (&self.plain, &self.residual)
            && plain.deepest_depth == residual.deepest_depth
        {
            let depth = plain.deepest_depth;
            sentences.push(format!(
                "At {depth} layers the final training loss is {} for plain and {} for residual networks{}.",
                plain.deepest,
                residual.deepest,
                test_errors(study, depth).unwrap_or_default(),
            ));
        }
        let diverged = study.runs.iter().filter(|run| run.diverged).count();
        if diverged > 0 {
            let of = study.runs.len();
            sentences.push(format!("{diverged} of {of} runs diverged; their final loss counts as infinite, and they have no test error."));
        }
        if study.seeds.len() < 2 && !study.runs.is_empty() {
            sentences.push("With one seed nothing here tells an effect from chance.".to_owned());
        }
        sentences
    }
}

fn test_errors(study: &DepthStudy, depth: u32) -> Option<String> {
    let error = |family| Spread::of(study.runs_of(family, depth).filter_map(|run| run.test_error()));
    let (plain, residual) = (error(Family::Plain)?, error(Family::Residual)?);
    let percent = |spread: Spread| format!("{:.2}%", 100.0 * spread.median);
    Some(format!(", the test error {} and {}", percent(plain), percent(residual)))
}

impl Trend {
    fn sentence(&self, family: Family, least: f64) -> String {
        let Self { best_depth, best, deepest_depth, deepest, direction } = self;
        let (family, rise) = (capital(family.name()), number(self.rise()));
        let from = format!(
            "{family} networks: of the shallower ones, those of {best_depth} layers end with the lowest training loss, {best}"
        );
        let to = format!("at {deepest_depth} layers it is {deepest}");
        match direction {
            Direction::Grows if deepest.median.is_infinite() => {
                format!("{from}; at {deepest_depth} layers most runs diverge.")
            }
            Direction::Grows if deepest.count > 1 || best.count > 1 => {
                format!("{from}; {to}, higher by {rise}, and every seed is worse than every seed of those.")
            }
            Direction::Grows => format!("{from}; {to}, higher by {rise}."),
            Direction::Falls => format!("{from}; {to}, not higher."),
            Direction::Small => format!(
                "{from}; {to}, higher by {rise}, which is less than what counts here ({}, 2% of the loss of a guess).",
                number(least)
            ),
            Direction::WithinSeeds => {
                format!("{from}; {to}, higher by {rise}, but seeds differ by as much.")
            }
        }
    }
}

fn least_rise(study: &DepthStudy) -> f64 {
    LEAST_RISE * f64::from(study.classes.max(2)).ln()
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// What came of sigmoids, at the greatest depth.
#[derive(Debug, Clone, PartialEq)]
pub struct SigmoidConclusion {
    /// Of perceptrons with sigmoids.
    pub sigmoid: Option<Starving>,
    /// Of the same with ReLU.
    pub relu: Option<Starving>,
    /// What follows.
    pub verdict: SigmoidVerdict,
}

/// The first layer against the last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Starving {
    /// How many layers.
    pub depth: u32,
    /// Gradient norm of the first over that of the last at initialisation.
    pub gradient: Spread,
    /// Movement of the first over that of the last.
    pub movement: Spread,
}

/// Whether only the last layers learn with sigmoids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigmoidVerdict {
    /// With sigmoids the first layer moves less than a tenth of what the last does; with ReLU it does not, or was not
    /// tried.
    Shown,
    /// With both.
    Both,
    /// Not with sigmoids.
    NotShown,
    /// There are no such runs.
    Missing,
}

impl Starving {
    fn of(study: &DepthStudy, activation: Activation) -> Option<Self> {
        let runs = || study.sigmoid.iter().filter(|run| run.activation == activation && !run.diverged);
        let depth = runs().map(|run| run.depth).max()?;
        let over = |values: fn(&SigmoidRun) -> &[super::LayerValue]| {
            let ratio = |run| {
                let values = values(run);
                let ratio = values.first()?.value / values.last()?.value;
                ratio.is_finite().then_some(ratio)
            };
            Spread::of(runs().filter(|run| run.depth == depth).filter_map(ratio))
        };
        let gradient = over(|run| &run.gradient_norms_init)?;
        Some(Self { depth, gradient, movement: over(|run| &run.movement)? })
    }

    fn is_starved(&self) -> bool {
        self.movement.median < STARVED
    }

    fn sentence(&self, activation: Activation) -> String {
        let Self { depth, gradient, movement } = self;
        format!(
            "With {} and {depth} layers, the gradient of the first layer at initialisation is {gradient} of that of the \
             last, and its weights move {movement} of what the last ones do.",
            activation.name()
        )
    }
}

impl SigmoidConclusion {
    pub(super) fn of(study: &DepthStudy) -> Self {
        let [sigmoid, relu] = Activation::ALL.map(|activation| Starving::of(study, activation));
        let verdict = match (&sigmoid, &relu) {
            (None, _) => SigmoidVerdict::Missing,
            (Some(sigmoid), _) if !sigmoid.is_starved() => SigmoidVerdict::NotShown,
            (Some(_), Some(relu)) if relu.is_starved() => SigmoidVerdict::Both,
            (Some(_), _) => SigmoidVerdict::Shown,
        };
        Self { sigmoid, relu, verdict }
    }

    /// The verdict in a sentence.
    pub fn headline(&self) -> &'static str {
        match self.verdict {
            SigmoidVerdict::Shown => "With sigmoids only the last layers learn.",
            SigmoidVerdict::Both => "The first layers learn next to nothing, with sigmoids and with ReLU.",
            SigmoidVerdict::NotShown => {
                "The effect does not show: with sigmoids the first layers learn as well."
            }
            SigmoidVerdict::Missing => {
                "There is no conclusion: no perceptron with sigmoids ended its training."
            }
        }
    }

    /// The figures behind it, a sentence each.
    pub fn sentences(&self) -> Vec<String> {
        let each = [(Activation::Sigmoid, &self.sigmoid), (Activation::Relu, &self.relu)];
        each.into_iter().filter_map(|(kind, starving)| Some(starving.as_ref()?.sentence(kind))).collect()
    }
}
