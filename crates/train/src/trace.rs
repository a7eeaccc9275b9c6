//! Traces the graphs of a plan: passes of a training step, evaluation and prediction.

use wgrad_graph::{EntryId, Graph, GraphError, TensorType, Var, grad, grad_recomputing};
use wgrad_nn::{Context, Optimizer};
use wgrad_ops::{TensorOps, full_u32, graph, pack};
use wgrad_program::{Options, Program, compile};
use wgrad_stdx::{InternalError, never};

use crate::config::Task;
use crate::error::TrainError;
use crate::plan::{Phase, Plan, Resident, SplitName, SplitShape, target_type};
use crate::replicas::Shard;

/// Graph variables that hold the examples of a batch.
struct Batch<'g> {
    /// Features, `[batch, ...]` with the shape of an example.
    features: Var<'g>,
    /// Classes, u32 `[batch]`, or values, f32 `[batch, width]`.
    targets: Var<'g>,
}

/// Loss and correctness of each example.
struct Objective<'g> {
    /// Loss, `[batch]`.
    loss: Var<'g>,
    /// 1 for a correctly classified example, else 0, `[batch]`; `None` for regression.
    correct: Option<Var<'g>>,
}

impl<'g> Objective<'g> {
    /// Computes the objective. Labels are smoothed only if `training`; evaluation losses use unsmoothed labels.
    fn new(graph: &'g Graph, task: Task, outputs: Var<'g>, targets: Var<'g>, training: bool) -> Self {
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
    /// Traces a program of a step: loss and gradients of a pass, the optimizer, or the moving average.
    pub(crate) fn trace_pass(&self, phase: Phase) -> Result<Graph, TrainError> {
        let graph = graph(self.states.clone());
        self.record_pass(&graph, phase)?;
        Ok(graph)
    }

    fn record_pass(&self, graph: &Graph, phase: Phase) -> Result<(), TrainError> {
        match phase {
            Phase::Update => self.record_separate_update(graph),
            Phase::Average => {
                self.record_average(graph, graph.group(self.params.group()));
                Ok(())
            }
            Phase::Whole | Phase::First | Phase::Middle | Phase::Last => self.record_gradients(graph, phase),
        }
    }

    /// Traces the forward pass of a training pass alone: loss, accuracy and running statistics.
    pub(crate) fn trace_forward(&self) -> Result<Graph, TrainError> {
        let graph = graph(self.states.clone());
        self.record_forward(&graph)?;
        graph.finish()?;
        Ok(graph)
    }

    /// Records the forward pass of a training pass. Returns the context, the loss, and the hyperparameter input of the
    /// optimizer. Every pass has this input, even if the optimizer does not run.
    fn record_forward<'g>(
        &self,
        graph: &'g Graph,
    ) -> Result<(Context<'_, 'g>, Var<'g>, Var<'g>), TrainError> {
        let rows = self.rows();
        let batch = self.batch_inputs(graph, SplitName::Train, rows.len())?;
        let rng = graph.input("rng", TensorType::u32([3]));
        let hyper = graph.input("hyper", TensorType::f32([Optimizer::HYPER]));
        let cx = Context::new(graph, &self.params).training(rng).with_first_row(rows.start);
        let cx = cx.with_replica_sync(self.replica_sync);
        let logits = self.module.forward(&cx, batch.features);
        let objective = Objective::new(graph, self.task, logits, batch.targets, true);
        let loss = match &self.config.class_weights {
            Some(weights) => weighted_mean(objective.loss, batch.targets, weights)?,
            None => objective.loss.mean_all(),
        };
        graph.output("loss", loss);
        if let Some(correct) = objective.correct {
            graph.output("accuracy", correct.mean_all());
        }
        Ok((cx, loss, hyper))
    }

