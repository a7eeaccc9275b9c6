//! A session: the state of a model in memory, and the programs that are compiled for this state.

use std::ops::Range;

use half::f16;
use wgrad_graph::{DType, GroupId, States, TensorType};
use wgrad_program::{
    Access, Buffer, Clock, Data, DeviceError, Dispatch, HostData, Kernel, Operand, Profile, Program,
    ProgramId, Readback, ReadbackHandler, Record, Session, Span, Stopwatch, TensorRef, check_f32_range,
};
use wgrad_stdx::{InternalError, never};

use crate::check::check;
use crate::compile::compile;
use crate::float::Float;
use crate::gemm::GemmKernel;
use crate::host::Host;
use crate::kernel::{KernelError, LoopKernel};
use crate::memory::{Memory, Tensor, pitch};

/// State and programs of a model on the CPU. Runs are synchronous: when a call returns, no work is in progress.
pub(crate) struct CpuSession<T> {
    host: Host,
    states: States,
    groups: Vec<Memory>,
    programs: Vec<LoadedProgram<T>>,
    /// Slabs with the intermediates, shared by all programs. Each slab has the size that the program with the largest
    /// slab needs.
    slabs: Vec<Memory>,
    /// Scratch memory for matrix products. Its size is the maximum over all kernels.
    scratch: Memory,
}

enum CompiledKernel<T> {
    Loop(Box<LoopKernel<T>>),
    Gemm(Box<GemmKernel<T>>),
}

struct LoadedKernel<T> {
    kernel: CompiledKernel<T>,
    tensors: Vec<Tensor>,
    /// Positions of the operands that are stored in slabs. Their addresses change when a slab is reallocated.
    scratch: Vec<SlabOperand>,
}

/// Position of an operand in a slab.
struct SlabOperand {
    operand: usize,
    slab: usize,
    /// Offset in bytes from the start of the allocated slab.
    offset: usize,
}

impl<T: Float> LoadedKernel<T> {
    /// Updates the addresses of the operands that are stored in slabs, after a slab was reallocated.
    fn bind(&mut self, slabs: &[Memory]) {
        for &SlabOperand { operand, slab, offset } in &self.scratch {
            self.tensors[operand].start = slabs[slab].start().wrapping_add(offset);
        }
    }

    /// Whether several threads share the work of one run of the kernel.
    fn is_shared(&self) -> bool {
        match &self.kernel {
            CompiledKernel::Loop(kernel) => kernel.is_shared(),
            CompiledKernel::Gemm(kernel) => kernel.is_shared(),
        }
    }
}

/// Address of the scratch memory of a session. It is sent to the thread that runs a program.
#[derive(Clone, Copy)]
struct Scratch(*mut u8);

// SAFETY: only the address moves; one thread at a time runs a program of the session.
unsafe impl Send for Scratch {}

/// Records the time of each dispatch of a profiled run.
struct DispatchTimer<'a> {
    watch: &'a Stopwatch,
    spans: &'a mut Vec<Span>,
}

/// An input or output of a program, which the host writes or reads.
struct HostTensor {
    name: String,
    ty: TensorType,
    tensor: Tensor,
}

struct LoadedProgram<T> {
    inputs: Vec<HostTensor>,
    outputs: Vec<HostTensor>,
    kernels: Vec<LoadedKernel<T>>,
    input_memory: Memory,
    output_memory: Memory,
    packs: Vec<Memory>,
    /// Numbers of the outputs that are single floats, among the outputs of the program.
    scalars: Vec<usize>,
    /// Values of the outputs in `scalars`, one group of values per run, for all runs since the last call of
    /// [`Session::records`].
    recorded_values: Vec<f32>,
    runs: u64,
    records_read: u64,
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

    fn program(&mut self, id: ProgramId) -> Result<&mut LoadedProgram<T>, DeviceError> {
        self.programs
            .get_mut(id.0)
            .ok_or_else(|| DeviceError::Usage(format!("program {} does not exist in the session", id.0)))
    }

