//! Serialization of floats as JSON, including values that are not finite.
//!
//! JSON cannot represent values that are not finite, so they become the strings `"NaN"`, `"inf"` and `"-inf"`.
//!
//! Use as `#[serde(with = "wgrad_stdx::float")]` on an `f64`, and `wgrad_stdx::float::option` on an `Option<f64>`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Converts a float to a JSON number, or to `"NaN"`, `"inf"` or `"-inf"`.
pub fn to_json(value: f64) -> Value {
    let word = || match value {
        nan if nan.is_nan() => "NaN",
        positive if positive > 0.0 => "inf",
        _ => "-inf",
    };
    serde_json::Number::from_f64(value).map_or_else(|| word().into(), Value::Number)
}

/// Converts a JSON number, `"NaN"`, `"inf"` or `"-inf"` to a float. Returns `None` for any other value.
pub fn from_json(value: &Value) -> Option<f64> {
    let word = || match value.as_str()? {
        "NaN" => Some(f64::NAN),
        "inf" => Some(f64::INFINITY),
        "-inf" => Some(f64::NEG_INFINITY),
        _ => None,
    };
    value.as_f64().or_else(word)
}

/// Serializes a float as [`to_json`] does.
///
/// # Errors
/// Returns the error of the serializer.
pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    to_json(*value).serialize(serializer)
}

/// Deserializes a float as [`from_json`] does.
///
/// # Errors
/// Returns an error if the value is neither a number nor one of the strings `"NaN"`, `"inf"` and `"-inf"`.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    parse(&Value::deserialize(deserializer)?)
}

fn parse<E: serde::de::Error>(value: &Value) -> Result<f64, E> {
    from_json(value)
        .ok_or_else(|| E::custom(format!("expected a number, \"NaN\", \"inf\" or \"-inf\", found {value}")))
}

/// Serialization of optional floats. `None` becomes `null`.
pub mod option {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Value, parse, to_json};

    /// Serializes an optional float as a number, a string or `null`.
    ///
    /// # Errors
    /// Returns the error of the serializer.
    pub fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(to_json).serialize(serializer)
    }

    /// Deserializes an optional float from a number, a string or `null`.
    ///
    /// # Errors
    /// Returns an error if the value is not `null`, a number, or one of the strings `"NaN"`, `"inf"` and `"-inf"`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        Option::<Value>::deserialize(deserializer)?.as_ref().map(parse).transpose()
    }
}