    /// Records loss and gradients of a pass. Without replicas, the last pass includes the update.
    fn record_gradients(&self, graph: &Graph, phase: Phase) -> Result<(), TrainError> {
        let (cx, loss, hyper) = self.record_forward(graph)?;
        let (params, offsets): (Vec<Var<'_>>, Vec<usize>) = cx.all_params().into_iter().unzip();
        let grads = self.gradients(self.scaled_loss(graph, loss), &params)?;
        let flat = || pack(graph, &grads, &offsets, self.states.get(self.params.group()).len());
        match (phase, self.gradients) {
            (Phase::First, Some(kept)) => graph.update_group(kept, flat()),
            (Phase::Middle, Some(kept)) => graph.update_group(kept, graph.group(kept) + flat()),
            // Each gradient is stored as soon as it is computed, so that it can be sent while the other gradients are
            // computed.
            (_, Some(kept)) if self.config.replica.is_some() => {
                for (index, &gradient) in grads.iter().enumerate() {
                    let entry = EntryId { group: kept, index };
                    let sum = if phase == Phase::Last { graph.entry(entry) + gradient } else { gradient };
                    graph.update_entry(entry, sum);
                }
            }
            (_, Some(kept)) => self.record_update(graph, graph.group(kept) + flat(), hyper),
            (Phase::First | Phase::Middle, None) => {
                return Err(never!("a plan with several passes has no gradient group").into());
            }
            (_, None) => self.record_update(graph, flat(), hyper),
        }
        Ok(())
    }

    /// Scales the loss so that the sum of gradients over passes and replicas is the gradient of the step. Divides by
    /// the number of passes, and multiplies by this replica's fraction of the global batch.
    fn scaled_loss<'g>(&self, graph: &'g Graph, loss: Var<'g>) -> Var<'g> {
        let passes = self.config.passes() as f64;
        let loss = if passes > 1.0 { loss * (1.0 / passes) } else { loss };
        match self.config.replica {
            None => loss,
            // With class weights, the fraction depends on the batch.
            Some(_) if self.config.has_loss_weight_input() => {
                loss * graph.input("loss_weight", TensorType::f32([1])).reshape([])
            }
            Some(replica) => loss * (replica.rows(self.config.batch).len() as f64 / self.config.batch as f64),
        }
    }

    fn gradients<'g>(&self, loss: Var<'g>, params: &[Var<'g>]) -> Result<Vec<Var<'g>>, GraphError> {
        if self.config.recompute { grad_recomputing(loss, params) } else { grad(loss, params) }
    }

    /// Traces a graph whose outputs are the gradient norms of all weights with more than one dimension, by name.
    pub(crate) fn trace_gradient_norms(&self) -> Result<Graph, TrainError> {
        let graph = graph(self.states.clone());
        let batch = self.batch_inputs(&graph, SplitName::Train, self.config.batch)?;
        let rng = graph.input("rng", TensorType::u32([3]));
        graph.input("hyper", TensorType::f32([Optimizer::HYPER]));
        let cx = Context::new(&graph, &self.params).training(rng);
        let outputs = self.module.forward(&cx, batch.features);
        let loss = Objective::new(&graph, self.task, outputs, batch.targets, true).loss.mean_all();
        let (params, names): (Vec<Var<'_>>, Vec<&str>) =
            cx.named_params().filter(|(var, _)| var.rank() > 1).unzip();
        for (gradient, name) in self.gradients(loss, &params)?.into_iter().zip(names) {
            graph.output(name, gradient.square().sum_all().sqrt());
        }
        graph.finish()?;
        Ok(graph)
    }

    /// Records clipping, the optimizer and the moving average.
    pub(crate) fn record_update<'g>(&self, graph: &'g Graph, grads: Var<'g>, hyper: Var<'g>) {
        let mut grads = grads;
        if let Some(max) = self.config.optimizer.clip_norm() {
            let (clipped, norm) = graph.scope("optimizer", || Optimizer::clip(grads, max));
            graph.output("grad_norm", norm);
            grads = clipped;
        }
        let optimizer = &self.config.optimizer;
        let new =
            graph.scope("optimizer", || optimizer.update(graph, &self.optim, &self.params, grads, hyper));
        self.record_average(graph, new);
    }

    /// Records the moving average of the parameters, if the plan keeps one.
    fn record_average<'g>(&self, graph: &'g Graph, new: Var<'g>) {
        if let (Some(id), Some(decay)) = (self.average, self.config.ema) {
            graph.update_group(id, graph.group(id) * decay + new * (1.0 - decay));
        }
    }

    /// Records the update of all parameters, or of a shard, with gradients that are summed over all replicas.
    fn record_separate_update(&self, graph: &Graph) -> Result<(), TrainError> {
        let hyper = graph.input("hyper", TensorType::f32([Optimizer::HYPER]));
        let Some(Shard { range, parameters, gradients, .. }) = &self.shard else {
            let kept = self.gradients.ok_or_else(|| never!("the plan for replicas has no gradient group"))?;
            self.record_update(graph, graph.group(kept), hyper);
            return Ok(());
        };
        let mut grads = graph.group(*gradients);
        if self.config.optimizer.clip_norm().is_some() {
            // The norm covers all shards, so the host computes it.
            grads = grads * graph.input("scale", TensorType::f32([1]));
        }
        let segments = self.params.param_groups_in(range);
        let optimizer = &self.config.optimizer;
        graph.scope("optimizer", || {
            optimizer.update_flat(graph, &self.optim, *parameters, &segments, grads, hyper)
        });
        Ok(())
    }

    /// Creates a context for evaluation: with the moving average of the parameters if the plan keeps one, otherwise
    /// with the parameters.
    fn evaluation_context<'g>(&self, graph: &'g Graph) -> Context<'_, 'g> {
        let cx = Context::new(graph, &self.params);
        match self.average {
            Some(id) => cx.with_params_from(id),
            None => cx,
        }
    }

