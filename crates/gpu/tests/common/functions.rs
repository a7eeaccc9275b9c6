//! Scalar functions for tests, in the form in which a table of operations defines them.

use wgrad_graph::{Call, ScalarFn};

macro_rules! binary {
    ($id:ident, $name:literal, $wgsl:literal, |$x:ident, $y:ident| $body:expr) => {
        pub static $id: ScalarFn = ScalarFn {
            name: $name,
            wgsl: $wgsl,
            prelude: "",
            flops: 1,
            f32: Call::Binary(|x, y, out| {
                for ((o, &$x), &$y) in out.iter_mut().zip(x).zip(y) {
                    *o = $body;
                }
            }),
            f64: Call::Binary(|x, y, out| {
                for ((o, &$x), &$y) in out.iter_mut().zip(x).zip(y) {
                    *o = $body;
                }
            }),
        };
    };
}

macro_rules! unary {
    ($id:ident, $name:literal, $wgsl:literal, $prelude:expr, |$x:ident| $body:expr) => {
        pub static $id: ScalarFn = ScalarFn {
            name: $name,
            wgsl: $wgsl,
            prelude: $prelude,
            flops: 1,
            f32: Call::Unary(|x, out| out.iter_mut().zip(x).for_each(|(o, &$x)| *o = $body)),
            f64: Call::Unary(|x, out| out.iter_mut().zip(x).for_each(|(o, &$x)| *o = $body)),
        };
    };
}

binary!(ADD, "test_add", "({0} + {1})", |x, y| x + y);
binary!(SUB, "test_sub", "({0} - {1})", |x, y| x - y);
binary!(MUL, "test_mul", "({0} * {1})", |x, y| x * y);
binary!(DIV, "test_div", "({0} / {1})", |x, y| x / y);
unary!(EXP, "test_exp", "exp({0})", "", |x| x.exp());
unary!(RELU, "test_relu", "max({0}, 0.0)", "", |x| x.max(0.0));
unary!(
    CUBE,
    "test_cube",
    "cube({0})",
    "fn cube(x: f32) -> f32 {\n    let is_nan = x;\n    return is_nan * x * x;\n}\n",
    |x| x * x * x
);

pub static TO_FLOAT: ScalarFn = ScalarFn {
    name: "test_to_float",
    wgsl: "f32({0})",
    prelude: "",
    flops: 0,
    f32: Call::FromU32(|x, out| out.iter_mut().zip(x).for_each(|(o, &x)| *o = x as f32)),
    f64: Call::FromU32(|x, out| out.iter_mut().zip(x).for_each(|(o, &x)| *o = f64::from(x))),
};

pub static MIX: ScalarFn = ScalarFn {
    name: "test_mix",
    wgsl: "mix_words({0}, {1}, {2}, {3}, {4})",
    prelude: "fn mix_words(a: u32, b: u32, c: u32, d: u32, e: u32) -> f32 {\n    return f32((a * 7u + b * 5u + c * 3u + d * 2u + e) % 1000u);\n}\n",
    flops: 1,
    f32: Call::Random(|[a, b, c, d, e], out| {
        (0..out.len()).for_each(|i| out[i] = mix([a[i], b[i], c[i], d[i], e[i]]) as f32)
    }),
    f64: Call::Random(|[a, b, c, d, e], out| {
        (0..out.len()).for_each(|i| out[i] = f64::from(mix([a[i], b[i], c[i], d[i], e[i]])))
    }),
};

fn mix([a, b, c, d, e]: [u32; 5]) -> u32 {
    let times = |x: u32, n: u32| x.wrapping_mul(n);
    times(a, 7).wrapping_add(times(b, 5)).wrapping_add(times(c, 3)).wrapping_add(times(d, 2)).wrapping_add(e)
        % 1000
}
