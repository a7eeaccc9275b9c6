//! What a backend offers: devices, and sessions that hold a model's state and replay its programs.

use std::ops::Range;

use wgrad_graph::{DType, GroupId, States, TensorType};

use crate::ir::Program;
use crate::profile::Profile;

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// The CPU backend.
    Cpu,
    /// A GPU, or a software implementation of one, through wgpu.
    Gpu,
}

/// A device as `wgrad devices` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// CPU or GPU.
    pub kind: DeviceKind,
    /// Name, e.g. `NVIDIA GeForce RTX 4070`.
    pub name: String,
    /// API, e.g. `vulkan`; `rayon` for the CPU.
    pub backend: String,
    /// Driver and its version.
    pub driver: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `cpu`.
    pub class: &'static str,
    /// Names of the optional features in use, e.g. `shader-f16`.
    pub features: Vec<String>,
    /// What programs must stay within.
    pub limits: Limits,
}

/// What programs must stay within.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one buffer.
    pub buffer_bytes: u64,
    /// Bytes of one operand.
    pub operand_bytes: u64,
    /// Operands of one dispatch.
    pub operands: usize,
    /// Whether f16 can be stored.
    pub f16: bool,
}

impl Default for Limits {
    /// What every WebGPU device has.
    fn default() -> Self {
        Self { buffer_bytes: 256 << 20, operand_bytes: 128 << 20, operands: 8, f16: false }
    }
}

/// Values on their way to a device, without copying them first.
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

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the values have the kind and number of a type; else what they are.
    pub fn fits(&self, ty: &TensorType) -> Result<(), String> {
        let (kind, words) = match self {
            Data::F32(_) => ("f32", false),
            Data::U32(_) => ("u32", true),
        };
        if words == (ty.dtype == DType::U32) && self.len() == ty.shape.numel() {
            return Ok(());
        }
        Err(format!("{} {kind} values", self.len()))
    }
}

/// Values read back from a device. f16 and f64 come as f32.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum HostData {
    F32(Vec<f32>),
    U32(Vec<u32>),
}

impl HostData {
    /// The values as floats; words are converted.
    pub fn to_f32(&self) -> Vec<f32> {
        match self {
            HostData::F32(values) => values.clone(),
            HostData::U32(values) => values.iter().map(|&x| x as f32).collect(),
        }
    }

    /// A view for uploading.
    pub fn as_data(&self) -> Data<'_> {
        match self {
            HostData::F32(values) => Data::F32(values),
            HostData::U32(values) => Data::U32(values),
        }
    }
}

/// The scalar outputs of one run, as the ring on the device kept them.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Number of the run of this program, from 0.
    pub run: u64,
    /// The outputs that are single floats, in order of declaration.
    pub values: Vec<f32>,
}

/// Number of a program in its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProgramId(pub usize);

/// A part of a group of floats that the host wants while a run goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readback {
    /// The group; its elements are f32.
    pub group: GroupId,
    /// The elements.
    pub range: Range<usize>,
    /// How many dispatches of the program have to be done before. Readings that are given together ascend in this.
    pub after: usize,
    /// The group of floats whose elements `range` become what the host answers, before anything else of the run is computed.
    pub reply: Option<GroupId>,
}

/// What takes readings: given the number of one and its values, it says what the host answers. That of a reading without
/// [`Readback::reply`] is ignored.
pub type ReadbackHandler<'r> = dyn FnMut(usize, &[f32]) -> Vec<f32> + 'r;

impl Readback {
    /// Whether readings can be made during a run of `dispatches` of a session with this state; else which cannot, in words.
    pub fn check(readings: &[Readback], states: &States, dispatches: usize) -> Result<(), String> {
        let mut before = 0;
        for (i, Readback { group, range, after, reply }) in readings.iter().enumerate() {
            for (what, group) in [("is of", Some(group)), ("is answered in", reply.as_ref())] {
                let Some(group) = group else { continue };
                let Some(found) = states.groups().get(group.0) else {
                    let group = group.0;
                    return Err(format!("reading {i} {what} group {group}, which the session does not have"));
                };
                let (name, len, dtype) = (&found.name, found.len(), found.dtype);
                if dtype != DType::F32 {
                    return Err(format!("reading {i} {what} group `{name}`, which holds {dtype}, not f32"));
                }
                if range.start > range.end || range.end > len {
                    return Err(format!(
                        "reading {i} {what} elements {range:?} of group `{name}`, which has {len}"
                    ));
                }
            }
            if *after < before || *after > dispatches {
                return Err(format!(
                    "reading {i} comes after {after} dispatches, the one before it after {before} of {dispatches}"
                ));
            }
            before = *after;
        }
        Ok(())
    }

