//! Options of image data sets.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::refuse;
use crate::augment::Augment;
use crate::error::DataError;
use crate::images::form::{Channels, ImageForm};

/// Default side length of images, in pixels.
pub const DEFAULT_SIZE: usize = 64;

/// Maximum side length of images, in pixels.
pub const MAX_SIZE: usize = 4096;

/// Normalisation of the channels of images. Values are in 0..1 before normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Normalize {
    /// Values stay in 0..1.
    #[default]
    None,
    /// Each channel is scaled to mean 0 and standard deviation 1 on the training set.
    Dataset,
    /// Each channel is scaled with the mean and standard deviation of ImageNet's training set; requires colour images.
    Imagenet,
}

/// Options of images whose files and size are fixed: `digits`, `fashion-mnist`, `mnist` and `cifar-10`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PixelData {
    /// Normalisation of each channel.
    pub normalize: Normalize,
    /// Fraction of the training set used for validation, the same for each class. Absent: no validation set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1)))]
    pub validation_fraction: Option<f64>,
    /// Maximum number of training examples, drawn from the classes in proportion to their size. Absent: all examples.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 4_294_967_295_u64)))]
    pub limit: Option<usize>,
    /// Seed of the validation split and of `limit`, independent of `train.seed`.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 9_223_372_036_854_775_807_u64)))]
    pub split_seed: u64,
    /// Random augmentation of training images.
    pub augment: Augment,
}

/// Options of ISIC 2017.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct IsicData {
    /// Labels to use as classes, in this order; images with other labels are skipped. Absent: all three labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(min = 2), extend("uniqueItems" = true)))]
    pub classes: Option<Vec<String>>,
    /// Side length in pixels. Each image is cropped to its largest centred square and scaled to this size.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = MAX_SIZE)))]
    pub size: usize,
    /// Number of channels: 3 for colour, 1 for grey. Images with other channels are converted.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = [1, 3])))]
    pub channels: usize,
    /// Normalisation of each channel.
    pub normalize: Normalize,
    /// Maximum number of training examples, drawn from the classes in proportion to their size. Absent: all examples.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 4_294_967_295_u64)))]
    pub limit: Option<usize>,
    /// Seed of `limit`, independent of `train.seed`.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 9_223_372_036_854_775_807_u64)))]
    pub split_seed: u64,
    /// Random augmentation of training images.
    pub augment: Augment,
}

impl Default for IsicData {
    fn default() -> Self {
        Self {
            classes: None,
            size: default_size(),
            channels: rgb(),
            normalize: Normalize::None,
            limit: None,
            split_seed: 0,
            augment: Augment::default(),
        }
    }
}

/// Options of image files in folders named after their classes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ImageFolderData {
    /// Folder that contains `train/CLASS/IMAGE`; a relative path is resolved from the working directory.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub path: PathBuf,
    /// Folders to use as classes, in this order; other folders are skipped. Absent: all folders, sorted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(min = 2), extend("uniqueItems" = true)))]
    pub classes: Option<Vec<String>>,
    /// Side length in pixels. Each image is cropped to its largest centred square and scaled to this size.
    #[serde(default = "default_size")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = MAX_SIZE)))]
    pub size: usize,
    /// Number of channels: 3 for colour, 1 for grey. Images with other channels are converted.
    #[serde(default = "rgb")]
    #[cfg_attr(feature = "schema", schemars(extend("enum" = [1, 3])))]
    pub channels: usize,
    /// Normalisation of each channel.
    #[serde(default)]
    pub normalize: Normalize,
    /// Fraction of the training set used for testing, if there is no folder `test`. Absent: 0.2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1)))]
    pub test_fraction: Option<f64>,
    /// Fraction of the training set used for validation, if there is no folder `validation`. Absent: no validation
    /// set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1)))]
    pub validation_fraction: Option<f64>,
    /// Maximum number of training examples, drawn from the classes in proportion to their size. Absent: all examples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 4_294_967_295_u64)))]
    pub limit: Option<usize>,
    /// Seed of the splits and of `limit`, independent of `train.seed`.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 9_223_372_036_854_775_807_u64)))]
    pub split_seed: u64,
    /// Random augmentation of training images.
    #[serde(default)]
    pub augment: Augment,
}

impl ImageFolderData {
    /// Creates the specification of an image folder with default options.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            classes: None,
            size: default_size(),
            channels: rgb(),
            normalize: Normalize::None,
            test_fraction: None,
            validation_fraction: None,
            limit: None,
            split_seed: 0,
            augment: Augment::default(),
        }
    }
}

