//! Generates WGSL expressions for the offsets and bounds of a layout over the index variables of a kernel.
//!
//! All arithmetic is in u32 and may wrap: an offset with negative parts is correct modulo 2³² wherever the element has
//! storage. Sizes and strides are literals, so that compilers turn divisions into multiplications.

use std::collections::HashSet;
use std::fmt::Write;
use std::ops::Range;

use wgrad_graph::Layout;

/// An index variable, and the sizes of the dimensions that it enumerates in row-major order.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    pub name: &'static str,
    pub sizes: Vec<usize>,
}

/// One dimension of an axis, or several that are contiguous and therefore merged.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    axis: usize,
    /// Divisor of the coordinate `variable / divide % modulo`.
    divide: usize,
    /// Modulus of the coordinate. `None` if the quotient is already small enough.
    modulo: Option<usize>,
    size: usize,
    stride: isize,
    /// Stride of this term in the coordinate of each bound.
    bounds: Vec<isize>,
}

impl Term {
    /// Whether an outer dimension with these strides can be merged into this term.
    fn can_merge(&self, outer: isize, bounds: &[isize]) -> bool {
        let size = self.size as isize;
        outer == self.stride * size
            && bounds.iter().zip(&self.bounds).all(|(&outer, &own)| outer == own * size)
    }

    /// Whether the offset or a bound depends on the coordinate.
    fn has_effect(&self) -> bool {
        self.stride != 0 || self.bounds.iter().any(|&stride| stride != 0)
    }
}

/// A layout that is decomposed into terms over axes.
#[derive(Debug)]
pub(crate) struct Address {
    constant: isize,
    terms: Vec<Term>,
    /// Offset and size of the coordinate of each bound.
    bounds: Vec<(isize, usize)>,
    /// Whether all indices are padding, so that no element is read.
    pub is_void: bool,
}

impl Address {
    /// Decomposes a layout whose shape consists of the sizes of all `axes` in order, or of the first axes only.
    pub fn new(layout: &Layout, axes: &[Axis]) -> Address {
        let bounds = layout.bounds.iter().map(|bound| (bound.offset, bound.size)).collect();
        let mut address =
            Address { constant: layout.offset, terms: Vec::new(), bounds, is_void: layout.is_all_padding() };
        let mut first = 0;
        for (number, axis) in axes.iter().enumerate() {
            if first == layout.shape.len() {
                break;
            }
            address.add_axis(layout, number, first..first + axis.sizes.len());
            first += axis.sizes.len();
        }
        address
    }

    /// Adds the terms of one axis.
    fn add_axis(&mut self, layout: &Layout, axis: usize, dims: Range<usize>) {
        let total: usize = layout.shape[dims.clone()].iter().product();
        let mut terms: Vec<Term> = Vec::new();
        let mut divide = 1;
        for dim in dims.rev().filter(|&dim| layout.shape[dim] != 1) {
            let (size, stride) = (layout.shape[dim], layout.strides[dim]);
            let bounds: Vec<isize> = layout.bounds.iter().map(|bound| bound.strides[dim]).collect();
            match terms.last_mut() {
                Some(inner) if inner.can_merge(stride, &bounds) => inner.size *= size,
                _ => terms.push(Term { axis, divide, modulo: None, size, stride, bounds }),
            }
            divide *= size;
        }
        for term in &mut terms {
            term.modulo = (term.divide * term.size != total).then_some(term.size);
        }
        self.terms.extend(terms.into_iter().filter(Term::has_effect));
    }

    /// Whether the address depends on any of these axes.
    pub fn depends_on(&self, axes: &Range<usize>) -> bool {
        self.terms.iter().any(|term| axes.contains(&term.axis))
    }

    /// Returns the WGSL expression of the part of the offset that depends on these axes, or `None` if this part is
    /// zero.
    pub fn sum(
        &self,
        axes: &Range<usize>,
        with_constant: bool,
        names: &[Axis],
        code: &mut Code,
    ) -> Option<String> {
        let terms = self.terms.iter().filter(|term| axes.contains(&term.axis));
        let sum = weighted_sum(terms.map(|term| (term, term.stride)), names, code);
        let constant = (with_constant && self.constant != 0).then(|| format!("{}u", as_u32(self.constant)));
        match (sum, constant) {
            (Some(sum), Some(constant)) => Some(format!("{sum} + {constant}")),
            (one, other) => one.or(other),
        }
    }

