//! Layers, initialisers, optimizers and learning-rate schedules.
//!
//! A layer declares its parameters once, with a [`Builder`]; [`Builder::finish`] lays them flat into the state that all
//! programs of the model share. Tracing a graph then hands a [`Context`] to [`Module::forward`].

mod images;
mod init;
mod layers;
mod models;
mod module;
mod optimizer;
mod resnet;
mod schedule;

pub use images::{AvgPool2d, BatchNorm2d, Conv2d, GroupNorm, MaxPool2d};
pub use init::Init;
pub use layers::{Activation, Dropout, Embedding, LayerNorm, Linear, Residual, RmsNorm, Sequential};
pub use models::{Mlp, Norm, ResidualMlp};
pub use module::{
    Buffer, BufferSpec, Builder, Context, Exchange, Mode, Module, Param, ParamSpec, Params, Segment, Summed,
    Training,
};
pub use optimizer::{Adam, AdamW, OptimState, Optimizer, Sgd};
pub use resnet::{Block, ImageNorm, ResNet, ResNetConfig, Shortcut, Stem};
pub use schedule::{ConstantSchedule, CosineSchedule, OneCycleSchedule, Schedule, StepSchedule};
