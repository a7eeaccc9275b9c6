//! Joint placement of the intermediates of several programs.
//!
//! Programs of one session run one after the other, so their intermediates can use the same slabs. If each program is
//! planned separately, the sizes of their slabs differ and memory is wasted. This module places the intermediates of
//! all programs together, as if they belonged to one long program.

use std::collections::HashMap;

use crate::ir::{Access, Buffer, Program};
use crate::memory::{Interval, place};
use crate::value::Id;

/// Replaces the placement of the intermediates of several programs with a joint placement. The purpose is to minimize
/// the slabs ([`slab_bytes`](crate::slab_bytes)) of a session with these programs. No slab exceeds `buffer_bytes`
/// unless a single tensor does.
///
/// Leaves the programs unchanged if a program reads slab memory that does not contain a whole tensor written earlier by
/// the same program. [`compile`] never produces a program of this kind.
///
/// [`compile`]: crate::compile()
pub fn share_slabs(programs: &mut [&mut Program], buffer_bytes: u64) {
    let mut intervals: Vec<Interval> = Vec::new();
    let mut reads: Vec<Vec<Id>> = Vec::new();
    // For each dispatch, the tensor number of each operand, or `None` if the operand is not in a slab.
    let mut tensors: Vec<Vec<Option<Id>>> = Vec::new();
    for program in programs.iter() {
        let mut latest: HashMap<(usize, usize), Id> = HashMap::new();
        for dispatch in &program.dispatches {
            let (now, mut read, mut ids) = (reads.len(), Vec::new(), vec![None; dispatch.operands.len()]);
            let in_slabs = dispatch.operands.iter().enumerate().filter_map(|(i, operand)| {
                let Buffer::Slab(slab) = operand.tensor.buffer else { return None };
                Some((i, operand, (slab, operand.tensor.offset)))
            });
            for (i, operand, at) in in_slabs.clone().filter(|(_, operand, _)| operand.access != Access::Write)
            {
                // The read covers part of a tensor, or memory that no kernel wrote, so no tensor may move.
                let Some(&id) = latest.get(&at) else { return };
                intervals[id].last = now;
                intervals[id].bytes = intervals[id].bytes.max(operand.tensor.bytes());
                read.push(id);
                ids[i] = Some(id);
            }
            for (i, operand, at) in in_slabs.filter(|(_, operand, _)| operand.access == Access::Write) {
                let id = intervals.len();
                intervals.push(Interval { id, bytes: operand.tensor.bytes(), first: now, last: now });
                latest.insert(at, id);
                ids[i] = Some(id);
            }
            reads.push(read);
            tensors.push(ids);
        }
    }
    let placement = place(&intervals, &reads, usize::try_from(buffer_bytes).unwrap_or(usize::MAX));
    let mut tensors = tensors.into_iter();
    for program in programs {
        program.slabs.clear();
        for (dispatch, ids) in program.dispatches.iter_mut().zip(&mut tensors) {
            for (operand, id) in dispatch.operands.iter_mut().zip(ids) {
                let Some(&(slab, offset)) = id.and_then(|id| placement.at.get(&id)) else { continue };
                (operand.tensor.buffer, operand.tensor.offset) = (Buffer::Slab(slab), offset);
                let end = offset + operand.tensor.bytes().next_multiple_of(wgrad_graph::ALIGN);
                program.slabs.resize(program.slabs.len().max(slab + 1), 0);
                program.slabs[slab] = program.slabs[slab].max(end);
            }
        }
    }
}
