//! The program: a fixed list of dispatches over planned buffers. Plain data.
//!
//! A backend knows two kinds of kernel. A [`Loop`] computes expressions for every element of a domain, with reductions
//! along its inner dimensions on the way; every pointwise operation, reduction, softmax, norm and optimizer is one. A
//! [`Gemm`] multiplies matrices and hands each element of the product to a loop body, its epilogue.

use std::ops::Range;

use wgrad_graph::{Combine, DType, GroupId, Layout, ScalarFn, States, TensorType};

/// Position of an instruction's result in its body.
pub type ValueId = usize;

/// A buffer that the program uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Buffer {
    /// All inputs of a run, one after the other.
    Inputs,
    /// All outputs of a run, one after the other, readable until the next run.
    Outputs,
    /// A group of the persistent state, shared with other programs.
    State(GroupId),
    /// Scratch memory for intermediates, number i of [`Program::slabs`].
    Slab(usize),
    /// A flat tensor whose padding must stay zero, number i of [`Program::packs`]. Zeroed once, before the first run.
    Pack(usize),
}

/// A tensor in a buffer: contiguous, starting at a multiple of [`wgrad_graph::ALIGN`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TensorRef {
    /// The buffer.
    pub buffer: Buffer,
    /// Start in bytes.
    pub offset: usize,
    /// Number of elements.
    pub elements: usize,
    /// Element type.
    pub dtype: DType,
}

impl TensorRef {
    /// Bytes of the elements.
    pub fn bytes(&self) -> usize {
        self.elements * self.dtype.bytes()
    }
}

/// What a dispatch does with an operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Only reads it.
    Read,
    /// Only writes it.
    Write,
    /// Reads each element before it writes the same element (an update in place).
    ReadWrite,
}

/// A tensor that a dispatch binds. Two operands of a dispatch are never the same tensor.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Operand {
    /// The tensor.
    pub tensor: TensorRef,
    /// Read, written or both.
    pub access: Access,
}

/// One kernel with its operands.
#[derive(Debug, Clone)]
pub struct Dispatch {
    /// What it computes, e.g. `body.0.linear: matmul + add + relu`.
    pub name: String,
    /// The kernel.
    pub kernel: Kernel,
    /// The tensors it reads and writes, by operand number.
    pub operands: Vec<Operand>,
    /// Work and traffic.
    pub cost: Cost,
}

/// Work and memory traffic of one dispatch or more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations; a multiply-add counts as two.
    pub flops: u64,
    /// Bytes read, each operand once; of a table that rows are gathered from, those of the rows.
    pub read: u64,
    /// Bytes written, each operand once.
    pub written: u64,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Cost) {
        self.flops += other.flops;
        self.read += other.read;
        self.written += other.written;
    }
}

/// The two kinds of kernel.
#[expect(
    clippy::large_enum_variant,
    reason = "a program has tens of kernels, and most of its work is in products"
)]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// Expressions and reductions over a domain.
    Loop(Loop),
    /// A matrix product with an epilogue.
    Gemm(Gemm),
}

/// Expressions for every element of the domain `outer × inner`.
///
/// For each index of `outer` (a row; rows are independent of each other): run the body for every index of `inner` in
/// row-major order, then store. A [`Instr::Reduce`] combines its argument over all of `inner`, so what comes after it in
/// the body may use the result: a kernel runs over `inner` once for each reduction and once more for the stores.
/// Without reductions `inner` is empty and every index of `outer` is on its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Loop {
    /// Sizes of the independent dimensions.
    pub outer: Vec<usize>,
    /// Sizes of the reduced dimensions; empty when nothing is reduced.
    pub inner: Vec<usize>,
    /// Instructions in order; an instruction refers to earlier ones by position.
    pub body: Vec<Instr>,
    /// What is written where.
    pub stores: Vec<Store>,
}

