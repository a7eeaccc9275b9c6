//! Shared code of the tests: scalar functions, programs built without the planner, and the expected results of these
//! programs, computed with plain loops in f64.
#![allow(dead_code, missing_docs)]

pub mod build;
pub mod naive;
pub mod random;

use wgrad_graph::{Call, ScalarFn};

macro_rules! function {
    ($name:ident, $kind:ident, |$($arg:ident),*| $body:expr) => {
        pub static $name: ScalarFn = ScalarFn {
            name: stringify!($name), wgsl: "", prelude: "", flops: 1,
            f32: { fn body($($arg: &[f32],)* to: &mut [f32]) { $(let $arg = &$arg[..to.len()];)* for i in 0..to.len() { $(let $arg = $arg[i];)* to[i] = $body; } } Call::$kind(body) },
            f64: { fn body($($arg: &[f64],)* to: &mut [f64]) { $(let $arg = &$arg[..to.len()];)* for i in 0..to.len() { $(let $arg = $arg[i];)* to[i] = $body; } } Call::$kind(body) },
        };
    };
}

// These functions map [-1, 1] into itself, so that random expressions stay in a range in which f32 is accurate.
function!(RELU, Unary, |x| if x > 0.0 { x } else { 0.0 });
function!(EXP, Unary, |x| (x - 1.0).exp());
function!(MUL, Binary, |x, y| x * y);
function!(MID, Binary, |x, y| 0.5 * x + 0.5 * y);
function!(MIX, Ternary, |x, y, z| 0.5 * x * y + 0.5 * z);
// The results of these functions can be outside of [-1, 1].
function!(ADD, Binary, |x, y| x + y);
function!(SUB, Binary, |x, y| x - y);
function!(DIV, Binary, |x, y| x / y);
function!(SQRT, Unary, |x| x.sqrt());
function!(FULL_EXP, Unary, |x| x.exp());

pub static TO_FLOAT: ScalarFn = ScalarFn {
    name: "TO_FLOAT",
    wgsl: "",
    prelude: "",
    flops: 1,
    f32: {
        fn body(x: &[u32], to: &mut [f32]) {
            to.iter_mut().zip(x).for_each(|(to, &x)| *to = (x % 8) as f32 / 8.0);
        }
        Call::FromU32(body)
    },
    f64: {
        fn body(x: &[u32], to: &mut [f64]) {
            to.iter_mut().zip(x).for_each(|(to, &x)| *to = f64::from(x % 8) / 8.0);
        }
        Call::FromU32(body)
    },
};

pub static LESS: ScalarFn = ScalarFn {
    name: "LESS",
    wgsl: "",
    prelude: "",
    flops: 1,
    f32: {
        fn body(x: &[u32], y: &[u32], to: &mut [f32]) {
            for i in 0..to.len() {
                to[i] = f32::from(u8::from(x[i] < y[i]));
            }
        }
        Call::CompareU32(body)
    },
    f64: {
        fn body(x: &[u32], y: &[u32], to: &mut [f64]) {
            for i in 0..to.len() {
                to[i] = f64::from(u8::from(x[i] < y[i]));
            }
        }
        Call::CompareU32(body)
    },
};

pub static HASH: ScalarFn = ScalarFn {
    name: "HASH",
    wgsl: "",
    prelude: "",
    flops: 1,
    f32: {
        fn body(x: [&[u32]; 5], to: &mut [f32]) {
            for i in 0..to.len() {
                to[i] = ((x[0][i] ^ x[1][i] ^ x[2][i] ^ x[3][i] ^ x[4][i]) % 16) as f32 / 16.0;
            }
        }
        Call::Random(body)
    },
    f64: {
        fn body(x: [&[u32]; 5], to: &mut [f64]) {
            for i in 0..to.len() {
                to[i] = f64::from((x[0][i] ^ x[1][i] ^ x[2][i] ^ x[3][i] ^ x[4][i]) % 16) / 16.0;
            }
        }
        Call::Random(body)
    },
};
