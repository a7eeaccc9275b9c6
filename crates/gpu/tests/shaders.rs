//! Validates the WGSL of kernels with naga for every backend language. Needs no device.

mod common;

use common::functions::{ADD, CUBE, EXP, MIX, MUL, TO_FLOAT};
use common::plan::{Body, Plan, constant, contiguous, strided};
use wgrad_gpu::{Class, GemmVariant, Lanes, Target, plain_gemm, validate, wgsl};
use wgrad_graph::{Affine, Combine, DType, Layout, View};
use wgrad_program::{Access, Dispatch, Gemm, Instr, Kernel};

/// Builds a loop with every kind of instruction.
fn everything(dtype: DType) -> Dispatch {
    let (rows, columns) = (vec![3, 50], vec![7, 9]);
    let shape = [rows.as_slice(), &columns].concat();
    let mut plan = Plan::default();
    let x = plan.input("x", dtype, &shape);
    let table = plan.input("table", dtype, &[11, 4]);
    let labels = plan.input("labels", DType::U32, &[20]);
    let elements = plan.output("elements", dtype, &shape);
    let sums = plan.output("sums", DType::F32, &rows);
    let best = plan.output("best", DType::U32, &rows);
    let mut body = Body::over(&rows, &columns);
    let padded = Layout::strided(&shape, vec![50 * 63, 63, 9, 1], -9).with_valid_ranges(&[
        (0, 3),
        (1, 49),
        (1, 7),
        (2, 9),
    ]);
    let value = body.load(0, padded);
    let iota = body.push(Instr::Iota(contiguous(&shape)));
    let label =
        body.push(Instr::Gather { operand: 2, layout: constant(&shape), index: iota, stride: 1, bound: 20 });
    let row =
        body.push(Instr::Gather { operand: 1, layout: constant(&shape), index: label, stride: 4, bound: 11 });
    let seed = body.push(Instr::U32(u32::MAX));
    let random = body.call(&MIX, &[iota, label, seed, seed, iota]);
    let mut all = body.call(&ADD, &[value, row]);
    all = body.call(&MUL, &[all, random]);
    for x in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-45, -0.0, 3.4e38, 1e300, 0.1] {
        let float = body.push(Instr::Float(x));
        all = body.call(&ADD, &[all, float]);
    }
    let max = body.push(Instr::Reduce(Combine::Max, all));
    let min = body.push(Instr::Reduce(Combine::Min, value));
    let first = body.push(Instr::Reduce(Combine::ArgMax, all));
    let (cube, position) = (body.call(&CUBE, &[max]), body.call(&TO_FLOAT, &[first]));
    let row_value = body.call(&MUL, &[cube, position]);
    let inner = body.call(&MUL, &[value, row_value]);
    let exp = body.call(&EXP, &[inner]);
    let sum = body.push(Instr::Reduce(Combine::Sum, exp));
    let result = body.call(&MUL, &[exp, sum]);
    let result = body.call(&MUL, &[result, min]);
    body.store(result, 3, contiguous(&shape));
    body.store(sum, 4, contiguous(&rows));
    body.store(first, 5, contiguous(&rows));
    let write = Access::Write;
    let operands = [
        (&x, Access::Read),
        (&table, Access::Read),
        (&labels, Access::Read),
        (&elements, write),
        (&sums, write),
        (&best, write),
    ];
    plan.dispatch("everything", body.build(), &operands);
    plan.program.dispatches.remove(0)
}

