//! Compiles shaders to pipelines. Each distinct text is compiled once, and new texts are compiled in parallel.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use wgpu::{BindGroupLayoutEntry, BindingType, BufferBindingType, ShaderStages};
use wgrad_program::DeviceError;
use wgrad_stdx::never;

use crate::cache::Cache;
use crate::codegen::Shader;
use crate::context::DeviceContext;
use crate::errors::scoped;

/// Pipelines of a device, keyed by the text of their shader.
#[derive(Debug, Default)]
pub(crate) struct Pipelines {
    by_text: Mutex<HashMap<String, Pipeline>>,
}

/// A compiled shader. Clones share the pipeline.
#[derive(Debug, Clone)]
pub(crate) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub bindings: wgpu::BindGroupLayout,
}

impl Pipelines {
    pub fn len(&self) -> usize {
        self.by_text.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Returns the pipelines of the shaders, in order. `names` are the names of the dispatches, used in error
    /// messages.
    pub fn get(
        &self,
        context: &DeviceContext,
        shaders: &[Shader],
        names: &[&str],
    ) -> Result<Vec<Pipeline>, DeviceError> {
        let mut pipelines = self.by_text.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new: Vec<(&Shader, &str)> = Vec::new();
        for (shader, name) in shaders.iter().zip(names) {
            if !pipelines.contains_key(&shader.text) && new.iter().all(|(other, _)| other.text != shader.text)
            {
                new.push((shader, name));
            }
        }
        let start = Instant::now();
        for (shader, pipeline) in new.iter().zip(create_in_parallel(context, &new)) {
            pipelines.insert(shader.0.text.clone(), pipeline?);
        }
        if let (false, Some(cache)) = (new.is_empty(), &context.cache) {
            cache.save();
        }
        let (kernels, ms) = (new.len(), start.elapsed().as_millis() as u64);
        tracing::debug!(kernels, dispatches = shaders.len(), ms, "shaders compiled");
        let compiled = shaders.iter().zip(names).map(|(shader, name)| {
            let pipeline = pipelines.get(&shader.text).cloned();
            pipeline.ok_or_else(|| DeviceError::from(never!("the shader of `{name}` was not compiled")))
        });
        compiled.collect()
    }
}

fn create_in_parallel(
    context: &DeviceContext,
    new: &[(&Shader, &str)],
) -> Vec<Result<Pipeline, DeviceError>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(new.len());
    if threads <= 1 {
        return new.iter().map(|(shader, name)| create(context, shader, name)).collect();
    }
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Result<Pipeline, DeviceError>)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((i, (shader, name))) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, new.get(i)?)))
                {
                    let result = create(context, shader, name);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((i, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(i, _)| *i);
    done.into_iter().map(|(_, result)| result).collect()
}

fn create(context: &DeviceContext, shader: &Shader, name: &str) -> Result<Pipeline, DeviceError> {
    let device = &context.device;
    context.count_created();
    scoped(device, context.name(), name, 0, || {
        let source = wgpu::ShaderSource::Wgsl(shader.text.as_str().into());
        let descriptor = wgpu::ShaderModuleDescriptor { label: Some(name), source };
        // The divisors in scalar functions are not known at compile time, so integer division stays checked.
        let checks =
            wgpu::ShaderRuntimeChecks { int_div_checks: true, ..wgpu::ShaderRuntimeChecks::unchecked() };
        // SAFETY: without runtime checks, accesses must stay in bounds and loops must terminate. `crate::check` has
        // verified that every access of the dispatch lies inside its tensors. Generated kernels index workgroup arrays
        // with indices below the array sizes, and all their loops have literal bounds. Integer division stays checked.
        // wgpu's checks keep drivers from unrolling loops: without them kernels run up to 20 % faster and compile
        // faster.
        let module = unsafe { device.create_shader_module_trusted(descriptor, checks) };
        let entries: Vec<BindGroupLayoutEntry> = (0..).zip(&shader.read_only).map(layout_entry).collect();
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
            cache: context.cache.as_ref().map(Cache::handle),
        });
        Pipeline { pipeline, bindings }
    })
}

fn layout_entry((binding, &read_only): (u32, &bool)) -> BindGroupLayoutEntry {
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
