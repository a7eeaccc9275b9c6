//! Lists of elementwise functions. An entry defines a function completely, so a new activation needs only one entry.
//!
//! The Rust body is written once and compiled for f32 and f64; in the body, `T` is the floating-point type. The
//! gradient is an expression over operations. If possible, the gradient uses the result instead of the arguments, so
//! that the arguments need not be kept.

pub(crate) mod activation;
pub(crate) mod arithmetic;
pub(crate) mod functions;
mod special;

pub(crate) use special::Special;

/// WGSL helper functions. No two files define the same name, so that a kernel can include any set of them.
pub(crate) mod prelude {
    pub use wgrad_shaders::{ERF, EXP, LN, POW, SIGMOID, SOFTPLUS, TANH};
}

/// Defines elementwise functions: a static `ElementwiseOp` for each, and `OPS` with the `OpInfo` of each.
macro_rules! elementwise_ops {
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
            pub(crate) static $id: $crate::elementwise::ElementwiseOp = $crate::elementwise::ElementwiseOp {
                function: wgrad_graph::ScalarFn {
                    name: $name,
                    wgsl: $wgsl,
                    prelude: $crate::scalar::elementwise_ops!(@prelude $($prelude)?),
                    flops: $flops,
                    f32: $crate::scalar::elementwise_ops!(@call f32, $body, $($x),+ $($(, $p)+)?),
                    f64: $crate::scalar::elementwise_ops!(@call f64, $body, $($x),+ $($(, $p)+)?),
                },
                gradient: $crate::scalar::elementwise_ops!(@grad $kind ($($grad)+) [$($x),+] [$($($p),+)?]),
                args: &[$($values),+],
                params: &[$($($sample),+)?],
            };
        )+

        pub(crate) static OPS: &[$crate::op_info::OpInfo] = &[$(
            $crate::op_info::OpInfo {
                name: $name,
                doc: concat!($($doc),+).trim_ascii(),
                sample: |random| $id.sample(random),
                tolerance: $tolerance,
                gradient_order: $crate::scalar::elementwise_ops!(@order $kind),
                error_inputs: || $id.error_inputs(),
            },
        )+];
    };

    (@prelude) => { "" };
    (@prelude $prelude:ident) => { $crate::scalar::prelude::$prelude };

    (@order of) => { $crate::op_info::GradientOrder::Any };
    (@order zero) => { $crate::op_info::GradientOrder::Zero };

    (@grad zero ($reason:literal) $xs:tt $ps:tt) => { $crate::elementwise::Gradient::Zero($reason) };
    (@grad of ($out:ident, $cotangent:ident => $($grad:expr),+) [$($x:ident),+] [$($p:ident),*]) => {
        $crate::elementwise::Gradient::Grads(|cx| {
            #[allow(unused_variables)]
            let (&[$($x),+], &[$($p),*]) = (cx.ins, cx.params) else { return Vec::new() };
            #[allow(unused_variables)]
            let ($out, $cotangent) = (cx.out, cx.cotangent);
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
pub(crate) use elementwise_ops;
