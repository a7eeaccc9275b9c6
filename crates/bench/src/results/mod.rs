//! Results of `wgrad bench`: the ceilings of every device, and each case on each device.
//!
//! This module does not measure. The caller fills in the measurements, and [`Bench::analyze`] computes the derived values.
//! `bench.json` and `bench.html` are written from them, and [`BenchComparison`] compares two benchmarks.

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

/// Error of reading or writing the files of a benchmark.
#[derive(Debug, thiserror::Error)]
pub enum BenchFileError {
    /// A file operation failed.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// Operation that failed.
        action: &'static str,
        /// Path of the file or directory.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// The file is not a `bench.json`.
    #[error("{} is not a bench.json: {source}", path.display())]
    Json {
        /// Path of the file.
        path: PathBuf,
        /// Error of the parser, with line and column.
        source: serde_json::Error,
    },
    /// The file has another format version.
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
    /// Format version, [`FORMAT`].
    pub format: u32,
    /// Version of wgrad.
    pub version: String,
    /// Command line of the benchmark.
    pub command: String,
    /// Date and time, e.g. `2026-01-02T03:04:05Z`.
    pub date: String,
    /// Duration in seconds.
    pub seconds: f64,
    /// Whether it was the quick benchmark.
    pub quick: bool,
    /// Machine.
    pub host: Host,
    /// Devices in the order of measurement.
    pub devices: Vec<DeviceReport>,
    /// Measurement of each case on each device.
    pub results: Vec<Measurement>,
    /// Crossovers between devices in the sweeps.
    #[serde(rename = "overtakes")]
    pub crossovers: Vec<Crossover>,
    /// Disturbance by other processes, and spread of the times.
    pub noise: Noise,
}

/// Machine of a benchmark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Operating system, e.g. `linux`.
    pub os: String,
    /// Architecture, e.g. `x86_64`.
    pub arch: String,
    /// Number of processors available to the process.
    pub processors: u64,
}

/// Device and its ceilings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceReport {
    /// Name as in `--devices`, e.g. `gpu:0`.
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
    /// Number of matrix products with kernels from a tuning table of `wgrad tune`.
    #[serde(default)]
    pub tuned: u64,
    /// Best measured rates.
    pub ceilings: Ceilings,
    /// Duration of a first step in a new process.
    pub cold_start: Option<ColdStart>,
}

/// Best rates measured on a device. GB are 10⁹ bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ceilings {
    /// Rates of copying by working set, smallest first.
    pub copy: Vec<MemoryRate>,
    /// Rates of reading by working set, smallest first.
    pub read: Vec<MemoryRate>,
    /// Bandwidth of memory: the better of copying and reading the largest working set.
    pub bandwidth_gbytes_per_s: Option<f64>,
    /// Rate of a chain of dependent multiply-adds over many elements.
    pub fma_gflops: Option<f64>,
    /// Best compute rate of all matrix products, convolutions and multiply-add chains.
    pub compute_gflops: Option<f64>,
    /// Case with the best compute rate.
    pub compute_by: Option<String>,
    /// Time per dispatch of many dependent dispatches.
    pub launch_us: Option<f64>,
    /// Time of a run of one small dispatch, including waiting.
    pub round_trip_us: Option<f64>,
    /// Rate of uploads from host to device memory.
    pub upload_gbytes_per_s: Option<f64>,
    /// Rate of readbacks from device to host memory.
    pub readback_gbytes_per_s: Option<f64>,
}

/// Memory bandwidth for a working set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MemoryRate {
    /// Bytes of the working set, source and destination together.
    pub bytes: u64,
    /// Rate of the bytes read and written.
    pub gbytes_per_s: f64,
}

/// Duration of a cold start, from the start of a process to the end of its first training step. The phases sum to the total.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColdStart {
    /// Name of the workload.
    pub workload: String,
    /// From the start of the process to the start of the program.
    pub process_ms: f64,
    /// Enumerating and opening the device.
    pub device_ms: f64,
    /// Recording and planning the graph.
    pub plan_ms: f64,
    /// Compiling kernels, allocating and uploading.
    pub load_ms: f64,
    /// First step, including the readback of the loss.
    pub first_step_ms: f64,
    /// Total duration.
    pub total_ms: f64,
    /// Peak resident memory of the process.
    pub peak_rss_bytes: Option<u64>,
}

impl ColdStart {
    /// Returns the milliseconds of the phases in order, then the total.
    pub fn parts(&self) -> [f64; 6] {
        [self.process_ms, self.device_ms, self.plan_ms, self.load_ms, self.first_step_ms, self.total_ms]
    }
}

/// Group of cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Ceilings of the device.
    Ceiling,
    /// Matrix products.
    Gemm,
    /// Elementwise operations.
    Pointwise,
    /// Sums.
    Reduction,
    /// Softmax cross-entropy and normalizations, with gradients.
    Rows,
    /// Optimizer updates.
    Optimizer,
    /// Convolutions and their gradients.
    Conv,
    /// Whole training steps.
    Step,
}

