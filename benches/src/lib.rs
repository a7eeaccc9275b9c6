//! Timing of training steps for comparisons with other engines. The timed steps are the workloads of `wgrad_bench`.

pub mod clock;
