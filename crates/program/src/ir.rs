//! Intermediate representation of a program: a fixed list of dispatches over planned buffers. Plain data.
//!
//! A backend implements two kinds of kernel. A [`Loop`] computes expressions for every element of a domain, with
//! reductions along its inner dimensions; elementwise operations, reductions, softmax, norms and optimizers are loops.
//! A [`Gemm`] multiplies matrices and passes each element of the product to a loop body, the epilogue.

use std::ops::Range;

use wgrad_graph::{Combine, DType, GroupId, Layout, ScalarFn, States, TensorType};

/// Position of an instruction in its loop body. Identifies the result of the instruction.
pub type ValueId = usize;

/// A buffer that the program uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Buffer {
    /// All inputs of a run, consecutively.
    Inputs,
    /// All outputs of a run, consecutively. Readable until the next run.
    Outputs,
    /// A group of the persistent state, shared with other programs.
    State(GroupId),
    /// Scratch memory for intermediates. The number is an index into [`Program::slabs`].
    Slab(usize),
    /// A flat tensor whose padding must stay zero. Filled with zeros once, before the first run. The number is an index
    /// into [`Program::packs`].
    Pack(usize),
}

/// A contiguous tensor in a buffer, which starts at a multiple of [`wgrad_graph::ALIGN`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TensorRef {
    /// Buffer that contains the tensor.
    pub buffer: Buffer,
    /// Start of the tensor in the buffer, in bytes.
    pub offset: usize,
    /// Number of elements.
    pub elements: usize,
    /// Type of each element.
    pub dtype: DType,
}

impl TensorRef {
    /// Size of the tensor in bytes.
    pub fn bytes(&self) -> usize {
        self.elements * self.dtype.bytes()
    }
}

/// Access of a dispatch to an operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// The operand is only read.
    Read,
    /// The operand is only written.
    Write,
    /// Each element is read before the same element is written (an update in place).
    ReadWrite,
}

/// A tensor that a dispatch binds. No two operands of a dispatch are the same tensor.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Operand {
    /// Location and element type of the tensor.
    pub tensor: TensorRef,
    /// Whether the tensor is read, written or both.
    pub access: Access,
}

/// One kernel with its operands.
#[derive(Debug, Clone)]
pub struct Dispatch {
    /// Path of the layer and names of the operations, e.g. `body.0.linear: matmul + add + relu`.
    pub name: String,
    /// Kernel that the dispatch runs.
    pub kernel: Kernel,
    /// The tensors that the kernel reads and writes, by operand number.
    pub operands: Vec<Operand>,
    /// Operations and memory traffic of one execution.
    pub cost: Cost,
}

/// Operations and memory traffic of one or more dispatches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations; a multiply-add counts as two.
    pub flops: u64,
    /// Bytes read. Each operand counts once; of a gathered table, only the gathered rows count.
    pub read: u64,
    /// Bytes written. Each operand counts once.
    pub written: u64,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Cost) {
        self.flops += other.flops;
        self.read += other.read;
        self.written += other.written;
    }
}

/// A kernel: a loop or a matrix product.
#[expect(clippy::large_enum_variant, reason = "a program has tens of kernels, most of them matrix products")]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// Expressions and reductions over a domain.
    Loop(Loop),
    /// A matrix product with an epilogue.
    Gemm(Gemm),
}

/// Expressions for every element of the domain `outer × inner`.
///
/// For each index of `outer` (a row; rows are independent of each other), the body runs for every index of `inner` in
/// row-major order, and then the results are stored. A [`Instr::Reduce`] combines its argument over all of `inner`, and
/// later instructions may use the result: a kernel runs over `inner` once for each level of reductions and once more
/// for the stores. Without reductions `inner` is empty and every index of `outer` is independent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Loop {
    /// Sizes of the independent dimensions.
    pub outer: Vec<usize>,
    /// Sizes of the reduced dimensions; empty without reductions.
    pub inner: Vec<usize>,
    /// Instructions in order. An instruction refers to earlier instructions by position.
    pub body: Vec<Instr>,
    /// Values written to operands.
    pub stores: Vec<Store>,
}

