//! f32 functions without calls into the math library, so that the compiler vectorizes loops over these functions. Only
//! functions for which this was measured to be faster have their own implementation. The f64 versions, which the
//! reference uses, call the math library.

/// Functions that f32 and f64 compute differently.
pub(crate) trait Special {
    /// eˣ.
    fn exponential(self) -> Self;
    /// tanh x.
    fn hyperbolic_tangent(self) -> Self;
    /// Error function.
    fn error_function(self) -> Self;
}

impl Special for f64 {
    fn exponential(self) -> f64 {
        self.exp()
    }

    fn hyperbolic_tangent(self) -> f64 {
        self.tanh()
    }

    fn error_function(self) -> f64 {
        libm::erf(self)
    }
}

impl Special for f32 {
    /// x = n · ln 2 + r with an integer n; eˣ = 2ⁿ · eʳ, with the Taylor series of eʳ, whose term r⁸/8! is below 2⁻²⁷.
    #[inline(always)]
    fn exponential(self) -> f32 {
        use std::f32::consts::LOG2_E;
        // Adding 1.5 · 2²³ rounds to an integer, which is then in the low bits of the mantissa.
        const ROUND: f32 = 12_582_912.0;
        // ln 2 in two parts. The first has few enough bits for its product with n to be exact.
        const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
        // Both comparisons are false for NaN, so NaN is kept.
        let x = if self > 89.0 { 89.0 } else { self };
        let x = if x < -104.0 { -104.0 } else { x };
        let rounded = x * LOG2_E + ROUND;
        let whole = rounded - ROUND;
        let r = (x - whole * LN_2[0]) - whole * LN_2[1];
        let series = [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
        let power = series.into_iter().reduce(|sum, term| sum * r + term).unwrap_or(1.0);
        // In two steps, since 2ⁿ may overflow or underflow although the result does not.
        let n = (rounded.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
        let half = n >> 1;
        let two_to = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
        power * two_to(half) * two_to(n.wrapping_sub(half))
    }

    /// Taylor series near zero; elsewhere (1 − e) / (1 + e) with e = exp(−2 |x|).
    #[inline(always)]
    fn hyperbolic_tangent(self) -> f32 {
        let t = self.abs();
        let s = t * t;
        let series = [
            -929_569.0 / 638_512_875.0,
            21_844.0 / 6_081_075.0,
            -1_382.0 / 155_925.0,
            62.0 / 2_835.0,
            -17.0 / 315.0,
            2.0 / 15.0,
            -1.0 / 3.0,
            1.0,
        ];
        let near = t * series.into_iter().reduce(|sum, term| sum * s + term).unwrap_or(1.0);
        let e = (-2.0 * t).exponential();
        let far = (1.0 - e) / (1.0 + e);
        select(t < 0.5, near, far).copysign(self)
    }

    fn error_function(self) -> f32 {
        libm::erff(self)
    }
}

/// Returns one of two values without a branch, which would prevent vectorization.
#[inline(always)]
fn select(condition: bool, then: f32, otherwise: f32) -> f32 {
    std::hint::select_unpredictable(condition, then, otherwise)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the largest error of `f` compared to the f64 function, and the argument of this error, over every 1009th
    /// f32. The error is relative to the result, or to the smallest normal f32 if the result is smaller.
    fn largest_error(f: fn(f32) -> f32, exact: fn(f64) -> f64) -> (f64, f32) {
        let inputs = (0..u32::MAX).step_by(1009).map(f32::from_bits).filter(|x| !x.is_nan());
        let error = |x: f32| {
            let (found, expected) = (f(x), exact(f64::from(x)));
            // Also equal if the exact result rounds to infinity or zero in f32.
            if f64::from(found) == expected || found == expected as f32 {
                return (0.0, x);
            }
            let size = expected.abs().max(f64::from(f32::MIN_POSITIVE));
            ((f64::from(found) - expected).abs() / size, x)
        };
        inputs.map(error).fold((0.0, 0.0), |a, b| if b.0 > a.0 { b } else { a })
    }

    #[test]
    fn f32_functions_are_accurate_to_single_precision() {
        for (name, (error, at), tolerance) in [
            ("exp", largest_error(f32::exponential, f64::exp), 2e-7),
            ("tanh", largest_error(f32::hyperbolic_tangent, f64::tanh), 3e-7),
        ] {
            assert!(error <= tolerance, "{name}({at:e}) has an error of {error:e}");
        }
    }

    #[test]
    fn nan_infinities_and_overflow_follow_the_standard_library() {
        let functions = [f32::exponential, f32::hyperbolic_tangent];
        assert!(functions.iter().all(|f| f(f32::NAN).is_nan()));
        assert_eq!(functions.map(|f| f(f32::INFINITY)), [f32::INFINITY, 1.0]);
        assert_eq!(functions.map(|f| f(f32::NEG_INFINITY)), [0.0, -1.0]);
        assert_eq!(functions.map(|f| f(-0.0).to_bits()), [1.0f32, -0.0].map(f32::to_bits));
        assert_eq!(
            [88.72, 88.73, -103.9, -104.0].map(f32::exponential).map(|y| (y > 0.0, y.is_finite())),
            [(true, true), (true, false), (true, true), (false, true)]
        );
    }
}
