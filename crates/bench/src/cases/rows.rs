//! Cases for softmax cross-entropy and normalizations, each with its gradients.

use crate::results::Group;
use wgrad_graph::{GraphError, grad, grad_with};
use wgrad_ops::{ImageOps, TensorOps};

use crate::cases::Case;
use crate::workload::{Recorder, Workload};

pub(super) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (rows, classes) in [(256, 1000), (1024, 1000), (64, 32_000)] {
        let build = move || cross_entropy(rows, classes);
        let case = Case::new(Group::Rows, format!("softmax-ce-{rows}x{classes}"), build);
        all.push(case.quick_if(rows == 256));
    }
    for (rows, width) in [(512, 768), (8192, 768)] {
        let build = move || layer_norm(rows, width);
        all.push(Case::new(Group::Rows, format!("layer-norm-{rows}x{width}"), build).quick_if(rows == 512));
    }
    for (channels, side) in [(16, 32), (64, 8), (256, 56)] {
        let build = move || batch_norm(if side == 56 { 8 } else { 64 }, channels, side);
        let case = Case::new(Group::Rows, format!("batch-norm-{channels}x{side}x{side}"), build);
        all.push(case.quick_if(channels == 64));
    }
    all
}

/// Mean cross-entropy of logits `[rows, classes]`, and its gradient with respect to the logits.
fn cross_entropy(rows: usize, classes: usize) -> Result<Workload, GraphError> {
    let mut recorder = Recorder::new();
    let (x, y) = (recorder.floats("logits", [rows, classes]), recorder.classes("labels", rows, classes));
    recorder.record(|graph| {
        let x = graph.entry(x);
        let loss = x.cross_entropy(graph.entry(y)).mean_all();
        graph.output("loss", loss);
        graph.output("gradient", grad(loss, &[x])?[0]);
        Ok(())
    })
}

/// Layer normalization of `[rows, width]` over the width. Also computes the input gradient for a random cotangent.
fn layer_norm(rows: usize, width: usize) -> Result<Workload, GraphError> {
    let mut recorder = Recorder::new();
    let (x, ct) = (recorder.floats("x", [rows, width]), recorder.floats("cotangent", [rows, width]));
    recorder.record(|graph| {
        let x = graph.entry(x);
        let y = x.layer_norm(1e-5);
        graph.output("normal", y);
        graph.output("gradient", grad_with(y, graph.entry(ct), &[x])?[0]);
        Ok(())
    })
}

/// Batch normalization of images in channels-last layout. Also computes the gradients of input, gamma and beta for a
/// random cotangent.
fn batch_norm(images: usize, channels: usize, side: usize) -> Result<Workload, GraphError> {
    let mut recorder = Recorder::new();
    let shape = [images, side, side, channels];
    let (x, ct) = (recorder.floats("x", shape), recorder.floats("cotangent", shape));
    let (gamma, beta) = (recorder.floats("gamma", [channels]), recorder.floats("beta", [channels]));
    recorder.record(|graph| {
        let channels_first = [0, 3, 1, 2];
        let (x, ct) = (graph.entry(x).permute(&channels_first), graph.entry(ct).permute(&channels_first));
        let (gamma, beta) = (graph.entry(gamma), graph.entry(beta));
        let y = x.batch_norm(gamma, beta, 1e-5).out;
        let channels_last = [0, 2, 3, 1];
        graph.output("normal", y.permute(&channels_last));
        let grads = grad_with(y, ct, &[x, gamma, beta])?;
        graph.output("gradient", grads[0].permute(&channels_last));
        graph.output("gamma's gradient", grads[1]);
        graph.output("beta's gradient", grads[2]);
        Ok(())
    })
}
