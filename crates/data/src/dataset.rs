//! Data set in memory: features and targets.

pub(crate) mod problem;

pub use problem::InvalidDataset;

use crate::error::DataError;
use crate::pixels::{ChannelStats, Pixels};

/// Targets of the examples, one per example.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// Class labels, for classification.
    Classes {
        /// Class indices, `u32` `[n]`, each smaller than the number of names.
        labels: Vec<u32>,
        /// Names of the classes, in the order of their indices.
        names: Vec<String>,
    },
    /// Numeric values, for regression.
    Values {
        /// Target values, `f32` `[n, width]`.
        values: Vec<f32>,
        /// Number of target values per example.
        width: usize,
    },
}

impl Targets {
    /// Number of classes, or `None` for regression.
    pub fn classes(&self) -> Option<usize> {
        match self {
            Self::Classes { names, .. } => Some(names.len()),
            Self::Values { .. } => None,
        }
    }

    /// Number of model outputs per example: the number of classes, or the number of target values.
    pub fn outputs(&self) -> usize {
        match self {
            Self::Classes { names, .. } => names.len(),
            Self::Values { width, .. } => *width,
        }
    }

    fn len(&self) -> Result<usize, InvalidDataset> {
        match self {
            Self::Classes { labels, .. } => Ok(labels.len()),
            Self::Values { values, width } => match values.len().checked_rem(*width) {
                Some(0) => Ok(values.len() / width),
                _ => Err(InvalidDataset::TargetCount { found: values.len(), width: *width }),
            },
        }
    }

    fn check(&self) -> Result<(), InvalidDataset> {
        match self {
            Self::Classes { labels, names } => {
                let wrong = labels.iter().position(|&label| label as usize >= names.len());
                wrong.map_or(Ok(()), |example| {
                    Err(InvalidDataset::Label { example, label: labels[example], classes: names.len() })
                })
            }
            Self::Values { values, .. } => {
                let wrong = values.iter().position(|value| !value.is_finite());
                wrong.map_or(Ok(()), |index| Err(InvalidDataset::Target { index, value: values[index] }))
            }
        }
    }

    fn subset(&self, indices: &[u32]) -> Self {
        match self {
            Self::Classes { labels, names } => Self::Classes {
                labels: indices.iter().map(|&i| labels[i as usize]).collect(),
                names: names.clone(),
            },
            Self::Values { values, width } => {
                Self::Values { values: rows(values, *width, indices), width: *width }
            }
        }
    }
}

/// Examples for supervised learning, in memory: features `[n, feature shape…]` and [`Targets`].
///
/// Features are read as `f32`. Images are stored as [`Pixels`], one byte per feature.
///
/// A data set is always valid: it has 1 to `u32::MAX` examples, a target for each example, only finite values, and
/// only labels that are class indices.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    name: String,
    features: Features,
    feature_shape: Vec<usize>,
    targets: Targets,
}

#[derive(Debug, Clone, PartialEq)]
enum Features {
    /// Values `[n, feature_shape…]`, row-major.
    Values(Vec<f32>),
    Pixels(Pixels),
}

impl Features {
    fn len(&self) -> usize {
        match self {
            Self::Values(values) => values.len(),
            Self::Pixels(pixels) => pixels.bytes().len(),
        }
    }
}

impl Dataset {
    /// Creates a data set of `features` (`[n, feature_shape…]`, row-major), where `n` is the number of targets.
    ///
    /// ```
    /// use wgrad_data::{Dataset, Targets};
    ///
    /// let targets = Targets::Classes { labels: vec![0, 1], names: vec!["off".into(), "on".into()] };
    /// let dataset = Dataset::new("switch", vec![0.0, 0.1, 0.9, 1.0], vec![2], targets)?;
    /// assert_eq!((dataset.len(), dataset.example(1)), (2, Some(vec![0.9, 1.0])));
    /// # Ok::<(), wgrad_data::DataError>(())
    /// ```
    ///
    /// # Errors
    /// Returns [`DataError::Invalid`] if the features and targets do not form a valid data set.
    pub fn new(
        name: impl Into<String>,
        features: Vec<f32>,
        feature_shape: Vec<usize>,
        targets: Targets,
    ) -> Result<Self, DataError> {
        Self { name: name.into(), features: Features::Values(features), feature_shape, targets }.checked()
    }

