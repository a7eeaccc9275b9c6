//! Reading a table of systems: comma-separated values with the column names of Epoch AI's published file, which the project's
//! own table has too. What cannot be used is listed by line and left out; nothing is guessed.

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
/// Without these there is no history.
const NEEDED: [&str; 3] = [MODEL, DATE, COMPUTE];
/// A column of ours: `5.0e17 (source); 4.7e17 (another)`.
const OTHERS: &str = "Other estimates";
/// What else than commas tables are separated by.
const SEPARATORS: [char; 3] = [';', '\t', '|'];
/// Of a text that is quoted in a message, so many characters are shown.
const SHOWN: usize = 80;
/// A column that only Epoch AI's file has.
const EPOCH: &str = "Notability criteria";

/// Systems, and what could not be used of the file that they are from.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// The file's name, or what else it is called.
    pub source: String,
    /// Whose data these are, and under which terms.
    pub credit: String,
    /// By line. A system has a date, and training compute, parameters or both.
    pub systems: Vec<System>,
    /// By line.
    pub left_out: Vec<LeftOut>,
}

/// One system of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct System {
    /// Its place among the systems, by which trends name it.
    pub id: usize,
    /// The line of the file on which its record begins, from 1.
    pub line: u64,
    /// What it is called.
    pub name: String,
    /// What it does.
    pub domain: String,
    /// Who made it.
    pub organization: String,
    /// The day it was published.
    pub date: Date,
    /// Floating-point operations of its training.
    pub flops: Option<f64>,
    /// Trained numbers.
    pub parameters: Option<f64>,
    /// Where it was published.
    pub reference: String,
    /// And where to read that.
    pub link: String,
    /// How the training compute was obtained.
    pub notes: String,
    /// What others said that it was, or what another way to count gives.
    pub others: Vec<Estimate>,
}

/// Another figure for a system's training compute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Floating-point operations.
    pub flops: f64,
    /// Whose it is.
    pub source: String,
}

/// How much of a record is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// All of it.
    System,
    /// Its training compute; the system still has parameters.
    Compute,
    /// Its parameters; the system still has training compute.
    Parameters,
    /// One of its other estimates.
    Estimate,
}

/// Something of a file that is not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The line on which the record begins, from 1.
    pub line: u64,
    /// What the system is called, where it has a name.
    pub name: String,
    /// How much is left out.
    pub part: Part,
    /// Why.
    pub reason: String,
}

/// Reads a table. `source` says what it is called, in errors and on the page.
///
/// A record needs a name, and a day of the years 1900 to 2100. Of records with the same name the first is kept. A number is plain: digits, a point, an
/// exponent; ranges, separators of thousands, text and what is not above 0 are left out with their line, as are records with
/// another number of fields than the header. A file without the column of parameters has systems without them.
///
/// # Errors
/// [`HistoryError`] where the file as a whole is no such table: it is empty, a needed column is missing or there twice, its
/// header is not UTF-8, or a quote never ends.
pub fn parse(text: &[u8], source: &str) -> Result<Table, HistoryError> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    if text.trim_ascii().is_empty() {
        return Err(HistoryError::Empty { source_name: source.into() });
    }
    if let Some(at) = open_quote(text) {
        return Err(HistoryError::Quote { source_name: source.into(), line: Lines::of(text).at(at) });
    }
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text);
    let mut record = ByteRecord::new();
    let mut header = None;
    let mut table =
        Table { source: source.into(), credit: String::new(), systems: Vec::new(), left_out: Vec::new() };
    let mut seen = HashMap::new();
    let mut lines = Lines::of(text);
    loop {
        let more = reader.read_byte_record(&mut record);
        let at = record.position().map_or(0, |position| position.byte() as usize);
        let line = lines.at(at);
        let more = more.map_err(|error| HistoryError::Read {
            source_name: source.into(),
            line,
            reason: error.to_string(),
        })?;
        if !more {
            return Ok(table);
        }
        let Some(header) = &header else {
            let read = Header::of(&record, source)?;
            table.credit = read.credit(source);
            header = Some(read);
            continue;
        };
        header.take(&record, line, &mut table, &mut seen);
    }
}

