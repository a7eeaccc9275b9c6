//! Reader of JPEG and PNG files. Images are decoded on all cores, cropped to a square and scaled to a common size.
//!
//! The classes of the files come from folders ([`read_folder`]) or from a table ([`read_table`]).

mod decode;
mod folder;
pub(crate) mod form;
pub(crate) mod problem;
mod raster;
mod table;

use std::path::{Path, PathBuf};

use rayon::prelude::*;

pub(crate) use decode::{is_encoded, read_image};
pub use folder::read_folder;
pub use form::{Channels, EXTENSIONS, ImageForm};
pub use problem::ImagesProblem;
pub use table::{TableOptions, read_table};

use crate::dataset::{Dataset, Targets};
use crate::error::DataError;

/// Training, validation and test sets of image files. All sets have the same image shape and classes.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageSplits {
    /// Training set, with images of every class.
    pub train: Dataset,
    /// Validation set, if the data has one.
    pub validation: Option<Dataset>,
    /// Test set, if the data has one.
    pub test: Option<Dataset>,
}

/// Split that an image belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Split {
    Train,
    Validation,
    Test,
}

impl Split {
    const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// Names that are accepted for this split, as the name of a folder and as the text of a table cell.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Train => &["train"],
            Self::Validation => &["validation", "val"],
            Self::Test => &["test"],
        }
    }

    /// Returns the split with this name, or `None` if no split has it. Text after `_`, `-` or a space is ignored, as
    /// in `test_unverified`.
    fn named(name: &str) -> Option<Self> {
        let first = name.split(['_', '-', ' ']).next().unwrap_or_default();
        Self::ALL.into_iter().find(|split| split.names().contains(&first))
    }
}

/// Image files of one split with the indices of their classes.
#[derive(Debug, Default)]
struct Files {
    paths: Vec<PathBuf>,
    labels: Vec<u32>,
}

impl Files {
    /// Decodes all files into a data set. Returns `None` if there are no files.
    fn read(self, root: &Path, classes: &[String], form: ImageForm) -> Result<Option<Dataset>, DataError> {
        if self.paths.is_empty() {
            return Ok(None);
        }
        let bytes = decode_all(root, &self.paths, form)?;
        let name = root.file_name().map_or_else(|| "images".into(), |name| name.to_string_lossy());
        let targets = Targets::Classes { labels: self.labels, names: classes.to_vec() };
        Dataset::from_pixels(name, bytes, form.shape(), u8::MAX, targets).map(Some)
    }
}

