//! Tests that the report of a run is well-formed and escaped, and contains the numbers of the run.

use crate::page::{assert_self_contained, well_formed};
use std::path::Path;
use wgrad_run::{Predictions, Row, Run, RunDir, Scores};
use wgrad_studies::run::{html, write_report};

/// Returns a recipe with all values, as stored in a run directory.
fn recipe() -> toml::Table {
    let text = "
        name = 'mine'
        description = 'a <b> & \"c\"'
        data.kind = 'digits'
        model = { kind = 'mlp', hidden = [128, 128] }
        optimizer.kind = 'adamw'
        train.batch = 64
    ";
    text.parse().unwrap()
}

fn row(step: u64, split: &str, loss: f64) -> Row {
    Row {
        step,
        epoch: step / 10,
        split: split.to_owned(),
        loss,
        lr: 0.1,
        metrics: [("accuracy".to_owned(), 0.5)].into(),
    }
}

fn rows() -> Vec<Row> {
    let train = (1..=1000).map(|step| row(step, "train", 2.0 / step as f64));
    let test = [(100, 0.5), (200, 0.25), (300, 0.375)].map(|(step, loss)| row(step, "test", loss));
    train.chain(test).collect()
}

#[test]
fn page_is_well_formed_and_self_contained() {
    let page = html(&recipe(), &rows(), None);
    well_formed(&page);
    assert_self_contained(&page);
    assert!(page.len() < 200_000, "{} bytes", page.len());
}

#[test]
fn page_has_a_chart_per_metric() {
    let page = html(&recipe(), &rows(), None);
    let captions: Vec<&str> =
        page.split("<figcaption>").skip(1).map(|rest| rest.split('<').next().unwrap()).collect();
    assert_eq!(captions, ["loss", "accuracy", "lr"]);
    let loss = page.split("<figcaption>").nth(1).unwrap();
    assert!(loss.contains(">train</text>") && loss.contains(">test</text>"), "the legend names both splits");
    assert_eq!(loss.matches("class=\"line s").count(), 2);
    assert_eq!(loss.matches("<circle").count(), 3, "a short series is drawn with dots");
    let lr = page.split("<figcaption>").nth(3).unwrap();
    assert_eq!(lr.matches("class=\"line s").count(), 1, "the learning rate is a single line");
}

#[test]
fn table_has_the_last_and_the_best_row_of_each_split() {
    let page = html(&recipe(), &rows(), None);
    let figures: Vec<&str> = page.lines().filter(|line| line.starts_with("<tr><th>t")).take(3).collect();
    assert_eq!(
        figures,
        [
            "<tr><th>train, last</th><td>1000</td><td>100</td><td>0.0020</td><td>0.5000</td></tr>",
            "<tr><th>test, last</th><td>300</td><td>30</td><td>0.3750</td><td>0.5000</td></tr>",
            "<tr><th>test, best</th><td>200</td><td>20</td><td>0.2500</td><td>0.5000</td></tr>",
        ]
    );
}

#[test]
fn page_has_the_whole_recipe() {
    let mut recipe = recipe();
    recipe["model"]["hidden"] = vec![128, 128].into();
    recipe.insert("optimizer".into(), toml::Table::from_iter([("kind".into(), "adamw".into())]).into());
    let page = html(&recipe, &[], None);
    for row in ["<tr><th>hidden</th><td>[128, 128]</td></tr>", "<tr><th>kind</th><td>adamw</td></tr>"] {
        assert!(page.contains(row), "{row}");
    }
    assert!(well_formed(&page).contains("No metrics have been recorded yet."));
}

#[test]
fn text_is_escaped() {
    let markup = "</script><img src=x onerror=\"alert('1')\">&";
    let mut rows = rows();
    rows.push(row(1, markup, 1.0));
    rows[0].metrics.insert(markup.to_owned(), 1.0);
    let page = html(&recipe(), &rows, None);
    let text = well_formed(&page);
    assert!(!page.contains("<img") && !page.contains("onerror=\""));
    assert!(text.contains(markup) && text.contains("a <b> & \"c\""));
}

