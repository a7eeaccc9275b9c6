//! `wgrad train`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};
use wgrad_comm::Worker;
use wgrad_program::Device;
use wgrad_recipe::Recipe;
use wgrad_run::{Checkpoint, Run, RunDir, Scores};
use wgrad_studies::run::write_report;
use wgrad_train::{
    Callback, Evaluation, Finished, Part, Plan, Setup, SplitName, StepRecord, Stop, Team, Traffic,
    TrainError, Trainer, fit, open_for, read_weights, restore, run_recipe, score, setup,
};
use wgrad_weights::Pattern;

use crate::cli::Train;
use crate::commands::ceiling::{Sustained, compute_words};
use crate::commands::profile::{self, Profiled};
use crate::commands::replicas::Exercise;
use crate::commands::{INTERRUPTED, device_json, heartbeat, interruption, opened, recipe, replicas};
use crate::failure::Usage;
use crate::terminal::{self, say};

/// Where runs go by default.
pub const RUNS: &str = "runs";

/// Trains, and says what came out.
pub fn run(args: &Train) -> Result<ExitCode> {
    let code = replicas::with_team(args, |worker| lead(args, worker))?;
    Ok(ExitCode::from(code))
}

/// Trains alone, or as the first of several replicas. Gives the exit code.
fn lead(args: &Train, mut worker: Option<Worker>) -> Result<u8> {
    let (mut recipe, resumed) = chosen_recipe(args)?;
    if args.scale_batch {
        let ranks = worker.as_ref().map_or(1, Worker::size);
        let parts = setup(&recipe)?;
        scale_batch(&mut recipe, ranks, &parts)?;
    }
    let wish = profile::Wish::of(args)?;
    // The data comes first: a network should not be trained for one that cannot begin.
    let parts = setup(&recipe)?;
    let device = opened(args.device, open_for(args.device, 0)?)?;
    if let (None, Some(name)) = (&recipe.transfer.weights, recipe.transfer.pretrain.clone()) {
        let Some(weights) = pretrain(args, &*device, &recipe, &name, &mut worker)? else {
            return Ok(INTERRUPTED);
        };
        recipe.transfer.weights = Some(weights);
    }
    let directory =
        |trainer: &mut Trainer, steps| run_directory(args, &recipe, resumed.as_deref(), trainer, steps);
    let job = Job { args, recipe: &recipe, resumed: resumed.as_deref(), wish };
    let trained = train(&*device, job, parts, &mut worker, directory)?;
    if let Some(worker) = worker {
        replicas::dismiss(worker)?;
    }
    conclude(&trained, &args.recipe.recipe);
    if args.json {
        terminal::result(&trained.summary().to_string())?;
    }
    Ok(if trained.finished.stop == Stop::Interrupted { INTERRUPTED } else { 0 })
}

/// What is trained, and how the user asked for it.
struct Job<'a, 'r> {
    args: &'a Train,
    recipe: &'r Recipe,
    resumed: Option<&'a Path>,
    wish: Option<profile::Wish>,
}

/// The linear scaling rule (Goyal et al. 2017): `ranks` times the batch at as many times the learning rate, which it takes
/// five epochs to reach.
fn scale_batch(recipe: &mut Recipe, ranks: usize, parts: &Setup) -> Result<(), Usage> {
    let batch = recipe.train.batch * ranks;
    let rate = recipe.optimizer.lr() * ranks as f64;
    let steps = 5 * (parts.splits.train.len() / (batch * parts.config.accumulate.max(1) as usize)).max(1);
    let mut settings = vec![format!("train.batch={batch}"), format!("optimizer.lr={rate}")];
    // One-cycle rises by itself.
    if recipe.schedule.kind() != "one-cycle" {
        settings.push(format!("schedule.warmup_steps={}", (steps as u64).max(parts.config.warmup)));
    }
    recipe.set_all(&settings).map_err(|error| Usage(format!("--scale-batch: {error}")))?;
    let epochs = if ranks > 1 { "; it rises over the first five epochs" } else { "" };
    say(&format!("Batch {batch} and learning rate {rate} for {ranks} replicas{epochs}."));
    Ok(())
}

