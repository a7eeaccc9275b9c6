//! Reader of idx files, the format of MNIST and similar data sets, plain or gzipped.
//!
//! An idx file of unsigned bytes consists of `00 00 08 rank`, one big-endian `u32` per dimension, and the bytes in
//! row-major order. Images have rank 3 (`[n, rows, columns]`), labels rank 1 (`[n]`).

pub(crate) mod problem;

pub use problem::IdxProblem;

use std::io::Read;
use std::path::Path;

use crate::dataset::{Dataset, Targets};
use crate::error::DataError;
use crate::open::open;

pub(crate) const LARGEST_PIXEL: u8 = 255;

/// Reads a data set of images and labels. Pixels have shape `[n, 1, rows, columns]`.
///
/// `name` is the name of the data set, and `names` are the names of the classes in the order of their indices.
///
/// # Errors
/// Returns [`DataError::Idx`] if a file is malformed, [`DataError::IdxPair`] if the files have different lengths, and
/// [`DataError::Io`] if a file cannot be read.
pub fn read_pair(name: &str, images: &Path, labels: &Path, names: &[&str]) -> Result<Dataset, DataError> {
    let (shape, pixels) = read(images, 3)?;
    let (_, classes) = read(labels, 1)?;
    let (image_count, label_count) = (shape[0], classes.len());
    if image_count != label_count {
        let (images, labels) = (images.to_path_buf(), labels.to_path_buf());
        return Err(DataError::IdxPair { images, labels, image_count, label_count });
    }
    if let Some(index) = classes.iter().position(|&label| usize::from(label) >= names.len()) {
        let problem = IdxProblem::Label { index, label: classes[index], classes: names.len() };
        return Err(DataError::Idx { path: labels.to_path_buf(), problem });
    }
    let targets = Targets::Classes {
        labels: classes.into_iter().map(u32::from).collect(),
        names: names.iter().map(|&name| name.to_owned()).collect(),
    };
    Dataset::from_pixels(name, pixels, [1, shape[1], shape[2]], LARGEST_PIXEL, targets)
}

/// Reads images of `width` pixels each. Returns the raw values (0 to 255) in one flat list.
///
/// # Errors
/// Returns the errors of [`read_pair`], and [`IdxProblem::Width`] if the images do not have `width` pixels.
pub(crate) fn read_images(path: &Path, width: usize) -> Result<Vec<f32>, DataError> {
    let (shape, pixels) = read(path, 3)?;
    if shape[1] * shape[2] != width {
        let problem = IdxProblem::Width { expected: width, rows: shape[1], columns: shape[2] };
        return Err(DataError::Idx { path: path.to_path_buf(), problem });
    }
    Ok(pixels.into_iter().map(f32::from).collect())
}

/// Reads the `rank` dimensions and the data bytes of an idx file.
fn read(path: &Path, rank: usize) -> Result<(Vec<usize>, Vec<u8>), DataError> {
    let problem = |problem| DataError::Idx { path: path.to_path_buf(), problem };
    let mut reader = open(path)?;
    let header_len = 4 + 4 * rank;
    let header = take(&mut reader, header_len, path)?;
    if let Some(&magic) = header.first_chunk::<4>() {
        if magic[..3] != [0, 0, 8] {
            return Err(problem(IdxProblem::Magic { found: magic }));
        }
        if usize::from(magic[3]) != rank {
            return Err(problem(IdxProblem::Rank { expected: rank, found: usize::from(magic[3]) }));
        }
    }
    if header.len() < header_len {
        let (expected, found) = (header_len as u64, header.len() as u64);
        return Err(problem(IdxProblem::Truncated { expected, found }));
    }
    let dims = header[4..].as_chunks::<4>().0.iter().map(|bytes| u32::from_be_bytes(*bytes) as usize);
    let shape: Vec<usize> = dims.collect();
    let len = shape.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim));
    let Some(len) = len.filter(|&len| len < isize::MAX as usize / 4) else {
        return Err(problem(IdxProblem::TooLarge { shape }));
    };
    // Read one byte more than expected, to detect a file that is too long.
    let mut data = take(&mut reader, len + 1, path)?;
    let expected = (header_len + len) as u64;
    if data.len() < len {
        return Err(problem(IdxProblem::Truncated { expected, found: (header_len + data.len()) as u64 }));
    }
    if data.len() > len {
        return Err(problem(IdxProblem::Trailing { expected }));
    }
    data.shrink_to_fit();
    Ok((shape, data))
}

