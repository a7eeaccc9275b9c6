//! Standardisation: each feature is scaled to mean 0 and standard deviation 1 on the training set.

use serde::{Deserialize, Serialize};

use crate::dataset::{Dataset, InvalidDataset};
use crate::error::DataError;

/// Mean and standard deviation of each feature of a training set.
///
/// A feature x of any split or of new data becomes `(x − mean) / std`.
///
/// A constant feature is only centred, since its standard deviation is 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standardizer {
    /// Mean of each feature, `[features]`.
    pub mean: Vec<f32>,
    /// Population standard deviation of each feature (divided by n, not n − 1), `[features]`; 1 for a constant
    /// feature.
    pub std: Vec<f32>,
}

impl Standardizer {
    /// Computes the statistics of `train`. Sums are computed in `f64`.
    pub fn fit(train: &Dataset) -> Self {
        let (width, n) = (train.feature_len(), train.len() as f64);
        let mut mean = vec![0.0_f64; width];
        let mut row = vec![0.0; width];
        for index in 0..train.len() {
            train.fill(index, &mut row);
            for (sum, &x) in mean.iter_mut().zip(&row) {
                *sum += f64::from(x) / n;
            }
        }
        let mut variance = vec![0.0_f64; width];
        for index in 0..train.len() {
            train.fill(index, &mut row);
            for ((sum, &x), mean) in variance.iter_mut().zip(&row).zip(&mean) {
                *sum += (f64::from(x) - mean).powi(2) / n;
            }
        }
        let std = variance.iter().zip(&mean).map(|(variance, mean)| {
            let std = variance.sqrt();
            // Rounding errors give a constant feature a tiny standard deviation; dividing by it would amplify those
            // errors.
            if std <= f64::from(f32::EPSILON) * mean.abs() || std == 0.0 { 1.0 } else { std as f32 }
        });
        Self { std: std.collect(), mean: mean.iter().map(|&mean| mean as f32).collect() }
    }

    /// Returns the standardised data set.
    ///
    /// # Errors
    /// Returns [`DataError::Invalid`] if the number of features differs from that of the statistics, or if a value
    /// overflows.
    pub fn apply(&self, dataset: Dataset) -> Result<Dataset, DataError> {
        let expected = self.mean.len().min(self.std.len());
        if dataset.feature_len() != expected {
            let found = dataset.feature_len();
            return Err(dataset.invalid(InvalidDataset::Standardizer { expected, found }));
        }
        dataset.map_features(|feature, x| {
            ((f64::from(x) - f64::from(self.mean[feature])) / f64::from(self.std[feature])) as f32
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Targets;

    fn dataset(features: &[f32], width: usize) -> Dataset {
        let targets = Targets::Values { values: vec![0.0; features.len() / width], width: 1 };
        Dataset::new("set", features.to_vec(), vec![width], targets).unwrap()
    }

    #[test]
    fn training_set_has_mean_zero_and_standard_deviation_one() {
        let train = dataset(&[1.0, 0.1, 3.0, 0.1, 5.0, 0.1], 2);
        let standardizer = Standardizer::fit(&train);
        assert_eq!(standardizer.mean, [3.0, 0.1]);
        assert!((standardizer.std[0] - (8.0_f32 / 3.0).sqrt()).abs() < 1e-6);
        assert_eq!(standardizer.std[1], 1.0);
        let applied = standardizer.apply(train).unwrap();
        let column = |i: usize| applied.to_f32().into_iter().skip(i).step_by(2).collect::<Vec<_>>();
        assert!((column(0).iter().map(|x| x * x).sum::<f32>() - 3.0).abs() < 1e-5);
        assert!(column(1).iter().all(|x| x.abs() < 1e-7), "{:?}", column(1));
    }

    #[test]
    fn constant_feature_is_only_centred() {
        let train = dataset(&[0.1; 1000], 1);
        // The sum is rounded, so the computed standard deviation is not exactly zero.
        let sum = train.to_f32().iter().fold(0.0, |sum, &x| sum + f64::from(x) / 1000.0);
        assert_ne!(sum, f64::from(0.1_f32));
        assert_eq!(Standardizer::fit(&train).std, [1.0]);
    }

    #[test]
    fn other_data_uses_the_same_statistics_and_a_wrong_width_is_refused() {
        let standardizer = Standardizer::fit(&dataset(&[0.0, 2.0], 1));
        assert_eq!(standardizer.apply(dataset(&[4.0], 1)).unwrap().to_f32(), [3.0]);
        let error = standardizer.apply(dataset(&[4.0, 1.0], 2)).unwrap_err();
        assert!(error.to_string().contains("2 features"), "{error}");
    }
}
