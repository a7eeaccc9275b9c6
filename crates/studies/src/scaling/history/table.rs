//! Reader for tables of systems: comma-separated values with the column names of Epoch AI's published file. The
//! built-in table uses the same column names.
//!
//! Entries that cannot be used are left out and listed with their line number. Missing values are never guessed.

use super::date::Date;
use super::error::HistoryError;
use csv::{ByteRecord, ReaderBuilder};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::HashMap;
use std::str;

const MODEL: &str = "Model";
const DATE: &str = "Publication date";
const PARAMETERS: &str = "Parameters";
const COMPUTE: &str = "Training compute (FLOP)";
/// Columns that every table must have.
const REQUIRED: [&str; 3] = [MODEL, DATE, COMPUTE];
/// Column of other estimates in the built-in table, e.g. `5.0e17 (source); 4.7e17 (another source)`.
const OTHER_ESTIMATES: &str = "Other estimates";
/// Separators other than commas, for the hint in an error.
const SEPARATORS: [char; 3] = [';', '\t', '|'];
/// Maximum number of characters of a text that is quoted in a message.
const MAX_QUOTED: usize = 80;
/// Column by which Epoch AI's file is recognized.
const EPOCH_COLUMN: &str = "Notability criteria";

/// Systems of a file, and the entries of the file that could not be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Name of the table, e.g. its file name.
    pub source: String,
    /// Origin and terms of use of the data.
    pub credit: String,
    /// Systems, in the order of the file. Each has a date, and training compute, parameters or both.
    pub systems: Vec<System>,
    /// Entries that could not be used, in the order of the file.
    pub left_out: Vec<LeftOut>,
}

/// Trained system of a table, e.g. AlexNet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct System {
    /// Index in [`Table::systems`]. Trends refer to a system by this index.
    pub id: usize,
    /// Line of the file on which the record begins, from 1.
    pub line: u64,
    /// Name of the system, unique in the table.
    pub name: String,
    /// Domain, e.g. `Vision`.
    pub domain: String,
    /// Organizations that trained the system.
    pub organization: String,
    /// Day of publication.
    pub date: Date,
    /// Floating-point operations of training, if known.
    pub flops: Option<f64>,
    /// Number of trainable parameters, if known.
    pub parameters: Option<f64>,
    /// Citation of the publication.
    pub reference: String,
    /// Link to the publication.
    pub link: String,
    /// Derivation of the training compute.
    pub notes: String,
    /// Other estimates of the training compute.
    pub others: Vec<Estimate>,
}

/// Other estimate of the training compute of a system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Floating-point operations of training.
    pub flops: f64,
    /// Source of the estimate.
    pub source: String,
}

/// Part of a record that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeftOutPart {
    /// The entire record.
    System,
    /// The training compute. The system is kept, because its number of parameters is usable.
    Compute,
    /// The number of parameters. The system is kept, because its training compute is usable.
    Parameters,
    /// One of the other estimates.
    Estimate,
}

/// Entry of a file that could not be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Line on which the record begins, from 1.
    pub line: u64,
    /// Name of the system, or an empty string if the name is missing.
    pub name: String,
    /// Part that is left out.
    pub part: LeftOutPart,
    /// Reason why the part cannot be used.
    pub reason: String,
}

/// Reads a table. `source` is the name of the table in errors and on the page.
///
/// A record requires a name and a date in the years 1900 to 2100. Of records with the same name, the first is used.
/// Numbers are positive and consist of digits, a decimal point and an exponent. Ranges, numbers with thousands
/// separators and other text are left out and listed with their line. So are records whose number of fields differs
/// from the header's. The column of parameters is optional.
///
/// # Errors
/// Returns an error if the file is empty, a required column is missing or occurs twice, the header is not UTF-8, or a
/// quote is not closed.
pub fn parse(text: &[u8], source: &str) -> Result<Table, HistoryError> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    if text.trim_ascii().is_empty() {
        return Err(HistoryError::Empty { source_name: source.into() });
    }
    if let Some(at) = open_quote(text) {
        return Err(HistoryError::Quote {
            source_name: source.into(),
            line: LineCounter::new(text).line_at(at),
        });
    }
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text);
    let mut record = ByteRecord::new();
    let mut header = None;
    let mut table =
        Table { source: source.into(), credit: String::new(), systems: Vec::new(), left_out: Vec::new() };
    let mut lines = HashMap::new();
    let mut counter = LineCounter::new(text);
    loop {
        let read = reader.read_byte_record(&mut record);
        let at = record.position().map_or(0, |position| position.byte() as usize);
        let line = counter.line_at(at);
        let has_record = read.map_err(|error| HistoryError::Read {
            source_name: source.into(),
            line,
            reason: error.to_string(),
        })?;
        if !has_record {
            return Ok(table);
        }
        let Some(header) = &header else {
            let first = Header::new(&record, source)?;
            table.credit = first.credit(source);
            header = Some(first);
            continue;
        };
        header.add_record(&record, line, &mut table, &mut lines);
    }
}

