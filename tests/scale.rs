//! Tests of the command `wgrad scale`: training, prediction, resuming, reports and errors.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{adapters, binary, last_json, stderr, wgrad};
use serde_json::Value;

/// A small sweep that takes seconds.
const SWEEP: &str = "
[training]
batch = 20
warmup = 5
ema = 0.9
rates = [3e-3, 1e-2]
rate_steps = 20
rate_examples = 100
validation = 100
test = 100
evaluations = 5
patience = 3

[[law]]
dataset = 'digits'
family = 'mlp'
depth = 1
widths = [2, 4, 8]
examples = [60, 120, 240]
seeds = [0, 1]
epochs = 10
steps = [30, 80]
held_out = [{ width = 16, examples = 480 }]

[[versus]]
dataset = 'digits'
flops = [2e7]
examples = [60, 240]
seeds = [0]
networks = [{ family = 'mlp', depth = 1, width = 8 }, { family = 'resnet', depth = 8, width = 2 }]
";

/// Runs `wgrad scale --json` and returns its JSON.
fn scale(folder: &Path, arguments: &str) -> Value {
    let output = wgrad(folder, &format!("scale --json {arguments}"));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    last_json(&output)
}

/// Returns the folders of trials. There is one folder for each set of training settings.
fn trial_folders(out: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(out.join("trials")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Collects all strings in lists under the key `trials`.
fn collect_trial_ids<'v>(value: &'v Value, found: &mut BTreeSet<&'v str>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                if let (true, Some(list)) = (key == "trials", value.as_array()) {
                    found.extend(list.iter().filter_map(Value::as_str));
                }
                collect_trial_ids(value, found);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| collect_trial_ids(value, found)),
        _ => {}
    }
}

#[test]
fn sweep_is_trained_once_and_predicted_before_the_held_out_trial() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = folder.path().join("sweep.toml");
    fs::write(&sweep, SWEEP).unwrap();
    let arguments = "--sweep sweep.toml --only laws --devices cpu --out there";
    let first = scale(folder.path(), arguments);
    let trials = first["trials"].as_array().unwrap();
    let count = |role: &str| trials.iter().filter(|trial| trial["role"] == role).count();
    // Rates are searched for three widths, the held-out width and the residual network. The perceptron of the
    // comparison has one of the three widths.
    assert_eq!((count("rate"), count("fit"), count("versus"), count("held-out")), (5 * 2, 9 * 2, 4, 2));
    let ids: BTreeSet<&str> = trials.iter().map(|trial| trial["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), trials.len());
    let mut used = BTreeSet::new();
    collect_trial_ids(&first["laws"], &mut used);
    assert!(used.is_subset(&ids), "{:?}", used.difference(&ids));
    // All trials except those of the rate search.
    assert_eq!(used.len(), 9 * 2 + 4 + 2, "{used:?}");
    let rows = fs::read_to_string(folder.path().join("there/trials.csv")).unwrap();
    assert_eq!(rows.lines().count(), 1 + trials.len());
    for trial in trials {
        let flops = |part: &str| trial["flops"][part].as_f64().unwrap();
        let training = flops("forward") + flops("backward") + flops("update");
        let last = trial["curve"].as_array().unwrap().last().unwrap();
        assert_eq!(last["flops"].as_f64(), Some(training), "{trial}");
        if trial["role"] == "versus" {
            // The number of steps is the one whose FLOPs are nearest to the requested 2e7.
            let step = training / trial["steps"].as_f64().unwrap();
            assert!((training - 2e7).abs() <= 0.5 * step, "{training:e}");
        }
    }
    let outcome = &first["laws"]["outcomes"][0];
    let (predicted, measured) = (&outcome["prediction"]["loss"], &outcome["measured"]["loss"]);
    assert!(predicted.as_f64().unwrap() > 0.0 && measured.as_f64().unwrap() > 0.0, "{outcome}");
    let folders = trial_folders(&folder.path().join("there"));
    let [trial_folder] = &folders[..] else { panic!("expected one folder of trials: {folders:?}") };
    let modified = |name: &str| {
        let path = trial_folder.join(name);
        fs::metadata(&path).unwrap_or_else(|_| panic!("{}", path.display())).modified().unwrap()
    };
    let predicted_at = modified("prediction-digits-mlp1-w16-d480.json");
    assert!(predicted_at <= modified("digits-mlp1-w16-d480-s0.json"));
    assert!(predicted_at >= modified("digits-mlp1-w8-d240-s1.json"));
    let page = fs::read_to_string(folder.path().join("there/report.html")).unwrap();
    assert!(page.contains("<svg") && ids.iter().all(|id| page.contains(id)));

    // A second run trains nothing and returns the same results.
    let again = scale(folder.path(), arguments);
    assert_eq!((&again["trials"], &again["laws"]), (&first["trials"], &first["laws"]));
    assert_eq!(modified("prediction-digits-mlp1-w16-d480.json"), predicted_at);
    // With other settings everything is trained again.
    fs::write(&sweep, SWEEP.replace("ema = 0.9", "ema = 0.5")).unwrap();
    let other = scale(folder.path(), arguments);
    let losses = |scale: &Value| -> Vec<f64> {
        scale["trials"].as_array().unwrap().iter().map(|t| t["test_loss"].as_f64().unwrap()).collect()
    };
    assert!(losses(&first).iter().zip(losses(&other)).all(|(a, b)| *a != b));
    // The trials of the first settings are kept.
    assert_eq!(trial_folders(&folder.path().join("there")).len(), 2);
    assert_eq!(modified("prediction-digits-mlp1-w16-d480.json"), predicted_at);
    fs::write(&sweep, SWEEP).unwrap();
    assert_eq!(scale(folder.path(), arguments)["trials"], first["trials"]);
    // More trials change the prediction. The held-out trial is then trained again, after its new prediction.
    let held_out = "digits-mlp1-w16-d480-s0.json";
    let before = modified(held_out);
    fs::write(&sweep, SWEEP.replacen("seeds = [0, 1]", "seeds = [0, 1, 2]", 1)).unwrap();
    scale(folder.path(), arguments);
    let predicted_at = modified("prediction-digits-mlp1-w16-d480.json");
    assert!(before < predicted_at && predicted_at <= modified(held_out));
    fs::write(&sweep, SWEEP).unwrap();
    let first = scale(folder.path(), arguments);
    // `--only history` keeps the laws of the earlier study.
    let history = scale(folder.path(), "--only history --out there");
    assert_eq!((&history["trials"], history["kept"].is_string()), (&first["trials"], true));
}

#[test]
fn several_devices_train_in_parallel() {
    let Some((index, _)) = adapters("several_devices_train_in_parallel").first().cloned() else { return };
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("sweep.toml"), SWEEP).unwrap();
    let single = scale(folder.path(), "--sweep sweep.toml --only laws --devices cpu --out single");
    let both =
        scale(folder.path(), &format!("--sweep sweep.toml --only laws --devices cpu,gpu:{index} --out both"));
    let trials = |scale: &Value| scale["trials"].as_array().unwrap().clone();
    assert_eq!(trials(&single).len(), trials(&both).len());
    let devices: BTreeSet<String> = trials(&both).iter().map(|trial| trial["device"].to_string()).collect();
    assert_eq!(devices.len(), 2, "{devices:?}");
    for (a, b) in trials(&single).iter().zip(trials(&both)) {
        assert_eq!(a["id"], b["id"]);
        let loss = |trial: &Value| trial["curve"][0]["test_loss"].as_f64().unwrap();
        assert!((loss(a) / loss(&b) - 1.0).abs() < 1e-3, "{a}\n{b}");
    }
}

