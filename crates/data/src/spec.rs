//! Which data to train on: the `[data]` table of a recipe. [`load`](crate::load()) loads it.

use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::augment::Augment;
use crate::csv_file::Task;
use crate::digits;
use crate::error::DataError;
use crate::idx;
use crate::images::{Channels, ImageForm};

/// The share of the user's own data that becomes the test set, unless the specification says otherwise.
pub const DEFAULT_TEST_FRACTION: f64 = 0.2;

/// The side in pixels that images are brought to, unless the specification says otherwise.
pub const DEFAULT_SIZE: usize = 64;

/// The largest side that images can be brought to.
pub const MAX_SIZE: usize = 4096;

/// What kind of data a [`DataSpec`] names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataKind {
    /// The UCI optical digits, built in.
    Digits,
    /// Fashion-MNIST, from the catalogue.
    FashionMnist,
    /// MNIST, from the catalogue.
    Mnist,
    /// CIFAR-10, from the catalogue.
    #[serde(rename = "cifar-10")]
    Cifar10,
    /// ISIC 2017, skin lesions, from the catalogue.
    #[serde(rename = "isic-2017")]
    Isic2017,
    /// Images of the user's, in folders of classes.
    ImageFolder,
    /// Images of the user's, and a CSV file of their labels.
    ImageCsv,
    /// A CSV file of the user's.
    Csv,
}

use DataKind::{Csv, ImageCsv, ImageFolder, Isic2017};

impl DataKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[
        Self::Digits,
        Self::FashionMnist,
        Self::Mnist,
        Self::Cifar10,
        Self::Isic2017,
        Self::ImageFolder,
        Self::ImageCsv,
        Self::Csv,
    ];

    /// What the raw numbers of its files are divided by.
    pub fn raw_scale(self) -> f32 {
        match self {
            Self::Digits => digits::LARGEST_PIXEL.into(),
            Self::Csv => 1.0,
            _ => idx::LARGEST_PIXEL.into(),
        }
    }

    /// Whether its examples are images.
    pub fn is_images(self) -> bool {
        self != Self::Csv
    }

    /// Its name in a recipe and in the catalogue.
    pub fn name(self) -> &'static str {
        match self {
            Self::Digits => "digits",
            Self::FashionMnist => "fashion-mnist",
            Self::Mnist => "mnist",
            Self::Cifar10 => "cifar-10",
            Self::Isic2017 => "isic-2017",
            Self::ImageFolder => "image-folder",
            Self::ImageCsv => "image-csv",
            Self::Csv => "csv",
        }
    }
}

impl FromStr for DataKind {
    type Err = DataError;

    fn from_str(name: &str) -> Result<Self, DataError> {
        Self::ALL.iter().find(|kind| kind.name() == name).copied().ok_or_else(|| DataError::Unknown {
            name: name.to_owned(),
            known: Self::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", "),
        })
    }
}

/// How the channels of images in 0..1 are normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalize {
    /// Not at all.
    #[default]
    None,
    /// To mean 0 and deviation 1 in each channel, both measured on the training set.
    Dataset,
    /// By the mean and deviation of ImageNet's training set, for colour images.
    Imagenet,
}

/// Which data, and how it is prepared.
///
/// ```
/// let spec: wgrad_data::DataSpec = toml::from_str("kind = 'digits'\nflatten = true\nlimit = 100")?;
/// let splits = wgrad_data::load(&spec)?;
/// assert_eq!((splits.train.len(), splits.train.feature_shape()), (100, &[64][..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// The kind of data.
    pub kind: DataKind,
    /// The CSV file, or the folder of images; a relative path starts at the current folder. Only for `csv`,
    /// `image-folder` and `image-csv`, and needed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The CSV file with the labels of the images, with a header. Only for `image-csv`, and needed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// Its column of image names, with or without their ending; the first by default. Only for `image-csv`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_column: Option<String>,
    /// Its column of labels; the last by default. Only for `image-csv`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_column: Option<String>,
    /// Its column that says `train`, `validation` or `test`; none by default. Only for `image-csv`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_column: Option<String>,
    /// The labels that become classes, in this order; images with others are left out. All of them, sorted, by default.
    /// Only for `isic-2017`, `image-folder` and `image-csv`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<String>>,
    /// Side in pixels that images are brought to, [`DEFAULT_SIZE`] by default, at most [`MAX_SIZE`]. Only for `isic-2017`,
    /// `image-folder` and `image-csv`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
    /// 3 for colour (the default) or 1 for grey. Only for `isic-2017`, `image-folder` and `image-csv`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
    /// How channels are normalised. Only for images.
    #[serde(default)]
    pub normalize: Normalize,
    /// What is done to training images at random, handed on in [`Splits::augment`](crate::Splits). Only for images.
    #[serde(default, skip_serializing_if = "Augment::is_off")]
    pub augment: Augment,
    /// The target column: its name in the header, or `last` (the default). Only for `csv`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// `classification` (the default) or `regression`. Only for `csv`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// Whether the first line is a header; detected by default. Only for `csv`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<bool>,
    /// The character between cells, a comma by default. Only for `csv`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// The share of the examples that becomes the test set, [`DEFAULT_TEST_FRACTION`] by default. Only for `csv`, and for
    /// `image-folder` and `image-csv` without a test set of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_fraction: Option<f64>,
    /// The share of the training set that becomes the validation set; none by default. Not where the data has a
    /// validation set of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_fraction: Option<f64>,
    /// Seed of the splits and of `limit`, 0 by default. The test sets of the other kinds do not depend on it.
    #[serde(default)]
    pub seed: u64,
    /// Keep this many training examples at most, drawn with the classes in proportion. The validation and test sets
    /// stay whole, so that accuracies remain comparable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Give an example's features one dimension: `[1, 28, 28]` becomes `[784]`.
    #[serde(default)]
    pub flatten: bool,
    /// Bring each feature to mean 0 and standard deviation 1, by the statistics of the training set.
    #[serde(default)]
    pub standardize: bool,
}

