//! Checks of the entries of the operation table.

use wgrad_graph::philox::Stream;
use wgrad_ops::{OpInfo, ops, scalar_functions};

use crate::report::{Comparison, Failure};

/// Checks the table entry of an operation: its name, documentation and tolerance. Also checks that its samples depend
/// only on the seed.
pub fn lint(entry: &OpInfo) -> Comparison {
    let violation = |what: &str| Err(Failure::Violation(what.to_owned()));
    if ops().filter(|other| other.name == entry.name).count() > 1 {
        return violation("the operation table has another entry with this name");
    }
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if entry.name.is_empty() || !entry.name.chars().all(letters) {
        return violation("the name may contain only lower-case letters, digits and underscores");
    }
    if entry.doc.len() < 5 || !entry.doc.ends_with('.') {
        return violation("the documentation must be one or two sentences that end with a full stop");
    }
    if !(0.0..0.01).contains(&entry.tolerance) {
        return violation("the tolerance must be at least 0 and below 0.01");
    }
    let [first, again] = [0, 0].map(|seed| (entry.sample)(&mut Stream::new(seed, 1)).inputs);
    if first != again {
        return violation("two samples with the same seed differ");
    }
    Ok(0.0)
}

/// Checks that the names of scalar functions are unique. Backends identify a function by its name.
pub fn scalar_names() -> Comparison {
    let functions = scalar_functions();
    for (i, f) in functions.iter().enumerate() {
        if let Some(other) = functions[i + 1..].iter().find(|g| g.name == f.name && g.wgsl != f.wgsl) {
            return Err(Failure::Violation(format!(
                "two different scalar functions have the name `{}`",
                other.name
            )));
        }
    }
    Ok(0.0)
}
