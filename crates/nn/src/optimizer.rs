//! Optimizers, recorded as operations on the flat parameters. Fusion turns each update into one kernel.

use wgrad_graph::{ALIGN, DType, Graph, GroupId, States, Var};
use wgrad_ops::{TensorOps, full, iota};

use crate::module::{ParamGroup, Params};

/// Number of columns of the grid to which the flat parameters are reshaped: the number of elements of one alignment
/// unit. Row indices are then exact in f32 for up to 2³⁰ parameters.
const COLUMNS: usize = ALIGN / 4;

/// Optimizer with its hyperparameters.
///
/// In the formulas g is the gradient, θ a parameter, η the learning rate of the step and λ the weight decay.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(
    feature = "schema",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(tag = "kind", rename_all = "lowercase")
)]
pub enum Optimizer {
    /// Stochastic gradient descent with momentum.
    Sgd(Sgd),
    /// Adam; weight decay is added to the gradient.
    Adam(Adam),
    /// Adam with decoupled weight decay.
    AdamW(AdamW),
}

/// Hyperparameters of stochastic gradient descent, in PyTorch's form.
///
/// `v ← μ·v + g + λ·θ`; `θ ← θ − η·v`, or with Nesterov momentum `θ ← θ − η·(g + λ·θ + μ·v)`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(
    feature = "schema",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct Sgd {
    /// Peak learning rate η.
    #[cfg_attr(feature = "schema", schemars(extend("exclusiveMinimum" = 0)))]
    pub lr: f64,
    /// Momentum μ: fraction of the velocity that is kept in each step. With 0, the optimizer has no state.
    #[cfg_attr(feature = "schema", schemars(extend("minimum" = 0, "exclusiveMaximum" = 1)))]
    pub momentum: f64,
    /// Whether to use Nesterov momentum. Requires a momentum greater than 0.
    pub nesterov: bool,
    /// Weight decay λ, an L2 penalty: λ·θ is added to the gradient.
    #[cfg_attr(feature = "schema", schemars(range(min = 0)))]
    pub weight_decay: f64,
    /// Maximum Euclidean norm of the whole gradient. A larger gradient is scaled down to this norm. No limit if absent.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Option::is_none"))]
    #[cfg_attr(feature = "schema", schemars(extend("exclusiveMinimum" = 0)))]
    pub clip_norm: Option<f64>,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { lr: 0.1, momentum: 0.9, nesterov: false, weight_decay: 0.0, clip_norm: None }
    }
}

/// Hyperparameters of Adam (Kingma and Ba 2015), with bias correction.
///
/// `θ ← θ − η·m̂/(√v̂ + ε)`, where m and v are running means of `g + λ·θ` and its square.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(
    feature = "schema",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct Adam {
    /// Peak learning rate η.
    #[cfg_attr(feature = "schema", schemars(extend("exclusiveMinimum" = 0)))]
    pub lr: f64,
    /// Decay rates β₁ and β₂ of the running means of the gradient and of its square.
    #[cfg_attr(feature = "schema", schemars(extend("items" = {"type": "number", "minimum": 0, "exclusiveMaximum": 1})))]
    pub betas: [f64; 2],
    /// ε, added to the square root of the second moment.
    #[cfg_attr(feature = "schema", schemars(extend("exclusiveMinimum" = 0)))]
    pub eps: f64,
    /// Weight decay λ, an L2 penalty: λ·θ is added to the gradient.
    #[cfg_attr(feature = "schema", schemars(range(min = 0)))]
    pub weight_decay: f64,
    /// Maximum Euclidean norm of the whole gradient. A larger gradient is scaled down to this norm. No limit if absent.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Option::is_none"))]
    #[cfg_attr(feature = "schema", schemars(extend("exclusiveMinimum" = 0)))]
    pub clip_norm: Option<f64>,
}

impl Default for Adam {
    fn default() -> Self {
        Self { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0, clip_norm: None }
    }
}

