//! Studies: what is worth knowing about training, measured by training, each with a page of charts and the numbers behind
//! it as JSON.
//!
//! [`run`] is the report of one run, [`depth`] compares plain with residual networks of growing depth, [`scaling`] is the
//! growth of training compute and the scaling laws of this machine's own trainings. A study is a folder; nothing but the
//! command line depends on this crate.

pub mod depth;
pub mod run;
pub mod scaling;
