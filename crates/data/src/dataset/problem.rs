//! Rules of a data set.

/// Broken rule of a [`Dataset`](crate::Dataset).
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidDataset {
    /// No examples.
    #[error("no examples")]
    Empty,
    /// More examples than `u32` indices can address.
    #[error("{0} examples, more than a 32-bit index can address")]
    TooLarge(usize),
    /// A feature shape without elements.
    #[error("the feature shape {0:?} has no elements")]
    FeatureShape(Vec<usize>),
    /// A number of feature values other than examples × features.
    #[error("{found} feature values, expected {expected} ({examples} examples of shape {shape:?})")]
    FeatureCount {
        /// Examples × elements of the shape.
        expected: usize,
        /// Number of values.
        found: usize,
        /// Number of examples, from the targets.
        examples: usize,
        /// Shape of one example.
        shape: Vec<usize>,
    },
    /// A feature that is NaN or infinite.
    #[error("feature {feature} of example {example} is {value}; features must be finite")]
    Feature {
        /// Index of the example.
        example: usize,
        /// Flat index of the feature in the example.
        feature: usize,
        /// Value.
        value: f32,
    },
    /// A label that is not the index of a class.
    #[error("the label of example {example} is {label}, but there are {classes} classes (labels 0 to {})", .classes.saturating_sub(1))]
    Label {
        /// Index of the example.
        example: usize,
        /// Label.
        label: u32,
        /// Number of classes.
        classes: usize,
    },
    /// A number of target values that is not a multiple of the width.
    #[error("{found} target values cannot be divided into examples of width {width}")]
    TargetCount {
        /// Number of values.
        found: usize,
        /// Values per example.
        width: usize,
    },
    /// A target value that is NaN or infinite.
    #[error("target {index} is {value}; targets must be finite")]
    Target {
        /// Flat index of the value.
        index: usize,
        /// Value.
        value: f32,
    },
    /// An index past the end.
    #[error("example {index} does not exist; the data set has {len} examples")]
    Index {
        /// Index.
        index: u32,
        /// Number of examples.
        len: usize,
    },
    /// Standardisation statistics for another number of features.
    #[error("{found} features per example, but the standardisation was fitted to {expected}")]
    Standardizer {
        /// Features of the fitted data.
        expected: usize,
        /// Features of the data.
        found: usize,
    },
}
