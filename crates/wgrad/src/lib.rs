//! Train neural networks on any GPU with a Vulkan, Metal or DX12 driver, or on the CPU.
//!
//! This crate is a facade: it re-exports the engine's crates under short names. [`prelude`] re-exports the items that
//! most programs need. The `wgrad` binary trains recipes without any Rust code.

pub use wgrad_bench as bench;
pub use wgrad_cluster as cluster;
pub use wgrad_comm as comm;
pub use wgrad_cpu as cpu;
pub use wgrad_data as data;
pub use wgrad_gpu as gpu;
pub use wgrad_graph as graph;
pub use wgrad_nn as nn;
pub use wgrad_ops as ops;
pub use wgrad_program as program;
pub use wgrad_recipe as recipe;
pub use wgrad_report as report;
pub use wgrad_run as run;
pub use wgrad_studies as studies;
pub use wgrad_train as train;
pub use wgrad_weights as weights;

/// Items that most programs need, for `use wgrad::prelude::*`.
pub mod prelude {
    pub use wgrad_cpu::CpuDevice;
    pub use wgrad_data::{Dataset, Splits, Targets};
    pub use wgrad_gpu::GpuDevice;
    pub use wgrad_graph::{DType, Graph, Shape, States, TensorType, Var, grad, grad_with};
    pub use wgrad_nn::{
        Activation, Adam, AdamW, AvgPool2d, BatchNorm2d, Builder, Context, Conv2d, Dropout, Embedding,
        GroupNorm, ImageNorm, Init, LayerNorm, Linear, MaxPool2d, Mlp, MlpConfig, Module, Norm, Optimizer,
        ResNet, ResNetConfig, Residual, ResidualMlp, ResidualMlpConfig, RmsNorm, Schedule, Sequential, Sgd,
        Shortcut, Stem, Training,
    };
    pub use wgrad_ops::{Conv, ImageOps, Pool, TensorOps, full, graph, iota, pack};
    pub use wgrad_program::{Data, Device, HostData, Options, Program, Session, compile, evaluate};
    pub use wgrad_train::{
        Callback, Config, DeviceChoice, FitOptions, Model, Plan, SplitName, Task, TrainError, Trainer, fit,
        open,
    };
}
