// xʸ as C has it, where WGSL leaves x <= 0 to the driver: negative x with whole y has a sign, with any other y is NaN.
// Constants that are not finite are put together at run time, since WGSL refuses them when it compiles.
fn guarded_pow(x: f32, y: f32) -> f32 {
    let magnitude = abs(x);
    let infinity = bitcast<f32>(0x7f800000u | (bitcast<u32>(x) & 0x7f800000u));
    let nan = bitcast<f32>(0x7fc00000u | bitcast<u32>(x));
    if y == 0.0 || x == 1.0 {
        return 1.0;
    }
    if (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u || (bitcast<u32>(y) & 0x7fffffffu) > 0x7f800000u {
        return nan;
    }
    if x == 0.0 {
        return select(infinity, 0.0, y > 0.0);
    }
    let whole = floor(y) == y;
    if x < 0.0 && !whole {
        return nan;
    }
    let odd = whole && abs(y) < 16777216.0 && floor(y * 0.5) * 2.0 != y;
    let exponent = select(y * log2(magnitude), 0.0, magnitude == 1.0);
    let inside = exp2(min(max(exponent, -150.0), 127.99999));
    let result = select(inside, infinity, exponent >= 128.0);
    return select(result, -result, x < 0.0 && odd);
}
