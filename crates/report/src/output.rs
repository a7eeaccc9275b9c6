//! Writing of output files: pages and data files in a directory.

use serde::Serialize;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use wgrad_stdx::ErrorKind;
use wgrad_stdx::file;

/// Error while writing an output file.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct OutputError {
    /// Operation that failed: `create` or `write`.
    action: &'static str,
    /// Path of the file or directory.
    path: PathBuf,
    /// Underlying I/O error.
    source: io::Error,
}

impl OutputError {
    /// Returns the kind of the error, always [`ErrorKind::Usage`]: the user chose the directory with `--out`.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }
}

/// Creates a directory and its parents if they do not exist.
///
/// # Errors
/// Returns [`OutputError`] if the directory cannot be created, e.g. because a file of that name exists.
pub fn make_directory(directory: &Path) -> Result<(), OutputError> {
    fs::create_dir_all(directory).map_err(failed("create", directory))
}

/// Writes a value as one line of JSON to `directory/name`, replacing an existing file. Returns the path.
///
/// # Errors
/// Returns [`OutputError`] if the value cannot be serialized or the file cannot be written.
pub fn json(value: &impl Serialize, directory: &Path, name: &str) -> Result<PathBuf, OutputError> {
    let path = directory.join(name);
    let text = serde_json::to_string(value).map_err(io::Error::from).map_err(failed("write", &path))?;
    self::text(&format!("{text}\n"), directory, name)
}

/// Writes text to `directory/name`, replacing an existing file. Returns the path.
///
/// # Errors
/// Returns [`OutputError`] if the file cannot be written.
pub fn text(text: &str, directory: &Path, name: &str) -> Result<PathBuf, OutputError> {
    let path = directory.join(name);
    file::replace(&path, text.as_bytes()).map_err(failed("write", &path))?;
    Ok(path)
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OutputError {
    let path = path.to_owned();
    move |source| OutputError { action, path, source }
}
