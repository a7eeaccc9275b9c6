//! Runs a job until it ends: forwards output, writes logs, detects failures.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use wgrad_run::Run;

use super::LOST_RANK;
use super::diagnosis::Diagnosis;
use super::job::Job;
use super::lines::{Line, parse};
use crate::cli::Launch;
use crate::commands::common::interruption;
use crate::commands::heartbeat::host;
use crate::commands::replicas::LAUNCHED;
use crate::terminal::{self, say};

/// Time that mpirun has to end its ranks before it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// Number of mpirun's last lines that are kept for the error message.
const KEPT_LINES: usize = 8;

/// Final state of a job.
pub enum Outcome {
    /// The training finished.
    Finished,
    /// Ctrl-C ended the job, after a checkpoint.
    Interrupted,
    /// A rank failed.
    Failed {
        /// Exit code of the failure.
        code: u8,
        /// Error message with rank and reason.
        message: String,
    },
}

impl Outcome {
    fn lost(message: String) -> Self {
        Self::Failed { code: LOST_RANK, message }
    }
}

/// Reason why the monitor stopped waiting for mpirun.
enum End {
    /// mpirun exited on its own.
    Exited(ExitStatus),
    /// The deadline passed.
    Deadline,
    /// A rank sent no heartbeat in time.
    Silent(ExitStatus),
    /// Ctrl-C was pressed, but rank 0 cannot be signalled to write a checkpoint.
    Killed(ExitStatus),
}

/// Runs a job until it ends. No process of the job remains on this host afterwards.
pub fn monitor(job: &Job, args: &Launch) -> Result<Outcome> {
    let mut command = job.command(args.ranks)?;
    let missing = || format!("cannot start {}; is Open MPI installed?", args.mpirun.display());
    let mut child = command.spawn().with_context(missing)?;
    let (sender, lines) = channel();
    let readers = [
        child.stdout.take().map(|pipe| read_lines(pipe, true, sender.clone())),
        child.stderr.take().map(|pipe| read_lines(pipe, false, sender)),
    ];
    let mut monitor =
        Monitor { job, bar: None, logs: Vec::new(), diagnosis: Diagnosis::default(), asked: false };
    let deadline = args.deadline.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let stop = interruption()?;
    let end = monitor.wait(&mut child, &lines, deadline, &stop)?;
    for reader in readers.into_iter().flatten() {
        // A rank that outlives mpirun may hold the pipe open, so the wait for the reader has a time limit.
        let until = Instant::now() + Duration::from_secs(1);
        while !reader.is_finished() && Instant::now() < until {
            monitor.receive(&lines)?;
        }
    }
    monitor.receive(&lines)?;
    monitor.kill_ranks();
    if let Some(bar) = &monitor.bar {
        bar.finish_and_clear();
    }
    Ok(monitor.outcome(end, args.deadline.unwrap_or_default()))
}

/// Sends the lines of a pipe to a channel, each with the flag `is_stdout`.
fn read_lines(
    pipe: impl Read + Send + 'static,
    is_stdout: bool,
    to: Sender<(bool, String)>,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if to.send((is_stdout, text)).is_err() {
                return;
            }
            line.clear();
        }
    })
}

struct Monitor<'a> {
    job: &'a Job,
    bar: Option<ProgressBar>,
    /// Open log file of each rank; `None` for ranks without output so far.
    logs: Vec<Option<File>>,
    diagnosis: Diagnosis,
    /// Whether Ctrl-C was forwarded to rank 0.
    asked: bool,
}

