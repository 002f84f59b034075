//! Servers that are sound until the load stands, and then break TLS in every way, beside one that stays
//! sound: memory stays bounded, each way has its reason, and the sound one's calls keep to schedule.

use std::collections::BTreeSet;

use latlog::EventKind;

use crate::harness::{insist, place};
use crate::run::{Run, Running};
use crate::villain::{Malice, Villain};

/// What hostility may cost in memory, bytes: beside what the sound load had taken before.
pub const COST_BYTES_MAX: u64 = 16 << 20;
/// Calls a second, and as many of them under hostility as make 4 s: twice the timeout.
const RATE_PER_S: u64 = 50;
const CALLS: u64 = 4 * RATE_PER_S;

/// Loads a sound server and one that turns, for long enough before and after that.
pub fn turn(villain: &Villain, more: &str) -> Run {
    let sound = villain.twin_in_clear();
    let mut running = Running::start(&format!(
        "-c 8 -r {RATE_PER_S} -d 0 --timeout 2s --heartbeat 60s --ca {} {more} {} {}",
        villain.ca().display(),
        sound.url,
        villain.url,
    ));
    let before = running.until("sound calls", |s| s["ok"].as_u64() >= Some(RATE_PER_S));
    let before = before["sent"].as_u64().expect("a number");
    let resident_bytes = running.resident_bytes();
    villain.turn();
    running.until("calls under hostility", |s| s["sent"].as_u64() >= Some(before + CALLS));
    running.tell(&serde_json::json!({"cmd": "end"}));
    let run = running.finish();
    let cost_bytes = run.resident_bytes_max.saturating_sub(resident_bytes);
    assert!(cost_bytes < COST_BYTES_MAX, "{cost_bytes} bytes more: {}", run.context());
    run
}

/// How the calls of the sound server went.
pub fn sound(run: &Run) -> String {
    let ended = run.ended_at("call", Some(0));
    let all_ok = ended.ends_with(" ok") && !ended.contains(',');
    let dropped = run.ended("call").contains("dropped");
    if all_ok && !dropped { "sound target all ok".into() } else { format!("sound target {ended}") }
}

const TOO_LARGE: &str = "tls:a message or record is larger than TLS or this client allows";

fn check(mode: &str, malice: Malice, reason: &str) {
    let _place = place();
    let villain = Villain::start(malice, true);
    let run = turn(&villain, "--mcp-revision sessions");
    let failed = run.events.iter().filter(|(_, e)| e.kind == EventKind::Handshake);
    let reasons: BTreeSet<String> = failed
        .filter(|(_, e)| !e.outcome.is_ok())
        .map(|(_, e)| loadgen::summary::reason(e.outcome, e.detail))
        .collect();
    let reasons: Vec<&str> = reasons.iter().map(String::as_str).collect();
    let found = format!("{}; handshakes {}", sound(&run), reasons.join(", "));
    let expected = format!("sound target all ok; handshakes {reason}");
    insist("hostile TLS", mode, &expected, &found, &run.context());
}

#[test]
fn no_word() {
    check("never finished", Malice::Handshake { once: b"", again: b"" }, "timeout");
}

#[test]
fn endless_handshake() {
    // A ServerHello of 16 MB in records of 16 KB, as many as are read.
    static RECORD: [u8; 16389] = {
        let mut record = [0; 16389];
        (record[0], record[1], record[2], record[3]) = (22, 3, 3, 0x40);
        (record[5], record[6], record[7], record[8]) = (2, 0xff, 0xff, 0xff);
        record
    };
    let malice = Malice::Handshake { once: b"", again: &RECORD };
    check("endless handshake", malice, TOO_LARGE);
}

#[test]
fn garbage() {
    let malice = Malice::Handshake { once: b"", again: b"\xfe\xed\xfa\xce garbage" };
    check("garbage", malice, "tls:what answers does not speak TLS");
}

#[test]
fn huge_record() {
    let malice = Malice::Handshake { once: b"\x16\x03\x03\xff\xff", again: b"x" };
    check("record of 65,535 bytes", malice, TOO_LARGE);
}

#[test]
fn drip() {
    // The front of a record of 16 KB, which at this pace comes in 14 minutes.
    check("a byte at a time", Malice::Drip(b"\x16\x03\x03\x40\x00"), "timeout");
}

#[test]
fn endless_chain() {
    check("certificate chain of 3,000", Malice::EndlessChain, TOO_LARGE);
}

#[test]
fn close_notify_in_an_answer() {
    let _place = place();
    let villain = Villain::start(Malice::CutAnswer, true);
    let run = turn(&villain, "--mcp-revision sessions");
    let hostile = run.ended_at("call", Some(1));
    let cut = hostile.split(", ").filter_map(|part| part.split_once(' ')).map(|(_, why)| why);
    let cut: BTreeSet<&str> = cut.collect();
    let found = format!(
        "{}; hostile one: {}; {} sessions lost",
        sound(&run),
        cut.into_iter().collect::<Vec<_>>().join(", "),
        run.events(EventKind::SessionLost)
    );
    let expected = "sound target all ok; hostile one: eof, ok; 0 sessions lost";
    insist("hostile TLS", "close_notify in an answer", expected, &found, &run.context());
}
