//! Parts of groups that come home while a run goes on: each is copied to a buffer of its own as soon as its last dispatch
//! is done, and the run is submitted in as many pieces.

use wgpu::BufferUsages;
use wgrad_program::{DeviceError, Readback, ReadbackHandler};

use crate::buffers::allocate;
use crate::device::Shared;
use crate::errors::wait;

/// The buffers that readings of a program arrive in, kept from run to run.
#[derive(Default)]
pub(crate) struct Arrivals {
    buffers: Vec<Option<wgpu::Buffer>>,
}

impl Arrivals {
    /// Makes sure that there is a buffer of the right size for each reading.
    pub fn fit(&mut self, shared: &Shared, readings: &[Readback]) -> Result<(), DeviceError> {
        let bytes = |reading: &Readback| reading.range.len() * 4;
        let have = |buffer: &Option<wgpu::Buffer>| buffer.as_ref().map_or(0, |buffer| buffer.size() as usize);
        if self.buffers.len() == readings.len()
            && self.buffers.iter().zip(readings).all(|(buffer, reading)| have(buffer) == bytes(reading))
        {
            return Ok(());
        }
        let usage = BufferUsages::COPY_DST | BufferUsages::MAP_READ;
        let buffer = |reading| allocate(shared, bytes(reading), "a buffer to read gradients through", usage);
        self.buffers = readings.iter().map(buffer).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Adds the copy of a reading to the commands of a run.
    pub fn record(
        &self,
        number: usize,
        reading: &Readback,
        group: Option<&wgpu::Buffer>,
        encoder: &mut wgpu::CommandEncoder,
    ) {
        if let (Some(Some(to)), Some(from)) = (self.buffers.get(number), group) {
            encoder.copy_buffer_to_buffer(from, reading.range.start as u64 * 4, to, 0, to.size());
        }
    }

    /// Asks for a reading whose copy was submitted.
    pub fn request(&self, number: usize) {
        if let Some(Some(buffer)) = self.buffers.get(number) {
            // An error comes back when the range is looked at.
            buffer.map_async(wgpu::MapMode::Read, .., |_| {});
        }
    }

    /// Waits for a reading, hands it out, and gives the answer.
    pub fn take(
        &self,
        shared: &Shared,
        number: usize,
        submission: wgpu::SubmissionIndex,
        each: &mut ReadbackHandler<'_>,
    ) -> Result<Vec<f32>, DeviceError> {
        let Some(Some(buffer)) = self.buffers.get(number) else {
            return Ok(each(number, &[]));
        };
        wait(&shared.device, shared.name(), Some(submission), shared.options.timeout)?;
        shared.faults.check()?;
        let failed = |error: wgpu::MapRangeError| DeviceError::Internal {
            name: shared.name().into(),
            reason: format!("a gradient could not be read: {error}"),
        };
        // The view ends before the buffer is given back.
        let answer = each(number, bytemuck::cast_slice(&buffer.get_mapped_range(..).map_err(failed)?));
        buffer.unmap();
        Ok(answer)
    }
}
