//! Clusters: sets of values that one kernel computes, and the rules for adding a value to a cluster.
//!
//! A cluster has a domain: the dimensions over which its kernel loops. Some of these dimensions may be reduced. An
//! index of the dimensions that are not reduced is a row. A member of the cluster has one element for each index of the
//! domain, or one element for each row.

use std::collections::{BTreeSet, HashMap, HashSet};

use wgrad_graph::{Expr, Layout, View};

use crate::value::{Id, Source, Value, ValueKind, Values, apply_views, squeeze_layout, squeeze_shape};

pub(crate) type ClusterId = usize;

/// Whether a member has one element per index of the domain or one per row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Granularity {
    Element,
    Row,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Cluster {
    /// Sizes of the domain, without dimensions of size 1.
    pub dims: Vec<usize>,
    /// Positions in `dims` of the reduced dimensions; `None` until a reduction is added.
    pub inner: Option<Vec<usize>>,
    /// Members in order of computation.
    pub members: Vec<(Id, Granularity)>,
    /// Whether the first member is a matrix product and the other members are its epilogue.
    pub gemm: bool,
    /// Clusters that must run before this one.
    pub predecessors: BTreeSet<ClusterId>,
    /// Whether the cluster was merged into another cluster and therefore has no kernel.
    pub merged: bool,
}

impl Cluster {
    /// Sizes of the dimensions that are not reduced.
    pub fn row_dims(&self) -> Vec<usize> {
        let inner = self.inner.as_deref().unwrap_or(&[]);
        self.dims.iter().enumerate().filter(|(i, _)| !inner.contains(i)).map(|(_, &n)| n).collect()
    }

    /// Returns the granularity of a value of this shape, or `None` if the shape does not fit the domain.
    pub fn granularity_of(&self, shape: &[usize]) -> Option<Granularity> {
        let shape = squeeze_shape(shape);
        if shape == self.dims {
            Some(Granularity::Element)
        } else if self.inner.is_some() && shape == self.row_dims() {
            Some(Granularity::Row)
        } else {
            None
        }
    }

    /// Whether a member with granularity `to` that reads a member with granularity `from` through this layout reads
    /// only elements at its own position in the domain.
    fn is_aligned(&self, layout: &Layout, from: Granularity, to: Granularity) -> bool {
        let Some(layout) = squeeze_layout(layout) else { return false };
        let expected = match (from, to) {
            (Granularity::Element, Granularity::Element) => Layout::contiguous(&self.dims).strides,
            (Granularity::Row, Granularity::Row) => Layout::contiguous(&self.row_dims()).strides,
            (Granularity::Row, Granularity::Element) => {
                let inner = self.inner.as_deref().unwrap_or(&[]);
                let rows = Layout::contiguous(&self.row_dims()).strides;
                let outer = (0..self.dims.len()).filter(|i| !inner.contains(i));
                let mut strides = vec![0; self.dims.len()];
                outer.zip(rows).for_each(|(i, stride)| strides[i] = stride);
                strides
            }
            (Granularity::Element, Granularity::Row) => return false,
        };
        layout.is_unpadded() && layout.offset == 0 && layout.strides == expected
    }
}

/// The clusters of a program during their construction.
#[derive(Debug)]
pub(crate) struct Clusters<'v> {
    pub values: &'v Values,
    /// For each value, whether it is inlined: every kernel that uses the value computes it again.
    inlined: Vec<bool>,
    pub all: Vec<Cluster>,
    /// The cluster that computes each value. Leaves, packs and inlined values have none.
    pub cluster_of: HashMap<Id, ClusterId>,
}

impl<'v> Clusters<'v> {
    pub fn new(values: &'v Values, fuse: bool) -> Self {
        Self { values, inlined: find_inlined(values, fuse), all: Vec::new(), cluster_of: HashMap::new() }
    }

    /// Whether the value is inlined into the kernels that use it.
    pub fn is_inlined(&self, id: Id) -> bool {
        self.inlined[id]
    }

