//! Tests of `wgrad-recipe` from outside, as one binary.

mod docs;
mod errors;
mod format;
mod properties;
mod recipe;
mod schema;
