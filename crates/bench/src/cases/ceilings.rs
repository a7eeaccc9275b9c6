//! What bounds the others: copying, multiply-adds, launches, and the way to the device and back.

use crate::results::Group;
use wgrad_graph::GraphError;
use wgrad_ops::TensorOps;

use crate::cases::{Case, What};
use crate::work::{Recorder, Work};

/// Multiply-adds in a row for each element of the chain.
const CHAIN: usize = 64;
/// Dispatches in a row of the launch case.
const LAUNCHES: usize = 100;

/// Working sets in KiB, and whether the short bench has them: from what fits the nearest cache to what fits none.
const SETS: [(usize, bool); 6] =
    [(64, false), (512, true), (4096, true), (16_384, true), (32_768, false), (131_072, true)];

pub(crate) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (name, build) in [("copy", copy as fn(usize) -> Result<Work, GraphError>), ("read", read)] {
        for (kib, quick) in SETS {
            let size = if kib < 1024 { format!("{kib}KiB") } else { format!("{}MiB", kib / 1024) };
            let case = Case::new(Group::Ceiling, format!("{name}-{size}"), move || build(kib * 1024));
            all.push(case.quick_if(quick));
        }
    }
    all.push(Case::new(Group::Ceiling, "fma-64x1M", || chain(1 << 20)).quick());
    all.push(Case::new(Group::Ceiling, format!("launch-{LAUNCHES}"), launches).quick());
    let each = |case: Case| Case { each: true, ..case };
    all.push(each(Case::new(Group::Ceiling, "round-trip", || copy(512)).quick()));
    all.push(Case::of(Group::Ceiling, "upload-16MiB", What::Upload(16 << 20)).quick());
    all.push(Case::of(Group::Ceiling, "readback-16MiB", What::Readback(16 << 20)).quick());
    all
}

/// Reads half of these bytes and writes the other half. What is written is the negative, so that no planner can do without.
fn copy(bytes: usize) -> Result<Work, GraphError> {
    let mut recorder = Recorder::new();
    let x = recorder.floats("x", [bytes / 8]);
    recorder.record(|graph| {
        graph.output("y", -graph.entry(x));
        Ok(())
    })
}

/// Reads these bytes, in rows of 1,024 numbers, and writes the sum of each row.
fn read(bytes: usize) -> Result<Work, GraphError> {
    let mut recorder = Recorder::new();
    let x = recorder.floats("x", [bytes / 4096, 1024]);
    recorder.record(|graph| {
        graph.output("sums", graph.entry(x).sum(&[1]));
        Ok(())
    })
}

/// `v ← v·x + z`, many times, with x and z of each element's own: nothing of it can be known before it runs. |x| < 1, so that
/// v stays moderate.
fn chain(elements: usize) -> Result<Work, GraphError> {
    let mut recorder = Recorder::new();
    let (x, z) = (recorder.floats("x", [elements]), recorder.floats("z", [elements]));
    recorder.record(|graph| {
        let (x, z) = (graph.entry(x), graph.entry(z));
        graph.output("v", (0..CHAIN).fold(z, |v, _| v * x + z));
        Ok(())
    })
}

/// Small kernels that each wait for the one before.
fn launches() -> Result<Work, GraphError> {
    let mut recorder = Recorder::new();
    let x = recorder.floats("x", [64]);
    let work = recorder.record(|graph| {
        graph.output("y", (0..LAUNCHES).fold(graph.entry(x), |y, _| -y));
        Ok(())
    })?;
    Ok(Work { fuse: false, ..work })
}
