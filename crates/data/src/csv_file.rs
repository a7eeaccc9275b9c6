//! Reader of numeric CSV files, plain or gzipped. One column is the target, and all other columns are features.

pub(crate) mod problem;

use std::io::Read;
use std::path::Path;

use csv::{ReaderBuilder, StringRecord, Trim};
use serde::{Deserialize, Serialize};

use crate::dataset::{Dataset, Targets};
use crate::error::DataError;
use crate::open::open;

pub use problem::CsvProblem;

/// Label that selects the last column, unless a column has this name.
const LAST: &str = "last";

/// Prediction task, which decides how the target column is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Task {
    /// Each distinct value of the target is a class. The loss is cross-entropy.
    #[default]
    Classification,
    /// The values of the target are numbers. The loss is the squared error.
    Regression,
}

/// Options of the CSV reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvOptions {
    /// Name of the target column in the header. `None` selects the last column, as does `"last"` if no column has this
    /// name.
    pub label: Option<String>,
    /// Prediction task, which decides how the target column is read.
    pub task: Task,
    /// Whether the first line is a header. With `None`, the first line is a header if `label` is a column name, or if
    /// no cell of the first line is a number.
    pub header: Option<bool>,
    /// ASCII byte between two cells.
    pub delimiter: u8,
}

impl Default for CsvOptions {
    /// Options for classification. The last column is the target, commas separate cells, and a header is detected.
    fn default() -> Self {
        Self { label: None, task: Task::default(), header: None, delimiter: b',' }
    }
}

/// Reads a CSV file into a data set that is named after the file. The shape of the features is `[columns − 1]`.
///
/// Classes are integers or text. The distinct labels are sorted, integers by value and text by Unicode order, and
/// become the class names. Labels 0, 1, 2, … thus keep their indices.
///
/// # Errors
/// Returns [`DataError::Csv`] with file, line, column and text if the content cannot be used, and [`DataError::Io`] if
/// the file cannot be read.
pub fn read_csv(path: &Path, options: &CsvOptions) -> Result<Dataset, DataError> {
    let name = path.file_stem().map_or_else(|| "csv".into(), |stem| stem.to_string_lossy());
    read_from(open(path)?, name.trim_end_matches(".csv"), path, options)
}

/// Reads CSV text from `reader` into a data set called `name`. `path` is used only in error messages.
pub(crate) fn read_from(
    reader: impl Read,
    name: &str,
    path: &Path,
    options: &CsvOptions,
) -> Result<Dataset, DataError> {
    let (features, width, targets) =
        parse(reader, options).map_err(|problem| DataError::Csv { path: path.to_path_buf(), problem })?;
    Dataset::new(name, features, vec![width], targets)
}

fn parse(mut reader: impl Read, options: &CsvOptions) -> Result<(Vec<f32>, usize, Targets), CsvProblem> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(|error| CsvProblem::Read(error.to_string()))?;
    let text = bytes.as_slice();
    check_quotes(text, options.delimiter)?;
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        // Lines with a wrong number of columns are rejected below, so that the message contains the line number.
        .flexible(true)
        .trim(Trim::All)
        .delimiter(options.delimiter)
        .from_reader(text);
    let mut record = StringRecord::new();
    let mut next = |record: &mut StringRecord| match reader.read_record(record) {
        Ok(true) => Ok(Some(record.position().map_or(0, |position| line_of(position, text)))),
        Ok(false) => Ok(None),
        Err(error) => Err(CsvProblem::Read(error.to_string())),
    };

    let mut line = next(&mut record)?.ok_or(CsvProblem::Empty)?;
    let columns = Columns::new(&record, options)?;
    if columns.names.is_some() {
        line = next(&mut record)?.ok_or(CsvProblem::Empty)?;
    }
    let mut features = Vec::new();
    let mut target = TargetColumn::new(options);
    loop {
        if record.len() != columns.count {
            return Err(CsvProblem::Width { line, expected: columns.count, found: record.len() });
        }
        for (index, text) in record.iter().enumerate() {
            if index == columns.label {
                target.push(text, line, || columns.describe(index))?;
            } else {
                features.push(number(text, line, || columns.describe(index))?);
            }
        }
        match next(&mut record)? {
            Some(next_line) => line = next_line,
            None => break,
        }
    }
    let targets = target.finish(|| columns.describe(columns.label))?;
    Ok((features, columns.count - 1, targets))
}