/// A training that is over.
struct Trained<'r> {
    recipe: &'r Recipe,
    trainer: Trainer,
    finished: Finished,
    scores: Option<Scores>,
    sustained: Option<Sustained>,
    /// Seconds from the start of the program to the end of its first step.
    first_step: Option<f64>,
    profiled: Option<Profiled>,
    /// What travelled between replicas, and which of them this one is.
    traffic: Option<(Traffic, Option<Part>)>,
    dir: PathBuf,
    report: PathBuf,
}

/// Trains a recipe in the directory that `directory` makes, and writes all that a run leaves.
fn train<'r>(
    device: &dyn Device,
    Job { args, recipe, resumed, wish }: Job<'_, 'r>,
    parts: Setup,
    worker: &mut Option<Worker>,
    directory: impl FnOnce(&mut Trainer, u64) -> Result<RunDir>,
) -> Result<Trained<'r>> {
    if let Some(worker) = &mut *worker {
        replicas::announce(worker, recipe)?;
    }
    let about =
        if recipe.description.is_empty() { String::new() } else { format!(", {}", recipe.description) };
    say(&format!("Recipe: {}{about}.", recipe.name));
    let steps = parts.fit.steps;
    let mut config = parts.config;
    config.part = worker.as_ref().map(|worker| replicas::part(args, worker));
    let mut plan = Plan::new(parts.model, &parts.splits, config, &device.info().limits)?;
    start(&mut plan, recipe, resumed)?;
    say(&plan_line(&plan, parts.splits.train.len()));
    let mut trainer = Trainer::new(device, plan, parts.splits, steps)?;
    let dir = directory(&mut trainer, steps)?;
    if let Some(worker) = worker.take() {
        trainer.join(Team::new(worker, replicas::options(args, recipe)))?;
        trainer.share_state()?;
    }
    let mut progress = Progress::new(&trainer, steps, interruption()?);
    progress.exercise = trainer.plan().config.part.map(|part| Exercise::of(args, part.rank));
    if let Some(wish) = &wish {
        trainer.profile(wish.options, steps)?;
    }
    let finished = fit(&mut trainer, &parts.fit, Some(&dir), &mut progress)?;
    progress.close();
    let traffic = trainer.traffic().map(|traffic| (traffic, trainer.plan().config.part));
    *worker = trainer.leave();
    let profiled = wish.and_then(|wish| wish.write(&mut trainer, dir.path()).transpose()).transpose()?;
    let scores = score(&mut trainer, SplitName::Test)?;
    if let Some(scores) = &scores {
        dir.write_scores(scores)?;
    }
    let report = PathBuf::new();
    let alone = traffic.is_none() && finished.stop != Stop::Interrupted;
    let rate = finished.pace.rate(trainer.step_flops().training());
    let sustained = rate.map(|rate| Sustained::of(rate, alone.then_some(device)));
    let (first_step, dir_path) = (progress.first_step, dir.path().to_owned());
    let mut trained = Trained {
        recipe,
        trainer,
        finished,
        scores,
        sustained,
        first_step,
        profiled,
        traffic,
        dir: dir_path,
        report,
    };
    if trained.finished.stop != Stop::Interrupted {
        dir.finish(&trained.summary())?;
    }
    trained.report = write_report(&dir)?;
    Ok(trained)
}

/// The recipe, and the run to resume. A resumed run keeps its recipe but for what `--set` changes.
fn chosen_recipe(args: &Train) -> Result<(Recipe, Option<PathBuf>)> {
    let mut named = recipe(&args.recipe)?;
    if let Some(weights) = &args.init {
        named.transfer.weights = Some(weights.clone());
    }
    if !args.resume {
        return Ok((named, None));
    }
    let path = match &args.out {
        Some(out) => out.clone(),
        None => last_run(&named.name)?,
    };
    let mut kept = run_recipe(&Run::open(&path)?)?;
    if kept.name != named.name {
        return Err(
            Usage(format!("{} is a run of {}, not of {}", path.display(), kept.name, named.name)).into()
        );
    }
    let begun = kept.clone();
    kept.set_all(&args.recipe.set)?;
    refuse_other_batches(&begun, &kept)?;
    Ok((kept, Some(path)))
}

