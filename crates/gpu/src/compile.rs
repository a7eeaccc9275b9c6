//! Shaders to pipelines, each distinct text once, new ones in parallel.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use wgpu::{BindGroupLayoutEntry, BindingType, BufferBindingType, ShaderStages};
use wgrad_program::DeviceError;

use crate::cache::Cache;
use crate::codegen::Shader;
use crate::device::Shared;
use crate::errors::scoped;

/// The pipelines of a device by the text of their shader.
#[derive(Debug, Default)]
pub(crate) struct Pipelines {
    all: Mutex<HashMap<String, Pipeline>>,
}

/// A compiled shader. Clones are the same pipeline.
#[derive(Debug, Clone)]
pub(crate) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub bindings: wgpu::BindGroupLayout,
}

impl Pipelines {
    pub fn len(&self) -> usize {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The pipelines of these shaders, in order. `names` say whose they are, for errors.
    pub fn get(
        &self,
        shared: &Shared,
        shaders: &[Shader],
        names: &[&str],
    ) -> Result<Vec<Pipeline>, DeviceError> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new: Vec<(&Shader, &str)> = Vec::new();
        for (shader, name) in shaders.iter().zip(names) {
            if !all.contains_key(&shader.text) && new.iter().all(|(other, _)| other.text != shader.text) {
                new.push((shader, name));
            }
        }
        let start = Instant::now();
        for (shader, pipeline) in new.iter().zip(in_parallel(shared, &new)) {
            all.insert(shader.0.text.clone(), pipeline?);
        }
        if let (false, Some(cache)) = (new.is_empty(), &shared.cache) {
            cache.save();
        }
        let (kernels, ms) = (new.len(), start.elapsed().as_millis() as u64);
        tracing::debug!(kernels, dispatches = shaders.len(), ms, "compiled");
        Ok(shaders.iter().filter_map(|shader| all.get(&shader.text).cloned()).collect())
    }
}

fn in_parallel(shared: &Shared, new: &[(&Shader, &str)]) -> Vec<Result<Pipeline, DeviceError>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(new.len());
    if threads <= 1 {
        return new.iter().map(|(shader, name)| create(shared, shader, name)).collect();
    }
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Result<Pipeline, DeviceError>)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((i, (shader, name))) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, new.get(i)?)))
                {
                    let result = create(shared, shader, name);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((i, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(i, _)| *i);
    done.into_iter().map(|(_, result)| result).collect()
}

fn create(shared: &Shared, shader: &Shader, name: &str) -> Result<Pipeline, DeviceError> {
    let device = &shared.device;
    shared.count();
    scoped(device, shared.name(), name, 0, || {
        let source = wgpu::ShaderSource::Wgsl(shader.text.as_str().into());
        let descriptor = wgpu::ShaderModuleDescriptor { label: Some(name), source };
        // What a scalar function divides by is not known.
        let checks =
            wgpu::ShaderRuntimeChecks { int_div_checks: true, ..wgpu::ShaderRuntimeChecks::unchecked() };
        // SAFETY: `crate::check` has proved that every access of the dispatch lies inside its tensors; generated kernels index
        // workgroup memory by what they size it with, and their loops count to literals. Without the checks of wgpu, which
        // also keep drivers from unrolling, kernels run up to a fifth faster and compile faster.
        let module = unsafe { device.create_shader_module_trusted(descriptor, checks) };
        let entries: Vec<BindGroupLayoutEntry> = (0..).zip(&shader.read_only).map(entry).collect();
        let bindings = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(name),
            entries: &entries,
        });
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(name),
            bind_group_layouts: &[Some(&bindings)],
            immediate_size: 0,
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(name),
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // Kernels write workgroup memory before they read it.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: shared.cache.as_ref().map(Cache::handle),
        });
        Pipeline { pipeline, bindings }
    })
}

fn entry((binding, &read_only): (u32, &bool)) -> BindGroupLayoutEntry {
    BindGroupLayoutEntry {
        binding,
        visibility: ShaderStages::COMPUTE,
        ty: BindingType::Buffer {
            ty: BufferBindingType::Storage { read_only },
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    }
}