    /// Returns the WGSL condition of the bounds that depend only on `axes` and on at least one axis in `new`.
    ///
    /// Returns `None` if there are no such bounds.
    pub fn condition(
        &self,
        axes: &Range<usize>,
        new: &Range<usize>,
        names: &[Axis],
        code: &mut Code,
    ) -> Option<String> {
        let mut all = Vec::new();
        for (number, &(offset, size)) in self.bounds.iter().enumerate() {
            let terms: Vec<(&Term, isize)> =
                self.terms.iter().map(|term| (term, term.bounds[number])).collect();
            let depends_on = |axes: &Range<usize>| {
                terms.iter().any(|(term, stride)| *stride != 0 && axes.contains(&term.axis))
            };
            let depends_on_others =
                terms.iter().any(|(term, stride)| *stride != 0 && !axes.contains(&term.axis));
            if depends_on_others || !depends_on(new) {
                continue;
            }
            let coordinate = weighted_sum(terms.into_iter(), names, code).unwrap_or_default();
            // A coordinate below 0 wraps to a large value and fails the test.
            all.push(match offset {
                0 => format!("{coordinate} < {size}u"),
                offset if offset < 0 => format!("{coordinate} - {}u < {size}u", offset.unsigned_abs()),
                offset => format!("{coordinate} + {offset}u < {size}u"),
            });
        }
        (!all.is_empty()).then(|| all.join(" && "))
    }
}

/// One of two parts of an address, determined by some of the axes.
///
/// The offset of the address is the sum of the offsets of both parts. Each shared coordinate of the address is the sum
/// of the shared coordinates of both parts.
#[derive(Debug, PartialEq)]
pub(crate) struct AddressPart {
    pub offset: String,
    /// Bounds condition that depends only on the axes of this part.
    pub inside: Option<String>,
    /// Part of the coordinate of each bound that depends on axes of both parts.
    pub shared: Vec<String>,
}

impl AddressPart {
    /// Returns the part of an address that is never read.
    pub fn void() -> AddressPart {
        AddressPart { offset: "0u".into(), inside: None, shared: Vec::new() }
    }

    /// Returns the WGSL name, type and value of each field. The offset is the first field.
    pub fn fields(&self) -> Vec<(String, &'static str, &str)> {
        let inside = self.inside.iter().map(|inside| ("inside".to_string(), "bool", inside.as_str()));
        let shared = self.shared.iter().enumerate().map(|(i, at)| (format!("at{i}"), "u32", at.as_str()));
        std::iter::once(("offset".into(), "u32", self.offset.as_str())).chain(inside).chain(shared).collect()
    }
}

impl Address {
    /// Returns the part that the axes `own` determine; `other` are the axes of the other part.
    ///
    /// The constant terms of the offset and of the coordinates belong to the first part (`is_first`).
    pub fn part(
        &self,
        [own, other]: [&Range<usize>; 2],
        is_first: bool,
        names: &[Axis],
        code: &mut Code,
    ) -> AddressPart {
        let offset = self.sum(own, is_first, names, code);
        let inside = self.condition(own, own, names, code);
        let mut shared = Vec::new();
        for number in self.shared_bounds([own, other]) {
            let terms = self.terms.iter().filter(|term| own.contains(&term.axis));
            let sum =
                weighted_sum(terms.map(|term| (term, term.bounds[number])), names, code).unwrap_or_default();
            shared.push(match self.bounds[number].0 {
                offset if is_first && offset != 0 => format!("{sum} + {}u", as_u32(offset)),
                _ => sum,
            });
        }
        AddressPart { offset: offset.unwrap_or("0u".into()), inside, shared }
    }

    /// Returns the indices, among the bounds of this address, of the bounds that depend on axes of both parts.
    pub fn shared_bounds(&self, [first, second]: [&Range<usize>; 2]) -> Vec<usize> {
        let depends_on = |number: usize, axes: &Range<usize>| {
            self.terms.iter().any(|term| axes.contains(&term.axis) && term.bounds[number] != 0)
        };
        (0..self.bounds.len())
            .filter(|&number| depends_on(number, first) && depends_on(number, second))
            .collect()
    }

    /// Returns the size of the coordinate of a bound. `bound` is an index among the bounds of this address.
    pub fn bound_size(&self, bound: usize) -> usize {
        self.bounds[bound].1
    }
}

/// Returns the WGSL expression of the sum of coordinates times strides, or `None` if every stride is zero.
fn weighted_sum<'t>(
    terms: impl Iterator<Item = (&'t Term, isize)>,
    names: &[Axis],
    code: &mut Code,
) -> Option<String> {
    let mut sum = String::new();
    for (term, stride) in terms.filter(|(_, stride)| *stride != 0) {
        let coordinate = code.coordinate(term, names);
        let plus = if sum.is_empty() { "" } else { " + " };
        let _ = match stride {
            1 => write!(sum, "{plus}{coordinate}"),
            stride => write!(sum, "{plus}{coordinate} * {}u", as_u32(stride)),
        };
    }
    (!sum.is_empty()).then_some(sum)
}

/// Returns a signed value modulo 2³².
fn as_u32(x: isize) -> u32 {
    x as u32
}

