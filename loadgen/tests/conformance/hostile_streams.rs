//! Event streams that are held, and turn hostile: floods, and lines that never end. Memory stays bounded,
//! and the sound server's calls keep to schedule.

use std::collections::BTreeMap;

use latlog::EventKind;

use crate::harness::{each, insist};
use crate::hostile_tls::{sound, turn};
use crate::villain::{Malice, Villain};

const MESSAGE: &str =
    "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{}}\n\n";

const LOST: &str = "lost as violation:message longer than the limit";

/// Bytes once and then again, and what becomes of the stream.
type Way = (&'static str, &'static str, &'static str, &'static str);

const WAYS: [Way; 5] = [
    ("flood of notifications", MESSAGE, MESSAGE, "none lost"),
    (
        "endless string in a message",
        "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"a\":\"",
        "aaaaaaaaaaaaaaaa",
        LOST,
    ),
    ("endless id", "id: ", "1111111111111111", LOST),
    ("endless retry", "retry: ", "1111111111111111", LOST),
    ("endless comment", ": ", "................", LOST),
];

fn check(ways: &[Way], revision: &str, inside_tls: bool) {
    each(ways, |&(way, once, again, expected)| {
        let villain = Villain::start(Malice::Stream { once, again }, inside_tls);
        let run = turn(&villain, &format!("--streams --mcp-revision {revision}"));
        let mut lost: BTreeMap<String, usize> = BTreeMap::new();
        for (_, event) in &run.events {
            if event.kind == EventKind::StreamEnd && event.target == 1 {
                let reason = loadgen::summary::reason(event.outcome, event.detail);
                *lost.entry(reason).or_default() += 1;
            }
        }
        lost.remove("stopped");
        let lost: Vec<&str> = lost.keys().map(String::as_str).collect();
        let lost = if lost.is_empty() {
            "none lost".into()
        } else {
            format!("lost as {}", lost.join(", "))
        };
        let mode = format!("{way}, {revision}{}", if inside_tls { " inside TLS" } else { "" });
        let found = format!("{}; streams {lost}", sound(&run));
        let expected = format!("sound target all ok; streams {expected}");
        insist("hostile stream", &mode, &expected, &found, &run.context());
        assert_eq!(run.events(EventKind::SessionLost), 0, "{}", run.context());
    });
}

#[test]
fn held_by_get() {
    check(&WAYS, "sessions", false);
}

#[test]
fn held_by_listening() {
    check(&WAYS, "2026-07-28", false);
}

#[test]
fn held_inside_tls() {
    check(&WAYS[..2], "sessions", true);
}
