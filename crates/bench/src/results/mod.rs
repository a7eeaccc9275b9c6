//! What `wgrad bench` measured: every device's ceilings, and each case on each device, checked before it was timed. Nothing
//! here measures; who does fills in the measurements, and [`Bench::conclude`] works out the rest. `bench.json` holds it, the
//! page is made of it, and [`Comparison`] sets two of them side by side.

mod charts;
mod compare;
mod conclude;
mod page;

pub use charts::curves as write_curves;
pub use compare::{Change, CompareError, Comparison, some};

use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use wgrad_stdx::ErrorKind;
use wgrad_stdx::file;

/// Version of `bench.json`. A file of another version is not compared with.
pub const FORMAT: u32 = 1;

/// Why a bench cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BenchFileError {
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file holds no bench.
    #[error("{} is no bench.json: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// The file is of another version of the format.
    #[error("{} has format {found}, and this wgrad compares format {FORMAT}; measure again with one version", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
}

impl BenchFileError {
    /// Kind of the error, which decides the exit code of the command line.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }
}

/// Everything that one call of `wgrad bench` measured: `bench.json`. What is not known is `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bench {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of wgrad.
    pub version: String,
    /// What to type to repeat it.
    pub command: String,
    /// When it was done, as 2026-01-02T03:04:05Z.
    pub date: String,
    /// How long it took.
    pub seconds: f64,
    /// Whether it was the short one.
    pub quick: bool,
    /// The machine.
    pub host: Host,
    /// The devices, in the order in which they were measured.
    pub devices: Vec<DeviceReport>,
    /// Each case on each device.
    pub results: Vec<Measurement>,
    /// Where one device overtakes another.
    pub overtakes: Vec<Overtake>,
    /// How quiet the machine was.
    pub noise: Noise,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Operating system, e.g. `linux`.
    pub os: String,
    /// Architecture, e.g. `x86_64`.
    pub arch: String,
    /// Processors that the process may use.
    pub processors: u64,
}

/// A device with what bounds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceReport {
    /// What `--devices` calls it, e.g. `gpu:0`.
    pub device: String,
    /// `cpu` or `gpu`.
    pub kind: String,
    /// Name, e.g. `NVIDIA GeForce RTX 4070`.
    pub name: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `cpu`.
    pub class: String,
    /// API, e.g. `vulkan`; `rayon` for the CPU.
    pub backend: String,
    /// Driver and its version.
    pub driver: String,
    /// Products whose kernels come from a table of `wgrad tune`.
    #[serde(default)]
    pub tuned: u64,
    /// What it can do at best.
    pub ceilings: Ceilings,
    /// A first step in a fresh process.
    pub cold_start: Option<ColdStart>,
}

/// The best that was measured on a device. GB are 10⁹ bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ceilings {
    /// Rate of copying by working set, smallest first: caches show.
    pub copy: Vec<MemoryRate>,
    /// Rate of reading by working set.
    pub read: Vec<MemoryRate>,
    /// The better of copying and reading the largest working set: memory's.
    pub bandwidth_gbytes_per_s: Option<f64>,
    /// Rate of a chain of dependent multiply-adds over many elements.
    pub fma_gflops: Option<f64>,
    /// Best rate of all products, convolutions and chains.
    pub compute_gflops: Option<f64>,
    /// The case that reached it.
    pub compute_by: Option<String>,
    /// A dispatch among many that wait for each other.
    pub launch_us: Option<f64>,
    /// A run of one small dispatch, waited for.
    pub round_trip_us: Option<f64>,
    /// From host memory into the device's.
    pub upload_gbytes_per_s: Option<f64>,
    /// Back.
    pub readback_gbytes_per_s: Option<f64>,
}

/// Rate at which a working set of some size is gone through.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MemoryRate {
    /// Bytes of it, source and copy together.
    pub bytes: u64,
    /// Bytes read and written.
    pub gbytes_per_s: f64,
}

