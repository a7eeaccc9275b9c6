//! Examples are in the folder `examples/`. Run one with `cargo run --release -p wgrad-examples --example hello_mlp`.