    /// Creates a data set of images from bytes, `[n, channels, height, width]`, where `n` is the number of targets.
    ///
    /// `shape` is `[channels, height, width]`. The byte `largest` becomes the feature 1.
    ///
    /// ```
    /// use wgrad_data::{Dataset, Targets};
    ///
    /// let targets = Targets::Classes { labels: vec![0], names: vec!["black".into()] };
    /// let dataset = Dataset::from_pixels("images", vec![0, 51, 255, 0], [1, 2, 2], 255, targets)?;
    /// assert_eq!(dataset.example(0), Some(vec![0.0, 0.2, 1.0, 0.0]));
    /// # Ok::<(), wgrad_data::DataError>(())
    /// ```
    ///
    /// # Errors
    /// Returns [`DataError::Invalid`] if the features and targets do not form a valid data set.
    pub fn from_pixels(
        name: impl Into<String>,
        bytes: Vec<u8>,
        shape: [usize; 3],
        largest: u8,
        targets: Targets,
    ) -> Result<Self, DataError> {
        let pixels = Pixels::new(bytes, shape, largest.max(1));
        Self { name: name.into(), features: Features::Pixels(pixels), feature_shape: shape.to_vec(), targets }
            .checked()
    }

    fn checked(self) -> Result<Self, DataError> {
        match self.check() {
            Ok(()) => Ok(self),
            Err(problem) => Err(self.invalid(problem)),
        }
    }

    /// Name of the data set, for messages and reports.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns a copy of all features, `[n, feature_shape…]`, row-major.
    pub fn to_f32(&self) -> Vec<f32> {
        match &self.features {
            Features::Values(values) => values.clone(),
            Features::Pixels(_) => {
                let mut values = vec![0.0; self.features.len()];
                for (index, out) in values.chunks_exact_mut(self.feature_len()).enumerate() {
                    self.fill(index, out);
                }
                values
            }
        }
    }

    /// Images of the data set, or `None` if the features are not stored as bytes.
    pub fn pixels(&self) -> Option<&Pixels> {
        match &self.features {
            Features::Values(_) => None,
            Features::Pixels(pixels) => Some(pixels),
        }
    }

    /// Writes the normalised features of example `index` to `out`, in the order of the feature shape.
    ///
    /// # Panics
    /// Panics if the index is past the end or the length of `out` is not [`Dataset::feature_len`].
    pub fn fill(&self, index: usize, out: &mut [f32]) {
        match &self.features {
            Features::Values(values) => {
                out.copy_from_slice(&values[index * self.feature_len()..(index + 1) * self.feature_len()]);
            }
            Features::Pixels(pixels) => {
                pixels.fill_raw(index, out);
                pixels.normalize(out);
            }
        }
    }

    /// Feature shape of one example, such as `[1, 28, 28]` or `[64]`.
    pub fn feature_shape(&self) -> &[usize] {
        &self.feature_shape
    }

    /// Number of feature values of one example.
    pub fn feature_len(&self) -> usize {
        self.feature_shape.iter().product()
    }

