//! Errors of the driver: what arrives by callback is kept until someone asks.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use wgpu::{ErrorFilter, PollError, PollType};
use wgrad_program::DeviceError;

/// The first thing that went wrong on a device outside any call that could have reported it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    first: Arc<Mutex<Option<DeviceError>>>,
}

impl Faults {
    /// Listens to a device. Without a listener wgpu panics.
    pub fn watch(device: &wgpu::Device, name: &str) -> Self {
        let faults = Faults::default();
        let (to, name_of) = (faults.clone(), name.to_string());
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                to.put(DeviceError::Lost { name: name_of.clone(), reason: format!("{reason:?}: {message}") });
            }
        });
        let (to, name_of) = (faults.clone(), name.to_string());
        device
            .on_uncaptured_error(Arc::new(move |error| to.put(translated(&name_of, "a command", 0, error))));
        faults
    }

    fn put(&self, error: DeviceError) {
        tracing::debug!(%error, "device fault");
        if let Ok(mut first) = self.first.lock() {
            // A loss explains everything that came before it.
            if first.is_none() || matches!(error, DeviceError::Lost { .. }) {
                *first = Some(error);
            }
        }
    }

    /// The fault, if there was one. It stays: a device that failed once is not trusted again.
    pub fn check(&self) -> Result<(), DeviceError> {
        match self.first.lock() {
            Ok(first) => first.clone().map_or(Ok(()), Err),
            Err(_) => Ok(()),
        }
    }
}

/// Runs `work` and reports what goes wrong in it on this thread: memory, a kernel that was refused.
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
        Some(error) => Err(translated(name, what, needed, error)),
    }
}

fn translated(name: &str, what: &str, needed: u64, error: wgpu::Error) -> DeviceError {
    let name = name.to_string();
    match error {
        wgpu::Error::OutOfMemory { .. } => DeviceError::OutOfMemory { name, what: what.into(), needed },
        wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => {
            DeviceError::Internal { name, reason: format!("{what}: {description}") }
        }
    }
}

/// Waits for everything queued, or for one submission.
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
