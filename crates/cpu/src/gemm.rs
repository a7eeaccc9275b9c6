//! Matrix products. The `gemm` crate computes the product, and a loop kernel then computes the epilogue in place.
//!
//! The product is written to the first write-only f32 tensor that the epilogue stores, regardless of its strides. An
//! epilogue that only stores the product therefore costs nothing. If no tensor qualifies, e.g. because the residual is
//! updated in place or the result is f16, the product is written to scratch memory. Scratch memory also contains two
//! kinds of copies: f32 copies of f16 factors, and copies of small factors that are not matrices.
//!
//! A large factor that is not a matrix, such as the windows of a convolution, is packed block by block
//! ([`crate::pack`]). If the factor is A, it is packed by rows. If it is B, it is packed by depth, and the products of
//! the blocks are summed. A product of two matrices that is small but deep is also divided by depth, because threads
//! could not share the work otherwise.
//!
//! The result does not depend on the number of threads. The division depends only on the shape, and partial sums are
//! added in order.

use std::ops::Range;

use gemm::Parallelism;
use rayon::prelude::*;
use wgrad_graph::{DType, Layout};
use wgrad_program::{Access, Gemm, Instr, Loop, Store};
use wgrad_stdx::never;

use crate::address::Axis;
use crate::compile::compile;
use crate::float::Float;
use crate::kernel::{KernelError, LoopKernel};
use crate::memory::{LINE, Tensor, with_scratch};
use crate::pack::PackedFactor;

/// Products with fewer floating-point operations than this run on one thread.
const SINGLE_THREAD_FLOPS: usize = 2 * 96 * 96 * 96;
/// A factor that is not a matrix is copied completely if it has at most this number of elements. Larger factors are
/// packed block by block.
const COPY_ELEMENTS: usize = 1 << 17;
/// Maximum size of a packed block in bytes, so that the block stays in a second-level cache.
const BLOCK_BYTES: usize = 256 << 10;
/// Maximum number of partial sums of a product that is divided by depth.
const MAX_PARTS: usize = 8;

/// A matrix in an operand. The offset of its first element and the strides of batch, rows and columns are in elements.
#[derive(Debug, Clone)]
struct Matrix {
    operand: usize,
    offset: isize,
    batch: Vec<isize>,
    row: isize,
    column: isize,
}

/// A factor of a product: matrix A or matrix B.
enum Factor {
    Matrix(Matrix),
    Packed(Box<PackedFactor>),
}

/// Factors of a product, and the division of the product into tasks.
enum Division {
    /// `gemm` divides the product of two matrices itself.
    Whole { a: Matrix, b: Matrix },
    /// The product is divided into blocks of rows, and A is packed for each block.
    Rows { a: Box<PackedFactor>, b: Matrix, block: usize },
    /// The product is divided into blocks of depth. The blocks are grouped into parts, and each part has one partial
    /// sum. B is either a matrix or packed for each block.
    Depth { a: Matrix, b: Factor, block: usize, parts: usize },
}

/// A compiled matrix product.
pub(crate) struct GemmKernel<T> {
    batch: Vec<usize>,
    m: usize,
    n: usize,
    k: usize,
    division: Division,
    c: Matrix,
    /// Kernels that copy factors to scratch memory before the product is computed.
    copies: Vec<LoopKernel<T>>,
    epilogue: Option<LoopKernel<T>>,
    /// Size in bytes of each tensor in scratch memory. The operand numbers of these tensors follow the operands of the
    /// dispatch.
    scratch: Vec<usize>,
}

/// Types and access of the operands of the dispatch, followed by those of the tensors in scratch memory.
struct Operands {
    dtypes: Vec<DType>,
    access: Vec<Access>,
    scratch: Vec<usize>,
}

impl Operands {
    /// Adds a float tensor in scratch memory and returns its operand number.
    fn tensor<T>(&mut self, elements: usize) -> usize {
        self.dtypes.push(DType::F32);
        self.access.push(Access::Write);
        self.scratch.push((elements * size_of::<T>()).next_multiple_of(LINE));
        self.dtypes.len() - 1
    }
}

