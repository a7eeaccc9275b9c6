//! Partial file of a download, kept next to its final path until it is complete and verified.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::DataError;
use crate::pin::{CheckError, Pin};

/// Partial file `NAME.part`, locked while it is open. Removed on drop if it is empty.
pub(crate) struct PartialFile {
    file: Option<File>,
    path: PathBuf,
    len: u64,
}

impl PartialFile {
    /// Opens the partial file of `target` that an earlier run left, or creates it.
    pub(crate) fn open(target: &Path) -> Result<Self, DataError> {
        let mut path = target.as_os_str().to_owned();
        path.push(".part");
        let path = PathBuf::from(path);
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = options.map_err(DataError::io("create", &path))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(DataError::Busy { path }),
            // If the file system does not support locks, concurrent downloads are not detected.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        let len = file.metadata().map_err(DataError::io("read", &path))?.len();
        Ok(Self { file: Some(file), path, len })
    }

    /// Length of the file in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Truncates the file to `len` bytes. Bytes that are written later are appended.
    pub(crate) fn keep(&mut self, len: u64) -> Result<(), DataError> {
        self.len = len;
        self.with("write", |file| {
            file.set_len(len)?;
            file.seek(SeekFrom::Start(len)).map(drop)
        })
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        self.with("write", |file| file.write_all(bytes))?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    pub(crate) fn check(&self, pin: &Pin<'_>) -> Result<(), CheckError> {
        match &self.file {
            Some(file) => pin.check(file),
            None => Ok(()),
        }
    }

    /// Renames the file to `target` atomically.
    pub(crate) fn finish(mut self, target: &Path) -> Result<(), DataError> {
        self.with("write", |file| file.sync_all())?;
        // The file is closed first, since some platforms cannot rename an open file.
        self.file = None;
        fs::rename(&self.path, target).map_err(DataError::io("create", target))
    }

    fn with<T>(
        &mut self,
        action: &'static str,
        f: impl FnOnce(&mut File) -> io::Result<T>,
    ) -> Result<T, DataError> {
        let file = self.file.as_mut().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound));
        file.and_then(f).map_err(DataError::io(action, &self.path))
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if self.file.take().is_some() && self.len == 0 {
            // A failure is ignored, since the next run can reuse an empty partial file.
            let _ = fs::remove_file(&self.path);
        }
    }
}
