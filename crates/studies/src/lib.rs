//! Studies of training. Each study trains networks or reads stored results, and writes a page of charts. The numbers on
//! the page are also written as JSON.
//!
//! - [`run`]: report of one training run.
//! - [`depth`]: plain and residual networks of increasing depth.
//! - [`scaling`]: history of training compute, and scaling laws fitted to training runs on this machine.
//!
//! Only the command line depends on this crate.

pub mod depth;
pub mod run;
pub mod scaling;
