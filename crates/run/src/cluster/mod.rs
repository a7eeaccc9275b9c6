//! How data-parallel training would go on a cluster: what `wgrad cluster` predicts. A model of latency and bandwidth; nothing
//! here measures. `cluster.json` holds a [`Cluster`], and the page is made of it.

mod collective;
mod fit;
mod machine;
mod paper;
mod predict;
mod published;
mod timeline;
mod toml;
mod works;

pub use collective::{Algorithm, Group};
pub use fit::{Fit, Sample, fit};
pub use machine::{ETHERNET_PAYLOAD, Link, Machine, builtin as builtin_machines};
pub use paper::{OnPaper, Pipeline, Tensor};
pub use predict::{Curve, Options, Point, Prediction, Reduction, Scaling, Schedule, Scheme};
pub use published::{Published, STATED_ERROR, published};
pub use timeline::{Bucket, Timeline, Travel, buckets, timeline};
pub use toml::{MachineError, parse as parse_machines, read as read_machines};
pub use works::{
    Compute, Layer, NAMES as WORK_NAMES, ParameterBytes, Transformer, Work, builtin as builtin_work,
};
