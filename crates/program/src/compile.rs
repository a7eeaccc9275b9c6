//! Planning pipeline: graph → values → clusters → kernels → program with memory plan.

use std::collections::{BTreeMap, HashMap};

use wgrad_graph::{ALIGN, Graph, GraphError, Leaf, States, TensorType};
use wgrad_stdx::{InternalError, never};

use crate::device::Limits;
use crate::fuse::{ScheduleError, schedule};
use crate::ir::{
    Access, Buffer, Cost, Dispatch, Instr, Kernel, Operand, Output, Program, ProgramInput, TensorRef,
};
use crate::kernel::{Draft, build_kernel};
use crate::memory::{Interval, Placement, largest_live_set, place};
use crate::value::{Id, Target, ValueKind, Values};

/// Options of the planner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Whether one kernel may compute several operations. If false, every operation has its own kernel, which is useful
    /// for tests and debugging.
    pub fuse: bool,
    /// Maximum number of operands that a dispatch may bind.
    pub operands: usize,
    /// Maximum size of a slab in bytes. A larger tensor gets its own slab, and the device then rejects the program.
    pub buffer_bytes: u64,
}

impl Options {
    /// Returns the options for a device with these limits.
    pub fn within(limits: &Limits) -> Self {
        Self { operands: limits.operands, buffer_bytes: limits.buffer_bytes, ..Self::default() }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { fuse: true, operands: 8, buffer_bytes: u64::MAX }
    }
}

/// Plans a program that computes the outputs of a graph and updates its state.
///
/// # Errors
/// Returns the first error recorded in the graph, or an internal error if the planner breaks one of its invariants.
pub fn compile(graph: &Graph, options: Options) -> Result<Program, GraphError> {
    graph.finish()?;
    let mut values = Values::from_graph(graph)?;
    let drafts = loop {
        match schedule(&values, options.fuse, options.operands) {
            Ok(schedule) => {
                let drafts = schedule.order.iter().map(|&cluster| build_kernel(&schedule, cluster));
                break drafts.collect::<Result<Vec<Draft>, _>>()?;
            }
            Err(ScheduleError::Target(target)) => values.defer_target(target),
            Err(ScheduleError::Cycle) => {
                return Err(never!("planned kernels depend on each other in a cycle").into());
            }
        }
    };
    Ok(Planner::new(graph, &values, &drafts, options.buffer_bytes).program(drafts)?)
}

struct Planner<'p> {
    values: &'p Values,
    states: States,
    inputs: Vec<ProgramInput>,
    outputs: Vec<Output>,
    /// Locations of the values that are not stored in a slab.
    fixed: HashMap<Id, TensorRef>,
    packs: Vec<usize>,
    placement: Placement,
    live_bytes: usize,
}

impl<'p> Planner<'p> {
    fn new(graph: &Graph, values: &'p Values, drafts: &[Draft], buffer_bytes: u64) -> Self {
        let inputs = place_consecutively(graph.inputs(), Buffer::Inputs);
        let output_types = graph.outputs().into_iter().map(|(name, id)| (name, graph.var(id).ty())).collect();
        let outputs = place_consecutively(output_types, Buffer::Outputs);
        let mut planner = Self {
            values,
            states: graph.states().clone(),
            inputs: inputs.into_iter().map(|(name, ty, tensor)| ProgramInput { name, ty, tensor }).collect(),
            outputs: outputs.into_iter().map(|(name, ty, tensor)| Output { name, ty, tensor }).collect(),
            fixed: HashMap::new(),
            packs: Vec::new(),
            placement: Placement::default(),
            live_bytes: 0,
        };
        planner.place_fixed();
        planner.place_scratch(drafts, usize::try_from(buffer_bytes).unwrap_or(usize::MAX));
        planner
    }

