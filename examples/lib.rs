//! The examples are in `examples/`: `cargo run --release -p wgrad-examples --example hello_mlp`.
