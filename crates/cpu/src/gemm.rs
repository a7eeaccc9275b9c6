//! Matrix products: the `gemm` crate for the product, a loop kernel in place over it for the epilogue.
//!
//! The product is written where the epilogue stores its first plain f32 tensor, whatever the strides, so that an epilogue
//! that does nothing costs nothing. Where there is none (the residual is updated in place, or the result is f16) it goes to
//! scratch memory, and so do f32 copies of f16 factors and of small factors with more dimensions than a matrix.
//!
//! A large factor that is no matrix, such as the windows of a convolution, is packed block by block ([`crate::pack`]): by
//! rows where it is A, and by depth where it is B, whose blocks then give sums that are added up. So is a product of two
//! matrices that is small but deep, since threads could not share it otherwise.
//!
//! The bits do not depend on the number of threads: how a product is cut depends on its shape alone, and what is summed
//! apart is added in order.

use std::ops::Range;

use gemm::Parallelism;
use rayon::prelude::*;
use wgrad_graph::{DType, Layout};
use wgrad_program::{Access, Gemm, Instr, Loop, Store};

use crate::address::Axis;
use crate::compile::compile;
use crate::float::Float;
use crate::kernel::LoopKernel;
use crate::memory::{LINE, Tensor, with_scratch};
use crate::pack::Pack;

/// Floating-point operations of a product below which one thread does it.
const ONE_THREAD: usize = 2 * 96 * 96 * 96;
/// Elements up to which a factor that is no matrix is copied whole.
const SMALL: usize = 1 << 17;
/// Bytes of a packed block: it should stay in a second-level cache.
const BLOCK: usize = 256 << 10;
/// Parts of a deep product that are summed apart.
const SPLITS: usize = 8;

/// A matrix as `gemm` sees it: operand, start and strides in elements.
#[derive(Debug, Clone)]
struct Matrix {
    operand: usize,
    offset: isize,
    batch: Vec<isize>,
    row: isize,
    column: isize,
}

/// A or B.
enum Factor {
    Matrix(Matrix),
    Pack(Box<Pack>),
}

/// How a product is cut.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// By `gemm` itself.
    Whole,
    /// Into blocks of rows, of which A is packed.
    Rows(usize),
    /// Into blocks of depth, of which B may be packed, and these into parts with a sum of their own.
    Depth { block: usize, parts: usize },
}

/// A compiled matrix product.
pub(crate) struct GemmKernel<T> {
    batch: Vec<usize>,
    m: usize,
    n: usize,
    k: usize,
    a: Factor,
    b: Factor,
    c: Matrix,
    cut: Cut,
    /// Kernels that copy factors.
    copies: Vec<LoopKernel<T>>,
    epilogue: Option<LoopKernel<T>>,
    /// Bytes of each tensor in scratch memory; they are the operands after those of the dispatch.
    scratch: Vec<usize>,
}

/// What the kernel adds to the operands of its dispatch.
struct Extra {
    dtypes: Vec<DType>,
    access: Vec<Access>,
    scratch: Vec<usize>,
}

impl Extra {
    /// A float tensor in scratch memory.
    fn tensor<T>(&mut self, elements: usize) -> usize {
        self.dtypes.push(DType::F32);
        self.access.push(Access::Write);
        self.scratch.push((elements * size_of::<T>()).next_multiple_of(LINE));
        self.dtypes.len() - 1
    }
}

