//! Determines which rank of a job failed, and why, from heartbeats, aborts and mpirun's reports.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::LOST_RANK;

/// A rank is silent if its last heartbeat is older than this time when another rank aborts. Heartbeats are sent every
/// second.
const SILENCE: Duration = Duration::from_secs(5);
/// A rank is considered dead if its last heartbeat is older than this time.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(15);

/// Reports received from one rank.
#[derive(Default)]
struct Rank {
    process: Option<(u32, String)>,
    last_heartbeat: Option<Instant>,
    /// Exit code and message with which the rank aborted the job.
    abort: Option<(u8, String)>,
    /// Last line of the rank that starts with `error: `.
    error: Option<String>,
}

/// Reports about the ranks of a job.
#[derive(Default)]
pub struct Diagnosis {
    ranks: BTreeMap<usize, Rank>,
    killed: Option<(usize, u32)>,
    lost_host: bool,
    /// Rank whose heartbeats stopped.
    dead: Option<usize>,
    /// Ranks that were silent when the first rank aborted the job.
    silent: Vec<usize>,
    /// Last lines that mpirun itself printed.
    pub mpirun_output: Vec<String>,
}

impl Diagnosis {
    pub fn heartbeat(&mut self, rank: usize, pid: u32, host: String) {
        let rank = self.ranks.entry(rank).or_default();
        (rank.process, rank.last_heartbeat) = (Some((pid, host)), Some(Instant::now()));
    }

    pub fn abort(&mut self, rank: usize, code: u8, message: String) {
        self.note_silent_ranks();
        self.ranks.entry(rank).or_default().abort.get_or_insert((code, message));
    }

    pub fn killed(&mut self, rank: usize, signal: u32) {
        self.killed.get_or_insert((rank, signal));
    }

    pub fn lost_host(&mut self) {
        self.lost_host = true;
        self.note_silent_ranks();
    }

    pub fn error(&mut self, rank: usize, message: &str) {
        self.ranks.entry(rank).or_default().error = Some(message.to_owned());
    }

    /// Process id and host of a rank, if it has sent a heartbeat.
    pub fn process_of(&self, rank: usize) -> Option<(u32, &str)> {
        self.ranks.get(&rank)?.process.as_ref().map(|(pid, host)| (*pid, host.as_str()))
    }

    /// Process ids and hosts of all ranks that have sent a heartbeat.
    pub fn processes(&self) -> impl Iterator<Item = &(u32, String)> {
        self.ranks.values().filter_map(|rank| rank.process.as_ref())
    }

    /// Finds and records a rank whose heartbeats stopped. Returns whether a dead rank was found.
    pub fn find_dead_rank(&mut self) -> bool {
        let mut beats = self.ranks.iter().filter_map(|(rank, state)| Some((*rank, state.last_heartbeat?)));
        let dead = beats.find(|(_, last)| last.elapsed() > HEARTBEAT_TIMEOUT).map(|(rank, _)| rank);
        self.dead = self.dead.or(dead);
        self.dead.is_some()
    }

    /// Records the silent ranks. Must run at the first abort: a suspended rank sends heartbeats again when it is
    /// continued in order to be killed.
    fn note_silent_ranks(&mut self) {
        if !self.silent.is_empty() {
            return;
        }
        let latest = self.ranks.values().filter_map(|rank| rank.last_heartbeat).max();
        let is_silent = |rank: &Rank| match (rank.last_heartbeat, latest) {
            (Some(last), Some(latest)) => latest.saturating_duration_since(last) > SILENCE,
            _ => true,
        };
        self.silent = self.ranks.iter().filter(|(_, rank)| is_silent(rank)).map(|(rank, _)| *rank).collect();
    }

    /// Returns exit code and message of the failure, or `None` if no failure is known.
    pub fn reason(&self) -> Option<(u8, String)> {
        let aborts = || self.ranks.iter().filter_map(|(rank, state)| Some((*rank, state.abort.clone()?)));
        // A rank that reports its own failure is more precise than ranks that lost contact with the failed rank.
        if let Some((rank, (code, message))) = aborts().find(|(_, (code, _))| *code != LOST_RANK) {
            return Some((code, format!("rank {rank} failed: {message}")));
        }
        if let Some(rank) = self.dead {
            let seconds = HEARTBEAT_TIMEOUT.as_secs();
            let cause = "the process is suspended, or its host cannot be reached";
            return Some((LOST_RANK, format!("rank {rank} sent no heartbeat for {seconds} s: {cause}")));
        }
        // A suspended rank that is continued in order to be killed reports that it lost the other ranks.
        let lost = aborts().find(|(rank, _)| !self.silent.contains(rank)).or_else(|| aborts().next());
        if let (Some((rank, signal)), None) = (self.killed, &lost) {
            return Some((LOST_RANK, format!("rank {rank} was killed by signal {signal}")));
        }
        let silent: Vec<String> = self.silent.iter().map(ToString::to_string).collect();
        if let Some((rank, (code, message))) = lost {
            let prefix = match silent.as_slice() {
                [] => String::new(),
                [one] => format!("rank {one} sent no heartbeat; "),
                _ => format!("ranks {} sent no heartbeat; ", silent.join(", ")),
            };
            return Some((code, format!("{prefix}rank {rank}: {message}")));
        }
        if self.lost_host {
            let ranks =
                if silent.is_empty() { String::new() } else { format!(" of rank {}", silent.join(", ")) };
            return Some((
                LOST_RANK,
                format!("the host{ranks} cannot be reached, or the Open MPI daemon on it has failed"),
            ));
        }
        let (rank, error) = self.ranks.iter().find_map(|(rank, state)| Some((rank, state.error.clone()?)))?;
        Some((1, format!("rank {rank} failed: {error}")))
    }
}