#[test]
fn extreme_and_non_finite_losses_give_a_valid_page() {
    for losses in [
        &[f64::NAN][..],
        &[f64::INFINITY, 1.0],
        &[0.0, 0.0],
        &[1e308, -1e308, 1.0],
        &[f64::MIN_POSITIVE / 2.0, 1e-320],
        &[1e299, -1e299],
        &[7.0],
    ] {
        let rows: Vec<Row> = losses
            .iter()
            .enumerate()
            .map(|(i, loss)| row(i as u64 * (u64::MAX / 4), "test", *loss))
            .collect();
        let page = html(&recipe(), &rows, None);
        well_formed(&page);
        let drawn: String =
            page.split("<svg").skip(1).map(|svg| svg.split("</svg>").next().unwrap()).collect();
        assert!(!drawn.contains("NaN") && !drawn.contains("\"inf") && !drawn.contains(" inf"), "{losses:?}");
        assert!(page.len() < 100_000, "{losses:?}: {} bytes", page.len());
    }
    let page = html(&recipe(), &[row(1, "train", 1.0), row(2, "train", f64::NAN)], None);
    assert!(page.contains("train (1 not finite)"));
}

fn scores(classes: usize) -> Scores {
    let labels: Vec<u32> = (0..60).map(|row| row % classes as u32).collect();
    let probability = |row: usize, class: usize| ((row * 7 + class * 13) % 17) as f32 / 17.0;
    let probabilities: Vec<f32> =
        (0..60).flat_map(|row| (0..classes).map(move |class| probability(row, class))).collect();
    let names: Vec<String> = (0..classes).map(|class| format!("<class {class}>")).collect();
    Scores::of(&Predictions::new(&probabilities, classes, &labels).unwrap(), &names, None).unwrap()
}

#[test]
fn binary_scores_have_a_confusion_matrix_and_a_roc_curve() {
    let scores = scores(2);
    let page = html(&recipe(), &rows(), Some(&scores));
    let text = well_formed(&page);
    assert_self_contained(&page);
    assert!(text.contains("Scores on 60 examples") && text.contains("ROC curve, positive: <class 1>"));
    let matrix = page.split("Confusion matrix").nth(1).unwrap().split("</figure>").next().unwrap();
    let cells: Vec<u64> = matrix
        .split("<td")
        .skip(1)
        .map(|cell| cell.split('>').nth(1).unwrap().split('<').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(cells, scores.confusion.concat());
    assert!(page.contains("aria-label=\"sensitivity against 1 − specificity\""));
    let without = html(&recipe(), &rows(), None);
    assert!(!without.contains("Confusion"));
}

#[test]
fn multiclass_scores_have_a_confusion_matrix_and_no_roc_curve() {
    let page = html(&recipe(), &[], Some(&scores(5)));
    assert!(well_formed(&page).contains("macro AUC"));
    assert!(page.contains("Confusion matrix") && !page.contains("ROC curve"));
}

#[test]
fn write_report_includes_the_scores_of_the_run() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("recipe.toml"), recipe().to_string()).unwrap();
    let run = Run::open(directory.path()).unwrap();
    assert_eq!(run.scores().unwrap(), None);
    let scores = scores(2);
    run.write_scores(&scores).unwrap();
    assert_eq!(run.scores().unwrap(), Some(scores));
    let page = std::fs::read_to_string(write_report(&run).unwrap()).unwrap();
    assert!(page.contains("ROC curve"));
    // Saves the page in the folder `tmp` of the build directory, for viewing.
    std::fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("report.html"), &page).unwrap();
    std::fs::write(run.scores_path(), "{}").unwrap();
    let error = write_report(&run).unwrap_err().to_string();
    assert!(error.contains("scores.json") && error.contains("examples"), "{error}");
}

#[test]
fn write_report_reads_recipe_and_metrics() {
    let directory = tempfile::tempdir().unwrap();
    let run = RunDir::create(Path::new("/nowhere"), Some(directory.path()), "mine", "name = 'mine'").unwrap();
    run.metrics(None).unwrap().write(&row(1, "train", 1.0)).unwrap();
    let page = std::fs::read_to_string(write_report(&run).unwrap()).unwrap();
    assert!(page.contains("<title>mine · wgrad</title>") && page.contains("<svg"));
}
