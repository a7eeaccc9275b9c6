//! Whole trainings, the command line and jobs of several processes, tested from outside.
//!
//! One binary for all files: each test binary links the whole engine. Only `allocations.rs` is a binary of its own, because
//! it has an allocator of its own.

mod agreement;
mod bad_input;
mod bench;
mod cluster;
mod hosts;
mod ledger;
mod memory;
mod optimizers;
mod profile;
mod pytorch;
mod ranks;
mod replicas;
mod scale;
mod stored_run;
mod support;
mod training;
mod transfer;
mod tune;
