//! Loader of training batches: augments and normalises on background threads, with prefetching.
//!
//! The content of a batch depends only on the seed, the epoch and the index of the batch. The content is bit-identical
//! for any number of threads and after [`Loader::restore`].

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use wgrad_stdx::never;

use crate::augment::{Augment, Draw};
use crate::batches::{Batch, Batches, LoaderPosition};
use crate::dataset::{Dataset, Targets};
use crate::error::DataError;

/// Options of a [`Loader`]. Only `augment` changes the content of batches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoaderOptions {
    /// Random augmentation applied to every image.
    pub augment: Augment,
    /// Number of background threads.
    pub workers: usize,
    /// Maximum number of batches prepared in advance.
    pub prefetch: usize,
}

impl Default for LoaderOptions {
    /// No augmentation, a prefetch of four batches, and one thread fewer than there are cores (at least 1, at most 8).
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { augment: Augment::default(), workers: cores.saturating_sub(1).clamp(1, 8), prefetch: 4 }
    }
}

/// Training batch with its features and targets.
#[derive(Debug, Clone, PartialEq)]
pub struct PreparedBatch {
    /// Indices of the examples.
    pub batch: Batch,
    /// Features `f32` `[batch, feature length]`, augmented and normalised.
    pub features: Vec<f32>,
    /// Class indices `u32` `[batch]`; empty for regression.
    pub classes: Vec<u32>,
    /// Target values `f32` `[batch, width]`; empty for classification.
    pub values: Vec<f32>,
}

/// Endless stream of the batches drawn by [`Batches`], prepared on background threads.
///
/// ```
/// use std::sync::Arc;
/// use wgrad_data::{Data, Loader, LoaderOptions, PixelData, load};
///
/// let train = Arc::new(load(&Data::Digits(PixelData::default()))?.train);
/// let mut loader = Loader::new(Arc::clone(&train), 32, 0, LoaderOptions::default())?;
/// let first = loader.next_batch()?;
/// assert_eq!((first.features.len(), first.classes.len()), (32 * 64, 32));
/// assert_eq!(loader.position().batch, 1);
/// # Ok::<(), wgrad_data::DataError>(())
/// ```
pub struct Loader {
    batches: Batches,
    prefetch: usize,
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Batch returned by the last call; its buffers are reused for a later batch.
    current: Option<PreparedBatch>,
    /// Free buffers for later batches.
    spare: Vec<PreparedBatch>,
    /// Sampler position after each batch that was requested but not yet returned, in order.
    requested: VecDeque<LoaderPosition>,
    /// Sequence number of the next batch that is returned.
    next: u64,
    position: LoaderPosition,
    waited: Duration,
    waits: u64,
}

impl Loader {
    /// Creates a loader of batches with `batch` examples each. The batches have the order of [`Batches`] with `seed`,
    /// and start at epoch 0.
    ///
    /// # Errors
    /// Returns [`DataError::BatchSize`] if `batch` is 0 or larger than the data, [`DataError::Spec`] if the
    /// augmentation does not fit the images or the data has no images, and [`DataError::Worker`] if a thread cannot be
    /// started.
    pub fn new(
        data: Arc<Dataset>,
        batch: usize,
        seed: u64,
        options: LoaderOptions,
    ) -> Result<Self, DataError> {
        let batches = Batches::new(data.len(), batch, seed)?;
        Self::over(data, batches, options)
    }

    /// Creates a loader of the batches that the sampler `batches` draws from `data`. The sampler may be restricted to
    /// some rows of each batch, see [`Batches::rows`].
    ///
    /// # Errors
    /// Returns [`DataError::Spec`] or [`DataError::Worker`] under the conditions of [`Loader::new`].
    pub fn over(data: Arc<Dataset>, batches: Batches, options: LoaderOptions) -> Result<Self, DataError> {
        let seed = batches.seed();
        let augment = options.augment;
        match data.pixels() {
            Some(pixels) => augment.check(pixels.shape())?,
            None if !augment.is_off() => {
                let problem = format!("must be absent: `{}` has no images", data.name());
                return Err(DataError::Spec { field: "augment", problem });
            }
            None => {}
        }
        let prepare = move |prepared: &mut PreparedBatch, stop: &AtomicBool| {
            prepare(&data, &augment, seed, prepared, stop);
        };
        Self::start(batches, Box::new(prepare), options)
    }

