//! On-disk cache of compiled kernels, for drivers that expose compiled kernels (Vulkan).
//!
//! With the cache, other processes do not compile the same kernels again. The driver checks whether it can use cached
//! data.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::{fs, io};

use wgpu::{ErrorFilter, Features, PipelineCache, PipelineCacheDescriptor};
use wgrad_graph::fnv1a;
use wgrad_stdx::file;

/// Pipeline cache of one adapter and its file.
#[derive(Debug)]
pub(crate) struct Cache {
    handle: PipelineCache,
    path: PathBuf,
    /// Checksum of the data in the file.
    saved: Mutex<u64>,
}

impl Cache {
    /// Loads the cache file in `folder`, or starts an empty cache. Returns `None` if the driver does not expose
    /// compiled kernels.
    pub fn open(device: &wgpu::Device, info: &wgpu::AdapterInfo, folder: &Path) -> Option<Self> {
        if !device.features().contains(Features::PIPELINE_CACHE) {
            return None;
        }
        let path = folder.join(wgpu::util::pipeline_cache_key(info)?);
        let data = match fs::read(&path).map(verified) {
            Ok(Ok(data)) => Some(data),
            Ok(Err(why)) => {
                tracing::warn!(path = %path.display(), why, "the kernel cache is damaged and is ignored");
                None
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the kernel cache cannot be read");
                None
            }
        };
        let saved = Mutex::new(data.as_deref().map_or(0, fnv1a));
        let handle = create(device, data.as_deref()).or_else(|| {
            tracing::warn!(path = %path.display(), "the kernel cache is from another driver and is ignored");
            create(device, None)
        })?;
        Some(Self { handle, path, saved })
    }

    pub fn handle(&self) -> &PipelineCache {
        &self.handle
    }

    /// Writes the cache to disk if it has changed. A failed write is only logged, because it affects compile times but
    /// not results.
    pub fn save(&self) {
        let Some(mut data) = self.handle.get_data() else { return };
        let sum = fnv1a(&data);
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        if *saved == sum {
            return;
        }
        data.extend(sum.to_le_bytes());
        let folder = self.path.parent().map_or(Ok(()), fs::create_dir_all);
        match folder.and_then(|()| file::replace(&self.path, &data)) {
            Ok(()) => *saved = sum,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the kernel cache cannot be written");
            }
        }
    }
}

fn create(device: &wgpu::Device, data: Option<&[u8]>) -> Option<PipelineCache> {
    let descriptor = PipelineCacheDescriptor { label: Some("kernels"), data, fallback: false };
    let scopes = [ErrorFilter::Internal, ErrorFilter::OutOfMemory, ErrorFilter::Validation]
        .map(|f| device.push_error_scope(f));
    // SAFETY: `create_pipeline_cache` needs data returned by `PipelineCache::get_data` of the same adapter and driver.
    // `data` is read only from the file that `save` writes, under a name that `pipeline_cache_key` derives from the
    // adapter, and its checksum has been verified. wgpu and the driver reject data with the header of another driver.
    let handle = unsafe { device.create_pipeline_cache(&descriptor) };
    let errors = scopes.into_iter().rev().filter_map(|scope| pollster::block_on(scope.pop())).count();
    (errors == 0).then_some(handle)
}

/// Verifies the checksum at the end of a cache file. Returns the data without the checksum, or the reason why the file
/// is not used.
fn verified(mut file: Vec<u8>) -> Result<Vec<u8>, &'static str> {
    let sum = file.len().checked_sub(8).map(|end| file.split_off(end)).ok_or("the file is truncated")?;
    if sum == fnv1a(&file).to_le_bytes() { Ok(file) } else { Err("the checksum is wrong") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_files_are_rejected() {
        let data = vec![7u8; 100];
        let mut file = data.clone();
        file.extend(fnv1a(&data).to_le_bytes());
        assert_eq!(verified(file.clone()), Ok(data));
        assert!(verified(file[..107].to_vec()).is_err());
        assert!(verified(vec![1, 2]).is_err());
        file[50] ^= 1;
        assert!(verified(file).is_err());
    }
}
