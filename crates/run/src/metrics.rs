//! `metrics.jsonl`: what was measured, one JSON object a line, for people's scripts and for the report.
//!
//! ```text
//! {"step":1,"epoch":1,"split":"train","loss":2.31,"lr":0.001,"accuracy":0.11}
//! ```
//!
//! A number that is not finite is the string `"NaN"`, `"inf"` or `"-inf"`, since JSON has no word for it. A line counts
//! once its newline is there: a process killed while writing leaves a torn last line, which reading passes over.

use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use wgrad_stdx::file::{self, Appender};
use wgrad_stdx::float;

/// Keys with a field of their own, in the order in which they are written.
const RESERVED: [&str; 5] = ["step", "epoch", "split", "loss", "lr"];

/// What was measured at one step on one split.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Optimizer steps done, from 1.
    pub step: u64,
    /// The epoch that the step belongs to, from 0.
    pub epoch: u64,
    /// `train`, `test` …
    pub split: String,
    /// Mean loss of the batch, or of the whole split for an evaluation.
    pub loss: f64,
    /// Learning rate of the step.
    pub lr: f64,
    /// Further numbers by name, such as `accuracy`.
    pub metrics: BTreeMap<String, f64>,
}

/// Why metrics cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The file cannot be opened, read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A whole line that is no row.
    #[error("{}:{line}: {message}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
    /// A further metric with the name of a field.
    #[error("a metric cannot be named `{0}`: a row has a field of this name")]
    Reserved(String),
}

/// Appends rows to a `metrics.jsonl`.
#[derive(Debug)]
pub struct MetricsWriter {
    path: PathBuf,
    file: Appender,
}

impl MetricsWriter {
    /// Begins a new file.
    ///
    /// # Errors
    /// [`MetricsError::File`], also if there is such a file.
    pub fn create(path: &Path) -> Result<Self, MetricsError> {
        let file = Appender::create(path).map_err(failed("create", path))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Goes on with a file as it was when `step` steps were done: later rows and a torn line are cut off. A file that is
    /// not there is begun.
    ///
    /// # Errors
    /// [`MetricsError::File`], and [`MetricsError::Line`] if a line is no row; the file is unchanged then.
    pub fn resume(path: &Path, step: u64) -> Result<Self, MetricsError> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read.map_err(failed("read", path))?,
        };
        let mut kept = Vec::with_capacity(bytes.len());
        for (index, line) in whole_lines(&bytes).enumerate() {
            if parse_line(path, index, line)?.step <= step {
                kept.extend_from_slice(line);
                kept.push(b'\n');
            }
        }
        if kept != bytes {
            file::replace(path, &kept).map_err(failed("shorten", path))?;
        }
        let file = Appender::open(path).map_err(failed("open", path))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Appends a row; it is with the system when this returns. After an error the file ends with the row before.
    ///
    /// # Errors
    /// [`MetricsError::File`], as on a full disk, and [`MetricsError::Reserved`].
    pub fn write(&mut self, row: &Row) -> Result<(), MetricsError> {
        self.file.append(row.to_line()?.as_bytes()).map_err(failed("write", &self.path))
    }

    /// Waits until all rows are on the disk.
    ///
    /// # Errors
    /// [`MetricsError::File`].
    pub fn sync(&self) -> Result<(), MetricsError> {
        self.file.sync().map_err(failed("write", &self.path))
    }
}

/// The rows of a file, without a torn last line.
///
/// # Errors
/// [`MetricsError::File`], and [`MetricsError::Line`] for a whole line that is no row.
pub fn read(path: &Path) -> Result<Vec<Row>, MetricsError> {
    let bytes = fs::read(path).map_err(failed("read", path))?;
    whole_lines(&bytes).enumerate().map(|(index, line)| parse_line(path, index, line)).collect()
}

impl Row {
    /// The row as a line of JSON, its newline included. By hand, since a JSON map would sort the keys.
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
        let further = self.metrics.iter().map(|(name, value)| (name.as_str(), float::to_json(*value)));
        let pairs = fields.chain(further).map(|(key, value)| format!("{}:{value}", Value::from(key)));
        Ok(format!("{{{}}}\n", pairs.collect::<Vec<_>>().join(",")))
    }

    fn from_json(mut object: Map<String, Value>) -> Result<Self, String> {
        let mut take = |key: &str| object.remove(key).ok_or_else(|| format!("`{key}` is missing"));
        let count =
            |key: &str, value: Value| value.as_u64().ok_or_else(|| format!("`{key}` is {value}, no count"));
        let row = Self {
            step: count("step", take("step")?)?,
            epoch: count("epoch", take("epoch")?)?,
            split: match take("split")? {
                Value::String(split) => split,
                other => return Err(format!("`split` is {other}, no string")),
            },
            loss: as_number("loss", &take("loss")?)?,
            lr: as_number("lr", &take("lr")?)?,
            metrics: BTreeMap::new(),
        };
        let metrics = object.iter().map(|(name, value)| Ok((name.clone(), as_number(name, value)?)));
        Ok(Self { metrics: metrics.collect::<Result<_, String>>()?, ..row })
    }
}

fn as_number(key: &str, value: &Value) -> Result<f64, String> {
    float::from_json(value).ok_or_else(|| format!("`{key}` is {value}, no number"))
}

/// The lines that end with a newline, without it.
fn whole_lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
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
