//! Tests of `wgrad-studies` from outside, as one binary: a module for each study.

mod depth;
mod history;
#[path = "../../../report/tests/it/page.rs"]
mod page;
mod run;
