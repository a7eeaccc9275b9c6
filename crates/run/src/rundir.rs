//! Run directories: made once, written by one process at a time, read by anyone. What the files hold is the business of
//! the other modules.

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
use wgrad_stdx::file;

const RECIPE: &str = "recipe.toml";
const LOCK: &str = ".lock";

/// Why a run directory cannot be made, opened or written.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Something other than a run is there.
    #[error("{} is not empty and holds no run; choose another directory", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// A run is there already.
    #[error("{} already holds {} run; go on with it by --resume, or choose another directory", path.display(), if *done { "a finished" } else { "an unfinished" })]
    Exists {
        /// The directory.
        path: PathBuf,
        /// Whether that run has finished.
        done: bool,
    },
    /// There is no run.
    #[error("{} is no run directory: it has no recipe.toml", path.display())]
    NoRun {
        /// The directory.
        path: PathBuf,
    },
    /// Another process writes in it.
    #[error("{} is being written by {holder}", path.display())]
    Busy {
        /// The directory.
        path: PathBuf,
        /// Which process, as far as it is known.
        holder: String,
    },
    /// The run's metrics.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The run's event file.
    #[error(transparent)]
    Events(#[from] EventError),
    /// The run's checkpoints.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// A run directory for reading, also while another process trains in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    path: PathBuf,
}

