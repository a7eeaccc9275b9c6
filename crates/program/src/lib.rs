//! Lowering, fusion and memory planning: from a graph to a program that a device replays
