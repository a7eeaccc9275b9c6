// Combination of two elements of a reduction, where drivers disagree. NaN wins. It is detected by its bits, because
// compilers fold `x != x` to false and `max` may drop a NaN.
fn reduce_is_nan(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

fn reduce_max(best: f32, x: f32) -> f32 {
    return select(best, x, (x > best && !reduce_is_nan(best)) || reduce_is_nan(x));
}

fn reduce_min(best: f32, x: f32) -> f32 {
    return select(best, x, (x < best && !reduce_is_nan(best)) || reduce_is_nan(x));
}

// Whether x at `index` replaces the best so far: it is larger, or equal with a smaller index. All NaN are equal, and
// larger than any number.
fn reduce_argmax_takes(best: f32, best_index: u32, x: f32, index: u32) -> bool {
    let x_is_nan = reduce_is_nan(x);
    let best_is_nan = reduce_is_nan(best);
    let larger = (x_is_nan && !best_is_nan) || (x > best && !best_is_nan);
    let equal = (x_is_nan && best_is_nan) || (!x_is_nan && x == best);
    return larger || (equal && index < best_index);
}
