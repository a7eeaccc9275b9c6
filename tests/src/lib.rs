//! Whole trainings and the command line, tested from outside
