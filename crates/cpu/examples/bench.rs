#[path = "../tests/common/mod.rs"]
mod common;
use common::build::*;
use common::*;
use std::time::Instant;
use wgrad_cpu::{CpuDevice};
use wgrad_graph::*;
use wgrad_program::*;

fn best(n: usize, mut f: impl FnMut()) -> f64 {
    f();
    (0..n).map(|_| { let t = Instant::now(); f(); t.elapsed().as_secs_f64() }).fold(f64::MAX, f64::min) * 1e6
}
fn time(case: &Case, n: usize) -> f64 {
    let dev = CpuDevice::new();
    let mut s = dev.session(&case.program.states).unwrap();
    for (i, v) in case.state.iter().enumerate() { s.write_group(GroupId(i), v.as_data()).unwrap(); }
    let id = s.load(&case.program).unwrap();
    // Nothing is uploaded: inputs are state.
    best(n, || s.run(id, &[]).unwrap())
}
fn rnd(n: usize) -> Vec<f32> { let mut r = philox::Stream::new(1, 2); (0..n).map(|_| r.uniform()).collect() }
fn st(shape: &[usize], strides: &[isize]) -> Layout { Layout { shape: shape.to_vec(), strides: strides.to_vec(), offset: 0, valid: None } }

fn adamw(n: usize) {
    let mut c = Case::default();
    let (p, g, m, v) = (c.group(HostData::F32(rnd(n))), c.group(HostData::F32(rnd(n))), c.group(HostData::F32(rnd(n))), c.group(HostData::F32(rnd(n))));
    let k = |x: f64| Instr::Float(x);
    // 0 p 1 g 2 m 3 v 4 b1 5 1-b1 6 b2 7 1-b2 8 lr 9 eps 10 1-lr*wd
    let mut b: Vec<Instr> = (0..4).map(|i| load(i, &[n])).collect();
    b.extend([k(0.9), k(0.1), k(0.999), k(0.001), k(1e-3), k(1e-8), k(0.9999)]);
    let mut call = |f: &'static ScalarFn, a: &[usize]| { b.push(Instr::Call(f, a.to_vec())); b.len() - 1 };
    let a1 = call(&MUL, &[2, 4]); let a2 = call(&MUL, &[1, 5]); let m2 = call(&ADD, &[a1, a2]);
    let gg = call(&MUL, &[1, 1]); let b1 = call(&MUL, &[3, 6]); let b2 = call(&MUL, &[gg, 7]); let v2 = call(&ADD, &[b1, b2]);
    let s = call(&SQRT, &[v2]); let d = call(&ADD, &[s, 9]); let q = call(&DIV, &[m2, d]); let u = call(&MUL, &[q, 8]);
    let w = call(&MUL, &[0, 10]); let p2 = call(&SUB, &[w, u]);
    let ops = vec![(p, Access::ReadWrite), (g, Access::Read), (m, Access::ReadWrite), (v, Access::ReadWrite)];
    c.dispatch(looped(&[n], &[], b, vec![store(p2, 0, &[n]), store(m2, 2, &[n]), store(v2, 3, &[n])]), ops);
    let ours = time(&c, 50);
    let (mut p, g, mut m, mut v) = (rnd(n), rnd(n), rnd(n), rnd(n));
    let body = |p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]| for i in 0..p.len() {
        m[i] = m[i] * 0.9 + g[i] * 0.1; v[i] = v[i] * 0.999 + g[i] * g[i] * 0.001;
        p[i] = p[i] * 0.9999 - m[i] / (v[i].sqrt() + 1e-8) * 1e-3;
    };
    let one = best(50, || body(&mut p, &g, &mut m, &mut v));
    use rayon::prelude::*;
    let two = best(50, || { let h = n / 8;
        p.par_chunks_mut(h).zip(g.par_chunks(h)).zip(m.par_chunks_mut(h)).zip(v.par_chunks_mut(h)).for_each(|(((p, g), m), v)| body(p, g, m, v)); });
    let gb = |t: f64| n as f64 * 28.0 / t / 1e3;
    println!("adamw {n}: {ours:.1} us {:.1} GB/s; hand 1 thread {one:.1} us {:.1}; hand threads {two:.1} us {:.1} GB/s", gb(ours), gb(one), gb(two));
}
fn softmax(n: usize, k: usize) {
    let mut c = Case::default();
    let x = c.group(HostData::F32(rnd(n * k))); let y = c.slab(DType::F32, n * k);
    let b = vec![load(0, &[n, k]), Instr::Reduce(Combine::Max, 0), Instr::Call(&SUB, vec![0, 1]), Instr::Call(&FULL_EXP, vec![2]), Instr::Reduce(Combine::Sum, 3), Instr::Call(&DIV, vec![3, 4])];
    c.dispatch(looped(&[n], &[k], b, vec![store(5, 1, &[n, k])]), bound(&[&x], &[&y]));
    let ours = time(&c, 300);
    let x = rnd(n * k); let mut y = vec![0f32; n * k];
    let hand = best(300, || for (x, y) in x.chunks(k).zip(y.chunks_mut(k)) {
        let m = x.iter().copied().fold(f32::NEG_INFINITY, f32::max); let mut s = 0.0;
        for (x, y) in x.iter().zip(y.iter_mut()) { *y = (x - m).exp(); s += *y; }
        for y in y.iter_mut() { *y /= s; }
    });
    std::hint::black_box(&y);
    println!("softmax {n}x{k}: {ours:.1} us; hand 1 thread {hand:.1} us");
}
fn sums(n: usize, m: usize) {
    let mut c = Case::default();
    let x = c.group(HostData::F32(rnd(n * m))); let y = c.slab(DType::F32, m);
    let b = vec![Instr::Load { operand: 0, layout: st(&[m, n], &[1, m as isize]) }, Instr::Reduce(Combine::Sum, 0)];
    c.dispatch(looped(&[m], &[n], b, vec![store(1, 1, &[m])]), bound(&[&x], &[&y]));
    let ours = time(&c, 300);
    let x = rnd(n * m); let mut y = vec![0f32; m];
    let hand = best(300, || { y.fill(0.0); for x in x.chunks(m) { y.iter_mut().zip(x).for_each(|(y, x)| *y += x); } std::hint::black_box(&mut y); });
    println!("column sums {n}x{m}: {ours:.1} us; hand 1 thread {hand:.1} us");
}
fn rows(n: usize, m: usize) {
    let mut c = Case::default();
    let x = c.group(HostData::F32(rnd(n * m))); let y = c.slab(DType::F32, n);
    c.dispatch(looped(&[n], &[m], vec![load(0, &[n, m]), Instr::Reduce(Combine::Sum, 0)], vec![store(1, 1, &[n])]), bound(&[&x], &[&y]));
    println!("row sums {n}x{m}: {:.1} us, {:.1} GB/s", time(&c, 300), n as f64 * m as f64 * 4.0 / time(&c, 300) / 1e3);
}
fn layer_norm(n: usize, m: usize) {
    let mut c = Case::default();
    let x = c.group(HostData::F32(rnd(n * m))); let g = c.group(HostData::F32(rnd(m))); let y = c.slab(DType::F32, n * m);
    let b = vec![load(0, &[n, m]), Instr::Reduce(Combine::Sum, 0), Instr::Float(1.0 / m as f64), Instr::Call(&MUL, vec![1, 2]), Instr::Call(&SUB, vec![0, 3]),
        Instr::Call(&MUL, vec![4, 4]), Instr::Reduce(Combine::Sum, 5), Instr::Call(&MUL, vec![6, 2]), Instr::Call(&SQRT, vec![7]), Instr::Call(&DIV, vec![4, 8]),
        Instr::Load { operand: 1, layout: st(&[n, m], &[0, 1]) }, Instr::Call(&MUL, vec![9, 10])];
    c.dispatch(looped(&[n], &[m], b, vec![store(11, 2, &[n, m])]), bound(&[&x, &g], &[&y]));
    let ours = time(&c, 100);
    let (x, g) = (rnd(n * m), rnd(m)); let mut y = vec![0f32; n * m];
    let hand = best(100, || for (x, y) in x.chunks(m).zip(y.chunks_mut(m)) {
        let mean = x.iter().sum::<f32>() / m as f32; let var = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / m as f32; let s = var.sqrt();
        for i in 0..m { y[i] = (x[i] - mean) / s * g[i]; }
    });
    println!("layer norm {n}x{m}: {ours:.1} us; hand 1 thread {hand:.1} us");
}
fn transpose(n: usize, m: usize) {
    let mut c = Case::default();
    let x = c.group(HostData::F32(rnd(n * m))); let y = c.slab(DType::F32, n * m);
    c.dispatch(looped(&[m, n], &[], vec![Instr::Load { operand: 0, layout: st(&[m, n], &[1, m as isize]) }], vec![store(0, 1, &[m, n])]), bound(&[&x], &[&y]));
    println!("transpose {n}x{m}: {:.1} us", time(&c, 100));
}
fn im2col(n: usize, ch: usize, h: usize) {
    // copies [n, ch, h+2, h+2] -> [n, h, h, ch, 3, 3]
    let mut c = Case::default(); let w = h + 2;
    let x = c.group(HostData::F32(rnd(n * ch * w * w))); let t = n * h * h * ch * 9; let y = c.slab(DType::F32, t);
    let shape = [n, h, h, ch, 3, 3]; let w = w as isize;
    let l = st(&shape, &[ch as isize * w * w, w, 1, w * w, w, 1]);
    c.dispatch(looped(&shape, &[], vec![Instr::Load { operand: 0, layout: l }], vec![store(0, 1, &shape)]), bound(&[&x], &[&y]));
    let us = time(&c, 50);
    println!("im2col {n}x{ch}x{h}: {us:.1} us, {:.2} ns an element", us * 1e3 / t as f64);
}
fn bias_relu(n: usize, m: usize) {
    let mut c = Case::default();
    let x = c.group(HostData::F32(rnd(n * m))); let g = c.group(HostData::F32(rnd(m))); let y = c.slab(DType::F32, n * m);
    let b = vec![load(0, &[n, m]), Instr::Load { operand: 1, layout: st(&[n, m], &[0, 1]) }, Instr::Call(&ADD, vec![0, 1]), Instr::Call(&RELU, vec![2])];
    c.dispatch(looped(&[n, m], &[], b, vec![store(3, 2, &[n, m])]), bound(&[&x, &g], &[&y]));
    println!("bias+relu {n}x{m}: {:.1} us", time(&c, 300));
}
fn gemm_bench(m: usize, n: usize, k: usize, ep: bool) {
    let mut c = Case::default();
    let a = c.group(HostData::F32(rnd(m * k))); let b = c.group(HostData::F32(rnd(k * n))); let bias = c.group(HostData::F32(rnd(n))); let y = c.slab(DType::F32, m * n);
    let body = if ep { vec![Instr::Product, Instr::Load { operand: 2, layout: st(&[m, n], &[0, 1]) }, Instr::Call(&ADD, vec![0, 1]), Instr::Call(&RELU, vec![2])] } else { vec![Instr::Product] };
    let e = Loop { outer: vec![m, n], inner: vec![], stores: vec![store(body.len() - 1, 3, &[m, n])], body };
    c.dispatch(Kernel::Gemm(Gemm { batch: vec![], m, n, k, a: 0, a_layout: Layout::contiguous(&[m, k]), b: 1, b_layout: Layout::contiguous(&[k, n]), epilogue: e }), bound(&[&a, &b, &bias], &[&y]));
    let us = time(&c, 100);
    println!("gemm {m}x{n}x{k} epilogue {ep}: {us:.1} us, {:.1} GFLOP/s", 2.0 * (m * n * k) as f64 / us / 1e3);
}
fn main() { if std::env::var("ADAM").is_ok() { adamw(1 << 14); adamw(1<<20); bias_relu(256, 512); softmax(4096, 65); sums(512,512); layer_norm(1024, 256); return; }
    println!("threads {}", rayon::current_num_threads());
    let mut c = Case::default(); let x = c.group(HostData::F32(vec![0.0; 64]));
    for _ in 0..100 { c.dispatch(looped(&[64], &[], vec![load(0, &[64]), Instr::Float(1.0), Instr::Call(&ADD, vec![0, 1])], vec![store(2, 0, &[64])]), vec![(x.clone(), Access::ReadWrite)]); }
    println!("tiny kernel {:.3} us", time(&c, 1000) / 100.0);
    adamw(1 << 20); adamw(1 << 14);
    softmax(256, 10); softmax(256, 1000); softmax(4096, 65);
    sums(512, 512); sums(256, 10); sums(60000, 128); sums(8192, 10);
    rows(512, 512); rows(1, 1 << 20); rows(1 << 18, 4);
    layer_norm(1024, 256); layer_norm(2048, 768);
    transpose(512, 512); transpose(2048, 2048);
    im2col(8, 16, 32);
    bias_relu(256, 512); bias_relu(4096, 10);
    gemm_bench(256, 256, 256, false); gemm_bench(256, 256, 256, true); gemm_bench(256, 10, 512, true); gemm_bench(64, 64, 64, true);
}
