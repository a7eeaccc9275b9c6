//! Reads machines from TOML. Errors in the TOML text include the line and column.

use super::machine::{Link, Machine};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use wgrad_recipe::{Hint, Location};
use wgrad_stdx::ErrorKind;

/// Error while reading machines from a file or looking one up by name.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The file cannot be read.
    #[error("cannot read the machines in {}: {source}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Underlying I/O error.
        source: io::Error,
    },
    /// The text is not valid TOML, a key is missing, or a value has the wrong type.
    #[error("{at}: {message}")]
    Syntax {
        /// Position in the file.
        at: Location,
        /// Description of the error.
        message: String,
    },
    /// A section has an unknown key.
    #[error("{at}: unknown key `{key}`, {hint}")]
    UnknownKey {
        /// Position in the file.
        at: Location,
        /// The unknown key.
        key: String,
        /// The most similar valid key, or all valid keys if none is similar.
        hint: Hint,
    },
    /// A value is out of range.
    #[error("{at}: `{key}` must be {expected}, found {found}")]
    Invalid {
        /// Position in the file.
        at: Location,
        /// Key of the value, e.g. `between.latency`.
        key: String,
        /// Valid range, e.g. `greater than 0`.
        expected: &'static str,
        /// Value in the file.
        found: f64,
    },
    /// No machine has the given name.
    #[error("unknown machine `{name}`, {hint}")]
    Unknown {
        /// Name that was looked up.
        name: String,
        /// The most similar name of a machine, or all names if none is similar.
        hint: Hint,
    },
}

impl MachineError {
    /// Returns the kind of the error, always [`ErrorKind::Usage`].
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }
}

/// Section of the file that describes one [`Machine`], with the positions of its values.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    #[serde(default)]
    description: String,
    devices: Spanned<u64>,
    within: Option<LinkSection>,
    between: LinkSection,
    flops: Spanned<f64>,
    #[serde(default)]
    flops_of: BTreeMap<String, Spanned<f64>>,
    memory: Option<Spanned<f64>>,
    memory_bytes_per_second: Option<Spanned<f64>>,
    #[serde(default)]
    source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkSection {
    latency: Spanned<f64>,
    bytes_per_second: Spanned<f64>,
}

/// Reads the machines of a TOML file.
///
/// # Errors
/// Returns [`MachineError::Read`] if the file cannot be read, and the errors of [`parse`].
pub fn read(path: &Path) -> Result<Vec<Machine>, MachineError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| MachineError::Read { path: path.to_owned(), source })?;
    parse(&text, &path.display().to_string())
}

/// Parses machines from TOML, with one section for each machine. `origin` is the name of the text in errors, e.g. its
/// path.
///
/// # Errors
/// Returns [`MachineError::Syntax`] if the text is not valid TOML, a key is missing, or a value has the wrong type;
/// [`MachineError::UnknownKey`] for an unknown key; and [`MachineError::Invalid`] for a value out of range. Each error
/// includes the line and column.
///
/// ```
/// use wgrad_cluster::parse_machines;
///
/// let text = "[mine]\ndevices = 2\nflops = 1e12\nmemory = 8e9\nmemory_bytes_per_second = 2e11\n\
///     within = {latency = 1e-5, bytes_per_second = 1e10}\nbetween = {latency = 5e-5, bytes_per_second = 1.2e8}";
/// assert_eq!(parse_machines(text, "mine.toml")?[0].devices, 2);
///
/// let error = parse_machines(&text.replace("memory =", "memroy ="), "mine.toml").unwrap_err();
/// assert_eq!(error.to_string(), "mine.toml:4:1: unknown key `memroy`, did you mean `memory`?");
/// # Ok::<(), wgrad_cluster::MachineError>(())
/// ```
pub fn parse(text: &str, origin: &str) -> Result<Vec<Machine>, MachineError> {
    let source = Source { text, origin };
    let sections: BTreeMap<String, Section> =
        toml::from_str(text).map_err(|error| source.to_machine_error(&error))?;
    sections.into_iter().map(|(name, section)| source.machine(name, section)).collect()
}

struct Source<'a> {
    text: &'a str,
    origin: &'a str,
}

