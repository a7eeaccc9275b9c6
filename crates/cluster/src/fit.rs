//! Fits the latency and bandwidth of a link to measured all-reduces.

use super::machine::Link;
use serde::{Deserialize, Serialize};

/// Size and duration of a measured all-reduce.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Number of bytes on each device.
    pub bytes: f64,
    /// Duration in seconds.
    pub seconds: f64,
}

/// Link fitted to measured all-reduces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fit {
    /// Number of devices in the all-reduce.
    pub devices: u64,
    /// Measured all-reduces with positive size and duration.
    pub samples: Vec<Sample>,
    /// Fitted latency and bandwidth.
    pub link: Link,
    /// Root mean square of the relative errors of the fitted durations, (fitted − measured) / measured.
    pub residual: f64,
}

/// Fits latency α and bandwidth B of the ring formula 2(n−1)α + 2(n−1)/n · bytes / B to measured all-reduces.
/// The number of devices n is `devices`.
///
/// Uses weighted least squares: each squared error is divided by the measured time. Absolute errors would be
/// dominated by the largest messages. Relative errors would be dominated by the small messages, whose times depend on
/// buffering.
///
/// Returns `None` if there are fewer than two devices or fewer than two distinct sizes. Also returns `None` if larger
/// messages did not take longer.
pub fn fit(devices: u64, samples: &[Sample]) -> Option<Fit> {
    let n = devices as f64;
    let (hops, moved) = (2.0 * (n - 1.0), 2.0 * (n - 1.0) / n);
    let usable = |sample: &&Sample| sample.seconds > 0.0 && sample.seconds.is_finite() && sample.bytes > 0.0;
    let samples: Vec<Sample> = samples.iter().filter(usable).copied().collect();
    if devices < 2 || samples.len() < 2 {
        return None;
    }
    // Normal equations for α and 1/B of seconds ≈ α·hops + moved·bytes/B, with each row divided by √seconds.
    let (mut aa, mut ab, mut bb, mut a1, mut b1) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for Sample { bytes, seconds } in &samples {
        let root = seconds.sqrt();
        let (a, b) = (hops / root, moved * bytes / root);
        (aa, ab, bb, a1, b1) = (aa + a * a, ab + a * b, bb + b * b, a1 + a * root, b1 + b * root);
    }
    let determinant = aa * bb - ab * ab;
    if determinant <= 1e-12 * aa * bb {
        return None;
    }
    let (mut latency, mut per_byte) = ((a1 * bb - b1 * ab) / determinant, (b1 * aa - a1 * ab) / determinant);
    if latency < 0.0 {
        // The latency is too small to measure: fit only the bandwidth.
        (latency, per_byte) = (0.0, b1 / bb);
    }
    if per_byte <= 0.0 {
        return None;
    }
    let error = |sample: &Sample| (latency * hops + moved * sample.bytes * per_byte) / sample.seconds - 1.0;
    let squares: f64 = samples.iter().map(error).map(|error| error * error).sum();
    let residual = (squares / samples.len() as f64).sqrt();
    let link = Link { latency, bytes_per_second: 1.0 / per_byte };
    Some(Fit { devices, samples, link, residual })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns samples of several sizes with the times of the ring formula. The times are multiplied by the values of
    /// `noise` in turn.
    fn synthetic(devices: u64, latency: f64, rate: f64, noise: &[f64]) -> Vec<Sample> {
        let n = devices as f64;
        let sizes = (12..=25).step_by(2).map(|power| f64::from(1u32 << power));
        let time = |bytes: f64| 2.0 * (n - 1.0) * latency + 2.0 * (n - 1.0) / n * bytes / rate;
        let noise = noise.iter().cycle();
        sizes.zip(noise).map(|(bytes, noise)| Sample { bytes, seconds: noise * time(bytes) }).collect()
    }

    #[test]
    fn fit_recovers_the_link_of_synthetic_samples() {
        for (devices, latency, rate) in [(2, 50e-6, 1.25e8), (4, 3e-6, 2e9), (64, 14e-6, 3e9)] {
            let fit = fit(devices, &synthetic(devices, latency, rate, &[1.0])).unwrap();
            assert!((fit.link.latency / latency - 1.0).abs() < 1e-6, "{fit:?}");
            assert!((fit.link.bytes_per_second / rate - 1.0).abs() < 1e-6, "{fit:?}");
            assert!(fit.residual < 1e-9);
            let noisy = super::fit(devices, &synthetic(devices, latency, rate, &[1.02, 0.98, 1.0])).unwrap();
            assert!((noisy.link.latency / latency - 1.0).abs() < 0.05, "{noisy:?}");
            assert!((noisy.link.bytes_per_second / rate - 1.0).abs() < 0.02, "{noisy:?}");
            assert!((0.01..0.03).contains(&noisy.residual), "{noisy:?}");
        }
    }

    #[test]
    fn fit_returns_none_for_unusable_samples() {
        let samples = synthetic(2, 1e-5, 1e9, &[1.0]);
        assert_eq!(fit(1, &samples), None);
        assert_eq!(fit(2, &samples[..1]), None);
        assert_eq!(fit(2, &[samples[0], samples[0]]), None);
        let shrinking = [Sample { bytes: 1e3, seconds: 1.0 }, Sample { bytes: 1e6, seconds: 1e-3 }];
        assert_eq!(fit(2, &shrinking), None);
        // Without latency, only the bandwidth is fitted.
        let fit = fit(2, &synthetic(2, 0.0, 1e9, &[1.0, 1.01])).unwrap();
        assert!(fit.link.latency < 1e-7 && (fit.link.bytes_per_second / 1e9 - 1.0).abs() < 0.02);
    }
}