/// Returns the line number of a record. Blank lines that the reader skipped are not included in `position`, so this
/// function counts them.
pub(crate) fn line_of(position: &csv::Position, text: &[u8]) -> u64 {
    let ahead = text.get(position.byte() as usize..).unwrap_or_default();
    let blank = ahead.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
    position.line() + blank.filter(|&&byte| byte == b'\n').count() as u64
}

/// Returns an error if a quoted cell is not closed before the end of the text. The reader would accept it and read the
/// rest of the file into this cell.
pub(crate) fn check_quotes(text: &[u8], delimiter: u8) -> Result<(), CsvProblem> {
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let (mut line, mut at_start, mut opened) = (1, true, None);
    for &byte in text {
        match (byte, opened) {
            // A doubled quote inside a quoted cell closes the cell and opens it again.
            (b'"', Some(_)) => (opened, at_start) = (None, true),
            (b'"', None) if at_start => opened = Some(line),
            (_, Some(_)) => {}
            (byte, None) => at_start = byte == delimiter || matches!(byte, b'\r' | b'\n'),
        }
        line += u64::from(byte == b'\n');
    }
    opened.map_or(Ok(()), |line| Err(CsvProblem::UnclosedQuote { line }))
}

pub(crate) fn number(text: &str, line: u64, column: impl Fn() -> String) -> Result<f32, CsvProblem> {
    match text.parse::<f32>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err(CsvProblem::Number { line, column: column(), text: text.to_owned() }),
    }
}

/// Number of columns, index of the target column, and column names. Determined from the first line of the file.
struct Columns {
    count: usize,
    label: usize,
    names: Option<Vec<String>>,
}

impl Columns {
    fn new(first: &StringRecord, options: &CsvOptions) -> Result<Self, CsvProblem> {
        let count = first.len();
        if count < 2 {
            return Err(CsvProblem::OneColumn { delimiter: char::from(options.delimiter) });
        }
        let named = |label: &str| first.iter().any(|cell| cell == label);
        let label = options.label.as_deref().filter(|label| *label != LAST || named(label));
        let detected = label.is_some() || first.iter().all(|cell| cell.parse::<f64>().is_err());
        let names = options
            .header
            .unwrap_or(detected)
            .then(|| first.iter().map(str::to_owned).collect::<Vec<String>>());
        let label = match (label, &names) {
            (None, _) => count - 1,
            (Some(LAST), None) => count - 1,
            (Some(label), None) => return Err(CsvProblem::NoHeader { label: label.to_owned() }),
            (Some(label), Some(names)) => column_called(label, names)?,
        };
        Ok(Self { count, label, names })
    }

    fn describe(&self, index: usize) -> String {
        match &self.names {
            Some(names) => format!("{} ({})", index + 1, names[index]),
            None => (index + 1).to_string(),
        }
    }
}

/// Returns the index of the only column with the name `label`.
fn column_called(label: &str, names: &[String]) -> Result<usize, CsvProblem> {
    let mut found = names.iter().enumerate().filter(|(_, name)| *name == label).map(|(index, _)| index);
    match (found.next(), found.next()) {
        (Some(index), None) => Ok(index),
        (Some(first), Some(second)) => {
            Err(CsvProblem::DuplicateLabel { label: label.to_owned(), first: first + 1, second: second + 1 })
        }
        (None, _) => Err(CsvProblem::NoLabel { label: label.to_owned(), columns: names.join(", ") }),
    }
}

/// Values of the target column, collected line by line. Whether classes are integers or text is known only after the
/// last line.
enum TargetColumn {
    Values(Vec<f32>),
    Classes { cells: Vec<(Class, u64)>, mixed: bool },
}

/// Class label. In the derived order, integers come before text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Integer(i64),
    Text(String),
}

