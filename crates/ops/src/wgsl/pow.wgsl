// xʸ as C has it, where WGSL leaves x <= 0 to the driver: negative x with whole y has a sign, with any other y is NaN.
fn guarded_pow(x: f32, y: f32) -> f32 {
    let infinity = bitcast<f32>((bitcast<u32>(x) & 0x7f800000u) | 0x7f800000u);
    let nan = bitcast<f32>(bitcast<u32>(x) | 0x7fc00000u);
    if y == 0.0 || x == 1.0 {
        return 1.0;
    }
    if (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u || (bitcast<u32>(y) & 0x7fffffffu) > 0x7f800000u {
        return nan;
    }
    let whole = floor(y) == y;
    let odd = whole && abs(y) < 16777216.0 && floor(y * 0.5) * 2.0 != y;
    if x == 0.0 {
        return select(infinity, 0.0, y > 0.0);
    }
    if x < 0.0 && !whole {
        return nan;
    }
    let exponent = y * log2(abs(x));
    let inside = exp2(min(max(exponent, -126.0), 127.0));
    let low = select(inside, 0.0, exponent < -149.0);
    let magnitude = select(low, infinity, exponent >= 128.0);
    return select(magnitude, -magnitude, x < 0.0 && odd);
}
