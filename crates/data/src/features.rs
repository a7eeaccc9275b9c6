//! Reader of examples without targets, for prediction: rows of a CSV file, images of an idx file, or a JPEG or PNG
//! image.

use std::io::Read;
use std::path::Path;

use csv::{ReaderBuilder, StringRecord, Trim};

use crate::csv_file::{CsvProblem, check_quotes, number};
use crate::error::DataError;
use crate::idx;
use crate::images;
use crate::open::open;

/// Reads examples of `width` raw features each into one flat list.
///
/// The format is detected from the content: idx, JPEG or PNG, otherwise CSV. Each format may be gzipped. A JPEG or PNG
/// file is one example. Its image is scaled to the square of one or three channels that has `width` values in total.
///
/// A CSV row has `width` cells, or `width + 1` cells if the file contains labels. The label column is skipped: the
/// column with the name `label` in the header, or the last column if there is no such name. The first row is a header
/// if none of its cells is a number.
///
/// # Errors
/// Returns [`DataError::Idx`], [`DataError::Csv`] or [`DataError::Images`] if the content cannot be used, and
/// [`DataError::Io`] if the file cannot be read.
pub fn read_features(
    path: &Path,
    width: usize,
    delimiter: u8,
    label: Option<&str>,
) -> Result<Vec<f32>, DataError> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes).map_err(DataError::io("read", path))?;
    if bytes.starts_with(&[0, 0, 8]) {
        return idx::read_images(path, width);
    }
    if images::is_encoded(&bytes) {
        return images::read_image(path, &bytes, width);
    }
    parse(&bytes, width, delimiter, label)
        .map_err(|problem| DataError::Csv { path: path.to_path_buf(), problem })
}

fn parse(bytes: &[u8], width: usize, delimiter: u8, label: Option<&str>) -> Result<Vec<f32>, CsvProblem> {
    check_quotes(bytes, delimiter)?;
    let mut builder = ReaderBuilder::new();
    builder.has_headers(false).flexible(true).trim(Trim::All).delimiter(delimiter);
    let mut reader = builder.from_reader(bytes);
    let mut record = StringRecord::new();
    let mut features = Vec::new();
    let (mut first, mut label_column) = (true, width);
    while reader.read_record(&mut record).map_err(|error| CsvProblem::Read(error.to_string()))? {
        let line = record.position().map_or(0, csv::Position::line);
        let is_header = std::mem::take(&mut first) && record.iter().all(|cell| cell.parse::<f64>().is_err());
        if is_header {
            label_column = record.iter().position(|name| Some(name) == label).unwrap_or(width);
            continue;
        }
        if record.len() != width && record.len() != width + 1 {
            return Err(CsvProblem::Width { line, expected: width, found: record.len() });
        }
        let skipped = (record.len() > width).then_some(label_column);
        for (column, cell) in record.iter().enumerate().filter(|(column, _)| Some(*column) != skipped) {
            features.push(number(cell, line, || (column + 1).to_string())?);
        }
    }
    if features.is_empty() { Err(CsvProblem::Empty) } else { Ok(features) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_labels_are_skipped() {
        let read = |text: &str, label| parse(text.as_bytes(), 2, b',', label).unwrap();
        assert_eq!(read("a,b,label\n1,2,7\n3,4,8\n", None), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(read("a,y,b\n1,7,2\n", Some("y")), [1.0, 2.0]);
        assert_eq!(read("1,2\n", Some("y")), [1.0, 2.0]);
        assert_eq!(parse(b"1;2;3\n", 2, b';', None).unwrap(), [1.0, 2.0]);
    }

    #[test]
    fn malformed_rows_are_refused() {
        let read = |text: &str| parse(text.as_bytes(), 2, b',', None);
        let four = read("1,2\n1,2,3,4\n");
        assert!(matches!(four, Err(CsvProblem::Width { line: 2, expected: 2, found: 4 })), "{four:?}");
        assert!(matches!(read("1,\"2\n3,4\n"), Err(CsvProblem::UnclosedQuote { line: 1 })));
        assert!(matches!(read("1,x\n"), Err(CsvProblem::Number { line: 1, .. })));
        assert!(matches!(read("a,b\n"), Err(CsvProblem::Empty)));
    }
}
