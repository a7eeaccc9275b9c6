//! Second stage of planning: which values one kernel computes together, and in which order the kernels run.

use std::collections::{BTreeSet, HashMap, HashSet};

use wgrad_graph::Leaf;

use crate::cluster::{ClusterId, Clusters, Place, needed_in_buffers};
use crate::value::{Form, Id, Target, Values, squeezed};

/// How far two small clusters may be apart in the list and still be looked at as one.
const SIBLING_WINDOW: usize = 16;
/// Clusters of the same domain that share no operand are merged up to this many elements: a launch costs more than they do.
const SMALL: usize = 1 << 15;

/// The clusters of the values, in the order in which their kernels run.
pub(crate) struct Schedule<'v> {
    pub clusters: Clusters<'v>,
    pub order: Vec<ClusterId>,
    /// Values that need a buffer because another kernel, an output, a state or a pack wants them.
    pub stored: BTreeSet<Id>,
}

/// Why values cannot be scheduled as they are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Obstacle {
    /// This target has to be written later; see [`Values::delay`].
    Target(usize),
    /// Kernels wait for each other, which no rule of joining should allow.
    Cycle,
}

/// Clusters and orders the values, or names the target (by number) that cannot be written where it is computed, because
/// the state that it overwrites is still to be read; see [`Values::delay`].
pub(crate) fn schedule(values: &Values, fuse: bool, operands: usize) -> Result<Schedule<'_>, Obstacle> {
    let mut clusters = Clusters::new(values, fuse);
    grow(&mut clusters, fuse);
    if fuse {
        merge_siblings(&mut clusters, operands);
    }
    split_wide(&mut clusters, operands);
    order_updates(&mut clusters).map_err(Obstacle::Target)?;
    let order = topological(&clusters).ok_or(Obstacle::Cycle)?;
    let stored = stored(&clusters);
    Ok(Schedule { clusters, order, stored })
}

/// Visits values in order; each joins the cluster of one of its arguments if it can, else starts its own.
fn grow(clusters: &mut Clusters<'_>, fuse: bool) {
    let only_reduced = only_reduced(clusters.values);
    for (id, live) in clusters.values.live().into_iter().enumerate() {
        if !live || clusters.values.all[id].is_given() || clusters.is_light(id) {
            continue;
        }
        let mut candidates: Vec<ClusterId> =
            clusters.needs(id).into_iter().filter_map(|need| clusters.of.get(&need).copied()).collect();
        if only_reduced[id] {
            candidates.retain(|&c| !clusters.all[c].gemm);
        }
        candidates.sort_unstable();
        candidates.dedup();
        let joined = candidates.iter().rev().copied().find(|&c| fuse && clusters.join(c, id));
        let Some(cluster) = joined else {
            clusters.start(id);
            continue;
        };
        for &other in candidates.iter().filter(|&&other| other != cluster) {
            if clusters.can_merge(cluster, other) {
                clusters.merge(cluster, other);
            }
        }
    }
}

/// The values that nothing but reductions wants. They are computed where they are reduced: as part of a product they would
/// have to be stored for that.
fn only_reduced(values: &Values) -> Vec<bool> {
    let mut only = vec![true; values.all.len()];
    let mut wanted = vec![false; values.all.len()];
    for value in &values.all {
        for arg in value.args() {
            wanted[arg.value] = true;
            only[arg.value] &= matches!(value.form, Form::Reduce { .. });
        }
    }
    needed_in_buffers(values).into_iter().for_each(|id| only[id] = false);
    only.iter().zip(wanted).map(|(&only, wanted)| only && wanted).collect()
}

