//! Reasons why a data set is invalid.

/// Reason why a [`Dataset`](crate::Dataset) is invalid.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidDataset {
    /// A data set without examples.
    #[error("no examples; expected at least one")]
    Empty,
    /// More examples than `u32` indices can address.
    #[error("{0} examples are more than a 32-bit index can address")]
    TooLarge(usize),
    /// A feature shape without elements.
    #[error("the feature shape {0:?} has no elements")]
    FeatureShape(Vec<usize>),
    /// A number of feature values that differs from the number of examples × the number of elements of the shape.
    #[error("{found} feature values, expected {expected} ({examples} examples of shape {shape:?})")]
    FeatureCount {
        /// Number of examples × number of elements of the shape.
        expected: usize,
        /// Number of values that were given.
        found: usize,
        /// Number of examples, as given by the targets.
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
        /// Value that is not finite.
        value: f32,
    },
    /// A label that is not the index of a class.
    #[error("the label of example {example} is {label}, but there are {classes} classes (labels 0 to {})", .classes.saturating_sub(1))]
    Label {
        /// Index of the example.
        example: usize,
        /// Label of the example.
        label: u32,
        /// Number of classes.
        classes: usize,
    },
    /// A number of target values that is not a multiple of the number of target values per example.
    #[error("{found} target values, expected a multiple of the width {width}")]
    TargetCount {
        /// Number of values that were given.
        found: usize,
        /// Number of target values per example.
        width: usize,
    },
    /// A target value that is NaN or infinite.
    #[error("target value {index} is {value}; targets must be finite")]
    Target {
        /// Index of the value among all target values.
        index: usize,
        /// Value that is not finite.
        value: f32,
    },
    /// An example index past the end of the data set.
    #[error("example {index} does not exist; the data set has {len} examples")]
    Index {
        /// Requested index.
        index: u32,
        /// Number of examples.
        len: usize,
    },
    /// A number of features that differs from the number of features in the standardisation statistics.
    #[error("{found} features per example, expected {expected} as in the standardisation statistics")]
    Standardizer {
        /// Number of features in the statistics.
        expected: usize,
        /// Number of features in the data set.
        found: usize,
    },
}
