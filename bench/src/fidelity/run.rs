//! Runs sleeper and generator in turn and prints the ratios.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::prctl;
use serde_json::Value;

use super::options::{Options, Point};
use super::peers;
use crate::sleeper::{lateness, quantile};
use crate::target_process::{TargetProcess, find_program, pin_to};
use crate::{host, own_network};

/// Connections that one process of the target takes: each costs it a descriptor.
const CONNECTIONS_A_PROCESS: u32 = 15_000;
/// Time between two wake-ups of the sleeper.
const SLEEPER_PERIOD_NS: u64 = 1_000_000;

/// Runs everything and prints it.
///
/// # Errors
/// Something is not there, or a run of loadgen failed.
pub fn run(options: &Options) -> Result<()> {
    for (name, value) in host::conditions() {
        println!("{name}: {value}");
    }
    if options.own_network {
        own_network::enter()?;
    }
    println!(
        "target on core {}, generator and sleeper on core {}; {} rounds of {:?}; medians, us",
        options.server_core, options.generator_core, options.rounds, options.duration
    );
    println!(
        "\n| requests/s | connections | sleeper p50 / p99 | slip p50 / p99 | ratio | generator CPU \
         | --spin slip p50 / p99 |\n|---|---|---|---|---|---|---|"
    );
    for &point in &options.points {
        println!("{}", beside_the_sleeper(options, point)?);
    }
    println!();
    peers::run(options)?;
    println!("load average at the end: {}", host::load_average());
    Ok(())
}

fn beside_the_sleeper(options: &Options, point: Point) -> Result<String> {
    let target = start_target(options, point.connections)?;
    let mut columns: [Vec<u64>; 7] = Default::default();
    for _ in 0..options.rounds {
        let mut late_ns = sleep(options)?;
        let plain = loadgen(options, point, &target.urls, &["--warmup=1s"])?;
        let spun = loadgen(options, point, &target.urls, &["--warmup=1s", "--spin"])?;
        let values = [
            quantile(&mut late_ns, 0.5),
            quantile(&mut late_ns, 0.99),
            number(&plain, "/slip_ns/p50")?,
            number(&plain, "/slip_ns/p99")?,
            // Thousandths.
            (plain["generator"]["cpu_share"].as_f64().unwrap_or(0.0) * 1000.0) as u64,
            number(&spun, "/slip_ns/p50")?,
            number(&spun, "/slip_ns/p99")?,
        ];
        columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
    }
    target.stop()?;
    let [s50, s99, g50, g99, cpu, p50, p99] = columns.map(|mut c| quantile(&mut c, 0.5) as f64);
    let us = |ns: f64| format!("{:.1}", ns / 1e3);
    Ok(format!(
        "| {} | {} | {} / {} | {} / {} | {:.2} / {:.2} | {:.0} % | {} / {} |",
        point.rate,
        point.connections,
        us(s50),
        us(s99),
        us(g50),
        us(g99),
        g50 / s50.max(1.0),
        g99 / s99.max(1.0),
        cpu / 10.0,
        us(p50),
        us(p99),
    ))
}

/// A target of as many processes as the connections need, on the server's core.
pub(super) fn start_target(options: &Options, connections: u32) -> Result<TargetProcess> {
    pin_to(options.server_core)?;
    let processes = connections.div_ceil(CONNECTIONS_A_PROCESS);
    let mut arguments = vec!["--protocol=http".to_owned()];
    if processes > 1 {
        arguments.extend([format!("--processes={processes}"), "--listen=127.0.1.1:18080".into()]);
    } else {
        arguments.push("--listen=127.0.0.1:0".into());
    }
    let target = TargetProcess::start(&arguments);
    pin_to(options.generator_core)?;
    target
}

fn sleep(options: &Options) -> Result<Vec<u64>> {
    prctl::set_timerslack(1).context("prctl(PR_SET_TIMERSLACK)")?;
    let count = options.duration.as_nanos() as u64 / SLEEPER_PERIOD_NS;
    let late_ns = lateness(SLEEPER_PERIOD_NS, count.max(100) as usize);
    // Children inherit it, and wrk2 and zrk have to do with the default.
    prctl::set_timerslack(0).context("prctl(PR_SET_TIMERSLACK)")?;
    late_ns
}

/// A run of loadgen; its summary.
pub(super) fn loadgen(
    options: &Options,
    point: Point,
    urls: &[String],
    more: &[&str],
) -> Result<Value> {
    let program = find_program("loadgen").context("loadgen is neither here nor on PATH")?;
    let json = std::env::temp_dir().join(format!("bench-fidelity-{}.json", std::process::id()));
    let mut command = Command::new(program);
    command.args(["--protocol", "http", "--ramp", "25000", "--end", "reset"]);
    // A heartbeat longer than the run: nothing is sent but what is due.
    command.args(["--heartbeat", "10m", "-c", &point.connections.to_string()]);
    command.args(["-r", &point.rate.to_string()]);
    command.args(["-d", &format!("{}s", options.duration.as_secs_f64())]);
    command.arg("--json").arg(&json).args(more).args(urls);
    let run = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output();
    let run = run.context("starting loadgen")?;
    ensure!(run.status.success(), "loadgen: {}", String::from_utf8_lossy(&run.stderr));
    let text = std::fs::read_to_string(&json).context("loadgen's summary")?;
    let _ = std::fs::remove_file(&json);
    let summary: Value = serde_json::from_str(&text).context("loadgen's summary")?;
    let count = |name: &str| number(&summary, &format!("/requests/{name}"));
    let (offered, ok) = (count("offered")?, count("ok")?);
    if ok < offered {
        eprintln!("{} of {offered} requests at {point:?} did not succeed", offered - ok);
    }
    Ok(summary)
}

/// A whole number of a summary.
pub(super) fn number(summary: &Value, at: &str) -> Result<u64> {
    let value = summary.pointer(at).and_then(Value::as_u64);
    value.with_context(|| format!("loadgen's summary has no {at}"))
}
