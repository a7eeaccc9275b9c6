//! Every way in which data can be wrong, missing or unreachable, and what to do about it.
//!
//! Each message stands alone: it names the file or data set, what was expected, what was found, and the remedy.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::cifar::CifarProblem;
use crate::images::ImagesProblem;

/// What can go wrong with data. The `wgrad` binary exits with code 3 for all of these.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Features and targets do not make a data set.
    #[error("data set `{dataset}`: {problem}")]
    Invalid {
        /// The data set's name.
        dataset: String,
        /// The rule that is broken.
        problem: InvalidDataset,
    },
    /// A file of this machine cannot be read or written.
    #[error("cannot {action} {}: {error}", path.display())]
    Io {
        /// What was tried, as a verb: `read`, `create`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        error: std::io::Error,
    },
    /// A file is not the idx file it should be.
    #[error("{}: {problem}", path.display())]
    Idx {
        /// The idx file.
        path: PathBuf,
        /// What is wrong with it.
        problem: IdxProblem,
    },
    /// An image file and its label file disagree.
    #[error(
        "{} holds {image_count} images, but {} holds {label_count} labels; the two files belong to different data sets",
        images.display(), labels.display()
    )]
    IdxPair {
        /// The image file.
        images: PathBuf,
        /// The label file.
        labels: PathBuf,
        /// Images found.
        image_count: usize,
        /// Labels found.
        label_count: usize,
    },
    /// A CSV file cannot be used.
    #[error("{}{problem}", path.display())]
    Csv {
        /// The CSV file.
        path: PathBuf,
        /// Where and what is wrong.
        problem: CsvProblem,
    },
    /// Images, or what says which classes they belong to, cannot be used.
    #[error("{}{problem}", path.display())]
    Images {
        /// The folder, the table or the image.
        path: PathBuf,
        /// What is wrong.
        problem: ImagesProblem,
    },
    /// A file is not the part of CIFAR-10 that it should be.
    #[error("{}: {problem}", path.display())]
    Cifar {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: CifarProblem,
    },
    /// An archive holds what may not be unpacked.
    #[error("{}: `{entry}` is not unpacked: {reason}; nothing of the archive was", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// The path of the entry.
        entry: String,
        /// Why not.
        reason: &'static str,
    },
    /// A fraction leaves one side of a split empty.
    #[error(
        "data set `{dataset}`: a fraction of {fraction} of {len} examples leaves one side of the split empty; \
         it has to lie between 0 and 1 and leave at least one example on each side"
    )]
    Split {
        /// The data set's name.
        dataset: String,
        /// The fraction asked for.
        fraction: f64,
        /// Examples in the data set.
        len: usize,
    },
    /// The batch size does not fit the data set.
    #[error("a batch of {batch} cannot be drawn from {len} examples; choose a batch size from 1 to {len}")]
    BatchSize {
        /// The batch size asked for.
        batch: usize,
        /// Examples in the data set.
        len: usize,
    },
    /// A saved loader position lies outside the epoch.
    #[error(
        "the saved loader position, batch {batch}, lies outside an epoch of {per_epoch} batches; \
         resume with the data and the batch size of the first run"
    )]
    Position {
        /// The saved batch number.
        batch: u32,
        /// Batches in an epoch now.
        per_epoch: u32,
    },
    /// A data set of the catalogue is not on this machine.
    #[error(
        "data set `{dataset}` is not on this machine (looked in {}); get it with `wgrad data get {dataset}`{}",
        List(looked_in), package.map(|name| format!(", or on Debian with `apt install {name}`")).unwrap_or_default()
    )]
    NotFetched {
        /// The data set's name.
        dataset: &'static str,
        /// The folders searched.
        looked_in: Vec<PathBuf>,
        /// The Debian package that holds it.
        package: Option<&'static str>,
    },
    /// A data set that cannot be downloaded, only copied.
    #[error(
        "data set `{dataset}` has no public download in this form: copy `{file}` from a mirror folder that has it \
         (`wgrad data get {dataset} --mirror DIR`, or `{}`), or get the original images at {homepage} and train on \
         them with kind = \"image-csv\"",
        crate::fetch::MIRROR_ENV
    )]
    MirrorOnly {
        /// The data set's name.
        dataset: &'static str,
        /// The file.
        file: &'static str,
        /// Where the originals are.
        homepage: &'static str,
    },
    /// No data set has this name.
    #[error("no data set is called `{name}`; known are {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names there are, separated by commas.
        known: String,
    },
    /// A field of the data specification is missing or does not apply.
    #[error("data.{field}: {problem}")]
    Spec {
        /// The field's name.
        field: &'static str,
        /// What is wrong and what to write instead.
        problem: String,
    },
    /// The platform names no folder for cached data.
    #[error(
        "no folder for data: set `{0}` to one (neither a home nor a cache folder is set)",
        crate::catalog::DATA_DIR_ENV
    )]
    NoDataDir,
    /// A file could not be obtained from any source.
    #[error("cannot get {file}:{}", Attempts(attempts))]
    Fetch {
        /// The file's name in the catalogue.
        file: String,
        /// Every attempt, in order.
        attempts: Vec<FetchAttempt>,
    },
    /// A thread that makes batches ready failed.
    #[error("a batch could not be made ready: {0}")]
    Worker(String),
    /// Another process is downloading the same file.
    #[error("{} is being written by another process; wait for it to end and try again", path.display())]
    Busy {
        /// The partial file.
        path: PathBuf,
    },
}

