//! Run directories. One process at a time writes to a run directory; any number of processes can read it.
//!
//! The other modules define the contents of the files.

use crate::checkpoint::{self, CheckpointError};
use crate::metrics::{self, MetricsError, MetricsWriter, Row};
use crate::score::Scores;
use crate::tensorboard::{EventError, EventWriter};
use serde::Serialize;
use serde_json::Value;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use wgrad_stdx::date::Utc;
use wgrad_stdx::{ErrorKind, file};

const RECIPE: &str = "recipe.toml";
const LOCK: &str = ".lock";

/// Error while creating, opening, reading or writing a run directory.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// A file operation failed.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// Operation that failed, e.g. `read` or `lock`.
        action: &'static str,
        /// Path of the file or directory.
        path: PathBuf,
        /// Underlying I/O error.
        source: io::Error,
    },
    /// The directory contains files but is not a run directory.
    #[error("{} is not empty and is not a run directory; choose another directory", path.display())]
    NotEmpty {
        /// Path of the directory.
        path: PathBuf,
    },
    /// The directory already contains a run.
    #[error("{} already contains {} run; resume it with --resume, or choose another directory", path.display(), if *done { "a finished" } else { "an unfinished" })]
    Exists {
        /// Path of the directory.
        path: PathBuf,
        /// Whether the existing run has finished.
        done: bool,
    },
    /// The directory does not contain a run.
    #[error("{} is not a run directory: recipe.toml is missing", path.display())]
    NoRun {
        /// Path of the directory.
        path: PathBuf,
    },
    /// Another process has locked the directory for writing.
    #[error("{} is being written by {holder}", path.display())]
    Busy {
        /// Path of the directory.
        path: PathBuf,
        /// Description of the other process, with the process ID if known.
        holder: String,
    },
    /// Error while reading or writing the metrics file.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// Error while writing the event file.
    #[error(transparent)]
    Events(#[from] EventError),
    /// Error while reading or writing a checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl RunDirError {
    /// Returns the kind of the error, always [`ErrorKind::Storage`].
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Storage
    }
}

/// Run directory opened for reading. Another process can train in the directory at the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    path: PathBuf,
}

impl Run {
    /// Opens the run directory at `path` for reading.
    ///
    /// # Errors
    /// Returns [`RunDirError::NoRun`] if `recipe.toml` is missing.
    pub fn open(path: &Path) -> Result<Self, RunDirError> {
        let run = Self { path: path.to_owned() };
        if run.recipe_path().is_file() { Ok(run) } else { Err(RunDirError::NoRun { path: run.path }) }
    }

    /// Returns the path of the run directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of `recipe.toml`.
    pub fn recipe_path(&self) -> PathBuf {
        self.path.join(RECIPE)
    }

