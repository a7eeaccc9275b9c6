//! TensorBoard event files with scalars of each step. Images, histograms and graphs are not supported.
//!
//! A file is a sequence of records in TensorFlow's `TFRecord` framing; all integers are little-endian:
//!
//! ```text
//! u64 length | u32 masked CRC-32C of the length | data | u32 masked CRC-32C of the data
//! ```
//!
//! The data of each record is one protobuf `Event`. This module encodes the fields below by hand:
//!
//! ```text
//! Event      { 1: double wall_time, 2: int64 step, one of 3: string file_version, 5: Summary, 7: SessionLog }
//! Summary    { 1: repeated Value }      Value { 1: string tag, 2: float simple_value }
//! SessionLog { 1: enum status }         START = 1
//! ```
//!
//! Sources: tensorflow/core/lib/io/record_writer.cc, lib/hash/crc32c.h, tensorboard/compat/proto/{event,summary}.proto.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use wgrad_stdx::ErrorKind;
use wgrad_stdx::file::Appender;

/// Error while writing an event file.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the event file {}: {source}", path.display())]
pub struct EventError {
    /// Path of the event file.
    pub path: PathBuf,
    /// Underlying I/O error.
    pub source: io::Error,
}

impl EventError {
    /// Returns the kind of the error, always [`ErrorKind::Storage`].
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Storage
    }
}

/// Writer that appends scalars to an event file of a run.
///
/// ```no_run
/// # use std::path::Path;
/// use wgrad_run::EventWriter;
///
/// let mut events = EventWriter::create(Path::new("runs/digits"))?;
/// events.scalars(1, &[("loss/train", 2.3), ("accuracy/train", 0.1)])?;
/// # Ok::<(), wgrad_run::tensorboard::EventError>(())
/// ```
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: Appender,
}

impl EventWriter {
    /// Creates a new event file in `directory`, which must exist.
    ///
    /// # Errors
    /// Returns [`EventError`] if the file cannot be created or written.
    pub fn create(directory: &Path) -> Result<Self, EventError> {
        let now = seconds_now();
        // TensorBoard reads every file with `tfevents` in its name, in the order of the names.
        let stem = format!("events.out.tfevents.{:010}.wgrad.{}", now as u64, std::process::id());
        let mut attempt = 0;
        let (path, file) = loop {
            let path = directory.join(format!("{stem}.{attempt}"));
            match Appender::create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => attempt += 1,
                Ok(file) => break (path, file),
                Err(source) => return Err(EventError { path, source }),
            }
        };
        let mut writer = Self { path, file };
        writer.append(&event(now, 0, &bytes_field(3, b"brain.Event:2")))?;
        Ok(writer)
    }

    /// Creates a new event file for a run that resumes after `step`.
    ///
    /// TensorBoard then discards values of later steps in earlier event files.
    ///
    /// # Errors
    /// Returns [`EventError`] if the file cannot be created or written.
    pub fn resume(directory: &Path, step: u64) -> Result<Self, EventError> {
        const START: u64 = 1;
        let mut writer = Self::create(directory)?;
        let log = bytes_field(7, &varint_field(1, START));
        writer.append(&event(seconds_now(), step + 1, &log))?;
        Ok(writer)
    }

    /// Appends the values of one step, each with a tag. TensorBoard groups tags by the prefix before `/`.
    ///
    /// # Errors
    /// Returns [`EventError`] if the file cannot be written; the file then ends with the previous record.
    pub fn scalars(&mut self, step: u64, scalars: &[(&str, f32)]) -> Result<(), EventError> {
        self.scalars_at(seconds_now(), step, scalars)
    }

    /// Appends the values of one step with a given wall time, in seconds since 1970.
    ///
    /// # Errors
    /// Returns [`EventError`] if the file cannot be written; the file then ends with the previous record.
    pub fn scalars_at(
        &mut self,
        wall_time: f64,
        step: u64,
        scalars: &[(&str, f32)],
    ) -> Result<(), EventError> {
        self.append(&event(wall_time, step, &bytes_field(5, &summary(scalars))))
    }

    /// Returns the path of the event file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until all records are stored on the disk.
    ///
    /// # Errors
    /// Returns [`EventError`] if syncing fails.
    pub fn sync(&self) -> Result<(), EventError> {
        self.file.sync().map_err(|source| EventError { path: self.path.clone(), source })
    }

    fn append(&mut self, event: &[u8]) -> Result<(), EventError> {
        self.file.append(&record(event)).map_err(|source| EventError { path: self.path.clone(), source })
    }
}

fn seconds_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Frames data as a `TFRecord`.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let checks = [masked_crc(&length).to_le_bytes(), masked_crc(data).to_le_bytes()];
    [&length[..], &checks[0], data, &checks[1]].concat()
}

/// Returns the masked CRC-32C of data: the CRC, rotated and added to a constant.
///
/// Without the mask, a CRC of data that contains CRCs would be weak.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Encodes an `Event` with a wall time, a step and one field that is already encoded.
fn event(wall_time: f64, step: u64, field: &[u8]) -> Vec<u8> {
    const DOUBLE: u8 = 1;
    let mut event = vec![1 << 3 | DOUBLE];
    event.extend(wall_time.to_le_bytes());
    event.extend(varint_field(2, step));
    event.extend(field);
    event
}

fn summary(scalars: &[(&str, f32)]) -> Vec<u8> {
    const FLOAT: u8 = 5;
    let mut summary = Vec::new();
    for (tag, scalar) in scalars {
        let mut value = bytes_field(1, tag.as_bytes());
        value.push(2 << 3 | FLOAT);
        value.extend(scalar.to_le_bytes());
        summary.extend(bytes_field(1, &value));
    }
    summary
}

fn varint_field(field: u8, value: u64) -> Vec<u8> {
    const VARINT: u8 = 0;
    let mut bytes = vec![field << 3 | VARINT];
    varint(value, &mut bytes);
    bytes
}

fn bytes_field(field: u8, data: &[u8]) -> Vec<u8> {
    const LENGTH_DELIMITED: u8 = 2;
    let mut bytes = vec![field << 3 | LENGTH_DELIMITED];
    varint(data.len() as u64, &mut bytes);
    bytes.extend(data);
    bytes
}

/// Appends a varint: seven bits per byte, least significant bits first. The top bit is set if more bytes follow.
fn varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}
