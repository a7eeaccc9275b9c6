//! The sections of a recipe as structs, but for the keys of `[data]`, which are in `data`, and those of networks over images
//! and of `[transfer]`, which are in `network`. Their fields are the keys: nothing else lists them, and the key tables that
//! errors and `--set` need are asked from serde. Units and defaults are here, ranges in `validate`.

use serde::de::{self, IntoDeserializer, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use toml::de::{Error, ValueDeserializer};

use super::data::{CsvData, ImageCsvData, ImageFolderData, IsicData, PixelData};
use super::network::ResNetModel;

/// A section whose `kind` decides which further keys it has.
pub(super) trait Kinded: Sized {
    const KINDS: &'static [&'static str];
    /// The keys of a kind besides `kind`; empty for an unknown kind.
    fn keys(kind: &str) -> &'static [&'static str];
    /// Reads the section without its `kind`.
    fn read(kind: &str, section: ValueDeserializer<'_>) -> Result<Self, Error>;
}

/// An enum over the kinds of a section, written as a table with the key `kind`.
macro_rules! kinds {
    ($(#[$doc:meta])* $section:ident { $($(#[$kind_doc:meta])* $kind:literal => $variant:ident($keys:ty),)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[serde(tag = "kind")]
        pub enum $section {
            $($(#[$kind_doc])* #[serde(rename = $kind)] $variant($keys),)*
        }

        impl $section {
            /// What the section's key `kind` says.
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$variant(_) => $kind,)* }
            }
        }

        impl Kinded for $section {
            const KINDS: &'static [&'static str] = &[$($kind),*];

            fn keys(kind: &str) -> &'static [&'static str] {
                match kind { $($kind => keys_of::<$keys>(),)* _ => &[] }
            }

            fn read(kind: &str, section: ValueDeserializer<'_>) -> Result<Self, Error> {
                match kind {
                    $($kind => <$keys>::deserialize(section).map(Self::$variant),)*
                    _ => Err(de::Error::unknown_variant(kind, Self::KINDS)),
                }
            }
        }
    };
}

kinds! {
    /// `[data]`: where the samples come from.
    Data {
        /// The embedded UCI digits: 1,797 images of 8×8, ten classes.
        "digits" => Digits(PixelData),
        /// Fashion-MNIST: 70,000 images of 28×28, ten classes.
        "fashion-mnist" => FashionMnist(PixelData),
        /// MNIST: 70,000 images of 28×28, ten classes.
        "mnist" => Mnist(PixelData),
        /// CIFAR-10: 60,000 colour images of 32×32, ten classes.
        "cifar-10" => Cifar10(PixelData),
        /// ISIC 2017: 2,750 colour images of skin lesions, three classes.
        "isic-2017" => Isic2017(IsicData),
        /// Images in folders that are called after their classes.
        "image-folder" => ImageFolder(ImageFolderData),
        /// Images with a CSV file of their labels.
        "image-csv" => ImageCsv(ImageCsvData),
        /// A table of numbers in a CSV file.
        "csv" => Csv(CsvData),
    }
}

kinds! {
    /// `[model]`: the network between the data's inputs and its classes or values.
    Model {
        /// Linear layers one after the other.
        "mlp" => Mlp(MlpModel),
        /// Blocks of one width, each adding to its input.
        "residual-mlp" => ResidualMlp(ResidualMlpModel),
        /// Convolutions in blocks, each adding to its input.
        "resnet" => ResNet(ResNetModel),
    }
}

kinds! {
    /// `[optimizer]`: how parameters change with their gradients.
    Optimizer {
        /// Stochastic gradient descent.
        "sgd" => Sgd(SgdOptimizer),
        /// Adam; weight decay, if any, is added to the gradient.
        "adam" => Adam(AdamOptimizer),
        /// Adam with decoupled weight decay.
        "adamw" => AdamW(AdamWOptimizer),
    }
}

kinds! {
    /// `[schedule]`: the learning rate over the steps, with `optimizer.lr` as its peak.
    Schedule {
        /// The same throughout.
        "constant" => Constant(ConstantSchedule),
        /// Multiplied by `gamma` every so many steps.
        "step" => Step(StepSchedule),
        /// Half a cosine from the peak down to `min_lr`.
        "cosine" => Cosine(CosineSchedule),
        /// Up to the peak and down to `min_lr`, both by half a cosine.
        "one-cycle" => OneCycle(OneCycleSchedule),
    }
}

