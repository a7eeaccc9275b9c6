//! Timing of one run, on the host and on the device.

use std::time::Instant;

/// Timing of one profiled run ([`Session::profile`](crate::Session::profile)). All times are in nanoseconds since the
/// start of the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Clock that timed the dispatches.
    pub clock: Clock,
    /// Consecutive activities of the host. For a GPU: `drain` (waiting for earlier work), `upload`, `record`, `submit`
    /// and `wait`, and `run` if the host measures the dispatches. For the CPU: `upload` and `run`.
    pub host: Vec<HostSpan>,
    /// Time interval of each dispatch, in the order of [`Program::dispatches`](crate::Program::dispatches).
    pub dispatches: Vec<Span>,
}

/// Clock that times the dispatches of a profiled run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Clock {
    /// The host's clock, around each dispatch. On a GPU without timestamps this includes submitting each dispatch and
    /// waiting for it, which a normal run does not do.
    Host,
    /// Timestamps of the device. The clocks of the device and the host have different origins, so the first dispatch is
    /// placed at the time when the host began to submit. Differences between dispatches are accurate to the period of
    /// the device's clock.
    Device,
}

impl Clock {
    /// Name of the clock: `host` or `device`.
    pub fn name(self) -> &'static str {
        match self {
            Clock::Host => "host",
            Clock::Device => "device",
        }
    }
}

/// A time interval, in nanoseconds since the start of the run. `end_ns` is at least `start_ns`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// Start in nanoseconds.
    pub start_ns: u64,
    /// End in nanoseconds.
    pub end_ns: u64,
}

impl Span {
    /// Duration in nanoseconds.
    pub fn ns(self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }
}

/// An activity of the host during a profiled run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HostSpan {
    /// Name of the activity, e.g. `upload`.
    pub name: &'static str,
    /// Time interval of the activity.
    pub span: Span,
}

/// Measures the activities of the host during a run.
#[derive(Debug)]
pub struct Stopwatch {
    start: Instant,
    last_lap: u64,
    laps: Vec<HostSpan>,
}

impl Stopwatch {
    /// Starts the stopwatch at 0 ns.
    pub fn start() -> Self {
        Self { start: Instant::now(), last_lap: 0, laps: Vec::new() }
    }

    /// Nanoseconds since the start.
    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Ends the current activity, records it under a name, and returns its time interval.
    pub fn lap(&mut self, name: &'static str) -> Span {
        let span = Span { start_ns: self.last_lap, end_ns: self.now() };
        self.last_lap = span.end_ns;
        self.laps.push(HostSpan { name, span });
        span
    }

    /// Returns the recorded activities in order.
    pub fn laps(self) -> Vec<HostSpan> {
        self.laps
    }
}
