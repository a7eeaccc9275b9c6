//! Compiled kernels on disk, for drivers that hand them out (Vulkan). A kernel that another process has compiled is then not
//! compiled again; whether an entry fits this driver is for the driver to say.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::{fs, io};

use wgpu::{ErrorFilter, Features, PipelineCache, PipelineCacheDescriptor};
use wgrad_graph::fnv1a;

/// The file of one adapter's compiled kernels.
#[derive(Debug)]
pub(crate) struct Cache {
    handle: PipelineCache,
    path: PathBuf,
    /// Checksum of what the file holds.
    saved: Mutex<u64>,
}

impl Cache {
    /// Reads what earlier processes left in `folder`. `None` where the driver hands out no kernels.
    pub fn open(device: &wgpu::Device, info: &wgpu::AdapterInfo, folder: &Path) -> Option<Self> {
        if !device.features().contains(Features::PIPELINE_CACHE) {
            return None;
        }
        let path = folder.join(wgpu::util::pipeline_cache_key(info)?);
        let data = match fs::read(&path).map(checked) {
            Ok(Ok(data)) => Some(data),
            Ok(Err(why)) => {
                tracing::warn!(path = %path.display(), why, "compiled kernels on disk are ignored");
                None
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "compiled kernels on disk cannot be read");
                None
            }
        };
        let saved = Mutex::new(data.as_deref().map_or(0, fnv1a));
        let handle = create(device, data.as_deref()).or_else(|| {
            tracing::warn!(path = %path.display(), "compiled kernels on disk are of another driver");
            create(device, None)
        })?;
        Some(Self { handle, path, saved })
    }

    pub fn handle(&self) -> &PipelineCache {
        &self.handle
    }

    /// Writes what there is now, if it is something new. That it cannot be written costs time, not results.
    pub fn save(&self) {
        let Some(mut data) = self.handle.get_data() else { return };
        let sum = fnv1a(&data);
        let Ok(mut saved) = self.saved.lock() else { return };
        if *saved == sum {
            return;
        }
        data.extend(sum.to_le_bytes());
        let temporary = self.path.with_extension(format!("tmp-{}", std::process::id()));
        let folder = self.path.parent().map_or(Ok(()), fs::create_dir_all);
        let written = folder.and_then(|()| fs::write(&temporary, &data));
        match written.and_then(|()| fs::rename(&temporary, &self.path)) {
            Ok(()) => *saved = sum,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "compiled kernels cannot be kept on disk");
                // What is left half-written is never read.
                let _ = fs::remove_file(&temporary);
            }
        }
    }
}

fn create(device: &wgpu::Device, data: Option<&[u8]>) -> Option<PipelineCache> {
    let descriptor = PipelineCacheDescriptor { label: Some("kernels"), data, fallback: false };
    let scopes = [ErrorFilter::Internal, ErrorFilter::OutOfMemory, ErrorFilter::Validation]
        .map(|f| device.push_error_scope(f));
    // SAFETY: the data came from `PipelineCache::get_data`: the file has its checksum, and is named by the adapter; wgpu and
    // the driver compare its header with theirs.
    let handle = unsafe { device.create_pipeline_cache(&descriptor) };
    let errors = scopes.into_iter().rev().filter_map(|scope| pollster::block_on(scope.pop())).count();
    (errors == 0).then_some(handle)
}

/// The data of a file without its checksum, if that is right.
fn checked(mut file: Vec<u8>) -> Result<Vec<u8>, &'static str> {
    let sum = file.len().checked_sub(8).map(|end| file.split_off(end)).ok_or("the file is cut off")?;
    if sum == fnv1a(&file).to_le_bytes() { Ok(file) } else { Err("its checksum is wrong") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_is_not_used() {
        let data = vec![7u8; 100];
        let mut file = data.clone();
        file.extend(fnv1a(&data).to_le_bytes());
        assert_eq!(checked(file.clone()), Ok(data));
        assert!(checked(file[..107].to_vec()).is_err());
        assert!(checked(vec![1, 2]).is_err());
        file[50] ^= 1;
        assert!(checked(file).is_err());
    }
}
