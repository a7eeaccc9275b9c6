//! The scalar outputs of recent runs, read back late and without waiting.
//!
//! Each run copies its scalars into the next slot of a staging buffer. A full one is handed to the host (mapped) while the
//! next is filled; what arrives is kept until someone asks. Buffers are reused, so that a steady pace allocates nothing.

use std::collections::VecDeque;

use wgpu::BufferUsages;
use wgrad_graph::DType;
use wgrad_program::{DeviceError, HostData, Program, Record};

use crate::buffers::allocate;
use crate::device::Shared;
use crate::mapping::Mapping;
use crate::transfer::decode;

/// Runs that a staging buffer holds.
const SLOTS: u64 = 64;
/// Buffers under way beyond which a partly filled one is not handed over: more are coming anyway.
const EARLY: usize = 4;

/// The ring of one program.
#[derive(Debug)]
pub(crate) struct Ring {
    /// Offset in the outputs and type of each scalar.
    scalars: Vec<(u64, DType)>,
    filling: Option<Filling>,
    flying: VecDeque<Flight>,
    free: Vec<wgpu::Buffer>,
    done: Vec<Record>,
    runs: u64,
}

#[derive(Debug)]
struct Filling {
    buffer: wgpu::Buffer,
    first: u64,
    count: u64,
}

#[derive(Debug)]
struct Flight {
    filled: Filling,
    mapping: Mapping,
}

impl Ring {
    pub fn new(program: &Program) -> Self {
        let place = |output: &wgrad_program::Output| (output.tensor.offset as u64, output.ty.dtype);
        let scalars = program.outputs.iter().filter(|output| output.is_recorded()).map(place).collect();
        let (filling, flying, free, done) = Default::default();
        Self { scalars, filling, flying, free, done, runs: 0 }
    }

    fn slot_bytes(&self) -> u64 {
        self.scalars.len() as u64 * 4
    }

    /// Adds the copies of one run to its commands.
    pub fn record(
        &mut self,
        shared: &Shared,
        outputs: Option<&wgpu::Buffer>,
        encoder: &mut wgpu::CommandEncoder,
    ) -> Result<(), DeviceError> {
        let Some(outputs) = outputs.filter(|_| !self.scalars.is_empty()) else { return Ok(()) };
        if self.filling.is_none() {
            let bytes = (self.slot_bytes() * SLOTS) as usize;
            let usage = BufferUsages::COPY_DST | BufferUsages::MAP_READ;
            let buffer = match self.free.pop() {
                Some(buffer) => Some(buffer),
                None => allocate(shared, bytes, "the ring of scalar outputs", usage)?,
            };
            self.filling = buffer.map(|buffer| Filling { buffer, first: self.runs, count: 0 });
        }
        if let Some(filling) = &self.filling {
            let slot = filling.count * self.slot_bytes();
            for (to, &(from, _)) in (slot..).step_by(4).zip(&self.scalars) {
                encoder.copy_buffer_to_buffer(outputs, from, &filling.buffer, to, 4);
            }
        }
        Ok(())
    }

    /// To be called once the commands of the run are submitted.
    pub fn submitted(&mut self) {
        self.runs += 1;
        match &mut self.filling {
            Some(filling) => {
                filling.count += 1;
                if filling.count == SLOTS {
                    self.hand_over();
                }
            }
            None => self.done.push(Record { run: self.runs - 1, values: Vec::new() }),
        }
    }

    /// Hands the buffer being filled to the host, as soon as the device is done with it.
    fn hand_over(&mut self) {
        let Some(filled) = self.filling.take() else { return };
        let mapping = Mapping::default();
        mapping.begin(&filled.buffer, wgpu::MapMode::Read);
        self.flying.push_back(Flight { filled, mapping });
    }

    /// Hands over what there is. Without `all`, not if enough is under way already.
    pub fn flush(&mut self, all: bool) {
        if all || self.flying.len() < EARLY {
            self.hand_over();
        }
    }

    /// Takes in the buffers that have arrived.
    pub fn collect(&mut self, shared: &Shared) -> Result<(), DeviceError> {
        while let Some(flight) = self.flying.front() {
            if !flight.mapping.has_arrived(shared, unreadable)? {
                break;
            }
            let Some(Flight { filled, .. }) = self.flying.pop_front() else { break };
            let slot = self.slot_bytes() as usize;
            let view =
                filled.buffer.get_mapped_range(..).map_err(|error| unreadable(shared, &error.to_string()))?;
            for (run, bytes) in (filled.first..).zip(view.chunks_exact(slot)).take(filled.count as usize) {
                let values =
                    self.scalars.iter().zip(bytes.chunks_exact(4)).filter_map(|(&(_, dtype), bytes)| {
                        match decode(bytes, dtype) {
                            HostData::F32(values) => values.first().copied(),
                            HostData::U32(_) => None,
                        }
                    });
                self.done.push(Record { run, values: values.collect() });
            }
            drop(view);
            filled.buffer.unmap();
            self.free.push(filled.buffer);
        }
        Ok(())
    }

    /// The records that have arrived, in order of runs.
    pub fn take(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.done)
    }
}

fn unreadable(shared: &Shared, why: &str) -> DeviceError {
    let reason = format!("the ring of scalar outputs could not be read: {why}");
    DeviceError::Internal { name: shared.name().into(), reason }
}
