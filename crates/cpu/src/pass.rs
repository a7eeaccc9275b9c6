//! Runs steps over the lanes of one register: the interpreter's inner part. Knows nothing of blocks, stages or threads.

use std::slice;

use half::f16;
use wgrad_graph::{Call, DType};

use crate::address::{Address, Axis, Spot};
use crate::float::Float;
use crate::memory::{LINE, Tensor};
use crate::plan::{Mode, Place, Plan, Splat, Step, Write};
use crate::reduce::Accumulator;

/// Where the registers of a task lie in its scratch memory.
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

fn register<T>(lanes: usize) -> usize {
    (lanes * size_of::<T>()).next_multiple_of(LINE)
}

impl Frame {
    /// Bytes of scratch memory that a task needs.
    pub fn bytes<T: Float>(plan: &Plan<T>) -> usize {
        let frame = Frame::new(std::ptr::null_mut(), plan);
        frame.accumulator_at + frame.accumulator_bytes * plan.reductions.len()
    }

    /// Registers in the scratch memory at `base`.
    pub fn new<T: Float>(base: *mut u8, plan: &Plan<T>) -> Frame {
        let cut = plan.cut;
        let uniform_bytes = register::<T>(cut.block.max(cut.lanes));
        let (row_bytes, element_bytes) = (register::<T>(cut.block), register::<T>(cut.lanes));
        let kept_bytes = if plan.registers.kept == 0 { 0 } else { register::<T>(cut.block * plan.columns) };
        let periodic_at = uniform_bytes * plan.registers.uniform;
        let row_at = periodic_at + row_bytes * plan.registers.periodic;
        let result_at = row_at + row_bytes * plan.registers.row;
        let element_at = result_at + row_bytes * plan.reductions.len();
        let kept_at = element_at + element_bytes * plan.registers.element;
        let accumulator_at = kept_at + kept_bytes * plan.registers.kept;
        let accumulator_bytes = Accumulator::<T>::bytes(cut.block);
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

    /// The register of a place that is one; for kept values the first element of the block.
    pub fn register(&self, place: Place) -> *mut u8 {
        let at = match place {
            Place::Uniform(i) => i * self.uniform_bytes,
            Place::Periodic(i) => self.periodic_at + i * self.row_bytes,
            Place::Row(i) => self.row_at + i * self.row_bytes,
            Place::Result(i) => self.result_at + i * self.row_bytes,
            Place::Element(i) => self.element_at + i * self.element_bytes,
            Place::Kept(i) => self.kept_at + i * self.kept_bytes,
            Place::Direct(_) => 0,
        };
        self.base.wrapping_add(at)
    }

    /// Memory of accumulator number `i`.
    pub fn accumulator(&self, i: usize) -> *mut u8 {
        self.base.wrapping_add(self.accumulator_at + i * self.accumulator_bytes)
    }
}

/// Some lanes of a kernel: what every step of a straight line of code is run for.
#[derive(Clone, Copy)]
pub(crate) struct Pass<'a> {
    pub frame: Frame,
    pub tensors: &'a [Tensor],
    pub addresses: &'a [Address],
    /// Which way the lanes run.
    pub mode: Mode,
    /// Row or column of the first lane.
    pub start: usize,
    /// Number of lanes.
    pub len: usize,
    /// The one column (lanes along rows) or row (lanes along columns).
    pub fixed: usize,
    /// Position of the first lane among the kept elements of the block.
    pub kept: usize,
}

