//! The graphs of a plan: passes of a training step, evaluation, prediction.

use wgrad_graph::{EntryId, Graph, GraphError, TensorType, Var, grad, grad_recomputing};
use wgrad_nn::{Context, Optimizer};
use wgrad_ops::{TensorOps, full_u32, graph, pack};
use wgrad_program::{Limits, Options, Program, compile};

use crate::error::TrainError;
use crate::replicas::rank::Shard;
use crate::plan::{Phase, Plan, SplitName, Task, target_type};

/// A batch on the graph.
pub(crate) struct Batch<'g> {
    /// `[batch, features]`.
    pub features: Var<'g>,
    /// u32 `[batch]` classes, or `[batch, width]` values.
    pub targets: Var<'g>,
}

/// Loss, and for classification correctness (0 or 1), of each example: `[batch]`.
pub(crate) struct Objective<'g> {
    pub loss: Var<'g>,
    pub correct: Option<Var<'g>>,
}

impl<'g> Objective<'g> {
    /// `training` says whether labels are smoothed: a test loss is that of the labels as they are.
    pub fn of(graph: &'g Graph, task: Task, outputs: Var<'g>, targets: Var<'g>, training: bool) -> Self {
        graph.scope("objective", || match task {
            Task::Classification { label_smoothing, .. } => {
                let loss = match training && label_smoothing > 0.0 {
                    true => outputs.cross_entropy_smooth(targets, label_smoothing),
                    false => outputs.cross_entropy(targets),
                };
                Objective { loss, correct: Some(outputs.argmax(1).eq(targets)) }
            }
            Task::Regression { .. } => {
                Objective { loss: (outputs - targets).square().mean(&[1]), correct: None }
            }
        })
    }
}

impl Plan {
    /// Records one pass of a step: loss, gradients, and for the last pass the optimizer.
    pub(crate) fn trace_pass(&self, phase: Phase) -> Result<Graph, TrainError> {
        let graph = graph(self.states.clone());
        self.record_pass(&graph, phase)?;
        Ok(graph)
    }

    fn record_pass(&self, graph: &Graph, phase: Phase) -> Result<(), TrainError> {
        match phase {
            Phase::Update => self.record_update_apart(graph),
            Phase::Average => {
                self.record_average(graph, graph.group(self.params.group()));
                Ok(())
            }
            Phase::Whole | Phase::First | Phase::Middle | Phase::Last => self.record_gradients(graph, phase),
        }
    }

    /// Records the forward pass of a training pass by itself: loss, accuracy and what becomes of running statistics.
    pub(crate) fn trace_forward(&self) -> Result<Graph, TrainError> {
        let graph = graph(self.states.clone());
        self.record_forward(&graph);
        graph.finish()?;
        Ok(graph)
    }

