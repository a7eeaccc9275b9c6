//! Labels next to the points of a chart, placed so that a label overlaps neither other labels nor dots.
//!
//! If there is no free space, a label is omitted. The dot of the label still has a tooltip, and the tables of the
//! page name all points.

use crate::chart::Color;
use crate::page::Escaped;
use std::fmt::{self, Write};

/// Label of a point or of a horizontal line in a chart.
pub struct Callout<'a> {
    /// Position of the point or of the start of the line, in pixels.
    pub at: (f64, f64),
    /// Text of the label.
    pub text: &'a str,
    /// Color of the point or line. The label of a faint point is faint.
    pub color: Color,
    /// Whether the label belongs to a horizontal line that starts at `at`.
    pub along: bool,
}

/// Rectangle in pixels, where y increases downwards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Area {
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
}

impl Area {
    fn overlaps(&self, other: &Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }

    fn within(&self, other: &Self) -> bool {
        let across = other.left <= self.left && self.right <= other.right;
        across && other.top <= self.top && self.bottom <= other.bottom
    }

    /// Returns the square around a dot that no label may overlap.
    fn around((x, y): (f64, f64)) -> Self {
        Self { left: x - DOT, right: x + DOT, top: y - DOT, bottom: y + DOT }
    }
}

/// Radius of a dot plus a gap, in pixels.
const DOT: f64 = 4.0;
/// Height of a label in pixels.
const LINE: f64 = 12.0;
/// Distances of a label from its point in pixels, tried in order.
///
/// A label at any distance except the first is connected to its point by a leader line.
const DISTANCES: [f64; 3] = [6.0, 13.0, 21.0];
/// Step between the candidate positions of a label along its line, in pixels.
const ALONG: f64 = 24.0;

/// Returns an upper estimate of the width in pixels of a text with a font size of 11 pixels.
///
/// The browser chooses the font, so the width cannot be measured.
fn width(text: &str) -> f64 {
    let letter = |c: char| match c {
        'i' | 'j' | 'l' | 't' | 'f' | 'r' | 'I' | '.' | ',' | '\'' | '-' | ' ' | '(' | ')' => 4.6,
        'm' | 'w' | 'M' | 'W' => 10.6,
        c if c.is_uppercase() => 8.0,
        _ => 6.9,
    };
    text.chars().map(letter).sum()
}

