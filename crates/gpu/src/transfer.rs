//! Conversion of values between host and device formats, and blocking reads.

use half::f16;
use wgpu::BufferUsages;
use wgrad_graph::DType;
use wgrad_program::{Data, DeviceError, HostData};

use crate::buffers::allocate;
use crate::context::DeviceContext;
use crate::errors::wait;

/// Maximum number of bytes per copy of a blocking read.
const CHUNK: usize = 64 << 20;

/// Writes values in the device's format. `to` must have exactly the size of the encoded values.
pub(crate) fn encode(data: Data<'_>, dtype: DType, to: &mut [u8]) {
    match (data, dtype) {
        (Data::F32(values), DType::F16) => {
            for (to, &x) in to.chunks_exact_mut(2).zip(values) {
                to.copy_from_slice(&f16::from_f32(x).to_ne_bytes());
            }
        }
        (Data::F32(values), _) => to.copy_from_slice(bytemuck::cast_slice(values)),
        (Data::U32(values), _) => to.copy_from_slice(bytemuck::cast_slice(values)),
    }
}

/// Converts bytes in the device's format to values.
pub(crate) fn decode(bytes: &[u8], dtype: DType) -> HostData {
    match dtype {
        DType::F32 => HostData::F32(bytemuck::pod_collect_to_vec(bytes)),
        DType::U32 => HostData::U32(bytemuck::pod_collect_to_vec(bytes)),
        DType::F16 => {
            let halves = bytes.chunks_exact(2).map(|pair| f16::from_ne_bytes([pair[0], pair[1]]).to_f32());
            HostData::F32(halves.collect())
        }
    }
}

/// Waits for the device and reads a range of a buffer.
pub(crate) fn read_buffer(
    context: &DeviceContext,
    buffer: &wgpu::Buffer,
    offset: usize,
    bytes: usize,
) -> Result<Vec<u8>, DeviceError> {
    let mut values = Vec::with_capacity(bytes.next_multiple_of(4));
    let whole = bytes.next_multiple_of(4);
    let usage = BufferUsages::COPY_DST | BufferUsages::MAP_READ;
    let Some(staging) = allocate(context, whole.min(CHUNK), "a staging buffer", usage)? else {
        return Ok(values);
    };
    for start in (0..whole).step_by(CHUNK) {
        let size = (whole - start).min(CHUNK) as u64;
        let mut encoder = context.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(buffer, (offset + start) as u64, &staging, 0, size);
        context.queue.submit([encoder.finish()]);
        staging.map_async(wgpu::MapMode::Read, 0..size, |_| {});
        wait(&context.device, context.name(), None, context.options.timeout)?;
        context.errors.check()?;
        let failed = |error: wgpu::MapRangeError| DeviceError::Internal {
            name: context.name().into(),
            reason: format!("a buffer cannot be read: {error}"),
        };
        values.extend_from_slice(&staging.get_mapped_range(0..size).map_err(failed)?);
        staging.unmap();
    }
    values.truncate(bytes);
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_values_decode_to_the_same_values() {
        let values = [1.5f32, -0.25, 70_000.0];
        let mut bytes = [0; 6];
        encode(Data::F32(&values), DType::F16, &mut bytes);
        assert_eq!(decode(&bytes, DType::F16), HostData::F32(vec![1.5, -0.25, f32::INFINITY]));
        let mut bytes = [0; 12];
        encode(Data::U32(&[1, 2, u32::MAX]), DType::U32, &mut bytes);
        assert_eq!(decode(&bytes, DType::U32), HostData::U32(vec![1, 2, u32::MAX]));
    }
}