/// Merges neighbours with one domain that read the same operand, or are so small that a launch costs more than the work;
/// not where a device could not bind their operands together.
fn merge_siblings(clusters: &mut Clusters<'_>, limit: usize) {
    let wanted = stored(clusters);
    for a in 0..clusters.all.len() {
        for b in (a + 1)..clusters.all.len().min(a + 1 + SIBLING_WINDOW) {
            let elements = clusters.all[a].dims.iter().product::<usize>();
            if (elements <= SMALL || share_operand(clusters, a, b))
                && clusters.can_merge(a, b)
                && operand_count(clusters, &[a, b], &wanted) <= limit
            {
                clusters.merge(a, b);
            }
        }
    }
}

fn loads(clusters: &Clusters<'_>, cluster: ClusterId) -> BTreeSet<Id> {
    loads_of(clusters, &[cluster])
}

/// What a kernel of the members of these clusters would load.
fn loads_of(clusters: &Clusters<'_>, together: &[ClusterId]) -> BTreeSet<Id> {
    let members = || together.iter().flat_map(|&c| clusters.all[c].members.iter().map(|(id, _)| *id));
    let inside: HashSet<Id> = members().collect();
    members().flat_map(|id| clusters.needs(id)).filter(|need| !inside.contains(need)).collect()
}

fn share_operand(clusters: &Clusters<'_>, a: ClusterId, b: ClusterId) -> bool {
    !loads(clusters, a).is_disjoint(&loads(clusters, b))
}

/// Cuts clusters with more operands than a device can bind in two, until none is left.
fn split_wide(clusters: &mut Clusters<'_>, limit: usize) {
    let mut at = 0;
    let mut wanted = stored(clusters);
    while at < clusters.all.len() {
        let members = clusters.all[at].members.len();
        if !clusters.all[at].gone && members > 1 && operand_count(clusters, &[at], &wanted) > limit {
            split(clusters, at, members / 2);
            wanted = stored(clusters);
        } else {
            at += 1;
        }
    }
}

/// Tensors that a kernel of the members of these clusters would bind. A state that it reads and overwrites is one.
fn operand_count(clusters: &Clusters<'_>, together: &[ClusterId], stored: &BTreeSet<Id>) -> usize {
    let members = together.iter().flat_map(|&c| &clusters.all[c].members).map(|(id, _)| id);
    let written: BTreeSet<Id> = members.filter(|id| stored.contains(id)).copied().collect();
    let loads = loads_of(clusters, together);
    let is_read = |state: Leaf| {
        let form = |id: &Id| &clusters.values.all[*id].form;
        loads.iter().any(|id| matches!(form(id), Form::Leaf(leaf) if *leaf == state))
    };
    let in_place = clusters.values.targets.iter().filter(|(id, target)| {
        written.contains(id) && matches!(target, Target::State(leaf) if is_read(*leaf))
    });
    loads.len() + written.len() - in_place.count()
}

/// The later members become a cluster of their own that runs after the earlier ones.
fn split(clusters: &mut Clusters<'_>, at: ClusterId, keep: usize) {
    let mut second = clusters.all[at].clone();
    second.gemm = false;
    second.members = clusters.all[at].members.split_off(keep);
    let new = clusters.all.len();
    clusters.of.extend(second.members.iter().map(|(id, _)| (*id, new)));
    second.after.insert(at);
    clusters.all.push(second);
    for other in 0..clusters.all.len() {
        if other != new && other != at && clusters.all[other].after.contains(&at) {
            clusters.all[other].after.insert(new);
        }
    }
}

/// The values that some other kernel, an output, a state or a pack wants.
fn stored(clusters: &Clusters<'_>) -> BTreeSet<Id> {
    let mut stored: BTreeSet<Id> = needed_in_buffers(clusters.values).into_iter().collect();
    for (c, cluster) in clusters.all.iter().enumerate() {
        for &(id, _) in &cluster.members {
            let needs = clusters.needs(id).into_iter();
            stored.extend(needs.filter(|need| clusters.of.get(need).is_some_and(|&of| of != c)));
        }
    }
    stored
}

