//! A target that is stopped (SIGSTOP) in the middle of a run: what the generator says about it, held
//! against arithmetic; and what a closed loop would have said.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use latlog::{BlockKind, LogReader, Outcome, Request};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::sleeper::quantile;
use crate::target_process::{TargetProcess, find_program, pin_to};
use crate::{clock, host, own_network, units};

/// Freezes the fast target while loadgen loads it by schedule, and holds what loadgen logged against
/// what arithmetic says of the measured freeze; then does the same in closed loop.
///
/// Exit status: 0 the open loop told the truth to within the tolerance; 1 it did not; 4 it could not
/// be tried.
#[derive(Clone, Debug, Parser)]
#[command(name = "bench-freeze", version)]
pub struct Options {
    /// Requests a second
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: u32,
    /// Connections
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,
    /// Length of the run
    #[arg(long, value_name = "TIME", default_value = "8s", value_parser = units::duration)]
    pub duration: Duration,
    /// Length of the freeze, which begins after a quarter of the run
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = units::duration)]
    pub freeze: Duration,
    /// Greatest difference between what was measured and what arithmetic says
    #[arg(long, default_value = "2%", value_parser = units::share)]
    pub tolerance: f64,
    /// Core of the target
    #[arg(long, default_value_t = 0)]
    pub server_core: usize,
    /// Core of the generator
    #[arg(long, default_value_t = 1)]
    pub generator_core: usize,
    /// Measure in a network namespace of its own (root)
    #[arg(long)]
    pub own_network: bool,
}

/// What a run has left.
struct Frozen {
    summary: Value,
    /// Load requests of the counted part.
    requests: Vec<Request>,
    /// When the target stood still: at the least, and at the most.
    least: [u64; 2],
    most: [u64; 2],
}

/// Makes both runs and prints what they say; whether the open loop's is true.
///
/// # Errors
/// A run could not be made.
pub fn run(options: &Options) -> Result<bool> {
    for (name, value) in host::conditions() {
        println!("{name}: {value}");
    }
    if options.own_network {
        own_network::enter()?;
    }
    println!(
        "\n## open loop: {} requests/s over {} connections",
        options.rate, options.connections
    );
    let open = freeze(options, &["-r", &options.rate.to_string()])?;
    let truth = judge_open(options, &open)?;
    println!("\n## the same in closed loop");
    let closed = freeze(options, &["--closed"])?;
    show_closed(&closed);
    println!("\nresult: {}", if truth { "the open loop told the truth" } else { "it did not" });
    Ok(truth)
}

fn judge_open(options: &Options, run: &Frozen) -> Result<bool> {
    let count = |name: &str| run.summary["requests"][name].as_u64().unwrap_or(0);
    let (offered, sent, dropped) = (count("offered"), count("sent"), count("dropped"));
    let due = (f64::from(options.rate) * options.duration.as_secs_f64()).round() as u64;
    println!("offered {offered} = {sent} sent + {dropped} dropped; {due} were due");
    let frozen_ns = run.least[1] - run.least[0];
    let most_ns = run.most[1] - run.most[0];
    println!("freeze {} (to within {})", ms(frozen_ns), ms(most_ns - frozen_ns));
    let mut actual: Vec<u64> = run.requests.iter().map(Request::response_ns).collect();
    // Each request that was due while the target stood still waits for the end of that, and then for
    // those that were due before it; all others are answered as in the rest of the run.
    let [from_ns, until_ns] = [0, 1].map(|end| (run.least[end] + run.most[end]) / 2);
    let waited = |r: &&Request| (from_ns..until_ns).contains(&r.intended_ns);
    let backlog = run.requests.iter().filter(waited).count();
    let drained_ns = run.requests.iter().filter(waited).map(|r| r.done_ns).max();
    let drain_ns = drained_ns.unwrap_or(0).saturating_sub(until_ns);
    println!("backlog {backlog} requests, answered in {}", ms(drain_ns));
    let quick = |r: &&Request| r.done_ns < from_ns || r.intended_ns > until_ns + 500_000_000;
    let mut usual: Vec<u64> = run.requests.iter().filter(quick).map(Request::response_ns).collect();
    let usual_ns = quantile(&mut usual, 0.5);
    let mut expected: Vec<u64> = run
        .requests
        .iter()
        .map(|r| match waited(&r) {
            true => {
                let before = (r.intended_ns - from_ns) as f64 / (until_ns - from_ns) as f64;
                until_ns - r.intended_ns + (before * drain_ns as f64) as u64
            }
            false => usual_ns,
        })
        .collect();
    let near = |actual: u64, expected: u64| {
        actual.abs_diff(expected) as f64 <= expected as f64 * options.tolerance
    };
    let mut truth = offered == due && sent + dropped == offered && dropped == 0;
    println!("\n| | measured | by arithmetic | difference |\n|---|---|---|---|");
    let share = frozen_ns as f64 / 1e9 * f64::from(options.rate) / due as f64;
    // The share of the slow ones itself, at which the times fall steeply, says nothing.
    let shown = [0.5, 0.8, 0.85, 0.9, 0.95, 0.99, 0.999, 1.0];
    for q in shown.into_iter().filter(|q| (q - (1.0 - share)).abs() > 0.02) {
        let (is, was) = (quantile(&mut actual, q), quantile(&mut expected, q));
        let name = if q < 1.0 { format!("p{}", q * 100.0) } else { "max".into() };
        let off = (is as f64 / was.max(1) as f64 - 1.0) * 100.0;
        println!("| {name} | {} | {} | {off:+.2} % |", ms(is), ms(was));
        // What is not frozen is the target's usual time, of which arithmetic says nothing.
        truth &= q < 1.0 - share || near(is, was);
    }
    let max_ns = run.summary["response_ns"]["max"].as_u64().context("no max in the summary")?;
    println!(
        "max of the summary {}: {:.3} of the freeze",
        ms(max_ns),
        max_ns as f64 / frozen_ns as f64
    );
    Ok(truth && near(max_ns, frozen_ns))
}

