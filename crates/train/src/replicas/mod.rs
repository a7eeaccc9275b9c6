//! Several replicas that train one model.

pub(crate) mod group;
pub(crate) mod rank;
pub(crate) mod step;
