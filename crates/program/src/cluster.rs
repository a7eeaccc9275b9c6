//! Clusters: sets of values that one kernel computes, and the rule for when a value may join one.
//!
//! A cluster has a domain: the dimensions that its kernel runs over, of which some may be reduced. A member holds one
//! element for each index of the domain, or one for each row, that is, each index of the dimensions not reduced.

use std::collections::{BTreeSet, HashMap, HashSet};

use wgrad_graph::{Expr, Layout};

use crate::value::{Form, Id, Source, Values, seen_through, squeezed, squeezed_shape};

pub(crate) type ClusterId = usize;

/// Where in the domain a member lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Element,
    Row,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Cluster {
    /// Sizes of the domain, without those of 1.
    pub dims: Vec<usize>,
    /// Which of `dims` are reduced, once something is.
    pub inner: Option<Vec<usize>>,
    /// Members in order of computation.
    pub members: Vec<(Id, Place)>,
    /// The first member is a matrix product and the others its epilogue.
    pub gemm: bool,
    /// Clusters that have to run before.
    pub after: BTreeSet<ClusterId>,
    /// Merged into another cluster; not a kernel any more.
    pub gone: bool,
}

impl Cluster {
    /// Sizes of the dimensions that are not reduced.
    pub fn row_dims(&self) -> Vec<usize> {
        let inner = self.inner.as_deref().unwrap_or(&[]);
        self.dims.iter().enumerate().filter(|(i, _)| !inner.contains(i)).map(|(_, &n)| n).collect()
    }

    /// Where a value of this shape lives in the domain.
    pub fn place(&self, shape: &[usize]) -> Option<Place> {
        let shape = squeezed_shape(shape);
        if shape == self.dims {
            Some(Place::Element)
        } else if self.inner.is_some() && shape == self.row_dims() {
            Some(Place::Row)
        } else {
            None
        }
    }

    /// True when a member at `from`, accessed by this layout, is what the kernel holds at the same position at `to`.
    fn in_step(&self, layout: &Layout, from: Place, to: Place) -> bool {
        let Some(layout) = squeezed(layout) else { return false };
        let expected = match (from, to) {
            (Place::Element, Place::Element) => Layout::contiguous(&self.dims).strides,
            (Place::Row, Place::Row) => Layout::contiguous(&self.row_dims()).strides,
            (Place::Row, Place::Element) => {
                let inner = self.inner.as_deref().unwrap_or(&[]);
                let mut rows = Layout::contiguous(&self.row_dims()).strides.into_iter();
                (0..self.dims.len())
                    .map(|i| if inner.contains(&i) { 0 } else { rows.next().unwrap_or(0) })
                    .collect()
            }
            (Place::Element, Place::Row) => return false,
        };
        layout.is_unpadded() && layout.offset == 0 && layout.strides == expected
    }
}

/// All clusters of a program, while they grow.
#[derive(Debug)]
pub(crate) struct Clusters<'v> {
    pub values: &'v Values,
    /// Values that every kernel that needs them computes itself.
    light: Vec<bool>,
    pub all: Vec<Cluster>,
    /// The cluster that computes a value. A value that is given or computed on the spot has none.
    pub of: HashMap<Id, ClusterId>,
}

impl<'v> Clusters<'v> {
    pub fn new(values: &'v Values, fuse: bool) -> Self {
        Self { values, light: light(values, fuse), all: Vec::new(), of: HashMap::new() }
    }

    /// True when kernels compute the value on the spot and it has none of its own.
    pub fn is_light(&self, id: Id) -> bool {
        self.light[id]
    }

    /// The clusters that have to run before a kernel can load `id`.
    pub fn makers(&self, id: Id) -> Vec<ClusterId> {
        match &self.values.all[id].form {
            Form::Pack { parts } => parts.iter().filter_map(|(part, _)| self.of.get(part).copied()).collect(),
            _ => {
                let made = self.values.answers.get(&id).unwrap_or(&id);
                self.of.get(made).copied().into_iter().collect()
            }
        }
    }

    /// The clusters that have to run before one that repeats `id`, whatever that reads.
    fn waits_for(&self, id: Id) -> Vec<ClusterId> {
        let Some(after) = self.values.all[id].after else { return Vec::new() };
        let needs = if self.is_light(after) { self.needs(after) } else { vec![after] };
        needs.into_iter().flat_map(|need| self.makers(need)).collect()
    }

