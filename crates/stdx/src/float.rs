//! Floats in JSON. Values that are not finite, which JSON cannot express, become the strings `"NaN"`, `"inf"` and `"-inf"`.
//!
//! Use as `#[serde(with = "wgrad_stdx::float")]` on an `f64`, and `wgrad_stdx::float::option` on an `Option<f64>`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Returns a JSON number, or one of the three strings.
pub fn to_json(value: f64) -> Value {
    let word = || match value {
        nan if nan.is_nan() => "NaN",
        positive if positive > 0.0 => "inf",
        _ => "-inf",
    };
    serde_json::Number::from_f64(value).map_or_else(|| word().into(), Value::Number)
}

/// Reads a JSON number or one of the three strings; `None` for anything else.
pub fn from_json(value: &Value) -> Option<f64> {
    let word = || match value.as_str()? {
        "NaN" => Some(f64::NAN),
        "inf" => Some(f64::INFINITY),
        "-inf" => Some(f64::NEG_INFINITY),
        _ => None,
    };
    value.as_f64().or_else(word)
}

/// Serializes a float.
///
/// # Errors
/// Returns the serializer's error.
pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    to_json(*value).serialize(serializer)
}

/// Deserializes a float.
///
/// # Errors
/// Returns an error if the value is neither a number nor one of the three strings.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    parse(&Value::deserialize(deserializer)?)
}

fn parse<E: serde::de::Error>(value: &Value) -> Result<f64, E> {
    from_json(value).ok_or_else(|| E::custom(format!("{value} is not a number")))
}

/// Optional floats: `None` is `null`.
pub mod option {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Value, parse, to_json};

    /// Serializes an optional float.
    ///
    /// # Errors
    /// Returns the serializer's error.
    pub fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(to_json).serialize(serializer)
    }

    /// Deserializes an optional float.
    ///
    /// # Errors
    /// Returns an error if the value is neither `null`, a number nor one of the three strings.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        Option::<Value>::deserialize(deserializer)?.as_ref().map(parse).transpose()
    }
}