    /// Assigns locations to leaves, packs and their parts, outputs, and updated states.
    fn place_fixed(&mut self) {
        for (id, value) in self.values.all.iter().enumerate() {
            match &value.kind {
                ValueKind::Leaf(leaf) => drop(self.fixed.insert(id, self.leaf_tensor(*leaf))),
                ValueKind::Pack { parts } => {
                    let buffer = Buffer::Pack(self.packs.len());
                    self.packs.push(value.ty.bytes().next_multiple_of(ALIGN));
                    self.fixed.insert(id, tensor(buffer, 0, &value.ty));
                    for &(part, offset) in parts {
                        let ty = &self.values.all[part].ty;
                        self.fixed.insert(part, tensor(buffer, offset * ty.dtype.bytes(), ty));
                    }
                }
                _ => {}
            }
        }
        for &(id, target) in &self.values.targets {
            let tensor = match target {
                Target::Output(slot) => self.outputs[slot].tensor.clone(),
                Target::State(leaf) => self.leaf_tensor(leaf),
            };
            self.fixed.insert(id, tensor);
        }
    }

    fn leaf_tensor(&self, leaf: Leaf) -> TensorRef {
        match leaf {
            Leaf::Input(slot) => self.inputs[slot].tensor.clone(),
            Leaf::Entry(id) => {
                let ty = self.states.entry_type(id);
                tensor(Buffer::State(id.group), self.states.get_entry(id).offset * ty.dtype.bytes(), &ty)
            }
            Leaf::Group(id) => {
                let group = self.states.get(id);
                tensor(Buffer::State(id), 0, &TensorType::new(group.dtype, [group.len()]))
            }
        }
    }

    fn place_scratch(&mut self, drafts: &[Draft], max_slab_bytes: usize) {
        let mut intervals: BTreeMap<Id, Interval> = BTreeMap::new();
        for (k, draft) in drafts.iter().enumerate() {
            for &id in draft.stores.iter().filter(|id| !self.fixed.contains_key(id)) {
                let bytes = self.values.all[id].ty.bytes();
                intervals.insert(id, Interval { id, bytes, first: k, last: k });
            }
            for id in &draft.loads {
                if let Some(interval) = intervals.get_mut(id) {
                    interval.last = k;
                }
            }
        }
        let reads: Vec<Vec<Id>> = drafts.iter().map(|draft| draft.loads.clone()).collect();
        let intervals: Vec<Interval> = intervals.into_values().collect();
        self.placement = place(&intervals, &reads, max_slab_bytes);
        self.live_bytes = largest_live_set(&intervals);
    }

    fn tensor(&self, id: Id) -> Result<TensorRef, InternalError> {
        if let Some(tensor) = self.fixed.get(&id) {
            return Ok(tensor.clone());
        }
        let value = &self.values.all[id];
        let placed = self.placement.at.get(&id);
        let &(slab, offset) =
            placed.ok_or_else(|| never!("value `{}` is loaded but has no memory", value.name))?;
        Ok(tensor(Buffer::Slab(slab), offset, &value.ty))
    }

