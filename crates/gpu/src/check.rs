//! Checks a dispatch before a shader is made of it: every access inside its tensor, every index within u32, and nothing that
//! the device lacks. Programs are plain data; a planner's mistake must be an error here, not a wrong number there.

use wgrad_graph::{DType, Layout};
use wgrad_program::{Access, DeviceError, Dispatch, Instr, Kernel, Loop, Operand, Program};

use crate::device::Shared;

/// Sizes stay below this, so that an index plus what a workgroup adds to it stays a u32.
const MOST: usize = (1 << 31) - 1;

pub(crate) fn check(shared: &Shared, program: &Program) -> Result<(), DeviceError> {
    for dispatch in &program.dispatches {
        let halves = dispatch.operands.iter().any(|operand| operand.tensor.dtype == DType::F16);
        if halves && !shared.info.limits.f16 {
            let reason = format!("`{}` stores f16, which the device has not", dispatch.name);
            return Err(DeviceError::Unsupported { name: shared.name().into(), reason });
        }
        sound(dispatch, program).map_err(|why| DeviceError::Internal {
            name: shared.name().into(),
            reason: format!("`{}`: {why}", dispatch.name),
        })?;
    }
    Ok(())
}

fn ensure(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

/// Whether a dispatch stays inside its tensors, and these inside their buffers.
fn sound(dispatch: &Dispatch, program: &Program) -> Result<(), String> {
    for Operand { tensor, .. } in &dispatch.operands {
        let known = match tensor.buffer {
            wgrad_program::Buffer::State(group) => group.0 < program.states.groups().len(),
            wgrad_program::Buffer::Slab(i) => i < program.slabs.len(),
            wgrad_program::Buffer::Pack(i) => i < program.packs.len(),
            _ => true,
        };
        ensure(known, || format!("there is no buffer {:?}", tensor.buffer))?;
        let bytes = program.buffer_bytes(tensor.buffer);
        let inside = tensor.offset + tensor.bytes().next_multiple_of(4) <= bytes && tensor.elements > 0;
        let aligned = tensor.offset.is_multiple_of(wgrad_graph::ALIGN);
        ensure(inside && aligned, || {
            format!("a tensor lies at {}..+{} of {bytes} bytes", tensor.offset, tensor.bytes())
        })?;
    }
    match &dispatch.kernel {
        Kernel::Loop(kernel) => check_loop(kernel, &dispatch.operands, false),
        Kernel::Gemm(gemm) => {
            for (number, layout, shape) in
                [(gemm.a, &gemm.a_layout, gemm.a_domain()), (gemm.b, &gemm.b_layout, gemm.b_domain())]
            {
                ensure(layout.shape == shape, || "a factor of another domain".into())?;
                inside(layout, 0, operand(&dispatch.operands, number)?)?;
            }
            let depth = gemm.depth();
            ensure(depth > 0 && depth <= MOST, || format!("a product of depth {depth}"))?;
            ensure(gemm.epilogue.outer == gemm.domain(), || "an epilogue of another domain".into())?;
            ensure(gemm.epilogue.inner.is_empty(), || "an epilogue that reduces".into())?;
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
    ensure(rows.max(columns) <= MOST && rows.min(columns) > 0, || {
        format!("{rows} rows of {columns} columns")
    })?;
    for (i, instr) in kernel.body.iter().enumerate() {
        let arguments = crate::codegen::arguments(instr);
        ensure(arguments.iter().all(|&arg| arg < i), || format!("value {i} uses a later one"))?;
        match instr {
            Instr::Load { operand: at, layout } => {
                ensure(layout.shape == domain, || format!("value {i} has another domain"))?;
                inside(layout, 0, operand(operands, *at)?)?;
            }
            Instr::Gather { operand: at, layout, stride, bound, .. } => {
                let whole = layout.shape == domain && layout.is_unpadded();
                ensure(whole, || format!("value {i} has another domain"))?;
                inside(layout, bound.saturating_sub(1) * stride, operand(operands, *at)?)?;
            }
            Instr::Iota(layout) => {
                let whole = layout.shape == domain && layout.is_unpadded();
                ensure(whole, || format!("value {i} has another domain"))?;
            }
            Instr::Call(f, args) => {
                ensure(args.len() == f.f32.arity(), || format!("{} of {args:?}", f.name))?
            }
            Instr::Product => ensure(has_product, || "a product outside a matrix product".into())?,
            Instr::Float(_) | Instr::U32(_) | Instr::Reduce(..) => {}
        }
    }
    for store in &kernel.stores {
        let to = operand(operands, store.operand)?;
        let whole = store.layout.shape == domain || store.layout.shape == kernel.outer;
        let writes = store.layout.is_unpadded() && to.access != Access::Read && store.value < kernel.body.len();
        ensure(whole && writes, || format!("the store to operand {} does not fit it", store.operand))?;
        inside(&store.layout, 0, to)?;
    }
    Ok(())
}

/// Whether all that a layout addresses, and `reach` elements further, lies inside an operand.
fn inside(layout: &Layout, reach: usize, operand: &Operand) -> Result<(), String> {
    let rank = layout.shape.len();
    let whole = layout.strides.len() == rank && layout.bounds.iter().all(|bound| bound.strides.len() == rank);
    ensure(whole, || "a layout with missing dimensions".into())?;
    let Some((first, last)) = layout.extent() else { return Ok(()) };
    let last = last + reach as i128;
    let elements = operand.tensor.elements;
    ensure(first >= 0 && last < elements as i128, || {
        format!("offsets {first}..={last} leave a tensor of {elements} elements")
    })
}
