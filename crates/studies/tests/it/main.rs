//! Integration tests of `wgrad-studies` in one binary, one module per study.

mod depth;
mod history;
#[path = "../../../report/tests/it/page.rs"]
mod page;
mod run;
