//! Timestamps of the device around each dispatch of a profiled run.

use wgpu::{BufferUsages, QUERY_RESOLVE_BUFFER_ALIGNMENT, QUERY_SET_MAX_QUERIES, QUERY_SIZE};
use wgrad_program::{DeviceError, Span};

use crate::buffers::allocate;
use crate::device::Shared;
use crate::errors::{scoped, wait};
use crate::replay::Step;

/// Dispatches whose two timestamps fit one query set.
const SET: usize = QUERY_SET_MAX_QUERIES as usize / 2;
const _: () =
    assert!((SET * 2 * QUERY_SIZE as usize).is_multiple_of(QUERY_RESOLVE_BUFFER_ALIGNMENT as usize));

/// The queries of one program, made when it is first profiled.
#[derive(Debug)]
pub(crate) struct Timers {
    sets: Vec<wgpu::QuerySet>,
    resolved: wgpu::Buffer,
    staging: wgpu::Buffer,
}

impl Timers {
    /// Queries for so many dispatches, or none where the device has no timestamps or there is nothing to time.
    pub fn new(shared: &Shared, dispatches: usize) -> Result<Option<Self>, DeviceError> {
        if !shared.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Ok(None);
        }
        let set = |first: usize| {
            let count = 2 * (dispatches - first).min(SET) as u32;
            let ty = wgpu::QueryType::Timestamp;
            let descriptor = wgpu::QuerySetDescriptor { label: Some("timestamps"), ty, count };
            scoped(&shared.device, shared.name(), "timestamps", 0, || {
                shared.device.create_query_set(&descriptor)
            })
        };
        let sets = (0..dispatches).step_by(SET).map(set).collect::<Result<_, _>>()?;
        let bytes = 2 * dispatches * QUERY_SIZE as usize;
        let buffer = |usage| allocate(shared, bytes, "timestamps", usage);
        let resolved = buffer(BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC)?;
        let staging = buffer(BufferUsages::COPY_DST | BufferUsages::MAP_READ)?;
        Ok(resolved.zip(staging).map(|(resolved, staging)| Self { sets, resolved, staging }))
    }

    /// Records each step in a pass of its own, between two timestamps.
    pub fn record(&self, steps: &[Step], encoder: &mut wgpu::CommandEncoder) {
        for (steps, query_set) in steps.chunks(SET).zip(&self.sets) {
            for (i, step) in (0..).step_by(2).zip(steps) {
                let (begin, end) = (Some(i), Some(i + 1));
                let timestamp_writes = Some(wgpu::ComputePassTimestampWrites {
                    query_set,
                    beginning_of_pass_write_index: begin,
                    end_of_pass_write_index: end,
                });
                let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
                step.record(&mut encoder.begin_compute_pass(&descriptor));
            }
        }
        for (i, (set, steps)) in self.sets.iter().zip(steps.chunks(SET)).enumerate() {
            let offset = i * SET * 2 * QUERY_SIZE as usize;
            encoder.resolve_query_set(set, 0..2 * steps.len() as u32, &self.resolved, offset as u64);
        }
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.staging, 0, self.staging.size());
    }

    /// Waits for the run and reads when each dispatch ran, in nanoseconds since the first began.
    pub fn read(&self, shared: &Shared) -> Result<Vec<Span>, DeviceError> {
        self.staging.map_async(wgpu::MapMode::Read, .., |_| {});
        wait(&shared.device, shared.name(), None, shared.options.timeout)?;
        shared.faults.check()?;
        let failed = |error: wgpu::MapRangeError| DeviceError::Internal {
            name: shared.name().into(),
            reason: format!("the timestamps could not be read: {error}"),
        };
        let ticks: Vec<u64> =
            bytemuck::pod_collect_to_vec(&self.staging.get_mapped_range(..).map_err(failed)?);
        self.staging.unmap();
        Ok(spans(&ticks, f64::from(shared.queue.get_timestamp_period())))
    }
}

/// Pairs of ticks as nanoseconds since the first.
fn spans(ticks: &[u64], period: f64) -> Vec<Span> {
    let first = ticks.first().copied().unwrap_or(0);
    let ns = |tick: u64| (tick.saturating_sub(first) as f64 * period) as u64;
    let span = |pair: &[u64]| {
        let start_ns = ns(pair[0]);
        Span { start_ns, end_ns: ns(pair[1]).max(start_ns) }
    };
    ticks.chunks_exact(2).map(span).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_become_nanoseconds_since_the_first() {
        let span = |start_ns, end_ns| Span { start_ns, end_ns };
        assert_eq!(spans(&[100, 110, 110, 130], 2.5), [span(0, 25), span(25, 75)]);
        // A clock that went backwards gives an empty span, not one that ends before it starts.
        assert_eq!(spans(&[100, 110, 108, 90], 1.0), [span(0, 10), span(8, 8)]);
        assert_eq!(spans(&[], 1.0), []);
    }
}
