//! A partial file: what has come so far of a download, kept beside its place until it is whole and checked.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::DataError;
use crate::pin::{CheckError, Pin};

/// `NAME.part`, locked while it is open. An empty one is removed on drop.
pub(crate) struct Part {
    file: Option<File>,
    path: PathBuf,
    len: u64,
}

impl Part {
    /// Opens what an earlier run left, or a new file, for the place `target`.
    pub(crate) fn open(target: &Path) -> Result<Self, DataError> {
        let mut path = target.as_os_str().to_owned();
        path.push(".part");
        let path = PathBuf::from(path);
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = options.map_err(DataError::io("create", &path))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(DataError::Busy { path }),
            // A file system without locks: then nobody watches, as nobody did before.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        let len = file.metadata().map_err(DataError::io("read", &path))?.len();
        Ok(Self { file: Some(file), path, len })
    }

    /// Bytes that have come.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Drops everything from byte `len` on; the next write goes there.
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

    /// Gives the file its name, in one step: a reader sees all of it or nothing.
    pub(crate) fn finish(mut self, target: &Path) -> Result<(), DataError> {
        self.with("write", |file| file.sync_all())?;
        // Closed before, since not every platform renames an open file.
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

impl Drop for Part {
    fn drop(&mut self) {
        if self.file.take().is_some() && self.len == 0 {
            // Nothing depends on it: an empty partial file is only untidy.
            let _ = fs::remove_file(&self.path);
        }
    }
}
