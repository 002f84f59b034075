//! More sessions than connections.

use super::*;
use crate::ring::sim::Style;

fn sessions_era() -> Script {
    Script::healthy(Speaks::Sessions)
}

/// Sessions with an event of a kind.
fn with(finished: &Finished, kind: EventKind) -> std::collections::BTreeSet<u32> {
    let of_kind = finished.events.iter().filter(|e| e.kind == kind);
    of_kind.map(|e| e.session).collect()
}

fn requests(finished: &Finished, op: Op, outcome: Outcome) -> usize {
    let fits = |r: &&Request| r.op == op.number() && r.outcome == outcome;
    finished.requests.iter().filter(fits).count()
}

#[test]
fn every_session_is_opened_asked_kept_alive_and_deleted_over_a_few_connections() {
    let options = "-c 4 --sessions 40 --ramp 400 --heartbeat 1s -r 20 -d 0";
    let mut run = Run::new(&Case::new(options, vec![sessions_era()]));
    assert!(run.ramp(10 * S));
    let until_ns = run.now_ns() + 5 * S;
    run.turn_until(until_ns, |run| {
        let worker = &run.worker;
        let counts = (worker.open, worker.alive.len(), worker.streaming);
        assert_eq!(counts, (4, 40, 0), "all stay alive, whoever is at a connection");
        false
    });
    let finished = run.finish();
    let last = &finished.last;
    assert_eq!((last.connects, last.losses, last.failed, last.dropped), (4, 0, 0, 0), "{last:?}");
    for op in [Op::Initialize, Op::Initialized, Op::Delete] {
        assert_eq!(requests(&finished, op, Outcome::Ok), 40, "{op:?}");
    }
    assert_eq!(with(&finished, EventKind::Alive).len(), 40);
    assert_eq!(with(&finished, EventKind::Ended).len(), 40);
    // 20 calls a second leave most of the 40 sessions to their pings, about every 0.9 s.
    assert!(requests(&finished, Op::Ping, Outcome::Ok) > 40 * 2);
}

#[test]
fn a_lost_connection_loses_no_session() {
    let mut script = sessions_era();
    // Each connection ends after a few answers, in the manner of a server that says so.
    script.style = Style { closing: 0.05, ..Style::default() };
    let options = "-c 3 --sessions 30 --ramp 400 --heartbeat 1s -r 100 -d 0";
    let mut run = Run::new(&Case::new(options, vec![script]));
    assert!(run.ramp(10 * S));
    run.turn_until_ns(run.now_ns() + 3 * S);
    let finished = run.finish();
    assert!(finished.last.losses > 10, "{:?}", finished.last);
    assert_eq!(requests(&finished, Op::Initialize, Outcome::Ok), 30, "none was opened again");
    assert_eq!(requests(&finished, Op::Delete, Outcome::Ok), 30);
    assert_eq!(finished.last.failed, 0);
}

#[test]
fn a_404_loses_exactly_that_session() {
    let mut script = sessions_era();
    script.faults.forget = 0.02;
    let options = "-c 3 --sessions 30 --ramp 400 --heartbeat 5s -r 100 -d 0";
    let case = Case { heal_ns: BEGIN_NS + 3 * S, ..Case::new(options, vec![script]) };
    let mut run = Run::new(&case);
    assert!(run.ramp(10 * S));
    run.turn_until_ns(case.heal_ns + 10 * S);
    assert!(run.all_established());
    let finished = run.finish();
    let gone = |e: &&Event| e.kind == EventKind::SessionLost;
    let lost = finished.events.iter().filter(gone).count();
    assert!(lost > 3, "{lost} lost");
    let refused = finished.requests.iter().filter(|r| r.outcome == Outcome::SessionGone).count();
    assert_eq!(lost, refused, "one session for one answer");
    let opened = requests(&finished, Op::Initialize, Outcome::Ok);
    let unused = finished.requests.iter().filter(|r| r.op == Op::Initialized.number());
    let unused = unused.filter(|r| !r.outcome.is_ok()).count();
    assert_eq!(opened, 30 + lost + unused, "each opened anew, and no other");
}

#[test]
fn sessions_leave_a_target_with_its_connections_and_are_deleted_there() {
    use crate::orders::TargetOrder;
    let scripts = vec![sessions_era(), sessions_era()];
    let options = "-c 4 --sessions 30 --ramp 400 --heartbeat 1s -r 20 -d 0";
    let mut run = Run::new(&Case::new(options, scripts));
    assert!(run.ramp(10 * S));
    let known = (0..2).map(|n| target(n, Speaks::Sessions)).collect();
    run.orders.set_targets(TargetOrder { known, wanted: vec![1], rebalance: false });
    run.turn_until_ns(run.now_ns() + S);
    let moved = run.turn_until(run.now_ns() + 10 * S, Run::all_established);
    assert!(moved, "{} stand", run.worker.established);
    let finished = run.finish();
    let deleted = |at| {
        let of = |r: &&Request| r.op == Op::Delete.number() && r.target == at && r.outcome.is_ok();
        finished.requests.iter().filter(of).count()
    };
    // The split over the two was even but for one session.
    assert!((14..=16).contains(&deleted(0)), "{} deleted at the first", deleted(0));
    assert_eq!(deleted(1), 30);
    assert_eq!(requests(&finished, Op::Initialize, Outcome::Ok), deleted(0) + 30);
    assert_eq!(finished.last.failed, 0);
}

#[test]
fn a_session_that_is_given_up_ends_alone() {
    let mut script = sessions_era();
    script.faults.forget = 0.05;
    let options = "-c 2 --sessions 20 --ramp 400 --heartbeat 5s -r 50 -d 0 --reinit-max 0";
    let case = Case { heal_ns: BEGIN_NS + 3 * S, ..Case::new(options, vec![script]) };
    let mut run = Run::new(&case);
    run.ramp(2 * S);
    run.turn_until_ns(case.heal_ns + 2 * S);
    let given_up = run.worker.members - run.worker.established;
    assert!(given_up > 1 && given_up < 20, "{given_up} given up");
    assert_eq!(run.worker.open, 2, "the connections go on with the others");
    let finished = run.finish();
    let gone = |e: &&Event| e.kind == EventKind::Ended && e.outcome == Outcome::SessionGone;
    assert_eq!(finished.events.iter().filter(gone).count() as u32, given_up);
    assert_eq!(finished.count(EventKind::Ended), 20);
}
