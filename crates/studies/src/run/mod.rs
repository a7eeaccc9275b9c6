//! Report of one run: `report.html`, a single file without scripts that follows the light or dark mode of the system.

mod scores;

use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::path::PathBuf;
use toml::Value;
use wgrad_report::OutputError;
use wgrad_report::chart::{self, Chart, Color, Dimension, Series};
use wgrad_report::output;
use wgrad_report::page::{self, Escaped};
use wgrad_run::metrics::Row;
use wgrad_run::score::Scores;
use wgrad_run::{Run, RunDirError};
use wgrad_stdx::ErrorKind;

/// Reason why the report of a run cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The run directory cannot be read.
    #[error(transparent)]
    Run(#[from] RunDirError),
    /// The run's recipe is not valid TOML.
    #[error("{} is not valid TOML: {source}", path.display())]
    Recipe {
        /// Path of the recipe.
        path: PathBuf,
        /// Syntax error with its line and column.
        source: toml::de::Error,
    },
    /// The page cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl ReportError {
    /// Returns the kind of the error, from which the command line derives its exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Run(_) | Self::Recipe { .. } => ErrorKind::Storage,
            Self::Output(error) => error.kind(),
        }
    }
}

/// Writes `report.html` of a run from its recipe, its metrics and, if present, its scores. Returns the path of the
/// page.
///
/// # Errors
/// Returns an error if a file of the run cannot be read, its recipe is not valid TOML, or the page cannot be written.
pub fn write_report(run: &Run) -> Result<PathBuf, ReportError> {
    let path = run.recipe_path();
    let recipe = run.recipe_text()?.parse().map_err(|source| ReportError::Recipe { path, source })?;
    let page = html(&recipe, &run.rows()?, run.scores()?.as_ref());
    Ok(output::text(&page, run.path(), "report.html")?)
}

/// Returns the page of a run: last and best metrics, a chart per metric, the scores if any, and the recipe.
pub fn html(recipe: &toml::Table, rows: &[Row], scores: Option<&Scores>) -> String {
    let mut page = String::new();
    // Writing to a string cannot fail.
    let _ = write_page(&mut page, recipe, rows, scores);
    page
}

fn write_page(page: &mut String, recipe: &toml::Table, rows: &[Row], scores: Option<&Scores>) -> fmt::Result {
    let text = |key| recipe.get(key).and_then(Value::as_str).unwrap_or_default();
    page::begin(page, text("name"), text("description"))?;
    if rows.is_empty() {
        page.push_str("<p>No metrics have been recorded yet.</p>\n");
    } else {
        write_figures(page, rows)?;
        page.push_str("<section class=\"charts\">\n");
        for metric in metrics(rows) {
            let chart = Chart {
                title: &format!("{metric} against steps"),
                x: Dimension { label: "step", whole: true, ..Dimension::default() },
                y: Dimension::default(),
                height: chart::HEIGHT,
                series: series(rows, &metric),
            };
            page::figure(page, &metric, &chart, |_| Ok(()))?;
        }
        page.push_str("</section>\n");
    }
    if let Some(scores) = scores {
        scores::write(page, scores)?;
    }
    write_recipe(page, recipe)?;
    page::end(page);
    Ok(())
}

/// Returns the metrics that have a chart: loss and accuracy first, then the others by name, then the learning rate.
fn metrics(rows: &[Row]) -> Vec<String> {
    let recorded: BTreeSet<&str> =
        rows.iter().flat_map(|row| row.metrics.keys().map(String::as_str)).collect();
    let accuracy = recorded.get("accuracy").copied();
    // FLOPs have no chart, because they grow by the same amount with every step.
    let others = recorded.iter().copied().filter(|name| !["accuracy", "flops"].contains(name));
    ["loss"].into_iter().chain(accuracy).chain(others).chain(["lr"]).map(str::to_owned).collect()
}

/// Returns the names of the splits, `train` and `test` first.
fn splits(rows: &[Row]) -> Vec<&str> {
    let mut splits: Vec<&str> = rows.iter().map(|row| row.split.as_str()).collect();
    splits.sort_by_key(|split| (*split != "train", *split != "test", *split));
    splits.dedup();
    splits
}

fn series<'a>(rows: &'a [Row], metric: &str) -> Vec<Series<'a>> {
    let series_of = |split: &'a str| {
        let rows = rows.iter().filter(|row| row.split == split);
        let points = rows.filter_map(|row| Some((row.step as f64, value(row, metric)?)));
        Series { name: split.into(), points: points.collect(), ..Series::default() }
    };
    // The learning rate is the same for all splits.
    let count = if metric == "lr" { 1 } else { usize::MAX };
    let series =
        splits(rows).into_iter().take(count).map(series_of).filter(|series| !series.points.is_empty());
    series.enumerate().map(|(index, series)| Series { color: Color::Category(index), ..series }).collect()
}

fn value(row: &Row, metric: &str) -> Option<f64> {
    match metric {
        "loss" => Some(row.loss),
        "lr" => Some(row.lr),
        name => row.metrics.get(name).copied(),
    }
}

/// Writes the table of the last row of each split and, except for `train`, the row with the lowest loss.
fn write_figures(page: &mut String, rows: &[Row]) -> fmt::Result {
    let columns: Vec<String> = metrics(rows).into_iter().filter(|metric| metric != "lr").collect();
    page.push_str("<table class=\"figures\">\n<thead><tr><th></th><th>step</th><th>epoch</th>");
    for column in &columns {
        write!(page, "<th>{}</th>", Escaped(column))?;
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for split in splits(rows) {
        let of_split = || rows.iter().filter(|row| row.split == split);
        let best = of_split().filter(|row| !row.loss.is_nan()).min_by(|a, b| a.loss.total_cmp(&b.loss));
        let best = best.filter(|_| split != "train").map(|row| ("best", row));
        for (which, row) in of_split().next_back().map(|row| ("last", row)).into_iter().chain(best) {
            let (step, epoch) = (row.step, row.epoch);
            write!(page, "<tr><th>{}, {which}</th><td>{step}</td><td>{epoch}</td>", Escaped(split))?;
            for column in &columns {
                let number = value(row, column).map(|value| format!("{value:.4}")).unwrap_or_default();
                write!(page, "<td>{number}</td>")?;
            }
            page.push_str("</tr>\n");
        }
    }
    page.push_str("</tbody>\n</table>\n");
    Ok(())
}

fn write_recipe(page: &mut String, recipe: &toml::Table) -> fmt::Result {
    page.push_str("<h2>Recipe</h2>\n<section class=\"recipe\">\n");
    for section in ["data", "model", "optimizer", "schedule", "train"] {
        let Some(Value::Table(keys)) = recipe.get(section) else { continue };
        write!(page, "<table>\n<caption>{section}</caption>\n<tbody>\n")?;
        for (key, value) in keys {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            writeln!(page, "<tr><th>{}</th><td>{}</td></tr>", Escaped(key), Escaped(&value))?;
        }
        page.push_str("</tbody>\n</table>\n");
    }
    page.push_str("</section>\n");
    Ok(())
}