/// Header of a file: the position of each column.
struct Header {
    /// Index of each column by its name.
    columns: HashMap<String, usize>,
    /// Number of fields of the header.
    count: usize,
}

impl Header {
    fn new(record: &ByteRecord, source: &str) -> Result<Self, HistoryError> {
        let mut columns = HashMap::new();
        for (index, name) in record.iter().enumerate() {
            let name = str::from_utf8(name).map_err(|_| HistoryError::Header {
                source_name: source.into(),
                name: name.escape_ascii().to_string(),
            })?;
            let name = name.trim();
            let twice = columns.insert(name.to_owned(), index).is_some();
            if twice && (REQUIRED.contains(&name) || [PARAMETERS, OTHER_ESTIMATES].contains(&name)) {
                return Err(HistoryError::Twice { source_name: source.into(), column: name.into() });
            }
        }
        for needed in REQUIRED {
            if !columns.contains_key(needed) {
                let similarity =
                    |name: &&String| strsim::jaro_winkler(&name.to_lowercase(), &needed.to_lowercase());
                let nearest = columns.keys().max_by(|a, b| {
                    // Ties are broken by name, because a map has no order.
                    similarity(a).total_cmp(&similarity(b)).then_with(|| b.cmp(a))
                });
                let mut found: Vec<(usize, &str)> =
                    columns.iter().map(|(name, index)| (*index, name.as_str())).collect();
                found.sort_unstable();
                return Err(HistoryError::Column {
                    source_name: source.into(),
                    column: needed,
                    nearest: nearest.filter(|name| similarity(name) > 0.8).cloned(),
                    separator: separator(&found),
                    found: found.into_iter().map(|(_, name)| name.to_owned()).collect(),
                });
            }
        }
        Ok(Self { columns, count: record.len() })
    }

    fn credit(&self, source: &str) -> String {
        if self.columns.contains_key(EPOCH_COLUMN) {
            "Data: Epoch AI, Notable AI Models, CC BY (epoch.ai/data)".into()
        } else {
            format!("Data: {source}; its own terms apply")
        }
    }

    /// Returns the field of a column, or an empty field if the file does not have the column.
    fn field<'r>(&self, record: &'r ByteRecord, column: &str) -> &'r [u8] {
        self.columns.get(column).and_then(|index| record.get(*index)).unwrap_or_default()
    }

    /// Returns the trimmed text of the field of a column.
    fn text(&self, record: &ByteRecord, column: &str) -> String {
        String::from_utf8_lossy(self.field(record, column)).trim().to_owned()
    }

    /// Adds a record to the systems of the table, or to the entries that are left out. `lines` maps the names of
    /// earlier systems to their line numbers.
    fn add_record(
        &self,
        record: &ByteRecord,
        line: u64,
        table: &mut Table,
        lines: &mut HashMap<String, u64>,
    ) {
        let name = self.text(record, MODEL);
        let left_out = |part, reason| LeftOut { line, name: name.clone(), part, reason };
        let date = match self.valid_date(record, &name, lines) {
            Ok(date) => date,
            Err(reason) => return table.left_out.push(left_out(LeftOutPart::System, reason)),
        };
        let text = |column: &str| self.text(record, column);
        let (flops, parameters) = (parse_positive(&text(COMPUTE)), parse_positive(&text(PARAMETERS)));
        let has_parameters = self.columns.contains_key(PARAMETERS);
        match (&flops, &parameters) {
            (Err(flops), Err(_)) if !has_parameters => {
                let reason = format!("training compute: {flops}");
                return table.left_out.push(left_out(LeftOutPart::System, reason));
            }
            (Err(flops), Err(parameters)) => {
                let reason = format!("training compute: {flops}; parameters: {parameters}");
                return table.left_out.push(left_out(LeftOutPart::System, reason));
            }
            (Err(flops), _) => {
                table.left_out.push(left_out(LeftOutPart::Compute, format!("training compute: {flops}")));
            }
            (_, Err(parameters)) if has_parameters => {
                table.left_out.push(left_out(LeftOutPart::Parameters, format!("parameters: {parameters}")));
            }
            _ => {}
        }
        let mut others = Vec::new();
        for entry in text(OTHER_ESTIMATES).split("; ").map(str::trim).filter(|entry| !entry.is_empty()) {
            match parse_estimate(entry) {
                Ok(other) => others.push(other),
                Err(reason) => {
                    let reason = format!("other estimate: {reason}");
                    table.left_out.push(left_out(LeftOutPart::Estimate, reason));
                }
            }
        }
        lines.insert(name.clone(), line);
        table.systems.push(System {
            id: table.systems.len(),
            line,
            name: name.clone(),
            domain: text("Domain"),
            organization: text("Organization"),
            date,
            flops: flops.ok(),
            parameters: parameters.ok(),
            reference: text("Reference"),
            link: text("Link"),
            notes: text("Training compute notes"),
            others,
        });
    }

    /// Returns the date of a record, or the reason why no part of the record can be used.
    fn valid_date(
        &self,
        record: &ByteRecord,
        name: &str,
        lines: &HashMap<String, u64>,
    ) -> Result<Date, String> {
        if record.len() != self.count {
            return Err(format!("the record has {} fields, but the header has {}", record.len(), self.count));
        }
        if let Some(field) = record.iter().find(|field| str::from_utf8(field).is_err()) {
            return Err(format!("not UTF-8: {}", truncated(&field.escape_ascii().to_string())));
        }
        if name.is_empty() {
            return Err("the name is missing".into());
        }
        if let Some(first) = lines.get(name) {
            return Err(format!("the name is already used on line {first}"));
        }
        let date = truncated(&self.text(record, DATE)).parse::<Date>().and_then(Date::plausible);
        date.map_err(|error| error.to_string())
    }
}

