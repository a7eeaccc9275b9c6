//! Tests of scalar functions. The WGSL must be valid. The f32 and the f64 body in Rust must agree with each other and
//! with known values.

use std::collections::{BTreeSet, HashSet};

use wgrad_graph::philox::Stream;
use wgrad_graph::{Call, ScalarFn};
use wgrad_ops::scalar_functions;

#[test]
fn names_of_functions_are_unique() {
    let functions = scalar_functions();
    assert!(functions.len() > 40, "{functions:?}");
    let names: HashSet<&str> = functions.iter().map(|f| f.name).collect();
    assert_eq!(names.len(), functions.len(), "two functions have the same name");
}

/// Returns the source of a kernel that applies functions to elements of buffers.
fn kernel(functions: &[&ScalarFn]) -> String {
    let preludes: BTreeSet<&str> = functions.iter().map(|f| f.prelude).collect();
    let mut source = preludes.into_iter().collect::<Vec<_>>().join("\n");
    source += "
        @group(0) @binding(0) var<storage, read> f32_inputs: array<f32>;
        @group(0) @binding(1) var<storage, read> u32_inputs: array<u32>;
        @group(0) @binding(2) var<storage, read_write> f32_results: array<f32>;
        @group(0) @binding(3) var<storage, read_write> u32_results: array<u32>;
        @compute @workgroup_size(64)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {\n";
    for (i, f) in functions.iter().enumerate() {
        let from = if f.f32.takes_u32() { "u32_inputs" } else { "f32_inputs" };
        let to = if f.f32.returns_u32() { "u32_results" } else { "f32_results" };
        let mut call = f.wgsl.to_owned();
        for arg in 0..f.f32.arity() {
            assert!(call.contains(&format!("{{{arg}}}")), "{} does not use argument {arg}", f.name);
            source += &format!("let v{i}_{arg} = {from}[id.x + {arg}u];\n");
            call = call.replace(&format!("{{{arg}}}"), &format!("v{i}_{arg}"));
        }
        assert!(!call.contains('{'), "{} has more placeholders than arguments: {call}", f.name);
        source += &format!("{to}[{i}] = {call};\n");
    }
    source + "}\n"
}

fn validate(functions: &[&ScalarFn]) {
    let source = kernel(functions);
    let name = functions.iter().map(|f| f.name).collect::<Vec<_>>().join(", ");
    let module = naga::front::wgsl::parse_str(&source)
        .unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(&source)));
    naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::empty())
        .validate(&module)
        .unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(&source)));
}

#[test]
fn wgsl_of_every_function_is_valid() {
    for f in scalar_functions() {
        validate(&[f]);
    }
}

/// A fused kernel may include any set of helpers, so their names must be unique.
#[test]
fn wgsl_of_all_functions_together_is_valid() {
    validate(&scalar_functions());
}

