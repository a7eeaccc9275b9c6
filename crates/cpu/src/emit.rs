//! Emits the straight-line code of a plan. Divides the code into stages, allocates registers by liveness, and accesses
//! operands without a register where possible.

use std::collections::{BTreeMap, BTreeSet};

use wgrad_graph::FloatType;
use wgrad_program::{Access, ValueId};
use wgrad_stdx::{InternalError, never};

use crate::analysis::{Analysis, Level, Value, ValueKind};
use crate::float::Float;
use crate::plan::{Location, Mode, ReductionInput, Registers, Splat, Stage, VectorOp, Write};

/// The code of a plan.
pub(crate) struct Code<T> {
    pub uniform: Vec<VectorOp<T>>,
    pub uniform_is_u32: Vec<bool>,
    pub periodic: Vec<VectorOp<T>>,
    pub stages: Vec<Stage<T>>,
    pub registers: Registers,
}

/// Emits every stage of a plan. A value that a later stage needs again is either kept or computed again. Values are
/// kept only if there are at most `max_kept` of them.
pub(crate) fn emit<T: Float>(
    analysis: &Analysis<'_>,
    mode: Mode,
    max_kept: usize,
) -> Result<Code<T>, InternalError> {
    let mut emitter = Emitter::new(analysis, mode);
    let outputs = emitter.outputs();
    emitter.choose_kept(&outputs, max_kept);
    let stages = outputs.iter().map(|outputs| emitter.emit_stage(outputs)).collect::<Result<_, _>>()?;
    let kept = emitter.kept.len();
    let Emitter { uniform, uniform_is_u32, periodic, mut registers, .. } = emitter;
    registers.uniform = uniform_is_u32.len();
    registers.kept = kept;
    Ok(Code { uniform, uniform_is_u32, periodic, stages, registers })
}

/// The reductions and stores that a stage computes.
#[derive(Debug, Default)]
struct StageOutputs {
    /// Numbers of the reductions that the stage computes, among the reductions of the analysis.
    reduction_inputs: Vec<usize>,
    /// Numbers of the stores that write one value per row, among the stores of the analysis.
    row_stores: Vec<usize>,
    element_stores: Vec<usize>,
}

/// The values that the row code and the element code of a stage compute, in order.
#[derive(Debug, Default)]
struct StageValues {
    rows: BTreeSet<ValueId>,
    elements: BTreeSet<ValueId>,
    /// Row values of this stage that element code, a reduction or an element store reads.
    shared: BTreeSet<ValueId>,
}

struct Emitter<'a, T> {
    analysis: &'a Analysis<'a>,
    mode: Mode,
    uniform: Vec<VectorOp<T>>,
    uniform_is_u32: Vec<bool>,
    periodic: Vec<VectorOp<T>>,
    /// Locations of the uniform and periodic values, which are computed once per task.
    hoisted: BTreeMap<ValueId, Location>,
    kept: BTreeMap<ValueId, usize>,
    /// Kept values that an earlier stage has already computed.
    available: BTreeSet<ValueId>,
    registers: Registers,
}

/// Free list of the registers of one kind, e.g. row registers.
#[derive(Debug)]
struct Pool {
    register: fn(usize) -> Location,
    free: Vec<usize>,
    size: usize,
}

impl Pool {
    fn new(register: fn(usize) -> Location) -> Self {
        Self { register, free: Vec::new(), size: 0 }
    }

    fn allocate(&mut self) -> Location {
        let i = self.free.pop().unwrap_or_else(|| {
            self.size += 1;
            self.size - 1
        });
        (self.register)(i)
    }

    fn release(&mut self, location: Option<Location>) {
        if let Some(Location::Row(i) | Location::Element(i)) = location {
            self.free.push(i);
        }
    }
}

impl<'a, T: Float> Emitter<'a, T> {
    fn new(analysis: &'a Analysis<'a>, mode: Mode) -> Self {
        Self {
            analysis,
            mode,
            uniform: Vec::new(),
            uniform_is_u32: Vec::new(),
            periodic: Vec::new(),
            hoisted: BTreeMap::new(),
            kept: BTreeMap::new(),
            available: BTreeSet::new(),
            registers: Registers::default(),
        }
    }