/// Hyperparameters of AdamW (Loshchilov and Hutter 2019), with bias correction.
///
/// `θ ← θ − η·λ·θ − η·m̂/(√v̂ + ε)`, where m and v are running means of g and its square.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(
    feature = "schema",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(default, deny_unknown_fields)
)]
pub struct AdamW {
    /// Peak learning rate η.
    #[cfg_attr(feature = "schema", schemars(extend("exclusiveMinimum" = 0)))]
    pub lr: f64,
    /// Decay rates β₁ and β₂ of the running means of the gradient and of its square.
    #[cfg_attr(feature = "schema", schemars(extend("items" = {"type": "number", "minimum": 0, "exclusiveMaximum": 1})))]
    pub betas: [f64; 2],
    /// ε, added to the square root of the second moment.
    #[cfg_attr(feature = "schema", schemars(extend("exclusiveMinimum" = 0)))]
    pub eps: f64,
    /// Weight decay λ: each step subtracts η·λ·θ from the parameter θ.
    #[cfg_attr(feature = "schema", schemars(range(min = 0)))]
    pub weight_decay: f64,
    /// Maximum Euclidean norm of the whole gradient. A larger gradient is scaled down to this norm. No limit if absent.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Option::is_none"))]
    #[cfg_attr(feature = "schema", schemars(extend("exclusiveMinimum" = 0)))]
    pub clip_norm: Option<f64>,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01, clip_norm: None }
    }
}

impl Default for Optimizer {
    /// Returns AdamW with its default hyperparameters.
    fn default() -> Self {
        Self::AdamW(AdamW::default())
    }
}

impl Optimizer {
    /// Peak learning rate.
    pub fn lr(&self) -> f64 {
        match self {
            Self::Sgd(Sgd { lr, .. }) | Self::Adam(Adam { lr, .. }) | Self::AdamW(AdamW { lr, .. }) => *lr,
        }
    }

    /// Maximum Euclidean norm of the gradient of all parameters; `None` if there is no limit.
    pub fn clip_norm(&self) -> Option<f64> {
        match self {
            Self::Sgd(Sgd { clip_norm, .. })
            | Self::Adam(Adam { clip_norm, .. })
            | Self::AdamW(AdamW { clip_norm, .. }) => *clip_norm,
        }
    }

    /// Weight decay λ.
    pub fn weight_decay(&self) -> f64 {
        match self {
            Self::Sgd(Sgd { weight_decay, .. })
            | Self::Adam(Adam { weight_decay, .. })
            | Self::AdamW(AdamW { weight_decay, .. }) => *weight_decay,
        }
    }
}

/// State groups of an optimizer.
#[derive(Debug, Clone)]
pub struct OptimState {
    /// Groups of the momentum of SGD, or of the first and second moment of Adam. Empty for SGD without momentum.
    pub moments: Vec<GroupId>,
}

impl Optimizer {
    /// Declares the state of the optimizer for the trained parameters.
    pub fn declare(&self, states: &mut States, params: &Params) -> OptimState {
        self.declare_like(states, params.group())
    }

    /// Declares the state of the optimizer with the layout of a group of parameters.
    pub fn declare_like(&self, states: &mut States, params: GroupId) -> OptimState {
        let names: &[&str] = match self {
            Optimizer::Sgd(sgd) if sgd.momentum == 0.0 => &[],
            Optimizer::Sgd(_) => &["momentum"],
            Optimizer::Adam(_) | Optimizer::AdamW(_) => &["first_moment", "second_moment"],
        };
        OptimState { moments: names.iter().map(|name| states.group_like(*name, params)).collect() }
    }

    /// Number of elements that [`Optimizer::hyper`] returns.
    pub const HYPER: usize = 3;

    /// Returns the hyperparameters of step `t`, counted from 1, for the input `hyper`, f32 `[3]`: the learning rate and
    /// the two bias corrections 1/(1−βᵗ).
    pub fn hyper(&self, rate: f64, t: u64) -> [f32; Self::HYPER] {
        let correction = |beta: f64| 1.0 / (1.0 - beta.powf(t as f64));
        match self {
            Optimizer::Sgd(_) => [rate as f32, 1.0, 1.0],
            Optimizer::Adam(Adam { betas, .. }) | Optimizer::AdamW(AdamW { betas, .. }) => {
                [rate as f32, correction(betas[0]) as f32, correction(betas[1]) as f32]
            }
        }
    }

