//! Errors of the driver. Errors that arrive by callback are stored until the next check.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use wgpu::{ErrorFilter, PollError, PollType};
use wgrad_program::DeviceError;

/// Stores the first device error that arrived by callback.
#[derive(Debug, Clone, Default)]
pub(crate) struct ErrorSink {
    first: Arc<Mutex<Option<DeviceError>>>,
}

impl ErrorSink {
    /// Installs error callbacks on a device. Without a callback wgpu panics.
    pub fn attach(device: &wgpu::Device, name: &str) -> Self {
        let sink = ErrorSink::default();
        let (to, device_name) = (sink.clone(), name.to_string());
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                to.record(DeviceError::Lost {
                    name: device_name.clone(),
                    reason: format!("{reason:?}: {message}"),
                });
            }
        });
        let (to, device_name) = (sink.clone(), name.to_string());
        device.on_uncaptured_error(Arc::new(move |error| {
            to.record(to_device_error(&device_name, "a command", 0, error))
        }));
        sink
    }

    fn record(&self, error: DeviceError) {
        tracing::debug!(%error, "device error");
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        // A lost device is the cause of all errors before it.
        if first.is_none() || matches!(error, DeviceError::Lost { .. }) {
            *first = Some(error);
        }
    }

    /// Returns the stored error, if any. The error is kept, because a device is not used again after a failure.
    pub fn check(&self) -> Result<(), DeviceError> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.clone().map_or(Ok(()), Err)
    }
}

/// Runs `work` and returns the first device error that it causes, such as out of memory or an invalid kernel.
pub(crate) fn scoped<T>(
    device: &wgpu::Device,
    name: &str,
    what: &str,
    needed: u64,
    work: impl FnOnce() -> T,
) -> Result<T, DeviceError> {
    let scopes = [ErrorFilter::Internal, ErrorFilter::OutOfMemory, ErrorFilter::Validation];
    let guards = scopes.map(|filter| device.push_error_scope(filter));
    let result = work();
    let mut first = None;
    for guard in guards.into_iter().rev() {
        let error = pollster::block_on(guard.pop());
        first = first.or(error);
    }
    match first {
        None => Ok(result),
        Some(error) => Err(to_device_error(name, what, needed, error)),
    }
}

fn to_device_error(name: &str, what: &str, needed: u64, error: wgpu::Error) -> DeviceError {
    let name = name.to_string();
    match error {
        wgpu::Error::OutOfMemory { .. } => DeviceError::OutOfMemory { name, what: what.into(), needed },
        wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => {
            DeviceError::Internal { name, reason: format!("{what}: {description}") }
        }
    }
}

/// Waits for one submission, or for all submissions if `submission` is `None`.
pub(crate) fn wait(
    device: &wgpu::Device,
    name: &str,
    submission: Option<wgpu::SubmissionIndex>,
    timeout: Duration,
) -> Result<(), DeviceError> {
    let name = || name.to_string();
    match device.poll(PollType::Wait { submission_index: submission, timeout: Some(timeout) }) {
        Ok(_) => Ok(()),
        Err(PollError::Timeout) => Err(DeviceError::Timeout { name: name(), seconds: timeout.as_secs() }),
        Err(error) => Err(DeviceError::Internal { name: name(), reason: error.to_string() }),
    }
}
