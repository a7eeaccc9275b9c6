//! Timing of training steps: workloads that other engines are measured with too, and the clock around them.

pub mod clock;
pub mod workload;
