//! Training batches made ready ahead of the device, on threads of their own: decoded, augmented, normalised.
//!
//! What a batch holds depends on seed, epoch and index alone, so it has the same bits whatever the number of threads, and
//! after [`Loader::restore`].

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::augment::{Augment, Draw};
use crate::batches::{Batch, Batches, LoaderPosition};
use crate::dataset::{Dataset, Targets};
use crate::error::DataError;

/// How a [`Loader`] works. No field but `augment` changes what the batches hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoaderOptions {
    /// What is done to every image.
    pub augment: Augment,
    /// Threads.
    pub workers: usize,
    /// Batches that are made ready before they are asked for, at most.
    pub ahead: usize,
}

impl Default for LoaderOptions {
    /// No augmentation, four batches ahead, a thread for each core but one, of which at most eight.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { augment: Augment::default(), workers: cores.saturating_sub(1).clamp(1, 8), ahead: 4 }
    }
}

/// A training batch with its examples.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// Which examples they are.
    pub batch: Batch,
    /// Features `f32` `[batch, feature length]`, augmented and normalised.
    pub features: Vec<f32>,
    /// Class indices `u32` `[batch]`; empty for regression.
    pub classes: Vec<u32>,
    /// Target values `f32` `[batch, width]`; empty for classification.
    pub values: Vec<f32>,
}

/// An endless source of training batches, the same as [`Batches`] draws, made ready on background threads.
///
/// ```
/// use std::sync::Arc;
/// use wgrad_data::{DataKind, Loader, LoaderOptions, load};
///
/// let train = Arc::new(load(&DataKind::Digits.into())?.train);
/// let mut loader = Loader::new(Arc::clone(&train), 32, 0, LoaderOptions::default())?;
/// let first = loader.next_batch()?;
/// assert_eq!((first.features.len(), first.classes.len()), (32 * 64, 32));
/// assert_eq!(loader.position().batch, 1);
/// # Ok::<(), wgrad_data::DataError>(())
/// ```
pub struct Loader {
    batches: Batches,
    ahead: usize,
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// What the consumer looks at; its buffers serve the next batch.
    current: Option<Prepared>,
    /// Buffers to use again.
    spare: Vec<Prepared>,
    /// Positions after each batch that was ordered and not yet taken.
    ordered: VecDeque<LoaderPosition>,
    /// Number of the next batch to take.
    next: u64,
    position: LoaderPosition,
    waited: Duration,
    waits: u64,
}

impl Loader {
    /// Batches of `batch` examples of `data`, in the order that [`Batches`] has for `seed`, from epoch 0.
    ///
    /// # Errors
    /// [`DataError::BatchSize`] where `batch` does not fit; [`DataError::Spec`] where the augmentation does not fit the
    /// images, or the data has none; [`DataError::Worker`] where no thread can be started.
    pub fn new(
        data: Arc<Dataset>,
        batch: usize,
        seed: u64,
        options: LoaderOptions,
    ) -> Result<Self, DataError> {
        let batches = Batches::new(data.len(), batch, seed)?;
        Self::over(data, batches, options)
    }

    /// The batches, or rows of batches, that a sampler draws from `data`.
    ///
    /// # Errors
    /// [`DataError::Spec`] and [`DataError::Worker`], as with [`Loader::new`].
    pub fn over(data: Arc<Dataset>, batches: Batches, options: LoaderOptions) -> Result<Self, DataError> {
        let seed = batches.seed();
        let augment = options.augment;
        match data.pixels() {
            Some(pixels) => augment.check(pixels.shape())?,
            None if !augment.is_off() => {
                let problem = format!("`{}` holds numbers, not images; remove it", data.name());
                return Err(DataError::Spec { field: "augment", problem });
            }
            None => {}
        }
        let prepare = move |prepared: &mut Prepared, stop: &AtomicBool| {
            prepare(&data, &augment, seed, prepared, stop);
        };
        Self::start(batches, Box::new(prepare), options)
    }

