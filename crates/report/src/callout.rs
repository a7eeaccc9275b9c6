//! What is written beside points of a chart: near its point, clear of all others and of all dots, or not at all. A dot still tells
//! its name to who points at it, and tables below name them all.

use crate::chart::Color;
use crate::page::Escaped;
use std::fmt::{self, Write};

/// A text that is wanted beside a point.
pub struct Callout<'a> {
    /// The point, in pixels.
    pub at: (f64, f64),
    /// The text.
    pub text: &'a str,
    /// The point's colour; a faint point has a faint text.
    pub color: Color,
    /// Whether it is the left end of a level line that the text belongs to.
    pub along: bool,
}

/// A part of the picture, in pixels; y goes down.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Area {
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
}

impl Area {
    fn meets(&self, other: &Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }

    fn within(&self, other: &Self) -> bool {
        let across = other.left <= self.left && self.right <= other.right;
        across && other.top <= self.top && self.bottom <= other.bottom
    }

    /// The square around a dot that no text may touch.
    fn around((x, y): (f64, f64)) -> Self {
        Self { left: x - DOT, right: x + DOT, top: y - DOT, bottom: y + DOT }
    }
}

/// Half a dot and a gap.
const DOT: f64 = 4.0;
const LINE: f64 = 12.0;
/// How far from its point a text stands: the first distance that is free, and a thin line leads to the later ones.
const DISTANCES: [f64; 3] = [6.0, 13.0, 21.0];
/// How far along its line a text begins: the first place that is free.
const ALONG: f64 = 24.0;

/// What a text of 11 pixels takes in a wide font; nothing here measures text.
fn width(text: &str) -> f64 {
    let letter = |c: char| match c {
        'i' | 'j' | 'l' | 't' | 'f' | 'r' | 'I' | '.' | ',' | '\'' | '-' | ' ' | '(' | ')' => 4.6,
        'm' | 'w' | 'M' | 'W' => 10.6,
        c if c.is_uppercase() => 8.0,
        _ => 6.9,
    };
    text.chars().map(letter).sum()
}

