//! The official Rust SDK, in the server that the stack deploys: both eras, over HTTP and lines.

use std::process::Command;

use latlog::{EventKind, Outcome};

use crate::checks::{self, Held};
use crate::harness::{Server, binary, each, insist, place};
use crate::run::{Run, Running};

pub const NAME: &str = "rmcp (erlmcp-server)";

/// The server; `ports` are those of HTTP, lines and metrics, 0 for any.
fn serve_on(ports: [u16; 3], options: &[&str]) -> Option<Server> {
    let mut command = Command::new(binary("erlmcp-server", "ERLMCP_SERVER")?);
    for (option, port) in ["--port", "--tcp-port", "--metrics-port"].iter().zip(ports) {
        command.args([option, port.to_string().as_str()]);
    }
    command.args(["--bind", "127.0.0.1", "--log", "info"]).args(options);
    Some(Server::start(&mut command, "listening:", false))
}

pub fn serve(options: &[&str]) -> Option<Server> {
    serve_on([0; 3], options)
}

/// A value of the server's `/metrics`.
pub fn metric(server: &Server, name: &str) -> u64 {
    let text = server.get("/metrics", "/metrics");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {text}")).trim().parse().expect("a number")
}

/// Waits until the server has no session.
pub fn sessions_left(server: &Server) -> u64 {
    let mut open = 0;
    let looks = 100;
    for _ in 0..looks {
        open = metric(server, "erlmcp_sessions_open");
        if open == 0 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    open
}

#[test]
fn every_mode_and_revision() {
    let modes: &[(&str, &[&str], &str, &str, &str)] = &[
        ("SSE answers", &[], "/mcp", "auto", "2026-07-28"),
        ("SSE answers", &[], "/mcp", "sessions", "2025-11-25"),
        ("SSE answers", &[], "/mcp", "2025-06-18", "2025-06-18"),
        ("SSE answers", &[], "/mcp", "2025-03-26", "2025-03-26"),
        ("JSON answers", &["--json-response"], "/mcp", "auto", "2026-07-28"),
        ("JSON answers", &["--json-response"], "/mcp", "sessions", "2025-11-25"),
        ("the SDK's session manager", &["--sessions", "sdk"], "/mcp", "sessions", "2025-11-25"),
        ("stateless", &["--stateless"], "/mcp", "sessions", "2025-11-25"),
        ("lines over TCP", &[], "tcp://", "auto", "2026-07-28"),
        ("lines over TCP", &[], "tcp://", "sessions", "2025-11-25"),
    ];
    each(modes, |&(mode, options, part, revision, speaks)| {
        let Some(server) = serve(options) else { return };
        let url = server.url(part);
        Held { server: NAME, mode, url, revision, speaks }.check();
        // Over lines a session is its connection, and not counted there.
        if speaks != "2026-07-28" && mode != "stateless" && part == "/mcp" {
            let created = metric(&server, "erlmcp_sessions_created_total") as usize;
            checks::only_ours(NAME, mode, created);
            checks::all_deleted(NAME, mode, sessions_left(&server));
        }
    });
}

#[test]
fn the_session_limit_is_that_reason() {
    let _place = place();
    let Some(server) = serve(&["--max-sessions", "30"]) else { return };
    checks::limit(NAME, server.url("/mcp"), 30);
}

#[test]
fn expired_sessions_are_opened_anew() {
    let _place = place();
    let Some(server) = serve(&["--session-ttl", "2"]) else { return };
    checks::expiry(NAME, server.url("/mcp"));
}

#[test]
fn a_restarted_server_gets_every_session_again() {
    const N: u64 = 40;
    let _place = place();
    let Some(server) = serve(&[]) else { return };
    let url = server.url("/mcp").to_owned();
    let port = |part| {
        let authority = server.url(part).split('/').nth(2).expect("authority");
        authority.rsplit(':').next().expect("port").parse::<u16>().expect("a number")
    };
    let ports = [port("/mcp"), port("tcp://"), port("/metrics")];
    let line = format!("-c {N} -r 40 -d 0 --heartbeat 60s --mcp-revision sessions {url}");
    let mut running = Running::start(&line);
    running.until("answers", |s| s["ok"].as_u64() >= Some(N));
    server.kill();
    running.until("every loss", |s| s["session_established"] == 0);
    let server = serve_on(ports, &[]).expect("as before");
    let again = running.until("every session", |s| s["session_established"] == N);
    let before = again["ok"].as_u64().expect("a number");
    running.until("answers again", |s| s["ok"].as_u64() >= Some(before + 2 * N));
    running.tell(&serde_json::json!({"cmd": "end"}));
    let run = running.finish();
    let expected = "40 opened, 40 lost, 40 opened again; 40 created by the new server; initialize \
                    and verify say why";
    let said_why = run.requests("initialize", Outcome::Ok) == 80
        && run.requests("verify", Outcome::SessionGone) == 40;
    let found = format!(
        "{} opened, {} lost, {} opened again; {} created by the new server; initialize and verify \
         {}",
        run.sessions(EventKind::Alive).len(),
        run.sessions(EventKind::SessionLost).len(),
        run.events(EventKind::Alive) - run.sessions(EventKind::Alive).len(),
        metric(&server, "erlmcp_sessions_created_total"),
        if said_why { "say why" } else { "do not" },
    );
    insist(NAME, "killed and started again", expected, &found, &run.context());
    checks::all_deleted(NAME, "killed and started again", sessions_left(&server));
}

#[test]
fn a_server_that_ends_in_good_order_ends_no_request_that_it_took() {
    let _place = place();
    let Some(server) = serve(&["--grace", "5"]) else { return };
    let mut running = Running::start(&format!(
        "-c 20 -r 100 -d 0 --timeout 2s --heartbeat 60s --mcp-revision sessions {}",
        server.url("/mcp")
    ));
    running.until("answers", |s| s["ok"].as_u64() >= Some(200));
    server.terminate();
    running.until("every loss", |s| s["session_established"] == 0);
    running.tell(&serde_json::json!({"cmd": "end"}));
    let run = running.finish();
    let answered = run.requests("call", Outcome::Ok);
    let given_up = run.requests("call", Outcome::Dropped);
    let rest = run.requests.iter().filter(|r| r.op == 5).count() - answered - given_up;
    crate::harness::row(
        NAME,
        "SIGTERM under load",
        "0 requests cut off",
        &format!("{rest} cut off"),
    );
    assert!(rest <= 20, "at most one a session: {}", run.context());
}

#[test]
fn a_revision_that_is_none_is_refused() {
    let run = Run::load("-c 1 --mcp-revision 2099-01-01 http://127.0.0.1:1/");
    assert_eq!(run.code, Some(2), "{}", run.said);
    assert_eq!(run.said.trim().lines().count(), 1, "{}", run.said);
}
