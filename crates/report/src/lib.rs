//! HTML pages with SVG charts and tables, and the data files beside them.
//!
//! A page is one file. It loads nothing, has no scripts, follows the light or dark setting of the browser, and is
//! well-formed XML as well as HTML. This crate is independent of the contents of the pages.

pub mod axis;
mod callout;
pub mod chart;
pub mod output;
pub mod page;
mod spread;

pub use output::OutputError;
pub use spread::Spread;
