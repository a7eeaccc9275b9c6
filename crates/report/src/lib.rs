//! HTML pages with SVG charts and tables, and data files in the same directory.
//!
//! A page is a single file. It loads no external resources, has no scripts, follows the light or dark setting of the
//! browser, and is well-formed XML as well as HTML. This crate does not define the contents of any page.

pub mod axis;
mod callout;
pub mod chart;
pub mod output;
pub mod page;
mod spread;

pub use output::OutputError;
pub use spread::Spread;
