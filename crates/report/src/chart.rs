//! Line and scatter charts as inline SVG, with ticks at round values and a legend.
//!
//! Long series are downsampled to the resolution of the chart.

use crate::axis::{Axis, Scale};
use crate::callout::{self, Callout};
use crate::page::Escaped;
use std::borrow::Cow;
use std::fmt::{self, Write};

const WIDTH: f64 = 520.0;
/// Width in pixels of a chart that is as wide as the page.
const WIDE: f64 = 1080.0;
const LEFT: f64 = 58.0;
/// Right margin, with space for half of the label of the last tick.
const RIGHT: f64 = 20.0;
/// Top margin above the legend.
const TOP: f64 = 10.0;
const LEGEND_ROW: f64 = 18.0;
const BOTTOM: f64 = 40.0;
/// Maximum number of points of a line that is drawn with dots.
const MAX_DOTS: usize = 24;
/// Minimum distance between ticks on the x axis in pixels, so that the tick labels do not overlap.
const MIN_LABEL_DISTANCE: f64 = 26.0;

/// Chart with two axes and any number of series.
pub struct Chart<'a> {
    /// Description for screen readers.
    pub title: &'a str,
    /// Horizontal axis.
    pub x: Dimension<'a>,
    /// Vertical axis.
    pub y: Dimension<'a>,
    /// Height of the plot area in pixels. The plot area is 448 pixels wide, or 1008 in a wide chart.
    pub height: f64,
    /// Series in drawing order. Later series are drawn on top of earlier series.
    pub series: Vec<Series<'a>>,
}

/// Scale, label and ticks of an axis.
#[derive(Default)]
pub struct Dimension<'a> {
    /// Label at the end of the horizontal axis. Not drawn on the vertical axis, whose quantity is named in the caption.
    pub label: &'a str,
    /// Scale of the axis.
    pub scale: Scale,
    /// Values that the axis always includes, e.g. to make several charts comparable.
    pub holds: Vec<f64>,
    /// Values of the ticks. If empty, ticks are at round values.
    pub ticks: Vec<f64>,
    /// Whether ticks are limited to integers.
    pub whole: bool,
}

/// Series of points in a chart, drawn as a line or as dots.
#[derive(Default)]
pub struct Series<'a> {
    /// Name in the legend. If empty, the series is not listed.
    pub name: Cow<'a, str>,
    /// Points (x, y) in order of increasing x. A value that the axis cannot draw leaves a gap in the line.
    pub points: Vec<(f64, f64)>,
    /// Shaded band behind the line, as (x, lowest y, highest y). If empty, no band is drawn.
    pub band: Vec<(f64, f64, f64)>,
    /// x values of points above the vertical axis, drawn as crosses at the upper edge.
    pub crosses: Vec<f64>,
    /// Color of the line, band and dots.
    pub color: Color,
    /// Whether the line is dashed.
    pub dashed: bool,
    /// Whether the line is thin and has no dots, for charts of many lines.
    pub thin: bool,
    /// Names of the points, shown as tooltips. If not empty, the points are drawn as dots without a line.
    pub labels: Vec<Cow<'a, str>>,
    /// Label placed along the line, if the line is horizontal. `None` for no label.
    pub along: Option<Cow<'a, str>>,
    /// Labels next to points, each with the index of its point.
    ///
    /// Earlier labels are placed first. A label without free space is omitted.
    pub callouts: Vec<(usize, Cow<'a, str>)>,
}

/// Color from the style sheet. The colors of each palette can be distinguished with color vision deficiency.
#[derive(Clone, Copy)]
pub enum Color {
    /// One of four unordered colors. The index is taken modulo 4.
    Category(usize),
    /// Color on a ramp for ordered series, at a position from 0 to 1.
    Ordered(f64),
    /// Faint color of reference lines and points.
    Faint,
}

impl Default for Color {
    fn default() -> Self {
        Self::Category(0)
    }
}

impl fmt::Display for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Category(index) => write!(f, "s{}", index % 4),
            Self::Ordered(place) => write!(f, "q{:.0}", (place * 7.0).clamp(0.0, 7.0)),
            Self::Faint => f.write_str("sf"),
        }
    }
}

