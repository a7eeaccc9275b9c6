//! `wgrad study`: experiments that train several networks.

use std::process::ExitCode;
use std::time::{Instant, SystemTime};

use anyhow::Result;
use wgrad_data::Data;
use wgrad_studies::depth::{Budget, DepthOptions, DepthResults, DepthStudy, study_depth};

use crate::cli::{DepthArgs, Study, StudyCommand};
use crate::commands::common::{describe, open_device};
use crate::failure::Usage;
use crate::terminal::{self, command_line, say};

/// Runs a study and writes its page.
pub fn run(args: &Study) -> Result<ExitCode> {
    match &args.command {
        StudyCommand::Depth(args) => depth(args),
    }
}

fn depth(args: &DepthArgs) -> Result<ExitCode> {
    let data: Data = args.data.parse()?;
    let known = ["fashion-mnist", "cifar-10", "mnist", "digits"];
    if !known.contains(&data.kind()) {
        let names = known.join(", ");
        let message = format!("--data: the study supports {names}, not {}", args.data);
        return Err(Usage(message).into());
    }
    if args.steps == 0 || args.depths.is_empty() || args.seeds.is_empty() || args.width == 0 {
        return Err(Usage("--steps, --depths, --seeds and --width must not be 0 or empty".into()).into());
    }
    let device = open_device(args.device)?;
    let options = DepthOptions {
        data,
        depths: args.depths.clone(),
        seeds: args.seeds.clone(),
        steps: args.steps,
        batch: args.batch,
        width: args.width,
        lr: args.lr,
        examples: args.examples,
        perceptrons: !args.without_sigmoid,
    };
    let start = Instant::now();
    let mut progress = |what: &str, done: usize, total: usize| {
        say(&format!("{:>6.0} s  {:>2} of {total}: {what}", start.elapsed().as_secs_f64(), done + 1));
    };
    let results = study_depth(&*device, &options, &mut progress)?;
    let study = page_data(args, describe(device.info()), results, start.elapsed().as_secs_f64());
    let page = study.write(&args.out)?;
    for sentence in study.conclusion().sentences(&study) {
        say(&sentence);
    }
    say(&format!("\nPage after {:.0} s, with depth.json in the same folder:", study.seconds));
    match args.json {
        true => terminal::result(&serde_json::to_string(&study)?)?,
        false => terminal::result(&page.display().to_string())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Combines results and settings into the data of the page.
fn page_data(args: &DepthArgs, device: String, results: DepthResults, seconds: f64) -> DepthStudy {
    DepthStudy {
        title: "Depth: plain and residual networks".into(),
        command: command_line(),
        device,
        dataset: args.data.clone(),
        classes: results.classes as u32,
        date: wgrad_stdx::date::timestamp(SystemTime::now()),
        seconds,
        budget: Budget {
            steps: args.steps,
            batch: args.batch as u64,
            lr: args.lr,
            schedule: "linear warm-up over a twentieth of the steps, then half a cosine to 0".into(),
            optimizer: "SGD, momentum 0.9, no weight decay".into(),
            train_examples: results.examples.0 as u64,
            test_examples: results.examples.1 as u64,
            networks: format!(
                "widths {}, {}, {}, batch norm, option A",
                args.width,
                2 * args.width,
                4 * args.width
            ),
            perceptrons: results.perceptrons,
        },
        seeds: args.seeds.clone(),
        runs: results.runs,
        sigmoid: results.sigmoid,
    }
}