/// One instruction. Floats are computed in f32 (f64 in the reference), regardless of the element types of the operands.
#[derive(Debug, Clone, PartialEq)]
pub enum Instr {
    /// An element of an operand. The layout is over `outer ++ inner`; padded elements are zero.
    Load {
        /// Index in [`Dispatch::operands`].
        operand: usize,
        /// Layout of the elements.
        layout: Layout,
    },
    /// The element at `layout + index · stride` of an operand; NaN (0 for u32) if `index >= bound`.
    Gather {
        /// Index in [`Dispatch::operands`].
        operand: usize,
        /// Layout of the elements of row 0, without padding.
        layout: Layout,
        /// The u32 value that selects the row.
        index: ValueId,
        /// Elements between the starts of neighbouring rows.
        stride: usize,
        /// Number of rows.
        bound: usize,
    },
    /// A float constant.
    Float(f64),
    /// A u32 constant.
    U32(u32),
    /// The offset of the layout (over `outer ++ inner`, without padding), as a u32.
    Iota(Layout),
    /// A scalar function of earlier values.
    Call(&'static ScalarFn, Vec<ValueId>),
    /// An earlier value, reduced over `inner`. Constant within a row.
    Reduce(Combine, ValueId),
    /// The element of the matrix product. Valid only in the epilogue of a [`Gemm`].
    Product,
}

impl Eq for Instr {}

impl std::hash::Hash for Instr {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Instr::Load { operand, layout } => (operand, layout).hash(state),
            Instr::Gather { operand, layout, index, stride, bound } => {
                (operand, layout, index, stride, bound).hash(state)
            }
            Instr::Float(x) => x.to_bits().hash(state),
            Instr::U32(x) => x.hash(state),
            Instr::Iota(layout) => layout.hash(state),
            Instr::Call(f, args) => (f, args).hash(state),
            Instr::Reduce(combine, value) => (combine, value).hash(state),
            Instr::Product => {}
        }
    }
}

/// A value written to an operand.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Store {
    /// Value to write.
    pub value: ValueId,
    /// Index in [`Dispatch::operands`].
    pub operand: usize,
    /// Layout over `outer ++ inner` for a store of every element, or over `outer` for one value per row. The layout has
    /// no padding, and no two indices have the same offset.
    pub layout: Layout,
}

impl Loop {
    /// Number of rows: the product of `outer`.
    pub fn rows(&self) -> usize {
        self.outer.iter().product()
    }

    /// Number of elements of a row: the product of `inner`, which is 1 without reductions.
    pub fn columns(&self) -> usize {
        self.inner.iter().product()
    }

    /// Whether the store writes every element; otherwise it writes one value per row.
    pub fn stores_elements(&self, store: &Store) -> bool {
        self.inner.is_empty() || store.layout.shape.len() > self.outer.len()
    }

    /// Returns for each value whether it can differ within a row.
    pub fn varies(&self) -> Vec<bool> {
        let along_inner = |layout: &Layout| {
            let moves = |strides: &[isize]| strides[self.outer.len()..].iter().any(|&s| s != 0);
            moves(&layout.strides) || layout.bounds.iter().any(|bound| moves(&bound.strides))
        };
        let mut varies: Vec<bool> = Vec::with_capacity(self.body.len());
        for instr in &self.body {
            let varying = match instr {
                Instr::Load { layout, .. } | Instr::Iota(layout) => along_inner(layout),
                Instr::Gather { layout, index, .. } => varies[*index] || along_inner(layout),
                Instr::Float(_) | Instr::U32(_) | Instr::Reduce(..) | Instr::Product => false,
                Instr::Call(_, args) => args.iter().any(|&a| varies[a]),
            };
            varies.push(varying);
        }
        varies
    }