/// Trains the recipe that another one starts from, in a run of its own beside it, and gives that run's directory; `None`
/// where it was interrupted.
fn pretrain(
    args: &Train,
    device: &dyn Device,
    recipe: &Recipe,
    name: &str,
    worker: &mut Option<Worker>,
) -> Result<Option<PathBuf>> {
    let mut first = wgrad_recipe::load(name)?;
    first.set_all(&recipe.transfer.pretrain_set)?;
    if first.transfer.pretrain.is_some() {
        let message =
            format!("transfer.pretrain: {name} itself starts from another recipe; train that by itself");
        return Err(Usage(message).into());
    }
    say(&format!("Training {name} first, which {} starts from.", recipe.name));
    let out = args.out.as_ref().map(|out| {
        let mut folder = out.clone().into_os_string();
        folder.push("-pretrained");
        PathBuf::from(folder)
    });
    let parts = setup(&first)?;
    let directory = |_: &mut Trainer, _| create_run(out.as_deref(), &first);
    let job = Job { args, recipe: &first, resumed: None, wish: None };
    let trained = train(device, job, parts, worker, directory)?;
    if trained.finished.stop == Stop::Interrupted {
        let (recipe, dir) = (&recipe.name, trained.dir.display());
        say(&format!("Interrupted before {recipe} began. Train {name} on: --resume --out {dir}"));
        if let Some(worker) = worker.take() {
            replicas::dismiss(worker)?;
        }
        return Ok(None);
    }
    say(&format!("{name} is trained: {}. It can start others with --init.\n", trained.dir.display()));
    Ok(Some(trained.dir))
}

/// Lets a plan start from the weights that the recipe names, unless a checkpoint will be loaded over them.
fn start(plan: &mut Plan, recipe: &Recipe, resumed: Option<&Path>) -> Result<()> {
    let begun = resumed.map(Run::open).transpose()?.map(|run| run.latest_checkpoint()).transpose()?.flatten();
    let (Some(path), None) = (&recipe.transfer.weights, begun) else { return Ok(()) };
    let weights = read_weights(path)?;
    let replace = recipe.transfer.replace.iter().map(|p| Pattern::new(p)).collect::<Result<_, _>>()?;
    plan.start_from(&weights, replace)?;
    say(&format!("Weights: {} tensors of {}.", weights.len(), path.display()));
    Ok(())
}

/// What decides which examples make up which batch cannot change under a run: its place in the data would mean another.
fn refuse_other_batches(begun: &Recipe, now: &Recipe) -> Result<(), Usage> {
    let (a, b) = (&begun.train, &now.train);
    let changed = [
        ("data", begun.data != now.data),
        ("train.batch", a.batch != b.batch),
        ("train.accumulate", a.accumulate != b.accumulate),
        ("train.seed", a.seed != b.seed),
    ];
    match changed.into_iter().find(|(_, changed)| *changed) {
        Some((key, _)) => Err(Usage(format!("{key} cannot change when a run is resumed; begin a new run"))),
        None => Ok(()),
    }
}

/// The newest run of a recipe: their names end with the time.
fn last_run(name: &str) -> Result<PathBuf> {
    let none = || Usage(format!("there is no run of {name} in {RUNS}/ to resume; name one by --out"));
    let entries = std::fs::read_dir(RUNS).map_err(|_| none())?;
    let of_recipe = |path: &PathBuf| {
        let recipe = Run::open(path).map_err(TrainError::from).and_then(|run| run_recipe(&run));
        recipe.is_ok_and(|recipe| recipe.name == name)
    };
    let mut runs: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(of_recipe).collect();
    runs.sort();
    Ok(runs.pop().ok_or_else(none)?)
}

/// Creates the directory of a new run: `out`, or one named after the recipe and the time.
fn create_run(out: Option<&Path>, recipe: &Recipe) -> Result<RunDir> {
    Ok(RunDir::create(Path::new(RUNS), out, &recipe.name, &recipe.to_toml()?)?)
}