impl Monitor<'_> {
    /// Processes output until mpirun exits, the deadline passes, a rank is dead, or Ctrl-C cannot be forwarded.
    fn wait(
        &mut self,
        child: &mut Child,
        lines: &Receiver<(bool, String)>,
        deadline: Option<Instant>,
        stop: &AtomicBool,
    ) -> Result<End> {
        loop {
            self.receive(lines)?;
            if let Some(status) = child.try_wait().context("cannot wait for mpirun")? {
                return Ok(End::Exited(status));
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                terminate(child)?;
                return Ok(End::Deadline);
            }
            if self.diagnosis.find_dead_rank() {
                return Ok(End::Silent(terminate(child)?));
            }
            if stop.load(Ordering::SeqCst) && !self.asked {
                self.asked = true;
                // Rank 0 finishes its step, writes a checkpoint and notifies the other ranks.
                match self.diagnosis.process_of(0) {
                    Some((pid, at)) if at == host() => signal("INT", pid),
                    _ => return Ok(End::Killed(terminate(child)?)),
                }
            }
        }
    }

    fn outcome(&self, end: End, deadline: u64) -> Outcome {
        let status = match end {
            End::Deadline => return Outcome::lost(format!("the job did not finish within {deadline} s")),
            End::Exited(status) | End::Silent(status) | End::Killed(status) => status,
        };
        let reason = self.diagnosis.reason();
        if self.asked && reason.is_none() {
            return Outcome::Interrupted;
        }
        let done = Run::open(self.job.out()).is_ok_and(|run| run.is_done());
        match (status.success(), done) {
            (true, true) => Outcome::Finished,
            (true, false) => {
                let path = self.job.out().join("done.json");
                Outcome::lost(format!(
                    "mpirun succeeded, but the run is not finished: {} is missing",
                    path.display()
                ))
            }
            (false, _) => {
                let (code, message) = reason.unwrap_or_else(|| {
                    let code =
                        status.code().and_then(|code| u8::try_from(code).ok()).filter(|&code| code != 0);
                    let output = self.diagnosis.mpirun_output.join("; ");
                    (code.unwrap_or(LOST_RANK), format!("mpirun ended with {status}: {output}"))
                });
                Outcome::Failed { code, message }
            }
        }
    }

    /// Processes the lines that have arrived, and waits up to 100 ms for more.
    fn receive(&mut self, lines: &Receiver<(bool, String)>) -> Result<()> {
        let until = Instant::now() + Duration::from_millis(100);
        loop {
            match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok((is_stdout, line)) => self.process(is_stdout, &line)?,
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => {
                    std::thread::sleep(until.saturating_duration_since(Instant::now()));
                    return Ok(());
                }
            }
        }
    }

    fn process(&mut self, is_stdout: bool, line: &str) -> Result<()> {
        match parse(line) {
            Line::Heartbeat { rank, pid, host } => {
                self.open_log(rank)?;
                self.diagnosis.heartbeat(rank, pid, host);
            }
            Line::Progress { step, steps, loss } => self.show_progress(step, steps, loss),
            Line::Failed { rank, code, message } => {
                self.log(rank, &message)?;
                self.diagnosis.abort(rank, code, message);
            }
            Line::Killed { rank, signal } => self.diagnosis.killed(rank, signal),
            Line::LostHost => self.diagnosis.lost_host(),
            Line::Text { rank, text } => {
                self.log(rank, &text)?;
                if let Some(error) = text.strip_prefix("error: ") {
                    self.diagnosis.error(rank, error);
                }
                match (rank, is_stdout) {
                    (0, true) => terminal::result(&text)?,
                    (0, false) => self.show(&text),
                    _ => {}
                }
            }
            Line::Other(text) => {
                if !text.trim().is_empty() && !text.starts_with("---") {
                    let output = &mut self.diagnosis.mpirun_output;
                    output.push(text.trim().to_owned());
                    output.drain(..output.len().saturating_sub(KEPT_LINES));
                }
            }
        }
        Ok(())
    }

    fn log(&mut self, rank: usize, text: &str) -> Result<()> {
        let path = self.open_log(rank)?;
        let Some(Some(log)) = self.logs.get_mut(rank) else { return Ok(()) };
        writeln!(log, "{text}").with_context(|| format!("cannot write {}", path.display()))
    }

    /// Opens the log file of a rank if necessary, and returns its path. Every rank gets a log file, which may stay
    /// empty.
    fn open_log(&mut self, rank: usize) -> Result<PathBuf> {
        let path = self.job.logs().join(format!("rank-{rank}.log"));
        if self.logs.len() <= rank {
            self.logs.resize_with(rank + 1, || None);
        }
        if self.logs[rank].is_none() {
            let file = OpenOptions::new().create(true).append(true).open(&path);
            self.logs[rank] = Some(file.with_context(|| format!("cannot write {}", path.display()))?);
        }
        Ok(path)
    }

    fn show(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }

    fn show_progress(&mut self, step: u64, steps: u64, loss: f64) {
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

    /// Sends SIGKILL to the remaining ranks on this host. A suspended rank does not react to other signals.
    fn kill_ranks(&self) {
        let here = host();
        let own = self.diagnosis.processes().filter(|(_, host)| *host == here);
        own.filter(|(pid, _)| is_rank(*pid)).for_each(|(pid, _)| signal("KILL", *pid));
    }
}

/// Ends mpirun, which ends its ranks. Sends SIGTERM first, and SIGKILL after [`GRACE`].
fn terminate(child: &mut Child) -> Result<ExitStatus> {
    signal("TERM", child.id());
    let until = Instant::now() + GRACE;
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for mpirun")? {
            return Ok(status);
        }
        if Instant::now() >= until {
            child.kill().context("cannot kill mpirun")?;
            return child.wait().context("cannot wait for mpirun");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Whether a process is a rank of a launcher. The process id may have been reused by another program.
fn is_rank(pid: u32) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let mark = format!("{LAUNCHED}=");
    environment.split(|&byte| byte == 0).any(|variable| variable.starts_with(mark.as_bytes()))
}

fn signal(name: &str, pid: u32) {
    // `kill` fails only if the process has already ended.
    let _ = Command::new("kill").args([format!("-{name}"), pid.to_string()]).stderr(Stdio::null()).status();
}
