//! The same sessions inside TLS, over WebSocket, and over IPv6; certificates that prove nothing.

use latlog::{EventKind, Outcome};

use crate::certs::{Authority, Period};
use crate::checks::SESSIONS;
use crate::harness::{Sdk, Server, insist, place};
use crate::run::{Run, Running};

/// Calls of a run here: 50 a second for 2 s.
const CALLS: usize = 100;

/// A server whose certificate an authority of its own signed for `name`.
pub fn serve(sdk: Sdk, name: &str, period: Period, more: &[&str]) -> Option<(Authority, Server)> {
    let authority = Authority::new();
    let (cert, key) = authority.files(name, period);
    let mut options = vec!["--tls", cert.to_str()?, key.to_str()?];
    options.extend(more);
    let server = sdk.serve(&options)?;
    Some((authority, server))
}

pub fn path(file: &std::path::Path) -> &str {
    file.to_str().expect("a path of the tests")
}

/// What a run over some transport came to.
fn found(run: &Run) -> String {
    let ok = |e: &&(u16, latlog::Event)| e.1.kind == EventKind::Handshake && e.1.outcome.is_ok();
    let handshakes = match run.events.iter().filter(ok).count() {
        0 if run.summary["tls"].is_null() => "no TLS".into(),
        n => format!("{n} handshakes, {} failed", run.summary["tls"]["handshakes"]["failed"]),
    };
    format!("{}; {handshakes}", run.held())
}

fn expected(handshakes: &str) -> String {
    format!("{SESSIONS} sessions opened, 0 lost; {CALLS} ok; {handshakes}")
}

fn load(more: &str, url: &str) -> Run {
    Run::load(&format!("-c {SESSIONS} -r 50 -d 2s --heartbeat 60s {more} {url}"))
}

#[test]
fn https_against_the_python_sdk() {
    let _place = place();
    let Some((authority, server)) = serve(Sdk::Two, "127.0.0.1", Period::Now, &[]) else { return };
    let url = server.url("https://");
    let ca = authority.file();
    let run = load(&format!("--ca {} --mcp-revision sessions", path(&ca)), url);
    let want = expected(&format!("{SESSIONS} handshakes, 0 failed"));
    insist(&Sdk::Two.name(), "https, given root", &want, &found(&run), &run.context());
    assert_eq!(run.code, Some(0), "{}", run.context());
    assert_eq!(server.count()["sessions_open"], 0, "all were deleted");
    let tls = &run.summary["tls"];
    let times = tls["handshake_ns"].as_object().expect("times");
    assert!(times["p50"].as_u64() <= times["p99"].as_u64() && times["p50"].as_u64() > Some(0));
    let of_target = &tls["targets"][0];
    assert_eq!((&of_target["full"], &of_target["failed"]), (&SESSIONS.into(), &0.into()), "{tls}");
    assert_eq!(of_target["handshake_ns"]["count"], SESSIONS, "{tls}");
    assert_eq!((&tls["insecure"], &run.plan["tls"]["insecure"]), (&false.into(), &false.into()));
    assert!(tls["terms"][0].as_str().is_some_and(|terms| terms.starts_with("TLSv1_3")), "{tls}");
    assert!(!run.said.contains("WARNING"), "{}", run.said);
    // Without trust it works as well, and says so wherever it says anything.
    let run = load("--insecure --mcp-revision sessions", url);
    insist(&Sdk::Two.name(), "https, --insecure", &want, &found(&run), &run.context());
    assert!(run.said.contains("WARNING: --insecure"), "{}", run.said);
    let tls = (&run.summary["tls"]["insecure"], &run.plan["tls"]["insecure"]);
    assert_eq!(tls, (&true.into(), &true.into()));
}

#[test]
fn https_with_new_connections_says_which_handshakes_were_resumed() {
    let _place = place();
    let Some((authority, server)) = serve(Sdk::One, "127.0.0.1", Period::Now, &[]) else { return };
    let ca = authority.file();
    // Idle for longer than the server keeps a connection: each is made anew.
    let run = Run::load(&format!(
        "-c 10 -r 1 -d 8s --heartbeat 7s --workers 1 --ca {} --tls-resume {}",
        path(&ca),
        server.url("https://")
    ));
    let handshakes = &run.summary["tls"]["handshakes"];
    let resumed = handshakes["resumed"].as_u64().expect("a number");
    assert!(resumed > 0 && handshakes["failed"] == 0, "{handshakes} {}", run.context());
    assert_eq!(run.events(EventKind::SessionLost), 0, "{}", run.context());
    let is = |e: &&(u16, latlog::Event)| e.1.kind == EventKind::Handshake && e.1.detail == 1;
    assert_eq!(run.events.iter().filter(is).count() as u64, resumed);
}

