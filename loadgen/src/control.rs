//! The machine's side: commands to the generator and what it says, both one JSON object a line.
//! Over standard input and output, or over one TCP connection.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::Cli;
use crate::clock::anchor;
use crate::plan::Plan;
use crate::setup::SetupError;

/// How long one that listens waits for its driver, and for each of its orders around the run.
const DRIVER: Duration = Duration::from_secs(300);
/// How long an open port is looked at for the driver's connection.
const ACCEPT_EVERY: Duration = Duration::from_millis(10);

/// What a driving program may ask for.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(tag = "cmd", rename_all = "snake_case")]
pub enum Command {
    /// The whole list of targets that are wanted from now on.
    Targets {
        /// As on the command line.
        urls: Vec<String>,
        /// Whether sessions are spread evenly over them.
        #[serde(default)]
        rebalance: bool,
    },
    /// A remark for the log.
    Mark {
        /// Its name.
        name: String,
        /// The remark.
        #[serde(default)]
        text: String,
    },
    /// What this host's clocks show: answered at once.
    Clock,
    /// Begin the ramp at this time of this host's clock. One that listens waits for it.
    Start {
        /// `CLOCK_REALTIME`
        at_real_ns: u64,
    },
    /// Begin the schedule, warm-up first. One that listens waits for it with its sessions.
    Hold {
        /// `CLOCK_REALTIME`
        at_real_ns: u64,
    },
    /// Send the log's file, once the run is over.
    Fetch,
    /// End the load now; after the run: exit.
    End,
}

/// A command, or why a line is none.
pub type Heard = Result<Command, String>;

/// The two directions; clones share them.
#[derive(Clone)]
pub struct Link {
    commands: Receiver<Heard>,
    out: Arc<Mutex<Box<dyn Write + Send>>>,
    /// Whether the driver decides when the ramp and the schedule begin.
    pub gated: bool,
}

impl Link {
    /// What the command line asks for; none for a person. Waits for the driver's connection.
    ///
    /// # Errors
    /// The address cannot be used, or nobody comes.
    pub fn open(cli: &Cli) -> Result<Option<Self>, SetupError> {
        match (cli.control, cli.control_listen) {
            (_, Some(address)) => Self::listen(address).map(Some),
            (true, None) => Ok(Some(Self::standard())),
            (false, None) => Ok(None),
        }
    }

    fn standard() -> Self {
        let out: Arc<Mutex<Box<dyn Write + Send>>> = Arc::new(Mutex::new(Box::new(io::stdout())));
        let commands = read_commands(|| BufReader::new(io::stdin()), out.clone(), None);
        Self { commands, out, gated: false }
    }