fn product(dtype: DType, (m, n, k): (usize, usize, usize), heavy: bool) -> Dispatch {
    let batch = vec![2, 3];
    let shape = [batch.as_slice(), &[m, n]].concat();
    let mut plan = Plan::default();
    let (a, b) = (plan.input("a", dtype, &[2, m, k]), plan.input("b", dtype, &[3, n, k]));
    let bias = plan.input("bias", DType::F32, &[n]);
    let c = plan.output("c", dtype, &shape);
    let mut body = Body::over(&shape, &[]);
    let product = body.push(Instr::Product);
    let bias_value = body.load(2, strided(&shape, &[0, 0, 0, 1], 0));
    let mut value = body.call(&ADD, &[product, bias_value]);
    if heavy {
        value = body.call(&CUBE, &[value]);
    }
    body.store(value, 3, contiguous(&shape));
    let (mi, ni, ki) = (m as isize, n as isize, k as isize);
    let a_layout = strided(&[2, 3, m, k], &[mi * ki, 0, ki, 1], 0);
    let b_layout = strided(&[2, 3, k, n], &[0, ni * ki, 1, ki], 0);
    let gemm = Gemm {
        batch,
        m: vec![m],
        n: vec![n],
        k: vec![k],
        a: 0,
        a_layout,
        b: 1,
        b_layout,
        epilogue: body.kernel,
    };
    let read = Access::Read;
    plan.dispatch(
        "product",
        Kernel::Gemm(gemm),
        &[(&a, read), (&b, read), (&bias, read), (&c, Access::Write)],
    );
    plan.program.dispatches.remove(0)
}

fn check(dispatch: &Dispatch, target: &Target) {
    let shader = wgsl(dispatch, target);
    validate(&shader.text).unwrap_or_else(|error| panic!("{error}\n{}", shader.text));
    assert_eq!(shader, wgsl(dispatch, target), "the same kernel should give the same text");
    assert!(shader.workgroups.iter().all(|&n| (1..=target.max_workgroups).contains(&n)));
    assert!(shader.invocations <= target.max_invocations);
}

/// Returns a target that supports all GEMM variants.
fn capable_target(class: Class, gemm: Option<GemmVariant>) -> Target {
    Target { gemm, subgroup_size: Some(8), ..Target::portable(class) }
}

const CLASSES: [Class; 4] = [Class::Discrete, Class::Integrated, Class::Virtual, Class::Software];

#[test]
fn loops_are_valid_in_every_language() {
    for dtype in [DType::F32, DType::F16] {
        for class in CLASSES {
            for lanes in [None, Some((1, 1)), Some((1, 256)), Some((7, 16)), Some((64, 4))] {
                let lanes = lanes.map(|(rows, lanes)| Lanes { rows, lanes });
                for max_workgroups in [65_535, 3] {
                    check(&everything(dtype), &Target { lanes, max_workgroups, ..Target::portable(class) });
                }
            }
        }
    }
}

#[test]
fn products_are_valid_in_every_language() {
    for dtype in [DType::F32, DType::F16] {
        for class in CLASSES {
            for gemm in GemmVariant::ALL.into_iter().map(Some).chain([None]) {
                for size in [(1, 1, 1), (64, 64, 16), (131, 67, 9)] {
                    for heavy in [false, true] {
                        check(&product(dtype, size, heavy), &capable_target(class, gemm));
                    }
                }
            }
        }
    }
}

/// Builds a GEMM with windows over an image as A, or as B if `swapped`: rows `[2, 5, 4]`, depth `[3, 2, 3]`.
fn windows(swapped: bool, heavy: bool) -> Dispatch {
    let (mut m, mut n, k) = (vec![2, 5, 4], vec![33], vec![3, 2, 3]);
    let pixel = |offset, terms: &[(usize, isize)]| Affine { offset, terms: terms.to_vec() };
    let coordinates = vec![
        pixel(0, &[(0, 1)]),
        pixel(-1, &[(1, 1), (3, 1)]),
        pixel(3, &[(2, 2), (4, -3)]),
        pixel(0, &[(5, 1)]),
    ];
    let view = View::Affine { shape: [m.as_slice(), &k].concat(), coordinates };
    let mut a_layout = contiguous(&[2, 5, 8, 3]).apply(&view).expect("the view should fit in a layout");
    let mut b_layout = contiguous(&[3, 2, 3, 33]);
    let mut sizes = [240, 594];
    if swapped {
        a_layout = a_layout.permute(&[3, 4, 5, 0, 1, 2]);
        b_layout = b_layout.permute(&[3, 0, 1, 2]);
        (a_layout, b_layout) = (b_layout, a_layout);
        std::mem::swap(&mut m, &mut n);
        sizes.reverse();
    }
    let shape = [m.as_slice(), &n].concat();
    let mut plan = Plan::default();
    let (a, b) = (plan.input("a", DType::F32, &[sizes[0]]), plan.input("b", DType::F32, &[sizes[1]]));
    let c = plan.output("c", DType::F32, &shape);
    let mut body = Body::over(&shape, &[]);
    let mut value = body.push(Instr::Product);
    if heavy {
        value = body.call(&CUBE, &[value]);
    }
    body.store(value, 2, contiguous(&shape));
    let gemm = Gemm { batch: Vec::new(), m, n, k, a: 0, a_layout, b: 1, b_layout, epilogue: body.kernel };
    let operands = [(&a, Access::Read), (&b, Access::Read), (&c, Access::Write)];
    plan.dispatch("windows", Kernel::Gemm(gemm), &operands);
    plan.program.dispatches.remove(0)
}

