//! Loads data: finds and reads the files, then splits, limits and normalises the examples.

use std::path::{Path, PathBuf};

use crate::catalog::{Entry, data_dir, find_file, find_in};
use crate::cifar;
use crate::csv_file::read_csv;
use crate::digits;
use crate::error::DataError;
use crate::idx;
use crate::images::{ImageSplits, TableOptions, read_folder, read_table};
use crate::pixels::{ChannelStats, Pixels};
use crate::spec::{
    CsvData, DEFAULT_TEST_FRACTION, Data, ImageCsvData, ImageFolderData, Images, IsicData, Normalize, refuse,
};
use crate::split::{Purpose, draw, split_off};
use crate::splits::Splits;
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

/// Loads data, splits it, limits the training set, and normalises or standardises the features, in this order.
///
/// Features have shape `[n, channels, rows, columns]` for images and `[n, columns]` for a CSV file. Pixel values are
/// in 0..1 unless they are normalised. [`Splits::flattened`] converts each image to one row. Training images are not
/// augmented here: a [`Loader`](crate::Loader) augments them with [`Splits::augment`].
///
/// # Errors
/// Returns an error if a data set of the catalogue is not on this machine ([`DataError::NotFetched`]), if a value is
/// out of range ([`DataError::Spec`]), if a file cannot be read, or if a split would be empty.
pub fn load(data: &Data) -> Result<Splits, DataError> {
    load_with(data, &data_dir)
}

/// Loads data like [`load`], but reads fetched files from `data_dir` instead of [`data_dir()`].
///
/// # Errors
/// Returns the errors of [`load`].
pub fn load_from(data: &Data, data_dir: &Path) -> Result<Splits, DataError> {
    load_with(data, &|| Ok(data_dir.to_path_buf()))
}

/// Function that returns the folder for fetched data. Called only if the folder is needed.
type DataDir<'a> = dyn Fn() -> Result<PathBuf, DataError> + 'a;

fn load_with(data: &Data, data_dir: &DataDir<'_>) -> Result<Splits, DataError> {
    data.check()?;
    let kind = data.kind();
    let mut splits = match data {
        Data::Digits(_) => digits::load()?,
        Data::FashionMnist(_) => load_idx(kind, data_dir, &FASHION_NAMES)?,
        Data::Mnist(_) => load_idx(kind, data_dir, &DIGIT_NAMES)?,
        Data::Cifar10(_) => cifar::read(&unpacked(kind, data_dir)?)?,
        Data::Isic2017(isic) => load_isic(isic, &unpacked(kind, data_dir)?)?,
        Data::ImageFolder(folder) => load_image_folder(folder)?,
        Data::ImageCsv(table) => load_image_csv(table)?,
        Data::Csv(table) => load_csv(table)?,
    };
    splits.raw_scale = data.raw_scale();
    match data.images() {
        Some(images) => prepare_images(splits, &images),
        None => Ok(splits),
    }
}

/// Splits off the validation set, limits the training set and normalises all splits.
fn prepare_images(mut splits: Splits, images: &Images<'_>) -> Result<Splits, DataError> {
    splits.augment = *images.augment;
    if let Some(fraction) = images.validation_fraction {
        if splits.validation.is_some() {
            return refuse(
                "validation_fraction",
                "must be absent: the data has its own validation set".to_owned(),
            );
        }
        let (train, validation) = split_off(&splits.train, fraction, images.split_seed, Purpose::Validation)?;
        (splits.train, splits.validation) = (train, Some(validation));
    }
    if let Some(limit) = images.limit.filter(|&limit| limit < splits.train.len()) {
        let drawn = draw(&splits.train, limit, images.split_seed, Purpose::Limit).1;
        splits.train = splits.train.subset(&drawn)?;
    }
    Ok(match images.normalize {
        Normalize::None => splits,
        Normalize::Dataset => normalized(splits, Pixels::measure),
        Normalize::Imagenet => normalized(splits, |_| ChannelStats::imagenet()),
    })
}

