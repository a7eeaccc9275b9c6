//! Reader of CIFAR-10: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
//!
//! The publisher's binary files have 10,000 records each. A record is a label byte followed by 3 × 32 × 32 bytes: the
//! red, green and blue planes, row by row. The same images can also be read from JPEG files, with one folder per
//! class.

pub(crate) mod problem;

pub use problem::CifarProblem;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::dataset::{Dataset, Targets};
use crate::error::DataError;
use crate::images::{Channels, ImageForm, ImagesProblem, read_folder};
use crate::splits::Splits;

const TRAIN: [&str; 5] =
    ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];
const TEST: [&str; 1] = ["test_batch.bin"];
const NAMES_FILE: &str = "batches.meta.txt";
const NAMES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

const SIDE: usize = 32;
const PIXELS: usize = 3 * SIDE * SIDE;
const RECORD: usize = 1 + PIXELS;
/// Number of records in a binary file.
const RECORDS: usize = 10_000;

/// Reads 50,000 training images and 10,000 test images of shape `[3, 32, 32]` from a folder. The folder contains
/// either the binary files or the image files.
///
/// # Errors
/// Returns [`DataError::Cifar`] if a binary file is malformed, [`DataError::Images`] if the image files cannot be
/// used, and [`DataError::Io`] if a file is missing or cannot be read.
pub fn read(folder: &Path) -> Result<Splits, DataError> {
    if folder.join("train").is_dir() {
        let form = ImageForm { size: SIDE, channels: Channels::Rgb };
        let parts = read_folder(folder, form, None)?;
        let no_test = || DataError::Images { path: folder.join("test"), problem: ImagesProblem::NoClasses };
        return Ok(Splits::new(parts.train, parts.test.ok_or_else(no_test)?));
    }
    read_binary(folder, RECORDS)
}

fn read_binary(folder: &Path, records: usize) -> Result<Splits, DataError> {
    let names = names(&folder.join(NAMES_FILE))?;
    let part = |files: &[&str]| {
        let (mut labels, mut bytes) = (Vec::new(), Vec::with_capacity(files.len() * records * PIXELS));
        for file in files {
            read_records(&folder.join(file), records, &mut labels, &mut bytes)?;
        }
        let targets = Targets::Classes { labels, names: names.clone() };
        Dataset::from_pixels("cifar-10", bytes, [3, SIDE, SIDE], u8::MAX, targets)
    };
    Ok(Splits::new(part(&TRAIN)?, part(&TEST)?))
}

fn read_records(
    path: &Path,
    records: usize,
    labels: &mut Vec<u32>,
    pixels: &mut Vec<u8>,
) -> Result<(), DataError> {
    let problem = |problem| DataError::Cifar { path: path.to_path_buf(), problem };
    let expected = records * RECORD;
    let mut bytes = Vec::with_capacity(expected + 1);
    let file = File::open(path).map_err(DataError::io("read", path))?;
    // Reads up to one byte more than expected, to detect a file that is too long.
    file.take(expected as u64 + 1).read_to_end(&mut bytes).map_err(DataError::io("read", path))?;
    if bytes.len() != expected {
        return Err(problem(CifarProblem::Length { expected, found: bytes.len() }));
    }
    for (record, bytes) in bytes.chunks_exact(RECORD).enumerate() {
        let label = bytes[0];
        if usize::from(label) >= NAMES.len() {
            return Err(problem(CifarProblem::Label { record, label }));
        }
        labels.push(label.into());
        pixels.extend_from_slice(&bytes[1..]);
    }
    Ok(())
}

/// Returns the class names in the file at `path`. If the file does not exist, returns the published names.
fn names(path: &Path) -> Result<Vec<String>, DataError> {
    if !path.exists() {
        return Ok(NAMES.map(str::to_owned).to_vec());
    }
    let text = std::fs::read_to_string(path).map_err(DataError::io("read", path))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let names: Vec<String> = lines.map(str::to_owned).collect();
    if names.len() != NAMES.len() {
        let problem = CifarProblem::Names { found: names.len() };
        return Err(DataError::Cifar { path: PathBuf::from(path), problem });
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Creates a temporary folder with all binary files. Each file has two records. The label depends on the file, and
    /// the planes have different values.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (i, name) in TRAIN.iter().chain(&TEST).enumerate() {
            let record = |second: bool| {
                let mut record = vec![i as u8 + u8::from(second)];
                (0..3).for_each(|plane| record.extend([51 * plane; SIDE * SIDE]));
                record[1] = 10 * i as u8 + u8::from(second);
                record
            };
            std::fs::write(folder.path().join(name), [record(false), record(true)].concat()).unwrap();
        }
        folder
    }

    fn problem(folder: &tempfile::TempDir) -> (String, CifarProblem) {
        match read_binary(folder.path(), 2) {
            Err(DataError::Cifar { path, problem }) => {
                (path.file_name().unwrap().to_str().unwrap().to_owned(), problem)
            }
            other => panic!("expected a CIFAR-10 problem, got {other:?}"),
        }
    }

    #[test]
    fn records_keep_the_order_of_the_files() {
        let folder = folder();
        let splits = read_binary(folder.path(), 2).unwrap();
        assert_eq!((splits.train.len(), splits.test.len()), (10, 2));
        assert_eq!(splits.train.feature_shape(), [3, 32, 32]);
        let Targets::Classes { labels, names } = splits.train.targets() else { panic!("no classes") };
        assert_eq!(labels[..], [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]);
        assert_eq!((names[0].as_str(), names[9].as_str()), ("airplane", "truck"));
        let image = splits.test.example(1).unwrap();
        assert_eq!([image[0], image[1], image[1024], image[3071]], [51.0 / 255.0, 0.0, 0.2, 0.4]);
    }

    #[test]
    fn class_names_are_read_from_the_file() {
        let folder = folder();
        let write = |text: &str| std::fs::write(folder.path().join(NAMES_FILE), text).unwrap();
        write("a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n");
        let splits = read_binary(folder.path(), 2).unwrap();
        let Targets::Classes { names, .. } = splits.test.targets() else { panic!("no classes") };
        assert_eq!(names.concat(), "abcdefghij");
        write("a\nb\n");
        assert_eq!(problem(&folder), (NAMES_FILE.into(), CifarProblem::Names { found: 2 }));
    }

    #[test]
    fn malformed_files_are_refused_by_name() {
        let folder = folder();
        let path = folder.path().join("data_batch_3.bin");
        let whole = std::fs::read(&path).unwrap();
        let expected = 2 * RECORD;
        for found in [0, RECORD, expected - 1] {
            std::fs::write(&path, &whole[..found]).unwrap();
            let length = CifarProblem::Length { expected, found };
            assert_eq!(problem(&folder), ("data_batch_3.bin".into(), length));
        }
        std::fs::write(&path, [&whole[..], &[0; 9]].concat()).unwrap();
        assert!(problem(&folder).1.to_string().contains("found more"));
        let mut wrong = whole;
        wrong[RECORD] = 10;
        std::fs::write(&path, wrong).unwrap();
        assert_eq!(problem(&folder).1, CifarProblem::Label { record: 1, label: 10 });
        std::fs::remove_file(&path).unwrap();
        let error = read_binary(folder.path(), 2).unwrap_err();
        assert!(error.to_string().contains("data_batch_3.bin"), "{error}");
    }
}
