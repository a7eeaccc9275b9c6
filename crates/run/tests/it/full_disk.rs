//! Tests of writing to a full disk.
//!
//! The tests mount a small file system, which requires root privileges on Linux. If mounting fails, a test is
//! recorded as skipped.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use wgrad_run::checkpoint::{Checkpoint, CheckpointError, CheckpointState, Tensor, latest};
use wgrad_run::metrics::{self, MetricsWriter, Row};
use wgrad_run::{EventWriter, RunDir, RunDirError};

/// Small in-memory file system. It is unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    const BYTES: usize = 256 * 1024;

    fn mount() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let size = format!("size={}", Self::BYTES);
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        match mount {
            Ok(output) if output.status.success() => Ok(Self(folder)),
            Ok(output) => {
                Err(format!("cannot mount a tmpfs: {}", String::from_utf8_lossy(&output.stderr).trim()))
            }
            Err(error) => Err(format!("cannot run mount: {error}")),
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Fills the disk and leaves `free` bytes, which must be a multiple of the page size of 4 KiB.
    fn fill_up_to(&self, free: usize) {
        let filler = self.path().join("filler");
        let mut file = fs::File::create(&filler).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        let length = file.metadata().unwrap().len();
        file.set_len(length - free as u64).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

/// Mounts a small disk. If this fails, prints that the test is skipped and appends the message to the file named by
/// `WGRAD_SKIP_LOG`.
fn disk(test: &str) -> Option<SmallDisk> {
    match SmallDisk::mount() {
        Ok(disk) => Some(disk),
        Err(reason) => {
            let line = format!("skipped: {test}: {}", reason.lines().next().unwrap_or_default());
            eprintln!("{line}");
            if let Some(log) = std::env::var_os("WGRAD_SKIP_LOG") {
                let mut log = fs::OpenOptions::new().append(true).create(true).open(log).unwrap();
                writeln!(log, "{line}").unwrap();
            }
            None
        }
    }
}

fn save(run: &Path, step: u64, values: usize) -> Result<std::path::PathBuf, CheckpointError> {
    let tensors = [("w".to_owned(), Tensor::f32(&[values], vec![step as f32; values]).unwrap())].into();
    Checkpoint::save(run, &tensors, &CheckpointState { step, ..CheckpointState::default() }, 1)
}

#[test]
fn checkpoint_that_does_not_fit_keeps_the_last_one() {
    let Some(disk) = disk("checkpoint_that_does_not_fit_keeps_the_last_one") else { return };
    let values = SmallDisk::BYTES / 4 * 6 / 10;
    let first = save(disk.path(), 1, values).unwrap();
    let before = Checkpoint::load(&first).unwrap();

    let error = save(disk.path(), 2, values).unwrap_err();
    assert!(matches!(&error, CheckpointError::Full { bytes, .. } if *bytes > 4 * values as u64), "{error}");
    assert!(error.to_string().starts_with("no space left for the checkpoint "), "{error}");
    assert!(error.to_string().contains("step-000002"), "{error}");

    assert_eq!(latest(disk.path()).unwrap().unwrap(), first);
    assert_eq!(Checkpoint::load(&first).unwrap(), before);
    let left: Vec<_> = fs::read_dir(disk.path().join("checkpoints")).unwrap().collect();
    assert_eq!(left.len(), 1, "an incomplete checkpoint remains: {left:?}");
    save(disk.path(), 3, 1000).unwrap();
}

#[test]
fn metrics_on_a_full_disk_end_with_a_complete_row() {
    let Some(disk) = disk("metrics_on_a_full_disk_end_with_a_complete_row") else { return };
    let path = disk.path().join("metrics.jsonl");
    let mut writer = MetricsWriter::create(&path).unwrap();
    let mut events = EventWriter::create(disk.path()).unwrap();
    disk.fill_up_to(8192);
    let row = |step| Row {
        step,
        epoch: 1,
        split: "train".to_owned(),
        loss: 1.0,
        lr: 1.0,
        metrics: [("x".repeat(700), 1.0)].into(),
    };
    let written = (1..1000).take_while(|step| writer.write(&row(*step)).is_ok()).count();
    assert!((1..900).contains(&written), "expected 1 to 899 rows, found {written}");
    let message = writer.write(&row(5000)).unwrap_err().to_string();
    assert!(message.contains("metrics.jsonl") && message.contains("No space"), "{message}");
    assert!(fs::read(&path).unwrap().ends_with(b"\n"), "the row that did not fit was not removed");
    let scalars = (0..100_000).try_for_each(|step| events.scalars(step, &[("a", 0.0)]));
    assert!(scalars.unwrap_err().to_string().contains("events.out.tfevents"));

    // When space is available again, the next row starts on a new line.
    fs::remove_file(disk.path().join("filler")).unwrap();
    writer.write(&row(6000)).unwrap();
    let rows = metrics::read(&path).unwrap();
    assert_eq!(rows.len(), written + 1);
    assert_eq!(rows.last().unwrap().step, 6000);
}

#[test]
fn run_on_a_full_disk_is_an_error_that_names_the_file() {
    let Some(disk) = disk("run_on_a_full_disk_is_an_error_that_names_the_file") else { return };
    disk.fill_up_to(0);
    let error = RunDir::create(&disk.path().join("runs"), None, "a", "name = 'a'").unwrap_err();
    assert!(matches!(error, RunDirError::File { .. }) && error.to_string().contains("No space"), "{error}");
}
