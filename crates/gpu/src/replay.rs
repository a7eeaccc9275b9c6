//! The commands of one run, recorded anew each time from what was prepared once.

use wgpu::{BindGroupEntry, BindingResource, BufferBinding};
use wgrad_program::{DeviceError, Program};

use crate::buffers::Own;
use crate::codegen::{Shader, wgsl};
use crate::compile::Pipeline;
use crate::device::Shared;
use crate::errors::scoped;

/// A dispatch ready to be recorded.
#[derive(Debug)]
pub(crate) struct Step {
    pipeline: wgpu::ComputePipeline,
    bindings: wgpu::BindGroup,
    workgroups: [u32; 3],
}

/// Generates, compiles and binds every dispatch of a program.
pub(crate) fn prepare(
    shared: &Shared,
    program: &Program,
    own: &Own,
    state: &[Option<wgpu::Buffer>],
) -> Result<Vec<Step>, DeviceError> {
    let shaders: Vec<Shader> =
        program.dispatches.iter().map(|dispatch| wgsl(dispatch, &shared.target)).collect();
    let names: Vec<&str> = program.dispatches.iter().map(|dispatch| dispatch.name.as_str()).collect();
    for (shader, name) in shaders.iter().zip(&names) {
        tracing::trace!(kernel = name, choice = shader.choice, text = shader.text, "shader");
    }
    let pipelines = shared.pipelines.get(shared, &shaders, &names)?;
    let mut steps = Vec::with_capacity(shaders.len());
    for ((dispatch, shader), Pipeline { pipeline, bindings }) in
        program.dispatches.iter().zip(&shaders).zip(pipelines)
    {
        let mut entries = Vec::with_capacity(dispatch.operands.len());
        for (binding, operand) in (0..).zip(&dispatch.operands) {
            let tensor = &operand.tensor;
            let buffer = own.get(tensor.buffer, state).ok_or_else(|| DeviceError::Internal {
                name: shared.name().into(),
                reason: format!("`{}` works on {:?}, which does not exist", dispatch.name, tensor.buffer),
            })?;
            // A binding is whole words; an odd number of f16 ends in padding that belongs to its tensor.
            let size = wgpu::BufferSize::new(tensor.bytes().next_multiple_of(4) as u64);
            let resource =
                BindingResource::Buffer(BufferBinding { buffer, offset: tensor.offset as u64, size });
            entries.push(BindGroupEntry { binding, resource });
        }
        let bindings = scoped(&shared.device, shared.name(), &dispatch.name, 0, || {
            let label = Some(dispatch.name.as_str());
            shared.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label,
                layout: &bindings,
                entries: &entries,
            })
        })?;
        steps.push(Step { pipeline, bindings, workgroups: shader.workgroups });
    }
    Ok(steps)
}

/// Records all steps in one pass.
pub(crate) fn record(steps: &[Step], encoder: &mut wgpu::CommandEncoder) {
    if steps.is_empty() {
        return;
    }
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    steps.iter().for_each(|step| step.record(&mut pass));
}

impl Step {
    pub fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bindings, &[]);
        let [x, y, z] = self.workgroups;
        pass.dispatch_workgroups(x, y, z);
    }
}