impl<T: Float> GemmKernel<T> {
    /// Compiles a product that [`crate::check`] has passed. `None` where memory is short.
    pub fn new(kernel: &Gemm, dtypes: &[DType], access: &[Access]) -> Option<Self> {
        let mut extra = Extra { dtypes: dtypes.to_vec(), access: access.to_vec(), scratch: Vec::new() };
        let mut copies = Vec::new();
        let batch = kernel.batch.len();
        let (m, n, k) = (kernel.rows(), kernel.columns(), kernel.depth());
        // Of two factors that are no matrices the smaller is copied.
        let a_first = m >= n;
        let mut factor = |first: bool, whole: bool, extra: &mut Extra| {
            let (operand, layout, rows) = match first {
                true => (kernel.a, &kernel.a_layout, kernel.m.len()),
                false => (kernel.b, &kernel.b_layout, kernel.k.len()),
            };
            factor::<T>(operand, layout, [batch, rows], whole, extra, &mut copies)
        };
        let larger = factor(a_first, false, &mut extra)?;
        let smaller = factor(!a_first, matches!(larger, Factor::Pack(_)), &mut extra)?;
        let (a, b) = if a_first { (larger, smaller) } else { (smaller, larger) };
        let products = kernel.products();
        let cut = match (&a, &b) {
            (Factor::Pack(_), _) => Cut::Rows(block::<T>(k, m)),
            (_, Factor::Pack(_)) => depth(block::<T>(n, k), k),
            _ if products == 1 && k >= 16 * m.max(n) && m * n <= SMALL && 2 * m * n * k >= 8 * ONE_THREAD => {
                depth(k.div_ceil(SPLITS), k)
            }
            _ => Cut::Whole,
        };
        let parts = if let Cut::Depth { parts, .. } = cut { Some(parts) } else { None };
        let (to, layout) = destination::<T>(kernel, parts, &mut extra);
        let c = Matrix::new(to, &layout, batch, kernel.m.len())?;
        let epilogue = match epilogue(&kernel.epilogue, to, &layout) {
            None => None,
            Some(body) => {
                extra.access[to] = Access::ReadWrite;
                Some(LoopKernel::new(compile(&body, &extra.dtypes, &extra.access))?)
            }
        };
        let (batch, scratch) = (kernel.batch.clone(), extra.scratch);
        let mut this = Self { batch, m, n, k, a, b, c, cut, copies, epilogue, scratch };
        this.merge_batch();
        Some(this)
    }

    /// Bytes of scratch memory that a run needs.
    pub fn scratch_bytes(&self) -> usize {
        self.scratch.iter().sum()
    }

    /// Whether threads share the work of a run.
    pub fn is_shared(&self) -> bool {
        let loops = self.copies.iter().chain(&self.epilogue);
        self.products() * self.flops() >= ONE_THREAD || loops.into_iter().any(LoopKernel::is_shared)
    }

    /// Products of the batch.
    fn products(&self) -> usize {
        self.batch.iter().product()
    }

    /// Floating-point operations of one product of the batch.
    fn flops(&self) -> usize {
        2 * self.m * self.n * self.k
    }

    /// Number of tensors in scratch memory.
    pub fn scratch_tensors(&self) -> usize {
        self.scratch.len()
    }

    /// One product instead of many, where B is the same for all and the rows of A and C go on from one to the next.
    fn merge_batch(&mut self) {
        let (Factor::Matrix(a), Factor::Matrix(b), Cut::Whole) = (&mut self.a, &mut self.b, self.cut) else {
            return;
        };
        while let Some(&size) = self.batch.last() {
            let (m, last) = (self.m as isize, self.batch.len() - 1);
            let goes_on = |x: &Matrix| x.batch[last] == m * x.row;
            if size != 1 && !(b.batch[last] == 0 && goes_on(a) && goes_on(&self.c)) {
                break;
            }
            self.batch.pop();
            [&mut *a, &mut *b, &mut self.c].into_iter().for_each(|x| x.batch.truncate(last));
            self.m *= size;
        }
    }

    /// # Safety
    /// The operands have been checked against the dispatch, `scratch` leads to [`GemmKernel::scratch_bytes`] bytes aligned
    /// to 64, and nothing else uses either. `tensors` ends with room for the scratch tensors.
    pub unsafe fn run(&mut self, tensors: &mut [Tensor], scratch: *mut u8) {
        let own = tensors.len() - self.scratch.len();
        let mut at = 0;
        for (tensor, bytes) in tensors[own..].iter_mut().zip(&self.scratch) {
            *tensor = Tensor { start: scratch.wrapping_add(at), dtype: DType::F32 };
            at += bytes;
        }
        // SAFETY: passed on to the caller; the scratch tensors are apart.
        unsafe {
            self.copies.iter_mut().for_each(|copy| copy.run(tensors));
            match self.cut {
                Cut::Whole => self.whole(tensors),
                Cut::Rows(block) => self.by_rows(tensors, block),
                Cut::Depth { block, parts } => self.by_depth(tensors, block, parts),
            }
            if let Some(epilogue) = &mut self.epilogue {
                epilogue.run(tensors);
            }
        }
    }