    /// True when `from` has to run after `to`, or is it.
    pub fn reaches(&self, from: ClusterId, to: ClusterId) -> bool {
        let mut seen = BTreeSet::from([from]);
        let mut stack = vec![from];
        while let Some(at) = stack.pop() {
            if at == to {
                return true;
            }
            stack.extend(self.all[at].after.iter().copied().filter(|&next| seen.insert(next)));
        }
        false
    }

    /// Starts a cluster with a value as its first member.
    pub fn start(&mut self, id: Id) -> ClusterId {
        let value = &self.values.all[id];
        let mut cluster = Cluster { dims: squeezed_shape(&value.ty.shape), ..Cluster::default() };
        let mut place = Place::Element;
        match &value.form {
            Form::Reduce { axes, arg, .. } => {
                cluster.dims = squeezed_shape(&arg.layout.shape);
                cluster.inner = Some(squeezed_axes(&arg.layout.shape, axes));
                place = Place::Row;
            }
            Form::Gemm { .. } => cluster.gemm = true,
            _ => {}
        }
        self.all.push(cluster);
        self.add(self.all.len() - 1, id, place);
        self.all.len() - 1
    }

    fn add(&mut self, to: ClusterId, id: Id, place: Place) {
        self.all[to].members.push((id, place));
        self.of.insert(id, to);
        let makers = self.needs(id).into_iter().flat_map(|need| self.makers(need));
        let before: Vec<ClusterId> = makers.chain(self.waits_for(id)).filter(|&maker| maker != to).collect();
        self.all[to].after.extend(before);
    }

    /// The values that a kernel has to load or hold to compute `id`, light ones looked through.
    pub fn needs(&self, id: Id) -> Vec<Id> {
        let mut needs = Vec::new();
        for arg in self.values.all[id].args() {
            if self.is_light(arg.value) {
                needs.extend(self.needs(arg.value));
            } else {
                needs.push(arg.value);
            }
        }
        needs
    }

    /// Lets a value join the cluster if the kernel then still computes what it should. Returns whether it did.
    pub fn join(&mut self, to: ClusterId, id: Id) -> bool {
        let value = &self.values.all[id];
        let cluster = &self.all[to];
        if value.apart || cluster.members.iter().any(|(member, _)| self.values.all[*member].apart) {
            return false;
        }
        let (place, inner) = match &value.form {
            Form::Map { .. } | Form::Gather { .. } => match cluster.place(&value.ty.shape) {
                Some(place) => (place, cluster.inner.clone()),
                None => return false,
            },
            Form::Reduce { axes, arg, .. } => {
                let inner = squeezed_axes(&arg.layout.shape, axes);
                let fits = squeezed_shape(&arg.layout.shape) == cluster.dims
                    && cluster.inner.as_ref().is_none_or(|own| *own == inner);
                if cluster.gemm || !fits {
                    return false;
                }
                (Place::Row, Some(inner))
            }
            _ => return false,
        };
        // A reduction reads its argument at every element, though its own result is one a row.
        let reads_at = if matches!(value.form, Form::Reduce { .. }) { Place::Element } else { place };
        let allowed =
            value.args().into_iter().all(|arg| self.may_read(to, &inner, arg, reads_at, &value.form))
                && self.waits_for(id).into_iter().all(|maker| maker == to || !self.reaches(maker, to));
        if allowed {
            self.all[to].inner = inner;
            self.add(to, id, place);
        }
        allowed
    }

    /// What a kernel reads to have `arg`: the values that a light one is made of, seen through its views, or `arg` itself.
    pub fn looked_through(&self, arg: &Source) -> Vec<Source> {
        if !self.is_light(arg.value) {
            return vec![arg.clone()];
        }
        let made_of = self.values.all[arg.value].args().into_iter();
        let seen = made_of.map(|part| {
            let views = [part.views.as_slice(), &arg.views].concat();
            // A value is light only where its parts can be seen through the views; see `light`.
            let layout = seen_through(part.layout.clone(), &arg.views).unwrap_or_else(|| part.layout.clone());
            Source { value: part.value, views, layout }
        });
        seen.flat_map(|part| self.looked_through(&part)).collect()
    }

