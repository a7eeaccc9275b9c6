//! Derives the apt source of the backports suite from the sources that the machine has, by replacing the name
//! of the suite: the mirror, the options and the key stay the machine's, so that none is written down here.
//! Pure text; files are read and written in `apt.rs`.

/// How a sources file is written; the derived text is written in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `*.sources`: stanzas of `Key: value` lines.
    Deb822,
    /// `sources.list`, `*.list`: one line a source.
    OneLine,
}

impl Format {
    /// The format that apt reads a file of this name in, if it reads it at all.
    pub fn of(file_name: &str) -> Option<Self> {
        if file_name.ends_with(".sources") {
            Some(Self::Deb822)
        } else if file_name.ends_with(".list") {
            Some(Self::OneLine)
        } else {
            None
        }
    }

    pub fn extension(self) -> &'static str {
        match self {
            Self::Deb822 => "sources",
            Self::OneLine => "list",
        }
    }
}

/// Does the text name `suite` in a source that is switched on?
pub fn has_suite(text: &str, format: Format, suite: &str) -> bool {
    replaced(text, format, suite, suite).is_some()
}

/// The text of a source for `suite-backports`, from the first source for `suite` in the text.
pub fn backports(text: &str, format: Format, suite: &str) -> Option<String> {
    replaced(text, format, suite, &format!("{suite}-backports"))
}

fn replaced(text: &str, format: Format, suite: &str, with: &str) -> Option<String> {
    match format {
        Format::Deb822 => stanzas(text).iter().find_map(|stanza| replaced_stanza(stanza, suite, with)),
        Format::OneLine => text.lines().find_map(|line| replaced_line(line, suite, with)),
    }
}

/// Paragraphs without comments. A comment line does not end a paragraph, an empty line does.
fn stanzas(text: &str) -> Vec<Vec<&str>> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let paragraphs = lines.split(|line| line.trim().is_empty());
    paragraphs.filter(|stanza| !stanza.is_empty()).map(<[_]>::to_vec).collect()
}

fn replaced_stanza(stanza: &[&str], suite: &str, with: &str) -> Option<String> {
    let words = |key| field(stanza, key).into_iter().flat_map(str::split_whitespace);
    let on = !words("Enabled").any(|word| word.eq_ignore_ascii_case("no"));
    if !on || !words("Types").any(|word| word == "deb") || !words("Suites").any(|word| word == suite) {
        return None;
    }
    let mut text = String::new();
    for line in stanza {
        match key(line) {
            Some(key) if key.eq_ignore_ascii_case("Suites") => text.push_str(&format!("Suites: {with}")),
            Some(key) if key.eq_ignore_ascii_case("Types") => text.push_str("Types: deb"),
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    Some(text)
}

/// The value of a field that stands on one line, as the fields looked at here do.
fn field<'a>(stanza: &[&'a str], name: &str) -> Option<&'a str> {
    let line = stanza.iter().find(|line| key(line).is_some_and(|key| key.eq_ignore_ascii_case(name)))?;
    line.split_once(':').map(|(_, value)| value)
}

/// The key of a line; a continuation line (it begins with a blank, like those of a key block) has none.
fn key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once(':')?;
    (!key.starts_with([' ', '\t'])).then_some(key)
}

fn replaced_line(line: &str, suite: &str, with: &str) -> Option<String> {
    let line = line.split('#').next()?.trim();
    let after_type = line.strip_prefix("deb")?;
    if !after_type.starts_with([' ', '\t', '[']) {
        return None;
    }
    // Options stand in brackets and may hold blanks: the words begin behind them.
    let (options, rest) = match after_type.trim_start().strip_prefix('[') {
        Some(bracketed) => {
            bracketed.split_once(']').map(|(options, rest)| (format!("[{options}] "), rest))?
        }
        None => (String::new(), after_type),
    };
    let words: Vec<&str> = rest.split_whitespace().collect();
    match words.as_slice() {
        [uri, found, components @ ..] if *found == suite && !components.is_empty() => {
            Some(format!("deb {options}{uri} {with} {}\n", components.join(" ")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCES: &str = "\
Types: deb
# a comment
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main

# A stanza that is switched off.
Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm

Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 Suites: not a field
";

    #[test]
    fn deb822_takes_the_stanza_of_the_suite_itself() {
        let derived = backports(SOURCES, Format::Deb822, "bookworm").unwrap();
        assert_eq!(
            derived,
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm-backports\nComponents: main contrib\n\
             Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n Suites: not a field\n"
        );
        assert!(has_suite(&derived, Format::Deb822, "bookworm-backports"));
    }

    #[test]
    fn deb822_without_the_suite_gives_nothing() {
        assert_eq!(backports(SOURCES, Format::Deb822, "trixie"), None);
        assert!(!has_suite(SOURCES, Format::Deb822, "bookworm-backports"));
        let only_sources = "Types: deb-src\nURIs: http://mirror.example/debian\nSuites: bookworm\n";
        assert_eq!(backports(only_sources, Format::Deb822, "bookworm"), None);
    }

    #[test]
    fn one_line_keeps_options_and_components() {
        let text = "# deb http://off.example/debian bookworm main\n\
                    deb-src http://mirror.example/debian bookworm main\n\
                    deb http://mirror.example/debian bookworm-updates main\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main contrib # why\n";
        assert_eq!(
            backports(text, Format::OneLine, "bookworm").as_deref(),
            Some(
                "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm-backports main contrib\n"
            )
        );
        assert!(!has_suite(text, Format::OneLine, "bookworm-backports"));
        assert!(has_suite(text, Format::OneLine, "bookworm-updates"));
    }

    #[test]
    fn one_line_plain_and_broken() {
        let plain = "deb\thttp://mirror.example/debian  bookworm main";
        assert_eq!(
            backports(plain, Format::OneLine, "bookworm").as_deref(),
            Some("deb http://mirror.example/debian bookworm-backports main\n")
        );
        for broken in
            ["", "deb", "debug http://m bookworm main", "deb [x http://m bookworm main", "deb http://m"]
        {
            assert_eq!(backports(broken, Format::OneLine, "bookworm"), None, "{broken}");
        }
    }

    #[test]
    fn format_is_that_of_apt() {
        assert_eq!(Format::of("debian.sources"), Some(Format::Deb822));
        assert_eq!(Format::of("sources.list"), Some(Format::OneLine));
        assert_eq!(Format::of("x.list.disabled"), None);
    }
}
