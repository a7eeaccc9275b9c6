//! Interpreter that follows the documentation of programs. It evaluates one index after the other in f64.

use std::collections::HashMap;

use half::f16;
use wgrad_graph::{Call, Combine, DType, Layout};
use wgrad_program::*;

use super::build::Case;

/// Memory with one cell for every two bytes of each buffer. An element is stored in the first of its cells.
struct Memory(HashMap<Buffer, Vec<f64>>);

impl Memory {
    fn at(&mut self, tensor: &TensorRef, element: usize) -> &mut f64 {
        assert!(element < tensor.elements);
        let cell = tensor.offset / 2 + element * tensor.dtype.bytes() / 2;
        &mut self.0.get_mut(&tensor.buffer).expect("the buffer exists")[cell]
    }

    fn set(&mut self, tensor: &TensorRef, element: usize, x: f64) {
        let x = if tensor.dtype == DType::F16 { f64::from(f16::from_f32(x as f32).to_f32()) } else { x };
        *self.at(tensor, element) = x;
    }

    fn fill(&mut self, tensor: &TensorRef, data: &HostData) {
        match data {
            HostData::F32(values) => {
                values.iter().enumerate().for_each(|(i, &x)| self.set(tensor, i, f64::from(x)))
            }
            HostData::U32(values) => {
                values.iter().enumerate().for_each(|(i, &x)| self.set(tensor, i, f64::from(x)))
            }
        }
    }

    fn all(&mut self, tensor: &TensorRef) -> Vec<f64> {
        (0..tensor.elements).map(|i| *self.at(tensor, i)).collect()
    }
}

/// Interprets the program once. Returns the values of all outputs and of all state groups.
pub fn run(case: &Case) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let program = &case.program;
    let groups: Vec<TensorRef> = program
        .states
        .groups()
        .iter()
        .enumerate()
        .map(|(i, group)| TensorRef {
            buffer: Buffer::State(wgrad_graph::GroupId(i)),
            offset: 0,
            elements: group.len(),
            dtype: group.dtype,
        })
        .collect();
    let mut buffers = vec![Buffer::Inputs, Buffer::Outputs];
    buffers
        .extend((0..program.slabs.len()).map(Buffer::Slab).chain((0..program.packs.len()).map(Buffer::Pack)));
    buffers.extend(groups.iter().map(|group| group.buffer));
    let mut memory =
        Memory(buffers.into_iter().map(|b| (b, vec![0.0; program.buffer_bytes(b) / 2])).collect());
    program.inputs.iter().zip(&case.inputs).for_each(|(input, data)| memory.fill(&input.tensor, data));
    groups.iter().zip(&case.state).for_each(|(group, data)| memory.fill(group, data));
    for dispatch in &program.dispatches {
        match &dispatch.kernel {
            Kernel::Loop(kernel) => run_loop(kernel, &dispatch.operands, &[], &mut memory),
            Kernel::Gemm(kernel) => {
                let product = product(kernel, &dispatch.operands, &mut memory);
                run_loop(&kernel.epilogue, &dispatch.operands, &product, &mut memory);
            }
        }
    }
    let outputs = program.outputs.iter().map(|output| memory.all(&output.tensor)).collect();
    (outputs, groups.iter().map(|group| memory.all(group)).collect())
}

/// Returns all indices of a shape in row-major order.
fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
    shape.iter().fold(vec![Vec::new()], |all, &n| {
        all.iter().flat_map(|index| (0..n).map(move |i| [index.as_slice(), &[i]].concat())).collect()
    })
}

fn product(kernel: &Gemm, operands: &[Operand], memory: &mut Memory) -> Vec<f64> {
    let mut product = Vec::new();
    for index in indices(&[kernel.batch.as_slice(), &kernel.m, &kernel.n].concat()) {
        let (batch, rest) = index.split_at(kernel.batch.len());
        let (i, j) = rest.split_at(kernel.m.len());
        let mut sum = 0.0;
        for p in indices(&kernel.k) {
            let mut element = |number: usize, layout: &Layout, rows: &[usize], columns: &[usize]| {
                let at = layout.at(&[batch, rows, columns].concat());
                at.map_or(0.0, |at| *memory.at(&operands[number].tensor, at))
            };
            sum += element(kernel.a, &kernel.a_layout, i, &p) * element(kernel.b, &kernel.b_layout, &p, j);
        }
        product.push(sum);
    }
    product
}

