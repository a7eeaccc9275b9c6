//! Steps on the CPU after warm-up allocate no memory. A global allocator in this file counts the allocations.
//!
//! Allocations of the crates below the backend do not count: `gemm` allocates memory to pack blocks in each product, and
//! rayon's queue occasionally allocates a block. The call stack shows which crate made an allocation.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use wgrad::prelude::*;

/// System allocator that records the call stack of every allocation on any thread while [`RECORDING`] is set.
struct RecordingAllocator;

static RECORDING: AtomicBool = AtomicBool::new(false);
static STACKS: Mutex<Vec<String>> = Mutex::new(Vec::new());

thread_local! {
    /// Whether this thread is capturing a call stack. Capturing allocates as well.
    static CAPTURING: Cell<bool> = const { Cell::new(false) };
}

fn record() {
    if RECORDING.load(Ordering::Relaxed) && !CAPTURING.replace(true) {
        STACKS.lock().expect("not poisoned").push(Backtrace::force_capture().to_string());
        CAPTURING.set(false);
    }
}

// SAFETY: every call is forwarded unchanged to the system allocator, which upholds the contract of `GlobalAlloc`.
unsafe impl GlobalAlloc for RecordingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        record();
        // SAFETY: the caller upholds the contract of `alloc` for `layout`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        record();
        // SAFETY: the caller upholds the contract of `alloc_zeroed` for `layout`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        record();
        // SAFETY: `pointer` was allocated by `System` with `layout`, since all allocations are forwarded to `System`.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` was allocated by `System` with `layout`, since all allocations are forwarded to `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: RecordingAllocator = RecordingAllocator;

/// Crates below the backend whose allocations do not count.
const EXEMPT_CRATES: [&str; 4] = ["gemm_common::", "gemm_f32::", "crossbeam", "rayon_core::"];

/// Returns the innermost wgrad function in a call stack, or `None` if an exempt crate made the allocation.
fn engine_frame(stack: &str) -> Option<&str> {
    let known = |line: &&str| line.contains("wgrad_") || EXEMPT_CRATES.iter().any(|name| line.contains(name));
    let line = stack.lines().find(known).unwrap_or(stack);
    line.contains("wgrad_").then_some(line.trim())
}

/// Maximum number of groups of recorded runs. Recording ends with the first group without allocations of wgrad.
///
/// An allocation of every step occurs in every group. The scratch memory of a thread grows only when the thread first
/// runs a part of a kernel, so this growth is absent from some groups.
const MAX_GROUPS: usize = 40;

/// Returns the call stacks of the allocations of a recipe's training step on the CPU, after warm-up, in groups of three
/// runs.
fn allocation_stacks(recipe: &str, settings: &[&str]) -> Vec<Vec<String>> {
    let mut recipe = wgrad::recipe::load(recipe).expect("a built-in recipe");
    let settings: Vec<String> = settings.iter().map(|&setting| setting.into()).collect();
    recipe.set_all(&settings).expect("known keys");
    let parts = wgrad::train::setup(&recipe).expect("embedded data");
    let device = CpuDevice::new();
    let plan =
        Plan::new(parts.model, &parts.splits, parts.config, &device.info().limits).expect("a valid plan");
    let (_, program) = &plan.passes[0];
    let mut session = device.session(&program.states).expect("a session");
    let id = session.load(program).expect("the program loads");
    let input = |ty: &TensorType| match ty.dtype {
        DType::U32 => HostData::U32((0..ty.shape.numel() as u32).collect()),
        _ => HostData::F32((0..ty.shape.numel()).map(|i| 0.001 * (i % 7) as f32).collect()),
    };
    let values: Vec<HostData> = program.inputs.iter().map(|slot| input(&slot.ty)).collect();
    let inputs: Vec<Data<'_>> = values.iter().map(HostData::as_data).collect();
    (0..20).for_each(|_| session.run(id, &inputs).expect("the program runs"));
    let mut groups: Vec<Vec<String>> = Vec::new();
    for _ in 0..MAX_GROUPS {
        // Records accumulate until they are read. Reading them here keeps their number the same in every group.
        session.records(id, true).expect("records");
        RECORDING.store(true, Ordering::SeqCst);
        (0..3).for_each(|_| session.run(id, &inputs).expect("the program runs"));
        RECORDING.store(false, Ordering::SeqCst);
        groups.push(std::mem::take(&mut *STACKS.lock().expect("not poisoned")));
        if groups.last().is_some_and(|stacks| stacks.iter().all(|stack| engine_frame(stack).is_none())) {
            break;
        }
    }
    groups
}

/// The only test of this binary, because allocations of a concurrent test would be recorded as well.
#[test]
fn steady_cpu_steps_do_not_allocate() {
    let resnet = ["model.kind=resnet", "model.depth=8", "model.width=16", "train.batch=16"];
    let recipes: [(&str, &[&str]); 3] =
        [("digits-mlp", &["train.batch=256"]), ("digits", &[]), ("digits-mlp", &resnet)];
    for (recipe, settings) in recipes {
        let groups = allocation_stacks(recipe, settings);
        let stacks = groups.last().expect("at least one group");
        let frames: Vec<&str> = stacks.iter().filter_map(|stack| engine_frame(stack)).collect();
        assert!(frames.is_empty(), "{recipe}: {} allocations in each group: {frames:#?}", frames.len());
        // Checks that the recorded stacks contain function names: every recipe calls functions of the crate `gemm`.
        assert!(stacks.iter().any(|stack| stack.contains("gemm_f32::")), "{recipe}: {stacks:?}");
    }
}
