//! Buffers, and tensors as addresses in buffers.
//!
//! Kernels access memory through raw pointers, because the tensors of a dispatch share a few buffers, and only the
//! program determines which parts are read and written. Before a program runs, [`crate::check`] proves that every
//! access of a dispatch stays inside its tensor and that no written range overlaps another operand.
//!
//! An element of `b` bytes in the plan has a cell of `b · SCALE` bytes in memory (see [`crate::float::Float::SCALE`]).
//! If the computation uses f64, a float element fills its cell. A u32 or f16 element is then at the start of a cell of
//! twice its size, so the strides of u32 and f16 tensors are doubled ([`pitch`]). An element thus has the same address
//! in a tensor and in the flat group or pack that contains the tensor.

use std::alloc::{self, Layout};
use std::cell::RefCell;
use std::ptr::NonNull;

use wgrad_graph::DType;

use crate::float::Float;

/// Alignment of buffers and registers in bytes: the size of a cache line and of the widest vector.
pub(crate) const LINE: usize = 64;

/// An owned block of bytes at a fixed address.
#[derive(Debug)]
pub(crate) struct Memory {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a `Memory` owns its bytes, like a `Vec<u8>`.
unsafe impl Send for Memory {}
// SAFETY: a shared `Memory` gives access to its address and size only.
unsafe impl Sync for Memory {}

impl Memory {
    /// Allocates zeroed bytes. Returns `None` if the system is out of memory.
    pub fn zeroed(bytes: usize) -> Option<Memory> {
        if bytes == 0 {
            return Some(Memory { start: NonNull::dangling(), bytes });
        }
        let layout = Layout::from_size_align(bytes, LINE).ok()?;
        // SAFETY: the layout has a non-zero size.
        let start = NonNull::new(unsafe { alloc::alloc_zeroed(layout) })?;
        Some(Memory { start, bytes })
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Sets every byte to `byte`. 0xFF results in NaN in every float type.
    pub fn fill(&mut self, byte: u8) {
        // SAFETY: the bytes are owned, and `&mut` excludes a running kernel.
        unsafe { self.start.as_ptr().write_bytes(byte, self.bytes) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let (true, Ok(layout)) = (self.bytes > 0, Layout::from_size_align(self.bytes, LINE)) {
            // SAFETY: the memory was allocated by `zeroed` with the same layout.
            unsafe { alloc::dealloc(self.start.as_ptr(), layout) }
        }
    }
}

/// Address of a tensor's first element, and the type in which the elements are stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tensor {
    pub start: *mut u8,
    pub dtype: DType,
}

// SAFETY: only the address moves; the kernels that use it are checked not to race.
unsafe impl Send for Tensor {}
// SAFETY: only the address is shared; the kernels that use it are checked not to race.
unsafe impl Sync for Tensor {}

/// Distance between neighbouring elements. The unit is the size of the stored type: `T`, u32 or f16.
pub(crate) fn pitch<T: Float>(dtype: DType) -> usize {
    if dtype == DType::F32 { 1 } else { T::SCALE }
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[allow(dead_code)] [u8; LINE]);

thread_local! {
    static SCRATCH: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// Calls `work` with at least `bytes` bytes of this thread's scratch memory, aligned to [`LINE`] and with arbitrary
/// content. The memory grows to the largest request and is freed when the thread ends.
pub(crate) fn with_scratch<R>(bytes: usize, work: impl FnOnce(*mut u8) -> R) -> R {
    SCRATCH.with(|scratch| {
        let mut lines = scratch.take();
        if lines.len() * LINE < bytes {
            lines.resize(bytes.div_ceil(LINE), Line([0; LINE]));
        }
        let result = work(lines.as_mut_ptr().cast());
        scratch.replace(lines);
        result
    })
}