    /// Targets of the examples, one per example.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.features.len() / self.feature_len()
    }

    /// Always false, since an empty data set cannot be created.
    pub fn is_empty(&self) -> bool {
        self.features.len() == 0
    }

    /// Returns a copy of the features of one example, or `None` if `index` is past the end.
    pub fn example(&self, index: usize) -> Option<Vec<f32>> {
        (index < self.len()).then(|| {
            let mut example = vec![0.0; self.feature_len()];
            self.fill(index, &mut example);
            example
        })
    }

    /// Returns the data set with the features of each example in one dimension: `[1, 28, 28]` becomes `[784]`. Copies
    /// no data.
    pub fn flattened(mut self) -> Self {
        self.feature_shape = vec![self.feature_len()];
        self
    }

    /// Returns a copy of the examples at `indices`, in that order. An index may occur more than once.
    ///
    /// # Errors
    /// Returns [`DataError::Invalid`] if an index is past the end or `indices` is empty.
    pub fn subset(&self, indices: &[u32]) -> Result<Self, DataError> {
        if let Some(&index) = indices.iter().find(|&&index| index as usize >= self.len()) {
            return Err(self.invalid(InvalidDataset::Index { index, len: self.len() }));
        }
        if indices.is_empty() {
            return Err(self.invalid(InvalidDataset::Empty));
        }
        let features = match &self.features {
            Features::Values(values) => Features::Values(rows(values, self.feature_len(), indices)),
            Features::Pixels(pixels) => Features::Pixels(pixels.subset(indices)),
        };
        Ok(Self {
            name: self.name.clone(),
            features,
            feature_shape: self.feature_shape.clone(),
            targets: self.targets.subset(indices),
        })
    }

    /// Replaces each value with `f(feature, value)`, where `feature` is the index of the value in its example. The
    /// result is stored as `f32`.
    pub(crate) fn map_features(self, f: impl Fn(usize, f32) -> f32) -> Result<Self, DataError> {
        let width = self.feature_len();
        let mut features = self.to_f32();
        for row in features.chunks_exact_mut(width) {
            for (feature, value) in row.iter_mut().enumerate() {
                *value = f(feature, *value);
            }
        }
        Self::new(self.name, features, self.feature_shape, self.targets)
    }

    /// Sets the statistics used to normalise the channels of images. Data that is not stored as bytes is not changed.
    pub(crate) fn with_channels(mut self, stats: &ChannelStats) -> Self {
        if let Features::Pixels(pixels) = &mut self.features {
            pixels.set_channels(stats.clone());
        }
        self
    }

    pub(crate) fn invalid(&self, problem: InvalidDataset) -> DataError {
        DataError::Invalid { dataset: self.name.clone(), problem }
    }

    fn check(&self) -> Result<(), InvalidDataset> {
        let examples = self.targets.len()?;
        let shape = &self.feature_shape;
        // The product may overflow, since the shape may come from a damaged file header.
        let width = shape.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim));
        let width = match width {
            Some(width) if width > 0 => width,
            _ => return Err(InvalidDataset::FeatureShape(shape.clone())),
        };
        let expected = examples.saturating_mul(width);
        if self.features.len() != expected {
            let (found, shape) = (self.features.len(), shape.clone());
            return Err(InvalidDataset::FeatureCount { expected, found, examples, shape });
        }
        if examples == 0 {
            return Err(InvalidDataset::Empty);
        }
        if u32::try_from(examples).is_err() {
            return Err(InvalidDataset::TooLarge(examples));
        }
        if let Features::Values(values) = &self.features
            && let Some(i) = values.iter().position(|value| !value.is_finite())
        {
            let value = values[i];
            return Err(InvalidDataset::Feature { example: i / width, feature: i % width, value });
        }
        self.targets.check()
    }
}

