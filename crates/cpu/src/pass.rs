//! Execution of vector operations over the lanes of registers. This is the inner part of the interpreter. The code
//! does not depend on blocks, stages or threads.

use std::slice;

use half::f16;
use wgrad_graph::{Call, DType};

use crate::address::{Address, Axis, Position};
use crate::float::Float;
use crate::memory::{LINE, Tensor};
use crate::plan::{Location, Mode, Plan, Splat, VectorOp, Write};
use crate::reduce::Accumulator;

/// Positions of the registers of one task in its scratch memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    base: *mut u8,
    uniform_bytes: usize,
    row_bytes: usize,
    element_bytes: usize,
    kept_bytes: usize,
    periodic_at: usize,
    row_at: usize,
    result_at: usize,
    element_at: usize,
    kept_at: usize,
    accumulator_at: usize,
    accumulator_bytes: usize,
}

fn register_bytes<T>(lanes: usize) -> usize {
    (lanes * size_of::<T>()).next_multiple_of(LINE)
}

impl Frame {
    /// Size of the scratch memory that a task needs, in bytes.
    pub fn bytes<T: Float>(plan: &Plan<T>) -> usize {
        let frame = Frame::new(std::ptr::null_mut(), plan);
        frame.accumulator_at + frame.accumulator_bytes * plan.reductions.len()
    }

    /// Creates the frame of a plan in the scratch memory at `base`.
    pub fn new<T: Float>(base: *mut u8, plan: &Plan<T>) -> Frame {
        let tiling = plan.tiling;
        let uniform_bytes = register_bytes::<T>(tiling.block.max(tiling.lanes));
        let (row_bytes, element_bytes) =
            (register_bytes::<T>(tiling.block), register_bytes::<T>(tiling.lanes));
        let kept_bytes =
            if plan.registers.kept == 0 { 0 } else { register_bytes::<T>(tiling.block * plan.columns) };
        let periodic_at = uniform_bytes * plan.registers.uniform;
        let row_at = periodic_at + row_bytes * plan.registers.periodic;
        let result_at = row_at + row_bytes * plan.registers.row;
        let element_at = result_at + row_bytes * plan.reductions.len();
        let kept_at = element_at + element_bytes * plan.registers.element;
        let accumulator_at = kept_at + kept_bytes * plan.registers.kept;
        let accumulator_bytes = Accumulator::<T>::bytes(tiling.block);
        Frame {
            base,
            uniform_bytes,
            row_bytes,
            element_bytes,
            kept_bytes,
            periodic_at,
            row_at,
            result_at,
            element_at,
            kept_at,
            accumulator_at,
            accumulator_bytes,
        }
    }

    /// Returns the address of the register at a location. For kept values, returns the address of the first element of
    /// the block.
    pub fn register(&self, location: Location) -> *mut u8 {
        let at = match location {
            Location::Uniform(i) => i * self.uniform_bytes,
            Location::Periodic(i) => self.periodic_at + i * self.row_bytes,
            Location::Row(i) => self.row_at + i * self.row_bytes,
            Location::Result(i) => self.result_at + i * self.row_bytes,
            Location::Element(i) => self.element_at + i * self.element_bytes,
            Location::Kept(i) => self.kept_at + i * self.kept_bytes,
            Location::Direct(_) => 0,
        };
        self.base.wrapping_add(at)
    }

    /// Returns the address of accumulator number `i`.
    pub fn accumulator(&self, i: usize) -> *mut u8 {
        self.base.wrapping_add(self.accumulator_at + i * self.accumulator_bytes)
    }
}

/// A range of lanes of a kernel, over which straight-line code runs.
#[derive(Clone, Copy)]
pub(crate) struct Pass<'a> {
    pub frame: Frame,
    pub tensors: &'a [Tensor],
    pub addresses: &'a [Address],
    /// Direction of the lanes.
    pub mode: Mode,
    /// Row or column of the first lane, within the kernel.
    pub start: usize,
    /// Number of lanes.
    pub len: usize,
    /// The index that is the same in all lanes: the column (lanes along rows) or the row (lanes along columns).
    pub fixed: usize,
    /// Index of the first lane in the block's buffer of kept values, which later stages read.
    pub kept: usize,
}