    /// The forward pass of a training pass: its context, the loss, and the optimizer's numbers, which are an input of every pass.
    fn record_forward<'g>(&self, graph: &'g Graph) -> (Context<'_, 'g>, Var<'g>, Var<'g>) {
        let rows = self.rows();
        let batch = self.batch_inputs(graph, SplitName::Train, rows.len());
        let rng = graph.input("rng", TensorType::u32([3]));
        let hyper = graph.input("hyper", TensorType::f32([Optimizer::HYPER]));
        let cx = Context::new(graph, &self.params).training(rng).from_row(rows.start);
        let cx = cx.exchanging(self.exchange);
        let logits = self.module.forward(&cx, batch.features);
        let objective = Objective::of(graph, self.task, logits, batch.targets, true);
        let loss = match &self.config.class_weights {
            Some(weights) => weighted_mean(objective.loss, batch.targets, weights),
            None => objective.loss.mean_all(),
        };
        graph.output("loss", loss);
        if let Some(correct) = objective.correct {
            graph.output("accuracy", correct.mean_all());
        }
        (cx, loss, hyper)
    }

    /// Loss and gradients of a pass, and where the replica is alone, in the last one the update.
    fn record_gradients(&self, graph: &Graph, phase: Phase) -> Result<(), TrainError> {
        let (cx, loss, hyper) = self.record_forward(graph);
        let (params, offsets): (Vec<Var<'_>>, Vec<usize>) = cx.all_params().into_iter().unzip();
        let grads = self.gradients(self.share_of_loss(graph, loss), &params)?;
        let flat = || pack(graph, &grads, &offsets, self.states.get(self.params.group()).len());
        match (phase, self.gradients) {
            (Phase::First, Some(kept)) => graph.update_group(kept, flat()),
            (Phase::Middle, Some(kept)) => graph.update_group(kept, graph.group(kept) + flat()),
            // Each into its place as soon as it is computed, so that it can travel while the others are.
            (_, Some(kept)) if self.config.part.is_some() => {
                for (index, &gradient) in grads.iter().enumerate() {
                    let entry = EntryId { group: kept, index };
                    let sum = if phase == Phase::Last { graph.entry(entry) + gradient } else { gradient };
                    graph.update_entry(entry, sum);
                }
            }
            (_, Some(kept)) => self.record_update(graph, graph.group(kept) + flat(), hyper),
            (_, None) => self.record_update(graph, flat(), hyper),
        }
        Ok(())
    }

    /// What the gradients are taken of: the loss divided by the passes of a step, times the replica's share of the batch.
    fn share_of_loss<'g>(&self, graph: &'g Graph, loss: Var<'g>) -> Var<'g> {
        let passes = if self.config.accumulate > 1 { self.config.accumulate as f64 } else { 1.0 };
        let loss = if passes > 1.0 { loss * (1.0 / passes) } else { loss };
        match (self.config.part, &self.config.class_weights) {
            (None, _) => loss,
            (Some(part), None) => {
                loss * (part.rows(self.config.batch).len() as f64 / self.config.batch as f64)
            }
            // The share of the weights differs from batch to batch.
            (Some(_), Some(_)) => loss * graph.input("share", TensorType::f32([1])).reshape([]),
        }
    }

    fn gradients<'g>(&self, loss: Var<'g>, params: &[Var<'g>]) -> Result<Vec<Var<'g>>, GraphError> {
        if self.config.recompute { grad_recomputing(loss, params) } else { grad(loss, params) }
    }

    /// Records the norms of the gradients of a pass for each weight with more than one dimension, as outputs.
    pub(crate) fn trace_gradient_norms(&self) -> Result<Graph, TrainError> {
        let graph = graph(self.states.clone());
        let batch = self.batch_inputs(&graph, SplitName::Train, self.config.batch);
        let rng = graph.input("rng", TensorType::u32([3]));
        graph.input("hyper", TensorType::f32([Optimizer::HYPER]));
        let cx = Context::new(&graph, &self.params).training(rng);
        let outputs = self.module.forward(&cx, batch.features);
        let loss = Objective::of(&graph, self.task, outputs, batch.targets, true).loss.mean_all();
        let (params, names): (Vec<Var<'_>>, Vec<&str>) =
            cx.params_in_order().filter(|(var, _)| var.rank() > 1).unzip();
        for (gradient, name) in self.gradients(loss, &params)?.into_iter().zip(names) {
            graph.output(name, gradient.square().sum_all().sqrt());
        }
        graph.finish()?;
        Ok(graph)
    }

    pub(crate) fn record_update<'g>(&self, graph: &'g Graph, grads: Var<'g>, hyper: Var<'g>) {
        let mut grads = grads;
        if let Some(max) = self.config.clip_norm {
            let (clipped, norm) = graph.scope("optimizer", || Optimizer::clip(grads, max));
            graph.output("grad_norm", norm);
            grads = clipped;
        }
        let optimizer = &self.config.optimizer;
        let new =
            graph.scope("optimizer", || optimizer.update(graph, &self.optim, &self.params, grads, hyper));
        self.record_average(graph, new);
    }

    /// The moving average follows the parameters, where one is kept.
    fn record_average<'g>(&self, graph: &'g Graph, new: Var<'g>) {
        if let (Some(id), Some(decay)) = (self.average, self.config.ema) {
            graph.update_group(id, graph.group(id) * decay + new * (1.0 - decay));
        }
    }

    /// The update by gradients that all replicas have added up, of all parameters or of a share.
    fn record_update_apart(&self, graph: &Graph) -> Result<(), TrainError> {
        let hyper = graph.input("hyper", TensorType::f32([Optimizer::HYPER]));
        let Some(Shard { range, parameters, gradients, .. }) = &self.shard else {
            let kept = self.gradients.ok_or_else(|| TrainError::Config("there are no gradients".into()))?;
            self.record_update(graph, graph.group(kept), hyper);
            return Ok(());
        };
        let mut grads = graph.group(*gradients);
        if self.config.clip_norm.is_some() {
            // The norm is that of all shares.
            grads = grads * graph.input("scale", TensorType::f32([1]));
        }
        let segments = self.params.segments_of(range);
        let optimizer = &self.config.optimizer;
        graph.scope("optimizer", || {
            optimizer.update_flat(graph, &self.optim, *parameters, &segments, grads, hyper)
        });
        Ok(())
    }

    /// Reads the parameters that are evaluated: their moving average where one is kept.
    fn evaluation_context<'g>(&self, graph: &'g Graph) -> Context<'_, 'g> {
        let cx = Context::new(graph, &self.params);
        match self.average {
            Some(id) => cx.reading(id),
            None => cx,
        }
    }

    /// Records the evaluation of a batch: sums over its valid examples, which `weights` marks with 1, the others with 0.
    pub(crate) fn trace_evaluation(&self, name: SplitName) -> Result<Graph, TrainError> {
        let graph = graph(self.states.clone());
        let batch = self.batch_inputs(&graph, name, self.config.eval_batch);
        let weights = graph.input("weights", TensorType::f32([self.config.eval_batch]));
        let cx = self.evaluation_context(&graph);
        let outputs = self.module.forward(&cx, batch.features);
        let objective = Objective::of(&graph, self.task, outputs, batch.targets, false);
        graph.output("loss", (objective.loss * weights).sum_all());
        if let Some(correct) = objective.correct {
            graph.output("accuracy", (correct * weights).sum_all());
        }
        graph.finish()?;
        Ok(graph)
    }

    /// The model's outputs for a batch of features, uploaded: for prediction.
    ///
    /// # Errors
    /// Mistakes in the model.
    pub fn prediction(&self, batch: usize, limits: &Limits) -> Result<Program, TrainError> {
        let graph = graph(self.states.clone());
        let shape = self.splits.first().map_or(&[1][..], |(shape, _)| &shape.shape);
        let features: usize = shape.iter().product();
        let x =
            graph.input("features", TensorType::f32([batch, features])).reshape([&[batch], shape].concat());
        let cx = self.evaluation_context(&graph);
        let outputs = self.module.forward(&cx, x);
        graph.output(
            "outputs",
            match self.task {
                Task::Classification { .. } => outputs.softmax(1),
                Task::Regression { .. } => outputs,
            },
        );
        Ok(compile(&graph, Options::within(limits))?)
    }

    /// A batch of a part of the data: gathered by index where it lies on the device, else uploaded.
    fn batch_inputs<'g>(&self, graph: &'g Graph, name: SplitName, batch: usize) -> Batch<'g> {
        let (shape, resident) = match self.split(name) {
            Some((shape, resident)) => (&shape.shape[..], resident.as_ref()),
            None => (&[1][..], None),
        };
        let (features, targets) = match resident {
            Some(data) => {
                let indices = graph.input("indices", TensorType::u32([batch]));
                let features = graph.entry(data.features).gather(indices);
                (features, graph.entry(data.targets).gather(indices))
            }
            None => {
                let features: usize = shape.iter().product();
                let features = graph.input("features", TensorType::f32([batch, features]));
                (features, graph.input("targets", target_type(self.task, batch)))
            }
        };
        Batch { features: features.reshape([&[batch], shape].concat()), targets }
    }
}

/// Σ w·loss / Σ w with the weight w of each example's class.
fn weighted_mean<'g>(loss: Var<'g>, targets: Var<'g>, weights: &[f64]) -> Var<'g> {
    let graph = loss.graph();
    let of_class = |(class, &weight): (usize, &f64)| targets.eq(full_u32(graph, [], class as u32)) * weight;
    let weight = weights.iter().enumerate().map(of_class).reduce(|sum, of_class| sum + of_class);
    weight.map_or(loss.mean_all(), |weight| (loss * weight).sum_all() / weight.sum_all())
}
