//! Training, validation and test data.

use crate::augment::Augment;
use crate::dataset::Dataset;
use crate::standardize::Standardizer;

/// Training, validation and test sets. All sets have the same feature shape and the same kind of targets.
#[derive(Debug, Clone, PartialEq)]
pub struct Splits {
    /// Training set, to which the parameters are fitted.
    pub train: Dataset,
    /// Validation set for early stopping and the choice of hyperparameters, if there is one.
    pub validation: Option<Dataset>,
    /// Test set, for the final evaluation.
    pub test: Dataset,
    /// Statistics used to standardise the features. New data must be standardised with the same statistics before
    /// prediction. `None` if the features are not standardised.
    pub standardizer: Option<Standardizer>,
    /// Divisor of the raw values: the largest pixel value for images, 1 for a table.
    pub raw_scale: f32,
    /// Augmentation of training images, applied by a [`Loader`](crate::Loader).
    pub augment: Augment,
}

impl Splits {
    /// Creates splits without a validation set, standardisation or augmentation.
    pub fn new(train: Dataset, test: Dataset) -> Self {
        let augment = Augment::default();
        Self { train, validation: None, test, standardizer: None, raw_scale: 1.0, augment }
    }

    /// Applies the scaling, normalisation and standardisation of the splits to raw features of new examples.
    ///
    /// `raw` has shape `[n, feature length]` and contains the values as they are in the file.
    pub fn prepare(&self, raw: &mut [f32]) {
        raw.iter_mut().for_each(|x| *x /= self.raw_scale);
        if let Some(pixels) = self.train.pixels() {
            raw.chunks_exact_mut(pixels.image_len()).for_each(|image| pixels.normalize(image));
        }
        if let Some(Standardizer { mean, std }) = &self.standardizer {
            for row in raw.chunks_exact_mut(mean.len()) {
                row.iter_mut().zip(mean).zip(std).for_each(|((x, mean), std)| *x = (*x - mean) / std);
            }
        }
    }

    /// Returns the splits with the features of each example in one dimension, see [`Dataset::flattened`].
    pub fn flattened(self) -> Self {
        Self {
            train: self.train.flattened(),
            validation: self.validation.map(Dataset::flattened),
            test: self.test.flattened(),
            ..self
        }
    }
}