fn run_directory(
    args: &Train,
    recipe: &Recipe,
    resumed: Option<&Path>,
    trainer: &mut Trainer,
    steps: u64,
) -> Result<RunDir> {
    let Some(path) = resumed else {
        return create_run(args.out.as_deref(), recipe);
    };
    // Everything is checked before the run is touched.
    match Run::open(path)?.latest_checkpoint()? {
        Some(checkpoint) => {
            let loaded = Checkpoint::load(&checkpoint)?;
            restore(trainer, &loaded)?;
            let done = trainer.steps_done();
            if done >= steps {
                let message = format!(
                    "{} has made its {done} steps; set train.epochs or train.steps higher",
                    path.display()
                );
                return Err(Usage(message).into());
            }
            say(&format!("Resuming {} at step {}.", path.display(), trainer.steps_done()));
            if let Some(note) = other_replicas(&loaded, trainer) {
                say(&note);
            }
            if let Some(other) = other_device(&loaded, trainer) {
                say(&format!(
                    "Note: it was trained on {other}; other kernels round differently, so bits will differ."
                ));
            }
        }
        None => say(&format!("{} has no checkpoint; it starts again.", path.display())),
    }
    let dir = RunDir::resume(path)?;
    dir.set_recipe(&recipe.to_toml()?)?;
    Ok(dir)
}

/// What another number of replicas than the checkpoint was written by changes, and what it does not.
fn other_replicas(checkpoint: &Checkpoint, trainer: &Trainer) -> Option<String> {
    let then = checkpoint.state.kernels.get("replicas").and_then(Value::as_u64).unwrap_or(1);
    let now = trainer.plan().config.part.map_or(1, |part| part.ranks as u64);
    (then != now).then(|| {
        format!(
            "Note: replicas then {then}, now {now}. Batches, their order, dropout and the learning rate stay the same; sums \
             are taken in another order, so bits will differ."
        )
    })
}

/// The device that wrote the checkpoint, if it was not this one.
fn other_device(checkpoint: &Checkpoint, trainer: &Trainer) -> Option<String> {
    let text = |key: &str| checkpoint.state.kernels.get(key).and_then(Value::as_str).unwrap_or_default();
    let device = trainer.device();
    let same =
        text("device") == device.name && text("backend") == device.backend && text("driver") == device.driver;
    (!same).then(|| format!("{} ({})", text("device"), text("driver")))
}

fn plan_line(plan: &Plan, examples: usize) -> String {
    let (all, trained) = (plan.params.count(), plan.params.trained());
    let parts = if trained < all {
        format!("{all} parameters, {trained} of them trained")
    } else {
        format!("{all} parameters")
    };
    format!(
        "Model: {parts}; a step is {} dispatches and {}FLOP; memory {}; {examples} training examples.",
        plan.dispatches_per_step(),
        terminal::count(plan.flops_per_step() as f64),
        terminal::bytes(plan.peak_bytes() as u64),
    )
}

impl Trained<'_> {
    /// What `--json` prints and `done.json` holds.
    fn summary(&self) -> Value {
        let finished = &self.finished;
        let mut test = Map::from_iter([("loss".to_owned(), number(finished.test.loss))]);
        if let Some(accuracy) = finished.test.accuracy {
            test.insert("accuracy".into(), number(accuracy));
        }
        if let Some(binary) = self.scores.as_ref().and_then(|scores| scores.binary.as_ref()) {
            test.insert("auc".into(), number(binary.auc.value));
        }
        json!({
            "recipe": self.recipe.name,
            "device": device_json(self.trainer.device()),
            "steps": finished.steps,
            "seconds": finished.seconds,
            "first_step_seconds": self.first_step,
            "replicas": self.traffic.as_ref().map(|(traffic, part)| traffic_json(traffic, *part)),
            "profile": self.profiled.as_ref().map(|profiled| &profiled.path),
            "flops": finished.flops.training(),
            "petaflop_s_days": finished.flops.petaflop_s_days(),
            "flops_by": finished.flops,
            "sustained": self.sustained.as_ref().map(Sustained::json),
            "parameters": self.trainer.plan().params.count(),
            "train": { "loss": number(finished.train_loss) },
            "test": test,
            "run": self.dir,
            "interrupted": finished.stop == Stop::Interrupted,
        })
    }
}

