//! What a command leaves in a folder: a page and the numbers behind it.

use serde::Serialize;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use wgrad_stdx::ErrorKind;
use wgrad_stdx::file;

/// Why it cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct OutputError {
    /// What was tried.
    action: &'static str,
    /// The file or directory.
    path: PathBuf,
    /// What the system says.
    source: io::Error,
}

impl OutputError {
    /// Kind of the error, which decides the exit code of the command line.
    pub fn kind(&self) -> ErrorKind {
        // The folder was chosen by the user, as `--out`.
        ErrorKind::Usage
    }
}

/// Makes a folder, if it is not there.
///
/// # Errors
/// The system refuses.
pub fn make_directory(directory: &Path) -> Result<(), OutputError> {
    fs::create_dir_all(directory).map_err(failed("create", directory))
}

/// A line of JSON.
pub fn json(value: &impl Serialize, directory: &Path, name: &str) -> Result<PathBuf, OutputError> {
    let path = directory.join(name);
    let text = serde_json::to_string(value).map_err(io::Error::from).map_err(failed("write", &path))?;
    self::text(&format!("{text}\n"), directory, name)
}

/// Text as it is.
pub fn text(text: &str, directory: &Path, name: &str) -> Result<PathBuf, OutputError> {
    let path = directory.join(name);
    file::replace(&path, text.as_bytes()).map_err(failed("write", &path))?;
    Ok(path)
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OutputError {
    let path = path.to_owned();
    move |source| OutputError { action, path, source }
}