/// Applies the f32 and the f64 body to the same arguments. Returns both results as f64.
fn evaluate_both(f: &ScalarFn, args: &[Vec<f32>]) -> Option<(Vec<f64>, Vec<f64>)> {
    let n = args[0].len();
    let wide: Vec<Vec<f64>> = args.iter().map(|arg| arg.iter().map(|&x| f64::from(x)).collect()).collect();
    let u32_args: Vec<Vec<u32>> =
        args.iter().map(|arg| arg.iter().map(|&x| (x.abs() * 1000.0) as u32).collect()).collect();
    let (mut single, mut double) = (vec![0f32; n], vec![0f64; n]);
    match (f.f32, f.f64) {
        (Call::Unary(f), Call::Unary(g)) => {
            f(&args[0], &mut single);
            g(&wide[0], &mut double);
        }
        (Call::Binary(f), Call::Binary(g)) => {
            f(&args[0], &args[1], &mut single);
            g(&wide[0], &wide[1], &mut double);
        }
        (Call::Ternary(f), Call::Ternary(g)) => {
            f(&args[0], &args[1], &args[2], &mut single);
            g(&wide[0], &wide[1], &wide[2], &mut double);
        }
        (Call::FromU32(f), Call::FromU32(g)) => {
            f(&u32_args[0], &mut single);
            g(&u32_args[0], &mut double);
        }
        (Call::CompareU32(f), Call::CompareU32(g)) => {
            f(&u32_args[0], &u32_args[1], &mut single);
            g(&u32_args[0], &u32_args[1], &mut double);
        }
        (Call::Random(f), Call::Random(g)) => {
            let u32_args = [&u32_args[0][..], &u32_args[1], &u32_args[2], &u32_args[3], &u32_args[4]];
            f(u32_args, &mut single);
            g(u32_args, &mut double);
        }
        (Call::ToU32(f), Call::ToU32(g)) => {
            let (mut a, mut b) = (vec![0; n], vec![0; n]);
            f(&args[0], &mut a);
            g(&wide[0], &mut b);
            single = a.into_iter().map(|x| x as f32).collect();
            double = b.into_iter().map(f64::from).collect();
        }
        _ => return None,
    }
    Some((single.into_iter().map(f64::from).collect(), double))
}

#[test]
fn f32_and_f64_bodies_agree() {
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        100.0,
        -100.0,
        1000.0,
        -1000.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
    ];
    for f in scalar_functions() {
        let mut random = Stream::new(3, 0);
        let mut arg = || {
            let eighths = |random: &mut Stream| (random.below(97) as f32 - 48.0) / 8.0;
            let mut values: Vec<f32> = (0..500).map(|_| eighths(&mut random)).collect();
            // The number of draws is large enough that each pair of special values occurs as arguments.
            values.extend((0..600).map(|_| special[random.below(special.len() as u32) as usize]));
            values
        };
        let args: Vec<Vec<f32>> = (0..f.f32.arity()).map(|_| arg()).collect();
        let (single, double) =
            evaluate_both(f, &args).unwrap_or_else(|| panic!("{f:?}: the bodies have different signatures"));
        for (i, (&a, &b)) in single.iter().zip(&double).enumerate() {
            let ins: Vec<f32> = args.iter().map(|arg| arg[i]).collect();
            let overflows = b.abs() > f64::from(f32::MAX) && a.is_infinite();
            let agree =
                a == b || a.is_nan() && b.is_nan() || overflows || (a - b).abs() <= 1e-5 * (1.0 + b.abs());
            assert!(agree, "{f:?}{ins:?}: {a} in f32, {b} in f64");
        }
    }
}

