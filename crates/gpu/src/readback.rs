//! Readbacks of parts of state groups during a run.
//!
//! Each part is copied to its own staging buffer after the last dispatch that writes to the part. The commands up to
//! each readback are submitted separately.

use wgpu::BufferUsages;
use wgrad_program::{DeviceError, Readback, ReadbackHandler};
use wgrad_stdx::never;

use crate::buffers::allocate;
use crate::context::DeviceContext;
use crate::errors::wait;

/// Staging buffers of a program's readbacks, kept from run to run.
#[derive(Default)]
pub(crate) struct Readbacks {
    buffers: Vec<Option<wgpu::Buffer>>,
}

impl Readbacks {
    /// Allocates staging buffers of the sizes of the readbacks, unless the current buffers have these sizes.
    pub fn resize(&mut self, context: &DeviceContext, readbacks: &[Readback]) -> Result<(), DeviceError> {
        let bytes = |readback: &Readback| readback.range.len() * 4;
        let have = |buffer: &Option<wgpu::Buffer>| buffer.as_ref().map_or(0, |buffer| buffer.size() as usize);
        if self.buffers.len() == readbacks.len()
            && self.buffers.iter().zip(readbacks).all(|(buffer, readback)| have(buffer) == bytes(readback))
        {
            return Ok(());
        }
        let usage = BufferUsages::COPY_DST | BufferUsages::MAP_READ;
        let buffer = |readback| allocate(context, bytes(readback), "a readback buffer", usage);
        self.buffers = readbacks.iter().map(buffer).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Adds the copy of a readback to the commands of a run.
    pub fn record(
        &self,
        number: usize,
        readback: &Readback,
        group: Option<&wgpu::Buffer>,
        encoder: &mut wgpu::CommandEncoder,
    ) -> Result<(), DeviceError> {
        match (self.buffers.get(number).and_then(Option::as_ref), group) {
            (Some(to), Some(from)) => {
                encoder.copy_buffer_to_buffer(from, readback.range.start as u64 * 4, to, 0, to.size());
                Ok(())
            }
            _ if readback.range.is_empty() => Ok(()),
            _ => Err(DeviceError::from(never!("readback {number} of {:?} has no buffer", readback.range))),
        }
    }

    /// Requests the mapping of a readback whose copy was submitted.
    pub fn request(&self, number: usize) {
        if let Some(Some(buffer)) = self.buffers.get(number) {
            // A failed mapping is reported when the mapped range is read.
            buffer.map_async(wgpu::MapMode::Read, .., |_| {});
        }
    }

    /// Waits for readback `number` of the program, passes its values to `each`, and returns the reply of `each`.
    pub fn wait_for(
        &self,
        context: &DeviceContext,
        number: usize,
        submission: wgpu::SubmissionIndex,
        each: &mut ReadbackHandler<'_>,
    ) -> Result<Vec<f32>, DeviceError> {
        let Some(Some(buffer)) = self.buffers.get(number) else {
            return Ok(each(number, &[]));
        };
        wait(&context.device, context.name(), Some(submission), context.options.timeout)?;
        context.errors.check()?;
        let failed = |error: wgpu::MapRangeError| DeviceError::Internal {
            name: context.name().into(),
            reason: format!("readback {number} failed: {error}"),
        };
        // The mapped view is dropped before the buffer is unmapped.
        let reply = each(number, bytemuck::cast_slice(&buffer.get_mapped_range(..).map_err(failed)?));
        buffer.unmap();
        Ok(reply)
    }
}
