//! Which data to train on: the `[data]` table of a recipe, and the one function that loads it.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::catalog::{Entry, data_dir, find_file, find_in};
use crate::csv_file::{CsvOptions, LAST, Task, read_csv};
use crate::dataset::Splits;
use crate::digits;
use crate::error::DataError;
use crate::idx;
use crate::split::{Purpose, draw, split_off};
use crate::standardize::Standardizer;

/// The share of a CSV file that becomes the test set, unless the specification says otherwise.
pub const DEFAULT_TEST_FRACTION: f64 = 0.2;

const DIGIT_NAMES: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
const FASHION_NAMES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

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
    /// A CSV file of the user's.
    Csv,
}

impl DataKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[Self::Digits, Self::FashionMnist, Self::Mnist, Self::Csv];

    /// What the raw numbers of its files are divided by.
    pub fn raw_scale(self) -> f32 {
        match self {
            Self::Digits => digits::LARGEST_PIXEL.into(),
            Self::FashionMnist | Self::Mnist => idx::LARGEST_PIXEL.into(),
            Self::Csv => 1.0,
        }
    }

    /// Its name in a recipe and in the catalogue.
    pub fn name(self) -> &'static str {
        match self {
            Self::Digits => "digits",
            Self::FashionMnist => "fashion-mnist",
            Self::Mnist => "mnist",
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
    /// The CSV file; a relative path starts at the current folder. Only for `csv`, and needed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
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
    /// The share of the file that becomes the test set, [`DEFAULT_TEST_FRACTION`] by default. Only for `csv`: the
    /// other kinds have a test set of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_fraction: Option<f64>,
    /// The share of the training set that becomes the validation set; none by default.
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

/// Loads what `spec` names and prepares it: split, then limited, then standardised, then flattened.
///
/// Features are `[n, 1, rows, columns]` in 0..1 for images and `[n, columns]` for a CSV file.
///
/// # Errors
/// [`DataError::NotFetched`] where a data set of the catalogue is not on this machine; [`DataError::Spec`] where a
/// field is missing or does not apply to the kind; otherwise those of the readers and of the split.
pub fn load(spec: &DataSpec) -> Result<Splits, DataError> {
    spec.check()?;
    let mut splits = match spec.kind {
        DataKind::Digits => digits::load()?,
        DataKind::FashionMnist => load_from_catalog(spec.kind, &FASHION_NAMES)?,
        DataKind::Mnist => load_from_catalog(spec.kind, &DIGIT_NAMES)?,
        DataKind::Csv => load_csv(spec)?,
    };
    splits.raw_scale = spec.kind.raw_scale();
    if let Some(fraction) = spec.validation_fraction {
        let (train, validation) = split_off(&splits.train, fraction, spec.seed, Purpose::Validation)?;
        (splits.train, splits.validation) = (train, Some(validation));
    }
    if let Some(limit) = spec.limit.filter(|&limit| limit < splits.train.len()) {
        splits.train = splits.train.subset(&draw(&splits.train, limit, spec.seed, Purpose::Limit).1)?;
    }
    if spec.standardize {
        let standardizer = Standardizer::fit(&splits.train);
        splits = Splits {
            train: standardizer.apply(splits.train)?,
            validation: splits.validation.map(|validation| standardizer.apply(validation)).transpose()?,
            test: standardizer.apply(splits.test)?,
            standardizer: Some(standardizer),
            ..splits
        };
    }
    Ok(if spec.flatten { splits.flattened() } else { splits })
}

impl DataSpec {
    /// Refuses what would otherwise be ignored in silence.
    fn check(&self) -> Result<(), DataError> {
        let spec_error = |field, problem: String| Err(DataError::Spec { field, problem });
        if self.limit == Some(0) {
            return spec_error("limit", "expected at least 1 training example, found 0".to_owned());
        }
        if self.kind == DataKind::Csv {
            return match (&self.path, self.delimiter) {
                (None, _) => spec_error("path", "kind = \"csv\" needs the path of a file".to_owned()),
                (_, Some(delimiter)) if !delimiter.is_ascii() => {
                    spec_error("delimiter", format!("expected an ASCII character, found `{delimiter}`"))
                }
                _ => Ok(()),
            };
        }
        let csv_only = [
            ("path", self.path.is_some()),
            ("label", self.label.is_some()),
            ("task", self.task.is_some()),
            ("header", self.header.is_some()),
            ("delimiter", self.delimiter.is_some()),
            ("test_fraction", self.test_fraction.is_some()),
        ];
        match csv_only.into_iter().find(|(_, given)| *given) {
            Some((field, _)) => {
                let kind = self.kind.name();
                spec_error(field, format!("applies to kind = \"csv\", not to \"{kind}\"; remove it"))
            }
            None => Ok(()),
        }
    }
}

fn load_csv(spec: &DataSpec) -> Result<Splits, DataError> {
    let options = CsvOptions {
        label: spec.label.clone().unwrap_or_else(|| LAST.to_owned()),
        task: spec.task.unwrap_or_default(),
        header: spec.header,
        delimiter: spec.delimiter.and_then(|c| u8::try_from(c).ok()).unwrap_or(b','),
    };
    let whole = read_csv(spec.path.as_deref().unwrap_or(Path::new("")), &options)?;
    let fraction = spec.test_fraction.unwrap_or(DEFAULT_TEST_FRACTION);
    let (train, test) = split_off(&whole, fraction, spec.seed, Purpose::Test)?;
    Ok(Splits::new(train, test))
}

fn load_from_catalog(kind: DataKind, names: &[&str]) -> Result<Splits, DataError> {
    let entry = Entry::named(kind.name())?;
    // A system package serves where there is no home, too.
    let folders = match data_dir() {
        Ok(data_dir) => entry.folders(&data_dir),
        Err(error) => vec![entry.system.map(|package| package.folder.into()).ok_or(error)?],
    };
    load_images(entry, folders, names)
}

/// The four idx files of `entry`, from the first folder that holds all of them.
fn load_images(entry: &Entry, folders: Vec<PathBuf>, names: &[&str]) -> Result<Splits, DataError> {
    let missing = |looked_in| DataError::NotFetched {
        dataset: entry.name,
        looked_in,
        package: entry.system.map(|package| package.debian),
    };
    let folder = find_in(entry.files, folders.clone()).ok_or_else(|| missing(folders))?;
    let read = |part: &str| {
        let file = |what| {
            let name = format!("{part}-{what}-ubyte.gz");
            find_file(&folder, &name).ok_or_else(|| missing(vec![folder.clone()]))
        };
        idx::read_pair(entry.name, &file("images-idx3")?, &file("labels-idx1")?, names)
    };
    Ok(Splits::new(read("train")?, read("t10k")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Dataset, Targets};

    fn spec(text: &str) -> DataSpec {
        toml::from_str(text).unwrap()
    }

    fn csv(folder: &Path) -> PathBuf {
        let path = folder.join("set.csv");
        let lines: String = (0..100).map(|i| format!("{i},{},{}\n", i * 2 + 7, i % 4)).collect();
        std::fs::write(&path, format!("a,b,class\n{lines}")).unwrap();
        path
    }

    #[test]
    fn a_csv_is_split_and_standardised_by_the_training_set() {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = spec("kind = 'csv'\nlabel = 'class'\ntest_fraction = 0.25\nvalidation_fraction = 0.2");
        spec.path = Some(csv(folder.path()));
        let plain = load(&spec).unwrap();
        let validation = plain.validation.as_ref().unwrap();
        assert_eq!((plain.train.len(), validation.len(), plain.test.len()), (60, 15, 25));
        let mut all: Vec<f32> = [&plain.train, validation, &plain.test]
            .iter()
            .flat_map(|part| part.to_f32().into_iter().step_by(2))
            .collect();
        all.sort_by(f32::total_cmp);
        assert_eq!(all, (0..100).map(|i| i as f32).collect::<Vec<_>>());

        spec.standardize = true;
        let scaled = load(&spec).unwrap();
        let mean = |set: &Dataset| set.to_f32().iter().sum::<f32>() / set.to_f32().len() as f32;
        assert!(mean(&scaled.train).abs() < 1e-6);
        let standardizer = scaled.standardizer.unwrap();
        assert_eq!(standardizer, Standardizer::fit(&plain.train));
        assert_eq!(scaled.test, standardizer.apply(plain.test).unwrap());
    }

    #[test]
    fn limit_keeps_the_classes_in_proportion_and_the_test_set_whole() {
        let splits = load(&spec("kind = 'digits'\nlimit = 50\nflatten = true")).unwrap();
        assert_eq!((splits.train.len(), splits.test.len()), (50, 360));
        assert_eq!((splits.train.feature_shape(), splits.test.feature_shape()), (&[64][..], &[64][..]));
        let Targets::Classes { labels, .. } = splits.train.targets() else { panic!("no classes") };
        assert!((0..10).all(|digit| labels.iter().filter(|&&label| label == digit).count() == 5));
        assert_eq!(load(&spec("kind = 'digits'\nlimit = 5000")).unwrap().train.len(), 1437);
    }

    #[test]
    fn regression_has_values() {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = spec("kind = 'csv'\ntask = 'regression'");
        spec.path = Some(csv(folder.path()));
        let splits = load(&spec).unwrap();
        assert_eq!((splits.test.len(), splits.test.targets().outputs()), (20, 1));
        assert_eq!(splits.test.targets().classes(), None);
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
        assert!(error.to_string().ends_with("known are digits, fashion-mnist, mnist, csv"), "{error}");
    }

    #[test]
    fn a_missing_data_set_says_how_to_get_it() {
        let folder = tempfile::tempdir().unwrap();
        let entry = Entry::named("fashion-mnist").unwrap();
        let error = load_images(entry, vec![folder.path().to_path_buf()], &FASHION_NAMES).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("`wgrad data get fashion-mnist`"), "{text}");
        assert!(text.contains("`apt install dataset-fashion-mnist`"), "{text}");
        assert!(text.contains(&folder.path().display().to_string()), "{text}");
    }

    #[test]
    fn four_small_idx_files_make_the_splits() {
        let folder = tempfile::tempdir().unwrap();
        for (part, n) in [("train", 3_u8), ("t10k", 2)] {
            let images = [&[0, 0, 8, 3, 0, 0, 0, n, 0, 0, 0, 1, 0, 0, 0, 2][..], &vec![255; 2 * n as usize]];
            let labels = [&[0, 0, 8, 1, 0, 0, 0, n][..], &vec![9; n as usize]];
            let write = |what: &str, bytes: [&[u8]; 2]| {
                std::fs::write(folder.path().join(format!("{part}-{what}-ubyte")), bytes.concat()).unwrap();
            };
            write("images-idx3", images);
            write("labels-idx1", labels);
        }
        let entry = Entry::named("mnist").unwrap();
        let splits = load_images(entry, vec![folder.path().to_path_buf()], &DIGIT_NAMES).unwrap();
        assert_eq!((splits.train.len(), splits.test.len()), (3, 2));
        assert_eq!(splits.train.feature_shape(), [1, 1, 2]);
    }

    /// Runs where the Debian package or a fetched copy is; elsewhere it says that it did not.
    #[test]
    fn fashion_mnist_loads_whole() {
        match load(&DataKind::FashionMnist.into()) {
            Err(DataError::NotFetched { .. } | DataError::NoDataDir) => {
                eprintln!("skipped: fashion_mnist_loads_whole: the data set is not on this machine");
            }
            result => {
                let splits = result.unwrap();
                assert_eq!((splits.train.len(), splits.test.len()), (60_000, 10_000));
                let Targets::Classes { labels, names } = splits.test.targets() else { panic!("no classes") };
                assert_eq!(names[labels[0] as usize], "Ankle boot");
                assert!((0..10).all(|c| labels.iter().filter(|&&label| label == c).count() == 1000));
            }
        }
    }
}
