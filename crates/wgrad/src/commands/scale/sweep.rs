//! The trainings of a sweep, on all devices at once, each kept in a file of its own as soon as it is done.

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

/// What came of a sweep.
pub struct Made {
    /// Every training, in the order in which they were planned.
    pub trials: Vec<Trial>,
    /// What was said of the larger ones before they were trained.
    pub predictions: Vec<Prediction>,
    /// Larger ones of which nothing could be said, with the reason.
    pub unpredicted: Vec<String>,
    /// Data sets that are not on this machine.
    pub missing: Vec<String>,
    /// Whether Ctrl-C ended it.
    pub interrupted: bool,
    /// What of the sweep there was data for.
    pub sweep: Sweep,
}

/// A device, and how it is called.
pub struct Worker {
    /// What `--devices` calls it.
    pub name: String,
    /// The device.
    pub choice: DeviceChoice,
}

/// A training on disk. It counts where job and training are those of now.
#[derive(Serialize, Deserialize)]
struct Kept {
    job: Job,
    training: Training,
    trial: Trial,
}

/// Trains what has not been trained before.
pub fn run(sweep: &Sweep, workers: &[Worker], out: &Path, stop: &AtomicBool) -> Result<Made> {
    // A name that there is no data set of is a mistake; one whose data are elsewhere is not.
    for name in sweep.datasets() {
        Entry::named(name)?;
    }
    let whole = sweep;
    let (sweep, missing) = sweep.available(is_here);
    for name in &missing {
        say(&format!(
            "warning: {name} is not on this machine, and is left out; `wgrad data get {name}` fetches it."
        ));
    }
    if let ([], Some(name)) = (&sweep.datasets()[..], whole.datasets().first()) {
        // Says how to fetch it.
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
    let mut made = Made {
        trials: Vec::new(),
        predictions: Vec::new(),
        unpredicted: Vec::new(),
        missing,
        interrupted: false,
        sweep: sweep.clone(),
    };
    let rate_jobs = sweep.rate_jobs(false);
    made.trials.extend(runner.stage("choosing learning rates", &rate_jobs)?);
    let mut rates = sweep.choose_rates(&rate_jobs, &made.trials);
    let jobs: Vec<Job> = [sweep.law_jobs(&rates, false), sweep.comparison_jobs(&rates)].concat();
    made.trials.extend(runner.stage("sizes and data", &jobs)?);
    if !stop.load(Ordering::SeqCst) {
        runner.predict(&mut made)?;
        let rate_jobs = sweep.rate_jobs(true);
        let trials = runner.stage("choosing the learning rates of the larger ones", &rate_jobs)?;
        rates.extend(sweep.choose_rates(&rate_jobs, &trials));
        made.trials.extend(trials);
        made.trials.extend(runner.stage("the larger ones", &sweep.law_jobs(&rates, true))?);
    }
    made.interrupted = stop.load(Ordering::SeqCst);
    if made.interrupted {
        let (kept, folder) = (made.trials.len(), runner.folder.display());
        say(&format!("Interrupted: {kept} trainings are kept in {folder}, and the same command goes on."));
    }
    Ok(made)
}

/// Refuses a sweep that wants more examples than there are, before anything is trained.
fn check_sizes(sweep: &Sweep, data: &BTreeMap<String, SweepData>) -> Result<(), Usage> {
    for job in sweep.all_jobs() {
        let there = data.get(&job.key.dataset).map_or(0, SweepData::examples);
        if job.examples > there {
            let (dataset, wanted) = (&job.key.dataset, job.examples);
            return Err(Usage(format!(
                "{}: {dataset} has {there} examples to train on beside those for validation, not {wanted}",
                job.id
            )));
        }
    }
    Ok(())
}

/// Whether a data set can be loaded without fetching it.
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

/// What the workers share.
struct Queue<'j> {
    /// Places of the jobs that are left, the next one last.
    left: Vec<usize>,
    done: Vec<(usize, Trial)>,
    failed: Option<anyhow::Error>,
    jobs: &'j [Job],
}

