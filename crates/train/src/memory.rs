//! Memory of a plan: peak usage, intermediates, the largest tensors, and the effect of recomputation.

use wgrad_graph::TensorType;
use wgrad_program::{Program, session_bytes, slab_bytes};

use crate::error::TrainError;
use crate::plan::{Phase, Plan};

/// Memory of intermediates: allocated bytes, and the largest number of bytes live at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scratch {
    /// Bytes of the slabs that hold the intermediates, shared by all programs of a run.
    pub slab_bytes: usize,
    /// Largest number of bytes of intermediates that are live during a dispatch of a program.
    pub live_bytes: usize,
}

impl Scratch {
    /// Returns the bytes of the slabs divided by the live bytes; 1 if no value is kept between kernels.
    pub fn ratio(self) -> f64 {
        if self.live_bytes == 0 { 1.0 } else { self.slab_bytes as f64 / self.live_bytes as f64 }
    }
}

/// Memory and operations of a training step with and without recomputation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recomputation {
    /// Intermediates of the training programs with recomputation.
    pub with: Scratch,
    /// Intermediates of the training programs without recomputation.
    pub without: Scratch,
    /// Floating-point operations of a step with recomputation.
    pub flops_with: u64,
    /// Floating-point operations of a step without recomputation.
    pub flops_without: u64,
}

impl Recomputation {
    /// Whether recomputation has no effect: the forward pass keeps no values that could be recomputed.
    pub fn is_noop(&self) -> bool {
        self.with == self.without && self.flops_with == self.flops_without
    }
}

impl Plan {
    /// Programs of steps and evaluations.
    fn programs(&self) -> impl Iterator<Item = &Program> + Clone {
        self.passes.iter().map(|(_, program)| program).chain(self.evaluations.iter().map(|(_, p)| p))
    }

    /// Bytes of device memory that a trainer allocates for the state and all programs.
    pub fn peak_bytes(&self) -> usize {
        session_bytes(&self.states, self.programs())
    }

    /// Number of moments that the optimizer keeps for each parameter.
    pub fn moments(&self) -> usize {
        self.optim.moments.len()
    }

    /// Memory of the intermediates of the run.
    pub fn scratch(&self) -> Scratch {
        scratch(self.programs())
    }

    /// Compares a step with and without recomputation; `None` if the configuration does not recompute.
    ///
    /// # Errors
    /// Returns an error if a program of a step cannot be compiled.
    pub fn recomputation(&mut self) -> Result<Option<Recomputation>, TrainError> {
        if !self.config.recompute {
            return Ok(None);
        }
        let with = self.compile_passes()?;
        self.config.recompute = false;
        let without = self.compile_passes();
        self.config.recompute = true;
        let without = without?;
        let flops = |passes: &[(Phase, Program)]| -> u64 {
            passes.iter().map(|(phase, program)| program.cost().flops * self.runs_per_step(*phase)).sum()
        };
        Ok(Some(Recomputation {
            with: scratch(with.iter().map(|(_, program)| program)),
            without: scratch(without.iter().map(|(_, program)| program)),
            flops_with: flops(&with),
            flops_without: flops(&without),
        }))
    }

    /// Lists the ten largest tensors of state and programs, one per line: bytes, type, name.
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