/// Normalises the channels of all splits with statistics of the training images.
fn normalized(splits: Splits, stats: impl Fn(&Pixels) -> ChannelStats) -> Splits {
    let Some(stats) = splits.train.pixels().map(stats) else { return splits };
    Splits {
        train: splits.train.with_channels(&stats),
        validation: splits.validation.map(|validation| validation.with_channels(&stats)),
        test: splits.test.with_channels(&stats),
        ..splits
    }
}

/// Returns splits with the test set of the data. If the data has no test set, splits off `fraction` of the
/// training set, or [`DEFAULT_TEST_FRACTION`] if `fraction` is `None`.
fn with_test(parts: ImageSplits, fraction: Option<f64>, seed: u64) -> Result<Splits, DataError> {
    let ImageSplits { train, validation, test } = parts;
    let (train, test) = match (test, fraction) {
        (Some(_), Some(_)) => {
            return refuse("test_fraction", "must be absent: the data has its own test set".to_owned());
        }
        (Some(test), None) => (train, test),
        (None, fraction) => {
            split_off(&train, fraction.unwrap_or(DEFAULT_TEST_FRACTION), seed, Purpose::Test)?
        }
    };
    Ok(Splits { validation, ..Splits::new(train, test) })
}

fn load_image_folder(data: &ImageFolderData) -> Result<Splits, DataError> {
    let parts = read_folder(&data.path, data.images().form()?, data.classes.as_deref())?;
    with_test(parts, data.test_fraction, data.split_seed)
}

fn load_image_csv(data: &ImageCsvData) -> Result<Splits, DataError> {
    let options = TableOptions {
        image_column: data.image_column.clone(),
        label_column: data.label_column.clone(),
        split_column: data.split_column.clone(),
        classes: data.classes.clone(),
    };
    let parts = read_table(&data.labels, &data.path, data.images().form()?, &options)?;
    with_test(parts, data.test_fraction, data.split_seed)
}

fn load_isic(data: &IsicData, folder: &Path) -> Result<Splits, DataError> {
    let column = |name: &str| Some(name.to_owned());
    let options = TableOptions {
        image_column: column("image_id"),
        label_column: column("label"),
        split_column: column("split"),
        classes: data.classes.clone(),
    };
    let parts = read_table(&folder.join("labels.csv"), folder, data.images().form()?, &options)?;
    with_test(parts, None, data.split_seed)
}

fn load_csv(data: &CsvData) -> Result<Splits, DataError> {
    let whole = read_csv(&data.path, &data.reader_options())?;
    let (train, test) = split_off(&whole, data.test_fraction, data.split_seed, Purpose::Test)?;
    if !data.standardize {
        return Ok(Splits::new(train, test));
    }
    let standardizer = Standardizer::fit(&train);
    let splits = Splits::new(standardizer.apply(train)?, standardizer.apply(test)?);
    Ok(Splits { standardizer: Some(standardizer), ..splits })
}

/// Returns the folder of an unpacked archive of the catalogue.
fn unpacked(name: &str, data_dir: &DataDir<'_>) -> Result<PathBuf, DataError> {
    let (entry, folders) = search_folders(name, data_dir)?;
    find(entry, folders)
}

fn load_idx(name: &str, data_dir: &DataDir<'_>, classes: &[&str]) -> Result<Splits, DataError> {
    let (entry, folders) = search_folders(name, data_dir)?;
    read_idx_files(entry, folders, classes)
}

fn search_folders(name: &str, data_dir: &DataDir<'_>) -> Result<(&'static Entry, Vec<PathBuf>), DataError> {
    let entry = Entry::named(name)?;
    // The folder of the system package is searched even if there is no home directory.
    let folders = match data_dir() {
        Ok(data_dir) => entry.folders(&data_dir),
        Err(error) => vec![entry.system.map(|package| package.folder.into()).ok_or(error)?],
    };
    Ok((entry, folders))
}

fn not_fetched(entry: &Entry, looked_in: Vec<PathBuf>) -> DataError {
    let package = entry.system.map(|package| package.debian);
    DataError::NotFetched { dataset: entry.name, looked_in, package }
}

fn find(entry: &Entry, folders: Vec<PathBuf>) -> Result<PathBuf, DataError> {
    find_in(entry, &folders).ok_or_else(|| not_fetched(entry, folders))
}

