//! Tests of run directories: creating, rejecting, locking, resuming and finishing.

use std::fs;
use std::path::Path;
use wgrad_run::{Row, Run, RunDir, RunDirError};

const RECIPE: &str = "name = 'mine'\n";

fn row(step: u64) -> Row {
    Row { step, epoch: 1, split: "train".to_owned(), loss: 1.0, lr: 0.1, metrics: [].into() }
}

/// Returns the sorted names of the files in a directory.
fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn new_run_is_named_after_recipe_and_time() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("deep/runs");
    let created: Vec<RunDir> =
        (0..12).map(|_| RunDir::create(&runs, None, "mine", RECIPE).unwrap()).collect();
    let names: std::collections::BTreeSet<_> = created.iter().map(|run| run.path().to_owned()).collect();
    assert_eq!(names.len(), 12, "runs created in the same second must have different directories");
    let name = created[0].path().file_name().unwrap().to_str().unwrap();
    let pattern: String = name.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    assert_eq!(pattern, "mine-99999999-999999");
    assert!(name.starts_with("mine-20"), "{name}");
    assert_eq!(created[0].recipe_text().unwrap(), RECIPE);
    let second = created[1].path().file_name().unwrap().to_str().unwrap();
    assert!(second.len() == name.len() || second.ends_with("-2"), "{second}");
}

#[test]
fn run_is_created_in_a_given_directory() {
    let folder = tempfile::tempdir().unwrap();
    for (out, exists) in [("new/deep", false), ("empty", true)] {
        let out = folder.path().join(out);
        if exists {
            fs::create_dir(&out).unwrap();
        }
        let run = RunDir::create(Path::new("/nowhere"), Some(&out), "mine", RECIPE).unwrap();
        assert_eq!(run.path(), out);
        assert_eq!(names(&out), [".lock", "recipe.toml"]);
    }
}

#[test]
fn directory_with_other_files_is_rejected_and_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), "x").unwrap();
    let error = RunDir::create(Path::new("/nowhere"), Some(folder.path()), "mine", RECIPE).unwrap_err();
    assert!(matches!(error, RunDirError::NotEmpty { .. }), "{error}");
    assert_eq!(names(folder.path()), ["thesis.tex"]);
    assert!(matches!(RunDir::resume(folder.path()).unwrap_err(), RunDirError::NoRun { .. }));
    assert!(matches!(Run::open(folder.path()).unwrap_err(), RunDirError::NoRun { .. }));
    assert_eq!(names(folder.path()), ["thesis.tex"]);
}

#[test]
fn existing_run_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let create = || RunDir::create(Path::new("/nowhere"), Some(folder.path()), "mine", RECIPE);
    let run = create().unwrap();
    let unfinished = create().unwrap_err();
    assert!(matches!(unfinished, RunDirError::Exists { done: false, .. }));
    assert!(
        unfinished.to_string().contains("already contains an unfinished run; resume it with --resume"),
        "{unfinished}"
    );
    run.finish(&"fine").unwrap();
    drop(run);
    let finished = create().unwrap_err();
    assert!(finished.to_string().contains("already contains a finished run"), "{finished}");
}

#[test]
fn only_one_process_at_a_time_can_write() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::create(Path::new("/nowhere"), Some(folder.path()), "mine", RECIPE).unwrap();
    let error = RunDir::resume(folder.path()).unwrap_err();
    let process = format!("is being written by process {}", std::process::id());
    assert!(matches!(error, RunDirError::Busy { .. }) && error.to_string().ends_with(&process), "{error}");
    Run::open(folder.path()).unwrap().recipe_text().unwrap();
    drop(run);
    RunDir::resume(folder.path()).unwrap();
}

/// When several threads create a run in the same directory at the same time, exactly one thread succeeds, even if it
/// drops its run immediately.
#[test]
fn only_one_of_many_threads_creates_the_run() {
    for _ in 0..200 {
        let folder = tempfile::tempdir().unwrap();
        let create = || RunDir::create(Path::new("/nowhere"), Some(folder.path()), "mine", RECIPE).map(drop);
        let created = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(create)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(created.iter().filter(|created| created.is_ok()).count(), 1, "{created:?}");
        for error in created.into_iter().filter_map(Result::err) {
            assert!(matches!(error, RunDirError::Busy { .. } | RunDirError::Exists { .. }), "{error}");
        }
    }
}

/// A directory can still be used after a process was killed between taking the lock and writing the recipe.
#[test]
fn directory_with_only_a_stale_lock_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".recipe.toml.tmp-1"), "name = 'mi").unwrap();
    fs::write(folder.path().join(".lock"), "123456\n").unwrap();
    RunDir::create(Path::new("/nowhere"), Some(folder.path()), "mine", RECIPE).unwrap();
    let lock = fs::read_to_string(folder.path().join(".lock")).unwrap();
    assert_eq!(lock, format!("{}\n", std::process::id()));
}

#[test]
fn finished_run_is_done_until_it_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::create(Path::new("/nowhere"), Some(folder.path()), "mine", RECIPE).unwrap();
    assert!(!run.is_done());
    run.finish(&serde_json::json!({ "steps": 660 })).unwrap();
    assert!(run.is_done());
    let done: serde_json::Value = serde_json::from_slice(&fs::read(run.done_path()).unwrap()).unwrap();
    assert_eq!(done["summary"]["steps"], 660);
    let finished = done["finished"].as_str().unwrap();
    assert!(finished.len() == 20 && finished.ends_with('Z'), "{finished}");
    drop(run);
    assert!(!RunDir::resume(folder.path()).unwrap().is_done());
}

#[test]
fn resumed_run_appends_to_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::create(Path::new("/nowhere"), Some(folder.path()), "mine", RECIPE).unwrap();
    assert_eq!(run.rows().unwrap(), []);
    assert_eq!(run.latest_checkpoint().unwrap(), None);
    let mut metrics = run.metrics(None).unwrap();
    run.events(None).unwrap();
    (1..=4).for_each(|step| metrics.write(&row(step)).unwrap());
    drop(run);

    let run = RunDir::resume(folder.path()).unwrap();
    assert!(
        matches!(run.metrics(None).unwrap_err(), RunDirError::Metrics(_)),
        "expected an error, because the file exists"
    );
    let mut metrics = run.metrics(Some(2)).unwrap();
    run.events(Some(2)).unwrap();
    metrics.write(&row(3)).unwrap();
    assert_eq!(run.rows().unwrap(), [row(1), row(2), row(3)]);
    assert_eq!(names(run.path()).iter().filter(|name| name.contains("tfevents")).count(), 2);

    let longer = "name = 'mine'\ntrain.epochs = 99\n";
    run.set_recipe(longer).unwrap();
    assert_eq!(run.recipe_text().unwrap(), longer);
}
