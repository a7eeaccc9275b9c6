//! The keys of `[data]`, kind by kind. What they share by being images can be asked with [`Data::images`].

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

use super::schema::Data;

/// Keys of the images whose files and size are fixed: `"digits"`, `"fashion-mnist"`, `"mnist"`, `"cifar-10"`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PixelData {
    /// How the values of a channel are normalised.
    pub normalize: Normalize,
    /// Share of the training set kept for validation, in (0, 1). Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_fraction: Option<f64>,
    /// Training examples at most, drawn by class. Absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Seed of `validation_fraction` and `limit`, apart from `train.seed`.
    pub split_seed: u64,
    /// Random changes of training images.
    pub augment: Augment,
}

/// Keys of `kind = "isic-2017"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IsicData {
    /// Labels that become classes, in this order; other images are left out. Absent: all three.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<String>>,
    /// Side that images are brought to, in pixels.
    pub size: usize,
    /// 3 for colour, 1 for grey.
    pub channels: usize,
    /// How the values of a channel are normalised.
    pub normalize: Normalize,
    /// Training examples at most, drawn by class. Absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Seed of `limit`, apart from `train.seed`.
    pub split_seed: u64,
    /// Random changes of training images.
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

/// Keys of `kind = "image-folder"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageFolderData {
    /// The folder that holds `train/CLASS/IMAGE`; a relative path starts at the working directory. Has no default.
    pub path: PathBuf,
    /// Folders that become classes, in this order; others are left out. Absent: all, sorted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<String>>,
    /// Side that images are brought to, in pixels.
    #[serde(default = "default_size")]
    pub size: usize,
    /// 3 for colour, 1 for grey.
    #[serde(default = "rgb")]
    pub channels: usize,
    /// How the values of a channel are normalised.
    #[serde(default)]
    pub normalize: Normalize,
    /// Share of the training set kept for testing where there is no folder `test`, in (0, 1). Absent: a fifth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_fraction: Option<f64>,
    /// Share of the training set kept for validation where there is no folder for that, in (0, 1). Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_fraction: Option<f64>,
    /// Training examples at most, drawn by class. Absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Seed of the shares and of `limit`, apart from `train.seed`.
    #[serde(default)]
    pub split_seed: u64,
    /// Random changes of training images.
    #[serde(default)]
    pub augment: Augment,
}

/// Keys of `kind = "image-csv"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageCsvData {
    /// The folder of images; a relative path starts at the working directory. Has no default.
    pub path: PathBuf,
    /// The CSV file of labels, with a header. Has no default.
    pub labels: PathBuf,
    /// Its column of image names, with or without their ending. Absent: the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_column: Option<String>,
    /// Its column of labels. Absent: the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_column: Option<String>,
    /// Its column that says `train`, `validation` or `test`. Absent: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_column: Option<String>,
    /// Labels that become classes, in this order; other images are left out. Absent: all, sorted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<String>>,
    /// Side that images are brought to, in pixels.
    #[serde(default = "default_size")]
    pub size: usize,
    /// 3 for colour, 1 for grey.
    #[serde(default = "rgb")]
    pub channels: usize,
    /// How the values of a channel are normalised.
    #[serde(default)]
    pub normalize: Normalize,
    /// Share of the training set kept for testing where no line says `test`, in (0, 1). Absent: a fifth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_fraction: Option<f64>,
    /// Share of the training set kept for validation where no line says so, in (0, 1). Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_fraction: Option<f64>,
    /// Training examples at most, drawn by class. Absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Seed of the shares and of `limit`, apart from `train.seed`.
    #[serde(default)]
    pub split_seed: u64,
    /// Random changes of training images.
    #[serde(default)]
    pub augment: Augment,
}

/// Keys of `kind = "csv"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CsvData {
    /// The file; a relative path starts at the working directory. Has no default.
    pub path: PathBuf,
    /// The column to predict, by what the header says. Absent: the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What the label is.
    #[serde(default)]
    pub task: Task,
    /// Whether the first line names the columns. Absent: found out from the line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<bool>,
    /// The character between two fields.
    #[serde(default = "comma")]
    pub delimiter: char,
    /// Share of the rows kept for testing, in (0, 1).
    #[serde(default = "one_fifth")]
    pub test_fraction: f64,
    /// Seed of the split; apart from `train.seed`, so that runs with different seeds test on the same rows.
    #[serde(default)]
    pub split_seed: u64,
    /// Whether each input column is brought to mean 0 and deviation 1, both measured on the training rows.
    #[serde(default = "yes")]
    pub standardize: bool,
}