    unsafe fn whole(&self, tensors: &[Tensor]) {
        let (Factor::Matrix(a), Factor::Matrix(b)) = (&self.a, &self.b) else { return };
        let count = self.products();
        let flops = self.flops();
        let product = |i: usize, parallel| {
            // SAFETY: `run` has the same contract; products of a batch write apart.
            unsafe {
                let (a, b, c): (Block<T>, _, _) = (
                    a.start(tensors, &self.batch, i),
                    b.start(tensors, &self.batch, i),
                    self.c.start(tensors, &self.batch, i),
                );
                multiply([self.m, self.n, self.k], c, a, b, false, parallel);
            }
        };
        if flops >= ONE_THREAD * 8 || count == 1 {
            let parallel = if flops < ONE_THREAD { Parallelism::None } else { Parallelism::Rayon(0) };
            (0..count).for_each(|i| product(i, parallel));
        } else {
            self.each(count, |i| product(i, Parallelism::None));
        }
    }

    /// Runs tasks that write apart, on all threads if it is worth it.
    fn each(&self, count: usize, task: impl Fn(usize) + Send + Sync) {
        if self.products() * self.flops() < ONE_THREAD {
            (0..count).for_each(task);
        } else {
            (0..count).into_par_iter().for_each(task);
        }
    }

    unsafe fn by_rows(&self, tensors: &[Tensor], block: usize) {
        let (Factor::Pack(a), Factor::Matrix(b)) = (&self.a, &self.b) else { return };
        let blocks = self.m.div_ceil(block);
        self.each(self.products() * blocks, |task| {
            let (product, first) = (task / blocks, task % blocks * block);
            let rows = first..self.m.min(first + block);
            with_scratch(block * self.k * size_of::<T>(), |packed| {
                // SAFETY: `run` has the same contract; the scratch memory is this thread's, and blocks write apart.
                unsafe {
                    let packed: *mut T = packed.cast();
                    a.pack(tensors, product, rows.clone(), packed);
                    let a = Block { start: packed, row: self.k as isize, column: 1 };
                    let b = b.start(tensors, &self.batch, product);
                    let c = self.c.start(tensors, &self.batch, product).row(first);
                    multiply([rows.len(), self.n, self.k], c, a, b, false, Parallelism::None);
                }
            });
        });
    }

    /// Sums the parts of the depth apart, one after the other in scratch memory, and then adds them up in order.
    unsafe fn by_depth(&self, tensors: &[Tensor], block: usize, parts: usize) {
        let Factor::Matrix(a) = &self.a else { return };
        let blocks = self.k.div_ceil(block);
        let (products, size) = (self.products(), self.m * self.n);
        let sums = Sums(self.c.start(tensors, &[], 0).start);
        self.each(products * parts, |task| {
            let (product, part) = (task % products, task / products);
            let mine = blocks * part / parts..blocks * (part + 1) / parts;
            let start = sums.at(task * size);
            let c = Block { start, row: self.n as isize, column: 1 };
            // SAFETY: `run` has the same contract; each task has a matrix of its own.
            unsafe { self.part(tensors, a, product, mine, block, c) };
        });
        let elements = products * size;
        // SAFETY: the tasks are done, and the matrices lie one after the other.
        let (total, rest) =
            unsafe { std::slice::from_raw_parts_mut(sums.at(0), elements * parts) }.split_at_mut(elements);
        for part in rest.chunks_exact(elements) {
            total.iter_mut().zip(part).for_each(|(sum, &x)| *sum += x);
        }
    }