fn run_loop(kernel: &Loop, operands: &[Operand], product: &[f64], memory: &mut Memory) {
    let columns = indices(&kernel.inner);
    for (number, row) in indices(&kernel.outer).into_iter().enumerate() {
        let full: Vec<Vec<usize>> = columns.iter().map(|column| [row.as_slice(), column].concat()).collect();
        let mut values: Vec<Vec<f64>> = Vec::new();
        for instr in &kernel.body {
            let value = match instr {
                Instr::Float(x) => vec![*x; full.len()],
                Instr::U32(x) => vec![f64::from(*x); full.len()],
                Instr::Product => vec![product[number]; full.len()],
                Instr::Iota(layout) => {
                    full.iter().map(|at| layout.at(at).expect("an iota has no padding") as f64).collect()
                }
                Instr::Load { operand, layout } => {
                    let tensor = &operands[*operand].tensor;
                    full.iter().map(|at| layout.at(at).map_or(0.0, |at| *memory.at(tensor, at))).collect()
                }
                Instr::Gather { operand, layout, index, stride, bound } => {
                    let tensor = &operands[*operand].tensor;
                    let outside = if tensor.dtype == DType::U32 { 0.0 } else { f64::NAN };
                    full.iter()
                        .zip(&values[*index])
                        .map(|(at, &picked)| {
                            let first = layout.at(at).expect("a gather has no padding");
                            if (picked as usize) < *bound {
                                *memory.at(tensor, first + picked as usize * stride)
                            } else {
                                outside
                            }
                        })
                        .collect()
                }
                Instr::Call(f, args) => (0..full.len())
                    .map(|i| call(f, &args.iter().map(|&arg| values[arg][i]).collect::<Vec<_>>()))
                    .collect(),
                Instr::Reduce(combine, value) => vec![reduce(*combine, &values[*value]); full.len()],
            };
            values.push(value);
        }
        for store in &kernel.stores {
            let tensor = &operands[store.operand].tensor;
            if store.layout.shape.len() > kernel.outer.len() {
                full.iter()
                    .zip(&values[store.value])
                    .for_each(|(at, &x)| memory.set(tensor, store.layout.at(at).expect("no padding"), x));
            } else {
                memory.set(tensor, store.layout.at(&row).expect("no padding"), values[store.value][0]);
            }
        }
    }
}

fn call(f: &wgrad_graph::ScalarFn, x: &[f64]) -> f64 {
    let u32s: Vec<[u32; 1]> = x.iter().map(|&x| [x as u32]).collect();
    let (mut to, mut word) = ([0.0], [0]);
    match f.f64 {
        Call::Unary(f) => f(&x[..1], &mut to),
        Call::Binary(f) => f(&x[..1], &x[1..2], &mut to),
        Call::Ternary(f) => f(&x[..1], &x[1..2], &x[2..3], &mut to),
        Call::FromU32(f) => f(&u32s[0], &mut to),
        Call::CompareU32(f) => f(&u32s[0], &u32s[1], &mut to),
        Call::Random(f) => f([&u32s[0], &u32s[1], &u32s[2], &u32s[3], &u32s[4]], &mut to),
        Call::ToU32(f) => {
            f(&x[..1], &mut word);
            return f64::from(word[0]);
        }
    }
    to[0]
}

fn reduce(combine: Combine, values: &[f64]) -> f64 {
    let nan = values.iter().position(|x| x.is_nan());
    match combine {
        Combine::Sum => values.iter().sum(),
        Combine::Max if nan.is_none() => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        Combine::Min if nan.is_none() => values.iter().copied().fold(f64::INFINITY, f64::min),
        Combine::Max | Combine::Min => f64::NAN,
        Combine::ArgMax => {
            let first = |best: usize, i: usize| if values[i] > values[best] { i } else { best };
            nan.unwrap_or_else(|| (0..values.len()).reduce(first).unwrap_or(0)) as f64
        }
    }
}