#[test]
fn products_of_windows_are_valid_in_every_language() {
    for class in CLASSES {
        for gemm in GemmVariant::ALL.into_iter().map(Some).chain([None]) {
            for (swapped, heavy) in [(false, false), (true, false), (false, true)] {
                check(&windows(swapped, heavy), &capable_target(class, gemm));
            }
        }
    }
}

/// Loads contain no divisions inside the loop over k, because all rows share the divisions of the depth.
#[test]
fn loads_of_windows_do_not_divide() {
    for gemm in GemmVariant::ALL {
        let text = wgsl(&windows(false, false), &capable_target(Class::Discrete, Some(gemm))).text;
        let load = text.split("fn load_a").nth(1).and_then(|rest| rest.split('}').next());
        let load = load.unwrap_or_else(|| panic!("no load_a function in {text}"));
        assert!(load.contains("side.at0 + depth.at0") && !load.contains(['/', '%']), "{load}");
    }
}

/// Each requested variant is generated, so tests of a variant do not run another variant.
#[test]
fn the_requested_variant_is_generated() {
    let texts: std::collections::HashSet<String> = (GemmVariant::ALL.into_iter())
        .map(|gemm| {
            let target = capable_target(Class::Discrete, Some(gemm));
            assert!(gemm.fits(&target));
            wgsl(&product(DType::F32, (131, 67, 9), false), &target).text
        })
        .collect();
    assert_eq!(texts.len(), GemmVariant::ALL.len());
}

#[test]
fn variants_are_chosen_by_shape_and_kind_of_adapter() {
    let chosen = |class, subgroup, [m, n, k]: [usize; 3]| {
        wgsl(&plain_gemm(m, n, k), &Target { subgroup_size: subgroup, ..Target::portable(class) }).choice
    };
    let software = |subgroup, size| chosen(Class::Software, subgroup, size);
    assert_eq!(software(Some(8), [256, 256, 256]), "subgroup 8×2");
    assert_eq!(software(Some(8), [256, 8, 256]), "subgroup 8×1");
    // With subgroups of four lanes, too few lanes share a load.
    assert_eq!(software(Some(4), [256, 256, 256]), "direct 8×8");
    assert_eq!(software(None, [8, 8, 8]), "direct 4×4");
    // The subgroup kernel is unrolled over the lanes and would be too long for the 32 lanes of a GPU.
    let card = |size| chosen(Class::Discrete, Some(32), size);
    assert_eq!(card([2048, 2048, 2048]), "tiled 128×128×8 by 8×8");
    assert_eq!(card([16, 144, 65_536]), "split 16×16 in 16");
    assert_eq!(card([1, 512, 4096]), "split 4×64 in 16");
    assert_eq!(card([16, 144, 32]), "tiled 16×64×16 by 4×4");
}

#[test]
fn invalid_wgsl_is_rejected() {
    let shader = wgsl(&everything(DType::F32), &Target::portable(Class::Discrete));
    assert!(validate(&shader.text.replace("let row", "let column")).is_err());
    assert!(validate("@compute @workgroup_size(1) fn main() { let x = 1.0 + 1u; }").is_err());
}