/// Keys of `kind = "mlp"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MlpModel {
    /// Width of each hidden layer; empty for a linear model.
    pub hidden: Vec<usize>,
    /// After each hidden layer.
    pub activation: Activation,
    /// Before each activation.
    pub norm: Norm,
    /// Probability of dropping an activation of a hidden layer while training, in [0, 1).
    pub dropout: f64,
}

impl Default for MlpModel {
    fn default() -> Self {
        Self { hidden: vec![128, 128], activation: Activation::Relu, norm: Norm::None, dropout: 0.0 }
    }
}

/// Keys of `kind = "residual-mlp"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResidualMlpModel {
    /// Width of every block.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Inside each block.
    pub activation: Activation,
    /// At the start of each block.
    pub norm: Norm,
    /// Probability of dropping a value that a block adds while training, in [0, 1).
    pub dropout: f64,
}

impl Default for ResidualMlpModel {
    fn default() -> Self {
        Self { width: 128, depth: 2, activation: Activation::Gelu, norm: Norm::Layer, dropout: 0.0 }
    }
}

/// What stands between two linear layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each is the function of its name")]
pub enum Activation {
    Relu,
    LeakyRelu,
    Gelu,
    Silu,
    Softplus,
    Sigmoid,
    Tanh,
}

/// How activations are normalized over their features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Norm {
    /// Not at all.
    None,
    /// Layer norm: mean 0 and deviation 1, then a learned scale and shift.
    Layer,
    /// RMS norm: root mean square 1, then a learned scale.
    Rms,
}

/// Keys of `kind = "sgd"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SgdOptimizer {
    /// Peak learning rate.
    pub lr: f64,
    /// Share of the last velocity that is kept, in [0, 1).
    pub momentum: f64,
    /// Whether the gradient is looked at one velocity ahead.
    pub nesterov: bool,
    /// Share of the parameter added to its gradient.
    pub weight_decay: f64,
    /// Largest norm of all gradients together; longer ones are scaled down to it. Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
}

impl Default for SgdOptimizer {
    fn default() -> Self {
        Self { lr: 0.1, momentum: 0.9, nesterov: false, weight_decay: 0.0, clip_norm: None }
    }
}

/// Keys of `kind = "adam"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamOptimizer {
    /// Peak learning rate.
    pub lr: f64,
    /// Decay of the running means of the gradient and of its square, in [0, 1).
    pub betas: [f64; 2],
    /// Added to the root of the second mean.
    pub eps: f64,
    /// Share of the parameter added to its gradient.
    pub weight_decay: f64,
    /// Largest norm of all gradients together; longer ones are scaled down to it. Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
}

impl Default for AdamOptimizer {
    fn default() -> Self {
        Self { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0, clip_norm: None }
    }
}

/// Keys of `kind = "adamw"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWOptimizer {
    /// Peak learning rate.
    pub lr: f64,
    /// Decay of the running means of the gradient and of its square, in [0, 1).
    pub betas: [f64; 2],
    /// Added to the root of the second mean.
    pub eps: f64,
    /// Share of a weight that is taken away each step, times the learning rate. Biases and norms do not decay.
    pub weight_decay: f64,
    /// Largest norm of all gradients together; longer ones are scaled down to it. Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
}

impl Default for AdamWOptimizer {
    fn default() -> Self {
        Self { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01, clip_norm: None }
    }
}

impl Optimizer {
    /// Peak learning rate.
    pub fn lr(&self) -> f64 {
        match self {
            Self::Sgd(SgdOptimizer { lr, .. })
            | Self::Adam(AdamOptimizer { lr, .. })
            | Self::AdamW(AdamWOptimizer { lr, .. }) => *lr,
        }
    }

    /// Largest norm of all gradients together, if there is a limit.
    pub fn clip_norm(&self) -> Option<f64> {
        match self {
            Self::Sgd(SgdOptimizer { clip_norm, .. })
            | Self::Adam(AdamOptimizer { clip_norm, .. })
            | Self::AdamW(AdamWOptimizer { clip_norm, .. }) => *clip_norm,
        }
    }

