//! A step that was made before allocates nothing on the CPU: counted, with an allocator of this file's own.
//!
//! What the crates under the backend allocate for themselves is not counted: `gemm` asks for the memory it packs blocks
//! into at each product, and rayon's queue for a block now and then. Whose an allocation is, its call stack says.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use wgrad::prelude::*;

/// The system's allocator, which keeps the call stack of what any thread asks for while it is [`WATCHING`].
struct Watched;

static WATCHING: AtomicBool = AtomicBool::new(false);
static STACKS: Mutex<Vec<String>> = Mutex::new(Vec::new());

thread_local! {
    /// Whether this thread is writing down a call stack, which allocates as well.
    static WRITING: Cell<bool> = const { Cell::new(false) };
}

fn note() {
    if WATCHING.load(Ordering::Relaxed) && !WRITING.replace(true) {
        STACKS.lock().expect("not poisoned").push(Backtrace::force_capture().to_string());
        WRITING.set(false);
    }
}

// SAFETY: all is passed on to the system's allocator.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: passed on.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// Crates that may allocate for themselves.
const OTHERS: [&str; 4] = ["gemm_common::", "gemm_f32::", "crossbeam", "rayon_core::"];

/// The innermost function of the backend in a call stack, unless one of another crate was called by it.
fn ours(stack: &str) -> Option<&str> {
    let known = |line: &&str| line.contains("wgrad_") || OTHERS.iter().any(|name| line.contains(name));
    let line = stack.lines().find(known).unwrap_or(stack);
    line.contains("wgrad_").then_some(line.trim())
}

/// Groups of runs that are watched, until one allocates nothing of ours. What every step allocates is seen in each of them;
/// what a thread's scratch memory still grows by, the first time that it gets a share of a kernel, is not.
const GROUPS: usize = 40;

/// What three runs of a recipe's training step on the CPU allocate, in groups, after some to warm up.
fn allocations(recipe: &str, settings: &[&str]) -> Vec<Vec<String>> {
    let mut recipe = wgrad::recipe::load(recipe).expect("a built-in recipe");
    let settings: Vec<String> = settings.iter().map(|&setting| setting.into()).collect();
    recipe.set_all(&settings).expect("known keys");
    let parts = wgrad::train::setup(&recipe).expect("embedded data");
    let device = CpuDevice::new();
    let plan =
        Plan::new(parts.model, &parts.splits, parts.config, &device.info().limits).expect("a right model");
    let (_, program) = &plan.passes[0];
    let mut session = device.session(&program.states).expect("a session");
    let id = session.load(program).expect("it loads");
    let input = |ty: &TensorType| match ty.dtype {
        DType::U32 => HostData::U32((0..ty.shape.numel() as u32).collect()),
        _ => HostData::F32((0..ty.shape.numel()).map(|i| 0.001 * (i % 7) as f32).collect()),
    };
    let values: Vec<HostData> = program.inputs.iter().map(|slot| input(&slot.ty)).collect();
    let inputs: Vec<Data<'_>> = values.iter().map(HostData::as_data).collect();
    (0..20).for_each(|_| session.run(id, &inputs).expect("it runs"));
    let mut groups: Vec<Vec<String>> = Vec::new();
    for _ in 0..GROUPS {
        // A report of more runs than before is no steady state: the numbers are kept until they are asked for.
        session.records(id, true).expect("records");
        WATCHING.store(true, Ordering::SeqCst);
        (0..3).for_each(|_| session.run(id, &inputs).expect("it runs"));
        WATCHING.store(false, Ordering::SeqCst);
        groups.push(std::mem::take(&mut *STACKS.lock().expect("not poisoned")));
        if groups.last().is_some_and(|stacks| stacks.iter().all(|stack| ours(stack).is_none())) {
            break;
        }
    }
    groups
}

/// One test, so that no other one allocates beside it.
#[test]
fn steps_on_the_cpu_allocate_nothing() {
    let resnet = ["model.kind=resnet", "model.depth=8", "model.width=16", "train.batch=16"];
    let recipes: [(&str, &[&str]); 3] =
        [("digits-mlp", &["train.batch=256"]), ("digits", &[]), ("digits-mlp", &resnet)];
    for (recipe, settings) in recipes {
        let groups = allocations(recipe, settings);
        let stacks = groups.last().expect("at least one group");
        let ours: Vec<&str> = stacks.iter().filter_map(|stack| ours(stack)).collect();
        assert!(ours.is_empty(), "{recipe}: {} allocations in each group: {ours:#?}", ours.len());
        // The stacks can be read: the products were seen.
        assert!(stacks.iter().any(|stack| stack.contains("gemm_f32::")), "{recipe}: {stacks:?}");
    }
}
