//! A target that answers with garbage half of the time, beside one that is sound: memory stays
//! bounded, the sound one is not harmed, and each garbage has its reason.

use latlog::Outcome;

use crate::faults::{CALL, NAME, serve};
use crate::harness::{each, insist};
use crate::run::Run;

/// What the program takes at most in these runs, bytes.
const RESIDENT_BYTES_MAX: u64 = 64 << 20;

/// Loads both with the first seed that lets the trial request pass.
fn load(kind: &str) -> Option<Run> {
    let (_sound, sound_url) = serve(1, &[])?;
    for seed in 1..20 {
        let options = ["--hostile", kind, "--hostile-share", "0.5"];
        let (_hostile, hostile_url) = serve(seed, &options)?;
        let run = Run::load(&format!(
            "-c 20 -r 100 -d 4s --heartbeat 60s --timeout 2s {CALL} {sound_url} {hostile_url}"
        ));
        if run.code != Some(2) {
            return Some(run);
        }
    }
    panic!("no seed lets the trial request pass");
}

fn check(kind: &str, reasons: &[&str]) {
    let Some(run) = load(kind) else { return };
    let sound = run.ended_at("call", Some(0));
    let hostile = run.ended_at("call", Some(1));
    let expected = format!("sound target all ok; hostile one: {}", reasons.join(", "));
    let all_ok = sound.ends_with(" ok") && !sound.contains(',');
    let mut seen: Vec<&str> =
        hostile.split(", ").filter_map(|w| w.split_once(' ').map(|(_, reason)| reason)).collect();
    seen.sort_unstable();
    let sound = if all_ok { "all ok" } else { &sound };
    let found = format!("sound target {sound}; hostile one: {}", seen.join(", "));
    insist(NAME, &format!("--hostile {kind}"), &expected, &found, &run.context());
    assert_eq!(run.code, Some(0), "{}", run.context());
    let resident = run.resident_bytes_max;
    assert!((1..RESIDENT_BYTES_MAX).contains(&resident), "{kind}: {resident} bytes resident");
    assert!(run.requests("call", Outcome::Dropped) == 0, "{}", run.context());
}

/// Each kind, and how calls then end.
const KINDS: [(&str, &[&str]); 10] = [
    ("malformed-json", &["ok", "violation:JSON message ends in the middle"]),
    ("malformed-http", &["ok", "violation:malformed HTTP"]),
    ("wrong-id", &["ok", "violation:answer with a wrong id"]),
    ("unsolicited-answer", &["ok", "violation:answer with a wrong id"]),
    ("endless-headers", &["ok", "violation:HTTP head too long"]),
    // The line is one of the head.
    ("endless-line", &["ok", "violation:HTTP head too long"]),
    ("huge-chunk", &["ok", "timeout"]),
    ("drip", &["ok", "timeout"]),
    ("notification-flood", &["ok", "violation:too many messages before the answer"]),
    ("cut", &["eof", "ok"]),
];

#[test]
fn each_kind_of_garbage_has_its_reason_and_harms_nobody_else() {
    each(&KINDS, |&(kind, reasons)| check(kind, reasons));
}
