//! Small edits of programs, from which the faults of [`super::programs`] are built.
//!
//! Each edit returns whether it changed the program. Edited programs still access only their own tensors. A backend
//! therefore cannot reject the program, and the bug can be detected only from wrong values.

use wgrad_graph::{Combine, Layout, ScalarFn};
use wgrad_ops::scalar_functions;
use wgrad_program::{Dispatch, Gemm, Instr, Kernel, Loop, Program};

/// Edits every loop of the program, including the epilogues of GEMMs.
pub(super) fn loops(program: &mut Program, mut edit: impl FnMut(&mut Loop) -> bool) -> bool {
    apply_all(program.dispatches.iter_mut().map(|dispatch| edit(body(dispatch))))
}

/// Returns the loop of a dispatch, or the epilogue of its GEMM.
pub(super) fn body(dispatch: &mut Dispatch) -> &mut Loop {
    match &mut dispatch.kernel {
        Kernel::Loop(kernel) => kernel,
        Kernel::Gemm(gemm) => &mut gemm.epilogue,
    }
}

/// Edits every instruction of every loop.
pub(super) fn instrs(program: &mut Program, mut edit: impl FnMut(&mut Instr) -> bool) -> bool {
    loops(program, |kernel| apply_all(kernel.body.iter_mut().map(&mut edit)))
}

/// Edits every GEMM.
pub(super) fn gemms(program: &mut Program, edit: impl FnMut(&mut Gemm) -> bool) -> bool {
    let gemms = program.dispatches.iter_mut().filter_map(|dispatch| match &mut dispatch.kernel {
        Kernel::Gemm(gemm) => Some(gemm),
        Kernel::Loop(_) => None,
    });
    apply_all(gemms.map(edit))
}

/// Edits the layout of each operand of every GEMM. `edit` also gets the number of elements of the operand's tensor.
pub(super) fn gemm_operands(program: &mut Program, mut edit: impl FnMut(&mut Layout, usize) -> bool) -> bool {
    apply_all(program.dispatches.iter_mut().map(|dispatch| {
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

/// Edits the layout of every load. `edit` also gets the number of elements of the loaded tensor.
pub(super) fn loads(program: &mut Program, mut edit: impl FnMut(&mut Layout, usize) -> bool) -> bool {
    apply_all(program.dispatches.iter_mut().map(|dispatch| {
        let elements: Vec<usize> = dispatch.operands.iter().map(|operand| operand.tensor.elements).collect();
        apply_all(body(dispatch).body.iter_mut().map(|instr| match instr {
            Instr::Load { operand, layout } => edit(layout, elements[*operand]),
            _ => false,
        }))
    }))
}

/// Edits every call of the scalar function `name`. `edit` gets the function and the arguments of the call.
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

/// Edits every float constant except 0 and 1.
pub(super) fn constants(program: &mut Program, mut edit: impl FnMut(&mut f64)) -> bool {
    instrs(program, |instr| match instr {
        Instr::Float(x) if *x != 0.0 && *x != 1.0 => {
            edit(x);
            true
        }
        _ => false,
    })
}

/// Edits every reduction.
pub(super) fn reductions(program: &mut Program, mut edit: impl FnMut(&mut Combine)) -> bool {
    instrs(program, |instr| match instr {
        Instr::Reduce(combine, _) => {
            edit(combine);
            true
        }
        _ => false,
    })
}

/// Shortens the first outer dimension whose size is larger than 1 by one index. Returns false if there is no such
/// dimension.
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

/// Decrements the size of dimension `axis` of a layout.
pub(super) fn shorten(layout: &mut Layout, axis: usize) {
    layout.shape[axis] -= 1;
}

/// Returns the scalar function with this name, or `None` if no operation in the operation table uses one.
pub(super) fn function(name: &str) -> Option<&'static ScalarFn> {
    scalar_functions().into_iter().find(|f| f.name == name)
}

/// Whether any edit changed the program. Unlike `Iterator::any`, performs all edits.
fn apply_all(changed: impl Iterator<Item = bool>) -> bool {
    changed.filter(|changed| *changed).count() > 0
}
