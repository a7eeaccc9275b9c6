//! Error type of this crate.
//!
//! Each message names the file or data set, what was expected, what was found and what to do. Errors that are specific
//! to a file format are in `problem.rs` next to its reader.

use std::fmt;
use std::path::{Path, PathBuf};

use wgrad_stdx::{ErrorKind, InternalError};

use crate::cifar::problem::CifarProblem;
use crate::csv_file::problem::CsvProblem;
use crate::dataset::problem::InvalidDataset;
use crate::environment::{DATA_DIR_ENV, MIRROR_ENV};
use crate::fetch::problem::FetchAttempt;
use crate::idx::problem::IdxProblem;
use crate::images::problem::ImagesProblem;

/// Error in reading, checking or fetching data.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Features and targets do not form a valid data set.
    #[error("data set `{dataset}`: {problem}")]
    Invalid {
        /// Name of the data set.
        dataset: String,
        /// Rule that the data breaks.
        problem: InvalidDataset,
    },
    /// A file cannot be read or written.
    #[error("cannot {action} {}: {error}", path.display())]
    Io {
        /// Operation that failed, as a verb: `read` or `create`.
        action: &'static str,
        /// File or folder that the operation failed on.
        path: PathBuf,
        /// Underlying I/O error.
        error: std::io::Error,
    },
    /// An idx file is malformed or does not fit the model.
    #[error("{}: {problem}", path.display())]
    Idx {
        /// Path of the idx file.
        path: PathBuf,
        /// Problem in the file.
        problem: IdxProblem,
    },
    /// An image file and its label file have different numbers of entries.
    #[error(
        "{} has {image_count} images, but {} has {label_count} labels; expected one label per image, \
         so use two files of the same data set",
        images.display(), labels.display()
    )]
    IdxPair {
        /// Path of the image file.
        images: PathBuf,
        /// Path of the label file.
        labels: PathBuf,
        /// Number of images in the image file.
        image_count: usize,
        /// Number of labels in the label file.
        label_count: usize,
    },
    /// A CSV file is malformed or does not match the options.
    #[error("{}{problem}", path.display())]
    Csv {
        /// Path of the CSV file.
        path: PathBuf,
        /// Problem in the file, with its line and column if they are known.
        problem: CsvProblem,
    },
    /// Image files are invalid, or the folders or the table that define their classes are invalid.
    #[error("{}{problem}", path.display())]
    Images {
        /// Path of the folder, table or image.
        path: PathBuf,
        /// Problem in the images.
        problem: ImagesProblem,
    },
    /// A file of CIFAR-10 is malformed.
    #[error("{}: {problem}", path.display())]
    Cifar {
        /// Path of the file.
        path: PathBuf,
        /// Problem in the file.
        problem: CifarProblem,
    },
    /// An archive has an entry that must not be unpacked.
    #[error("{}: entry `{entry}` must not be unpacked: {reason}; nothing was unpacked", path.display())]
    Archive {
        /// Path of the archive.
        path: PathBuf,
        /// Path of the entry in the archive.
        entry: String,
        /// Reason why the entry is refused.
        reason: &'static str,
    },
    /// A fraction leaves one part of a split empty.
    #[error(
        "data set `{dataset}`: a split of {len} examples with fraction {fraction} leaves one part empty; \
         use a fraction between 0 and 1 that gives each part at least one example"
    )]
    Split {
        /// Name of the data set.
        dataset: String,
        /// Requested fraction.
        fraction: f64,
        /// Number of examples in the data set.
        len: usize,
    },
    /// The batch size does not fit the data set.
    #[error("a batch of {batch} cannot be drawn from {len} examples; choose a batch size from 1 to {len}")]
    BatchSize {
        /// Requested batch size.
        batch: usize,
        /// Number of examples in the data set.
        len: usize,
    },
    /// A saved loader position is outside the epoch.
    #[error(
        "the saved loader position, batch {batch}, is outside an epoch of {per_epoch} batches; \
         resume with the data and the batch size of the original run"
    )]
    Position {
        /// Saved batch index.
        batch: u32,
        /// Number of batches in an epoch.
        per_epoch: u32,
    },
    /// A data set of the catalogue is not on this machine.
    #[error(
        "data set `{dataset}` is not on this machine (looked in {}); get it with `wgrad data get {dataset}`{}",
        List(looked_in), package.map(|name| format!(", or on Debian with `apt install {name}`")).unwrap_or_default()
    )]
    NotFetched {
        /// Name of the data set.
        dataset: &'static str,
        /// Folders that were searched, in order.
        looked_in: Vec<PathBuf>,
        /// Debian package that contains the data set, if there is one.
        package: Option<&'static str>,
    },
    /// A data set that can be copied from a mirror but not downloaded.
    #[error(
        "data set `{dataset}` has no public download in this form: copy `{file}` from a mirror folder \
         (`wgrad data get {dataset} --mirror DIR`, or `{}`), or get the original images at {homepage} and train on \
         them with kind = \"image-csv\"",
        MIRROR_ENV
    )]
    MirrorOnly {
        /// Name of the data set.
        dataset: &'static str,
        /// Name of the file to copy from a mirror.
        file: &'static str,
        /// URL of the page with the original images.
        homepage: &'static str,
    },
    /// No data set has this name.
    #[error("unknown data set `{name}`, known: {known}")]
    Unknown {
        /// Requested name.
        name: String,
        /// Known names, separated by commas.
        known: String,
    },
    /// A field of the data specification has an invalid value.
    #[error("data.{field} {problem}")]
    Spec {
        /// Name of the field, without `data.`.
        field: &'static str,
        /// Rule that the value breaks, and the value itself.
        problem: String,
    },
    /// No folder for fetched data is set.
    #[error(
        "cannot choose a folder for downloaded data, because neither a home nor a cache folder is set; set the environment \
         variable `{0}` to a folder",
        DATA_DIR_ENV
    )]
    NoDataDir,
    /// A file could not be fetched from any source.
    #[error("cannot get {file}:{}", Attempts(attempts))]
    Fetch {
        /// File name in the catalogue.
        file: String,
        /// Failed attempts, in order.
        attempts: Vec<FetchAttempt>,
    },
    /// A loader thread could not be started, or panicked.
    #[error("a batch cannot be loaded: {0}")]
    Worker(String),
    /// An internal error: a broken invariant of wgrad.
    #[error(transparent)]
    Internal(#[from] InternalError),
    /// Another process is fetching the same file or unpacking the same archive.
    #[error("{} is being written by another process; wait until it has ended and try again", path.display())]
    Busy {
        /// Path of the partial file.
        path: PathBuf,
    },
}

impl DataError {
    /// Returns the kind of the error: `Usage` for an invalid specification, `Internal` for a broken invariant, and
    /// `Data` otherwise.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Spec { .. } => ErrorKind::Usage,
            Self::Internal(_) => ErrorKind::Internal,
            _ => ErrorKind::Data,
        }
    }

    /// Returns a function that adds the operation and the path to an I/O error, for `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |error| Self::Io { action, path, error }
    }
}

struct List<'a>(&'a [PathBuf]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, path) in self.0.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { ", " }, path.display())?;
        }
        Ok(())
    }
}

struct Attempts<'a>(&'a [FetchAttempt]);

impl fmt::Display for Attempts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for FetchAttempt { source, problem } in self.0 {
            write!(f, "\n  {source}: {problem}")?;
        }
        Ok(())
    }
}