/// One instruction. Floats are computed in f32 (f64 on the oracle), whatever the operands store.
#[derive(Debug, Clone, PartialEq)]
pub enum Instr {
    /// An element of an operand. The layout is over `outer ++ inner`; what it pads is zero.
    Load {
        /// Operand number.
        operand: usize,
        /// Where the element of each index lies.
        layout: Layout,
    },
    /// The element at `layout + index · stride` of an operand; NaN (0 for words) where `index >= bound`.
    Gather {
        /// Operand number.
        operand: usize,
        /// Where the element of row 0 lies; never padded.
        layout: Layout,
        /// The word that picks the row.
        index: ValueId,
        /// Elements from one row to the next.
        stride: usize,
        /// Number of rows.
        bound: usize,
    },
    /// A float constant.
    Float(f64),
    /// A word constant.
    Word(u32),
    /// The offset that the layout (over `outer ++ inner`, never padded) gives, as a word.
    Iota(Layout),
    /// A scalar function of earlier values.
    Call(&'static ScalarFn, Vec<ValueId>),
    /// An earlier value combined over `inner`. The same for a whole row.
    Reduce(Combine, ValueId),
    /// The product, in the epilogue of a [`Gemm`].
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
    /// The value.
    pub value: ValueId,
    /// Operand number.
    pub operand: usize,
    /// Over `outer ++ inner` for every element, or over `outer` alone for one value a row. Never padded; no two indices
    /// share an offset.
    pub layout: Layout,
}

impl Loop {
    /// Number of rows: the product of `outer`.
    pub fn rows(&self) -> usize {
        self.outer.iter().product()
    }

    /// Elements of a row: the product of `inner`, 1 when nothing is reduced.
    pub fn columns(&self) -> usize {
        self.inner.iter().product()
    }

    /// True when the store writes every element, false when it writes one value a row.
    pub fn stores_elements(&self, store: &Store) -> bool {
        self.inner.is_empty() || store.layout.shape.len() > self.outer.len()
    }

    /// For each value, whether it can differ within a row.
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

    /// For each value, whether it is a word (u32) rather than a float. `dtypes` are those of the operands.
    pub fn words(&self, dtypes: &[DType]) -> Vec<bool> {
        let is_word = |instr: &Instr| match instr {
            Instr::Load { operand, .. } | Instr::Gather { operand, .. } => dtypes[*operand] == DType::U32,
            Instr::U32(_) | Instr::Iota(_) | Instr::Reduce(Combine::ArgMax, _) => true,
            Instr::Float(_) | Instr::Product | Instr::Reduce(..) => false,
            Instr::Call(f, _) => f.f32.returns_u32(),
        };
        self.body.iter().map(is_word).collect()
    }
}

/// `C[batch…, i…, j…] = Σ_p… A[batch…, i…, p…] · B[batch…, p…, j…]`, handed to an epilogue.
///
/// Rows, columns and depth may have several dimensions each: with the layout of a window over an image in place of A this
/// is a convolution, and nothing else distinguishes one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Gemm {
    /// Sizes of the batch dimensions.
    pub batch: Vec<usize>,
    /// Sizes of the rows of A and C.
    pub m: Vec<usize>,
    /// Sizes of the columns of B and C.
    pub n: Vec<usize>,
    /// Sizes of the columns of A, which are the rows of B.
    pub k: Vec<usize>,
    /// Operand number of A.
    pub a: usize,
    /// Layout of A over `batch ++ m ++ k`. What it bounds away is zero.
    pub a_layout: Layout,
    /// Operand number of B.
    pub b: usize,
    /// Layout of B over `batch ++ k ++ n`.
    pub b_layout: Layout,
    /// What happens to each element of the product: a loop with `outer = batch ++ m ++ n` and no `inner`, in which
    /// [`Instr::Product`] is the element.
    pub epilogue: Loop,
}

impl Gemm {
    /// Number of products in the batch.
    pub fn products(&self) -> usize {
        self.batch.iter().product()
    }

    /// Rows of A and C.
    pub fn rows(&self) -> usize {
        self.m.iter().product()
    }

    /// Columns of B and C.
    pub fn columns(&self) -> usize {
        self.n.iter().product()
    }

