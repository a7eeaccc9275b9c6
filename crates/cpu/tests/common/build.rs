//! Test programs that are built without the planner: consecutive tensors, dispatches in order, and a run on a device.

use wgrad_cpu::{CpuDevice, Options, Precision};
use wgrad_graph::{ALIGN, DType, GroupId, Layout, TensorType};
use wgrad_program::*;

/// A test program, with the values of its inputs and of its state.
#[derive(Default, Clone)]
pub struct Case {
    pub program: Program,
    pub inputs: Vec<HostData>,
    pub state: Vec<HostData>,
}

fn aligned(bytes: &mut usize, buffer: Buffer, dtype: DType, elements: usize) -> TensorRef {
    let tensor = TensorRef { buffer, offset: *bytes, elements, dtype };
    *bytes += tensor.bytes().next_multiple_of(ALIGN);
    tensor
}

impl Case {
    pub fn input(&mut self, dtype: DType, values: HostData) -> TensorRef {
        let n = values.as_data().len();
        let tensor = aligned(&mut self.program.input_bytes, Buffer::Inputs, dtype, n);
        let name = format!("in{}", self.inputs.len());
        self.program.inputs.push(ProgramInput {
            name,
            ty: TensorType::new(dtype, [n]),
            tensor: tensor.clone(),
        });
        self.inputs.push(values);
        tensor
    }

    pub fn output(&mut self, dtype: DType, elements: usize) -> TensorRef {
        let tensor = aligned(&mut self.program.output_bytes, Buffer::Outputs, dtype, elements);
        let (name, ty) = (format!("out{}", self.program.outputs.len()), TensorType::new(dtype, [elements]));
        self.program.outputs.push(Output { name, ty, tensor: tensor.clone() });
        tensor
    }

    pub fn slab(&mut self, dtype: DType, elements: usize) -> TensorRef {
        let mut bytes = 0;
        let tensor = aligned(&mut bytes, Buffer::Slab(self.program.slabs.len()), dtype, elements);
        self.program.slabs.push(bytes);
        tensor
    }

    /// Adds a state group that consists of one tensor with these values.
    pub fn group(&mut self, values: HostData) -> TensorRef {
        let (dtype, n) = match &values {
            HostData::F32(values) => (DType::F32, values.len()),
            HostData::U32(values) => (DType::U32, values.len()),
        };
        let id = self.program.states.group(format!("group{}", self.state.len()), dtype);
        self.program.states.entry(id, "values", [n]);
        let len = self.program.states.get(id).len();
        self.state.push(match values {
            HostData::F32(mut values) => {
                values.resize(len, 0.0);
                HostData::F32(values)
            }
            HostData::U32(mut values) => {
                values.resize(len, 0);
                HostData::U32(values)
            }
        });
        TensorRef { buffer: Buffer::State(id), offset: 0, elements: n, dtype }
    }

    pub fn dispatch(&mut self, kernel: Kernel, operands: Vec<(TensorRef, Access)>) {
        let operands = operands.into_iter().map(|(tensor, access)| Operand { tensor, access }).collect();
        let name = format!("kernel{}", self.program.dispatches.len());
        self.program.dispatches.push(Dispatch { name, kernel, operands, cost: Cost::default() });
    }

    pub fn session(&self, precision: Precision) -> (Box<dyn Session>, ProgramId) {
        let device = CpuDevice::with_options(Options { precision, poison: true });
        let mut session = device.session(&self.program.states).expect("memory for the state");
        for (i, values) in self.state.iter().enumerate() {
            session.write_group(GroupId(i), values.as_data()).expect("the group has this length");
        }
        let id = session.load(&self.program).expect("the program is well formed");
        (session, id)
    }

    /// Loads the program on a device and runs it once. Returns the values of all outputs and of all state groups.
    pub fn run(&self, precision: Precision) -> (Vec<HostData>, Vec<HostData>) {
        let (mut session, id) = self.session(precision);
        let inputs: Vec<Data<'_>> = self.inputs.iter().map(HostData::as_data).collect();
        session.run(id, &inputs).expect("the inputs fit");
        let outputs =
            (0..self.program.outputs.len()).map(|i| session.output(id, i).expect("an output")).collect();
        let state = (0..self.state.len()).map(|i| session.read_group(GroupId(i)).expect("a group")).collect();
        (outputs, state)
    }
}

/// Creates a loop kernel with these outer and inner dimensions.
pub fn loop_kernel(outer: &[usize], inner: &[usize], body: Vec<Instr>, stores: Vec<Store>) -> Kernel {
    Kernel::Loop(Loop { outer: outer.to_vec(), inner: inner.to_vec(), body, stores })
}

/// Creates a load of all elements of a contiguous tensor.
pub fn load(operand: usize, shape: &[usize]) -> Instr {
    Instr::Load { operand, layout: Layout::contiguous(shape) }
}

/// Creates a store of value number `value` to all elements of a contiguous tensor.
pub fn store(value: usize, operand: usize, shape: &[usize]) -> Store {
    Store { value, operand, layout: Layout::contiguous(shape) }
}

/// Returns the operands with their access. The read operands come first, then the written operands.
pub fn operands(read: &[&TensorRef], written: &[&TensorRef]) -> Vec<(TensorRef, Access)> {
    let read = read.iter().map(|&t| (t.clone(), Access::Read));
    read.chain(written.iter().map(|&t| (t.clone(), Access::Write))).collect()
}

/// Asserts that corresponding elements differ by at most `tolerance * (1 + |expected|)`. NaN equals NaN.
pub fn assert_close(found: &HostData, expected: &[f64], tolerance: f64, what: &str) {
    let found = match found {
        HostData::F32(values) => values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>(),
        HostData::U32(values) => values.iter().map(|&x| f64::from(x)).collect(),
    };
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (&x, &y)) in found.iter().zip(expected).enumerate() {
        let close = x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= tolerance * (1.0 + y.abs());
        assert!(close, "{what}: element {i} is {x}, expected {y}");
    }
}
