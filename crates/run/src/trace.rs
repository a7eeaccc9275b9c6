//! Traces of named spans on named tracks, in the JSON format of chrome://tracing and ui.perfetto.dev.
//!
//! The format is Chrome's "Trace Event Format": complete events (`"ph": "X"`) with start and duration in microseconds,
//! and metadata events (`"ph": "M"`) that name the process and its tracks.

use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};

use wgrad_stdx::file;

/// Identifier of a track in a [`Trace`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Track(usize);

/// Trace of a process: tracks, spans and metadata.
#[derive(Debug, Clone)]
pub struct Trace {
    process: String,
    tracks: Vec<String>,
    events: Vec<Value>,
    metadata: Map<String, Value>,
}

impl Trace {
    /// Creates an empty trace of a process with the given name.
    pub fn new(process: &str) -> Self {
        Self { process: process.into(), tracks: Vec::new(), events: Vec::new(), metadata: Map::new() }
    }

    /// Adds a track below the existing tracks.
    pub fn track(&mut self, name: &str) -> Track {
        self.tracks.push(name.into());
        Track(self.tracks.len())
    }

    /// Adds a span from `start_ns` to `end_ns`, in nanoseconds since the start of the trace.
    ///
    /// The viewer shows `args` when the span is selected.
    pub fn span(&mut self, track: Track, name: &str, start_ns: u64, end_ns: u64, args: Map<String, Value>) {
        let us = |ns: u64| ns as f64 / 1e3;
        self.events.push(json!({
            "ph": "X",
            "pid": 1,
            "tid": track.0,
            "name": name,
            "ts": us(start_ns),
            "dur": us(end_ns.saturating_sub(start_ns)),
            "args": args,
        }));
    }

    /// Adds metadata about the entire trace, such as the name of the device.
    pub fn add_metadata(&mut self, key: &str, value: impl Into<Value>) {
        self.metadata.insert(key.into(), value.into());
    }

    /// Returns the trace as JSON.
    pub fn to_json(&self) -> Value {
        let metadata_event = |tid: usize, kind: &str, args: Value| json!({ "ph": "M", "pid": 1, "tid": tid, "name": kind, "args": args });
        let mut events = vec![metadata_event(0, "process_name", json!({ "name": self.process }))];
        for (tid, name) in (1..).zip(&self.tracks) {
            events.push(metadata_event(tid, "thread_name", json!({ "name": name })));
            events.push(metadata_event(tid, "thread_sort_index", json!({ "sort_index": tid })));
        }
        events.extend(self.events.iter().cloned());
        json!({ "traceEvents": events, "displayTimeUnit": "ns", "otherData": self.metadata })
    }

    /// Writes the trace to `path` as JSON, replacing an existing file.
    ///
    /// # Errors
    /// Returns the underlying I/O error if the file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        file::replace(path, format!("{}\n", self.to_json()).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_names_are_written_as_events() {
        let mut trace = Trace::new("train");
        let [host, device] = ["host", "device"].map(|name| trace.track(name));
        trace.span(host, "step 1", 1_500, 4_000, Map::new());
        trace.span(device, "matmul", 2_000, 2_250, Map::from_iter([("flops".into(), 8.into())]));
        trace.add_metadata("device", "cpu");
        let directory = tempfile::tempdir().expect("cannot create a temporary directory");
        let path = directory.path().join("profile.json");
        trace.write(&path).expect("cannot write the trace");
        let text = std::fs::read_to_string(&path).expect("cannot read the trace");
        let parsed: Value = serde_json::from_str(&text).expect("the trace is not valid JSON");
        assert_eq!(parsed["otherData"]["device"], "cpu");
        let events = parsed["traceEvents"].as_array().expect("`traceEvents` is not an array");
        let names_of = |kind: &str| {
            let matching = events.iter().filter(|event| event["name"] == kind);
            matching.map(|event| (event["tid"].clone(), event["args"]["name"].clone())).collect::<Vec<_>>()
        };
        assert_eq!(names_of("process_name"), [(json!(0), json!("train"))]);
        assert_eq!(names_of("thread_name"), [(json!(1), json!("host")), (json!(2), json!("device"))]);
        let spans: Vec<&Value> = events.iter().filter(|event| event["ph"] == "X").collect();
        let [step, matmul] = spans.as_slice() else { panic!("expected two spans, found {spans:?}") };
        assert_eq!((&step["ts"], &step["dur"], &step["tid"]), (&json!(1.5), &json!(2.5), &json!(1)));
        assert_eq!(
            (&matmul["ts"], &matmul["dur"], &matmul["args"]["flops"]),
            (&json!(2.0), &json!(0.25), &json!(8))
        );
    }
}