    fn listen(address: SocketAddr) -> Result<Self, SetupError> {
        let failed = |e: io::Error| {
            SetupError::Host(format!("--control-listen {address}: {e}: see `ss -ltnp`"))
        };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let mut waited = Duration::ZERO;
        let stream = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && waited < DRIVER => {
                    std::thread::sleep(ACCEPT_EVERY);
                    waited += ACCEPT_EVERY;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let text = format!("nobody came to {address} within {} s", DRIVER.as_secs());
                    return Err(SetupError::Host(text));
                }
                Err(e) => return Err(failed(e)),
            }
        };
        Self::over(stream).map_err(failed)
    }

    fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        // A driver that reads no more must not stop the run.
        stream.set_write_timeout(Some(Duration::from_secs(20)))?;
        let reader = stream.try_clone()?;
        let out: Arc<Mutex<Box<dyn Write + Send>>> = Arc::new(Mutex::new(Box::new(stream)));
        // A driver that is gone can order nothing more: the load ends.
        let commands = read_commands(|| BufReader::new(reader), out.clone(), Some(Command::End));
        Ok(Self { commands, out, gated: true })
    }

    /// Says something; a driver that is gone does not hear it.
    pub fn say(&self, value: &Value) {
        say(&self.out, value);
    }

    /// What was ordered since the last look.
    pub fn orders(&self) -> impl Iterator<Item = Heard> + '_ {
        self.commands.try_iter()
    }

    /// Says what was planned and waits for the start; when that is, `CLOCK_MONOTONIC`.
    ///
    /// # Errors
    /// The driver is gone or orders nothing.
    pub fn await_start(&self, plan: &Plan) -> Result<Option<u64>, SetupError> {
        if !self.gated {
            return Ok(None);
        }
        self.say(&json!({
            "type": "ready", "connections": plan.connections, "sessions": plan.sessions,
            "rate_per_s": plan.rate_per_s,
            "targets": plan.targets.len(), "workers": plan.workers,
            "engine": plan.engine.engine.name(), "engine_because": plan.engine.refusal,
        }));
        loop {
            match self.commands.recv_timeout(DRIVER) {
                Ok(Ok(Command::Start { at_real_ns })) => return Ok(Some(mono_ns(at_real_ns))),
                Ok(Ok(Command::End)) | Err(RecvTimeoutError::Disconnected) => {
                    return Err(SetupError::Host("its driver went away before the start".into()));
                }
                Err(RecvTimeoutError::Timeout) => {
                    let text = format!("no start was ordered within {} s", DRIVER.as_secs());
                    return Err(SetupError::Host(text));
                }
                Ok(Ok(other)) => {
                    self.say(&json!({"type": "error", "message": format!("too early: {other:?}")}));
                }
                Ok(Err(cause)) => self.say(&json!({"type": "error", "message": cause})),
            }
        }
    }

    /// After the run: hands the log over as often as it is asked for, until told to end.
    pub fn hand_over(&self, log: Option<&Path>) {
        if !self.gated {
            return;
        }
        loop {
            match self.commands.recv_timeout(DRIVER) {
                Ok(Ok(Command::Fetch)) => {
                    if let Err(e) = self.send_file(log) {
                        self.say(&json!({"type": "error", "message": format!("the log: {e}")}));
                    }
                }
                Ok(Ok(Command::End)) | Err(_) => return,
                Ok(Ok(_) | Err(_)) => {}
            }
        }
    }

    /// One line with the size, then the bytes.
    fn send_file(&self, path: Option<&Path>) -> io::Result<()> {
        let path = path.ok_or_else(|| io::Error::other("there is none: --log was not given"))?;
        let mut file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(out, "{}", json!({"type": "file", "name": name, "bytes": bytes}))?;
        io::copy(&mut (&mut file).take(bytes), out.as_mut())?;
        out.flush()
    }
}

/// A time of this host's real clock on its monotonic one.
pub fn mono_ns(at_real_ns: u64) -> u64 {
    let now = anchor();
    now.mono_ns.saturating_add(at_real_ns).saturating_sub(now.real_ns)
}

fn say(out: &Mutex<Box<dyn Write + Send>>, value: &Value) {
    let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = writeln!(out, "{value}").and_then(|()| out.flush());
}

/// Reads commands on a thread of its own; a line that is none comes as an error with its cause.
/// At the end of the input `last` is what it ordered, if that means anything.
fn read_commands<R: BufRead + 'static>(
    input: impl FnOnce() -> R + Send + 'static,
    out: Arc<Mutex<Box<dyn Write + Send>>>,
    last: Option<Command>,
) -> Receiver<Heard> {
    let (send, receive) = unbounded();
    let reader = move || {
        take_lines(input(), &out, &send);
        if let Some(command) = last {
            let _ = send.send(Ok(command));
        }
    };
    // Not joined: it may wait for a line for ever, and ends with the process.
    let _ = std::thread::Builder::new().name("control".into()).spawn(reader);
    receive
}

