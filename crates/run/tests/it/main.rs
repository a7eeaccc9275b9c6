//! Integration tests of `wgrad-run`, in a single binary.

mod checkpoint;
mod full_disk;
mod metrics;
mod rundir;
mod score;
mod tensorboard;
