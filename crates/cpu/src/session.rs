//! A session: the state of a model in memory, and the programs compiled against it.

use std::ops::Range;

use half::f16;
use wgrad_graph::{DType, GroupId, States, TensorType};
use wgrad_program::{
    Access, Buffer, Clock, Data, DeviceError, Dispatch, HostData, Kernel, Operand, Profile, Program,
    ProgramId, ReadbackHandler, Readback, Record, Session, Span, Stopwatch, TensorRef,
};

use crate::check::check;
use crate::compile::compile;
use crate::device::Host;
use crate::float::Float;
use crate::gemm::GemmKernel;
use crate::kernel::LoopKernel;
use crate::memory::{Memory, Tensor, pitch};

/// State and programs. Runs happen in the call: nothing is ever under way.
pub(crate) struct CpuSession<T> {
    host: Host,
    states: States,
    groups: Vec<Memory>,
    programs: Vec<Loaded<T>>,
    /// Intermediates of whichever program runs; each as large as the largest program needs.
    slabs: Vec<Memory>,
    /// Products that have no other place; as large as the largest kernel needs.
    scratch: Memory,
}

enum Compiled<T> {
    Loop(Box<LoopKernel<T>>),
    Gemm(Box<GemmKernel<T>>),
}

struct Ready<T> {
    kernel: Compiled<T>,
    tensors: Vec<Tensor>,
    /// The tensors that lie in slabs.
    scratch: Vec<InSlab>,
}

/// Where an operand lies in a slab.
struct InSlab {
    operand: usize,
    slab: usize,
    /// Bytes of the session's memory.
    offset: usize,
}

impl<T: Float> Ready<T> {
    /// Points the operands that lie in slabs to where these are now.
    fn bind(&mut self, slabs: &[Memory]) {
        for &InSlab { operand, slab, offset } in &self.scratch {
            self.tensors[operand].start = slabs[slab].start().wrapping_add(offset);
        }
    }

    /// Whether threads share its work.
    fn is_shared(&self) -> bool {
        match &self.kernel {
            Compiled::Loop(kernel) => kernel.is_shared(),
            Compiled::Gemm(kernel) => kernel.is_shared(),
        }
    }
}

/// The address of the scratch memory, on its way to the thread that runs a program.
#[derive(Clone, Copy)]
struct Scratch(*mut u8);

// SAFETY: an address; one thread at a time runs a program of the session.
unsafe impl Send for Scratch {}

/// Where the times of a profiled run go.
struct Timed<'a> {
    watch: &'a Stopwatch,
    spans: &'a mut Vec<Span>,
}

/// A value of a program that the host reads or writes.
struct Port {
    name: String,
    ty: TensorType,
    tensor: Tensor,
}

struct Loaded<T> {
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    kernels: Vec<Ready<T>>,
    input_memory: Memory,
    output_memory: Memory,
    packs: Vec<Memory>,
    /// Outputs that are single floats.
    scalars: Vec<usize>,
    /// Their values in the runs since records were last read, one run after the other.
    pending: Vec<f32>,
    runs: u64,
    read: u64,
}

impl<T: Float> CpuSession<T> {
    pub fn new(host: Host, states: &States) -> Result<Self, DeviceError> {
        let bytes: usize = states.groups().iter().map(|group| group.bytes()).sum();
        host.ensure_fits(bytes * T::SCALE, "the state", &[])?;
        let group = |group: &wgrad_graph::Group| host.allocate(group.bytes() * T::SCALE, &group.name);
        let groups = states.groups().iter().map(group).collect::<Result<Vec<_>, _>>()?;
        let scratch = host.allocate(0, "scratch memory")?;
        Ok(Self { host, states: states.clone(), groups, programs: Vec::new(), slabs: Vec::new(), scratch })
    }

    fn program(&mut self, id: ProgramId) -> Result<&mut Loaded<T>, DeviceError> {
        self.programs
            .get_mut(id.0)
            .ok_or_else(|| DeviceError::Usage(format!("the session has no program {}", id.0)))
    }

