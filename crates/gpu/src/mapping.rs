//! State of a buffer's asynchronous mapping.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use wgpu::MapMode;
use wgrad_program::DeviceError;

use crate::context::DeviceContext;

const PENDING: u8 = 0;
const MAPPED: u8 = 1;
const FAILED: u8 = 2;

/// State of a buffer's mapping. Can be reused for the next mapping.
#[derive(Debug, Default)]
pub(crate) struct Mapping {
    state: Arc<AtomicU8>,
}

impl Mapping {
    /// Requests the mapping, which completes when the device no longer uses the buffer.
    pub fn begin(&self, buffer: &wgpu::Buffer, mode: MapMode) {
        self.state.store(PENDING, Ordering::Relaxed);
        let state = self.state.clone();
        buffer.map_async(mode, .., move |result| {
            state.store(if result.is_ok() { MAPPED } else { FAILED }, Ordering::Release);
        });
    }

    /// Whether the buffer is mapped.
    ///
    /// # Errors
    /// Returns an error if the mapping failed: the error of the device if an error is stored, otherwise the result of
    /// `on_failure`.
    pub fn is_mapped(
        &self,
        context: &DeviceContext,
        on_failure: fn(&DeviceContext, &str) -> DeviceError,
    ) -> Result<bool, DeviceError> {
        match self.state.load(Ordering::Acquire) {
            PENDING => Ok(false),
            FAILED => {
                context.errors.check()?;
                Err(on_failure(context, "the mapping failed"))
            }
            _ => Ok(true),
        }
    }
}
