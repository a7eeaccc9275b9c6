//! Studies of training: each trains or reads results, and writes a page of charts with the numbers behind it as JSON.
//!
//! - [`run`]: report of one run.
//! - [`depth`]: plain and residual networks of increasing depth.
//! - [`scaling`]: history of training compute, and scaling laws fitted to trainings on this machine.
//!
//! Only the command line depends on this crate.

pub mod depth;
pub mod run;
pub mod scaling;