    /// Records the update of the parameters with the flat gradient. Returns the new parameters as a flat tensor.
    pub fn update<'g>(
        &self,
        graph: &'g Graph,
        state: &OptimState,
        params: &Params,
        grads: Var<'g>,
        hyper: Var<'g>,
    ) -> Var<'g> {
        self.update_flat(graph, state, params.group(), params.param_groups(), grads, hyper)
    }

    /// Records [`Optimizer::update`] for any flat state group with these parameter groups, such as one shard of a
    /// model.
    pub fn update_flat<'g>(
        &self,
        graph: &'g Graph,
        state: &OptimState,
        params: GroupId,
        groups: &[ParamGroup],
        grads: Var<'g>,
        hyper: Var<'g>,
    ) -> Var<'g> {
        let elements = graph.states().get(params).len();
        let grid = [elements / COLUMNS, COLUMNS];
        let flat = |id: GroupId| graph.group(id).reshape(grid);
        let set = |id: GroupId, value: Var<'g>| graph.update_group(id, value.reshape([elements]));
        let hyper = |i: usize| hyper.slice(0, i..i + 1).reshape([1, 1]);
        let theta = flat(params);
        let rate = factors(graph, groups, grid, |group| group.rate).map_or(hyper(0), |f| hyper(0) * f);
        let mut g = grads.reshape(grid);
        let new = match *self {
            Optimizer::Sgd(Sgd { momentum, nesterov, weight_decay, .. }) => {
                let decay = decay_factors(graph, groups, grid, weight_decay);
                g = decay.map_or(g, |decay| g + theta * decay);
                let direction = match state.moments.as_slice() {
                    [id] => {
                        let v = flat(*id) * momentum + g;
                        set(*id, v);
                        if nesterov { g + v * momentum } else { v }
                    }
                    _ => g,
                };
                theta - direction * rate
            }
            Optimizer::Adam(Adam { betas, eps, weight_decay, .. })
            | Optimizer::AdamW(AdamW { betas, eps, weight_decay, .. }) => {
                let decoupled = matches!(self, Optimizer::AdamW(_));
                let decay = decay_factors(graph, groups, grid, weight_decay);
                if let (Some(decay), false) = (decay, decoupled) {
                    g = g + theta * decay;
                }
                let [first, second] = [0, 1].map(|i| state.moments[i]);
                let m = flat(first) * betas[0] + g * (1.0 - betas[0]);
                let v = flat(second) * betas[1] + g * g * (1.0 - betas[1]);
                set(first, m);
                set(second, v);
                let step = m * hyper(1) / ((v * hyper(2)).sqrt() + eps);
                match decay {
                    Some(decay) if decoupled => theta - (step + theta * decay) * rate,
                    _ => theta - step * rate,
                }
            }
        };
        set(params, new);
        new.reshape([elements])
    }
}

/// Returns the weight decay of each parameter over the grid: λ where weight decay applies, 0 elsewhere. Returns `None`
/// if all values are 0.
fn decay_factors<'g>(
    graph: &'g Graph,
    groups: &[ParamGroup],
    grid: [usize; 2],
    weight_decay: f64,
) -> Option<Var<'g>> {
    let value = |group: &ParamGroup| if group.decay { weight_decay } else { 0.0 };
    match groups {
        _ if groups.iter().all(|group| value(group) == 0.0) => None,
        [only] => Some(full(graph, grid, value(only))),
        _ => factors(graph, groups, grid, value),
    }
}

/// Returns the value of each parameter's group over the grid, or `None` if all values are 1.
fn factors<'g>(
    graph: &'g Graph,
    groups: &[ParamGroup],
    grid: [usize; 2],
    value: impl Fn(&ParamGroup) -> f64,
) -> Option<Var<'g>> {
    if groups.iter().all(|group| value(group) == 1.0) {
        return None;
    }
    let row = iota(graph, grid, 0).cast(DType::F32);
    let mut steps: Option<Var<'g>> = None;
    // The result is a sum of step functions, one for each group, from the last group to the first. Before the end of
    // its group, a step function adds the difference between the value of its group and the value of the next group.
    for (i, group) in groups.iter().enumerate().rev() {
        let next = groups.get(i + 1).map_or(0.0, &value);
        let difference = value(group) - next;
        if difference == 0.0 {
            continue;
        }
        let step = row.lt(full(graph, [1, 1], (group.end / COLUMNS) as f64)) * difference;
        steps = Some(steps.map_or(step, |steps| steps + step));
    }
    Some(steps.unwrap_or_else(|| full(graph, grid, 0.0)))
}

impl Optimizer {
    /// Scales the flat gradient to a Euclidean norm of at most `max`. Returns the scaled gradient and the norm before
    /// scaling.
    pub fn clip<'g>(grads: Var<'g>, max: f64) -> (Var<'g>, Var<'g>) {
        let norm = grads.square().sum_all().sqrt();
        let graph = grads.graph();
        let scale = (full(graph, [], max) / (norm + 1e-6)).minimum(full(graph, [], 1.0));
        (grads * scale, norm)
    }
}
