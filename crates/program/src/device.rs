//! The interface of a backend: devices, and sessions that hold a model's state and replay its programs.

use std::ops::Range;

use wgrad_graph::{DType, GroupId, States, TensorType};
use wgrad_stdx::{ErrorKind, InternalError};

use crate::ir::Program;
use crate::profile::Profile;

/// Kind of a device: the CPU or a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// The CPU backend.
    Cpu,
    /// A GPU, or a software implementation of one, through wgpu.
    Gpu,
}

/// Description of a device, as `wgrad devices` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// CPU or GPU.
    pub kind: DeviceKind,
    /// Name of the device, e.g. `NVIDIA GeForce RTX 4070`.
    pub name: String,
    /// Graphics API, e.g. `vulkan`; `rayon` for the CPU.
    pub backend: String,
    /// Name and version of the driver.
    pub driver: String,
    /// Device class: `discrete`, `integrated`, `virtual`, `software` or `cpu`.
    pub class: &'static str,
    /// Names of the optional features in use, e.g. `shader-f16`.
    pub features: Vec<String>,
    /// Limits of programs on the device.
    pub limits: Limits,
}

/// Limits of programs on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Maximum bytes of a buffer.
    pub buffer_bytes: u64,
    /// Maximum bytes of an operand.
    pub operand_bytes: u64,
    /// Maximum number of operands of a dispatch.
    pub operands: usize,
    /// Whether the device has f16 storage.
    pub f16: bool,
}

impl Default for Limits {
    /// The limits that every WebGPU device meets.
    fn default() -> Self {
        Self { buffer_bytes: 256 << 20, operand_bytes: 128 << 20, operands: 8, f16: false }
    }
}

/// Borrowed values for an upload.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub enum Data<'a> {
    F32(&'a [f32]),
    U32(&'a [u32]),
}

impl Data<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Data::F32(values) => values.len(),
            Data::U32(values) => values.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks that the values match the element type and number of elements of `ty`. f32 values also match f16.
    ///
    /// # Errors
    /// Returns a description of the values, e.g. "3 f32 values", if the values do not match.
    pub fn check_type(&self, ty: &TensorType) -> Result<(), String> {
        let (kind, is_u32) = match self {
            Data::F32(_) => ("f32", false),
            Data::U32(_) => ("u32", true),
        };
        if is_u32 == (ty.dtype == DType::U32) && self.len() == ty.shape.numel() {
            return Ok(());
        }
        Err(format!("{} {kind} values", self.len()))
    }
}

/// Values read from a device. f16 and f64 elements are converted to f32.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum HostData {
    F32(Vec<f32>),
    U32(Vec<u32>),
}

impl HostData {
    /// Returns the values as f32; u32 values are converted.
    pub fn to_f32(&self) -> Vec<f32> {
        match self {
            HostData::F32(values) => values.clone(),
            HostData::U32(values) => values.iter().map(|&x| x as f32).collect(),
        }
    }

    /// Borrows the values for an upload.
    pub fn as_data(&self) -> Data<'_> {
        match self {
            HostData::F32(values) => Data::F32(values),
            HostData::U32(values) => Data::U32(values),
        }
    }
}

/// Scalar outputs of one run, as recorded by the ring buffer on the device.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Number of the run, counted from 0 for each program.
    pub run: u64,
    /// The scalar float outputs, in order of declaration.
    pub values: Vec<f32>,
}

/// Position of a program in its session, in the order of [`Session::load`] calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProgramId(pub usize);

/// A range of an f32 group that the host reads during a run, optionally with a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readback {
    /// The group; its elements are f32.
    pub group: GroupId,
    /// The elements to read.
    pub range: Range<usize>,
    /// Number of dispatches of the program that run before the readback. Must not decrease within a list of readbacks.
    pub after: usize,
    /// The f32 group to which the host's reply is written, at `range`, before the run continues. `None` if the readback
    /// has no reply.
    pub reply: Option<GroupId>,
}

/// Function that handles readbacks: takes the number of a readback and its values, and returns the reply. The reply is
/// ignored if [`Readback::reply`] is `None`.
pub type ReadbackHandler<'r> = dyn FnMut(usize, &[f32]) -> Vec<f32> + 'r;

impl Readback {
    /// Checks readbacks against a session with this state and a program with this number of dispatches.
    ///
    /// # Errors
    /// Returns a message if a group does not exist or is not f32, if a range exceeds its group, or if the readbacks are
    /// not in order or come after the last dispatch.
    pub fn check(readbacks: &[Readback], states: &States, dispatches: usize) -> Result<(), String> {
        let mut before = 0;
        for (i, Readback { group, range, after, reply }) in readbacks.iter().enumerate() {
            for (verb, group) in [("reads", Some(group)), ("replies to", reply.as_ref())] {
                let Some(group) = group else { continue };
                check_f32_range(states, *group, range)
                    .map_err(|error| format!("readback {i} {verb} {error}"))?;
            }
            if *after < before || *after > dispatches {
                return Err(format!(
                    "readback {i} is placed after {after} dispatches; expected at least {before}, the position of the \
                    previous readback, and at most {dispatches}, the number of dispatches"
                ));
            }
            before = *after;
        }
        Ok(())
    }

