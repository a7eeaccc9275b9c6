//! Offsets as WGSL: what a layout says, over the index variables of a kernel.
//!
//! All arithmetic is in u32 and may wrap: an offset that is negative under padding comes out right modulo 2³² wherever the
//! index is valid. Sizes and strides are literals, so that compilers turn divisions into multiplications.

use std::collections::HashSet;
use std::fmt::Write;
use std::ops::Range;

use wgrad_graph::Layout;

/// An index variable and the dimensions that it numbers in row-major order.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    pub name: &'static str,
    pub sizes: Vec<usize>,
}

/// One dimension, or several that lie one in the other without gaps, of one axis.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    axis: usize,
    /// The coordinate is `variable / divide % modulo`.
    divide: usize,
    /// `None` where the variable is small enough without.
    modulo: Option<usize>,
    size: usize,
    stride: isize,
    valid: (usize, usize),
}

impl Term {
    fn restricted(&self) -> bool {
        self.valid != (0, self.size)
    }
}

/// A layout taken apart over axes.
#[derive(Debug)]
pub(crate) struct Address {
    constant: isize,
    terms: Vec<Term>,
    /// True when there is no storage at any index.
    pub never: bool,
}

impl Address {
    /// `layout` is over the sizes of `axes` one after the other, or over those of the first ones only.
    pub fn new(layout: &Layout, axes: &[Axis]) -> Address {
        let mut address = Address { constant: layout.offset, terms: Vec::new(), never: false };
        let mut first = 0;
        for (number, axis) in axes.iter().enumerate() {
            if first == layout.shape.len() {
                break;
            }
            address.axis(layout, number, first..first + axis.sizes.len());
            first += axis.sizes.len();
        }
        address
    }

    fn axis(&mut self, layout: &Layout, axis: usize, dims: Range<usize>) {
        let total: usize = layout.shape[dims.clone()].iter().product();
        let mut terms: Vec<Term> = Vec::new();
        let mut divide = 1;
        for dim in dims.rev() {
            let (size, stride) = (layout.shape[dim], layout.strides[dim]);
            let valid = layout.valid.as_ref().map_or((0, size), |valid| valid[dim]);
            self.never |= valid.0 >= valid.1;
            if size == 1 {
                continue;
            }
            let term = Term { axis, divide, modulo: None, size, stride, valid };
            divide *= size;
            match terms.last_mut() {
                Some(inner)
                    if !inner.restricted()
                        && !term.restricted()
                        && stride == inner.stride * inner.size as isize =>
                {
                    inner.size *= size;
                    inner.valid = (0, inner.size);
                }
                _ => terms.push(term),
            }
        }
        for term in &mut terms {
            term.modulo = (term.divide * term.size != total).then_some(term.size);
        }
        self.terms.extend(terms.into_iter().filter(|term| term.stride != 0 || term.restricted()));
    }

    /// True when some coordinate of these axes matters.
    pub fn depends(&self, axes: &Range<usize>) -> bool {
        self.terms.iter().any(|term| axes.contains(&term.axis))
    }

    /// The part of the offset that these axes give; `None` where it is zero.
    pub fn sum(
        &self,
        axes: &Range<usize>,
        with_constant: bool,
        names: &[Axis],
        code: &mut Code,
    ) -> Option<String> {
        let mut sum = String::new();
        for term in self.terms.iter().filter(|term| axes.contains(&term.axis) && term.stride != 0) {
            let coordinate = code.coordinate(term, names);
            let plus = if sum.is_empty() { "" } else { " + " };
            let _ = match term.stride {
                1 => write!(sum, "{plus}{coordinate}"),
                stride => write!(sum, "{plus}{coordinate} * {}u", wrapped(stride)),
            };
        }
        if with_constant && self.constant != 0 {
            let plus = if sum.is_empty() { "" } else { " + " };
            let _ = write!(sum, "{plus}{}u", wrapped(self.constant));
        }
        (!sum.is_empty()).then_some(sum)
    }

    /// What must hold of these axes for there to be storage; `None` where there always is.
    pub fn condition(&self, axes: &Range<usize>, names: &[Axis], code: &mut Code) -> Option<String> {
        let mut all = Vec::new();
        for term in self.terms.iter().filter(|term| axes.contains(&term.axis) && term.restricted()) {
            let coordinate = code.coordinate(term, names);
            let (lo, hi) = term.valid;
            all.push(match (lo, hi) {
                (0, hi) => format!("{coordinate} < {hi}u"),
                (lo, hi) if hi == term.size => format!("{coordinate} >= {lo}u"),
                // Below `lo` the difference wraps and is large.
                (lo, hi) => format!("{coordinate} - {lo}u < {}u", hi - lo),
            });
        }
        (!all.is_empty()).then(|| all.join(" && "))
    }
}

fn wrapped(x: isize) -> u32 {
    x as u32
}

/// Statements of one block, and which coordinates are known in it.
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

    /// A block inside this one: knows what this one knows.
    pub fn inner(&self, deeper: usize) -> Code {
        Code { text: String::new(), known: self.known.clone(), indent: self.indent + deeper }
    }

    pub fn line(&mut self, line: impl AsRef<str>) {
        let _ = writeln!(self.text, "{:1$}{2}", "", self.indent * 4, line.as_ref());
    }

    /// Declares `name` unless it is known.
    pub fn declare(&mut self, name: &str, value: impl AsRef<str>) {
        if self.known.insert(name.to_string()) {
            self.line(format!("let {name} = {};", value.as_ref()));
        }
    }

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
        let condition = address.condition(&all, axes, &mut code);
        (code.text, sum, condition)
    }

    #[test]
    fn a_contiguous_layout_is_the_index_itself() {
        let axes = [Axis { name: "row", sizes: vec![2, 3] }, Axis { name: "col", sizes: vec![4, 5] }];
        let (code, sum, condition) = text(&Layout::contiguous(&[2, 3, 4, 5]), &axes);
        assert_eq!((code.as_str(), sum.as_deref(), condition), ("", Some("row * 20u + col"), None));
    }

    #[test]
    fn only_what_is_needed_is_divided() {
        let axes = [Axis { name: "row", sizes: vec![2, 3, 4] }];
        let layout = Layout { shape: vec![2, 3, 4], strides: vec![0, 4, 1], offset: 7, valid: None };
        let (code, sum, _) = text(&layout, &axes);
        assert_eq!((code.as_str(), sum.as_deref()), ("let row_m12 = row % 12u;\n", Some("row_m12 + 7u")));
    }

    #[test]
    fn padding_becomes_a_condition_and_a_wrapped_constant() {
        let axes = [Axis { name: "row", sizes: vec![2, 6] }];
        let layout =
            Layout { shape: vec![2, 6], strides: vec![4, 1], offset: -1, valid: Some(vec![(0, 2), (1, 5)]) };
        let (code, sum, condition) = text(&layout, &axes);
        assert_eq!(code, "let row_m6 = row % 6u;\nlet row_d6 = row / 6u;\n");
        assert_eq!(sum.as_deref(), Some("row_m6 + row_d6 * 4u + 4294967295u"));
        assert_eq!(condition.as_deref(), Some("row_m6 - 1u < 4u"));
    }
}
