//! Layers, initialization, optimizers and learning-rate schedules.
//!
//! A layer declares its parameters with a [`Builder`]. [`Builder::finish`] places them in the state that all programs
//! of the model share. Tracing a graph passes a [`Context`] to [`Module::forward`].

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
pub use models::{Mlp, MlpConfig, Norm, ResidualMlp, ResidualMlpConfig};
pub use module::{
    Buffer, BufferSpec, Builder, Context, Mode, Module, Param, ParamGroup, ParamSpec, Params, ReplicaSync,
    SyncTensor, Training,
};
pub use optimizer::{Adam, AdamW, OptimState, Optimizer, Sgd};
pub use resnet::{Block, ImageNorm, ResNet, ResNetConfig, Shortcut, Stem};
pub use schedule::{ConstantSchedule, CosineSchedule, OneCycleSchedule, Schedule, StepSchedule};
