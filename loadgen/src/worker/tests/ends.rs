//! Deadlines, heartbeats, back-off, the opening limit, and the ways in which sessions end.

use std::sync::atomic::Ordering;

use super::*;
use crate::ring::sim::Style;

fn quiet(options: &str, script: Script) -> Run {
    Run::new(&Case::new(options, vec![script]))
}

#[test]
fn each_way_to_end_leaves_what_it_says() {
    for (end, deleted, left) in [("delete", 20, 0), ("close", 0, 20), ("reset", 0, 20)] {
        let options = format!("-c 20 --ramp 1000 -r 100 -d 1s --end {end}");
        let mut run = quiet(&options, Script::healthy(Speaks::Sessions));
        assert!(run.ramp(S));
        run.turn_until_ns(run.orders.hold().end + S);
        run.orders.cool_down(run.now_ns(), run.now_ns() + 10 * S);
        while !run.turn() {}
        let server = &run.worker.ring.servers()[0];
        assert_eq!((server.counts.deleted, server.sessions()), (deleted, left), "{end}");
        let finished = run.end();
        assert_eq!(finished.count(EventKind::Ended), 20, "{end}");
        assert_eq!(finished.count(EventKind::Lost), 0, "{end}: on purpose is no loss");
        assert_eq!(finished.tally.ok, 100, "{end}");
    }
}

#[test]
fn abandoned_sessions_stay_open() {
    let mut run = quiet("-c 5 --ramp 1000 -r 100 -d 1s", Script::healthy(Speaks::Sessions));
    assert!(run.ramp(S));
    run.turn_until_ns(run.now_ns() + 500 * MS);
    run.orders.end_load(run.now_ns());
    run.orders.abandon();
    assert!(run.turn());
    assert_eq!(run.worker.ring.servers()[0].sessions(), 5);
    let finished = run.end();
    assert_eq!(finished.count(EventKind::Ended), 0);
}

/// What ends the load in the warm-up ends it at once, a closed loop's too.
#[test]
fn a_warm_up_can_be_ended() {
    for load in ["--closed", "-r 200"] {
        let options = format!("-c 5 --ramp 1000 --warmup 60s -d 10s --heartbeat 60s {load}");
        let mut run = quiet(&options, Script::healthy(Speaks::Sessions));
        assert!(run.ramp(S));
        run.turn_until_ns(run.now_ns() + S);
        assert_eq!(run.worker.stage, Stage::Warmup);
        run.orders.end_load(run.now_ns());
        run.turn_until_ns(run.now_ns() + NOTICE_NS);
        assert_eq!(run.worker.stage, Stage::Drain, "{load}");
        let sent = run.worker.recorder.now.sent;
        run.turn_until_ns(run.now_ns() + S);
        assert!(run.window.drained.load(Ordering::Acquire), "{load}");
        let finished = run.finish();
        assert_eq!(finished.last.sent, sent, "{load}");
        assert_eq!((finished.tally.sent, finished.tally.dropped), (0, 0), "nothing counts: {load}");
    }
}

/// A disk that stands still while the run ends: what fills no block is written all the same.
/// `Run::end` holds the log against what was measured.
#[test]
fn the_last_records_wait_for_the_disk() {
    let options = "-c 4 --ramp 1000 -r 20 -d 10s --heartbeat 60s";
    let mut run = quiet(options, Script::healthy(Speaks::Sessions));
    assert!(run.ramp(S));
    // Nobody takes a block, or brings a buffer back.
    while run.worker.turn().is_ok_and(|last| !last) {
        if run.now_ns() > run.orders.hold().end + S {
            run.orders.cool_down(run.now_ns(), run.now_ns() + 10 * S);
        }
    }
    assert_eq!(run.full.len(), SPARE_BLOCKS, "all buffers are on their way");
    assert_eq!(run.end().tally.ok, 200);
}

#[test]
fn a_cool_down_has_an_end_although_nobody_answers() {
    let script = Script { silent: vec![13 * S..99 * S], ..Script::healthy(Speaks::Sessions) };
    let mut run = quiet("-c 300 --ramp 1000 -r 100 -d 0 --timeout 1s --heartbeat 60s", script);
    run.ramp(S);
    run.turn_until_ns(13 * S);
    let finished = run.finish();
    assert_eq!(finished.count(EventKind::Ended), 300);
    let deletes = finished.requests.iter().filter(|r| r.op == Op::Delete.number());
    assert!(deletes.clone().all(|r| r.outcome == Outcome::Timeout));
    assert!(deletes.count() > 0);
}