    fn may_read(
        &self,
        at: ClusterId,
        inner: &Option<Vec<usize>>,
        arg: &Source,
        to: Place,
        form: &Form,
    ) -> bool {
        let is_table = matches!(form, Form::Gather { table, .. } if table.value == arg.value);
        let cluster = Cluster { dims: self.all[at].dims.clone(), inner: inner.clone(), ..Cluster::default() };
        self.looked_through(arg).into_iter().all(|part| {
            if self.of.get(&part.value) != Some(&at) {
                return self.makers(part.value).iter().all(|&maker| !self.reaches(maker, at));
            }
            let member = self.all[at].members.iter().find(|(id, _)| *id == part.value);
            !is_table && member.is_some_and(|&(_, from)| cluster.in_step(&part.layout, from, to))
        })
    }

    /// Whether two clusters can be one kernel: the same domain, and no third that must run between them.
    pub fn can_merge(&self, a: ClusterId, b: ClusterId) -> bool {
        let (first, second) = (&self.all[a], &self.all[b]);
        if a == b || first.gone || second.gone || first.gemm || second.gemm || first.dims != second.dims {
            return false;
        }
        if [first, second].iter().any(|c| c.members.iter().any(|(id, _)| self.values.all[*id].apart)) {
            return false;
        }
        let same_inner = first.inner == second.inner || first.inner.is_none() || second.inner.is_none();
        same_inner
            && !self.passes_through_third(a, b)
            && !self.passes_through_third(b, a)
            && self.reads_in_step(a, b)
    }

    fn passes_through_third(&self, from: ClusterId, to: ClusterId) -> bool {
        self.all[from].after.iter().any(|&next| next != to && self.reaches(next, to))
    }

    /// In the merged cluster, what one half reads of the other has to be at the same position.
    fn reads_in_step(&self, a: ClusterId, b: ClusterId) -> bool {
        let inner = self.all[a].inner.clone().or_else(|| self.all[b].inner.clone());
        let merged = Cluster { dims: self.all[a].dims.clone(), inner, ..Cluster::default() };
        let places: HashMap<Id, Place> =
            [a, b].iter().flat_map(|&c| self.all[c].members.iter().copied()).collect();
        let packs_a_member = |id: Id| match &self.values.all[id].form {
            Form::Pack { parts } => parts.iter().any(|(part, _)| places.contains_key(part)),
            _ => false,
        };
        places.iter().all(|(&id, &place)| {
            let value = &self.values.all[id];
            let to = if matches!(value.form, Form::Reduce { .. }) { Place::Element } else { place };
            value.args().into_iter().all(|arg| {
                let is_table = matches!(&value.form, Form::Gather { table, .. } if table.value == arg.value);
                let in_step = |part: Source| match places.get(&part.value) {
                    Some(&from) => !is_table && merged.in_step(&part.layout, from, to),
                    None => !packs_a_member(part.value),
                };
                self.looked_through(arg).into_iter().all(in_step)
            })
        })
    }

    /// Moves the members of `b` into `a`.
    pub fn merge(&mut self, a: ClusterId, b: ClusterId) {
        let other = std::mem::take(&mut self.all[b]);
        self.all[b].gone = true;
        self.of.extend(other.members.iter().map(|(id, _)| (*id, a)));
        let into = &mut self.all[a];
        into.inner = into.inner.take().or(other.inner);
        into.members.extend(other.members);
        into.members.sort_by_key(|(id, _)| *id);
        into.after.extend(other.after);
        into.after.remove(&a);
        into.after.remove(&b);
        for cluster in &mut self.all {
            if cluster.after.remove(&b) && !cluster.gone {
                cluster.after.insert(a);
            }
        }
        self.all[a].after.remove(&a);
    }
}

/// Operations on one value in a buffer that each kernel does again rather than keep the result.
const CHEAP: usize = 3;
/// How many times smaller than that value the others must be that go into the result.
const SMALL: usize = 16;