    fn start(batches: Batches, prepare: Box<Prepare>, options: LoaderOptions) -> Result<Self, DataError> {
        let mut loader = Self {
            position: batches.position(),
            batches,
            ahead: options.ahead.max(1),
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
            ordered: VecDeque::new(),
            next: 0,
            waited: Duration::ZERO,
            waits: 0,
        };
        for i in 0..options.workers.max(1) {
            let shared = Arc::clone(&loader.shared);
            let thread = std::thread::Builder::new().name(format!("wgrad-loader-{i}"));
            let handle = thread
                .spawn(move || shared.work())
                .map_err(|error| DataError::Worker(format!("no thread could be started: {error}")))?;
            loader.workers.push(handle);
        }
        loader.order();
        Ok(loader)
    }

    /// The next batch. Waits where it is not ready yet.
    ///
    /// # Errors
    /// [`DataError::Worker`] where a thread failed at it. The position stays; another call tries that batch again.
    pub fn next_batch(&mut self) -> Result<&Prepared, DataError> {
        self.spare.extend(self.current.take());
        self.order();
        let result = self.take();
        let after = self.ordered.pop_front();
        self.next += 1;
        match (result, after) {
            (Ok(prepared), Some(after)) => {
                self.position = after;
                self.order();
                Ok(self.current.insert(prepared))
            }
            (Err(message), _) => {
                self.restore(self.position)?;
                Err(DataError::Worker(message))
            }
            // Every batch that is taken was ordered.
            (Ok(_), None) => Err(DataError::Worker("a batch came that was not ordered".to_owned())),
        }
    }

    /// Whole batches in an epoch.
    pub fn per_epoch(&self) -> u32 {
        self.batches.per_epoch()
    }

    /// Where the batch after the last one taken is; what lies ready beyond that does not count.
    pub fn position(&self) -> LoaderPosition {
        self.position
    }

    /// Continues at a saved position; what was made ready is dropped.
    ///
    /// # Errors
    /// [`DataError::Position`] where the epoch has no such batch: the data or the batch size changed in between.
    pub fn restore(&mut self, position: LoaderPosition) -> Result<(), DataError> {
        self.batches.restore(position)?;
        self.position = position;
        self.next += self.ordered.len() as u64;
        self.ordered.clear();
        let mut queue = self.shared.lock();
        self.spare.extend(queue.jobs.drain(..).map(|(_, job)| job));
        self.spare.extend(std::mem::take(&mut queue.ready).into_values().filter_map(Result::ok));
        // Those that are being worked at come later and are refused then.
        queue.first = self.next;
        drop(queue);
        self.order();
        Ok(())
    }

    /// How long [`Loader::next_batch`] has waited for batches, all in all: what the data costs on top of the training.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// How many batches were not ready when they were asked for.
    pub fn waits(&self) -> u64 {
        self.waits
    }

    /// Orders batches until so many as wanted are on the way.
    fn order(&mut self) {
        let mut new = Vec::new();
        while self.ordered.len() < self.ahead {
            let batch = self.batches.next_batch();
            let number = self.next + self.ordered.len() as u64;
            self.ordered.push_back(self.batches.position());
            let job = match self.spare.pop() {
                Some(spare) => Prepared { batch, ..spare },
                None => Prepared { batch, features: Vec::new(), classes: Vec::new(), values: Vec::new() },
            };
            new.push((number, job));
        }
        // More than are ever on the way at once serve nobody.
        self.spare.truncate(self.ahead);
        if !new.is_empty() {
            self.shared.lock().jobs.extend(new);
            self.shared.work.notify_all();
        }
    }

    fn take(&mut self) -> Result<Prepared, String> {
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
        // Taken once, so that no thread is between looking at `stop` and sleeping.
        drop(self.shared.lock());
        self.shared.work.notify_all();
        for worker in self.workers.drain(..) {
            // A panic was caught and has arrived as an error.
            let _ = worker.join();
        }
    }
}

/// Fills a batch whose `batch` is set; may leave early once the flag is up.
type Prepare = dyn Fn(&mut Prepared, &AtomicBool) + Send + Sync;

struct Shared {
    queue: Mutex<Queue>,
    /// There is something to do, or to stop for.
    work: Condvar,
    /// Something is ready.
    done: Condvar,
    stop: AtomicBool,
    prepare: Box<Prepare>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<(u64, Prepared)>,
    ready: BTreeMap<u64, Result<Prepared, String>>,
    /// Batches with smaller numbers were dropped by [`Loader::restore`].
    first: u64,
}

