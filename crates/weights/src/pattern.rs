//! Patterns of tensor names, such as `layer1.*`.

use crate::WeightsError;
use std::fmt;
use std::str::FromStr;

/// A pattern of tensor names, in which `*` matches any sequence of characters, including dots and the empty sequence.
///
/// `fc.*` matches `fc.weight`, `layer1.*` matches `layer1.0.bn1.bias`, and `*.bias` matches every bias. A pattern
/// without `*` matches exactly one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// Returns [`WeightsError::Pattern`] if the text is empty or contains white space.
    pub fn new(text: &str) -> Result<Self, WeightsError> {
        match text.is_empty() || text.contains(char::is_whitespace) {
            true => Err(WeightsError::Pattern(text.to_owned())),
            false => Ok(Self(text.to_owned())),
        }
    }

    /// Whether the pattern matches the whole name.
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut p, mut n) = (0, 0);
        // Position of the last star, and the end of the characters that it matches so far. Only the last star is ever
        // extended, so the time is bounded by the product of the lengths of pattern and name.
        let mut star = None;
        while n < name.len() {
            if pattern.get(p) == Some(&b'*') {
                star = Some((p, n));
                p += 1;
            } else if pattern.get(p) == Some(&name[n]) {
                p += 1;
                n += 1;
            } else if let Some((at, end)) = star {
                star = Some((at, end + 1));
                p = at + 1;
                n = end + 1;
            } else {
                return false;
            }
        }
        pattern[p..].iter().all(|&byte| byte == b'*')
    }

    /// Checks that every pattern matches at least one name.
    ///
    /// # Errors
    /// Returns [`WeightsError::Unmatched`] for the first pattern that matches no name.
    pub fn check_all(patterns: &[Self], names: &[&str]) -> Result<(), WeightsError> {
        match patterns.iter().find(|pattern| !names.iter().any(|name| pattern.matches(name))) {
            None => Ok(()),
            Some(unmatched) => Err(WeightsError::Unmatched {
                pattern: unmatched.0.clone(),
                names: names.iter().map(|&name| name.to_owned()).collect(),
            }),
        }
    }
}

impl FromStr for Pattern {
    type Err = WeightsError;

    fn from_str(text: &str) -> Result<Self, WeightsError> {
        Self::new(text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_matches_any_characters() {
        let cases = [
            ("fc.*", "fc.weight", true),
            ("fc.*", "fc2.weight", false),
            ("fc.*", "fc", false),
            ("fc*", "fc", true),
            ("layer1.*", "layer1.0.bn1.bias", true),
            ("*.bias", "layer1.0.bn1.bias", true),
            ("*.bias", "layer1.0.bn1.bias2", false),
            ("*.bn*.weight", "layer1.0.bn1.weight", true),
            ("*.bn*.weight", "layer1.0.conv1.weight", false),
            ("layer*.0.*.weight", "layer4.1.0.weight", false),
            ("*", "", true),
            ("**", "anything", true),
            ("fc.weight", "fc.weight", true),
            ("fc.weight", "fc.weights", false),
            ("f?.weight", "fc.weight", false),
            ("*abab", "ababab", true),
            ("schicht.*", "schicht.größe", true),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(Pattern::new(pattern).unwrap().matches(name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn many_stars_match_quickly() {
        let pattern = Pattern::new(&"*a".repeat(2000)).unwrap();
        assert!(!pattern.matches(&format!("{}b", "a".repeat(10_000))));
    }

    #[test]
    fn invalid_patterns_are_rejected() {
        for text in ["", " ", "fc.* bn.*"] {
            assert!(matches!(text.parse::<Pattern>(), Err(WeightsError::Pattern(_))), "{text:?}");
        }
    }
}
