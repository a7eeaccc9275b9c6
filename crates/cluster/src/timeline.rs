//! Timeline of a step: buckets of gradients fill during the backward pass and are reduced one after another.

use super::workloads::Layer;
use serde::{Deserialize, Serialize};

/// Bucket of gradients that are reduced together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Size in bytes.
    pub bytes: f64,
    /// Fraction of the backward pass, from 0 to 1, after which the bucket is full.
    pub ready: f64,
}

/// Reduction of a bucket. Times are in seconds since the beginning of the step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// Size in bytes.
    pub bytes: f64,
    /// Time at which the bucket is full.
    pub ready: f64,
    /// Start of the reduction of the bucket.
    pub start: f64,
    /// End of the reduction of the bucket.
    pub end: f64,
}

/// Computation and communication of a step. Times are in seconds since the beginning of the step.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    /// Reductions of the buckets, in order.
    pub buckets: Vec<Transfer>,
    /// End of the backward pass.
    pub backward_end: f64,
    /// Time at which the optimizer starts: the end of the backward pass or of the last reduction, whichever is later.
    pub end: f64,
}

impl Timeline {
    /// Returns the total seconds of all reductions.
    pub fn busy(&self) -> f64 {
        self.buckets.iter().map(|bucket| bucket.end - bucket.start).sum()
    }

    /// Returns the seconds of communication that are not overlapped with computation.
    pub fn exposed(&self) -> f64 {
        self.end - self.backward_end
    }
}

/// Groups layers into buckets of at least `bytes` bytes of gradients, as training does. The last bucket may be
/// smaller.
///
/// Layers are in the order in which the backward pass finishes them. A layer is never split.
pub fn buckets(layers: &[Layer], bytes: f64) -> Vec<Bucket> {
    let (mut all, mut filled, mut done) = (Vec::new(), 0.0, 0.0);
    // Layers without parameters at the end of the backward pass do not delay the last bucket.
    let mut ready = 0.0;
    for layer in layers {
        done += layer.share;
        if layer.bytes > 0.0 {
            filled += layer.bytes;
            ready = done.min(1.0);
        }
        if filled >= bytes {
            all.push(Bucket { bytes: filled, ready });
            filled = 0.0;
        }
    }
    if filled > 0.0 {
        all.push(Bucket { bytes: filled, ready });
    }
    all
}

/// Returns the timeline of a step.
///
/// The last backward pass begins at `begin` and takes `backward` seconds. `transfer_time` returns the seconds to
/// reduce a bucket of the given number of bytes.
pub fn timeline(
    buckets: &[Bucket],
    begin: f64,
    backward: f64,
    transfer_time: impl Fn(f64) -> f64,
) -> Timeline {
    let backward_end = begin + backward;
    let mut free = 0.0f64;
    let buckets = buckets.iter().map(|bucket| {
        let ready = begin + bucket.ready * backward;
        let start = ready.max(free);
        free = start + transfer_time(bucket.bytes);
        Transfer { bytes: bucket.bytes, ready, start, end: free }
    });
    let buckets: Vec<Transfer> = buckets.collect();
    let end = backward_end.max(free);
    Timeline { buckets, backward_end, end }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(share: f64, bytes: f64) -> Layer {
        Layer { name: String::new(), share, bytes }
    }

    #[test]
    fn layers_are_grouped_into_buckets() {
        let layers = [layer(0.1, 90.0), layer(0.2, 5.0), layer(0.3, 5.0), layer(0.2, 0.0), layer(0.2, 3.0)];
        let grouped = buckets(&layers, 10.0);
        let expected = [(90.0, 0.1), (10.0, 0.6), (3.0, 1.0)];
        assert_eq!(grouped.len(), 3);
        for (bucket, (bytes, ready)) in grouped.iter().zip(expected) {
            assert!(bucket.bytes == bytes && (bucket.ready - ready).abs() < 1e-12, "{bucket:?}");
        }
        assert_eq!(buckets(&[layer(1.0, 0.0)], 10.0), []);
    }

    #[test]
    fn timeline_matches_hand_computation() {
        let all = [
            Bucket { bytes: 4.0, ready: 0.25 },
            Bucket { bytes: 1.0, ready: 0.5 },
            Bucket { bytes: 2.0, ready: 1.0 },
        ];
        // Forward 2 s, backward 4 s, one second per byte: the buckets are full at 3, 4 and 6 s; the second waits for
        // the first.
        let line = timeline(&all, 2.0, 4.0, |bytes| bytes);
        let spans: Vec<_> =
            line.buckets.iter().map(|bucket| (bucket.ready, bucket.start, bucket.end)).collect();
        assert_eq!(spans, [(3.0, 3.0, 7.0), (4.0, 7.0, 8.0), (6.0, 8.0, 10.0)]);
        assert_eq!((line.backward_end, line.end, line.busy(), line.exposed()), (6.0, 10.0, 7.0, 4.0));
        // With a fast link, only the last transfer is exposed.
        let line = timeline(&all, 2.0, 4.0, |bytes| bytes / 100.0);
        assert!((line.exposed() - 0.02).abs() < 1e-12);
        assert_eq!(timeline(&all, 2.0, 4.0, |_| 0.0).exposed(), 0.0);
    }
}