fn show_closed(run: &Frozen) {
    let slow = run.requests.iter().filter(|r| r.response_ns() > 100_000_000).count();
    let mut all: Vec<u64> = run.requests.iter().map(Request::response_ns).collect();
    println!(
        "{} requests, of which {slow} took longer than 100 ms; p99 {}, p99.9 {}, max {}: the rest of \
         those that would have waited was never asked",
        all.len(),
        ms(quantile(&mut all, 0.99)),
        ms(quantile(&mut all, 0.999)),
        ms(quantile(&mut all, 1.0)),
    );
}

fn ms(ns: u64) -> String {
    format!("{:.2} ms", ns as f64 / 1e6)
}

fn freeze(options: &Options, load: &[&str]) -> Result<Frozen> {
    pin_to(options.server_core)?;
    let target = TargetProcess::start(&["--listen=127.0.0.1:0".into()])?;
    pin_to(options.generator_core)?;
    let folder = std::env::temp_dir().join(format!("bench-freeze-{}", std::process::id()));
    std::fs::create_dir_all(&folder).context("a folder for the log")?;
    let json = folder.join("summary.json");
    let program = find_program("loadgen").context("loadgen is neither here nor on PATH")?;
    let mut generator = Command::new(program)
        .args(["--control", "--ramp", "5000", "--heartbeat", "10m", "--timeout", "30s"])
        .args(["-c", &options.connections.to_string()])
        .args(["-d", &format!("{}s", options.duration.as_secs_f64())])
        .args(load)
        .arg("--log")
        .arg(&folder)
        .arg("--json")
        .arg(&json)
        .arg(format!("{}/mcp", target.urls[0]))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting loadgen")?;
    let stdout = BufReader::new(generator.stdout.take().context("stdout is piped")?);
    let mut lines = stdout.lines().map_while(std::result::Result::ok);
    let holds = lines.any(|line| line.contains("\"phase\":\"hold\""));
    ensure!(holds, "loadgen ended before its hold");
    let rest = std::thread::spawn(move || lines.count());
    clock::sleep_until_ns(clock::now_ns() + options.duration.as_nanos() as u64 / 4)?;
    let stopped = send(&target, Signal::SIGSTOP)?;
    clock::sleep_until_ns(stopped[1] + options.freeze.as_nanos() as u64)?;
    let resumed = send(&target, Signal::SIGCONT)?;
    let status = generator.wait().context("waiting for loadgen")?;
    ensure!(status.success(), "loadgen ended with {status}");
    let _ = rest.join();
    target.stop()?;
    let summary = std::fs::read_to_string(&json).context("loadgen's summary")?;
    let summary = serde_json::from_str(&summary).context("loadgen's summary")?;
    let requests = counted(&folder)?;
    std::fs::remove_dir_all(&folder).context("removing the log")?;
    let (least, most) = ([stopped[1], resumed[0]], [stopped[0], resumed[1]]);
    Ok(Frozen { summary, requests, least, most })
}

/// Sends a signal to all of the target; the times before and after.
fn send(target: &TargetProcess, signal: Signal) -> Result<[u64; 2]> {
    let before_ns = clock::now_ns();
    for pid in target.pids() {
        kill(Pid::from_raw(pid as i32), signal).with_context(|| format!("{signal} to {pid}"))?;
    }
    Ok([before_ns, clock::now_ns()])
}

/// The load requests of the counted part of the only log in a folder.
fn counted(folder: &Path) -> Result<Vec<Request>> {
    let mut files = std::fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let is_log = |path: &PathBuf| path.extension().is_some_and(|e| e == "latlog");
    let path = files.find(is_log).context("no log")?;
    let mut log = LogReader::open(&path)?;
    let plan = log.header().plan.clone();
    let ops = plan["ops"].as_array().context("the log names no operations")?;
    let load = |r: &Request| ops.get(usize::from(r.op)).is_some_and(|op| op["kind"] == "load");
    let (mut requests, mut hold) = (Vec::new(), [0, u64::MAX]);
    for block in log.blocks() {
        let block = block?;
        match block.head().kind {
            BlockKind::Requests => block.read_requests(&mut requests)?,
            BlockKind::Notes => {
                for note in block.notes() {
                    let note = note?;
                    match (&*note.name, &*note.text) {
                        ("phase", "hold") => hold[0] = note.at_ns,
                        ("phase", "cooldown") => hold[1] = note.at_ns,
                        _ => {}
                    }
                }
            }
            BlockKind::Events | BlockKind::Samples | BlockKind::End => {}
        }
    }
    ensure!(log.damage().is_none(), "the log is damaged: {}", log.damage());
    requests.retain(|r| {
        load(r) && (hold[0]..hold[1]).contains(&r.intended_ns) && r.outcome != Outcome::Dropped
    });
    Ok(requests)
}
