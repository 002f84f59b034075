//! Targets that die and come back, and sessions that are moved on order.

use super::*;
use crate::orders::TargetOrder;
use crate::ring::sim::{Server, Streams};

fn by_target(run: &Run) -> Vec<usize> {
    let on = |t: usize| run.worker.sessions.iter().filter(|s| usize::from(s.target) == t).count();
    (0..run.worker.prepared.len()).map(on).collect()
}

fn order(run: &Run, known: &[Script], wanted: &[u16], rebalance: bool) {
    let known = (0..known.len()).map(|n| target(n, known[n].speaks)).collect();
    run.orders.set_targets(TargetOrder { known, wanted: wanted.to_vec(), rebalance });
}

#[test]
fn after_a_kill_every_session_stands_again_and_every_request_is_counted() {
    let healthy = Script::healthy(Speaks::Sessions);
    let killed = Script { kills: vec![13 * S..15 * S], ..healthy.clone() };
    let options = "-c 40 --ramp 2000 -r 400 -d 8s --timeout 2s --heartbeat 60s";
    let mut run = Run::new(&Case::new(options, vec![killed, healthy]));
    assert!(run.ramp(S));
    assert_eq!(by_target(&run), [20, 20]);
    // A second after the kill all are on the one that lives.
    run.turn_until_ns(14 * S);
    assert!(run.all_established());
    assert_eq!(by_target(&run), [0, 40]);
    run.turn_until_ns(run.orders.hold().end);
    assert!(run.all_established());
    let finished = run.finish();
    let tally = &finished.tally;
    assert_eq!(tally.sent + tally.dropped, 3_200);
    assert_eq!(tally.dropped, 0, "the other target carries what is due");
    let failed: u64 = tally.errors.values().sum();
    assert!(failed <= 20, "only what was under way is lost: {:?}", tally.errors);
    assert_eq!(finished.last.losses, 20);
    let at = |e: &&Event| (13 * S..13 * S + 500 * MS).contains(&e.at_ns);
    let lost = finished.events.iter().filter(|e| e.kind == EventKind::Lost).filter(at);
    assert!(lost.clone().all(|e| matches!(e.outcome, Outcome::Reset | Outcome::Eof)));
    assert_eq!(lost.count(), 20);
    // Each of the 20 moved, and its session had to be opened anew.
    let alive = finished.events.iter().filter(|e| e.kind == EventKind::Alive && e.target == 1);
    assert_eq!(alive.count(), 40);
}

#[test]
fn a_single_target_that_restarts_gets_all_its_sessions_back() {
    let killed = Script { kills: vec![13 * S..14 * S], ..Script::healthy(Speaks::Sessions) };
    let options = "-c 30 --ramp 2000 -r 300 -d 12s --timeout 3s --heartbeat 60s";
    let mut run = Run::new(&Case::new(options, vec![killed]));
    assert!(run.ramp(S));
    run.turn_until_ns(13 * S + 500 * MS);
    assert_eq!((run.worker.established, run.worker.open), (0, 0));
    // The back-off grows to 3.2 s at most, and the worst has just begun when it is up again.
    let back = run.turn_until(14 * S + 3_300 * MS, Run::all_established);
    assert!(back, "{} of 30 are back", run.worker.established);
    run.turn_until_ns(run.orders.hold().end);
    let finished = run.finish();
    assert_eq!(finished.tally.sent + finished.tally.dropped, 3_600);
    assert_eq!(finished.count(EventKind::Lost), 30);
    assert!(finished.count(EventKind::ConnectFailed) >= 30);
    // The sessions were forgotten: asked about, each said so, and was opened anew.
    let gone = finished.events.iter().filter(|e| e.outcome == Outcome::SessionGone);
    assert_eq!(gone.count(), 30);
}

