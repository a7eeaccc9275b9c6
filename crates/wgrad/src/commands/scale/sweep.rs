//! Runs the training jobs of a sweep on all devices in parallel. Each result is stored in a separate file as soon as
//! the job is done.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use wgrad_data::catalog::Entry;
use wgrad_studies::scaling::laws::{PlannedTraining, Prediction};
use wgrad_studies::scaling::sweep::{Job, Sweep, SweepData, Training, describe_network, train_job};
use wgrad_studies::scaling::{RESAMPLES, Role, SEED, Trial};
use wgrad_train::{DeviceChoice, open};

use crate::failure::Usage;
use crate::terminal::say;

/// Results of a sweep.
pub struct SweepResults {
    /// Results of all training jobs, in planned order.
    pub trials: Vec<Trial>,
    /// Predictions for the larger training jobs, made before those jobs ran.
    pub predictions: Vec<Prediction>,
    /// Larger training jobs that could not be predicted, each with the reason.
    pub unpredicted: Vec<String>,
    /// Data sets that are not on this machine.
    pub missing: Vec<String>,
    /// Whether Ctrl-C ended the sweep.
    pub interrupted: bool,
    /// Part of the sweep whose data is on this machine.
    pub sweep: Sweep,
}

/// Device that runs training jobs.
pub struct Worker {
    /// Name as in `--devices`.
    pub name: String,
    /// Device to open.
    pub choice: DeviceChoice,
}

/// Stored result of a training job. A later sweep reuses the result if job and training settings are equal.
#[derive(Serialize, Deserialize)]
struct StoredTrial {
    job: Job,
    training: Training,
    trial: Trial,
}

/// Runs the training jobs of a sweep, except jobs whose results are already stored.
pub fn run(sweep: &Sweep, workers: &[Worker], out: &Path, stop: &AtomicBool) -> Result<SweepResults> {
    // An unknown data set is an error. A known data set that is not on this machine is only skipped.
    for name in sweep.datasets() {
        Entry::named(name)?;
    }
    let whole = sweep;
    let (sweep, missing) = sweep.available(is_here);
    for name in &missing {
        say(&format!(
            "warning: {name} is not on this machine and is left out; `wgrad data get {name}` downloads it."
        ));
    }
    if let ([], Some(name)) = (&sweep.datasets()[..], whole.datasets().first()) {
        // The error says how to download the data set.
        SweepData::load(name, &sweep)?;
    }
    let mut data = BTreeMap::new();
    for name in sweep.datasets() {
        data.insert(name.to_owned(), SweepData::load(name, &sweep)?);
    }
    check_sizes(&sweep, &data)?;
    let folder = out.join("trials").join(sweep.settings_digest());
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let runner = Runner { sweep: &sweep, data: &data, workers, folder, stop, begun: Instant::now() };
    let mut results = SweepResults {
        trials: Vec::new(),
        predictions: Vec::new(),
        unpredicted: Vec::new(),
        missing,
        interrupted: false,
        sweep: sweep.clone(),
    };
    let rate_jobs = sweep.rate_jobs(false);
    results.trials.extend(runner.stage("choosing learning rates", &rate_jobs)?);
    let mut rates = sweep.choose_rates(&rate_jobs, &results.trials);
    let jobs: Vec<Job> = [sweep.law_jobs(&rates, false), sweep.comparison_jobs(&rates)].concat();
    results.trials.extend(runner.stage("sizes and data", &jobs)?);
    if !stop.load(Ordering::SeqCst) {
        runner.predict(&mut results)?;
        let rate_jobs = sweep.rate_jobs(true);
        let trials = runner.stage("choosing learning rates of the larger training runs", &rate_jobs)?;
        rates.extend(sweep.choose_rates(&rate_jobs, &trials));
        results.trials.extend(trials);
        results.trials.extend(runner.stage("larger training runs", &sweep.law_jobs(&rates, true))?);
    }
    results.interrupted = stop.load(Ordering::SeqCst);
    if results.interrupted {
        let (kept, folder) = (results.trials.len(), runner.folder.display());
        say(&format!(
            "Interrupted: {kept} training runs are stored in {folder}; run the same command again to resume."
        ));
    }
    Ok(results)
}

/// Checks that every training job has enough examples.
fn check_sizes(sweep: &Sweep, data: &BTreeMap<String, SweepData>) -> Result<(), Usage> {
    for job in sweep.all_jobs() {
        let there = data.get(&job.key.dataset).map_or(0, SweepData::examples);
        if job.examples > there {
            let (dataset, wanted) = (&job.key.dataset, job.examples);
            return Err(Usage(format!(
                "{}: this training run needs {wanted} training examples, but {dataset} has only {there}, not counting the validation examples",
                job.id
            )));
        }
    }
    Ok(())
}

