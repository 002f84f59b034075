//! A generator that is driven over TCP, as one of several: it waits for its start and for its hold,
//! says where it stands, shows its counts to Prometheus, and hands its log over at the end.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use latlog::{BlockKind, LogReader};
use loadgen::clock::real_ns;
use serde_json::{Value, json};
use support::server::{Kind, Server};

/// A port that was free a moment ago.
fn port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    listener.local_addr().expect("has one")
}

fn connect(address: SocketAddr) -> TcpStream {
    for _ in 0..500 {
        if let Ok(stream) = TcpStream::connect(address) {
            return stream;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("nobody listens at {address}");
}

struct Driven {
    child: Child,
    stream: TcpStream,
    lines: BufReader<TcpStream>,
    metrics: SocketAddr,
}

impl Driven {
    fn start(url: &str, dir: &std::path::Path) -> Self {
        let (control, metrics) = (port(), port());
        let child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
            .args(["-c", "20", "-r", "100", "-d", "1s", "--seed", "1", "--all-addresses"])
            .args(["--control-listen", &control.to_string(), "--metrics", &metrics.to_string()])
            .arg("--log")
            .arg(dir)
            .arg(url)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let stream = connect(control);
        let lines = BufReader::new(stream.try_clone().expect("clones"));
        Self { child, stream, lines, metrics }
    }

    fn order(&mut self, command: &Value) {
        writeln!(self.stream, "{command}").expect("it listens");
    }

    /// The next message of a kind for which it holds.
    fn until(&mut self, kind: &str, met: impl Fn(&Value) -> bool) -> Value {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.lines.read_line(&mut line).expect("reads") > 0, "it ended before {kind}");
            let value: Value = serde_json::from_str(&line).expect("is JSON");
            assert_ne!(value["type"], "error", "{value}");
            if value["type"] == kind && met(&value) {
                return value;
            }
        }
    }

    fn page(&self) -> String {
        let mut stream = connect(self.metrics);
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").expect("writes");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("reads");
        page
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn value_of(page: &str, series: &str) -> f64 {
    let line = page.lines().find(|line| line.starts_with(&format!("{series} ")));
    let line = line.unwrap_or_else(|| panic!("{series} is not in {page}"));
    line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("is a number")
}

#[test]
fn it_begins_when_told_counts_when_told_and_hands_its_log_over() {
    let server = Server::start(Kind::Mcp);
    let dir = tempfile::tempdir().expect("a folder");
    let mut driven = Driven::start(&server.url(), dir.path());
    let ready = driven.until("ready", |_| true);
    assert_eq!((&ready["connections"], &ready["targets"]), (&json!(20), &json!(1)));

    driven.order(&json!({"cmd": "clock"}));
    let there_ns = driven.until("clock", |_| true)["real_ns"].as_u64().expect("a time");
    assert!(there_ns.abs_diff(real_ns()) < 60_000_000_000);
    let start_ns = real_ns() + 300_000_000;
    driven.order(&json!({"cmd": "start", "at_real_ns": start_ns}));
    let status = driven.until("status", |status| status["ramped"] == true);
    assert!(real_ns() >= start_ns);
    assert_eq!((&status["phase"], &status["sent"]), (&json!("ramp"), &json!(0)), "it waits");

    let page = driven.page();
    assert_eq!(value_of(&page, "loadgen_sessions_established"), 20.0);
    assert_eq!(value_of(&page, "loadgen_phase{phase=\"ramp\"}"), 1.0);
    driven.order(&json!({"cmd": "mark", "name": "kill", "text": "10.0.0.1"}));
    let hold_ns = real_ns() + 200_000_000;
    driven.order(&json!({"cmd": "hold", "at_real_ns": hold_ns}));
    let done = driven.until("done", |_| true);
    assert_eq!(done["stage"]["requests"]["ok"], 100);

    driven.order(&json!({"cmd": "fetch"}));
    let file = driven.until("file", |_| true);
    let mut bytes =
        vec![0; usize::try_from(file["bytes"].as_u64().expect("a size")).expect("fits")];
    driven.lines.read_exact(&mut bytes).expect("all of it");
    driven.order(&json!({"cmd": "end"}));
    assert!(driven.child.wait().expect("ends").success());

    let path = dir.path().join("copy.latlog");
    std::fs::write(&path, &bytes).expect("writes");
    let mut reader = LogReader::open(&path).expect("is a log");
    let offset = {
        let start = reader.header().start;
        i128::from(start.real_ns) - i128::from(start.mono_ns)
    };
    let mut phases = Vec::new();
    for block in reader.blocks() {
        let block = block.expect("is sound");
        if block.kind() == BlockKind::Notes {
            phases.extend(block.notes().map(|note| note.expect("is sound")));
        }
    }
    assert!(reader.damage().is_none(), "the log is whole");
    let at = |name: &str, text: &str| {
        let note = phases.iter().find(|note| note.name == name && note.text.starts_with(text));
        i128::from(note.unwrap_or_else(|| panic!("no {name} {text}")).at_ns) + offset
    };
    // Without a warm-up the counted part begins when it was ordered, and not when it was ready.
    let late_ns = at("phase", "hold") - i128::from(hold_ns);
    assert!((-1_000_000..1_000_000_000).contains(&late_ns), "{late_ns}");
    assert!(at("mark", "kill 10.0.0.1") > at("phase", "ramp"));
}

#[test]
fn a_driver_that_goes_away_takes_the_generator_with_it() {
    let server = Server::start(Kind::Mcp);
    let dir = tempfile::tempdir().expect("a folder");
    let mut driven = Driven::start(&server.url(), dir.path());
    driven.until("ready", |_| true);
    driven.order(&json!({"cmd": "start", "at_real_ns": real_ns()}));
    driven.until("status", |status| status["ramped"] == true);
    driven.stream.shutdown(std::net::Shutdown::Both).expect("closes");
    // It ends although nobody ever told it to begin its schedule.
    assert!(driven.child.wait().expect("ends").success());

    let mut driven = Driven::start(&server.url(), dir.path());
    driven.until("ready", |_| true);
    driven.stream.shutdown(std::net::Shutdown::Both).expect("closes");
    assert_eq!(driven.child.wait().expect("ends").code(), Some(4), "before the start");
}

#[test]
fn a_pipe_is_joined_to_it_by_the_relay() {
    let server = Server::start(Kind::Mcp);
    let dir = tempfile::tempdir().expect("a folder");
    let control = port();
    let mut child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["-c", "1", "--control-listen", &control.to_string(), &server.url()])
        .args(["--log"])
        .arg(dir.path())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut relay = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["--relay", &control.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(relay.stdout.take().expect("is piped"));
    let mut input = relay.stdin.take().expect("is piped");
    let mut line = String::new();
    lines.read_line(&mut line).expect("reads");
    assert!(line.contains("\"ready\""), "{line}");
    input.write_all(b"{\"cmd\":\"clock\"}\n").expect("writes");
    line.clear();
    lines.read_line(&mut line).expect("reads");
    assert!(line.contains("\"clock\""), "{line}");
    drop(input);
    assert_eq!(child.wait().expect("ends").code(), Some(4), "its driver is gone");
    assert!(relay.wait().expect("ends").success());
}
