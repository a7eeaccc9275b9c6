//! Specification of data: the `[data]` section of a recipe, and the input of [`load`](crate::load()).
//!
//! The options of images are in `spec/images.rs`, the options of CSV files in `spec/csv.rs`.

mod csv;
mod images;

use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use csv::CsvData;
pub use images::{
    DEFAULT_SIZE, ImageCsvData, ImageFolderData, Images, IsicData, MAX_SIZE, Normalize, PixelData,
};

use crate::digits;
use crate::error::DataError;
use crate::idx;

/// Default fraction of the examples used for testing, for data without a test set.
pub const DEFAULT_TEST_FRACTION: f64 = 0.2;

/// Source of the data, with the options of its preparation.
///
/// ```
/// use wgrad_data::{Data, PixelData, load};
///
/// let digits = Data::Digits(PixelData { limit: Some(100), ..PixelData::default() });
/// let splits = load(&digits)?.flattened();
/// assert_eq!((splits.train.len(), splits.train.feature_shape()), (100, &[64][..]));
/// # Ok::<(), wgrad_data::DataError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Data {
    /// UCI optical digits, built in: 1,797 images of 8×8, ten classes.
    Digits(PixelData),
    /// Fashion-MNIST: 70,000 images of 28×28, ten classes.
    FashionMnist(PixelData),
    /// MNIST: 70,000 images of 28×28, ten classes.
    Mnist(PixelData),
    /// CIFAR-10: 60,000 colour images of 32×32, ten classes.
    #[serde(rename = "cifar-10")]
    Cifar10(PixelData),
    /// ISIC 2017: 2,750 colour images of skin lesions, three classes.
    #[serde(rename = "isic-2017")]
    Isic2017(IsicData),
    /// Image files in folders named after their classes.
    ImageFolder(ImageFolderData),
    /// Image files and a CSV file with their labels.
    ImageCsv(ImageCsvData),
    /// Table of numbers in a CSV file.
    Csv(CsvData),
}

impl Data {
    /// Name of the kind: the value of the key `kind` in a recipe and the name in the catalogue.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Digits(_) => "digits",
            Self::FashionMnist(_) => "fashion-mnist",
            Self::Mnist(_) => "mnist",
            Self::Cifar10(_) => "cifar-10",
            Self::Isic2017(_) => "isic-2017",
            Self::ImageFolder(_) => "image-folder",
            Self::ImageCsv(_) => "image-csv",
            Self::Csv(_) => "csv",
        }
    }

    /// Returns the options of the images, or `None` for a table of numbers.
    pub fn images(&self) -> Option<Images<'_>> {
        Some(match self {
            Self::Digits(data) => data.images(8, 1),
            Self::FashionMnist(data) | Self::Mnist(data) => data.images(28, 1),
            Self::Cifar10(data) => data.images(32, 3),
            Self::Isic2017(data) => data.images(),
            Self::ImageFolder(data) => data.images(),
            Self::ImageCsv(data) => data.images(),
            Self::Csv(_) => return None,
        })
    }

    /// Sets the normalisation of images. A table of numbers is not changed.
    pub fn with_normalize(mut self, normalize: Normalize) -> Self {
        match &mut self {
            Self::Digits(data) | Self::FashionMnist(data) | Self::Mnist(data) | Self::Cifar10(data) => {
                data.normalize = normalize;
            }
            Self::Isic2017(data) => data.normalize = normalize,
            Self::ImageFolder(data) => data.normalize = normalize,
            Self::ImageCsv(data) => data.normalize = normalize,
            Self::Csv(_) => {}
        }
        self
    }

    /// Sets the maximum number of training images. A table of numbers is not changed.
    pub fn with_limit(mut self, limit: usize) -> Self {
        match &mut self {
            Self::Digits(data) | Self::FashionMnist(data) | Self::Mnist(data) | Self::Cifar10(data) => {
                data.limit = Some(limit);
            }
            Self::Isic2017(data) => data.limit = Some(limit),
            Self::ImageFolder(data) => data.limit = Some(limit),
            Self::ImageCsv(data) => data.limit = Some(limit),
            Self::Csv(_) => {}
        }
        self
    }

    /// Divisor of the raw values in the files: the largest pixel value for images, 1 for a table.
    pub fn raw_scale(&self) -> f32 {
        match self {
            Self::Digits(_) => digits::LARGEST_PIXEL.into(),
            Self::Csv(_) => 1.0,
            _ => idx::LARGEST_PIXEL.into(),
        }
    }

    /// Checks the values whose range is narrower than their type: sizes, class names, the delimiter and augmentation.
    ///
    /// [`load`](crate::load()) calls this function.
    ///
    /// # Errors
    /// Returns [`DataError::Spec`] with the field, its range and its value.
    pub fn check(&self) -> Result<(), DataError> {
        match self {
            Self::Csv(data) => data.check(),
            _ => self.images().map_or(Ok(()), |images| images.check()),
        }
    }
}

