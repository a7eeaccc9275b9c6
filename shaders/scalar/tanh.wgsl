// tanh that saturates: drivers compute it from exponentials and return NaN for tanh(100). At 9.02 it rounds to 1.
fn guarded_tanh(x: f32) -> f32 {
    let is_nan = (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
    return select(tanh(min(max(x, -9.02), 9.02)), x, is_nan);
}
