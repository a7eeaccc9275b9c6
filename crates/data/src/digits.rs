//! The UCI optical digits, built in: 1,797 images of handwritten digits, 8×8.
//!
//! E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
//! CC BY 4.0 (`assets/digits.LICENSE.md`), as distributed with scikit-learn.

use std::path::Path;

use crate::csv_file::{CsvOptions, read_from};
use crate::dataset::Dataset;
use crate::error::DataError;
use crate::open::unpack;
use crate::split::{Purpose, split_off};
use crate::splits::Splits;

static DIGITS: &[u8] = include_bytes!("../assets/digits.csv.gz");

/// Seed of the test split. It is fixed, so that test accuracies of different runs and machines are comparable.
const SPLIT_SEED: u64 = 0;
pub(crate) const LARGEST_PIXEL: u8 = 16;

/// Loads the digits: features `[n, 1, 8, 8]` in 0..1, ten classes, 1,437 training and 360 test images.
///
/// The split is stratified by class and always the same.
///
/// # Errors
/// Never returns an error: the data is part of the program.
pub fn load() -> Result<Splits, DataError> {
    let path = Path::new("digits.csv.gz (built in)");
    let reader = unpack(DIGITS).map_err(DataError::io("read", path))?;
    let table = read_from(reader, "digits", path, &CsvOptions::default())?;
    let pixels = table.to_f32().into_iter().map(|value| value as u8).collect();
    let digits = Dataset::from_pixels("digits", pixels, [1, 8, 8], LARGEST_PIXEL, table.targets().clone())?;
    let (train, test) = split_off(&digits, 0.2, SPLIT_SEED, Purpose::Test)?;
    Ok(Splits::new(train, test))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Targets;

    #[test]
    fn split_is_stratified_and_fixed() {
        let splits = load().unwrap();
        assert_eq!((splits.train.len(), splits.test.len()), (1437, 360));
        assert_eq!(splits.test.feature_shape(), [1, 8, 8]);
        let Targets::Classes { labels, names } = splits.test.targets() else { panic!("no classes") };
        assert_eq!(names.join(""), "0123456789");
        let counts: Vec<usize> =
            (0..10).map(|digit| labels.iter().filter(|&&label| label == digit).count()).collect();
        // Each count is 360/1797 of a class size, rounded with the largest remainder method. The class sizes are 178,
        // 182, 177, 183, 181, 182, 181, 179, 174 and 180.
        assert_eq!(counts, [36, 37, 35, 37, 36, 36, 36, 36, 35, 36]);
        // The first test labels, in file order. They change if the random generator, the seed or the method changes.
        assert_eq!(labels[..12], FIRST_TEST_LABELS);
    }

    const FIRST_TEST_LABELS: [u32; 12] = [1, 2, 9, 2, 7, 8, 4, 7, 5, 0, 2, 4];

    #[test]
    fn pixels_are_scaled_to_one() {
        let splits = load().unwrap();
        for part in [&splits.train, &splits.test] {
            let largest = part.to_f32().into_iter().fold(0.0, f32::max);
            assert_eq!(largest, 1.0);
            assert!(part.to_f32().iter().all(|&x| (0.0..=1.0).contains(&x) && (x * 16.0).fract() == 0.0));
        }
        // The first image of the file, a digit 0, is in one of the splits.
        let all = [splits.train.to_f32(), splits.test.to_f32()].concat();
        let first = all.chunks(64);
        let zero = [0.0, 0.0, 5.0, 13.0, 9.0, 1.0, 0.0, 0.0].map(|x| x / 16.0);
        assert_eq!(first.filter(|image| image[..8] == zero).count(), 1);
    }
}