/// Sends SIGINT, as Ctrl-C does.
fn interrupt(id: u32) {
    let sent = Command::new("kill").args(["-INT", &id.to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()));
}

#[test]
fn interrupted_sweep_keeps_finished_trials_and_resumes() {
    let folder = tempfile::tempdir().unwrap();
    // Long enough that trials remain when the first ones are finished.
    let sweep =
        SWEEP.replace("steps = [30, 80]", "steps = [4000, 4000]").replace("patience = 3", "patience = 9");
    fs::write(folder.path().join("sweep.toml"), sweep).unwrap();
    let arguments = ["scale", "--sweep", "sweep.toml", "--only", "laws", "--devices", "cpu"];
    let mut child = Command::new(binary())
        .args(arguments)
        .current_dir(folder.path())
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let finished = || {
        let folders = trial_folders(&folder.path().join("scale"));
        let files = folders.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
        let names = files.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter(|name| name.ends_with(".json") && !name.starts_with("rate-")).count()
    };
    let start = Instant::now();
    while finished() < 2 {
        assert!(start.elapsed() < Duration::from_secs(120), "fewer than two trials finished within 120 s");
        std::thread::sleep(Duration::from_millis(20));
    }
    interrupt(child.id());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let done = finished();
    assert!(done < 18 + 4, "all trials finished before the interrupt");
    let report = fs::read_to_string(folder.path().join("scale/scale.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["interrupted"], true);
    assert!(report["trials"].as_array().unwrap().len() >= done);
    let page = fs::read_to_string(folder.path().join("scale/report.html")).unwrap();
    assert!(page.contains("Interrupted"));
    let output = wgrad(folder.path(), &arguments.join(" "));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let messages = stderr(&output);
    assert!(messages.contains(&format!("{done} of them already stored")), "{messages}");
    let report = fs::read_to_string(folder.path().join("scale/scale.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["interrupted"], false);
}

#[test]
fn invalid_rows_are_listed_by_line_and_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let table = "Model,Publication date,Training compute (FLOP),Parameters\n\
        Small,2010-03-01,1e12,1000\n\
        Nothing,2011-04-05,,2000\n\
        Twice,2011-04-05 or 2012-01-01,1e13,2000\n\
        Words,2012-05-05,\"about a lot\",2000\n\
        Middle,2013-03-01,1e14,3000\n\
        \"Over\ntwo lines\",2013-13-01,1e14,3000\n\
        Large,2014-03-01,1e16,5000\n\
        Larger,2015-03-01,1e18,7000\n";
    fs::write(folder.path().join("mine.csv"), table).unwrap();
    let output = wgrad(folder.path(), "scale --only history --data mine.csv --json");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let messages = stderr(&output);
    for line in ["mine.csv:3: Nothing", "mine.csv:4: Twice", "mine.csv:5: Words", "mine.csv:7: Over"] {
        assert!(messages.contains(line), "{line} is missing in\n{messages}");
    }
    let history = &last_json(&output)["history"];
    let with_compute =
        history["systems"].as_array().unwrap().iter().filter(|system| !system["flops"].is_null());
    let names: Vec<&str> = with_compute.map(|system| system["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Small", "Middle", "Large", "Larger"]);
    let page = fs::read_to_string(folder.path().join("scale/report.html")).unwrap();
    for name in ["Nothing", "Twice", "Words", "Over"] {
        assert!(page.contains(name), "the page does not list {name}, which is left out");
    }
}

#[test]
fn local_runs_are_points_of_the_history() {
    let folder = tempfile::tempdir().unwrap();
    let trained = wgrad(folder.path(), "train digits-mlp --device cpu --set train.epochs=1 --json");
    let flops = last_json(&trained)["flops"].clone();
    fs::create_dir_all(folder.path().join("runs/old")).unwrap();
    fs::write(folder.path().join("runs/old/done.json"), "{\"summary\": {\"recipe\": \"old\"}}").unwrap();
    let output = wgrad(folder.path(), "scale --only history --json");
    assert!(stderr(&output).contains("has no FLOP count"), "{}", stderr(&output));
    let own = &last_json(&output)["here"]["own"];
    assert_eq!(own.as_array().map(Vec::len), Some(1));
    assert_eq!((&own[0]["name"], &own[0]["flops"]), (&Value::from("digits-mlp"), &flops));
}

#[test]
fn invalid_arguments_are_refused_before_training() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("sweep.toml"), SWEEP.replace("480", "4800")).unwrap();
    fs::write(folder.path().join("right.toml"), SWEEP).unwrap();
    fs::write(folder.path().join("broken.toml"), SWEEP.replace("patience", "patiense")).unwrap();
    fs::write(folder.path().join("unknown.toml"), SWEEP.replace("'digits'", "'digitz'")).unwrap();
    fs::write(folder.path().join("empty.csv"), "").unwrap();
    fs::write(folder.path().join("other.csv"), "Name,Year\nPerceptron,1958\n").unwrap();
    fs::write(
        folder.path().join("no.csv"),
        "Model,Publication date,Training compute (FLOP),Parameters\nA,1999-01-01,,1\n",
    )
    .unwrap();
    let cases = [
        ("--devices auto", 2, "not auto"),
        ("--only future", 2, "possible values: history, hardware, laws"),
        ("--only laws --data mine.csv", 2, "--data requires the part `history`"),
        ("--data nowhere.csv", 2, "cannot read nowhere.csv"),
        ("--sweep nowhere.toml", 2, "cannot read the sweep in nowhere.toml"),
        ("--quick --sweep sweep.toml", 2, "cannot be used with"),
        ("--sweep broken.toml", 2, "unknown field `patiense`"),
        ("--only laws --devices cpu --sweep sweep.toml", 2, "needs 4800"),
        ("--only laws --devices cpu --sweep unknown.toml", 3, "digitz"),
        ("--only history --sweep right.toml", 2, "--sweep requires the part `laws`"),
        ("--only history --data empty.csv", 3, "empty.csv"),
        ("--only history --data other.csv", 3, "no column \"Model\""),
        ("--only history --data no.csv", 3, "no.csv"),
        ("--only laws --sweep right.toml --devices gpu:99", 4, "99"),
    ];
    for (arguments, code, message) in cases {
        let output = wgrad(folder.path(), &format!("scale {arguments}"));
        let messages = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments}: {messages}");
        assert!(messages.contains(message), "{arguments}: {message} is missing in\n{messages}");
        assert!(!folder.path().join("scale/scale.json").exists(), "{arguments}");
    }
}