fn take_lines(input: impl BufRead, out: &Mutex<Box<dyn Write + Send>>, send: &Sender<Heard>) {
    for line in input.lines() {
        let Ok(line) = line else { return };
        if line.trim().is_empty() {
            continue;
        }
        let command = parse(&line);
        // Here and not by the coordinator, which looks at its orders only now and then.
        if command == Ok(Command::Clock) {
            let now = anchor();
            say(out, &json!({"type": "clock", "real_ns": now.real_ns, "mono_ns": now.mono_ns}));
        } else if send.send(command).is_err() {
            return;
        }
    }
}

fn parse(line: &str) -> Heard {
    serde_json::from_str(line).map_err(|e| format!("not a command: {e}"))
}

/// Joins standard input and output to a generator that listens, wherever it is.
///
/// # Errors
/// It cannot be reached.
pub fn relay(address: SocketAddr) -> io::Result<()> {
    let mut tries = 0;
    let stream = loop {
        match TcpStream::connect_timeout(&address, Duration::from_secs(2)) {
            Ok(stream) => break stream,
            Err(e) if tries == 100 => return Err(e),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
        tries += 1;
    };
    stream.set_nodelay(true)?;
    let mut to = stream.try_clone()?;
    std::thread::spawn(move || {
        // Copied as it comes: `io::copy` from standard input would wait for its buffer to fill.
        let (mut input, mut buffer) = (io::stdin(), [0; 4096]);
        while let Ok(count) = input.read(&mut buffer) {
            if count == 0 || to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
    let (mut from, mut output, mut buffer) = (stream, io::stdout(), [0; 65_536]);
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        output.write_all(&buffer[..count])?;
        output.flush()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_parse() {
        assert_eq!(parse(r#"{"cmd":"end"}"#), Ok(Command::End));
        let targets = parse(r#"{"cmd":"targets","urls":["http://a"],"rebalance":true}"#);
        assert_eq!(
            targets,
            Ok(Command::Targets { urls: vec!["http://a".into()], rebalance: true })
        );
        let mark = Command::Mark { name: "kill".into(), text: String::new() };
        assert_eq!(parse(r#"{"cmd":"mark","name":"kill"}"#), Ok(mark));
        assert_eq!(
            parse(r#"{"cmd":"start","at_real_ns":7}"#),
            Ok(Command::Start { at_real_ns: 7 })
        );
        assert!(parse("end").is_err() && parse(r#"{"cmd":"fly"}"#).is_err());
    }

    #[test]
    fn a_driver_over_tcp_asks_for_the_clock_gets_the_log_and_its_end_is_an_order() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let mut driver =
            TcpStream::connect(listener.local_addr().expect("has one")).expect("connects");
        let link = Link::over(listener.accept().expect("accepts").0).expect("a link");
        let mut lines = BufReader::new(driver.try_clone().expect("clones"));
        let mut next = || {
            let mut line = String::new();
            lines.read_line(&mut line).expect("reads");
            serde_json::from_str::<Value>(&line).expect("is JSON")
        };
        driver.write_all(b"{\"cmd\":\"clock\"}\n").expect("writes");
        assert_eq!(next()["type"], "clock", "answered without anybody looking at orders");

        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("h-1.latlog");
        std::fs::write(&path, b"\x00\nbytes").expect("writes");
        driver.write_all(b"{\"cmd\":\"fetch\"}\n{\"cmd\":\"fly\"}\n").expect("writes");
        driver.shutdown(std::net::Shutdown::Write).expect("closes");
        // Ends because the driver went away, which is the order to.
        link.hand_over(Some(&path));
        assert_eq!(next(), json!({"type": "file", "name": "h-1.latlog", "bytes": 7}));
        let mut bytes = [0; 7];
        lines.read_exact(&mut bytes).expect("reads");
        assert_eq!(&bytes, b"\x00\nbytes");
    }

    #[test]
    fn a_real_time_keeps_its_distance_on_the_monotonic_clock() {
        let now = anchor();
        let then = mono_ns(now.real_ns + 5_000_000_000);
        let distance = then - now.mono_ns;
        assert!((4_900_000_000..5_100_000_000).contains(&distance), "{distance}");
    }
}
