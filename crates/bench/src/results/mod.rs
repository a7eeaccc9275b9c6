//! Results of `wgrad bench`: the ceilings of every device, and the measurement of each case on each device.
//!
//! This module does not measure. The caller fills in the measurements, and [`Bench::analyze`] computes the derived
//! values. [`Bench::write`] writes `bench.json` and `bench.html`, and [`BenchComparison`] compares two benchmarks.

mod analysis;
mod charts;
mod compare;
mod page;

pub use charts::curves as write_curves;
pub use compare::{BenchComparison, Change, CompareError, first_few};

use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use wgrad_stdx::ErrorKind;
use wgrad_stdx::file;

/// Format version of `bench.json`. Files of another version cannot be compared.
pub const FORMAT: u32 = 1;

/// Error while reading or writing the files of a benchmark.
#[derive(Debug, thiserror::Error)]
pub enum BenchFileError {
    /// A file operation failed.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// Operation that failed: `read`, `write` or `create`.
        action: &'static str,
        /// Path of the file or directory.
        path: PathBuf,
        /// Underlying I/O error.
        source: io::Error,
    },
    /// The file does not have the structure of a `bench.json`.
    #[error("{} is not a valid bench.json: {source}", path.display())]
    Json {
        /// Path of the file.
        path: PathBuf,
        /// Parser error, with line and column.
        source: serde_json::Error,
    },
    /// The file has an unsupported format version.
    #[error("{} has format version {found}; this wgrad reads version {FORMAT}; measure again with this version", path.display())]
    Format {
        /// Path of the file.
        path: PathBuf,
        /// Version found in the file.
        found: u64,
    },
}

impl BenchFileError {
    /// Returns the kind of the error, always [`ErrorKind::Usage`]: the user chose the file or the directory.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }
}

/// Results of one benchmark: the contents of `bench.json`. Unknown values are `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bench {
    /// Version of the file format, equal to [`FORMAT`].
    pub format: u32,
    /// Version of wgrad that ran the benchmark.
    pub version: String,
    /// Command line of the benchmark.
    pub command: String,
    /// Date and time of the benchmark, e.g. `2026-01-02T03:04:05Z`.
    pub date: String,
    /// Duration of the benchmark in seconds.
    pub seconds: f64,
    /// Whether the quick benchmark was run instead of the full benchmark.
    pub quick: bool,
    /// Machine on which the benchmark ran.
    pub host: Host,
    /// Devices in the order of measurement.
    pub devices: Vec<DeviceReport>,
    /// Measurements of each case on each device.
    pub results: Vec<Measurement>,
    /// Crossovers between GPUs and the CPU in the sweeps.
    #[serde(rename = "overtakes")]
    pub crossovers: Vec<Crossover>,
    /// Fraction of CPU time that other processes used, and spread of the measured times.
    pub noise: Noise,
}

/// Machine on which a benchmark ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Operating system, e.g. `linux`.
    pub os: String,
    /// Architecture, e.g. `x86_64`.
    pub arch: String,
    /// Number of processors available to the process.
    pub processors: u64,
}

/// Device of a benchmark, with its ceilings and cold start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceReport {
    /// Name as passed to `--devices`, e.g. `gpu:0`.
    pub device: String,
    /// Kind of device: `cpu` or `gpu`.
    pub kind: String,
    /// Name of the hardware, e.g. `NVIDIA GeForce RTX 4070`.
    pub name: String,
    /// Class of device: `discrete`, `integrated`, `virtual`, `software` or `cpu`.
    pub class: String,
    /// Graphics API, e.g. `vulkan`; `rayon` for the CPU.
    pub backend: String,
    /// Name and version of the driver.
    pub driver: String,
    /// Number of matrix products whose kernel comes from a tuning table of `wgrad tune`.
    #[serde(default)]
    pub tuned: u64,
    /// Best rates measured on the device.
    pub ceilings: Ceilings,
    /// Duration of the first training step in a new process, if measured.
    pub cold_start: Option<ColdStart>,
}

