//! Second stage of planning: which values one kernel computes together, and the order in which the kernels run.

use std::collections::{BTreeSet, HashMap, HashSet};

use wgrad_graph::Leaf;

use crate::cluster::{ClusterId, Clusters, Granularity, needed_in_buffers};
use crate::value::{Id, Target, ValueKind, Values, squeeze_layout};

/// Maximum difference between the [`ClusterId`]s of two clusters that are considered for a merge.
const SIBLING_WINDOW: usize = 16;
/// Maximum number of elements for which clusters with equal domains are merged although they have no common operand.
/// For small domains, a kernel launch costs more than the work.
const SMALL_ELEMENTS: usize = 1 << 15;

/// Clusters of all values, and the order in which their kernels run.
pub(crate) struct Schedule<'v> {
    pub clusters: Clusters<'v>,
    pub order: Vec<ClusterId>,
    /// Values that need a buffer because another kernel, an output, a state or a pack reads them.
    pub stored: BTreeSet<Id>,
}

/// Reason why the values cannot be scheduled.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ScheduleError {
    /// A target must be written later; see [`Values::defer_target`]. Contains the number of the target.
    Target(usize),
    /// Kernels depend on each other in a cycle. The fusion rules should prevent this.
    Cycle,
}

/// Assigns the values to clusters, and orders the clusters.
///
/// # Errors
/// Returns [`ScheduleError::Target`] if a target cannot be written where it is computed, because the state that it
/// overwrites is read later (see [`Values::defer_target`]), and [`ScheduleError::Cycle`] if kernels depend on each
/// other.
pub(crate) fn schedule(values: &Values, fuse: bool, operands: usize) -> Result<Schedule<'_>, ScheduleError> {
    let mut clusters = Clusters::new(values, fuse);
    form_clusters(&mut clusters, fuse);
    if fuse {
        merge_siblings(&mut clusters, operands);
    }
    split_to_operand_limit(&mut clusters, operands);
    order_updates(&mut clusters).map_err(ScheduleError::Target)?;
    let order = topological_order(&clusters).ok_or(ScheduleError::Cycle)?;
    let stored = stored_values(&clusters);
    Ok(Schedule { clusters, order, stored })
}

/// Visits the values in order. Adds each value to the cluster of one of its arguments if possible, and otherwise starts
/// a new cluster.
fn form_clusters(clusters: &mut Clusters<'_>, fuse: bool) {
    let only_reduced = only_reduced(clusters.values);
    for (id, live) in clusters.values.live().into_iter().enumerate() {
        if !live || clusters.values.all[id].has_no_kernel() || clusters.is_inlined(id) {
            continue;
        }
        let mut candidates: Vec<ClusterId> = clusters
            .dependencies(id)
            .into_iter()
            .filter_map(|dependency| clusters.cluster_of.get(&dependency).copied())
            .collect();
        if only_reduced[id] {
            candidates.retain(|&c| !clusters.all[c].gemm);
        }
        candidates.sort_unstable();
        candidates.dedup();
        let joined = candidates.iter().rev().copied().find(|&c| fuse && clusters.try_join(c, id));
        let Some(cluster) = joined else {
            clusters.start_cluster(id);
            continue;
        };
        for &other in candidates.iter().filter(|&&other| other != cluster) {
            if clusters.can_merge(cluster, other) {
                clusters.merge(cluster, other);
            }
        }
    }
}

/// Returns for each value whether only reductions use it. These values are computed in the kernel of the reduction; in
/// the epilogue of a matrix product they would have to be stored.
fn only_reduced(values: &Values) -> Vec<bool> {
    let mut only_by_reductions = vec![true; values.all.len()];
    let mut used = vec![false; values.all.len()];
    for value in &values.all {
        for arg in value.args() {
            used[arg.value] = true;
            only_by_reductions[arg.value] &= matches!(value.kind, ValueKind::Reduce { .. });
        }
    }
    needed_in_buffers(values).into_iter().for_each(|id| only_by_reductions[id] = false);
    only_by_reductions.iter().zip(used).map(|(&only, used)| only && used).collect()
}

