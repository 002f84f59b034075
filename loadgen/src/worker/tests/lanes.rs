//! Several requests in flight on a session.

use super::*;

fn case(in_flight: u32, script: Script) -> Case {
    let options = format!(
        "-c 2 --in-flight {in_flight} --ramp 400 --timeout 1s --heartbeat 60s -r 1000 -d 2s"
    );
    Case::new(&options, vec![script])
}

fn slow() -> Script {
    Script { service_ns: 3 * MS..4 * MS, several: true, ..Script::healthy(Speaks::Lines) }
}

#[test]
fn as_many_as_may_are_in_flight_and_no_more() {
    // 1,000 a second over two connections, of which each answer takes 3 to 4 ms.
    let most_at = |in_flight| {
        let mut run = Run::new(&case(in_flight, slow()));
        assert!(run.ramp(10 * S));
        let (mut most, until_ns) = (0, run.orders.hold().end);
        run.turn_until(until_ns, |run| {
            let sent = |slot: &u32| {
                let waits =
                    run.worker.sessions[*slot as usize].current.is_some_and(|c| c.sent_ns > 0);
                run.worker.lanes.of(*slot) + u32::from(waits)
            };
            most = (0..2).map(|slot| sent(&slot)).max().unwrap_or(0).max(most);
            false
        });
        (most, run.finish())
    };
    let (most, finished) = most_at(1);
    assert_eq!(most, 1, "as without the option");
    assert!(finished.tally.dropped + finished.tally.ok == 2_000);
    let (most, finished) = most_at(8);
    assert!((2..=8).contains(&most), "{most}");
    let tally = &finished.tally;
    assert_eq!((tally.ok, tally.dropped, tally.errors.len()), (2_000, 0, 0));
    assert_eq!(finished.last.unsolicited, 0);
}

#[test]
fn a_lost_connection_fails_all_that_was_in_flight() {
    let killed = Script { kills: vec![12 * S..12 * S + 300 * MS], ..slow() };
    let mut run = Run::new(&case(8, killed));
    assert!(run.ramp(10 * S));
    run.turn_until_ns(12 * S - MS);
    let in_flight: u64 = (0..2).map(|slot| u64::from(run.worker.lanes.of(slot))).sum();
    assert!(in_flight > 2, "{in_flight} in flight just before");
    run.turn_until_ns(run.orders.hold().end);
    let finished = run.finish();
    let lost: u64 = finished.tally.errors.values().sum();
    assert!((in_flight - 2..=16).contains(&lost), "{lost} lost, {:?}", finished.tally.errors);
    let reasons = |r: &(Outcome, i32)| matches!(r.0, Outcome::Reset | Outcome::Eof);
    assert!(finished.tally.errors.keys().all(reasons), "{:?}", finished.tally.errors);
    assert_eq!(finished.last.losses, 2);
}

#[test]
fn each_request_has_its_own_deadline() {
    // One of ten is never answered; the connection stays, as it brings the others.
    let mut script = slow();
    script.faults.silent = 0.1;
    let mut run = Run::new(&Case { heal_ns: 100 * S, ..case(64, script) });
    run.ramp(10 * S);
    run.turn_until_ns(run.orders.hold().end);
    let finished = run.finish();
    let timeouts = |r: &&Request| r.outcome == Outcome::Timeout;
    let late: Vec<&Request> = finished.counted().filter(timeouts).collect();
    assert!(late.len() > 50, "{} timed out", late.len());
    for r in late {
        let waited_ns = r.done_ns - r.sent_ns;
        assert!((S..S + 50 * MS).contains(&waited_ns), "after {waited_ns} ns");
    }
}
