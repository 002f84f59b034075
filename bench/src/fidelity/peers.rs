//! Open-loop tools beside ours: what each says a user waited, and what a request costs it.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::options::{Options, Point};
use super::run::{loadgen, number, start_target};
use crate::sleeper::quantile;
use crate::target_process::find_program;
use crate::usage::children_cpu_us;

/// One run of one tool: response p50 and p99, and CPU of the tool a request, in nanoseconds.
type Measured = [u64; 3];

/// Runs all that are here, turn by turn, and prints a table for each load.
///
/// # Errors
/// Something is not there. A tool that fails is left out with a message.
pub fn run(options: &Options) -> Result<()> {
    let tools = ["loadgen", "zrk", "wrk2"];
    for &point in &options.beside {
        println!("## {} requests/s over {} connections", point.rate, point.connections);
        println!(
            "\n| generator | response p50 | p99 (us) | CPU us/request | ratio of CPU to ours |"
        );
        println!("|---|---|---|---|---|");
        let mut runs: [Vec<Measured>; 3] = Default::default();
        for round in 0..options.rounds {
            let mut order = [0, 1, 2];
            order.rotate_left(round % 3);
            for at in order {
                let Some(program) = find_program(tools[at]) else { continue };
                match measure(options, point, tools[at], &program) {
                    Ok(measured) => runs[at].push(measured),
                    Err(error) => eprintln!("{}: {error:#}", tools[at]),
                }
            }
        }
        let median = |runs: &[Measured], column: usize| {
            let mut values: Vec<u64> = runs.iter().map(|run| run[column]).collect();
            quantile(&mut values, 0.5) as f64 / 1e3
        };
        let ours_us = median(&runs[0], 2);
        for (tool, runs) in tools.iter().zip(&runs) {
            if runs.is_empty() {
                println!("| {tool} | not here | | | |");
                continue;
            }
            let [p50, p99, cpu] = [0, 1, 2].map(|column| median(runs, column));
            println!("| {tool} | {p50:.0} | {p99:.0} | {cpu:.1} | {:.2} |", cpu / ours_us);
        }
        println!();
    }
    Ok(())
}

fn measure(options: &Options, point: Point, tool: &str, program: &Path) -> Result<Measured> {
    let target = start_target(options, point.connections)?;
    let before_us = children_cpu_us()?;
    let [p50_ns, p99_ns] = match tool {
        "loadgen" => {
            // As the others have it: what comes first counts too, and one thread.
            let summary = loadgen(options, point, &target.urls, &["--workers=1"])?;
            [number(&summary, "/response_ns/p50")?, number(&summary, "/response_ns/p99")?]
        }
        "zrk" => {
            let said = say(options, point, &target.urls[0], program, &["--format", "json"])?;
            let summary: Value = serde_json::from_str(&said).context("what zrk says")?;
            let at = |name: &str| summary["latency_us"][name].as_f64().context("no latency");
            [at("p50")? as u64 * 1000, at("p99")? as u64 * 1000]
        }
        _ => {
            let said = say(options, point, &target.urls[0], program, &["--latency"])?;
            [wrk2_ns(&said, "50.000%")?, wrk2_ns(&said, "99.000%")?]
        }
    };
    let cpu_us = children_cpu_us()? - before_us;
    let stats = target.stop()?;
    let requests = stats.get("requests").and_then(Value::as_u64).context("no counter")?;
    ensure!(requests > 0, "sent no request");
    Ok([p50_ns, p99_ns, cpu_us * 1000 / requests])
}

fn say(
    options: &Options,
    point: Point,
    url: &str,
    program: &Path,
    more: &[&str],
) -> Result<String> {
    let mut command = Command::new(program);
    command.args(["-t", "1", "-c", &point.connections.to_string()]);
    command.args(["-R", &point.rate.to_string()]);
    command.args(["-d", &format!("{}s", options.duration.as_secs().max(1))]);
    let run = command.args(more).arg(format!("{url}/")).stdin(Stdio::null()).output()?;
    ensure!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    Ok(String::from_utf8_lossy(&run.stdout).into_owned())
}

/// A line such as ` 50.000%    1.00ms`.
fn wrk2_ns(said: &str, name: &str) -> Result<u64> {
    let line = said.lines().find_map(|line| line.trim().strip_prefix(name));
    let text = line.context("wrk2 printed no distribution")?.trim();
    let time = crate::units::duration(text).map_err(anyhow::Error::msg)?;
    Ok(time.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_of_wrk2_is_read() {
        let said = "  Latency\n 50.000%    1.00ms\n 99.000%  621.00us\n100.000%   1.02s\n";
        assert_eq!(wrk2_ns(said, "50.000%").expect("a line"), 1_000_000);
        assert_eq!(wrk2_ns(said, "99.000%").expect("a line"), 621_000);
        assert!(wrk2_ns(said, "90.000%").is_err());
    }
}
