//! The compute-scaling discussion: how training compute grew, how long this machine would take for each step of that history,
//! and which laws training runs of this machine follow. `scale.json` holds a [`Scale`], and the page is made of it. Nothing
//! here trains or measures; who does fills in [`Trial`]s and rates.

pub mod history;
pub mod laws;
pub mod sweep;
mod trial;

pub use trial::{Curve, Role, Trial};
