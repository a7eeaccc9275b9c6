//! One runnable file an idea
