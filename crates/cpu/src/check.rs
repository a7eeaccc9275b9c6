//! Proves that a dispatch may follow raw addresses: every access inside its tensor, nothing written that overlaps what
//! another lane or thread uses, and every call given arguments of its kinds. Refuses what it cannot prove.

use wgrad_graph::{DType, Layout};
use wgrad_program::{Access, Dispatch, Gemm, Instr, Kernel, Loop, Operand, Store};

use crate::address::{MAX_BOUNDS, MAX_DIMS};

/// Why a dispatch is refused, in words.
pub(crate) type Refusal = String;

/// Checks a dispatch.
pub(crate) fn check(dispatch: &Dispatch) -> Result<(), Refusal> {
    overlaps(&dispatch.operands)?;
    match &dispatch.kernel {
        Kernel::Loop(kernel) => check_loop(kernel, &dispatch.operands, false),
        Kernel::Gemm(kernel) => check_gemm(kernel, &dispatch.operands),
    }
}

fn ensure(holds: bool, refusal: impl FnOnce() -> String) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(refusal()) }
}

fn overlaps(operands: &[Operand]) -> Result<(), Refusal> {
    for (i, a) in operands.iter().enumerate() {
        for (j, b) in operands.iter().enumerate().skip(i + 1) {
            let (x, y) = (&a.tensor, &b.tensor);
            let apart =
                x.buffer != y.buffer || x.offset + x.bytes() <= y.offset || y.offset + y.bytes() <= x.offset;
            let read = a.access == Access::Read && b.access == Access::Read;
            ensure(apart || read, || format!("operands {i} and {j} overlap and one of them is written"))?;
        }
    }
    Ok(())
}

fn check_gemm(kernel: &Gemm, operands: &[Operand]) -> Result<(), Refusal> {
    for (number, layout, shape) in
        [(kernel.a, &kernel.a_layout, kernel.a_domain()), (kernel.b, &kernel.b_layout, kernel.b_domain())]
    {
        ensure(shape.len() <= MAX_DIMS, || format!("more than {MAX_DIMS} dimensions"))?;
        let operand = operand(operands, number)?;
        ensure(operand.access == Access::Read, || format!("factor {number} is written"))?;
        ensure(operand.tensor.dtype != DType::U32, || format!("factor {number} holds words"))?;
        ensure(layout.shape == shape, || format!("factor {number} has a layout of another domain"))?;
        inside(layout, 0, operand)?;
    }
    ensure(kernel.epilogue.outer == kernel.domain(), || {
        "the epilogue has another domain than the product".into()
    })?;
    ensure(kernel.epilogue.inner.is_empty(), || "the epilogue reduces".into())?;
    check_loop(&kernel.epilogue, operands, true)
}

fn check_loop(kernel: &Loop, operands: &[Operand], has_product: bool) -> Result<(), Refusal> {
    let domain = [kernel.outer.as_slice(), &kernel.inner].concat();
    ensure(domain.len() <= MAX_DIMS, || format!("more than {MAX_DIMS} dimensions"))?;
    for (number, instr) in kernel.body.iter().enumerate() {
        check_instr(instr, number, &domain, operands, has_product)
            .map_err(|refusal| format!("value {number}: {refusal}"))?;
    }
    let dtypes: Vec<DType> = operands.iter().map(|operand| operand.tensor.dtype).collect();
    let words = kernel.is_u32(&dtypes);
    for (number, instr) in kernel.body.iter().enumerate() {
        let all_words = |args: &[usize], wanted: bool| args.iter().all(|&arg| words[arg] == wanted);
        let kinds_agree = match instr {
            Instr::Call(f, args) => all_words(args, f.f32.takes_u32()),
            Instr::Gather { index, .. } => words[*index],
            Instr::Reduce(_, value) => !words[*value],
            _ => true,
        };
        ensure(kinds_agree, || format!("value {number}: a float where a word is needed, or the reverse"))?;
    }
    let varies = kernel.varies();
    for store in &kernel.stores {
        ensure(store.value < kernel.body.len(), || {
            format!("value {} is stored and does not exist", store.value)
        })?;
        check_store(kernel, store, &domain, operands)?;
        let is_word = dtypes[store.operand] == DType::U32;
        ensure(words[store.value] == is_word, || format!("value {} is stored in another kind", store.value))?;
        let each = store.layout.shape.len() > kernel.outer.len();
        let fits = each || !varies[store.value];
        ensure(fits, || format!("value {} varies within a row and is stored once a row", store.value))?;
    }
    check_written(kernel, operands)
}

fn operand(operands: &[Operand], number: usize) -> Result<&Operand, Refusal> {
    operands.get(number).ok_or_else(|| format!("operand {number} does not exist"))
}