    /// Whether an answer has as many values as the reading; else what is wrong, in words.
    pub fn check_reply(&self, number: usize, answer: &[f32]) -> Result<(), String> {
        let (wanted, found) = (self.range.len(), answer.len());
        if wanted == found {
            Ok(())
        } else {
            Err(format!("reading {number} takes {wanted} values, not {found}"))
        }
    }
}

/// A device that can run programs.
pub trait Device {
    /// What it is.
    fn info(&self) -> &DeviceInfo;

    /// Allocates the state, all zero.
    fn session(&self, states: &States) -> Result<Box<dyn Session>, DeviceError>;
}

/// The state of a model on a device, and the programs that share it.
pub trait Session {
    /// Allocates and compiles a program. Its states must be those of the session. Its slabs are those of the programs loaded
    /// before, which grow where it needs larger ones: a run leaves nothing in them that another run needs.
    fn load(&mut self, program: &Program) -> Result<ProgramId, DeviceError>;

    /// Queues one run. `inputs` by slot; their number, types and lengths must be those of the program. Does not wait.
    fn run(&mut self, program: ProgramId, inputs: &[Data<'_>]) -> Result<(), DeviceError>;

    /// Queues one run, as [`Session::run`] does and to the same bits, and calls `each` with the number of a reading and its
    /// values as soon as the run has computed them, in the order of `readings`, while what comes after them goes on. What
    /// comes after a reading with a reply waits for that.
    fn run_with_readbacks(
        &mut self,
        program: ProgramId,
        inputs: &[Data<'_>],
        readings: &[Readback],
        each: &mut ReadbackHandler<'_>,
    ) -> Result<(), DeviceError>;

    /// Runs the program once, as [`Session::run`] does and to the same bits, waits for it, and says how long each dispatch
    /// took. Timing itself takes time, so a profiled run is slower than others. What was queued before is waited for first.
    fn profile(&mut self, program: ProgramId, inputs: &[Data<'_>]) -> Result<Profile, DeviceError>;

    /// Waits, and reads output number `output` of the last run.
    fn output(&mut self, program: ProgramId, output: usize) -> Result<HostData, DeviceError>;

    /// The records of runs since the last call, in order. Those still under way are left for later unless `wait`.
    fn records(&mut self, program: ProgramId, wait: bool) -> Result<Vec<Record>, DeviceError>;

    /// Waits, and reads a whole group, padding included.
    fn read_group(&mut self, group: GroupId) -> Result<HostData, DeviceError>;

    /// Writes a whole group, padding included (it must be zero).
    fn write_group(&mut self, group: GroupId, data: Data<'_>) -> Result<(), DeviceError>;

    /// Writes a part of a group of floats, from element `start` on.
    fn write_group_range(&mut self, group: GroupId, start: usize, values: &[f32]) -> Result<(), DeviceError>;

    /// Waits until everything queued is done.
    fn wait(&mut self) -> Result<(), DeviceError>;

    /// Bytes of device memory held for the state and the programs; what [`session_bytes`](crate::session_bytes) foretold.
    fn allocated_bytes(&self) -> usize;
}

/// What can go wrong on a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// There is no such device.
    #[error("there is no device {wanted}; found: {found}")]
    NotFound {
        /// What was asked for.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// The device went away: reset, unplugged, or its driver crashed.
    #[error("the device {name} was lost: {reason}")]
    Lost {
        /// Name of the device.
        name: String,
        /// What the driver said.
        reason: String,
    },
    /// Memory ran out.
    #[error("out of memory on {name}: {what} needs {needed} bytes")]
    OutOfMemory {
        /// Name of the device.
        name: String,
        /// What was being allocated.
        what: String,
        /// Bytes asked for.
        needed: u64,
    },
    /// The program cannot fit, known before anything was allocated.
    #[error("the model does not fit {name}: {reason}\nlargest tensors:\n{table}")]
    DoesNotFit {
        /// Name of the device.
        name: String,
        /// Which limit is broken and by how much.
        reason: String,
        /// The largest tensors, one a line.
        table: String,
    },
    /// The device did not finish in time.
    #[error("{name} did not finish within {seconds} s; a kernel may hang")]
    Timeout {
        /// Name of the device.
        name: String,
        /// Seconds waited.
        seconds: u64,
    },
    /// The device lacks something that the program needs.
    #[error("{name} cannot run this: {reason}")]
    Unsupported {
        /// Name of the device.
        name: String,
        /// What is missing.
        reason: String,
    },
    /// The caller broke the contract of the session: wrong number, type or length of inputs, foreign state.
    #[error("{0}")]
    Usage(String),
    /// The driver or the engine is wrong: a kernel was refused.
    #[error("{name} refused a kernel: {reason}")]
    Internal {
        /// Name of the device.
        name: String,
        /// What was said.
        reason: String,
    },
}
