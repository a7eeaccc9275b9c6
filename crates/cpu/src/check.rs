//! Validation of a dispatch before the dispatch accesses memory through raw pointers. The validation proves three
//! rules. Every access stays inside its tensor. Written elements do not overlap elements that another lane or thread
//! uses. Calls get arguments of the right types. A dispatch for which the rules cannot be proved is rejected.

use wgrad_graph::{DType, Layout};
use wgrad_program::{Access, Dispatch, Gemm, Instr, Kernel, Loop, Operand, Store};

use crate::address::{MAX_BOUNDS, MAX_DIMS};

/// Description of the rule that a dispatch violates.
pub(crate) type Violation = String;

/// Checks all accesses and argument types of a dispatch.
pub(crate) fn check(dispatch: &Dispatch) -> Result<(), Violation> {
    overlaps(&dispatch.operands)?;
    match &dispatch.kernel {
        Kernel::Loop(kernel) => check_loop(kernel, &dispatch.operands, false),
        Kernel::Gemm(kernel) => check_gemm(kernel, &dispatch.operands),
    }
}

fn ensure(holds: bool, violation: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(violation()) }
}

fn overlaps(operands: &[Operand]) -> Result<(), Violation> {
    for (i, a) in operands.iter().enumerate() {
        for (j, b) in operands.iter().enumerate().skip(i + 1) {
            let (x, y) = (&a.tensor, &b.tensor);
            let disjoint =
                x.buffer != y.buffer || x.offset + x.bytes() <= y.offset || y.offset + y.bytes() <= x.offset;
            let read = a.access == Access::Read && b.access == Access::Read;
            ensure(disjoint || read, || format!("operands {i} and {j} overlap and one of them is written"))?;
        }
    }
    Ok(())
}

fn check_gemm(kernel: &Gemm, operands: &[Operand]) -> Result<(), Violation> {
    for (number, layout, shape) in
        [(kernel.a, &kernel.a_layout, kernel.a_domain()), (kernel.b, &kernel.b_layout, kernel.b_domain())]
    {
        ensure(shape.len() <= MAX_DIMS, || format!("the domain has more than {MAX_DIMS} dimensions"))?;
        let operand = operand(operands, number)?;
        ensure(operand.access == Access::Read, || format!("factor {number} must only be read"))?;
        ensure(operand.tensor.dtype != DType::U32, || format!("factor {number} must be a float tensor"))?;
        ensure(layout.shape == shape, || {
            format!("the layout of factor {number} must have the shape {shape:?}")
        })?;
        inside(layout, 0, operand)?;
    }
    ensure(kernel.epilogue.outer == kernel.domain(), || {
        "the epilogue must have the domain of the product".into()
    })?;
    ensure(kernel.epilogue.inner.is_empty(), || "the epilogue must not reduce".into())?;
    check_loop(&kernel.epilogue, operands, true)
}

fn check_loop(kernel: &Loop, operands: &[Operand], has_product: bool) -> Result<(), Violation> {
    let domain = [kernel.outer.as_slice(), &kernel.inner].concat();
    ensure(domain.len() <= MAX_DIMS, || format!("the domain has more than {MAX_DIMS} dimensions"))?;
    for (number, instr) in kernel.body.iter().enumerate() {
        check_instr(instr, number, &domain, operands, has_product)
            .map_err(|violation| format!("value {number}: {violation}"))?;
    }
    let dtypes: Vec<DType> = operands.iter().map(|operand| operand.tensor.dtype).collect();
    let is_u32 = kernel.is_u32(&dtypes);
    for (number, instr) in kernel.body.iter().enumerate() {
        let all_of_type = |args: &[usize], expected: bool| args.iter().all(|&arg| is_u32[arg] == expected);
        let types_match = match instr {
            Instr::Call(f, args) => all_of_type(args, f.f32.takes_u32()),
            Instr::Gather { index, .. } => is_u32[*index],
            Instr::Reduce(_, value) => !is_u32[*value],
            _ => true,
        };
        ensure(types_match, || format!("value {number}: an argument has the wrong element type"))?;
    }
    let varies = kernel.varies();
    for store in &kernel.stores {
        ensure(store.value < kernel.body.len(), || {
            format!("value {} is stored but does not exist", store.value)
        })?;
        check_store(kernel, store, &domain, operands)?;
        let stored_as_u32 = dtypes[store.operand] == DType::U32;
        ensure(is_u32[store.value] == stored_as_u32, || {
            format!("value {} is stored to an operand of another element type", store.value)
        })?;
        let each = store.layout.shape.len() > kernel.outer.len();
        let fits = each || !varies[store.value];
        ensure(fits, || format!("value {} varies within a row but is stored once per row", store.value))?;
    }
    check_written(kernel, operands)
}

fn operand(operands: &[Operand], number: usize) -> Result<&Operand, Violation> {
    operands.get(number).ok_or_else(|| format!("operand {number} does not exist"))
}

