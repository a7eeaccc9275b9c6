//! Tables of elementwise functions. A row is everything there is to say about one; adding an activation is adding a row.
//!
//! The Rust body is written once and compiled for f32 and f64; inside it `T` is the type. The gradient is an expression over
//! operations, in terms of the result where that can be, so that the argument need not be kept.

pub(crate) mod activation;
pub(crate) mod arithmetic;
pub(crate) mod functions;
mod special;

pub(crate) use crate::sample::Values;
pub(crate) use special::Special;

/// WGSL helpers. Each file stands alone and its names are its own, so that a kernel can hold any set of them, each once.
pub(crate) mod prelude {
    pub use wgrad_shaders::{ERF, EXP, LN, POW, SIGMOID, SOFTPLUS, TANH};
}

/// Samples from anywhere between −2 and 2.
pub(crate) const ANY: Values = Values::Uniform(-2.0, 2.0);
/// Samples that keep away from a kink or pole at zero.
pub(crate) const AWAY: Values = Values::Away(0.3, 2.5);
/// Samples well above zero.
pub(crate) const POSITIVE: Values = Values::Uniform(0.25, 3.0);
/// Samples on a grid, so that two arguments may tie.
pub(crate) const GRID: Values = Values::Grid { step: 0.25, offset: 0.0 };
/// Samples on the grid between, so that they never tie with those on [`GRID`] nor fall on whole numbers.
pub(crate) const BETWEEN: Values = Values::Grid { step: 0.25, offset: 0.125 };

/// Rows of elementwise functions: a static `Row` for each, and `ENTRIES` with the entry of each.
macro_rules! rows {
    ($(
        $(#[doc = $doc:literal])+
        $id:ident = $name:literal ($($x:ident in $values:expr),+ $(; $($p:ident = $sample:literal),+)?) {
            wgsl: $wgsl:literal $(with $prelude:ident)?,
            flops: $flops:literal,
            rust: $body:expr,
            grad: $kind:tt ($($grad:tt)+),
            tolerance: $tolerance:literal,
        }
    )+) => {
        $(
            pub(crate) static $id: $crate::pointwise::Row = $crate::pointwise::Row {
                function: wgrad_graph::ScalarFn {
                    name: $name,
                    wgsl: $wgsl,
                    prelude: $crate::scalar::rows!(@prelude $($prelude)?),
                    flops: $flops,
                    f32: $crate::scalar::rows!(@call f32, $body, $($x),+ $($(, $p)+)?),
                    f64: $crate::scalar::rows!(@call f64, $body, $($x),+ $($(, $p)+)?),
                },
                gradient: $crate::scalar::rows!(@grad $kind ($($grad)+) [$($x),+] [$($($p),+)?]),
                args: &[$($values),+],
                params: &[$($($sample),+)?],
            };
        )+

        pub(crate) static ENTRIES: &[$crate::table::Entry] = &[$(
            $crate::table::Entry {
                name: $name,
                doc: concat!($($doc),+).trim_ascii(),
                sample: |random| $id.sample(random),
                tolerance: $tolerance,
                order: $crate::scalar::rows!(@order $kind),
                refuses: || $id.refusals(),
            },
        )+];
    };

    (@prelude) => { "" };
    (@prelude $prelude:ident) => { $crate::scalar::prelude::$prelude };

    (@order of) => { $crate::table::Order::Any };
    (@order zero) => { $crate::table::Order::Zero };

    (@grad zero ($why:literal) $xs:tt $ps:tt) => { $crate::pointwise::Gradient::Zero($why) };
    (@grad of ($out:ident, $cotangent:ident => $($grad:expr),+) [$($x:ident),+] [$($p:ident),*]) => {
        $crate::pointwise::Gradient::Grads(|site| {
            #[allow(unused_variables)]
            let (&[$($x),+], &[$($p),*]) = (site.ins, site.params) else { return Vec::new() };
            #[allow(unused_variables)]
            let ($out, $cotangent) = (site.out, site.cotangent);
            vec![$(Option::from($grad)),+]
        })
    };

    (@call $t:ty, $body:expr, $a:ident) => {{
        fn body(a: &[$t], out: &mut [$t]) {
            #[allow(dead_code)]
            type T = $t;
            for (o, &$a) in out.iter_mut().zip(a) {
                *o = $body;
            }
        }
        wgrad_graph::Call::Unary(body)
    }};
    (@call $t:ty, $body:expr, $a:ident, $b:ident) => {{
        fn body(a: &[$t], b: &[$t], out: &mut [$t]) {
            #[allow(dead_code)]
            type T = $t;
            for ((o, &$a), &$b) in out.iter_mut().zip(a).zip(b) {
                *o = $body;
            }
        }
        wgrad_graph::Call::Binary(body)
    }};
    (@call $t:ty, $body:expr, $a:ident, $b:ident, $c:ident) => {{
        fn body(a: &[$t], b: &[$t], c: &[$t], out: &mut [$t]) {
            #[allow(dead_code)]
            type T = $t;
            for (((o, &$a), &$b), &$c) in out.iter_mut().zip(a).zip(b).zip(c) {
                *o = $body;
            }
        }
        wgrad_graph::Call::Ternary(body)
    }};
}
pub(crate) use rows;
