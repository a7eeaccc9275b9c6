//! Checkpoints: everything a run needs to go on with the same bits, as a directory that is complete or not there.
//!
//! ```text
//! checkpoints/step-000123/
//!   model.safetensors   tensors by name
//!   state.json          step, place in the data, generator, schedule, kernels; size and SHA-256 of the other file
//! ```
//!
//! A checkpoint is written under a temporary name, synced, and renamed. Only then are older ones removed, so at every
//! moment, also after a crash or on a full disk, the last complete one is there. What the tensors and the state mean is
//! the trainer's business.

mod error;
mod tensor;

pub use error::CheckpointError;
pub use tensor::{Tensor, Values};

use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use wgrad_stdx::file;

/// The version of the format that this wgrad writes and reads.
pub const FORMAT_VERSION: u32 = 1;

const MODEL: &str = "model.safetensors";
const STATE: &str = "state.json";
const PREFIX: &str = "step-";
/// A checkpoint that is being replaced by another of the same step.
const REPLACED: &str = ".replaced";
const TEMPORARY: &str = ".tmp-";

/// Where a run stood. The maps belong to the parts of the trainer that they are named after, which alone read them;
/// floats in them keep their bits, but must be finite.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointState {
    /// Optimizer steps done.
    pub step: u64,
    /// The place in the data at which the next step begins.
    pub loader: LoaderPosition,
    /// The random generator: its seed and streams.
    pub generator: Map<String, Value>,
    /// The learning rate schedule, and what early stopping has seen.
    pub schedule: Map<String, Value>,
    /// The kernels that were chosen: other tiles round differently.
    pub kernels: Map<String, Value>,
    /// Anything else, such as versions.
    pub extra: Map<String, Value>,
}

/// A place between two batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoaderPosition {
    /// Epochs gone through.
    pub epoch: u64,
    /// Batches taken from the epoch that is under way.
    pub batch: u64,
}

/// What `state.json` holds besides the state.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateFile {
    version: u32,
    model: ModelFile,
    state: CheckpointState,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelFile {
    bytes: u64,
    sha256: String,
}

/// A checkpoint that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// The tensors by name.
    pub tensors: BTreeMap<String, Tensor<'static>>,
    /// Where the run stood.
    pub state: CheckpointState,
}

impl Checkpoint {
    /// Writes a checkpoint into `run/checkpoints`, then removes all but the last `keep` (at least one). Returns its
    /// directory. One of the same step is replaced.
    ///
    /// The same tensors and state give the same bytes.
    ///
    /// # Errors
    /// [`CheckpointError::Full`] on a full disk, [`CheckpointError::File`] otherwise; both leave earlier checkpoints as they
    /// were. [`CheckpointError::Name`] for a tensor that safetensors cannot name.
    pub fn save(
        run: &Path,
        tensors: &BTreeMap<String, Tensor<'_>>,
        state: &CheckpointState,
        keep: usize,
    ) -> Result<PathBuf, CheckpointError> {
        let parent = directory(run);
        let path = parent.join(format!("{PREFIX}{:06}", state.step));
        let model = encode_model(tensors)?;
        let state = encode_state(&model, state)?;
        fs::create_dir_all(&parent).map_err(failed("create", &parent))?;
        remove_temporaries(&parent)?;

        let temporary = parent.join(format!("{TEMPORARY}{PREFIX}{}", std::process::id()));
        let written = fs::create_dir(&temporary)
            .and_then(|()| file::write_synced(&temporary.join(MODEL), &model))
            .and_then(|()| file::write_synced(&temporary.join(STATE), &state))
            .and_then(|()| file::sync_directory(&temporary))
            .and_then(|()| move_into_place(&temporary, &path));
        if let Err(source) = written {
            // The first error is the one to report; what stays is removed by the next save.
            let _ = fs::remove_dir_all(&temporary);
            return Err(match file::is_full(&source) {
                true => CheckpointError::Full { path, bytes: (model.len() + state.len()) as u64, source },
                false => CheckpointError::File { action: "write the checkpoint", path, source },
            });
        }
        for old in list(&parent)?.into_iter().rev().skip(keep.max(1)) {
            fs::remove_dir_all(&old.path).map_err(failed("remove the old checkpoint", &old.path))?;
        }
        Ok(path)
    }