/// Writes those texts for which there is room.
pub fn write(svg: &mut String, wanted: &[Callout<'_>], dots: &[(f64, f64)], area: &Area) -> fmt::Result {
    let dots: Vec<Area> = dots.iter().copied().map(Area::around).collect();
    for (callout, spot) in wanted.iter().zip(places(wanted, &dots, area)) {
        let Some((place, far)) = spot else { continue };
        let (x, y) = callout.at;
        if far {
            let (to_x, to_y) = (x.clamp(place.left, place.right), y.clamp(place.top, place.bottom));
            writeln!(
                svg,
                "<line class=\"leader\" x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{to_x:.1}\" y2=\"{to_y:.1}\"/>"
            )?;
        }
        // By the end that is nearer to the point, so that a font of another width does not move it away or onto the dot.
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

/// Where each text stands, and whether that is far from its point; none where there is no room.
fn places(wanted: &[Callout<'_>], dots: &[Area], area: &Area) -> Vec<Option<(Area, bool)>> {
    let mut taken: Vec<Area> = Vec::new();
    let mut places = Vec::with_capacity(wanted.len());
    for callout in wanted {
        let width = width(callout.text);
        let free =
            |place: &Area| place.within(area) && !dots.iter().chain(&taken).any(|other| place.meets(other));
        // Whether no line with a text strikes it through.
        let lines = || wanted.iter().filter(|other| other.along).map(|other| other.at.1);
        let clear = |place: &Area| !lines().any(|y| place.top - 1.0 < y && y < place.bottom + 1.0);
        let found = if callout.along {
            let mut spots = on_line(callout.at, width, area);
            spots.find(|place| clear(place) && free(place)).map(|place| (place, false))
        } else {
            let spots = || {
                let spots = DISTANCES.iter().map(|&distance| (distance, around(callout.at, distance, width)));
                spots.flat_map(|(distance, places)| places.map(|place| (place, distance > DISTANCES[0])))
            };
            // Better on a line than not at all.
            let found = spots().find(|(place, _)| clear(place) && free(place));
            found.or_else(|| spots().find(|(place, _)| free(place)))
        };
        taken.extend(found.map(|(place, _)| place));
        places.push(found);
    }
    places
}

/// Places of a text on its line: above it, then below it, each from the left on.
fn on_line((x, y): (f64, f64), width: f64, area: &Area) -> impl Iterator<Item = Area> {
    let steps = ((area.right - x - width) / ALONG).max(0.0) as usize;
    [y - LINE - 2.0, y + 2.0].into_iter().flat_map(move |top| {
        (0..=steps).map(move |step| {
            let left = x + DOT + ALONG * step as f64;
            Area { left, right: left + width, top, bottom: top + LINE }
        })
    })
}

/// Places of a text around its point: left above first, where a rising cloud of points has room, then right below.
fn around((x, y): (f64, f64), distance: f64, width: f64) -> [Area; 8] {
    let place = |left: f64, middle: f64| Area {
        left,
        right: left + width,
        top: middle - LINE / 2.0,
        bottom: middle + LINE / 2.0,
    };
    let (left, right, middle) = (x - distance - width, x + distance, x - width / 2.0);
    // A little nearer across the corner.
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

    fn cloud() -> Vec<(f64, f64)> {
        let mut random = wgrad_stdx::random::SplitMix64(3);
        (0..60).map(|_| (random.below(400) as f64, random.below(200) as f64)).collect()
    }

    #[test]
    fn texts_stay_inside_and_clear_of_dots_and_of_each_other() {
        let points = cloud();
        let wanted: Vec<Callout<'_>> = points
            .iter()
            .map(|&at| Callout { at, text: "AlexNet", color: Color::Faint, along: false })
            .collect();
        let dots: Vec<Area> = points.iter().copied().map(Area::around).collect();
        let placed: Vec<Area> =
            places(&wanted, &dots, &AREA).into_iter().flatten().map(|(place, _)| place).collect();
        assert!((15..60).contains(&placed.len()), "{} of 60 have room, some have none", placed.len());
        for (index, place) in placed.iter().enumerate() {
            assert!(place.within(&AREA), "{place:?}");
            assert!(!dots.iter().chain(&placed[..index]).any(|other| place.meets(other)), "{place:?}");
        }
    }

    #[test]
    fn the_first_wanted_is_nearest_and_a_far_one_has_a_line() {
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
    fn a_text_on_a_line_is_struck_through_by_none() {
        // Two close together, and one above which a dot stands.
        let ends = [(0.0, 100.0), (0.0, 106.0), (0.0, 40.0)];
        let wanted =
            ends.map(|at| Callout { at, text: "a day of the cpu", color: Color::Faint, along: true });
        let dots = [Area::around((30.0, 30.0))];
        let mut wanted: Vec<Callout<'_>> = wanted.into();
        // A point just beside a line, whose text would stand on it.
        wanted.push(Callout { at: (300.0, 41.0), text: "AlexNet", color: Color::Category(0), along: false });
        let mut placed = places(&wanted, &dots, &AREA);
        let (point, _) = placed.remove(ends.len()).unwrap();
        assert!(point.bottom <= 40.0 || point.top >= 40.0, "{point:?}");
        for (place, (_, y)) in placed.iter().zip(ends) {
            let (place, far) = place.unwrap();
            assert!(!far && place.within(&AREA) && !place.meets(&dots[0]), "{place:?}");
            assert!(
                (place.bottom - y).abs() < 4.0 || (place.top - y).abs() < 4.0,
                "{place:?} is far from {y}"
            );
            for (_, line) in ends {
                assert!(line <= place.top || place.bottom <= line, "{place:?} is struck through at {line}");
            }
        }
    }
}
