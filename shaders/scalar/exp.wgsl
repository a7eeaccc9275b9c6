// eˣ that overflows to infinity on every driver. `min` and `max` may lose a NaN, hence its bits. Infinity is put
// together at run time, since WGSL refuses it when it compiles.
fn guarded_exp(x: f32) -> f32 {
    let is_nan = (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
    let infinity = bitcast<f32>(0x7f800000u | (bitcast<u32>(x) & 0x7f800000u));
    let inside = exp(min(max(x, -104.0), 88.72283));
    return select(select(inside, infinity, x > 88.72283), x, is_nan);
}
