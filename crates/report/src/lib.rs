//! HTML pages with SVG charts and tables, and the files of numbers behind them.
//!
//! A page is one file: it loads nothing, has no scripts, follows the reader's light or dark setting, and is well-formed XML
//! as well as HTML. Nothing here knows what a page is about.

pub mod axis;
mod callout;
pub mod chart;
pub mod output;
pub mod page;
mod spread;

pub use output::OutputError;
pub use spread::Spread;
