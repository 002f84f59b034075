//! Faults to order: each is counted under its exact reason, as often as the server committed it,
//! and its first example is kept.

use latlog::{EventKind, Outcome};
use serde_json::Value;

use crate::harness::{Server, binary, insist, place};
use crate::run::Run;

/// As the table names it.
pub const NAME: &str = "fast-target";
/// The load's own words, so that a target that fails the trial request is not loaded with another.
pub const CALL: &str = r#"--call echo --tool-args {"text":"hello"}"#;

/// The target with these options, and its address.
pub fn serve(seed: u32, options: &[&str]) -> Option<(Server, String)> {
    let mut command = std::process::Command::new(binary("fast-target", "FAST_TARGET")?);
    command.args(["--listen", "127.0.0.1:0", "--json-stats", "--spare-handshake"]);
    command.args(["--seed", &seed.to_string()]).args(options);
    let server = Server::start(&mut command, "ready ", true);
    let url = format!("{}/mcp", server.url("http"));
    Some((server, url))
}

/// Its counters, which it prints at its end.
fn counters(server: Server) -> Value {
    let lines = server.terminate();
    let last = lines.last().map(String::as_str).unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {lines:?}"))
}

/// Loads a target that fails now and then, with the first seed that lets the trial request pass.
fn load(options: &[&str]) -> Option<(Run, Value)> {
    for seed in 1..20 {
        let (server, url) = serve(seed, options)?;
        let run = Run::load(&format!("-c 20 -r 200 -d 3s --heartbeat 60s {CALL} {url}"));
        if run.code != Some(2) {
            return Some((run, counters(server)));
        }
    }
    panic!("no seed lets the trial request pass");
}

/// The example of a reason is the first request that ended so.
fn first_example_is_kept(run: &Run, outcome: Outcome, bytes: &str) {
    let first = run.requests.iter().filter(|r| r.outcome == outcome).map(|r| r.done_ns).min();
    let reason = outcome.to_string();
    let examples = run.summary["examples"].as_array().expect("in the summary");
    let of_reason = |e: &&Value| e["reason"].as_str().is_some_and(|r| r.starts_with(&reason));
    let example = examples.iter().find(of_reason).unwrap_or_else(|| panic!("no {reason} example"));
    assert_eq!(example["at_ns"].as_u64(), first, "{example}");
    assert!(example["bytes"].as_str().expect("text").contains(bytes), "{example}");
}

fn share(option: &str, counter: &str, reason: &str, outcome: Outcome, bytes: &str) {
    let _place = place();
    let Some((run, counters)) = load(&[option, "0.1"]) else { return };
    let committed = counters[counter].as_u64().expect("a counter");
    let ok = 600 - committed;
    let expected = format!("{committed} {reason}, as committed");
    let ended = run.ended("call");
    let exact = ended == format!("{committed} {reason}, {ok} ok")
        || ended == format!("{ok} ok, {committed} {reason}");
    let found = if exact { expected.clone() } else { ended };
    insist(NAME, option, &expected, &found, &run.context());
    assert!(committed > 20, "{counters}");
    assert_eq!(run.events(EventKind::SessionLost), 0, "{}", run.context());
    assert_eq!(run.summary["errors"][reason], committed, "{}", run.summary);
    first_example_is_kept(&run, outcome, bytes);
}

#[test]
fn http_errors() {
    let (counter, reason) = ("faults_http_500", "http_status:500");
    share("--error-share", counter, reason, Outcome::HttpStatus, "HTTP/1.1 500");
}

#[test]
fn json_rpc_errors() {
    let (counter, reason) = ("faults_rpc_error", "rpc_error:-32603");
    share("--rpc-error-share", counter, reason, Outcome::RpcError, "-32603");
}

#[test]
fn tool_errors() {
    let (counter, reason) = ("faults_tool_error", "tool_error");
    share("--tool-error-share", counter, reason, Outcome::ToolError, "isError");
}

#[test]
fn resets() {
    let _place = place();
    let Some((run, counters)) = load(&["--reset-share", "0.1"]) else { return };
    let committed = counters["faults_reset"].as_u64().expect("a counter") as usize;
    let calls = run.requests("call", Outcome::Reset);
    let verifications = run.requests("verify", Outcome::Reset);
    let expected = format!("{committed} reset as committed, 0 sessions lost");
    let found = format!(
        "{} reset as committed, {} sessions lost",
        calls + verifications,
        run.events(EventKind::SessionLost)
    );
    insist(NAME, "--reset-share", &expected, &found, &run.context());
    assert_eq!(run.requests("call", Outcome::Ok) + calls, 600, "{}", run.context());
    assert!(calls > 20, "{}", run.context());
    first_example_is_kept(&run, Outcome::Reset, "");
}

#[test]
fn forgotten_sessions() {
    let _place = place();
    let Some((run, counters)) = load(&["--forget-sessions-share", "0.1"]) else { return };
    let committed = counters["sessions_forgotten"].as_u64().expect("a counter") as usize;
    let expected = format!("{committed} session_gone, as many sessions lost and opened again");
    let exact = run.requests("call", Outcome::SessionGone) == committed
        && run.events(EventKind::SessionLost) == committed
        && run.ended("initialize") == format!("{} ok", 20 + committed)
        && run.requests("call", Outcome::Ok) + committed == 600;
    let found = if exact { expected.clone() } else { run.ended("call") };
    insist(NAME, "--forget-sessions-share", &expected, &found, &run.context());
    assert!(committed > 20, "{}", run.context());
    first_example_is_kept(&run, Outcome::SessionGone, "404");
}

#[test]
fn a_forced_revision_that_is_not_spoken_is_named() {
    let _place = place();
    let Some((server, url)) = serve(1, &["--era", "stateless"]) else { return };
    crate::checks::refused(NAME, "--era stateless", &url, "2025-11-25", "but 2026-07-28");
    drop(server);
    let Some((_server, url)) = serve(1, &[]) else { return };
    crate::checks::refused(
        NAME,
        "--era sessions",
        &url,
        "2026-07-28",
        "does not speak MCP 2026-07-28",
    );
}