impl TargetColumn {
    fn new(options: &CsvOptions) -> Self {
        match options.task {
            Task::Regression => Self::Values(Vec::new()),
            Task::Classification => Self::Classes { cells: Vec::new(), mixed: options.header.is_some() },
        }
    }

    fn push(&mut self, text: &str, line: u64, column: impl Fn() -> String) -> Result<(), CsvProblem> {
        match self {
            Self::Values(values) => values.push(number(text, line, column)?),
            Self::Classes { cells, .. } => cells.push((class(text, line, column)?, line)),
        }
        Ok(())
    }

    fn finish(self, column: impl Fn() -> String) -> Result<Targets, CsvProblem> {
        let (cells, mixed) = match self {
            Self::Values(values) => return Ok(Targets::Values { values, width: 1 }),
            Self::Classes { cells, mixed } => (cells, mixed),
        };
        // Labels that mix integers and text are rejected unless `header` is set. Otherwise, a header that was not
        // detected (`0,1,2,species`) would become an example with its own class.
        let integers = cells.iter().any(|(class, _)| matches!(class, Class::Integer(_)));
        let text = cells.iter().find_map(|(class, line)| match class {
            Class::Text(text) => Some((text, *line)),
            Class::Integer(_) => None,
        });
        if let (true, false, Some((text, line))) = (integers, mixed, text) {
            return Err(CsvProblem::MixedLabels { line, column: column(), text: text.clone() });
        }
        let mut classes: Vec<&Class> = cells.iter().map(|(class, _)| class).collect();
        classes.sort_unstable();
        classes.dedup();
        // Every class is in the sorted list, so the search finds it.
        let labels = cells.iter().map(|(class, _)| classes.partition_point(|other| *other < class) as u32);
        let labels = labels.collect();
        let names = classes.into_iter().map(|class| match class {
            Class::Integer(value) => value.to_string(),
            Class::Text(text) => text.clone(),
        });
        Ok(Targets::Classes { labels, names: names.collect() })
    }
}

