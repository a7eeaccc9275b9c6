//! Mistakes put into correct programs: those of a planner, of a code generator or of a kernel.

use std::cell::Cell;

use wgrad_cpu::CpuDevice;
use wgrad_graph::{Call, Combine, GroupId, Layout, ScalarFn};
use wgrad_ops::{Conv, OpInfo, ImageOps, Input, Sample, TensorOps};
use wgrad_program::{Access, Buffer, Device, Instr, Kernel, Options, Program, compile};

use super::Fault;
use super::edit::{
    body, calls, constants, factors, function, instrs, loads, loops, products, reductions, shorten,
    without_last,
};
use super::operations::{entry, trials, true_entry};
use crate::report::{Check, Failure, Verdict};
use crate::rig::Rig;
use crate::{device, step};

/// Puts a mistake into a program; says whether there was a place for it.
type Edit = fn(&mut Program) -> bool;

/// The programs with a mistake.
pub(super) fn faults() -> Vec<Fault> {
    vec![
        value("a transposed operand of a product", "matmul", transpose_operand),
        value("a product that leaves out the last row", "matmul", |p| products(p, short_product)),
        value("a product that leaves out the end of the sum", "matmul", |p| products(p, short_sum)),
        value("a product stored in the wrong order", "conv2d", wrong_order),
        value("a bound of a factor off by one", "conv2d", |p| factors(p, |layout, _| narrower(layout))),
        Fault::new("a bound of a factor left out", Check::Value, |device, planted| {
            let edit: Edit = |p| factors(p, unbounded);
            edited(device, planted, edit, |rig| trials(&INSET, |trial| device::value(rig, trial)))
        }),
        value("a wrong stride", "add", wrong_stride),
        value("an offset off by one", "slice", |p| loads(p, one_further)),
        value("padding that is not zero", "pad", |p| loads(p, unpadded)),
        value("a kernel that skips the last tile", "exp", |p| loops(p, without_last)),
        value("a store that is left out", "mul", |p| {
            loops(p, |k| k.stores.len() > 1 && k.stores.pop().is_some())
        }),
        value("a maximum where a sum belongs", "sum", |p| reductions(p, |c| *c = Combine::Max)),
        value("a minimum where a maximum belongs", "max", |p| reductions(p, |c| *c = Combine::Min)),
        value("a reduction over the wrong axis", "sum", wrong_axis),
        value("a reduction that leaves out the last element", "argmax", |p| loops(p, short_reduction)),
        value("a mean without its division", "mean", |p| constants(p, |x| *x = 1.0)),
        value("a subtraction with its operands swapped", "sub", |p| {
            calls(p, "sub", |_, args| args.reverse())
        }),
        value("a gather off by one", "gather", gather_off_by_one),
        value("a function that is not accurate", "exp", |p| calls(p, "exp", |f, _| *f = &INACCURATE_EXP)),
        value("kernels in the wrong order", "softmax", |p| p.dispatches.len() > 1 && reversed(p)),
        Fault::new("a ReLU that swallows NaN", Check::NotANumber, |device, planted| {
            let edit: Edit = |p| calls(p, "relu", |f, _| *f = &SWALLOWING_RELU);
            edited(device, planted, edit, |rig| each("relu", |trial| device::not_a_number(rig, trial)))
        }),
        Fault::new("a fused kernel with a wrong constant", Check::Unfused, |device, planted| {
            let edit: Edit = |p| constants(p, |x| *x *= 1.001);
            fused_only(device, planted, edit, |rig| each("gelu", |trial| device::unfused(rig, trial)))
        }),
        Fault::new("a result that depends on the run before", Check::Replay, |_, planted| {
            // Without poison: that would turn what is left over into NaN, which the comparison of values finds.
            edited(&CpuDevice::new(), planted, accumulate, |rig| {
                each("mul", |trial| device::replay(rig, trial))
            })
        }),
        Fault::new("running statistics that are not updated", Check::Step, |device, planted| {
            edited(device, planted, keep_buffers, |rig| step::images(rig, true))
        }),
        training("parameters updated before the gradient reads them", reversed),
        training("padding that an optimizer writes", write_padding),
        training("a bias correction left out", forget_correction),
        training("state that is not updated", |p| p.dispatches.pop().is_some()),
    ]
}

