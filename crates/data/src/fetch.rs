//! Downloads a file of the catalogue, or copies it from a mirror folder.
//!
//! An interrupted download is resumed. Received data is written to `NAME.part`, which is renamed to `NAME` after its
//! size and hash are verified. A file with the final name is therefore always complete.

pub(crate) mod problem;

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::http::{HeaderMap, StatusCode, header};
use ureq::{Agent, Proxy};

pub use crate::environment::MIRROR_ENV;
use crate::error::DataError;
use crate::partial_file::PartialFile;
use crate::pin::{CheckError, Pin};
pub use problem::{FetchAttempt, FetchProblem};

/// File that can be downloaded or copied from a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteFile<'a> {
    /// File name in the folder of the data set.
    pub name: &'a str,
    /// Path in a mirror folder, with `/` as separator. The file can also be at the top level of the mirror, under its
    /// name.
    pub mirror: &'a str,
    /// URLs of the file, tried in this order; empty if the file is available only from mirror folders.
    pub urls: &'a [&'a str],
    /// Expected size and hash of the file.
    pub pin: Pin<'a>,
}

impl RemoteFile<'_> {
    /// Returns the path of the file in the mirror `folder`: at the top level if the file exists only there, otherwise
    /// the path given by `mirror`.
    pub(crate) fn in_mirror(&self, folder: &Path) -> PathBuf {
        let (place, top) = (folder.join(self.mirror), folder.join(self.name));
        if !place.exists() && top.exists() { top } else { place }
    }
}

/// Options of [`fetch`].
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// Mirror folder from which files are copied. If set, nothing is downloaded.
    pub mirror: Option<PathBuf>,
    /// Maximum number of attempts per URL. Each attempt resumes an interrupted download.
    pub attempts: u32,
    /// Pause before the second attempt. The pause before attempt n is n − 1 times this duration.
    pub pause: Duration,
    /// Timeout that applies separately to name resolution, to the connection and to the response headers.
    pub connect_timeout: Duration,
    /// Timeout for each read during a download.
    pub stall_timeout: Duration,
    /// Whether to use the proxy set by environment variables such as `HTTPS_PROXY`.
    pub use_proxy: bool,
}

impl Default for FetchOptions {
    /// No mirror, four attempts, a pause of one second, timeouts of 30 seconds, and the proxy set by the environment.
    fn default() -> Self {
        let limit = Duration::from_secs(30);
        Self {
            mirror: None,
            attempts: 4,
            pause: Duration::from_secs(1),
            connect_timeout: limit,
            stall_timeout: limit,
            use_proxy: true,
        }
    }
}

/// Progress of the transfer of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// Name of the file.
    pub file: &'a str,
    /// Number of bytes on disk, including bytes from earlier attempts.
    pub received: u64,
    /// Size of the complete file in bytes, if known.
    pub total: Option<u64>,
}

/// Verified file at its final path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Path of the file.
    pub path: PathBuf,
    /// Source of the file.
    pub origin: Origin,
}

/// Source of a fetched file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The file already existed and is valid.
    AlreadyThere,
    /// The file was copied from the mirror folder.
    Mirror,
    /// The file was downloaded.
    Download {
        /// Byte at which the last attempt started; 0 if the download was not resumed.
        resumed_at: u64,
    },
}

