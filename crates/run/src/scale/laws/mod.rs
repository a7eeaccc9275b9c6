//! Laws that trainings of a sweep follow.

mod fit;
mod optimize;

pub use fit::{Estimate, Law, LawError, Standing, Term, Variable};

#[cfg(test)]
mod testing;