#[test]
fn sessions_leave_a_target_that_is_unwanted() {
    let scripts = vec![Script::healthy(Speaks::Sessions); 3];
    let mut run = Run::new(&Case::new("-c 30 --ramp 500 -r 300 -d 0", scripts.clone()));
    assert!(run.ramp(S));
    run.turn_until_ns(run.now_ns() + S);
    assert_eq!(by_target(&run), [10, 10, 10]);
    order(&run, &scripts, &[0, 2], false);
    let fell = run.turn_until(run.now_ns() + S, |run| run.worker.alive.len() < 30);
    assert!(fell, "a session on its way out is not alive");
    run.turn_until_ns(run.now_ns() + 2 * S);
    assert_eq!(by_target(&run), [15, 0, 15]);
    assert!(run.all_established());
    // Taken back, but nobody said that anything should move.
    order(&run, &scripts, &[0, 1, 2], false);
    run.turn_until_ns(run.now_ns() + S);
    assert_eq!(by_target(&run), [15, 0, 15]);
    let opened = |server: &Server| (server.counts.opened, server.counts.deleted);
    let counts: Vec<_> = run.worker.ring.servers().iter().map(opened).collect();
    assert_eq!(counts, [(15, 0), (10, 10), (15, 0)]);
    let finished = run.finish();
    assert_eq!(finished.tally.ok, finished.tally.sent, "moving fails no request");
    assert_eq!(finished.tally.dropped, 0);
}

/// Sessions that were given up hold nobody back who is to move, be they more than may be opened at
/// one time; nobody looks for them, and they count in no share.
#[test]
fn sessions_that_ended_stop_no_move() {
    let healthy = Script::healthy(Speaks::Sessions);
    let killed = Script { kills: vec![13 * S..13 * S + 10 * MS], ..healthy.clone() };
    let scripts = vec![healthy, killed];
    let options = "-c 40 --ramp 500 -r 200 -d 0 --reinit-max 0 --opening 4";
    let mut run = Run::new(&Case::new(options, scripts.clone()));
    assert!(run.ramp(S));
    run.turn_until_ns(14 * S);
    assert_eq!((run.worker.ended, run.worker.established), (20, 20));
    for (wanted, moved) in [(&[0][..], [20, 0]), (&[1], [0, 20]), (&[0, 1], [10, 10])] {
        order(&run, &scripts, wanted, true);
        run.turn_until_ns(run.now_ns() + 3 * S);
        let assigned = [0, 1].map(|target| run.worker.targets.assigned(target));
        assert_eq!(assigned, moved, "{wanted:?}");
        assert!(run.worker.moving.is_none(), "nobody is looked for any more");
    }
    run.finish();
}

#[test]
fn a_new_target_gets_its_share_at_the_rate_of_the_ramp() {
    let scripts = vec![Script::healthy(Speaks::Sessions); 3];
    let mut run = Run::new(&Case::new("-c 60 --ramp 50 -r 300 -d 0", scripts[..2].to_vec()));
    run.worker.ring.assert_all_home();
    assert!(run.ramp(2 * S));
    order(&run, &scripts, &[0, 1, 2], true);
    let from_ns = run.now_ns();
    let moved = run
        .turn_until(from_ns + 5 * S, |run| by_target(run) == [20, 20, 20] && run.all_established());
    assert!(moved, "{:?}", by_target(&run));
    // 20 sessions at 50 a second.
    assert!(run.now_ns() - from_ns >= 350 * MS, "{}", run.now_ns() - from_ns);
    run.turn_until_ns(run.now_ns() + S);
    assert_eq!(by_target(&run), [20, 20, 20], "and stays there");
    let finished = run.finish();
    assert_eq!(finished.tally.ok, finished.tally.sent);
    assert_eq!(finished.tally.dropped, 0);
}