/// The safety of all methods is based on three facts. First, `check` has proved that the addresses of a plan stay
/// inside their tensors for every row and column, that written ranges overlap no other access, and that calls get
/// arguments of the right types. Second, `emit` gives each register enough lanes, and never assigns the same register
/// to an argument and a result. Third, each task has its own frame and its own rows or chunk of columns. Therefore
/// every slice below is inside its allocation, and no mutable slice is shared.
impl Pass<'_> {
    /// Returns the axis of an address along which the lanes run. Also returns the position of lane 0 of the kernel at
    /// the fixed row or column.
    #[inline]
    fn lanes<'b>(&self, address: &'b Address) -> (&'b Axis, Position) {
        let (lanes, fixed) = match self.mode {
            Mode::Rows => (&address.rows, &address.columns),
            Mode::Columns => (&address.columns, &address.rows),
        };
        let mut position = address.start;
        fixed.advance(&mut position, self.fixed);
        (lanes, position)
    }

    #[inline]
    fn pointer<S>(&self, location: Location) -> *mut S {
        match location {
            Location::Direct(i) => {
                let address = &self.addresses[i];
                let (axis, mut position) = self.lanes(address);
                axis.advance(&mut position, self.start);
                self.tensors[address.operand].start.cast::<S>().wrapping_offset(position.offset)
            }
            Location::Kept(_) => self.frame.register(location).cast::<S>().wrapping_add(self.kept),
            _ => self.frame.register(location).cast(),
        }
    }

    #[inline]
    unsafe fn lanes_of<S>(&self, location: Location) -> &[S] {
        // SAFETY: `check` proved that addresses stay inside their tensors, and `emit` sized each register for the lanes
        // of a pass.
        unsafe { slice::from_raw_parts(self.pointer(location), self.len) }
    }

    #[allow(clippy::mut_from_ref)]
    #[inline]
    unsafe fn lanes_of_mut<S>(&self, location: Location) -> &mut [S] {
        // SAFETY: the slice is in bounds as in `lanes_of`; `emit` never uses the location of a result as an argument,
        // and no other task has the same registers or writes the same elements.
        unsafe { slice::from_raw_parts_mut(self.pointer(location), self.len) }
    }

    /// Runs vector operations on all lanes of the pass.
    ///
    /// # Safety
    /// The pass belongs to the plan of the operations, which has been checked against the tensors.
    pub unsafe fn run<T: Float>(&self, ops: &[VectorOp<T>]) {
        for op in ops {
            // SAFETY: the caller guarantees a plan that was checked against the tensors, so all locations and addresses
            // are in bounds.
            unsafe {
                match op {
                    VectorOp::Float(x, to) => self.lanes_of_mut(*to).fill(*x),
                    VectorOp::U32(x, to) => self.lanes_of_mut(*to).fill(*x),
                    VectorOp::Load { address, to } => self.load::<T>(&self.addresses[*address], *to),
                    VectorOp::Iota { address, to } => {
                        self.iota(&self.addresses[*address], self.lanes_of_mut(*to))
                    }
                    VectorOp::Gather { address, index, stride, bound, to } => {
                        let rows =
                            GatherRows { index: self.lanes_of(*index), stride: *stride, bound: *bound };
                        self.gather::<T>(&self.addresses[*address], rows, *to);
                    }
                    VectorOp::Call { call, args, to } => self.call(call, args, *to),
                }
            }
        }
    }

    unsafe fn call<T: Float>(&self, call: &Call<T>, [a, b, c, d, e]: &[Location; 5], to: Location) {
        // SAFETY: `check` proved that the arguments have the types that the function takes; `emit` gives the result its
        // own register.
        unsafe {
            match call {
                Call::Unary(f) => f(self.lanes_of(*a), self.lanes_of_mut(to)),
                Call::Binary(f) => f(self.lanes_of(*a), self.lanes_of(*b), self.lanes_of_mut(to)),
                Call::Ternary(f) => {
                    f(self.lanes_of(*a), self.lanes_of(*b), self.lanes_of(*c), self.lanes_of_mut(to))
                }
                Call::FromU32(f) => f(self.lanes_of(*a), self.lanes_of_mut(to)),
                Call::ToU32(f) => f(self.lanes_of(*a), self.lanes_of_mut(to)),
                Call::CompareU32(f) => f(self.lanes_of(*a), self.lanes_of(*b), self.lanes_of_mut(to)),
                Call::Random(f) => {
                    f(
                        [
                            self.lanes_of(*a),
                            self.lanes_of(*b),
                            self.lanes_of(*c),
                            self.lanes_of(*d),
                            self.lanes_of(*e),
                        ],
                        self.lanes_of_mut(to),
                    );
                }
            }
        }
    }

    unsafe fn load<T: Float>(&self, address: &Address, to: Location) {
        // SAFETY: the element type of the operand determines the type of the register, and both are in bounds as in
        // `lanes_of`.
        unsafe {
            match self.tensors[address.operand].dtype {
                DType::F32 => self.read(address, self.lanes_of_mut::<T>(to), T::default(), |x: T| x),
                DType::U32 => self.read(address, self.lanes_of_mut::<u32>(to), 0, |x: u32| x),
                DType::F16 => self.read(address, self.lanes_of_mut::<T>(to), T::default(), f16_to_float::<T>),
            }
        }
    }

    #[inline]
    unsafe fn read<S: Copy, R: Copy>(
        &self,
        address: &Address,
        to: &mut [R],
        zero: R,
        convert: impl Fn(S) -> R,
    ) {
        let (axis, position) = self.lanes(address);
        let from: *const S = self.tensors[address.operand].start.cast();
        axis.for_each_run(self.start, self.len, position, &address.sizes, |range, at, stride| {
            let to = &mut to[range];
            let Some(at) = at else { return to.fill(zero) };
            let from = from.wrapping_offset(at);
            // SAFETY: `check` proved that the offsets of every run stay inside the tensor.
            unsafe {
                match stride {
                    0 => to.fill(convert(*from)),
                    1 => {
                        let from = slice::from_raw_parts(from, to.len());
                        to.iter_mut().zip(from).for_each(|(to, &x)| *to = convert(x));
                    }
                    _ => {
                        let strided = |i: usize| *from.wrapping_offset(i as isize * stride);
                        to.iter_mut().enumerate().for_each(|(i, to)| *to = convert(strided(i)));
                    }
                }
            }
        });
    }

    fn iota(&self, address: &Address, to: &mut [u32]) {
        let (axis, position) = self.lanes(address);
        axis.for_each_run(self.start, self.len, position, &address.sizes, |range, at, stride| {
            let at = at.unwrap_or(0);
            to[range].iter_mut().enumerate().for_each(|(i, to)| *to = (at + i as isize * stride) as u32);
        });
    }

    unsafe fn gather<T: Float>(&self, address: &Address, rows: GatherRows<'_>, to: Location) {
        // SAFETY: the element type of the operand determines the type of the register, and the index is u32, as `check`
        // proved.
        unsafe {
            let nan = T::from_f64(f64::NAN);
            match self.tensors[address.operand].dtype {
                DType::F32 => self.gather_rows(address, rows, self.lanes_of_mut::<T>(to), nan, |x: T| x),
                DType::U32 => self.gather_rows(address, rows, self.lanes_of_mut::<u32>(to), 0, |x: u32| x),
                DType::F16 => {
                    self.gather_rows(address, rows, self.lanes_of_mut::<T>(to), nan, f16_to_float::<T>)
                }
            }
        }
    }

    #[inline]
    unsafe fn gather_rows<S: Copy, R: Copy>(
        &self,
        address: &Address,
        rows: GatherRows<'_>,
        to: &mut [R],
        outside: R,
        convert: impl Fn(S) -> R,
    ) {
        let (axis, position) = self.lanes(address);
        let from: *const S = self.tensors[address.operand].start.cast();
        axis.for_each_run(self.start, self.len, position, &address.sizes, |range, at, stride| {
            let Some(at) = at else { return to[range].fill(outside) };
            for (i, (to, &row)) in to[range.clone()].iter_mut().zip(&rows.index[range]).enumerate() {
                let offset = at + i as isize * stride + row as isize * rows.stride;
                *to = outside;
                if (row as usize) < rows.bound {
                    // SAFETY: the row is below the bound, and `check` proved that all rows below it are inside the
                    // tensor.
                    *to = convert(unsafe { *from.wrapping_offset(offset) });
                }
            }
        });
    }

    /// Writes registers to the operands, for all lanes of the pass.
    ///
    /// # Safety
    /// As for [`Pass::run`].
    pub unsafe fn write<T: Float>(&self, writes: &[Write]) {
        for write in writes {
            let address = &self.addresses[write.address];
            // SAFETY: the element type of the operand determines the type of the register.
            unsafe {
                match self.tensors[address.operand].dtype {
                    DType::F32 => self.scatter(address, self.lanes_of::<T>(write.from), |x| x),
                    DType::U32 => self.scatter(address, self.lanes_of::<u32>(write.from), |x| x),
                    DType::F16 => self.scatter(address, self.lanes_of::<T>(write.from), |x| {
                        f16::from_f32(x.to_f64() as f32)
                    }),
                }
            }
        }
    }

    #[inline]
    unsafe fn scatter<S: Copy, R: Copy>(&self, address: &Address, values: &[R], convert: impl Fn(R) -> S) {
        let (axis, position) = self.lanes(address);
        let to: *mut S = self.tensors[address.operand].start.cast();
        axis.for_each_run(self.start, self.len, position, &address.sizes, |range, at, stride| {
            let Some(at) = at else { return };
            let to = to.wrapping_offset(at);
            // SAFETY: `check` proved that the offsets of every run stay inside the tensor and that nothing else
            // accesses them.
            unsafe {
                if stride == 1 {
                    let to = slice::from_raw_parts_mut(to, range.len());
                    to.iter_mut().zip(&values[range]).for_each(|(to, &x)| *to = convert(x));
                } else {
                    for (i, &x) in values[range].iter().enumerate() {
                        *to.wrapping_offset(i as isize * stride) = convert(x);
                    }
                }
            }
        });
    }

    /// Copies the values of one row to all lanes of element registers; `rows` is the pass over the rows of the block.
    ///
    /// # Safety
    /// As for [`Pass::run`]; `row` is below `rows.len`.
    pub unsafe fn splat<T: Float>(&self, splats: &[Splat], rows: &Pass<'_>, row: usize) {
        for splat in splats {
            // SAFETY: source and destination are different registers of this task's frame, with the type that `is_u32`
            // states.
            unsafe {
                if splat.is_u32 {
                    let x = rows.lanes_of::<u32>(splat.from)[row];
                    self.lanes_of_mut(splat.to).fill(x);
                } else {
                    let x = rows.lanes_of::<T>(splat.from)[row];
                    self.lanes_of_mut(splat.to).fill(x);
                }
            }
        }
    }

    /// Returns the lanes of a float register.
    ///
    /// # Safety
    /// As for [`Pass::run`].
    pub unsafe fn values<T: Float>(&self, location: Location) -> &[T] {
        // SAFETY: the caller guarantees that the register holds floats and belongs to the plan of this pass.
        unsafe { self.lanes_of(location) }
    }
}

/// Row numbers that a gather reads: one index per lane, the stride between rows, and the number of valid rows.
struct GatherRows<'a> {
    index: &'a [u32],
    stride: isize,
    bound: usize,
}

fn f16_to_float<T: Float>(x: f16) -> T {
    T::from_f64(f64::from(x.to_f32()))
}