/// Merges neighbouring clusters with equal domains that read a common operand or are so small that a launch costs more
/// than the work. The merged kernel must not exceed the operand limit of the device.
fn merge_siblings(clusters: &mut Clusters<'_>, limit: usize) {
    let used = stored_values(clusters);
    for a in 0..clusters.all.len() {
        for b in (a + 1)..clusters.all.len().min(a + 1 + SIBLING_WINDOW) {
            let elements = clusters.all[a].dims.iter().product::<usize>();
            if (elements <= SMALL_ELEMENTS || share_operand(clusters, a, b))
                && clusters.can_merge(a, b)
                && operand_count(clusters, &[a, b], &used) <= limit
            {
                clusters.merge(a, b);
            }
        }
    }
}

fn loads_of_cluster(clusters: &Clusters<'_>, cluster: ClusterId) -> BTreeSet<Id> {
    loads_of(clusters, &[cluster])
}

/// Returns the values that one kernel with the members of these clusters would load.
fn loads_of(clusters: &Clusters<'_>, together: &[ClusterId]) -> BTreeSet<Id> {
    let members = || together.iter().flat_map(|&c| clusters.all[c].members.iter().map(|(id, _)| *id));
    let inside: HashSet<Id> = members().collect();
    members()
        .flat_map(|id| clusters.dependencies(id))
        .filter(|dependency| !inside.contains(dependency))
        .collect()
}

fn share_operand(clusters: &Clusters<'_>, a: ClusterId, b: ClusterId) -> bool {
    !loads_of_cluster(clusters, a).is_disjoint(&loads_of_cluster(clusters, b))
}

/// Splits clusters with more operands than a device can bind, until every cluster fits or has one member.
fn split_to_operand_limit(clusters: &mut Clusters<'_>, limit: usize) {
    let mut at = 0;
    let mut used = stored_values(clusters);
    while at < clusters.all.len() {
        let members = clusters.all[at].members.len();
        if !clusters.all[at].merged && members > 1 && operand_count(clusters, &[at], &used) > limit {
            split_cluster(clusters, at, members / 2);
            used = stored_values(clusters);
        } else {
            at += 1;
        }
    }
}

/// Number of tensors that one kernel with the members of these clusters would bind. A state tensor that the kernel
/// reads and overwrites counts once.
fn operand_count(clusters: &Clusters<'_>, together: &[ClusterId], stored: &BTreeSet<Id>) -> usize {
    let members = together.iter().flat_map(|&c| &clusters.all[c].members).map(|(id, _)| id);
    let written: BTreeSet<Id> = members.filter(|id| stored.contains(id)).copied().collect();
    let loads = loads_of(clusters, together);
    let is_read = |state: Leaf| {
        let kind = |id: &Id| &clusters.values.all[*id].kind;
        loads.iter().any(|id| matches!(kind(id), ValueKind::Leaf(leaf) if *leaf == state))
    };
    let in_place = clusters.values.targets.iter().filter(|(id, target)| {
        written.contains(id) && matches!(target, Target::State(leaf) if is_read(*leaf))
    });
    loads.len() + written.len() - in_place.count()
}

/// Keeps the first `keep` members and moves the others to a new cluster that runs later.
fn split_cluster(clusters: &mut Clusters<'_>, at: ClusterId, keep: usize) {
    let mut second = clusters.all[at].clone();
    second.gemm = false;
    second.members = clusters.all[at].members.split_off(keep);
    let new = clusters.all.len();
    clusters.cluster_of.extend(second.members.iter().map(|(id, _)| (*id, new)));
    second.predecessors.insert(at);
    clusters.all.push(second);
    for other in 0..clusters.all.len() {
        if other != new && other != at && clusters.all[other].predecessors.contains(&at) {
            clusters.all[other].predecessors.insert(new);
        }
    }
}

/// Returns the values that another kernel, an output, a state or a pack reads.
fn stored_values(clusters: &Clusters<'_>) -> BTreeSet<Id> {
    let mut stored: BTreeSet<Id> = needed_in_buffers(clusters.values).into_iter().collect();
    for (c, cluster) in clusters.all.iter().enumerate() {
        for &(id, _) in &cluster.members {
            let dependencies = clusters.dependencies(id).into_iter();
            stored.extend(
                dependencies
                    .filter(|dependency| clusters.cluster_of.get(dependency).is_some_and(|&of| of != c)),
            );
        }
    }
    stored
}