#[test]
fn without_any_target_all_wait_and_go_on_when_there_is_one() {
    let scripts = vec![Script::healthy(Speaks::Sessions)];
    let mut run =
        Run::new(&Case::new("-c 10 --ramp 500 -r 50 -d 0 --timeout 20s", scripts.clone()));
    order(&run, &scripts, &[], false);
    run.turn_until_ns(run.now_ns() + S);
    assert_eq!((run.worker.open, run.worker.ring.servers()[0].counts.accepted), (0, 0));
    order(&run, &scripts, &[0], false);
    assert!(run.ramp(5 * S));
    run.turn_until_ns(run.now_ns() + S);
    let finished = run.finish();
    assert_eq!(finished.tally.ok, finished.tally.sent);
    let took = finished.events.iter().filter(|e| e.kind == EventKind::Alive).map(|e| e.value);
    assert!(took.max().is_some_and(|took_ns| took_ns < 6 * S), "an attempt has a beginning");
}

/// A target that does not answer connects, and is taken away, keeps nobody waiting.
#[test]
fn connects_to_a_target_that_is_taken_away_are_given_up() {
    let healthy = Script::healthy(Speaks::Sessions);
    let silent = Script { unreachable: vec![0..99 * S], ..healthy.clone() };
    let scripts = vec![silent, healthy];
    let options = "-c 20 --ramp 2000 -r 20 -d 1s --timeout 30s --heartbeat 60s";
    let mut run = Run::new(&Case::new(options, scripts.clone()));
    assert!(!run.ramp(S));
    assert_eq!(run.worker.established, 10);
    order(&run, &scripts, &[1], false);
    assert!(run.turn_until(run.now_ns() + S, Run::all_established));
    assert_eq!(by_target(&run), [0, 20]);
    run.turn_until_ns(run.orders.hold().end);
    run.finish();
}

/// Two targets and too few pairs for each session to have two of its own: some are taken by sessions
/// for the other target, which the kernel says as it connects.
#[test]
fn a_planned_pair_that_is_taken_costs_no_attempt() {
    // Of 40,000 sessions on 28,232 ports this worker has every 1,000th.
    let options = "-c 40000 --ramp 100000 -r 40000 -d 2s --heartbeat 60s --sources 10.0.0.1";
    let as_it_connects = Kernel { connect_taken: 0.15, ..Kernel::default() };
    let as_it_binds = Kernel { open_taken: 0.15, ..Kernel::default() };
    for kernel in [as_it_connects, as_it_binds] {
        let case = Case {
            kernel,
            heal_ns: u64::MAX,
            worker: (0, 1_000),
            ..Case::new(options, vec![Script::healthy(Speaks::Sessions); 2])
        };
        let mut run = Run::new(&case);
        assert!(run.ramp(2 * S));
        run.turn_until_ns(run.orders.hold().end);
        let finished = run.finish();
        let failed = finished.count(EventKind::ConnectFailed);
        assert_eq!(failed, 0, "the same attempt goes on from another pair");
        assert!(finished.tally.errors.is_empty(), "{:?}", finished.tally.errors);
    }
}

/// The stream of a session that is moved is given up by us, whatever its server does then.
#[test]
fn streams_of_sessions_that_move_are_not_lost() {
    let streams = Streams { offered: true, ..Streams::default() };
    let scripts = vec![Script { streams, ..Script::healthy(Speaks::Sessions) }; 2];
    let options = "-c 40 --ramp 1000 -r 40 -d 4s --streams";
    let mut run = Run::new(&Case::new(options, scripts.clone()));
    assert!(run.ramp(S));
    run.turn_until_ns(run.now_ns() + S);
    order(&run, &scripts, &[1], false);
    run.turn_until_ns(run.orders.hold().end);
    assert_eq!(by_target(&run)[0], 0);
    let finished = run.finish();
    assert_eq!((finished.streams.opened, finished.last.stream_losses), (60, 0));
    let ends = finished.events.iter().filter(|e| e.kind == EventKind::StreamEnd);
    assert!(ends.clone().all(|e| e.outcome == Outcome::Stopped) && ends.count() == 60);
}
