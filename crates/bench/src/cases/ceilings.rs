//! Cases that measure the ceilings of a device: copying, reading, multiply-adds, launches and transfers.

use crate::results::Group;
use wgrad_graph::GraphError;
use wgrad_ops::TensorOps;

use crate::cases::{Case, CaseKind};
use crate::workload::{Recorder, Workload};

/// Number of dependent multiply-adds per element in the multiply-add case.
const CHAIN: usize = 64;
/// Number of dependent dispatches in the launch case.
const LAUNCHES: usize = 100;

/// Sizes of the working sets in KiB, each with whether the quick benchmark includes it.
///
/// The smallest is about the size of a first-level cache; the largest exceeds all caches.
const WORKING_SETS: [(usize, bool); 6] =
    [(64, false), (512, true), (4096, true), (16_384, true), (32_768, false), (131_072, true)];

pub(crate) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (name, build) in [("copy", copy as fn(usize) -> Result<Workload, GraphError>), ("read", read)] {
        for (kib, quick) in WORKING_SETS {
            let size = if kib < 1024 { format!("{kib}KiB") } else { format!("{}MiB", kib / 1024) };
            let case = Case::new(Group::Ceiling, format!("{name}-{size}"), move || build(kib * 1024));
            all.push(case.quick_if(quick));
        }
    }
    all.push(Case::new(Group::Ceiling, "fma-64x1M", || chain(1 << 20)).quick());
    all.push(Case::new(Group::Ceiling, format!("launch-{LAUNCHES}"), launches).quick());
    let round_trip = Case::new(Group::Ceiling, "round-trip", || copy(512)).quick();
    all.push(Case { synchronous: true, ..round_trip });
    all.push(Case::with_kind(Group::Ceiling, "upload-16MiB", CaseKind::Upload(16 << 20)).quick());
    all.push(Case::with_kind(Group::Ceiling, "readback-16MiB", CaseKind::Readback(16 << 20)).quick());
    all
}

/// Reads `bytes / 2` bytes and writes `bytes / 2` bytes. Negates the values, so that the planner cannot remove the
/// copy.
fn copy(bytes: usize) -> Result<Workload, GraphError> {
    let mut recorder = Recorder::new();
    let x = recorder.floats("x", [bytes / 8]);
    recorder.record(|graph| {
        graph.output("y", -graph.entry(x));
        Ok(())
    })
}

/// Reads `bytes` in rows of 1,024 elements and writes the sum of each row.
fn read(bytes: usize) -> Result<Workload, GraphError> {
    let mut recorder = Recorder::new();
    let x = recorder.floats("x", [bytes / 4096, 1024]);
    recorder.record(|graph| {
        graph.output("sums", graph.entry(x).sum(&[1]));
        Ok(())
    })
}

/// Chain of multiply-adds `v ← v·x + z` for each element.
///
/// Each element has its own x and z, so that nothing can be computed in advance. |x| < 1 keeps v bounded.
fn chain(elements: usize) -> Result<Workload, GraphError> {
    let mut recorder = Recorder::new();
    let (x, z) = (recorder.floats("x", [elements]), recorder.floats("z", [elements]));
    recorder.record(|graph| {
        let (x, z) = (graph.entry(x), graph.entry(z));
        graph.output("v", (0..CHAIN).fold(z, |v, _| v * x + z));
        Ok(())
    })
}

/// Sequence of small kernels, each of which depends on the previous kernel.
fn launches() -> Result<Workload, GraphError> {
    let mut recorder = Recorder::new();
    let x = recorder.floats("x", [64]);
    let workload = recorder.record(|graph| {
        graph.output("y", (0..LAUNCHES).fold(graph.entry(x), |y, _| -y));
        Ok(())
    })?;
    Ok(Workload { fuse: false, ..workload })
}
