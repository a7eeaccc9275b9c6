//! Interpreter of programs in f64, element by element. Shares no code with the engine.

use std::collections::HashMap;

use half::f16;
use wgrad_graph::{Call, Combine, DType, Layout, ScalarFn};
use wgrad_program::{Buffer, Dispatch, Gemm, HostData, Instr, Kernel, Loop, Program, TensorRef};

/// Elements of each tensor, by buffer and offset. u32 values are stored as floats. Tensors of a test program do not
/// overlap.
type Memory = HashMap<(Buffer, usize), Vec<f64>>;

/// Runs a program and returns its outputs. `groups` holds the contents of the state, which the program updates.
pub fn interpret(program: &Program, inputs: &[HostData], groups: &mut [Vec<f64>]) -> Vec<Vec<f64>> {
    let mut memory = Memory::new();
    for (input, data) in program.inputs.iter().zip(inputs) {
        let values: Vec<f64> = match data {
            HostData::F32(values) => values.iter().map(|&x| stored(f64::from(x), input.ty.dtype)).collect(),
            HostData::U32(values) => values.iter().map(|&x| f64::from(x)).collect(),
        };
        memory.insert((Buffer::Inputs, input.tensor.offset), values);
    }
    for (i, group) in groups.iter().enumerate() {
        memory.insert((Buffer::State(wgrad_graph::GroupId(i)), 0), group.clone());
    }
    for dispatch in &program.dispatches {
        run(dispatch, &mut memory);
    }
    for (i, group) in groups.iter_mut().enumerate() {
        *group = memory[&(Buffer::State(wgrad_graph::GroupId(i)), 0)].clone();
    }
    program.outputs.iter().map(|output| memory[&(Buffer::Outputs, output.tensor.offset)].clone()).collect()
}

fn stored(x: f64, dtype: DType) -> f64 {
    match dtype {
        DType::F32 => f64::from(x as f32),
        DType::F16 => f16::from_f64(x).to_f64(),
        DType::U32 => x,
    }
}

fn key(tensor: &TensorRef) -> (Buffer, usize) {
    (tensor.buffer, tensor.offset)
}

struct View<'m> {
    dispatch: &'m Dispatch,
    memory: &'m mut Memory,
}

impl View<'_> {
    fn load(&self, operand: usize, at: usize) -> f64 {
        self.memory[&key(&self.dispatch.operands[operand].tensor)][at]
    }

    fn store(&mut self, operand: usize, at: usize, value: f64) {
        let tensor = &self.dispatch.operands[operand].tensor;
        let all = self.memory.entry(key(tensor)).or_insert_with(|| vec![f64::NAN; tensor.elements]);
        all[at] = stored(value, tensor.dtype);
    }
}

fn run(dispatch: &Dispatch, memory: &mut Memory) {
    let mut view = View { dispatch, memory };
    match &dispatch.kernel {
        Kernel::Loop(kernel) => {
            indices(&kernel.outer).iter().for_each(|row| self::row(kernel, row, None, &mut view))
        }
        Kernel::Gemm(gemm) => product(gemm, &mut view),
    }
}

fn product(gemm: &Gemm, view: &mut View<'_>) {
    for index in indices(&gemm.epilogue.outer) {
        let (batch, ij) = index.split_at(gemm.batch.len());
        let (i, j) = ij.split_at(gemm.m.len());
        let at = |operand: usize, layout: &Layout, rows: &[usize], columns: &[usize]| {
            layout.at(&[batch, rows, columns].concat()).map_or(0.0, |at| view.load(operand, at))
        };
        let term = |p: &Vec<usize>| at(gemm.a, &gemm.a_layout, i, p) * at(gemm.b, &gemm.b_layout, p, j);
        let sum: f64 = indices(&gemm.k).iter().map(term).sum();
        row(&gemm.epilogue, &index, Some(sum), view);
    }
}

