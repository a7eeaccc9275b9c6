//! Emits the straight-line code of a plan: stages, registers by liveness, and operands used in place where they can be.

use std::collections::{BTreeMap, BTreeSet};

use wgrad_graph::FloatType;
use wgrad_program::{Access, ValueId};

use crate::compile::{Analysis, Form, Level, Value};
use crate::float::Float;
use crate::plan::{Mode, Place, Registers, Splat, Stage, Step, Take, Write};

/// The code of a plan.
pub(crate) struct Code<T> {
    pub uniform: Vec<Step<T>>,
    pub uniform_words: Vec<bool>,
    pub periodic: Vec<Step<T>>,
    pub stages: Vec<Stage<T>>,
    pub registers: Registers,
}

/// Emits every stage. At most `keep` values are kept from one stage for a later one, instead of being computed again.
pub(crate) fn emit<T: Float>(analysis: &Analysis<'_>, mode: Mode, keep: usize) -> Code<T> {
    let mut emitter = Emitter::new(analysis, mode);
    let roots = emitter.roots();
    emitter.choose_kept(&roots, keep);
    let stages = roots.iter().map(|roots| emitter.stage(roots)).collect();
    let kept = emitter.kept.len();
    let Emitter { uniform, uniform_words, periodic, mut registers, .. } = emitter;
    registers.uniform = uniform_words.len();
    registers.kept = kept;
    Code { uniform, uniform_words, periodic, stages, registers }
}

/// What a stage is for.
#[derive(Debug, Default)]
struct Roots {
    /// Numbers of reductions.
    takes: Vec<usize>,
    /// Numbers of stores.
    row_stores: Vec<usize>,
    element_stores: Vec<usize>,
}

/// The values that a stage computes, in order.
#[derive(Debug, Default)]
struct Needs {
    rows: BTreeSet<ValueId>,
    elements: BTreeSet<ValueId>,
    /// Values the same for a whole row that element code, a reduction or a store of elements reads.
    shared: BTreeSet<ValueId>,
}

struct Emitter<'a, T> {
    analysis: &'a Analysis<'a>,
    mode: Mode,
    uniform: Vec<Step<T>>,
    uniform_words: Vec<bool>,
    periodic: Vec<Step<T>>,
    /// Where the values are that are computed once a task.
    once: BTreeMap<ValueId, Place>,
    kept: BTreeMap<ValueId, usize>,
    /// Kept values that an earlier stage has computed.
    available: BTreeSet<ValueId>,
    registers: Registers,
}

/// Registers of one kind, given out and taken back.
#[derive(Debug)]
struct Pool {
    register: fn(usize) -> Place,
    free: Vec<usize>,
    size: usize,
}

impl Pool {
    fn new(register: fn(usize) -> Place) -> Self {
        Self { register, free: Vec::new(), size: 0 }
    }

    fn take(&mut self) -> Place {
        let i = self.free.pop().unwrap_or_else(|| {
            self.size += 1;
            self.size - 1
        });
        (self.register)(i)
    }

    fn give(&mut self, place: Option<Place>) {
        if let Some(Place::Row(i) | Place::Element(i)) = place {
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
            uniform_words: Vec::new(),
            periodic: Vec::new(),
            once: BTreeMap::new(),
            kept: BTreeMap::new(),
            available: BTreeSet::new(),
            registers: Registers::default(),
        }
    }

