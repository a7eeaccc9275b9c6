//! `wgrad devices`: lists the devices that can train.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Value, json};
use wgrad_program::{DeviceInfo, DeviceKind};
use wgrad_train::{Tuning, devices, load_tuning};

use crate::cli::Devices;
use crate::commands::common::device_kind;
use crate::terminal;

/// Lists the devices that can train.
pub fn run(args: &Devices) -> Result<ExitCode> {
    let devices = devices();
    if args.json {
        let list: Vec<Value> = devices.iter().enumerate().map(|(i, info)| row_json(i, info)).collect();
        terminal::result(&Value::from(list).to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    let header = ["--device", "name", "class", "backend", "driver", "buffer", "operand", "tuned", "features"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(devices.iter().enumerate().map(|(i, info)| {
        vec![
            selector(i, info),
            info.name.clone(),
            info.class.into(),
            info.backend.clone(),
            info.driver.clone(),
            terminal::bytes(info.limits.buffer_bytes),
            terminal::bytes(info.limits.operand_bytes),
            tuned(info),
            info.features.join(" "),
        ]
    }));
    terminal::result(&terminal::table(&rows, false))?;
    if devices.len() == 1 {
        let filters =
            ["WGPU_BACKEND", "WGPU_ADAPTER_NAME"].into_iter().filter(|name| std::env::var_os(name).is_some());
        let why = match filters.collect::<Vec<&str>>().as_slice() {
            [] => "wgpu needs a Vulkan, Metal, DX12 or GL driver".to_owned(),
            set => format!("{} may exclude all adapters", set.join(" with ")),
        };
        terminal::say(&format!("\nNo adapter was found: {why}. Training runs on the CPU."));
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the number of entries in the tuning table as text: `no` if there is no table, and `ignored` if the table
/// cannot be used.
fn tuned(info: &DeviceInfo) -> String {
    match load_tuning(info) {
        Tuning::None => "no".into(),
        Tuning::Used(table) => table.len().to_string(),
        Tuning::Ignored(_) => "ignored".into(),
    }
}

/// Returns the value for `--device`. The CPU has index 0 in the list, so adapter N has index N + 1.
fn selector(i: usize, info: &DeviceInfo) -> String {
    match info.kind {
        DeviceKind::Cpu => "cpu".into(),
        DeviceKind::Gpu => format!("gpu:{}", i - 1),
    }
}

fn row_json(i: usize, info: &DeviceInfo) -> Value {
    json!({
        "index": i,
        "device": selector(i, info),
        "kind": device_kind(info),
        "name": info.name,
        "class": info.class,
        "backend": info.backend,
        "driver": info.driver,
        "limits": {
            "buffer_bytes": info.limits.buffer_bytes,
            "operand_bytes": info.limits.operand_bytes,
            "operands": info.limits.operands,
            "f16": info.limits.f16,
        },
        "tuned": match load_tuning(info) {
            Tuning::Used(table) => table.len(),
            Tuning::None | Tuning::Ignored(_) => 0,
        },
        "features": info.features,
    })
}