    fn value(&self, id: ValueId) -> &'a Value {
        &self.analysis.values[id]
    }

    /// Returns the outputs of each stage. There is one stage for each level of nested reductions that a store depends
    /// on, then one stage with the element stores, then one stage with the row stores. Row stores come last so that no
    /// row value is written before all elements have been computed.
    fn outputs(&self) -> Vec<StageOutputs> {
        let mut needed = BTreeSet::new();
        let mut stack: Vec<ValueId> = self.analysis.stores.iter().map(|store| store.value).collect();
        while let Some(id) = stack.pop() {
            if needed.insert(id) {
                stack.extend(self.value(id).kind.args());
                if let ValueKind::Reduce(i) = self.value(id).kind {
                    stack.push(self.analysis.reductions[i].1);
                }
            }
        }
        let mut stages: Vec<StageOutputs> = Vec::new();
        for &id in &needed {
            if let ValueKind::Reduce(i) = self.value(id).kind {
                let stage = self.value(id).stage - 1;
                stages.resize_with(stages.len().max(stage + 1), StageOutputs::default);
                stages[stage].reduction_inputs.push(i);
            }
        }
        let numbers = |per_element: bool| {
            let stores = self.analysis.stores.iter().enumerate();
            stores.filter(|(_, store)| store.per_element == per_element).map(|(i, _)| i).collect::<Vec<_>>()
        };
        let (element_stores, row_stores) = (numbers(true), numbers(false));
        if !element_stores.is_empty() {
            stages.push(StageOutputs { element_stores, ..StageOutputs::default() });
        }
        if !row_stores.is_empty() {
            stages.push(StageOutputs { row_stores, ..StageOutputs::default() });
        }
        stages
    }

    fn values_of_stage(&self, outputs: &StageOutputs, available: &BTreeSet<ValueId>) -> StageValues {
        let mut values = StageValues::default();
        let stored =
            |stores: &[usize]| stores.iter().map(|&i| self.analysis.stores[i].value).collect::<Vec<_>>();
        let reduced = outputs.reduction_inputs.iter().map(|&i| self.analysis.reductions[i].1);
        let per_element: Vec<ValueId> = reduced.chain(stored(&outputs.element_stores)).collect();
        values.shared.extend(per_element.iter().filter(|&&id| self.value(id).level < Level::Element));
        let mut stack = [per_element, stored(&outputs.row_stores)].concat();
        while let Some(id) = stack.pop() {
            let value = self.value(id);
            let new = match value.level {
                Level::Uniform | Level::Periodic => false,
                Level::Row => !matches!(value.kind, ValueKind::Reduce(_)) && values.rows.insert(id),
                Level::Element => !available.contains(&id) && values.elements.insert(id),
            };
            if new {
                stack.extend(value.kind.args());
                if value.level == Level::Element {
                    let args = value.kind.args().iter().filter(|&&a| self.value(a).level < Level::Element);
                    values.shared.extend(args);
                }
            }
        }
        values
    }

    /// Selects the calls whose results are kept: one stage computes the call, and a later stage would compute it
    /// again. Selects no call if there are more than `max_kept` of these calls.
    fn choose_kept(&mut self, outputs: &[StageOutputs], max_kept: usize) {
        let mut computed: BTreeSet<ValueId> = BTreeSet::new();
        let mut kept: BTreeSet<ValueId> = BTreeSet::new();
        for outputs in outputs {
            let calls = |id: &ValueId| matches!(self.value(*id).kind, ValueKind::Call(..));
            let computed_again = self.values_of_stage(outputs, &computed);
            let reads =
                computed_again.elements.iter().flat_map(|&id| self.value(id).kind.args().iter().copied());
            let stored = outputs.element_stores.iter().map(|&i| self.analysis.stores[i].value);
            let reduced = outputs.reduction_inputs.iter().map(|&i| self.analysis.reductions[i].1);
            kept.extend(reads.chain(stored).chain(reduced).filter(|id| computed.contains(id)));
            computed.extend(computed_again.elements.into_iter().filter(calls));
        }
        if kept.len() <= max_kept {
            self.kept = kept.into_iter().enumerate().map(|(i, id)| (id, i)).collect();
        }
    }

    /// Emits a uniform or periodic value into the code that runs once per task, and returns its location.
    fn hoist(&mut self, id: ValueId) -> Result<Location, InternalError> {
        if let Some(&location) = self.hoisted.get(&id) {
            return Ok(location);
        }
        let value = self.value(id);
        let args = value.kind.args().iter().map(|&a| self.hoist(a)).collect::<Result<Vec<_>, _>>()?;
        let (location, code) = if value.level == Level::Uniform {
            self.uniform_is_u32.push(value.is_u32);
            (Location::Uniform(self.uniform_is_u32.len() - 1), &mut self.uniform)
        } else {
            self.registers.periodic += 1;
            (Location::Periodic(self.registers.periodic - 1), &mut self.periodic)
        };
        code.push(vector_op(value, &args, location)?);
        self.hoisted.insert(id, location);
        Ok(location)
    }

    fn emit_stage(&mut self, outputs: &StageOutputs) -> Result<Stage<T>, InternalError> {
        let values = self.values_of_stage(outputs, &self.available);
        let mut locations: BTreeMap<ValueId, Location> = BTreeMap::new();
        let mut row_stores = self.store_targets(&outputs.row_stores);
        let mut pool = Pool::new(Location::Row);
        let row = self.emit_code(
            &mut pool,
            &values.rows,
            Mode::Rows,
            values.shared.clone(),
            &mut row_stores,
            &mut locations,
        )?;
        self.registers.row = self.registers.row.max(pool.size);
        let row_writes = self.writes(&row_stores, &locations)?;
        let mut pool = Pool::new(Location::Element);
        let mut splats = Vec::new();
        if self.mode == Mode::Columns {
            let analysis = self.analysis;
            let varies_by_row = |id: &&ValueId| analysis.values[**id].level > Level::Uniform;
            for &id in values.shared.iter().filter(varies_by_row) {
                let (from, to) = (self.location(id, &locations)?, pool.allocate());
                splats.push(Splat { from, to, is_u32: self.value(id).is_u32 });
                locations.insert(id, to);
            }
        }
        let mut element_stores = self.store_targets(&outputs.element_stores);
        let reduced: BTreeSet<ValueId> =
            outputs.reduction_inputs.iter().map(|&i| self.analysis.reductions[i].1).collect();
        let element = self.emit_code(
            &mut pool,
            &values.elements,
            self.mode,
            reduced,
            &mut element_stores,
            &mut locations,
        )?;
        self.registers.element = self.registers.element.max(pool.size);
        self.available.extend(values.elements.iter().filter(|id| self.kept.contains_key(id)));
        let reduction_input = |&reduction: &usize| (reduction, self.analysis.reductions[reduction].1);
        let reduced: Vec<(usize, ValueId)> = outputs.reduction_inputs.iter().map(reduction_input).collect();
        let reduction_inputs = reduced
            .into_iter()
            .map(|(reduction, id)| Ok(ReductionInput { reduction, from: self.location(id, &locations)? }))
            .collect::<Result<_, InternalError>>()?;
        let element_writes = self.writes(&element_stores, &locations)?;
        Ok(Stage { row, row_writes, splats, element, reduction_inputs, element_writes })
    }

    fn store_targets(&self, stores: &[usize]) -> Vec<(ValueId, usize)> {
        stores.iter().map(|&i| (self.analysis.stores[i].value, self.analysis.stores[i].address)).collect()
    }

    fn writes(
        &mut self,
        stores: &[(ValueId, usize)],
        locations: &BTreeMap<ValueId, Location>,
    ) -> Result<Vec<Write>, InternalError> {
        stores
            .iter()
            .map(|&(id, address)| Ok(Write { from: self.location(id, locations)?, address }))
            .collect()
    }

    /// Returns the location of a value. `locations` contains the locations of the current stage.
    fn location(
        &mut self,
        id: ValueId,
        locations: &BTreeMap<ValueId, Location>,
    ) -> Result<Location, InternalError> {
        match (locations.get(&id), &self.value(id).kind) {
            (Some(&location), _) => Ok(location),
            (None, _) if self.value(id).level < Level::Row => self.hoist(id),
            (None, ValueKind::Reduce(i)) => Ok(Location::Result(*i)),
            (None, _) => {
                let kept = self.kept.get(&id).map(|&i| Location::Kept(i));
                kept.ok_or_else(|| never!("value {id} is used in a stage that does not compute it"))
            }
        }
    }

    /// Emits straight-line code for the values `ids`. The register of a value is reused after its last use, except for
    /// values in `live_out` and stored values. If a value is computed directly into the operand of its store, the
    /// store is removed from `stores`.
    fn emit_code(
        &mut self,
        pool: &mut Pool,
        ids: &BTreeSet<ValueId>,
        mode: Mode,
        mut live_out: BTreeSet<ValueId>,
        stores: &mut Vec<(ValueId, usize)>,
        locations: &mut BTreeMap<ValueId, Location>,
    ) -> Result<Vec<VectorOp<T>>, InternalError> {
        live_out.extend(stores.iter().map(|(id, _)| *id));
        let mut last_use: BTreeMap<ValueId, ValueId> = BTreeMap::new();
        for &id in ids {
            last_use.extend(self.value(id).kind.args().iter().map(|&a| (a, id)));
        }
        let mut ops = Vec::new();
        for &id in ids {
            let value = self.value(id);
            if let ValueKind::Load(address) = value.kind
                && self.reads_in_place(id, address, mode)
            {
                locations.insert(id, Location::Direct(address));
                continue;
            }
            let args = value.kind.args().iter().map(|&a| self.location(a, locations));
            let args = args.collect::<Result<Vec<_>, _>>()?;
            let to = match self.kept.get(&id) {
                Some(&i) => Location::Kept(i),
                None => match self.find_direct_store(id, mode, stores) {
                    Some(i) => Location::Direct(stores.swap_remove(i).1),
                    None => pool.allocate(),
                },
            };
            ops.push(vector_op(value, &args, to)?);
            locations.insert(id, to);
            let mut done: Vec<ValueId> = value.kind.args().to_vec();
            done.sort_unstable();
            done.dedup();
            done.retain(|arg| ids.contains(arg) && last_use.get(arg) == Some(&id) && !live_out.contains(arg));
            done.iter().for_each(|arg| pool.release(locations.get(arg).copied()));
        }
        Ok(ops)
    }

    /// Whether operations can read the operand of a load directly, so that the load needs no register. If the loaded
    /// value is also stored and the operand is written, a register is needed: another store could overwrite the
    /// operand first.
    fn reads_in_place(&self, id: ValueId, address: usize, mode: Mode) -> bool {
        let operand = self.analysis.addresses[address].operand;
        let is_stored = self.analysis.stores.iter().any(|store| store.value == id);
        self.analysis.is_direct(address, mode)
            && !(is_stored && self.analysis.access[operand] != Access::Read)
    }

    /// Returns the index in `stores` of a store into whose operand the value can be computed directly, or `None`. The
    /// value must have no other store, and the operand must be write-only.
    fn find_direct_store(&self, id: ValueId, mode: Mode, stores: &[(ValueId, usize)]) -> Option<usize> {
        let mut stores_of_value = stores.iter().enumerate().filter(|(_, (value, _))| *value == id);
        let (i, &(_, address)) = stores_of_value.next()?;
        let operand = self.analysis.addresses[address].operand;
        let only = stores_of_value.next().is_none() && self.analysis.access[operand] == Access::Write;
        (only && self.analysis.is_direct(address, mode)).then_some(i)
    }
}

fn vector_op<T: Float>(value: &Value, args: &[Location], to: Location) -> Result<VectorOp<T>, InternalError> {
    Ok(match &value.kind {
        ValueKind::Float(x) => VectorOp::Float(T::from_f64(*x), to),
        ValueKind::U32(x) => VectorOp::U32(*x, to),
        ValueKind::Load(address) => VectorOp::Load { address: *address, to },
        ValueKind::Iota(address) => VectorOp::Iota { address: *address, to },
        ValueKind::Gather { address, stride, bound, .. } => {
            let index = *args.first().ok_or_else(|| never!("a gather has no index"))?;
            VectorOp::Gather { address: *address, index, stride: *stride, bound: *bound, to }
        }
        ValueKind::Call(f, _) => {
            let mut locations = [Location::Uniform(0); 5];
            locations.iter_mut().zip(args).for_each(|(location, &arg)| *location = arg);
            VectorOp::Call { call: <T as FloatType>::call(f), args: locations, to }
        }
        ValueKind::Reduce(_) => {
            return Err(never!("a reduction is computed by its stage, not by a vector operation"));
        }
    })
}
