//! The words of a study's page and the order of its parts.

use super::{DepthStudy, charts};
use std::fmt::{self, Write};
use wgrad_report::page::{self, Escaped, count, duration};

const SEEN: &str = "He, Zhang, Ren and Sun (Deep Residual Learning for Image Recognition, 2016) trained plain \
    convolutional networks on CIFAR-10 and found that the one of 56 layers has a higher error than the one of 20, on the \
    examples it learns from too (figure 1). So it is not that it fits them too well: it is harder to train. Where every \
    block adds what it computes to what it read, the error falls with depth instead (figure 6).";

const GRADIENTS: &str = "The norm of the loss's gradient by each layer's weight, on the first batch. He et al. (section \
    4.1) argue that vanishing gradients are not what ails their plain networks, since batch normalisation keeps signals \
    from dying out. This is where to look whether that holds here.";

const SIGMOID: &str = "The older reason why deep networks did not train: the derivative of a sigmoid is at most 1/4, so a \
    gradient shrinks at every layer on its way back to the input (Hochreiter, 1991; Bengio, Simard and Frasconi, 1994; \
    Glorot and Bengio, 2010). The layers near the input then hardly move.";

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
    what(page, study)?;
    if !study.runs.is_empty() {
        page::section(page, "Loss and error against depth", SEEN)?;
        page::charts(page, |page| charts::by_depth(page, study))?;
        let note =
            "The charts of a row have the same scale. The training loss is the mean since the point before.";
        page::section(page, "While training", note)?;
        page::charts(page, |page| charts::curves(page, study))?;
        page::section(page, "Gradients by layer", GRADIENTS)?;
        page::charts(page, |page| charts::gradients(page, study))?;
    }
    if !study.sigmoid.is_empty() {
        page::section(page, "Sigmoids in deep perceptrons", SIGMOID)?;
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

fn what(page: &mut String, study: &DepthStudy) -> fmt::Result {
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
                "{} to learn from, {} to test",
                count(budget.train_examples),
                count(budget.test_examples)
            ),
        ),
        ("each run", format!("{} steps of {} examples", count(budget.steps), count(budget.batch))),
        ("optimizer", budget.optimizer.clone()),
        ("learning rate", format!("{}, {}", budget.lr, budget.schedule)),
        ("seeds", seeds.join(", ")),
        ("device", study.device.clone()),
        ("time", duration(study.seconds)),
    ];
    page::section(page, "What was trained", "")?;
    page.push_str("<table class=\"facts\">\n<tbody>\n");
    for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        writeln!(page, "<tr><th>{name}</th><td>{}</td></tr>", Escaped(value))?;
    }
    page.push_str("</tbody>\n</table>\n");
    write!(
        page,
        "<p class=\"note\">Lines are medians over the seeds, the area around a line reaches from the lowest to the \
         highest; a cross marks a depth at which a run diverged. To repeat it:</p>\n<pre>{}</pre>\n",
        Escaped(&study.command)
    )
}
