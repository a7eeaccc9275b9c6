//! The inputs of runs on their way to the device.
//!
//! The host writes them into a buffer that both can reach, and the commands of the run begin by copying it to where kernels
//! read. While the device still reads the buffers of earlier runs the next one is filled; each comes back when its run is
//! done. So a steady pace allocates nothing, which `Queue::write_buffer` would do at each run.

use std::collections::VecDeque;

use wgpu::{BufferUsages, CommandEncoder, MapMode, SubmissionIndex};
use wgrad_program::DeviceError;

use crate::device::Shared;
use crate::errors::{scoped, wait};
use crate::mapping::Mapping;

/// Bytes under way beyond which a run waits for the oldest, if more than [`FEWEST`] are.
const MOST_BYTES: usize = 16 << 20;
/// Buffers that there may always be: one that the device reads, one that waits, one that is filled.
const FEWEST: usize = 3;

/// The buffers of one program.
#[derive(Debug)]
pub(crate) struct Uploads {
    /// The inputs of the next run as the device stores them.
    pub bytes: Vec<u8>,
    most: usize,
    free: Vec<Slot>,
    /// Written, and in the commands being recorded.
    filled: Option<Slot>,
    flying: VecDeque<(Slot, SubmissionIndex)>,
}

#[derive(Debug)]
struct Slot {
    buffer: wgpu::Buffer,
    mapping: Mapping,
}

impl Uploads {
    /// For a program with so many bytes of inputs, of which at most `most` runs are under way.
    pub fn new(bytes: usize, most: usize) -> Self {
        let (free, filled, flying) = Default::default();
        let fit = MOST_BYTES / bytes.max(1);
        Self { bytes: vec![0; bytes], most: fit.clamp(FEWEST, most.max(FEWEST)), free, filled, flying }
    }

    /// Writes the inputs and adds their copy to the commands of a run.
    pub fn record(
        &mut self,
        shared: &Shared,
        to: Option<&wgpu::Buffer>,
        encoder: &mut CommandEncoder,
    ) -> Result<(), DeviceError> {
        let Some(to) = to.filter(|_| !self.bytes.is_empty()) else { return Ok(()) };
        self.collect(shared)?;
        if self.free.is_empty() && self.flying.len() >= self.most {
            let oldest = self.flying.front().map(|(_, submission)| submission.clone());
            wait(&shared.device, shared.name(), oldest, shared.options.timeout)?;
            shared.faults.check()?;
            self.collect(shared)?;
        }
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => self.allocate(shared)?,
        };
        let failed = |error: wgpu::MapRangeError| broken(shared, &error.to_string());
        slot.buffer.get_mapped_range_mut(..).map_err(failed)?.copy_from_slice(&self.bytes);
        slot.buffer.unmap();
        encoder.copy_buffer_to_buffer(&slot.buffer, 0, to, 0, self.bytes.len() as u64);
        self.filled = Some(slot);
        Ok(())
    }

    /// To be called once the commands are submitted.
    pub fn submitted(&mut self, submission: &SubmissionIndex) {
        let Some(slot) = self.filled.take() else { return };
        slot.mapping.begin(&slot.buffer, MapMode::Write);
        self.flying.push_back((slot, submission.clone()));
    }

    fn collect(&mut self, shared: &Shared) -> Result<(), DeviceError> {
        while let Some((slot, _)) = self.flying.front() {
            if !slot.mapping.has_arrived(shared, broken)? {
                break;
            }
            self.free.extend(self.flying.pop_front().map(|(slot, _)| slot));
        }
        Ok(())
    }

    fn allocate(&self, shared: &Shared) -> Result<Slot, DeviceError> {
        let (what, size) = ("a buffer to upload through", self.bytes.len() as u64);
        let descriptor = wgpu::BufferDescriptor {
            label: Some(what),
            size,
            usage: BufferUsages::MAP_WRITE | BufferUsages::COPY_SRC,
            mapped_at_creation: true,
        };
        shared.count();
        let create = || shared.device.create_buffer(&descriptor);
        let buffer = scoped(&shared.device, shared.name(), what, size, create)?;
        Ok(Slot { buffer, mapping: Mapping::default() })
    }
}

fn broken(shared: &Shared, why: &str) -> DeviceError {
    let reason = format!("a buffer to upload through could not be written: {why}");
    DeviceError::Internal { name: shared.name().into(), reason }
}