    /// C from some blocks of the depth.
    unsafe fn part(
        &self,
        tensors: &[Tensor],
        a: &Matrix,
        product: usize,
        blocks: Range<usize>,
        block: usize,
        c: Block<T>,
    ) {
        for (i, number) in blocks.enumerate() {
            let depth = number * block..self.k.min((number + 1) * block);
            let sizes = [self.m, self.n, depth.len()];
            // SAFETY: passed on to the caller; the scratch memory is this thread's.
            unsafe {
                let a = a.start(tensors, &self.batch, product).column(depth.start);
                match &self.b {
                    Factor::Matrix(b) => {
                        let b = b.start(tensors, &self.batch, product).row(depth.start);
                        multiply(sizes, c, a, b, i > 0, Parallelism::None);
                    }
                    Factor::Pack(b) => with_scratch(block * self.n * size_of::<T>(), |packed| {
                        let packed: *mut T = packed.cast();
                        b.pack(tensors, product, depth, packed);
                        let b = Block { start: packed, row: self.n as isize, column: 1 };
                        multiply(sizes, c, a, b, i > 0, Parallelism::None);
                    }),
                }
            }
        }
    }
}

/// Where the sums of the parts of a deep product lie.
struct Sums<T>(*mut T);

// SAFETY: an address; each task uses a part of its own.
unsafe impl<T> Sync for Sums<T> {}

impl<T> Sums<T> {
    fn at(&self, element: usize) -> *mut T {
        self.0.wrapping_add(element)
    }
}

/// A matrix in memory.
#[derive(Clone, Copy)]
struct Block<T> {
    start: *mut T,
    row: isize,
    column: isize,
}

impl<T> Block<T> {
    /// From a row on.
    fn row(self, row: usize) -> Self {
        Self { start: self.start.wrapping_offset(row as isize * self.row), ..self }
    }

    /// From a column on.
    fn column(self, column: usize) -> Self {
        Self { start: self.start.wrapping_offset(column as isize * self.column), ..self }
    }
}

/// C = A·B for sizes [m, n, k], or C + A·B.
///
/// # Safety
/// The matrices lie in memory, nothing writes A or B, and nothing else uses C.
unsafe fn multiply<T: Float>(
    [m, n, k]: [usize; 3],
    c: Block<T>,
    a: Block<T>,
    b: Block<T>,
    add: bool,
    parallel: Parallelism,
) {
    let one = T::from_f64(1.0);
    let alpha = if add { one } else { T::default() };
    // SAFETY: passed on to the caller.
    unsafe {
        gemm::gemm(
            m, n, k, c.start, c.column, c.row, add, a.start, a.column, a.row, b.start, b.column, b.row,
            alpha, one, false, false, false, parallel,
        );
    }
}

/// Rows of a block of a factor with rows of this length, at most `most`.
fn block<T>(columns: usize, most: usize) -> usize {
    (BLOCK / (columns * size_of::<T>()).max(1) / 16 * 16).clamp(16, 512).min(most.max(1))
}

fn depth(block: usize, k: usize) -> Cut {
    Cut::Depth { block, parts: k.div_ceil(block).min(SPLITS) }
}

impl Matrix {
    /// The matrix that a layout over batch, rows and columns is, with this many dimensions of the first two; `None` where
    /// its rows or columns do not lie in even steps, or it has bounds.
    fn new(operand: usize, layout: &Layout, batch: usize, rows: usize) -> Option<Matrix> {
        if !layout.is_unpadded() {
            return None;
        }
        let rank = layout.shape.len();
        let stride = |dims: Range<usize>| Axis::new(layout, dims, 1).stride();
        let (row, column) = (stride(batch..batch + rows)?, stride(batch + rows..rank)?);
        let size = |dims: Range<usize>| layout.shape[dims].iter().product::<usize>();
        let (rows, columns) = (size(batch..batch + rows), size(batch + rows..rank));
        // A step that is never taken: what it would be in a matrix that lies contiguous, where `gemm` is fastest.
        let column = if columns == 1 { 1 } else { column };
        let row = if rows == 1 { columns as isize } else { row };
        Some(Matrix { operand, offset: layout.offset, batch: layout.strides[..batch].to_vec(), row, column })
    }

