//! Integration tests of `wgrad-run` in one binary, with one module for each module of the crate.

mod checkpoint;
mod full_disk;
mod metrics;
mod rundir;
mod score;
mod tensorboard;
