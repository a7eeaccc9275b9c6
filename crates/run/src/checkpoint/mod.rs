//! Checkpoints: directories with all data required to resume a run with bit-identical results.
//!
//! ```text
//! checkpoints/step-000123/
//!   model.safetensors   tensors by name
//!   state.json          step, loader position, generator, schedule, kernels; size and SHA-256 of model.safetensors
//! ```
//!
//! A checkpoint is written under a temporary name, synced and renamed. Older checkpoints are removed only afterwards,
//! so a complete checkpoint exists at every moment, even after a crash or on a full disk. The trainer defines the
//! meaning of the tensors and the state.

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

/// Version of the checkpoint format that this version of wgrad writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// Key of the format version in the metadata of the model file.
const FORMAT_KEY: &str = "wgrad_format";

const MODEL: &str = "model.safetensors";
const STATE: &str = "state.json";
const PREFIX: &str = "step-";
/// Suffix of a checkpoint that is being replaced by a new checkpoint of the same step.
const REPLACED: &str = ".replaced";
const TEMPORARY: &str = ".tmp-";

/// State of a run at a checkpoint, without the tensors.
///
/// The part of the trainer that a map is named after defines the contents of the map. Floats in the maps must be
/// finite and round-trip exactly.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointState {
    /// Number of completed optimizer steps.
    pub step: u64,
    /// Position in the training data at which the next step starts.
    pub loader: LoaderPosition,
    /// Seed and streams of the random number generator.
    pub generator: Map<String, Value>,
    /// State of the learning rate schedule and of early stopping.
    pub schedule: Map<String, Value>,
    /// Kernels selected for the run. They are stored because kernels with other tile sizes round differently.
    pub kernels: Map<String, Value>,
    /// Additional entries, such as versions.
    pub extra: Map<String, Value>,
}

/// Position of the data loader between two batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoaderPosition {
    /// Number of completed epochs.
    pub epoch: u64,
    /// Number of batches already used in the current epoch.
    pub batch: u64,
}

/// Contents of `state.json`.
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

/// Checkpoint that was loaded from a directory.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Tensors of the model and the optimizer, by name.
    pub tensors: BTreeMap<String, Tensor<'static>>,
    /// State of the run without the tensors.
    pub state: CheckpointState,
}

impl Checkpoint {
    /// Writes a checkpoint into `run/checkpoints`, then removes all but the newest `keep` checkpoints.
    ///
    /// At least one checkpoint is kept, even if `keep` is 0. An existing checkpoint of the same step is replaced.
    /// Returns the directory of the checkpoint.
    ///
    /// The same tensors and state produce the same bytes.
    ///
    /// # Errors
    /// Returns [`CheckpointError::Full`] if the disk is full and [`CheckpointError::File`] if another file operation
    /// fails; earlier checkpoints are unchanged. Returns [`CheckpointError::Name`] if the name of a tensor is empty
    /// or reserved, and [`CheckpointError::Encode`] if the model or the state cannot be encoded.
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
            // Report the first error. If removal fails here, the next save removes the temporary directory.
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

    /// Reads a checkpoint and checks the size, hash, header, shapes and dtypes of the model file.
    ///
    /// # Errors
    /// Returns [`CheckpointError::Corrupt`] if a file is missing, truncated or changed, [`CheckpointError::Version`]
    /// if a file has an unsupported format version, [`CheckpointError::DType`] if a tensor is neither F32 nor U32,
    /// and [`CheckpointError::File`] if a file cannot be read.
    pub fn load(checkpoint: &Path) -> Result<Self, CheckpointError> {
        let state_path = checkpoint.join(STATE);
        let StateFile { model, state, .. } = decode_state(&state_path, &read(&state_path)?)?;
        let path = checkpoint.join(MODEL);
        let bytes = read(&path)?;
        let corrupt = |message: String| CheckpointError::Corrupt { path: path.clone(), message };
        if bytes.len() as u64 != model.bytes {
            return Err(corrupt(format!("it has {} bytes, expected {}", bytes.len(), model.bytes)));
        }
        let sha256 = sha256(&bytes);
        if sha256 != model.sha256 {
            return Err(corrupt(format!("its SHA-256 is {sha256}, expected {}", model.sha256)));
        }
        let file = SafeTensors::deserialize(&bytes).map_err(|error| corrupt(error.to_string()))?;
        check_model_version(&path, &bytes)?;
        let tensors =
            file.iter().map(|(name, view)| Ok((name.to_owned(), Tensor::from_view(&path, name, &view)?)));
        Ok(Self { tensors: tensors.collect::<Result<_, CheckpointError>>()?, state })
    }
}