impl<T: Float> GemmKernel<T> {
    /// Compiles a product that [`crate::check`] has accepted.
    pub fn new(kernel: &Gemm, dtypes: &[DType], access: &[Access]) -> Result<Self, KernelError> {
        let mut operands = Operands { dtypes: dtypes.to_vec(), access: access.to_vec(), scratch: Vec::new() };
        let mut copies = Vec::new();
        let batch = kernel.batch.len();
        let (m, n, k) = (kernel.rows(), kernel.columns(), kernel.depth());
        // If neither factor is a matrix, the smaller one is copied, because only one factor can be packed.
        let a_first = m >= n;
        let mut factor = |first: bool, copied: bool, operands: &mut Operands| {
            let (operand, layout, rows) = match first {
                true => (kernel.a, &kernel.a_layout, kernel.m.len()),
                false => (kernel.b, &kernel.b_layout, kernel.k.len()),
            };
            factor::<T>(operand, layout, [batch, rows], copied, operands, &mut copies)
        };
        let larger = factor(a_first, false, &mut operands)?;
        let smaller = factor(!a_first, matches!(larger, Factor::Packed(_)), &mut operands)?;
        let (a, b) = if a_first { (larger, smaller) } else { (smaller, larger) };
        let products = kernel.products();
        let is_small_but_deep = products == 1
            && k >= 16 * m.max(n)
            && m * n <= COPY_ELEMENTS
            && 2 * m * n * k >= 8 * SINGLE_THREAD_FLOPS;
        let division = match (a, b) {
            (Factor::Packed(a), Factor::Matrix(b)) => Division::Rows { a, b, block: block_rows::<T>(k, m) },
            (Factor::Matrix(a), b @ Factor::Packed(_)) => Division::by_depth(a, b, block_rows::<T>(n, k), k),
            (Factor::Matrix(a), b @ Factor::Matrix(_)) if is_small_but_deep => {
                Division::by_depth(a, b, k.div_ceil(MAX_PARTS), k)
            }
            (Factor::Matrix(a), Factor::Matrix(b)) => Division::Whole { a, b },
            (Factor::Packed(_), Factor::Packed(_)) => {
                return Err(never!("both factors of a matrix product are packed").into());
            }
        };
        let parts = if let Division::Depth { parts, .. } = division { Some(parts) } else { None };
        let (to, layout) = destination::<T>(kernel, parts, &mut operands);
        let c = Matrix::new(to, &layout, batch, kernel.m.len())
            .ok_or_else(|| never!("a matrix product is written to a layout that is not a matrix"))?;
        let epilogue = match epilogue(&kernel.epilogue, to, &layout) {
            None => None,
            Some(body) => {
                operands.access[to] = Access::ReadWrite;
                Some(LoopKernel::new(compile(&body, &operands.dtypes, &operands.access)?)?)
            }
        };
        let (batch, scratch) = (kernel.batch.clone(), operands.scratch);
        let mut this = Self { batch, m, n, k, division, c, copies, epilogue, scratch };
        this.merge_batch_into_rows();
        Ok(this)
    }

    /// Bytes of scratch memory that a run needs.
    pub fn scratch_bytes(&self) -> usize {
        self.scratch.iter().sum()
    }

    /// Whether several threads share the work of one run.
    pub fn is_shared(&self) -> bool {
        let loops = self.copies.iter().chain(&self.epilogue);
        self.products() * self.flops() >= SINGLE_THREAD_FLOPS || loops.into_iter().any(LoopKernel::is_shared)
    }

    /// Number of products in the batch.
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

    /// Merges the batch dimensions into the rows. This is possible only if B is the same for the whole batch, and if
    /// the rows of A and of C are contiguous across the batch.
    fn merge_batch_into_rows(&mut self) {
        let Division::Whole { a, b } = &mut self.division else { return };
        while let Some(&size) = self.batch.last() {
            let (m, last) = (self.m as isize, self.batch.len() - 1);
            let is_contiguous = |x: &Matrix| x.batch[last] == m * x.row;
            if size != 1 && !(b.batch[last] == 0 && is_contiguous(a) && is_contiguous(&self.c)) {
                break;
            }
            self.batch.pop();
            [&mut *a, &mut *b, &mut self.c].into_iter().for_each(|x| x.batch.truncate(last));
            self.m *= size;
        }
    }

    /// Runs the product and its epilogue.
    ///
    /// # Safety
    /// The operands have been checked against the dispatch, `scratch` points to [`GemmKernel::scratch_bytes`] bytes
    /// aligned to 64, and nothing else uses the operands or the scratch memory. `tensors` ends with one slot for each
    /// scratch tensor.
    pub unsafe fn run(&mut self, tensors: &mut [Tensor], scratch: *mut u8) {
        let first_scratch = tensors.len() - self.scratch.len();
        let mut at = 0;
        for (tensor, bytes) in tensors[first_scratch..].iter_mut().zip(&self.scratch) {
            *tensor = Tensor { start: scratch.wrapping_add(at), dtype: DType::F32 };
            at += bytes;
        }
        // SAFETY: the caller guarantees that the operands are valid and unused elsewhere; the scratch tensors do not
        // overlap.
        unsafe {
            self.copies.iter_mut().for_each(|copy| copy.run(tensors));
            match &self.division {
                Division::Whole { a, b } => self.run_whole(tensors, a, b),
                Division::Rows { a, b, block } => self.run_by_rows(tensors, a, b, *block),
                Division::Depth { a, b, block, parts } => self.run_by_depth(tensors, (a, b), *block, *parts),
            }
            if let Some(epilogue) = &mut self.epilogue {
                epilogue.run(tensors);
            }
        }
    }

