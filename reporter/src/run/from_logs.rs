//! A results folder made of bare latency logs: any number of logs, hosts and runs of the generator
//! that nobody drove. Afterwards it is a folder like any other.
//!
//! Logs whose times overlap are one stage, on the clock of the host whose log begins first; the
//! stages stand in the order of their times. What only a driver knows (replicas, events, samples
//! of processes) is absent, and the report has no section about it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

use super::record::{HostRecord, RUN_FILE, RunRecord, ServerRecord, StageKind, StageRecord};
use crate::analysis::logs::{Log, Reference, find};
use crate::exit::Failure;

/// The backend's name in `run.json`.
pub const BACKEND: &str = "logs";

/// One log with what the folder needs to know of it.
struct Found {
    path: PathBuf,
    start_ns: u64,
    end_ns: u64,
    plan: Value,
}

/// Makes `out` a results folder of the logs named, or found below the folders named.
///
/// # Errors
/// No log, one that is none, or an `out` that is a results folder already or cannot be written.
pub fn make(paths: &[PathBuf], out: &Path, thresholds: &[String]) -> anyhow::Result<()> {
    if out.join(RUN_FILE).exists() {
        return Err(Failure::usage(format!(
            "{0} is a results folder already: name another one with --out, or make its report again \
             with `reporter report {0}`",
            out.display()
        ))
        .into());
    }
    let (reference, logs) = open_all(paths)?;
    let stages = stages(logs);
    let mut record = first_record(&reference, &stages, thresholds);
    for (at, stage) in stages.iter().enumerate() {
        let name = match stages.len() {
            1 => "load".to_owned(),
            _ => format!("load-{}", at + 1),
        };
        record.stages.push(add_stage(out, at + 1, name, stage)?);
    }
    record.ended_mono_ns = record.stages.iter().map(|stage| stage.end_ns).max().unwrap_or(0);
    let planned = record.stages.iter().map(|stage| stage.connections).max();
    record.connections_planned = planned.unwrap_or(0);
    let file = out.join(RUN_FILE);
    let text = serde_json::to_string_pretty(&record)? + "\n";
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn open_all(paths: &[PathBuf]) -> anyhow::Result<(Reference, Vec<Found>)> {
    let mut files = Vec::new();
    for path in paths {
        match path.is_dir() {
            true => files.extend(find(path)?),
            false => files.push(path.clone()),
        }
    }
    let mut headers = Vec::new();
    for file in files {
        let reader = latlog::LogReader::open(&file)
            .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
        headers.push((reader.header().clone(), file));
    }
    let Some((first, _)) = headers.iter().min_by_key(|(header, _)| header.start.real_ns) else {
        return Err(Failure::usage("there is no *.latlog in what was named").into());
    };
    let reference = Reference {
        host: first.host.clone(),
        real_minus_mono_ns: i128::from(first.start.real_ns) - i128::from(first.start.mono_ns),
        clocks: Vec::new(),
    };
    let mut found = Vec::new();
    for (header, path) in headers {
        let log = Log::open(&path, path.display().to_string(), &reference)
            .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        let (start_ns, end_ns) = (log.start_ns(), log.last_ns().saturating_add(1));
        found.push(Found { path, start_ns, end_ns, plan: header.plan });
    }
    found.sort_by_key(|log| log.start_ns);
    Ok((reference, found))
}

/// Logs that overlap in time, in the order of their times.
fn stages(logs: Vec<Found>) -> Vec<Vec<Found>> {
    let mut stages: Vec<Vec<Found>> = Vec::new();
    let mut end_ns = 0;
    for log in logs {
        let own_end_ns = log.end_ns;
        match stages.last_mut() {
            Some(stage) if log.start_ns < end_ns => stage.push(log),
            Some(_) | None => stages.push(vec![log]),
        }
        end_ns = end_ns.max(own_end_ns);
    }
    stages
}

fn add_stage(
    out: &Path,
    number: usize,
    name: String,
    logs: &[Found],
) -> anyhow::Result<StageRecord> {
    let sum = |key: &str| logs.iter().filter_map(|log| log.plan[key].as_f64()).sum::<f64>();
    // What is alive is held against the sessions, which may be more than their connections.
    let size = |log: &Found| log.plan["sessions"].as_f64().or(log.plan["connections"].as_f64());
    let connections = logs.iter().filter_map(size).sum::<f64>() as u64;
    let rate_per_s = sum("rate_per_s");
    let record = StageRecord::planned(number, name, StageKind::Stress, connections, rate_per_s);
    let folder = out.join(&record.log_dir);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for (at, log) in logs.iter().enumerate() {
        let own = log.path.file_name().unwrap_or_default().to_string_lossy();
        // Two hosts may have given their logs one name.
        let to = folder.join(format!("{:02}-{own}", at + 1));
        fs::hard_link(&log.path, &to)
            .or_else(|_| fs::copy(&log.path, &to).map(|_| ()))
            .with_context(|| format!("cannot bring {} to {}", log.path.display(), to.display()))?;
    }
    Ok(StageRecord {
        start_ns: logs.iter().map(|log| log.start_ns).min().unwrap_or(0),
        end_ns: logs.iter().map(|log| log.end_ns).max().unwrap_or(0),
        driven: false,
        exit_code: Some(0),
        ..record
    })
}

/// What the logs' plans say of the run.
fn first_record(reference: &Reference, stages: &[Vec<Found>], thresholds: &[String]) -> RunRecord {
    let plans = || stages.iter().flatten().map(|log| &log.plan);
    let targets: BTreeSet<&str> = plans()
        .filter_map(|plan| plan["targets"].as_array())
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let commands: BTreeSet<&str> = plans().filter_map(|plan| plan["command"].as_str()).collect();
    let loadgen: BTreeSet<&str> = plans().filter_map(|plan| plan["version"].as_str()).collect();
    let loadgen = loadgen.into_iter().collect::<Vec<_>>().join(", ");
    let heartbeat_ns = plans().find_map(|plan| plan["heartbeat_ns"].as_u64()).unwrap_or(0);
    let start_ns = stages.iter().flatten().map(|log| log.start_ns).min().unwrap_or(0);
    let started_real_ns = i128::from(start_ns) + reference.real_minus_mono_ns;
    let host = HostRecord { name: reference.host.clone(), ..HostRecord::default() };
    let mut record = RunRecord::new(BACKEND, host);
    record.add_version("loadgen", format!("loadgen {loadgen}"));
    RunRecord {
        command: commands.into_iter().collect::<Vec<_>>().join("\n"),
        started_real_ns: u64::try_from(started_real_ns).unwrap_or(0),
        started_mono_ns: start_ns,
        server: ServerRecord {
            program: targets.iter().copied().collect::<Vec<_>>().join(", "),
            version: String::new(),
        },
        thresholds: thresholds.to_vec(),
        replicas_planned: u32::try_from(targets.len()).unwrap_or(u32::MAX),
        heartbeat_ns,
        ..record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(start_ns: u64, end_ns: u64) -> Found {
        Found { path: PathBuf::new(), start_ns, end_ns, plan: Value::Null }
    }

    #[test]
    fn logs_that_overlap_are_one_stage() {
        let logs = vec![found(0, 10), found(2, 5), found(9, 20), found(20, 30), found(40, 50)];
        let sizes: Vec<usize> = stages(logs).iter().map(Vec::len).collect();
        assert_eq!(sizes, [3, 1, 1]);
    }
}