fn traffic_json(traffic: &Traffic, part: Option<Part>) -> Value {
    let a_step = |seconds: f64| seconds / (traffic.steps as f64).max(1.0);
    json!({
        "count": part.map_or(1, |part| part.ranks),
        "sharded": part.is_some_and(|part| part.shard),
        "gradient_bytes": traffic.bytes,
        "buckets": traffic.buckets,
        "step_seconds": a_step(traffic.total),
        "compute_seconds": a_step(traffic.compute),
        "communication_seconds": a_step(traffic.busy),
        "exposed_seconds": a_step(traffic.exposed),
        "hidden": traffic.hidden(),
    })
}

/// JSON has no NaN; a mean over no steps is null.
fn number(x: f64) -> Value {
    if x.is_finite() { json!(x) } else { Value::Null }
}

/// Says what came out, and what to do next; `recipe` is what the user called it.
fn conclude(trained: &Trained<'_>, recipe: &str) {
    let Trained { trainer, finished, scores, dir, report, .. } = trained;
    let rate = finished.made as f64 * trainer.examples_per_step() as f64 / finished.seconds.max(1e-9);
    let how = match finished.stop {
        Stop::Done => "all steps made",
        Stop::Patience => "test loss stopped falling",
        Stop::Interrupted => "interrupted",
    };
    let mut rows = vec![
        vec!["steps".to_owned(), format!("{} ({how})", finished.steps)],
        vec![
            "time".into(),
            format!("{:.1} s, {} samples/s with evaluation", finished.seconds, terminal::count(rate)),
        ],
        vec![
            "first step".into(),
            trained.first_step.map_or("none".into(), |s| format!("done {s:.2} s after the start")),
        ],
        vec!["compute".into(), compute_words(&finished.flops)],
        vec!["sustained".into(), trained.sustained.as_ref().map_or("no step timed".into(), Sustained::words)],
        vec!["train loss".into(), format!("{:.4} (last epoch)", finished.train_loss)],
        vec!["test loss".into(), format!("{:.4}", finished.test.loss)],
    ];
    if let Some(accuracy) = finished.test.accuracy {
        let right = (accuracy * finished.test.examples as f64).round();
        let of = finished.test.examples;
        rows.push(vec!["test accuracy".into(), format!("{:.2}% ({right} of {of})", 100.0 * accuracy)]);
    }
    if let Some(binary) = scores.as_ref().and_then(|scores| scores.binary.as_ref()) {
        let [low, high] = binary.auc.interval;
        rows.push(vec!["test AUC".into(), format!("{:.3} (95%: {low:.3} to {high:.3})", binary.auc.value)]);
    }
    if let Some((time, times)) = trainer.waited_for_data() {
        let seconds = time.as_secs_f64();
        rows.push(vec!["waited for data".into(), format!("{seconds:.2} s, at {times} of the steps")]);
    }
    if let Some((traffic, part)) = &trained.traffic {
        let ms = |seconds: f64| 1e3 * seconds / (traffic.steps as f64).max(1.0);
        let what = if part.is_some_and(|part| part.shard) { ", optimizer state in shares" } else { "" };
        rows.push(vec!["replicas".into(), format!("{}{what}", part.map_or(1, |part| part.ranks))]);
        rows.push(vec![
            "communication".into(),
            format!(
                "{} of gradients in {} a step: {:.2} ms of {:.2} ms, {:.0}% of it while computing",
                terminal::bytes(traffic.bytes as u64),
                if traffic.buckets == 1 {
                    "one bucket".into()
                } else {
                    format!("{} buckets", traffic.buckets)
                },
                ms(traffic.busy),
                ms(traffic.total),
                100.0 * traffic.hidden(),
            ),
        ]);
    }
    rows.push(vec!["run".into(), dir.display().to_string()]);
    rows.push(vec!["report".into(), report.display().to_string()]);
    if let Some(profiled) = &trained.profiled {
        rows.push(vec!["profile".into(), profiled.path.display().to_string()]);
    }
    say(&format!("\n{}\n", terminal::table(&rows, false)));
    if let Some(profiled) = &trained.profiled {
        say(&profiled.table);
    }
    let (dir, wgrad) = (dir.display(), terminal::invocation());
    let next = match finished.stop {
        Stop::Interrupted => {
            vec![("go on where it stopped", format!("{wgrad} train {recipe} --resume --out {dir}"))]
        }
        _ => vec![
            ("look at the curves", format!("open the report in a browser, or tensorboard --logdir {dir}")),
            ("evaluate it again", format!("{wgrad} eval {dir}")),
            ("see its kernels and memory", format!("{wgrad} summary {recipe}")),
            (
                "change something",
                format!("{wgrad} train {recipe} --set optimizer.lr=0.003 --set train.epochs=50"),
            ),
        ],
    };
    let rows: Vec<Vec<String>> =
        next.into_iter().map(|(what, command)| vec![what.to_owned(), command]).collect();
    say(&format!("Next:\n{}", terminal::table(&rows, false)));
}