/// Fetches `file` to `folder` unless a valid copy exists there. Creates the folder if necessary.
///
/// `progress` is called for every received block.
///
/// # Errors
/// Returns [`DataError::Fetch`] with all failed attempts if no source works, [`DataError::Busy`] if another process is
/// fetching the same file, and [`DataError::Io`] if the folder cannot be written.
pub fn fetch(
    file: &RemoteFile<'_>,
    folder: &Path,
    options: &FetchOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Fetched, DataError> {
    let target = folder.join(file.name);
    if matches_pin(&target, &file.pin) {
        return Ok(Fetched { path: target, origin: Origin::AlreadyThere });
    }
    fs::create_dir_all(folder).map_err(DataError::io("create", folder))?;
    let mut transfer = Transfer { file, part: PartialFile::open(&target)?, progress };
    let mut attempts = Vec::new();
    let origin = match &options.mirror {
        Some(mirror) => transfer.try_mirror(&file.in_mirror(mirror), &mut attempts)?,
        None => transfer.try_urls(options, &mut attempts)?,
    };
    let Some(origin) = origin else {
        return Err(DataError::Fetch { file: file.name.to_owned(), attempts });
    };
    transfer.part.finish(&target)?;
    Ok(Fetched { path: target, origin })
}

/// Whether a file exists and matches its pin.
pub(crate) fn matches_pin(path: &Path, pin: &Pin<'_>) -> bool {
    File::open(path).is_ok_and(|file| pin.check(&file).is_ok())
}

/// Failure of an attempt. A `Local` failure ends the fetch. A `Remote` failure is recorded, and another source is
/// tried.
enum Failure {
    Local(DataError),
    Remote(FetchProblem),
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        Self::Local(error)
    }
}

impl From<FetchProblem> for Failure {
    fn from(problem: FetchProblem) -> Self {
        Self::Remote(problem)
    }
}

struct Transfer<'a> {
    file: &'a RemoteFile<'a>,
    part: PartialFile,
    progress: &'a mut dyn FnMut(Progress<'_>),
}

impl Transfer<'_> {
    /// Copies the file from the mirror. If that fails, returns `None` and adds the reason to `attempts`.
    fn try_mirror(
        &mut self,
        path: &Path,
        attempts: &mut Vec<FetchAttempt>,
    ) -> Result<Option<Origin>, DataError> {
        let problem = match self.copy(path).and_then(|()| self.check()) {
            Ok(()) => return Ok(Some(Origin::Mirror)),
            Err(Failure::Local(error)) => return Err(error),
            Err(Failure::Remote(problem)) => problem,
        };
        attempts.push(FetchAttempt { source: path.display().to_string(), problem });
        Ok(None)
    }

    fn copy(&mut self, path: &Path) -> Result<(), Failure> {
        self.part.keep(0)?;
        let source = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(FetchProblem::NotInMirror.into()),
            other => other.map_err(DataError::io("read", path))?,
        };
        let total = source.metadata().ok().map(|metadata| metadata.len());
        self.receive(source, total)?.map_err(DataError::io("read", path))?;
        Ok(())
    }

    /// Downloads the file from its URLs. If all fail, returns `None` and adds the reasons to `attempts`.
    fn try_urls(
        &mut self,
        options: &FetchOptions,
        attempts: &mut Vec<FetchAttempt>,
    ) -> Result<Option<Origin>, DataError> {
        let agent = agent(options);
        for url in self.file.urls {
            for attempt in 0..options.attempts.max(1) {
                std::thread::sleep(options.pause * attempt);
                let before = self.part.len();
                let problem = match self.download(&agent, url).and_then(|at| self.check().map(|()| at)) {
                    Ok(resumed_at) => return Ok(Some(Origin::Download { resumed_at })),
                    Err(Failure::Local(error)) => return Err(error),
                    Err(Failure::Remote(problem)) => problem,
                };
                let retry = is_retryable(&problem, before > 0);
                attempts.push(FetchAttempt { source: (*url).to_owned(), problem });
                if !retry {
                    break;
                }
            }
        }
        Ok(None)
    }

    /// Sends one request and receives the file. Returns the byte at which the transfer started.
    fn download(&mut self, agent: &Agent, url: &str) -> Result<u64, Failure> {
        let have = self.part.len();
        // With any other encoding, the pinned size and hash would not apply to the received bytes.
        let mut request = agent.get(url).header(header::ACCEPT_ENCODING, "identity");
        if have > 0 {
            request = request.header(header::RANGE, format!("bytes={have}-"));
        }
        let mut response = request.call().map_err(|error| FetchProblem::Transport(error.to_string()))?;
        let (start, total) = match (response.status(), content_range(response.headers())) {
            (StatusCode::OK, _) => (0, response.body().content_length()),
            (StatusCode::PARTIAL_CONTENT, Some((Some(first), total))) if first == have && have > 0 => {
                (have, total)
            }
            // The partial file is complete, but the last run ended before the file was verified.
            (StatusCode::RANGE_NOT_SATISFIABLE, Some((_, Some(total)))) if total == have && have > 0 => {
                return Ok(have);
            }
            (StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE, _) if have > 0 => {
                self.part.keep(0)?;
                return Err(FetchProblem::Range(have).into());
            }
            (status, _) => return Err(FetchProblem::Status(status.as_u16()).into()),
        };
        // Without a known length, a closed connection would look like the end of the file.
        let total = total.or(self.file.pin.file_size());
        self.part.keep(start)?;
        let ended = self.receive(response.body_mut().as_reader(), total)?;
        let received = self.part.len();
        match (ended, total) {
            (Ok(()), Some(expected)) if received < expected => {
                Err(FetchProblem::Cut { received, expected: total }.into())
            }
            (Ok(()), _) => Ok(start),
            (Err(error), _) if error.kind() == ErrorKind::UnexpectedEof => {
                Err(FetchProblem::Cut { received, expected: total }.into())
            }
            (Err(error), _) => Err(FetchProblem::Transport(error.to_string()).into()),
        }
    }

    /// Appends all bytes of `reader` to the partial file.
    ///
    /// The inner result contains the errors of `reader`. The outer result contains the errors of the disk, and the
    /// error for a file that is longer than its pinned size.
    fn receive(&mut self, mut reader: impl Read, total: Option<u64>) -> Result<std::io::Result<()>, Failure> {
        let limit = self.file.pin.largest_file().unwrap_or(u64::MAX);
        let mut buffer = vec![0; 1 << 16];
        loop {
            (self.progress)(Progress { file: self.file.name, received: self.part.len(), total });
            let count = match reader.read(&mut buffer) {
                Ok(0) => return Ok(Ok(())),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Err(error)),
            };
            self.part.append(&buffer[..count])?;
            if self.part.len() > limit {
                self.part.keep(0)?;
                let content = "the file";
                return Err(FetchProblem::TooLong { content, expected: limit }.into());
            }
        }
    }

    /// Compares the partial file with the pin. Truncates the partial file to zero bytes if it does not match.
    fn check(&mut self) -> Result<(), Failure> {
        match self.part.check(&self.file.pin) {
            Ok(()) => Ok(()),
            Err(CheckError::Io(error)) => Err(DataError::io("read", Path::new(self.file.name))(error).into()),
            Err(CheckError::Problem(problem)) => {
                self.part.keep(0)?;
                Err(problem.into())
            }
        }
    }
}