impl Runner<'_> {
    /// Makes some trainings, those with most work first. Those that were made before are read.
    fn stage(&self, what: &str, jobs: &[Job]) -> Result<Vec<Trial>> {
        let (mut done, mut left) = (Vec::new(), Vec::new());
        for (i, job) in jobs.iter().enumerate() {
            match self.kept(job) {
                Some(trial) => done.push((i, trial)),
                None => left.push(i),
            }
        }
        // Convolutions go over every pixel.
        let work = |job: &Job| {
            let width = job.key.network.width;
            (job.key.network.family, width.saturating_mul(width).saturating_mul(job.examples))
        };
        left.sort_by_key(|&i| work(&jobs[i]));
        let before =
            if done.is_empty() { String::new() } else { format!(", {} of them made before", done.len()) };
        say(&format!("{what}: {} trainings{before}.", jobs.len()));
        let seats = self.seats(left.len());
        let queue = Mutex::new(Queue { left, done, failed: None, jobs });
        std::thread::scope(|scope| {
            for (worker, threads) in seats {
                let queue = &queue;
                scope.spawn(move || {
                    if let Err(error) = self.work(worker, threads, queue)
                        && let Ok(mut queue) = queue.lock()
                    {
                        queue.left.clear();
                        queue.failed.get_or_insert(error);
                    }
                });
            }
        });
        let queue = queue.into_inner().map_err(|_| anyhow!("a training panicked"))?;
        if let Some(error) = queue.failed {
            return Err(error);
        }
        let mut done = queue.done;
        done.sort_by_key(|(i, _)| *i);
        Ok(done.into_iter().map(|(_, trial)| trial).collect())
    }

    /// Who trains: each GPU by itself, the CPU as often as it has threads, which is faster than sharing each small step out.
    fn seats(&self, jobs: usize) -> Vec<(&Worker, Option<usize>)> {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        let mut seats = Vec::new();
        for worker in self.workers {
            if worker.choice == DeviceChoice::Cpu {
                let count = threads.min(jobs).max(1);
                seats.extend((0..count).map(|_| (worker, Some((threads / count).max(1)))));
            } else {
                seats.push((worker, None));
            }
        }
        seats
    }

    /// Trains until there is nothing left to train, on so many threads if it is the CPU.
    fn work(&self, worker: &Worker, threads: Option<usize>, queue: &Mutex<Queue<'_>>) -> Result<()> {
        match threads {
            None => self.serve(worker, queue),
            Some(threads) => {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
                pool.install(|| self.serve(worker, queue))
            }
        }
    }

    fn serve(&self, worker: &Worker, queue: &Mutex<Queue<'_>>) -> Result<()> {
        let poisoned = || anyhow!("another training panicked");
        let device = open(worker.choice)?;
        loop {
            let (i, job) = {
                let mut queue = queue.lock().map_err(|_| poisoned())?;
                let Some(i) = queue.left.pop() else { return Ok(()) };
                (i, queue.jobs[i].clone())
            };
            let data = self.data.get(&job.key.dataset).ok_or_else(|| anyhow!("{}: no data", job.id))?;
            let stop = || self.stop.load(Ordering::Relaxed);
            let trial = train_job((&worker.name, &*device), data, self.sweep, &job, &stop)
                .with_context(|| format!("training {}", job.id))?;
            let Some(trial) = trial else { return Ok(()) };
            self.keep(&job, &trial)?;
            let mut queue = queue.lock().map_err(|_| poisoned())?;
            queue.done.push((i, trial));
            self.say_done(&queue);
        }
    }

    fn say_done(&self, queue: &Queue<'_>) {
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

    /// A training that was made before in the same way.
    fn kept(&self, job: &Job) -> Option<Trial> {
        let bytes = std::fs::read(self.path(job)).ok()?;
        let kept: Kept = serde_json::from_slice(&bytes).ok()?;
        (kept.job == *job && kept.training == self.sweep.training).then_some(kept.trial)
    }

    fn keep(&self, job: &Job, trial: &Trial) -> Result<()> {
        let kept = Kept { job: job.clone(), training: self.sweep.training.clone(), trial: trial.clone() };
        self.write(&self.path(job), &kept)
    }

    fn write(&self, path: &Path, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(value)?;
        wgrad_stdx::file::replace(path, format!("{text}\n").as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Says what the larger trainings will come to, and keeps it, before any of them begins. What was said before by the same
    /// trainings stays as it was said.
    fn predict(&self, made: &mut Made) -> Result<()> {
        let mut said: Vec<(String, u64)> = Vec::new();
        for job in self.sweep.all_jobs().into_iter().filter(|job| job.role == Role::HeldOut) {
            let of = (format!("{:?}", job.key), job.examples);
            if said.contains(&of) {
                continue;
            }
            said.push(of);
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
            let prediction = match Prediction::new(planned, &made.trials, &now, RESAMPLES, SEED) {
                Ok(prediction) => prediction,
                Err(error) => {
                    say(&format!("{id} cannot be predicted: {error}"));
                    made.unpredicted.push(format!("{id}: {error}"));
                    continue;
                }
            };
            let path = self.folder.join(format!("prediction-{id}.json"));
            let before = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            let stands = |before: &Prediction| {
                Prediction { predicted_at: prediction.predicted_at.clone(), ..before.clone() } == prediction
            };
            let prediction = match before.filter(stands) {
                Some(before) => before,
                None => {
                    // A training of before would have been seen already.
                    self.forget(&job)?;
                    self.write(&path, &prediction)?;
                    prediction
                }
            };
            let interval = prediction.interval.map_or(String::new(), |[a, b]| format!(" ({a:.4} to {b:.4})"));
            say(&format!(
                "{id} will come to a test loss of {:.4}{interval}, by the law of the smaller ones.",
                prediction.loss
            ));
            made.predictions.push(prediction);
        }
        Ok(())
    }

    /// Removes the larger trainings of a size, with all seeds: they are made again after what is said of them now.
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
