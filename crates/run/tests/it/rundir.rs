//! Run directories: made, refused, locked, resumed, finished.

use std::fs;
use std::path::Path;
use wgrad_run::{Row, Run, RunDir, RunDirError};

const RECIPE: &str = "name = 'mine'\n";

fn row(step: u64) -> Row {
    Row { step, epoch: 1, split: "train".to_owned(), loss: 1.0, lr: 0.1, metrics: [].into() }
}

/// The directory, its contents by name.
fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_new_run_is_named_after_recipe_and_time() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("deep/runs");
    let made: Vec<RunDir> = (0..12).map(|_| RunDir::create(&runs, None, "mine", RECIPE).unwrap()).collect();
    let names: std::collections::BTreeSet<_> = made.iter().map(|run| run.path().to_owned()).collect();
    assert_eq!(names.len(), 12, "none is made twice within a second");
    let name = made[0].path().file_name().unwrap().to_str().unwrap();
    let pattern: String = name.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    assert_eq!(pattern, "mine-99999999-999999");
    assert!(name.starts_with("mine-20"), "{name}");
    assert_eq!(made[0].recipe_text().unwrap(), RECIPE);
    let second = made[1].path().file_name().unwrap().to_str().unwrap();
    assert!(second.len() == name.len() || second.ends_with("-2"), "{second}");
}

#[test]
fn a_directory_of_ones_own_choice() {
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
fn a_directory_with_other_things_is_refused_and_left_alone() {
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
fn a_run_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let create = || RunDir::create(Path::new("/nowhere"), Some(folder.path()), "mine", RECIPE);
    let run = create().unwrap();
    let unfinished = create().unwrap_err();
    assert!(matches!(unfinished, RunDirError::Exists { done: false, .. }));
    assert!(
        unfinished.to_string().contains("already holds an unfinished run; go on with it by --resume"),
        "{unfinished}"
    );
    run.finish(&"fine").unwrap();
    drop(run);
    let finished = create().unwrap_err();
    assert!(finished.to_string().contains("already holds a finished run"), "{finished}");
}

#[test]
fn one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::create(Path::new("/nowhere"), Some(folder.path()), "mine", RECIPE).unwrap();
    let error = RunDir::resume(folder.path()).unwrap_err();
    let process = format!("is being written by process {}", std::process::id());
    assert!(matches!(error, RunDirError::Busy { .. }) && error.to_string().ends_with(&process), "{error}");
    Run::open(folder.path()).unwrap().recipe_text().unwrap();
    drop(run);
    RunDir::resume(folder.path()).unwrap();
}

/// Of many that begin a run in one directory at the same moment, one gets it, also when it is done at once.
#[test]
fn one_of_many_gets_the_directory() {
    for _ in 0..200 {
        let folder = tempfile::tempdir().unwrap();
        let create = || RunDir::create(Path::new("/nowhere"), Some(folder.path()), "mine", RECIPE).map(drop);
        let made = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(create)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1, "{made:?}");
        for error in made.into_iter().filter_map(Result::err) {
            assert!(matches!(error, RunDirError::Busy { .. } | RunDirError::Exists { .. }), "{error}");
        }
    }
}

/// A process that died between taking the lock and writing its recipe leaves a directory that can be used.
#[test]
fn a_lock_alone_does_not_fill_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".recipe.toml.tmp-1"), "name = 'mi").unwrap();
    fs::write(folder.path().join(".lock"), "123456\n").unwrap();
    RunDir::create(Path::new("/nowhere"), Some(folder.path()), "mine", RECIPE).unwrap();
    let lock = fs::read_to_string(folder.path().join(".lock")).unwrap();
    assert_eq!(lock, format!("{}\n", std::process::id()));
}

#[test]
fn a_finished_run_says_so_until_it_is_resumed() {
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
fn a_resumed_run_goes_on_with_its_files() {
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
        "an old file is not begun anew"
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
