//! Reading and writing of `metrics.jsonl`, which has one JSON object per line.
//!
//! ```text
//! {"step":1,"epoch":1,"split":"train","loss":2.31,"lr":0.001,"accuracy":0.11}
//! ```
//!
//! Values that are not finite are written as the strings `"NaN"`, `"inf"` and `"-inf"`, because JSON cannot represent
//! them. A line is complete once its newline is written. If a process is killed while writing, the last line is
//! incomplete, and readers ignore it.

use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use wgrad_stdx::file::{self, Appender};
use wgrad_stdx::{ErrorKind, float};

/// Keys of the fields of [`Row`], in the order in which they are written.
const RESERVED: [&str; 5] = ["step", "epoch", "split", "loss", "lr"];

/// Metrics of one step on one split.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Number of completed optimizer steps, from 1.
    pub step: u64,
    /// Epoch of the step, from 0.
    pub epoch: u64,
    /// Name of the split, such as `train` or `test`.
    pub split: String,
    /// Mean loss over the batch, or over the entire split for an evaluation.
    pub loss: f64,
    /// Learning rate used in the step.
    pub lr: f64,
    /// Values of additional metrics by name, e.g. `accuracy`.
    pub metrics: BTreeMap<String, f64>,
}

/// Error while writing or reading metrics.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The file cannot be opened, read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// Operation that failed, e.g. `read` or `write`.
        action: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// Underlying I/O error.
        source: io::Error,
    },
    /// A complete line is not a valid row.
    #[error("{}:{line}: {message}", path.display())]
    Line {
        /// Path of the file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// Description of the problem.
        message: String,
    },
    /// A metric has the name of a field of [`Row`].
    #[error("metric name `{0}` is reserved for a standard field of a row; use another name")]
    Reserved(String),
}

impl MetricsError {
    /// Returns the kind of the error, always [`ErrorKind::Storage`].
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Storage
    }
}

/// Writer that appends rows to `metrics.jsonl`.
#[derive(Debug)]
pub struct MetricsWriter {
    path: PathBuf,
    file: Appender,
}

impl MetricsWriter {
    /// Creates a new, empty metrics file.
    ///
    /// # Errors
    /// Returns [`MetricsError::File`] if the file exists or cannot be created.
    pub fn create(path: &Path) -> Result<Self, MetricsError> {
        let file = Appender::create(path).map_err(failed("create", path))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Opens a metrics file to append rows after `step`, or creates the file if it does not exist.
    ///
    /// Removes rows of later steps and an incomplete last line.
    ///
    /// # Errors
    /// Returns [`MetricsError::File`] if the file cannot be read or written, and [`MetricsError::Line`] if a line is
    /// not a valid row. The file is then unchanged.
    pub fn resume(path: &Path, step: u64) -> Result<Self, MetricsError> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read.map_err(failed("read", path))?,
        };
        let mut kept = Vec::with_capacity(bytes.len());
        for (index, line) in complete_lines(&bytes).enumerate() {
            if parse_line(path, index, line)?.step <= step {
                kept.extend_from_slice(line);
                kept.push(b'\n');
            }
        }
        if kept != bytes {
            file::replace(path, &kept).map_err(failed("truncate", path))?;
        }
        let file = Appender::open(path).map_err(failed("open", path))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Appends a row with one write, so that the row is not lost if the process is killed afterwards.
    ///
    /// After an error, the file ends with the previous row.
    ///
    /// # Errors
    /// Returns [`MetricsError::File`] if the file cannot be written, e.g. on a full disk, and
    /// [`MetricsError::Reserved`] if a metric has the name of a field.
    pub fn write(&mut self, row: &Row) -> Result<(), MetricsError> {
        self.file.append(row.to_line()?.as_bytes()).map_err(failed("write", &self.path))
    }

    /// Waits until all rows are stored on the disk.
    ///
    /// # Errors
    /// Returns [`MetricsError::File`] if syncing fails.
    pub fn sync(&self) -> Result<(), MetricsError> {
        self.file.sync().map_err(failed("write", &self.path))
    }
}

/// Reads all rows of a metrics file. An incomplete last line is ignored.
///
/// # Errors
/// Returns [`MetricsError::File`] if the file cannot be read, and [`MetricsError::Line`] if a complete line is not a
/// valid row.
pub fn read(path: &Path) -> Result<Vec<Row>, MetricsError> {
    let bytes = fs::read(path).map_err(failed("read", path))?;
    complete_lines(&bytes).enumerate().map(|(index, line)| parse_line(path, index, line)).collect()
}

impl Row {
    /// Formats the row as a line of JSON, including the newline.
    ///
    /// The object is formatted by hand, because `serde_json::Map` would sort the keys.
    fn to_line(&self) -> Result<String, MetricsError> {
        if let Some(name) = self.metrics.keys().find(|name| RESERVED.contains(&name.as_str())) {
            return Err(MetricsError::Reserved(name.clone()));
        }
        let values = [
            self.step.into(),
            self.epoch.into(),
            self.split.as_str().into(),
            float::to_json(self.loss),
            float::to_json(self.lr),
        ];
        let fields = RESERVED.into_iter().zip(values);
        let metrics = self.metrics.iter().map(|(name, value)| (name.as_str(), float::to_json(*value)));
        let pairs = fields.chain(metrics).map(|(key, value)| format!("{}:{value}", Value::from(key)));
        Ok(format!("{{{}}}\n", pairs.collect::<Vec<_>>().join(",")))
    }

    fn from_json(mut object: Map<String, Value>) -> Result<Self, String> {
        let mut take = |key: &str| object.remove(key).ok_or_else(|| format!("`{key}` is missing"));
        let count = |key: &str, value: Value| {
            value.as_u64().ok_or_else(|| format!("`{key}` is {value}, expected a non-negative integer"))
        };
        let row = Self {
            step: count("step", take("step")?)?,
            epoch: count("epoch", take("epoch")?)?,
            split: match take("split")? {
                Value::String(split) => split,
                other => return Err(format!("`split` is {other}, expected a string")),
            },
            loss: parse_number("loss", &take("loss")?)?,
            lr: parse_number("lr", &take("lr")?)?,
            metrics: BTreeMap::new(),
        };
        let metrics = object.iter().map(|(name, value)| Ok((name.clone(), parse_number(name, value)?)));
        Ok(Self { metrics: metrics.collect::<Result<_, String>>()?, ..row })
    }
}

fn parse_number(key: &str, value: &Value) -> Result<f64, String> {
    float::from_json(value).ok_or_else(|| format!("`{key}` is {value}, expected a number"))
}

/// Returns all lines that end with a newline. The newlines are not included.
fn complete_lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"))
}

fn parse_line(path: &Path, index: usize, line: &[u8]) -> Result<Row, MetricsError> {
    let object = serde_json::from_slice(line).map_err(|error| error.to_string());
    object.and_then(Row::from_json).map_err(|message| MetricsError::Line {
        path: path.to_owned(),
        line: index + 1,
        message,
    })
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MetricsError {
    let path = path.to_owned();
    move |source| MetricsError::File { action, path, source }
}