    fn start(batches: Batches, prepare: Box<Prepare>, options: LoaderOptions) -> Result<Self, DataError> {
        let mut loader = Self {
            position: batches.position(),
            batches,
            prefetch: options.prefetch.max(1),
            shared: Arc::new(Shared {
                queue: Mutex::default(),
                work: Condvar::new(),
                done: Condvar::new(),
                stop: AtomicBool::new(false),
                prepare,
            }),
            workers: Vec::new(),
            current: None,
            spare: Vec::new(),
            requested: VecDeque::new(),
            next: 0,
            waited: Duration::ZERO,
            waits: 0,
        };
        for i in 0..options.workers.max(1) {
            let shared = Arc::clone(&loader.shared);
            let thread = std::thread::Builder::new().name(format!("wgrad-loader-{i}"));
            let handle = thread
                .spawn(move || shared.work())
                .map_err(|error| DataError::Worker(format!("cannot start a thread: {error}")))?;
            loader.workers.push(handle);
        }
        loader.request();
        Ok(loader)
    }

    /// Returns the next batch. Blocks until the batch is ready.
    ///
    /// # Errors
    /// Returns [`DataError::Worker`] if a thread failed. In this case the position does not change, and the next call
    /// retries the batch.
    pub fn next_batch(&mut self) -> Result<&PreparedBatch, DataError> {
        self.spare.extend(self.current.take());
        self.request();
        let result = self.take();
        let after = self.requested.pop_front();
        self.next += 1;
        match (result, after) {
            (Ok(prepared), Some(after)) => {
                self.position = after;
                self.request();
                Ok(self.current.insert(prepared))
            }
            (Err(message), _) => {
                self.restore(self.position)?;
                Err(DataError::Worker(message))
            }
            // Unreachable: every returned batch was requested.
            (Ok(_), None) => Err(never!("the loader returned a batch that was not requested").into()),
        }
    }

    /// Number of complete batches in an epoch.
    pub fn per_epoch(&self) -> u32 {
        self.batches.per_epoch()
    }

    /// Position after the last returned batch. Batches that are prefetched but not yet returned do not change the
    /// position.
    pub fn position(&self) -> LoaderPosition {
        self.position
    }

    /// Continues at a saved position and drops prefetched batches.
    ///
    /// # Errors
    /// Returns [`DataError::Position`] if an epoch has too few batches for the position, because the data or the batch
    /// size changed.
    pub fn restore(&mut self, position: LoaderPosition) -> Result<(), DataError> {
        self.batches.restore(position)?;
        self.position = position;
        self.next += self.requested.len() as u64;
        self.requested.clear();
        let mut queue = self.shared.lock();
        self.spare.extend(queue.jobs.drain(..).map(|(_, job)| job));
        self.spare.extend(std::mem::take(&mut queue.ready).into_values().filter_map(Result::ok));
        // Batches in progress are dropped when they are finished.
        queue.first = self.next;
        drop(queue);
        self.request();
        Ok(())
    }

    /// Total time that [`Loader::next_batch`] has waited for batches.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Number of calls of [`Loader::next_batch`] that had to wait.
    pub fn waits(&self) -> u64 {
        self.waits
    }

    /// Requests batches from the threads until `prefetch` batches are in progress or ready.
    fn request(&mut self) {
        let mut new = Vec::new();
        while self.requested.len() < self.prefetch {
            let batch = self.batches.next_batch();
            let number = self.next + self.requested.len() as u64;
            self.requested.push_back(self.batches.position());
            let job = match self.spare.pop() {
                Some(spare) => PreparedBatch { batch, ..spare },
                None => {
                    PreparedBatch { batch, features: Vec::new(), classes: Vec::new(), values: Vec::new() }
                }
            };
            new.push((number, job));
        }
        // At most `prefetch` buffers are in use at the same time.
        self.spare.truncate(self.prefetch);
        if !new.is_empty() {
            self.shared.lock().jobs.extend(new);
            self.shared.work.notify_all();
        }
    }

