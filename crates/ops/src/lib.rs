//! The table of operations: shape rule, gradient, lowering and reference body of each