#[test]
fn certificates_that_prove_nothing_are_refused() {
    let _place = place();
    let refuse = |mode: &str, trust: &str, url: &str, cause: &str| {
        let run = Run::load(&format!("-c 1 -d 1s {trust} {url}"));
        let said = run.said.trim();
        let one_line = said.lines().count() == 1 && said.contains(cause);
        let found = format!("exit {:?}, {}", run.code, if one_line { cause } else { said });
        insist(&Sdk::One.name(), mode, &format!("exit Some(2), {cause}"), &found, said);
    };
    let name = "127.0.0.1";
    let Some((authority, server)) = serve(Sdk::One, name, Period::Now, &[]) else { return };
    let (ca, other) = (authority.file(), Authority::new());
    let url = server.url("https://");
    refuse("https, another root", &format!("--ca {}", path(&other.file())), url, "--ca FILE");
    refuse("https, system roots", "", url, "--ca FILE");
    let named = format!("--ca {} --server-name elsewhere.example", path(&ca));
    refuse("https, another name", &named, url, "not valid for name");
    let Some((authority, server)) = serve(Sdk::One, name, Period::Past, &[]) else { return };
    let ca = authority.file();
    refuse("https, expired", &format!("--ca {}", path(&ca)), server.url("https://"), "expired");
}

#[test]
fn a_client_certificate_is_shown_where_one_is_wanted() {
    let _place = place();
    let authority = Authority::new();
    let ca = authority.file();
    let (cert, key) = authority.files("127.0.0.1", Period::Now);
    let options = ["--tls", path(&cert), path(&key), "--client-ca", path(&ca)];
    let Some(server) = Sdk::One.serve(&options) else { return };
    let url = server.url("https://");
    let (cert, key) = authority.files("someone", Period::Now);
    let known = format!("--ca {} --cert {} --key {}", path(&ca), path(&cert), path(&key));
    let run = load(&known, url);
    let want = expected(&format!("{SESSIONS} handshakes, 0 failed"));
    insist(&Sdk::One.name(), "https, client certificate", &want, &found(&run), &run.context());
    let stranger = Run::load(&format!("-c 1 -d 1s --ca {} {url}", path(&ca)));
    assert_eq!(stranger.code, Some(2), "{}", stranger.said);
    assert!(stranger.said.contains("--cert FILE"), "{}", stranger.said);
}

#[test]
fn websocket_against_the_python_sdk() {
    let _place = place();
    for tls in [false, true] {
        let authority = Authority::new();
        let (cert, key) = authority.files("127.0.0.1", Period::Now);
        let options = ["--tls", path(&cert), path(&key)];
        let Some(server) = Sdk::One.serve(if tls { &options } else { &[] }) else { return };
        let ca = authority.file();
        let (mode, trust) = match tls {
            true => ("wss", format!("--ca {}", path(&ca))),
            false => ("ws", String::new()),
        };
        let run = load(&trust, server.url(&format!("{mode}://")));
        let handshakes = match tls {
            true => format!("{SESSIONS} handshakes, 0 failed; all closed with 1000"),
            false => "no TLS; all closed with 1000".into(),
        };
        let closes = server.count()["closes"].clone();
        let good = closes["1000"].as_u64() >= Some(SESSIONS as u64)
            && closes.as_object().is_some_and(|by_code| by_code.len() == 1);
        let closes = if good { "all closed with 1000".into() } else { format!("closes {closes}") };
        let found = format!("{}; {closes}", found(&run));
        insist(&Sdk::One.name(), mode, &expected(&handshakes), &found, &run.context());
        assert_eq!(run.code, Some(0), "{}", run.context());
        let url = server.url(&format!("{mode}://"));
        let run = Run::load(&format!("-c 2 --in-flight 8 --closed -d 1s {trust} {url}"));
        let calls = run.requests("call", Outcome::Ok);
        let mode = format!("{mode}, 8 in flight on each of 2");
        let expected = format!("{calls} ok; 0 of no request");
        let found = format!(
            "{}; {} of no request",
            run.ended("call"),
            run.summary["from_server"]["unsolicited"]
        );
        insist(&Sdk::One.name(), &mode, &expected, &found, &run.context());
        assert!(calls > 16, "{calls} answers");
    }
}

#[test]
fn a_websocket_server_that_ends_shows_in_the_close_code() {
    let _place = place();
    let Some(server) = Sdk::One.serve(&[]) else { return };
    let url = server.url("ws://").to_owned();
    let mut running = Running::start(&format!("-c 10 -d 0 -r 10 --timeout 3s {url}"));
    running.until("all sessions", |s| s["phase"] == "hold");
    drop(server.terminate());
    running.until("losses", |s| s["tcp_open"] == 0);
    running.tell(&serde_json::json!({"cmd": "end"}));
    let run = running.finish();
    let lost = |e: &&(u16, latlog::Event)| e.1.kind == EventKind::Lost;
    let reasons: Vec<(Outcome, i32)> =
        run.events.iter().filter(lost).map(|(_, e)| (e.outcome, e.detail)).collect();
    // RFC 6455 section 7.4.1: 1012 is a restart of the service, 1001 going away.
    let told =
        |(outcome, code): &(Outcome, i32)| *outcome == Outcome::Eof && matches!(code, 1001 | 1012);
    assert!(reasons.len() >= 10 && reasons.iter().take(10).all(told), "{reasons:?}");
}

#[test]
fn ipv6_against_the_python_sdk() {
    let _place = place();
    let Some(server) = Sdk::One.serve(&["--host", "::1"]) else { return };
    let run = load("", server.url("http://["));
    let want = expected("no TLS");
    insist(&Sdk::One.name(), "http://[::1]", &want, &found(&run), &run.context());
}
