//! Gets a file of the catalogue: from a mirror folder or over HTTP, continued where it stopped, checked, then renamed.
//!
//! What has come lies in `NAME.part` until its size and hash are right, so that a file under its own name is whole.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::http::{HeaderMap, StatusCode, header};
use ureq::{Agent, Proxy};

use crate::error::{DataError, FetchAttempt, FetchProblem};
use crate::part::Part;
use crate::pin::{CheckError, Pin};

/// The environment variable that names a mirror folder. The caller reads it; see [`FetchOptions::mirror`].
pub const MIRROR_ENV: &str = "WGRAD_DATA_MIRROR";

/// A file that can be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteFile<'a> {
    /// Its name in the data set's folder.
    pub name: &'a str,
    /// Its path in a mirror folder, with `/`. A mirror may also have it at its top, under its name.
    pub mirror: &'a str,
    /// Where it can be downloaded; tried in this order. None where only mirrors have it.
    pub urls: &'a [&'a str],
    /// What it has to be.
    pub pin: Pin<'a>,
}

impl RemoteFile<'_> {
    /// Its path in the mirror `folder`: where it lies, or else where it should.
    pub(crate) fn in_mirror(&self, folder: &Path) -> PathBuf {
        let (place, top) = (folder.join(self.mirror), folder.join(self.name));
        if !place.exists() && top.exists() { top } else { place }
    }
}

/// How files are fetched.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// A folder that holds copies of the files. Where it is given, nothing is downloaded.
    pub mirror: Option<PathBuf>,
    /// Attempts per URL; one that was cut continues where it stopped.
    pub attempts: u32,
    /// Wait before the second attempt; grows with each further one.
    pub pause: Duration,
    /// Limit for name lookup, connection and the first answer, each.
    pub connect_timeout: Duration,
    /// Limit for a silence in the middle of a download.
    pub stall_timeout: Duration,
    /// Whether the proxy that the environment names (`HTTPS_PROXY`, …) is used.
    pub use_proxy: bool,
}

impl Default for FetchOptions {
    /// No mirror, four attempts, a second's pause, limits of 30 seconds, with the environment's proxy.
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

/// How far a file has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The file's name.
    pub file: &'a str,
    /// Bytes on disk, those of earlier attempts included.
    pub received: u64,
    /// Bytes of the whole file, where it is known.
    pub total: Option<u64>,
}

/// A file that is in its place and has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Where it lies.
    pub path: PathBuf,
    /// How it came there.
    pub origin: Origin,
}

/// How a file came to its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It was there before and is as it should be.
    AlreadyThere,
    /// Copied from the mirror folder.
    Mirror,
    /// Downloaded.
    Download {
        /// The byte at which the last attempt started; 0 for a download in one piece.
        resumed_at: u64,
    },
}

/// Puts `file` into `folder` (created if need be), unless it is there and as it should be.
///
/// `progress` is called for every block that comes.
///
/// # Errors
/// [`DataError::Fetch`] lists every attempt and why it failed; [`DataError::Busy`] where another process is at it;
/// [`DataError::Io`] where the folder cannot be written.
pub fn fetch(
    file: &RemoteFile<'_>,
    folder: &Path,
    options: &FetchOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Fetched, DataError> {
    let target = folder.join(file.name);
    if is_right(&target, &file.pin) {
        return Ok(Fetched { path: target, origin: Origin::AlreadyThere });
    }
    fs::create_dir_all(folder).map_err(DataError::io("create", folder))?;
    let mut transfer = Transfer { file, part: Part::open(&target)?, progress };
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

/// Whether a file exists and is what the pin says.
pub(crate) fn is_right(path: &Path, pin: &Pin<'_>) -> bool {
    File::open(path).is_ok_and(|file| pin.check(&file).is_ok())
}

/// Why an attempt ended: `Local` ends everything, `Remote` is noted and something else is tried.
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
    part: Part,
    progress: &'a mut dyn FnMut(Progress<'_>),
}

impl Transfer<'_> {
    /// `None` where the mirror cannot serve; `attempts` then says why.
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

    /// `None` where no URL can serve; `attempts` then says why.
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
                let again = is_worth_another_attempt(&problem, before > 0);
                attempts.push(FetchAttempt { source: (*url).to_owned(), problem });
                if !again {
                    break;
                }
            }
        }
        Ok(None)
    }

    /// One request; gives the byte at which it started.
    fn download(&mut self, agent: &Agent, url: &str) -> Result<u64, Failure> {
        let have = self.part.len();
        // Any other encoding would be decoded or not, and the size and hash speak of the file itself.
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
            // All of it had come, but the last run ended before it was checked.
            (StatusCode::RANGE_NOT_SATISFIABLE, Some((_, Some(total)))) if total == have && have > 0 => {
                return Ok(have);
            }
            (StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE, _) if have > 0 => {
                self.part.keep(0)?;
                return Err(FetchProblem::Range(have).into());
            }
            (status, _) => return Err(FetchProblem::Status(status.as_u16()).into()),
        };
        // Without a length from the server, the end of the connection would pass for the end of the file.
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

    /// Appends all of `reader`. The inner result is the reader's, the outer one that of this machine or the pin.
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

    /// Compares with the pin; what is wrong is dropped, since nothing can be made of it.
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

/// A fault of the moment is; so is wrong content put together from two attempts, but not if it came in one piece.
fn is_worth_another_attempt(problem: &FetchProblem, resumed: bool) -> bool {
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
        // Not a limit for the whole body, which takes as long as the line is slow.
        .timeout_per_read(Some(options.stall_timeout))
        .build()
        .into()
}

/// First byte and size of the whole from `Content-Range: bytes 5-9/10` or `bytes */10`.
fn content_range(headers: &HeaderMap) -> Option<(Option<u64>, Option<u64>)> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = text.trim().strip_prefix("bytes")?.trim().split_once('/')?;
    let first = range.split_once('-').and_then(|(first, _)| first.trim().parse().ok());
    Some((first, total.trim().parse().ok()))
}