    unsafe fn run_whole(&self, tensors: &[Tensor], a: &Matrix, b: &Matrix) {
        let count = self.products();
        let flops = self.flops();
        let product = |i: usize, parallel| {
            // SAFETY: the caller of `run` guarantees valid operands; the products of a batch write disjoint parts of C.
            unsafe {
                let (a, b, c): (MatrixRef<T>, _, _) = (
                    a.start(tensors, &self.batch, i),
                    b.start(tensors, &self.batch, i),
                    self.c.start(tensors, &self.batch, i),
                );
                multiply([self.m, self.n, self.k], c, a, b, false, parallel);
            }
        };
        if flops >= SINGLE_THREAD_FLOPS * 8 || count == 1 {
            let parallel =
                if flops < SINGLE_THREAD_FLOPS { Parallelism::None } else { Parallelism::Rayon(0) };
            (0..count).for_each(|i| product(i, parallel));
        } else {
            self.run_tasks(count, |i| product(i, Parallelism::None));
        }
    }

    /// Runs `count` tasks that write disjoint memory. The tasks run on all threads if the product is large enough,
    /// otherwise on one thread.
    fn run_tasks(&self, count: usize, task: impl Fn(usize) + Send + Sync) {
        if self.products() * self.flops() < SINGLE_THREAD_FLOPS {
            (0..count).for_each(task);
        } else {
            (0..count).into_par_iter().for_each(task);
        }
    }

    unsafe fn run_by_rows(&self, tensors: &[Tensor], a: &PackedFactor, b: &Matrix, block: usize) {
        let blocks = self.m.div_ceil(block);
        self.run_tasks(self.products() * blocks, |task| {
            let (product, first) = (task / blocks, task % blocks * block);
            let rows = first..self.m.min(first + block);
            with_scratch(block * self.k * size_of::<T>(), |packed| {
                // SAFETY: the caller of `run` guarantees valid operands; the scratch memory belongs to this thread, and
                // each block writes rows of C that no other block writes.
                unsafe {
                    let packed: *mut T = packed.cast();
                    a.pack(tensors, product, rows.clone(), packed);
                    let a = MatrixRef { start: packed, row: self.k as isize, column: 1 };
                    let b = b.start(tensors, &self.batch, product);
                    let c = self.c.start(tensors, &self.batch, product).row(first);
                    multiply([rows.len(), self.n, self.k], c, a, b, false, Parallelism::None);
                }
            });
        });
    }

    /// Computes one partial sum for each part of the depth. The partial sums are stored consecutively in scratch
    /// memory, and then added in order.
    unsafe fn run_by_depth(
        &self,
        tensors: &[Tensor],
        factors: (&Matrix, &Factor),
        block: usize,
        parts: usize,
    ) {
        let blocks = self.k.div_ceil(block);
        let (products, size) = (self.products(), self.m * self.n);
        let sums = PartialSums(self.c.start(tensors, &[], 0).start);
        self.run_tasks(products * parts, |task| {
            let (product, part) = (task % products, task / products);
            let own_blocks = blocks * part / parts..blocks * (part + 1) / parts;
            let start = sums.at(task * size);
            let c = MatrixRef { start, row: self.n as isize, column: 1 };
            // SAFETY: the caller of `run` guarantees valid operands; each task writes its own matrix of the partial
            // sums.
            unsafe { self.sum_part(tensors, factors, product, own_blocks, block, c) };
        });
        let elements = products * size;
        // SAFETY: the tasks are done, and the partial sums are consecutive in scratch memory of this size.
        let (total, rest) =
            unsafe { std::slice::from_raw_parts_mut(sums.at(0), elements * parts) }.split_at_mut(elements);
        for part in rest.chunks_exact(elements) {
            total.iter_mut().zip(part).for_each(|(sum, &x)| *sum += x);
        }
    }

