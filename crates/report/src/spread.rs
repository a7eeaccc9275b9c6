//! A number over several seeds.

use crate::page::number;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The median of some numbers, and how far they spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The lowest.
    #[serde(with = "wgrad_stdx::float")]
    pub low: f64,
    /// The middle one, or the mean of the two in the middle.
    #[serde(with = "wgrad_stdx::float")]
    pub median: f64,
    /// The highest.
    #[serde(with = "wgrad_stdx::float")]
    pub high: f64,
    /// How many there are.
    pub count: usize,
}

impl Spread {
    /// Of these numbers; NaN counts as infinite, being no better than that. None if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let worst = |value: f64| if value.is_nan() { f64::INFINITY } else { value };
        let mut values: Vec<f64> = values.into_iter().map(worst).collect();
        values.sort_unstable_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let count = values.len();
        let (below, above) = (values[(count - 1) / 2], values[count / 2]);
        // Not half of each sum: two large ones would overflow.
        let median = if below == above { below } else { 0.5 * below + 0.5 * above };
        Some(Self { low, median, high, count })
    }

    /// The numbers of each key, by rising key.
    pub fn by_key(pairs: impl Iterator<Item = (u64, f64)>) -> Vec<(u64, Self)> {
        let mut groups: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for (key, value) in pairs {
            groups.entry(key).or_default().push(value);
        }
        groups.into_iter().filter_map(|(key, values)| Some((key, Self::of(values)?))).collect()
    }
}

/// `0.4120 (0.4000 to 0.4300)`, without the brackets if there is one number.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&number(self.median))?;
        if self.count > 1 {
            write!(f, " ({} to {})", number(self.low), number(self.high))?;
        }
        Ok(())
    }
}