fn check_instr(
    instr: &Instr,
    number: usize,
    domain: &[usize],
    operands: &[Operand],
    has_product: bool,
) -> Result<(), Refusal> {
    let earlier =
        |args: &[usize]| ensure(args.iter().all(|&arg| arg < number), || "uses a later value".into());
    let over_domain = |layout: &Layout| {
        ensure(layout.shape == domain, || "a layout of another domain".into())?;
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
            ensure(layout.is_unpadded(), || "a padded table".into())?;
            inside(layout, bound.saturating_sub(1).saturating_mul(*stride), operand(operands, *at)?)
        }
        Instr::Iota(layout) => {
            over_domain(layout)?;
            ensure(layout.is_unpadded(), || "a padded iota".into())
        }
        Instr::Call(f, args) => {
            earlier(args)?;
            ensure(args.len() == f.f32.arity(), || format!("{} takes {} arguments", f.name, f.f32.arity()))
        }
        Instr::Reduce(_, value) => earlier(&[*value]),
        Instr::Product => ensure(has_product, || "a product outside a matrix product".into()),
        Instr::Float(_) | Instr::U32(_) => Ok(()),
    }
}

fn check_store(kernel: &Loop, store: &Store, domain: &[usize], operands: &[Operand]) -> Result<(), Refusal> {
    let to = operand(operands, store.operand)?;
    let whole = store.layout.shape == domain || store.layout.shape == kernel.outer;
    let fits = whole && store.layout.is_unpadded() && to.access != Access::Read;
    ensure(fits, || format!("the store of value {} does not fit operand {}", store.value, store.operand))?;
    inside(&store.layout, 0, to)?;
    ensure(is_injective(&store.layout), || {
        format!("two indices of the store of value {} share an offset", store.value)
    })
}

/// A written operand is read only where the same lane writes it, and two stores to one operand write apart.
fn check_written(kernel: &Loop, operands: &[Operand]) -> Result<(), Refusal> {
    for (i, store) in kernel.stores.iter().enumerate() {
        for other in kernel.stores[i + 1..].iter().filter(|other| other.operand == store.operand) {
            let apart = match (store.layout.extent(), other.layout.extent()) {
                (Some(a), Some(b)) => a.1 < b.0 || b.1 < a.0,
                _ => true,
            };
            ensure(apart, || format!("two stores to operand {} overlap", store.operand))?;
        }
    }
    for (number, instr) in kernel.body.iter().enumerate() {
        let (Instr::Load { operand: at, .. } | Instr::Gather { operand: at, .. }) = instr else { continue };
        let access = operand(operands, *at)?.access;
        ensure(access != Access::Write, || {
            format!("value {number} loads operand {at}, which is only written")
        })?;
        for store in kernel.stores.iter().filter(|store| store.operand == *at) {
            let in_step =
                matches!(instr, Instr::Load { layout, .. } if steps(layout) == steps(&store.layout));
            ensure(in_step, || {
                format!("value {number} loads operand {at} at other places than it is stored")
            })?;
        }
    }
    Ok(())
}

/// What a layout does, whatever its dimensions of size 1 and, past the rows, of stride 0 say.
fn steps(layout: &Layout) -> (isize, Vec<(usize, usize, isize)>, bool) {
    let dims = layout.shape.iter().zip(&layout.strides).enumerate();
    let moving = dims.filter(|(_, (size, stride))| **size != 1 && **stride != 0);
    (layout.offset, moving.map(|(i, (&size, &stride))| (i, size, stride)).collect(), layout.is_unpadded())
}

fn well_formed(layout: &Layout) -> Result<(), Refusal> {
    let rank = layout.shape.len();
    let bounds_fit = layout.bounds.iter().all(|bound| bound.strides.len() == rank);
    ensure(layout.strides.len() == rank && bounds_fit, || "a layout with missing dimensions".into())?;
    ensure(layout.bounds.len() <= MAX_BOUNDS, || format!("more than {MAX_BOUNDS} bounds"))
}

fn inside(layout: &Layout, reach: usize, operand: &Operand) -> Result<(), Refusal> {
    well_formed(layout)?;
    let Some((first, last)) = layout.extent() else { return Ok(()) };
    let fits = first >= 0 && last + (reach as i128) < operand.tensor.elements as i128;
    ensure(fits, || {
        format!("offsets {first}..={last} leave a tensor of {} elements", operand.tensor.elements)
    })
}

/// True when each dimension steps over all that the smaller ones span: enough for offsets to differ.
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
        let apart = stride > span;
        span += stride * (size - 1);
        apart
    })
}
