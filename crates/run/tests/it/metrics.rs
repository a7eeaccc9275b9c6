//! Tests of `metrics.jsonl`: writing, incomplete lines and resuming.

use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;
use wgrad_run::metrics::{MetricsError, MetricsWriter, Row, read};

fn row(step: u64, split: &str, loss: f64) -> Row {
    Row {
        step,
        epoch: 1,
        split: split.to_owned(),
        loss,
        lr: 1e-3,
        metrics: [("accuracy".to_owned(), 0.5)].into(),
    }
}

fn file() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    (folder, path)
}

#[test]
fn row_is_one_object_with_keys_in_order() {
    let (_folder, path) = file();
    MetricsWriter::create(&path).unwrap().write(&row(7, "test", 2.5)).unwrap();
    let expected = r#"{"step":7,"epoch":1,"split":"test","loss":2.5,"lr":0.001,"accuracy":0.5}"#;
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{expected}\n"));
}

#[test]
fn rows_round_trip_bit_exactly() {
    let (_folder, path) = file();
    let mut writer = MetricsWriter::create(&path).unwrap();
    // Includes many doubles whose shortest decimal form an inexact parser reads with a wrong last bit.
    let rows: Vec<Row> =
        (1..500).map(|i| row(i, "tr\"a\nin", f64::from_bits(0x3FB9_9999_9999_999A ^ i << 40 ^ i))).collect();
    for row in &rows {
        writer.write(row).unwrap();
    }
    assert_eq!(read(&path).unwrap(), rows);
}

#[test]
fn values_that_are_not_finite_are_strings() {
    let (_folder, path) = file();
    let mut writer = MetricsWriter::create(&path).unwrap();
    for loss in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        writer.write(&row(1, "train", loss)).unwrap();
    }
    let text = fs::read_to_string(&path).unwrap();
    let losses: Vec<&str> =
        text.lines().map(|l| l.split("loss\":").nth(1).unwrap().split(',').next().unwrap()).collect();
    assert_eq!(losses, ["\"NaN\"", "\"inf\"", "\"-inf\""]);
    let rows = read(&path).unwrap();
    assert!(rows[0].loss.is_nan());
    assert_eq!((rows[1].loss, rows[2].loss), (f64::INFINITY, f64::NEG_INFINITY));
}

/// Truncates the file at every byte, as a killed process could. All complete lines must be read.
#[test]
fn incomplete_last_line_is_ignored() {
    let (_folder, path) = file();
    let mut writer = MetricsWriter::create(&path).unwrap();
    for step in 1..=3 {
        writer.write(&row(step, "train", 1.0)).unwrap();
    }
    let whole = fs::read(&path).unwrap();
    let line = whole.len() / 3;
    for cut in 0..=whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        assert_eq!(read(&path).unwrap().len(), cut / line, "cut at {cut}");
    }
}

#[test]
fn invalid_line_in_the_middle_is_an_error() {
    let (_folder, path) = file();
    let good = r#"{"step":1,"epoch":1,"split":"train","loss":1.0,"lr":0.001}"#;
    for (bad, expected) in [
        ("{\"step\":2", "metrics.jsonl:2: EOF while parsing"),
        ("{\"step\":-1,\"epoch\":1}", "metrics.jsonl:2: `step` is -1, expected a non-negative integer"),
        ("{\"step\":1,\"epoch\":1,\"split\":3}", "metrics.jsonl:2: `split` is 3, expected a string"),
        ("{\"step\":1,\"epoch\":1,\"split\":\"a\",\"lr\":1}", "metrics.jsonl:2: `loss` is missing"),
        (
            "{\"step\":1,\"epoch\":1,\"split\":\"a\",\"lr\":1,\"loss\":1,\"x\":\"y\"}",
            "metrics.jsonl:2: `x` is \"y\", expected a number",
        ),
        ("\u{0}\u{0}", "metrics.jsonl:2: expected value"),
    ] {
        let text = format!("{good}\n{bad}\n{good}\n");
        fs::write(&path, &text).unwrap();
        let message = read(&path).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
        assert!(matches!(MetricsWriter::resume(&path, 1).unwrap_err(), MetricsError::Line { line: 2, .. }));
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "the invalid file was changed");
    }
}

#[test]
fn resume_removes_later_rows_and_the_incomplete_line() {
    let (_folder, path) = file();
    let mut writer = MetricsWriter::create(&path).unwrap();
    for step in 1..=4 {
        writer.write(&row(step, "train", step as f64)).unwrap();
        writer.write(&row(step, "test", step as f64)).unwrap();
    }
    drop(writer);
    let mut text = fs::read_to_string(&path).unwrap();
    text.push_str("{\"step\":5,\"ep");
    fs::write(&path, text).unwrap();

    let mut writer = MetricsWriter::resume(&path, 2).unwrap();
    writer.write(&row(3, "train", 30.0)).unwrap();
    writer.sync().unwrap();
    let losses: Vec<(u64, f64)> = read(&path).unwrap().iter().map(|row| (row.step, row.loss)).collect();
    assert_eq!(losses, [(1, 1.0), (1, 1.0), (2, 2.0), (2, 2.0), (3, 30.0)]);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "a temporary file remains");
}

#[test]
fn resume_creates_a_missing_file_and_create_rejects_an_existing_file() {
    let (_folder, path) = file();
    MetricsWriter::resume(&path, 0).unwrap().write(&row(1, "train", 1.0)).unwrap();
    assert_eq!(read(&path).unwrap().len(), 1);
    let error = MetricsWriter::create(&path).unwrap_err();
    assert!(
        error.to_string().contains("cannot create") && error.to_string().contains("metrics.jsonl"),
        "{error}"
    );
    assert_eq!(read(&path).unwrap().len(), 1);
}

#[test]
fn metric_with_the_name_of_a_field_is_an_error() {
    let (_folder, path) = file();
    let mut writer = MetricsWriter::create(&path).unwrap();
    let mut bad = row(1, "train", 1.0);
    bad.metrics.insert("lr".to_owned(), 1.0);
    assert!(matches!(writer.write(&bad).unwrap_err(), MetricsError::Reserved(name) if name == "lr"));
    assert!(read(&path).unwrap().is_empty());
}
