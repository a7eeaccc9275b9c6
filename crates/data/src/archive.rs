//! Unpacks archives of the catalogue (`.tar.gz`) to a temporary folder, which is renamed when it is complete.
//!
//! An archive has one top-level folder, and only files and folders below that folder are written. An archive is
//! rejected if any entry has a path that is absolute or contains `..`, or if any entry is a link or a device. This
//! holds even if the hash of the archive is correct.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Component, Path, PathBuf};

use tar::EntryType;

use crate::error::DataError;
use crate::fetch::RemoteFile;
use crate::open::open;

/// Archive file that contains the files of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Archive {
    /// Archive file, with its URLs and its pinned hash.
    pub file: RemoteFile<'static>,
    /// Top-level folder of the archive, which contains all entries.
    pub folder: &'static str,
}

/// Unpacks the archive at `path` to `target`, whose last component must be the name of the archive's top-level folder.
///
/// # Errors
/// Returns [`DataError::Archive`] if an entry must not be unpacked, [`DataError::Busy`] if another process is
/// unpacking the archive, and [`DataError::Io`] if a file cannot be read or written.
pub(crate) fn unpack(path: &Path, target: &Path) -> Result<(), DataError> {
    let beside = |ending: &str| {
        let mut name = target.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    let (partial, lock_path) = (beside(".unpacking"), beside(".lock"));
    let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&lock_path);
    let lock = lock.map_err(DataError::io("create", &lock_path))?;
    // If the file system does not support locks, the function continues and does not detect concurrent processes.
    if let Err(TryLockError::WouldBlock) = lock.try_lock() {
        return Err(DataError::Busy { path: partial });
    }
    // Remove the folder that an interrupted run left.
    remove(&partial)?;
    let result = write_entries(path, target, &partial).and_then(|()| {
        remove(target)?;
        fs::rename(&partial, target).map_err(DataError::io("create", target))
    });
    if result.is_err() {
        // If this removal fails, the next run removes the folder. The caller gets the error of the unpacking.
        let _ = fs::remove_dir_all(&partial);
    }
    drop(lock);
    let _ = fs::remove_file(&lock_path);
    result
}

fn remove(folder: &Path) -> Result<(), DataError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DataError::io("remove", folder)(error)),
        _ => Ok(()),
    }
}

fn write_entries(path: &Path, target: &Path, partial: &Path) -> Result<(), DataError> {
    let read = || DataError::io("unpack", path);
    fs::create_dir_all(partial).map_err(DataError::io("create", partial))?;
    let mut archive = tar::Archive::new(open(path)?);
    for entry in archive.entries().map_err(read())? {
        let mut entry = entry.map_err(read())?;
        let name = entry.path().map_err(read())?.into_owned();
        let refuse = |reason| {
            let (path, entry) = (path.to_path_buf(), name.display().to_string());
            DataError::Archive { path, entry, reason }
        };
        let place = match entry.header().entry_type() {
            // An entry with metadata that some archive programs write. It is not a file.
            EntryType::XGlobalHeader => continue,
            EntryType::Regular | EntryType::Continuous | EntryType::Directory => {
                let inner = below(&name, target.file_name().map(Path::new)).map_err(refuse)?;
                partial.join(inner)
            }
            _ => return Err(refuse("it is neither a file nor a folder")),
        };
        if entry.header().entry_type() == EntryType::Directory {
            fs::create_dir_all(&place).map_err(DataError::io("create", &place))?;
            continue;
        }
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent).map_err(DataError::io("create", parent))?;
        }
        let mut file = File::create_new(&place).map_err(DataError::io("create", &place))?;
        io::copy(&mut entry, &mut file).map_err(read())?;
    }
    Ok(())
}

/// Returns the path of an entry relative to `folder`, the top-level folder of the archive. The error is the reason why
/// the entry is rejected.
fn below(name: &Path, folder: Option<&Path>) -> Result<PathBuf, &'static str> {
    let mut inner = PathBuf::new();
    for component in name.components() {
        match component {
            Component::Normal(part) => inner.push(part),
            Component::CurDir => {}
            _ => return Err("its path is outside of the top-level folder of the archive"),
        }
    }
    let inner = folder.and_then(|folder| inner.strip_prefix(folder).ok());
    inner.map(Path::to_path_buf).ok_or("its path is outside of the top-level folder of the archive")
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};

    fn header(name: &str, kind: EntryType, len: usize) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        // The name is written directly, since `set_path` rejects the invalid paths that these tests need.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(len as u64);
        header.set_mode(0o644);
        header.set_cksum();
        header
    }

    /// Creates an archive in a temporary folder. Returns the temporary folder, the path of the archive, and the target
    /// path `set` in the temporary folder.
    fn archive(entries: &[(&str, EntryType, &str)]) -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (name, kind, content) in entries {
            builder.append(&header(name, *kind, content.len()), content.as_bytes()).unwrap();
        }
        let path = folder.path().join("set.tar.gz");
        fs::write(&path, builder.into_inner().unwrap().finish().unwrap()).unwrap();
        let target = folder.path().join("set");
        (folder, path, target)
    }

    fn file_names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    const GOOD: &[(&str, EntryType, &str)] = &[
        ("./set/", EntryType::Directory, ""),
        ("set/a/b.txt", EntryType::Regular, "content"),
        ("./set/c.txt", EntryType::Regular, ""),
    ];

    #[test]
    fn files_are_unpacked_and_temporary_folders_are_removed() {
        let (folder, path, target) = archive(GOOD);
        // The test creates a folder as if left by an interrupted run, and an older copy of the data set.
        fs::create_dir_all(folder.path().join("set.unpacking/old")).unwrap();
        fs::create_dir_all(target.join("old")).unwrap();
        unpack(&path, &target).unwrap();
        assert_eq!(fs::read_to_string(target.join("a/b.txt")).unwrap(), "content");
        assert_eq!(file_names(&target), ["a", "c.txt"]);
        assert_eq!(file_names(folder.path()), ["set", "set.tar.gz"]);
    }

    #[test]
    fn archives_with_unsafe_entries_are_refused() {
        for (name, kind) in [
            ("/etc/set/a", EntryType::Regular),
            ("set/../a", EntryType::Regular),
            ("../a", EntryType::Regular),
            ("other/a", EntryType::Regular),
            ("a", EntryType::Regular),
            ("set/a", EntryType::Symlink),
            ("set/a", EntryType::Link),
            ("set/a", EntryType::Fifo),
        ] {
            let (folder, path, target) = archive(&[GOOD, &[(name, kind, "")]].concat());
            let error = unpack(&path, &target).unwrap_err();
            assert!(matches!(&error, DataError::Archive { entry, .. } if entry == name), "{name}: {error}");
            assert!(error.to_string().contains("set.tar.gz"), "{error}");
            assert_eq!(file_names(folder.path()), ["set.tar.gz"], "{name}");
        }
    }

    #[test]
    fn damaged_archive_leaves_no_files_and_concurrent_unpacking_is_refused() {
        let (folder, path, target) = archive(GOOD);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let error = unpack(&path, &target).unwrap_err();
        assert!(matches!(&error, DataError::Io { action: "unpack", .. }), "{error}");
        assert_eq!(file_names(folder.path()), ["set.tar.gz"]);
        let other = File::create(folder.path().join("set.lock")).unwrap();
        other.lock().unwrap();
        assert!(matches!(unpack(&path, &target), Err(DataError::Busy { .. })));
    }
}
