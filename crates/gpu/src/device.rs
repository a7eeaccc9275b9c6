//! An open device.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use wgrad_graph::States;
use wgrad_program::{Device, DeviceError, DeviceInfo, Session};

use crate::adapter::{Adapter, Class, adapters, used_features};
use crate::cache::Cache;
use crate::codegen::{GemmVariant, Lanes, Target};
use crate::compile::Pipelines;
use crate::errors::Faults;
use crate::session::GpuSession;
use crate::tune::Tuned;

/// Choices of a device. The defaults are right for training; most others are for tests.
#[derive(Debug, Clone)]
pub struct Options {
    /// Fills intermediates and outputs with NaN before each run, so that a kernel that leaves an element unwritten is seen.
    pub poison: bool,
    /// The variant of every matrix product, where it fits the device, instead of the one chosen by its shape.
    pub gemm: Option<GemmVariant>,
    /// The variants of products that were timed on this adapter, used before the choice by shape.
    pub tuned: Option<Arc<Tuned>>,
    /// The workgroup of every reduction, instead of the one chosen by its shape.
    pub lanes: Option<Lanes>,
    /// How long to wait for the device before it counts as hung.
    pub timeout: Duration,
    /// Folder in which compiled kernels are kept from one process to the next, where the driver can; none by default.
    pub cache: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        let timeout = Duration::from_secs(120);
        Self { poison: false, gemm: None, tuned: None, lanes: None, timeout, cache: None }
    }
}

/// A GPU, or a software implementation of one. Clones share the device and its compiled kernels.
#[derive(Debug, Clone)]
pub struct GpuDevice {
    shared: Arc<Shared>,
}

/// What a device and its sessions share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub info: DeviceInfo,
    pub target: Target,
    pub options: Options,
    pub faults: Faults,
    pub pipelines: Pipelines,
    pub cache: Option<Cache>,
    created: AtomicUsize,
}

impl Shared {
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// To be called for every object that is made on the device.
    pub fn count(&self) {
        self.created.fetch_add(1, Ordering::Relaxed);
    }
}

impl GpuDevice {
    /// Opens adapter number `index` of [`adapters`].
    ///
    /// # Errors
    /// [`DeviceError::NotFound`] where there is no such adapter, [`DeviceError::Unsupported`] where its driver refuses.
    pub fn open(index: usize) -> Result<Self, DeviceError> {
        Self::with_options(index, Options::default())
    }

    /// Like [`GpuDevice::open`], with other choices.
    ///
    /// # Errors
    /// As for [`GpuDevice::open`].
    pub fn with_options(index: usize, options: Options) -> Result<Self, DeviceError> {
        Self::open_with(index, |_| options)
    }

    /// Like [`GpuDevice::open`], with choices that depend on which adapter it is.
    ///
    /// # Errors
    /// As for [`GpuDevice::open`].
    pub fn open_with(
        index: usize,
        options: impl FnOnce(&DeviceInfo) -> Options,
    ) -> Result<Self, DeviceError> {
        let all = adapters();
        let adapter = all.get(index).ok_or_else(|| DeviceError::NotFound {
            wanted: format!("gpu:{index}"),
            found: match all.len() {
                0 => "there is no GPU adapter".into(),
                _ => all
                    .iter()
                    .map(|a| format!("gpu:{} {}", a.index, a.info.name))
                    .collect::<Vec<_>>()
                    .join(", "),
            },
        })?;
        Self::connect(adapter, options(&adapter.info))
    }

    /// What shaders are generated for on this device.
    pub fn target(&self) -> &Target {
        &self.shared.target
    }

    /// Kind of adapter.
    pub fn class(&self) -> Class {
        self.shared.target.class
    }

    /// Number of distinct kernels compiled so far.
    pub fn pipelines(&self) -> usize {
        self.shared.pipelines.len()
    }

    /// Buffers, bind groups, pipelines and query sets made so far. Runs at a steady pace make none.
    pub fn created(&self) -> usize {
        self.shared.created.load(Ordering::Relaxed)
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
        let faults = Faults::watch(&device, &name);
        let target = Target {
            class: adapter.class,
            // What one dimension of a workgroup may have bounds it too: kernels number invocations along x.
            invocations: limits
                .max_compute_invocations_per_workgroup
                .min(limits.max_compute_workgroup_size_x),
            shared_bytes: limits.max_compute_workgroup_storage_size,
            groups: limits.max_compute_workgroups_per_dimension,
            subgroup: adapter.subgroup(),
            gemm: options.gemm,
            tuned: options.tuned.clone(),
            lanes: options.lanes,
        };
        let (info, pipelines) = (adapter.info.clone(), Pipelines::default());
        let cache =
            options.cache.as_ref().and_then(|path| Cache::open(&device, &adapter.handle.get_info(), path));
        let created = AtomicUsize::new(0);
        let shared = Shared { device, queue, info, target, options, faults, pipelines, cache, created };
        Ok(Self { shared: Arc::new(shared) })
    }
}

impl Device for GpuDevice {
    fn info(&self) -> &DeviceInfo {
        &self.shared.info
    }

    fn session(&self, states: &States) -> Result<Box<dyn Session>, DeviceError> {
        Ok(Box::new(GpuSession::new(self.shared.clone(), states)?))
    }
}