    /// Returns the clusters that must run before a kernel can load `id`.
    pub fn producers(&self, id: Id) -> Vec<ClusterId> {
        match &self.values.all[id].kind {
            ValueKind::Pack { parts } => {
                parts.iter().filter_map(|(part, _)| self.cluster_of.get(part).copied()).collect()
            }
            _ => {
                let made = self.values.callback_inputs.get(&id).unwrap_or(&id);
                self.cluster_of.get(made).copied().into_iter().collect()
            }
        }
    }

    /// Returns the clusters that must run before `id` because of [`Value::after`](crate::value::Value::after).
    fn prerequisites(&self, id: Id) -> Vec<ClusterId> {
        let Some(after) = self.values.all[id].after else { return Vec::new() };
        let dependencies = if self.is_inlined(after) { self.dependencies(after) } else { vec![after] };
        dependencies.into_iter().flat_map(|dependency| self.producers(dependency)).collect()
    }

    /// Whether `from` equals `to` or must run after `to`.
    pub fn depends_on(&self, from: ClusterId, to: ClusterId) -> bool {
        let mut seen = BTreeSet::from([from]);
        let mut stack = vec![from];
        while let Some(at) = stack.pop() {
            if at == to {
                return true;
            }
            stack.extend(self.all[at].predecessors.iter().copied().filter(|&next| seen.insert(next)));
        }
        false
    }

    /// Creates a cluster with a value as its first member.
    pub fn start_cluster(&mut self, id: Id) -> ClusterId {
        let value = &self.values.all[id];
        let mut cluster = Cluster { dims: squeeze_shape(&value.ty.shape), ..Cluster::default() };
        let mut granularity = Granularity::Element;
        match &value.kind {
            ValueKind::Reduce { axes, arg, .. } => {
                cluster.dims = squeeze_shape(&arg.layout.shape);
                cluster.inner = Some(squeeze_axes(&arg.layout.shape, axes));
                granularity = Granularity::Row;
            }
            ValueKind::Gemm { .. } => cluster.gemm = true,
            _ => {}
        }
        self.all.push(cluster);
        self.add_member(self.all.len() - 1, id, granularity);
        self.all.len() - 1
    }

    fn add_member(&mut self, to: ClusterId, id: Id, granularity: Granularity) {
        self.all[to].members.push((id, granularity));
        self.cluster_of.insert(id, to);
        let producers = self.dependencies(id).into_iter().flat_map(|dependency| self.producers(dependency));
        let before: Vec<ClusterId> =
            producers.chain(self.prerequisites(id)).filter(|&producer| producer != to).collect();
        self.all[to].predecessors.extend(before);
    }

    /// Returns the values that a kernel needs to compute `id`: its inputs, with inlined values replaced by their own
    /// inputs.
    pub fn dependencies(&self, id: Id) -> Vec<Id> {
        let mut dependencies = Vec::new();
        for arg in self.values.all[id].args() {
            if self.is_inlined(arg.value) {
                dependencies.extend(self.dependencies(arg.value));
            } else {
                dependencies.push(arg.value);
            }
        }
        dependencies
    }

    /// Adds a value to the cluster if one kernel can still compute all members. Returns whether it was added.
    pub fn try_join(&mut self, to: ClusterId, id: Id) -> bool {
        let value = &self.values.all[id];
        let cluster = &self.all[to];
        if value.unfusable || cluster.members.iter().any(|(member, _)| self.values.all[*member].unfusable) {
            return false;
        }
        let (granularity, inner) = match &value.kind {
            ValueKind::Map { .. } | ValueKind::Gather { .. } => match cluster.granularity_of(&value.ty.shape)
            {
                Some(granularity) => (granularity, cluster.inner.clone()),
                None => return false,
            },
            ValueKind::Reduce { axes, arg, .. } => {
                let inner = squeeze_axes(&arg.layout.shape, axes);
                let fits = squeeze_shape(&arg.layout.shape) == cluster.dims
                    && cluster.inner.as_ref().is_none_or(|own| *own == inner);
                if cluster.gemm || !fits {
                    return false;
                }
                (Granularity::Row, Some(inner))
            }
            _ => return false,
        };
        // A reduction reads its argument at every element, although its result has one element per row.
        let reads_at =
            if matches!(value.kind, ValueKind::Reduce { .. }) { Granularity::Element } else { granularity };
        let allowed =
            value.args().into_iter().all(|arg| self.may_read(to, &inner, arg, reads_at, &value.kind))
                && self
                    .prerequisites(id)
                    .into_iter()
                    .all(|producer| producer == to || !self.depends_on(producer, to));
        if allowed {
            self.all[to].inner = inner;
            self.add_member(to, id, granularity);
        }
        allowed
    }

