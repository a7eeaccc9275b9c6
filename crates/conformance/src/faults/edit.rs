//! Small changes to programs: what the faults of [`super::programs`] are made of. Each says whether it found something to
//! change; all stay inside the tensors, so that no backend refuses them and only numbers can tell.

use wgrad_graph::{Combine, Layout, ScalarFn};
use wgrad_ops::scalar_functions;
use wgrad_program::{Dispatch, Gemm, Instr, Kernel, Loop, Program};

/// Every loop, epilogues included.
pub(super) fn loops(program: &mut Program, mut edit: impl FnMut(&mut Loop) -> bool) -> bool {
    any(program.dispatches.iter_mut().map(|dispatch| edit(body(dispatch))))
}

/// The loop of a dispatch, or its epilogue.
pub(super) fn body(dispatch: &mut Dispatch) -> &mut Loop {
    match &mut dispatch.kernel {
        Kernel::Loop(kernel) => kernel,
        Kernel::Gemm(gemm) => &mut gemm.epilogue,
    }
}

/// Every instruction.
pub(super) fn instrs(program: &mut Program, mut edit: impl FnMut(&mut Instr) -> bool) -> bool {
    loops(program, |kernel| any(kernel.body.iter_mut().map(&mut edit)))
}

/// Every matrix product.
pub(super) fn products(program: &mut Program, edit: impl FnMut(&mut Gemm) -> bool) -> bool {
    let gemms = program.dispatches.iter_mut().filter_map(|dispatch| match &mut dispatch.kernel {
        Kernel::Gemm(gemm) => Some(gemm),
        Kernel::Loop(_) => None,
    });
    any(gemms.map(edit))
}

/// Every factor of a matrix product, with the number of elements of its tensor.
pub(super) fn factors(program: &mut Program, mut edit: impl FnMut(&mut Layout, usize) -> bool) -> bool {
    any(program.dispatches.iter_mut().map(|dispatch| {
        let elements: Vec<usize> = dispatch.operands.iter().map(|operand| operand.tensor.elements).collect();
        match &mut dispatch.kernel {
            Kernel::Gemm(gemm) => {
                let a = edit(&mut gemm.a_layout, elements[gemm.a]);
                edit(&mut gemm.b_layout, elements[gemm.b]) || a
            }
            Kernel::Loop(_) => false,
        }
    }))
}

/// Every load, with the number of elements of its tensor.
pub(super) fn loads(program: &mut Program, mut edit: impl FnMut(&mut Layout, usize) -> bool) -> bool {
    any(program.dispatches.iter_mut().map(|dispatch| {
        let elements: Vec<usize> = dispatch.operands.iter().map(|operand| operand.tensor.elements).collect();
        any(body(dispatch).body.iter_mut().map(|instr| match instr {
            Instr::Load { operand, layout } => edit(layout, elements[*operand]),
            _ => false,
        }))
    }))
}

/// Every call of the scalar function of this name.
pub(super) fn calls(
    program: &mut Program,
    name: &str,
    mut edit: impl FnMut(&mut &'static ScalarFn, &mut Vec<usize>),
) -> bool {
    instrs(program, |instr| match instr {
        Instr::Call(f, args) if f.name == name => {
            edit(f, args);
            true
        }
        _ => false,
    })
}

/// Every float constant that is not 0 or 1.
pub(super) fn constants(program: &mut Program, mut edit: impl FnMut(&mut f64)) -> bool {
    instrs(program, |instr| match instr {
        Instr::Float(x) if *x != 0.0 && *x != 1.0 => {
            edit(x);
            true
        }
        _ => false,
    })
}

/// Every reduction.
pub(super) fn reductions(program: &mut Program, mut edit: impl FnMut(&mut Combine)) -> bool {
    instrs(program, |instr| match instr {
        Instr::Reduce(combine, _) => {
            edit(combine);
            true
        }
        _ => false,
    })
}

/// Leaves out the last index of a loop's first dimension larger than 1.
pub(super) fn without_last(kernel: &mut Loop) -> bool {
    let Some(axis) = kernel.outer.iter().position(|&n| n > 1) else { return false };
    kernel.outer[axis] -= 1;
    for instr in &mut kernel.body {
        if let Instr::Load { layout, .. } | Instr::Gather { layout, .. } | Instr::Iota(layout) = instr {
            shorten(layout, axis);
        }
    }
    kernel.stores.iter_mut().for_each(|store| shorten(&mut store.layout, axis));
    true
}

/// Takes one index off a dimension.
pub(super) fn shorten(layout: &mut Layout, axis: usize) {
    layout.shape[axis] -= 1;
}

/// A scalar function of the table.
pub(super) fn function(name: &str) -> Option<&'static ScalarFn> {
    scalar_functions().into_iter().find(|f| f.name == name)
}

/// Whether there was one, having gone through all of them, which `Iterator::any` would not.
fn any(changed: impl Iterator<Item = bool>) -> bool {
    changed.filter(|changed| *changed).count() > 0
}