/// Whether a data set is on this machine.
fn is_here(name: &str) -> bool {
    let Ok(entry) = Entry::named(name) else { return false };
    entry.is_built_in() || wgrad_data::data_dir().is_ok_and(|dir| entry.find(&dir).is_some())
}

struct Runner<'a> {
    sweep: &'a Sweep,
    data: &'a BTreeMap<String, SweepData>,
    workers: &'a [Worker],
    folder: PathBuf,
    stop: &'a AtomicBool,
    begun: Instant,
}

/// Queue of jobs that the workers share.
struct Queue<'j> {
    /// Indices in `jobs` of the jobs that have not started. The last one is started next.
    remaining: Vec<usize>,
    done: Vec<(usize, Trial)>,
    failed: Option<anyhow::Error>,
    jobs: &'j [Job],
}

impl Runner<'_> {
    /// Returns the results of training jobs in the order of `jobs`. Jobs without a stored result are run, the one with
    /// the most work first. `what` describes the jobs in a message.
    fn stage(&self, what: &str, jobs: &[Job]) -> Result<Vec<Trial>> {
        let (mut done, mut remaining) = (Vec::new(), Vec::new());
        for (i, job) in jobs.iter().enumerate() {
            match self.stored(job) {
                Some(trial) => done.push((i, trial)),
                None => remaining.push(i),
            }
        }
        // Families are ordered by work: convolutions visit every pixel.
        let work = |job: &Job| {
            let width = job.key.network.width;
            (job.key.network.family, width.saturating_mul(width).saturating_mul(job.examples))
        };
        remaining.sort_by_key(|&i| work(&jobs[i]));
        let before =
            if done.is_empty() { String::new() } else { format!(", {} of them already stored", done.len()) };
        say(&format!("{what}: {} training runs{before}.", jobs.len()));
        let assignments = self.assignments(remaining.len());
        let queue = Mutex::new(Queue { remaining, done, failed: None, jobs });
        std::thread::scope(|scope| {
            for (worker, threads) in assignments {
                let queue = &queue;
                scope.spawn(move || {
                    if let Err(error) = self.run_worker(worker, threads, queue)
                        && let Ok(mut queue) = queue.lock()
                    {
                        queue.remaining.clear();
                        queue.failed.get_or_insert(error);
                    }
                });
            }
        });
        let queue = queue.into_inner().map_err(|_| anyhow!("a training job panicked"))?;
        if let Some(error) = queue.failed {
            return Err(error);
        }
        let mut done = queue.done;
        done.sort_by_key(|(i, _)| *i);
        Ok(done.into_iter().map(|(_, trial)| trial).collect())
    }

    /// Returns workers with their number of threads. Each GPU is listed once. The CPU is listed once per thread,
    /// because dividing each small step among threads is slower.
    fn assignments(&self, jobs: usize) -> Vec<(&Worker, Option<usize>)> {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        let mut assignments = Vec::new();
        for worker in self.workers {
            if worker.choice == DeviceChoice::Cpu {
                let count = threads.min(jobs).max(1);
                assignments.extend((0..count).map(|_| (worker, Some((threads / count).max(1)))));
            } else {
                assignments.push((worker, None));
            }
        }
        assignments
    }

    /// Runs jobs until none remain. `threads` is the number of CPU threads per job; `None` for GPUs.
    fn run_worker(&self, worker: &Worker, threads: Option<usize>, queue: &Mutex<Queue<'_>>) -> Result<()> {
        match threads {
            None => self.run_jobs(worker, queue),
            Some(threads) => {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
                pool.install(|| self.run_jobs(worker, queue))
            }
        }
    }

    fn run_jobs(&self, worker: &Worker, queue: &Mutex<Queue<'_>>) -> Result<()> {
        let poisoned = || anyhow!("another training job panicked");
        let device = open(worker.choice)?;
        loop {
            let (i, job) = {
                let mut queue = queue.lock().map_err(|_| poisoned())?;
                let Some(i) = queue.remaining.pop() else { return Ok(()) };
                (i, queue.jobs[i].clone())
            };
            let data = self
                .data
                .get(&job.key.dataset)
                .ok_or_else(|| anyhow!("{}: the data set of this training run is not loaded", job.id))?;
            let stop = || self.stop.load(Ordering::Relaxed);
            let trial = train_job((&worker.name, &*device), data, self.sweep, &job, &stop)
                .with_context(|| format!("training {}", job.id))?;
            let Some(trial) = trial else { return Ok(()) };
            self.store(&job, &trial)?;
            let mut queue = queue.lock().map_err(|_| poisoned())?;
            queue.done.push((i, trial));
            self.print_done(&queue);
        }
    }

    fn print_done(&self, queue: &Queue<'_>) {
        let Some((_, trial)) = queue.done.last() else { return };
        let (done, total) = (queue.done.len(), queue.jobs.len());
        let loss =
            if trial.diverged { "diverged".into() } else { format!("test loss {:.4}", trial.test_loss) };
        say(&format!(
            "{:>6.0} s  {done:>3} of {total}: {}, {loss}",
            self.begun.elapsed().as_secs_f64(),
            trial.id
        ));
    }

    fn path(&self, job: &Job) -> PathBuf {
        self.folder.join(format!("{}.json", job.id))
    }

    /// Returns the stored result of an equal job with equal training settings, or `None` if there is none.
    fn stored(&self, job: &Job) -> Option<Trial> {
        let bytes = std::fs::read(self.path(job)).ok()?;
        let stored: StoredTrial = serde_json::from_slice(&bytes).ok()?;
        (stored.job == *job && stored.training == self.sweep.training).then_some(stored.trial)
    }

    fn store(&self, job: &Job, trial: &Trial) -> Result<()> {
        let stored =
            StoredTrial { job: job.clone(), training: self.sweep.training.clone(), trial: trial.clone() };
        self.write(&self.path(job), &stored)
    }

    fn write(&self, path: &Path, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(value)?;
        wgrad_stdx::file::replace(path, format!("{text}\n").as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Predicts the results of the larger training jobs from the results of the smaller jobs in `results`, and adds
    /// the predictions to `results`. Stores the predictions before any of the larger jobs starts. A stored prediction
    /// stays unchanged if it is based on the same results.
    fn predict(&self, results: &mut SweepResults) -> Result<()> {
        let mut predicted: Vec<(String, u64)> = Vec::new();
        for job in self.sweep.all_jobs().into_iter().filter(|job| job.role == Role::HeldOut) {
            let size = (format!("{:?}", job.key), job.examples);
            if predicted.contains(&size) {
                continue;
            }
            predicted.push(size);
            let Some(data) = self.data.get(&job.key.dataset) else { continue };
            let (network, parameters) = describe_network(data, &job)?;
            let id = job.id.rsplit_once("-s").map_or(job.id.as_str(), |(id, _)| id);
            let planned = PlannedTraining {
                id,
                dataset: &job.key.dataset,
                family: job.key.network.family.name(),
                depth: job.key.network.depth,
                network: &network,
                parameters,
                examples: job.examples,
            };
            let now = wgrad_stdx::date::timestamp(SystemTime::now());
            let prediction = match Prediction::new(planned, &results.trials, &now, RESAMPLES, SEED) {
                Ok(prediction) => prediction,
                Err(error) => {
                    say(&format!("{id} cannot be predicted: {error}"));
                    results.unpredicted.push(format!("{id}: {error}"));
                    continue;
                }
            };
            let path = self.folder.join(format!("prediction-{id}.json"));
            let before = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            let is_same = |before: &Prediction| {
                Prediction { predicted_at: prediction.predicted_at.clone(), ..before.clone() } == prediction
            };
            let prediction = match before.filter(is_same) {
                Some(before) => before,
                None => {
                    // A result that is already stored was known before this prediction, so it cannot test the
                    // prediction.
                    self.forget(&job)?;
                    self.write(&path, &prediction)?;
                    prediction
                }
            };
            let interval = prediction.interval.map_or(String::new(), |[a, b]| format!(" ({a:.4} to {b:.4})"));
            say(&format!(
                "{id}: predicted test loss {:.4}{interval}, from the law fitted to smaller training runs.",
                prediction.loss
            ));
            results.predictions.push(prediction);
        }
        Ok(())
    }

    /// Removes the stored results of larger training jobs of one size, for all seeds, so that the jobs run after the
    /// new prediction.
    fn forget(&self, job: &Job) -> Result<()> {
        for other in self.sweep.all_jobs() {
            let same = other.role == Role::HeldOut && other.key == job.key && other.examples == job.examples;
            if same {
                let path = self.path(&other);
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}
