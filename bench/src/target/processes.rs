//! One process for each loopback address: how the target passes the descriptor limit.
//!
//! The parent serves nothing: it starts the same program once for each address, says `ready` when
//! all of them do, ends them on a signal and adds their counters up.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Map, Value};

use super::options::Options;
use super::server;

/// A child and the rest of what it says.
struct Served {
    process: Child,
    stdout: BufReader<ChildStdout>,
}

impl Served {
    fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id() as i32)
    }
}

/// Makes a child end when its parent does, however the parent ends.
///
/// # Errors
/// Those of prctl(2).
pub fn follow_parent() -> Result<()> {
    set_pdeathsig(Signal::SIGTERM).context("prctl(PR_SET_PDEATHSIG)")
}

/// Starts the children, waits for a signal, ends them.
///
/// # Errors
/// A child that cannot be started, that is not ready, or that ends by itself.
pub fn run(options: &Options) -> Result<()> {
    let mut signals = server::block_signals()?;
    signals.add(Signal::SIGCHLD);
    signals.thread_block().context("blocking SIGCHLD")?;
    let mut children = Vec::new();
    let ready = start_all(options, &mut children).and_then(|line| server::say(&line));
    let ended = match ready {
        Ok(()) => signals.wait().context("sigwait"),
        Err(error) => Err(error),
    };
    for child in &children {
        // A child that is gone already is no reason to leave the others running.
        let _ = kill(child.pid(), Signal::SIGTERM);
    }
    let stats = collect(children, options.json_stats);
    match ended? {
        Signal::SIGCHLD => bail!("a child ended by itself; see its message above"),
        _ if options.json_stats => server::say(&Value::Object(stats?).to_string()),
        _ => Ok(()),
    }
}

/// Starts every child, then waits for each; gives the line that announces them all.
fn start_all(options: &Options, children: &mut Vec<Served>) -> Result<String> {
    let program = std::env::current_exe().context("finding this program")?;
    for number in 1..=options.processes {
        let mut process = Command::new(&program)
            .args(std::env::args_os().skip(1))
            .arg(format!("--child={number}"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting child {number}"))?;
        let stdout = process.stdout.take().context("the child's stdout is piped")?;
        children.push(Served { process, stdout: BufReader::new(stdout) });
    }
    let mut line = String::from("ready");
    for (index, child) in children.iter_mut().enumerate() {
        let mut said = String::new();
        child.stdout.read_line(&mut said).context("reading from a child")?;
        let Some(addresses) = said.trim_end().strip_prefix("ready") else {
            bail!("child {} did not get ready; see its message above", index + 1);
        };
        line.push_str(addresses);
    }
    Ok(line)
}

/// Reaps the children and adds their counters up. A peak is then the sum of the peaks.
fn collect(children: Vec<Served>, with_stats: bool) -> Result<Map<String, Value>> {
    let mut sums = Map::new();
    for mut child in children {
        let mut said = String::new();
        child.stdout.read_to_string(&mut said).context("reading a child's counters")?;
        child.process.wait().context("waiting for a child")?;
        if !with_stats {
            continue;
        }
        let stats: Map<String, Value> =
            serde_json::from_str(said.trim()).context("a child printed no counters")?;
        for (name, value) in stats {
            let value = value.as_u64().unwrap_or(0);
            let combined = match sums.get(&name).and_then(Value::as_u64) {
                None => value,
                Some(earlier) => combine(&name, earlier, value),
            };
            sums.insert(name, Value::from(combined));
        }
    }
    Ok(sums)
}

/// One counter of two processes.
fn combine(name: &str, left: u64, right: u64) -> u64 {
    match name {
        // 0 says that nothing ever arrived.
        "first_arrival_ns" if left == 0 || right == 0 => left.max(right),
        "first_arrival_ns" => left.min(right),
        "last_arrival_ns" => left.max(right),
        _ => left + right,
    }
}

#[cfg(test)]
mod tests {
    use super::combine;

    #[test]
    fn times_are_not_added_up() {
        assert_eq!(combine("requests", 2, 3), 5);
        assert_eq!(combine("first_arrival_ns", 2, 3), 2);
        assert_eq!(combine("first_arrival_ns", 0, 3), 3);
        assert_eq!(combine("last_arrival_ns", 2, 3), 3);
    }
}
