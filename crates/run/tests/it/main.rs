//! Tests of `wgrad-run` from the outside, as one binary: a module for each of the crate's.

mod checkpoint;
mod full_disk;
mod metrics;
mod rundir;
mod score;
mod tensorboard;
