//! Page of the scaling study: the order of its sections, and the table of its settings.

use super::sweep::Training;
use super::{Role, ScalingStudy, hardware, history, laws};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use wgrad_report::page::{self, Escaped};
use wgrad_stdx::format::{elapsed, thousands};

pub(super) fn write(page: &mut String, scale: &ScalingStudy) -> fmt::Result {
    let devices: Vec<&str> = scale.machine.devices.iter().map(|rate| rate.device.as_str()).collect();
    let subtitle = if devices.is_empty() {
        scale.date.clone()
    } else {
        format!("{} · {}", devices.join(" · "), scale.date)
    };
    page::begin(page, "Scaling of training compute", &subtitle)?;
    if scale.interrupted {
        page.push_str(
            "<p class=\"note\">Interrupted: parts of the study are missing. The same command resumes it.</p>\n",
        );
    }
    if let Some(history) = &scale.history {
        history::page::write(page, history, &scale.machine)?;
    }
    if let Some(laws) = &scale.laws {
        page::section(page, "Scaling laws of the training runs on this machine", "")?;
        laws::page::write(page, laws, &scale.trials)?;
    }
    if let Some(hardware) = &scale.hardware {
        hardware::write(page, hardware)?;
    }
    write_settings(page, scale)?;
    page::end(page);
    Ok(())
}

fn write_settings(page: &mut String, scale: &ScalingStudy) -> fmt::Result {
    page::section(page, "Settings", "")?;
    let mut rows: Vec<(&str, String)> = vec![
        ("wgrad", scale.version.clone()),
        ("time", elapsed(scale.seconds)),
        ("intervals", format!("{} resamples, seed {}", thousands(super::RESAMPLES as u64), super::SEED)),
    ];
    if let Some(sweep) = &scale.sweep {
        rows.extend(sweep_rows(scale, &sweep.training));
    }
    if let Some(date) = &scale.carried_over_from {
        rows.push(("parts not requested", format!("carried over from the report of {date} in this folder")));
    }
    if !scale.missing.is_empty() {
        rows.push(("missing data sets", scale.missing.join(", ")));
    }
    rows.extend(scale.unpredicted.iter().map(|why| ("not predicted", why.clone())));
    page.push_str("<table class=\"facts\">\n<tbody>\n");
    for (name, value) in rows {
        writeln!(page, "<tr><th>{name}</th><td>{}</td></tr>", Escaped(&value))?;
    }
    page.push_str("</tbody>\n</table>\n");
    write!(
        page,
        "<p class=\"note\">All numbers are in scale.json. Trends refer to systems by id, and laws refer to training \
         runs by id. trials.csv has one row per training run. To repeat the study:</p>\n<pre>{}</pre>\n",
        Escaped(&scale.command)
    )
}

/// Returns the rows of the settings table about the sweep.
fn sweep_rows(scale: &ScalingStudy, training: &Training) -> [(&'static str, String); 6] {
    let count = |role: Role| scale.trials.iter().filter(|trial| trial.role == role).count();
    let trainings = format!(
        "{} for learning rates, {} for laws, {} held out, {} for data against architecture",
        count(Role::Rate),
        count(Role::Fit),
        count(Role::HeldOut),
        count(Role::Comparison)
    );
    let flops: f64 = scale.trials.iter().map(|trial| trial.flops.training()).sum();
    let rates: Vec<String> = training.rates.iter().map(f64::to_string).collect();
    let learning_rate = format!(
        "for each network, the rate of {} with the lowest validation loss after {} steps on {} examples; constant after {} steps \
         of warm-up. {}",
        rates.join(", "),
        thousands(training.rate_steps),
        thousands(training.rate_examples),
        thousands(training.warmup),
        rates_at_the_ends(scale, &training.rates)
    );
    let optimizer = format!(
        "AdamW without weight decay, {} examples per step; the moving average of the parameters, with decay {}, is evaluated",
        training.batch, training.ema
    );
    let early_stopping = format!(
        "after {} evaluations without a lower loss on {} validation examples; the test loss is measured on {} other examples",
        training.patience,
        thousands(training.validation),
        thousands(training.test)
    );
    let seeds: BTreeSet<u64> = scale.trials.iter().map(|trial| trial.seed).collect();
    let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
    [
        ("trainings", trainings),
        ("compute of all trainings", format!("{flops:.2e} FLOP")),
        ("learning rate", learning_rate),
        ("optimizer", optimizer),
        ("early stopping", early_stopping),
        ("seeds", seeds.join(", ")),
    ]
}

/// Returns a sentence with the number of networks that use the lowest learning rate of the list, and the number of
/// those that use the highest. For these networks, a better rate may lie outside the list.
fn rates_at_the_ends(scale: &ScalingStudy, rates: &[f64]) -> String {
    let trained = scale.trials.iter().filter(|trial| trial.role != Role::Rate);
    let networks: BTreeMap<(&str, &str), f64> =
        trained.map(|trial| ((trial.dataset.as_str(), trial.network.as_str()), trial.lr)).collect();
    let count = |rate: Option<&f64>| networks.values().filter(|lr| Some(*lr) == rate).count();
    format!(
        "Of {} networks, {} use the lowest and {} the highest of these rates; better rates may lie outside the list.",
        networks.len(),
        count(rates.first()),
        count(rates.last())
    )
}