/// Which values kernels compute on the spot: constants, scalars made of given scalars, and what takes few operations on a
/// value that is in a buffer anyway (the mask of a ReLU's gradient, a batch less its mean), which costs less than keeping
/// it would.
///
/// Not those that something needs in a buffer, nor those seen through padding or through a view that what they are made of
/// cannot be seen through.
fn light(values: &Values, fuse: bool) -> Vec<bool> {
    let mut light = vec![false; values.all.len()];
    let (buffered, excluded) = read_from_buffers(values);
    // For light values that are made of one in a buffer: which, and by how many operations.
    let mut made_of: Vec<Option<(Id, usize)>> = vec![None; values.all.len()];
    for (id, value) in values.all.iter().enumerate() {
        let Form::Map { expr, args } = &value.form else { continue };
        if value.apart || excluded[id] {
            continue;
        }
        let is_leaf = |id: Id| matches!(values.all[id].form, Form::Leaf(_));
        let scalar = value.ty.shape.numel() == 1 && args.iter().all(|a| is_leaf(a.value) || light[a.value]);
        if fuse && !scalar && args.iter().all(|arg| arg.layout.is_unpadded()) {
            made_of[id] = base(values, args, &light, &buffered, &made_of)
                .and_then(|(base, before)| Some((base, before + calls(expr)?)))
                .filter(|&(_, operations)| operations <= CHEAP);
        }
        light[id] = args.is_empty() || fuse && (scalar || made_of[id].is_some());
    }
    light
}

/// The one value in a buffer that a map is made of, and the operations before it, where its other arguments are small.
fn base(
    values: &Values,
    args: &[Source],
    light: &[bool],
    buffered: &[bool],
    made_of: &[Option<(Id, usize)>],
) -> Option<(Id, usize)> {
    let numel = |arg: &&Source| values.all[arg.value].ty.shape.numel();
    let wide = args.iter().max_by_key(numel)?;
    let rest_is_small = args
        .iter()
        .filter(|arg| arg.value != wide.value)
        .all(|arg| !light[arg.value] && numel(&arg) * SMALL <= numel(&wide));
    if !rest_is_small {
        return None;
    }
    if light[wide.value] { made_of[wide.value] } else { buffered[wide.value].then_some((wide.value, 0)) }
}

/// The number of calls of an expression whose functions each take one operation.
fn calls(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Call(f, args) if f.flops <= 1 => args.iter().try_fold(1, |sum, arg| Some(sum + calls(arg)?)),
        Expr::Call(..) => None,
        Expr::Input(_) | Expr::Float(_) | Expr::U32(_) | Expr::Iota(_) => Some(0),
    }
}

/// Which values something reads from a buffer whatever is fused, and which cannot be light.
fn read_from_buffers(values: &Values) -> (Vec<bool>, Vec<bool>) {
    let mut buffered = vec![false; values.all.len()];
    needed_in_buffers(values).into_iter().for_each(|id| buffered[id] = true);
    let mut excluded = buffered.clone();
    for value in &values.all {
        for arg in value.args() {
            let by_buffer = match &value.form {
                Form::Gemm { .. } => true,
                Form::Gather { table, .. } => table.value == arg.value,
                _ => false,
            };
            // No reduction is part of a product's kernel, so it reads the product from a buffer.
            let reduced = matches!(value.form, Form::Reduce { .. })
                && matches!(values.all[arg.value].form, Form::Gemm { .. });
            buffered[arg.value] |= by_buffer || reduced;
            excluded[arg.value] |=
                by_buffer || !arg.layout.is_unpadded() || !values.expressible(arg.value, &arg.views);
        }
    }
    (buffered, excluded)
}

/// Values that have to be in a buffer: targets, and parts of packs.
pub(crate) fn needed_in_buffers(values: &Values) -> HashSet<Id> {
    let parts = values.all.iter().filter_map(|v| match &v.form {
        Form::Pack { parts } => Some(parts.iter().map(|(id, _)| *id)),
        _ => None,
    });
    values.targets.iter().map(|(id, _)| *id).chain(parts.flatten()).collect()
}

/// The axes as positions among the dimensions that are not 1.
fn squeezed_axes(shape: &[usize], axes: &[usize]) -> Vec<usize> {
    let position = |axis: usize| shape[..axis].iter().filter(|&&n| n != 1).count();
    axes.iter().filter(|&&a| shape[a] != 1).map(|&a| position(a)).collect()
}
