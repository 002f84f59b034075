//! The load generator as a process: its command line, its status lines, and commands to it.
//!
//! It is driven through its machine mode (`--control`): one JSON object a line in each direction.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::clock::{self, SECOND_NS};
use crate::cluster::launch::{Launcher, OnParentDeath, tail};
use crate::exit::Failure;
use crate::run::interrupt::{Interrupt, kill_group};
use crate::run::plan::{Stage, Steps};

/// What is spoken to the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// MCP over HTTP.
    Mcp,
    /// MCP as JSON lines over TCP.
    Tcp,
    /// Plain HTTP GETs.
    Http,
}

/// What all stages have in common.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The generator.
    pub program: PathBuf,
    /// How it is started.
    pub launcher: Launcher,
    /// See [`Protocol`].
    pub protocol: Protocol,
    /// As the generator takes it: `sessions`, `auto` or a date.
    pub mcp_revision: String,
    /// Interval within which a session must answer to count as alive.
    pub heartbeat_ns: u64,
    /// Options of the user's for the generator, as they are.
    pub options: Vec<String>,
}

/// Looks for header fields among the options of the user's: their values would stand in the process
/// list, in the results, and in the services of a swarm.
///
/// # Errors
/// There is one that does not come from a file.
pub fn check_options(options: &[String]) -> Result<(), Failure> {
    let mut names_one = false;
    for option in options {
        let inline = option.strip_prefix("--header=").or_else(|| option.strip_prefix("-H"));
        let value =
            inline.map(|value| value.trim_start_matches('=')).or(names_one.then_some(option));
        names_one = option == "--header" || option == "-H";
        if value.is_some_and(|value| !names_one && !value.starts_with('@')) {
            return Err(Failure::usage(
                "a header of the generator is given by file, --header=@FILE, or a token by \
                 --bearer-env=VARIABLE: this command line, and what is in it, stays in the results",
            ));
        }
    }
    Ok(())
}

/// The generator's arguments for one stage.
pub fn arguments(
    setup: &Setup,
    stage: &Stage,
    urls: &[String],
    log_dir: &Path,
    json_file: &Path,
) -> Vec<String> {
    let duration_ns = match stage.steps {
        Steps::Hold { hold_ns } => hold_ns,
        // The steps end it when they are through.
        Steps::Failover { .. } | Steps::Scaling { .. } => 0,
    };
    let mut arguments: Vec<String> = vec!["--control".to_owned()];
    let mut add = |option: &str, value: String| {
        arguments.push(option.to_owned());
        arguments.push(value);
    };
    add("--connections", stage.connections.to_string());
    add("--ramp", stage.ramp_per_s.to_string());
    add("--rate", stage.rate_per_s.to_string());
    add("--duration", seconds(duration_ns));
    add("--warmup", seconds(stage.warmup_ns));
    add("--heartbeat", seconds(setup.heartbeat_ns));
    add("--log", log_dir.display().to_string());
    add("--json", json_file.display().to_string());
    match setup.protocol {
        Protocol::Mcp | Protocol::Tcp => {
            add("--protocol", "mcp".to_owned());
            add("--mcp-revision", setup.mcp_revision.clone());
        }
        Protocol::Http => add("--protocol", "http".to_owned()),
    }
    arguments.extend(setup.options.iter().chain(urls).cloned());
    arguments
}

/// `1.5s`; exact to the millisecond.
fn seconds(duration_ns: u64) -> String {
    let (whole, rest_ms) = (duration_ns / SECOND_NS, duration_ns % SECOND_NS / 1_000_000);
    if rest_ms == 0 { format!("{whole}s") } else { format!("{whole}.{rest_ms:03}s") }
}

/// One status line; the generator writes it from the same type.
pub use live::Reading as Status;

/// A line of the generator.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Where it stands, about once a second.
    Status(Box<Status>),
    /// Something it could not do.
    Error(String),
    /// It is through; the summary is in its JSON file.
    Done,
    /// A line that this program does not know.
    Other(String),
}

/// Reads one line.
pub fn parse(line: &str) -> Message {
    let other = || Message::Other(line.to_owned());
    let Ok(value) = serde_json::from_str::<Value>(line) else { return other() };
    match value.get("type").and_then(Value::as_str) {
        Some("status") => serde_json::from_value(value)
            .map_or_else(|_| other(), |status| Message::Status(Box::new(status))),
        Some("error") => {
            let message = value.get("message").and_then(Value::as_str).unwrap_or(line);
            Message::Error(message.to_owned())
        }
        Some("done") => Message::Done,
        _ => other(),
    }
}

/// A command to the generator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The whole list of targets wanted; sessions elsewhere are moved.
    Targets {
        /// The addresses.
        urls: Vec<String>,
        /// Move sessions until all targets hold about the same number.
        rebalance: bool,
    },
    /// A line in the log.
    Mark {
        /// Such as `kill`.
        name: String,
        /// For a person.
        text: String,
    },
    /// Go to the cool-down.
    End,
}

