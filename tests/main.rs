//! Integration tests of training runs, the command line and jobs of several processes.
//!
//! All files form one binary, because each test binary links the whole engine. Only `allocations.rs` is a separate
//! binary, because it replaces the global allocator.

mod agreement;
mod bad_input;
mod bench;
mod cluster;
mod flops;
mod hosts;
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
