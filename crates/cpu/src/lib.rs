//! Runs graphs and programs on the CPU, in f32 or f64
