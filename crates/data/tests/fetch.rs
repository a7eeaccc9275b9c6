//! Downloads from a loopback server with correct and faulty answers, and copies from a mirror folder.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{mirror, options, skip};
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest as _, Sha256};
use wgrad_data::catalog::Entry;
use wgrad_data::fetch::RemoteFile;
use wgrad_data::{
    DataError, Digest, FetchOptions, FetchProblem, Fetched, Origin, Pin, Pinned, Progress, fetch,
};

/// Answer of the server to one request.
#[derive(Debug, Clone)]
enum Answer {
    /// Sends the requested range of the content.
    Range,
    /// Sends the complete content, regardless of the requested range.
    IgnoreRange,
    /// Announces the requested range, sends the content up to this byte, then closes the connection.
    CutAt(usize),
    /// Announces no length, sends the content up to this byte, then closes the connection.
    CloseAt(usize),
    /// Sends the content up to this byte, then keeps the connection open without sending.
    StallAt(usize),
    /// Announces a range that was not requested.
    WrongRange,
    /// Sends an error with this status line.
    Status(&'static str),
    /// Sends this text instead of the content.
    Other(&'static str),
}

/// Test server on a loopback port that serves `content`. Sends the next response from the list for each request, then
/// refuses connections.
struct Server {
    url: String,
    /// The `Range` header of each request.
    ranges: Arc<Mutex<Vec<Option<String>>>>,
}

impl Server {
    fn start(content: Vec<u8>, answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/file", listener.local_addr().unwrap());
        let ranges = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&ranges);
        // The thread ends with the test process, or after the last answer.
        std::thread::spawn(move || {
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                let range = read_range(&stream);
                seen.lock().unwrap().push(range.clone());
                respond(stream, &content, range.as_deref(), &answer);
            }
        });
        Self { url, ranges }
    }

    fn ranges(&self) -> Vec<Option<String>> {
        self.ranges.lock().unwrap().clone()
    }
}

fn read_range(stream: &TcpStream) -> Option<String> {
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    headers.iter().find_map(|line| line.to_lowercase().strip_prefix("range: ").map(str::to_owned))
}

