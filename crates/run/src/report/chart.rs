//! One line chart as inline SVG: axes with round numbers, a legend, and long series thinned to what a pixel can show.

use super::Escaped;
use std::fmt::{self, Write};

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 28.0;
const BOTTOM: f64 = 40.0;
/// Colours in the style sheet.
const COLORS: usize = 4;
/// Up to this many points each is drawn as a dot as well.
const DOTTED: usize = 60;

/// A line of a chart.
pub(super) struct Series<'a> {
    /// What the legend says.
    pub name: &'a str,
    /// Step and value, by rising step. Values that are not finite leave a gap.
    pub points: Vec<(f64, f64)>,
}

/// Writes the chart of some series over the steps. `title` is escaped already.
pub(super) fn write(svg: &mut String, title: &str, series: &[Series<'_>]) -> fmt::Result {
    let drawn =
        || series.iter().flat_map(|series| series.points.iter().filter(|point| can_be_drawn(point.1)));
    let x = Axis::over(drawn().map(|point| point.0), LEFT, WIDTH - RIGHT);
    let y = Axis::over(drawn().map(|point| point.1), HEIGHT - BOTTOM, TOP).ending_with_ticks();
    writeln!(svg, "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title} over steps\">")?;
    for tick in y.ticks() {
        let (at, right, label) = (y.place(tick), WIDTH - RIGHT, y.label(tick));
        writeln!(svg, "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\"/>")?;
        writeln!(svg, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", LEFT - 8.0, at + 4.0)?;
    }
    for tick in x.ticks().filter(|tick| tick.fract() == 0.0) {
        let (at, bottom, label) = (x.place(tick), HEIGHT - BOTTOM, x.label(tick));
        writeln!(svg, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>", bottom + 18.0)?;
    }
    writeln!(svg, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">step</text>", WIDTH - RIGHT, HEIGHT - 4.0)?;
    for (index, series) in series.iter().enumerate() {
        write_line(svg, series, index % COLORS, &x, &y)?;
    }
    write_legend(svg, series)?;
    svg.push_str("</svg>\n");
    Ok(())
}

fn write_line(svg: &mut String, series: &Series<'_>, color: usize, x: &Axis, y: &Axis) -> fmt::Result {
    let placed = series
        .points
        .iter()
        .map(|&(step, value)| (x.place(step), can_be_drawn(value).then(|| y.place(value))));
    let lines = thin(placed);
    write!(svg, "<path class=\"line s{color}\" d=\"")?;
    for line in &lines {
        for (index, (x, y)) in line.iter().enumerate() {
            write!(svg, "{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' })?;
        }
        // A line of one point is nothing; one of no length is a dot.
        if line.len() == 1 {
            svg.push_str("h0");
        }
    }
    svg.push_str("\"/>\n");
    if series.points.len() <= DOTTED {
        for (x, y) in lines.iter().flatten() {
            writeln!(svg, "<circle class=\"dot s{color}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.4\"/>")?;
        }
    }
    Ok(())
}

fn write_legend(svg: &mut String, series: &[Series<'_>]) -> fmt::Result {
    let mut x = LEFT;
    for (index, series) in series.iter().enumerate() {
        let missing = series.points.iter().filter(|point| !can_be_drawn(point.1)).count();
        let note = if missing == 0 { String::new() } else { format!(" ({missing} not finite)") };
        let (color, end) = (index % COLORS, x + 14.0);
        writeln!(svg, "<line class=\"key s{color}\" x1=\"{x}\" y1=\"10\" x2=\"{end}\" y2=\"10\"/>")?;
        writeln!(svg, "<text x=\"{}\" y=\"14\">{}{note}</text>", x + 20.0, Escaped(series.name))?;
        // Nothing measures text here; seven pixels a character is a little more than it takes.
        x += 40.0 + 7.0 * (series.name.chars().count() + note.len()) as f64;
    }
    Ok(())
}

/// Beyond this, differences of two values overflow.
fn can_be_drawn(value: f64) -> bool {
    value.abs() < 1e300
}

/// Joins points into lines, broken where a value is missing. Of the points in one pixel's column only the lowest and the
/// highest stay, so that a peak stays a peak however long the series is.
fn thin(points: impl Iterator<Item = (f64, Option<f64>)>) -> Vec<Vec<(f64, f64)>> {
    let mut lines = vec![Vec::new()];
    let mut column: Vec<(f64, f64)> = Vec::new();
    let flush = |column: &mut Vec<(f64, f64)>, lines: &mut Vec<Vec<(f64, f64)>>| {
        let index = |pick: fn(f64, f64) -> bool| {
            (0..column.len())
                .reduce(|best, next| if pick(column[next].1, column[best].1) { next } else { best })
        };
        let mut kept: Vec<usize> = [index(|a, b| a < b), index(|a, b| a > b)].into_iter().flatten().collect();
        kept.sort_unstable();
        kept.dedup();
        if let Some(line) = lines.last_mut() {
            line.extend(kept.into_iter().map(|index| column[index]));
        }
        column.clear();
    };
    for (x, y) in points {
        let same = column.last().is_some_and(|last| last.0.floor() == x.floor());
        if !same || y.is_none() {
            flush(&mut column, &mut lines);
        }
        match y {
            Some(y) => column.push((x, y)),
            None => lines.push(Vec::new()),
        }
    }
    flush(&mut column, &mut lines);
    lines.retain(|line| !line.is_empty());
    lines
}

/// From values to pixels, with marks at round values.
#[derive(Debug)]
struct Axis {
    low: f64,
    high: f64,
    tick: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// An axis for these values that runs from pixel `from` to pixel `to`.
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let range = values.fold(None, |range: Option<(f64, f64)>, value| {
            Some(range.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
        });
        let (mut low, mut high) = range.unwrap_or((0.0, 1.0));
        if high - low <= 1e-12 * high.abs().max(low.abs()) {
            let margin = if high == 0.0 { 1.0 } else { 0.1 * high.abs() };
            (low, high) = (low - margin, high + margin);
        }
        Self { low, high, tick: round_step((high - low) / 6.0), from, to }
    }

    /// The axis made longer to end with ticks.
    fn ending_with_ticks(self) -> Self {
        let Self { low, high, tick, .. } = self;
        Self { low: (low / tick).floor() * tick, high: (high / tick).ceil() * tick, ..self }
    }

    fn place(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// The multiples of a round number that lie on the axis: two to seven of them.
    fn ticks(&self) -> impl Iterator<Item = f64> {
        let (first, last) = ((self.low / self.tick).ceil(), (self.high / self.tick).floor());
        (0..=(last - first) as usize).map(move |index| (first + index as f64) * self.tick)
    }

    /// A tick's value with the digits that tell it from its neighbours: `0.25`, `20k`, `2e-5`.
    fn label(&self, tick: f64) -> String {
        let largest = self.low.abs().max(self.high.abs());
        if tick == 0.0 {
            return "0".to_owned();
        }
        let (unit, suffix) = match largest {
            n if !(1e-4..1e13).contains(&n) => return format!("{tick:.1e}").replace(".0e", "e"),
            n if n >= 1e10 => (1e9, "G"),
            n if n >= 1e7 => (1e6, "M"),
            n if n >= 1e4 => (1e3, "k"),
            _ => (1.0, ""),
        };
        let digits = (-(self.tick / unit).log10().floor()).clamp(0.0, 9.0) as usize;
        format!("{:.digits$}{suffix}", tick / unit)
    }
}

/// The smallest of 1, 2 or 5 times a power of ten that is not less.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let rounds_up = |factor: &f64| factor * power >= least * (1.0 - 1e-9);
    [1.0, 2.0, 5.0].into_iter().find(rounds_up).unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(low: f64, high: f64) -> Vec<String> {
        let axis = Axis::over([low, high].into_iter(), 0.0, 100.0);
        axis.ticks().map(|tick| axis.label(tick)).collect()
    }

    #[test]
    fn ticks_are_round_and_lie_on_the_axis() {
        assert_eq!(labels(0.0, 1.0), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(1.0, 660.0), ["200", "400", "600"]);
        assert_eq!(labels(0.93, 0.981), ["0.93", "0.94", "0.95", "0.96", "0.97", "0.98"]);
        assert_eq!(labels(0.0, 100_000.0), ["0", "20k", "40k", "60k", "80k", "100k"]);
        assert_eq!(labels(0.0, 1e-5), ["0", "2e-6", "4e-6", "6e-6", "8e-6", "1e-5"]);
        assert_eq!(labels(-1.5, 1.5), ["-1.5", "-1.0", "-0.5", "0", "0.5", "1.0", "1.5"]);
        assert_eq!(
            labels(12_000_000.0, 12_600_000.0),
            ["12.0M", "12.1M", "12.2M", "12.3M", "12.4M", "12.5M", "12.6M"]
        );
    }

    #[test]
    fn every_range_has_a_few_ticks() {
        for low in [0.0, 1e-9, 0.3, 7.0, 1e6, -1e250, -2.5] {
            for span in [1e-6, 0.02, 1.0, 33.0, 1e9, 1e251] {
                let count = labels(low, low + span).len();
                assert!((2..=7).contains(&count), "{low} + {span}: {count} ticks");
            }
        }
    }

    #[test]
    fn an_axis_made_longer_ends_with_ticks_and_holds_all_values() {
        for (low, high) in [(0.08, 2.33), (-3.0, 17.0), (1e-7, 1.1e-7), (5.0, 5.0)] {
            let axis = Axis::over([low, high].into_iter(), 0.0, 100.0).ending_with_ticks();
            let ticks: Vec<f64> = axis.ticks().collect();
            assert!((axis.place(ticks[0])).abs() < 1e-6, "{axis:?}");
            assert!((axis.place(ticks[ticks.len() - 1]) - 100.0).abs() < 1e-6, "{axis:?}");
            assert!(axis.place(low) >= 0.0 && axis.place(high) <= 100.0, "{axis:?}");
        }
    }

    #[test]
    fn a_single_value_lies_in_the_middle() {
        for value in [0.0, 3.0, -1e-8] {
            let axis = Axis::over([value].into_iter(), 0.0, 100.0);
            assert!((axis.place(value) - 50.0).abs() < 1e-3, "{axis:?}");
        }
        assert_eq!(Axis::over(std::iter::empty(), 0.0, 100.0).place(1.0), 100.0);
    }

    #[test]
    fn thinning_keeps_peaks_and_bounds_the_count() {
        let points =
            |count: usize| (0..count).map(move |i| (i as f64 * 500.0 / count as f64, Some((i % 97) as f64)));
        let mut spiked: Vec<_> = points(100_000).collect();
        spiked[54_321].1 = Some(1e6);
        spiked[12_345].1 = Some(-1e6);
        let lines = thin(spiked.into_iter());
        assert_eq!(lines.len(), 1);
        assert!((500..=1000).contains(&lines[0].len()), "{} points", lines[0].len());
        assert!(lines[0].iter().any(|point| point.1 == 1e6) && lines[0].iter().any(|point| point.1 == -1e6));
        assert!(lines[0].is_sorted_by_key(|point| point.0), "in the order of steps");
        assert_eq!(thin(points(97))[0].len(), 97, "a short series is left alone");
    }

    #[test]
    fn a_missing_value_breaks_the_line() {
        let points = [(0.0, Some(1.0)), (0.1, None), (0.2, Some(2.0)), (9.0, Some(3.0)), (9.1, None)];
        assert_eq!(thin(points.into_iter()), [vec![(0.0, 1.0)], vec![(0.2, 2.0), (9.0, 3.0)]]);
    }
}