    fn program(self, drafts: Vec<Draft>) -> Result<Program, InternalError> {
        let mut largest: Vec<(String, TensorType, usize)> = self
            .placement
            .at
            .keys()
            .map(|&id| {
                let value = &self.values.all[id];
                let name = if value.path.is_empty() {
                    value.name.into()
                } else {
                    format!("{}: {}", value.path, value.name)
                };
                (name, value.ty.clone(), value.ty.bytes())
            })
            .collect();
        largest.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| a.0.cmp(&b.0)));
        Ok(Program {
            dispatches: drafts.into_iter().map(|draft| self.dispatch(draft)).collect::<Result<_, _>>()?,
            input_bytes: end_bytes(self.inputs.iter().map(|i| &i.tensor)),
            output_bytes: end_bytes(self.outputs.iter().map(|o| &o.tensor)),
            states: self.states,
            inputs: self.inputs,
            outputs: self.outputs,
            slabs: self.placement.slabs,
            live_bytes: self.live_bytes,
            packs: self.packs,
            largest_tensors: largest,
        })
    }

    /// Assigns tensors to the operands of a kernel. A tensor that is read and overwritten becomes one operand.
    fn dispatch(&self, draft: Draft) -> Result<Dispatch, InternalError> {
        let mut operands: Vec<Operand> = Vec::new();
        let mut number = Vec::new();
        let all = draft
            .loads
            .iter()
            .map(|&id| (id, Access::Read))
            .chain(draft.stores.iter().map(|&id| (id, Access::Write)));
        for (id, access) in all {
            let tensor = self.tensor(id)?;
            match operands.iter().position(|o| o.tensor == tensor) {
                Some(same) => {
                    if operands[same].access != access {
                        operands[same].access = Access::ReadWrite;
                    }
                    number.push(same);
                }
                None => {
                    operands.push(Operand { tensor, access });
                    number.push(operands.len() - 1);
                }
            }
        }
        let kernel = renumber_operands(draft.kernel, &number);
        let bytes = |skip: Access| {
            let used = operands.iter().enumerate().filter(|(_, o)| o.access != skip);
            used.map(|(i, o)| o.tensor.bytes().min(gather_bound(&kernel, i, o))).sum()
        };
        let cost = Cost::of(&kernel, bytes(Access::Write), bytes(Access::Read));
        Ok(Dispatch { name: draft.name, kernel, operands, cost })
    }
}

/// Returns an upper bound of the bytes that a kernel reads from an operand that it accesses only through gathers, or
/// `usize::MAX` for any other operand.
fn gather_bound(kernel: &Kernel, number: usize, operand: &Operand) -> usize {
    let (body, factors) = match kernel {
        Kernel::Loop(body) => (body, None),
        Kernel::Gemm(gemm) => (&gemm.epilogue, Some([gemm.a, gemm.b])),
    };
    let loads = |instr: &Instr| matches!(instr, Instr::Load { operand, .. } if *operand == number);
    if operand.access != Access::Read
        || factors.is_some_and(|factors| factors.contains(&number))
        || body.body.iter().any(loads)
    {
        return usize::MAX;
    }
    let gathers = |instr: &&Instr| matches!(instr, Instr::Gather { operand, .. } if *operand == number);
    let count = body.body.iter().filter(gathers).count();
    count * body.rows() * body.columns() * operand.tensor.dtype.bytes()
}

fn renumber_operands(mut kernel: Kernel, number: &[usize]) -> Kernel {
    let body = match &mut kernel {
        Kernel::Loop(body) => body,
        Kernel::Gemm(gemm) => {
            (gemm.a, gemm.b) = (number[gemm.a], number[gemm.b]);
            &mut gemm.epilogue
        }
    };
    for instr in &mut body.body {
        if let Instr::Load { operand, .. } | Instr::Gather { operand, .. } = instr {
            *operand = number[*operand];
        }
    }
    body.stores.iter_mut().for_each(|store| store.operand = number[store.operand]);
    kernel
}

fn tensor(buffer: Buffer, offset: usize, ty: &TensorType) -> TensorRef {
    TensorRef { buffer, offset, elements: ty.shape.numel(), dtype: ty.dtype }
}

fn place_consecutively(
    tensors: Vec<(String, TensorType)>,
    buffer: Buffer,
) -> Vec<(String, TensorType, TensorRef)> {
    let mut offset = 0;
    let placed = tensors.into_iter().map(|(name, ty)| {
        let tensor = tensor(buffer, offset, &ty);
        offset += ty.bytes().next_multiple_of(ALIGN);
        (name, ty, tensor)
    });
    placed.collect()
}

fn end_bytes<'t>(tensors: impl Iterator<Item = &'t TensorRef>) -> usize {
    tensors.map(|t| (t.offset + t.bytes()).next_multiple_of(ALIGN)).max().unwrap_or(0)
}