/// A fault in the program of an operation of the table that its comparison with the reference finds.
fn value(name: &'static str, entry: &'static str, edit: Edit) -> Fault {
    Fault::new(name, Check::Value, move |device, planted| {
        edited(device, planted, edit, |rig| each(entry, |trial| device::value(rig, trial)))
    })
}

/// A fault in the program of a training step.
fn training(name: &'static str, edit: Edit) -> Fault {
    Fault::new(name, Check::Step, move |device, planted| {
        edited(device, planted, edit, |rig| step::dense(rig, true))
    })
}

fn each(entry: &str, check: impl Fn(&crate::Trial) -> Verdict) -> Verdict {
    match true_entry(entry) {
        Some(entry) => trials(entry, check),
        None => Err(Failure::Broken(format!("the table has no {entry}"))),
    }
}

/// Runs a check with every program edited. A fault that nowhere has a place is a fault that survives.
fn edited(device: &dyn Device, planted: bool, edit: Edit, check: impl Fn(&Rig<'_>) -> Verdict) -> Verdict {
    run_edited(device, planted, edit, |_| true, check)
}

fn fused_only(
    device: &dyn Device,
    planted: bool,
    edit: Edit,
    check: impl Fn(&Rig<'_>) -> Verdict,
) -> Verdict {
    run_edited(device, planted, edit, |options| options.fuse, check)
}

fn run_edited(
    device: &dyn Device,
    planted: bool,
    edit: Edit,
    applies: fn(Options) -> bool,
    check: impl Fn(&Rig<'_>) -> Verdict,
) -> Verdict {
    let found = Cell::new(false);
    let plan = |graph: &wgrad_graph::Graph, options: Options| {
        let mut program = compile(graph, options)?;
        if planted && applies(options) && edit(&mut program) {
            found.set(true);
        }
        Ok(program)
    };
    let verdict = check(&Rig { device, plan: &plan });
    match verdict {
        // Without a place for it the fault cannot have been what failed.
        Err(_) if planted && !found.get() => Ok(0.0),
        verdict => verdict,
    }
}

fn transpose_operand(program: &mut Program) -> bool {
    products(program, |gemm| {
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

/// Two dimensions of the same tensor the other way round in memory, the last ones that are wide.
fn wrong_order(program: &mut Program) -> bool {
    products(program, |gemm| {
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

/// The last value that a coordinate may take left out.
fn narrower(layout: &mut Layout) -> bool {
    let bound = layout.bounds.first_mut().filter(|bound| bound.size > 1);
    bound.map(|bound| bound.size -= 1).is_some()
}

/// One bound left out, where that reads other elements of the tensor.
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

/// A convolution of the middle of an image: there are neighbours where its padding is zero.
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

fn one_further(layout: &mut Layout, elements: usize) -> bool {
    let reach: isize = layout.shape.iter().zip(&layout.strides).map(|(&n, &s)| (n as isize - 1) * s).sum();
    let fits = layout.is_whole() && layout.offset + reach + 1 < elements as isize;
    layout.offset += isize::from(fits);
    fits
}

/// Loads from where padding is, as far as the tensor goes.
fn unpadded(layout: &mut Layout, elements: usize) -> bool {
    if layout.is_whole() {
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

/// Adds what the input holds to a state of its own: reads an output of the last run before it is overwritten.
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

/// Adds a little to the last element of the first state that the last kernel writes; it is padding.
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
        Instr::Word(last),
        Instr::Call(equal, vec![at, at + 1]),
        Instr::Float(1e-6),
        Instr::Call(mul, vec![at + 2, at + 3]),
        Instr::Call(add, vec![store.value, at + 4]),
    ]);
    store.value = at + 5;
    true
}

/// Drops what is stored to the last group of the state, the buffers of a network.
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

/// Takes the first factor of every product under a square root without the second.
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

static SWALLOWING_RELU: ScalarFn = ScalarFn {
    name: "planted_relu",
    wgsl: "select(0.0, {0}, {0} > 0.0)",
    prelude: "",
    flops: 1,
    f32: Call::Unary(|x, y| y.iter_mut().zip(x).for_each(|(y, x)| *y = x.max(0.0))),
    f64: Call::Unary(|x, y| y.iter_mut().zip(x).for_each(|(y, x)| *y = x.max(0.0))),
};