fn respond(mut stream: TcpStream, content: &[u8], range: Option<&str>, answer: &Answer) {
    let from =
        range.map(|range| range.strip_prefix("bytes=").unwrap().trim_end_matches('-').parse::<usize>());
    let from = match answer {
        Answer::IgnoreRange | Answer::Other(_) => None,
        Answer::WrongRange => Some(1),
        _ => from.map(Result::unwrap),
    };
    let len = content.len();
    let (head, body) = match (answer, from) {
        (Answer::Status(status), _) => (format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n"), &b"sorry"[..]),
        (Answer::Other(text), _) => {
            (format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", text.len()), text.as_bytes())
        }
        (_, Some(from)) if from >= len => (
            format!(
                "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{len}\r\nContent-Length: 0\r\n"
            ),
            &[][..],
        ),
        (_, Some(from)) => {
            let range = format!("Content-Range: bytes {from}-{}/{len}\r\n", len - 1);
            (
                format!("HTTP/1.1 206 Partial Content\r\n{range}Content-Length: {}\r\n", len - from),
                &content[from..],
            )
        }
        (Answer::CloseAt(_), _) => ("HTTP/1.1 200 OK\r\n".to_owned(), content),
        (_, None) => (format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n"), content),
    };
    let end = match answer {
        Answer::CutAt(end) | Answer::CloseAt(end) | Answer::StallAt(end) => end - from.unwrap_or(0),
        _ => body.len(),
    };
    // The client can close the connection at any time.
    let _ = stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes());
    let _ = stream.write_all(&body[..end]);
    let _ = stream.flush();
    if matches!(answer, Answer::StallAt(_)) {
        std::thread::sleep(Duration::from_secs(20));
    }
}

fn content() -> Vec<u8> {
    (0..300_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Target folder and catalogue entry of a download.
struct Case {
    folder: tempfile::TempDir,
    sha256: String,
    size: Option<u64>,
    of: Pinned,
}

impl Case {
    fn new(content: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, sha256: sha256(content), size: Some(content.len() as u64), of: Pinned::File }
    }

    fn fetch(&self, urls: &[&str], options: &FetchOptions) -> (Result<Fetched, DataError>, Vec<u64>) {
        let pin = Pin { of: self.of, size: self.size, digest: Digest::Sha256(&self.sha256) };
        let file = RemoteFile { name: "file.bin", mirror: "some/file.bin", urls, pin };
        let mut received = Vec::new();
        let mut progress = |p: Progress<'_>| {
            assert_eq!(p.file, "file.bin");
            received.push(p.received);
        };
        (fetch(&file, &self.folder.path().join("set"), options, &mut progress), received)
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("set/file.bin")
    }

    fn part(&self) -> PathBuf {
        self.folder.path().join("set/file.bin.part")
    }

    fn write_partial_file(&self, bytes: &[u8]) {
        fs::create_dir_all(self.part().parent().unwrap()).unwrap();
        fs::write(self.part(), bytes).unwrap();
    }
}

fn problems(result: Result<Fetched, DataError>) -> Vec<FetchProblem> {
    match result {
        Err(DataError::Fetch { file, attempts }) => {
            assert_eq!(file, "file.bin");
            attempts.into_iter().map(|attempt| attempt.problem).collect()
        }
        other => panic!("expected a failed fetch, got {other:?}"),
    }
}

#[test]
fn download_is_verified_renamed_and_not_repeated() {
    let content = content();
    let (case, server) = (Case::new(&content), Server::start(content.clone(), vec![Answer::Range]));
    let (result, received) = case.fetch(&[&server.url], &options());
    assert_eq!(result.unwrap(), Fetched { path: case.target(), origin: Origin::Download { resumed_at: 0 } });
    assert_eq!(fs::read(case.target()).unwrap(), content);
    assert!(!case.part().exists());
    assert!(received.is_sorted() && received.last() == Some(&(content.len() as u64)), "{received:?}");
    assert_eq!(server.ranges(), [None]);
    // The server would refuse another request, so success shows that nothing is downloaded.
    let (again, received) = case.fetch(&[&server.url], &options());
    assert_eq!((again.unwrap().origin, received), (Origin::AlreadyThere, vec![]));
}

#[test]
fn interrupted_download_is_resumed() {
    let content = content();
    let case = Case::new(&content);
    let server =
        Server::start(content.clone(), vec![Answer::CutAt(150_000), Answer::CutAt(200_000), Answer::Range]);
    let (result, _) = case.fetch(&[&server.url], &options());
    assert_eq!(result.unwrap().origin, Origin::Download { resumed_at: 200_000 });
    assert_eq!(fs::read(case.target()).unwrap(), content);
    let expected = [None, Some("bytes=150000-".to_owned()), Some("bytes=200000-".to_owned())];
    assert_eq!(server.ranges(), expected);
}

#[test]
fn closed_connection_without_a_length_is_not_the_end_of_the_file() {
    let content = content();
    let case = Case::new(&content);
    let server = Server::start(content.clone(), vec![Answer::CloseAt(150_000), Answer::Range]);
    let (result, _) = case.fetch(&[&server.url], &options());
    assert_eq!(result.unwrap().origin, Origin::Download { resumed_at: 150_000 });
    assert_eq!(fs::read(case.target()).unwrap(), content);
}

#[test]
fn partial_file_of_a_failed_run_is_resumed() {
    let content = content();
    let case = Case::new(&content);
    let once = FetchOptions { attempts: 1, ..options() };
    let server = Server::start(content.clone(), vec![Answer::CutAt(150_000), Answer::Range]);
    let (failed, _) = case.fetch(&[&server.url], &once);
    let text = failed.as_ref().unwrap_err().to_string();
    assert!(text.contains("150000 of 300000 bytes"), "{text}");
    assert_eq!(problems(failed), [FetchProblem::Cut { received: 150_000, expected: Some(300_000) }]);
    assert_eq!(fs::read(case.part()).unwrap(), content[..150_000]);
    assert!(!case.target().exists());
    let (result, _) = case.fetch(&[&server.url], &once);
    assert_eq!(result.unwrap().origin, Origin::Download { resumed_at: 150_000 });
    assert_eq!(fs::read(case.target()).unwrap(), content);
}

#[test]
fn server_without_ranges_restarts_the_download() {
    let content = content();
    let case = Case::new(&content);
    case.write_partial_file(&content[..1000]);
    let server = Server::start(content.clone(), vec![Answer::IgnoreRange]);
    let (result, _) = case.fetch(&[&server.url], &options());
    assert_eq!(result.unwrap().origin, Origin::Download { resumed_at: 0 });
    assert_eq!(fs::read(case.target()).unwrap(), content);
    assert_eq!(server.ranges(), [Some("bytes=1000-".to_owned())]);
}

#[test]
fn wrong_range_is_not_appended() {
    let content = content();
    let case = Case::new(&content);
    case.write_partial_file(&content[..1000]);
    let server = Server::start(content.clone(), vec![Answer::WrongRange, Answer::Range]);
    let (result, _) = case.fetch(&[&server.url], &FetchOptions { attempts: 1, ..options() });
    assert_eq!(problems(result), [FetchProblem::Range(1000)]);
    let (result, _) = case.fetch(&[&server.url], &options());
    assert_eq!(result.unwrap().origin, Origin::Download { resumed_at: 0 });
    assert_eq!(fs::read(case.target()).unwrap(), content);
}

#[test]
fn complete_and_overlong_partial_files_are_handled() {
    let content = content();
    let case = Case::new(&content);
    case.write_partial_file(&content);
    let server = Server::start(content.clone(), vec![Answer::Range]);
    case.fetch(&[&server.url], &options()).0.unwrap();
    assert_eq!(fs::read(case.target()).unwrap(), content);

    let case = Case::new(&content);
    case.write_partial_file(&[&content[..], b"more"].concat());
    let server = Server::start(content.clone(), vec![Answer::Range, Answer::Range]);
    case.fetch(&[&server.url], &options()).0.unwrap();
    assert_eq!(fs::read(case.target()).unwrap(), content);
}

#[test]
fn partial_file_with_wrong_content_is_discarded() {
    let content = content();
    let case = Case::new(&content);
    case.write_partial_file(&[7; 1000]);
    let server = Server::start(content.clone(), vec![Answer::Range, Answer::Range]);
    let (result, _) = case.fetch(&[&server.url], &options());
    assert_eq!(result.unwrap().origin, Origin::Download { resumed_at: 0 });
    assert_eq!(fs::read(case.target()).unwrap(), content);
    assert_eq!(server.ranges(), [Some("bytes=1000-".to_owned()), None]);
}

#[test]
fn missing_file_is_requested_once_per_url() {
    let content = content();
    let case = Case::new(&content);
    let gone = Server::start(vec![], vec![Answer::Status("404 Not Found"); 2]);
    let (result, _) = case.fetch(&[&gone.url], &options());
    let text = result.as_ref().unwrap_err().to_string();
    assert!(text.contains("404 (not found)") && text.contains(&gone.url), "{text}");
    assert_eq!(problems(result), [FetchProblem::Status(404)]);
    assert!(!case.part().exists());
    let good = Server::start(content.clone(), vec![Answer::Range]);
    case.fetch(&[&gone.url, &good.url], &options()).0.unwrap();
    assert_eq!(fs::read(case.target()).unwrap(), content);
}

#[test]
fn busy_server_is_retried_a_limited_number_of_times() {
    let content = content();
    let case = Case::new(&content);
    let busy = Answer::Status("503 Service Unavailable");
    let server = Server::start(content.clone(), vec![busy.clone(), Answer::Range]);
    case.fetch(&[&server.url], &options()).0.unwrap();

    let case = Case::new(&content);
    let server = Server::start(content, vec![busy; 5]);
    let (result, _) = case.fetch(&[&server.url], &options());
    assert_eq!(problems(result), vec![FetchProblem::Status(503); 4]);
}

#[test]
fn wrong_content_is_deleted_and_reported_with_both_hashes() {
    let right = b"the right thing";
    let case = Case::new(right);
    let wrong = "the wrong thing";
    let server = Server::start(right.to_vec(), vec![Answer::Other(wrong); 2]);
    let (result, _) = case.fetch(&[&server.url], &options());
    let text = result.as_ref().unwrap_err().to_string();
    assert!(text.contains(&sha256(right)) && text.contains(&sha256(wrong.as_bytes())), "{text}");
    let [FetchProblem::Hash { algorithm: "SHA-256", .. }] = &problems(result)[..] else { panic!("{text}") };
    assert!(!case.part().exists() && !case.target().exists());
}

#[test]
fn wrong_sizes_are_reported() {
    let mut case = Case::new(b"the right thing");
    let serve = |text| Server::start(vec![], vec![Answer::Other(text)]);
    let (result, _) = case.fetch(&[&serve("short").url], &options());
    assert_eq!(problems(result), [FetchProblem::Size { content: "the file", expected: 15, found: 5 }]);
    let (result, _) = case.fetch(&[&serve("the right thing and more").url], &options());
    assert_eq!(problems(result), [FetchProblem::TooLong { content: "the file", expected: 15 }]);
    assert!(!case.part().exists());
    case.size = None;
    let (result, _) = case.fetch(&[&serve("the right thing").url], &options());
    assert!(result.is_ok(), "{result:?}");
}

#[test]
fn unpacked_content_can_be_pinned() {
    let content = content();
    let mut case = Case::new(&content);
    case.of = Pinned::Unpacked;
    let pack = |level| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
        encoder.write_all(&content).unwrap();
        encoder.finish().unwrap()
    };
    assert_ne!(pack(1), pack(9));
    for level in [1, 9] {
        let server = Server::start(pack(level), vec![Answer::Range]);
        case.fetch(&[&server.url], &options()).0.unwrap();
        assert_eq!(fs::read(case.target()).unwrap(), pack(level));
        fs::remove_file(case.target()).unwrap();
    }
    let (result, _) =
        case.fetch(&[&Server::start(vec![], vec![Answer::Other("<html>log in</html>")]).url], &options());
    assert!(matches!(&problems(result)[..], [FetchProblem::Gzip(_)]));
    let all_but_one = &content[..content.len() - 1];
    case.sha256 = sha256(all_but_one);
    case.size = Some(all_but_one.len() as u64);
    let (result, _) = case.fetch(&[&Server::start(pack(1), vec![Answer::Range]).url], &options());
    let expected = all_but_one.len() as u64;
    assert_eq!(problems(result), [FetchProblem::TooLong { content: "the unpacked content", expected }]);
    let mut damaged = pack(1);
    damaged.truncate(damaged.len() / 2);
    let (result, _) = case.fetch(&[&Server::start(damaged, vec![Answer::Range]).url], &options());
    assert!(matches!(&problems(result)[..], [FetchProblem::Gzip(_)]));
    assert!(!case.part().exists() && !case.target().exists());
}

#[test]
fn stalled_server_times_out() {
    let content = content();
    let case = Case::new(&content);
    let server = Server::start(content, vec![Answer::StallAt(100_000)]);
    let options = FetchOptions { attempts: 1, stall_timeout: Duration::from_millis(300), ..options() };
    let (result, _) = case.fetch(&[&server.url], &options);
    assert!(matches!(&problems(result)[..], [FetchProblem::Transport(text)] if text.contains("timeout")));
    // The received bytes are kept for the next run.
    assert_eq!(fs::metadata(case.part()).unwrap().len(), 100_000);
}

#[test]
fn refused_connection_is_reported() {
    let case = Case::new(b"x");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/file", listener.local_addr().unwrap());
    drop(listener);
    let (result, _) = case.fetch(&[&url], &options());
    let text = result.as_ref().unwrap_err().to_string();
    assert!(text.contains(&url) && text.to_lowercase().contains("refused"), "{text}");
    assert_eq!(problems(result).len(), 4);
}

#[test]
fn concurrent_downloads_of_one_file_are_refused() {
    let case = Case::new(b"x");
    case.write_partial_file(b"");
    let other = fs::File::open(case.part()).unwrap();
    other.lock().unwrap();
    let (result, _) = case.fetch(&["http://127.0.0.1:1/"], &options());
    assert!(matches!(result, Err(DataError::Busy { .. })), "{result:?}");
}

#[test]
fn mirror_is_copied_and_verified_without_downloads() {
    let case = Case::new(b"the right thing");
    let mirror = tempfile::tempdir().unwrap();
    let options = FetchOptions { mirror: Some(mirror.path().to_path_buf()), ..options() };
    let server = Server::start(b"the right thing".to_vec(), vec![Answer::Range]);
    let (result, _) = case.fetch(&[&server.url], &options);
    let text = result.as_ref().unwrap_err().to_string();
    assert!(text.contains("file.bin") && text.contains("mirror"), "{text}");
    assert_eq!(problems(result), [FetchProblem::NotInMirror]);
    assert!(server.ranges().is_empty());

    fs::create_dir(mirror.path().join("some")).unwrap();
    fs::write(mirror.path().join("some/file.bin"), "the wrong thing").unwrap();
    let (result, _) = case.fetch(&[&server.url], &options);
    assert!(matches!(&problems(result)[..], [FetchProblem::Hash { .. }]));
    assert!(!case.part().exists());

    fs::write(mirror.path().join("some/file.bin"), "the right thing").unwrap();
    let (result, received) = case.fetch(&[&server.url], &options);
    assert_eq!(result.unwrap().origin, Origin::Mirror);
    // The file is also found at the top level of the mirror.
    fs::remove_file(case.target()).unwrap();
    fs::rename(mirror.path().join("some/file.bin"), mirror.path().join("file.bin")).unwrap();
    assert_eq!(case.fetch(&[&server.url], &options).0.unwrap().origin, Origin::Mirror);
    assert_eq!(received.last(), Some(&15));
    assert_eq!(fs::read(case.target()).unwrap(), b"the right thing");
}

#[test]
fn damaged_file_is_fetched_again() {
    let content = content();
    let case = Case::new(&content);
    case.write_partial_file(b"");
    fs::write(case.target(), "damaged").unwrap();
    let server = Server::start(content.clone(), vec![Answer::Range]);
    case.fetch(&[&server.url], &options()).0.unwrap();
    assert_eq!(fs::read(case.target()).unwrap(), content);
}

#[test]
fn catalogue_is_served_by_the_mirror_of_this_project() {
    let Some(mirror) = mirror("catalogue_is_served_by_the_mirror_of_this_project") else { return };
    let options = FetchOptions { mirror: Some(mirror.clone()), ..options() };
    let folder = tempfile::tempdir().unwrap();
    let entry = Entry::named("tinyshakespeare").unwrap();
    let fetched = entry.get(folder.path(), &options, &mut |_| {}).unwrap();
    assert_eq!(fetched[0].origin, Origin::Mirror);
    assert!(fs::read_to_string(&fetched[0].path).unwrap().starts_with("First Citizen:"));
    assert_eq!(entry.find(folder.path()), Some(folder.path().join("tinyshakespeare")));
    let again = entry.get(folder.path(), &options, &mut |_| {}).unwrap();
    assert_eq!(again[0].origin, Origin::AlreadyThere);
    // The built-in data equals the file on the mirror.
    let digits = fs::read(mirror.join("digits/digits.csv.gz")).unwrap();
    assert!(digits == fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/digits.csv.gz")).unwrap());
    assert_eq!(Entry::named("digits").unwrap().get(folder.path(), &options, &mut |_| {}).unwrap(), []);
}

#[test]
fn debian_package_is_used_if_installed() {
    let entry = Entry::named("fashion-mnist").unwrap();
    let folder = tempfile::tempdir().unwrap();
    // The mirror is empty: the copy would fail if the package were not used.
    let options = FetchOptions { mirror: Some(folder.path().to_path_buf()), ..options() };
    if !Path::new(entry.system.unwrap().folder).is_dir() {
        skip("debian_package_is_used_if_installed", "the package is not installed");
        return;
    }
    let fetched = entry.get(folder.path(), &options, &mut |_| {}).unwrap();
    assert_eq!(fetched.len(), 4);
    assert!(fetched.iter().all(|file| file.origin == Origin::AlreadyThere));
}
