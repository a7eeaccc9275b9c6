//! The checks that every operation and device gets for free