/// Data sets that need no further options.
const NAMED: [fn() -> Data; 5] = [
    || Data::Digits(PixelData::default()),
    || Data::FashionMnist(PixelData::default()),
    || Data::Mnist(PixelData::default()),
    || Data::Cifar10(PixelData::default()),
    || Data::Isic2017(IsicData::default()),
];

impl FromStr for Data {
    type Err = DataError;

    /// Returns the data set of this name with default options.
    fn from_str(name: &str) -> Result<Self, DataError> {
        let named = || NAMED.iter().map(|make| make());
        named().find(|data| data.kind() == name).ok_or_else(|| DataError::Unknown {
            name: name.to_owned(),
            known: named().map(|data| data.kind()).collect::<Vec<_>>().join(", "),
        })
    }
}

pub(crate) fn refuse<T>(field: &'static str, problem: String) -> Result<T, DataError> {
    Err(DataError::Spec { field, problem })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::load;

    fn data(text: &str) -> Data {
        toml::from_str(text).unwrap()
    }

    fn refused(data: &Data) -> &'static str {
        match load(data) {
            Err(DataError::Spec { field, .. }) => field,
            other => panic!("{data:?}: {other:?}"),
        }
    }

    #[test]
    fn unknown_kinds_and_fields_are_refused() {
        for text in [
            "kind = 'imagenet'",
            "kind = 'digits'\nshuffel = true",
            "kind = 'csv'",
            "kind = 'mnist'\nlabel = 'last'",
        ] {
            assert!(toml::from_str::<Data>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn values_out_of_range_are_refused_by_field() {
        assert_eq!(refused(&data("kind = 'csv'\npath = 'x'\ndelimiter = '→'")), "delimiter");
        assert_eq!(refused(&data("kind = 'digits'\nlimit = 0")), "limit");
        let images = "kind = 'image-csv'\npath = 'x'\nlabels = 'y'\n";
        for (text, field) in [
            ("size = 0", "size"),
            ("size = 4097", "size"),
            ("channels = 2", "channels"),
            ("classes = ['a']", "classes"),
            ("classes = ['a', 'b', 'a']", "classes"),
        ] {
            assert_eq!(refused(&data(&format!("{images}{text}"))), field, "{text}");
        }
        assert_eq!(refused(&data("kind = 'digits'\nnormalize = 'imagenet'")), "normalize");
        assert_eq!(refused(&data("kind = 'digits'\naugment.crop = 9")), "augment.crop");
        let error = load(&data("kind = 'digits'\nvalidation_fraction = 1.0")).unwrap_err();
        assert!(matches!(error, DataError::Split { len: 1437, .. }), "{error}");
    }

    #[test]
    fn kinds_are_named_as_they_are_serialised() {
        let files = [
            Data::ImageFolder(ImageFolderData::new("a")),
            Data::ImageCsv(ImageCsvData::new("a", "b")),
            Data::Csv(CsvData::new(Path::new("a"))),
        ];
        for data in NAMED.iter().map(|make| make()).chain(files) {
            let text = toml::to_string(&data).unwrap();
            assert!(text.starts_with(&format!("kind = \"{}\"\n", data.kind())), "{text}");
            assert_eq!(toml::from_str::<Data>(&text).unwrap(), data);
            let named = data.kind().parse::<Data>().ok();
            assert!(named.is_none_or(|named| named == data));
        }
        let error = "imagenet".parse::<Data>().unwrap_err();
        assert!(error.to_string().ends_with("mnist, cifar-10, isic-2017"), "{error}");
    }

    #[test]
    fn normalisation_and_limit_are_set_for_every_kind_of_images() {
        let files =
            [Data::ImageFolder(ImageFolderData::new("a")), Data::ImageCsv(ImageCsvData::new("a", "b"))];
        for data in NAMED.iter().map(|make| make()).chain(files) {
            let changed = data.with_normalize(Normalize::Dataset).with_limit(3);
            let images = changed.images().unwrap();
            assert_eq!((images.normalize, images.limit), (Normalize::Dataset, Some(3)));
        }
    }
}