/// Reads the four idx files of `entry` from the first folder that contains all of them.
fn read_idx_files(entry: &Entry, folders: Vec<PathBuf>, classes: &[&str]) -> Result<Splits, DataError> {
    let folder = find(entry, folders)?;
    let read = |part: &str| {
        let file = |what| {
            let name = format!("{part}-{what}-ubyte.gz");
            find_file(&folder, &name).ok_or_else(|| not_fetched(entry, vec![folder.clone()]))
        };
        idx::read_pair(entry.name, &file("images-idx3")?, &file("labels-idx1")?, classes)
    };
    Ok(Splits::new(read("train")?, read("t10k")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::Augment;
    use crate::csv_file::Task;
    use crate::dataset::{Dataset, Targets};

    fn data(text: &str) -> Data {
        toml::from_str(text).unwrap()
    }

    fn refused(data: &Data) -> &'static str {
        match load(data) {
            Err(DataError::Spec { field, .. }) => field,
            other => panic!("expected a specification error, got {other:?}"),
        }
    }

    fn csv(folder: &Path) -> PathBuf {
        let path = folder.join("set.csv");
        let lines: String = (0..100).map(|i| format!("{i},{},{}\n", i * 2 + 7, i % 4)).collect();
        std::fs::write(&path, format!("a,b,class\n{lines}")).unwrap();
        path
    }

    #[test]
    fn csv_is_split_and_standardised_with_training_statistics() {
        let folder = tempfile::tempdir().unwrap();
        let mut data = CsvData {
            label: Some("class".into()),
            test_fraction: 0.25,
            standardize: false,
            ..CsvData::new(csv(folder.path()))
        };
        let plain = load(&Data::Csv(data.clone())).unwrap();
        assert_eq!((plain.train.len(), plain.validation, plain.test.len()), (75, None, 25));
        let parts = [&plain.train, &plain.test];
        let mut all: Vec<f32> = parts.iter().flat_map(|part| part.to_f32().into_iter().step_by(2)).collect();
        all.sort_by(f32::total_cmp);
        assert_eq!(all, (0..100).map(|i| i as f32).collect::<Vec<_>>());

        data.standardize = true;
        let scaled = load(&Data::Csv(data)).unwrap();
        let mean = |set: &Dataset| set.to_f32().iter().sum::<f32>() / set.to_f32().len() as f32;
        assert!(mean(&scaled.train).abs() < 1e-6);
        let standardizer = scaled.standardizer.unwrap();
        assert_eq!(standardizer, Standardizer::fit(&plain.train));
        assert_eq!(scaled.test, standardizer.apply(plain.test).unwrap());
    }

    #[test]
    fn limit_keeps_class_proportions_and_does_not_change_the_test_set() {
        let splits = load(&data("kind = 'digits'\nlimit = 50")).unwrap().flattened();
        assert_eq!((splits.train.len(), splits.test.len()), (50, 360));
        assert_eq!((splits.train.feature_shape(), splits.test.feature_shape()), (&[64][..], &[64][..]));
        let Targets::Classes { labels, .. } = splits.train.targets() else { panic!("no classes") };
        assert!((0..10).all(|digit| labels.iter().filter(|&&label| label == digit).count() == 5));
        assert_eq!(load(&data("kind = 'digits'\nlimit = 5000")).unwrap().train.len(), 1437);
    }

    #[test]
    fn regression_targets_are_values() {
        let folder = tempfile::tempdir().unwrap();
        let data = CsvData { task: Task::Regression, ..CsvData::new(csv(folder.path())) };
        let splits = load(&Data::Csv(data)).unwrap();
        assert_eq!((splits.test.len(), splits.test.targets().outputs()), (20, 1));
        assert_eq!(splits.test.targets().classes(), None);
    }

    #[test]
    fn missing_data_set_names_the_command_to_get_it() {
        let folder = tempfile::tempdir().unwrap();
        let entry = Entry::named("fashion-mnist").unwrap();
        let error = read_idx_files(entry, vec![folder.path().to_path_buf()], &FASHION_NAMES).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("`wgrad data get fashion-mnist`"), "{text}");
        assert!(text.contains("`apt install dataset-fashion-mnist`"), "{text}");
        assert!(text.contains(&folder.path().display().to_string()), "{text}");
    }

    #[test]
    fn four_idx_files_form_the_splits() {
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
        let splits = read_idx_files(entry, vec![folder.path().to_path_buf()], &DIGIT_NAMES).unwrap();
        assert_eq!((splits.train.len(), splits.test.len()), (3, 2));
        assert_eq!(splits.train.feature_shape(), [1, 1, 2]);
    }

    /// Requires the Debian package or a fetched copy. Prints that the test is skipped if neither exists.
    #[test]
    fn fashion_mnist_is_complete() {
        match load(&data("kind = 'fashion-mnist'")) {
            Err(DataError::NotFetched { .. } | DataError::NoDataDir) => {
                eprintln!("skipped: fashion_mnist_is_complete: the data set is not on this machine");
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

    /// Creates a folder of grey images with two classes per split. The brightness depends on split, class and image.
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
    fn image_folder_without_a_test_set_is_split() {
        let folder = image_folder(&["train"]);
        let mut data = ImageFolderData {
            size: 2,
            channels: 1,
            validation_fraction: Some(0.25),
            ..ImageFolderData::new(folder.path())
        };
        let splits = load(&Data::ImageFolder(data.clone())).unwrap();
        let validation = splits.validation.as_ref().unwrap();
        assert_eq!((splits.train.len(), validation.len(), splits.test.len()), (12, 4, 4));
        assert_eq!(splits.train.feature_shape(), [1, 2, 2]);
        assert_eq!(splits.raw_scale, 255.0);
        data.test_fraction = Some(0.5);
        assert_eq!(load(&Data::ImageFolder(data)).unwrap().test.len(), 10);
    }

    #[test]
    fn existing_splits_are_not_drawn_again() {
        let folder = image_folder(&["train", "val", "test"]);
        let data =
            ImageFolderData { size: 2, channels: 1, limit: Some(4), ..ImageFolderData::new(folder.path()) };
        let splits = load(&Data::ImageFolder(data.clone())).unwrap();
        assert_eq!((splits.train.len(), splits.validation.unwrap().len(), splits.test.len()), (4, 20, 20));
        let half = Some(0.5);
        let test = ImageFolderData { test_fraction: half, ..data.clone() };
        assert_eq!(refused(&Data::ImageFolder(test)), "test_fraction");
        let validation = ImageFolderData { validation_fraction: half, ..data.clone() };
        assert_eq!(refused(&Data::ImageFolder(validation)), "validation_fraction");
        assert_eq!(refused(&Data::ImageFolder(data).with_normalize(Normalize::Imagenet)), "normalize");
    }

    #[test]
    fn all_splits_are_normalised_with_training_statistics() {
        let folder = image_folder(&["train", "test"]);
        let augment = Augment { flip: true, ..Augment::default() };
        let data =
            Data::ImageFolder(ImageFolderData { size: 2, augment, ..ImageFolderData::new(folder.path()) });
        let splits = load(&data.clone().with_normalize(Normalize::Dataset)).unwrap();
        assert_eq!(splits.augment, augment);
        let train = splits.train.to_f32();
        let mean = train.iter().sum::<f32>() / train.len() as f32;
        let square = train.iter().map(|x| x * x).sum::<f32>() / train.len() as f32;
        assert!(mean.abs() < 1e-4 && (square - 1.0).abs() < 1e-4, "{mean} {square}");
        // The test images are 100 levels brighter than the training images, whose standard deviation is about 25
        // levels.
        let test = splits.test.to_f32();
        assert!(test.iter().sum::<f32>() / test.len() as f32 > 3.0);
        let stats = load(&data.with_normalize(Normalize::Imagenet))
            .unwrap()
            .test
            .pixels()
            .unwrap()
            .channels()
            .clone();
        assert_eq!(stats, ChannelStats::imagenet());
    }

    #[test]
    fn table_of_labels_forms_the_splits() {
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
        let data = ImageCsvData { size: 3, ..ImageCsvData::new(folder.path(), labels) };
        let splits = load(&Data::ImageCsv(data)).unwrap();
        assert_eq!((splits.train.len(), splits.test.len()), (8, 2));
        assert_eq!(splits.train.feature_shape(), [3, 3, 3]);
    }
}
