//! Scores of a classifier in a report: metrics, confusion matrix, ROC curve.

use std::fmt::{self, Write};
use wgrad_report::chart::{Chart, Color, Dimension, Series};
use wgrad_report::page::{self, Escaped};
use wgrad_run::score::{BinaryScores, ClassScores, OperatingPoint, Scores};
use wgrad_stdx::format::percent;

/// Height of the plot of the ROC curve in pixels: about the width of the plot, so that the diagonal has a slope of
/// about 45°.
const ROC_HEIGHT: f64 = 400.0;

pub(super) fn write(page: &mut String, scores: &Scores) -> fmt::Result {
    writeln!(page, "<h2>Scores on {} examples</h2>", scores.examples)?;
    write_figures(page, scores)?;
    page.push_str("<section class=\"charts\">\n");
    write_confusion(page, scores)?;
    if let Some(binary) = &scores.binary {
        let positive = scores.classes.get(binary.positive).map_or("", |class| &class.name);
        write_roc(page, binary, positive)?;
    }
    page.push_str("</section>\n");
    Ok(())
}

fn write_figures(page: &mut String, scores: &Scores) -> fmt::Result {
    let mut whole = vec![
        vec!["accuracy".to_owned(), format!("{:.4}", scores.accuracy)],
        vec!["balanced accuracy".to_owned(), show(scores.balanced_accuracy)],
    ];
    match &scores.binary {
        None => whole.push(vec!["macro AUC, one-vs-rest".to_owned(), show(scores.macro_auc)]),
        Some(binary) => {
            let [low, high] = binary.auc.interval;
            let auc = format!("{:.4} (95% {low:.4} to {high:.4})", binary.auc.value);
            whole.push(vec!["AUC".to_owned(), auc]);
        }
    }
    page::table(page, &["overall", ""], &whole)?;
    let columns = ["class", "examples", "recall", "precision", "F1", "one-vs-rest AUC"];
    let row = |class: &ClassScores| {
        let ClassScores { name, examples, recall, precision, f1, auc } = class;
        vec![name.clone(), examples.to_string(), show(*recall), show(*precision), show(*f1), show(*auc)]
    };
    page::table(page, &columns, &scores.classes.iter().map(row).collect::<Vec<_>>())
}

/// Writes the confusion matrix as a heat map. Cells are shaded by their fraction of the examples of the true class, so
/// that rare classes are as visible as common ones.
fn write_confusion(page: &mut String, scores: &Scores) -> fmt::Result {
    page.push_str(
        "<figure>\n<figcaption>Confusion matrix, one row per true class</figcaption>\n\
         <div class=\"scroll heat\">\n<table>\n<thead><tr><th>true \\ predicted</th>",
    );
    for class in &scores.classes {
        write!(page, "<th>{}</th>", Escaped(&class.name))?;
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for (class, counts) in scores.classes.iter().zip(&scores.confusion) {
        write!(page, "<tr><th>{}</th>", Escaped(&class.name))?;
        for count in counts {
            let fraction = *count as f64 / class.examples.max(1) as f64;
            let percent = percent(fraction, 1);
            write!(page, "<td style=\"--part: {fraction:.3}\">{count}<small>{percent}</small></td>")?;
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody>\n</table>\n</div>\n</figure>\n");
    Ok(())
}

fn write_roc(page: &mut String, binary: &BinaryScores, positive: &str) -> fmt::Result {
    let caption = format!("ROC curve, positive: {positive}");
    let points = binary.roc.points.iter().map(|point| (1.0 - point.specificity, point.sensitivity)).collect();
    let name = format!("AUC {:.4}", binary.auc.value);
    let chart = Chart {
        title: "sensitivity against 1 − specificity",
        x: Dimension { label: "1 − specificity", holds: vec![0.0, 1.0], ..Dimension::default() },
        y: Dimension { holds: vec![0.0, 1.0], ..Dimension::default() },
        height: ROC_HEIGHT,
        series: vec![
            Series {
                name: "chance".into(),
                points: vec![(0.0, 0.0), (1.0, 1.0)],
                color: Color::Faint,
                dashed: true,
                ..Series::default()
            },
            Series { name: name.into(), points, ..Series::default() },
        ],
    };
    page::figure(page, &caption, &chart, |page| {
        let row = |fixed: &str, operating: &OperatingPoint| {
            let (target, point) = (operating.target, operating.point);
            let threshold =
                point.threshold.map_or_else(|| "above all scores".to_owned(), |at| format!("{at:.4}"));
            let rates = [point.sensitivity, point.specificity].map(|rate| format!("{rate:.4}"));
            let [sensitivity, specificity] = rates;
            vec![format!("{fixed} ≥ {target}"), sensitivity, specificity, threshold]
        };
        let specificity = binary.at_specificity.iter().map(|point| row("specificity", point));
        let sensitivity = binary.at_sensitivity.iter().map(|point| row("sensitivity", point));
        let rows: Vec<_> = specificity.chain(sensitivity).collect();
        page::table(page, &["at", "sensitivity", "specificity", "threshold"], &rows)
    })
}

fn show(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.4}"))
}
