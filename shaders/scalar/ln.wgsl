// The natural logarithm where WGSL leaves it to the driver: −∞ at 0, NaN below 0 and for NaN (SwiftShader gives numbers for
// all three). Constants that are not finite are put together at run time, since WGSL refuses them when it compiles.
fn guarded_ln(x: f32) -> f32 {
    let bits = bitcast<u32>(x);
    let infinity = bitcast<f32>(0xff800000u | (bits & 0x7f800000u));
    let nan = bitcast<f32>(0x7fc00000u | bits);
    let is_zero = (bits & 0x7fffffffu) == 0u;
    return select(select(log(x), nan, bits > 0x7f800000u), infinity, is_zero);
}
