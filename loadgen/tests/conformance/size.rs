//! 10,000 sessions against one server of each kind, to the unit: opened, kept, lost by reason,
//! called, deleted. Takes minutes, and so runs only where `CONFORMANCE_SIZE` says how many:
//!
//!     CONFORMANCE_SIZE=10000 cargo test --release -p loadgen --test conformance size
//!
//! `CONFORMANCE_LOGS` names a directory that keeps the latency logs, for `reporter dump`.

use latlog::EventKind;

use crate::checks::ASKING;
use crate::harness::{Sdk, alone, insist};
use crate::rmcp;
use crate::run::Run;

/// Calls a second: what one Python process answers beside the connections that come back to it.
const RATE_PER_S: usize = 250;

fn size() -> Option<usize> {
    std::env::var("CONFORMANCE_SIZE").ok()?.parse().ok()
}

/// Each session is called once, in the order in which they stood, so that none can be missing
/// unseen: whoever is free for longest is next.
fn load(name: &str, url: &str, sessions: usize, given: impl FnOnce() -> (u64, u64)) {
    let seconds = sessions.div_ceil(RATE_PER_S);
    let calls = seconds * RATE_PER_S;
    let run = Run::load(&format!(
        "-c {sessions} -r {RATE_PER_S} -d {seconds}s --ramp 1000 --heartbeat 600s --mcp-revision \
         sessions {url}"
    ));
    let (given, left) = given();
    let lost: Vec<String> = run
        .events
        .iter()
        .filter(|(_, e)| e.kind == EventKind::SessionLost)
        .map(|(_, e)| e.outcome.to_string())
        .collect();
    let report = |opened: usize, lost: usize, calls: &str, deleted: &str, given: u64, left: u64| {
        format!(
            "{opened} opened, {lost} lost; calls {calls}; DELETE {deleted}; the server gave {given} \
             and keeps {left}"
        )
    };
    let opened = run.sessions(EventKind::Alive).len();
    let found = report(opened, lost.len(), &run.ended("call"), &run.ended("delete"), given, left);
    let all = format!("{sessions} ok");
    let expected = report(sessions, 0, &format!("{calls} ok"), &all, (sessions + ASKING) as u64, 0);
    let mode = format!("{sessions} sessions, exact accounting");
    insist(name, &mode, &expected, &found, &format!("{lost:?}\n{}", run.context()));
}

#[test]
fn so_many_sessions_of_python_are_accounted_for() {
    let Some(sessions) = size() else { return };
    let _alone = alone();
    let limit = (2 * sessions).to_string();
    let Some(server) = Sdk::Two.serve(&["--max-sessions", &limit]) else { return };
    load(&Sdk::Two.name(), server.url("http"), sessions, || {
        let count = server.count();
        eprintln!("{count}");
        let number = |name: &str| count[name].as_u64().expect("a number");
        (number("sessions_given"), number("sessions_open"))
    });
}

#[test]
fn so_many_sessions_of_rmcp_are_accounted_for() {
    let Some(sessions) = size() else { return };
    let _alone = alone();
    let Some(server) = rmcp::serve(&[]) else { return };
    load(rmcp::NAME, server.url("/mcp"), sessions, || {
        (rmcp::metric(&server, "erlmcp_sessions_created_total"), rmcp::sessions_left(&server))
    });
}
