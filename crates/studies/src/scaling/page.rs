//! The order of a report's parts, and how it was made.

use super::{Role, Scale, hardware, history, laws};
use std::fmt::{self, Write};
use wgrad_report::page::{self, Escaped, count};

pub(super) fn write(page: &mut String, scale: &Scale) -> fmt::Result {
    let devices: Vec<&str> = scale.here.devices.iter().map(|rate| rate.device.as_str()).collect();
    let subtitle = if devices.is_empty() {
        scale.date.clone()
    } else {
        format!("{} · {}", devices.join(" · "), scale.date)
    };
    page::begin(page, "The scaling of compute", &subtitle)?;
    if scale.interrupted {
        page.push_str(
            "<p class=\"note\">Interrupted: not all that was asked for is here. The same command goes on.</p>\n",
        );
    }
    if let Some(history) = &scale.history {
        history::page::write(page, history, &scale.here)?;
    }
    if let Some(laws) = &scale.laws {
        page::section(page, "Laws measured here", "")?;
        laws::page::write(page, laws, &scale.trials)?;
    }
    if let Some(hardware) = &scale.hardware {
        hardware::write(page, hardware)?;
    }
    made(page, scale)?;
    page::end(page);
    Ok(())
}

fn made(page: &mut String, scale: &Scale) -> fmt::Result {
    page::section(page, "How it was made", "")?;
    let mut rows: Vec<(&str, String)> = vec![
        ("wgrad", scale.version.clone()),
        ("time", page::duration(scale.seconds)),
        ("intervals", format!("{} resamples, seed {}", count(super::RESAMPLES as u64), super::SEED)),
    ];
    if let Some(sweep) = &scale.sweep {
        let training = &sweep.training;
        let of = |role: Role| scale.trials.iter().filter(|trial| trial.role == role).count();
        rows.push((
            "trainings",
            format!(
                "{} for learning rates, {} for laws, {} larger ones, {} for data against architecture",
                of(Role::Rate),
                of(Role::Fit),
                of(Role::HeldOut),
                of(Role::Versus)
            ),
        ));
        let flops: f64 = scale.trials.iter().map(|trial| trial.flops.training()).sum();
        rows.push(("compute of all trainings", format!("{flops:.2e} FLOP")));
        let rates: Vec<String> = training.rates.iter().map(f64::to_string).collect();
        rows.push((
            "learning rate",
            format!(
                "for each network the one of {} with the lowest validation loss after {} steps on {} examples; constant after {} \
                 steps of warm-up. {}",
                rates.join(", "),
                count(training.rate_steps),
                count(training.rate_examples),
                count(training.warmup),
                at_the_ends(scale, &training.rates)
            ),
        ));
        rows.push((
            "optimizer",
            format!(
                "AdamW without weight decay, {} examples a step; evaluated is the moving average of the parameters with decay {}",
                training.batch, training.ema
            ),
        ));
        rows.push((
            "early stopping",
            format!(
                "by {} examples that are not trained on, after {} evaluations without a lower loss; the test loss is taken on {} others",
                count(training.validation),
                training.patience,
                count(training.test)
            ),
        ));
        let seeds: std::collections::BTreeSet<u64> = scale.trials.iter().map(|trial| trial.seed).collect();
        let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
        rows.push(("seeds", seeds.join(", ")));
    }
    if let Some(date) = &scale.kept {
        rows.push(("parts not asked for", format!("those of the report of {date} in this folder")));
    }
    if !scale.missing.is_empty() {
        rows.push(("data that is not here", scale.missing.join(", ")));
    }
    rows.extend(scale.unpredicted.iter().map(|why| ("not predicted", why.clone())));
    page.push_str("<table class=\"facts\">\n<tbody>\n");
    for (name, value) in rows {
        writeln!(page, "<tr><th>{name}</th><td>{}</td></tr>", Escaped(&value))?;
    }
    page.push_str("</tbody>\n</table>\n");
    write!(
        page,
        "<p class=\"note\">Every figure is in scale.json; trends and laws name the systems and trainings that they are of by their id, \
         and trials.csv has a row for each training. To repeat it:</p>\n<pre>{}</pre>\n",
        Escaped(&scale.command)
    )
}

/// How many networks took the lowest or the highest rate that was tried: a better one may lie beyond.
fn at_the_ends(scale: &Scale, rates: &[f64]) -> String {
    let trained = scale.trials.iter().filter(|trial| trial.role != Role::Rate);
    let networks: std::collections::BTreeMap<(&str, &str), f64> =
        trained.map(|trial| ((trial.dataset.as_str(), trial.network.as_str()), trial.lr)).collect();
    let took = |rate: Option<&f64>| networks.values().filter(|lr| Some(*lr) == rate).count();
    format!(
        "Of {} networks {} took the lowest and {} the highest of them, beyond which there may be better ones.",
        networks.len(),
        took(rates.first()),
        took(rates.last())
    )
}