impl From<DataKind> for DataSpec {
    /// The kind with every default.
    fn from(kind: DataKind) -> Self {
        Self {
            kind,
            path: None,
            labels: None,
            image_column: None,
            label_column: None,
            split_column: None,
            classes: None,
            size: None,
            channels: None,
            normalize: Normalize::None,
            augment: Augment::default(),
            label: None,
            task: None,
            header: None,
            delimiter: None,
            test_fraction: None,
            validation_fraction: None,
            seed: 0,
            limit: None,
            flatten: false,
            standardize: false,
        }
    }
}

impl FromStr for DataSpec {
    type Err = DataError;

    /// The data set of that name, with every default.
    fn from_str(name: &str) -> Result<Self, DataError> {
        name.parse::<DataKind>().map(Self::from)
    }
}

impl DataSpec {
    /// What images are brought to, for the kinds that leave it open.
    pub(crate) fn image_form(&self) -> Result<ImageForm, DataError> {
        let size = self.size.unwrap_or(DEFAULT_SIZE);
        if !(1..=MAX_SIZE).contains(&size) {
            return refuse("size", format!("expected 1 to {MAX_SIZE} pixels, found {size}"));
        }
        let count = self.channels.unwrap_or(3);
        match Channels::of(count) {
            Some(channels) => Ok(ImageForm { size, channels }),
            None => refuse("channels", format!("expected 1 (grey) or 3 (colour), found {count}")),
        }
    }

    /// Refuses what would otherwise be ignored in silence.
    pub(crate) fn check(&self) -> Result<(), DataError> {
        if self.limit == Some(0) {
            return refuse("limit", "expected at least 1 training example, found 0".to_owned());
        }
        self.check_kind()?;
        if let Some(delimiter) = self.delimiter.filter(|delimiter| !delimiter.is_ascii()) {
            return refuse("delimiter", format!("expected an ASCII character, found `{delimiter}`"));
        }
        if let Some(classes) = &self.classes {
            if let Some(i) = (1..classes.len()).find(|&i| classes[..i].contains(&classes[i])) {
                return refuse("classes", format!("`{}` is named twice", classes[i]));
            }
            if classes.len() < 2 {
                return refuse("classes", format!("expected at least 2 classes, found {}", classes.len()));
            }
        }
        self.image_form()?;
        self.check_values()
    }

    /// Fields that the kind does not have, and those that it needs.
    fn check_kind(&self) -> Result<(), DataError> {
        let own = &[Csv, ImageFolder, ImageCsv][..];
        let shaped = &[Isic2017, ImageFolder, ImageCsv][..];
        let fields = [
            ("path", self.path.is_some(), own),
            ("test_fraction", self.test_fraction.is_some(), own),
            ("label", self.label.is_some(), &[Csv][..]),
            ("task", self.task.is_some(), &[Csv]),
            ("header", self.header.is_some(), &[Csv]),
            ("delimiter", self.delimiter.is_some(), &[Csv]),
            ("labels", self.labels.is_some(), &[ImageCsv]),
            ("image_column", self.image_column.is_some(), &[ImageCsv]),
            ("label_column", self.label_column.is_some(), &[ImageCsv]),
            ("split_column", self.split_column.is_some(), &[ImageCsv]),
            ("classes", self.classes.is_some(), shaped),
            ("size", self.size.is_some(), shaped),
            ("channels", self.channels.is_some(), shaped),
        ];
        let kind = self.kind.name();
        for (field, given, kinds) in fields {
            if given && !kinds.contains(&self.kind) {
                let kinds: Vec<String> = kinds.iter().map(|kind| format!("\"{}\"", kind.name())).collect();
                let kinds = kinds.join(" or ");
                return refuse(field, format!("applies to kind = {kinds}, not to \"{kind}\"; remove it"));
            }
        }
        if self.path.is_none() && own.contains(&self.kind) {
            let what = if self.kind == Csv { "file" } else { "folder" };
            return refuse("path", format!("kind = \"{kind}\" needs the path of a {what}"));
        }
        if self.labels.is_none() && self.kind == ImageCsv {
            return refuse("labels", format!("kind = \"{kind}\" needs the path of a CSV file"));
        }
        Ok(())
    }