fn yes() -> bool {
    true
}

fn comma() -> char {
    ','
}

fn one_fifth() -> f64 {
    0.2
}

fn default_size() -> usize {
    64
}

fn rgb() -> usize {
    3
}

/// What a label is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// One of a few classes; cross-entropy and accuracy.
    #[default]
    Classification,
    /// A number; squared error.
    Regression,
}

/// How the values of a channel, which are in 0..1, are normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalize {
    /// Not at all.
    #[default]
    None,
    /// To mean 0 and deviation 1, both measured on the training set.
    Dataset,
    /// By ImageNet's mean and deviation; for colour images.
    Imagenet,
}

/// `[data.augment]`: random changes of training images, in the order of the keys. Absent: none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Cuts out a share of the area between these two and scales it to full size. Absent: not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<[f64; 2]>,
    /// Pads each side by so many pixels of 0 and cuts the image's size out of that.
    pub crop: usize,
    /// Mirrors left and right, half of the time.
    pub flip: bool,
    /// Mirrors top and bottom, half of the time.
    pub vertical_flip: bool,
    /// Turns by a multiple of 90 degrees.
    pub rotate90: bool,
    /// Adds up to so much to all values, or takes it away, in [0, 1].
    pub brightness: f64,
    /// Changes the distance from the mean by up to this share, in [0, 1].
    pub contrast: f64,
    /// Sets a square of this side to 0.
    pub cutout: usize,
}

/// What all kinds of images have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Images<'a> {
    /// Side in pixels; all are square.
    pub size: usize,
    /// 3 for colour, 1 for grey.
    pub channels: usize,
    /// Labels that become classes, where they were chosen.
    pub classes: Option<&'a [String]>,
    /// How the values of a channel are normalised.
    pub normalize: Normalize,
    /// Share of the training set kept for testing, where one was chosen.
    pub test_fraction: Option<f64>,
    /// Share of the training set kept for validation.
    pub validation_fraction: Option<f64>,
    /// Training examples at most.
    pub limit: Option<usize>,
    /// Seed of the shares and of `limit`.
    pub split_seed: u64,
    /// Random changes of training images.
    pub augment: &'a Augment,
}

/// Takes the keys that have the same names in every kind; the rest is the kind's own.
macro_rules! images {
    ($data:ident, $($own:ident: $value:expr),* $(,)?) => {
        Images {
            normalize: $data.normalize,
            limit: $data.limit,
            split_seed: $data.split_seed,
            augment: &$data.augment,
            $($own: $value,)*
        }
    };
}

impl Data {
    /// What the kind says about its images; `None` where it has none.
    pub fn images(&self) -> Option<Images<'_>> {
        Some(match self {
            Self::Digits(data) => fixed(8, 1, data),
            Self::FashionMnist(data) | Self::Mnist(data) => fixed(28, 1, data),
            Self::Cifar10(data) => fixed(32, 3, data),
            Self::Isic2017(data) => images!(
                data,
                size: data.size,
                channels: data.channels,
                classes: data.classes.as_deref(),
                test_fraction: None,
                validation_fraction: None,
            ),
            Self::ImageFolder(data) => images!(
                data,
                size: data.size,
                channels: data.channels,
                classes: data.classes.as_deref(),
                test_fraction: data.test_fraction,
                validation_fraction: data.validation_fraction,
            ),
            Self::ImageCsv(data) => images!(
                data,
                size: data.size,
                channels: data.channels,
                classes: data.classes.as_deref(),
                test_fraction: data.test_fraction,
                validation_fraction: data.validation_fraction,
            ),
            Self::Csv(_) => return None,
        })
    }
}

fn fixed(size: usize, channels: usize, data: &PixelData) -> Images<'_> {
    images!(
        data,
        size: size,
        channels: channels,
        classes: None,
        test_fraction: None,
        validation_fraction: data.validation_fraction,
    )
}
