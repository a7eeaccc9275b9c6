//! Tests of the history of training compute.

mod builtin;
mod pages;
mod reading;
mod trends;

use super::*;
use crate::scaling::SEED;

/// Returns a table of systems with the given dates and training compute.
fn table(rows: &[(&str, &str)]) -> Table {
    let mut text = String::from("Model,Publication date,Parameters,Training compute (FLOP)\n");
    for (index, (date, flops)) in rows.iter().enumerate() {
        text += &format!("m{index},{date},,{flops}\n");
    }
    parse(text.as_bytes(), "rows").unwrap()
}

/// Fits a trend to the training compute of the selected systems of all years.
fn trend(rows: &[(&str, &str)], selection: Selection) -> Result<Trend, TrendError> {
    let era = Era { name: "always".into(), from: None, until: None };
    let spec = TrendSpec { quantity: Quantity::Compute, era, selection };
    Trend::fit(&table(rows).systems, spec, MIN_RESAMPLES, 1)
}
