//! What must hold of the table itself.

use wgrad_graph::philox::Stream;
use wgrad_ops::{OpInfo, ops, scalar_functions};

use crate::report::{Failure, Verdict};

/// An entry has a name of its own that can be typed, a documented meaning, a sensible tolerance, and samples that depend on
/// nothing but the seed.
pub fn lint(entry: &OpInfo) -> Verdict {
    let broken = |what: &str| Err(Failure::Broken(what.to_owned()));
    if ops().filter(|other| other.name == entry.name).count() > 1 {
        return broken("two entries have this name");
    }
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if entry.name.is_empty() || !entry.name.chars().all(letters) {
        return broken("a name is made of lower-case letters, digits and underscores");
    }
    if entry.doc.len() < 5 || !entry.doc.ends_with('.') {
        return broken("the documentation is a sentence or two, each with its full stop");
    }
    if !(0.0..0.01).contains(&entry.tolerance) {
        return broken("a tolerance lies between 0 and 0.01");
    }
    let [first, again] = [0, 0].map(|seed| (entry.sample)(&mut Stream::new(seed, 1)).inputs);
    if first != again {
        return broken("two samples of one seed differ");
    }
    Ok(0.0)
}

/// No two scalar functions share a name: they are equal by name, and a backend compiles one for both.
pub fn scalar_names() -> Verdict {
    let functions = scalar_functions();
    for (i, f) in functions.iter().enumerate() {
        if let Some(other) = functions[i + 1..].iter().find(|g| g.name == f.name && g.wgsl != f.wgsl) {
            return Err(Failure::Broken(format!("two scalar functions are named {}", other.name)));
        }
    }
    Ok(0.0)
}