/// Default height of the plot area in pixels.
pub const HEIGHT: f64 = 212.0;

/// Writes a chart that is half as wide as the page.
///
/// # Errors
/// Returns an error if formatting a value fails.
pub fn write(svg: &mut String, chart: &Chart<'_>) -> fmt::Result {
    write_with_width(svg, chart, WIDTH)
}

/// Writes a chart that is as wide as the page.
///
/// # Errors
/// Returns an error if formatting a value fails.
pub fn write_wide(svg: &mut String, chart: &Chart<'_>) -> fmt::Result {
    write_with_width(svg, chart, WIDE)
}

fn write_with_width(svg: &mut String, chart: &Chart<'_>, width: f64) -> fmt::Result {
    let Chart { title, x: across, y: up, series, .. } = chart;
    let legend = Legend::new(series, up.scale, width);
    let top = TOP + legend.rows as f64 * LEGEND_ROW;
    let bottom = top + chart.height;
    let drawable = || {
        let all = series.iter().flat_map(|series| series.points.iter());
        all.filter(|point| across.scale.holds(point.0) && up.scale.holds(point.1))
    };
    let band = series.iter().flat_map(|series| series.band.iter().flat_map(|(_, low, high)| [*low, *high]));
    let crosses = series.iter().flat_map(|series| series.crosses.iter().copied());
    let xs = drawable().map(|point| point.0).chain(crosses).chain(across.holds.iter().copied());
    let ys = drawable().map(|point| point.1).chain(band).chain(up.holds.iter().copied());
    let xs = xs.filter(|x| across.scale.holds(*x));
    let ys = ys.filter(|y| up.scale.holds(*y));
    let x = Axis::over(across.scale, xs, LEFT, width - RIGHT);
    let y = Axis::over(up.scale, ys, bottom, top).ending_with_ticks();
    let (height, title) = (bottom + BOTTOM, Escaped(title));
    writeln!(svg, "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\">")?;
    write_axes(svg, across, (&x, &y), (width - RIGHT, bottom))?;
    let plotted = || {
        series
            .iter()
            .zip(series.iter().map(|series| PixelSeries::new(series, (across.scale, up.scale), &x, &y)))
    };
    for (series, plotted) in plotted() {
        plotted.write_band(svg, series)?;
    }
    for (series, plotted) in plotted() {
        plotted.write_line(svg, series)?;
        for cross in series.crosses.iter().filter(|cross| across.scale.holds(**cross)) {
            let (at, color) = (x.place(*cross), series.color);
            let (left, right, low) = (at - 4.0, at + 4.0, top + 8.0);
            writeln!(
                svg,
                "<path class=\"cross {color}\" d=\"M{left:.1} {top}L{right:.1} {low}M{left:.1} {low}L{right:.1} {top}\"/>"
            )?;
        }
    }
    let area = callout::Area { left: LEFT, right: width - RIGHT, top, bottom };
    write_callouts(
        svg,
        series,
        |(at, value)| {
            (across.scale.holds(at) && up.scale.holds(value)).then(|| (x.place(at), y.place(value)))
        },
        &area,
    )?;
    legend.write(svg)?;
    svg.push_str("</svg>\n");
    Ok(())
}

