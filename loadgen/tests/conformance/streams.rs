//! What servers send of their own accord: event streams held beside sessions, requests that want an
//! answer, answers that break off; the transport of 2024-11-05; and sessions left in silence.

use latlog::{EventKind, Outcome};
use serde_json::Value;

use crate::certs::Period;
use crate::checks::{ASKING, SESSIONS};
use crate::harness::{Sdk, each, insist, place};
use crate::rmcp;
use crate::run::Run;
use crate::transport::{path, serve};

/// Sessions that hold streams are opened, held with their streams, and deleted.
fn streams(name: &str, mode: &str, url: &str, revision: &str, more: &str) -> Run {
    let run = Run::load(&format!(
        "-c {SESSIONS} -r 50 -d 3s --heartbeat 60s --streams --mcp-revision {revision} {more} {url}"
    ));
    let expected = format!(
        "{SESSIONS} sessions and {SESSIONS} streams opened, none lost; 150 ok; {} open at peak",
        2 * SESSIONS
    );
    let opened = run.sessions(EventKind::StreamOpen).len();
    let lost = run.summary["streams"]["lost"].as_object().map_or(1, serde_json::Map::len)
        + run.events(EventKind::SessionLost);
    let found = format!(
        "{} sessions and {opened} streams opened, {} lost; {}; {} open at peak",
        run.sessions(EventKind::Alive).len(),
        if lost == 0 { "none".to_owned() } else { format!("{}", run.summary["streams"]["lost"]) },
        run.ended("call"),
        run.summary["connections"]["tcp_open_peak"].as_u64().unwrap_or(0).min(2 * SESSIONS as u64),
    );
    insist(name, &format!("{mode}, --streams"), &expected, &found, &run.context());
    assert_eq!(run.summary["connections"]["stream_open_peak"], SESSIONS, "{}", run.context());
    run
}

#[test]
fn sessions_of_python_hold_their_streams() {
    let modes = [
        (Sdk::One, "SSE answers", "sessions"),
        (Sdk::Two, "SSE answers", "sessions"),
        (Sdk::Two, "SSE answers, no sessions", "2026-07-28"),
    ];
    each(&modes, |&(sdk, mode, revision)| {
        let Some(server) = sdk.serve(&[]) else { return };
        streams(&sdk.name(), mode, server.url("http"), revision, "");
    });
}

#[test]
fn sessions_of_rmcp_hold_their_streams() {
    let modes = [("SSE answers", "sessions"), ("SSE answers, no sessions", "2026-07-28")];
    each(&modes, |&(mode, revision)| {
        let Some(server) = rmcp::serve(&[]) else { return };
        streams(rmcp::NAME, mode, server.url("/mcp"), revision, "");
    });
}

/// Loads a tool of the server of 1.x, with so many calls.
fn call(url: &str, tool: &str, more: &str) -> Run {
    Run::load(&format!("-c 10 -r 20 -d 2s --heartbeat 60s --call {tool} {more} {url}"))
}

/// What the summary says of what servers sent.
fn from_server(run: &Run, what: &str) -> u64 {
    run.summary["from_server"][what].as_u64().unwrap_or(u64::MAX)
}

/// The answer to the tool call waits for the answers to two requests of the server.
#[test]
fn requests_of_the_server_are_answered_before_it_answers() {
    let modes: [(&str, &[&str]); 2] = [("SSE answers", &[]), ("HTTP+SSE", &["--sse"])];
    each(&modes, |&(mode, options)| {
        let Some(server) = Sdk::One.serve(options) else { return };
        answered(mode, &call(server.url("http"), "ask", ""), "40 ok");
    });
}

/// What the server asked inside its calls was answered, for else it would not have answered them: of
/// each call, and of none of the trial before the run. Over HTTP, an answer is a request (`apart`).
fn answered(mode: &str, run: &Run, apart: &str) {
    let found = format!(
        "{}; pong {}; decline {}; {} notifications, {} requests without an answer",
        run.ended("call"),
        run.ended("pong"),
        run.ended("decline"),
        from_server(run, "notifications"),
        from_server(run, "requests_given_up"),
    );
    let expected = format!(
        "40 ok; pong {apart}; decline {apart}; 40 notifications, 0 requests without an answer"
    );
    let mode = format!("{mode}, ping and sampling inside a call");
    insist(&Sdk::One.name(), &mode, &expected, &found, &run.context());
}

