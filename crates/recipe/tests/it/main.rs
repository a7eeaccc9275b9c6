//! Tests of `wgrad-recipe` from outside, as one binary.

mod errors;
mod recipe;