impl Run {
    /// The run in a directory.
    ///
    /// # Errors
    /// [`RunDirError::NoRun`].
    pub fn open(path: &Path) -> Result<Self, RunDirError> {
        let run = Self { path: path.to_owned() };
        if run.recipe_path().is_file() { Ok(run) } else { Err(RunDirError::NoRun { path: run.path }) }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `recipe.toml`.
    pub fn recipe_path(&self) -> PathBuf {
        self.path.join(RECIPE)
    }

    /// `metrics.jsonl`.
    pub fn metrics_path(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// `report.html`.
    pub fn report_path(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// `done.json`, there once the run has finished.
    pub fn done_path(&self) -> PathBuf {
        self.path.join("done.json")
    }

    /// Returns the text of `recipe.toml`: the recipe that the run was started with, fully resolved.
    ///
    /// # Errors
    /// Returns [`RunDirError::File`] if the file cannot be read.
    pub fn recipe_text(&self) -> Result<String, RunDirError> {
        let path = self.recipe_path();
        fs::read_to_string(&path).map_err(failed("read", &path))
    }

    /// The metrics so far; none if none were written.
    ///
    /// # Errors
    /// [`RunDirError::Metrics`].
    pub fn rows(&self) -> Result<Vec<Row>, RunDirError> {
        let path = self.metrics_path();
        if path.exists() { Ok(metrics::read(&path)?) } else { Ok(Vec::new()) }
    }

    /// `scores.json`, there if the model was scored as a classifier.
    pub fn scores_path(&self) -> PathBuf {
        self.path.join("scores.json")
    }

    /// The scores of the model as a classifier, if they were written.
    ///
    /// # Errors
    /// [`RunDirError::File`], also if the file is not what [`Run::write_scores`] writes.
    pub fn scores(&self) -> Result<Option<Scores>, RunDirError> {
        let path = self.scores_path();
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(failed("read", &path))?,
        };
        let scores = serde_json::from_slice(&bytes).map_err(io::Error::from);
        scores.map(Some).map_err(failed("read", &path))
    }

    /// Writes `scores.json`, which the next report shows. Takes no lock: a finished run can be scored again.
    ///
    /// # Errors
    /// [`RunDirError::File`].
    pub fn write_scores(&self, scores: &Scores) -> Result<(), RunDirError> {
        let path = self.scores_path();
        let json = serde_json::to_string(scores).map_err(io::Error::from).map_err(failed("write", &path))?;
        file::replace(&path, format!("{json}\n").as_bytes()).map_err(failed("write", &path))
    }

    /// The newest complete checkpoint, if there is one.
    ///
    /// # Errors
    /// [`RunDirError::Checkpoint`].
    pub fn latest_checkpoint(&self) -> Result<Option<PathBuf>, RunDirError> {
        Ok(checkpoint::latest(&self.path)?)
    }

    /// Whether the run has finished.
    pub fn is_done(&self) -> bool {
        self.done_path().is_file()
    }
}

/// A run directory that this process writes in. No other can, until this value is dropped or the process ends.
#[derive(Debug)]
pub struct RunDir {
    run: Run,
    /// The system holds the lock for as long as the file is open.
    _lock: File,
}

impl Deref for RunDir {
    type Target = Run;

    fn deref(&self) -> &Run {
        &self.run
    }
}

impl RunDir {
    /// Creates the directory of a new run and writes its recipe: `out` if given, else
    /// `runs/<name>-<UTC yyyymmdd-hhmmss>`, with `-2`, `-3` … where that is taken.
    ///
    /// # Errors
    /// Returns [`RunDirError::Exists`] or [`RunDirError::NotEmpty`] if `out` holds files, [`RunDirError::Busy`] if another
    /// process writes in it, and [`RunDirError::File`] if the system refuses to create or write it.
    pub fn create(runs: &Path, out: Option<&Path>, name: &str, recipe: &str) -> Result<Self, RunDirError> {
        let path = match out {
            Some(out) => {
                fs::create_dir_all(out).map_err(failed("create", out))?;
                refuse_used(out)?;
                out.to_owned()
            }
            None => {
                fs::create_dir_all(runs).map_err(failed("create", runs))?;
                create_new(runs, &dated(name))?
            }
        };
        let dir = Self { _lock: lock(&path)?, run: Run { path } };
        // Again, now that no other process can begin a run here.
        refuse_used(&dir.path)?;
        let path = dir.recipe_path();
        file::replace(&path, recipe.as_bytes()).map_err(failed("write", &path))?;
        Ok(dir)
    }

    /// Returns the path that [`RunDir::create`] would choose at this moment for a run of the recipe `name`.
    pub fn path_for(runs: &Path, name: &str) -> PathBuf {
        runs.join(dated(name))
    }

    /// Takes up a run again, finished or not. It counts as unfinished from here on.
    ///
    /// # Errors
    /// [`RunDirError::NoRun`], [`RunDirError::Busy`] and [`RunDirError::File`].
    pub fn resume(path: &Path) -> Result<Self, RunDirError> {
        let run = Run::open(path)?;
        let dir = Self { _lock: lock(path)?, run };
        if dir.is_done() {
            let done = dir.done_path();
            fs::remove_file(&done).map_err(failed("remove", &done))?;
        }
        Ok(dir)
    }

    /// Replaces the recipe, for a run that is resumed with more epochs.
    ///
    /// # Errors
    /// Returns [`RunDirError::File`] if the file cannot be written.
    pub fn set_recipe(&self, recipe: &str) -> Result<(), RunDirError> {
        let path = self.recipe_path();
        file::replace(&path, recipe.as_bytes()).map_err(failed("write", &path))
    }

    /// The metrics file: a new one, or for a run resumed `after` a step the old one without its later rows.
    ///
    /// # Errors
    /// [`RunDirError::Metrics`].
    pub fn metrics(&self, after: Option<u64>) -> Result<MetricsWriter, RunDirError> {
        let path = self.metrics_path();
        let writer =
            after.map_or_else(|| MetricsWriter::create(&path), |step| MetricsWriter::resume(&path, step));
        Ok(writer?)
    }

    /// A new event file, for a run resumed `after` a step one that makes TensorBoard forget later ones.
    ///
    /// # Errors
    /// [`RunDirError::Events`].
    pub fn events(&self, after: Option<u64>) -> Result<EventWriter, RunDirError> {
        let path = &self.path;
        let writer = after.map_or_else(|| EventWriter::create(path), |step| EventWriter::resume(path, step));
        Ok(writer?)
    }

    /// Marks the run as finished: `done.json` with the time and a summary.
    ///
    /// # Errors
    /// [`RunDirError::File`], also if the summary is nothing that JSON can say.
    pub fn finish(&self, summary: &impl Serialize) -> Result<(), RunDirError> {
        let path = self.done_path();
        let summary =
            serde_json::to_value(summary).map_err(io::Error::from).map_err(failed("write", &path))?;
        let finished = Utc::at(SystemTime::now()).rfc3339();
        let object = Value::from_iter([("finished", Value::from(finished)), ("summary", summary)]);
        file::replace(&path, format!("{object:#}\n").as_bytes()).map_err(failed("write", &path))
    }
}

/// The name of a recipe with the current time.
fn dated(name: &str) -> String {
    format!("{name}-{}", Utc::at(SystemTime::now()).compact())
}

/// A new directory of this name, or with the first free number after it.
fn create_new(parent: &Path, name: &str) -> Result<PathBuf, RunDirError> {
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

fn refuse_used(path: &Path) -> Result<(), RunDirError> {
    let mut others = false;
    for entry in fs::read_dir(path).map_err(failed("read", path))? {
        let name = entry.map_err(failed("read", path))?.file_name();
        // A lock without a recipe, or half a recipe, is a run that ended before it began, or that begins right now.
        others |= name != LOCK && !file::is_temporary_of(RECIPE, &name);
    }
    // Looked at last: a recipe that has just come is not taken for something else.
    match Run::open(path) {
        Ok(run) => Err(RunDirError::Exists { done: run.is_done(), path: run.path }),
        Err(_) if others => Err(RunDirError::NotEmpty { path: path.to_owned() }),
        Err(_) => Ok(()),
    }
}

/// Takes the lock of a directory. The system gives it back when the process ends, however that happens.
fn lock(directory: &Path) -> Result<File, RunDirError> {
    let path = directory.join(LOCK);
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = open.map_err(failed("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let process = fs::read_to_string(&path).ok().filter(|id| !id.is_empty());
            let holder =
                process.map_or_else(|| "another process".to_owned(), |id| format!("process {}", id.trim()));
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
