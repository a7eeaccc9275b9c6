//! Tuning table: the fastest GEMM variants that [`Tuner`](crate::Tuner) has found on a device.

use std::collections::BTreeMap;

use super::variant::GemmVariant;

/// Fastest GEMM variants on a device, by [`gemm_key`](crate::gemm_key).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TuningTable {
    variants: BTreeMap<u64, GemmVariant>,
}

impl TuningTable {
    /// Returns the variant of a GEMM, or `None` if it was not tuned.
    pub fn get(&self, key: u64) -> Option<GemmVariant> {
        self.variants.get(&key).copied()
    }

    /// Sets the variant of the GEMM with this key, and replaces an earlier variant.
    pub fn insert(&mut self, key: u64, variant: GemmVariant) {
        self.variants.insert(key, variant);
    }

    /// Iterates over the key and variant of each GEMM, in order of keys.
    pub fn iter(&self) -> impl Iterator<Item = (u64, GemmVariant)> {
        self.variants.iter().map(|(&key, &variant)| (key, variant))
    }

    /// Returns the number of GEMMs in the table.
    pub fn len(&self) -> usize {
        self.variants.len()
    }

    /// Whether the table is empty.
    pub fn is_empty(&self) -> bool {
        self.variants.is_empty()
    }
}