    /// Checks the inputs of a run and writes them where its kernels find them.
    fn upload(&mut self, program: ProgramId, inputs: &[Data<'_>]) -> Result<(), DeviceError> {
        let poison = self.host.poison;
        if poison {
            self.slabs.iter_mut().for_each(|memory| memory.fill(0xFF));
        }
        let loaded = self.program(program)?;
        loaded.check_inputs(inputs)?;
        if poison {
            loaded.output_memory.fill(0xFF);
        }
        for (port, data) in loaded.inputs.iter().zip(inputs) {
            // SAFETY: the tensor lies inside the inputs, and its length was just checked.
            unsafe { write::<T>(port.tensor, *data) };
        }
        Ok(())
    }

    /// Makes the slabs as large as a program needs them, and points the programs that are loaded to them.
    fn grow(&mut self, program: &Program) -> Result<(), DeviceError> {
        let wanted: Vec<usize> = program.slabs.iter().map(|&bytes| bytes * T::SCALE).collect();
        let have = |slab: usize| self.slabs.get(slab).map_or(0, Memory::bytes);
        let more: usize = wanted.iter().enumerate().map(|(i, &bytes)| bytes.saturating_sub(have(i))).sum();
        let bytes = program.private_bytes() * T::SCALE + more;
        self.host.ensure_fits(bytes, "the program", &program.largest_tensors)?;
        if more == 0 {
            return Ok(());
        }
        for (slab, bytes) in wanted.into_iter().enumerate() {
            if slab == self.slabs.len() {
                self.slabs.push(self.host.allocate(bytes, "the intermediates")?);
            } else if bytes > self.slabs[slab].bytes() {
                self.slabs[slab] = self.host.allocate(bytes, "the intermediates")?;
            }
            // After each, so that no program ever points to memory that is gone.
            let kernels = self.programs.iter_mut().flat_map(|program| &mut program.kernels);
            kernels.for_each(|ready| ready.bind(&self.slabs));
        }
        Ok(())
    }

    fn group(&self, id: GroupId) -> Result<(Tensor, usize), DeviceError> {
        let (Some(memory), Some(group)) = (self.groups.get(id.0), self.states.groups().get(id.0)) else {
            return Err(DeviceError::Usage(format!("the session has no group {}", id.0)));
        };
        Ok((Tensor { start: memory.start(), dtype: group.dtype }, group.len()))
    }
}

impl<T: Float> Session for CpuSession<T> {
    fn load(&mut self, program: &Program) -> Result<ProgramId, DeviceError> {
        if program.states != self.states {
            return Err(DeviceError::Usage(
                "the program is for another state than that of the session".into(),
            ));
        }
        self.grow(program)?;
        let mut loaded = Loaded::new(program, &self.host)?;
        let ports = |all: Vec<(&String, &TensorType, &TensorRef)>, loaded: &Loaded<T>| {
            let port = |(name, ty, tensor): (&String, &TensorType, &TensorRef)| {
                let tensor =
                    self.tensor(tensor, program, loaded).map_err(|why| self.host.refuse(name, why))?;
                Ok(Port { name: name.clone(), ty: ty.clone(), tensor })
            };
            all.into_iter().map(port).collect::<Result<Vec<Port>, DeviceError>>()
        };
        let inputs = ports(program.inputs.iter().map(|x| (&x.name, &x.ty, &x.tensor)).collect(), &loaded)?;
        let outputs = ports(program.outputs.iter().map(|x| (&x.name, &x.ty, &x.tensor)).collect(), &loaded)?;
        (loaded.inputs, loaded.outputs) = (inputs, outputs);
        loaded.scalars = (0..program.outputs.len()).filter(|&i| program.outputs[i].is_recorded()).collect();
        for dispatch in &program.dispatches {
            let ready = self.ready(dispatch, program, &loaded)?;
            if let Compiled::Gemm(kernel) = &ready.kernel
                && kernel.scratch_bytes() > self.scratch.bytes()
            {
                self.scratch = self.host.allocate(kernel.scratch_bytes(), &dispatch.name)?;
            }
            loaded.kernels.push(ready);
        }
        self.programs.push(loaded);
        Ok(ProgramId(self.programs.len() - 1))
    }

