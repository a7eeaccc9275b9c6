//! Datasets, splits and batch sampling