    /// Returns the path of `metrics.jsonl`.
    pub fn metrics_path(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// Returns the path of `report.html`.
    pub fn report_path(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// Returns the path of `done.json`, which exists once the run has finished.
    pub fn done_path(&self) -> PathBuf {
        self.path.join("done.json")
    }

    /// Returns the text of `recipe.toml`: the fully resolved recipe of the run.
    ///
    /// # Errors
    /// Returns [`RunDirError::File`] if the file cannot be read.
    pub fn recipe_text(&self) -> Result<String, RunDirError> {
        let path = self.recipe_path();
        fs::read_to_string(&path).map_err(failed("read", &path))
    }

    /// Returns the metrics written so far; empty if `metrics.jsonl` does not exist.
    ///
    /// # Errors
    /// Returns [`RunDirError::Metrics`] if the file cannot be read or a line is not a valid row.
    pub fn rows(&self) -> Result<Vec<Row>, RunDirError> {
        let path = self.metrics_path();
        if path.exists() { Ok(metrics::read(&path)?) } else { Ok(Vec::new()) }
    }

    /// Returns the path of `scores.json`, which exists if the model was evaluated as a classifier.
    pub fn scores_path(&self) -> PathBuf {
        self.path.join("scores.json")
    }

    /// Returns the scores of the classifier, if they were written.
    ///
    /// # Errors
    /// Returns [`RunDirError::File`] if the file cannot be read or was not written by [`Run::write_scores`].
    pub fn scores(&self) -> Result<Option<Scores>, RunDirError> {
        let path = self.scores_path();
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(failed("read", &path))?,
        };
        let scores = serde_json::from_slice(&bytes).map_err(io::Error::from);
        scores.map(Some).map_err(failed("read", &path))
    }

    /// Writes `scores.json`, which is shown in the next report.
    ///
    /// Does not require a lock, so that a run can be evaluated while another process has it open.
    ///
    /// # Errors
    /// Returns [`RunDirError::File`] if the file cannot be written.
    pub fn write_scores(&self, scores: &Scores) -> Result<(), RunDirError> {
        let path = self.scores_path();
        let json = serde_json::to_string(scores).map_err(io::Error::from).map_err(failed("write", &path))?;
        file::replace(&path, format!("{json}\n").as_bytes()).map_err(failed("write", &path))
    }

    /// Returns the directory of the newest complete checkpoint, if there is one.
    ///
    /// # Errors
    /// Returns [`RunDirError::Checkpoint`] if the directory with the checkpoints cannot be read.
    pub fn latest_checkpoint(&self) -> Result<Option<PathBuf>, RunDirError> {
        Ok(checkpoint::latest(&self.path)?)
    }

    /// Returns whether the run has finished.
    pub fn is_done(&self) -> bool {
        self.done_path().is_file()
    }
}

/// Run directory that this process has locked for writing, until the value is dropped or the process ends.
#[derive(Debug)]
pub struct RunDir {
    run: Run,
    /// Lock file. The operating system holds the lock while the file is open.
    _lock: File,
}

impl Deref for RunDir {
    type Target = Run;

    fn deref(&self) -> &Run {
        &self.run
    }
}

impl RunDir {
    /// Creates the directory of a new run and writes the recipe.
    ///
    /// The directory is `out` if given, otherwise `runs/<name>-<UTC yyyymmdd-hhmmss>`, followed by `-2`, `-3` … if that
    /// directory exists.
    ///
    /// # Errors
    /// Returns [`RunDirError::Exists`] or [`RunDirError::NotEmpty`] if `out` contains files, [`RunDirError::Busy`] if
    /// another process has locked `out`, and [`RunDirError::File`] if the directory or a file cannot be created or
    /// written.
    pub fn create(runs: &Path, out: Option<&Path>, name: &str, recipe: &str) -> Result<Self, RunDirError> {
        let path = match out {
            Some(out) => {
                fs::create_dir_all(out).map_err(failed("create", out))?;
                check_unused(out)?;
                out.to_owned()
            }
            None => {
                fs::create_dir_all(runs).map_err(failed("create", runs))?;
                create_unique(runs, &timestamped(name))?
            }
        };
        let dir = Self { _lock: lock(&path)?, run: Run { path } };
        // Check again while holding the lock, when no other process can start a run here.
        check_unused(&dir.path)?;
        let path = dir.recipe_path();
        file::replace(&path, recipe.as_bytes()).map_err(failed("write", &path))?;
        Ok(dir)
    }

    /// Returns the path that [`RunDir::create`] would use now for a recipe named `name` if `out` is not given.
    pub fn path_for(runs: &Path, name: &str) -> PathBuf {
        runs.join(timestamped(name))
    }

    /// Opens a run directory to resume the run, which may have finished. The run is then marked as unfinished.
    ///
    /// # Errors
    /// Returns [`RunDirError::NoRun`] if `path` is not a run directory, [`RunDirError::Busy`] if another process has
    /// locked it, and [`RunDirError::File`] if the lock cannot be taken or `done.json` cannot be removed.
    pub fn resume(path: &Path) -> Result<Self, RunDirError> {
        let run = Run::open(path)?;
        let dir = Self { _lock: lock(path)?, run };
        if dir.is_done() {
            let done = dir.done_path();
            fs::remove_file(&done).map_err(failed("remove", &done))?;
        }
        Ok(dir)
    }

    /// Replaces the recipe, e.g. to resume a run with more epochs.
    ///
    /// # Errors
    /// Returns [`RunDirError::File`] if the file cannot be written.
    pub fn set_recipe(&self, recipe: &str) -> Result<(), RunDirError> {
        let path = self.recipe_path();
        file::replace(&path, recipe.as_bytes()).map_err(failed("write", &path))
    }