fn check_instr(
    instr: &Instr,
    number: usize,
    domain: &[usize],
    operands: &[Operand],
    has_product: bool,
) -> Result<(), Violation> {
    let earlier = |args: &[usize]| {
        ensure(args.iter().all(|&arg| arg < number), || "an argument refers to a later value".into())
    };
    let over_domain = |layout: &Layout| {
        ensure(layout.shape == domain, || "the layout must have the shape of the domain".into())?;
        well_formed(layout)
    };
    match instr {
        Instr::Load { operand: at, layout } => {
            over_domain(layout)?;
            inside(layout, 0, operand(operands, *at)?)
        }
        Instr::Gather { operand: at, layout, index, stride, bound } => {
            over_domain(layout)?;
            earlier(&[*index])?;
            ensure(layout.is_unpadded(), || "the table must not be padded".into())?;
            inside(layout, bound.saturating_sub(1).saturating_mul(*stride), operand(operands, *at)?)
        }
        Instr::Iota(layout) => {
            over_domain(layout)?;
            ensure(layout.is_unpadded(), || "an iota must not be padded".into())
        }
        Instr::Call(f, args) => {
            earlier(args)?;
            ensure(args.len() == f.f32.arity(), || format!("{} takes {} arguments", f.name, f.f32.arity()))
        }
        Instr::Reduce(_, value) => earlier(&[*value]),
        Instr::Product => ensure(has_product, || {
            "a product instruction is valid only in the epilogue of a matrix product".into()
        }),
        Instr::Float(_) | Instr::U32(_) => Ok(()),
    }
}

fn check_store(
    kernel: &Loop,
    store: &Store,
    domain: &[usize],
    operands: &[Operand],
) -> Result<(), Violation> {
    let to = operand(operands, store.operand)?;
    let whole = store.layout.shape == domain || store.layout.shape == kernel.outer;
    let fits = whole && store.layout.is_unpadded() && to.access != Access::Read;
    ensure(fits, || {
        format!(
            "value {} cannot be stored to operand {}: wrong shape, padding, or read-only operand",
            store.value, store.operand
        )
    })?;
    inside(&store.layout, 0, to)?;
    ensure(is_injective(&store.layout), || {
        format!("two indices of the store of value {} share an offset", store.value)
    })
}

/// Checks the accesses to written operands. A lane may read only those elements that the same lane writes. Two stores
/// to the same operand must not overlap.
fn check_written(kernel: &Loop, operands: &[Operand]) -> Result<(), Violation> {
    for (i, store) in kernel.stores.iter().enumerate() {
        for other in kernel.stores[i + 1..].iter().filter(|other| other.operand == store.operand) {
            let disjoint = match (store.layout.extent(), other.layout.extent()) {
                (Some(a), Some(b)) => a.1 < b.0 || b.1 < a.0,
                _ => true,
            };
            ensure(disjoint, || format!("two stores to operand {} overlap", store.operand))?;
        }
    }
    for (number, instr) in kernel.body.iter().enumerate() {
        let (Instr::Load { operand: at, .. } | Instr::Gather { operand: at, .. }) = instr else { continue };
        let access = operand(operands, *at)?.access;
        ensure(access != Access::Write, || {
            format!("value {number} loads operand {at}, which may only be written")
        })?;
        for store in kernel.stores.iter().filter(|store| store.operand == *at) {
            let is_aligned =
                matches!(instr, Instr::Load { layout, .. } if canonical(layout) == canonical(&store.layout));
            ensure(is_aligned, || {
                format!("value {number} loads operand {at}, which is stored at other positions")
            })?;
        }
    }
    Ok(())
}

/// Returns the canonical form of a layout, without dimensions of size 1 or stride 0. If two unpadded layouts of one
/// domain have equal canonical forms, they have the same offset at every index.
fn canonical(layout: &Layout) -> (isize, Vec<(usize, usize, isize)>, bool) {
    let dims = layout.shape.iter().zip(&layout.strides).enumerate();
    let moving = dims.filter(|(_, (size, stride))| **size != 1 && **stride != 0);
    (layout.offset, moving.map(|(i, (&size, &stride))| (i, size, stride)).collect(), layout.is_unpadded())
}

fn well_formed(layout: &Layout) -> Result<(), Violation> {
    let rank = layout.shape.len();
    let bounds_fit = layout.bounds.iter().all(|bound| bound.strides.len() == rank);
    ensure(layout.strides.len() == rank && bounds_fit, || {
        "the strides of the layout do not match its shape".into()
    })?;
    ensure(layout.bounds.len() <= MAX_BOUNDS, || format!("the layout has more than {MAX_BOUNDS} bounds"))
}

fn inside(layout: &Layout, reach: usize, operand: &Operand) -> Result<(), Violation> {
    well_formed(layout)?;
    let Some((first, last)) = layout.extent() else { return Ok(()) };
    let fits = first >= 0 && last + (reach as i128) < operand.tensor.elements as i128;
    ensure(fits, || {
        format!("offsets {first}..={last} exceed a tensor of {} elements", operand.tensor.elements)
    })
}

/// Whether all offsets of the layout differ. The condition is sufficient, but not necessary: each stride exceeds the
/// span of all dimensions with smaller strides.
fn is_injective(layout: &Layout) -> bool {
    if layout.numel() == 0 {
        return true;
    }
    let mut dims: Vec<(u128, u128)> = Vec::new();
    for (&size, &stride) in layout.shape.iter().zip(&layout.strides).filter(|(size, _)| **size > 1) {
        dims.push((stride.unsigned_abs() as u128, size as u128));
    }
    dims.sort_unstable();
    let mut span = 0;
    dims.iter().all(|&(stride, size)| {
        let disjoint = stride > span;
        span += stride * (size - 1);
        disjoint
    })
}
