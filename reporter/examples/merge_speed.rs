//! How fast this machine merges the logs of a long stage, and in how much memory.
//!
//!     cargo build --release -p reporter --example merge_speed
//!     merge_speed write DIR [files] [records in each]      20 files of 10,000,000 records
//!     merge_speed merge DIR                                the reporter's own merge of them
//!
//! Two processes, so that the peak memory of the merge is the merge's alone. Records a second are
//! given by CPU time too, which other programs on the machine hardly change. Every record is a load
//! request in the hold phase: the most that the merge has to do for one.

#[path = "../../latlog/tests/common/traffic.rs"]
mod traffic;

use std::error::Error;
use std::path::Path;

use latlog::{
    Anchor, BlockBuilder, BlockKind, End, FileHeader, LogWriter, RUN_WORKER, Request, WorkerTotals,
};
use nix::time::{ClockId, clock_gettime};
use reporter::analysis::merge;
use reporter::clock;
use reporter::run::record::RunRecord;
use serde_json::json;

/// Records that are made up; a file repeats them, each time later.
const MADE_UP: usize = 500_000;
const RATE_PER_S: f64 = 25_000.0;
const BLOCK_BYTES: usize = 64 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["write", dir] => write(Path::new(dir), 20, 10_000_000),
        ["write", dir, files, records] => write(Path::new(dir), files.parse()?, records.parse()?),
        ["merge", dir] => merge(Path::new(dir)),
        _ => Err("usage: merge_speed write DIR [files records] | merge DIR".into()),
    }
}

fn write(dir: &Path, files: u32, records: usize) -> Result<(), Box<dyn Error>> {
    let logs = dir.join("logs");
    std::fs::create_dir_all(&logs)?;
    let made_up: Vec<Request> = traffic::Traffic::new(1, RATE_PER_S).take(MADE_UP).collect();
    let (first, last) = (made_up[0].intended_ns, made_up[MADE_UP - 1].done_ns);
    let round_ns = last - made_up[0].done_ns + 40_000;
    let rounds = records.div_ceil(MADE_UP) as u64;
    let (start_ns, end_ns) = (first - clock::SECOND_NS, last + rounds * round_ns);
    let mut bytes = 0;
    for file in 0..files {
        let shifted = (0..records).map(|number| {
            let later_ns = (number / MADE_UP) as u64 * round_ns + u64::from(file);
            let Request { intended_ns, sent_ns, first_byte_ns, done_ns, .. } =
                made_up[number % MADE_UP];
            Request {
                intended_ns: intended_ns + later_ns,
                sent_ns: sent_ns + later_ns,
                first_byte_ns: first_byte_ns + later_ns,
                done_ns: done_ns + later_ns,
                ..made_up[number % MADE_UP]
            }
        });
        bytes += write_log(&logs.join(format!("{file:02}.latlog")), start_ns, end_ns, shifted)?;
    }
    let total = files as usize * records;
    println!("{total} records, {:.2} bytes each", bytes as f64 / total as f64);
    Ok(std::fs::write(dir.join("run.json"), run(start_ns, end_ns, total).to_string())?)
}

fn write_log(
    path: &Path,
    start_ns: u64,
    end_ns: u64,
    requests: impl Iterator<Item = Request>,
) -> Result<u64, Box<dyn Error>> {
    let op = |name: &str| json!({"name": name, "kind": "load"});
    let plan = json!({
        "targets": (0..12).map(|target| format!("http://127.0.0.{}:8080/mcp", 11 + target))
            .collect::<Vec<_>>(),
        "ops": [op("ping"), op("list"), op("call"), op("read")], "sample_fields": [],
    });
    let anchor = |mono_ns| Anchor { mono_ns, real_ns: mono_ns };
    let header = FileHeader { host: "host".into(), pid: 1, start: anchor(start_ns), plan };
    let mut writer = LogWriter::create(path, &header)?;
    let mut notes = BlockBuilder::new(RUN_WORKER, BlockKind::Notes, BLOCK_BYTES);
    notes.push_text(start_ns, "phase", "hold")?;
    notes.push_text(end_ns, "phase", "cooldown")?;
    writer.append(notes.seal(0))?;
    let mut builder = BlockBuilder::new(0, BlockKind::Requests, BLOCK_BYTES);
    let (mut blocks, mut count) = (0, 0);
    for request in requests {
        if builder.is_full() {
            writer.append(builder.seal(blocks))?;
            builder.clear();
            blocks += 1;
        }
        builder.push_request(&request)?;
        count += 1;
    }
    writer.append(builder.seal(blocks))?;
    let totals = vec![
        WorkerTotals { worker: 0, blocks: blocks + 1, requests: count, events: 0 },
        WorkerTotals { worker: RUN_WORKER, blocks: 1, requests: 0, events: 0 },
    ];
    writer.finish(&End { anchor: anchor(end_ns), totals })?;
    Ok(writer.len_bytes())
}

/// The least run record that has one stage with these logs.
fn run(start_ns: u64, end_ns: u64, records: usize) -> serde_json::Value {
    json!({
        "version": 1, "command": format!("merge_speed, {records} records"), "args": [],
        "backend": "local", "profile": "quick", "started_real_ns": start_ns,
        "started_mono_ns": start_ns, "ended_mono_ns": end_ns, "interrupted": false, "broken": null,
        "server": {"program": "none", "version": ""}, "thresholds": [], "replicas_planned": 12,
        "connections_planned": 1, "heartbeat_ns": 0, "restart_delay_ns": 0,
        "stages": [{
            "name": "stress", "kind": "stress", "connections": 1, "rate_per_s": RATE_PER_S,
            "log_dir": "logs", "json": "", "start_ns": start_ns, "end_ns": end_ns,
            "exit_code": 0, "stderr_tail": "", "skipped": null,
        }],
        "events": [], "replicas_csv": "", "generator_csv": "", "host_csv": "", "preflight": null,
        "host": {
            "name": "host", "kernel": "", "arch": "", "cores": 0, "cpu_model": "", "mem_bytes": 0,
            "mem_available_bytes": 0, "nofile_soft": 0, "nofile_hard": 0, "clocksource": "",
            "load_1min": 0.0,
        },
        "versions": {},
    })
}

fn merge(dir: &Path) -> Result<(), Box<dyn Error>> {
    let run: RunRecord = serde_json::from_slice(&std::fs::read(dir.join("run.json"))?)?;
    let start_ns = clock::mono_ns();
    let merged = merge::stage(dir, &run, &run.stages[0])?;
    let wall_s = (clock::mono_ns() - start_ns) as f64 / 1e9;
    let cpu = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?;
    let cpu_s = cpu.tv_sec() as f64 + cpu.tv_nsec() as f64 / 1e9;
    let records = merged.tally.records as f64;
    let p99 = merged.tally.response.quantile(0.99);
    println!("{}, offered {}, p99 {p99} ns", run.command, merged.tally.offered());
    println!("wall {wall_s:.2} s: {:.1} M records/s", records / wall_s / 1e6);
    println!("CPU  {cpu_s:.2} s: {:.1} M records/s a core", records / cpu_s / 1e6);
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM unknown");
    println!("{peak}");
    Ok(())
}