    /// Weight decay, in the sense of the kind.
    pub fn weight_decay(&self) -> f64 {
        match self {
            Self::Sgd(SgdOptimizer { weight_decay, .. })
            | Self::Adam(AdamOptimizer { weight_decay, .. })
            | Self::AdamW(AdamWOptimizer { weight_decay, .. }) => *weight_decay,
        }
    }
}

/// Keys of `kind = "constant"`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConstantSchedule {
    /// Steps over which the learning rate rises linearly to its peak.
    pub warmup_steps: u64,
}

/// Keys of `kind = "step"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StepSchedule {
    /// Steps over which the learning rate rises linearly to its peak.
    pub warmup_steps: u64,
    /// Steps between two decays, counted after the warm-up.
    pub step_every: u64,
    /// What the learning rate is multiplied by, in (0, 1].
    pub gamma: f64,
}

impl Default for StepSchedule {
    fn default() -> Self {
        Self { warmup_steps: 0, step_every: 1000, gamma: 0.1 }
    }
}

/// Keys of `kind = "cosine"`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CosineSchedule {
    /// Steps over which the learning rate rises linearly to its peak.
    pub warmup_steps: u64,
    /// Learning rate that the schedule ends at.
    pub min_lr: f64,
}

/// Keys of `kind = "one-cycle"`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OneCycleSchedule {
    /// Steps up to the peak. Absent: three tenths of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_steps: Option<u64>,
    /// Learning rate that the schedule ends at.
    pub min_lr: f64,
}

/// `[train]`: how long, in which batches, and what is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Train {
    /// Times that the training set is gone through.
    pub epochs: u64,
    /// Optimizer steps after which the run ends, whatever the epochs say. Absent: no such end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Samples in one forward and backward pass.
    pub batch: usize,
    /// Samples in one pass of an evaluation.
    pub eval_batch: usize,
    /// Seed of initial values, shuffling and dropout.
    pub seed: u64,
    /// Steps between two rows of training metrics.
    pub log_every: u64,
    /// Epochs between two evaluations on the test set. The end of the run is always evaluated.
    pub eval_every_epochs: u64,
    /// Batches whose gradients are averaged for one step.
    pub accumulate: u64,
    /// Decay of the running mean of the parameters that is evaluated in their place, in (0, 1). Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// Share of the target spread evenly over all classes, in [0, 1).
    pub label_smoothing: f64,
    /// Weights of the classes in the training loss, one a class, in their order. Absent: all alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<Vec<f64>>,
    /// Weighs each class by one over its share of the training examples, so that rare ones count as much in all.
    pub balance_classes: bool,
    /// Whether the backward pass computes parts of the forward pass again rather than keep what they computed: the same
    /// results for less memory and more work.
    pub recompute: bool,
    /// Whether batch norms of several replicas go by the statistics of the whole batch, not of each replica's examples.
    pub sync_batch_norm: bool,
    /// Evaluations without a better test loss after which the run ends. Absent: it goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u64>,
    /// Epochs between two checkpoints; 0 keeps only the one at the end.
    pub checkpoint_every_epochs: u64,
    /// How many of the last checkpoints stay.
    pub keep_checkpoints: usize,
    /// Numbers that the network computes with.
    pub precision: Precision,
}

impl Default for Train {
    fn default() -> Self {
        Self {
            epochs: 10,
            steps: None,
            batch: 64,
            eval_batch: 256,
            seed: 0,
            log_every: 1,
            eval_every_epochs: 1,
            accumulate: 1,
            ema: None,
            label_smoothing: 0.0,
            class_weights: None,
            balance_classes: false,
            recompute: false,
            sync_batch_norm: false,
            patience: None,
            checkpoint_every_epochs: 1,
            keep_checkpoints: 3,
            precision: Precision::F32,
        }
    }
}

/// Numbers that the network computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 32-bit floats throughout.
    F32,
}

/// The keys of a struct, as its derived `Deserialize` announces them to a deserializer.
pub(super) fn keys_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    struct Announced<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Announced<'_> {
        type Error = de::value::Error;

        fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            ().into_deserializer().deserialize_any(visitor)
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _name: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Self::Error> {
            *self.0 = fields;
            self.deserialize_any(visitor)
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    let mut keys: &'static [&'static str] = &[];
    // The value is an error by design: only what the struct announced on the way is wanted.
    let _ = T::deserialize(Announced(&mut keys));
    keys
}
