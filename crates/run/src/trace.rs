//! A timeline in the JSON that chrome://tracing and ui.perfetto.dev read: named spans on named tracks.
//!
//! The format is the "Trace Event Format" of Chrome: complete events (`"ph": "X"`) with start and length in microseconds,
//! and metadata events (`"ph": "M"`) that name the process and its tracks.

use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};

use wgrad_stdx::file;

/// Number of a track of a [`Trace`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Track(usize);

/// A timeline under construction.
#[derive(Debug, Clone)]
pub struct Trace {
    process: String,
    tracks: Vec<String>,
    events: Vec<Value>,
    about: Map<String, Value>,
}

impl Trace {
    /// An empty one of a process with that name.
    pub fn new(process: &str) -> Self {
        Self { process: process.into(), tracks: Vec::new(), events: Vec::new(), about: Map::new() }
    }

    /// Adds a track, below the others.
    pub fn track(&mut self, name: &str) -> Track {
        self.tracks.push(name.into());
        Track(self.tracks.len())
    }

    /// Adds something that took from `start_ns` to `end_ns`, in nanoseconds since the beginning of the timeline; `args` are
    /// shown when it is clicked at.
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

    /// A fact about the whole timeline, such as the device.
    pub fn about(&mut self, key: &str, value: impl Into<Value>) {
        self.about.insert(key.into(), value.into());
    }

    /// The timeline as JSON.
    pub fn to_json(&self) -> Value {
        let meta = |tid: usize, kind: &str, args: Value| json!({ "ph": "M", "pid": 1, "tid": tid, "name": kind, "args": args });
        let mut events = vec![meta(0, "process_name", json!({ "name": self.process }))];
        for (tid, name) in (1..).zip(&self.tracks) {
            events.push(meta(tid, "thread_name", json!({ "name": name })));
            events.push(meta(tid, "thread_sort_index", json!({ "sort_index": tid })));
        }
        events.extend(self.events.iter().cloned());
        json!({ "traceEvents": events, "displayTimeUnit": "ns", "otherData": self.about })
    }

    /// Writes the JSON, in place of what was at `path`.
    ///
    /// # Errors
    /// The disk.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        file::replace(path, format!("{}\n", self.to_json()).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_names_are_events() {
        let mut trace = Trace::new("train");
        let [host, device] = ["host", "device"].map(|name| trace.track(name));
        trace.span(host, "step 1", 1_500, 4_000, Map::new());
        trace.span(device, "matmul", 2_000, 2_250, Map::from_iter([("flops".into(), 8.into())]));
        trace.about("device", "cpu");
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("profile.json");
        trace.write(&path).expect("written");
        let text = std::fs::read_to_string(&path).expect("read");
        let parsed: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(parsed["otherData"]["device"], "cpu");
        let events = parsed["traceEvents"].as_array().expect("events");
        let named = |kind: &str| {
            let of_kind = events.iter().filter(|event| event["name"] == kind);
            of_kind.map(|event| (event["tid"].clone(), event["args"]["name"].clone())).collect::<Vec<_>>()
        };
        assert_eq!(named("process_name"), [(json!(0), json!("train"))]);
        assert_eq!(named("thread_name"), [(json!(1), json!("host")), (json!(2), json!("device"))]);
        let spans: Vec<&Value> = events.iter().filter(|event| event["ph"] == "X").collect();
        let [step, product] = spans.as_slice() else { panic!("{spans:?}") };
        assert_eq!((&step["ts"], &step["dur"], &step["tid"]), (&json!(1.5), &json!(2.5), &json!(1)));
        assert_eq!(
            (&product["ts"], &product["dur"], &product["args"]["flops"]),
            (&json!(2.0), &json!(0.25), &json!(8))
        );
    }
}
