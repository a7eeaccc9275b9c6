//! A step in time: buckets of gradients become ready during the backward pass and travel one after the other.

use super::works::Layer;
use serde::{Deserialize, Serialize};

/// A bucket that a backward pass fills.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Bytes in it.
    pub bytes: f64,
    /// The share of the backward pass after which it is full.
    pub ready: f64,
}

/// When a bucket travels, in seconds since the step began.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Travel {
    /// Bytes in it.
    pub bytes: f64,
    /// When it was full.
    pub ready: f64,
    /// When it set out.
    pub start: f64,
    /// When it was back.
    pub end: f64,
}

/// The passes of a step, and its communication.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    /// Its buckets, in order.
    pub buckets: Vec<Travel>,
    /// When the backward pass ends.
    pub computed: f64,
    /// When the last bucket is back, and the optimizer may start: not before the backward pass ends.
    pub reduced: f64,
}

impl Timeline {
    /// Seconds in which something travels.
    pub fn busy(&self) -> f64 {
        self.buckets.iter().map(|bucket| bucket.end - bucket.start).sum()
    }

    /// Seconds of it that no computing hides.
    pub fn exposed(&self) -> f64 {
        self.reduced - self.computed
    }
}

/// Cuts layers, in the order in which they are finished, into buckets of at least `bytes` but for the last, as wgrad does. A
/// layer is never cut.
pub fn buckets(layers: &[Layer], bytes: f64) -> Vec<Bucket> {
    let (mut all, mut filled, mut share) = (Vec::new(), 0.0, 0.0);
    // Of the layers after the last one with parameters no bucket waits.
    let mut ready = 0.0;
    for layer in layers {
        share += layer.share;
        if layer.bytes > 0.0 {
            filled += layer.bytes;
            ready = share.min(1.0);
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

/// Lays out a step whose last backward pass begins at `begin` and takes `backward` seconds; `travel` says how long so many bytes
/// take.
pub fn timeline(buckets: &[Bucket], begin: f64, backward: f64, travel: impl Fn(f64) -> f64) -> Timeline {
    let computed = begin + backward;
    let mut free = 0.0f64;
    let buckets = buckets.iter().map(|bucket| {
        let ready = begin + bucket.ready * backward;
        let start = ready.max(free);
        free = start + travel(bucket.bytes);
        Travel { bytes: bucket.bytes, ready, start, end: free }
    });
    let buckets: Vec<Travel> = buckets.collect();
    let reduced = computed.max(free);
    Timeline { buckets, computed, reduced }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(share: f64, bytes: f64) -> Layer {
        Layer { name: String::new(), share, bytes }
    }

    #[test]
    fn layers_are_cut_where_a_bucket_is_full() {
        let layers = [layer(0.1, 90.0), layer(0.2, 5.0), layer(0.3, 5.0), layer(0.2, 0.0), layer(0.2, 3.0)];
        let cut = buckets(&layers, 10.0);
        let expected = [(90.0, 0.1), (10.0, 0.6), (3.0, 1.0)];
        assert_eq!(cut.len(), 3);
        for (bucket, (bytes, ready)) in cut.iter().zip(expected) {
            assert!(bucket.bytes == bytes && (bucket.ready - ready).abs() < 1e-12, "{bucket:?}");
        }
        assert_eq!(buckets(&[layer(1.0, 0.0)], 10.0), []);
    }

    #[test]
    fn a_timeline_is_that_of_a_hand_count() {
        let cut = [
            Bucket { bytes: 4.0, ready: 0.25 },
            Bucket { bytes: 1.0, ready: 0.5 },
            Bucket { bytes: 2.0, ready: 1.0 },
        ];
        // Forward 2 s, backward 4 s, a second a byte: ready at 3, 4 and 6; the second waits for the first.
        let line = timeline(&cut, 2.0, 4.0, |bytes| bytes);
        let spans: Vec<_> =
            line.buckets.iter().map(|bucket| (bucket.ready, bucket.start, bucket.end)).collect();
        assert_eq!(spans, [(3.0, 3.0, 7.0), (4.0, 7.0, 8.0), (6.0, 8.0, 10.0)]);
        assert_eq!((line.computed, line.reduced, line.busy(), line.exposed()), (6.0, 10.0, 7.0, 4.0));
        // So fast that all is hidden but the last.
        let line = timeline(&cut, 2.0, 4.0, |bytes| bytes / 100.0);
        assert!((line.exposed() - 0.02).abs() < 1e-12);
        assert_eq!(timeline(&cut, 2.0, 4.0, |_| 0.0).exposed(), 0.0);
    }
}