/// Name of a function, its arguments, and its result. The result is exact to the last digit.
const KNOWN: &[(&str, &[f32], f64)] = &[
    ("add", &[2.0, 0.5], 2.5),
    ("sub", &[2.0, 0.5], 1.5),
    ("mul", &[2.0, 0.5], 1.0),
    ("div", &[2.0, 0.5], 4.0),
    ("neg", &[2.0], -2.0),
    ("square", &[-3.0], 9.0),
    ("recip", &[4.0], 0.25),
    ("abs", &[-2.0], 2.0),
    ("sign", &[-2.0], -1.0),
    ("sign", &[0.0], 0.0),
    ("floor", &[-1.5], -2.0),
    ("maximum", &[2.0, 3.0], 3.0),
    ("maximum", &[f32::NAN, 3.0], f64::NAN),
    ("maximum", &[3.0, f32::NAN], f64::NAN),
    ("minimum", &[2.0, 3.0], 2.0),
    ("minimum", &[f32::NAN, 3.0], f64::NAN),
    ("minimum", &[3.0, f32::NAN], f64::NAN),
    ("clamp", &[5.0, -1.0, 2.0], 2.0),
    ("clamp", &[-5.0, -1.0, 2.0], -1.0),
    ("clamp", &[f32::NAN, -1.0, 2.0], f64::NAN),
    ("sqrt", &[9.0], 3.0),
    ("rsqrt", &[0.25], 2.0),
    ("pow", &[2.0, 3.0], 8.0),
    ("pow", &[-2.0, 3.0], -8.0),
    ("pow", &[-2.0, 0.5], f64::NAN),
    ("powf", &[4.0, 1.5], 8.0),
    ("exp", &[1.0], std::f64::consts::E),
    ("ln", &[8.0], 2.079_441_541_679_835_7),
    ("sin", &[0.5], 0.479_425_538_604_203),
    ("cos", &[0.5], 0.877_582_561_890_372_7),
    ("erf", &[0.5], 0.520_499_877_813_046_5),
    ("erf", &[-3.0], -0.999_977_909_503_001_4),
    ("tanh", &[0.5], 0.462_117_157_260_009_8),
    ("tanh", &[100.0], 1.0),
    ("sigmoid", &[1.0], 0.731_058_578_630_004_9),
    ("sigmoid", &[-1000.0], 0.0),
    ("sigmoid", &[1000.0], 1.0),
    ("relu", &[-2.0], 0.0),
    ("relu", &[2.0], 2.0),
    ("relu", &[f32::NAN], f64::NAN),
    ("leaky_relu", &[-2.0, 0.25], -0.5),
    ("leaky_relu", &[2.0, 0.25], 2.0),
    ("gelu", &[1.0], 0.841_344_746_068_542_9),
    ("gelu", &[-1.0], -0.158_655_253_931_457_05),
    ("silu", &[1.0], 0.731_058_578_630_004_9),
    ("silu", &[-2.0], -0.238_405_844_044_234),
    ("softplus", &[0.0], std::f64::consts::LN_2),
    ("softplus", &[1000.0], 1000.0),
    ("softplus", &[-1000.0], 0.0),
    ("eq", &[1.0, 1.0], 1.0),
    ("ne", &[1.0, 1.0], 0.0),
    ("lt", &[1.0, 1.0], 0.0),
    ("le", &[1.0, 1.0], 1.0),
    ("gt", &[2.0, 1.0], 1.0),
    ("ge", &[1.0, 2.0], 0.0),
    ("step", &[0.0], 0.0),
    ("step", &[0.5], 1.0),
    ("select", &[1.0, 2.0, 3.0], 2.0),
    ("select", &[0.0, 2.0, 3.0], 3.0),
    // u32 arguments are multiplied by 1000.
    ("eq_words", &[1.0, 1.0], 1.0),
    ("ne_words", &[1.0, 1.0], 0.0),
    ("lt_words", &[1.0, 2.0], 1.0),
    ("le_words", &[2.0, 1.0], 0.0),
    ("to_float", &[2.0], 2000.0),
    ("to_word", &[2.75], 2.0),
    ("to_word", &[-2.75], 0.0),
    ("to_word", &[f32::NAN], 0.0),
    ("to_word", &[1e12], 4_294_967_295.0),
];

#[test]
fn bodies_return_known_values() {
    let functions = scalar_functions();
    for &(name, args, expected) in KNOWN {
        let f = functions.iter().find(|f| f.name == name).unwrap_or_else(|| panic!("no function {name}"));
        let args: Vec<Vec<f32>> = args.iter().map(|&x| vec![x]).collect();
        let (_, double) = evaluate_both(f, &args).expect("the bodies have the same signature");
        let close = (double[0] - expected).abs() <= 1e-14 * (1.0 + expected.abs());
        assert!(
            close || double[0].is_nan() && expected.is_nan(),
            "{name}{args:?}: {} instead of {expected}",
            double[0]
        );
    }
    for f in functions.iter().filter(|f| !matches!(f.f32, Call::Random(_))) {
        assert!(KNOWN.iter().any(|(name, ..)| *name == f.name), "{} has no known value", f.name);
    }
}