/// A bar on a terminal, a line for each evaluation elsewhere.
struct Progress {
    bar: Option<ProgressBar>,
    stop: Arc<AtomicBool>,
    start: Instant,
    first: u64,
    examples: u64,
    loss: Option<f32>,
    accuracy: Option<f32>,
    first_step: Option<f64>,
    /// Steps in all, and what is said of them to a launcher.
    steps: u64,
    told: heartbeat::Steps,
    exercise: Option<Exercise>,
}

impl Progress {
    fn new(trainer: &Trainer, steps: u64, stop: Arc<AtomicBool>) -> Self {
        let bar = terminal::is_interactive().then(|| {
            let bar = ProgressBar::new(steps);
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}  {eta} left");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_position(trainer.steps_done());
            bar.reset_eta();
            bar
        });
        Self {
            bar,
            stop,
            start: Instant::now(),
            first: trainer.steps_done(),
            examples: trainer.examples_per_step(),
            loss: None,
            accuracy: None,
            first_step: None,
            steps,
            told: heartbeat::Steps::default(),
            exercise: None,
        }
    }

    fn close(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(line)),
            None => say(line),
        }
    }
}

impl Callback for Progress {
    fn on_first_step(&mut self) {
        self.first_step = Some(terminal::since_start().as_secs_f64());
    }

    fn on_step(&mut self, record: &StepRecord) {
        // A running mean reads better than the noise of single batches.
        let smooth = |old: Option<f32>, new: f32| Some(old.map_or(new, |old| 0.95 * old + 0.05 * new));
        self.loss = smooth(self.loss, record.loss);
        if let Some((_, accuracy)) = record.metrics.iter().find(|(name, _)| name == "accuracy") {
            self.accuracy = smooth(self.accuracy, *accuracy);
        }
        self.told.step(record.step, self.steps, record.loss);
        if let Some(exercise) = &mut self.exercise {
            exercise.on_step(record);
        }
        if let Some(bar) = &self.bar {
            let done = (record.step - self.first) * self.examples;
            let rate = done as f64 / self.start.elapsed().as_secs_f64().max(1e-9);
            let accuracy = self.accuracy.map_or(String::new(), |a| format!("  accuracy {:.1}%", 100.0 * a));
            bar.set_position(record.step);
            bar.set_message(format!(
                "loss {:.4}{accuracy}  {} samples/s",
                self.loss.unwrap_or(f32::NAN),
                terminal::count(rate)
            ));
        }
    }

    fn on_evaluation(&mut self, evaluation: &Evaluation, step: u64) {
        let accuracy = evaluation.accuracy.map_or(String::new(), |a| format!(", accuracy {:.2}%", 100.0 * a));
        let train = self.loss.map_or(String::new(), |loss| format!("train loss {loss:.4}, "));
        let split = if evaluation.split == SplitName::Test { "test" } else { "validation" };
        self.line(&format!("step {step:>6}: {train}{split} loss {:.4}{accuracy}", evaluation.loss));
    }

    fn should_stop(&mut self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}