/// Idle sessions are pinged after nine tenths of a heartbeat, and so never cease to be alive.
#[test]
fn idle_sessions_are_kept_alive() {
    for speaks in [Speaks::Sessions, Speaks::Lines] {
        let options = "-c 10 --ramp 1000 -r 0.001 -d 0 --heartbeat 1s";
        let mut run = quiet(options, Script::healthy(speaks));
        assert!(run.ramp(S));
        let from_ns = run.now_ns();
        let fell = run.turn_until(from_ns + 10 * S, |run| run.worker.alive.len() < 10);
        assert!(!fell, "{} of 10 are alive", run.worker.alive.len());
        let pings = run.worker.ring.servers()[0].counts.pings;
        assert!((100..=120).contains(&pings), "{pings} pings of 10 sessions in 10 s");
        let sample = run.window.sample.read();
        assert_eq!((sample.session_alive, sample.session_established), (10, 10));
        let finished = run.finish();
        for r in finished.requests.iter().filter(|r| r.op == Op::Ping.number()) {
            assert!(r.slip_ns() < MS, "{r:?}");
        }
    }
}

/// Nothing opens a session of plain HTTP, and it is not asked before its turn.
#[test]
fn a_connection_of_plain_http_is_not_asked_at_once() {
    let mut run =
        quiet("-c 10 --ramp 1000 -r 0.001 -d 0 --heartbeat 30s", Script::healthy(Speaks::Plain));
    assert!(run.ramp(S));
    run.turn_until_ns(run.now_ns() + 20 * S);
    assert!(run.worker.ring.servers()[0].counts.calls <= 1);
    run.finish();
}

/// Servers end connections that nothing comes over, which says nothing about the session: it was
/// answered within the heartbeat, and is alive.
#[test]
fn sessions_whose_idle_connections_end_stay_alive() {
    let script = Script { idle_ns: 5 * S, ..Script::healthy(Speaks::Sessions) };
    let mut run = quiet("-c 10 --ramp 10 -r 0.001 -d 0 --heartbeat 30s", script);
    assert!(run.ramp(2 * S));
    // The first end is a loss like any other.
    run.turn_until_ns(run.now_ns() + 6 * S);
    let fell = run.turn_until(run.now_ns() + 200 * S, |run| run.worker.alive.len() < 10);
    assert!(!fell, "{} of 10 are alive", run.worker.alive.len());
    let losses = run.finish().last.losses;
    assert!(losses >= 70, "{losses}");
}

/// A server that says nothing for longer than a heartbeat has sessions that are not alive, on
/// connections that are open.
#[test]
fn sessions_that_are_not_answered_cease_to_be_alive() {
    let script = Script { freezes: vec![13 * S..16 * S], ..Script::healthy(Speaks::Sessions) };
    let options = "-c 10 --ramp 1000 -r 100 -d 0 --heartbeat 1s --timeout 5s";
    let mut run = quiet(options, script);
    assert!(run.ramp(S));
    run.turn_until_ns(13 * S - MS);
    assert_eq!(run.worker.alive.len(), 10);
    run.turn_until_ns(14 * S + 200 * MS);
    assert_eq!((run.worker.alive.len(), run.worker.established, run.worker.open), (0, 10, 10));
    run.turn_until_ns(17 * S);
    assert_eq!(run.worker.alive.len(), 10);
    run.finish();
}

#[test]
fn a_refusing_target_is_asked_less_and_less_often() {
    let script = Script { refuses: vec![0..99 * S], ..Script::healthy(Speaks::Sessions) };
    let mut run = quiet("-c 1 --ramp 1000 -r 1 -d 0", script);
    assert!(!run.ramp(12 * S));
    let finished = run.finish();
    let failed: Vec<&Event> =
        finished.events.iter().filter(|e| e.kind == EventKind::ConnectFailed).collect();
    assert!(failed.iter().all(|e| e.outcome == Outcome::Refused));
    let waits: Vec<u64> = failed.windows(2).map(|w| (w[1].at_ns - w[0].at_ns) / MS).collect();
    // 50 ms doubling to 3.2 s; coarse by the longest sleep.
    for (n, wait_ms) in waits.iter().enumerate() {
        let expected_ms = 50 << n.min(6);
        assert!((expected_ms..=expected_ms + 22).contains(wait_ms), "{waits:?}");
    }
    assert!(waits.len() >= 7, "{waits:?}");
}

