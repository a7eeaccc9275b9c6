//! Numbers in JSON, which has no word for those that are not finite: they are the strings `"NaN"`, `"inf"` and `"-inf"`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

pub(crate) fn to_json(value: f64) -> Value {
    let word = || match value {
        nan if nan.is_nan() => "NaN",
        positive if positive > 0.0 => "inf",
        _ => "-inf",
    };
    serde_json::Number::from_f64(value).map_or_else(|| word().into(), Value::Number)
}

/// None if it is neither a number nor a word for one.
pub(crate) fn from_json(value: &Value) -> Option<f64> {
    let word = || match value.as_str()? {
        "NaN" => Some(f64::NAN),
        "inf" => Some(f64::INFINITY),
        "-inf" => Some(f64::NEG_INFINITY),
        _ => None,
    };
    value.as_f64().or_else(word)
}

/// For `#[serde(with = "crate::number")]`.
pub(crate) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    to_json(*value).serialize(serializer)
}

/// For `#[serde(with = "crate::number")]`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    parse(&Value::deserialize(deserializer)?)
}

fn parse<E: serde::de::Error>(value: &Value) -> Result<f64, E> {
    from_json(value).ok_or_else(|| E::custom(format!("{value} is no number")))
}

/// For `#[serde(with = "crate::number::option")]`: none is `null`.
pub(crate) mod option {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Value, parse, to_json};

    pub(crate) fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(to_json).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        Option::<Value>::deserialize(deserializer)?.as_ref().map(parse).transpose()
    }
}
