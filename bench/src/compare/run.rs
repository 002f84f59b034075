//! Runs the tools turn by turn and measures each from outside.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

use super::options::Options;
use super::table::{self, Measured};
use super::tools::{Asked, OURS, TOOLS, Tool};
use crate::target_process::{TargetProcess, find_program, pin_to};
use crate::usage::children_cpu_us;
use crate::{host, own_network};

/// A tool that is here.
struct Found {
    tool: Tool,
    program: PathBuf,
    version: String,
}

/// Runs the comparison and prints it.
///
/// # Errors
/// No tool is here, or the target does not work. A tool that fails is a row that says so.
pub fn run(options: &Options) -> Result<()> {
    let conditions = host::conditions();
    let cores = std::thread::available_parallelism().context("counting cores")?.get();
    let pinned = !options.unpinned;
    ensure!(!pinned || cores > 1, "one core is too few to pin both sides; use --unpinned");
    let found = find_tools(options)?;
    for (name, value) in &conditions {
        println!("{name}: {value}");
    }
    for found in &found {
        println!("{}: {}", found.tool.name, found.version);
    }
    if options.own_network {
        own_network::enter()?;
    }
    if pinned {
        println!(
            "target on core {}, generator on core {}",
            options.server_core, options.generator_core
        );
    }
    for &connections in &options.connections {
        let (url, log) = ("http://ADDRESS/", Path::new("FOLDER"));
        let asked = Asked { url, connections, duration: options.duration, log };
        println!(
            "\n## {connections} connections, {} s, {} rounds",
            options.duration.as_secs(),
            options.rounds
        );
        for found in &found {
            println!("    {} {}", found.tool.name, found.tool.arguments(&asked).join(" "));
        }
        let mut rows: Vec<(&str, Vec<Result<Measured>>)> =
            found.iter().map(|found| (found.tool.name, Vec::new())).collect();
        for round in 0..options.rounds {
            let mut order: Vec<usize> = (0..found.len()).collect();
            if round % 2 == 1 {
                // A drift of the host then favours nobody.
                order.reverse();
            }
            for index in order {
                let measured = measure(options, &found[index], &asked, pinned);
                if let Err(error) = &measured {
                    eprintln!("{}: {error:#}", found[index].tool.name);
                }
                rows[index].1.push(measured);
            }
        }
        println!("\n{}", table::render(&rows, OURS));
    }
    println!("load average at the end: {}", host::load_average());
    Ok(())
}

fn find_tools(options: &Options) -> Result<Vec<Found>> {
    let wanted =
        |name: &str| options.tools.is_empty() || options.tools.iter().any(|asked| asked == name);
    let mut found = Vec::new();
    for tool in TOOLS.into_iter().filter(|tool| wanted(tool.name)) {
        match find_program(tool.program) {
            Some(program) => {
                let version = version(&program, tool.version_arguments);
                found.push(Found { tool, program, version });
            }
            None => println!("{}: not here, left out", tool.name),
        }
    }
    if found.is_empty() {
        bail!("none of the generators is beside this program or on PATH");
    }
    Ok(found)
}

/// The first line that a tool says about itself, wherever it says it.
fn version(program: &PathBuf, arguments: &[&str]) -> String {
    let Ok(run) = Command::new(program).args(arguments).stdin(Stdio::null()).output() else {
        return "version unknown".into();
    };
    let said = [run.stdout, run.stderr].concat();
    let text = String::from_utf8_lossy(&said);
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or("version unknown").to_owned()
}

fn free_address() -> Result<std::net::SocketAddr> {
    let probe = std::net::TcpListener::bind("127.0.0.1:0").context("finding a free port")?;
    Ok(probe.local_addr()?)
}

/// One run of one tool against a target of its own.
fn measure(options: &Options, found: &Found, asked: &Asked<'_>, pinned: bool) -> Result<Measured> {
    // An address of its own: connections of earlier runs in TIME_WAIT take no port from this one.
    let address = free_address()?;
    let url = format!("http://{address}/");
    let log = std::env::temp_dir().join(format!("bench-compare-{}", std::process::id()));
    let asked = &Asked { url: &url, log: &log, ..*asked };
    if pinned {
        pin_to(options.server_core)?;
    }
    let target = TargetProcess::start(&["--protocol=http".into(), format!("--listen={address}")])?;
    if pinned {
        pin_to(options.generator_core)?;
    }
    let output = || if options.verbose { Stdio::inherit() } else { Stdio::null() };
    let before_us = children_cpu_us()?;
    let status = Command::new(&found.program)
        .args(found.tool.arguments(asked))
        .stdin(Stdio::null())
        .stdout(output())
        .stderr(output())
        .status()
        .with_context(|| format!("starting {}", found.tool.name))?;
    let tool_us = children_cpu_us()? - before_us;
    let stats = target.stop()?;
    let server_us = children_cpu_us()? - before_us - tool_us;
    ensure!(status.success(), "ended with {status}");
    let requests = counter(&stats, "requests")?;
    ensure!(requests > 0, "sent no request");
    let span_ns = counter(&stats, "last_arrival_ns")? - counter(&stats, "first_arrival_ns")?;
    let log_bytes = take_folder(&log)?;
    Ok(Measured {
        log_bytes_per_request: log_bytes as f64 / requests as f64,
        requests_per_s: requests as f64 * 1e9 / span_ns.max(1) as f64,
        tool_us_per_request: tool_us as f64 / requests as f64,
        server_us_per_request: server_us as f64 / requests as f64,
        open_peak: counter(&stats, "connections_open_peak")?,
    })
}

/// Bytes of the files in a folder, which is removed; 0 where there is none.
fn take_folder(folder: &Path) -> Result<u64> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(0) };
    let bytes = entries.map(|entry| Ok(entry?.metadata()?.len())).sum::<std::io::Result<u64>>()?;
    std::fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    Ok(bytes)
}

fn counter(stats: &Map<String, Value>, name: &str) -> Result<u64> {
    stats.get(name).and_then(Value::as_u64).with_context(|| format!("no counter {name}"))
}