/// Parses a class label. A number such as `1.0` is also an integer, since spreadsheets write integers in this form.
fn class(text: &str, line: u64, column: impl Fn() -> String) -> Result<Class, CsvProblem> {
    if text.is_empty() {
        return Err(CsvProblem::EmptyLabel { line, column: column() });
    }
    if let Ok(value) = text.parse::<i64>() {
        return Ok(Class::Integer(value));
    }
    match text.parse::<f64>() {
        Ok(value) if value.fract() == 0.0 && value.abs() < 9e15 => Ok(Class::Integer(value as i64)),
        Ok(value) if value.is_finite() => {
            Err(CsvProblem::FractionalLabel { line, column: column(), text: text.to_owned() })
        }
        // The texts `nan` and `inf` may be names of classes.
        _ => Ok(Class::Text(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, options: &CsvOptions) -> Result<Dataset, CsvProblem> {
        match read_from(text.as_bytes(), "set", Path::new("set.csv"), options) {
            Ok(dataset) => Ok(dataset),
            Err(DataError::Csv { path, problem }) => {
                assert_eq!(path, Path::new("set.csv"));
                Err(problem)
            }
            Err(other) => panic!("expected a CSV problem, got {other}"),
        }
    }

    fn with(change: impl FnOnce(&mut CsvOptions)) -> CsvOptions {
        let mut options = CsvOptions::default();
        change(&mut options);
        options
    }

    fn classes(dataset: &Dataset) -> (&[u32], Vec<&str>) {
        match dataset.targets() {
            Targets::Classes { labels, names } => (labels, names.iter().map(String::as_str).collect()),
            Targets::Values { .. } => panic!("no classes"),
        }
    }

    #[test]
    fn text_labels_are_sorted_and_the_header_is_detected() {
        let text = "\u{feff}length, width, species\r\n5.1, 3.5, setosa\r\n7.0,3.2,virginica\r\n1,2,setosa\n";
        let dataset = read(text, &CsvOptions::default()).unwrap();
        assert_eq!(dataset.to_f32(), [5.1, 3.5, 7.0, 3.2, 1.0, 2.0]);
        assert_eq!(dataset.feature_shape(), [2]);
        assert_eq!(classes(&dataset), (&[0, 1, 0][..], vec!["setosa", "virginica"]));
    }

    #[test]
    fn integer_labels_are_sorted_by_value() {
        let dataset = read("1,10\n2,2\n3,-1\n4,2.0\n", &CsvOptions::default()).unwrap();
        assert_eq!(classes(&dataset), (&[2, 1, 0, 1][..], vec!["-1", "2", "10"]));
        let dataset = read("1,2\n2,0\n3,1\n", &CsvOptions::default()).unwrap();
        assert_eq!(classes(&dataset), (&[2, 0, 1][..], vec!["0", "1", "2"]));
    }

    #[test]
    fn named_column_can_be_the_target() {
        let options = with(|o| (o.label, o.task) = (Some("y".into()), Task::Regression));
        let dataset = read("a,y,b\n1,0.5,2\n3,-1e3,4\n", &options).unwrap();
        assert_eq!(dataset.to_f32(), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(dataset.targets(), &Targets::Values { values: vec![0.5, -1000.0], width: 1 });
        // Numeric column names are a header if the label is given by name.
        let dataset = read("0,1,y\n1,2,3\n", &options).unwrap();
        assert_eq!(dataset.len(), 1);
        let problem = read("a,z\n1,2\n", &options).unwrap_err();
        assert_eq!(problem, CsvProblem::NoLabel { label: "y".into(), columns: "a, z".into() });
        let options = with(|o| (o.label, o.header) = (Some("y".into()), Some(false)));
        assert_eq!(read("1,2\n", &options).unwrap_err(), CsvProblem::NoHeader { label: "y".into() });
    }

    #[test]
    fn column_called_last_can_be_the_target() {
        let options = with(|o| (o.label, o.task) = (Some("last".into()), Task::Regression));
        let values = |text: &str, options: &CsvOptions| match read(text, options).unwrap().targets() {
            Targets::Values { values, .. } => values.clone(),
            Targets::Classes { .. } => panic!("no values"),
        };
        assert_eq!(values("open,last,volume\n1,2,3\n4,5,6\n", &options), [2.0, 5.0]);
        assert_eq!(values("1,last,3\n1,2,3\n", &options), [2.0]);
        // Without such a column, or without a header, it is the last one.
        assert_eq!(values("open,high,volume\n1,2,3\n", &options), [3.0]);
        assert_eq!(values("1,2,3\n", &options), [3.0]);
        let options = with(|o| o.task = Task::Regression);
        assert_eq!(values("open,last,volume\n1,2,3\n", &options), [3.0]);
        let options = with(|o| (o.label, o.task) = (Some("first".into()), Task::Regression));
        assert_eq!(values("open,first,volume\n1,2,3\n", &options), [2.0]);
    }

    #[test]
    fn label_name_of_two_columns_is_refused() {
        let named = |label: &str| with(|o| o.label = Some(label.into()));
        let problem = read("y,a,y\n0,1,1\n", &named("y")).unwrap_err();
        assert_eq!(problem, CsvProblem::DuplicateLabel { label: "y".into(), first: 1, second: 3 });
        let problem = read("a,last,last\n0,1,1\n", &named("last")).unwrap_err();
        assert_eq!(problem, CsvProblem::DuplicateLabel { label: "last".into(), first: 2, second: 3 });
        // Two features may have the same name.
        assert_eq!(read("a,a,y\n0,1,1\n", &named("y")).unwrap().to_f32(), [0.0, 1.0]);
    }

    #[test]
    fn unclosed_quote_is_reported_with_the_line_where_it_opens() {
        let problem = |text: &str| read(text, &CsvOptions::default()).map(|_| ()).unwrap_err();
        assert_eq!(problem("a,y\n1,\"x\n2,z\n3,z\n"), CsvProblem::UnclosedQuote { line: 2 });
        assert_eq!(problem("\u{feff}\"a,y\n1,x\n"), CsvProblem::UnclosedQuote { line: 1 });
        // The cell with a line break is closed; the doubled quote of the last cell is not.
        assert_eq!(problem("1,\"x\ny\"\n2,\"z\"\"\n"), CsvProblem::UnclosedQuote { line: 3 });
        let dataset = read("1,\"x\ny\"\n2,\"a \"\"b\"\"\"\n3,5\" disk\n", &CsvOptions::default()).unwrap();
        assert_eq!(classes(&dataset), (&[2, 1, 0][..], vec!["5\" disk", "a \"b\"", "x\ny"]));
    }

    #[test]
    fn wrong_cell_is_reported_with_line_column_and_text() {
        let problem = read("a,b,c\n1,2,x\n\n3,four,y\n", &CsvOptions::default()).unwrap_err();
        assert_eq!(problem, CsvProblem::Number { line: 4, column: "2 (b)".into(), text: "four".into() });
        let problem_of = |text| read(text, &CsvOptions::default()).unwrap_err();
        for text in ["1,2,x\r\n\r\n\r\n3,four,y\r\n", "\u{feff}1,2,x\n\n\n3,four,y"] {
            let expected = CsvProblem::Number { line: 4, column: "2".into(), text: "four".into() };
            assert_eq!(problem_of(text), expected, "{text:?}");
        }
        for text in ["", "nan", "inf", "1e99", "1,5"] {
            let options = with(|o| o.delimiter = b';');
            let problem = read(&format!("1;2;0\n1;{text};0\n"), &options).unwrap_err();
            assert_eq!(problem, CsvProblem::Number { line: 2, column: "2".into(), text: text.into() });
        }
        let error = DataError::Csv { path: "set.csv".into(), problem };
        assert_eq!(error.to_string(), "set.csv:4: column 2 (b): `four` is not a finite number");
    }

    #[test]
    fn lines_with_a_wrong_number_of_columns_are_refused() {
        assert_eq!(
            read("1,2,0\n1,2\n", &CsvOptions::default()).unwrap_err(),
            CsvProblem::Width { line: 2, expected: 3, found: 2 }
        );
        assert_eq!(read("", &CsvOptions::default()).unwrap_err(), CsvProblem::Empty);
        assert_eq!(read("a,b\n", &CsvOptions::default()).unwrap_err(), CsvProblem::Empty);
        let problem = read("1;2;0\n", &CsvOptions::default()).unwrap_err();
        assert_eq!(problem, CsvProblem::OneColumn { delimiter: ',' });
    }

    #[test]
    fn labels_that_are_not_classes_are_refused() {
        let (line, column) = (2, "2".to_owned());
        assert_eq!(
            read("1,0\n2,0.5\n", &CsvOptions::default()).unwrap_err(),
            CsvProblem::FractionalLabel { line, column: column.clone(), text: "0.5".into() }
        );
        assert_eq!(
            read("1,0\n2,\n", &CsvOptions::default()).unwrap_err(),
            CsvProblem::EmptyLabel { line, column: column.clone() }
        );
        // The header consists of a number and a word.
        let problem = read("0,y\n5,0\n", &CsvOptions::default()).unwrap_err();
        assert_eq!(problem, CsvProblem::MixedLabels { line: 1, column, text: "y".into() });
        let dataset = read("0,y\n5,0\n", &with(|o| o.header = Some(false))).unwrap();
        assert_eq!(classes(&dataset), (&[1, 0][..], vec!["0", "y"]));
        assert_eq!(read("0,y\n5,0\n", &with(|o| o.header = Some(true))).unwrap().len(), 1);
    }

    #[test]
    fn invalid_utf8_is_refused_and_gzip_is_read() {
        let bytes: &[u8] = b"1,2,a\n1,\xff,b\n";
        let error = read_from(bytes, "set", Path::new("set.csv"), &CsvOptions::default()).unwrap_err();
        assert!(error.to_string().contains("UTF-8"), "{error}");

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("iris.csv.gz");
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut encoder, b"1,2,0\n3,4,1\n").unwrap();
        std::fs::write(&path, encoder.finish().unwrap()).unwrap();
        let dataset = read_csv(&path, &CsvOptions::default()).unwrap();
        assert_eq!((dataset.name(), dataset.len()), ("iris", 2));
        let error = read_csv(&folder.path().join("none.csv"), &CsvOptions::default()).unwrap_err();
        assert!(matches!(error, DataError::Io { action: "read", .. }), "{error}");
    }
}