    /// Checks the inputs of a run and copies them to the input memory of the program.
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
        for (input, data) in loaded.inputs.iter().zip(inputs) {
            // SAFETY: the tensor lies inside the inputs, and the length of the data was just checked.
            unsafe { write::<T>(input.tensor, *data) };
        }
        Ok(())
    }

    /// Enlarges the slabs if a program needs larger ones. Then updates the addresses in the loaded programs.
    fn grow(&mut self, program: &Program) -> Result<(), DeviceError> {
        let needed: Vec<usize> = program.slabs.iter().map(|&bytes| bytes * T::SCALE).collect();
        let allocated = |slab: usize| self.slabs.get(slab).map_or(0, Memory::bytes);
        let more: usize =
            needed.iter().enumerate().map(|(i, &bytes)| bytes.saturating_sub(allocated(i))).sum();
        let bytes = program.private_bytes() * T::SCALE + more;
        self.host.ensure_fits(bytes, "the program", &program.largest_tensors)?;
        if more == 0 {
            return Ok(());
        }
        for (slab, bytes) in needed.into_iter().enumerate() {
            if slab == self.slabs.len() {
                self.slabs.push(self.host.allocate(bytes, "the intermediates")?);
            } else if bytes > self.slabs[slab].bytes() {
                self.slabs[slab] = self.host.allocate(bytes, "the intermediates")?;
            }
            // Rebinds after each allocation, so that no program keeps an address of freed memory.
            let kernels = self.programs.iter_mut().flat_map(|program| &mut program.kernels);
            kernels.for_each(|kernel| kernel.bind(&self.slabs));
        }
        Ok(())
    }

    fn group(&self, id: GroupId) -> Result<(Tensor, usize), DeviceError> {
        let (Some(memory), Some(group)) = (self.groups.get(id.0), self.states.groups().get(id.0)) else {
            return Err(DeviceError::Usage(format!("group {} does not exist in the session", id.0)));
        };
        Ok((Tensor { start: memory.start(), dtype: group.dtype }, group.len()))
    }
}

impl<T: Float> Session for CpuSession<T> {
    fn load(&mut self, program: &Program) -> Result<ProgramId, DeviceError> {
        if program.states != self.states {
            return Err(DeviceError::Usage(
                "the states of the program differ from the states of the session".into(),
            ));
        }
        self.grow(program)?;
        let mut loaded = LoadedProgram::new(program, &self.host)?;
        let resolve = |all: Vec<(&String, &TensorType, &TensorRef)>, loaded: &LoadedProgram<T>| {
            let host_tensor = |(name, ty, tensor): (&String, &TensorType, &TensorRef)| {
                let tensor = self
                    .tensor(tensor, program, loaded)
                    .map_err(|why| self.host.invalid_kernel(name, why))?;
                Ok(HostTensor { name: name.clone(), ty: ty.clone(), tensor })
            };
            all.into_iter().map(host_tensor).collect::<Result<Vec<HostTensor>, DeviceError>>()
        };
        let inputs = resolve(program.inputs.iter().map(|x| (&x.name, &x.ty, &x.tensor)).collect(), &loaded)?;
        let outputs =
            resolve(program.outputs.iter().map(|x| (&x.name, &x.ty, &x.tensor)).collect(), &loaded)?;
        (loaded.inputs, loaded.outputs) = (inputs, outputs);
        loaded.scalars = (0..program.outputs.len()).filter(|&i| program.outputs[i].is_recorded()).collect();
        for dispatch in &program.dispatches {
            let loaded_kernel = self.compile_dispatch(dispatch, program, &loaded)?;
            if let CompiledKernel::Gemm(kernel) = &loaded_kernel.kernel
                && kernel.scratch_bytes() > self.scratch.bytes()
            {
                self.scratch = self.host.allocate(kernel.scratch_bytes(), &dispatch.name)?;
            }
            loaded.kernels.push(loaded_kernel);
        }
        self.programs.push(loaded);
        Ok(ProgramId(self.programs.len() - 1))
    }

