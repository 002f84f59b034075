//! What is asked of every server alike: sessions held, refused at a limit, expired and opened anew.

use latlog::{EventKind, Outcome};

use crate::harness::{insist, row};
use crate::run::{Run, Running};

/// A run that asks for what the server has to give: all sessions stand, all requests are answered.
pub struct Held<'a> {
    /// As the table names the server.
    pub server: &'a str,
    /// As the table names its mode.
    pub mode: &'a str,
    /// Where it is.
    pub url: &'a str,
    /// `--mcp-revision`.
    pub revision: &'a str,
    /// What it speaks then.
    pub speaks: &'a str,
}

/// Sessions of a run that checks a mode.
pub const SESSIONS: usize = 50;
const CALLS: usize = 200;
/// Sessions that a run opens to ask the target, before it loads it.
pub const ASKING: usize = 1;

impl Held<'_> {
    /// Runs and insists; what the server says of its sessions is for the caller to add.
    pub fn check(&self) -> Run {
        let run = Run::load(&format!(
            "-c {SESSIONS} -r 100 -d 2s --heartbeat 60s --mcp-revision {} {}",
            self.revision, self.url
        ));
        let expected = format!(
            "speaks {}; {SESSIONS} sessions opened, 0 lost; {CALLS} ok, none pending",
            self.speaks
        );
        let speaks = run.plan["mcp_revision"][0].as_str().unwrap_or("?");
        let found = format!("speaks {speaks}; {}, none pending", run.held());
        let mode = format!("{}, --mcp-revision {}", self.mode, self.revision);
        insist(self.server, &mode, &expected, &found, &run.context());
        assert_eq!(run.code, Some(0), "{}", run.context());
        run
    }
}

/// A revision that the server does not speak: usage error, and one line that says so.
pub fn refused(server: &str, mode: &str, url: &str, revision: &str, cause: &str) {
    let run = Run::load(&format!("-c 1 -d 1s --mcp-revision {revision} {url}"));
    let said = run.said.trim();
    let one_line = said.lines().count() == 1 && said.contains(url) && said.contains(cause);
    let found =
        format!("exit {:?}, {}", run.code.unwrap_or(-1), if one_line { cause } else { said });
    let mode = format!("{mode}, --mcp-revision {revision}");
    insist(server, &mode, &format!("exit 2, {cause}"), &found, said);
}

/// Ten sessions take turns at each connection: all are opened once, and kept alive.
pub fn pooled(server: &str, url: &str) {
    let run = Run::load(&format!(
        "-c 5 --sessions {SESSIONS} -r 50 -d 4s --heartbeat 3s --mcp-revision sessions {url}"
    ));
    let peaks = &run.summary["connections"];
    let held = format!("{} open, {} alive", peaks["tcp_open_peak"], peaks["session_alive_peak"]);
    let expected = format!(
        "5 open, {SESSIONS} alive; initialize {SESSIONS} ok; {CALLS} ok; delete {SESSIONS} ok; \
         0 connections lost"
    );
    let found = format!(
        "{held}; initialize {}; {}; delete {}; {} connections lost",
        run.ended("initialize"),
        run.ended("call"),
        run.ended("delete"),
        run.losses(),
    );
    insist(server, "50 sessions over 5 connections", &expected, &found, &run.context());
}

/// The server takes `limit` sessions: the others are refused with exactly that reason, again and
/// again, and none of those that stand is harmed.
pub fn limit(server: &str, url: &str, limit: usize) {
    let excess = 10;
    let mut running = Running::start(&format!(
        "-c {} -r 20 -d 0 --timeout 2s --heartbeat 60s --mcp-revision sessions {url}",
        limit + excess
    ));
    running.until("the counted part", |s| s["phase"] == "hold");
    running.until("some answers", |s| s["ok"].as_u64() >= Some(40));
    running.tell(&serde_json::json!({"cmd": "end"}));
    let run = running.finish();
    let (stand, tried) = (run.sessions(EventKind::Alive), run.sessions(EventKind::Connected));
    let refusals = run.requests("initialize", Outcome::SessionLimit);
    let expected = format!(
        "{limit} stand, {excess} never, 0 lost; initialize {limit} ok, else session_limit; \
         calls all ok"
    );
    let calls = run.requests("call", Outcome::Ok);
    let found = format!(
        "{} stand, {} never, {} lost; initialize {} ok, else {}; calls {}",
        stand.len(),
        tried.difference(&stand).count(),
        run.events(EventKind::SessionLost),
        run.requests("initialize", Outcome::Ok),
        match run.ended("initialize") == format!("{limit} ok, {refusals} session_limit") {
            true => "session_limit".into(),
            false => run.ended("initialize"),
        },
        match run.ended("call") == format!("{calls} ok") {
            true => "all ok".into(),
            false => run.ended("call"),
        },
    );
    insist(server, "session limit", &expected, &found, &run.context());
}

/// Sessions expire after 2 s; each is next asked for by its ping, 4.5 s after it was opened. Each is
/// found gone once, is opened anew, and the run ends before its next ping.
pub fn expiry(server: &str, url: &str) {
    const N: usize = 20;
    let run =
        Run::load(&format!("-c {N} -r 0.001 -d 7s --heartbeat 5s --mcp-revision sessions {url}"));
    let expected = format!(
        "ping {N} session_gone; {N} sessions lost (session_gone); initialize {} ok; {N} alive again",
        2 * N
    );
    let gone = |kind| run.events.iter().filter(move |(_, e)| e.kind == kind);
    let found = format!(
        "ping {}; {} sessions lost ({}); initialize {}; {} alive again",
        run.ended("ping"),
        gone(EventKind::SessionLost).count(),
        gone(EventKind::SessionLost).next().map_or("none".into(), |(_, e)| e.outcome.to_string()),
        run.ended("initialize"),
        run.events(EventKind::Alive) - run.sessions(EventKind::Alive).len(),
    );
    insist(server, "sessions expire", &expected, &found, &run.context());
}

/// The server's own count of the sessions that it gave for [`SESSIONS`]: one more was for the question
/// what it speaks, and whether it answers the load.
pub fn only_ours(server: &str, mode: &str, given: usize) {
    assert_eq!(given, SESSIONS + ASKING, "{server}, {mode}: sessions given");
}

/// The server's own count of sessions after a run with `--end delete`.
pub fn all_deleted(server: &str, mode: &str, open: u64) {
    row(server, &format!("{mode}, after --end delete"), "0 open", &format!("{open} open"));
    assert_eq!(open, 0, "{server}, {mode}: sessions are left");
}