/// Decodes all files to planes of bytes. Collects all failures, since a folder with one damaged file often has
/// several.
fn decode_all(root: &Path, paths: &[PathBuf], form: ImageForm) -> Result<Vec<u8>, DataError> {
    let len = form.shape().iter().product();
    let mut bytes = vec![0; paths.len() * len];
    let images = bytes.par_chunks_exact_mut(len).zip(paths);
    let failures: Vec<(PathBuf, String)> = images
        .filter_map(|(out, path)| match decode::decode(path, form) {
            Ok(image) => {
                out.copy_from_slice(&image);
                None
            }
            Err(reason) => Some((path.clone(), reason)),
        })
        .collect();
    if failures.is_empty() {
        return Ok(bytes);
    }
    Err(DataError::Images { path: root.to_path_buf(), problem: ImagesProblem::Corrupt { failures } })
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// Creates the data sets of the three splits; the training set must not be empty.
fn read_splits(
    root: &Path,
    [train, validation, test]: [Files; 3],
    classes: &[String],
    form: ImageForm,
) -> Result<ImageSplits, DataError> {
    let none = || DataError::Images { path: root.to_path_buf(), problem: ImagesProblem::NoImages };
    Ok(ImageSplits {
        train: train.read(root, classes, form)?.ok_or_else(none)?,
        validation: validation.read(root, classes, form)?,
        test: test.read(root, classes, form)?,
    })
}

/// Returns the `chosen` classes in the given order, or all `known` classes if `chosen` is `None`.
fn choose(known: &[String], chosen: Option<&[String]>) -> Result<Vec<String>, ImagesProblem> {
    let Some(chosen) = chosen else { return Ok(known.to_vec()) };
    match chosen.iter().find(|class| !known.contains(class)) {
        Some(class) => Err(ImagesProblem::UnknownClass { class: class.clone(), known: known.join(", ") }),
        None => Ok(chosen.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, Luma, Rgb, RgbImage};

    pub(super) const FORM: ImageForm = ImageForm { size: 2, channels: Channels::Rgb };

    /// Writes a PNG file of one colour.
    pub(super) fn png(path: &Path, color: [u8; 3]) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        RgbImage::from_pixel(4, 4, Rgb(color)).save(path).unwrap();
    }

    fn file(name: &str, write: impl FnOnce(&Path)) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        write(&path);
        (folder, path)
    }

    #[test]
    fn png_is_cropped_to_the_centred_square() {
        let image = RgbImage::from_fn(4, 2, |x, y| Rgb([x as u8, y as u8, 200]));
        let (_folder, path) = file("a.png", |path| image.save(path).unwrap());
        assert_eq!(decode::decode(&path, FORM).unwrap(), [1, 2, 1, 2, 0, 0, 1, 1, 200, 200, 200, 200]);
        let (_folder, path) = file("tall.png", |path| {
            GrayImage::from_fn(2, 6, |x, y| Luma([(10 * y + x) as u8])).save(path).unwrap();
        });
        let grey = ImageForm { channels: Channels::Grey, ..FORM };
        assert_eq!(decode::decode(&path, grey).unwrap(), [20, 21, 30, 31]);
        // Grey becomes three equal channels.
        assert_eq!(decode::decode(&path, FORM).unwrap(), [20, 21, 30, 31].repeat(3));
    }

    #[test]
    fn downscaling_averages_and_upscaling_interpolates() {
        let stripes = GrayImage::from_fn(8, 8, |x, _| Luma([if x % 2 == 0 { 0 } else { 200 }]));
        let (_folder, path) = file("a.png", |path| stripes.save(path).unwrap());
        let form = |size| ImageForm { size, channels: Channels::Grey };
        // Without averaging, stripes of one pixel would become all black or all white.
        let small = decode::decode(&path, form(2)).unwrap();
        assert!(small.iter().all(|x| (80..=120).contains(x)), "{small:?}");
        let large = decode::decode(&path, form(16)).unwrap();
        assert_eq!(large.len(), 256);
        assert!(large.iter().any(|x| (40..=160).contains(x)), "{large:?}");
    }

    #[test]
    fn jpeg_is_decoded() {
        let image = RgbImage::from_pixel(32, 16, Rgb([200, 100, 50]));
        let (_folder, path) = file("a.JPG", |path| image.save(path).unwrap());
        let planes = decode::decode(&path, FORM).unwrap();
        for (plane, expected) in planes.chunks(4).zip([200_u8, 100, 50]) {
            assert!(plane.iter().all(|x| x.abs_diff(expected) <= 3), "{planes:?}");
        }
        // For prediction, the number of model inputs determines the size and channels of the image.
        let read = |width| crate::read_features(&path, width, b',', None);
        assert_eq!(read(12).unwrap(), planes.iter().map(|&byte| f32::from(byte)).collect::<Vec<_>>());
        assert_eq!(read(9).unwrap().len(), 9);
        let error = read(8).unwrap_err();
        assert!(matches!(&error, DataError::Images { problem: ImagesProblem::Width(8), .. }), "{error}");
    }

    #[test]
    fn alpha_is_dropped_and_sixteen_bits_are_reduced() {
        let pixel = image::Rgba([200_u16 << 8, 100 << 8, 50 << 8, 0]);
        let image = image::ImageBuffer::from_pixel(2, 2, pixel);
        let (_folder, path) = file("a.png", |path| image.save(path).unwrap());
        assert_eq!(decode::decode(&path, FORM).unwrap(), [[200; 4], [100; 4], [50; 4]].concat());
    }

    #[test]
    fn jpeg_orientation_is_applied() {
        // The image is dark on the left.
        let image = GrayImage::from_fn(16, 16, |x, _| Luma([if x < 8 { 10 } else { 240 }]));
        let (_folder, path) = file("a.jpg", |path| image.save(path).unwrap());
        let plain = std::fs::read(&path).unwrap();
        let exif = b"\xff\xe1\0\x1eExif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0";
        std::fs::write(&path, [&plain[..2], &exif[..], &plain[2..]].concat()).unwrap();
        let form = ImageForm { channels: Channels::Grey, ..FORM };
        let turned = decode::decode(&path, form).unwrap();
        assert!(turned[..2].iter().all(|&x| x < 60) && turned[2..].iter().all(|&x| x > 190), "{turned:?}");
    }

    #[test]
    fn truncated_file_is_refused() {
        let noise = RgbImage::from_fn(24, 24, |x, y| Rgb([(x * y * 7) as u8, (x ^ (y * 31)) as u8, y as u8]));
        for name in ["a.jpg", "a.png"] {
            let (_folder, path) = file(name, |path| noise.save(path).unwrap());
            let whole = std::fs::read(&path).unwrap();
            // The last chunk of a PNG file has no content.
            let end = if name == "a.png" { whole.len() - 12 } else { whole.len() };
            for len in 0..end {
                std::fs::write(&path, &whole[..len]).unwrap();
                assert!(decode::decode(&path, FORM).is_err(), "{name}: {len} of {}", whole.len());
            }
        }
    }

    #[test]
    fn jpeg_with_an_unexpected_marker_is_refused() {
        let noise = RgbImage::from_fn(64, 64, |x, y| Rgb([(x * y * 7) as u8, (x ^ (y * 31)) as u8, y as u8]));
        let (_folder, path) = file("a.jpg", |path| noise.save(path).unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() * 3 / 4;
        bytes[middle..middle + 2].copy_from_slice(&[0xff, 0xd8]);
        std::fs::write(&path, bytes).unwrap();
        assert!(decode::decode(&path, FORM).is_err());
    }

    #[test]
    fn all_damaged_files_are_reported() {
        let folder = tempfile::tempdir().unwrap();
        let noise = RgbImage::from_fn(32, 32, |x, y| Rgb([(x * y * 7) as u8, (x ^ (y * 31)) as u8, y as u8]));
        let mut paths = Vec::new();
        for name in ["whole.jpg", "cut.jpg", "whole.png", "cut.png"] {
            let path = folder.path().join(name);
            noise.save(&path).unwrap();
            if name.starts_with("cut") {
                let bytes = std::fs::read(&path).unwrap();
                std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
            }
            paths.push(path);
        }
        for (name, content) in [("text.png", "not an image"), ("empty.jpg", "")] {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            paths.push(path);
        }
        paths.push(folder.path().join("absent.png"));
        let error = decode_all(folder.path(), &paths, FORM).unwrap_err();
        let DataError::Images { problem: ImagesProblem::Corrupt { failures }, .. } = &error else {
            panic!("{error}")
        };
        let names: Vec<_> =
            failures.iter().map(|(path, _)| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["cut.jpg", "cut.png", "text.png", "empty.jpg", "absent.png"]);
        let text = error.to_string();
        assert!(text.contains("cut.jpg") && text.contains("5 images"), "{text}");
        assert!(failures[2].1.contains("neither a JPEG nor a PNG"), "{}", failures[2].1);
    }
}
