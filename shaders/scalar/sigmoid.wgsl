// 1 / (1 + e⁻ˣ) from e^-|x|, which cannot overflow. `min` may lose a NaN, hence its bits.
fn sigmoid(x: f32) -> f32 {
    let is_nan = (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
    let e = exp(-min(abs(x), 87.0));
    return select(select(e, 1.0, x >= 0.0) / (1.0 + e), x, is_nan);
}
