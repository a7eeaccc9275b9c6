//! Device timestamps around each dispatch of a profiled run.

use wgpu::{BufferUsages, QUERY_RESOLVE_BUFFER_ALIGNMENT, QUERY_SET_MAX_QUERIES, QUERY_SIZE};
use wgrad_program::{DeviceError, Span};

use crate::buffers::allocate;
use crate::context::DeviceContext;
use crate::errors::{scoped, wait};
use crate::replay::BoundDispatch;

/// Number of dispatches per query set. Each dispatch has two timestamps.
const DISPATCHES_PER_SET: usize = QUERY_SET_MAX_QUERIES as usize / 2;
const _: () = assert!(
    (DISPATCHES_PER_SET * 2 * QUERY_SIZE as usize).is_multiple_of(QUERY_RESOLVE_BUFFER_ALIGNMENT as usize)
);

/// Timestamp queries of one program, created by its first profiled run.
#[derive(Debug)]
pub(crate) struct Timers {
    sets: Vec<wgpu::QuerySet>,
    resolved: wgpu::Buffer,
    staging: wgpu::Buffer,
}

impl Timers {
    /// Creates queries for `dispatches` dispatches. `None` if the device has no timestamps or there are no dispatches.
    pub fn new(context: &DeviceContext, dispatches: usize) -> Result<Option<Self>, DeviceError> {
        if !context.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Ok(None);
        }
        let set = |first: usize| {
            let count = 2 * (dispatches - first).min(DISPATCHES_PER_SET) as u32;
            let ty = wgpu::QueryType::Timestamp;
            let descriptor = wgpu::QuerySetDescriptor { label: Some("timestamps"), ty, count };
            context.count_created();
            scoped(&context.device, context.name(), "timestamps", 0, || {
                context.device.create_query_set(&descriptor)
            })
        };
        let sets = (0..dispatches).step_by(DISPATCHES_PER_SET).map(set).collect::<Result<_, _>>()?;
        let bytes = 2 * dispatches * QUERY_SIZE as usize;
        let buffer = |usage| allocate(context, bytes, "timestamps", usage);
        let resolved = buffer(BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC)?;
        let staging = buffer(BufferUsages::COPY_DST | BufferUsages::MAP_READ)?;
        Ok(resolved.zip(staging).map(|(resolved, staging)| Self { sets, resolved, staging }))
    }

    /// Records each dispatch in its own pass, between two timestamps.
    pub fn record(&self, dispatches: &[BoundDispatch], encoder: &mut wgpu::CommandEncoder) {
        for (dispatches, query_set) in dispatches.chunks(DISPATCHES_PER_SET).zip(&self.sets) {
            for (i, dispatch) in (0..).step_by(2).zip(dispatches) {
                let (begin, end) = (Some(i), Some(i + 1));
                let timestamp_writes = Some(wgpu::ComputePassTimestampWrites {
                    query_set,
                    beginning_of_pass_write_index: begin,
                    end_of_pass_write_index: end,
                });
                let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
                dispatch.record(&mut encoder.begin_compute_pass(&descriptor));
            }
        }
        for (i, (set, dispatches)) in self.sets.iter().zip(dispatches.chunks(DISPATCHES_PER_SET)).enumerate()
        {
            let offset = i * DISPATCHES_PER_SET * 2 * QUERY_SIZE as usize;
            encoder.resolve_query_set(set, 0..2 * dispatches.len() as u32, &self.resolved, offset as u64);
        }
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.staging, 0, self.staging.size());
    }

    /// Waits for the run and returns the span of each dispatch, in nanoseconds since the first dispatch started.
    pub fn read(&self, context: &DeviceContext) -> Result<Vec<Span>, DeviceError> {
        self.staging.map_async(wgpu::MapMode::Read, .., |_| {});
        wait(&context.device, context.name(), None, context.options.timeout)?;
        context.errors.check()?;
        let failed = |error: wgpu::MapRangeError| DeviceError::Internal {
            name: context.name().into(),
            reason: format!("the timestamps cannot be read: {error}"),
        };
        let ticks: Vec<u64> =
            bytemuck::pod_collect_to_vec(&self.staging.get_mapped_range(..).map_err(failed)?);
        self.staging.unmap();
        Ok(spans(&ticks, f64::from(context.queue.get_timestamp_period())))
    }
}

/// Converts pairs of ticks to nanoseconds since the first tick.
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
    fn ticks_become_nanoseconds_since_the_first_tick() {
        let span = |start_ns, end_ns| Span { start_ns, end_ns };
        assert_eq!(spans(&[100, 110, 110, 130], 2.5), [span(0, 25), span(25, 75)]);
        // If the clock goes backwards, the span is empty instead of ending before it starts.
        assert_eq!(spans(&[100, 110, 108, 90], 1.0), [span(0, 10), span(8, 8)]);
        assert_eq!(spans(&[], 1.0), []);
    }
}
