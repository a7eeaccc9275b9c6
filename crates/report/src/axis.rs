//! Axes of charts, which map values to pixels on a linear or logarithmic scale. Ticks are at round values.

/// Scale of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scale {
    /// Linear scale: values with equal differences are equally far apart.
    #[default]
    Linear,
    /// Logarithmic scale: values with equal ratios are equally far apart. Only values above 0 can be drawn.
    Log,
}

impl Scale {
    /// Returns whether a value can be drawn on an axis of this scale.
    pub fn holds(self, value: f64) -> bool {
        // The difference of two values beyond 1e300 could overflow.
        value.abs() < 1e300 && (self == Self::Linear || value > 0.0)
    }

    fn apply(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => value.log10(),
        }
    }
}

/// Axis of a chart over a range of values.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    scale: Scale,
    /// Lower end of the axis: a value, or its decimal logarithm on a logarithmic axis.
    low: f64,
    /// Upper end of the axis, in the same unit as `low`.
    high: f64,
    /// Distance between ticks, in the same unit as `low`. Not used on a logarithmic axis of few decades.
    tick: f64,
    /// Ticks in each decade as factors of a power of ten. Used only on a logarithmic axis of few decades.
    factors: &'static [f64],
    /// Pixel position of `low`.
    from: f64,
    /// Pixel position of `high`.
    to: f64,
}

/// Sets of factors for the ticks of a decade, from dense to sparse.
const FACTORS: [&[f64]; 5] = [
    &[1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 7.0, 8.0, 9.0],
    &[1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0],
    &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0],
    &[1.0, 2.0, 3.0, 5.0],
    &[1.0, 2.0, 5.0],
];
/// Number of decades below which a logarithmic axis has ticks between the powers of ten.
const FEW_DECADES: f64 = 2.4;
/// Maximum number of ticks on a logarithmic axis of few decades.
const MAX_TICKS: usize = 8;