    /// Computes the partial sum `c` over the given range of blocks of the depth.
    unsafe fn sum_part(
        &self,
        tensors: &[Tensor],
        (a, b): (&Matrix, &Factor),
        product: usize,
        blocks: Range<usize>,
        block: usize,
        c: MatrixRef<T>,
    ) {
        for (i, number) in blocks.enumerate() {
            let depth = number * block..self.k.min((number + 1) * block);
            let sizes = [self.m, self.n, depth.len()];
            // SAFETY: the caller guarantees valid factors and exclusive use of C; the scratch memory belongs to this
            // thread.
            unsafe {
                let a = a.start(tensors, &self.batch, product).column(depth.start);
                match b {
                    Factor::Matrix(b) => {
                        let b = b.start(tensors, &self.batch, product).row(depth.start);
                        multiply(sizes, c, a, b, i > 0, Parallelism::None);
                    }
                    Factor::Packed(b) => with_scratch(block * self.n * size_of::<T>(), |packed| {
                        let packed: *mut T = packed.cast();
                        b.pack(tensors, product, depth, packed);
                        let b = MatrixRef { start: packed, row: self.n as isize, column: 1 };
                        multiply(sizes, c, a, b, i > 0, Parallelism::None);
                    }),
                }
            }
        }
    }
}

/// Start address of the partial sums of a product that is divided by depth.
struct PartialSums<T>(*mut T);

// SAFETY: only the address is shared; each task accesses its own part.
unsafe impl<T> Sync for PartialSums<T> {}

impl<T> PartialSums<T> {
    fn at(&self, element: usize) -> *mut T {
        self.0.wrapping_add(element)
    }
}

/// Address and strides of a matrix in memory.
#[derive(Clone, Copy)]
struct MatrixRef<T> {
    start: *mut T,
    row: isize,
    column: isize,
}

impl<T> MatrixRef<T> {
    /// Returns the submatrix that starts at this row.
    fn row(self, row: usize) -> Self {
        Self { start: self.start.wrapping_offset(row as isize * self.row), ..self }
    }

    /// Returns the submatrix that starts at this column.
    fn column(self, column: usize) -> Self {
        Self { start: self.start.wrapping_offset(column as isize * self.column), ..self }
    }
}

/// Computes C = A·B for sizes [m, n, k], or C + A·B if `add` is set.
///
/// # Safety
/// The matrices are valid for their sizes, nothing writes A or B, and nothing else uses C.
unsafe fn multiply<T: Float>(
    [m, n, k]: [usize; 3],
    c: MatrixRef<T>,
    a: MatrixRef<T>,
    b: MatrixRef<T>,
    add: bool,
    parallel: Parallelism,
) {
    let one = T::from_f64(1.0);
    let alpha = if add { one } else { T::default() };
    // SAFETY: the caller guarantees that the matrices are valid and C is unused elsewhere.
    unsafe {
        gemm::gemm(
            m, n, k, c.start, c.column, c.row, add, a.start, a.column, a.row, b.start, b.column, b.row,
            alpha, one, false, false, false, parallel,
        );
    }
}

/// Returns the number of rows of a packed block, which is at most `most`. Each row has `columns` elements.
fn block_rows<T>(columns: usize, most: usize) -> usize {
    (BLOCK_BYTES / (columns * size_of::<T>()).max(1) / 16 * 16).clamp(16, 512).min(most.max(1))
}

impl Division {
    fn by_depth(a: Matrix, b: Factor, block: usize, k: usize) -> Self {
        Division::Depth { a, b, block, parts: k.div_ceil(block).min(MAX_PARTS) }
    }
}

impl Matrix {
    /// Interprets a layout over batch, rows and columns as a matrix. `batch` and `rows` are the numbers of batch
    /// dimensions and row dimensions. Returns `None` if the rows or columns have no constant stride, or if the layout
    /// has bounds.
    fn new(operand: usize, layout: &Layout, batch: usize, rows: usize) -> Option<Matrix> {
        if !layout.is_unpadded() {
            return None;
        }
        let rank = layout.shape.len();
        let stride = |dims: Range<usize>| Axis::new(layout, dims, 1).stride();
        let (row, column) = (stride(batch..batch + rows)?, stride(batch + rows..rank)?);
        let size = |dims: Range<usize>| layout.shape[dims].iter().product::<usize>();
        let (rows, columns) = (size(batch..batch + rows), size(batch + rows..rank));
        // The stride of a dimension of size 1 is never used. It is set to the stride of a contiguous matrix, for which
        // `gemm` is fastest.
        let column = if columns == 1 { 1 } else { column };
        let row = if rows == 1 { columns as isize } else { row };
        Some(Matrix { operand, offset: layout.offset, batch: layout.strides[..batch].to_vec(), row, column })
    }

