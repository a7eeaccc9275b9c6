//! Device context: the wgpu device and everything that its sessions share.

use std::sync::atomic::{AtomicUsize, Ordering};

use wgrad_program::DeviceInfo;

use crate::cache::Cache;
use crate::codegen::Target;
use crate::errors::ErrorSink;
use crate::options::Options;

/// State shared by a device and its sessions.
#[derive(Debug)]
pub(crate) struct DeviceContext {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub info: DeviceInfo,
    pub target: Target,
    pub options: Options,
    pub errors: ErrorSink,
    pub cache: Option<Cache>,
    /// Number of objects created on the device so far.
    pub created: AtomicUsize,
}

impl DeviceContext {
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// Counts an object created on the device. Must be called for every created object.
    pub fn count_created(&self) {
        self.created.fetch_add(1, Ordering::Relaxed);
    }
}
