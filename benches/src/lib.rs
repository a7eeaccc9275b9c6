//! Timing of training steps for comparisons with other engines. The steps are the workloads of `wgrad_bench`.

pub mod clock;