    /// Returns the sources that a kernel reads to compute `arg`: the inputs of an inlined value, with the views of
    /// `arg` applied, or `arg` itself. Returns `None` if a layout cannot express the views; `find_inlined` never
    /// selects a value for which this happens.
    pub fn inlined_sources(&self, arg: &Source) -> Option<Vec<Source>> {
        if !self.is_inlined(arg.value) {
            return Some(vec![arg.clone()]);
        }
        let mut sources = Vec::new();
        for part in self.values.all[arg.value].args() {
            let views = [part.views.as_slice(), &arg.views].concat();
            let layout = apply_views(part.layout.clone(), &arg.views)?;
            sources.extend(self.inlined_sources(&Source { value: part.value, views, layout })?);
        }
        Some(sources)
    }

    fn may_read(
        &self,
        at: ClusterId,
        inner: &Option<Vec<usize>>,
        arg: &Source,
        to: Granularity,
        kind: &ValueKind,
    ) -> bool {
        let is_table = matches!(kind, ValueKind::Gather { table, .. } if table.value == arg.value);
        let cluster = Cluster { dims: self.all[at].dims.clone(), inner: inner.clone(), ..Cluster::default() };
        let Some(sources) = self.inlined_sources(arg) else { return false };
        sources.into_iter().all(|part| {
            if self.cluster_of.get(&part.value) != Some(&at) {
                return self.producers(part.value).iter().all(|&producer| !self.depends_on(producer, at));
            }
            let member = self.all[at].members.iter().find(|(id, _)| *id == part.value);
            !is_table && member.is_some_and(|&(_, from)| cluster.is_aligned(&part.layout, from, to))
        })
    }

    /// Whether two clusters can become one kernel: their domains are equal, and no third cluster must run between them.
    pub fn can_merge(&self, a: ClusterId, b: ClusterId) -> bool {
        let (first, second) = (&self.all[a], &self.all[b]);
        if a == b || first.merged || second.merged || first.gemm || second.gemm || first.dims != second.dims {
            return false;
        }
        if [first, second].iter().any(|c| c.members.iter().any(|(id, _)| self.values.all[*id].unfusable)) {
            return false;
        }
        let same_inner = first.inner == second.inner || first.inner.is_none() || second.inner.is_none();
        same_inner
            && !self.passes_through_third(a, b)
            && !self.passes_through_third(b, a)
            && self.reads_are_aligned(a, b)
    }

    fn passes_through_third(&self, from: ClusterId, to: ClusterId) -> bool {
        self.all[from].predecessors.iter().any(|&next| next != to && self.depends_on(next, to))
    }

