//! Bounds checks of a dispatch before its shader is generated.
//!
//! Every access must lie inside its tensor, every index must fit in a u32, and the device must support the element
//! types. A bug in the planner must cause an error here, not a wrong result on the device.

use wgrad_graph::{DType, Layout};
use wgrad_program::{Access, DeviceError, Dispatch, Instr, Kernel, Loop, Operand, Program};

use crate::context::DeviceContext;

/// Largest number of rows, of columns, or of steps along k in a dispatch. Up to this limit, an index plus the size of
/// a workgroup fits in a u32.
const MAX_SIZE: usize = (1 << 31) - 1;

pub(crate) fn check(context: &DeviceContext, program: &Program) -> Result<(), DeviceError> {
    for dispatch in &program.dispatches {
        let uses_f16 = dispatch.operands.iter().any(|operand| operand.tensor.dtype == DType::F16);
        if uses_f16 && !context.info.limits.f16 {
            let reason = format!("`{}` stores f16, which the device does not support", dispatch.name);
            return Err(DeviceError::Unsupported { name: context.name().into(), reason });
        }
        check_dispatch(dispatch, program).map_err(|why| DeviceError::Internal {
            name: context.name().into(),
            reason: format!("`{}`: {why}", dispatch.name),
        })?;
    }
    Ok(())
}

fn ensure(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

/// Checks that a dispatch accesses only its tensors, and that the tensors lie inside their buffers.
fn check_dispatch(dispatch: &Dispatch, program: &Program) -> Result<(), String> {
    for Operand { tensor, .. } in &dispatch.operands {
        let known = match tensor.buffer {
            wgrad_program::Buffer::State(group) => group.0 < program.states.groups().len(),
            wgrad_program::Buffer::Slab(i) => i < program.slabs.len(),
            wgrad_program::Buffer::Pack(i) => i < program.packs.len(),
            _ => true,
        };
        ensure(known, || format!("buffer {:?} does not exist", tensor.buffer))?;
        let bytes = program.buffer_bytes(tensor.buffer);
        let inside = tensor.offset + tensor.bytes().next_multiple_of(4) <= bytes && tensor.elements > 0;
        let aligned = tensor.offset.is_multiple_of(wgrad_graph::ALIGN);
        ensure(inside && aligned, || {
            format!(
                "a tensor of {} bytes at offset {} does not fit in {bytes} bytes",
                tensor.bytes(),
                tensor.offset
            )
        })?;
    }
    match &dispatch.kernel {
        Kernel::Loop(kernel) => check_loop(kernel, &dispatch.operands, false),
        Kernel::Gemm(gemm) => {
            for (number, layout, shape) in
                [(gemm.a, &gemm.a_layout, gemm.a_domain()), (gemm.b, &gemm.b_layout, gemm.b_domain())]
            {
                ensure(layout.shape == shape, || {
                    "the domain of an operand of the GEMM does not match".into()
                })?;
                check_layout(layout, 0, operand(&dispatch.operands, number)?)?;
            }
            let depth = gemm.depth();
            ensure(depth > 0 && depth <= MAX_SIZE, || format!("the GEMM has depth {depth}"))?;
            ensure(gemm.epilogue.outer == gemm.domain(), || {
                "the domain of the epilogue does not match".into()
            })?;
            ensure(gemm.epilogue.inner.is_empty(), || "the epilogue has a reduction".into())?;
            check_loop(&gemm.epilogue, &dispatch.operands, true)
        }
    }
}

fn operand(operands: &[Operand], number: usize) -> Result<&Operand, String> {
    operands.get(number).ok_or_else(|| format!("operand {number} does not exist"))
}

fn check_loop(kernel: &Loop, operands: &[Operand], has_product: bool) -> Result<(), String> {
    let domain = [kernel.outer.as_slice(), &kernel.inner].concat();
    let (rows, columns) = (kernel.rows(), kernel.columns());
    ensure(rows.max(columns) <= MAX_SIZE && rows.min(columns) > 0, || {
        format!("the loop has {rows} rows of {columns} columns")
    })?;
    for (i, instr) in kernel.body.iter().enumerate() {
        let arguments = crate::codegen::arguments(instr);
        ensure(arguments.iter().all(|&arg| arg < i), || format!("value {i} uses a later value"))?;
        match instr {
            Instr::Load { operand: at, layout } => {
                ensure(layout.shape == domain, || format!("the domain of value {i} does not match"))?;
                check_layout(layout, 0, operand(operands, *at)?)?;
            }
            Instr::Gather { operand: at, layout, stride, bound, .. } => {
                let whole = layout.shape == domain && layout.is_unpadded();
                ensure(whole, || format!("the domain of value {i} does not match"))?;
                check_layout(layout, bound.saturating_sub(1) * stride, operand(operands, *at)?)?;
            }
            Instr::Iota(layout) => {
                let whole = layout.shape == domain && layout.is_unpadded();
                ensure(whole, || format!("the domain of value {i} does not match"))?;
            }
            Instr::Call(f, args) => ensure(args.len() == f.f32.arity(), || {
                format!("`{}` is called with {} arguments", f.name, args.len())
            })?,
            Instr::Product => ensure(has_product, || "a GEMM result is used outside an epilogue".into())?,
            Instr::Float(_) | Instr::U32(_) | Instr::Reduce(..) => {}
        }
    }
    for store in &kernel.stores {
        let to = operand(operands, store.operand)?;
        let whole = store.layout.shape == domain || store.layout.shape == kernel.outer;
        let writes =
            store.layout.is_unpadded() && to.access != Access::Read && store.value < kernel.body.len();
        ensure(whole && writes, || {
            format!("the store to operand {} does not match its domain or access", store.operand)
        })?;
        check_layout(&store.layout, 0, to)?;
    }
    Ok(())
}

/// Checks that every offset of a layout lies inside an operand, also after `reach` elements are added to the offset.
fn check_layout(layout: &Layout, reach: usize, operand: &Operand) -> Result<(), String> {
    let rank = layout.shape.len();
    let whole = layout.strides.len() == rank && layout.bounds.iter().all(|bound| bound.strides.len() == rank);
    ensure(whole, || "a layout has missing dimensions".into())?;
    let Some((first, last)) = layout.extent() else { return Ok(()) };
    let last = last + reach as i128;
    let elements = operand.tensor.elements;
    ensure(first >= 0 && last < elements as i128, || {
        format!("offsets {first}..={last} are outside a tensor of {elements} elements")
    })
}