    /// Where product number `i` of a batch with these sizes has it.
    fn start<T>(&self, tensors: &[Tensor], batch: &[usize], i: usize) -> Block<T> {
        let (mut rest, mut offset) = (i, self.offset);
        for (&size, &stride) in batch.iter().zip(&self.batch).rev() {
            offset += (rest % size) as isize * stride;
            rest /= size;
        }
        let start = tensors[self.operand].start.cast::<T>().wrapping_offset(offset);
        Block { start, row: self.row, column: self.column }
    }
}

/// A or B: a matrix where it is one, or if it must be read `whole`; else packed.
fn factor<T: Float>(
    operand: usize,
    layout: &Layout,
    [batch, rows]: [usize; 2],
    whole: bool,
    extra: &mut Extra,
    copies: &mut Vec<LoopKernel<T>>,
) -> Option<Factor> {
    let plain = extra.dtypes[operand] == DType::F32;
    if let Some(matrix) = Matrix::new(operand, layout, batch, rows).filter(|_| plain) {
        return Some(Factor::Matrix(matrix));
    }
    // What is repeated along the batch is copied once.
    let moves = |i: usize| layout.strides[i] != 0 || layout.bounds.iter().any(|bound| bound.strides[i] != 0);
    let size = |(i, &size): (usize, &usize)| if i < batch && !moves(i) { 1 } else { size };
    let outer: Vec<usize> = layout.shape.iter().enumerate().map(size).collect();
    if plain
        && !whole
        && outer.iter().product::<usize>() > SMALL
        && let Some(pack) = Pack::new(operand, layout, batch, rows)
    {
        return Some(Factor::Pack(Box::new(pack)));
    }
    let to = Layout::contiguous(&outer);
    let copy = extra.tensor::<T>(outer.iter().product());
    let from = Layout { shape: outer.clone(), ..layout.clone() };
    let body = vec![Instr::Load { operand, layout: from }];
    let stores = vec![Store { value: 0, operand: copy, layout: to.clone() }];
    let kernel = Loop { outer, inner: Vec::new(), body, stores };
    copies.push(LoopKernel::new(compile(&kernel, &extra.dtypes, &extra.access))?);
    let to = Layout { shape: layout.shape.clone(), ..to };
    Matrix::new(copy, &to, batch, rows).map(Factor::Matrix)
}

/// The operand and layout that the product is written to: where the epilogue stores it, if it is a matrix there; scratch
/// memory for each of the parts that are summed apart.
fn destination<T: Float>(kernel: &Gemm, parts: Option<usize>, extra: &mut Extra) -> (usize, Layout) {
    let epilogue = &kernel.epilogue;
    let fits = |store: &&Store| {
        let only = epilogue.stores.iter().filter(|other| other.operand == store.operand).count() == 1;
        let is_matrix = Matrix::new(0, &store.layout, kernel.batch.len(), kernel.m.len()).is_some();
        let plain = extra.dtypes[store.operand] == DType::F32 && extra.access[store.operand] == Access::Write;
        only && is_matrix && plain
    };
    match epilogue.stores.iter().find(fits).filter(|_| parts.is_none()) {
        Some(store) => (store.operand, store.layout.clone()),
        None => {
            let layout = Layout::contiguous(&epilogue.outer);
            (extra.tensor::<T>(layout.numel() * parts.unwrap_or(1)), layout)
        }
    }
}

/// The epilogue with the product loaded from where it was written, or `None` when nothing is left to do.
fn epilogue(epilogue: &Loop, to: usize, layout: &Layout) -> Option<Loop> {
    let load = Instr::Load { operand: to, layout: layout.clone() };
    let mut body = epilogue.clone();
    body.body.iter_mut().filter(|instr| **instr == Instr::Product).for_each(|instr| *instr = load.clone());
    body.stores.retain(|store| !(store.operand == to && epilogue.body[store.value] == Instr::Product));
    (!body.stores.is_empty()).then_some(body)
}
