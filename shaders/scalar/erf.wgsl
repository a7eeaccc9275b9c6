// Error function within 2e-7: an odd polynomial near zero, 1 - exp(polynomial) beyond (minimax, after N. Juffa).
fn erf(x: f32) -> f32 {
    let is_nan = (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
    let t = min(abs(x), 4.0);
    let s = t * t;
    var near = -5.96761703e-4;
    near = near * s + 4.99119423e-3;
    near = near * s - 2.67681349e-2;
    near = near * s + 1.12819925e-1;
    near = near * s - 3.76125336e-1;
    near = near * s + 1.28379166e-1;
    near = near * t + t;
    var far = -1.72853470e-5 * t + 3.83197126e-4;
    far = far * s + (-3.88396438e-3 * t + 2.42546219e-2);
    far = far * t - 1.06777877e-1;
    far = far * t - 6.34846687e-1;
    far = far * t - 1.28717512e-1;
    far = 1.0 - exp(far * t - t);
    let magnitude = select(near, far, t > 0.927734375);
    return select(select(magnitude, -magnitude, x < 0.0), x, is_nan);
}
