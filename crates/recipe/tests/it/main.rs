//! Integration tests of `wgrad-recipe` in one binary.

mod docs;
mod errors;
mod format;
mod properties;
mod recipe;
mod schema;