impl Command {
    fn line(&self) -> String {
        let value = match self {
            Self::Targets { urls, rebalance } => {
                json!({"cmd": "targets", "urls": urls, "rebalance": rebalance})
            }
            Self::Mark { name, text } => json!({"cmd": "mark", "name": name, "text": text}),
            Self::End => json!({"cmd": "end"}),
        };
        format!("{value}\n")
    }
}

/// How the generator ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its exit code; none if a signal ended it.
    pub exit_code: Option<i32>,
    /// The last lines of its stderr.
    pub stderr_tail: String,
    /// When it was seen to have ended.
    pub at_ns: u64,
}

/// Sends commands to a running generator; clones share the way.
#[derive(Clone, Debug)]
pub struct Remote {
    stdin: Arc<Mutex<Option<ChildStdin>>>,
}

impl Remote {
    /// Sends a command; a generator that has ended does not hear it, which its end will tell.
    pub fn send(&self, command: &Command) {
        let mut stdin = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipe) = stdin.as_mut() {
            let sent = pipe.write_all(command.line().as_bytes()).and_then(|()| pipe.flush());
            if sent.is_err() {
                *stdin = None;
            }
        }
    }
}

/// A running generator. Dropping it kills it.
pub struct Generator {
    child: Child,
    remote: Remote,
    messages: Receiver<Message>,
    stderr_path: PathBuf,
    interrupt: Interrupt,
    reaped: bool,
}

/// What a wait for the next message brought.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// A message.
    Message(Message),
    /// Nothing in time.
    Nothing,
    /// Its output has ended, and so has it or will at once.
    End,
}

impl Generator {
    /// Starts it; `log_dir` is made and gets its stderr.
    ///
    /// # Errors
    /// If the folder or the process cannot be made.
    pub fn start(
        setup: &Setup,
        arguments: &[String],
        log_dir: &Path,
        interrupt: &Interrupt,
    ) -> Result<Self, Failure> {
        let failed = |what: &str, error: &std::io::Error| {
            Failure::invalid(format!("cannot {what} for the generator: {error}"))
        };
        fs::create_dir_all(log_dir).map_err(|e| failed("make a log folder", &e))?;
        let stderr_path = log_dir.join("loadgen.stderr.log");
        let stderr = File::create(&stderr_path).map_err(|e| failed("open a log", &e))?;
        let mut command = setup.launcher.command(&setup.program, OnParentDeath::Terminate);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().map_err(|error| {
            Failure::host(format!("cannot start {}: {error}", setup.program.display()))
        })?;
        interrupt.remember(child.id());
        let remote = Remote { stdin: Arc::new(Mutex::new(child.stdin.take())) };
        let (sender, messages) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines() {
                    let Ok(line) = line else { break };
                    if sender.send(parse(&line)).is_err() {
                        break;
                    }
                }
            });
        }
        let interrupt = interrupt.clone();
        Ok(Self { child, remote, messages, stderr_path, interrupt, reaped: false })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a command; one that has ended does not hear it, which its end will tell.
    pub fn send(&mut self, command: &Command) {
        self.remote.send(command);
    }

    /// The way to it for another thread.
    pub fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// Waits for the next message.
    pub fn next(&self, timeout: Duration) -> Next {
        match self.messages.recv_timeout(timeout) {
            Ok(message) => Next::Message(message),
            Err(RecvTimeoutError::Timeout) => Next::Nothing,
            Err(RecvTimeoutError::Disconnected) => Next::End,
        }
    }

    /// Asks it to end now and keep its results.
    pub fn interrupt(&self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
        }
    }

    /// Waits until it has ended, and kills it at the deadline.
    pub fn finish(mut self, deadline_ns: u64) -> Finished {
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    self.interrupt.forget(self.child.id());
                    self.reaped = true;
                    return Finished {
                        exit_code: status.code(),
                        stderr_tail: tail(&self.stderr_path),
                        at_ns: clock::mono_ns(),
                    };
                }
                Ok(None) => {
                    if clock::mono_ns() >= deadline_ns {
                        kill_group(self.child.id());
                    }
                    clock::sleep_ns(SECOND_NS / 100);
                }
                Err(error) => {
                    return Finished {
                        exit_code: None,
                        stderr_tail: format!("cannot wait for it: {error}"),
                        at_ns: clock::mono_ns(),
                    };
                }
            }
        }
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        if !self.reaped {
            kill_group(self.child.id());
            self.interrupt.forget(self.child.id());
            let _ = self.child.wait();
        }
    }
}

/// The line that a person sees. Requests that were due and never sent are named only if there are
/// any: they are no part of "sent".
pub fn progress_line(stage: &str, elapsed_s: u64, status: &Status) -> String {
    let dropped = match status.dropped {
        0 => String::new(),
        dropped => format!(" | Never sent: {dropped}"),
    };
    format!(
        "{stage} [{elapsed_s:>3}s] Connections: {} | Sessions: {} | Sent: {} | Success: {} | \
         Failed: {} | Avg Latency: {}{dropped}",
        status.tcp_open,
        status.session_alive,
        status.sent,
        status.ok,
        status.failed,
        latency_label(status.avg_ns)
    )
}

