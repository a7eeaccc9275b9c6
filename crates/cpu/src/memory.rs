//! Buffers, and tensors as addresses in them.
//!
//! Kernels work through raw addresses, because the tensors of a dispatch lie in the same few buffers and a program decides
//! which parts are read and which written. [`crate::check`] proves, before a program runs, that every access of a dispatch
//! stays inside its tensor and that nothing written in a dispatch overlaps anything else of it.
//!
//! An element of the plan that takes `b` bytes takes `b · SCALE` here (see [`crate::float::Float::SCALE`]). In f64 a float
//! then fills its cell, and a word or an f16 lies at the start of a cell twice its size: their strides are doubled
//! ([`pitch`]), and a tensor and the flat group or pack that contains it still agree on where each element lies.

use std::alloc::{self, Layout};
use std::cell::RefCell;
use std::ptr::NonNull;

use wgrad_graph::DType;

use crate::float::Float;

/// Bytes to which buffers and registers are aligned: a cache line, and the widest vector.
pub(crate) const LINE: usize = 64;

/// An owned block of bytes that does not move.
#[derive(Debug)]
pub(crate) struct Memory {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a `Memory` owns its bytes, as a `Vec<u8>` does.
unsafe impl Send for Memory {}
// SAFETY: sharing a `Memory` only shares its address and size.
unsafe impl Sync for Memory {}

impl Memory {
    /// Zeroed bytes, or `None` where the system has no more.
    pub fn zeroed(bytes: usize) -> Option<Memory> {
        if bytes == 0 {
            return Some(Memory { start: NonNull::dangling(), bytes });
        }
        let layout = Layout::from_size_align(bytes, LINE).ok()?;
        // SAFETY: the layout has a size above zero.
        let start = NonNull::new(unsafe { alloc::alloc_zeroed(layout) })?;
        Some(Memory { start, bytes })
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Sets every byte; 0xFF is NaN in every float type.
    pub fn fill(&mut self, byte: u8) {
        // SAFETY: the bytes are owned, and `&mut` says that no kernel is running.
        unsafe { self.start.as_ptr().write_bytes(byte, self.bytes) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let (true, Ok(layout)) = (self.bytes > 0, Layout::from_size_align(self.bytes, LINE)) {
            // SAFETY: allocated by `zeroed` with the same layout.
            unsafe { alloc::dealloc(self.start.as_ptr(), layout) }
        }
    }
}

/// The address of a tensor's first element and the type stored there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tensor {
    pub start: *mut u8,
    pub dtype: DType,
}

// SAFETY: an address; the kernels that follow it are checked not to race.
unsafe impl Send for Tensor {}
// SAFETY: as above.
unsafe impl Sync for Tensor {}

/// Distance between neighbouring elements in units of what is stored: `T`, u32 or f16.
pub(crate) fn pitch<T: Float>(dtype: DType) -> usize {
    if dtype == DType::F32 { 1 } else { T::SCALE }
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[allow(dead_code)] [u8; LINE]);

thread_local! {
    static SCRATCH: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// Lends at least `bytes` of this thread's scratch memory, aligned to [`LINE`], with whatever was last in it. It grows to
/// the largest kernel seen and is never given back before the thread ends.
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
