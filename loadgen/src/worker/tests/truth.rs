//! What a run says about a target that stands still for a while, held against arithmetic.

use super::*;

const FREEZE: Range<u64> = 14 * S..16 * S;
const FREEZE_NS: u64 = FREEZE.end - FREEZE.start;

fn frozen_run(options: &str, service_ns: u64) -> Finished {
    let mut script = Script::healthy(Speaks::Sessions);
    script.service_ns = service_ns..service_ns + 1;
    script.network_ns = 10_000..10_001;
    script.freezes = vec![FREEZE];
    let mut run = Run::new(&Case::new(options, vec![script]));
    assert!(run.ramp(S));
    run.turn_until_ns(run.orders.hold().end);
    run.finish()
}

fn near(actual_ns: u64, expected_ns: u64) -> bool {
    actual_ns.abs_diff(expected_ns) <= expected_ns / 50
}

/// 8 s at 1,000 a second of which 2 s are frozen: a quarter of all requests falls into the freeze,
/// spread evenly, and each of these waits for what is left of it.
#[test]
fn a_freeze_is_seen_as_users_would_see_it() {
    let finished =
        frozen_run("-c 50 --ramp 1000 -r 1000 -d 8s --timeout 5s --heartbeat 60s", MS / 10);
    let tally = &finished.tally;
    assert_eq!((tally.sent, tally.dropped), (8_000, 0), "offered is sent and dropped");
    assert_eq!(tally.ok, 8_000);
    assert!(near(tally.response.max(), FREEZE_NS), "max {}", tally.response.max());
    for quantile in [0.80, 0.85, 0.90, 0.95, 0.99, 0.999] {
        let expected_ns = (quantile - 0.75) / 0.25 * FREEZE_NS as f64;
        let actual_ns = tally.response.value_at_quantile(quantile);
        assert!(near(actual_ns, expected_ns as u64), "{quantile}: {actual_ns} {expected_ns}");
    }
    assert!(tally.response.value_at_quantile(0.70) < MS);
    // What waited for a free session waited because of the target, and shows as slip.
    assert!(near(tally.slip.max(), FREEZE_NS - 50 * MS));
}

/// The same target in closed loop: 50 requests met the freeze, and the rest was never asked.
#[test]
fn a_closed_loop_hides_a_freeze() {
    let finished =
        frozen_run("-c 50 --ramp 1000 --closed -d 8s --timeout 5s --heartbeat 60s", 5 * MS);
    let tally = &finished.tally;
    assert!(tally.sent > 50_000);
    assert!(near(tally.response.max(), FREEZE_NS), "max {}", tally.response.max());
    let slow = finished.counted().filter(|r| r.response_ns() > 100 * MS).count();
    assert_eq!(slow, 50);
    assert!(tally.response.value_at_quantile(0.99) < 6 * MS);
    assert!(tally.response.value_at_quantile(0.999) < 6 * MS);
}

/// A target that freezes for longer than the timeout: nothing that was due is forgotten.
#[test]
fn a_freeze_beyond_the_timeout_is_counted_to_the_unit() {
    let finished =
        frozen_run("-c 20 --ramp 1000 -r 500 -d 8s --timeout 700ms --heartbeat 60s", MS / 10);
    let tally = &finished.tally;
    let failed: u64 = tally.errors.values().sum();
    assert_eq!(tally.sent + tally.dropped, 4_000);
    assert_eq!(tally.sent, tally.ok + failed);
    // In the first 1.3 s of the freeze 650 requests become due that it does not leave the time to
    // be answered; each of them is lost one way or the other.
    assert!(tally.dropped + failed >= 650, "dropped {}, failed {failed}", tally.dropped);
    assert!(tally.errors.keys().all(|(o, _)| *o == Outcome::Timeout), "{:?}", tally.errors);
    assert!(finished.counted().all(|r| r.response_ns() < 1_400 * MS));
}

/// A target that takes 10 ms for a request carries 200 a second on two connections, of 300 asked.
#[test]
fn what_a_slow_target_cannot_carry_is_offered_and_dropped() {
    let mut script = Script::healthy(Speaks::Sessions);
    script.service_ns = 10 * MS..10 * MS + 1;
    script.network_ns = 1..2;
    let options = "-c 2 --ramp 1000 -r 300 -d 10s --timeout 2s --heartbeat 60s";
    let mut run = Run::new(&Case::new(options, vec![script]));
    assert!(run.ramp(S));
    run.turn_until_ns(run.orders.hold().end);
    let tally = run.finish().tally;
    assert_eq!(tally.sent + tally.dropped, 3_000);
    // 10 s of the hold, and up to 2 s in which what is left is waited for.
    assert!((1_980..=2_400).contains(&tally.ok), "{}", tally.ok);
    assert!(tally.response.max() <= 2_020 * MS);
    assert!(near(tally.service.value_at_quantile(0.5), 10 * MS));
}

/// Silent targets: a request that is never answered ends at the deadline, to within the sleep.
#[test]
fn a_request_without_an_answer_ends_at_its_deadline() {
    let mut script = Script::healthy(Speaks::Sessions);
    script.silent = vec![11 * S..60 * S];
    let options = "-c 4 --ramp 1000 -r 20 -d 3s --timeout 500ms --heartbeat 60s";
    let mut run = Run::new(&Case::new(options, vec![script]));
    assert!(run.ramp(S));
    run.turn_until_ns(run.orders.hold().end);
    let finished = run.finish();
    let mut seen = 0;
    for r in finished.counted().filter(|r| r.sent_ns > 11 * S && r.outcome == Outcome::Timeout) {
        assert!((500 * MS..501 * MS).contains(&r.service_ns()), "{r:?}");
        seen += 1;
    }
    assert!(seen >= 4);
    assert_eq!(finished.tally.sent + finished.tally.dropped, 60);
}