/// Writes all labels for which there is free space. Earlier callouts are placed first.
pub fn write(svg: &mut String, callouts: &[Callout<'_>], dots: &[(f64, f64)], area: &Area) -> fmt::Result {
    let dots: Vec<Area> = dots.iter().copied().map(Area::around).collect();
    for (callout, placement) in callouts.iter().zip(places(callouts, &dots, area)) {
        let Some((place, far)) = placement else { continue };
        let (x, y) = callout.at;
        if far {
            let (to_x, to_y) = (x.clamp(place.left, place.right), y.clamp(place.top, place.bottom));
            writeln!(
                svg,
                "<line class=\"leader\" x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{to_x:.1}\" y2=\"{to_y:.1}\"/>"
            )?;
        }
        // Anchor the text at the end closer to the point, so that a font of a different width does not move the label
        // onto the dot.
        let (at, anchor) = match place {
            place if place.right <= x => (place.right, " text-anchor=\"end\""),
            place if place.left >= x => (place.left, ""),
            place => (place.left.midpoint(place.right), " text-anchor=\"middle\""),
        };
        let (base, text) = (place.bottom - 3.0, Escaped(callout.text));
        let faint = if matches!(callout.color, Color::Faint) { " style=\"fill: var(--faint)\"" } else { "" };
        writeln!(svg, "<text class=\"callout\" x=\"{at:.1}\" y=\"{base:.1}\"{anchor}{faint}>{text}</text>")?;
    }
    Ok(())
}

/// Returns the place of each label and whether the label needs a leader line; `None` if there is no free space.
fn places(callouts: &[Callout<'_>], dots: &[Area], area: &Area) -> Vec<Option<(Area, bool)>> {
    let mut taken: Vec<Area> = Vec::new();
    let mut places = Vec::with_capacity(callouts.len());
    for callout in callouts {
        let width = width(callout.text);
        let free = |place: &Area| {
            place.within(area) && !dots.iter().chain(&taken).any(|other| place.overlaps(other))
        };
        // A place is clear if no labeled line crosses it.
        let lines = || callouts.iter().filter(|other| other.along).map(|other| other.at.1);
        let clear = |place: &Area| !lines().any(|y| place.top - 1.0 < y && y < place.bottom + 1.0);
        let found = if callout.along {
            let mut spots = on_line(callout.at, width, area);
            spots.find(|place| clear(place) && free(place)).map(|place| (place, false))
        } else {
            let spots = || {
                let spots = DISTANCES.iter().map(|&distance| (distance, around(callout.at, distance, width)));
                spots.flat_map(|(distance, places)| places.map(|place| (place, distance > DISTANCES[0])))
            };
            // If every free place is crossed by a line, use one of them.
            let found = spots().find(|(place, _)| clear(place) && free(place));
            found.or_else(|| spots().find(|(place, _)| free(place)))
        };
        taken.extend(found.map(|(place, _)| place));
        places.push(found);
    }
    places
}

/// Returns candidate places for the label of a line: first above the line, then below, each from left to right.
fn on_line((x, y): (f64, f64), width: f64, area: &Area) -> impl Iterator<Item = Area> {
    let steps = ((area.right - x - width) / ALONG).max(0.0) as usize;
    [y - LINE - 2.0, y + 2.0].into_iter().flat_map(move |top| {
        (0..=steps).map(move |step| {
            let left = x + DOT + ALONG * step as f64;
            Area { left, right: left + width, top, bottom: top + LINE }
        })
    })
}

/// Returns candidate places for the label of a point at one distance, in order of preference.
fn around((x, y): (f64, f64), distance: f64, width: f64) -> [Area; 8] {
    let place = |left: f64, middle: f64| Area {
        left,
        right: left + width,
        top: middle - LINE / 2.0,
        bottom: middle + LINE / 2.0,
    };
    let (left, right, middle) = (x - distance - width, x + distance, x - width / 2.0);
    // The offsets of diagonal places are smaller, so that all places have about the same distance to the point.
    let (above, below, corner) = (y - distance - LINE / 2.0, y + distance + LINE / 2.0, 0.7 * distance);
    [
        place(left, y),
        place(right, y),
        place(x - corner - width, y - corner - 3.0),
        place(x + corner, y + corner + 3.0),
        place(middle, above),
        place(middle, below),
        place(x + corner, y - corner - 3.0),
        place(x - corner - width, y + corner + 3.0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const AREA: Area = Area { left: 0.0, right: 400.0, top: 0.0, bottom: 200.0 };

    fn random_points() -> Vec<(f64, f64)> {
        let mut random = wgrad_stdx::random::SplitMix64(3);
        (0..60).map(|_| (random.below(400) as f64, random.below(200) as f64)).collect()
    }

    #[test]
    fn labels_stay_inside_and_do_not_overlap() {
        let points = random_points();
        let callouts: Vec<Callout<'_>> = points
            .iter()
            .map(|&at| Callout { at, text: "AlexNet", color: Color::Faint, along: false })
            .collect();
        let dots: Vec<Area> = points.iter().copied().map(Area::around).collect();
        let placed: Vec<Area> =
            places(&callouts, &dots, &AREA).into_iter().flatten().map(|(place, _)| place).collect();
        assert!(
            (15..60).contains(&placed.len()),
            "expected 15 to 59 of 60 labels to be placed, found {}",
            placed.len()
        );
        for (index, place) in placed.iter().enumerate() {
            assert!(place.within(&AREA), "{place:?}");
            assert!(!dots.iter().chain(&placed[..index]).any(|other| place.overlaps(other)), "{place:?}");
        }
    }

    #[test]
    fn first_label_is_nearest_and_far_labels_have_leaders() {
        let at = (200.0, 100.0);
        let callout = |text| Callout { at, text, color: Color::Category(0), along: false };
        let all: Vec<Callout<'_>> =
            ["a&b", "second", "third", "4", "5", "6", "7", "8", "9", "10"].map(callout).into();
        let mut svg = String::new();
        write(&mut svg, &all, &[at], &AREA).unwrap();
        assert!(svg.contains(">a&amp;b</text>"), "{svg}");
        let leaders = svg.matches("class=\"leader\"").count();
        assert!((1..9).contains(&leaders), "{svg}");
        assert!(svg.find("a&amp;b").unwrap() < svg.find("leader").unwrap());
    }

    #[test]
    fn label_of_a_line_is_not_crossed_by_any_line() {
        // Two lines are close together, and the third line has a dot above it.
        let ends = [(0.0, 100.0), (0.0, 106.0), (0.0, 40.0)];
        let callouts =
            ends.map(|at| Callout { at, text: "a day of the cpu", color: Color::Faint, along: true });
        let dots = [Area::around((30.0, 30.0))];
        let mut callouts: Vec<Callout<'_>> = callouts.into();
        // The preferred place of a point just below a line is crossed by the line.
        callouts.push(Callout {
            at: (300.0, 41.0),
            text: "AlexNet",
            color: Color::Category(0),
            along: false,
        });
        let mut placed = places(&callouts, &dots, &AREA);
        let (point, _) = placed.remove(ends.len()).unwrap();
        assert!(point.bottom <= 40.0 || point.top >= 40.0, "{point:?}");
        for (place, (_, y)) in placed.iter().zip(ends) {
            let (place, far) = place.unwrap();
            assert!(!far && place.within(&AREA) && !place.overlaps(&dots[0]), "{place:?}");
            assert!(
                (place.bottom - y).abs() < 4.0 || (place.top - y).abs() < 4.0,
                "{place:?} is far from {y}"
            );
            for (_, line) in ends {
                assert!(line <= place.top || place.bottom <= line, "the line at {line} crosses {place:?}");
            }
        }
    }
}
