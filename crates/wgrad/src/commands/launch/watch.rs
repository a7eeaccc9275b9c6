//! A job from its start to its end, with what went wrong.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use wgrad_comm::LOST;
use wgrad_run::Run;

use super::job::Job;
use super::lines::{Line, parse};
use crate::cli::Launch;
use crate::commands::common::interruption;
use crate::terminal::{self, say};

/// How old a rank's last sign of life may be when another ends the job: they come once a second.
const SILENT: Duration = Duration::from_secs(5);
/// How old it may be at all.
const DEAD: Duration = Duration::from_secs(15);
/// How long mpirun is given to end its ranks.
const GRACE: Duration = Duration::from_secs(5);

/// How a job ended.
pub enum Ended {
    /// Everything was trained.
    Well,
    /// The user ended it, and a checkpoint was written.
    Interrupted,
    /// A rank failed.
    Failed {
        /// The exit code of what failed.
        code: u8,
        /// Which rank and why.
        why: String,
    },
}

/// What is known of a rank.
#[derive(Default)]
struct Rank {
    pid: Option<(u32, String)>,
    seen: Option<Instant>,
    failed: Option<(u8, String)>,
    /// The last line in which it spoke of an error.
    error: Option<String>,
    log: Option<File>,
}

struct Watch<'a> {
    job: &'a Job,
    ranks: BTreeMap<usize, Rank>,
    bar: Option<ProgressBar>,
    killed: Option<(usize, u32)>,
    lost_host: bool,
    /// A rank that gave no sign of life for long.
    dead: Option<usize>,
    /// Ranks that had not been heard of for a while when the first of the others ended the job.
    silent: Vec<usize>,
    /// The last things that mpirun itself said.
    other: Vec<String>,
}

/// Runs a job to its end. Nothing of it is left behind.
pub fn watch(job: &Job, args: &Launch) -> Result<Ended> {
    let stop = interruption()?;
    let mut command = job.command(args.ranks)?;
    let missing = || format!("cannot start {}; is Open MPI installed?", args.mpirun.display());
    let mut child = command.spawn().with_context(missing)?;
    let (sender, lines) = channel();
    let readers = [
        child.stdout.take().map(|pipe| reader(pipe, true, sender.clone())),
        child.stderr.take().map(|pipe| reader(pipe, false, sender)),
    ];
    let mut watch = Watch {
        job,
        ranks: BTreeMap::new(),
        bar: None,
        killed: None,
        lost_host: false,
        dead: None,
        silent: Vec::new(),
        other: Vec::new(),
    };
    let end = args.deadline.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let (mut late, mut asked) = (false, false);
    let status = loop {
        watch.hear(&lines)?;
        if let Some(status) = child.try_wait().context("mpirun cannot be waited for")? {
            break status;
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            late = true;
            break watch.end(&mut child)?;
        }
        if let Some(rank) = watch.dead() {
            watch.dead = Some(rank);
            break watch.end(&mut child)?;
        }
        if stop.load(std::sync::atomic::Ordering::SeqCst) && !asked {
            asked = true;
            // The first rank finishes its step, writes a checkpoint and tells the others.
            match watch.ranks.get(&0).and_then(|rank| rank.pid.clone()) {
                Some((pid, host)) if host == super::super::heartbeat::host() => signal("INT", pid),
                _ => break watch.end(&mut child)?,
            }
        }
    };
    for reader in readers.into_iter().flatten() {
        // A rank that outlives mpirun may hold the pipe: what is left is read until then.
        let until = Instant::now() + Duration::from_secs(1);
        while !reader.is_finished() && Instant::now() < until {
            watch.hear(&lines)?;
        }
    }
    watch.hear(&lines)?;
    watch.sweep();
    if let Some(bar) = &watch.bar {
        bar.finish_and_clear();
    }
    if late {
        let seconds = args.deadline.unwrap_or_default();
        return Ok(Ended::Failed { code: LOST, why: format!("the job was not done after {seconds} s") });
    }
    if asked && watch.why().is_none() {
        return Ok(Ended::Interrupted);
    }
    let done = Run::open(job.out()).is_ok_and(|run| run.is_done());
    match (status.success(), done) {
        (true, true) => Ok(Ended::Well),
        (true, false) => {
            let why = format!("mpirun ended, but {} has no mark of a run that is done", job.out().display());
            Ok(Ended::Failed { code: LOST, why })
        }
        (false, _) => {
            let (code, why) = watch.why().unwrap_or_else(|| {
                let code = status.code().and_then(|code| u8::try_from(code).ok()).filter(|&code| code != 0);
                let said = watch.other.join("; ");
                (code.unwrap_or(LOST), format!("mpirun ended with {status}: {said}"))
            });
            Ok(Ended::Failed { code, why })
        }
    }
}

