//! The one function that loads data: finds or reads it, splits, limits, normalises.

use std::path::{Path, PathBuf};

use crate::catalog::{Entry, data_dir, find_file, find_in};
use crate::cifar;
use crate::csv_file::{CsvOptions, LAST, read_csv};
use crate::dataset::Splits;
use crate::digits;
use crate::error::DataError;
use crate::idx;
use crate::images::{Parts, TableOptions, read_folder, read_table};
use crate::pixels::{ChannelStats, Pixels};
use crate::spec::{DEFAULT_TEST_FRACTION, DataKind, DataSpec, Normalize, refuse};
use crate::split::{Purpose, draw, split_off};
use crate::standardize::Standardizer;

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

/// Loads what `spec` names and prepares it: split, then limited, then normalised or standardised, then flattened.
///
/// Features are `[n, channels, rows, columns]` for images, in 0..1 unless they are normalised, and `[n, columns]` for a CSV
/// file. Training images are not augmented here: [`Splits::augment`] says what a [`Loader`](crate::Loader) has to do.
///
/// # Errors
/// [`DataError::NotFetched`] where a data set of the catalogue is not on this machine; [`DataError::Spec`] where a
/// field is missing or does not apply to the kind; otherwise those of the readers and of the split.
pub fn load(spec: &DataSpec) -> Result<Splits, DataError> {
    load_in(spec, data_dir)
}

/// [`load`], with fetched data in `data_dir` in place of [`data_dir()`].
///
/// # Errors
/// Those of [`load`].
pub fn load_from(spec: &DataSpec, data_dir: &Path) -> Result<Splits, DataError> {
    load_in(spec, || Ok(data_dir.to_path_buf()))
}