    /// Reads a checkpoint and checks it: the model file's size, hash, header, sizes and types.
    ///
    /// # Errors
    /// [`CheckpointError::Corrupt`], [`CheckpointError::Version`], [`CheckpointError::DType`] and
    /// [`CheckpointError::File`], each with the file.
    pub fn load(checkpoint: &Path) -> Result<Self, CheckpointError> {
        let state_path = checkpoint.join(STATE);
        let StateFile { model, state, .. } = decode_state(&state_path, &read(&state_path)?)?;
        let path = checkpoint.join(MODEL);
        let bytes = read(&path)?;
        let damaged = |message: String| CheckpointError::Corrupt { path: path.clone(), message };
        if bytes.len() as u64 != model.bytes {
            return Err(damaged(format!(
                "it has {} bytes, and was written with {}",
                bytes.len(),
                model.bytes
            )));
        }
        let sha256 = sha256(&bytes);
        if sha256 != model.sha256 {
            return Err(damaged(format!("its SHA-256 is {sha256}, and was {} when written", model.sha256)));
        }
        let file = SafeTensors::deserialize(&bytes).map_err(|error| damaged(error.to_string()))?;
        let tensors =
            file.iter().map(|(name, view)| Ok((name.to_owned(), Tensor::from_view(&path, name, &view)?)));
        Ok(Self { tensors: tensors.collect::<Result<_, CheckpointError>>()?, state })
    }
}

/// Where the checkpoints of a run are.
pub fn directory(run: &Path) -> PathBuf {
    run.join("checkpoints")
}

/// The newest complete checkpoint of a run, if there is one. What a crash has left half written is passed over.
///
/// # Errors
/// [`CheckpointError::File`] if the directory cannot be read.
pub fn latest(run: &Path) -> Result<Option<PathBuf>, CheckpointError> {
    Ok(list(&directory(run))?.pop().map(|newest| newest.path))
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    step: u64,
    /// False sorts before true: a replaced checkpoint is older than the one that replaces it.
    current: bool,
    path: PathBuf,
}

/// The complete checkpoints, oldest first.
fn list(parent: &Path) -> Result<Vec<Found>, CheckpointError> {
    let mut found = Vec::new();
    for path in entries(parent)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(step) = name.strip_prefix(PREFIX) else { continue };
        let (step, current) = step.strip_suffix(REPLACED).map_or((step, true), |step| (step, false));
        if let Ok(step) = step.parse()
            && path.join(MODEL).is_file()
            && path.join(STATE).is_file()
        {
            found.push(Found { step, current, path });
        }
    }
    found.sort();
    Ok(found)
}

fn remove_temporaries(parent: &Path) -> Result<(), CheckpointError> {
    for path in entries(parent)? {
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(TEMPORARY)) {
            fs::remove_dir_all(&path).map_err(failed("remove", &path))?;
        }
    }
    Ok(())
}

fn entries(parent: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let entries = match fs::read_dir(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed("read", parent))?,
    };
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed("read", parent))).collect()
}

/// Renames a complete directory to its name. One of that name is set aside first and removed last, so that one of the two
/// can be found at every moment.
fn move_into_place(temporary: &Path, path: &Path) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    if !path.exists() {
        fs::rename(temporary, path)?;
        return file::sync_directory(parent);
    }
    let mut replaced = path.as_os_str().to_owned();
    replaced.push(REPLACED);
    let replaced = Path::new(&replaced);
    if replaced.exists() {
        fs::remove_dir_all(replaced)?;
    }
    fs::rename(path, replaced)?;
    fs::rename(temporary, path)?;
    file::sync_directory(parent)?;
    fs::remove_dir_all(replaced)
}

fn encode_model(tensors: &BTreeMap<String, Tensor<'_>>) -> Result<Vec<u8>, CheckpointError> {
    if let Some(name) = tensors.keys().find(|name| name.is_empty() || *name == "__metadata__") {
        return Err(CheckpointError::Name(name.clone()));
    }
    // PyTorch's loader asks for this entry.
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    safetensors::serialize(tensors, Some(metadata))
        .map_err(|error| CheckpointError::Encode(error.to_string()))
}

fn encode_state(model: &[u8], state: &CheckpointState) -> Result<Vec<u8>, CheckpointError> {
    let model = ModelFile { bytes: model.len() as u64, sha256: sha256(model) };
    let file = StateFile { version: FORMAT_VERSION, model, state: state.clone() };
    let mut bytes =
        serde_json::to_vec_pretty(&file).map_err(|error| CheckpointError::Encode(error.to_string()))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The version is looked at before anything else: another version may have other fields.
fn decode_state(path: &Path, bytes: &[u8]) -> Result<StateFile, CheckpointError> {
    let damaged = |message: String| CheckpointError::Corrupt { path: path.to_owned(), message };
    let json: Value = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
    match json.get("version") {
        Some(version) if *version == FORMAT_VERSION => {}
        Some(version) => {
            let found = version.to_string();
            return Err(CheckpointError::Version { path: path.to_owned(), found, known: FORMAT_VERSION });
        }
        None => return Err(damaged("it has no `version`".to_owned())),
    }
    serde_json::from_value(json).map_err(|error| damaged(error.to_string()))
}

fn read(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    fs::read(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => {
            CheckpointError::Corrupt { path: path.to_owned(), message: "there is no such file".to_owned() }
        }
        _ => CheckpointError::File { action: "read", path: path.to_owned(), source },
    })
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> CheckpointError {
    let path = path.to_owned();
    move |source| CheckpointError::File { action, path: path.clone(), source }
}