/// Computes the values of a row instruction by instruction, then executes the stores.
fn row(kernel: &Loop, row: &[usize], product: Option<f64>, view: &mut View<'_>) {
    let columns: Vec<Vec<usize>> =
        indices(&kernel.inner).into_iter().map(|column| [row, column.as_slice()].concat()).collect();
    let mut values: Vec<Vec<f64>> = Vec::new();
    for instr in &kernel.body {
        let each = |f: &dyn Fn(usize, &[usize]) -> f64| -> Vec<f64> {
            columns.iter().enumerate().map(|(c, index)| f(c, index)).collect()
        };
        values.push(match instr {
            Instr::Load { operand, layout } => {
                each(&|_, index| layout.at(index).map_or(0.0, |at| view.load(*operand, at)))
            }
            Instr::Gather { operand, layout, index: by, stride, bound } => each(&|c, index| {
                let picked = values[*by][c] as usize;
                let is_u32 = view.dispatch.operands[*operand].tensor.dtype == DType::U32;
                match picked < *bound {
                    true => view.load(
                        *operand,
                        layout.at(index).expect("the layout should have no padding") + picked * stride,
                    ),
                    false if is_u32 => 0.0,
                    false => f64::NAN,
                }
            }),
            Instr::Float(x) => vec![f64::from(*x as f32); columns.len()],
            Instr::U32(x) => vec![f64::from(*x); columns.len()],
            Instr::Iota(layout) => {
                each(&|_, index| layout.at(index).expect("the layout should have no padding") as f64)
            }
            Instr::Call(f, args) => {
                each(&|c, _| call(f, &args.iter().map(|&a| values[a][c]).collect::<Vec<_>>()))
            }
            Instr::Reduce(combine, value) => vec![reduce(*combine, &values[*value]); columns.len()],
            Instr::Product => vec![product.expect("the dispatch should be a GEMM"); columns.len()],
        });
    }
    for store in &kernel.stores {
        let each = kernel.stores_elements(store);
        for (c, index) in columns.iter().enumerate() {
            let index = if each { index.as_slice() } else { row };
            view.store(
                store.operand,
                store.layout.at(index).expect("the layout should have no padding"),
                values[store.value][c],
            );
        }
    }
}

fn reduce(combine: Combine, values: &[f64]) -> f64 {
    let first = |takes: fn(f64, f64) -> bool| {
        let mut best = 0;
        for (i, &x) in values.iter().enumerate() {
            if !values[best].is_nan() && (x.is_nan() || takes(x, values[best])) {
                best = i;
            }
        }
        best
    };
    match combine {
        Combine::Sum => values.iter().sum(),
        Combine::Max => values[first(|x, best| x > best)],
        Combine::Min => values[first(|x, best| x < best)],
        Combine::ArgMax => first(|x, best| x > best) as f64,
    }
}

fn call(f: &ScalarFn, args: &[f64]) -> f64 {
    let word = |i: usize| [args[i] as u32];
    let mut out = [0.0];
    match f.f64 {
        Call::Unary(body) => body(&args[..1], &mut out),
        Call::Binary(body) => body(&args[..1], &args[1..2], &mut out),
        Call::Ternary(body) => body(&args[..1], &args[1..2], &args[2..3], &mut out),
        Call::FromU32(body) => body(&word(0), &mut out),
        Call::CompareU32(body) => body(&word(0), &word(1), &mut out),
        Call::Random(body) => body([&word(0), &word(1), &word(2), &word(3), &word(4)], &mut out),
        Call::ToU32(body) => {
            let mut value = [0];
            body(&args[..1], &mut value);
            out[0] = f64::from(value[0]);
        }
    }
    out[0]
}

/// Returns all indices of a shape in row-major order.
fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for &size in shape {
        all =
            all.iter().flat_map(|index| (0..size).map(move |i| [index.as_slice(), &[i]].concat())).collect();
    }
    all
}