    /// Returns for each value whether it is a u32; all other values are floats. `dtypes` are the element types of the
    /// operands.
    pub fn is_u32(&self, dtypes: &[DType]) -> Vec<bool> {
        let is_u32 = |instr: &Instr| match instr {
            Instr::Load { operand, .. } | Instr::Gather { operand, .. } => dtypes[*operand] == DType::U32,
            Instr::U32(_) | Instr::Iota(_) | Instr::Reduce(Combine::ArgMax, _) => true,
            Instr::Float(_) | Instr::Product | Instr::Reduce(..) => false,
            Instr::Call(f, _) => f.f32.returns_u32(),
        };
        self.body.iter().map(is_u32).collect()
    }
}

/// `C[batch…, i…, j…] = Σ_p… A[batch…, i…, p…] · B[batch…, p…, j…]`, followed by an epilogue.
///
/// Rows, columns and depth may have several dimensions each. A convolution is a `Gemm` whose A has the layout of a
/// window over an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Gemm {
    /// Sizes of the batch dimensions.
    pub batch: Vec<usize>,
    /// Sizes of the row dimensions of A and C.
    pub m: Vec<usize>,
    /// Sizes of the column dimensions of B and C.
    pub n: Vec<usize>,
    /// Sizes of the depth dimensions: the columns of A and the rows of B.
    pub k: Vec<usize>,
    /// Operand number of A.
    pub a: usize,
    /// Layout of A over `batch ++ m ++ k`. Padded elements are zero.
    pub a_layout: Layout,
    /// Operand number of B.
    pub b: usize,
    /// Layout of B over `batch ++ k ++ n`.
    pub b_layout: Layout,
    /// Computation on each element of the product: a loop with `outer = batch ++ m ++ n` and no `inner`, in which
    /// [`Instr::Product`] is the element.
    pub epilogue: Loop,
}

impl Gemm {
    /// Number of matrix products in the batch.
    pub fn products(&self) -> usize {
        self.batch.iter().product()
    }

    /// Number of rows of A and C.
    pub fn rows(&self) -> usize {
        self.m.iter().product()
    }

    /// Number of columns of B and C.
    pub fn columns(&self) -> usize {
        self.n.iter().product()
    }

    /// Number of columns of A, which is the number of rows of B.
    pub fn depth(&self) -> usize {
        self.k.iter().product()
    }

    /// Shape of the layout of A.
    pub fn a_domain(&self) -> Vec<usize> {
        [self.batch.as_slice(), &self.m, &self.k].concat()
    }

    /// Shape of the layout of B.
    pub fn b_domain(&self) -> Vec<usize> {
        [self.batch.as_slice(), &self.k, &self.n].concat()
    }

    /// Shape of C, which is the domain of the epilogue.
    pub fn domain(&self) -> Vec<usize> {
        [self.batch.as_slice(), &self.m, &self.n].concat()
    }
}

/// A value that is uploaded for every run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramInput {
    /// Name in the graph.
    pub name: String,
    /// Element type and shape.
    pub ty: TensorType,
    /// Position in [`Buffer::Inputs`].
    pub tensor: TensorRef,
}

/// A value that can be read after every run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Name in the graph.
    pub name: String,
    /// Element type and shape.
    pub ty: TensorType,
    /// Position in [`Buffer::Outputs`].
    pub tensor: TensorRef,
}

impl Output {
    /// Whether the output is a single float. The [`Record`](crate::Record) of a run contains these outputs.
    pub fn is_recorded(&self) -> bool {
        self.ty.dtype != DType::U32 && self.ty.shape.numel() == 1
    }
}

