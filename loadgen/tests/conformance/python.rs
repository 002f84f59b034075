//! The official Python SDK, both lines, in each of its modes.

use crate::checks::{self, Held, SESSIONS};
use crate::harness::{Sdk, each, place};

/// A mode: its name, options, `--mcp-revision`, what is spoken then, and whether the server gives
/// sessions.
type Mode = (&'static str, &'static [&'static str], &'static str, &'static str, bool);

fn check(sdk: Sdk, modes: &[Mode]) {
    each(modes, |&(mode, options, revision, speaks, sessions)| {
        let Some(server) = sdk.serve(options) else { return };
        let (name, url) = (sdk.name(), server.url("http"));
        Held { server: &name, mode, url, revision, speaks }.check();
        let count = server.count();
        let given = count["sessions_given"].as_u64().expect("a number") as usize;
        assert_eq!(given >= SESSIONS, sessions, "{name}, {mode}: {count}");
        if sessions {
            checks::only_ours(&name, mode, given);
            checks::all_deleted(&name, mode, count["sessions_open"].as_u64().expect("a number"));
        }
    });
}

#[test]
fn version_2_in_its_modes_with_sessions() {
    check(
        Sdk::Two,
        &[
            ("SSE answers", &[], "sessions", "2025-11-25", true),
            ("JSON answers", &["--json"], "sessions", "2025-11-25", true),
            ("stateless, SSE answers", &["--stateless"], "sessions", "2025-11-25", false),
            (
                "stateless, JSON answers",
                &["--stateless", "--json"],
                "sessions",
                "2025-11-25",
                false,
            ),
            ("SSE answers", &[], "2025-06-18", "2025-06-18", true),
            ("SSE answers", &[], "2025-03-26", "2025-03-26", true),
        ],
    );
}

#[test]
fn version_2_without_sessions() {
    check(
        Sdk::Two,
        &[
            ("SSE answers", &[], "auto", "2026-07-28", false),
            ("JSON answers", &["--json"], "auto", "2026-07-28", false),
            ("stateless, SSE answers", &["--stateless"], "2026-07-28", "2026-07-28", false),
        ],
    );
}

#[test]
fn version_1_in_its_modes() {
    check(
        Sdk::One,
        &[
            ("SSE answers", &[], "auto", "2025-11-25", true),
            ("JSON answers", &["--json"], "auto", "2025-11-25", true),
            ("stateless, SSE answers", &["--stateless"], "auto", "2025-11-25", false),
            ("SSE answers", &[], "2025-06-18", "2025-06-18", true),
        ],
    );
}

#[test]
fn version_1_does_not_speak_what_came_after_it() {
    let _place = place();
    let Some(server) = Sdk::One.serve(&[]) else { return };
    let cause = "does not speak MCP 2026-07-28";
    checks::refused(&Sdk::One.name(), "SSE answers", server.url("http"), "2026-07-28", cause);
}

#[test]
fn more_sessions_than_connections_are_all_known_to_the_server() {
    each(&[Sdk::One, Sdk::Two], |sdk| {
        let Some(server) = sdk.serve(&[]) else { return };
        checks::pooled(&sdk.name(), server.url("http"));
        let count = server.count();
        let number = |name: &str| count[name].as_u64().expect("a number");
        let mode = "50 sessions over 5 connections";
        checks::only_ours(&sdk.name(), mode, number("sessions_given") as usize);
        checks::all_deleted(&sdk.name(), mode, number("sessions_open"));
    });
}

#[test]
fn the_session_limit_of_version_2_is_that_reason() {
    let _place = place();
    let Some(server) = Sdk::Two.serve(&["--max-sessions", "30"]) else { return };
    checks::limit(&Sdk::Two.name(), server.url("http"), 30);
}

#[test]
fn sessions_that_version_2_expired_are_opened_anew() {
    let _place = place();
    let Some(server) = Sdk::Two.serve(&["--session-ttl", "2"]) else { return };
    checks::expiry(&Sdk::Two.name(), server.url("http"));
}