/// Whether another attempt can succeed: after a temporary failure, or if wrong content was received in a resumed
/// download.
fn is_retryable(problem: &FetchProblem, resumed: bool) -> bool {
    match problem {
        FetchProblem::Transport(_) | FetchProblem::Cut { .. } | FetchProblem::Range(_) => true,
        FetchProblem::Status(status) => *status == 429 || *status >= 500,
        FetchProblem::Size { .. }
        | FetchProblem::TooLong { .. }
        | FetchProblem::Hash { .. }
        | FetchProblem::Gzip(_) => resumed,
        FetchProblem::NotInMirror => false,
    }
}

fn agent(options: &FetchOptions) -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .user_agent(concat!("wgrad/", env!("CARGO_PKG_VERSION")))
        .proxy(options.use_proxy.then(Proxy::try_from_env).flatten())
        .timeout_resolve(Some(options.connect_timeout))
        .timeout_connect(Some(options.connect_timeout))
        .timeout_recv_response(Some(options.connect_timeout))
        // A timeout for the complete body would fail on a slow connection, so the timeout applies to each read.
        .timeout_per_read(Some(options.stall_timeout))
        .build()
        .into()
}

/// Returns the first byte and the total size in the header `Content-Range`, such as `bytes 5-9/10` or `bytes */10`.
///
/// An unknown value is `None`. Returns `None` if the header is absent or malformed.
fn content_range(headers: &HeaderMap) -> Option<(Option<u64>, Option<u64>)> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = text.trim().strip_prefix("bytes")?.trim().split_once('/')?;
    let first = range.split_once('-').and_then(|(first, _)| first.trim().parse().ok());
    Some((first, total.trim().parse().ok()))
}