    /// Whether each cluster reads the members of the other at the same position of the merged domain.
    fn reads_are_aligned(&self, a: ClusterId, b: ClusterId) -> bool {
        let inner = self.all[a].inner.clone().or_else(|| self.all[b].inner.clone());
        let merged = Cluster { dims: self.all[a].dims.clone(), inner, ..Cluster::default() };
        let granularities: HashMap<Id, Granularity> =
            [a, b].iter().flat_map(|&c| self.all[c].members.iter().copied()).collect();
        let packs_a_member = |id: Id| match &self.values.all[id].kind {
            ValueKind::Pack { parts } => parts.iter().any(|(part, _)| granularities.contains_key(part)),
            _ => false,
        };
        granularities.iter().all(|(&id, &granularity)| {
            let value = &self.values.all[id];
            let to = if matches!(value.kind, ValueKind::Reduce { .. }) {
                Granularity::Element
            } else {
                granularity
            };
            value.args().into_iter().all(|arg| {
                let is_table =
                    matches!(&value.kind, ValueKind::Gather { table, .. } if table.value == arg.value);
                let is_aligned = |part: Source| match granularities.get(&part.value) {
                    Some(&from) => !is_table && merged.is_aligned(&part.layout, from, to),
                    None => !packs_a_member(part.value),
                };
                self.inlined_sources(arg).is_some_and(|sources| sources.into_iter().all(is_aligned))
            })
        })
    }

    /// Moves the members of `b` into `a`.
    pub fn merge(&mut self, a: ClusterId, b: ClusterId) {
        let other = std::mem::take(&mut self.all[b]);
        self.all[b].merged = true;
        self.cluster_of.extend(other.members.iter().map(|(id, _)| (*id, a)));
        let into = &mut self.all[a];
        into.inner = into.inner.take().or(other.inner);
        into.members.extend(other.members);
        into.members.sort_by_key(|(id, _)| *id);
        into.predecessors.extend(other.predecessors);
        into.predecessors.remove(&a);
        into.predecessors.remove(&b);
        for cluster in &mut self.all {
            if cluster.predecessors.remove(&b) && !cluster.merged {
                cluster.predecessors.insert(a);
            }
        }
        self.all[a].predecessors.remove(&a);
    }
}

/// Maximum number of operations, applied to a buffered value, that are inlined instead of stored.
const MAX_INLINED_CALLS: usize = 3;
/// The other operands of an inlined value must be at least this many times smaller than the buffered operand.
const SMALL_OPERAND_RATIO: usize = 16;

/// Selects the values to inline, i.e. to rematerialize in every kernel that uses them. These are constants, scalars
/// computed from scalar leaves, and values that derive by few operations from a value that is in a buffer anyway (e.g.
/// the mask of a ReLU's gradient, or a batch minus its mean). It costs less to compute the latter again than to store
/// and load them.
///
/// Values that must be in a buffer, values read through padding, and values read through views that their own inputs
/// cannot express are never inlined.
fn find_inlined(values: &Values, fuse: bool) -> Vec<bool> {
    let mut inlined = vec![false; values.all.len()];
    let (buffered, excluded) = find_buffered(values);
    // For each inlined value that derives from a buffered value: the buffered value and the number of operations.
    let mut derived_from: Vec<Option<(Id, usize)>> = vec![None; values.all.len()];
    let mut users: Vec<Vec<&[View]>> = vec![Vec::new(); values.all.len()];
    for arg in values.all.iter().flat_map(Value::args) {
        users[arg.value].push(&arg.views);
    }
    for (id, value) in values.all.iter().enumerate() {
        let ValueKind::Map { expr, args } = &value.kind else { continue };
        if value.unfusable || excluded[id] {
            continue;
        }
        let is_leaf = |id: Id| matches!(values.all[id].kind, ValueKind::Leaf(_));
        let scalar = value.ty.shape.numel() == 1 && args.iter().all(|a| is_leaf(a.value) || inlined[a.value]);
        if fuse && !scalar && args.iter().all(|arg| arg.layout.is_unpadded()) {
            derived_from[id] = base_value(values, args, &inlined, &buffered, &derived_from)
                .and_then(|(base, before)| Some((base, before + count_cheap_calls(expr)?)))
                .filter(|&(_, operations)| operations <= MAX_INLINED_CALLS);
        }
        let can_be_viewed = users[id].iter().all(|views| args_can_be_viewed(values, &inlined, args, views));
        inlined[id] = can_be_viewed && (args.is_empty() || fuse && (scalar || derived_from[id].is_some()));
    }
    inlined
}