/// Returns the directory that contains the checkpoints of a run.
pub fn directory(run: &Path) -> PathBuf {
    run.join("checkpoints")
}

/// Returns the directory of the newest complete checkpoint of a run, or `None` if there is none.
///
/// Incomplete checkpoints are ignored.
///
/// # Errors
/// Returns [`CheckpointError::File`] if the directory cannot be read.
pub fn latest(run: &Path) -> Result<Option<PathBuf>, CheckpointError> {
    Ok(list(&directory(run))?.pop().map(|newest| newest.path))
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SavedCheckpoint {
    step: u64,
    /// Whether the checkpoint is not being replaced. A replaced checkpoint sorts as older than its replacement,
    /// because false sorts before true.
    current: bool,
    path: PathBuf,
}

/// Returns the complete checkpoints, oldest first.
fn list(parent: &Path) -> Result<Vec<SavedCheckpoint>, CheckpointError> {
    let mut found = Vec::new();
    for path in entries(parent)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(step) = name.strip_prefix(PREFIX) else { continue };
        let (step, current) = step.strip_suffix(REPLACED).map_or((step, true), |step| (step, false));
        if let Ok(step) = step.parse()
            && path.join(MODEL).is_file()
            && path.join(STATE).is_file()
        {
            found.push(SavedCheckpoint { step, current, path });
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

/// Renames a complete temporary directory to its final name.
///
/// An existing directory of that name is renamed first and removed last, so that a complete checkpoint exists at every
/// moment.
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
    // PyTorch's loader requires `format`.
    let metadata = [("format", "pt".to_owned()), (FORMAT_KEY, FORMAT_VERSION.to_string())];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value)).into();
    let mut bytes = safetensors::serialize(tensors, Some(metadata))
        .map_err(|error| CheckpointError::Encode(error.to_string()))?;
    // The `safetensors` crate stores the metadata in a hash map, so the order of the entries varies. Write
    // them in sorted order.
    let sorted = format!(r#"{{"__metadata__":{{"format":"pt","{FORMAT_KEY}":"{FORMAT_VERSION}"}}"#);
    match bytes.get_mut(8..8 + sorted.len()) {
        Some(entries) if entries.starts_with(br#"{"__metadata__":{"#) && entries.ends_with(b"}") => {
            entries.copy_from_slice(sorted.as_bytes());
            Ok(bytes)
        }
        _ => Err(CheckpointError::Encode(
            "the header of model.safetensors does not begin with `__metadata__`".to_owned(),
        )),
    }
}

/// Returns an error if the model file has an unsupported format version.
///
/// Files from early versions of wgrad have no format version and are accepted.
fn check_model_version(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let header = SafeTensors::read_metadata(bytes);
    let (_, header) = header
        .map_err(|error| CheckpointError::Corrupt { path: path.to_owned(), message: error.to_string() })?;
    match header.metadata().as_ref().and_then(|metadata| metadata.get(FORMAT_KEY)) {
        Some(found) if *found != FORMAT_VERSION.to_string() => {
            let found = found.clone();
            Err(CheckpointError::Version { path: path.to_owned(), found, known: FORMAT_VERSION })
        }
        _ => Ok(()),
    }
}

fn encode_state(model: &[u8], state: &CheckpointState) -> Result<Vec<u8>, CheckpointError> {
    let model = ModelFile { bytes: model.len() as u64, sha256: sha256(model) };
    let file = StateFile { version: FORMAT_VERSION, model, state: state.clone() };
    let mut bytes =
        serde_json::to_vec_pretty(&file).map_err(|error| CheckpointError::Encode(error.to_string()))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Parses `state.json`. The version is checked first, because other versions may have other fields.
fn decode_state(path: &Path, bytes: &[u8]) -> Result<StateFile, CheckpointError> {
    let corrupt = |message: String| CheckpointError::Corrupt { path: path.to_owned(), message };
    let json: Value = serde_json::from_slice(bytes).map_err(|error| corrupt(error.to_string()))?;
    match json.get("version") {
        Some(version) if *version == FORMAT_VERSION => {}
        Some(version) => {
            let found = version.to_string();
            return Err(CheckpointError::Version { path: path.to_owned(), found, known: FORMAT_VERSION });
        }
        None => return Err(corrupt("`version` is missing".to_owned())),
    }
    serde_json::from_value(json).map_err(|error| corrupt(error.to_string()))
}

fn read(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    fs::read(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => {
            CheckpointError::Corrupt { path: path.to_owned(), message: "file not found".to_owned() }
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