/// Safety of all that follows: `check` has proved that the addresses of a plan stay inside their tensors for every row and
/// column, that what is written overlaps nothing else, and that calls get arguments of their kinds; the compiler of plans
/// gives each register enough lanes and never the same one to an argument and a result; and each task has a frame and
/// rows (or a chunk of columns) of its own. So every slice below is inside its allocation and no mutable one is shared.
impl Pass<'_> {
    /// The axis that the lanes run along, and where lane 0 of the kernel lies at the fixed row or column.
    #[inline]
    fn lanes<'b>(&self, address: &'b Address) -> (&'b Axis, Spot) {
        let (lanes, fixed) = match self.mode {
            Mode::Rows => (&address.rows, &address.columns),
            Mode::Columns => (&address.columns, &address.rows),
        };
        let mut spot = address.start;
        fixed.advance(&mut spot, self.fixed);
        (lanes, spot)
    }

    #[inline]
    fn pointer<S>(&self, place: Place) -> *mut S {
        match place {
            Place::Direct(i) => {
                let address = &self.addresses[i];
                let (axis, mut spot) = self.lanes(address);
                axis.advance(&mut spot, self.start);
                self.tensors[address.operand].start.cast::<S>().wrapping_offset(spot.offset)
            }
            Place::Kept(_) => self.frame.register(place).cast::<S>().wrapping_add(self.kept),
            _ => self.frame.register(place).cast(),
        }
    }

    #[inline]
    unsafe fn get<S>(&self, place: Place) -> &[S] {
        // SAFETY: see the impl.
        unsafe { slice::from_raw_parts(self.pointer(place), self.len) }
    }

    #[allow(clippy::mut_from_ref)]
    #[inline]
    unsafe fn get_mut<S>(&self, place: Place) -> &mut [S] {
        // SAFETY: see the impl.
        unsafe { slice::from_raw_parts_mut(self.pointer(place), self.len) }
    }

    /// # Safety
    /// The pass belongs to the plan of the step, which has been checked against the tensors.
    pub unsafe fn run<T: Float>(&self, steps: &[Step<T>]) {
        for step in steps {
            // SAFETY: see the impl.
            unsafe {
                match step {
                    Step::Float(x, to) => self.get_mut(*to).fill(*x),
                    Step::Word(x, to) => self.get_mut(*to).fill(*x),
                    Step::Load { address, to } => self.load::<T>(&self.addresses[*address], *to),
                    Step::Iota { address, to } => self.iota(&self.addresses[*address], self.get_mut(*to)),
                    Step::Gather { address, index, stride, bound, to } => {
                        let pick = Pick { index: self.get(*index), stride: *stride, bound: *bound };
                        self.gather::<T>(&self.addresses[*address], pick, *to);
                    }
                    Step::Call { call, args, to } => self.call(call, args, *to),
                }
            }
        }
    }

    unsafe fn call<T: Float>(&self, call: &Call<T>, [a, b, c, d, e]: &[Place; 5], to: Place) {
        // SAFETY: see the impl.
        unsafe {
            match call {
                Call::Unary(f) => f(self.get(*a), self.get_mut(to)),
                Call::Binary(f) => f(self.get(*a), self.get(*b), self.get_mut(to)),
                Call::Ternary(f) => f(self.get(*a), self.get(*b), self.get(*c), self.get_mut(to)),
                Call::FromU32(f) => f(self.get(*a), self.get_mut(to)),
                Call::ToU32(f) => f(self.get(*a), self.get_mut(to)),
                Call::CompareU32(f) => f(self.get(*a), self.get(*b), self.get_mut(to)),
                Call::Random(f) => {
                    f(
                        [self.get(*a), self.get(*b), self.get(*c), self.get(*d), self.get(*e)],
                        self.get_mut(to),
                    );
                }
            }
        }
    }

    unsafe fn load<T: Float>(&self, address: &Address, to: Place) {
        // SAFETY: see the impl; the kind of register follows from the element type of the operand.
        unsafe {
            match self.tensors[address.operand].dtype {
                DType::F32 => self.read(address, self.get_mut::<T>(to), T::default(), |x: T| x),
                DType::U32 => self.read(address, self.get_mut::<u32>(to), 0, |x: u32| x),
                DType::F16 => self.read(address, self.get_mut::<T>(to), T::default(), widened::<T>),
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
        let (axis, spot) = self.lanes(address);
        let from: *const S = self.tensors[address.operand].start.cast();
        axis.runs(self.start, self.len, spot, &address.sizes, |range, at, stride| {
            let to = &mut to[range];
            let Some(at) = at else { return to.fill(zero) };
            let from = from.wrapping_offset(at);
            // SAFETY: see the impl.
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
        let (axis, spot) = self.lanes(address);
        axis.runs(self.start, self.len, spot, &address.sizes, |range, at, stride| {
            let at = at.unwrap_or(0);
            to[range].iter_mut().enumerate().for_each(|(i, to)| *to = (at + i as isize * stride) as u32);
        });
    }

    unsafe fn gather<T: Float>(&self, address: &Address, pick: Pick<'_>, to: Place) {
        // SAFETY: see the impl.
        unsafe {
            let nan = T::from_f64(f64::NAN);
            match self.tensors[address.operand].dtype {
                DType::F32 => self.pick(address, pick, self.get_mut::<T>(to), nan, |x: T| x),
                DType::U32 => self.pick(address, pick, self.get_mut::<u32>(to), 0, |x: u32| x),
                DType::F16 => self.pick(address, pick, self.get_mut::<T>(to), nan, widened::<T>),
            }
        }
    }

    #[inline]
    unsafe fn pick<S: Copy, R: Copy>(
        &self,
        address: &Address,
        pick: Pick<'_>,
        to: &mut [R],
        outside: R,
        convert: impl Fn(S) -> R,
    ) {
        let (axis, spot) = self.lanes(address);
        let from: *const S = self.tensors[address.operand].start.cast();
        axis.runs(self.start, self.len, spot, &address.sizes, |range, at, stride| {
            let Some(at) = at else { return to[range].fill(outside) };
            for (i, (to, &row)) in to[range.clone()].iter_mut().zip(&pick.index[range]).enumerate() {
                let offset = at + i as isize * stride + row as isize * pick.stride;
                *to = outside;
                if (row as usize) < pick.bound {
                    // SAFETY: see the impl; the row is below the bound that was checked.
                    *to = convert(unsafe { *from.wrapping_offset(offset) });
                }
            }
        });
    }

    /// # Safety
    /// As for [`Pass::run`].
    pub unsafe fn write<T: Float>(&self, writes: &[Write]) {
        for write in writes {
            let address = &self.addresses[write.address];
            // SAFETY: see the impl.
            unsafe {
                match self.tensors[address.operand].dtype {
                    DType::F32 => self.scatter(address, self.get::<T>(write.from), |x| x),
                    DType::U32 => self.scatter(address, self.get::<u32>(write.from), |x| x),
                    DType::F16 => {
                        self.scatter(address, self.get::<T>(write.from), |x| f16::from_f32(x.to_f64() as f32))
                    }
                }
            }
        }
    }

    #[inline]
    unsafe fn scatter<S: Copy, R: Copy>(&self, address: &Address, values: &[R], convert: impl Fn(R) -> S) {
        let (axis, spot) = self.lanes(address);
        let to: *mut S = self.tensors[address.operand].start.cast();
        axis.runs(self.start, self.len, spot, &address.sizes, |range, at, stride| {
            let Some(at) = at else { return };
            let to = to.wrapping_offset(at);
            // SAFETY: see the impl.
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

    /// Fills element registers of this pass with values of one row of the block that `rows` is a pass over.
    ///
    /// # Safety
    /// As for [`Pass::run`]; `row` is below `rows.len`.
    pub unsafe fn splat<T: Float>(&self, splats: &[Splat], rows: &Pass<'_>, row: usize) {
        for splat in splats {
            // SAFETY: see the impl.
            unsafe {
                if splat.word {
                    let x = rows.get::<u32>(splat.from)[row];
                    self.get_mut(splat.to).fill(x);
                } else {
                    let x = rows.get::<T>(splat.from)[row];
                    self.get_mut(splat.to).fill(x);
                }
            }
        }
    }

    /// The lanes of a float register.
    ///
    /// # Safety
    /// As for [`Pass::run`].
    pub unsafe fn values<T: Float>(&self, place: Place) -> &[T] {
        // SAFETY: see the impl.
        unsafe { self.get(place) }
    }
}

/// What a gather picks for each lane.
struct Pick<'a> {
    index: &'a [u32],
    stride: isize,
    bound: usize,
}

fn widened<T: Float>(x: f16) -> T {
    T::from_f64(f64::from(x.to_f32()))
}