impl DataError {
    /// For `map_err` on the standard library's I/O.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |error| Self::Io { action, path, error }
    }
}

/// The rules that every [`Dataset`](crate::Dataset) keeps.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidDataset {
    /// There is no example.
    #[error("it has no examples")]
    Empty,
    /// More examples than `u32` indices can address.
    #[error("{0} examples are more than a 32-bit index can address")]
    TooLarge(usize),
    /// The feature shape has no elements.
    #[error("the feature shape {0:?} has no elements")]
    FeatureShape(Vec<usize>),
    /// The number of feature values is not examples × features.
    #[error("{found} feature values, expected {expected} ({examples} examples of shape {shape:?})")]
    FeatureCount {
        /// Examples × elements of the shape.
        expected: usize,
        /// Values given.
        found: usize,
        /// Number of examples, from the targets.
        examples: usize,
        /// Shape of one example.
        shape: Vec<usize>,
    },
    /// A feature is NaN or infinite.
    #[error("feature {feature} of example {example} is {value}; every feature has to be finite")]
    Feature {
        /// Index of the example.
        example: usize,
        /// Flat index of the feature in the example.
        feature: usize,
        /// The value.
        value: f32,
    },
    /// A label is not the index of a class.
    #[error("the label of example {example} is {label}, but there are {classes} classes (labels 0 to {})", .classes.saturating_sub(1))]
    Label {
        /// Index of the example.
        example: usize,
        /// The label.
        label: u32,
        /// Number of classes.
        classes: usize,
    },
    /// The number of target values is not a multiple of the width.
    #[error("{found} target values cannot be divided into examples of width {width}")]
    TargetCount {
        /// Values given.
        found: usize,
        /// Values per example.
        width: usize,
    },
    /// A target value is NaN or infinite.
    #[error("target {index} is {value}; every target has to be finite")]
    Target {
        /// Flat index of the value.
        index: usize,
        /// The value.
        value: f32,
    },
    /// An index points past the end.
    #[error("there is no example {index}; it has {len} examples")]
    Index {
        /// The index.
        index: u32,
        /// Number of examples.
        len: usize,
    },
    /// Statistics of another number of features.
    #[error("it has {found} features an example, but the standardisation was fitted to {expected}")]
    Standardizer {
        /// Features of the fitted data.
        expected: usize,
        /// Features of this data.
        found: usize,
    },
}

/// What is wrong with an idx file.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum IdxProblem {
    /// The images have another size than the model takes.
    #[error("its images have {rows}×{columns} pixels, and {expected} are expected")]
    Width {
        /// Pixels an example should have.
        expected: usize,
        /// Rows of an image.
        rows: usize,
        /// Columns of an image.
        columns: usize,
    },
    /// The first four bytes are not those of an idx file of unsigned bytes.
    #[error("not an idx file of unsigned bytes: it starts with {found:02x?}, expected [00, 00, 08, rank]")]
    Magic {
        /// The first four bytes.
        found: [u8; 4],
    },
    /// Images where labels were expected, or the reverse.
    #[error("an idx file of rank {found}, expected rank {expected} ({})", if *expected == 3 { "images" } else { "labels" })]
    Rank {
        /// 3 for images, 1 for labels.
        expected: usize,
        /// The rank in the header.
        found: usize,
    },
    /// The header promises more bytes than there are.
    #[error("truncated: expected {expected} bytes, found {found}; delete the file and get it again")]
    Truncated {
        /// Header plus data, uncompressed.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// Bytes follow the data.
    #[error("expected {expected} bytes, but more follow; the file is not what its header says")]
    Trailing {
        /// Header plus data, uncompressed.
        expected: u64,
    },
    /// The dimensions multiply to more than this machine can address.
    #[error("the shape {shape:?} in the header is too large")]
    TooLarge {
        /// The dimensions.
        shape: Vec<usize>,
    },
    /// A label has no class.
    #[error("label {label} at position {index}, expected 0 to {}", .classes.saturating_sub(1))]
    Label {
        /// Position in the file.
        index: usize,
        /// The label.
        label: u8,
        /// Number of classes.
        classes: usize,
    },
}