    /// Traces the evaluation of a batch. The outputs are sums over the examples, with weight 1 for valid examples and 0
    /// for padding.
    pub(crate) fn trace_evaluation(&self, name: SplitName) -> Result<Graph, TrainError> {
        let graph = graph(self.states.clone());
        let batch = self.batch_inputs(&graph, name, self.config.eval_batch)?;
        let weights = graph.input("weights", TensorType::f32([self.config.eval_batch]));
        let cx = self.evaluation_context(&graph);
        let outputs = self.module.forward(&cx, batch.features);
        let objective = Objective::new(&graph, self.task, outputs, batch.targets, false);
        graph.output("loss", (objective.loss * weights).sum_all());
        if let Some(correct) = objective.correct {
            graph.output("accuracy", (correct * weights).sum_all());
        }
        graph.finish()?;
        Ok(graph)
    }

    /// Compiles the program that computes the model's outputs for uploaded features, f32 `[batch, features]`.
    ///
    /// # Errors
    /// Returns an error if the graph of the model is invalid or cannot be compiled.
    pub fn prediction(&self, batch: usize) -> Result<Program, TrainError> {
        let graph = graph(self.states.clone());
        let (shape, _) = self.planned_split(SplitName::Train)?;
        let x = graph.input("features", TensorType::f32([batch, shape.features()]));
        let x = x.reshape([&[batch], &shape.shape[..]].concat());
        let cx = self.evaluation_context(&graph);
        let outputs = self.module.forward(&cx, x);
        graph.output(
            "outputs",
            match self.task {
                Task::Classification { .. } => outputs.softmax(1),
                Task::Regression { .. } => outputs,
            },
        );
        Ok(compile(&graph, Options::within(&self.limits))?)
    }

    /// Records the inputs of a batch: examples are gathered by index if the split is resident, and uploaded otherwise.
    fn batch_inputs<'g>(
        &self,
        graph: &'g Graph,
        name: SplitName,
        batch: usize,
    ) -> Result<Batch<'g>, InternalError> {
        let (shape, resident) = self.planned_split(name)?;
        let (features, targets) = match resident {
            Some(data) => {
                let indices = graph.input("indices", TensorType::u32([batch]));
                let features = graph.entry(data.features).gather(indices);
                (features, graph.entry(data.targets).gather(indices))
            }
            None => {
                let features = graph.input("features", TensorType::f32([batch, shape.features()]));
                (features, graph.input("targets", target_type(self.task, batch)))
            }
        };
        let features = features.reshape([&[batch], &shape.shape[..]].concat());
        Ok(Batch { features, targets })
    }

    fn planned_split(&self, name: SplitName) -> Result<&(SplitShape, Option<Resident>), InternalError> {
        self.split(name).ok_or_else(|| never!("the plan has no {} data to trace", name.as_str()))
    }
}

/// Returns Σ w·loss / Σ w over the examples, where w is the weight of an example's class.
fn weighted_mean<'g>(loss: Var<'g>, targets: Var<'g>, weights: &[f64]) -> Result<Var<'g>, InternalError> {
    let graph = loss.graph();
    let of_class = |(class, &weight): (usize, &f64)| targets.eq(full_u32(graph, [], class as u32)) * weight;
    let weight = weights.iter().enumerate().map(of_class).reduce(|sum, of_class| sum + of_class);
    let weight = weight.ok_or_else(|| never!("the classification has no classes"))?;
    Ok((loss * weight).sum_all() / weight.sum_all())
}