fn load_in(spec: &DataSpec, data_dir: impl Fn() -> Result<PathBuf, DataError>) -> Result<Splits, DataError> {
    spec.check()?;
    let data_dir = &data_dir;
    let mut splits = match spec.kind {
        DataKind::Digits => digits::load()?,
        DataKind::FashionMnist => load_from_catalog(spec.kind, data_dir, &FASHION_NAMES)?,
        DataKind::Mnist => load_from_catalog(spec.kind, data_dir, &DIGIT_NAMES)?,
        DataKind::Cifar10 => cifar::read(&unpacked(spec.kind, data_dir)?)?,
        DataKind::Isic2017 => with_test(load_isic(spec, &unpacked(spec.kind, data_dir)?)?, spec)?,
        DataKind::ImageFolder => {
            let form = spec.image_form()?;
            with_test(read_folder(path(&spec.path), form, spec.classes.as_deref())?, spec)?
        }
        DataKind::ImageCsv => with_test(load_image_csv(spec)?, spec)?,
        DataKind::Csv => load_csv(spec)?,
    };
    splits.raw_scale = spec.kind.raw_scale();
    splits.augment = spec.augment;
    if let Some(fraction) = spec.validation_fraction {
        if splits.validation.is_some() {
            let problem = "the data has a validation set of its own; remove it".to_owned();
            return refuse("validation_fraction", problem);
        }
        let (train, validation) = split_off(&splits.train, fraction, spec.seed, Purpose::Validation)?;
        (splits.train, splits.validation) = (train, Some(validation));
    }
    if let Some(limit) = spec.limit.filter(|&limit| limit < splits.train.len()) {
        splits.train = splits.train.subset(&draw(&splits.train, limit, spec.seed, Purpose::Limit).1)?;
    }
    if let Some(pixels) = splits.train.pixels() {
        spec.augment.check(pixels.shape())?;
        match spec.normalize {
            Normalize::None => {}
            Normalize::Dataset => splits = normalized(splits, |pixels| pixels.measure()),
            Normalize::Imagenet if pixels.shape()[0] == 3 => {
                splits = normalized(splits, |_| ChannelStats::imagenet());
            }
            Normalize::Imagenet => {
                let problem = "\"imagenet\" is for colour images, and these are grey; use \"dataset\"";
                return refuse("normalize", problem.to_owned());
            }
        }
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

/// Brings the channels of all parts to the form that the training images ask for.
fn normalized(splits: Splits, stats: impl Fn(&Pixels) -> ChannelStats) -> Splits {
    let Some(stats) = splits.train.pixels().map(stats) else { return splits };
    Splits {
        train: splits.train.with_channels(&stats),
        validation: splits.validation.map(|validation| validation.with_channels(&stats)),
        test: splits.test.with_channels(&stats),
        ..splits
    }
}

/// The parts with a test set: their own, or a share of the training set.
fn with_test(parts: Parts, spec: &DataSpec) -> Result<Splits, DataError> {
    let Parts { train, validation, test } = parts;
    let (train, test) = match (test, spec.test_fraction) {
        (Some(_), Some(_)) => {
            let problem = "the data has a test set of its own; remove it".to_owned();
            return refuse("test_fraction", problem);
        }
        (Some(test), None) => (train, test),
        (None, fraction) => {
            split_off(&train, fraction.unwrap_or(DEFAULT_TEST_FRACTION), spec.seed, Purpose::Test)?
        }
    };
    Ok(Splits { validation, ..Splits::new(train, test) })
}

/// A path that [`DataSpec::check`] has seen to be there.
fn path(path: &Option<PathBuf>) -> &Path {
    path.as_deref().unwrap_or(Path::new(""))
}

fn load_image_csv(spec: &DataSpec) -> Result<Parts, DataError> {
    let options = TableOptions {
        image_column: spec.image_column.clone(),
        label_column: spec.label_column.clone(),
        split_column: spec.split_column.clone(),
        classes: spec.classes.clone(),
    };
    read_table(path(&spec.labels), path(&spec.path), spec.image_form()?, &options)
}

fn load_isic(spec: &DataSpec, folder: &Path) -> Result<Parts, DataError> {
    let column = |name: &str| Some(name.to_owned());
    let options = TableOptions {
        image_column: column("image_id"),
        label_column: column("label"),
        split_column: column("split"),
        classes: spec.classes.clone(),
    };
    read_table(&folder.join("labels.csv"), folder, spec.image_form()?, &options)
}

fn load_csv(spec: &DataSpec) -> Result<Splits, DataError> {
    let options = CsvOptions {
        label: spec.label.clone().unwrap_or_else(|| LAST.to_owned()),
        task: spec.task.unwrap_or_default(),
        header: spec.header,
        delimiter: spec.delimiter.and_then(|c| u8::try_from(c).ok()).unwrap_or(b','),
    };
    let whole = read_csv(path(&spec.path), &options)?;
    let fraction = spec.test_fraction.unwrap_or(DEFAULT_TEST_FRACTION);
    let (train, test) = split_off(&whole, fraction, spec.seed, Purpose::Test)?;
    Ok(Splits::new(train, test))
}

/// The folder that an archive of the catalogue was unpacked to.
fn unpacked(kind: DataKind, data_dir: &DataDir<'_>) -> Result<PathBuf, DataError> {
    let (entry, folders) = places(kind, data_dir)?;
    find(entry, folders)
}

fn load_from_catalog(kind: DataKind, data_dir: &DataDir<'_>, names: &[&str]) -> Result<Splits, DataError> {
    let (entry, folders) = places(kind, data_dir)?;
    load_images(entry, folders, names)
}

/// The folder for fetched data, asked for only where it is needed.
type DataDir<'a> = dyn Fn() -> Result<PathBuf, DataError> + 'a;

fn places(kind: DataKind, data_dir: &DataDir<'_>) -> Result<(&'static Entry, Vec<PathBuf>), DataError> {
    let entry = Entry::named(kind.name())?;
    // A system package serves where there is no home, too.
    let folders = match data_dir() {
        Ok(data_dir) => entry.folders(&data_dir),
        Err(error) => vec![entry.system.map(|package| package.folder.into()).ok_or(error)?],
    };
    Ok((entry, folders))
}

fn missing(entry: &Entry, looked_in: Vec<PathBuf>) -> DataError {
    let package = entry.system.map(|package| package.debian);
    DataError::NotFetched { dataset: entry.name, looked_in, package }
}

fn find(entry: &Entry, folders: Vec<PathBuf>) -> Result<PathBuf, DataError> {
    find_in(entry, &folders).ok_or_else(|| missing(entry, folders))
}

/// The four idx files of `entry`, from the first folder that holds all of them.
fn load_images(entry: &Entry, folders: Vec<PathBuf>, names: &[&str]) -> Result<Splits, DataError> {
    let folder = find(entry, folders)?;
    let read = |part: &str| {
        let file = |what| {
            let name = format!("{part}-{what}-ubyte.gz");
            find_file(&folder, &name).ok_or_else(|| missing(entry, vec![folder.clone()]))
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

    #[test]
    /// Runs where the Debian package or a fetched copy is; elsewhere it says that it did not.
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

    /// Four classes-and-parts folders of grey images, whose brightness says which they are.
    fn image_folder(parts: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (p, part) in parts.iter().enumerate() {
            for (c, class) in ["a", "b"].iter().enumerate() {
                let place = folder.path().join(part).join(class);
                std::fs::create_dir_all(&place).unwrap();
                for i in 0..10 {
                    let pixel = image::Luma([(100 * p + 50 * c + i) as u8]);
                    image::GrayImage::from_pixel(3, 3, pixel).save(place.join(format!("{i}.png"))).unwrap();
                }
            }
        }
        folder
    }

    #[test]
    fn an_image_folder_without_a_test_set_is_split() {
        let folder = image_folder(&["train"]);
        let mut spec = spec("kind = 'image-folder'\nsize = 2\nchannels = 1\nvalidation_fraction = 0.25");
        spec.path = Some(folder.path().to_path_buf());
        let splits = load(&spec).unwrap();
        let validation = splits.validation.as_ref().unwrap();
        assert_eq!((splits.train.len(), validation.len(), splits.test.len()), (12, 4, 4));
        assert_eq!(splits.train.feature_shape(), [1, 2, 2]);
        assert_eq!(splits.raw_scale, 255.0);
        spec.test_fraction = Some(0.5);
        assert_eq!(load(&spec).unwrap().test.len(), 10);
    }

    #[test]
    fn parts_that_the_data_has_are_not_drawn_again() {
        let folder = image_folder(&["train", "val", "test"]);
        let mut spec = spec("kind = 'image-folder'\nsize = 2\nchannels = 1\nlimit = 4");
        spec.path = Some(folder.path().to_path_buf());
        let splits = load(&spec).unwrap();
        assert_eq!((splits.train.len(), splits.validation.unwrap().len(), splits.test.len()), (4, 20, 20));
        let refused = |spec: &DataSpec| match load(spec) {
            Err(DataError::Spec { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        let share = Some(0.5);
        assert_eq!(refused(&DataSpec { test_fraction: share, ..spec.clone() }), "test_fraction");
        assert_eq!(refused(&DataSpec { validation_fraction: share, ..spec.clone() }), "validation_fraction");
        spec.normalize = Normalize::Imagenet;
        assert_eq!(refused(&spec), "normalize");
    }

    #[test]
    fn all_parts_are_normalised_by_the_training_set() {
        let folder = image_folder(&["train", "test"]);
        let mut spec = spec("kind = 'image-folder'\nsize = 2\nnormalize = 'dataset'\naugment.flip = true");
        spec.path = Some(folder.path().to_path_buf());
        let splits = load(&spec).unwrap();
        assert_eq!(splits.augment, spec.augment);
        let train = splits.train.to_f32();
        let mean = train.iter().sum::<f32>() / train.len() as f32;
        let square = train.iter().map(|x| x * x).sum::<f32>() / train.len() as f32;
        assert!(mean.abs() < 1e-4 && (square - 1.0).abs() < 1e-4, "{mean} {square}");
        // 100 brighter than the training images, whose deviation is about 25.
        let test = splits.test.to_f32();
        assert!(test.iter().sum::<f32>() / test.len() as f32 > 3.0);
        spec.normalize = Normalize::Imagenet;
        let stats = load(&spec).unwrap().test.pixels().unwrap().channels().clone();
        assert_eq!(stats, ChannelStats::imagenet());
    }

    #[test]
    fn a_table_of_labels_makes_the_splits() {
        let folder = image_folder(&["train"]);
        let rows: String = (0..10).map(|i| format!("{i},ant\n")).collect();
        let labels = folder.path().join("labels.csv");
        std::fs::write(&labels, format!("id,label\n{rows}")).unwrap();
        for i in 0..10 {
            std::fs::rename(
                folder.path().join(format!("train/a/{i}.png")),
                folder.path().join(format!("{i}.png")),
            )
            .unwrap();
        }
        let mut spec = spec("kind = 'image-csv'\nsize = 3");
        (spec.path, spec.labels) = (Some(folder.path().to_path_buf()), Some(labels));
        let splits = load(&spec).unwrap();
        assert_eq!((splits.train.len(), splits.test.len()), (8, 2));
        assert_eq!(splits.train.feature_shape(), [3, 3, 3]);
    }
}