/// Where and why a CSV file cannot be used. Lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CsvProblem {
    /// No data line.
    #[error(": no data lines")]
    Empty,
    /// One column only.
    #[error(": only one column, but features and a label are needed; is `{delimiter}` the delimiter?")]
    OneColumn {
        /// The delimiter used.
        delimiter: char,
    },
    /// A line is longer or shorter than the first.
    #[error(":{line}: {found} columns, expected {expected} as in the first line")]
    Width {
        /// Line.
        line: u64,
        /// Columns of the first line.
        expected: usize,
        /// Columns of this line.
        found: usize,
    },
    /// A cell that should be a finite number is not.
    #[error(":{line}: column {column}: `{text}` is not a finite number")]
    Number {
        /// Line.
        line: u64,
        /// The column's number, and its name where there is a header.
        column: String,
        /// The text of the cell.
        text: String,
    },
    /// A class label is empty.
    #[error(":{line}: column {column}: the label is empty")]
    EmptyLabel {
        /// Line.
        line: u64,
        /// The column's number, and its name where there is a header.
        column: String,
    },
    /// A fractional number as a class.
    #[error(
        ":{line}: column {column}: `{text}` is a fraction, not a class; for numbers set `task = \"regression\"`"
    )]
    FractionalLabel {
        /// Line.
        line: u64,
        /// The column's number, and its name where there is a header.
        column: String,
        /// The text of the cell.
        text: String,
    },
    /// Numbers and words in the label column.
    #[error(
        ":{line}: column {column}: the label `{text}` is text, but other labels are integers; if line {line} is a \
         header, set `header = true`; if the words are classes too, set `header = false`"
    )]
    MixedLabels {
        /// Line.
        line: u64,
        /// The column's number, and its name where there is a header.
        column: String,
        /// The text of the cell.
        text: String,
    },
    /// No column has the name of the label.
    #[error(": no column is called `{label}`; the header has {columns}")]
    NoLabel {
        /// The label's name asked for.
        label: String,
        /// The column names, separated by commas.
        columns: String,
    },
    /// A label by name in a file without header.
    #[error(": the label column `{label}` needs a header, but `header = false`; use `label = \"last\"`")]
    NoHeader {
        /// The label's name asked for.
        label: String,
    },
    /// Not text, or it cannot be read.
    #[error(": {0}")]
    Read(String),
}

/// One attempt to get a file from one source.
#[derive(Debug)]
pub struct FetchAttempt {
    /// The URL, or the path in the mirror.
    pub source: String,
    /// Why it failed.
    pub problem: FetchProblem,
}

/// Why an attempt to get a file failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FetchProblem {
    /// The server answered with an error.
    #[error("the server answered {}{}", .0, status_name(*.0))]
    Status(u16),
    /// No connection, no answer in time, or a broken one.
    #[error("{0}")]
    Transport(String),
    /// The connection ended early. What came is kept, so that the next run continues there.
    #[error("the connection ended after {received} of {} bytes; run the command again to continue there",
        .expected.map_or("an unknown number of".to_owned(), |n| n.to_string()))]
    Cut {
        /// Bytes on disk.
        received: u64,
        /// Bytes announced.
        expected: Option<u64>,
    },
    /// The server did not continue where it was asked to; the partial file is dropped.
    #[error("the server could not continue at byte {0}; starting again")]
    Range(u64),
    /// The content has another size.
    #[error("{content} has {found} bytes, expected {expected}; the partial file was deleted")]
    Size {
        /// What was measured: the file or what it unpacks to.
        content: &'static str,
        /// The pinned size.
        expected: u64,
        /// The size found.
        found: u64,
    },
    /// The content goes on past its pinned size.
    #[error("{content} is longer than the expected {expected} bytes; the partial file was deleted")]
    TooLong {
        /// What was measured: the file or what it unpacks to.
        content: &'static str,
        /// The pinned size, or the most that a compressed file of the pinned content can take.
        expected: u64,
    },
    /// The content has another hash.
    #[error("the {algorithm} of {content} is {actual}, expected {expected}; the partial file was deleted")]
    Hash {
        /// `SHA-256` or `MD5`.
        algorithm: &'static str,
        /// What was hashed: the file or what it unpacks to.
        content: &'static str,
        /// The pinned hash.
        expected: String,
        /// The hash found.
        actual: String,
    },
    /// Something that cannot be unpacked came instead of a gzip file.
    #[error("what came is not a whole gzip file ({0}); the partial file was deleted")]
    Gzip(String),
    /// The mirror does not have the file.
    #[error("the mirror has no such file")]
    NotInMirror,
}

fn status_name(status: u16) -> &'static str {
    match status {
        403 => " (forbidden)",
        404 => " (not found)",
        429 => " (too many requests)",
        500..=599 => " (server error)",
        _ => "",
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
