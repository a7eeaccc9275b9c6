//! How long the parts of one run took, on the host and on the device.

use std::time::Instant;

/// What one profiled run took ([`Session::profile`](crate::Session::profile)). All times are nanoseconds since the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Which clock timed the dispatches.
    pub clock: Clock,
    /// What the host did, in order, one after the other: `upload`, `record`, `submit`, `wait`, `run`. Which of them there
    /// are depends on the backend.
    pub host: Vec<HostSpan>,
    /// When each dispatch of the program ran, in the order of [`Program::dispatches`](crate::Program::dispatches).
    pub dispatches: Vec<Span>,
}

/// What the times of dispatches were taken with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Clock {
    /// The host's, around each dispatch. Of a GPU without timestamps this includes submitting each dispatch and waiting for
    /// it, which a run does not do.
    Host,
    /// The device's own timestamps. They have another zero than the host's clock, and the first dispatch is placed at the
    /// moment at which the host began to submit; differences between dispatches are exact to the clock's period.
    Device,
}

impl Clock {
    /// In lower case: `host` or `device`.
    pub fn name(self) -> &'static str {
        match self {
            Clock::Host => "host",
            Clock::Device => "device",
        }
    }
}

/// A stretch of time, in nanoseconds since the run began; it does not end before it starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// Start in nanoseconds.
    pub start_ns: u64,
    /// End in nanoseconds.
    pub end_ns: u64,
}

impl Span {
    /// How long it is, in nanoseconds.
    pub fn ns(self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }
}

/// Something that the host did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HostSpan {
    /// What it did, in a word.
    pub name: &'static str,
    /// When.
    pub span: Span,
}

/// Takes the times of a run for a backend.
#[derive(Debug)]
pub struct Stopwatch {
    start: Instant,
    since: u64,
    laps: Vec<HostSpan>,
}

impl Stopwatch {
    /// Starts at 0 ns.
    pub fn start() -> Self {
        Self { start: Instant::now(), since: 0, laps: Vec::new() }
    }

    /// Nanoseconds since the start.
    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Ends what the host did since the last lap, and says what it was.
    pub fn lap(&mut self, name: &'static str) -> Span {
        let span = Span { start_ns: self.since, end_ns: self.now() };
        self.since = span.end_ns;
        self.laps.push(HostSpan { name, span });
        span
    }

    /// What the host did, in order.
    pub fn laps(self) -> Vec<HostSpan> {
        self.laps
    }
}