    /// Creates the metrics file, or opens an existing file to resume a run.
    ///
    /// If `after` is given, the run resumes after that step, and rows of later steps are removed.
    ///
    /// # Errors
    /// Returns [`RunDirError::Metrics`] if the file cannot be created, read or written, or if a line is not a valid
    /// row.
    pub fn metrics(&self, after: Option<u64>) -> Result<MetricsWriter, RunDirError> {
        let path = self.metrics_path();
        let writer =
            after.map_or_else(|| MetricsWriter::create(&path), |step| MetricsWriter::resume(&path, step));
        Ok(writer?)
    }

    /// Creates an event file.
    ///
    /// If `after` is given, the run resumes after that step, and TensorBoard discards earlier values of later steps.
    ///
    /// # Errors
    /// Returns [`RunDirError::Events`] if the file cannot be created.
    pub fn events(&self, after: Option<u64>) -> Result<EventWriter, RunDirError> {
        let path = &self.path;
        let writer = after.map_or_else(|| EventWriter::create(path), |step| EventWriter::resume(path, step));
        Ok(writer?)
    }

    /// Marks the run as finished by writing `done.json` with the current time and a summary.
    ///
    /// # Errors
    /// Returns [`RunDirError::File`] if the summary cannot be encoded as JSON or the file cannot be written.
    pub fn finish(&self, summary: &impl Serialize) -> Result<(), RunDirError> {
        let path = self.done_path();
        let summary =
            serde_json::to_value(summary).map_err(io::Error::from).map_err(failed("write", &path))?;
        let finished = Utc::at(SystemTime::now()).rfc3339();
        let object = Value::from_iter([("finished", Value::from(finished)), ("summary", summary)]);
        file::replace(&path, format!("{object:#}\n").as_bytes()).map_err(failed("write", &path))
    }
}

/// Returns a recipe name with the current UTC time appended, e.g. `digits-20260102-030405`.
fn timestamped(name: &str) -> String {
    format!("{name}-{}", Utc::at(SystemTime::now()).compact())
}

/// Creates a directory with the given name. If the directory exists, appends the first unused number from 2 on.
fn create_unique(parent: &Path, name: &str) -> Result<PathBuf, RunDirError> {
    let mut path = parent.join(name);
    for number in 2.. {
        match fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                path = parent.join(format!("{name}-{number}"));
            }
            created => {
                created.map_err(failed("create", &path))?;
                break;
            }
        }
    }
    Ok(path)
}

/// Returns an error if a directory contains a run or other files.
fn check_unused(path: &Path) -> Result<(), RunDirError> {
    let mut has_other_files = false;
    for entry in fs::read_dir(path).map_err(failed("read", path))? {
        let name = entry.map_err(failed("read", path))?.file_name();
        // A lock or a temporary recipe without a recipe belongs to a process that is creating a run now, or that was
        // killed while creating a run.
        has_other_files |= name != LOCK && !file::is_temporary_of(RECIPE, &name);
    }
    // Check for a run last. Otherwise, a recipe that another process has just written would be treated as an unrelated
    // file.
    match Run::open(path) {
        Ok(run) => Err(RunDirError::Exists { done: run.is_done(), path: run.path }),
        Err(_) if has_other_files => Err(RunDirError::NotEmpty { path: path.to_owned() }),
        Err(_) => Ok(()),
    }
}

/// Locks a directory for writing. The operating system releases the lock when the process ends, even after a crash.
fn lock(directory: &Path) -> Result<File, RunDirError> {
    let path = directory.join(LOCK);
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = open.map_err(failed("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let id = fs::read_to_string(&path).ok().filter(|id| !id.is_empty());
            let holder =
                id.map_or_else(|| "another process".to_owned(), |id| format!("process {}", id.trim()));
            return Err(RunDirError::Busy { path: directory.to_owned(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(failed("lock", &path)(source)),
    }
    let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(failed("write", &path))?;
    Ok(file)
}

fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> RunDirError {
    let path = path.to_owned();
    move |source| RunDirError::File { action, path: path.clone(), source }
}
