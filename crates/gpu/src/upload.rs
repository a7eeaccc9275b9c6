//! Uploads the inputs of runs through staging buffers.
//!
//! The host writes the inputs into a mapped staging buffer, and the commands of the run start with a copy to the input
//! buffer. While the device reads the staging buffers of earlier runs, the next buffer is filled. A buffer is reused
//! when the run that reads it is done, so runs at a steady pace allocate nothing. `Queue::write_buffer` would allocate
//! in each run.

use std::collections::VecDeque;

use wgpu::{BufferUsages, CommandEncoder, MapMode, SubmissionIndex};
use wgrad_program::DeviceError;
use wgrad_stdx::never;

use crate::context::DeviceContext;
use crate::errors::{scoped, wait};
use crate::mapping::Mapping;

/// Bytes in flight above which a run waits for the oldest upload, if more than [`MIN_BUFFERS`] buffers are in flight.
const MAX_BYTES_IN_FLIGHT: usize = 16 << 20;
/// Number of buffers that are always allowed: one is read by the device, one is queued, and one is filled.
const MIN_BUFFERS: usize = 3;

/// Staging buffers for the inputs of one program.
#[derive(Debug)]
pub(crate) struct Uploads {
    /// Inputs of the next run in the device's format.
    pub bytes: Vec<u8>,
    max_in_flight: usize,
    free: Vec<Slot>,
    /// Slot with the inputs of the run that is being recorded.
    filled: Option<Slot>,
    in_flight: VecDeque<(Slot, SubmissionIndex)>,
}

#[derive(Debug)]
struct Slot {
    buffer: wgpu::Buffer,
    mapping: Mapping,
}

impl Uploads {
    /// Creates the uploads of a program with `bytes` bytes of inputs and at most `max_runs` runs in flight.
    pub fn new(bytes: usize, max_runs: usize) -> Self {
        let (free, filled, in_flight) = Default::default();
        let fitting = MAX_BYTES_IN_FLIGHT / bytes.max(1);
        let max_in_flight = fitting.clamp(MIN_BUFFERS, max_runs.max(MIN_BUFFERS));
        Self { bytes: vec![0; bytes], max_in_flight, free, filled, in_flight }
    }

    /// Writes the inputs to a staging buffer and adds their copy to the commands of a run.
    pub fn record(
        &mut self,
        context: &DeviceContext,
        to: Option<&wgpu::Buffer>,
        encoder: &mut CommandEncoder,
    ) -> Result<(), DeviceError> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let to = to.ok_or_else(|| {
            DeviceError::from(never!(
                "a program with {} bytes of inputs has no input buffer",
                self.bytes.len()
            ))
        })?;
        self.collect(context)?;
        if self.free.is_empty() && self.in_flight.len() >= self.max_in_flight {
            let oldest = self.in_flight.front().map(|(_, submission)| submission.clone());
            wait(&context.device, context.name(), oldest, context.options.timeout)?;
            context.errors.check()?;
            self.collect(context)?;
        }
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => self.allocate(context)?,
        };
        let failed = |error: wgpu::MapRangeError| write_error(context, &error.to_string());
        slot.buffer.get_mapped_range_mut(..).map_err(failed)?.copy_from_slice(&self.bytes);
        slot.buffer.unmap();
        encoder.copy_buffer_to_buffer(&slot.buffer, 0, to, 0, self.bytes.len() as u64);
        self.filled = Some(slot);
        Ok(())
    }

    /// Marks the staging buffer as in flight. Must be called after the commands are submitted.
    pub fn submitted(&mut self, submission: &SubmissionIndex) {
        let Some(slot) = self.filled.take() else { return };
        slot.mapping.begin(&slot.buffer, MapMode::Write);
        self.in_flight.push_back((slot, submission.clone()));
    }

    fn collect(&mut self, context: &DeviceContext) -> Result<(), DeviceError> {
        while let Some((slot, _)) = self.in_flight.front() {
            if !slot.mapping.is_mapped(context, write_error)? {
                break;
            }
            self.free.extend(self.in_flight.pop_front().map(|(slot, _)| slot));
        }
        Ok(())
    }

    fn allocate(&self, context: &DeviceContext) -> Result<Slot, DeviceError> {
        let (what, size) = ("the upload buffer", self.bytes.len() as u64);
        let descriptor = wgpu::BufferDescriptor {
            label: Some(what),
            size,
            usage: BufferUsages::MAP_WRITE | BufferUsages::COPY_SRC,
            mapped_at_creation: true,
        };
        context.count_created();
        let create = || context.device.create_buffer(&descriptor);
        let buffer = scoped(&context.device, context.name(), what, size, create)?;
        Ok(Slot { buffer, mapping: Mapping::default() })
    }
}

fn write_error(context: &DeviceContext, why: &str) -> DeviceError {
    let reason = format!("the upload buffer cannot be written: {why}");
    DeviceError::Internal { name: context.name().into(), reason }
}
