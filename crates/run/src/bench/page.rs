use super::{Bench, Comparison};
use std::fmt;
pub(super) fn write(_page: &mut String, _bench: &Bench, _comparison: Option<&Comparison>) -> fmt::Result { Ok(()) }
