//! Writing a file so that a reader, or a crash at any moment, sees the old one or the new one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Puts `parts`, one after the other, at `path`.
pub(crate) fn replace(path: &Path, parts: impl Iterator<Item = Vec<u8>>) -> io::Result<()> {
    let temporary = temporary_beside(path);
    let written = write_synced(&temporary, parts).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to report; a temporary file that cannot be removed does no harm.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

fn write_synced(path: &Path, parts: impl Iterator<Item = Vec<u8>>) -> io::Result<()> {
    let mut file = File::create(path)?;
    for part in parts {
        file.write_all(&part)?;
    }
    file.sync_all()
}

fn temporary_beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp-{}", std::process::id()))
}

/// Makes the new name durable. Only Unix can, and only there is it needed.
fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(unix) {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}