/// Whether the inlined arguments of an inlined value can be computed at the positions that `views` of the value
/// address. Checks the arguments of these arguments recursively.
fn args_can_be_viewed(values: &Values, inlined: &[bool], args: &[Source], views: &[View]) -> bool {
    args.iter().filter(|arg| inlined[arg.value]).all(|arg| {
        let views = [arg.views.as_slice(), views].concat();
        values.can_be_viewed(arg.value, &views)
            && match &values.all[arg.value].kind {
                ValueKind::Map { args, .. } => args_can_be_viewed(values, inlined, args, &views),
                _ => true,
            }
    })
}

/// Returns the buffered value from which a map derives, and the number of operations between that value and the map.
/// Returns `None` if another argument of the map is not small.
fn base_value(
    values: &Values,
    args: &[Source],
    inlined: &[bool],
    buffered: &[bool],
    derived_from: &[Option<(Id, usize)>],
) -> Option<(Id, usize)> {
    let numel = |arg: &&Source| values.all[arg.value].ty.shape.numel();
    let wide = args.iter().max_by_key(numel)?;
    let rest_is_small = args
        .iter()
        .filter(|arg| arg.value != wide.value)
        .all(|arg| !inlined[arg.value] && numel(&arg) * SMALL_OPERAND_RATIO <= numel(&wide));
    if !rest_is_small {
        return None;
    }
    if inlined[wide.value] {
        derived_from[wide.value]
    } else {
        buffered[wide.value].then_some((wide.value, 0))
    }
}

/// Returns the number of calls in an expression, or `None` if a function takes more than one operation.
fn count_cheap_calls(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Call(f, args) if f.flops <= 1 => {
            args.iter().try_fold(1, |sum, arg| Some(sum + count_cheap_calls(arg)?))
        }
        Expr::Call(..) => None,
        Expr::Input(_) | Expr::Float(_) | Expr::U32(_) | Expr::Iota(_) => Some(0),
    }
}

/// Returns two flags for each value: whether it is read from a buffer regardless of fusion, and whether it cannot be
/// inlined.
fn find_buffered(values: &Values) -> (Vec<bool>, Vec<bool>) {
    let mut buffered = vec![false; values.all.len()];
    needed_in_buffers(values).into_iter().for_each(|id| buffered[id] = true);
    let mut excluded = buffered.clone();
    for value in &values.all {
        for arg in value.args() {
            let by_buffer = match &value.kind {
                ValueKind::Gemm { .. } => true,
                ValueKind::Gather { table, .. } => table.value == arg.value,
                _ => false,
            };
            // A reduction is never part of a matrix product's kernel, so it reads the product from a buffer.
            let reduced = matches!(value.kind, ValueKind::Reduce { .. })
                && matches!(values.all[arg.value].kind, ValueKind::Gemm { .. });
            buffered[arg.value] |= by_buffer || reduced;
            excluded[arg.value] |=
                by_buffer || !arg.layout.is_unpadded() || !values.can_be_viewed(arg.value, &arg.views);
        }
    }
    (buffered, excluded)
}

/// Returns the values that must be in a buffer: targets and parts of packs.
pub(crate) fn needed_in_buffers(values: &Values) -> HashSet<Id> {
    let parts = values.all.iter().filter_map(|v| match &v.kind {
        ValueKind::Pack { parts } => Some(parts.iter().map(|(id, _)| *id)),
        _ => None,
    });
    values.targets.iter().map(|(id, _)| *id).chain(parts.flatten()).collect()
}

/// Returns the axes as positions among the dimensions that do not have size 1.
fn squeeze_axes(shape: &[usize], axes: &[usize]) -> Vec<usize> {
    let position = |axis: usize| shape[..axis].iter().filter(|&&n| n != 1).count();
    axes.iter().filter(|&&a| shape[a] != 1).map(|&a| position(a)).collect()
}
