//! GPU devices.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wgrad_graph::States;
use wgrad_program::{Device, DeviceError, DeviceInfo, Session};

use crate::adapter::{Adapter, Class, adapters, used_features};
use crate::cache::Cache;
use crate::codegen::Target;
use crate::compile::Pipelines;
use crate::context::DeviceContext;
use crate::errors::ErrorSink;
use crate::options::Options;
use crate::session::GpuSession;

/// An open GPU device, or a software implementation of a GPU. Clones share the device and its compiled kernels.
#[derive(Debug, Clone)]
pub struct GpuDevice {
    context: Arc<DeviceContext>,
    pipelines: Arc<Pipelines>,
}

impl GpuDevice {
    /// Opens the adapter at `index` of [`adapters`].
    ///
    /// # Errors
    /// Returns [`DeviceError::NotFound`] if there is no adapter at `index`, and [`DeviceError::Unsupported`] if its
    /// driver refuses to open it.
    pub fn open(index: usize) -> Result<Self, DeviceError> {
        Self::with_options(index, Options::default())
    }

    /// Opens the adapter at `index` of [`adapters`] with the given options.
    ///
    /// # Errors
    /// Returns the errors of [`GpuDevice::open`].
    pub fn with_options(index: usize, options: Options) -> Result<Self, DeviceError> {
        Self::open_with(index, |_| options)
    }

    /// Opens the adapter at `index` of [`adapters`] with options that depend on the adapter.
    ///
    /// # Errors
    /// Returns the errors of [`GpuDevice::open`].
    pub fn open_with(
        index: usize,
        options: impl FnOnce(&DeviceInfo) -> Options,
    ) -> Result<Self, DeviceError> {
        let all = adapters();
        let adapter = all.get(index).ok_or_else(|| DeviceError::NotFound {
            wanted: format!("gpu:{index}"),
            found: match all.len() {
                0 => "no GPU adapter".into(),
                _ => all
                    .iter()
                    .map(|a| format!("gpu:{} {}", a.index, a.info.name))
                    .collect::<Vec<_>>()
                    .join(", "),
            },
        })?;
        Self::connect(adapter, options(&adapter.info))
    }

    /// Returns the properties of this device that code generation depends on.
    pub fn target(&self) -> &Target {
        &self.context.target
    }

    /// Returns the kind of adapter.
    pub fn class(&self) -> Class {
        self.context.target.class
    }

    /// Returns the number of distinct kernels compiled so far.
    pub fn pipeline_count(&self) -> usize {
        self.pipelines.len()
    }

    /// Returns the number of buffers, bind groups, pipelines and query sets created so far.
    ///
    /// The number stays constant while programs run at a steady pace.
    pub fn objects_created(&self) -> usize {
        self.context.created.load(Ordering::Relaxed)
    }

    fn connect(adapter: &Adapter, options: Options) -> Result<Self, DeviceError> {
        let limits = adapter.handle.limits();
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("wgrad"),
            required_features: used_features(&adapter.handle),
            required_limits: limits.clone(),
            ..Default::default()
        };
        let name = adapter.info.name.clone();
        let (device, queue) = pollster::block_on(adapter.handle.request_device(&descriptor))
            .map_err(|error| DeviceError::Unsupported { name: name.clone(), reason: error.to_string() })?;
        let errors = ErrorSink::attach(&device, &name);
        let target = Target {
            class: adapter.class,
            // Kernels number invocations along x, so the limit of this dimension also applies.
            max_invocations: limits
                .max_compute_invocations_per_workgroup
                .min(limits.max_compute_workgroup_size_x),
            max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
            max_workgroups: limits.max_compute_workgroups_per_dimension,
            subgroup_size: adapter.subgroup_size(),
            gemm: options.gemm,
            tuned: options.tuned.clone(),
            lanes: options.lanes,
        };
        let info = adapter.info.clone();
        let cache =
            options.cache.as_ref().and_then(|path| Cache::open(&device, &adapter.handle.get_info(), path));
        let created = AtomicUsize::new(0);
        let context = DeviceContext { device, queue, info, target, options, errors, cache, created };
        Ok(Self { context: Arc::new(context), pipelines: Arc::default() })
    }
}

impl Device for GpuDevice {
    fn info(&self) -> &DeviceInfo {
        &self.context.info
    }

    fn session(&self, states: &States) -> Result<Box<dyn Session>, DeviceError> {
        Ok(Box::new(GpuSession::new(self.context.clone(), self.pipelines.clone(), states)?))
    }
}