/// From the start of a process to the end of the first training step in it. The parts add up to the whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColdStart {
    /// What was trained.
    pub workload: String,
    /// Until the program ran.
    pub process_ms: f64,
    /// Finding and opening the device.
    pub device_ms: f64,
    /// Recording and planning.
    pub plan_ms: f64,
    /// Compiling kernels, allocating and uploading.
    pub load_ms: f64,
    /// The first step, its loss read back.
    pub first_step_ms: f64,
    /// All of it.
    pub total_ms: f64,
    /// Largest resident memory of that process.
    pub peak_rss_bytes: Option<u64>,
}

impl ColdStart {
    /// Its milliseconds, as they follow each other, and all of it last.
    pub fn parts(&self) -> [f64; 6] {
        [self.process_ms, self.device_ms, self.plan_ms, self.load_ms, self.first_step_ms, self.total_ms]
    }
}

/// Kind of case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// What bounds the others.
    Ceiling,
    /// Matrix products.
    Gemm,
    /// Element by element.
    Pointwise,
    /// Sums.
    Reduction,
    /// Softmax cross-entropy and norms, with gradients.
    Rows,
    /// Updates of all parameters.
    Optimizer,
    /// Convolutions and their gradients.
    Conv,
    /// Whole training steps.
    Step,
}

impl Group {
    /// All of them, in the order of a report.
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

    /// In lower case, as in the JSON.
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

/// A case on a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Name of the case.
    pub case: String,
    /// Its kind.
    pub group: Group,
    /// The device, as [`DeviceReport::device`].
    pub device: String,
    /// What came of it.
    pub status: Status,
    /// Why it was skipped, wrong, or failed.
    pub reason: Option<String>,
    /// How its result was judged.
    pub check: Option<Check>,
    /// What a run does.
    pub work: Option<WorkDone>,
    /// Examples in a run, of training steps.
    pub samples: Option<u64>,
    /// The sweeps that it is a point of.
    pub sweeps: Vec<SweepPoint>,
    /// How long it takes; only of what is right.
    pub time: Option<Timing>,
}

/// What came of a case on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Its result is right, and it was timed.
    Timed,
    /// Its result is wrong, so it was not timed.
    Wrong,
    /// It was left out.
    Skipped,
    /// The device gave an error.
    Failed,
}

impl Status {
    /// In lower case, as in the JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Timed => "timed",
            Self::Wrong => "wrong",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
        }
    }
}

/// How a result was judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// `reference` for the plain loops in f64; `cpu-f64` for the CPU backend in f64, where those take too long; `bits` where
    /// what comes back must be what was sent.
    pub by: String,
    /// Largest error over its tolerance; above 1 is wrong, `null` is not finite.
    pub worst: Option<f64>,
    /// The element it is at.
    pub at: String,
}

/// What a run does, as the program says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkDone {
    /// Floating-point operations; a multiply-add counts as two.
    pub flops: u64,
    /// Bytes that kernels read and write, each operand of each kernel once.
    pub bytes: u64,
    /// Kernels.
    pub dispatches: u64,
    /// Bytes of all buffers.
    pub footprint: u64,
}

/// A point of a sweep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepPoint {
    /// What is swept: `batch` or `width`.
    pub axis: String,
    /// Its value.
    pub at: u64,
}