    /// Checks the number of values of a reply.
    ///
    /// # Errors
    /// Returns a message if the reply does not have one value for each element read.
    pub fn check_reply(&self, number: usize, reply: &[f32]) -> Result<(), String> {
        let (wanted, found) = (self.range.len(), reply.len());
        if wanted == found {
            Ok(())
        } else {
            Err(format!("the reply to readback {number} must have {wanted} values; found {found}"))
        }
    }
}

/// Checks that a session with this state has a range of an f32 group.
///
/// # Errors
/// Returns a message that starts with the group or range if the group does not exist or is not f32, or if the range
/// exceeds the group.
pub fn check_f32_range(states: &States, group: GroupId, range: &Range<usize>) -> Result<(), String> {
    let Some(found) = states.groups().get(group.0) else {
        return Err(format!("group {}, which the session does not have", group.0));
    };
    let (name, len, dtype) = (&found.name, found.len(), found.dtype);
    if dtype != DType::F32 {
        return Err(format!("group `{name}`, which holds {dtype}, not f32"));
    }
    if range.start > range.end || range.end > len {
        return Err(format!("elements {range:?} of group `{name}`, which has {len} elements"));
    }
    Ok(())
}

/// A device that can run programs.
pub trait Device {
    /// Description of the device.
    fn info(&self) -> &DeviceInfo;

    /// Creates a session and allocates its state, all zero.
    ///
    /// # Errors
    /// Returns [`DeviceError::DoesNotFit`] or [`DeviceError::OutOfMemory`] if there is not enough memory for the state,
    /// [`DeviceError::Unsupported`] if a group needs an element type that the device lacks, and [`DeviceError::Lost`]
    /// if the device was lost.
    fn session(&self, states: &States) -> Result<Box<dyn Session>, DeviceError>;
}

/// The state of a model on a device, and the programs that use it.
pub trait Session {
    /// Allocates and compiles a program. The states of the program must equal the states of the session. All programs
    /// of a session share their slabs, which grow if this program needs larger slabs. No run reads slab contents of an
    /// earlier run.
    ///
    /// # Errors
    /// Returns [`DeviceError::Usage`] if the program belongs to another state, [`DeviceError::DoesNotFit`] or
    /// [`DeviceError::OutOfMemory`] if there is not enough memory, [`DeviceError::Unsupported`] if the device lacks a
    /// feature that the program needs, and [`DeviceError::Internal`] if a kernel is invalid or its compilation fails.
    fn load(&mut self, program: &Program) -> Result<ProgramId, DeviceError>;

