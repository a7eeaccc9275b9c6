//! The report: well-formed, escaped, with the figures it was given.

use wgrad_run::report::html;
use wgrad_run::{Recipe, Row};

fn recipe() -> Recipe {
    let text = "name = 'mine'\ndescription = 'a <b> & \"c\"'\ndata.kind = 'digits'\nmodel.kind = 'mlp'";
    Recipe::parse(text, "mine.toml").unwrap()
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

/// Checks that elements nest and attributes are quoted; returns the text between the tags.
fn well_formed(page: &str) -> String {
    let (mut open, mut text, mut rest) =
        (Vec::new(), String::new(), page.strip_prefix("<!DOCTYPE html>").unwrap());
    while let Some((before, after)) = rest.split_once('<') {
        assert!(!before.contains('>'), "stray `>` in {before:?}");
        text.push_str(before);
        let (tag, after) = after.split_once('>').unwrap();
        rest = after;
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "at </{name}>");
        } else if !tag.ends_with('/') && name != "meta" {
            open.push(name);
        }
        assert_eq!(tag.matches('"').count(), 2 * tag.matches("=\"").count(), "attributes of <{tag}>");
        assert!(!tag.contains(['<', '\n']), "<{tag}>");
    }
    assert_eq!(open, Vec::<&str>::new());
    text + rest
}

#[test]
fn a_page_is_well_formed_and_needs_nothing_else() {
    let page = html(&recipe(), &rows()).unwrap();
    well_formed(&page);
    for outside in ["http:", "https:", "<script", "<link", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("prefers-color-scheme: dark"));
    assert!(page.len() < 200_000, "{} bytes", page.len());
}

#[test]
fn there_is_a_chart_for_each_metric() {
    let page = html(&recipe(), &rows()).unwrap();
    let captions: Vec<&str> =
        page.split("<figcaption>").skip(1).map(|rest| rest.split('<').next().unwrap()).collect();
    assert_eq!(captions, ["loss", "accuracy", "lr"]);
    let loss = page.split("<figcaption>").nth(1).unwrap();
    assert!(loss.contains(">train</text>") && loss.contains(">test</text>"), "the legend names both");
    assert_eq!(loss.matches("class=\"line s").count(), 2);
    assert_eq!(loss.matches("<circle").count(), 3, "a short series has dots");
    let lr = page.split("<figcaption>").nth(3).unwrap();
    assert_eq!(lr.matches("class=\"line s").count(), 1, "the learning rate is one line");
}

#[test]
fn the_final_figures_are_the_last_and_the_best() {
    let page = html(&recipe(), &rows()).unwrap();
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
fn the_recipe_is_there_in_full() {
    let page = html(&recipe(), &[]).unwrap();
    for row in [
        "<tr><th>hidden</th><td>[128, 128]</td></tr>",
        "<tr><th>kind</th><td>adamw</td></tr>",
        "<tr><th>batch</th>",
    ] {
        assert!(page.contains(row), "{row}");
    }
    assert!(well_formed(&page).contains("Nothing has been measured yet."));
}

#[test]
fn text_stays_text() {
    let evil = "</script><img src=x onerror=\"alert('1')\">&";
    let mut rows = rows();
    rows.push(row(1, evil, 1.0));
    rows[0].metrics.insert(evil.to_owned(), 1.0);
    let page = html(&recipe(), &rows).unwrap();
    let text = well_formed(&page);
    assert!(!page.contains("<img") && !page.contains("onerror=\""));
    assert!(text.contains("&lt;/script&gt;&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt;&amp;"));
    assert!(text.contains("a &lt;b&gt; &amp; &quot;c&quot;"));
}

#[test]
fn odd_numbers_do_not_spoil_the_page() {
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
        let page = html(&recipe(), &rows).unwrap();
        well_formed(&page);
        let drawn: String =
            page.split("<svg").skip(1).map(|svg| svg.split("</svg>").next().unwrap()).collect();
        assert!(!drawn.contains("NaN") && !drawn.contains("\"inf") && !drawn.contains(" inf"), "{losses:?}");
        assert!(page.len() < 100_000, "{losses:?}: {} bytes", page.len());
    }
    let page = html(&recipe(), &[row(1, "train", 1.0), row(2, "train", f64::NAN)]).unwrap();
    assert!(page.contains("train (1 not finite)"));
}