    /// Columns of A, rows of B.
    pub fn depth(&self) -> usize {
        self.k.iter().product()
    }

    /// Sizes that the layout of A is over.
    pub fn a_domain(&self) -> Vec<usize> {
        [self.batch.as_slice(), &self.m, &self.k].concat()
    }

    /// Sizes that the layout of B is over.
    pub fn b_domain(&self) -> Vec<usize> {
        [self.batch.as_slice(), &self.k, &self.n].concat()
    }

    /// Sizes of C, which the epilogue runs over.
    pub fn domain(&self) -> Vec<usize> {
        [self.batch.as_slice(), &self.m, &self.n].concat()
    }
}

/// A value uploaded for every run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramInput {
    /// Its name in the graph.
    pub name: String,
    /// Its type.
    pub ty: TensorType,
    /// Where it lies in [`Buffer::Inputs`].
    pub tensor: TensorRef,
}

/// A value readable after every run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its name in the graph.
    pub name: String,
    /// Its type.
    pub ty: TensorType,
    /// Where it lies in [`Buffer::Outputs`].
    pub tensor: TensorRef,
}

impl Output {
    /// True for a single float: the records of a run hold it.
    pub fn is_recorded(&self) -> bool {
        self.ty.dtype != DType::U32 && self.ty.shape.numel() == 1
    }
}

/// Everything a device needs to replay a graph.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// The persistent state it reads and writes.
    pub states: States,
    /// Inputs by slot.
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
    /// The largest live set: bytes of the intermediates that are alive at one dispatch, each rounded up to its alignment, at
    /// the dispatch where that is most. Slabs cannot be smaller together.
    pub live_bytes: usize,
    /// Bytes of each pack.
    pub packs: Vec<usize>,
    /// Intermediates by size, largest first: name, type and bytes.
    pub largest: Vec<(String, TensorType, usize)>,
}

impl Program {
    /// Bytes of one of its buffers.
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

    /// How many dispatches are done once no later one writes to these elements of a group of f32.
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

    /// Bytes of the buffers that it shares with no other program of a session: inputs, outputs and packs.
    pub fn private_bytes(&self) -> usize {
        self.input_bytes + self.output_bytes + self.packs.iter().sum::<usize>()
    }

    /// Bytes of the buffers that it needs besides the state.
    pub fn own_bytes(&self) -> usize {
        self.private_bytes() + self.slab_bytes()
    }

    /// Bytes of the persistent state.
    pub fn state_bytes(&self) -> usize {
        self.states.groups().iter().map(|g| g.bytes()).sum()
    }

    /// Bytes it needs on a device where it is alone, known before anything is allocated.
    pub fn peak_bytes(&self) -> usize {
        self.own_bytes() + self.state_bytes()
    }

    /// Work and traffic of a run.
    pub fn cost(&self) -> Cost {
        let mut total = Cost::default();
        self.dispatches.iter().for_each(|d| total += d.cost);
        total
    }
}

/// Bytes of the slabs of a session once these programs are loaded. Programs run one after the other, so they share their
/// slabs: there are as many as the program with most of them has, each as large as the largest of its number.
pub fn slab_bytes<'p>(programs: impl IntoIterator<Item = &'p Program>) -> usize {
    let mut slabs = Vec::new();
    for program in programs {
        slabs.resize(slabs.len().max(program.slabs.len()), 0);
        slabs.iter_mut().zip(&program.slabs).for_each(|(slab, &needed)| *slab = needed.max(*slab));
    }
    slabs.iter().sum()
}

/// Bytes that a session holds once these programs are loaded: the state, the slabs that they share, and what each has for
/// itself.
pub fn session_bytes<'p>(
    states: &States,
    programs: impl IntoIterator<Item = &'p Program, IntoIter: Clone>,
) -> usize {
    let programs = programs.into_iter();
    let state: usize = states.groups().iter().map(|group| group.bytes()).sum();
    state + slab_bytes(programs.clone()) + programs.map(Program::private_bytes).sum::<usize>()
}