impl Axis {
    /// Creates an axis from pixel `from` to pixel `to` that covers all values. The scale must be able to draw every
    /// value.
    pub fn over(scale: Scale, values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let range = values.map(|value| scale.apply(value)).fold(None, |range: Option<(f64, f64)>, value| {
            Some(range.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
        });
        let (mut low, mut high) = range.unwrap_or((0.0, 1.0));
        if high - low <= 1e-12 * high.abs().max(low.abs()) {
            let margin = match (scale, high) {
                (Scale::Log, _) => 0.3,
                (_, 0.0) => 1.0,
                _ => 0.1 * high.abs(),
            };
            (low, high) = (low - margin, high + margin);
        }
        let tick = match scale {
            Scale::Linear => round_step((high - low) / 6.0),
            Scale::Log => ((high - low) / 6.0).ceil(),
        };
        let axis = Self { scale, low, high, tick, factors: FACTORS[FACTORS.len() - 1], from, to };
        axis.with_densest_ticks(|axis| axis)
    }

    /// Applies `adjust` to the axis with the densest [`FACTORS`] that result in at most [`MAX_TICKS`] ticks.
    fn with_densest_ticks(self, adjust: impl Fn(Self) -> Self) -> Self {
        if self.scale == Scale::Linear || self.high - self.low >= FEW_DECADES {
            return adjust(self);
        }
        let axes = || FACTORS.into_iter().map(|factors| adjust(Self { factors, ..self }));
        let fits = |axis: &Self| (2..=MAX_TICKS).contains(&axis.ticks().len());
        axes().find(fits).or_else(|| axes().next_back()).unwrap_or(self)
    }

    /// Extends the axis so that there is a tick at each of its two ends.
    ///
    /// A logarithmic axis ends at 1, 2 or 5 times a power of ten, or at the nearest tick if the axis has few decades.
    pub fn ending_with_ticks(self) -> Self {
        let Self { scale, low, high, tick, .. } = self;
        match scale {
            Scale::Linear => {
                Self { low: (low / tick).floor() * tick, high: (high / tick).ceil() * tick, ..self }
            }
            Scale::Log => self.with_densest_ticks(|axis| {
                let ticks = || decade_ticks(axis.factors, low.floor(), high.ceil());
                let low = ticks().rfind(|tick| *tick <= low + 1e-9).unwrap_or(low);
                let high = ticks().find(|tick| *tick >= high - 1e-9).unwrap_or(high);
                Self { low, high, ..axis }
            }),
        }
    }

    /// Returns the pixel position of a value. The scale must be able to draw the value.
    pub fn place(&self, value: f64) -> f64 {
        self.place_scaled(self.scale.apply(value))
    }

    fn place_scaled(&self, scaled: f64) -> f64 {
        self.from + (scaled - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// Returns the values of the ticks: two to eight round values.
    pub fn ticks(&self) -> Vec<f64> {
        let Self { scale, low, high, tick, .. } = *self;
        if scale == Scale::Linear {
            // The tolerance compensates for rounding errors: in floating point, 3 · 0.1 / 0.1 is not 3.
            let (first, last) = ((low / tick - 1e-9).ceil(), (high / tick + 1e-9).floor());
            return (0..=(last - first) as usize).map(|index| (first + index as f64) * tick).collect();
        }
        // Round to seven digits, so that powers of ten are printed exactly.
        let value = |log: f64| format!("{:.6e}", 10f64.powf(log)).parse().unwrap_or(f64::NAN);
        let on_axis = |log: &f64| (low - 1e-9..=high + 1e-9).contains(log);
        let decades = || {
            let first = (low / tick).ceil() as i64;
            (first..=(high / tick).floor() as i64).map(|index| index as f64 * tick).filter(on_axis)
        };
        let ticks: Vec<f64> = if high - low < FEW_DECADES {
            decade_ticks(self.factors, low.floor(), high.ceil()).filter(on_axis).collect()
        } else {
            decades().collect()
        };
        ticks.into_iter().map(value).collect()
    }

    /// Formats a tick with enough digits to distinguish it from the neighboring ticks: `0.25`, `20k`, `2e-5`.
    pub fn label(&self, tick: f64) -> String {
        if tick == 0.0 {
            return "0".to_owned();
        }
        if self.scale == Scale::Log {
            let plain = (1e-3 * (1.0 - 1e-9)..1e4).contains(&tick);
            return if plain { tick.to_string() } else { exponent(tick) };
        }
        let (unit, suffix) = match self.low.abs().max(self.high.abs()) {
            n if !(1e-4..1e13).contains(&n) => return exponent(tick),
            n if n >= 1e10 => (1e9, "G"),
            n if n >= 1e7 => (1e6, "M"),
            n if n >= 1e4 => (1e3, "k"),
            _ => (1.0, ""),
        };
        let digits = (-(self.tick / unit).log10().floor()).clamp(0.0, 9.0) as usize;
        format!("{:.digits$}{suffix}", tick / unit)
    }
}

/// Formats a value in scientific notation with at most one decimal: `2e-5`.
fn exponent(value: f64) -> String {
    format!("{value:.1e}").replace(".0e", "e")
}

/// Returns the decimal logarithms of all ticks in the decades 10^`first` to 10^`last`, with a tick at each factor.
fn decade_ticks(factors: &'static [f64], first: f64, last: f64) -> impl DoubleEndedIterator<Item = f64> {
    (first as i64..=last as i64)
        .flat_map(move |power| factors.iter().map(move |factor| power as f64 + factor.log10()))
}

/// Returns the smallest value of the form 1, 2 or 5 times a power of ten that is at least `least`.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let rounds_up = |factor: &f64| factor * power >= least * (1.0 - 1e-9);
    [1.0, 2.0, 5.0].into_iter().find(rounds_up).unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linear(low: f64, high: f64) -> Axis {
        Axis::over(Scale::Linear, [low, high].into_iter(), 0.0, 100.0)
    }

    fn log(low: f64, high: f64) -> Axis {
        Axis::over(Scale::Log, [low, high].into_iter(), 0.0, 100.0).ending_with_ticks()
    }

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks().into_iter().map(|tick| axis.label(tick)).collect()
    }

    #[test]
    fn ticks_are_round_and_lie_on_the_axis() {
        assert_eq!(labels(&linear(0.0, 1.0)), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(&linear(1.0, 660.0)), ["200", "400", "600"]);
        assert_eq!(labels(&linear(0.93, 0.981)), ["0.93", "0.94", "0.95", "0.96", "0.97", "0.98"]);
        assert_eq!(labels(&linear(0.0, 100_000.0)), ["0", "20k", "40k", "60k", "80k", "100k"]);
        assert_eq!(labels(&linear(0.0, 1e-5)), ["0", "2e-6", "4e-6", "6e-6", "8e-6", "1e-5"]);
        assert_eq!(labels(&linear(-1.5, 1.5)), ["-1.5", "-1.0", "-0.5", "0", "0.5", "1.0", "1.5"]);
        assert_eq!(
            labels(&linear(12_000_000.0, 12_600_000.0)),
            ["12.0M", "12.1M", "12.2M", "12.3M", "12.4M", "12.5M", "12.6M"]
        );
    }

    #[test]
    fn every_range_has_a_few_ticks() {
        for low in [0.0, 1e-9, 0.3, 7.0, 1e6, -1e250, -2.5] {
            for span in [1e-6, 0.02, 1.0, 33.0, 1e9, 1e251] {
                let count = linear(low, low + span).ticks().len();
                assert!((2..=7).contains(&count), "{low} + {span}: {count} ticks");
            }
        }
        for low in [1e-300, 3e-12, 0.9, 1.0, 47.0, 1e200] {
            for ratio in [1.0, 1.01, 1.9, 7.0, 99.0, 101.0, 1e5, 1e30, 1e90] {
                let axis = log(low, low * ratio);
                let count = axis.ticks().len();
                assert!((2..=8).contains(&count), "{low} × {ratio}: {count} ticks on {axis:?}");
            }
        }
    }

    #[test]
    fn logarithmic_axis_has_ticks_at_powers_of_ten() {
        assert_eq!(labels(&log(0.013, 2.4)), ["0.01", "0.1", "1"]);
        assert_eq!(labels(&log(0.03, 2.4)), ["0.02", "0.05", "0.1", "0.2", "0.5", "1", "2", "5"]);
        assert_eq!(labels(&log(3e-9, 0.7)), ["1e-8", "1e-6", "1e-4", "0.01", "1"]);
        assert_eq!(labels(&log(900.0, 2e6)), ["1000", "1e4", "1e5", "1e6"]);
        let axis = log(1.0, 100.0);
        assert!((axis.place(10.0) - 50.0).abs() < 1e-9);
    }

    #[test]
    fn short_logarithmic_axis_is_extended_to_the_nearest_tick() {
        assert_eq!(labels(&log(0.347, 0.999)), ["0.3", "0.4", "0.5", "0.6", "0.8", "1"]);
        assert_eq!(labels(&log(0.41, 0.53)), ["0.4", "0.45", "0.5", "0.55"]);
        assert_eq!(labels(&log(0.41, 1.02)), ["0.4", "0.5", "0.6", "0.8", "1", "1.2"]);
        assert_eq!(labels(&log(0.385, 2.37)), ["0.3", "0.5", "1", "2", "3"]);
        // An axis that is not extended also has ticks.
        let axis = Axis::over(Scale::Log, [0.347, 0.999].into_iter(), 0.0, 100.0);
        assert_eq!(labels(&axis), ["0.4", "0.5", "0.6", "0.8"]);
    }

    #[test]
    fn extended_axis_ends_with_ticks_and_contains_all_values() {
        for (low, high) in [(0.08, 2.33), (-3.0, 17.0), (1e-7, 1.1e-7), (5.0, 5.0)] {
            let axis = linear(low, high).ending_with_ticks();
            let ticks = axis.ticks();
            assert!((axis.place(ticks[0])).abs() < 1e-6, "{axis:?}");
            assert!((axis.place(ticks[ticks.len() - 1]) - 100.0).abs() < 1e-6, "{axis:?}");
            assert!(axis.place(low) >= 0.0 && axis.place(high) <= 100.0, "{axis:?}");
        }
        let axis = linear(0.3689, 0.6933).ending_with_ticks();
        assert_eq!(labels(&axis), ["0.3", "0.4", "0.5", "0.6", "0.7"]);
        for (low, high) in [(0.08, 2.33), (1.0, 1000.0), (5.0, 5.0), (2e-20, 7e-3)] {
            let axis = log(low, high);
            assert!(axis.place(low) > -1e-6 && axis.place(high) < 100.0 + 1e-6, "{axis:?}");
        }
    }

    #[test]
    fn single_value_is_in_the_middle() {
        for value in [0.0, 3.0, -1e-8] {
            let axis = Axis::over(Scale::Linear, [value].into_iter(), 0.0, 100.0);
            assert!((axis.place(value) - 50.0).abs() < 1e-3, "{axis:?}");
        }
        assert_eq!(Axis::over(Scale::Linear, std::iter::empty(), 0.0, 100.0).place(1.0), 100.0);
    }

    #[test]
    fn logarithmic_scale_accepts_only_positive_values() {
        assert!(Scale::Linear.holds(0.0) && Scale::Linear.holds(-1.0) && Scale::Log.holds(1e-30));
        for value in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(!Scale::Log.holds(value), "{value}");
        }
    }
}
