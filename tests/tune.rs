//! Tests of the command `wgrad tune`: its table is written, used, ignored if damaged, and removed by `--clear`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{adapters, binary, last_json, stderr};

/// Runs the binary with `cache` as its data folder. The command must succeed.
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

/// Returns the number of tuned matrix products of the first adapter, as reported by `wgrad devices`.
fn tuned_products(cache: &Path) -> u64 {
    let devices = last_json(&wgrad_in(cache, "devices --json"));
    devices[1]["tuned"].as_u64().expect("a number of products")
}

#[test]
fn tuning_table_is_written_used_ignored_if_damaged_and_cleared() {
    if adapters("tuning_table_is_written_used_ignored_if_damaged_and_cleared").is_empty() {
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    let cache = cache.path();
    assert_eq!(tuned_products(cache), 0);
    let found = last_json(&wgrad_in(cache, "tune --shapes 17,9,5 --device gpu:0 --json"));
    let product = &found["products"][0];
    let variants = product["variants"].as_array().unwrap();
    assert!(variants.iter().all(|variant| variant["ms"].as_f64().is_some_and(|ms| ms > 0.0)), "{found}");
    assert!(variants.iter().any(|variant| variant["variant"] == product["winner"]), "{found}");
    let path = PathBuf::from(found["table"].as_str().unwrap());
    assert!(path.starts_with(cache) && path.is_file(), "{}", path.display());
    assert_eq!(tuned_products(cache), 1);
    let messages = stderr(&wgrad_in(cache, "summary digits --device gpu:0"));
    assert!(messages.contains("Tuning table: 1 matrix product"), "{messages}");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, &text[..text.len() / 2]).unwrap();
    assert_eq!(tuned_products(cache), 0);
    let messages = stderr(&wgrad_in(cache, "summary digits --device gpu:0"));
    assert!(messages.contains("warning: the tuning table is ignored"), "{messages}");
    wgrad_in(cache, "tune --clear --device gpu:0");
    assert!(!path.exists());
}
