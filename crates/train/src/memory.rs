//! What a plan says of memory: how much there will be, what takes it, and what recomputation saves.

use wgrad_graph::TensorType;
use wgrad_program::{Limits, Program, session_bytes, slab_bytes};

use crate::error::TrainError;
use crate::plan::{Phase, Plan};

/// Memory of intermediates: what is taken, and what could not be done without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scratch {
    /// Bytes of the slabs that the programs of a run share.
    pub slab_bytes: usize,
    /// Bytes of the intermediates alive at once, at the dispatch of any program where that is most.
    pub live_bytes: usize,
}

impl Scratch {
    /// Slabs as a multiple of the largest live set; 1 where nothing is kept between kernels.
    pub fn ratio(self) -> f64 {
        if self.live_bytes == 0 { 1.0 } else { self.slab_bytes as f64 / self.live_bytes as f64 }
    }
}

/// What recomputation changes in a training step: with it, and without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recomputation {
    /// Intermediates of the training programs by themselves, as they are planned.
    pub with: Scratch,
    /// The same if everything were kept.
    pub without: Scratch,
    /// Floating-point operations of a step as it is planned.
    pub flops_with: u64,
    /// The same if everything were kept.
    pub flops_without: u64,
}

impl Recomputation {
    /// True where it changes nothing, because the model has no segment whose values are kept for the backward pass only.
    pub fn is_idle(&self) -> bool {
        self.with == self.without && self.flops_with == self.flops_without
    }
}

impl Plan {
    fn programs(&self) -> impl Iterator<Item = &Program> + Clone {
        self.passes.iter().map(|(_, program)| program).chain(self.evaluations.iter().map(|(_, p)| p))
    }

    /// Bytes of device memory that the run will take: state and all programs.
    pub fn peak_bytes(&self) -> usize {
        session_bytes(&self.states, self.programs())
    }

    /// Numbers that the optimizer keeps for each parameter.
    pub fn moments(&self) -> usize {
        self.optim.moments.len()
    }

    /// Memory of the intermediates of the run.
    pub fn scratch(&self) -> Scratch {
        scratch(self.programs())
    }

    /// What recomputation saves and costs; `None` where it was not asked for.
    ///
    /// # Errors
    /// Those of [`Plan::new`].
    pub fn recomputation(&mut self, limits: &Limits) -> Result<Option<Recomputation>, TrainError> {
        if !self.config.recompute {
            return Ok(None);
        }
        let with = self.plan_passes(limits)?;
        self.config.recompute = false;
        let without = self.plan_passes(limits);
        self.config.recompute = true;
        let without = without?;
        let flops = |passes: &[(Phase, Program)]| -> u64 {
            passes.iter().map(|(phase, program)| program.cost().flops * self.often(*phase)).sum()
        };
        Ok(Some(Recomputation {
            with: scratch(with.iter().map(|(_, program)| program)),
            without: scratch(without.iter().map(|(_, program)| program)),
            flops_with: flops(&with),
            flops_without: flops(&without),
        }))
    }

    /// The ten largest tensors of state and programs, one a line: bytes, type, name.
    pub fn largest_tensors(&self) -> String {
        let groups = self.states.groups().iter();
        let mut all: Vec<(String, TensorType, usize)> = groups
            .flat_map(|group| group.entries.iter().map(move |entry| (group, entry)))
            .map(|(group, entry)| {
                let ty = TensorType::new(group.dtype, entry.shape.clone());
                let bytes = ty.bytes();
                (format!("{}: {}", group.name, entry.name), ty, bytes)
            })
            .collect();
        all.extend(self.programs().flat_map(|program| program.largest_tensors.iter().take(10).cloned()));
        all.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| a.0.cmp(&b.0)));
        let lines = all.iter().take(10).map(|(name, ty, bytes)| format!("  {bytes:>14} bytes  {ty}  {name}"));
        lines.collect::<Vec<_>>().join("\n")
    }
}

fn scratch<'p>(programs: impl Iterator<Item = &'p Program> + Clone) -> Scratch {
    Scratch {
        live_bytes: programs.clone().map(|program| program.live_bytes).max().unwrap_or(0),
        slab_bytes: slab_bytes(programs),
    }
}
