//! Bugs planted in correct programs. They resemble real bugs of a planner, a code generator or a kernel.

use std::cell::Cell;

use wgrad_cpu::CpuDevice;
use wgrad_graph::{Call, Combine, GroupId, Layout, ScalarFn};
use wgrad_ops::{Conv, ImageOps, Input, OpInfo, Sample, TensorOps};
use wgrad_program::{Access, Buffer, Device, Instr, Kernel, Options, Program, compile};

use super::Fault;
use super::edit::{
    body, calls, constants, function, gemm_operands, gemms, instrs, loads, loops, reductions, shorten,
    without_last,
};
use super::operations::{check_trials, entry, table_entry};
use crate::harness::Harness;
use crate::report::{Check, Comparison, Failure};
use crate::{device, step};

/// Plants a bug in a program. Returns false if the program has no instruction or kernel to which the bug applies.
type Edit = fn(&mut Program) -> bool;

/// Returns the faults of programs.
pub(super) fn faults() -> Vec<Fault> {
    vec![
        value_fault("a transposed operand of a product", "matmul", transpose_operand),
        value_fault("a product that leaves out the last row", "matmul", |p| gemms(p, short_product)),
        value_fault("a product that leaves out the end of the sum", "matmul", |p| gemms(p, short_sum)),
        value_fault("a product stored in the wrong order", "conv2d", wrong_order),
        value_fault("a bound of a factor off by one", "conv2d", |p| {
            gemm_operands(p, |layout, _| narrower(layout))
        }),
        Fault::new("a bound of a factor left out", Check::Value, |device, planted| {
            let edit: Edit = |p| gemm_operands(p, unbounded);
            edited(device, planted, edit, |harness| {
                check_trials(&INSET, |trial| device::value(harness, trial))
            })
        }),
        value_fault("a wrong stride", "add", wrong_stride),
        value_fault("an offset off by one", "slice", |p| loads(p, shifted_by_one)),
        value_fault("padding that is not zero", "pad", |p| loads(p, unpadded)),
        value_fault("a kernel that skips the last tile", "exp", |p| loops(p, without_last)),
        value_fault("a store that is left out", "mul", |p| {
            loops(p, |k| k.stores.len() > 1 && k.stores.pop().is_some())
        }),
        value_fault("a maximum instead of a sum", "sum", |p| reductions(p, |c| *c = Combine::Max)),
        value_fault("a minimum instead of a maximum", "max", |p| reductions(p, |c| *c = Combine::Min)),
        value_fault("a reduction over the wrong axis", "sum", wrong_axis),
        value_fault("a reduction that leaves out the last element", "argmax", |p| loops(p, short_reduction)),
        value_fault("a mean without its division", "mean", |p| constants(p, |x| *x = 1.0)),
        value_fault("a subtraction with its operands swapped", "sub", |p| {
            calls(p, "sub", |_, args| args.reverse())
        }),
        value_fault("a gather off by one", "gather", gather_off_by_one),
        value_fault("a function that is not accurate", "exp", |p| {
            calls(p, "exp", |f, _| *f = &INACCURATE_EXP)
        }),
        value_fault("kernels in the wrong order", "softmax", |p| p.dispatches.len() > 1 && reversed(p)),
        Fault::new("a ReLU that drops NaN", Check::NotANumber, |device, planted| {
            let edit: Edit = |p| calls(p, "relu", |f, _| *f = &NAN_DROPPING_RELU);
            edited(device, planted, edit, |harness| {
                each_trial("relu", |trial| device::not_a_number(harness, trial))
            })
        }),
        Fault::new("a fused kernel with a wrong constant", Check::Unfused, |device, planted| {
            let edit: Edit = |p| constants(p, |x| *x *= 1.001);
            fused_only(device, planted, edit, |harness| {
                each_trial("gelu", |trial| device::unfused(harness, trial))
            })
        }),
        Fault::new("a result that depends on the run before", Check::Replay, |_, planted| {
            // The memory of this device is not filled with NaN. Otherwise, leftover values would be NaN, and the value
            // check already detects NaN.
            edited(&CpuDevice::new(), planted, accumulate, |harness| {
                each_trial("mul", |trial| device::replay(harness, trial))
            })
        }),
        Fault::new("running statistics that are not updated", Check::Step, |device, planted| {
            edited(device, planted, keep_buffers, |harness| step::images(harness, true))
        }),
        step_fault("parameters updated before the gradient reads them", reversed),
        step_fault("padding that an optimizer writes", write_padding),
        step_fault("a bias correction left out", forget_correction),
        step_fault("state that is not updated", |p| p.dispatches.pop().is_some()),
    ]
}

