//! Page of the depth study: the order of its sections and their texts.

use super::{DepthStudy, charts};
use std::fmt::{self, Write};
use wgrad_report::page::{self, Escaped};
use wgrad_stdx::format::{elapsed, thousands};

const DEPTH: &str = "He, Zhang, Ren and Sun (Deep Residual Learning for Image Recognition, 2016) trained plain \
    convolutional networks on CIFAR-10. The network with 56 layers has a higher error than the network with 20 \
    layers, even on the training examples (figure 1). So the cause is not overfitting: the deeper network is harder \
    to train. If every block adds its output to its input, the error falls with depth instead (figure 6).";

const GRADIENTS: &str = "Norm of the gradient of the loss with respect to the weight of each layer, on the first \
    batch. He et al. (section 4.1) argue that vanishing gradients are not the problem of their plain networks, because \
    batch normalisation keeps the signals from vanishing. These charts show whether that holds here.";

const SIGMOID: &str = "An earlier reason why deep networks did not train: the derivative of a sigmoid is at most 1/4, so \
    the gradient shrinks at every layer from the output to the input (Hochreiter, 1991; Bengio, Simard and Frasconi, \
    1994; Glorot and Bengio, 2010). The weights of the layers near the input then hardly change.";

pub(super) fn write(page: &mut String, study: &DepthStudy) -> fmt::Result {
    let subtitle = format!("{} · {} · {}", study.dataset, study.device, study.date);
    page::begin(page, &study.title, &subtitle)?;
    if study.runs.is_empty() && study.sigmoid.is_empty() {
        page.push_str("<p>Nothing has been trained yet.</p>\n");
    }
    if !study.runs.is_empty() {
        let conclusion = study.conclusion();
        page::summary(page, conclusion.headline(), &conclusion.sentences(study))?;
    }
    setup(page, study)?;
    if !study.runs.is_empty() {
        page::section(page, "Loss and error against depth", DEPTH)?;
        page::charts(page, |page| charts::by_depth(page, study))?;
        let note = "Charts in the same row have the same scale. The training loss is the mean since the previous point.";
        page::section(page, "Training curves", note)?;
        page::charts(page, |page| charts::curves(page, study))?;
        page::section(page, "Gradients by layer", GRADIENTS)?;
        page::charts(page, |page| charts::gradients(page, study))?;
    }
    if !study.sigmoid.is_empty() {
        page::section(page, "Deep perceptrons with sigmoid units", SIGMOID)?;
        let conclusion = study.sigmoid_conclusion();
        page::summary(page, conclusion.headline(), &conclusion.sentences())?;
        page::charts(page, |page| charts::sigmoid(page, study))?;
    }
    if !study.runs.is_empty() || !study.sigmoid.is_empty() {
        page::section(page, "All runs", "")?;
        charts::runs(page, study)?;
    }
    page::end(page);
    Ok(())
}

fn setup(page: &mut String, study: &DepthStudy) -> fmt::Result {
    let budget = &study.budget;
    let seeds: Vec<String> = study.seeds.iter().map(u64::to_string).collect();
    let depths: Vec<String> = study.depths().iter().map(u32::to_string).collect();
    let rows = [
        ("networks", budget.networks.clone()),
        ("layers", depths.join(", ")),
        ("perceptrons", budget.perceptrons.clone()),
        ("data", format!("{}, {} classes", study.dataset, study.classes)),
        (
            "examples",
            format!(
                "{} for training, {} for testing",
                thousands(budget.train_examples),
                thousands(budget.test_examples)
            ),
        ),
        ("each run", format!("{} steps of {} examples", thousands(budget.steps), thousands(budget.batch))),
        ("optimizer", budget.optimizer.clone()),
        ("learning rate", format!("{}, {}", budget.lr, budget.schedule)),
        ("seeds", seeds.join(", ")),
        ("device", study.device.clone()),
        ("time", elapsed(study.seconds)),
    ];
    page::section(page, "Setup", "")?;
    page.push_str("<table class=\"facts\">\n<tbody>\n");
    for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        writeln!(page, "<tr><th>{name}</th><td>{}</td></tr>", Escaped(value))?;
    }
    page.push_str("</tbody>\n</table>\n");
    write!(
        page,
        "<p class=\"note\">Lines are medians over the seeds. The band around a line extends from the lowest to the \
         highest seed. A cross marks a depth at which a run diverged. To repeat the study:</p>\n<pre>{}</pre>\n",
        Escaped(&study.command)
    )
}
