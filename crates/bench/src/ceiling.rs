//! The rate that nothing on a device exceeds, by the quickest way to know it.

use std::time::{Duration, Instant};

use crate::results::{Group, Status};
use wgrad_program::{Device, DeviceKind};

use crate::cases::{Case, cases};
use crate::error::BenchError;
use crate::measure::{Effort, Subject, measure};

/// How long a product is timed, and how long one may take with being judged.
const EFFORT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(1500));
/// After this no larger product is begun.
const LONGEST: Duration = Duration::from_secs(4);
/// A larger product has to be faster by this factor for a still larger one to be tried.
const WORTHWHILE: f64 = 1.05;

/// A rate, and what reached it.
#[derive(Debug, Clone, PartialEq)]
pub struct Ceiling {
    /// Floating-point operations a second.
    pub flops_per_second: f64,
    /// The case.
    pub by: String,
}

/// The best rate of square f32 products on a device, from 512 rows up for as long as larger ones are faster. Takes about a
/// second. None where no product could be timed.
///
/// # Errors
/// The device fails, or gives a wrong product.
pub fn ceiling(device: &dyn Device) -> Result<Option<Ceiling>, BenchError> {
    let products = |case: &Case| {
        let size = case.name.strip_prefix("matmul-").and_then(|size| size.parse::<usize>().ok());
        size.filter(|size| *size >= 512 && case.group == Group::Gemm)
    };
    let mut products: Vec<(usize, Case)> =
        cases().into_iter().filter_map(|case| Some((products(&case)?, case))).collect();
    products.sort_by_key(|(size, _)| *size);
    let kind = if device.info().kind == DeviceKind::Cpu { "cpu" } else { "gpu" };
    let until = Instant::now() + LONGEST;
    let mut best: Option<Ceiling> = None;
    for (_, case) in products {
        let effort = Effort { kernel: EFFORT.0, step: EFFORT.0, longest: EFFORT.1, until: Some(until) };
        let subject = Subject { name: kind.into(), device };
        let results = measure(std::slice::from_ref(&case), &[subject], effort, &mut |_| true)?;
        let Some(result) = results.into_iter().next() else { continue };
        if matches!(result.status, Status::Wrong | Status::Failed) {
            return Err(BenchError::Untimed { case: case.name, reason: result.reason.unwrap_or_default() });
        }
        let Some(time) = result.time else { break };
        // What other work on the machine takes away is not the device's: near the shortest time, not the median.
        let rate = time.gflops * 1e9 * time.ms / time.p10_ms;
        let before = best.as_ref().map_or(0.0, |best| best.flops_per_second);
        if rate > before {
            best = Some(Ceiling { flops_per_second: rate, by: case.name });
        }
        if rate < WORTHWHILE * before {
            break;
        }
    }
    Ok(best)
}