/// Creates a fault in the programs of operation `entry`. The comparison with the reference must detect the fault.
fn value_fault(name: &'static str, entry: &'static str, edit: Edit) -> Fault {
    Fault::new(name, Check::Value, move |device, planted| {
        edited(device, planted, edit, |harness| each_trial(entry, |trial| device::value(harness, trial)))
    })
}

/// Creates a fault in the program of a training step. The check of training steps must detect the fault.
fn step_fault(name: &'static str, edit: Edit) -> Fault {
    Fault::new(name, Check::Step, move |device, planted| {
        edited(device, planted, edit, |harness| step::dense(harness, true))
    })
}

fn each_trial(entry: &str, check: impl Fn(&crate::Trial) -> Comparison) -> Comparison {
    match table_entry(entry) {
        Some(entry) => check_trials(entry, check),
        None => Err(Failure::Violation(format!("`{entry}` is not in the table"))),
    }
}

/// Runs a check with every program edited if `planted` is set. A fault that applies to no program is reported as
/// undetected.
fn edited(
    device: &dyn Device,
    planted: bool,
    edit: Edit,
    check: impl Fn(&Harness<'_>) -> Comparison,
) -> Comparison {
    run_edited(device, planted, edit, |_| true, check)
}

fn fused_only(
    device: &dyn Device,
    planted: bool,
    edit: Edit,
    check: impl Fn(&Harness<'_>) -> Comparison,
) -> Comparison {
    run_edited(device, planted, edit, |options| options.fuse, check)
}

fn run_edited(
    device: &dyn Device,
    planted: bool,
    edit: Edit,
    applies: fn(Options) -> bool,
    check: impl Fn(&Harness<'_>) -> Comparison,
) -> Comparison {
    let applied = Cell::new(false);
    let plan = |graph: &wgrad_graph::Graph, options: Options| {
        let mut program = compile(graph, options)?;
        if planted && applies(options) && edit(&mut program) {
            applied.set(true);
        }
        Ok(program)
    };
    let result = check(&Harness { device, plan: &plan });
    match result {
        // The fault was not planted, so the failure has another cause.
        Err(_) if planted && !applied.get() => Ok(0.0),
        result => result,
    }
}

fn transpose_operand(program: &mut Program) -> bool {
    gemms(program, |gemm| {
        let rank = gemm.b_layout.strides.len();
        let square = gemm.k == gemm.n && gemm.k.len() == 1 && gemm.depth() > 1;
        if square {
            gemm.b_layout.strides.swap(rank - 2, rank - 1);
        }
        square
    })
}

fn short_product(gemm: &mut wgrad_program::Gemm) -> bool {
    let axis = gemm.batch.len();
    if gemm.m.first().is_none_or(|&m| m < 2) || gemm.products() > 1 {
        return false;
    }
    gemm.m[0] -= 1;
    shorten(&mut gemm.a_layout, axis);
    without_last(&mut gemm.epilogue)
}

fn short_sum(gemm: &mut wgrad_program::Gemm) -> bool {
    let axis = gemm.batch.len();
    if gemm.k.first().is_none_or(|&k| k < 2) {
        return false;
    }
    gemm.k[0] -= 1;
    shorten(&mut gemm.a_layout, axis + gemm.m.len());
    shorten(&mut gemm.b_layout, axis);
    true
}

/// Swaps two dimensions in the stores of the result: the two innermost dimensions that have more than one element.
fn wrong_order(program: &mut Program) -> bool {
    gemms(program, |gemm| {
        let stores = gemm.epilogue.stores.iter_mut().map(|store| {
            let layout = &mut store.layout;
            let mut order: Vec<usize> = (0..layout.shape.len()).filter(|&i| layout.shape[i] > 1).collect();
            order.sort_by_key(|&i| layout.strides[i]);
            if order.len() > 1 {
                order.swap(0, 1);
            }
            let mut stride = 1;
            for &dim in &order {
                layout.strides[dim] = stride;
                stride *= layout.shape[dim] as isize;
            }
            order.len() > 1
        });
        stores.filter(|changed| *changed).count() > 0
    })
}

/// Reduces the size of a bound by one, so that the last valid value of the coordinate counts as padding.
fn narrower(layout: &mut Layout) -> bool {
    let bound = layout.bounds.first_mut().filter(|bound| bound.size > 1);
    bound.map(|bound| bound.size -= 1).is_some()
}

/// Removes a bound of a layout if all accesses then still stay inside the tensor.
fn unbounded(layout: &mut Layout, elements: usize) -> bool {
    let without = |number: usize| {
        let mut other = layout.clone();
        other.bounds.remove(number);
        let (first, last) = other.extent()?;
        (first >= 0 && last < elements as i128).then_some(other)
    };
    match (0..layout.bounds.len()).find_map(without) {
        Some(other) => {
            *layout = other;
            true
        }
        None => false,
    }
}

/// A convolution over the middle part of an image. If its bounds are removed, it reads the pixels around this part
/// instead of zeros.
static INSET: OpInfo = OpInfo {
    tolerance: 2e-5,
    ..entry("conv2d_of_the_middle", |_| {
        let any = wgrad_ops::Distribution::Uniform(-2.0, 2.0);
        let inputs = vec![Input::f32([2, 3, 9, 8], any), Input::f32([4, 3, 3, 3], any)];
        Sample::new(inputs, |_, ins| {
            let middle = ins[0].slice(2, 2..7).slice(3, 2..6);
            middle.conv2d(ins[1], Conv::default().padding(1))
        })
    })
};

fn wrong_stride(program: &mut Program) -> bool {
    loads(program, |layout, _| {
        let found = (0..layout.shape.len()).find(|&i| layout.strides[i] > 1 && layout.shape[i] > 1);
        found.inspect(|&i| layout.strides[i] -= 1).is_some()
    })
}

fn shifted_by_one(layout: &mut Layout, elements: usize) -> bool {
    let reach: isize = layout.shape.iter().zip(&layout.strides).map(|(&n, &s)| (n as isize - 1) * s).sum();
    let fits = layout.is_unpadded() && layout.offset + reach + 1 < elements as isize;
    layout.offset += isize::from(fits);
    fits
}

/// Removes the bounds of a padded load, so that the load reads elements of the tensor instead of zeros.
fn unpadded(layout: &mut Layout, elements: usize) -> bool {
    if layout.is_unpadded() {
        return false;
    }
    for bound in std::mem::take(&mut layout.bounds) {
        layout.offset -= bound.offset * bound.unit;
    }
    let reach: isize = layout.shape.iter().zip(&layout.strides).map(|(&n, &s)| (n as isize - 1) * s).sum();
    if layout.offset < 0 || layout.offset + reach >= elements as isize {
        layout.strides.iter_mut().for_each(|stride| *stride = 0);
        layout.offset = 0;
    }
    true
}

fn wrong_axis(program: &mut Program) -> bool {
    loads(program, |layout, _| {
        let rank = layout.shape.len();
        let swapped = rank == 2 && layout.strides == [layout.shape[1] as isize, 1] && layout.shape[0] > 1;
        if swapped {
            layout.strides = vec![1, layout.shape[0] as isize];
        }
        swapped
    })
}

fn short_reduction(kernel: &mut wgrad_program::Loop) -> bool {
    let (outer, Some(&last)) = (kernel.outer.len(), kernel.inner.last()) else { return false };
    let each = kernel.stores.iter().any(|store| store.layout.shape.len() > outer);
    if last < 2 || each {
        return false;
    }
    let axis = outer + kernel.inner.len() - 1;
    kernel.inner[axis - outer] -= 1;
    for instr in &mut kernel.body {
        if let Instr::Load { layout, .. } | Instr::Gather { layout, .. } | Instr::Iota(layout) = instr {
            shorten(layout, axis);
        }
    }
    true
}

fn gather_off_by_one(program: &mut Program) -> bool {
    instrs(program, |instr| match instr {
        Instr::Gather { layout, stride, bound, .. } if *bound > 1 => {
            layout.offset += *stride as isize;
            *bound -= 1;
            true
        }
        _ => false,
    })
}

fn reversed(program: &mut Program) -> bool {
    program.dispatches.reverse();
    program.dispatches.len() > 1
}

/// Makes the first kernel add its result to the output of the previous run.
fn accumulate(program: &mut Program) -> bool {
    let Some(add) = function("add") else { return false };
    let Some(dispatch) = program.dispatches.first_mut() else { return false };
    let Kernel::Loop(kernel) = &mut dispatch.kernel else { return false };
    let Some(store) =
        kernel.stores.first_mut().filter(|store| kernel.inner.is_empty() && !store.layout.shape.is_empty())
    else {
        return false;
    };
    dispatch.operands[store.operand].access = Access::ReadWrite;
    kernel.body.push(Instr::Load { operand: store.operand, layout: store.layout.clone() });
    kernel.body.push(Instr::Call(add, vec![store.value, kernel.body.len() - 1]));
    store.value = kernel.body.len() - 1;
    true
}

/// Adds a small value to the last element that the last kernel writes to the state. This element is padding of the
/// state.
fn write_padding(program: &mut Program) -> bool {
    let (Some(add), Some(mul), Some(equal)) = (function("add"), function("mul"), function("eq_words")) else {
        return false;
    };
    let Some(dispatch) = program.dispatches.last_mut() else { return false };
    let kernel = body(dispatch);
    let layout = Layout::contiguous(&kernel.outer);
    let last = layout.numel() as u32 - 1;
    let Some(store) = kernel.stores.first_mut().filter(|_| kernel.inner.is_empty()) else { return false };
    let at = kernel.body.len();
    kernel.body.extend([
        Instr::Iota(layout),
        Instr::U32(last),
        Instr::Call(equal, vec![at, at + 1]),
        Instr::Float(1e-6),
        Instr::Call(mul, vec![at + 2, at + 3]),
        Instr::Call(add, vec![store.value, at + 4]),
    ]);
    store.value = at + 5;
    true
}

/// Removes the stores to the last group of the state, which holds the buffers of a network.
fn keep_buffers(program: &mut Program) -> bool {
    let group = |dispatch: &wgrad_program::Dispatch| {
        dispatch.operands.iter().position(|operand| {
            matches!(operand.tensor.buffer, Buffer::State(GroupId(1))) && operand.access != Access::Read
        })
    };
    let found = program.dispatches.iter_mut().map(|dispatch| {
        let Some(operand) = group(dispatch) else { return false };
        body(dispatch).stores.retain(|store| store.operand != operand);
        true
    });
    found.filter(|changed| *changed).count() > 0
}

/// Replaces every product under a square root with the first factor of the product.
fn forget_correction(program: &mut Program) -> bool {
    loops(program, |kernel| {
        let roots: Vec<usize> = kernel.body.iter().filter_map(root).collect();
        let corrected = roots.into_iter().filter_map(|arg| match &kernel.body[arg] {
            Instr::Call(f, args) if f.name == "mul" => Some((arg, args[0])),
            _ => None,
        });
        let corrected: Vec<(usize, usize)> = corrected.collect();
        for instr in &mut kernel.body {
            if let (Some(_), Instr::Call(_, args)) = (root(instr), &mut *instr) {
                let to = corrected.iter().find(|(from, _)| args[0] == *from);
                to.into_iter().for_each(|(_, to)| args[0] = *to);
            }
        }
        !corrected.is_empty()
    })
}

fn root(instr: &Instr) -> Option<usize> {
    match instr {
        Instr::Call(f, args) if f.name == "sqrt" => args.first().copied(),
        _ => None,
    }
}

static INACCURATE_EXP: ScalarFn = ScalarFn {
    name: "planted_exp",
    wgsl: "(exp({0}) * 1.0001)",
    prelude: "",
    flops: 1,
    f32: Call::Unary(|x, y| y.iter_mut().zip(x).for_each(|(y, x)| *y = x.exp() * 1.0001)),
    f64: Call::Unary(|x, y| y.iter_mut().zip(x).for_each(|(y, x)| *y = x.exp() * 1.0001)),
};

static NAN_DROPPING_RELU: ScalarFn = ScalarFn {
    name: "planted_relu",
    wgsl: "select(0.0, {0}, {0} > 0.0)",
    prelude: "",
    flops: 1,
    f32: Call::Unary(|x, y| y.iter_mut().zip(x).for_each(|(y, x)| *y = x.max(0.0))),
    f64: Call::Unary(|x, y| y.iter_mut().zip(x).for_each(|(y, x)| *y = x.max(0.0))),
};
