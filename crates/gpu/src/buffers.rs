//! Buffers of a session and its programs: one wgpu buffer of the exact size for each buffer of the plan.

use wgpu::BufferUsages;
use wgrad_graph::States;
use wgrad_program::{Buffer, DeviceError, Program};
use wgrad_stdx::format;

use crate::context::DeviceContext;

/// Checks buffer and operand sizes against the device limits before anything is allocated.
///
/// The error for a model that does not fit lists its largest tensors.
pub(crate) fn ensure_fits(context: &DeviceContext, program: &Program) -> Result<(), DeviceError> {
    let limits = &context.info.limits;
    let refuse = |reason: String| {
        Err(DeviceError::DoesNotFit { name: context.name().into(), reason, table: largest_tensors(program) })
    };
    let single = [("the inputs", program.input_bytes), ("the outputs", program.output_bytes)];
    let slabs = program.slabs.iter().map(|&bytes| ("an intermediate slab", bytes));
    let packs = program.packs.iter().map(|&bytes| ("a pack", bytes));
    let state = program.states.groups().iter().map(|group| (group.name.as_str(), group.bytes()));
    for (what, bytes) in single.into_iter().chain(slabs).chain(packs).chain(state) {
        if bytes as u64 > limits.buffer_bytes {
            let (needed, limit) = (format::bytes(bytes as u64), format::bytes(limits.buffer_bytes));
            return refuse(format!("the buffer for {what} needs {needed}, but the limit is {limit}"));
        }
    }
    for dispatch in &program.dispatches {
        if let Some(operand) =
            dispatch.operands.iter().find(|o| o.tensor.bytes() as u64 > limits.operand_bytes)
        {
            let bytes = operand.tensor.bytes() as u64;
            let (needed, limit) = (format::bytes(bytes), format::bytes(limits.operand_bytes));
            return refuse(format!(
                "`{}` uses a tensor of {needed}, but the limit is {limit}",
                dispatch.name
            ));
        }
        if dispatch.operands.len() > limits.operands {
            let (needed, limit) = (dispatch.operands.len(), limits.operands);
            let reason = format!("`{}` binds {needed} tensors, but the limit is {limit}", dispatch.name);
            return Err(DeviceError::Unsupported { name: context.name().into(), reason });
        }
    }
    Ok(())
}

/// Formats the ten largest tensors, one per line.
fn largest_tensors(program: &Program) -> String {
    let line =
        |(name, ty, bytes): &(String, _, usize)| format!("  {name}: {ty}, {}", format::bytes(*bytes as u64));
    program.largest_tensors.iter().take(10).map(line).collect::<Vec<_>>().join("\n")
}

/// Allocates a buffer, or returns `None` for zero bytes. wgpu zero-initializes the buffer before its first use.
pub(crate) fn allocate(
    context: &DeviceContext,
    bytes: usize,
    what: &str,
    usage: BufferUsages,
) -> Result<Option<wgpu::Buffer>, DeviceError> {
    if bytes == 0 {
        return Ok(None);
    }
    let size = bytes as u64;
    let descriptor = wgpu::BufferDescriptor { label: Some(what), size, usage, mapped_at_creation: false };
    context.count_created();
    crate::errors::scoped(&context.device, context.name(), what, size, || {
        context.device.create_buffer(&descriptor)
    })
    .map(Some)
}

const STORED: BufferUsages =
    BufferUsages::STORAGE.union(BufferUsages::COPY_SRC).union(BufferUsages::COPY_DST);

/// Allocates a buffer for each group of a session's state.
pub(crate) fn allocate_state(
    context: &DeviceContext,
    states: &States,
) -> Result<Vec<Option<wgpu::Buffer>>, DeviceError> {
    states.groups().iter().map(|group| allocate(context, group.bytes(), &group.name, STORED)).collect()
}

/// Returns slabs that are large enough for a program. Keeps slabs that are already large enough and allocates the
/// others.
pub(crate) fn grow_slabs(
    context: &DeviceContext,
    slabs: &[Option<wgpu::Buffer>],
    program: &Program,
) -> Result<Vec<Option<wgpu::Buffer>>, DeviceError> {
    let mut slabs = slabs.to_vec();
    slabs.resize(slabs.len().max(program.slabs.len()), None);
    for (slab, &bytes) in slabs.iter_mut().zip(&program.slabs) {
        if slab.as_ref().map_or(0, |slab| slab.size() as usize) < bytes {
            *slab = allocate(context, bytes, "the intermediates", STORED)?;
        }
    }
    Ok(slabs)
}

/// Buffers of one program, except the state of the session.
#[derive(Debug)]
pub(crate) struct ProgramBuffers {
    pub inputs: Option<wgpu::Buffer>,
    pub outputs: Option<wgpu::Buffer>,
    /// Slabs of the session, shared by all programs of the session.
    pub slabs: Vec<Option<wgpu::Buffer>>,
    pub packs: Vec<Option<wgpu::Buffer>>,
}

impl ProgramBuffers {
    /// Allocates the inputs, outputs and packed tensors of a program.
    pub fn allocate(
        context: &DeviceContext,
        program: &Program,
        slabs: Vec<Option<wgpu::Buffer>>,
    ) -> Result<Self, DeviceError> {
        let stored = |bytes: usize, what: &str| allocate(context, bytes, what, STORED);
        let packs = program.packs.iter().map(|&bytes| stored(bytes, "the packed tensors"));
        Ok(Self {
            inputs: stored(program.input_bytes, "the inputs")?,
            outputs: stored(program.output_bytes, "the outputs")?,
            slabs,
            packs: packs.collect::<Result<_, _>>()?,
        })
    }

    /// Returns the bytes of all buffers except the slabs.
    pub fn bytes(&self) -> usize {
        let all = [&self.inputs, &self.outputs].into_iter().chain(&self.packs);
        all.flatten().map(|buffer| buffer.size() as usize).sum()
    }

    /// Returns the wgpu buffer of a buffer of the plan, from these buffers or from the groups of `state`. Returns
    /// `None` if nothing is allocated for it, as for zero bytes.
    pub fn get<'b>(&'b self, buffer: Buffer, state: &'b [Option<wgpu::Buffer>]) -> Option<&'b wgpu::Buffer> {
        match buffer {
            Buffer::Inputs => self.inputs.as_ref(),
            Buffer::Outputs => self.outputs.as_ref(),
            Buffer::State(group) => state.get(group.0)?.as_ref(),
            Buffer::Slab(i) => self.slabs.get(i)?.as_ref(),
            Buffer::Pack(i) => self.packs.get(i)?.as_ref(),
        }
    }
}
