//! A fast target as a child process: started, awaited, stopped, its counters read.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Map, Value};

/// A running target; dropping it kills it.
#[derive(Debug)]
pub struct TargetProcess {
    process: Child,
    stdout: BufReader<ChildStdout>,
    /// Its addresses, as `http://ip:port` or `tcp://ip:port`.
    pub urls: Vec<String>,
}

impl TargetProcess {
    /// Starts the target beside this program and waits until it listens.
    ///
    /// # Errors
    /// It is not there, or it does not get ready.
    pub fn start(arguments: &[String]) -> Result<Self> {
        let program = find_program("fast-target")
            .context("fast-target is neither beside this program nor on PATH")?;
        let mut process = Command::new(program)
            .args(arguments)
            .arg("--json-stats")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting fast-target")?;
        let mut stdout = BufReader::new(process.stdout.take().context("stdout is piped")?);
        let mut line = String::new();
        stdout.read_line(&mut line).context("reading from fast-target")?;
        let Some(addresses) = line.strip_prefix("ready") else {
            let status = process.wait().context("waiting for fast-target")?;
            bail!("fast-target did not get ready ({status}); see its message above");
        };
        let urls = addresses.split_whitespace().map(str::to_owned).collect();
        Ok(Self { process, stdout, urls })
    }

    /// Process ids: the children's where there are several, else its own.
    pub fn pids(&self) -> Vec<u32> {
        let own = self.process.id();
        let path = format!("/proc/{own}/task/{own}/children");
        let children: Vec<u32> = std::fs::read_to_string(path)
            .unwrap_or_default()
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect();
        if children.is_empty() { vec![own] } else { children }
    }

    /// Ends it and returns its counters.
    ///
    /// # Errors
    /// It did not end well or printed no counters.
    pub fn stop(mut self) -> Result<Map<String, Value>> {
        let pid = Pid::from_raw(self.process.id() as i32);
        kill(pid, Signal::SIGTERM).context("ending fast-target")?;
        let mut said = String::new();
        self.stdout.read_to_string(&mut said).context("reading counters")?;
        self.process.wait().context("waiting for fast-target")?;
        serde_json::from_str(said.trim()).context("fast-target printed no counters")
    }
}

impl Drop for TargetProcess {
    fn drop(&mut self) {
        // Gone already after `stop`.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A program beside this one, or on PATH.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|own| own.parent().map(Path::to_owned));
    let path = std::env::var_os("PATH").unwrap_or_default();
    beside
        .into_iter()
        .chain(std::env::split_paths(&path))
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
}

/// Pins the calling thread, and with it every process that it starts from here on.
///
/// # Errors
/// The core does not exist or is not allowed.
pub fn pin_to(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core).with_context(|| format!("core {core}"))?;
    sched_setaffinity(Pid::from_raw(0), &cores).with_context(|| format!("pinning to core {core}"))
}
