//! Static tensor graphs: types, the `Op` trait, differentiation and cost.

pub mod philox;