impl Shared {
    /// A panic in a worker happens outside of the lock; what the lock guards is whole in any case.
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

fn prepare(data: &Dataset, augment: &Augment, seed: u64, prepared: &mut Prepared, stop: &AtomicBool) {
    let Prepared { batch, features, classes, values } = prepared;
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

    fn options(workers: usize, ahead: usize) -> LoaderOptions {
        let augment = Augment { flip: true, crop: 1, brightness: 0.2, ..Augment::default() };
        LoaderOptions { augment, workers, ahead }
    }

    fn loader(workers: usize, ahead: usize) -> Loader {
        Loader::new(images(), 5, 42, options(workers, ahead)).unwrap()
    }

    fn take(loader: &mut Loader, n: usize) -> Vec<Prepared> {
        (0..n).map(|_| loader.next_batch().unwrap().clone()).collect()
    }

    #[test]
    fn threads_and_prefetching_change_no_bit_and_the_batches_are_those_of_the_sampler() {
        let expected = take(&mut loader(1, 1), 11);
        let mut batches = Batches::new(23, 5, 42).unwrap();
        for prepared in &expected {
            let batch = batches.next_batch();
            assert_eq!((&prepared.batch, &prepared.classes), (&batch, &batch.indices));
            assert_eq!((prepared.features.len(), prepared.values.len()), (5 * 12, 0));
        }
        for (workers, ahead) in [(1, 4), (4, 1), (4, 4), (3, 20)] {
            assert_eq!(take(&mut loader(workers, ahead), 11), expected, "{workers} {ahead}");
        }
    }

    #[test]
    fn without_augmentation_the_features_are_those_of_the_data_set() {
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
    fn every_image_is_augmented_by_seed_epoch_and_example_and_then_normalised() {
        let (data, augment) = (images(), options(1, 1).augment);
        let batches = take(&mut loader(2, 4), 6);
        let Prepared { batch, features, .. } = &batches[5];
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
    fn what_was_being_made_when_a_position_is_restored_is_dropped() {
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
        // The next one has begun, so the old one has ended.
        started.recv().unwrap();
        let dropped = loader.shared.lock().ready.is_empty();
        release.send(()).unwrap();
        assert!(dropped, "an old batch would pass for a new one");
        let mut batches = Batches::new(100, 10, 0).unwrap();
        batches.restore(position).unwrap();
        for _ in 0..5 {
            assert_eq!(loader.next_batch().unwrap().batch, batches.next_batch());
        }
    }

    #[test]
    fn a_position_is_that_of_what_was_taken_and_restoring_gives_the_same_bits() {
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

    /// A loader whose work is `f`, given the number of calls before.
    fn with_work(ahead: usize, f: impl Fn(u64, &AtomicBool) + Send + Sync + 'static) -> Loader {
        let calls = AtomicU64::new(0);
        let prepare = move |_: &mut Prepared, stop: &AtomicBool| {
            f(calls.fetch_add(1, Ordering::Relaxed), stop);
        };
        Loader::start(Batches::new(100, 10, 0).unwrap(), Box::new(prepare), options(1, ahead)).unwrap()
    }

    #[test]
    fn a_failing_worker_is_an_error_and_the_batch_can_be_asked_for_again() {
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
    fn no_more_than_asked_for_is_made_ahead_and_waiting_is_counted() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let sender = Mutex::new(sender);
        let mut loader = with_work(3, move |call, _| {
            if call == 3 {
                std::thread::sleep(Duration::from_millis(30));
            }
            sender.lock().unwrap().send(call).unwrap();
        });
        // Three are made without being asked for, and then no more.
        let made = |n: usize| (0..n).map(|_| receiver.recv().unwrap()).collect::<Vec<_>>();
        assert_eq!(made(3), [0, 1, 2]);
        assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err());
        take(&mut loader, 3);
        let ready = (loader.waits(), loader.waited());
        take(&mut loader, 1);
        assert!(loader.waits() > ready.0 && loader.waited() > ready.1, "the slow one was waited for");
    }

    #[test]
    fn dropping_ends_the_threads_in_the_middle_of_a_batch() {
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
    fn what_cannot_be_loaded_is_refused() {
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