/// Passes the lines of a pipe on; the flag says whether they are results.
fn reader(
    pipe: impl Read + Send + 'static,
    results: bool,
    to: Sender<(bool, String)>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if to.send((results, text)).is_err() {
                return;
            }
            line.clear();
        }
    })
}

impl Watch<'_> {
    /// Takes what was written, and waits a moment for more.
    fn hear(&mut self, lines: &Receiver<(bool, String)>) -> Result<()> {
        let until = Instant::now() + Duration::from_millis(100);
        loop {
            match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok((results, line)) => self.take(results, &line)?,
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => {
                    std::thread::sleep(until.saturating_duration_since(Instant::now()));
                    return Ok(());
                }
            }
        }
    }

    fn take(&mut self, results: bool, line: &str) -> Result<()> {
        match parse(line) {
            Line::Alive { rank, pid, host } => {
                self.open_log(rank)?;
                let known = self.rank(rank);
                (known.pid, known.seen) = (Some((pid, host)), Some(Instant::now()));
            }
            Line::Progress { step, steps, loss } => self.progress(step, steps, loss),
            Line::Failed { rank, code, message } => {
                self.log(rank, &message)?;
                // Now: a stopped rank is woken to be killed, and gives a sign of life then.
                if self.silent.is_empty() {
                    self.silent = self.silent_now();
                }
                let known = self.rank(rank);
                known.failed.get_or_insert((code, message));
            }
            Line::Killed { rank, signal } => self.killed = self.killed.or(Some((rank, signal))),
            Line::LostHost => {
                self.lost_host = true;
                if self.silent.is_empty() {
                    self.silent = self.silent_now();
                }
            }
            Line::Text { rank, text } => {
                self.log(rank, &text)?;
                if let Some(error) = text.strip_prefix("error: ") {
                    self.rank(rank).error = Some(error.to_owned());
                }
                match (rank, results) {
                    (0, true) => terminal::result(&text)?,
                    (0, false) => self.show(&text),
                    _ => {}
                }
            }
            Line::Other(text) => {
                if !text.trim().is_empty() && !text.starts_with("---") {
                    self.other.push(text.trim().to_owned());
                    let more = self.other.len().saturating_sub(8);
                    self.other.drain(..more);
                }
            }
        }
        Ok(())
    }

    fn rank(&mut self, rank: usize) -> &mut Rank {
        self.ranks.entry(rank).or_default()
    }

    fn log(&mut self, rank: usize, text: &str) -> Result<()> {
        let path = self.open_log(rank)?;
        let log = self.rank(rank).log.as_mut();
        log.map_or(Ok(()), |log| writeln!(log, "{text}"))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Opens the log of a rank, which is there as soon as the rank is, though it may have nothing to say. Gives its path.
    fn open_log(&mut self, rank: usize) -> Result<PathBuf> {
        let path = self.job.logs().join(format!("rank-{rank}.log"));
        let known = self.rank(rank);
        if known.log.is_none() {
            let file = OpenOptions::new().create(true).append(true).open(&path);
            known.log = Some(file.with_context(|| format!("cannot write {}", path.display()))?);
        }
        Ok(path)
    }

    fn show(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }

    fn progress(&mut self, step: u64, steps: u64, loss: f64) {
        if !terminal::is_interactive() {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}  {eta} left");
            let bar = ProgressBar::new(steps);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        bar.set_position(step);
        bar.set_message(format!("loss {loss:.4}"));
    }

    /// Which rank failed, and why, with its exit code; `None` where nothing is known.
    fn why(&self) -> Option<(u8, String)> {
        let reports = || self.ranks.iter().filter_map(|(rank, known)| Some((*rank, known.failed.clone()?)));
        // One that reports a fault of its own knows better than those who wait for it.
        let own = reports().find(|(_, (code, _))| *code != LOST);
        if let Some((rank, (code, message))) = own {
            return Some((code, format!("rank {rank} failed: {message}")));
        }
        if let Some(rank) = self.dead {
            let seconds = DEAD.as_secs();
            return Some((
                LOST,
                format!(
                    "rank {rank} gave no sign of life for {seconds} s: it was stopped, or its host cannot be reached"
                ),
            ));
        }
        // A stopped rank that is woken to be killed says the same of the others.
        let waited = reports().find(|(rank, _)| !self.silent.contains(rank)).or_else(|| reports().next());
        if let Some((rank, signal)) = self.killed
            && waited.is_none()
        {
            return Some((LOST, format!("rank {rank} was killed by signal {signal}")));
        }
        let silent: Vec<String> = self.silent.iter().map(ToString::to_string).collect();
        if let Some((rank, (code, message))) = waited {
            let who = match silent.as_slice() {
                [] => String::new(),
                [one] => format!("rank {one} gave no sign of life; "),
                _ => format!("ranks {} gave no sign of life; ", silent.join(", ")),
            };
            return Some((code, format!("{who}rank {rank}: {message}")));
        }
        if self.lost_host {
            let who =
                if silent.is_empty() { String::new() } else { format!(" with rank {}", silent.join(", ")) };
            return Some((LOST, format!("a host{who} cannot be reached, or not any more")));
        }
        let spoken = self.ranks.iter().find_map(|(rank, known)| Some((rank, known.error.clone()?)));
        let (rank, error) = spoken?;
        Some((1, format!("rank {rank} failed: {error}")))
    }

    /// Ranks whose last sign of life is older than those of the others allow.
    fn silent_now(&self) -> Vec<usize> {
        let latest = self.ranks.values().filter_map(|rank| rank.seen).max();
        let is_silent = |rank: &Rank| match (rank.seen, latest) {
            (Some(seen), Some(latest)) => latest.saturating_duration_since(seen) > SILENT,
            _ => true,
        };
        self.ranks.iter().filter(|(_, rank)| is_silent(rank)).map(|(rank, _)| *rank).collect()
    }

    /// A rank that is not heard of any more.
    fn dead(&self) -> Option<usize> {
        let mut seen = self.ranks.iter().filter_map(|(rank, known)| Some((*rank, known.seen?)));
        seen.find(|(_, seen)| seen.elapsed() > DEAD).map(|(rank, _)| rank)
    }

    /// Ends a job that is still going on.
    fn end(&self, child: &mut Child) -> Result<std::process::ExitStatus> {
        signal("TERM", child.id());
        let until = Instant::now() + GRACE;
        loop {
            if let Some(status) = child.try_wait().context("mpirun cannot be waited for")? {
                return Ok(status);
            }
            if Instant::now() >= until {
                child.kill().context("mpirun cannot be killed")?;
                return child.wait().context("mpirun cannot be waited for");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Kills what is left of the ranks on this host: a stopped one hears nothing else.
    fn sweep(&self) {
        let here = super::super::heartbeat::host();
        let own = self.ranks.values().filter_map(|rank| rank.pid.as_ref()).filter(|(_, host)| *host == here);
        own.filter(|(pid, _)| is_rank(*pid)).for_each(|(pid, _)| signal("KILL", *pid));
    }
}

/// Whether a process is still one that a launcher started: its number may have gone to another.
fn is_rank(pid: u32) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let mark = format!("{}=", super::super::replicas::LAUNCHED);
    environment.split(|&byte| byte == 0).any(|variable| variable.starts_with(mark.as_bytes()))
}

fn signal(name: &str, pid: u32) {
    // A process that is gone is what was wanted.
    let _ = Command::new("kill").args([format!("-{name}"), pid.to_string()]).stderr(Stdio::null()).status();
}