/// `65ms`, `0.42ms`, or `-` if nothing was answered.
fn latency_label(latency_ns: Option<u64>) -> String {
    match latency_ns.map(|ns| ns as f64 / 1e6) {
        None => "-".to_owned(),
        Some(ms) if ms < 10.0 => format!("{ms:.2}ms"),
        Some(ms) => format!("{ms:.0}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::plan::{Blow, Profile, Wanted, plan};

    fn setup(protocol: Protocol) -> Setup {
        Setup {
            program: PathBuf::from("loadgen"),
            launcher: Launcher::default(),
            protocol,
            mcp_revision: "2025-06-18".to_owned(),
            heartbeat_ns: 30 * SECOND_NS,
            options: vec!["--ca=ca.pem".to_owned()],
        }
    }

    #[test]
    fn a_stage_becomes_a_command_line() {
        let stages = plan(&Wanted {
            profile: Profile::Quick,
            connections: 1_000,
            replicas: 2,
            rate_per_s: Some(12.5),
            heartbeat_ns: 30 * SECOND_NS,
            fixed: None,
            failover: Some(Blow::Kill),
            rolling_update: false,
            scaling: true,
        });
        let urls = ["http://127.0.0.11:8080/mcp".to_owned()];
        let line = |stage: &Stage| {
            arguments(&setup(Protocol::Mcp), stage, &urls, Path::new("l"), Path::new("j")).join(" ")
        };
        assert_eq!(
            line(&stages[1]),
            "--control --connections 1000 --ramp 8000 --rate 12.5 --duration 31.500s --warmup 1s \
             --heartbeat 30s --log l --json j --protocol mcp --mcp-revision 2025-06-18 \
             --ca=ca.pem http://127.0.0.11:8080/mcp"
        );
        let failover = stages.iter().find(|s| s.name == "failover").expect("is planned");
        assert!(line(failover).contains("--duration 0s "), "{}", line(failover));
    }

    #[test]
    fn headers_come_from_files_only() {
        let check = |line: &str| {
            let options: Vec<String> = line.split('|').map(str::to_owned).collect();
            check_options(&options)
        };
        for line in [
            "--header=Authorization: Bearer S3CRET",
            "-HX-Tenant: S3CRET",
            "--ca=ca.pem|--header|X-Tenant: S3CRET",
            "-H|X-Tenant: S3CRET",
            "-H|@file|-H|X-Tenant: S3CRET",
        ] {
            let error = check(line).expect_err(line);
            assert!(error.message.contains("--header=@FILE"), "{error}");
            assert!(!error.message.contains("S3CRET"), "{error}");
        }
        for line in
            ["--header=@file", "-H@file|--ca=ca.pem", "--header|@file", "--bearer-env=TOKEN"]
        {
            check(line).expect(line);
        }
    }

    #[test]
    fn lines_are_told_apart_and_unknown_ones_do_no_harm() {
        let line = r#"{"type":"status","t_ns":5,"phase":"hold","session_alive":7,"avg_ns":null}"#;
        let Message::Status(status) = parse(line) else { panic!("a status") };
        assert_eq!((status.t_ns, status.session_alive, status.tcp_open), (5, 7, 0));
        let line = r#"{"type":"status","planned":9,"avg_ns":null,"p99_ns":null}"#;
        let Message::Status(status) = parse(line) else { panic!("a status before any answer") };
        assert_eq!((status.planned, status.avg_ns), (9, None));
        assert_eq!(
            parse(r#"{"type":"error","message":"no route"}"#),
            Message::Error("no route".to_owned())
        );
        assert_eq!(parse(r#"{"type":"done","ok":1}"#), Message::Done);
        for odd in ["", "text", "[]", r#"{"type":"status","t_ns":"x"}"#] {
            assert_eq!(parse(odd), Message::Other(odd.to_owned()));
        }
    }

    #[test]
    fn commands_are_one_line_each() {
        let text = "two\nlines \"quoted\"".to_owned();
        let line = Command::Mark { name: "kill".to_owned(), text }.line();
        assert_eq!(line.matches('\n').count(), 1);
        let targets = Command::Targets { urls: vec!["http://a".to_owned()], rebalance: true };
        let value: Value = serde_json::from_str(&targets.line()).expect("is JSON");
        assert_eq!(value, json!({"cmd": "targets", "urls": ["http://a"], "rebalance": true}));
    }

    #[test]
    fn the_progress_line_is_the_documented_one() {
        let status = Status {
            tcp_open: 100_000,
            session_alive: 99_998,
            sent: 7,
            ok: 5,
            failed: 2,
            avg_ns: Some(65_200_000),
            ..Status::default()
        };
        assert_eq!(
            progress_line("stress-100k", 60, &status),
            "stress-100k [ 60s] Connections: 100000 | Sessions: 99998 | Sent: 7 | Success: 5 | \
             Failed: 2 | Avg Latency: 65ms"
        );
        let dropping = progress_line("a", 1, &Status { dropped: 3, ..status });
        assert!(dropping.ends_with(" | Never sent: 3"), "{dropping}");
        assert_eq!(latency_label(None), "-");
        assert_eq!(latency_label(Some(421_000)), "0.42ms");
    }
}