impl Group {
    /// All groups, in the order of a report.
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

    /// Returns the name in lower case, as in the JSON.
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
    /// Outcome.
    pub status: Status,
    /// Reason if it was skipped, wrong or failed.
    pub reason: Option<String>,
    /// Check of the result.
    pub check: Option<Check>,
    /// Cost of a run.
    #[serde(rename = "work")]
    pub cost: Option<RunCost>,
    /// Number of examples in a run, for training steps.
    pub samples: Option<u64>,
    /// Sweeps that the case is a point of.
    pub sweeps: Vec<SweepPoint>,
    /// Times, if the result is correct.
    pub time: Option<Timing>,
}

/// Outcome of a case on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The result is correct and was timed.
    Timed,
    /// The result is wrong, so it was not timed.
    Wrong,
    /// The case was skipped.
    Skipped,
    /// The device returned an error.
    Failed,
}

impl Status {
    /// Returns the name in lower case, as in the JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Timed => "timed",
            Self::Wrong => "wrong",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
        }
    }
}

/// Check of a result against a reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Reference: `reference` for the interpreter in f64; `cpu-f64` for the CPU backend in f64, if the interpreter takes too
    /// long; `bits` if the data read back must equal the data uploaded.
    pub by: String,
    /// Largest error divided by its tolerance; above 1 is wrong, `null` is not finite.
    pub worst: Option<f64>,
    /// Element with the largest error.
    pub at: String,
}

/// Planned cost of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunCost {
    /// Floating-point operations; a multiply-add counts as two.
    pub flops: u64,
    /// Bytes that kernels read and write; each operand of each kernel counts once.
    pub bytes: u64,
    /// Number of kernels.
    pub dispatches: u64,
    /// Bytes of all buffers.
    pub footprint: u64,
}

/// Point of a sweep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepPoint {
    /// Quantity that is varied: `batch` or `width`.
    pub axis: String,
    /// Value of the quantity.
    pub at: u64,
}

/// Times of a run, and derived rates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Median time.
    pub ms: f64,
    /// 10th percentile of the time.
    pub p10_ms: f64,
    /// 90th percentile of the time.
    pub p90_ms: f64,
    /// Number of repeats.
    pub repeats: u64,
    /// Number of runs in a repeat, queued before waiting.
    pub runs_per_repeat: u64,
    /// Time on the device by the device's clock.
    pub device_ms: Option<f64>,
    /// Time that the host takes to queue a run; unknown for the CPU backend, which has no queue.
    pub host_us: Option<f64>,
    /// Time of compiling kernels, allocating, uploading and the first run.
    pub load_ms: f64,
    /// Compute rate.
    pub gflops: f64,
    /// Rate of memory traffic.
    pub gbytes_per_s: f64,
    /// Examples per second.
    pub samples_per_s: Option<f64>,
    /// Fraction of the roofline: the least time by the ceilings divided by the measured time.
    pub roofline_share: Option<f64>,
    /// Bytes allocated by the session on the device.
    pub allocated_bytes: u64,
    /// Mean power of the processor or the graphics card during the runs, if the system reports it.
    pub watts: Option<f64>,
}

/// Crossover of two devices in a sweep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crossover {
    /// Quantity that is varied.
    pub axis: String,
    /// Device compared.
    pub device: String,
    /// Device it is compared with.
    pub other: String,
    /// Smallest value from which `device` is faster; `None` if it never is.
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

/// Disturbance of the measurement.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    /// Fraction of the CPU time that other processes used.
    pub foreign_cpu_share: Option<f64>,
    /// Median of (p90 − p10) / median over all cases.
    pub spread: Option<f64>,
    /// Warning, if the values are unreliable.
    pub warning: Option<String>,
}

impl Bench {
    /// Reads `bench.json`.
    ///
    /// # Errors
    /// Returns [`BenchFileError::File`] if the file cannot be read, [`BenchFileError::Json`] if it is not a `bench.json`, and
    /// [`BenchFileError::Format`] if it has another format version.
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

    /// Writes `bench.json` and `bench.html` into a directory, which is created if missing. Returns the path of the page.
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

    /// Returns the page: ceilings, rooflines, curves and all results.
    pub fn html(&self, comparison: Option<&BenchComparison>) -> String {
        let mut html = String::new();
        // Formatting into a string does not fail.
        let _ = page::write(&mut html, self, comparison);
        html
    }

    /// Whether at least one case was timed, every result was correct and no device failed.
    pub fn passed(&self) -> bool {
        let has = |status: Status| self.results.iter().any(|result| result.status == status);
        has(Status::Timed) && !has(Status::Wrong) && !has(Status::Failed)
    }

    /// Returns the measurements on a device.
    pub fn results_of<'b>(&'b self, device: &'b str) -> impl Iterator<Item = &'b Measurement> {
        self.results.iter().filter(move |result| result.device == device)
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BenchFileError {
    let path = path.to_owned();
    move |source| BenchFileError::File { action, path, source }
}