/// Returns at most the first [`MAX_QUOTED`] characters of a text, for a message.
pub(super) fn truncated(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

/// Returns the first of [`SEPARATORS`] that separates a required column from the others in the header, if any. `found`
/// contains the columns between commas, with their indices.
fn separator(found: &[(usize, &str)]) -> Option<char> {
    let separates = |separator: &char| {
        let mut parts = found.iter().filter(|(_, name)| name.contains(*separator)).flat_map(|(_, name)| {
            name.split(*separator).map(|part| part.trim_matches(|c: char| c == '"' || c.is_whitespace()))
        });
        parts.any(|part| REQUIRED.contains(&part))
    };
    SEPARATORS.into_iter().find(separates)
}

/// Parses a finite, positive number. The error is the reason why the text is not a valid number.
fn parse_positive(text: &str) -> Result<f64, String> {
    if text.is_empty() {
        return Err("none given".into());
    }
    if let Ok(value) = text.parse::<f64>() {
        return match value {
            _ if !value.is_finite() => Err(format!("{} is not finite", truncated(text))),
            _ if value <= 0.0 => Err(format!("{} is not positive", truncated(text))),
            _ => Ok(value),
        };
    }
    let shown = truncated(text);
    let is_number = |part: &str| part.trim().parse::<f64>().is_ok();
    let are_numbers = |(low, high): (&str, &str)| is_number(low) && is_number(high);
    // A minus sign in an exponent is not a range: numbers such as 1e-3 were parsed above.
    let range = ["–", "—", " to ", "..", "-"].iter().any(|mark| {
        text.match_indices(mark).any(|(at, found)| are_numbers((&text[..at], &text[at + found.len()..])))
    });
    if range {
        return Err(format!("{shown:?} is a range"));
    }
    let joined: String = text.chars().filter(|c| !matches!(c, ',' | '_' | '\'' | ' ')).collect();
    if joined.len() < text.len() && is_number(&joined) {
        return Err(format!("{shown:?} contains thousands separators"));
    }
    Err(format!("{shown:?} is not a number"))
}

/// Parses an estimate of the form `5.0e17 (source)`.
fn parse_estimate(text: &str) -> Result<Estimate, String> {
    let problem = |what: &str| format!("{:?} {what}", truncated(text));
    let (value, source) = text.split_once('(').ok_or_else(|| problem("has no source in parentheses"))?;
    let source = source.strip_suffix(')').ok_or_else(|| problem("does not end with a parenthesis"))?;
    Ok(Estimate { flops: parse_positive(value.trim())?, source: source.trim().to_owned() })
}

/// Returns the byte index of a quote that is not closed, if any. Such a quote would make the rest of the file one
/// field.
fn open_quote(text: &[u8]) -> Option<usize> {
    enum State {
        FieldStart,
        Plain,
        Quoted(usize),
        /// After a quote within a quoted field: the end of the field, or the first half of an escaped quote.
        Closing(usize),
    }
    let mut state = State::FieldStart;
    for (at, &byte) in text.iter().enumerate() {
        state = match (state, byte) {
            (State::Quoted(from), b'"') => State::Closing(from),
            (State::Quoted(from), _) => State::Quoted(from),
            (State::Closing(from), b'"') => State::Quoted(from),
            (State::FieldStart, b'"') => State::Quoted(at),
            (_, b',' | b'\n' | b'\r') => State::FieldStart,
            _ => State::Plain,
        };
    }
    if let State::Quoted(from) = state { Some(from) } else { None }
}

/// Counts the lines of a file while it is read.
struct LineCounter<'a> {
    text: &'a [u8],
    at: usize,
    line: u64,
}

impl<'a> LineCounter<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, line: 1 }
    }

    /// Returns the line number, from 1, of the record that begins at byte `at` or after the line breaks at `at`.
    /// Successive calls must pass ascending values of `at`.
    fn line_at(&mut self, at: usize) -> u64 {
        let blank = self.text.get(at..).unwrap_or_default();
        let at = at + blank.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        for index in self.at..at.min(self.text.len()) {
            // A carriage return ends a line if no line feed follows.
            let lone_carriage_return =
                || self.text[index] == b'\r' && self.text.get(index + 1) != Some(&b'\n');
            self.line += u64::from(self.text[index] == b'\n' || lone_carriage_return());
        }
        self.at = self.at.max(at);
        self.line
    }
}