    fn value(&self, id: ValueId) -> &'a Value {
        &self.analysis.values[id]
    }

    /// A stage for each level of reductions that a store needs; then the stores of elements; then those of rows, so that
    /// nothing that is written once a row is written before all elements have been computed.
    fn roots(&self) -> Vec<Roots> {
        let mut needed = BTreeSet::new();
        let mut stack: Vec<ValueId> = self.analysis.stores.iter().map(|store| store.value).collect();
        while let Some(id) = stack.pop() {
            if needed.insert(id) {
                stack.extend(self.value(id).form.args());
                if let Form::Reduce(i) = self.value(id).form {
                    stack.push(self.analysis.reductions[i].1);
                }
            }
        }
        let mut stages: Vec<Roots> = Vec::new();
        for &id in &needed {
            if let Form::Reduce(i) = self.value(id).form {
                let stage = self.value(id).stage - 1;
                stages.resize_with(stages.len().max(stage + 1), Roots::default);
                stages[stage].takes.push(i);
            }
        }
        let numbers = |each: bool| {
            let stores = self.analysis.stores.iter().enumerate();
            stores.filter(|(_, store)| store.each == each).map(|(i, _)| i).collect::<Vec<_>>()
        };
        let (element_stores, row_stores) = (numbers(true), numbers(false));
        if !element_stores.is_empty() {
            stages.push(Roots { element_stores, ..Roots::default() });
        }
        if !row_stores.is_empty() {
            stages.push(Roots { row_stores, ..Roots::default() });
        }
        stages
    }

    fn needs(&self, roots: &Roots, available: &BTreeSet<ValueId>) -> Needs {
        let mut needs = Needs::default();
        let stored =
            |stores: &[usize]| stores.iter().map(|&i| self.analysis.stores[i].value).collect::<Vec<_>>();
        let taken = roots.takes.iter().map(|&i| self.analysis.reductions[i].1);
        let each: Vec<ValueId> = taken.chain(stored(&roots.element_stores)).collect();
        needs.shared.extend(each.iter().filter(|&&id| self.value(id).level < Level::Element));
        let mut stack = [each, stored(&roots.row_stores)].concat();
        while let Some(id) = stack.pop() {
            let value = self.value(id);
            let new = match value.level {
                Level::Uniform | Level::Periodic => false,
                Level::Row => !matches!(value.form, Form::Reduce(_)) && needs.rows.insert(id),
                Level::Element => !available.contains(&id) && needs.elements.insert(id),
            };
            if new {
                stack.extend(value.form.args());
                if value.level == Level::Element {
                    let args = value.form.args().iter().filter(|&&a| self.value(a).level < Level::Element);
                    needs.shared.extend(args);
                }
            }
        }
        needs
    }

    /// Keeps calls that one stage computes and a later one would compute again. Nothing is kept when it would be too much.
    fn choose_kept(&mut self, roots: &[Roots], most: usize) {
        let mut computed: BTreeSet<ValueId> = BTreeSet::new();
        let mut kept: BTreeSet<ValueId> = BTreeSet::new();
        for roots in roots {
            let calls = |id: &ValueId| matches!(self.value(*id).form, Form::Call(..));
            let again = self.needs(roots, &computed);
            let reads = again.elements.iter().flat_map(|&id| self.value(id).form.args().iter().copied());
            let stored = roots.element_stores.iter().map(|&i| self.analysis.stores[i].value);
            let taken = roots.takes.iter().map(|&i| self.analysis.reductions[i].1);
            kept.extend(reads.chain(stored).chain(taken).filter(|id| computed.contains(id)));
            computed.extend(again.elements.into_iter().filter(calls));
        }
        if kept.len() <= most {
            self.kept = kept.into_iter().enumerate().map(|(i, id)| (id, i)).collect();
        }
    }

    /// Where a value is that is computed once a task, in the code for one lane or in that for the rows of a block.
    fn once(&mut self, id: ValueId) -> Place {
        if let Some(&place) = self.once.get(&id) {
            return place;
        }
        let value = self.value(id);
        let args: Vec<Place> = value.form.args().iter().map(|&a| self.once(a)).collect();
        let (place, code) = if value.level == Level::Uniform {
            self.uniform_words.push(value.word);
            (Place::Uniform(self.uniform_words.len() - 1), &mut self.uniform)
        } else {
            self.registers.periodic += 1;
            (Place::Periodic(self.registers.periodic - 1), &mut self.periodic)
        };
        code.extend(step(value, &args, place));
        self.once.insert(id, place);
        place
    }

    fn stage(&mut self, roots: &Roots) -> Stage<T> {
        let needs = self.needs(roots, &self.available);
        let mut places: BTreeMap<ValueId, Place> = BTreeMap::new();
        let mut row_stores = self.writable(&roots.row_stores);
        let mut pool = Pool::new(Place::Row);
        let row =
            self.line(&mut pool, &needs.rows, Mode::Rows, needs.shared.clone(), &mut row_stores, &mut places);
        self.registers.row = self.registers.row.max(pool.size);
        let row_writes = self.writes(&row_stores, &places);
        let mut pool = Pool::new(Place::Element);
        let mut splats = Vec::new();
        if self.mode == Mode::Columns {
            let analysis = self.analysis;
            let by_row = |id: &&ValueId| analysis.values[**id].level > Level::Uniform;
            for &id in needs.shared.iter().filter(by_row) {
                let (from, to) = (self.place(id, &places), pool.take());
                splats.push(Splat { from, to, word: self.value(id).word });
                places.insert(id, to);
            }
        }
        let mut element_stores = self.writable(&roots.element_stores);
        let taken: BTreeSet<ValueId> = roots.takes.iter().map(|&i| self.analysis.reductions[i].1).collect();
        let element =
            self.line(&mut pool, &needs.elements, self.mode, taken, &mut element_stores, &mut places);
        self.registers.element = self.registers.element.max(pool.size);
        self.available.extend(needs.elements.iter().filter(|id| self.kept.contains_key(id)));
        let take = |&reduction: &usize| (reduction, self.analysis.reductions[reduction].1);
        let taken: Vec<(usize, ValueId)> = roots.takes.iter().map(take).collect();
        let takes = taken
            .into_iter()
            .map(|(reduction, id)| Take { reduction, from: self.place(id, &places) })
            .collect();
        let element_writes = self.writes(&element_stores, &places);
        Stage { row, row_writes, splats, element, takes, element_writes }
    }

    fn writable(&self, stores: &[usize]) -> Vec<(ValueId, usize)> {
        stores.iter().map(|&i| (self.analysis.stores[i].value, self.analysis.stores[i].address)).collect()
    }

    fn writes(&mut self, stores: &[(ValueId, usize)], places: &BTreeMap<ValueId, Place>) -> Vec<Write> {
        stores.iter().map(|&(id, address)| Write { from: self.place(id, places), address }).collect()
    }

    /// Where a value is, in the stage whose `places` these are.
    fn place(&mut self, id: ValueId, places: &BTreeMap<ValueId, Place>) -> Place {
        match (places.get(&id), &self.value(id).form) {
            (Some(&place), _) => place,
            (None, _) if self.value(id).level < Level::Row => self.once(id),
            (None, Form::Reduce(i)) => Place::Result(*i),
            (None, _) => Place::Kept(self.kept.get(&id).copied().unwrap_or(0)),
        }
    }

    /// Straight-line code for `ids`. Registers are used again after the last use of what is in them, except for those
    /// of values that stay `alive` or are stored. A store that its value can be computed into is taken out of `stores`.
    fn line(
        &mut self,
        pool: &mut Pool,
        ids: &BTreeSet<ValueId>,
        mode: Mode,
        mut alive: BTreeSet<ValueId>,
        stores: &mut Vec<(ValueId, usize)>,
        places: &mut BTreeMap<ValueId, Place>,
    ) -> Vec<Step<T>> {
        alive.extend(stores.iter().map(|(id, _)| *id));
        let mut last_use: BTreeMap<ValueId, ValueId> = BTreeMap::new();
        for &id in ids {
            last_use.extend(self.value(id).form.args().iter().map(|&a| (a, id)));
        }
        let mut steps = Vec::new();
        for &id in ids {
            let value = self.value(id);
            if let Form::Load(address) = value.form
                && self.reads_in_place(id, address, mode)
            {
                places.insert(id, Place::Direct(address));
                continue;
            }
            let args: Vec<Place> = value.form.args().iter().map(|&a| self.place(a, places)).collect();
            let to = match self.kept.get(&id) {
                Some(&i) => Place::Kept(i),
                None => match self.computes_into(id, mode, stores) {
                    Some(i) => Place::Direct(stores.swap_remove(i).1),
                    None => pool.take(),
                },
            };
            steps.extend(step(value, &args, to));
            places.insert(id, to);
            let mut done: Vec<ValueId> = value.form.args().to_vec();
            done.sort_unstable();
            done.dedup();
            done.retain(|arg| ids.contains(arg) && last_use.get(arg) == Some(&id) && !alive.contains(arg));
            done.iter().for_each(|arg| pool.give(places.get(arg).copied()));
        }
        steps
    }

    /// A load needs no register where its elements can be used in the operand, unless it is to be stored once another
    /// store may have overwritten them.
    fn reads_in_place(&self, id: ValueId, address: usize, mode: Mode) -> bool {
        let operand = self.analysis.addresses[address].operand;
        let moves = self.analysis.stores.iter().any(|store| store.value == id);
        self.analysis.is_direct(address, mode) && !(moves && self.analysis.access[operand] != Access::Read)
    }

    /// The store that a value can be computed into: the only one of the value, to an operand that is only written.
    fn computes_into(&self, id: ValueId, mode: Mode, stores: &[(ValueId, usize)]) -> Option<usize> {
        let mut mine = stores.iter().enumerate().filter(|(_, (value, _))| *value == id);
        let (i, &(_, address)) = mine.next()?;
        let operand = self.analysis.addresses[address].operand;
        let only = mine.next().is_none() && self.analysis.access[operand] == Access::Write;
        (only && self.analysis.is_direct(address, mode)).then_some(i)
    }
}

fn step<T: Float>(value: &Value, args: &[Place], to: Place) -> Option<Step<T>> {
    Some(match &value.form {
        Form::Float(x) => Step::Float(T::from_f64(*x), to),
        Form::Word(x) => Step::Word(*x, to),
        Form::Load(address) => Step::Load { address: *address, to },
        Form::Iota(address) => Step::Iota { address: *address, to },
        Form::Gather { address, stride, bound, .. } => {
            Step::Gather { address: *address, index: *args.first()?, stride: *stride, bound: *bound, to }
        }
        Form::Call(f, _) => {
            let mut places = [Place::Uniform(0); 5];
            places.iter_mut().zip(args).for_each(|(place, &arg)| *place = arg);
            Step::Call { call: <T as FloatType>::call(f), args: places, to }
        }
        Form::Reduce(_) => return None,
    })
}
