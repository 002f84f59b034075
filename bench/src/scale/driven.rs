//! A loadgen that is driven: status lines out, commands in.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::options::Options;
use crate::target_process::find_program;

/// What loadgen said about one second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// When (CLOCK_MONOTONIC ns).
    pub t_ns: u64,
    /// `ramp`, `warmup`, `hold`, `cooldown` or `done`.
    pub phase: String,
    /// TCP connections open.
    pub tcp_open: u64,
    /// Sessions initialized and not ended.
    pub established: u64,
    /// Sessions answered within the heartbeat.
    pub alive: u64,
    /// Requests that failed so far.
    pub failed: u64,
}

/// What loadgen said.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// A second's figures.
    Status(Status),
    /// Something went wrong.
    Error(String),
    /// The run's summary; nothing follows.
    Done(Value),
}

/// Reads one line; `None` for a kind that is not known here.
pub fn parse(line: &str) -> Option<Said> {
    let value: Value = serde_json::from_str(line).ok()?;
    let number = |name: &str| value.get(name).and_then(Value::as_u64).unwrap_or(0);
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    match text("type").as_str() {
        "status" => Some(Said::Status(Status {
            t_ns: number("t_ns"),
            phase: text("phase"),
            tcp_open: number("tcp_open"),
            established: number("session_established"),
            alive: number("session_alive"),
            failed: number("failed"),
        })),
        "error" => Some(Said::Error(text("message"))),
        "done" => Some(Said::Done(value)),
        _ => None,
    }
}

/// A running loadgen; dropping it kills it.
#[derive(Debug)]
pub struct Driven {
    process: Child,
    commands: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Driven {
    /// Starts it on the targets.
    ///
    /// # Errors
    /// It is not there or cannot be started.
    pub fn start(options: &Options, urls: &[String]) -> Result<Self> {
        let Some(program) = find_program("loadgen") else {
            bail!("loadgen is neither beside this program nor on PATH");
        };
        let mut process = Command::new(program)
            .args([
                "--control",
                "--duration",
                "0",
                "--end",
                "reset",
                "--mcp-revision",
                "2025-11-25",
            ])
            .args(["--connections", &options.sessions.to_string()])
            .args(["--ramp", &options.ramp.to_string()])
            .args(["--heartbeat", &format!("{}s", options.heartbeat.as_secs_f64())])
            .args(&options.loadgen)
            .args(urls)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting loadgen")?;
        let commands = process.stdin.take().context("stdin is piped")?;
        let stdout = process.stdout.take().context("stdout is piped")?;
        Ok(Self { process, commands, lines: BufReader::new(stdout).lines() })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it says next; `None` when it says no more.
    ///
    /// # Errors
    /// The pipe broke.
    pub fn listen(&mut self) -> Result<Option<Said>> {
        for line in self.lines.by_ref() {
            if let Some(said) = parse(&line.context("reading from loadgen")?) {
                return Ok(Some(said));
            }
        }
        Ok(None)
    }

    /// Asks it to end the load.
    ///
    /// # Errors
    /// The pipe broke.
    pub fn end(&mut self) -> Result<()> {
        writeln!(self.commands, r#"{{"cmd":"end"}}"#).context("telling loadgen to end")
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Those of waitpid(2).
    pub fn wait(mut self) -> Result<ExitStatus> {
        self.process.wait().context("waiting for loadgen")
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        // Gone already after `wait`.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines_are_read_and_unknown_ones_skipped() {
        let line = r#"{"type":"status","t_ns":5,"phase":"ramp","planned":9,"tcp_open":7,
            "session_established":6,"session_alive":4,"failed":1}"#;
        let wanted = Status {
            t_ns: 5,
            phase: "ramp".into(),
            tcp_open: 7,
            established: 6,
            alive: 4,
            failed: 1,
        };
        assert_eq!(parse(line), Some(Said::Status(wanted)));
        let error = parse(r#"{"type":"error","message":"no"}"#);
        assert_eq!(error, Some(Said::Error("no".into())));
        assert_eq!(parse(r#"{"type":"new"}"#), None);
        assert_eq!(parse("text"), None);
    }
}