    /// Normalisation, standardisation and augmentation have to agree.
    fn check_values(&self) -> Result<(), DataError> {
        let normalize = self.normalize != Normalize::None;
        if !self.kind.is_images() && (normalize || !self.augment.is_off()) {
            let field = if normalize { "normalize" } else { "augment" };
            return refuse(field, "applies to images, not to kind = \"csv\"; remove it".to_owned());
        }
        if self.standardize && (normalize || !self.augment.is_off()) {
            let field = if normalize { "normalize" } else { "augment" };
            return refuse(field, "does not go together with `standardize`; remove one of them".to_owned());
        }
        Ok(())
    }
}

pub(crate) fn refuse<T>(field: &'static str, problem: String) -> Result<T, DataError> {
    Err(DataError::Spec { field, problem })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load;

    fn spec(text: &str) -> DataSpec {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_recipe_with_a_wrong_field_is_refused() {
        let error = toml::from_str::<DataSpec>("kind = 'digits'\nshuffel = true").unwrap_err();
        assert!(error.to_string().contains("shuffel"), "{error}");
        assert!(toml::from_str::<DataSpec>("kind = 'imagenet'").is_err());
        let refused = |text: &str| match load(&spec(text)) {
            Err(DataError::Spec { field, .. }) => field,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(refused("kind = 'csv'"), "path");
        assert_eq!(refused("kind = 'csv'\npath = 'x'\ndelimiter = '→'"), "delimiter");
        assert_eq!(refused("kind = 'digits'\ntest_fraction = 0.5"), "test_fraction");
        assert_eq!(refused("kind = 'mnist'\nlabel = 'last'"), "label");
        assert_eq!(refused("kind = 'digits'\nlimit = 0"), "limit");
        assert_eq!(refused("kind = 'image-folder'"), "path");
        assert_eq!(refused("kind = 'image-csv'\npath = 'x'"), "labels");
        let images = "kind = 'image-csv'\npath = 'x'\nlabels = 'y'\n";
        for (text, field) in [
            ("label = 'z'", "label"),
            ("size = 0", "size"),
            ("size = 4097", "size"),
            ("channels = 2", "channels"),
            ("classes = ['a']", "classes"),
            ("classes = ['a', 'b', 'a']", "classes"),
            ("normalize = 'dataset'\nstandardize = true", "normalize"),
            ("augment.flip = true\nstandardize = true", "augment"),
        ] {
            assert_eq!(refused(&format!("{images}{text}")), field, "{text}");
        }
        for field in ["labels", "image_column", "label_column", "split_column"] {
            assert_eq!(refused(&format!("kind = 'image-folder'\npath = 'x'\n{field} = 'y'")), field);
        }
        for text in ["size = 3", "channels = 1", "classes = ['a', 'b']", "path = 'x'", "test_fraction = 0.1"]
        {
            assert_eq!(refused(&format!("kind = 'cifar-10'\n{text}")), text.split(' ').next().unwrap());
        }
        assert_eq!(refused("kind = 'csv'\npath = 'x'\nnormalize = 'dataset'"), "normalize");
        assert_eq!(refused("kind = 'csv'\npath = 'x'\naugment.flip = true"), "augment");
        // These are found out from the images.
        assert_eq!(refused("kind = 'digits'\nnormalize = 'imagenet'"), "normalize");
        assert_eq!(refused("kind = 'digits'\naugment.crop = 9"), "augment.crop");
        let error = load(&spec("kind = 'digits'\nvalidation_fraction = 1.0")).unwrap_err();
        assert!(matches!(error, DataError::Split { len: 1437, .. }), "{error}");
    }

    #[test]
    fn names_round_trip_and_specs_too() {
        for kind in DataKind::ALL {
            assert_eq!(kind.name().parse::<DataKind>().unwrap(), *kind);
            let spec = DataSpec { limit: Some(3), delimiter: Some(';'), ..DataSpec::from(*kind) };
            let text = toml::to_string(&spec).unwrap();
            assert!(text.contains(kind.name()), "{text}");
            assert_eq!(toml::from_str::<DataSpec>(&text).unwrap(), spec);
        }
        let error = "imagenet".parse::<DataSpec>().unwrap_err();
        assert!(
            error.to_string().ends_with("mnist, cifar-10, isic-2017, image-folder, image-csv, csv"),
            "{error}"
        );
    }
}