/// How long a run takes, and what follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Median.
    pub ms: f64,
    /// A tenth of the repeats were faster.
    pub p10_ms: f64,
    /// A tenth of the repeats were slower.
    pub p90_ms: f64,
    /// Number of repeats.
    pub repeats: u64,
    /// Runs that were queued before waiting, in a repeat.
    pub runs_per_repeat: u64,
    /// Time on the device, by its own clock.
    pub device_ms: Option<f64>,
    /// Time that the host takes to queue a run; on the CPU backend there is no such thing.
    pub host_us: Option<f64>,
    /// Compiling kernels, allocating, uploading, and the first run.
    pub load_ms: f64,
    /// Rate of arithmetic.
    pub gflops: f64,
    /// Rate of memory traffic.
    pub gbytes_per_s: f64,
    /// Examples a second.
    pub samples_per_s: Option<f64>,
    /// Time that the ceilings allow, over the time measured.
    pub roofline_share: Option<f64>,
    /// Bytes that the session holds on the device.
    pub allocated_bytes: u64,
    /// Mean power while it ran, of the processor or the card, where the system tells.
    pub watts: Option<f64>,
}

/// Where one device overtakes another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overtake {
    /// What is swept.
    pub axis: String,
    /// The device that may overtake.
    pub device: String,
    /// The other.
    pub other: String,
    /// First value from which on it is ahead; none if there is no such value.
    pub at: Option<u64>,
    /// Smallest and largest value of the sweep that both were timed at.
    pub range: (u64, u64),
}

impl std::fmt::Display for Overtake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { axis, device, other, at, range: (first, last) } = self;
        match at {
            Some(at) if at == first => {
                write!(f, "{device} is ahead of {other} at every {axis} from {first} to {last}.")
            }
            Some(at) => write!(f, "{device} overtakes {other} at {axis} {at} (of {first} to {last})."),
            None => {
                write!(f, "{device} never overtakes {other} within the sweep ({axis} {first} to {last}).")
            }
        }
    }
}

/// How quiet the machine was.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    /// Part of the processors' time that other processes took.
    pub foreign_cpu_share: Option<f64>,
    /// Median over all cases of (p90 − p10) / median.
    pub spread: Option<f64>,
    /// A sentence, if the figures are not to be trusted.
    pub warning: Option<String>,
}

impl Bench {
    /// Reads `bench.json`.
    ///
    /// # Errors
    /// [`BenchFileError`]; a file of another [`FORMAT`] is refused.
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

    /// Writes `bench.json` and `bench.html` into a directory, which is made if it is not there, and returns the path of the
    /// page.
    ///
    /// # Errors
    /// [`BenchFileError::File`].
    pub fn write(
        &self,
        directory: &Path,
        comparison: Option<&Comparison>,
    ) -> Result<PathBuf, BenchFileError> {
        Self::make_directory(directory)?;
        let (json, page) = (directory.join("bench.json"), directory.join("bench.html"));
        let text = serde_json::to_string(self).map_err(io::Error::from).map_err(failed("write", &json))?;
        file::replace(&json, format!("{text}\n").as_bytes()).map_err(failed("write", &json))?;
        file::replace(&page, self.html(comparison).as_bytes()).map_err(failed("write", &page))?;
        Ok(page)
    }

    /// Makes the directory that [`Bench::write`] will write to, before anything is measured.
    ///
    /// # Errors
    /// [`BenchFileError::File`].
    pub fn make_directory(directory: &Path) -> Result<(), BenchFileError> {
        fs::create_dir_all(directory).map_err(failed("create", directory))
    }

    /// The page: ceilings, rooflines, curves, every figure.
    pub fn html(&self, comparison: Option<&Comparison>) -> String {
        let mut html = String::new();
        // Writing to a string cannot fail.
        let _ = page::write(&mut html, self, comparison);
        html
    }

    /// Whether something was timed, every result was right and no device failed.
    pub fn passed(&self) -> bool {
        let has = |status: Status| self.results.iter().any(|result| result.status == status);
        has(Status::Timed) && !has(Status::Wrong) && !has(Status::Failed)
    }

    /// What was measured on a device.
    pub fn results_of<'b>(&'b self, device: &'b str) -> impl Iterator<Item = &'b Measurement> {
        self.results.iter().filter(move |result| result.device == device)
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BenchFileError {
    let path = path.to_owned();
    move |source| BenchFileError::File { action, path, source }
}
