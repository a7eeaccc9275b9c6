//! Whether a buffer that was handed to the host has arrived there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use wgpu::MapMode;
use wgrad_program::DeviceError;

use crate::device::Shared;

const PENDING: u8 = 0;
const ARRIVED: u8 = 1;
const FAILED: u8 = 2;

/// The state of a buffer's mapping. Can be used again for the next one.
#[derive(Debug, Default)]
pub(crate) struct Mapping {
    state: Arc<AtomicU8>,
}

impl Mapping {
    /// Hands the buffer to the host as soon as the device is done with it.
    pub fn begin(&self, buffer: &wgpu::Buffer, mode: MapMode) {
        self.state.store(PENDING, Ordering::Relaxed);
        let to = self.state.clone();
        buffer.map_async(mode, .., move |result| {
            to.store(if result.is_ok() { ARRIVED } else { FAILED }, Ordering::Release);
        });
    }

    /// Whether the host has it.
    ///
    /// # Errors
    /// The device's, where it cannot be mapped; else what `broken` makes of that.
    pub fn has_arrived(
        &self,
        shared: &Shared,
        broken: fn(&Shared, &str) -> DeviceError,
    ) -> Result<bool, DeviceError> {
        match self.state.load(Ordering::Acquire) {
            PENDING => Ok(false),
            FAILED => {
                shared.faults.check()?;
                Err(broken(shared, "it could not be mapped"))
            }
            _ => Ok(true),
        }
    }
}