impl Source<'_> {
    fn at(&self, span: Option<Range<usize>>) -> Location {
        Location::in_text(self.origin, self.text, span)
    }

    fn machine(&self, name: String, section: Section) -> Result<Machine, MachineError> {
        let positive = |key: &str, value: &Spanned<f64>| {
            let found = *value.get_ref();
            let at = || self.at(Some(value.span()));
            let invalid =
                || MachineError::Invalid { at: at(), key: key.into(), expected: "greater than 0", found };
            (found.is_finite() && found > 0.0).then_some(found).ok_or_else(invalid)
        };
        let link = |name: &str, link: &LinkSection| {
            let found = *link.latency.get_ref();
            if !(found.is_finite() && found >= 0.0) {
                let (at, key) = (self.at(Some(link.latency.span())), format!("{name}.latency"));
                return Err(MachineError::Invalid { at, key, expected: "0 or more", found });
            }
            let rate = positive(&format!("{name}.bytes_per_second"), &link.bytes_per_second)?;
            Ok(Link { latency: found, bytes_per_second: rate })
        };
        let optional = |key: &str, value: &Option<Spanned<f64>>| {
            value.as_ref().map(|value| positive(key, value)).transpose()
        };
        let devices = *section.devices.get_ref();
        if !(1..=65536).contains(&devices) {
            let (at, key) = (self.at(Some(section.devices.span())), "devices".into());
            return Err(MachineError::Invalid {
                at,
                key,
                expected: "from 1 to 65536",
                found: devices as f64,
            });
        }
        let between = link("between", &section.between)?;
        let within = section.within.as_ref().map(|within| link("within", within)).transpose()?;
        let flops_of = section
            .flops_of
            .iter()
            .map(|(name, rate)| Ok((name.clone(), positive(&format!("flops_of.{name}"), rate)?)))
            .collect::<Result<_, MachineError>>()?;
        Ok(Machine {
            name,
            description: section.description,
            devices,
            // `within` is optional, because a node with one device does not use it.
            within: within.unwrap_or(between),
            between,
            flops: positive("flops", &section.flops)?,
            flops_of,
            memory: optional("memory", &section.memory)?,
            memory_bytes_per_second: optional("memory_bytes_per_second", &section.memory_bytes_per_second)?,
            source: if section.source.is_empty() { self.origin.to_owned() } else { section.source },
        })
    }

    /// Converts an error of the `toml` crate by parsing its message. Tests check the wording of the message.
    fn to_machine_error(&self, error: &toml::de::Error) -> MachineError {
        let (at, message) = (self.at(error.span()), error.message());
        let mut quoted = message.split('`').skip(1).step_by(2);
        if message.starts_with("unknown field") {
            let key = quoted.next().unwrap_or_default().to_owned();
            let hint = Hint::new(&key, quoted);
            return MachineError::UnknownKey { at, key, hint };
        }
        if message.starts_with("missing field") {
            let message = format!("`{}` is missing", quoted.next().unwrap_or_default());
            return MachineError::Syntax { at, message };
        }
        MachineError::Syntax { at, message: message.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# mine\n[lab]\ndevices = 2\nflops = 1e12\nmemory = 8e9\nmemory_bytes_per_second = 2e11\n\
        between = {latency = 5e-5, bytes_per_second = 1.2e8}\n";

    fn error_of(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from));
        parse(&GOOD.replace(from, to), "lab.toml").unwrap_err().to_string()
    }

    #[test]
    fn optional_keys_of_a_machine_have_defaults() {
        let all = parse(&format!("{GOOD}[lab.flops_of]\nresnet50 = 3e12\n"), "lab.toml").unwrap();
        assert_eq!((all.len(), all[0].name.as_str(), all[0].devices), (1, "lab", 2));
        assert_eq!(all[0].within, all[0].between);
        assert_eq!((all[0].flops_for("resnet50"), all[0].flops_for("other")), (3e12, 1e12));
        assert_eq!(all[0].source, "lab.toml");
    }

    #[test]
    fn errors_have_line_and_column() {
        assert_eq!(
            error_of("devices = 2", "devices = 0"),
            "lab.toml:3:11: `devices` must be from 1 to 65536, found 0"
        );
        assert_eq!(
            error_of("flops = 1e12", "flops = -1.0"),
            "lab.toml:4:9: `flops` must be greater than 0, found -1"
        );
        assert_eq!(
            error_of("latency = 5e-5", "latency = -1.0"),
            "lab.toml:7:22: `between.latency` must be 0 or more, found -1"
        );
        assert_eq!(
            error_of("memory =", "memroy ="),
            "lab.toml:5:1: unknown key `memroy`, did you mean `memory`?"
        );
        let missing = error_of("flops = 1e12\n", "");
        assert!(missing.starts_with("lab.toml:2:1") && missing.ends_with("`flops` is missing"), "{missing}");
        let kind = error_of("devices = 2", "devices = 'two'");
        assert!(kind.starts_with("lab.toml:3:11: "), "{kind}");
        let syntax = error_of("devices = 2", "devices = = 2");
        assert!(syntax.starts_with("lab.toml:3:"), "{syntax}");
    }
}