    fn run(&mut self, program: ProgramId, inputs: &[Data<'_>]) -> Result<(), DeviceError> {
        self.upload(program, inputs)?;
        let scratch = Scratch(self.scratch.start());
        let loaded = self.program(program)?;
        loaded.run_kernels(0..loaded.kernels.len(), scratch, None)?;
        loaded.append_record()?;
        Ok(())
    }

    fn run_with_readbacks(
        &mut self,
        program: ProgramId,
        inputs: &[Data<'_>],
        readbacks: &[Readback],
        handler: &mut ReadbackHandler<'_>,
    ) -> Result<(), DeviceError> {
        let dispatches = self.program(program)?.kernels.len();
        Readback::check(readbacks, &self.states, dispatches).map_err(DeviceError::Usage)?;
        let part = |group: GroupId, start: usize| {
            let (tensor, _) = self.group(group)?;
            let start = tensor.start.wrapping_add(start * 4 * T::SCALE);
            Ok::<Tensor, DeviceError>(Tensor { start, dtype: tensor.dtype })
        };
        let tensors = readbacks.iter().map(|readback| {
            let start = readback.range.start;
            Ok((part(readback.group, start)?, readback.reply.map(|to| part(to, start)).transpose()?))
        });
        let tensors = tensors.collect::<Result<Vec<_>, DeviceError>>()?;
        self.upload(program, inputs)?;
        let scratch = Scratch(self.scratch.start());
        let loaded = self.program(program)?;
        let mut done = 0;
        for (i, (readback, (from, to))) in readbacks.iter().zip(tensors).enumerate() {
            loaded.run_kernels(done..readback.after, scratch, None)?;
            done = readback.after;
            // SAFETY: `Readback::check` proved that the elements lie inside the group.
            let reply = match unsafe { read::<T>(from, readback.range.len()) } {
                HostData::F32(values) => handler(i, &values),
                HostData::U32(_) => return Err(never!("readback {i} reads a u32 group").into()),
            };
            if let Some(to) = to {
                readback.check_reply(i, &reply).map_err(DeviceError::Usage)?;
                // SAFETY: `Readback::check` proved that the range lies inside the reply group, and the length was just
                // checked.
                unsafe { write::<T>(to, Data::F32(&reply)) };
            }
        }
        loaded.run_kernels(done..dispatches, scratch, None)?;
        loaded.append_record()?;
        Ok(())
    }

    fn profile(&mut self, program: ProgramId, inputs: &[Data<'_>]) -> Result<Profile, DeviceError> {
        let mut watch = Stopwatch::start();
        self.upload(program, inputs)?;
        watch.lap("upload");
        let scratch = Scratch(self.scratch.start());
        let loaded = self.program(program)?;
        let mut dispatches = Vec::with_capacity(loaded.kernels.len());
        let timer = DispatchTimer { watch: &watch, spans: &mut dispatches };
        loaded.run_kernels(0..loaded.kernels.len(), scratch, Some(timer))?;
        loaded.append_record()?;
        watch.lap("run");
        Ok(Profile { clock: Clock::Host, host: watch.laps(), dispatches })
    }

    fn output(&mut self, program: ProgramId, output: usize) -> Result<HostData, DeviceError> {
        let loaded = self.program(program)?;
        if loaded.runs == 0 {
            return Err(DeviceError::Usage("the program has not run yet, so it has no outputs".into()));
        }
        let found = loaded.outputs.get(output);
        let found = found
            .ok_or_else(|| DeviceError::Usage(format!("output {output} does not exist in the program")))?;
        // SAFETY: the tensor lies inside the outputs.
        Ok(unsafe { read::<T>(found.tensor, found.ty.shape.numel()) })
    }

    fn records(&mut self, program: ProgramId, _wait: bool) -> Result<Vec<Record>, DeviceError> {
        let loaded = self.program(program)?;
        let width = loaded.scalars.len();
        let record = |i: u64| {
            let at = i as usize * width;
            Record { run: loaded.records_read + i, values: loaded.recorded_values[at..at + width].to_vec() }
        };
        let records = (0..loaded.runs - loaded.records_read).map(record).collect();
        loaded.recorded_values.clear();
        loaded.records_read = loaded.runs;
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
        // SAFETY: the tensor is the whole group, and the length of the data was just checked.
        unsafe { write::<T>(tensor, data) };
        Ok(())
    }

    fn write_group_range(&mut self, group: GroupId, start: usize, values: &[f32]) -> Result<(), DeviceError> {
        let range = start..start.saturating_add(values.len());
        let writes = |error| DeviceError::Usage(format!("cannot write to {error}"));
        check_f32_range(&self.states, group, &range).map_err(writes)?;
        let (tensor, _) = self.group(group)?;
        let part = Tensor { start: tensor.start.wrapping_add(start * 4 * T::SCALE), dtype: tensor.dtype };
        // SAFETY: `check_f32_range` proved that the elements lie inside the group.
        unsafe { write::<T>(part, Data::F32(values)) };
        Ok(())
    }

    fn wait(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn allocated_bytes(&self) -> usize {
        let program_bytes = |program: &LoadedProgram<T>| {
            let packs = program.packs.iter().map(Memory::bytes).sum::<usize>();
            program.input_memory.bytes() + program.output_memory.bytes() + packs
        };
        let shared = self.groups.iter().chain(&self.slabs).map(Memory::bytes).sum::<usize>();
        shared + self.programs.iter().map(program_bytes).sum::<usize>()
    }
}

impl<T: Float> CpuSession<T> {
    /// Returns the address of a tensor of a program.
    ///
    /// # Errors
    /// Returns a message if the buffer does not exist, or if the tensor is misaligned or exceeds the buffer.
    fn tensor(
        &self,
        tensor: &TensorRef,
        program: &Program,
        loaded: &LoadedProgram<T>,
    ) -> Result<Tensor, String> {
        let memory = match tensor.buffer {
            Buffer::Inputs => Some(&loaded.input_memory),
            Buffer::Outputs => Some(&loaded.output_memory),
            Buffer::State(group) => self.groups.get(group.0),
            Buffer::Slab(i) => self.slabs.get(i),
            Buffer::Pack(i) => loaded.packs.get(i),
        };
        let memory = memory.ok_or_else(|| format!("buffer {:?} does not exist", tensor.buffer))?;
        let bytes = program.buffer_bytes(tensor.buffer);
        if tensor.offset.checked_add(tensor.bytes()).is_none_or(|end| end > bytes)
            || !tensor.offset.is_multiple_of(4)
        {
            return Err(format!(
                "a tensor of {} bytes at offset {} must be aligned to 4 bytes and inside a buffer of {bytes} bytes",
                tensor.bytes(),
                tensor.offset
            ));
        }
        Ok(Tensor { start: memory.start().wrapping_add(tensor.offset * T::SCALE), dtype: tensor.dtype })
    }

    fn compile_dispatch(
        &self,
        dispatch: &Dispatch,
        program: &Program,
        loaded: &LoadedProgram<T>,
    ) -> Result<LoadedKernel<T>, DeviceError> {
        let invalid_kernel = |why| self.host.invalid_kernel(&dispatch.name, why);
        check(dispatch).map_err(invalid_kernel)?;
        let tensors = dispatch.operands.iter().map(|operand| self.tensor(&operand.tensor, program, loaded));
        let mut tensors = tensors.collect::<Result<Vec<_>, _>>().map_err(invalid_kernel)?;
        let dtypes: Vec<DType> = dispatch.operands.iter().map(|operand| operand.tensor.dtype).collect();
        let access: Vec<Access> = dispatch.operands.iter().map(|operand| operand.access).collect();
        let kernel = match &dispatch.kernel {
            Kernel::Loop(kernel) => LoopKernel::new(compile(kernel, &dtypes, &access)?)
                .map(|kernel| CompiledKernel::Loop(Box::new(kernel))),
            Kernel::Gemm(kernel) => {
                GemmKernel::new(kernel, &dtypes, &access).map(|kernel| CompiledKernel::Gemm(Box::new(kernel)))
            }
        };
        let kernel = kernel.map_err(|error| match error {
            KernelError::OutOfMemory(bytes) => self.host.out_of_memory(&dispatch.name, bytes),
            KernelError::Internal(error) => error.into(),
        })?;
        if let CompiledKernel::Gemm(kernel) = &kernel {
            let unset = Tensor { start: std::ptr::null_mut(), dtype: DType::F32 };
            tensors.extend(std::iter::repeat_n(unset, kernel.scratch_tensors()));
        }
        let slab_operand = |(operand, of): (usize, &Operand)| match of.tensor.buffer {
            Buffer::Slab(slab) => Some(SlabOperand { operand, slab, offset: of.tensor.offset * T::SCALE }),
            _ => None,
        };
        let scratch = dispatch.operands.iter().enumerate().filter_map(slab_operand).collect();
        Ok(LoadedKernel { kernel, tensors, scratch })
    }
}

impl<T: Float> LoadedProgram<T> {
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
            recorded_values: Vec::new(),
            runs: 0,
            records_read: 0,
        })
    }

    fn check_inputs(&self, inputs: &[Data<'_>]) -> Result<(), DeviceError> {
        if inputs.len() != self.inputs.len() {
            let names =
                self.inputs.iter().map(|input| format!("`{}`", input.name)).collect::<Vec<_>>().join(", ");
            let (wanted, found) = (self.inputs.len(), inputs.len());
            return Err(DeviceError::Usage(format!(
                "the program takes {wanted} inputs ({names}); {found} were given"
            )));
        }
        for (input, data) in self.inputs.iter().zip(inputs) {
            data.check_type(&input.ty).map_err(|found| {
                let (name, ty, len) = (&input.name, &input.ty, input.ty.shape.numel());
                DeviceError::Usage(format!("input `{name}` takes {ty}, {len} values; {found} were given"))
            })?;
        }
        Ok(())
    }

    /// Runs the kernels in `range`. The thread pool is used only if at least one kernel is large enough.
    fn run_kernels(
        &mut self,
        range: Range<usize>,
        scratch: Scratch,
        timer: Option<DispatchTimer<'_>>,
    ) -> Result<(), InternalError> {
        let count = self.kernels.len();
        let kernels = self.kernels.get_mut(range.clone());
        let kernels = kernels
            .ok_or_else(|| never!("dispatches {range:?} are out of range; the program has {count}"))?;
        if rayon::current_num_threads() > 1 && kernels.iter().any(LoadedKernel::is_shared) {
            // The pool is entered once, because each kernel that enters the pool separately costs two context switches.
            rayon::scope(move |_| run_dispatches(kernels, scratch, timer));
        } else {
            run_dispatches(kernels, scratch, timer);
        }
        Ok(())
    }

    fn append_record(&mut self) -> Result<(), InternalError> {
        for &i in &self.scalars {
            let tensor = self.outputs[i].tensor;
            // SAFETY: the tensor lies inside the outputs and has one element.
            unsafe {
                match tensor.dtype {
                    DType::F32 => self.recorded_values.push((*tensor.start.cast::<T>()).to_f64() as f32),
                    DType::F16 => self.recorded_values.push((*tensor.start.cast::<f16>()).to_f32()),
                    DType::U32 => return Err(never!("output {i} is u32 but was chosen for the records")),
                }
            }
        }
        self.runs += 1;
        Ok(())
    }
}

/// Runs kernels one after the other. If there is a timer, records the time of each kernel.
fn run_dispatches<T: Float>(
    kernels: &mut [LoadedKernel<T>],
    scratch: Scratch,
    mut timer: Option<DispatchTimer<'_>>,
) {
    for loaded_kernel in kernels {
        let start_ns = timer.as_ref().map_or(0, |timer| timer.watch.now());
        // SAFETY: `load` has checked every dispatch against its tensors, whose memory the session owns; the session is
        // mutably borrowed for the run, so nothing else uses it.
        unsafe {
            match &mut loaded_kernel.kernel {
                CompiledKernel::Loop(kernel) => kernel.run(&loaded_kernel.tensors),
                CompiledKernel::Gemm(kernel) => kernel.run(&mut loaded_kernel.tensors, scratch.0),
            }
        }
        if let Some(DispatchTimer { watch, spans }) = &mut timer {
            spans.push(Span { start_ns, end_ns: watch.now() });
        }
    }
}

/// Writes values to a tensor and converts them to the stored type.
///
/// # Safety
/// The tensor has room for all values and the same element type (f16 tensors accept f32 values).
unsafe fn write<T: Float>(to: Tensor, data: Data<'_>) {
    let pitch = pitch::<T>(to.dtype);
    // SAFETY: the caller guarantees the number and type of the elements.
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

/// Reads the first `len` values of a tensor and converts them from the stored type.
///
/// # Safety
/// The tensor has at least `len` elements.
unsafe fn read<T: Float>(from: Tensor, len: usize) -> HostData {
    let pitch = pitch::<T>(from.dtype);
    // SAFETY: the caller guarantees the number of elements.
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
