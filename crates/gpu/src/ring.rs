//! Scalar outputs of recent runs, read back without waiting.
//!
//! Each run copies its scalars into the next slot of a staging buffer. A full buffer is mapped for reading while the
//! next buffer is filled. Values that have arrived are kept until [`Ring::take`] returns them. Buffers are reused, so
//! runs at a steady pace allocate nothing.

use std::collections::VecDeque;

use wgpu::BufferUsages;
use wgrad_graph::DType;
use wgrad_program::{DeviceError, HostData, Program, Record};
use wgrad_stdx::never;

use crate::buffers::allocate;
use crate::context::DeviceContext;
use crate::mapping::Mapping;
use crate::transfer::decode;

/// Number of runs per staging buffer.
const RUNS_PER_BUFFER: u64 = 64;
/// Number of buffers in flight at which a partly filled buffer is not flushed, because other results arrive soon.
const FLUSH_LIMIT: usize = 4;

/// Ring of staging buffers of one program.
#[derive(Debug)]
pub(crate) struct Ring {
    /// For each scalar, its offset in bytes in the output buffer, and its dtype.
    scalars: Vec<(u64, DType)>,
    current: Option<Batch>,
    in_flight: VecDeque<MappingBatch>,
    free: Vec<wgpu::Buffer>,
    done: Vec<Record>,
    runs: u64,
}

#[derive(Debug)]
struct Batch {
    buffer: wgpu::Buffer,
    first: u64,
    count: u64,
}

#[derive(Debug)]
struct MappingBatch {
    batch: Batch,
    mapping: Mapping,
}

impl Ring {
    pub fn new(program: &Program) -> Self {
        let scalar = |output: &wgrad_program::Output| (output.tensor.offset as u64, output.ty.dtype);
        let scalars = program.outputs.iter().filter(|output| output.is_recorded()).map(scalar).collect();
        let (current, in_flight, free, done) = Default::default();
        Self { scalars, current, in_flight, free, done, runs: 0 }
    }

    fn slot_bytes(&self) -> u64 {
        self.scalars.len() as u64 * 4
    }

    /// Adds the copies of the scalars to the commands of a run.
    pub fn record(
        &mut self,
        context: &DeviceContext,
        outputs: Option<&wgpu::Buffer>,
        encoder: &mut wgpu::CommandEncoder,
    ) -> Result<(), DeviceError> {
        if self.scalars.is_empty() {
            return Ok(());
        }
        let outputs = outputs.ok_or_else(|| {
            DeviceError::from(never!(
                "a program with {} scalar outputs has no output buffer",
                self.scalars.len()
            ))
        })?;
        let current = match self.current.take() {
            Some(current) => current,
            None => self.next_batch(context)?,
        };
        let slot = current.count * self.slot_bytes();
        for (to, &(from, _)) in (slot..).step_by(4).zip(&self.scalars) {
            encoder.copy_buffer_to_buffer(outputs, from, &current.buffer, to, 4);
        }
        self.current = Some(current);
        Ok(())
    }

    /// Returns an empty batch in a reused or a new buffer.
    fn next_batch(&mut self, context: &DeviceContext) -> Result<Batch, DeviceError> {
        let buffer = match self.free.pop() {
            Some(buffer) => buffer,
            None => {
                let bytes = (self.slot_bytes() * RUNS_PER_BUFFER) as usize;
                let usage = BufferUsages::COPY_DST | BufferUsages::MAP_READ;
                allocate(context, bytes, "the ring of scalar outputs", usage)?.ok_or_else(|| {
                    DeviceError::from(never!("the ring of scalar outputs has {bytes} bytes"))
                })?
            }
        };
        Ok(Batch { buffer, first: self.runs, count: 0 })
    }

    /// Counts a run. Must be called after its commands are submitted.
    pub fn submitted(&mut self) {
        self.runs += 1;
        match &mut self.current {
            Some(current) => {
                current.count += 1;
                if current.count == RUNS_PER_BUFFER {
                    self.map_current();
                }
            }
            None => self.done.push(Record { run: self.runs - 1, values: Vec::new() }),
        }
    }

    /// Requests the mapping of the buffer being filled, which completes when the device no longer uses the buffer.
    fn map_current(&mut self) {
        let Some(batch) = self.current.take() else { return };
        let mapping = Mapping::default();
        mapping.begin(&batch.buffer, wgpu::MapMode::Read);
        self.in_flight.push_back(MappingBatch { batch, mapping });
    }

    /// Maps the partly filled buffer. Unless `all` is set, does nothing while enough buffers are in flight.
    pub fn flush(&mut self, all: bool) {
        if all || self.in_flight.len() < FLUSH_LIMIT {
            self.map_current();
        }
    }

    /// Reads the buffers that have been mapped.
    pub fn collect(&mut self, context: &DeviceContext) -> Result<(), DeviceError> {
        while let Some(front) = self.in_flight.front() {
            if !front.mapping.is_mapped(context, read_error)? {
                break;
            }
            let Some(MappingBatch { batch, .. }) = self.in_flight.pop_front() else { break };
            let slot = self.slot_bytes() as usize;
            let view =
                batch.buffer.get_mapped_range(..).map_err(|error| read_error(context, &error.to_string()))?;
            for (run, bytes) in (batch.first..).zip(view.chunks_exact(slot)).take(batch.count as usize) {
                let scalars = self.scalars.iter().zip(bytes.chunks_exact(4));
                let values = scalars.map(|(&(_, dtype), bytes)| match decode(bytes, dtype) {
                    HostData::F32(values) if !values.is_empty() => Ok(values[0]),
                    _ => Err(DeviceError::from(never!("a recorded scalar output has dtype {dtype}"))),
                });
                self.done.push(Record { run, values: values.collect::<Result<_, _>>()? });
            }
            drop(view);
            batch.buffer.unmap();
            self.free.push(batch.buffer);
        }
        Ok(())
    }

    /// Removes and returns the records that have arrived, in order of runs.
    pub fn take(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.done)
    }
}

fn read_error(context: &DeviceContext, why: &str) -> DeviceError {
    let reason = format!("the ring of scalar outputs cannot be read: {why}");
    DeviceError::Internal { name: context.name().into(), reason }
}