/// Everything a device needs to replay a graph.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// The persistent state that the program reads and writes.
    pub states: States,
    /// Inputs in order of slot number.
    pub inputs: Vec<ProgramInput>,
    /// Outputs in order of declaration.
    pub outputs: Vec<Output>,
    /// Kernels in order of execution.
    pub dispatches: Vec<Dispatch>,
    /// Bytes of [`Buffer::Inputs`].
    pub input_bytes: usize,
    /// Bytes of [`Buffer::Outputs`].
    pub output_bytes: usize,
    /// Bytes of each slab.
    pub slabs: Vec<usize>,
    /// Bytes of the largest live set: the maximum, over all dispatches, of the bytes of the intermediates alive at that
    /// dispatch, each rounded up to its alignment. A lower bound of the total size of the slabs.
    pub live_bytes: usize,
    /// Bytes of each pack.
    pub packs: Vec<usize>,
    /// Name, type and size in bytes of each intermediate, in order of decreasing size.
    pub largest_tensors: Vec<(String, TensorType, usize)>,
}

impl Program {
    /// Bytes of a buffer.
    pub fn buffer_bytes(&self, buffer: Buffer) -> usize {
        match buffer {
            Buffer::Inputs => self.input_bytes,
            Buffer::Outputs => self.output_bytes,
            Buffer::State(group) => self.states.get(group).bytes(),
            Buffer::Slab(i) => self.slabs[i],
            Buffer::Pack(i) => self.packs[i],
        }
    }

    /// Bytes of all slabs.
    pub fn slab_bytes(&self) -> usize {
        self.slabs.iter().sum()
    }

    /// Returns the number of dispatches after which a range of elements of an f32 group is final, i.e. no later
    /// dispatch writes to the range.
    pub fn final_after(&self, group: GroupId, range: &Range<usize>) -> usize {
        let (start, end) = (range.start * DType::F32.bytes(), range.end * DType::F32.bytes());
        let writes = |operand: &Operand| {
            let tensor = &operand.tensor;
            operand.access != Access::Read
                && tensor.buffer == Buffer::State(group)
                && tensor.offset < end
                && start < tensor.offset + tensor.bytes()
        };
        let last = self.dispatches.iter().rposition(|dispatch| dispatch.operands.iter().any(writes));
        last.map_or(0, |last| last + 1)
    }

    /// Bytes of the buffers that the program shares with no other program of a session: inputs, outputs and packs.
    pub fn private_bytes(&self) -> usize {
        self.input_bytes + self.output_bytes + self.packs.iter().sum::<usize>()
    }

    /// Bytes of all buffers except the state.
    pub fn bytes_without_state(&self) -> usize {
        self.private_bytes() + self.slab_bytes()
    }

    /// Bytes of the persistent state.
    pub fn state_bytes(&self) -> usize {
        self.states.groups().iter().map(|g| g.bytes()).sum()
    }

    /// Bytes that the program needs on a device where it is the only program, state included.
    pub fn peak_bytes(&self) -> usize {
        self.bytes_without_state() + self.state_bytes()
    }

    /// Operations and memory traffic of one run.
    pub fn cost(&self) -> Cost {
        let mut total = Cost::default();
        self.dispatches.iter().for_each(|d| total += d.cost);
        total
    }
}

/// Bytes of the slabs of a session with these programs. Programs run one after the other, so they share slabs: slab i
/// is as large as the largest slab i of any program.
pub fn slab_bytes<'p>(programs: impl IntoIterator<Item = &'p Program>) -> usize {
    let mut slabs = Vec::new();
    for program in programs {
        slabs.resize(slabs.len().max(program.slabs.len()), 0);
        slabs.iter_mut().zip(&program.slabs).for_each(|(slab, &needed)| *slab = needed.max(*slab));
    }
    slabs.iter().sum()
}

/// Bytes that a session with these programs needs: the state, the shared slabs, and the private buffers of each
/// program.
pub fn session_bytes<'p>(
    states: &States,
    programs: impl IntoIterator<Item = &'p Program, IntoIter: Clone>,
) -> usize {
    let programs = programs.into_iter();
    let state: usize = states.groups().iter().map(|group| group.bytes()).sum();
    state + slab_bytes(programs.clone()) + programs.map(Program::private_bytes).sum::<usize>()
}
