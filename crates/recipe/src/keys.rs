//! Keys and kinds of the sections, in the order of their declaration.
//!
//! The names are read from serde's errors about an unknown field or variant, since no other place keeps their order.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapDeserializer;

use super::{Augment, Data, Model, Optimizer, Schedule, Train, Transfer};

/// Keys at the top level of a recipe, except the sections and [`FORMAT_KEY`].
pub(super) const TOP: &[&str] = &["name", "description"];
/// Names of the sections.
pub(super) const SECTIONS: &[&str] = &["data", "model", "optimizer", "schedule", "transfer", "train"];
/// Paths of the tables within sections.
pub(super) const NESTED: &[&str] = &["data.augment"];
/// Key of the format version.
pub(super) const FORMAT_KEY: &str = "format";

/// Returns the keys of a section for a kind, except the key `kind`; empty if the section or kind is unknown.
pub(super) fn keys(section: &str, kind: &str) -> &'static [&'static str] {
    match section {
        "data" => keys_of_kind::<Data>(kind),
        "model" => keys_of_kind::<Model>(kind),
        "optimizer" => keys_of_kind::<Optimizer>(kind),
        "schedule" => keys_of_kind::<Schedule>(kind),
        "transfer" => expected::<Transfer>(&[UNKNOWN]),
        "train" => expected::<Train>(&[UNKNOWN]),
        "data.augment" => expected::<Augment>(&[UNKNOWN]),
        _ => &[],
    }
}

/// Returns the kinds of a section; empty for a section without kinds.
pub(super) fn kinds(section: &str) -> &'static [&'static str] {
    match section {
        "data" => kinds_of::<Data>(),
        "model" => kinds_of::<Model>(),
        "optimizer" => kinds_of::<Optimizer>(),
        "schedule" => kinds_of::<Schedule>(),
        _ => &[],
    }
}

/// Map entry with a key that no section has.
const UNKNOWN: (&str, &str) = ("\0", "");

fn kinds_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    expected::<T>(&[("kind", UNKNOWN.0)])
}

fn keys_of_kind<T: for<'de> Deserialize<'de>>(kind: &str) -> &'static [&'static str] {
    if !kinds_of::<T>().contains(&kind) {
        return &[];
    }
    let entries = [("kind", kind), UNKNOWN];
    T::deserialize(MapDeserializer::new(entries.into_iter())).err().map_or(&[], |Expected(names)| names)
}

/// Deserialises a map with an unknown name, and returns the names that the error reports as expected.
fn expected<'de, T: Deserialize<'de>>(entries: &[(&'static str, &'static str)]) -> &'static [&'static str] {
    T::deserialize(MapDeserializer::new(entries.iter().copied())).err().map_or(&[], |Expected(names)| names)
}

/// Deserialisation error that keeps the names expected in place of an unknown field or variant.
#[derive(Debug)]
struct Expected(&'static [&'static str]);

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected one of {}", self.0.join(", "))
    }
}

impl std::error::Error for Expected {}

impl serde::de::Error for Expected {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(&[])
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self(expected)
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        Self(expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_kinds_are_listed_in_order() {
        assert_eq!(kinds("optimizer"), ["sgd", "adam", "adamw"]);
        assert_eq!(keys("optimizer", "sgd"), ["lr", "momentum", "nesterov", "weight_decay", "clip_norm"]);
        assert_eq!(keys("schedule", "cosine"), ["warmup_steps", "min_lr"]);
        assert_eq!(keys("train", "")[..2], ["epochs", "steps"]);
        assert_eq!(keys("data.augment", "")[..2], ["scale", "crop"]);
        assert_eq!(keys("optimizer", "adamv"), [""; 0]);
        assert_eq!((keys("none", ""), kinds("train")), (&[][..], &[][..]));
        assert!(NESTED.iter().chain(["transfer"].iter()).all(|section| !keys(section, "").is_empty()));
    }

    #[test]
    fn kinds_match_the_types() {
        let of = |kinds: &'static [&'static str]| kinds.to_vec();
        assert_eq!(of(kinds("model")), ["mlp", "residual-mlp", "resnet"]);
        assert_eq!(
            of(kinds("data")),
            ["digits", "fashion-mnist", "mnist", "cifar-10", "isic-2017", "image-folder", "image-csv", "csv"]
        );
        assert_eq!(of(kinds("schedule")), ["constant", "step", "cosine", "one-cycle"]);
    }
}
