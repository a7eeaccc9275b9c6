//! What ranks and mpirun write, line by line.

use serde_json::Value;

use crate::commands::heartbeat::MARK;

/// A line of the job.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// A rank's sign of life, with its process.
    Alive {
        /// Which rank.
        rank: usize,
        /// Its process, on its host.
        pid: u32,
        /// Name of its host.
        host: String,
    },
    /// How far the training is, from the first rank.
    Progress {
        /// Steps done.
        step: u64,
        /// Steps in all.
        steps: u64,
        /// Loss.
        loss: f64,
    },
    /// A rank says why it ends the job.
    Failed {
        /// Which rank.
        rank: usize,
        /// Its exit code.
        code: u8,
        /// What it says.
        message: String,
    },
    /// mpirun says that a rank was killed by a signal.
    Killed {
        /// Which rank.
        rank: usize,
        /// The signal.
        signal: u32,
    },
    /// mpirun has lost a host.
    LostHost,
    /// Anything else that a rank wrote.
    Text {
        /// Which rank.
        rank: usize,
        /// The line.
        text: String,
    },
    /// Anything else of mpirun itself.
    Other(String),
}

/// Reads a line as mpirun passes it on with `--tag-output`.
pub fn parse(line: &str) -> Line {
    match tagged(line) {
        Some((rank, text)) => of_rank(rank, text),
        None => of_mpirun(line),
    }
}

/// `[job,rank]<stream>:text`.
fn tagged(line: &str) -> Option<(usize, &str)> {
    let (job, rest) = line.strip_prefix('[')?.split_once(',')?;
    job.parse::<u32>().ok()?;
    let (rank, rest) = rest.split_once(']')?;
    let text = rest.strip_prefix("<stdout>:").or_else(|| rest.strip_prefix("<stderr>:"))?;
    Some((rank.parse().ok()?, text))
}

fn of_rank(rank: usize, text: &str) -> Line {
    if let Some(said) = text.strip_prefix(MARK).and_then(|json| serde_json::from_str::<Value>(json).ok()) {
        if let (Some(step), Some(steps)) = (said["step"].as_u64(), said["steps"].as_u64()) {
            return Line::Progress { step, steps, loss: said["loss"].as_f64().unwrap_or(f64::NAN) };
        }
        if let Some(pid) = said["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()) {
            return Line::Alive { rank, pid, host: said["host"].as_str().unwrap_or_default().to_owned() };
        }
    }
    failed(text).unwrap_or_else(|| Line::Text { rank, text: text.to_owned() })
}

/// `wgrad: rank 1: why (exit code 6)`, what a rank says before it ends the job.
fn failed(text: &str) -> Option<Line> {
    let (rank, rest) = text.strip_prefix("wgrad: rank ")?.split_once(": ")?;
    let (message, code) = rest.rsplit_once(" (exit code ")?;
    let code = code.strip_suffix(')')?.parse().ok()?;
    Some(Line::Failed { rank: rank.parse().ok()?, code, message: message.to_owned() })
}

fn of_mpirun(line: &str) -> Line {
    if let Some((_, rest)) = line.split_once("noticed that process rank ")
        && let Some((rank, rest)) = rest.split_once(' ')
        && let Some((_, signal)) = rest.split_once("exited on signal ")
        && let Ok(rank) = rank.parse()
    {
        let digits: String = signal.chars().take_while(char::is_ascii_digit).collect();
        return Line::Killed { rank, signal: digits.parse().unwrap_or(0) };
    }
    // It says the second of a host that it has lost as well.
    let lost = ["lost communication with a remote daemon", "unable to reliably start one or more daemons"];
    if lost.iter().any(|words| line.contains(words)) {
        return Line::LostHost;
    }
    Line::Other(line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_ranks_are_told_apart() {
        let text = |rank, text: &str| Line::Text { rank, text: text.into() };
        assert_eq!(parse("[1,0]<stderr>:step 22: loss 0.5"), text(0, "step 22: loss 0.5"));
        assert_eq!(parse("[1,12]<stdout>:{\"a\": 1}"), text(12, "{\"a\": 1}"));
        let alive = format!("[1,3]<stderr>:{MARK}{{\"pid\": 77, \"host\": \"a\"}}");
        assert_eq!(parse(&alive), Line::Alive { rank: 3, pid: 77, host: "a".into() });
        let progress = format!("[1,0]<stderr>:{MARK}{{\"step\": 5, \"steps\": 9, \"loss\": 0.25}}");
        assert_eq!(parse(&progress), Line::Progress { step: 5, steps: 9, loss: 0.25 });
        let failed = "[1,1]<stderr>:wgrad: rank 1: the disk is full (a: b) (exit code 6)";
        let expected = Line::Failed { rank: 1, code: 6, message: "the disk is full (a: b)".into() };
        assert_eq!(parse(failed), expected);
    }

    #[test]
    fn what_mpirun_says_of_lost_ranks_is_read() {
        let killed =
            "mpirun noticed that process rank 1 with PID 4711 on node here exited on signal 9 (Killed).";
        assert_eq!(parse(killed), Line::Killed { rank: 1, signal: 9 });
        assert_eq!(parse("ORTE has lost communication with a remote daemon."), Line::LostHost);
        assert_eq!(parse("ORTE was unable to reliably start one or more daemons."), Line::LostHost);
        assert_eq!(parse("[here:123] an MPI warning"), Line::Other("[here:123] an MPI warning".into()));
    }
}
