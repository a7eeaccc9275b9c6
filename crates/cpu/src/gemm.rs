//! Matrix products: the `gemm` crate for the product, a loop kernel in place over it for the epilogue.
//!
//! The product is written where the epilogue stores its first plain f32 tensor, whatever the strides, so that an epilogue
//! that does nothing costs nothing. Where there is none (the residual is updated in place, or the result is f16) it goes to
//! scratch memory, and so do f32 copies of f16 factors. The bits do not depend on the number of threads: threads share the
//! rows and columns of a product, never its sums.

use gemm::Parallelism;
use rayon::prelude::*;
use wgrad_graph::{DType, Layout};
use wgrad_program::{Access, Gemm, Instr, Loop, Store};

use crate::compile::compile;
use crate::float::Float;
use crate::kernel::LoopKernel;
use crate::memory::{LINE, Tensor};

/// Floating-point operations of a product below which one thread does it.
const ONE_THREAD: usize = 2 * 96 * 96 * 96;

/// A matrix as `gemm` sees it: operand, start and strides in elements.
#[derive(Debug, Clone)]
struct Matrix {
    operand: usize,
    offset: isize,
    batch: Vec<isize>,
    row: isize,
    column: isize,
}

/// A compiled matrix product.
pub(crate) struct GemmKernel<T> {
    batch: Vec<usize>,
    m: usize,
    n: usize,
    k: usize,
    a: Matrix,
    b: Matrix,
    c: Matrix,
    /// Kernels that copy f16 factors.
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
        let a = factor::<T>(kernel.a, &kernel.a_layout, &mut extra, &mut copies)?;
        let b = factor::<T>(kernel.b, &kernel.b_layout, &mut extra, &mut copies)?;
        let (to, layout) = destination::<T>(&kernel.epilogue, &mut extra);
        let c = Matrix::new(to, &layout);
        let epilogue = match epilogue(&kernel.epilogue, to, &layout) {
            None => None,
            Some(body) => {
                extra.access[to] = Access::ReadWrite;
                Some(LoopKernel::new(compile(&body, &extra.dtypes, &extra.access))?)
            }
        };
        let mut this = Self {
            batch: kernel.batch.clone(),
            m: kernel.m,
            n: kernel.n,
            k: kernel.k,
            a,
            b,
            c,
            copies,
            epilogue,
            scratch: extra.scratch,
        };
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
        self.batch.iter().product::<usize>() * self.flops() >= ONE_THREAD
            || loops.into_iter().any(LoopKernel::is_shared)
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
        while let Some(&size) = self.batch.last() {
            let (m, last) = (self.m as isize, self.batch.len() - 1);
            let goes_on = |x: &Matrix| x.batch[last] == m * x.row;
            if size != 1 && !(self.b.batch[last] == 0 && goes_on(&self.a) && goes_on(&self.c)) {
                break;
            }
            self.batch.pop();
            [&mut self.a, &mut self.b, &mut self.c].into_iter().for_each(|x| x.batch.truncate(last));
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
            self.products(tensors);
            if let Some(epilogue) = &mut self.epilogue {
                epilogue.run(tensors);
            }
        }
    }

    unsafe fn products(&self, tensors: &[Tensor]) {
        let count = self.batch.iter().product::<usize>();
        let flops = self.flops();
        // SAFETY: `run` has the same contract; products of a batch write apart.
        unsafe {
            if flops >= ONE_THREAD * 8 || count == 1 {
                let parallel = if flops < ONE_THREAD { Parallelism::None } else { Parallelism::Rayon(0) };
                (0..count).for_each(|i| self.product(tensors, i, parallel));
            } else if count * flops < ONE_THREAD {
                (0..count).for_each(|i| self.product(tensors, i, Parallelism::None));
            } else {
                (0..count).into_par_iter().for_each(|i| self.product(tensors, i, Parallelism::None));
            }
        }
    }

    /// Product number `i` of the batch.
    unsafe fn product(&self, tensors: &[Tensor], i: usize, parallel: Parallelism) {
        let at = |x: &Matrix| -> *mut T {
            let (mut rest, mut offset) = (i, x.offset);
            for (&size, &stride) in self.batch.iter().zip(&x.batch).rev() {
                offset += (rest % size) as isize * stride;
                rest /= size;
            }
            tensors[x.operand].start.cast::<T>().wrapping_offset(offset)
        };
        let (a, b, c) = (&self.a, &self.b, &self.c);
        let (zero, one) = (T::default(), T::from_f64(1.0));
        // SAFETY: the layouts of A, B and C stay inside their tensors, and C overlaps neither, as `check` has proved.
        unsafe {
            gemm::gemm(
                self.m,
                self.n,
                self.k,
                at(c),
                c.column,
                c.row,
                false,
                at(a),
                a.column,
                a.row,
                at(b),
                b.column,
                b.row,
                zero,
                one,
                false,
                false,
                false,
                parallel,
            );
        }
    }
}

impl Matrix {
    fn new(operand: usize, layout: &Layout) -> Matrix {
        let (batch, matrix) = layout.strides.split_at(layout.strides.len() - 2);
        let (rows, columns) = (layout.shape[batch.len()], layout.shape[batch.len() + 1]);
        // A step that is never taken: what it would be in a matrix that lies contiguous, where `gemm` is fastest.
        let column = if columns == 1 { 1 } else { matrix[1] };
        let row = if rows == 1 { columns as isize } else { matrix[0] };
        Matrix { operand, offset: layout.offset, batch: batch.to_vec(), row, column }
    }
}

/// A or B, copied to f32 first where it is f16.
fn factor<T: Float>(
    operand: usize,
    layout: &Layout,
    extra: &mut Extra,
    copies: &mut Vec<LoopKernel<T>>,
) -> Option<Matrix> {
    if extra.dtypes[operand] == DType::F32 {
        return Some(Matrix::new(operand, layout));
    }
    // What is repeated along the batch is copied once.
    let batch = layout.shape.len() - 2;
    let once = |i: usize| i < batch && layout.strides[i] == 0;
    let outer: Vec<usize> =
        layout.shape.iter().enumerate().map(|(i, &n)| if once(i) { 1 } else { n }).collect();
    let to = Layout::contiguous(&outer);
    let copy = extra.tensor::<T>(outer.iter().product());
    let from = Layout { shape: outer.clone(), ..layout.clone() };
    let body = vec![Instr::Load { operand, layout: from }];
    let stores = vec![Store { value: 0, operand: copy, layout: to.clone() }];
    let kernel = Loop { outer, inner: Vec::new(), body, stores };
    copies.push(LoopKernel::new(compile(&kernel, &extra.dtypes, &extra.access))?);
    Some(Matrix::new(copy, &Layout { shape: layout.shape.clone(), ..to }))
}

/// The operand and layout that the product is written to.
fn destination<T: Float>(epilogue: &Loop, extra: &mut Extra) -> (usize, Layout) {
    let fits = |store: &&Store| {
        let only = epilogue.stores.iter().filter(|other| other.operand == store.operand).count() == 1;
        only && extra.dtypes[store.operand] == DType::F32 && extra.access[store.operand] == Access::Write
    };
    match epilogue.stores.iter().find(fits) {
        Some(store) => (store.operand, store.layout.clone()),
        None => {
            let layout = Layout::contiguous(&epilogue.outer);
            (extra.tensor::<T>(layout.numel()), layout)
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
