//! Parses the output of ranks and of mpirun, line by line.

use serde_json::Value;

use crate::commands::heartbeat::MARK;

/// Parsed line of a job's output.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// Heartbeat of a rank.
    Heartbeat {
        /// Rank that wrote the line.
        rank: usize,
        /// Process id on its host.
        pid: u32,
        /// Name of the host.
        host: String,
    },
    /// Progress of the training, from rank 0.
    Progress {
        /// Number of steps done.
        step: u64,
        /// Total number of steps of the training run.
        steps: u64,
        /// Training loss.
        loss: f64,
    },
    /// Reason why a rank aborts the job.
    Failed {
        /// Rank that wrote the line.
        rank: usize,
        /// Exit code.
        code: u8,
        /// Error message.
        message: String,
    },
    /// Report of mpirun that a rank was killed by a signal.
    Killed {
        /// Rank that was killed.
        rank: usize,
        /// Number of the signal; 0 if the number cannot be parsed.
        signal: u32,
    },
    /// Report of mpirun that it lost a host.
    LostHost,
    /// Any other line of a rank.
    Text {
        /// Rank that wrote the line.
        rank: usize,
        /// Text of the line.
        text: String,
    },
    /// Any other line of mpirun.
    Other(String),
}

/// Parses one output line of `mpirun --tag-output`.
pub fn parse(line: &str) -> Line {
    match tagged(line) {
        Some((rank, text)) => parse_rank(rank, text),
        None => parse_mpirun(line),
    }
}

/// Splits `[job,rank]<stream>:text` into rank and text.
fn tagged(line: &str) -> Option<(usize, &str)> {
    let (job, rest) = line.strip_prefix('[')?.split_once(',')?;
    job.parse::<u32>().ok()?;
    let (rank, rest) = rest.split_once(']')?;
    let text = rest.strip_prefix("<stdout>:").or_else(|| rest.strip_prefix("<stderr>:"))?;
    Some((rank.parse().ok()?, text))
}

fn parse_rank(rank: usize, text: &str) -> Line {
    if let Some(report) = text.strip_prefix(MARK).and_then(|json| serde_json::from_str::<Value>(json).ok()) {
        if let (Some(step), Some(steps)) = (report["step"].as_u64(), report["steps"].as_u64()) {
            return Line::Progress { step, steps, loss: report["loss"].as_f64().unwrap_or(f64::NAN) };
        }
        if let Some(pid) = report["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()) {
            return Line::Heartbeat {
                rank,
                pid,
                host: report["host"].as_str().unwrap_or_default().to_owned(),
            };
        }
    }
    parse_abort(text).unwrap_or_else(|| Line::Text { rank, text: text.to_owned() })
}

/// Parses `wgrad: rank 1: message (exit code 6)`, which a rank prints before it aborts the job.
fn parse_abort(text: &str) -> Option<Line> {
    let (rank, rest) = text.strip_prefix("wgrad: rank ")?.split_once(": ")?;
    let (message, code) = rest.rsplit_once(" (exit code ")?;
    let code = code.strip_suffix(')')?.parse().ok()?;
    Some(Line::Failed { rank: rank.parse().ok()?, code, message: message.to_owned() })
}

fn parse_mpirun(line: &str) -> Line {
    if let Some((_, rest)) = line.split_once("noticed that process rank ")
        && let Some((rank, rest)) = rest.split_once(' ')
        && let Some((_, signal)) = rest.split_once("exited on signal ")
        && let Ok(rank) = rank.parse()
    {
        let digits: String = signal.chars().take_while(char::is_ascii_digit).collect();
        return Line::Killed { rank, signal: digits.parse().unwrap_or(0) };
    }
    // Open MPI prints either message for a lost host.
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
    fn lines_of_ranks_are_parsed() {
        let text = |rank, text: &str| Line::Text { rank, text: text.into() };
        assert_eq!(parse("[1,0]<stderr>:step 22: loss 0.5"), text(0, "step 22: loss 0.5"));
        assert_eq!(parse("[1,12]<stdout>:{\"a\": 1}"), text(12, "{\"a\": 1}"));
        let heartbeat = format!("[1,3]<stderr>:{MARK}{{\"pid\": 77, \"host\": \"a\"}}");
        assert_eq!(parse(&heartbeat), Line::Heartbeat { rank: 3, pid: 77, host: "a".into() });
        let progress = format!("[1,0]<stderr>:{MARK}{{\"step\": 5, \"steps\": 9, \"loss\": 0.25}}");
        assert_eq!(parse(&progress), Line::Progress { step: 5, steps: 9, loss: 0.25 });
        let failed = "[1,1]<stderr>:wgrad: rank 1: the disk is full (a: b) (exit code 6)";
        let expected = Line::Failed { rank: 1, code: 6, message: "the disk is full (a: b)".into() };
        assert_eq!(parse(failed), expected);
    }

    #[test]
    fn reports_of_mpirun_about_lost_ranks_are_parsed() {
        let killed =
            "mpirun noticed that process rank 1 with PID 4711 on node here exited on signal 9 (Killed).";
        assert_eq!(parse(killed), Line::Killed { rank: 1, signal: 9 });
        assert_eq!(parse("ORTE has lost communication with a remote daemon."), Line::LostHost);
        assert_eq!(parse("ORTE was unable to reliably start one or more daemons."), Line::LostHost);
        assert_eq!(parse("[here:123] an MPI warning"), Line::Other("[here:123] an MPI warning".into()));
    }
}
