//! Tests of the history.

mod own;
mod pages;
mod reading;
mod trends;

use super::*;
use crate::scaling::SEED;

/// A table of systems with these dates and training compute.
fn table(rows: &[(&str, &str)]) -> Table {
    let mut text = String::from("Model,Publication date,Parameters,Training compute (FLOP)\n");
    for (index, (date, flops)) in rows.iter().enumerate() {
        text += &format!("m{index},{date},,{flops}\n");
    }
    parse(text.as_bytes(), "rows").unwrap()
}

/// The trend of a table's compute over all time.
fn trend(rows: &[(&str, &str)], selection: Selection) -> Result<Trend, TrendError> {
    let era = Era { name: "always".into(), from: None, until: None };
    let asked = Asked { quantity: Quantity::Compute, era, selection };
    Trend::of(&table(rows).systems, asked, RESAMPLES, 1)
}
