//! Health, metrics, limits, start and end.

use std::{io::Read as _, net::TcpListener};

use nix::sys::{
    resource::{Resource, getrlimit},
    signal::Signal,
};
use serde_json::{Value, json};

use crate::{
    raw::{Session, call, metric, open, read_until, request, send, until},
    server::{Server, command},
};

fn health(server: &Server) -> (u16, Value) {
    let response = send(&server.http, "GET", "/health", &[], "");
    assert_eq!(response.header("content-type"), Some("application/json"));
    (response.status, serde_json::from_str(&response.body).unwrap())
}

#[test]
fn health_counts() {
    let server = Server::start(&[]);
    Session::new(&server.http, "2025-11-25");
    let (status, body) = health(&server);
    assert_eq!((status, &body["status"], &body["sessions"]), (200, &json!("ok"), &json!(1)));
    assert!(body["uptime_s"].as_f64().unwrap() >= 0.0);
    assert!(body["connections"]["http"].as_u64().unwrap() >= 1);
    assert_eq!(body["connections"]["tcp"], 0);
}

#[test]
fn metrics_name_what_is_promised() {
    let server = Server::start(&[]);
    let session = Session::new(&server.http, "2025-11-25");
    session.post(&call(2, "echo", json!({"text": "hi"}))).message();
    let response = send(&server.metrics, "GET", "/metrics", &[], "");
    assert!(response.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    assert!(response.body.ends_with("# EOF\n"));
    let at_least = |series: &str, least: f64| {
        let value = metric(&server.metrics, series);
        assert!(value >= least, "{series} is {value}");
    };
    let of = |method: &str| {
        format!("erlmcp_requests_total{{transport=\"http\",method=\"{method}\",outcome=\"ok\"}}")
    };
    for method in ["initialize", "notifications/initialized", "tools/call"] {
        assert_eq!(metric(&server.metrics, &of(method)), 1.0, "{}", response.body);
    }
    assert_eq!(metric(&server.metrics, "erlmcp_request_duration_seconds_count"), 3.0);
    at_least("erlmcp_connections_total{transport=\"http\"}", 3.0);
    at_least("process_resident_memory_bytes", 1e6);
    at_least("process_open_fds", 6.0);
    at_least("process_start_time_seconds", 1e9);
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    assert_eq!(metric(&server.metrics, "process_max_fds"), hard as f64);
    assert!(response.body.contains("process_cpu_seconds_total "));
    assert!(response.body.contains("erlmcp_build_info{version=\""));
}

#[test]
fn a_taken_port_is_explained() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for option in ["--port", "--tcp-port", "--metrics-port"] {
        let free = ["--port", "--tcp-port", "--metrics-port"]
            .into_iter()
            .flat_map(|name| [name, if name == option { port.as_str() } else { "0" }]);
        let output = command(&free.collect::<Vec<_>>()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("already in use") && text.contains(option), "{text}");
    }
}

#[test]
fn the_environment_equals_the_options() {
    let output = command(&["--port", "0"]).env("BIND", "192.0.2.1").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("no address 192.0.2.1"), "{text}");
    let help = command(&["--help"]).stdout(std::process::Stdio::piped()).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for name in ["BIND", "PORT", "TCP_PORT", "METRICS_PORT", "WORKERS", "SESSION_TTL"] {
        assert!(help.contains(&format!("[env: {name}=")), "{name} in {help}");
    }
}

#[test]
fn signals_end_it_with_exit_code_0() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut server = Server::start(&[]);
        let session = Session::new(&server.http, "2025-11-25");
        let _stream = session.stream();
        let _idle = open(&server.http, "GET", "/health", &[], "", "keep-alive");
        server.signal(signal);
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains("all requests were answered"), "{log}");
    }
}

#[test]
fn requests_in_flight_are_answered_before_the_end() {
    for kind in ["lean", "sdk"] {
        let mut server = Server::start(&["--sessions", kind, "--grace", "60"]);
        let session = Session::new(&server.http, "2025-11-25");
        let body = call(2, "slow", json!({"ms": 700})).to_string();
        let mut slow = open(&server.http, "POST", "/mcp", &session.headers(), &body, "keep-alive");
        session.post(&request(3, "ping", json!({}))).message();
        server.signal(Signal::SIGTERM);
        let mut text = String::new();
        slow.read_to_string(&mut text).unwrap();
        assert!(text.contains("slept 700 ms"), "{text}");
        assert_eq!(server.wait().0.code(), Some(0));
    }
}

#[test]
fn grace_is_bounded() {
    let mut server = Server::start(&["--grace", "0"]);
    let session = Session::new(&server.http, "2025-11-25");
    let body = call(2, "slow", json!({"ms": 60_000})).to_string();
    let _slow = open(&server.http, "POST", "/mcp", &session.headers(), &body, "keep-alive");
    session.post(&request(3, "ping", json!({}))).message();
    server.signal(Signal::SIGTERM);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("cut off"), "{log}");
}

#[test]
fn health_says_stopping_while_draining_and_a_second_signal_ends_it() {
    let mut server = Server::start(&["--drain", "3600"]);
    let session = Session::new(&server.http, "2025-11-25");
    server.signal(Signal::SIGTERM);
    until(|| health(&server).0 == 503);
    assert_eq!(health(&server).1["status"], "stopping");
    assert_eq!(session.post(&request(2, "ping", json!({}))).status, 200);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn a_full_descriptor_table_delays_but_does_not_end_it() {
    let server = Server::start(&[]);
    let pid = Some(server.pid());
    let open_now = metric(&server.metrics, "process_open_fds") as u64;
    let (soft, hard) = limit(pid, None);
    assert_eq!(soft, hard);
    // Room for two more connections than there are now.
    limit(pid, Some((open_now + 2, hard)));
    let mut held: Vec<_> =
        (0..8).map(|_| open(&server.http, "GET", "/health", &[], "", "keep-alive")).collect();
    read_until(&mut held[0], "}");
    limit(pid, Some((soft, hard)));
    for stream in &mut held {
        let text = read_until(stream, "\"uptime_s\"");
        assert!(text.contains("200 OK") || text.contains("uptime_s"), "{text}");
    }
    assert!(metric(&server.metrics, "erlmcp_accept_errors_total{reason=\"shortage\"}") >= 1.0);
}

/// Reads, or sets, the descriptor limit of a process (prlimit(1), util-linux).
fn limit(pid: Option<nix::unistd::Pid>, set: Option<(u64, u64)>) -> (u64, u64) {
    let mut command = std::process::Command::new("prlimit");
    command.arg(format!("--pid={}", pid.unwrap()));
    match set {
        Some((soft, hard)) => command.arg(format!("--nofile={soft}:{hard}")),
        None => command.args(["--nofile", "--raw", "--noheadings", "--output=SOFT,HARD"]),
    };
    let output = command.output().expect("prlimit of util-linux");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut numbers = text.split_ascii_whitespace().map(|word| word.parse().unwrap());
    set.unwrap_or_else(|| (numbers.next().unwrap(), numbers.next().unwrap()))
}