/// Best rates measured on a device; `None` for a rate that was not measured. GB are 10⁹ bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ceilings {
    /// Rates of copying for each working set, smallest first.
    pub copy: Vec<MemoryRate>,
    /// Rates of reading for each working set, smallest first.
    pub read: Vec<MemoryRate>,
    /// Memory bandwidth with the largest working set: the rate of copying or of reading, whichever is higher.
    pub bandwidth_gbytes_per_s: Option<f64>,
    /// Compute rate of chains of dependent multiply-adds, with one chain for each of many elements.
    pub fma_gflops: Option<f64>,
    /// Highest compute rate of all matrix products, convolutions and multiply-add chains.
    pub compute_gflops: Option<f64>,
    /// Name of the case with the highest compute rate.
    pub compute_by: Option<String>,
    /// Time per dispatch in a sequence of dependent dispatches, in microseconds.
    pub launch_us: Option<f64>,
    /// Time to run one small dispatch and wait for it, in microseconds.
    pub round_trip_us: Option<f64>,
    /// Rate of uploads from host to device memory.
    pub upload_gbytes_per_s: Option<f64>,
    /// Rate of readbacks from device to host memory.
    pub readback_gbytes_per_s: Option<f64>,
}

/// Memory bandwidth measured with a working set of one size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MemoryRate {
    /// Total bytes of source and destination.
    pub bytes: u64,
    /// Bytes read and written per second, in GB/s.
    pub gbytes_per_s: f64,
}

/// Duration of a cold start, from the start of a process to the end of its first training step.
///
/// The phases sum to the total. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColdStart {
    /// Name of the workload.
    pub workload: String,
    /// Time from the start of the process to the start of the program.
    pub process_ms: f64,
    /// Time to enumerate and open the device.
    pub device_ms: f64,
    /// Time to record and plan the graph.
    pub plan_ms: f64,
    /// Time to compile kernels, allocate buffers and upload the state.
    pub load_ms: f64,
    /// Time of the first step, including the readback of the loss.
    pub first_step_ms: f64,
    /// Total time from the start of the process to the end of the first step.
    pub total_ms: f64,
    /// Peak resident memory of the process, if known.
    pub peak_rss_bytes: Option<u64>,
}

impl ColdStart {
    /// Returns the milliseconds of the phases in order, then the total.
    pub fn parts(&self) -> [f64; 6] {
        [self.process_ms, self.device_ms, self.plan_ms, self.load_ms, self.first_step_ms, self.total_ms]
    }
}

/// Group of benchmark cases in reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Memory bandwidth, compute rate, launch time and transfer rates of the device.
    Ceiling,
    /// Matrix products.
    Gemm,
    /// Elementwise operations.
    Pointwise,
    /// Sums over all elements, over rows or over columns.
    Reduction,
    /// Softmax cross-entropy and normalizations, with gradients.
    Rows,
    /// Optimizer updates.
    Optimizer,
    /// Convolutions and their gradients.
    Conv,
    /// Complete training steps.
    Step,
}

impl Group {
    /// All groups, in the order of reports.
    pub const ALL: [Self; 8] = [
        Self::Ceiling,
        Self::Gemm,
        Self::Pointwise,
        Self::Reduction,
        Self::Rows,
        Self::Optimizer,
        Self::Conv,
        Self::Step,
    ];

    /// Returns the name in lower case, as in `bench.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ceiling => "ceiling",
            Self::Gemm => "gemm",
            Self::Pointwise => "pointwise",
            Self::Reduction => "reduction",
            Self::Rows => "rows",
            Self::Optimizer => "optimizer",
            Self::Conv => "conv",
            Self::Step => "step",
        }
    }
}

