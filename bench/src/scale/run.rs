//! Runs the scale scenario: looks at the host, starts both sides, watches, measures.

use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{Resource, getrlimit};
use serde_json::Value;

use super::conntrack;
use super::driven::{Driven, Said, Status};
use super::options::Options;
use super::report::{Found, Memory};
use crate::target_process::TargetProcess;
use crate::{clock, host};

/// Descriptors that a target process needs beside its connections.
const SPARE_DESCRIPTORS: u64 = 200;
/// Memory of one connection on both sides and in the kernel, measured on Linux 6.18 over loopback.
const BYTES_PER_CONNECTION: u64 = 12_000;

/// Runs the scenario and prints what it found.
///
/// # Errors
/// The host lacks something, or one side does not work.
pub fn run(options: &Options) -> Result<ExitCode> {
    let conditions = host::conditions();
    for (name, value) in &conditions {
        println!("{name}: {value}");
    }
    let processes = processes(options)?;
    check_memory(options)?;
    let _raised = conntrack::make_room(u64::from(options.sessions), options.raise_conntrack)?;
    let listen = format!("--listen=127.0.1.1:{}", options.port);
    let target = TargetProcess::start(&[listen, format!("--processes={processes}")])?;
    let urls: Vec<String> = target.urls.iter().map(|url| format!("{url}/mcp")).collect();
    let pids = target.pids();
    let before = memory(&pids, None);
    let mut generator = Driven::start(options, &urls)?;
    let watched = watch(options, &mut generator, &pids)?;
    let status = generator.wait()?;
    let found = Found {
        sessions: u64::from(options.sessions),
        processes: u64::from(processes),
        seconds: watched.seconds,
        before,
        held: watched.held,
        target: Value::Object(target.stop()?),
        generator: watched.summary,
    };
    print!("\n{}", found.text());
    println!("load average at the end: {}", host::load_average());
    if let Some(path) = &options.json {
        let text = format!("{:#}\n", found.json(&conditions));
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    ensure!(status.success(), "loadgen ended with {status}");
    Ok(if found.all_held() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// As many target processes as descriptors ask for.
fn processes(options: &Options) -> Result<u16> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("reading RLIMIT_NOFILE")?;
    let each = hard.saturating_sub(SPARE_DESCRIPTORS).max(1);
    let needed = u64::from(options.sessions).div_ceil(each);
    let processes = options.processes.map_or(needed, u64::from);
    let Ok(processes @ 1..=4096) = u16::try_from(processes) else {
        bail!("{processes} target processes are too many; raise RLIMIT_NOFILE (now {hard})");
    };
    ensure!(
        options.force || u64::from(processes) >= needed,
        "{processes} processes of {hard} descriptors hold fewer than {} connections; {needed} do",
        options.sessions,
    );
    Ok(processes)
}

fn check_memory(options: &Options) -> Result<()> {
    let needed = u64::from(options.sessions) * BYTES_PER_CONNECTION;
    let available = host::memory_available_bytes();
    ensure!(
        options.force || needed < available,
        "{} sessions need about {} MiB on both sides together and {} MiB are available; --force \
         starts nevertheless",
        options.sessions,
        needed >> 20,
        available >> 20,
    );
    Ok(())
}

fn memory(targets: &[u32], generator: Option<u32>) -> Memory {
    Memory {
        target_bytes: targets.iter().filter_map(|&pid| host::resident_bytes(pid)).sum(),
        generator_bytes: generator.and_then(host::resident_bytes).unwrap_or(0),
        kernel_bytes: host::kernel_objects_bytes(),
    }
}

/// What was seen while loadgen ran.
#[derive(Default)]
struct Watched {
    seconds: Vec<Status>,
    held: Memory,
    summary: Value,
}

/// Listens to loadgen until it is done; ends the load after the hold, or when patience does.
fn watch(options: &Options, generator: &mut Driven, targets: &[u32]) -> Result<Watched> {
    let start_ns = clock::now_ns();
    // The rate of the first second counts from here, loadgen's own start included.
    let nothing = Status { t_ns: start_ns, phase: "ramp".into(), ..Status::default() };
    let mut watched = Watched { seconds: vec![nothing], ..Watched::default() };
    let mut hold_ns = None;
    let mut told = false;
    while let Some(said) = generator.listen()? {
        let status = match said {
            Said::Status(status) => status,
            Said::Error(message) => bail!("loadgen: {message}"),
            Said::Done(summary) => {
                watched.summary = summary;
                break;
            }
        };
        println!(
            "{:>5.1} s {:<8} tcp open {:>8}  established {:>8}  alive {:>8}  failed {}",
            clock::now_ns().saturating_sub(start_ns) as f64 / 1e9,
            status.phase,
            status.tcp_open,
            status.established,
            status.alive,
            status.failed,
        );
        let now_ns = status.t_ns;
        if status.phase == "hold" {
            let began_ns = *hold_ns.get_or_insert(now_ns);
            // Measured in every second: the last one before the end stays.
            if !told {
                watched.held = memory(targets, Some(generator.pid()));
            }
            if !told && now_ns - began_ns >= options.hold.as_nanos() as u64 {
                generator.end()?;
                told = true;
            }
        }
        let waited_ns = clock::now_ns() - start_ns;
        if !told && hold_ns.is_none() && waited_ns > options.patience.as_nanos() as u64 {
            println!("the sessions do not stand after {} s", options.patience.as_secs());
            generator.end()?;
            told = true;
        }
        watched.seconds.push(status);
    }
    Ok(watched)
}
