//! `wgrad data list` and `wgrad data get`: the catalogue of data sets.

use std::process::ExitCode;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use wgrad_data::catalog::{CATALOG, Entry};
use wgrad_data::fetch::MIRROR_ENV;
use wgrad_data::{FetchOptions, Origin, Progress, data_dir};

use crate::cli::{Data, DataCommand};
use crate::terminal::{self, say};

/// Lists or downloads data sets.
pub fn run(args: &Data) -> Result<ExitCode> {
    match &args.command {
        DataCommand::List { json } => list(*json),
        DataCommand::Get { name, mirror } => get(name, mirror.clone()),
    }
}

fn list(json: bool) -> Result<ExitCode> {
    let dir = data_dir()?;
    let place = |entry: &Entry| match (entry.is_built_in(), entry.find(&dir)) {
        (true, _) => "built in".to_owned(),
        (_, Some(path)) => path.display().to_string(),
        (_, None) => format!("wgrad data get {}", entry.name),
    };
    if json {
        let row = |entry: &Entry| {
            let found = entry.is_built_in() || entry.find(&dir).is_some();
            json!({ "name": entry.name, "description": entry.description, "licence": entry.licence,
                "homepage": entry.homepage, "download_bytes": entry.download_size(), "found": found })
        };
        terminal::result(&Value::from(CATALOG.iter().map(row).collect::<Vec<_>>()).to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![["name", "description", "licence", "size", "where"].map(str::to_owned).to_vec()];
    rows.extend(CATALOG.iter().map(|entry| {
        let size = entry.download_size().map_or(String::new(), terminal::bytes);
        vec![entry.name.into(), entry.description.into(), entry.licence.into(), size, place(entry)]
    }));
    terminal::result(&terminal::table(&rows, false))?;
    Ok(ExitCode::SUCCESS)
}

fn get(name: &str, mirror: Option<std::path::PathBuf>) -> Result<ExitCode> {
    let entry = Entry::named(name)?;
    if entry.is_built_in() {
        say(&format!("{name} is built in; nothing to download."));
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!(
        "{}: {}\nLicence: {}\nHome: {}",
        entry.name, entry.description, entry.licence, entry.homepage
    ));
    let mirror = mirror.or_else(|| std::env::var_os(MIRROR_ENV).map(Into::into));
    let options = FetchOptions { mirror, ..FetchOptions::default() };
    let bar = terminal::is_interactive().then(|| ProgressBar::new(0));
    if let Some(bar) = &bar {
        let style = ProgressStyle::with_template(
            "{msg}  {bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left",
        );
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    }
    let mut show = |progress: Progress<'_>| {
        if let Some(bar) = &bar {
            bar.set_message(progress.file.to_owned());
            bar.set_length(progress.total.unwrap_or(progress.received));
            bar.set_position(progress.received);
        }
    };
    let fetched = entry.get(&data_dir()?, &options, &mut show)?;
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    for file in fetched {
        let how = match file.origin {
            Origin::AlreadyThere => "already present",
            Origin::Mirror => "copied from the mirror",
            Origin::Download { resumed_at: 0 } => "downloaded",
            Origin::Download { .. } => "downloaded, resumed",
        };
        say(&format!("{} ({how}, verified)", file.path.display()));
    }
    Ok(ExitCode::SUCCESS)
}