/// Reads up to `len` bytes. The buffer grows with the data, since a damaged header can state any length.
fn take(reader: &mut dyn Read, len: usize, path: &Path) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    reader.take(len as u64).read_to_end(&mut bytes).map_err(DataError::io("read", path))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;
    use std::path::PathBuf;
    use tempfile::TempDir;

    const NAMES: [&str; 3] = ["a", "b", "c"];

    /// Returns an idx file of two images of 2×3 pixels.
    fn images() -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3];
        bytes.extend([0, 51, 102, 153, 204, 255, 255, 255, 255, 0, 0, 0]);
        bytes
    }

    fn labels() -> Vec<u8> {
        vec![0, 0, 8, 1, 0, 0, 0, 2, 2, 0]
    }

    fn write(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn load(images: &[u8], labels: &[u8]) -> Result<Dataset, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let (images, labels) = (write(&folder, "images", images), write(&folder, "labels", labels));
        read_pair("set", &images, &labels, &NAMES)
    }

    fn problem(images: &[u8], labels: &[u8]) -> (String, IdxProblem) {
        match load(images, labels) {
            Err(DataError::Idx { path, problem }) => {
                (path.file_name().unwrap().to_str().unwrap().to_owned(), problem)
            }
            other => panic!("expected an idx problem, got {other:?}"),
        }
    }

    #[test]
    fn plain_and_gzipped_files_give_the_same_images() {
        let dataset = load(&images(), &labels()).unwrap();
        assert_eq!((dataset.len(), dataset.feature_shape()), (2, &[1, 2, 3][..]));
        assert_eq!(dataset.example(0).unwrap(), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        let Targets::Classes { labels: classes, names } = dataset.targets() else { panic!("no classes") };
        assert_eq!((&classes[..], names.len()), (&[2, 0][..], 3));
        let gz = |bytes: &[u8]| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(load(&gz(&images()), &gz(&labels())).unwrap(), dataset);
        let mut cut = gz(&images());
        cut.truncate(cut.len() - 12);
        assert!(matches!(load(&cut, &labels()), Err(DataError::Io { action: "read", .. })));
    }

    #[test]
    fn file_that_is_not_idx_is_refused() {
        let found = *b"\x89PNG";
        assert_eq!(problem(b"\x89PNG etc", &labels()), ("images".into(), IdxProblem::Magic { found }));
        assert_eq!(
            problem(&images(), &images()),
            ("labels".into(), IdxProblem::Rank { expected: 1, found: 3 })
        );
        let found = [0, 0, 13, 1];
        assert_eq!(
            problem(&images(), &[0, 0, 13, 1, 0, 0, 0, 0]),
            ("labels".into(), IdxProblem::Magic { found })
        );
    }

    #[test]
    fn wrong_lengths_are_refused() {
        let whole = images();
        for found in 0..whole.len() {
            let expected = if found < 16 { 16 } else { 28 };
            let (file, problem) = problem(&whole[..found], &labels());
            assert_eq!(
                (file.as_str(), problem),
                ("images", IdxProblem::Truncated { expected, found: found as u64 })
            );
        }
        let longer = [whole, vec![0]].concat();
        assert_eq!(problem(&longer, &labels()), ("images".into(), IdxProblem::Trailing { expected: 28 }));
        let mut huge = images();
        huge[4..16].fill(0xff);
        assert_eq!(problem(&huge, &labels()).1, IdxProblem::TooLarge { shape: vec![u32::MAX as usize; 3] });
    }

    #[test]
    fn images_and_labels_must_match() {
        let error = load(&images(), &[0, 0, 8, 1, 0, 0, 0, 1, 2]).unwrap_err();
        assert!(matches!(error, DataError::IdxPair { image_count: 2, label_count: 1, .. }), "{error}");
        let label = problem(&images(), &[0, 0, 8, 1, 0, 0, 0, 2, 2, 3]);
        assert_eq!(label, ("labels".into(), IdxProblem::Label { index: 1, label: 3, classes: 3 }));
    }

    #[test]
    fn empty_file_is_refused() {
        let none = load(&[0, 0, 8, 3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 2], &[0, 0, 8, 1, 0, 0, 0, 0]);
        assert!(matches!(none, Err(DataError::Invalid { .. })), "{none:?}");
    }
}