/// Measurement of a case on a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Name of the case.
    pub case: String,
    /// Group of the case.
    pub group: Group,
    /// Name of the device, as in [`DeviceReport::device`].
    pub device: String,
    /// Whether the case was timed, and if not, what happened instead.
    pub status: Status,
    /// Reason why the case was skipped, wrong or failed; `None` if the case was timed.
    pub reason: Option<String>,
    /// Comparison of the result with a reference, if the case was run.
    pub check: Option<Check>,
    /// Planned cost of a run, if the case was planned.
    #[serde(rename = "work")]
    pub cost: Option<RunCost>,
    /// Number of samples that a run trains on; `None` for cases that are not training steps.
    pub samples: Option<u64>,
    /// Sweeps to which the case contributes a point.
    pub sweeps: Vec<SweepPoint>,
    /// Times and rates, if the result is correct.
    pub time: Option<Timing>,
}

/// Outcome of a case on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The result is correct and was timed.
    Timed,
    /// The result is wrong, so the case was not timed.
    Wrong,
    /// The case was not run, e.g. because it would take too long or does not fit the device.
    Skipped,
    /// The device returned an error.
    Failed,
}

impl Status {
    /// Returns the name in lower case, as in `bench.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Timed => "timed",
            Self::Wrong => "wrong",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
        }
    }
}

/// Comparison of a result with a reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Name of the reference: `reference` for the interpreter in f64, `cpu-f64` for the CPU backend in f64, or `bits`
    /// for a bitwise comparison of the data read back with the data uploaded.
    pub by: String,
    /// Largest error divided by its tolerance. The result is wrong if this is above 1; `None` if the error is not
    /// finite.
    pub worst: Option<f64>,
    /// Element with the largest error.
    pub at: String,
}

/// Planned cost of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunCost {
    /// Number of floating-point operations; a multiply-add is two operations.
    pub flops: u64,
    /// Bytes that kernels read and write. Each operand is counted once per kernel.
    pub bytes: u64,
    /// Number of kernels that a run dispatches.
    pub dispatches: u64,
    /// Total bytes of all buffers.
    pub footprint: u64,
}

/// Position of a case in a sweep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepPoint {
    /// Quantity that is varied: `batch` or `width`.
    pub axis: String,
    /// Value of the quantity for the case.
    pub at: u64,
}

/// Times of a run, and the rates derived from them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Median time of a run in milliseconds.
    pub ms: f64,
    /// 10th percentile of the time in milliseconds.
    pub p10_ms: f64,
    /// 90th percentile of the time in milliseconds.
    pub p90_ms: f64,
    /// Number of repeats.
    pub repeats: u64,
    /// Number of runs queued in each repeat before waiting.
    pub runs_per_repeat: u64,
    /// Time of all kernels of a run in milliseconds, measured by the clock of the device; `None` if the device has no
    /// clock.
    pub device_ms: Option<f64>,
    /// Time that the host takes to queue a run, in microseconds; `None` for the CPU backend, which has no queue.
    pub host_us: Option<f64>,
    /// Time to compile kernels, allocate, upload and complete the first run, in milliseconds.
    pub load_ms: f64,
    /// Compute rate at the median time, in GFLOP/s.
    pub gflops: f64,
    /// Rate of memory traffic at the median time, in GB/s. GB are 10⁹ bytes.
    pub gbytes_per_s: f64,
    /// Samples per second at the median time; `None` for cases that are not training steps.
    pub samples_per_s: Option<f64>,
    /// Fraction of the roofline: minimum time according to the ceilings, divided by the measured time.
    pub roofline_share: Option<f64>,
    /// Bytes that the session has allocated on the device.
    pub allocated_bytes: u64,
    /// Mean power in watts of the processor or graphics card during the runs, if the system reports it.
    pub watts: Option<f64>,
}

/// Value of a sweep from which on one device is faster than a second device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crossover {
    /// Quantity that is varied: `batch` or `width`.
    pub axis: String,
    /// Device that may become faster.
    pub device: String,
    /// Device with which `device` is compared.
    pub other: String,
    /// Smallest value from which on `device` is always faster than `other`; `None` if there is no such value.
    pub at: Option<u64>,
    /// Smallest and largest value at which both devices were timed.
    pub range: (u64, u64),
}

