// eˣ that overflows to infinity and underflows to zero on every driver. `min` and `max` may lose a NaN, hence its bits.
fn guarded_exp(x: f32) -> f32 {
    let is_nan = (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
    let inside = exp(min(max(x, -87.0), 88.0));
    let infinity = bitcast<f32>((bitcast<u32>(x) & 0x7f800000u) | 0x7f800000u);
    let low = select(inside, 0.0, x < -104.0);
    let result = select(low, infinity, x > 88.72284);
    return select(result, x, is_nan);
}