    /// Returns the matrix of product number `i` in a batch. `batch` contains the sizes of the batch dimensions.
    fn start<T>(&self, tensors: &[Tensor], batch: &[usize], i: usize) -> MatrixRef<T> {
        let (mut rest, mut offset) = (i, self.offset);
        for (&size, &stride) in batch.iter().zip(&self.batch).rev() {
            offset += (rest % size) as isize * stride;
            rest /= size;
        }
        let start = tensors[self.operand].start.cast::<T>().wrapping_offset(offset);
        MatrixRef { start, row: self.row, column: self.column }
    }
}

/// Creates factor A or factor B from its layout. An f32 layout that is a matrix is used in place. Any other layout is
/// packed if it is large and `copied` is false. Otherwise, it is copied to scratch memory.
fn factor<T: Float>(
    operand: usize,
    layout: &Layout,
    [batch, rows]: [usize; 2],
    copied: bool,
    operands: &mut Operands,
    copies: &mut Vec<LoopKernel<T>>,
) -> Result<Factor, KernelError> {
    let plain = operands.dtypes[operand] == DType::F32;
    if let Some(matrix) = Matrix::new(operand, layout, batch, rows).filter(|_| plain) {
        return Ok(Factor::Matrix(matrix));
    }
    // If the factor is broadcast along a batch dimension, it is copied once for this dimension.
    let moves = |i: usize| layout.strides[i] != 0 || layout.bounds.iter().any(|bound| bound.strides[i] != 0);
    let size = |(i, &size): (usize, &usize)| if i < batch && !moves(i) { 1 } else { size };
    let outer: Vec<usize> = layout.shape.iter().enumerate().map(size).collect();
    if plain
        && !copied
        && outer.iter().product::<usize>() > COPY_ELEMENTS
        && let Some(packed) = PackedFactor::new(operand, layout, batch, rows)?
    {
        return Ok(Factor::Packed(Box::new(packed)));
    }
    let to = Layout::contiguous(&outer);
    let copy = operands.tensor::<T>(outer.iter().product());
    let from = Layout { shape: outer.clone(), ..layout.clone() };
    let body = vec![Instr::Load { operand, layout: from }];
    let stores = vec![Store { value: 0, operand: copy, layout: to.clone() }];
    let kernel = Loop { outer, inner: Vec::new(), body, stores };
    copies.push(LoopKernel::new(compile(&kernel, &operands.dtypes, &operands.access)?)?);
    let to = Layout { shape: layout.shape.clone(), ..to };
    let matrix = Matrix::new(copy, &to, batch, rows);
    Ok(Factor::Matrix(matrix.ok_or_else(|| never!("the copy of a factor is not a matrix"))?))
}

/// Returns the operand and the layout to which the product is written. This is a store of the epilogue whose layout is
/// a matrix, if there is one and the product has no partial sums. Otherwise, it is a tensor in scratch memory, which
/// has room for one matrix per partial sum.
fn destination<T: Float>(kernel: &Gemm, parts: Option<usize>, operands: &mut Operands) -> (usize, Layout) {
    let epilogue = &kernel.epilogue;
    let fits = |store: &&Store| {
        let only = epilogue.stores.iter().filter(|other| other.operand == store.operand).count() == 1;
        let is_matrix = Matrix::new(0, &store.layout, kernel.batch.len(), kernel.m.len()).is_some();
        let plain =
            operands.dtypes[store.operand] == DType::F32 && operands.access[store.operand] == Access::Write;
        only && is_matrix && plain
    };
    match epilogue.stores.iter().find(fits).filter(|_| parts.is_none()) {
        Some(store) => (store.operand, store.layout.clone()),
        None => {
            let layout = Layout::contiguous(&epilogue.outer);
            (operands.tensor::<T>(layout.numel() * parts.unwrap_or(1)), layout)
        }
    }
}

/// Returns the epilogue, in which each use of the product is replaced by a load from operand `to`. Returns `None` if
/// no store remains.
fn epilogue(epilogue: &Loop, to: usize, layout: &Layout) -> Option<Loop> {
    let load = Instr::Load { operand: to, layout: layout.clone() };
    let mut body = epilogue.clone();
    body.body.iter_mut().filter(|instr| **instr == Instr::Product).for_each(|instr| *instr = load.clone());
    body.stores.retain(|store| !(store.operand == to && epilogue.body[store.value] == Instr::Product));
    (!body.stores.is_empty()).then_some(body)
}
