//! File operations that leave valid files after a crash or on a full disk.
//!
//! Files are replaced atomically, and a failed append is rolled back. Errors are plain `io::Error`s; callers add the
//! path.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Writes a new file and waits until its contents are stored on the disk.
///
/// # Errors
/// Returns the underlying I/O error if the file cannot be created, written or synced.
pub fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Replaces the file at `path` atomically.
///
/// At every moment, also during a crash, `path` contains either the old or the new contents.
///
/// # Errors
/// Returns the underlying I/O error if the file cannot be written; the old file is then unchanged.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with(path, std::iter::once(bytes))
}

/// Replaces the file at `path` atomically with contents in several parts. See [`replace`].
///
/// # Errors
/// Returns the underlying I/O error if the file cannot be written; the old file is then unchanged.
pub fn replace_with<B: AsRef<[u8]>>(path: &Path, parts: impl IntoIterator<Item = B>) -> io::Result<()> {
    let temporary = temporary_beside(path);
    let written = write_parts_synced(&temporary, parts).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // Report the first error. A temporary file that cannot be removed is harmless.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

fn write_parts_synced<B: AsRef<[u8]>>(path: &Path, parts: impl IntoIterator<Item = B>) -> io::Result<()> {
    let mut file = File::create(path)?;
    for part in parts {
        file.write_all(part.as_ref())?;
    }
    file.sync_all()
}

fn temporary_beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp-{}", std::process::id()))
}

/// Returns whether `name` is a temporary file of [`replace`] for the file named `of`, left behind by a crash.
pub fn is_temporary_of(of: &str, name: &OsStr) -> bool {
    name.to_string_lossy().starts_with(&format!(".{of}.tmp-"))
}

/// Syncs a directory, so that new and renamed files in the directory survive a crash.
///
/// Has an effect only on Unix.
///
/// # Errors
/// Returns the underlying I/O error if the directory cannot be opened or synced.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(unix) {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// Returns whether an error means that the disk is full or the quota is exceeded.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// File to which complete records are appended.
///
/// Each record is written before `append` returns, so a killed process loses no appended record. If a write fails
/// midway, e.g. on a full disk, the partial record is removed, so that the next record does not continue it.
#[derive(Debug)]
pub struct Appender {
    file: File,
    length: u64,
}

impl Appender {
    /// Creates a new, empty file.
    ///
    /// # Errors
    /// Returns the underlying I/O error if the file exists or cannot be created.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: OpenOptions::new().write(true).create_new(true).open(path)?, length: 0 })
    }

    /// Opens a file to append records, and creates the file if it does not exist.
    ///
    /// # Errors
    /// Returns the underlying I/O error if the file cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        let length = file.seek(SeekFrom::End(0))?;
        Ok(Self { file, length })
    }

    /// Appends one record.
    ///
    /// # Errors
    /// Returns the underlying I/O error if the record cannot be written. The file then ends with the previous record.
    pub fn append(&mut self, record: &[u8]) -> io::Result<()> {
        match self.file.write_all(record) {
            Ok(()) => {
                self.length += record.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.file.set_len(self.length)?;
                self.file.seek(SeekFrom::Start(self.length))?;
                Err(error)
            }
        }
    }

    /// Waits until all records are stored on the disk.
    ///
    /// # Errors
    /// Returns the underlying I/O error if syncing fails.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}