/// A kernel that overwrites a state runs after every kernel that reads what the state was.
fn order_updates(clusters: &mut Clusters<'_>) -> Result<(), usize> {
    for (number, &(id, target)) in clusters.values.targets.iter().enumerate() {
        let (Target::State(written), Some(&writer)) = (target, clusters.of.get(&id)) else { continue };
        for reader in 0..clusters.all.len() {
            if clusters.all[reader].gone || !reads_state(clusters, reader, written) {
                continue;
            }
            let safe = if reader == writer {
                in_place(clusters, writer, id, written)
            } else {
                !clusters.reaches(reader, writer)
            };
            if !safe {
                return Err(number);
            }
            if reader != writer {
                clusters.all[writer].after.insert(reader);
            }
        }
    }
    Ok(())
}

fn reads_state(clusters: &Clusters<'_>, cluster: ClusterId, written: Leaf) -> bool {
    loads(clusters, cluster)
        .into_iter()
        .any(|id| matches!(clusters.values.all[id].form, Form::Leaf(leaf) if overlap(leaf, written)))
}

fn overlap(a: Leaf, b: Leaf) -> bool {
    match (a, b) {
        (Leaf::Entry(a), Leaf::Entry(b)) => a == b,
        (Leaf::Entry(e), Leaf::Group(g)) | (Leaf::Group(g), Leaf::Entry(e)) => e.group == g,
        (Leaf::Group(a), Leaf::Group(b)) => a == b,
        (Leaf::Input(_), _) | (_, Leaf::Input(_)) => false,
    }
}

/// True when every load of the written state in the kernel that writes it is of the very element that is then written.
fn in_place(clusters: &Clusters<'_>, cluster: ClusterId, written_by: Id, written: Leaf) -> bool {
    let members = &clusters.all[cluster].members;
    let place_of = |id: Id| members.iter().find(|(member, _)| *member == id).map(|(_, place)| *place);
    members.iter().all(|&(id, place)| {
        let value = &clusters.values.all[id];
        let read_at = if matches!(value.form, Form::Reduce { .. }) { Place::Element } else { place };
        value.args().into_iter().all(|arg| {
            let is_table = matches!(&value.form, Form::Gather { table, .. } if table.value == arg.value);
            clusters.looked_through(arg).into_iter().all(|part| {
                let Form::Leaf(leaf) = clusters.values.all[part.value].form else { return true };
                let same_element = leaf == written
                    && !is_table
                    && Some(read_at) == place_of(written_by)
                    && part.layout.is_unpadded()
                    && squeezed(&part.layout).is_some_and(|layout| layout.is_contiguous());
                !overlap(leaf, written) || same_element || clusters.all[cluster].dims.is_empty()
            })
        })
    })
}

/// Earliest first among those whose predecessors have run; `None` where some wait for each other.
fn topological(clusters: &Clusters<'_>) -> Option<Vec<ClusterId>> {
    let live: Vec<ClusterId> = (0..clusters.all.len()).filter(|&c| !clusters.all[c].gone).collect();
    let last = |c: ClusterId| clusters.all[c].members.last().map_or(0, |(id, _)| *id);
    let mut ready: BTreeSet<(Id, ClusterId)> = BTreeSet::new();
    let mut waiting: HashMap<ClusterId, usize> = HashMap::new();
    let mut followers: HashMap<ClusterId, Vec<ClusterId>> = HashMap::new();
    for &c in &live {
        waiting.insert(c, clusters.all[c].after.len());
        clusters.all[c].after.iter().for_each(|&before| followers.entry(before).or_default().push(c));
        if clusters.all[c].after.is_empty() {
            ready.insert((last(c), c));
        }
    }
    let mut order = Vec::with_capacity(live.len());
    while let Some((_, c)) = ready.pop_first() {
        order.push(c);
        for &next in followers.get(&c).into_iter().flatten() {
            if let Some(left) = waiting.get_mut(&next) {
                *left -= 1;
                if *left == 0 {
                    ready.insert((last(next), next));
                }
            }
        }
    }
    (order.len() == live.len()).then_some(order)
}