/// Orders each kernel that overwrites a state tensor after all kernels that read the old value.
///
/// # Errors
/// Returns the number of the first target for which this is impossible.
fn order_updates(clusters: &mut Clusters<'_>) -> Result<(), usize> {
    for (number, &(id, target)) in clusters.values.targets.iter().enumerate() {
        let (Target::State(written), Some(&writer)) = (target, clusters.cluster_of.get(&id)) else {
            continue;
        };
        for reader in 0..clusters.all.len() {
            if clusters.all[reader].merged || !reads_state(clusters, reader, written) {
                continue;
            }
            let safe = if reader == writer {
                updates_in_place(clusters, writer, id, written)
            } else {
                !clusters.depends_on(reader, writer)
            };
            if !safe {
                return Err(number);
            }
            if reader != writer {
                clusters.all[writer].predecessors.insert(reader);
            }
        }
    }
    Ok(())
}

fn reads_state(clusters: &Clusters<'_>, cluster: ClusterId, written: Leaf) -> bool {
    loads_of_cluster(clusters, cluster)
        .into_iter()
        .any(|id| matches!(clusters.values.all[id].kind, ValueKind::Leaf(leaf) if overlaps(leaf, written)))
}

fn overlaps(a: Leaf, b: Leaf) -> bool {
    match (a, b) {
        (Leaf::Entry(a), Leaf::Entry(b)) => a == b,
        (Leaf::Entry(e), Leaf::Group(g)) | (Leaf::Group(g), Leaf::Entry(e)) => e.group == g,
        (Leaf::Group(a), Leaf::Group(b)) => a == b,
        (Leaf::Input(_), _) | (_, Leaf::Input(_)) => false,
    }
}

/// Whether the kernel that writes a state tensor reads each old element only to compute the new value of the same
/// element.
fn updates_in_place(clusters: &Clusters<'_>, cluster: ClusterId, written_by: Id, written: Leaf) -> bool {
    let members = &clusters.all[cluster].members;
    let granularity_of =
        |id: Id| members.iter().find(|(member, _)| *member == id).map(|(_, granularity)| *granularity);
    members.iter().all(|&(id, granularity)| {
        let value = &clusters.values.all[id];
        let read_at =
            if matches!(value.kind, ValueKind::Reduce { .. }) { Granularity::Element } else { granularity };
        value.args().into_iter().all(|arg| {
            let is_table = matches!(&value.kind, ValueKind::Gather { table, .. } if table.value == arg.value);
            let Some(sources) = clusters.inlined_sources(arg) else { return false };
            sources.into_iter().all(|part| {
                let ValueKind::Leaf(leaf) = clusters.values.all[part.value].kind else { return true };
                let same_element = leaf == written
                    && !is_table
                    && Some(read_at) == granularity_of(written_by)
                    && part.layout.is_unpadded()
                    && squeeze_layout(&part.layout).is_some_and(|layout| layout.is_contiguous());
                !overlaps(leaf, written) || same_element || clusters.all[cluster].dims.is_empty()
            })
        })
    })
}

/// Returns the clusters in topological order, earliest members first. Returns `None` if clusters depend on each other
/// in a cycle.
fn topological_order(clusters: &Clusters<'_>) -> Option<Vec<ClusterId>> {
    let live: Vec<ClusterId> = (0..clusters.all.len()).filter(|&c| !clusters.all[c].merged).collect();
    let last = |c: ClusterId| clusters.all[c].members.last().map_or(0, |(id, _)| *id);
    let mut ready: BTreeSet<(Id, ClusterId)> = BTreeSet::new();
    let mut waiting: HashMap<ClusterId, usize> = HashMap::new();
    let mut followers: HashMap<ClusterId, Vec<ClusterId>> = HashMap::new();
    for &c in &live {
        waiting.insert(c, clusters.all[c].predecessors.len());
        clusters.all[c].predecessors.iter().for_each(|&before| followers.entry(before).or_default().push(c));
        if clusters.all[c].predecessors.is_empty() {
            ready.insert((last(c), c));
        }
    }
    let mut order = Vec::with_capacity(live.len());
    while let Some((_, c)) = ready.pop_first() {
        order.push(c);
        for &next in followers.get(&c).into_iter().flatten() {
            if let Some(remaining) = waiting.get_mut(&next) {
                *remaining -= 1;
                if *remaining == 0 {
                    ready.insert((last(next), next));
                }
            }
        }
    }
    (order.len() == live.len()).then_some(order)
}