    fn take(&mut self) -> Result<PreparedBatch, String> {
        let mut queue = self.shared.lock();
        if let Some(result) = queue.ready.remove(&self.next) {
            return result;
        }
        let begin = Instant::now();
        let result = loop {
            if let Some(result) = queue.ready.remove(&self.next) {
                break result;
            }
            queue = self.shared.done.wait(queue).unwrap_or_else(PoisonError::into_inner);
        };
        self.waits += 1;
        self.waited += begin.elapsed();
        result
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // The lock ensures that no thread is between reading `stop` and waiting.
        drop(self.shared.lock());
        self.shared.work.notify_all();
        for worker in self.workers.drain(..) {
            // The worker catches panics and reports them as errors.
            let _ = worker.join();
        }
    }
}

/// Function that fills in the features and targets of a batch with given indices. It may return early if the flag is
/// set. The flag is `Shared::stop`.
type Prepare = dyn Fn(&mut PreparedBatch, &AtomicBool) + Send + Sync;

struct Shared {
    queue: Mutex<Queue>,
    /// Notified when jobs are added or `stop` is set.
    work: Condvar,
    /// Notified when a batch is finished.
    done: Condvar,
    stop: AtomicBool,
    prepare: Box<Prepare>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<(u64, PreparedBatch)>,
    ready: BTreeMap<u64, Result<PreparedBatch, String>>,
    /// Sequence number of the first batch that is still needed. Earlier batches are dropped when they are finished.
    /// Set by [`Loader::restore`].
    first: u64,
}

impl Shared {
    /// Locks the queue. Workers release the lock while they prepare a batch, so a panic leaves the queue consistent.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut queue = self.lock();
        while !self.stop.load(Ordering::Relaxed) {
            let Some((number, mut job)) = queue.jobs.pop_front() else {
                queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(queue);
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                (self.prepare)(&mut job, &self.stop);
                job
            }));
            queue = self.lock();
            if number >= queue.first {
                queue.ready.insert(number, outcome.map_err(|panic| message(&*panic)));
                self.done.notify_all();
            }
        }
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic").to_owned()
}