/// Writes the labels of lines and points.
fn write_callouts(
    svg: &mut String,
    series: &[Series<'_>],
    place: impl Fn((f64, f64)) -> Option<(f64, f64)>,
    area: &callout::Area,
) -> fmt::Result {
    // Labels of lines are placed first, because lines have no tooltip.
    let lines = series.iter().filter_map(|series| {
        let (text, at) = (series.along.as_deref()?, place(*series.points.first()?)?);
        Some(Callout { at, text, color: series.color, along: true })
    });
    let points =
        series.iter().flat_map(|series| series.callouts.iter().map(move |callout| (series, callout)));
    let points = points.filter_map(|(series, (index, text))| {
        Some(Callout { at: place(*series.points.get(*index)?)?, text, color: series.color, along: false })
    });
    let callouts: Vec<Callout<'_>> = lines.chain(points).collect();
    if callouts.is_empty() {
        return Ok(());
    }
    let dots = series.iter().filter(|series| !series.labels.is_empty() || !series.callouts.is_empty());
    let dots: Vec<(f64, f64)> =
        dots.flat_map(|series| series.points.iter().copied().filter_map(&place)).collect();
    callout::write(svg, &callouts, &dots, area)
}

fn write_axes(
    svg: &mut String,
    across: &Dimension<'_>,
    (x, y): (&Axis, &Axis),
    (right, bottom): (f64, f64),
) -> fmt::Result {
    for tick in y.ticks() {
        let (at, label) = (y.place(tick), y.label(tick));
        writeln!(svg, "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\"/>")?;
        writeln!(svg, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", LEFT - 8.0, at + 4.0)?;
    }
    let ticks = if across.ticks.is_empty() { x.ticks() } else { across.ticks.clone() };
    let mut last = f64::NEG_INFINITY;
    for tick in ticks.into_iter().filter(|tick| !across.whole || tick.fract() == 0.0) {
        let at = x.place(tick);
        if at - last < MIN_LABEL_DISTANCE {
            continue;
        }
        last = at;
        let label = if across.ticks.is_empty() { x.label(tick) } else { tick.to_string() };
        writeln!(svg, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>", bottom + 18.0)?;
    }
    let label = Escaped(across.label);
    writeln!(svg, "<text x=\"{right}\" y=\"{}\" text-anchor=\"end\">{label}</text>", bottom + 36.0)
}

/// Series of a chart in pixel coordinates.
struct PixelSeries {
    lines: Vec<Vec<(f64, f64)>>,
    band: Vec<(f64, f64, f64)>,
    /// Dots without a line, as (x, y, name).
    dots: Vec<(f64, f64, String)>,
}

impl PixelSeries {
    fn new(series: &Series<'_>, (across, up): (Scale, Scale), x: &Axis, y: &Axis) -> Self {
        let holds = |at: f64, value: f64| across.holds(at) && up.holds(value);
        if !series.labels.is_empty() {
            // A point that cannot be drawn is omitted with its label.
            let named = series.points.iter().zip(&series.labels).filter(|(point, _)| holds(point.0, point.1));
            let dots = named.map(|(point, label)| (x.place(point.0), y.place(point.1), label.to_string()));
            return Self { lines: Vec::new(), band: Vec::new(), dots: dots.collect() };
        }
        let within = series.points.iter().filter(|point| across.holds(point.0));
        let placed = within.map(|&(at, value)| (x.place(at), up.holds(value).then(|| y.place(value))));
        let scale = up;
        let band = series.band.iter().filter(|(_, low, high)| scale.holds(*low) && scale.holds(*high));
        let band = band.map(|&(at, low, high)| (x.place(at), y.place(low), y.place(high)));
        Self { lines: downsample(placed), band: band.collect(), dots: Vec::new() }
    }

    fn write_band(&self, svg: &mut String, series: &Series<'_>) -> fmt::Result {
        if self.band.len() < 2 {
            return Ok(());
        }
        write!(svg, "<path class=\"band {}\" d=\"M", series.color)?;
        let lower = self.band.iter().map(|(x, low, _)| (x, low));
        let upper = self.band.iter().rev().map(|(x, _, high)| (x, high));
        for (index, (x, y)) in lower.chain(upper).enumerate() {
            write!(svg, "{}{x:.1} {y:.1}", if index == 0 { "" } else { "L" })?;
        }
        svg.push_str("Z\"/>\n");
        Ok(())
    }

    fn write_line(&self, svg: &mut String, series: &Series<'_>) -> fmt::Result {
        let (color, dashed) = (series.color, if series.dashed { " dashed" } else { "" });
        let weak = if series.thin { " thin" } else { "" };
        for (x, y, label) in &self.dots {
            let label = Escaped(label);
            writeln!(
                svg,
                "<circle class=\"dot {color}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.2\"><title>{label}</title></circle>"
            )?;
        }
        if self.lines.is_empty() {
            return Ok(());
        }
        write!(svg, "<path class=\"line {color}{dashed}{weak}\" d=\"")?;
        for line in &self.lines {
            for (index, (x, y)) in line.iter().enumerate() {
                write!(svg, "{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' })?;
            }
            // Browsers do not draw a path with a single point. A segment of length 0 makes the point visible as a dot.
            if line.len() == 1 {
                svg.push_str("h0");
            }
        }
        svg.push_str("\"/>\n");
        if series.points.len() <= MAX_DOTS && !series.thin && !matches!(color, Color::Faint) {
            for (x, y) in self.lines.iter().flatten() {
                writeln!(svg, "<circle class=\"dot {color}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.4\"/>")?;
            }
        }
        Ok(())
    }
}

/// Legend with the names and line styles of the series, in one or more rows.
struct Legend<'a> {
    /// x and y of the line sample, the series, and a note after the name of the series.
    entries: Vec<(f64, f64, &'a Series<'a>, String)>,
    rows: usize,
}

impl<'a> Legend<'a> {
    fn new(series: &'a [Series<'a>], scale: Scale, right: f64) -> Self {
        let mut legend = Self { entries: Vec::new(), rows: 1 };
        let mut x = LEFT;
        for series in series.iter().filter(|series| !series.name.is_empty()) {
            let note = omitted_note(series, scale);
            // Seven pixels per character is an upper estimate: the browser chooses the font, so text cannot be
            // measured.
            let width = 40.0 + 7.0 * (series.name.chars().count() + note.len()) as f64;
            if x > LEFT && x + width > right + 8.0 {
                (x, legend.rows) = (LEFT, legend.rows + 1);
            }
            legend.entries.push((x, 10.0 + (legend.rows - 1) as f64 * LEGEND_ROW, series, note));
            x += width;
        }
        legend
    }

    fn write(&self, svg: &mut String) -> fmt::Result {
        for (x, y, series, note) in &self.entries {
            let (color, end) = (series.color, x + 14.0);
            let dashed = if series.dashed { " dashed" } else { "" };
            writeln!(
                svg,
                "<line class=\"key {color}{dashed}\" x1=\"{x}\" y1=\"{y}\" x2=\"{end}\" y2=\"{y}\"/>"
            )?;
            writeln!(
                svg,
                "<text x=\"{}\" y=\"{}\">{}{note}</text>",
                x + 20.0,
                y + 4.0,
                Escaped(&series.name)
            )?;
        }
        Ok(())
    }
}

/// Returns the note in the legend about points that cannot be drawn; empty if there are none.
fn omitted_note(series: &Series<'_>, scale: Scale) -> String {
    let values = || series.points.iter().map(|point| point.1).filter(|value| !scale.holds(*value));
    let finite = values().filter(|value| Scale::Linear.holds(*value)).count();
    let mut note = String::new();
    for (count, what) in [(values().count() - finite, "not finite"), (finite, "not above 0")] {
        if count > 0 {
            note += &format!(" ({count} {what})");
        }
    }
    note
}

/// Joins points into lines that break where a value is missing.
///
/// Only the lowest and the highest point in each column of pixels are kept, so that peaks stay visible.
fn downsample(points: impl Iterator<Item = (f64, Option<f64>)>) -> Vec<Vec<(f64, f64)>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn downsampling_keeps_peaks_and_limits_the_number_of_points() {
        let points =
            |count: usize| (0..count).map(move |i| (i as f64 * 500.0 / count as f64, Some((i % 97) as f64)));
        let mut spiked: Vec<_> = points(100_000).collect();
        spiked[54_321].1 = Some(1e6);
        spiked[12_345].1 = Some(-1e6);
        let lines = downsample(spiked.into_iter());
        assert_eq!(lines.len(), 1);
        assert!(
            (500..=1000).contains(&lines[0].len()),
            "expected 500 to 1000 points, found {}",
            lines[0].len()
        );
        assert!(lines[0].iter().any(|point| point.1 == 1e6) && lines[0].iter().any(|point| point.1 == -1e6));
        assert!(lines[0].is_sorted_by_key(|point| point.0), "the points are not sorted by x");
        assert_eq!(downsample(points(97))[0].len(), 97, "a short series must keep all points");
    }

    #[test]
    fn missing_value_breaks_the_line() {
        let points = [(0.0, Some(1.0)), (0.1, None), (0.2, Some(2.0)), (9.0, Some(3.0)), (9.1, None)];
        assert_eq!(downsample(points.into_iter()), [vec![(0.0, 1.0)], vec![(0.2, 2.0), (9.0, 3.0)]]);
    }
}
