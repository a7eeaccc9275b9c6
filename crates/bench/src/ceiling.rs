//! Quick measurement of the peak compute rate of a device with square matrix products.

use std::time::{Duration, Instant};

use crate::results::{Group, Status};
use wgrad_program::{Device, DeviceKind};

use crate::cases::{Case, cases};
use crate::error::BenchError;
use crate::measure::{Budget, NamedDevice, measure};

/// Time budget for the repeats of one product.
const TIME: Duration = Duration::from_millis(100);
/// Maximum time for one product, including its check.
const MAX_CASE_TIME: Duration = Duration::from_millis(1500);
/// Total time after which no further product is started.
const MAX_TIME: Duration = Duration::from_secs(4);
/// Minimum speed-up over the best rate so far that justifies measuring a larger product.
const MIN_SPEEDUP: f64 = 1.05;

/// Peak compute rate of a device, and the case that reached it.
#[derive(Debug, Clone, PartialEq)]
pub struct Ceiling {
    /// Peak rate in floating-point operations per second.
    pub flops_per_second: f64,
    /// Name of the case that reached the rate, e.g. `matmul-1024`.
    pub by: String,
}

/// Measures the peak rate of square f32 matrix products on a device. This takes about a second.
///
/// Starts with 512×512 matrices and continues as long as larger matrices are faster. Returns `None` if no product was
/// timed.
///
/// # Errors
/// Returns [`BenchError::Untimed`] if the device fails or a result is wrong, and [`BenchError::Graph`] or
/// [`BenchError::Reference`] if a case is invalid or the reference cannot evaluate it.
pub fn ceiling(device: &dyn Device) -> Result<Option<Ceiling>, BenchError> {
    let product_size = |case: &Case| {
        let size = case.name.strip_prefix("matmul-").and_then(|size| size.parse::<usize>().ok());
        size.filter(|size| *size >= 512 && case.group == Group::Gemm)
    };
    let mut products: Vec<(usize, Case)> =
        cases().into_iter().filter_map(|case| Some((product_size(&case)?, case))).collect();
    products.sort_by_key(|(size, _)| *size);
    let kind = if device.info().kind == DeviceKind::Cpu { "cpu" } else { "gpu" };
    let deadline = Some(Instant::now() + MAX_TIME);
    let mut best: Option<Ceiling> = None;
    for (_, case) in products {
        let budget = Budget { kernel: TIME, step: TIME, max_case: MAX_CASE_TIME, deadline };
        let named = NamedDevice { name: kind.into(), device };
        let results = measure(std::slice::from_ref(&case), &[named], budget, &mut |_| true)?;
        let Some(result) = results.into_iter().next() else { continue };
        if matches!(result.status, Status::Wrong | Status::Failed) {
            return Err(BenchError::Untimed { case: case.name, reason: result.reason.unwrap_or_default() });
        }
        let Some(time) = result.time else { break };
        // Use the 10th percentile of the time instead of the median, so that other load on the machine does not lower
        // the ceiling.
        let rate = time.gflops * 1e9 * time.ms / time.p10_ms;
        let before = best.as_ref().map_or(0.0, |best| best.flops_per_second);
        if rate > before {
            best = Some(Ceiling { flops_per_second: rate, by: case.name });
        }
        if rate < MIN_SPEEDUP * before {
            break;
        }
    }
    Ok(best)
}