fn prepare(data: &Dataset, augment: &Augment, seed: u64, prepared: &mut PreparedBatch, stop: &AtomicBool) {
    let PreparedBatch { batch, features, classes, values } = prepared;
    let width = data.feature_len();
    features.resize(batch.indices.len() * width, 0.0);
    classes.clear();
    values.clear();
    for (&index, out) in batch.indices.iter().zip(features.chunks_exact_mut(width)) {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let i = index as usize;
        match data.pixels() {
            Some(pixels) => {
                pixels.fill_raw(i, out);
                augment.apply(out, pixels.shape(), Draw { seed, epoch: batch.epoch, example: index });
                pixels.normalize(out);
            }
            None => data.fill(i, out),
        }
        match data.targets() {
            Targets::Classes { labels, .. } => classes.push(labels[i]),
            Targets::Values { values: all, width } => {
                values.extend_from_slice(&all[i * width..(i + 1) * width]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixels::ChannelStats;
    use std::sync::atomic::AtomicU64;

    fn images() -> Arc<Dataset> {
        let bytes = (0..23 * 12).map(|i| (i * 37 % 256) as u8).collect();
        let names = (0..23).map(|i| i.to_string()).collect();
        let targets = Targets::Classes { labels: (0..23).collect(), names };
        let data = Dataset::from_pixels("images", bytes, [3, 2, 2], 255, targets).unwrap();
        Arc::new(data.with_channels(&ChannelStats::imagenet()))
    }

    fn options(workers: usize, prefetch: usize) -> LoaderOptions {
        let augment = Augment { flip: true, crop: 1, brightness: 0.2, ..Augment::default() };
        LoaderOptions { augment, workers, prefetch }
    }

    fn loader(workers: usize, prefetch: usize) -> Loader {
        Loader::new(images(), 5, 42, options(workers, prefetch)).unwrap()
    }

    fn take(loader: &mut Loader, n: usize) -> Vec<PreparedBatch> {
        (0..n).map(|_| loader.next_batch().unwrap().clone()).collect()
    }

    #[test]
    fn batches_do_not_depend_on_threads_and_prefetching() {
        let expected = take(&mut loader(1, 1), 11);
        let mut batches = Batches::new(23, 5, 42).unwrap();
        for prepared in &expected {
            let batch = batches.next_batch();
            assert_eq!((&prepared.batch, &prepared.classes), (&batch, &batch.indices));
            assert_eq!((prepared.features.len(), prepared.values.len()), (5 * 12, 0));
        }
        for (workers, prefetch) in [(1, 4), (4, 1), (4, 4), (3, 20)] {
            assert_eq!(take(&mut loader(workers, prefetch), 11), expected, "{workers} {prefetch}");
        }
    }

    #[test]
    fn features_match_the_data_set_without_augmentation() {
        let data = images();
        let options = LoaderOptions { augment: Augment::default(), ..options(2, 2) };
        let mut loader = Loader::new(Arc::clone(&data), 5, 1, options).unwrap();
        let prepared = loader.next_batch().unwrap();
        let indices = prepared.batch.indices.iter();
        let expected: Vec<f32> = indices.flat_map(|&i| data.example(i as usize).unwrap()).collect();
        assert_eq!(prepared.features, expected);
        let values = Targets::Values { values: vec![1.0, 2.0, 3.0, 4.0], width: 2 };
        let numbers = Arc::new(Dataset::new("set", vec![5.0, 6.0], vec![1], values).unwrap());
        let mut loader = Loader::new(Arc::clone(&numbers), 2, 0, options).unwrap();
        let prepared = loader.next_batch().unwrap();
        let in_order = prepared.batch.indices == [0, 1];
        let (features, values) =
            if in_order { ([5.0, 6.0], [1.0, 2.0, 3.0, 4.0]) } else { ([6.0, 5.0], [3.0, 4.0, 1.0, 2.0]) };
        assert_eq!((&prepared.features[..], &prepared.values[..]), (&features[..], &values[..]));
        assert!(prepared.classes.is_empty());
    }

    #[test]
    fn images_are_augmented_and_then_normalised() {
        let (data, augment) = (images(), options(1, 1).augment);
        let batches = take(&mut loader(2, 4), 6);
        let PreparedBatch { batch, features, .. } = &batches[5];
        assert_eq!(batch.epoch, 1);
        let pixels = data.pixels().unwrap();
        for (&example, found) in batch.indices.iter().zip(features.chunks(12)) {
            let mut image = [0.0; 12];
            pixels.fill_raw(example as usize, &mut image);
            augment.apply(&mut image, [3, 2, 2], Draw { seed: 42, epoch: 1, example });
            ChannelStats::imagenet().apply(&mut image, 4);
            assert_eq!(found, image);
        }
    }

    #[test]
    fn restore_drops_batches_in_progress() {
        let (release, gate) = std::sync::mpsc::channel::<()>();
        let (begun, started) = std::sync::mpsc::channel();
        let (gate, begun) = (Mutex::new(gate), Mutex::new(begun));
        let mut loader = with_work(2, move |call, _| {
            if call < 2 {
                begun.lock().unwrap().send(()).unwrap();
                gate.lock().unwrap().recv().unwrap();
            }
        });
        started.recv().unwrap();
        let position = LoaderPosition { epoch: 0, batch: 5 };
        loader.restore(position).unwrap();
        release.send(()).unwrap();
        // The next batch has begun, so the batch that was in progress is finished.
        started.recv().unwrap();
        let dropped = loader.shared.lock().ready.is_empty();
        release.send(()).unwrap();
        assert!(dropped, "a batch requested before `restore` is still in the queue");
        let mut batches = Batches::new(100, 10, 0).unwrap();
        batches.restore(position).unwrap();
        for _ in 0..5 {
            assert_eq!(loader.next_batch().unwrap().batch, batches.next_batch());
        }
    }

    #[test]
    fn restored_loader_returns_the_same_bits() {
        let expected = take(&mut loader(1, 1), 12);
        let mut first = loader(3, 4);
        let mut sampler = Batches::new(23, 5, 42).unwrap();
        for taken in 0..6 {
            assert_eq!(first.position(), sampler.position());
            let mut resumed = loader(2, 3);
            take(&mut resumed, taken % 3);
            resumed.restore(first.position()).unwrap();
            assert_eq!(take(&mut resumed, 6), expected[taken..taken + 6], "after {taken}");
            take(&mut first, 1);
            sampler.next_batch();
        }
        let position = first.position();
        let beyond = LoaderPosition { epoch: 0, batch: 4 };
        assert!(matches!(first.restore(beyond), Err(DataError::Position { batch: 4, per_epoch: 4 })));
        assert_eq!((first.position(), take(&mut first, 1)), (position, expected[6..7].to_vec()));
    }

    /// Creates a loader that prepares a batch by calling `f` with the number of earlier calls.
    fn with_work(prefetch: usize, f: impl Fn(u64, &AtomicBool) + Send + Sync + 'static) -> Loader {
        let calls = AtomicU64::new(0);
        let prepare = move |_: &mut PreparedBatch, stop: &AtomicBool| {
            f(calls.fetch_add(1, Ordering::Relaxed), stop);
        };
        Loader::start(Batches::new(100, 10, 0).unwrap(), Box::new(prepare), options(1, prefetch)).unwrap()
    }

    #[test]
    fn failed_batch_is_an_error_and_can_be_retried() {
        let mut loader = with_work(2, |call, _| assert_ne!(call, 1, "the disk is gone"));
        let first = loader.next_batch().unwrap().batch.clone();
        let position = loader.position();
        let error = loader.next_batch().unwrap_err();
        assert!(matches!(&error, DataError::Worker(text) if text.contains("the disk is gone")), "{error}");
        assert_eq!(loader.position(), position);
        let mut batches = Batches::new(100, 10, 0).unwrap();
        assert_eq!(first, batches.next_batch());
        assert_eq!(loader.next_batch().unwrap().batch, batches.next_batch());
    }

    #[test]
    fn prefetching_is_limited_and_waiting_is_counted() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let sender = Mutex::new(sender);
        let mut loader = with_work(3, move |call, _| {
            if call == 3 {
                std::thread::sleep(Duration::from_millis(30));
            }
            sender.lock().unwrap().send(call).unwrap();
        });
        // Exactly three batches are prepared in advance.
        let made = |n: usize| (0..n).map(|_| receiver.recv().unwrap()).collect::<Vec<_>>();
        assert_eq!(made(3), [0, 1, 2]);
        assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err());
        take(&mut loader, 3);
        let ready = (loader.waits(), loader.waited());
        take(&mut loader, 1);
        assert!(
            loader.waits() > ready.0 && loader.waited() > ready.1,
            "waiting for the slow batch was not counted"
        );
    }

    #[test]
    fn drop_stops_the_threads_within_a_batch() {
        let loader = with_work(1, |_, stop| {
            while !stop.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
        });
        let shared = Arc::downgrade(&loader.shared);
        drop(loader);
        assert!(shared.upgrade().is_none(), "a thread still holds the queue");
    }

    #[test]
    fn invalid_options_are_refused() {
        let new = |data: Arc<Dataset>, batch, options| Loader::new(data, batch, 0, options).err();
        let numbers = Targets::Values { values: vec![0.0], width: 1 };
        let numbers = Arc::new(Dataset::new("set", vec![1.0], vec![1], numbers).unwrap());
        let field = new(numbers, 1, options(1, 1));
        assert!(matches!(field, Some(DataError::Spec { field: "augment", .. })), "{field:?}");
        assert!(matches!(new(images(), 24, options(1, 1)), Some(DataError::BatchSize { .. })));
        let large = Augment { cutout: 3, ..Augment::default() };
        let field = new(images(), 5, LoaderOptions { augment: large, ..options(1, 1) });
        assert!(matches!(field, Some(DataError::Spec { field: "augment.cutout", .. })), "{field:?}");
    }
}