/// Options of image files with a CSV file of labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ImageCsvData {
    /// Folder of the images; a relative path is resolved from the working directory.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub path: PathBuf,
    /// CSV file with the labels and a header; a relative path is resolved from the working directory.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub labels: PathBuf,
    /// Column of image file names, which may lack the extension. Absent: the first column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_column: Option<String>,
    /// Column of labels. Absent: the last column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_column: Option<String>,
    /// Column that contains `train`, `validation` or `test`. Absent: all images are for training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_column: Option<String>,
    /// Labels to use as classes, in this order; images with other labels are skipped. Absent: all labels, sorted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(min = 2), extend("uniqueItems" = true)))]
    pub classes: Option<Vec<String>>,
    /// Side length in pixels. Each image is cropped to its largest centred square and scaled to this size.
    #[serde(default = "default_size")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = MAX_SIZE)))]
    pub size: usize,
    /// Number of channels: 3 for colour, 1 for grey. Images with other channels are converted.
    #[serde(default = "rgb")]
    #[cfg_attr(feature = "schema", schemars(extend("enum" = [1, 3])))]
    pub channels: usize,
    /// Normalisation of each channel.
    #[serde(default)]
    pub normalize: Normalize,
    /// Fraction of the training set used for testing, if no row is in the test split. Absent: 0.2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1)))]
    pub test_fraction: Option<f64>,
    /// Fraction of the training set used for validation, if no row is in the validation split. Absent: no validation
    /// set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1)))]
    pub validation_fraction: Option<f64>,
    /// Maximum number of training examples, drawn from the classes in proportion to their size. Absent: all examples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 4_294_967_295_u64)))]
    pub limit: Option<usize>,
    /// Seed of the splits and of `limit`, independent of `train.seed`.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 9_223_372_036_854_775_807_u64)))]
    pub split_seed: u64,
    /// Random augmentation of training images.
    #[serde(default)]
    pub augment: Augment,
}

impl ImageCsvData {
    /// Creates the specification of an image folder with a CSV file of labels and default options.
    pub fn new(path: impl Into<PathBuf>, labels: impl Into<PathBuf>) -> Self {
        let folder = ImageFolderData::new(path);
        Self {
            path: folder.path,
            labels: labels.into(),
            image_column: None,
            label_column: None,
            split_column: None,
            classes: None,
            size: folder.size,
            channels: folder.channels,
            normalize: folder.normalize,
            test_fraction: None,
            validation_fraction: None,
            limit: None,
            split_seed: folder.split_seed,
            augment: folder.augment,
        }
    }
}

fn default_size() -> usize {
    DEFAULT_SIZE
}

fn rgb() -> usize {
    3
}

/// Options common to all kinds of images. Options that a kind does not have are `None`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Images<'a> {
    /// Side length in pixels; all images are square.
    pub size: usize,
    /// Number of channels: 3 for colour, 1 for grey.
    pub channels: usize,
    /// Labels to use as classes, in order.
    pub classes: Option<&'a [String]>,
    /// Normalisation of each channel.
    pub normalize: Normalize,
    /// Fraction of the training set used for testing.
    pub test_fraction: Option<f64>,
    /// Fraction of the training set used for validation.
    pub validation_fraction: Option<f64>,
    /// Maximum number of training examples.
    pub limit: Option<usize>,
    /// Seed of the splits and of `limit`.
    pub split_seed: u64,
    /// Random augmentation of training images.
    pub augment: &'a Augment,
}

/// Creates [`Images`] from the fields that all kinds have in common and the given fields.
macro_rules! images {
    ($data:ident, $($field:ident: $value:expr),* $(,)?) => {
        Images {
            normalize: $data.normalize,
            limit: $data.limit,
            split_seed: $data.split_seed,
            augment: &$data.augment,
            $($field: $value,)*
        }
    };
}

impl PixelData {
    pub(super) fn images(&self, size: usize, channels: usize) -> Images<'_> {
        images!(
            self,
            size: size,
            channels: channels,
            classes: None,
            test_fraction: None,
            validation_fraction: self.validation_fraction,
        )
    }
}

impl IsicData {
    pub(crate) fn images(&self) -> Images<'_> {
        images!(
            self,
            size: self.size,
            channels: self.channels,
            classes: self.classes.as_deref(),
            test_fraction: None,
            validation_fraction: None,
        )
    }
}

impl ImageFolderData {
    pub(crate) fn images(&self) -> Images<'_> {
        images!(
            self,
            size: self.size,
            channels: self.channels,
            classes: self.classes.as_deref(),
            test_fraction: self.test_fraction,
            validation_fraction: self.validation_fraction,
        )
    }
}

impl ImageCsvData {
    pub(crate) fn images(&self) -> Images<'_> {
        images!(
            self,
            size: self.size,
            channels: self.channels,
            classes: self.classes.as_deref(),
            test_fraction: self.test_fraction,
            validation_fraction: self.validation_fraction,
        )
    }
}

impl Images<'_> {
    pub(super) fn check(&self) -> Result<(), DataError> {
        if self.limit == Some(0) {
            return refuse("limit", "must be at least 1, found 0".to_owned());
        }
        if let Some(classes) = self.classes {
            if let Some(i) = (1..classes.len()).find(|&i| classes[..i].contains(&classes[i])) {
                return refuse("classes", format!("must be different labels, found `{}` twice", classes[i]));
            }
            if classes.len() < 2 {
                return refuse("classes", format!("must be 2 or more labels, found {}", classes.len()));
            }
        }
        let [channels, height, width] = self.form()?.shape();
        if self.normalize == Normalize::Imagenet && channels != 3 {
            let problem = "must be \"dataset\" or \"none\" for grey images, found \"imagenet\"";
            return refuse("normalize", problem.to_owned());
        }
        self.augment.check([channels, height, width])
    }

    /// Returns the size and channels to which image files are converted.
    pub(crate) fn form(&self) -> Result<ImageForm, DataError> {
        let size = self.size;
        if !(1..=MAX_SIZE).contains(&size) {
            return refuse("size", format!("must be 1 to {MAX_SIZE}, found {size}"));
        }
        match Channels::of(self.channels) {
            Some(channels) => Ok(ImageForm { size, channels }),
            None => refuse("channels", format!("must be 1 (grey) or 3 (colour), found {}", self.channels)),
        }
    }
}
