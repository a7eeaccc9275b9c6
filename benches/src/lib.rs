//! Throughput measurements
