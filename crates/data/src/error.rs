//! Error type of this crate.
//!
//! Each message names the file or data set, what was expected, what was found and what to do. The faults of a file format
//! are in the file `problem.rs` beside its reader.

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

/// Data that is wrong, missing or unreachable.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Features and targets do not form a data set.
    #[error("data set `{dataset}`: {problem}")]
    Invalid {
        /// Name of the data set.
        dataset: String,
        /// Broken rule.
        problem: InvalidDataset,
    },
    /// A file cannot be read or written.
    #[error("cannot {action} {}: {error}", path.display())]
    Io {
        /// Attempted operation, as a verb: `read`, `create`.
        action: &'static str,
        /// File or folder.
        path: PathBuf,
        /// Error of the operating system.
        error: std::io::Error,
    },
    /// An idx file cannot be used.
    #[error("{}: {problem}", path.display())]
    Idx {
        /// Idx file.
        path: PathBuf,
        /// Fault of the file.
        problem: IdxProblem,
    },
    /// An image file and its label file have different lengths.
    #[error(
        "{} has {image_count} images, but {} has {label_count} labels; the two files belong to different data sets",
        images.display(), labels.display()
    )]
    IdxPair {
        /// Image file.
        images: PathBuf,
        /// Label file.
        labels: PathBuf,
        /// Number of images.
        image_count: usize,
        /// Number of labels.
        label_count: usize,
    },
    /// A CSV file cannot be used.
    #[error("{}{problem}", path.display())]
    Csv {
        /// CSV file.
        path: PathBuf,
        /// Fault of the file, with its place.
        problem: CsvProblem,
    },
    /// Images, or the folders or table with their classes, cannot be used.
    #[error("{}{problem}", path.display())]
    Images {
        /// Folder, table or image.
        path: PathBuf,
        /// Fault of the images.
        problem: ImagesProblem,
    },
    /// A file of CIFAR-10 cannot be used.
    #[error("{}: {problem}", path.display())]
    Cifar {
        /// File.
        path: PathBuf,
        /// Fault of the file.
        problem: CifarProblem,
    },
    /// An archive has an entry that must not be unpacked.
    #[error("{}: entry `{entry}` must not be unpacked: {reason}; no file of the archive was written", path.display())]
    Archive {
        /// Archive.
        path: PathBuf,
        /// Path of the entry.
        entry: String,
        /// Reason for the refusal.
        reason: &'static str,
    },
    /// A fraction leaves one part of a split empty.
    #[error(
        "data set `{dataset}`: a fraction of {fraction} of {len} examples leaves one part of the split empty; \
         use a fraction between 0 and 1 with at least one example in each part"
    )]
    Split {
        /// Name of the data set.
        dataset: String,
        /// Requested fraction.
        fraction: f64,
        /// Examples in the data set.
        len: usize,
    },
    /// The batch size does not fit the data set.
    #[error("a batch of {batch} cannot be drawn from {len} examples; choose a batch size from 1 to {len}")]
    BatchSize {
        /// Requested batch size.
        batch: usize,
        /// Examples in the data set.
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
        /// Batches in an epoch.
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
        /// Searched folders.
        looked_in: Vec<PathBuf>,
        /// Debian package that contains it.
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
        /// File name.
        file: &'static str,
        /// Page of the original images.
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
    /// A field of the data specification has a wrong value.
    #[error("data.{field} {problem}")]
    Spec {
        /// The field's name.
        field: &'static str,
        /// Rule that the value breaks, and the value.
        problem: String,
    },
    /// No folder for fetched data is set.
    #[error(
        "no folder for data: neither a home nor a cache folder is set; set `{0}` to a folder",
        DATA_DIR_ENV
    )]
    NoDataDir,
    /// A file could not be obtained from any source.
    #[error("cannot get {file}:{}", Attempts(attempts))]
    Fetch {
        /// File name in the catalogue.
        file: String,
        /// All attempts, in order.
        attempts: Vec<FetchAttempt>,
    },
    /// A loader thread failed.
    #[error("a batch cannot be loaded: {0}")]
    Worker(String),
    /// A broken invariant of wgrad.
    #[error(transparent)]
    Internal(#[from] InternalError),
    /// Another process is downloading the same file.
    #[error("{} is being written by another process; wait until it has ended and try again", path.display())]
    Busy {
        /// Partial file.
        path: PathBuf,
    },
}

impl DataError {
    /// Kind of the error: `Usage` for a wrong value of the specification, else `Data`.
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
