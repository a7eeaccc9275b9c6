//! Builders of hand-made programs.

use wgrad_graph::{ALIGN, DType, GroupId, Layout, ScalarFn, States, TensorType};
use wgrad_program::{
    Access, Buffer, Cost, Dispatch, Instr, Kernel, Loop, Operand, Output, Program, ProgramInput, Store,
    TensorRef, ValueId,
};

/// A program under construction.
#[derive(Default)]
pub struct Plan {
    pub program: Program,
}

impl Plan {
    pub fn with_states(states: &States) -> Self {
        Self { program: Program { states: states.clone(), ..Program::default() } }
    }

    pub fn input(&mut self, name: &str, dtype: DType, shape: &[usize]) -> TensorRef {
        let tensor = placed(Buffer::Inputs, &mut self.program.input_bytes, dtype, shape);
        let ty = TensorType::new(dtype, shape);
        self.program.inputs.push(ProgramInput { name: name.into(), ty, tensor: tensor.clone() });
        tensor
    }

    pub fn output(&mut self, name: &str, dtype: DType, shape: &[usize]) -> TensorRef {
        let tensor = placed(Buffer::Outputs, &mut self.program.output_bytes, dtype, shape);
        let ty = TensorType::new(dtype, shape);
        self.program.outputs.push(Output { name: name.into(), ty, tensor: tensor.clone() });
        tensor
    }

    /// Adds an intermediate in its own slab.
    pub fn scratch(&mut self, dtype: DType, shape: &[usize]) -> TensorRef {
        let mut bytes = 0;
        let tensor = placed(Buffer::Slab(self.program.slabs.len()), &mut bytes, dtype, shape);
        self.program.slabs.push(bytes);
        self.program.largest_tensors.push((
            format!("scratch{}", self.program.slabs.len()),
            TensorType::new(dtype, shape),
            bytes,
        ));
        tensor
    }

    pub fn group(&self, id: GroupId) -> TensorRef {
        let group = self.program.states.get(id);
        TensorRef { buffer: Buffer::State(id), offset: 0, elements: group.len(), dtype: group.dtype }
    }

    pub fn dispatch(&mut self, name: &str, kernel: Kernel, operands: &[(&TensorRef, Access)]) {
        let operands =
            operands.iter().map(|&(tensor, access)| Operand { tensor: tensor.clone(), access }).collect();
        self.program.dispatches.push(Dispatch { name: name.into(), kernel, operands, cost: Cost::default() });
    }
}

fn placed(buffer: Buffer, bytes: &mut usize, dtype: DType, shape: &[usize]) -> TensorRef {
    let tensor = TensorRef { buffer, offset: *bytes, elements: shape.iter().product(), dtype };
    *bytes += tensor.bytes().next_multiple_of(ALIGN);
    tensor
}

/// A loop under construction.
pub struct Body {
    pub kernel: Loop,
}

impl Body {
    pub fn over(outer: &[usize], inner: &[usize]) -> Self {
        Self {
            kernel: Loop {
                outer: outer.to_vec(),
                inner: inner.to_vec(),
                body: Vec::new(),
                stores: Vec::new(),
            },
        }
    }

    pub fn push(&mut self, instr: Instr) -> ValueId {
        self.kernel.body.push(instr);
        self.kernel.body.len() - 1
    }

    pub fn load(&mut self, operand: usize, layout: Layout) -> ValueId {
        self.push(Instr::Load { operand, layout })
    }

    pub fn call(&mut self, f: &'static ScalarFn, args: &[ValueId]) -> ValueId {
        self.push(Instr::Call(f, args.to_vec()))
    }

    pub fn store(&mut self, value: ValueId, operand: usize, layout: Layout) {
        self.kernel.stores.push(Store { value, operand, layout });
    }

    pub fn build(self) -> Kernel {
        Kernel::Loop(self.kernel)
    }
}

/// Creates a layout from its shape, strides and offset.
pub fn strided(shape: &[usize], strides: &[isize], offset: isize) -> Layout {
    Layout::strided(shape, strides.to_vec(), offset)
}

pub fn contiguous(shape: &[usize]) -> Layout {
    Layout::contiguous(shape)
}

pub fn constant(shape: &[usize]) -> Layout {
    strided(shape, &vec![0; shape.len()], 0)
}
