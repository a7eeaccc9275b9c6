//! Records the commands of each run from prepared dispatches.

use wgpu::{BindGroupEntry, BindingResource, BufferBinding};
use wgrad_program::{Buffer, DeviceError, Program, TensorRef};
use wgrad_stdx::never;

use crate::buffers::ProgramBuffers;
use crate::codegen::{Shader, wgsl};
use crate::compile::{Pipeline, Pipelines};
use crate::context::DeviceContext;
use crate::errors::scoped;

/// A dispatch that is compiled, bound and ready to be recorded.
#[derive(Debug)]
pub(crate) struct BoundDispatch {
    pipeline: wgpu::ComputePipeline,
    bindings: wgpu::BindGroup,
    workgroups: [u32; 3],
    /// Name, layout and tensors from which `bindings` was created.
    name: String,
    layout: wgpu::BindGroupLayout,
    tensors: Vec<TensorRef>,
}

/// Generates, compiles and binds every dispatch of a program.
pub(crate) fn prepare(
    context: &DeviceContext,
    pipelines: &Pipelines,
    program: &Program,
    buffers: &ProgramBuffers,
    state: &[Option<wgpu::Buffer>],
) -> Result<Vec<BoundDispatch>, DeviceError> {
    let shaders: Vec<Shader> =
        program.dispatches.iter().map(|dispatch| wgsl(dispatch, &context.target)).collect();
    let names: Vec<&str> = program.dispatches.iter().map(|dispatch| dispatch.name.as_str()).collect();
    for (shader, name) in shaders.iter().zip(&names) {
        tracing::trace!(kernel = name, choice = shader.choice, text = shader.text, "shader generated");
    }
    let pipelines = pipelines.get(context, &shaders, &names)?;
    let mut bound = Vec::with_capacity(shaders.len());
    for ((dispatch, shader), Pipeline { pipeline, bindings }) in
        program.dispatches.iter().zip(&shaders).zip(pipelines)
    {
        let (name, layout) = (dispatch.name.clone(), bindings);
        let tensors: Vec<TensorRef> = dispatch.operands.iter().map(|o| o.tensor.clone()).collect();
        let bindings = bind(context, &name, &layout, &tensors, buffers, state)?;
        bound.push(BoundDispatch {
            pipeline,
            bindings,
            workgroups: shader.workgroups,
            name,
            layout,
            tensors,
        });
    }
    Ok(bound)
}

/// Rebinds the dispatches that use a replaced slab.
pub(crate) fn rebind(
    context: &DeviceContext,
    dispatches: &mut [BoundDispatch],
    buffers: &ProgramBuffers,
    state: &[Option<wgpu::Buffer>],
    is_replaced: impl Fn(usize) -> bool,
) -> Result<(), DeviceError> {
    for dispatch in dispatches {
        if dispatch
            .tensors
            .iter()
            .any(|tensor| matches!(tensor.buffer, Buffer::Slab(slab) if is_replaced(slab)))
        {
            dispatch.bindings =
                bind(context, &dispatch.name, &dispatch.layout, &dispatch.tensors, buffers, state)?;
        }
    }
    Ok(())
}

fn bind(
    context: &DeviceContext,
    name: &str,
    layout: &wgpu::BindGroupLayout,
    tensors: &[TensorRef],
    buffers: &ProgramBuffers,
    state: &[Option<wgpu::Buffer>],
) -> Result<wgpu::BindGroup, DeviceError> {
    let mut entries = Vec::with_capacity(tensors.len());
    for (binding, tensor) in (0..).zip(tensors) {
        let buffer = buffers.get(tensor.buffer, state).ok_or_else(|| {
            DeviceError::from(never!("`{name}` uses buffer {:?}, which does not exist", tensor.buffer))
        })?;
        // Binding sizes are multiples of 4 bytes. An odd number of f16 elements ends in padding that belongs to its
        // tensor.
        let size = wgpu::BufferSize::new(tensor.bytes().next_multiple_of(4) as u64);
        let resource = BindingResource::Buffer(BufferBinding { buffer, offset: tensor.offset as u64, size });
        entries.push(BindGroupEntry { binding, resource });
    }
    context.count_created();
    scoped(&context.device, context.name(), name, 0, || {
        let descriptor = wgpu::BindGroupDescriptor { label: Some(name), layout, entries: &entries };
        context.device.create_bind_group(&descriptor)
    })
}

/// Records all dispatches in one pass.
pub(crate) fn record(dispatches: &[BoundDispatch], encoder: &mut wgpu::CommandEncoder) {
    if dispatches.is_empty() {
        return;
    }
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    dispatches.iter().for_each(|dispatch| dispatch.record(&mut pass));
}

impl BoundDispatch {
    pub fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bindings, &[]);
        let [x, y, z] = self.workgroups;
        pass.dispatch_workgroups(x, y, z);
    }
}