/// The columns of a file.
struct Header {
    columns: HashMap<String, usize>,
    count: usize,
}

impl Header {
    fn of(record: &ByteRecord, source: &str) -> Result<Self, HistoryError> {
        let mut columns = HashMap::new();
        for (index, name) in record.iter().enumerate() {
            let name = str::from_utf8(name).map_err(|_| HistoryError::Header {
                source_name: source.into(),
                name: name.escape_ascii().to_string(),
            })?;
            let name = name.trim();
            let twice = columns.insert(name.to_owned(), index).is_some();
            if twice && (NEEDED.contains(&name) || [PARAMETERS, OTHERS].contains(&name)) {
                return Err(HistoryError::Twice { source_name: source.into(), column: name.into() });
            }
        }
        for needed in NEEDED {
            if !columns.contains_key(needed) {
                let likeness =
                    |name: &&String| strsim::jaro_winkler(&name.to_lowercase(), &needed.to_lowercase());
                let nearest = columns.keys().max_by(|a, b| {
                    // By name as well, since a map has no order.
                    likeness(a).total_cmp(&likeness(b)).then_with(|| b.cmp(a))
                });
                let mut found: Vec<(usize, &str)> =
                    columns.iter().map(|(name, index)| (*index, name.as_str())).collect();
                found.sort_unstable();
                return Err(HistoryError::Column {
                    source_name: source.into(),
                    column: needed,
                    nearest: nearest.filter(|name| likeness(name) > 0.8).cloned(),
                    separator: separator(&found),
                    found: found.into_iter().map(|(_, name)| name.to_owned()).collect(),
                });
            }
        }
        Ok(Self { columns, count: record.len() })
    }

    fn credit(&self, source: &str) -> String {
        if self.columns.contains_key(EPOCH) {
            "Data: Epoch AI, Notable AI Models, CC BY (epoch.ai/data)".into()
        } else {
            format!("Data: {source}; its terms are those of whoever gave it")
        }
    }

