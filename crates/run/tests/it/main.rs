//! Tests of `wgrad-run` from the outside, as one binary: a module for each of the crate's.

mod bench;
mod checkpoint;
mod full_disk;
mod history;
mod metrics;
mod page;
mod recipe;
mod recipe_errors;
mod report;
mod rundir;
mod score;
mod study;
mod tensorboard;
