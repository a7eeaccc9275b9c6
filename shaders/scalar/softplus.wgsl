// ln(1 + eˣ) = max(x, 0) + ln(1 + e^-|x|), which cannot overflow. `min` may lose a NaN, hence its bits.
// Where e is small, 1 + e would round it away, so ln(1 + e) comes from its series.
fn softplus(x: f32) -> f32 {
    let is_nan = (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
    let e = exp(-min(abs(x), 87.0));
    let tail = select(log(1.0 + e), e * (1.0 - e * (0.5 - e * 0.33333333)), e < 0.01);
    return select(select(x, 0.0, x < 0.0) + tail, x, is_nan);
}