#[test]
fn connects_that_are_not_answered_end_at_the_deadline() {
    let script = Script { unreachable: vec![0..12 * S], ..Script::healthy(Speaks::Sessions) };
    let mut run = quiet("-c 3 --ramp 1000 -r 1 -d 0 --timeout 700ms", script);
    assert!(run.ramp(10 * S));
    let finished = run.finish();
    let failed = finished.events.iter().filter(|e| e.kind == EventKind::ConnectFailed);
    assert!(failed.clone().all(|e| e.outcome == Outcome::ConnectTimeout));
    assert!(failed.count() >= 3);
}

/// A server that needs 100 ms for an `initialize`: no more than four are being opened at one time.
#[test]
fn no_more_sessions_are_being_opened_than_allowed() {
    let mut script = Script::healthy(Speaks::Sessions);
    script.service_ns = 100 * MS..100 * MS + 1;
    let mut run = quiet("-c 40 --ramp 10000 --opening 4 -r 10 -d 0", script);
    assert!(run.ramp(5 * S), "{} stand", run.worker.established);
    assert_eq!(run.max_opening, 4);
    run.finish();
}

#[test]
fn a_session_limit_is_a_reason_of_its_own() {
    let script = Script { session_limit: 5, ..Script::healthy(Speaks::Sessions) };
    let mut run = quiet("-c 8 --ramp 1000 -r 100 -d 0", script);
    assert!(!run.ramp(2 * S));
    assert_eq!(run.worker.established, 5);
    run.turn_until_ns(run.now_ns() + S);
    let finished = run.finish();
    let refused = finished.requests.iter().filter(|r| r.outcome == Outcome::SessionLimit);
    assert!(refused.clone().all(|r| r.op == Op::Initialize.number() && r.detail == 503));
    assert!(refused.count() >= 3);
    assert_eq!(finished.tally.ok, finished.tally.sent);
}

/// Servers that end the connection with every answer, as HTTP/1.0 ones do, serve sessions all the
/// same: what was opened stays opened.
#[test]
fn a_server_that_closes_after_every_answer_can_be_loaded() {
    for (speaks, without_id) in [
        (Speaks::Sessions, false),
        (Speaks::Sessions, true),
        (Speaks::Stateless, false),
        (Speaks::Plain, false),
    ] {
        let style = Style { closing: 1.0, without_id, ..Style::default() };
        let script = Script { style, ..Script::healthy(speaks) };
        let mut run = quiet("-c 10 --ramp 1000 -r 50 -d 0 --timeout 1s", script);
        run.ramp(S);
        let stood = |run: &Run| run.window.sample.read().session_stood;
        let all = run.turn_until(run.now_ns() + 3 * S, |run| stood(run) == 10);
        assert!(all, "{speaks:?} without_id {without_id}: only {} ever stood", stood(&run));
        run.turn_until_ns(run.now_ns() + S);
        let finished = run.finish();
        assert!(finished.tally.ok >= 45, "{speaks:?}: {}", finished.tally.ok);
        assert_eq!(finished.tally.ok, finished.tally.sent, "{speaks:?}");
    }
}

/// The lengths of all kinds of answers, cut into receives at every place.
#[test]
fn answers_are_read_whatever_they_are_cut_into() {
    for speaks in [Speaks::Sessions, Speaks::Stateless, Speaks::Lines, Speaks::Plain] {
        for seed in 0..10 {
            let style = Style { sse: 0.5, chunked: 0.5, apart: 0.5, ..Style::default() };
            let script = Script { style, ..Script::healthy(speaks) };
            let mut case =
                Case::new("-c 5 --ramp 1000 -r 200 -d 0 --heartbeat 100ms", vec![script]);
            case.kernel = Kernel { split: 1.0, ends: 0.2, short_send: 0.5, ..Kernel::default() };
            (case.seed, case.heal_ns, case.recv_buffers) = (seed, 99 * S, 2);
            let mut run = Run::new(&case);
            assert!(run.ramp(3 * S));
            run.turn_until_ns(run.now_ns() + S);
            let finished = run.finish();
            assert_eq!(finished.tally.ok, finished.tally.sent, "{speaks:?} seed {seed}");
            assert_eq!(finished.last.losses, 0, "{speaks:?} seed {seed}");
        }
    }
}
