//! Median and range of a quantity over several seeds.

use crate::page::number;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Median, minimum and maximum of a set of values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Lowest value.
    #[serde(with = "wgrad_stdx::float")]
    pub low: f64,
    /// Median: the middle value, or the mean of the two middle values.
    #[serde(with = "wgrad_stdx::float")]
    pub median: f64,
    /// Highest value.
    #[serde(with = "wgrad_stdx::float")]
    pub high: f64,
    /// Number of values.
    pub count: usize,
}

impl Spread {
    /// Computes the spread of values, or returns `None` if there are no values. NaN is treated as infinity.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let nan_as_infinite = |value: f64| if value.is_nan() { f64::INFINITY } else { value };
        let mut values: Vec<f64> = values.into_iter().map(nan_as_infinite).collect();
        values.sort_unstable_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let count = values.len();
        let (below, above) = (values[(count - 1) / 2], values[count / 2]);
        // Halve before adding, because the sum of two large values could overflow.
        let median = if below == above { below } else { 0.5 * below + 0.5 * above };
        Some(Self { low, median, high, count })
    }

    /// Groups values by key and computes the spread of each group. Keys are in increasing order.
    pub fn by_key(pairs: impl Iterator<Item = (u64, f64)>) -> Vec<(u64, Self)> {
        let mut groups: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for (key, value) in pairs {
            groups.entry(key).or_default().push(value);
        }
        groups.into_iter().filter_map(|(key, values)| Some((key, Self::of(values)?))).collect()
    }
}

/// Formats the spread as `0.4120 (0.4000 to 0.4300)`, or as `0.4120` if there is only one value.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&number(self.median))?;
        if self.count > 1 {
            write!(f, " ({} to {})", number(self.low), number(self.high))?;
        }
        Ok(())
    }
}