    fn run(&mut self, program: ProgramId, inputs: &[Data<'_>]) -> Result<(), DeviceError> {
        self.upload(program, inputs)?;
        let scratch = Scratch(self.scratch.start());
        let loaded = self.program(program)?;
        loaded.go(0..loaded.kernels.len(), scratch, None);
        loaded.record();
        Ok(())
    }

    fn run_with_readbacks(
        &mut self,
        program: ProgramId,
        inputs: &[Data<'_>],
        readings: &[Readback],
        each: &mut ReadbackHandler<'_>,
    ) -> Result<(), DeviceError> {
        let dispatches = self.program(program)?.kernels.len();
        Readback::check(readings, &self.states, dispatches).map_err(DeviceError::Usage)?;
        let part = |group: GroupId, start: usize| {
            let (tensor, _) = self.group(group)?;
            Ok(Tensor { start: tensor.start.wrapping_add(start * 4 * T::SCALE), dtype: tensor.dtype })
        };
        let tensors = readings.iter().map(|reading| {
            let start = reading.range.start;
            Ok((part(reading.group, start)?, reading.reply.map(|to| part(to, start)).transpose()?))
        });
        let tensors = tensors.collect::<Result<Vec<_>, DeviceError>>()?;
        self.upload(program, inputs)?;
        let scratch = Scratch(self.scratch.start());
        let loaded = self.program(program)?;
        let mut done = 0;
        for (i, (reading, (from, to))) in readings.iter().zip(tensors).enumerate() {
            loaded.go(done..reading.after, scratch, None);
            done = reading.after;
            // SAFETY: the elements lie inside the group, which was just checked.
            let answer = match unsafe { read::<T>(from, reading.range.len()) } {
                HostData::F32(values) => each(i, &values),
                // The type was checked as well.
                HostData::U32(_) => Vec::new(),
            };
            if let Some(to) = to {
                reading.check_reply(i, &answer).map_err(DeviceError::Usage)?;
                // SAFETY: so was the group of the reply, and now the number of values.
                unsafe { write::<T>(to, Data::F32(&answer)) };
            }
        }
        loaded.go(done..dispatches, scratch, None);
        loaded.record();
        Ok(())
    }

    fn profile(&mut self, program: ProgramId, inputs: &[Data<'_>]) -> Result<Profile, DeviceError> {
        let mut watch = Stopwatch::start();
        self.upload(program, inputs)?;
        watch.lap("upload");
        let scratch = Scratch(self.scratch.start());
        let loaded = self.program(program)?;
        let mut dispatches = Vec::with_capacity(loaded.kernels.len());
        loaded.go(0..loaded.kernels.len(), scratch, Some(Timed { watch: &watch, spans: &mut dispatches }));
        loaded.record();
        watch.lap("run");
        Ok(Profile { clock: Clock::Host, host: watch.laps(), dispatches })
    }

    fn output(&mut self, program: ProgramId, output: usize) -> Result<HostData, DeviceError> {
        let loaded = self.program(program)?;
        if loaded.runs == 0 {
            return Err(DeviceError::Usage("the program has not run yet, so it has no outputs".into()));
        }
        let port = loaded.outputs.get(output);
        let port = port.ok_or_else(|| DeviceError::Usage(format!("the program has no output {output}")))?;
        // SAFETY: the tensor lies inside the outputs.
        Ok(unsafe { read::<T>(port.tensor, port.ty.shape.numel()) })
    }

    fn records(&mut self, program: ProgramId, _wait: bool) -> Result<Vec<Record>, DeviceError> {
        let loaded = self.program(program)?;
        let width = loaded.scalars.len();
        let record = |i: u64| {
            let at = i as usize * width;
            Record { run: loaded.read + i, values: loaded.pending[at..at + width].to_vec() }
        };
        let records = (0..loaded.runs - loaded.read).map(record).collect();
        loaded.pending.clear();
        loaded.read = loaded.runs;
        Ok(records)
    }

    fn read_group(&mut self, group: GroupId) -> Result<HostData, DeviceError> {
        let (tensor, len) = self.group(group)?;
        // SAFETY: the tensor is the whole group.
        Ok(unsafe { read::<T>(tensor, len) })
    }

    fn write_group(&mut self, group: GroupId, data: Data<'_>) -> Result<(), DeviceError> {
        let (tensor, len) = self.group(group)?;
        let name = &self.states.get(group).name;
        let wanted = TensorType::new(tensor.dtype, [len]);
        data.check_type(&wanted).map_err(|found| {
            DeviceError::Usage(format!("group `{name}` takes {wanted}, {len} values; {found} were given"))
        })?;
        // SAFETY: the tensor is the whole group, and the length was just checked.
        unsafe { write::<T>(tensor, data) };
        Ok(())
    }

    fn write_group_range(&mut self, group: GroupId, start: usize, values: &[f32]) -> Result<(), DeviceError> {
        let range = start..start.saturating_add(values.len());
        let part = Readback { group, range, after: 0, reply: None };
        Readback::check(&[part], &self.states, 0).map_err(DeviceError::Usage)?;
        let (tensor, _) = self.group(group)?;
        let part = Tensor { start: tensor.start.wrapping_add(start * 4 * T::SCALE), dtype: tensor.dtype };
        // SAFETY: the elements lie inside the group, which was just checked.
        unsafe { write::<T>(part, Data::F32(values)) };
        Ok(())
    }

    fn wait(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn allocated_bytes(&self) -> usize {
        let own = |program: &Loaded<T>| {
            let packs = program.packs.iter().map(Memory::bytes).sum::<usize>();
            program.input_memory.bytes() + program.output_memory.bytes() + packs
        };
        let shared = self.groups.iter().chain(&self.slabs).map(Memory::bytes).sum::<usize>();
        shared + self.programs.iter().map(own).sum::<usize>()
    }
}

impl<T: Float> CpuSession<T> {
    /// The address of a tensor, or why it does not lie inside its buffer.
    fn tensor(&self, tensor: &TensorRef, program: &Program, loaded: &Loaded<T>) -> Result<Tensor, String> {
        let memory = match tensor.buffer {
            Buffer::Inputs => Some(&loaded.input_memory),
            Buffer::Outputs => Some(&loaded.output_memory),
            Buffer::State(group) => self.groups.get(group.0),
            Buffer::Slab(i) => self.slabs.get(i),
            Buffer::Pack(i) => loaded.packs.get(i),
        };
        let memory = memory.ok_or_else(|| format!("there is no buffer {:?}", tensor.buffer))?;
        let bytes = program.buffer_bytes(tensor.buffer);
        if tensor.offset.checked_add(tensor.bytes()).is_none_or(|end| end > bytes)
            || !tensor.offset.is_multiple_of(4)
        {
            return Err(format!("a tensor lies at {}..+{} of {bytes} bytes", tensor.offset, tensor.bytes()));
        }
        Ok(Tensor { start: memory.start().wrapping_add(tensor.offset * T::SCALE), dtype: tensor.dtype })
    }

    fn ready(
        &self,
        dispatch: &Dispatch,
        program: &Program,
        loaded: &Loaded<T>,
    ) -> Result<Ready<T>, DeviceError> {
        let refuse = |why| self.host.refuse(&dispatch.name, why);
        check(dispatch).map_err(refuse)?;
        let tensors = dispatch.operands.iter().map(|operand| self.tensor(&operand.tensor, program, loaded));
        let mut tensors = tensors.collect::<Result<Vec<_>, _>>().map_err(refuse)?;
        let dtypes: Vec<DType> = dispatch.operands.iter().map(|operand| operand.tensor.dtype).collect();
        let access: Vec<Access> = dispatch.operands.iter().map(|operand| operand.access).collect();
        let kernel = match &dispatch.kernel {
            Kernel::Loop(kernel) => LoopKernel::new(compile(kernel, &dtypes, &access))
                .map(|kernel| Compiled::Loop(Box::new(kernel))),
            Kernel::Gemm(kernel) => {
                GemmKernel::new(kernel, &dtypes, &access).map(|kernel| Compiled::Gemm(Box::new(kernel)))
            }
        };
        let kernel = kernel.ok_or_else(|| self.host.out_of_memory(&dispatch.name, 0))?;
        if let Compiled::Gemm(kernel) = &kernel {
            let none = Tensor { start: std::ptr::null_mut(), dtype: DType::F32 };
            tensors.extend(std::iter::repeat_n(none, kernel.scratch_tensors()));
        }
        let in_slab = |(operand, of): (usize, &Operand)| match of.tensor.buffer {
            Buffer::Slab(slab) => Some(InSlab { operand, slab, offset: of.tensor.offset * T::SCALE }),
            _ => None,
        };
        let scratch = dispatch.operands.iter().enumerate().filter_map(in_slab).collect();
        Ok(Ready { kernel, tensors, scratch })
    }
}

impl<T: Float> Loaded<T> {
    fn new(program: &Program, host: &Host) -> Result<Self, DeviceError> {
        let memory = |bytes: usize, what: &str| host.allocate(bytes * T::SCALE, what);
        let memories = |all: &[usize], what: &str| {
            all.iter().map(|&bytes| memory(bytes, what)).collect::<Result<_, _>>()
        };
        Ok(Self {
            inputs: Vec::new(),
            outputs: Vec::new(),
            kernels: Vec::new(),
            input_memory: memory(program.input_bytes, "the inputs")?,
            output_memory: memory(program.output_bytes, "the outputs")?,
            packs: memories(&program.packs, "the packed gradients")?,
            scalars: Vec::new(),
            pending: Vec::new(),
            runs: 0,
            read: 0,
        })
    }

    fn check_inputs(&self, inputs: &[Data<'_>]) -> Result<(), DeviceError> {
        if inputs.len() != self.inputs.len() {
            let names =
                self.inputs.iter().map(|port| format!("`{}`", port.name)).collect::<Vec<_>>().join(", ");
            let (wanted, found) = (self.inputs.len(), inputs.len());
            return Err(DeviceError::Usage(format!(
                "the program takes {wanted} inputs ({names}); {found} were given"
            )));
        }
        for (port, data) in self.inputs.iter().zip(inputs) {
            data.check_type(&port.ty).map_err(|found| {
                let (name, ty, len) = (&port.name, &port.ty, port.ty.shape.numel());
                DeviceError::Usage(format!("input `{name}` takes {ty}, {len} values; {found} were given"))
            })?;
        }
        Ok(())
    }

    /// Runs some kernels, on the threads of the pool where there is work for them.
    fn go(&mut self, kernels: Range<usize>, scratch: Scratch, timed: Option<Timed<'_>>) {
        let kernels = self.kernels.get_mut(kernels).unwrap_or_default();
        if rayon::current_num_threads() > 1 && kernels.iter().any(Ready::is_shared) {
            // From inside the pool, once: each kernel that entered it by itself would cost two context switches.
            rayon::scope(move |_| dispatch(kernels, scratch, timed));
        } else {
            dispatch(kernels, scratch, timed);
        }
    }

    fn record(&mut self) {
        for &i in &self.scalars {
            let tensor = self.outputs[i].tensor;
            // SAFETY: the tensor lies inside the outputs and has one element.
            unsafe {
                match tensor.dtype {
                    DType::F32 => self.pending.push((*tensor.start.cast::<T>()).to_f64() as f32),
                    DType::F16 => self.pending.push((*tensor.start.cast::<f16>()).to_f32()),
                    // Words are not recorded.
                    DType::U32 => {}
                }
            }
        }
        self.runs += 1;
    }
}

/// Runs kernels one after the other.
fn dispatch<T: Float>(kernels: &mut [Ready<T>], scratch: Scratch, mut timed: Option<Timed<'_>>) {
    for ready in kernels {
        let start_ns = timed.as_ref().map_or(0, |timed| timed.watch.now());
        // SAFETY: `load` has checked every dispatch against its tensors, whose memory the session holds; the session
        // is borrowed mutably for the run, so nothing else uses it.
        unsafe {
            match &mut ready.kernel {
                Compiled::Loop(kernel) => kernel.run(&ready.tensors),
                Compiled::Gemm(kernel) => kernel.run(&mut ready.tensors, scratch.0),
            }
        }
        if let Some(Timed { watch, spans }) = &mut timed {
            spans.push(Span { start_ns, end_ns: watch.now() });
        }
    }
}

/// # Safety
/// The tensor has as many elements as there are values, of their kind.
unsafe fn write<T: Float>(to: Tensor, data: Data<'_>) {
    let pitch = pitch::<T>(to.dtype);
    // SAFETY: the caller vouches for it.
    unsafe {
        match (data, to.dtype) {
            (Data::F32(values), DType::F16) => {
                let to = to.start.cast::<f16>();
                values.iter().enumerate().for_each(|(i, &x)| *to.add(i * pitch) = f16::from_f32(x));
            }
            (Data::F32(values), _) => {
                let to = std::slice::from_raw_parts_mut(to.start.cast::<T>(), values.len());
                to.iter_mut().zip(values).for_each(|(to, &x)| *to = T::from_f64(f64::from(x)));
            }
            (Data::U32(values), _) => {
                let to = to.start.cast::<u32>();
                values.iter().enumerate().for_each(|(i, &x)| *to.add(i * pitch) = x);
            }
        }
    }
}

/// # Safety
/// The tensor has at least `len` elements.
unsafe fn read<T: Float>(from: Tensor, len: usize) -> HostData {
    let pitch = pitch::<T>(from.dtype);
    // SAFETY: the caller vouches for it.
    unsafe {
        match from.dtype {
            DType::F32 => {
                let from = std::slice::from_raw_parts(from.start.cast::<T>(), len);
                HostData::F32(from.iter().map(|x| x.to_f64() as f32).collect())
            }
            DType::F16 => {
                let from = from.start.cast::<f16>();
                HostData::F32((0..len).map(|i| (*from.add(i * pitch)).to_f32()).collect())
            }
            DType::U32 => {
                let from = from.start.cast::<u32>();
                HostData::U32((0..len).map(|i| *from.add(i * pitch)).collect())
            }
        }
    }
}