impl std::fmt::Display for Crossover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { axis, device, other, at, range: (first, last) } = self;
        match at {
            Some(at) if at == first => {
                write!(f, "{device} is faster than {other} at every {axis} from {first} to {last}.")
            }
            Some(at) => {
                write!(f, "{device} is faster than {other} from {axis} {at} on (measured {first} to {last}).")
            }
            None => {
                write!(f, "{device} is not faster than {other} at any {axis} from {first} to {last}.")
            }
        }
    }
}

/// Indicators of how reliable the times are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    /// Fraction of the CPU time of all processors that other processes used.
    pub foreign_cpu_share: Option<f64>,
    /// Median of (p90 − p10) / p50 over all cases, where p10, p50 and p90 are percentiles of the time of a case.
    pub spread: Option<f64>,
    /// Warning, if the times are unreliable.
    pub warning: Option<String>,
}

impl Bench {
    /// Reads `bench.json`.
    ///
    /// # Errors
    /// Returns [`BenchFileError::File`] if the file cannot be read, [`BenchFileError::Json`] if it is not a valid
    /// `bench.json`, and [`BenchFileError::Format`] if it has an unsupported format version.
    pub fn read(path: &Path) -> Result<Self, BenchFileError> {
        let json = |source| BenchFileError::Json { path: path.to_owned(), source };
        let bytes = fs::read(path).map_err(failed("read", path))?;
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(json)?;
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(found) if found != u64::from(FORMAT) => {
                Err(BenchFileError::Format { path: path.to_owned(), found })
            }
            _ => serde_json::from_value(value).map_err(json),
        }
    }

    /// Writes `bench.json` and `bench.html` into a directory, which is created if missing. Returns the path of the
    /// page.
    ///
    /// # Errors
    /// Returns [`BenchFileError::File`] if the directory cannot be created or a file cannot be written.
    pub fn write(
        &self,
        directory: &Path,
        comparison: Option<&BenchComparison>,
    ) -> Result<PathBuf, BenchFileError> {
        Self::make_directory(directory)?;
        let (json, page) = (directory.join("bench.json"), directory.join("bench.html"));
        let text = serde_json::to_string(self).map_err(io::Error::from).map_err(failed("write", &json))?;
        file::replace(&json, format!("{text}\n").as_bytes()).map_err(failed("write", &json))?;
        file::replace(&page, self.html(comparison).as_bytes()).map_err(failed("write", &page))?;
        Ok(page)
    }

    /// Creates the directory for [`Bench::write`], so that an error occurs before anything is measured.
    ///
    /// # Errors
    /// Returns [`BenchFileError::File`] if the directory cannot be created.
    pub fn make_directory(directory: &Path) -> Result<(), BenchFileError> {
        fs::create_dir_all(directory).map_err(failed("create", directory))
    }

    /// Returns the HTML page with ceilings, rooflines, curves, all results and, if given, the comparison.
    pub fn html(&self, comparison: Option<&BenchComparison>) -> String {
        let mut html = String::new();
        // Formatting into a string does not fail.
        let _ = page::write(&mut html, self, comparison);
        html
    }

    /// Returns whether at least one case was timed, every result was correct and no device failed.
    pub fn passed(&self) -> bool {
        let has = |status: Status| self.results.iter().any(|result| result.status == status);
        has(Status::Timed) && !has(Status::Wrong) && !has(Status::Failed)
    }

    /// Returns the measurements on the device with the given name.
    pub fn results_of<'b>(&'b self, device: &'b str) -> impl Iterator<Item = &'b Measurement> {
        self.results.iter().filter(move |result| result.device == device)
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BenchFileError {
    let path = path.to_owned();
    move |source| BenchFileError::File { action, path, source }
}