fn rows(values: &[f32], width: usize, indices: &[u32]) -> Vec<f32> {
    let mut out = Vec::with_capacity(indices.len() * width);
    for &index in indices {
        let start = index as usize * width;
        out.extend_from_slice(&values[start..start + width]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::splits::Splits;

    fn classes(labels: &[u32], classes: usize) -> Targets {
        Targets::Classes { labels: labels.to_vec(), names: (0..classes).map(|i| i.to_string()).collect() }
    }

    fn problem(result: Result<Dataset, DataError>) -> InvalidDataset {
        match result {
            Err(DataError::Invalid { dataset, problem }) => {
                assert_eq!(dataset, "set");
                problem
            }
            other => panic!("expected an invalid data set, got {other:?}"),
        }
    }

    #[test]
    fn every_broken_rule_is_an_error() {
        let new = |features: &[f32], shape: &[usize], targets| {
            problem(Dataset::new("set", features.to_vec(), shape.to_vec(), targets))
        };
        assert_eq!(new(&[], &[2], classes(&[], 1)), InvalidDataset::Empty);
        assert_eq!(new(&[], &[0], classes(&[0], 1)), InvalidDataset::FeatureShape(vec![0]));
        assert_eq!(
            new(&[], &[usize::MAX, 2], classes(&[0], 1)),
            InvalidDataset::FeatureShape(vec![usize::MAX, 2])
        );
        assert_eq!(
            new(&[1.0; 5], &[2], classes(&[0, 0], 1)),
            InvalidDataset::FeatureCount { expected: 4, found: 5, examples: 2, shape: vec![2] }
        );
        assert_eq!(
            new(&[1.0, 2.0, 3.0, f32::INFINITY], &[2], classes(&[0, 0], 1)),
            InvalidDataset::Feature { example: 1, feature: 1, value: f32::INFINITY }
        );
        assert_eq!(
            new(&[1.0; 2], &[1], classes(&[0, 3], 3)),
            InvalidDataset::Label { example: 1, label: 3, classes: 3 }
        );
        let values = |values: &[f32], width| Targets::Values { values: values.to_vec(), width };
        assert_eq!(
            new(&[1.0; 2], &[1], values(&[1.0; 3], 2)),
            InvalidDataset::TargetCount { found: 3, width: 2 }
        );
        assert_eq!(new(&[1.0; 2], &[1], values(&[], 0)), InvalidDataset::TargetCount { found: 0, width: 0 });
        let nan = new(&[1.0; 2], &[1], values(&[1.0, f32::NAN], 1));
        assert!(matches!(nan, InvalidDataset::Target { index: 1, value } if value.is_nan()), "{nan:?}");
    }

    #[test]
    fn flattening_keeps_values_and_subset_keeps_the_order_of_indices() {
        let features: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let dataset = Dataset::new("set", features.clone(), vec![1, 2, 2], classes(&[0, 1, 2], 3)).unwrap();
        let flat = dataset.flattened();
        assert_eq!((flat.feature_shape(), flat.to_f32()), (&[4][..], features));
        let subset = flat.subset(&[2, 0, 2]).unwrap();
        assert_eq!(subset.to_f32(), [8.0, 9.0, 10.0, 11.0, 0.0, 1.0, 2.0, 3.0, 8.0, 9.0, 10.0, 11.0]);
        assert_eq!(subset.targets(), &classes(&[2, 0, 2], 3));
        assert_eq!(problem(flat.subset(&[0, 3])), InvalidDataset::Index { index: 3, len: 3 });
        assert_eq!(problem(flat.subset(&[])), InvalidDataset::Empty);
    }

    #[test]
    fn pixels_are_normalised_like_new_examples() {
        let new = |bytes: &[u8], shape| {
            Dataset::from_pixels("set", bytes.to_vec(), shape, 255, classes(&[0, 1], 2))
        };
        let train = new(&[0, 51, 255, 102], [2, 1, 1]).unwrap();
        assert_eq!((train.len(), train.feature_shape()), (2, &[2, 1, 1][..]));
        assert_eq!(train.to_f32(), [0.0, 0.2, 1.0, 0.4]);
        assert_eq!((train.example(1), train.example(2)), (Some(vec![1.0, 0.4]), None));
        assert_eq!(train.subset(&[1, 1, 0]).unwrap().to_f32(), [1.0, 0.4, 1.0, 0.4, 0.0, 0.2]);
        let scaled = train.clone().with_channels(&ChannelStats { mean: vec![0.5, 0.0], std: vec![0.5, 0.5] });
        let flat = Splits { raw_scale: 255.0, ..Splits::new(scaled.clone(), scaled) }.flattened();
        assert_eq!(flat.train.feature_shape(), [2]);
        let mut raw = [0.0, 51.0, 255.0, 102.0];
        flat.prepare(&mut raw);
        assert_eq!(flat.train.to_f32(), raw);
        assert_eq!(raw, [-1.0, 0.4, 1.0, 0.8]);
        assert_eq!(
            problem(new(&[0; 3], [2, 1, 1])),
            InvalidDataset::FeatureCount { expected: 4, found: 3, examples: 2, shape: vec![2, 1, 1] }
        );
        assert_eq!(problem(new(&[], [0, 1, 1])), InvalidDataset::FeatureShape(vec![0, 1, 1]));
    }

    #[test]
    fn subset_of_values_keeps_their_width() {
        let targets = Targets::Values { values: vec![0.0, 1.0, 2.0, 3.0], width: 2 };
        let dataset = Dataset::new("set", vec![5.0, 6.0], vec![1], targets).unwrap();
        let expected = Targets::Values { values: vec![2.0, 3.0], width: 2 };
        assert_eq!(dataset.subset(&[1]).unwrap().targets(), &expected);
        assert_eq!((expected.outputs(), expected.classes()), (2, None));
    }
}
