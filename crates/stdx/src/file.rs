//! Files that survive a crash and a full disk: atomic replacement, and appending that rolls back. Errors are plain
//! `io::Error`s; who calls knows which path they are about.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Writes a new file and waits until it is on the disk.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Puts `bytes` at `path` so that a reader, or a crash at any moment, sees the old file or the new one.
///
/// # Errors
/// It cannot be written; the old file is then still there.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with(path, std::iter::once(bytes))
}

/// Like [`replace`], for contents that are written in several parts.
///
/// # Errors
/// Returns the system's error if the file cannot be written; the old file is then unchanged.
pub fn replace_with<B: AsRef<[u8]>>(path: &Path, parts: impl IntoIterator<Item = B>) -> io::Result<()> {
    let temporary = temporary_beside(path);
    let written = write_parts_synced(&temporary, parts).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to report; a temporary file that cannot be removed does no harm.
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

/// Whether `name` is what a crash leaves of [`replace`] for the file `of`.
pub(crate) fn is_temporary_of(of: &str, name: &OsStr) -> bool {
    name.to_string_lossy().starts_with(&format!(".{of}.tmp-"))
}

/// Makes renames and new names in `directory` durable. Only Unix can, and only there is it needed.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(unix) {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// Whether an error says that there is no room left.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// A file that grows by whole records.
///
/// Each record is one write, so a killed process loses nothing that was appended. When a write fails half way, as on a
/// full disk, the half is cut off again: without that, the next record would continue the broken one.
#[derive(Debug)]
pub(crate) struct Appender {
    file: File,
    length: u64,
}

impl Appender {
    /// A new, empty file; fails if there is one.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: OpenOptions::new().write(true).create_new(true).open(path)?, length: 0 })
    }

    /// The file at `path`, made if there is none, to go on at its end.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        let length = file.seek(SeekFrom::End(0))?;
        Ok(Self { file, length })
    }

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

    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}