/// Statements of one block, and the names that the block can use.
#[derive(Debug, Default, Clone)]
pub(crate) struct Code {
    pub text: String,
    known: HashSet<String>,
    indent: usize,
}

impl Code {
    pub fn new(indent: usize) -> Self {
        Self { indent, ..Self::default() }
    }

    /// Creates a nested block with the indentation increased by `deeper`. The nested block can use the names that are
    /// declared in this block.
    pub fn inner(&self, deeper: usize) -> Code {
        Code { text: String::new(), known: self.known.clone(), indent: self.indent + deeper }
    }

    /// Adds a line with the indentation of the block.
    pub fn line(&mut self, line: impl AsRef<str>) {
        let _ = writeln!(self.text, "{:1$}{2}", "", self.indent * 4, line.as_ref());
    }

    /// Declares `name` unless it is already declared.
    pub fn declare(&mut self, name: &str, value: impl AsRef<str>) {
        if self.known.insert(name.to_string()) {
            self.line(format!("let {name} = {};", value.as_ref()));
        }
    }

    /// Returns the expression of a coordinate, declared on first use.
    fn coordinate(&mut self, term: &Term, names: &[Axis]) -> String {
        let variable = names[term.axis].name;
        let (name, value) = match (term.divide, term.modulo) {
            (1, None) => return variable.to_string(),
            (1, Some(n)) => (format!("{variable}_m{n}"), format!("{variable} % {n}u")),
            (d, None) => (format!("{variable}_d{d}"), format!("{variable} / {d}u")),
            (d, Some(n)) => (format!("{variable}_d{d}_m{n}"), format!("{variable} / {d}u % {n}u")),
        };
        self.declare(&name, value);
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(layout: &Layout, axes: &[Axis]) -> (String, Option<String>, Option<String>) {
        let mut code = Code::new(0);
        let address = Address::new(layout, axes);
        let all = 0..axes.len();
        let sum = address.sum(&all, true, axes, &mut code);
        let condition = address.condition(&all, &all, axes, &mut code);
        (code.text, sum, condition)
    }

    #[test]
    fn a_contiguous_layout_is_the_index_itself() {
        let axes = [Axis { name: "row", sizes: vec![2, 3] }, Axis { name: "col", sizes: vec![4, 5] }];
        let (code, sum, condition) = text(&Layout::contiguous(&[2, 3, 4, 5]), &axes);
        assert_eq!((code.as_str(), sum.as_deref(), condition), ("", Some("row * 20u + col"), None));
    }

    #[test]
    fn merged_dimensions_need_one_division() {
        let axes = [Axis { name: "row", sizes: vec![2, 3, 4] }];
        let layout = Layout::strided(&[2, 3, 4], vec![0, 4, 1], 7);
        let (code, sum, _) = text(&layout, &axes);
        assert_eq!((code.as_str(), sum.as_deref()), ("let row_m12 = row % 12u;\n", Some("row_m12 + 7u")));
    }

    #[test]
    fn padding_becomes_a_condition_and_a_wrapped_constant() {
        let axes = [Axis { name: "row", sizes: vec![2, 6] }];
        let layout = Layout::strided(&[2, 6], vec![4, 1], -1).with_valid_ranges(&[(0, 2), (1, 5)]);
        let (code, sum, condition) = text(&layout, &axes);
        assert_eq!(code, "let row_m6 = row % 6u;\nlet row_d6 = row / 6u;\n");
        assert_eq!(sum.as_deref(), Some("row_m6 + row_d6 * 4u + 4294967295u"));
        assert_eq!(condition.as_deref(), Some("row_m6 - 1u < 4u"));
    }

    /// Tests a window over an image of width 4 with one pixel of padding: rows `[2, 4]`, depth `[3]`.
    #[test]
    fn parts_split_the_coordinate_of_a_shared_bound() {
        let axes = [Axis { name: "i", sizes: vec![2, 4] }, Axis { name: "p", sizes: vec![3] }];
        let mut layout = Layout::strided(&[2, 4, 3], vec![4, 1, 1], -1);
        layout.bounds.push(wgrad_graph::Bound { strides: vec![0, 1, 1], offset: -1, size: 4, unit: 1 });
        let address = Address::new(&layout, &axes);
        let mut code = Code::new(0);
        let (rows, depth) = (0..1, 1..2);
        let first = address.part([&rows, &depth], true, &axes, &mut code);
        let wrapped = "4294967295u";
        assert_eq!(first.offset, format!("i_m4 + i_d4 * 4u + {wrapped}"));
        assert_eq!((first.inside, first.shared), (None, vec![format!("i_m4 + {wrapped}")]));
        let second = address.part([&depth, &rows], false, &axes, &mut code);
        let expected = AddressPart { offset: "p".into(), inside: None, shared: vec!["p".into()] };
        assert_eq!(second, expected);
    }
}
