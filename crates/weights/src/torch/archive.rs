//! The zip archive of a PyTorch file, which holds a pickle and the data of the tensors.
//!
//! Entries are slices of the file. `torch.save` stores them uncompressed, so reading them allocates no memory beyond
//! the size of the file.

use crate::WeightsError;
use std::collections::HashMap;
use std::io::{self, Cursor};
use std::path::Path;
use zip::{CompressionMethod, ZipArchive};

pub(super) struct Archive<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// Folder of all entries, with a trailing slash. PyTorch names the folder after the file, or `archive`.
    folder: String,
    /// Bytes of the entries whose checksums have been verified, by name. A storage that several tensors share is
    /// verified once.
    verified: HashMap<String, &'a [u8]>,
}

impl<'a> Archive<'a> {
    /// Opens an archive and checks that its entries are uncompressed, disjoint and little-endian, as PyTorch writes
    /// them.
    pub fn open(path: &'a Path, bytes: &'a [u8]) -> Result<Self, WeightsError> {
        let damaged = |message: String| WeightsError::Damaged { path: path.to_owned(), message };
        let unsupported = |message: String| WeightsError::Unsupported { path: path.to_owned(), message };
        let zip = ZipArchive::new(Cursor::new(bytes))
            .map_err(|error| damaged(format!("the zip archive cannot be opened: {error}")))?;
        let folder = zip.file_names().find_map(pickle_folder);
        let Some(folder) = folder else {
            return Err(unsupported(
                "the zip archive was not written by `torch.save`: it has no NAME/data.pkl".to_owned(),
            ));
        };
        let mut archive = Self { path, bytes, zip, folder, verified: HashMap::new() };
        archive.check_entries()?;
        // Files written before PyTorch 2.1 lack the entry `byteorder`. Nearly all of them were written on
        // little-endian machines.
        if archive.has("byteorder") && archive.entry("byteorder")? != b"little" {
            let message = "it was written on a big-endian machine; save it again on a little-endian one";
            return Err(unsupported(message.to_owned()));
        }
        Ok(archive)
    }

    /// Returns the bytes of the entry `name` in the archive's folder, after verifying their checksum.
    pub fn entry(&mut self, name: &str) -> Result<&'a [u8], WeightsError> {
        if let Some(bytes) = self.verified.get(name) {
            return Ok(bytes);
        }
        let path = self.path;
        let damaged = |message: String| WeightsError::Damaged { path: path.to_owned(), message };
        let unreadable =
            |error: &dyn std::fmt::Display| damaged(format!("the entry `{name}` cannot be read: {error}"));
        let mut file =
            self.zip.by_name(&format!("{}{name}", self.folder)).map_err(|error| unreadable(&error))?;
        let start = usize::try_from(file.data_start()).ok();
        let size = usize::try_from(file.compressed_size()).ok();
        let range = start.zip(size).and_then(|(start, size)| Some(start..start.checked_add(size)?));
        let bytes = range.and_then(|range| self.bytes.get(range));
        let bytes =
            bytes.ok_or_else(|| damaged(format!("the entry `{name}` reaches beyond the end of the file")))?;
        // The zip reader verifies the checksum at the end of the entry.
        let length = io::copy(&mut file, &mut io::sink()).map_err(|error| unreadable(&error))?;
        if length != bytes.len() as u64 {
            return Err(damaged(format!(
                "the entry `{name}` has {} bytes, but only {length} are present",
                bytes.len()
            )));
        }
        self.verified.insert(name.to_owned(), bytes);
        Ok(bytes)
    }

    fn has(&self, name: &str) -> bool {
        self.zip.index_for_name(&format!("{}{name}", self.folder)).is_some()
    }

    fn check_entries(&mut self) -> Result<(), WeightsError> {
        let damaged = |message: String| WeightsError::Damaged { path: self.path.to_owned(), message };
        let mut total = 0u64;
        for index in 0..self.zip.len() {
            let file = self.zip.by_index_raw(index).map_err(|error| damaged(error.to_string()))?;
            if file.encrypted() || file.compression() != CompressionMethod::Stored {
                let name = file.name().to_owned();
                return Err(WeightsError::Unsupported {
                    path: self.path.to_owned(),
                    message: format!(
                        "the entry `{name}` is compressed or encrypted, which `torch.save` does not do; load the file in \
                         PyTorch and save it again"
                    ),
                });
            }
            if file.size() != file.compressed_size() {
                return Err(damaged("the two sizes of a stored entry differ".to_owned()));
            }
            total = total.saturating_add(file.size());
        }
        // Verifying many entries that overlap in the same bytes would take unbounded time.
        if total > self.bytes.len() as u64 {
            return Err(damaged(format!(
                "its entries have {total} bytes in total, but the file has {}: it is truncated, or they overlap",
                self.bytes.len()
            )));
        }
        Ok(())
    }
}

/// Returns the folder of a pickle at the top level of the archive: `archive/` for `archive/data.pkl`. Returns `None`
/// for all other entries.
fn pickle_folder(name: &str) -> Option<String> {
    let folder = name.strip_suffix("data.pkl")?;
    let archive = folder.strip_suffix('/')?;
    (!archive.is_empty() && !archive.contains('/')).then(|| folder.to_owned())
}
