//! The clock around training steps that other engines are measured with too. The steps are those of `wgrad_bench`.

pub mod clock;
