//! `wgrad tune` from outside: what it finds is kept, used, and no trouble when it is damaged.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{adapters, binary, last_json, stderr};

/// Runs the binary with a cache folder of its own.
fn wgrad_in(cache: &Path, arguments: &str) -> Output {
    let mut command = Command::new(binary());
    command
        .args(arguments.split_whitespace())
        .current_dir(cache)
        .env("NO_COLOR", "1")
        .env("WGRAD_DATA", cache);
    let output = command.output().expect("the binary starts");
    assert!(output.status.success(), "wgrad {arguments}\n{}", stderr(&output));
    output
}

/// Tuned products of the first adapter, as `wgrad devices` counts them.
fn tuned(cache: &Path) -> u64 {
    let devices = last_json(&wgrad_in(cache, "devices --json"));
    devices[1]["tuned"].as_u64().expect("a number of products")
}

#[test]
fn what_tuning_finds_is_kept_used_ignored_when_damaged_and_forgotten_when_asked() {
    if adapters("tuning from outside").is_empty() {
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    let cache = cache.path();
    assert_eq!(tuned(cache), 0);
    let found = last_json(&wgrad_in(cache, "tune --shapes 17,9,5 --device gpu:0 --json"));
    let product = &found["products"][0];
    let variants = product["variants"].as_array().unwrap();
    assert!(variants.iter().all(|variant| variant["ms"].as_f64().is_some_and(|ms| ms > 0.0)), "{found}");
    assert!(variants.iter().any(|variant| variant["variant"] == product["winner"]), "{found}");
    let path = PathBuf::from(found["table"].as_str().unwrap());
    assert!(path.starts_with(cache) && path.is_file(), "{}", path.display());
    assert_eq!(tuned(cache), 1);
    let said = stderr(&wgrad_in(cache, "summary digits --device gpu:0"));
    assert!(said.contains("Tuning table: 1 matrix product"), "{said}");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, &text[..text.len() / 2]).unwrap();
    assert_eq!(tuned(cache), 0);
    let said = stderr(&wgrad_in(cache, "summary digits --device gpu:0"));
    assert!(said.contains("warning: the tuning table is ignored"), "{said}");
    wgrad_in(cache, "tune --clear --device gpu:0");
    assert!(!path.exists());
}