/// Streams and the connections for answers to the server have layers of their own.
#[test]
fn streams_and_requests_of_the_server_pass_through_layers() {
    let modes: [(&str, Sdk, &[&str], &str); 4] = [
        ("https, SSE answers", Sdk::Two, &[], "https://"),
        ("https, SSE answers", Sdk::One, &[], "https://"),
        ("https, HTTP+SSE", Sdk::One, &["--sse"], "https://"),
        ("wss", Sdk::One, &[], "wss://"),
    ];
    each(&modes, |&(mode, sdk, options, scheme)| {
        let Some((authority, server)) = serve(sdk, "127.0.0.1", Period::Now, options) else {
            return;
        };
        let (ca, url) = (format!("--ca {}", path(&authority.file())), server.url(scheme));
        match sdk {
            Sdk::Two => {
                let run = streams(&sdk.name(), mode, url, "sessions", &ca);
                let handshakes = run.summary["tls"]["handshakes"]["failed"].as_u64();
                assert_eq!(handshakes, Some(0), "{}", run.context());
            }
            Sdk::One => {
                let apart = if scheme == "wss://" { "none" } else { "40 ok" };
                answered(mode, &call(url, "ask", &ca), apart);
            }
        }
    });
}

#[test]
fn answers_that_break_off_are_resumed() {
    let _place = place();
    let Some(server) = Sdk::One.serve(&["--retry", "100"]) else { return };
    let run = call(server.url("http"), "broken", "--mcp-revision 2025-11-25");
    let found = format!(
        "{}, {} lost; each resumed: {}",
        run.ended("call"),
        run.events(EventKind::SessionLost),
        from_server(&run, "answers_resumed") >= 40,
    );
    let expected = "40 ok, 0 lost; each resumed: true";
    let mode = "stream closed before the answer, Last-Event-ID";
    insist(&Sdk::One.name(), mode, expected, &found, &run.context());
}

#[test]
fn http_and_sse_of_2024_11_05_is_found_and_held() {
    let _place = place();
    let Some(server) = Sdk::One.serve(&["--sse"]) else { return };
    let run = Run::load(&format!("-c 20 -r 50 -d 3s --heartbeat 60s {}", server.url("http")));
    let speaks = run.plan["mcp_revision"][0].as_str().unwrap_or("?");
    let found = format!("speaks {speaks}; {}", run.held());
    let expected = "speaks 2025-11-25 over HTTP+SSE; 20 sessions opened, 0 lost; 150 ok";
    insist(&Sdk::One.name(), "HTTP+SSE, --mcp-revision auto", expected, &found, &run.context());
}

#[test]
fn each_request_has_its_connection_and_the_session_stays() {
    let _place = place();
    let Some(server) = Sdk::Two.serve(&[]) else { return };
    let run = Run::load(&format!(
        "-c 20 -r 50 -d 3s --heartbeat 60s --new-connection-per-request --mcp-revision sessions {}",
        server.url("http")
    ));
    // initialize, initialized, and DELETE have theirs too.
    let found = format!("{}; {} connections", run.held(), run.events(EventKind::Connected));
    let expected = "20 sessions opened, 0 lost; 150 ok; 210 connections";
    let mode = "--new-connection-per-request";
    insist(&Sdk::Two.name(), mode, expected, &found, &run.context());
    let count: Value = server.count();
    assert_eq!(count["sessions_given"], 20 + ASKING, "{count}");
}

/// Nothing is sent for longer than the server keeps a silent session: the next request finds out.
#[test]
fn sessions_left_in_silence_expire() {
    let _place = place();
    let Some(server) = Sdk::Two.serve(&["--session-ttl", "2"]) else { return };
    let run = Run::load(&format!(
        "-c 20 -r 5 -d 8s --timeout 5s --heartbeat off --reinit-max 0 --mcp-revision sessions {}",
        server.url("http")
    ));
    let ended = run.events.iter().filter(|(_, e)| e.kind == EventKind::Ended);
    let gone = ended.filter(|(_, e)| e.outcome == Outcome::SessionGone).count();
    // Every session is called once in 4 s, which is twice what the server allows.
    let found = format!(
        "{gone} ended as session_gone; {} session_gone of calls, ping {}",
        run.requests("call", Outcome::SessionGone),
        run.ended("ping"),
    );
    let mode = "--heartbeat off, --reinit-max 0, sessions expire";
    let expected = "20 ended as session_gone; 20 session_gone of calls, ping none";
    insist(&Sdk::Two.name(), mode, expected, &found, &run.context());
}