    /// Queues one run and returns without waiting for it. `inputs` are in order of slot.
    ///
    /// # Errors
    /// Returns [`DeviceError::Usage`] if the program does not exist or if the number, element types or lengths of the
    /// inputs differ from those of the program, and [`DeviceError::Lost`], [`DeviceError::OutOfMemory`] or
    /// [`DeviceError::Timeout`] if the device fails, possibly in an earlier run.
    fn run(&mut self, program: ProgramId, inputs: &[Data<'_>]) -> Result<(), DeviceError>;

    /// Queues one run with bit-identical results to [`Session::run`], and calls `handler` with the number and values of
    /// each readback, in order, as soon as the run has computed the values. Dispatches after a readback without a reply
    /// run concurrently with its handler. Dispatches after a readback with a reply wait for the reply.
    ///
    /// # Errors
    /// Returns the errors of [`Session::run`], and [`DeviceError::Usage`] if the readbacks fail [`Readback::check`] or
    /// a reply fails [`Readback::check_reply`].
    fn run_with_readbacks(
        &mut self,
        program: ProgramId,
        inputs: &[Data<'_>],
        readbacks: &[Readback],
        handler: &mut ReadbackHandler<'_>,
    ) -> Result<(), DeviceError>;

    /// Waits for earlier work, runs the program once with bit-identical results to [`Session::run`], and returns the
    /// time of each dispatch when the run is complete. Measuring takes time, so a profiled run is slower than a normal
    /// run.
    ///
    /// # Errors
    /// Returns the errors of [`Session::run`].
    fn profile(&mut self, program: ProgramId, inputs: &[Data<'_>]) -> Result<Profile, DeviceError>;

    /// Waits for the last run of the program, and reads its output number `output`.
    ///
    /// # Errors
    /// Returns [`DeviceError::Usage`] if the program or the output does not exist or the program has not run, and
    /// [`DeviceError::Lost`] or [`DeviceError::Timeout`] if the device fails.
    fn output(&mut self, program: ProgramId, output: usize) -> Result<HostData, DeviceError>;

    /// Returns the records of the runs since the last call, in order. Runs in progress are omitted unless `wait` is
    /// set.
    ///
    /// # Errors
    /// Returns [`DeviceError::Usage`] if the program does not exist, and [`DeviceError::Lost`] or
    /// [`DeviceError::Timeout`] if the device fails.
    fn records(&mut self, program: ProgramId, wait: bool) -> Result<Vec<Record>, DeviceError>;

    /// Waits for all queued work, and reads a whole group, padding included.
    ///
    /// # Errors
    /// Returns [`DeviceError::Usage`] if the group does not exist, and [`DeviceError::Lost`] or
    /// [`DeviceError::Timeout`] if the device fails.
    fn read_group(&mut self, group: GroupId) -> Result<HostData, DeviceError>;

    /// Writes a whole group, padding included. The padding must be zero.
    ///
    /// # Errors
    /// Returns [`DeviceError::Usage`] if the group does not exist or if the data have a different element type or
    /// length, and [`DeviceError::Lost`] if the device fails.
    fn write_group(&mut self, group: GroupId, data: Data<'_>) -> Result<(), DeviceError>;

    /// Writes a range of an f32 group, starting at element `start`.
    ///
    /// # Errors
    /// Returns [`DeviceError::Usage`] if the group does not exist, is not f32 or is exceeded by the range, and
    /// [`DeviceError::Lost`] if the device fails.
    fn write_group_range(&mut self, group: GroupId, start: usize, values: &[f32]) -> Result<(), DeviceError>;

    /// Waits until all queued work is done.
    ///
    /// # Errors
    /// Returns [`DeviceError::Lost`] or [`DeviceError::Timeout`] if the device fails.
    fn wait(&mut self) -> Result<(), DeviceError>;

    /// Bytes of device memory allocated for the state and the programs, as predicted by
    /// [`session_bytes`](crate::session_bytes).
    fn allocated_bytes(&self) -> usize;
}

/// An error of a device or a session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// No device matches the request.
    #[error("device `{wanted}` does not exist; found: {found}")]
    NotFound {
        /// The requested device.
        wanted: String,
        /// The devices found.
        found: String,
    },
    /// The device was lost: reset, unplugged, or its driver crashed.
    #[error("device {name} was lost: {reason}")]
    Lost {
        /// Name of the device.
        name: String,
        /// Reason given by the driver.
        reason: String,
    },
    /// An allocation failed.
    #[error("{name} is out of memory: {what} needs {needed} bytes")]
    OutOfMemory {
        /// Name of the device.
        name: String,
        /// The object that was being allocated.
        what: String,
        /// Bytes requested.
        needed: u64,
    },
    /// The program does not fit in the memory of the device. Detected before anything is allocated.
    #[error("the model does not fit on {name}: {reason}\nlargest tensors:\n{table}")]
    DoesNotFit {
        /// Name of the device.
        name: String,
        /// The exceeded limit, the required bytes and the available bytes.
        reason: String,
        /// The largest tensors, one per line.
        table: String,
    },
    /// The device did not finish in time.
    #[error("{name} did not finish within {seconds} s; a kernel may have hung")]
    Timeout {
        /// Name of the device.
        name: String,
        /// Timeout in seconds.
        seconds: u64,
    },
    /// The device lacks a feature that the program needs.
    #[error("{name} does not support the program: {reason}")]
    Unsupported {
        /// Name of the device.
        name: String,
        /// The missing feature.
        reason: String,
    },
    /// The caller broke the contract of the session: wrong number, type or length of inputs, or a program that was
    /// compiled for another state.
    #[error("{0}")]
    Usage(String),
    /// The device or its driver rejected a kernel or a command. This indicates a bug in the driver or in wgrad.
    #[error("{name} rejected a kernel: {reason}")]
    Internal {
        /// Name of the device.
        name: String,
        /// Reason reported by the device or by the validation of the program.
        reason: String,
    },
    /// An internal invariant of wgrad is broken.
    #[error(transparent)]
    Invariant(#[from] InternalError),
}

impl DeviceError {
    /// Returns the category of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            DeviceError::NotFound { .. }
            | DeviceError::Lost { .. }
            | DeviceError::OutOfMemory { .. }
            | DeviceError::DoesNotFit { .. }
            | DeviceError::Timeout { .. }
            | DeviceError::Unsupported { .. } => ErrorKind::Device,
            DeviceError::Usage(_) => ErrorKind::Usage,
            DeviceError::Internal { .. } | DeviceError::Invariant(_) => ErrorKind::Internal,
        }
    }
}
