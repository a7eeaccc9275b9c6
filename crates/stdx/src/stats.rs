//! Quantiles and medians of values in memory.

/// Returns the quantile `p` of sorted values; NaN if there are no values.
///
/// Interpolates linearly between the two nearest values (type 7 of Hyndman and Fan, 1996, the default of NumPy and R).
/// `p` is clamped to the range 0 to 1.
pub fn quantile(sorted: &[f64], p: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let position = p.clamp(0.0, 1.0) * last as f64;
    let (below, above) = (sorted[position.floor() as usize], sorted[position.ceil() as usize]);
    // Equal neighbors may be infinite, and their weighted sum could be NaN. Weights are used instead of a difference,
    // because a difference could overflow.
    let weight = position.fract();
    if below == above { below } else { (1.0 - weight) * below + weight * above }
}

/// Returns the median of values in any order: the middle value, or the mean of the two middle values.
///
/// Returns NaN if there are no values.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    quantile(&sorted, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate_between_neighbours() {
        let sorted = [1.0, 2.0, 4.0, 8.0];
        assert_eq!([0.0, 0.5, 0.75, 1.0].map(|p| quantile(&sorted, p)), [1.0, 3.0, 5.0, 8.0]);
        assert_eq!(quantile(&sorted, 2.0), 8.0);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn median_ignores_order_and_accepts_large_and_infinite_values() {
        assert_eq!(median([4.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([f64::MAX, f64::MAX]), f64::MAX);
        assert_eq!(median([f64::INFINITY, f64::INFINITY]), f64::INFINITY);
        assert!(median([]).is_nan());
    }
}
