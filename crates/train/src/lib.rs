//! Training runs: trainer, metrics, checkpoints and run directories
