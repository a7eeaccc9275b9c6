//! The buffers of a session and its programs: one wgpu buffer for each that the plan names, of just its size.

use wgpu::BufferUsages;
use wgrad_graph::States;
use wgrad_program::{Buffer, DeviceError, Program};

use crate::device::Shared;

/// Bytes are checked against the limits first, so that a model which cannot fit is refused with its largest tensors.
pub(crate) fn ensure_fits(shared: &Shared, program: &Program) -> Result<(), DeviceError> {
    let limits = &shared.info.limits;
    let refuse = |reason: String| {
        Err(DeviceError::DoesNotFit { name: shared.name().into(), reason, table: table(program) })
    };
    let own = [("the inputs", program.input_bytes), ("the outputs", program.output_bytes)];
    let slabs = program.slabs.iter().map(|&bytes| ("an intermediate slab", bytes));
    let packs = program.packs.iter().map(|&bytes| ("a pack", bytes));
    let state = program.states.groups().iter().map(|group| (group.name.as_str(), group.bytes()));
    for (what, bytes) in own.into_iter().chain(slabs).chain(packs).chain(state) {
        if bytes as u64 > limits.buffer_bytes {
            let (needs, most) = (human(bytes as u64), human(limits.buffer_bytes));
            return refuse(format!("{what} need a buffer of {needs}, and it allows {most}"));
        }
    }
    for dispatch in &program.dispatches {
        if let Some(operand) =
            dispatch.operands.iter().find(|o| o.tensor.bytes() as u64 > limits.operand_bytes)
        {
            let (needs, most) = (human(operand.tensor.bytes() as u64), human(limits.operand_bytes));
            return refuse(format!("`{}` works on a tensor of {needs}, and it allows {most}", dispatch.name));
        }
        if dispatch.operands.len() > limits.operands {
            let (needs, most) = (dispatch.operands.len(), limits.operands);
            let reason = format!("`{}` binds {needs} tensors, and it allows {most}", dispatch.name);
            return Err(DeviceError::Unsupported { name: shared.name().into(), reason });
        }
    }
    Ok(())
}

/// The ten largest tensors.
fn table(program: &Program) -> String {
    let line = |(name, ty, bytes): &(String, _, usize)| format!("  {name}: {ty}, {}", human(*bytes as u64));
    program.largest_tensors.iter().take(10).map(line).collect::<Vec<_>>().join("\n")
}

/// Bytes for people: `1.5 GiB`.
pub(crate) fn human(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.iter().find(|(_, shift)| bytes >> shift > 0) {
        Some((unit, shift)) => format!("{:.1} {unit}", bytes as f64 / (1u64 << shift) as f64),
        None => format!("{bytes} bytes"),
    }
}

/// A buffer, or none where nothing is stored. wgpu fills it with zeros before it is first used.
pub(crate) fn allocate(
    shared: &Shared,
    bytes: usize,
    what: &str,
    usage: BufferUsages,
) -> Result<Option<wgpu::Buffer>, DeviceError> {
    if bytes == 0 {
        return Ok(None);
    }
    let size = bytes as u64;
    let descriptor = wgpu::BufferDescriptor { label: Some(what), size, usage, mapped_at_creation: false };
    shared.count();
    crate::errors::scoped(&shared.device, shared.name(), what, size, || {
        shared.device.create_buffer(&descriptor)
    })
    .map(Some)
}

const STORED: BufferUsages =
    BufferUsages::STORAGE.union(BufferUsages::COPY_SRC).union(BufferUsages::COPY_DST);

/// The groups of a session's state.
pub(crate) fn state(shared: &Shared, states: &States) -> Result<Vec<Option<wgpu::Buffer>>, DeviceError> {
    states.groups().iter().map(|group| allocate(shared, group.bytes(), &group.name, STORED)).collect()
}

/// Slabs as large as a program needs them: those there are, where they are large enough, and new ones.
pub(crate) fn grown(
    shared: &Shared,
    slabs: &[Option<wgpu::Buffer>],
    program: &Program,
) -> Result<Vec<Option<wgpu::Buffer>>, DeviceError> {
    let mut grown = slabs.to_vec();
    grown.resize(slabs.len().max(program.slabs.len()), None);
    for (slab, &bytes) in grown.iter_mut().zip(&program.slabs) {
        if slab.as_ref().map_or(0, |slab| slab.size() as usize) < bytes {
            *slab = allocate(shared, bytes, "the intermediates", STORED)?;
        }
    }
    Ok(grown)
}

/// The buffers that one program uses besides the state.
#[derive(Debug)]
pub(crate) struct Own {
    pub inputs: Option<wgpu::Buffer>,
    pub outputs: Option<wgpu::Buffer>,
    /// Those of the session, which all programs share.
    pub slabs: Vec<Option<wgpu::Buffer>>,
    pub packs: Vec<Option<wgpu::Buffer>>,
}

impl Own {
    /// Allocates what the program shares with no other.
    pub fn allocate(
        shared: &Shared,
        program: &Program,
        slabs: Vec<Option<wgpu::Buffer>>,
    ) -> Result<Self, DeviceError> {
        let one = |bytes: usize, what: &str| allocate(shared, bytes, what, STORED);
        let some =
            |all: &[usize], what: &str| all.iter().map(|&bytes| one(bytes, what)).collect::<Result<_, _>>();
        Ok(Self {
            inputs: one(program.input_bytes, "the inputs")?,
            outputs: one(program.output_bytes, "the outputs")?,
            slabs,
            packs: some(&program.packs, "the packed tensors")?,
        })
    }

    /// Bytes of all but the slabs.
    pub fn bytes(&self) -> usize {
        let all = [&self.inputs, &self.outputs].into_iter().chain(&self.packs);
        all.flatten().map(|buffer| buffer.size() as usize).sum()
    }

    /// The buffer of that name, among these and the groups of the state.
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