    /// Puts a record among the systems, or says why not.
    fn take(&self, record: &ByteRecord, line: u64, table: &mut Table, seen: &mut HashMap<String, u64>) {
        let raw =
            |column: &str| self.columns.get(column).and_then(|index| record.get(*index)).unwrap_or_default();
        let name = String::from_utf8_lossy(raw(MODEL)).trim().to_owned();
        let left_out = |part, reason| LeftOut { line, name: name.clone(), part, reason };
        let all = |reason| left_out(Part::System, reason);
        if record.len() != self.count {
            let reason = format!("{} fields, where the header has {}", record.len(), self.count);
            return table.left_out.push(all(reason));
        }
        if let Some(field) = record.iter().find(|field| str::from_utf8(field).is_err()) {
            return table
                .left_out
                .push(all(format!("not UTF-8: {}", cut(&field.escape_ascii().to_string()))));
        }
        let text = |column: &str| String::from_utf8_lossy(raw(column)).trim().to_owned();
        if name.is_empty() {
            return table.left_out.push(all("no name".into()));
        }
        if let Some(first) = seen.get(&name) {
            return table.left_out.push(all(format!("the same name as on line {first}, which is kept")));
        }
        let date = match cut(&text(DATE)).parse::<Date>().and_then(Date::of_a_system) {
            Ok(date) => date,
            Err(error) => return table.left_out.push(all(error.to_string())),
        };
        let (flops, parameters) = (number(&text(COMPUTE)), number(&text(PARAMETERS)));
        let reason = |what: &str, why: &str| format!("{what}: {why}");
        let counts_parameters = self.columns.contains_key(PARAMETERS);
        match (&flops, &parameters) {
            (Err(flops), Err(_)) if !counts_parameters => {
                return table.left_out.push(all(reason("training compute", flops)));
            }
            (Err(flops), Err(parameters)) => {
                let both =
                    format!("{}; {}", reason("training compute", flops), reason("parameters", parameters));
                return table.left_out.push(all(both));
            }
            (Err(why), _) => table.left_out.push(left_out(Part::Compute, reason("training compute", why))),
            (_, Err(why)) if counts_parameters => {
                table.left_out.push(left_out(Part::Parameters, reason("parameters", why)))
            }
            _ => {}
        }
        let mut others = Vec::new();
        for part in text(OTHERS).split("; ").map(str::trim).filter(|part| !part.is_empty()) {
            match estimate(part) {
                Ok(other) => others.push(other),
                Err(why) => table.left_out.push(left_out(Part::Estimate, reason("another estimate", &why))),
            }
        }
        seen.insert(name.clone(), line);
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
}

/// The beginning of a text that somebody else wrote, for a message.
pub(super) fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

/// What separates the names of a header that commas do not: one of some characters between which a needed column stands.
fn separator(found: &[(usize, &str)]) -> Option<char> {
    let between = |separator: &char| {
        let mut parts = found.iter().filter(|(_, name)| name.contains(*separator)).flat_map(|(_, name)| {
            name.split(*separator).map(|part| part.trim_matches(|c: char| c == '"' || c.is_whitespace()))
        });
        parts.any(|part| NEEDED.contains(&part))
    };
    SEPARATORS.into_iter().find(between)
}

/// A number above 0, or why there is none.
fn number(text: &str) -> Result<f64, String> {
    if text.is_empty() {
        return Err("none given".into());
    }
    if let Ok(value) = text.parse::<f64>() {
        return match value {
            _ if !value.is_finite() => Err(format!("{} is not finite", cut(text))),
            _ if value <= 0.0 => Err(format!("{} is not above 0", cut(text))),
            _ => Ok(value),
        };
    }
    let shown = cut(text);
    let digits = |part: &str| part.trim().parse::<f64>().is_ok();
    let ends = |(low, high): (&str, &str)| digits(low) && digits(high);
    // Not at the minus of an exponent: 1e-3 is no range, and is read above.
    let range = ["–", "—", " to ", "..", "-"].iter().any(|mark| {
        text.match_indices(mark).any(|(at, found)| ends((&text[..at], &text[at + found.len()..])))
    });
    if range {
        return Err(format!("{shown:?} is a range"));
    }
    let joined: String = text.chars().filter(|c| !matches!(c, ',' | '_' | '\'' | ' ')).collect();
    if joined.len() < text.len() && digits(&joined) {
        return Err(format!("{shown:?} has separators in it"));
    }
    Err(format!("{shown:?} is no number"))
}

/// `5.0e17 (source)`.
fn estimate(text: &str) -> Result<Estimate, String> {
    let without = |what: &str| format!("{:?} {what}", cut(text));
    let (value, source) = text.split_once('(').ok_or_else(|| without("names no source in brackets"))?;
    let source = source.strip_suffix(')').ok_or_else(|| without("does not end with a bracket"))?;
    Ok(Estimate { flops: number(value.trim())?, source: source.trim().to_owned() })
}

/// Where a quote begins that has no end: from there on the file would be one field.
fn open_quote(text: &[u8]) -> Option<usize> {
    enum State {
        FieldStart,
        Plain,
        Quoted(usize),
        /// After a quote within quotes: the end of them, or the first half of a quote that is meant.
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

/// Counts lines on the way through a file.
struct Lines<'a> {
    text: &'a [u8],
    at: usize,
    line: u64,
}

impl<'a> Lines<'a> {
    fn of(text: &'a [u8]) -> Self {
        Self { text, at: 0, line: 1 }
    }

    /// The line, from 1, of a record that begins at `at` or after the ends of lines there; places come by rising `at`.
    fn at(&mut self, at: usize) -> u64 {
        let blank = self.text.get(at..).unwrap_or_default();
        let at = at + blank.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        for index in self.at..at.min(self.text.len()) {
            // A carriage return counts where no line feed follows it.
            let lone = || self.text[index] == b'\r' && self.text.get(index + 1) != Some(&b'\n');
            self.line += u64::from(self.text[index] == b'\n' || lone());
        }
        self.at = self.at.max(at);
        self.line
    }
}
