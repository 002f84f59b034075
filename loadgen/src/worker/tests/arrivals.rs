//! What is left to chance: when requests are due, and what they ask for.

use super::*;

/// Two of three workers' shares of one Poisson schedule, with a mix: `Finished::check` holds every
/// record against the schedule; here the shares are held against the weights.
#[test]
fn a_poisson_mix_is_sent_as_drawn() {
    for index in [0, 2] {
        let options = "-c 60 --ramp 2000 -r 3000 -d 4s --heartbeat 60s --arrivals poisson \
                       --seed 9 --call echo=6 --call add=3 --call sum";
        let case = Case {
            worker: (index, 3),
            ..Case::new(options, vec![Script::healthy(Speaks::Sessions)])
        };
        let mut run = Run::new(&case);
        assert!(run.ramp(S));
        run.turn_until_ns(run.orders.hold().end);
        let finished = run.finish();
        assert_eq!((finished.tally.dropped, finished.tally.ok), (0, finished.tally.sent));
        let n = finished.tally.sent as f64;
        assert!((n - 4_000.0).abs() < 5.0 * 4_000f64.sqrt(), "{n} of 4,000");
        for (call, share) in [(0, 0.6), (1, 0.3), (2, 0.1)] {
            let op = Op::Call(call).number();
            let count = finished.counted().filter(|r| r.op == op).count() as f64;
            let error = (n * share * (1.0 - share)).sqrt();
            assert!((count - n * share).abs() < 5.0 * error, "{call}: {count} of {n}");
        }
    }
}

/// What waits because users come in bunches is in the response, as it would be for them: on one
/// session that needs 5 ms a request, 100 a second wait 2.5 ms on average where they come at
/// random (M/D/1: rho / (1 - rho) / 2 of the service), and not at all where they come evenly.
#[test]
fn bunches_of_users_wait_as_queueing_theory_says() {
    let waited = |arrivals: &str| {
        let mut script = Script::healthy(Speaks::Sessions);
        script.service_ns = 5 * MS..5 * MS + 1;
        script.network_ns = 1..2;
        let options = format!(
            "-c 1 --ramp 100 -r 100 -d 200s --heartbeat 300s --seed 4 --arrivals {arrivals}"
        );
        let mut run = Run::new(&Case::new(&options, vec![script]));
        assert!(run.ramp(S));
        run.turn_until_ns(run.orders.hold().end);
        run.finish().tally.slip.mean()
    };
    let (constant_ns, poisson_ns) = (waited("constant"), waited("poisson"));
    assert!(constant_ns < 0.1 * MS as f64, "{constant_ns}");
    assert!((2.2e6..2.8e6).contains(&poisson_ns), "{poisson_ns}");
}

/// A constant stage, a line and two steps, with a warm-up before them: `Finished::check` holds every
/// record against the schedule; here the counts are held against the areas.
#[test]
fn stages_offer_what_their_areas_say() {
    for (arrivals, worker) in [("constant", (0, 1)), ("constant", (1, 2)), ("poisson", (0, 1))] {
        let options = format!(
            "-c 40 --ramp 200 --ramp-steps 4 --ramp-pause 500ms --warmup 1s --heartbeat 60s \
             --arrivals {arrivals} --seed 3 --stage 1s@100 --stage 2s@100..300 --stage 2s@300..600/2"
        );
        let script = Script::healthy(Speaks::Sessions);
        let mut run = Run::new(&Case { worker, ..Case::new(&options, vec![script]) });
        assert!(run.ramp(4 * S));
        assert!(run.now_ns() > BEGIN_NS + 3 * 500 * MS, "three pauses");
        run.turn_until_ns(run.orders.hold().end);
        let finished = run.finish();
        let offered = finished.tally.sent + finished.tally.dropped;
        let expected = (100 + 400 + 900) / u64::from(worker.1);
        let spread = if arrivals == "poisson" { 5 * 38 } else { 0 };
        assert!(offered.abs_diff(expected) <= spread, "{offered} of {expected}, {arrivals}");
    }
}

/// More requests than a turn sends are due at once: the turns that send them follow one another.
#[test]
fn what_one_turn_leaves_unsent_waits_for_no_answer() {
    let script = Script { service_ns: 50 * MS..60 * MS, ..Script::healthy(Speaks::Sessions) };
    let case = Case {
        recv_buffers: 4096,
        send_buffers: 2048,
        entries: 1024,
        ..Case::new("-c 1000 --ramp 100000 --closed -d 1s", vec![script])
    };
    let mut run = Run::new(&case);
    assert!(run.ramp(2 * S));
    run.turn_until_ns(run.orders.hold().end);
    let finished = run.finish();
    assert!(finished.tally.ok > 10_000, "{}", finished.tally.ok);
    let latest = finished.counted().map(Request::slip_ns).max();
    assert!(latest < Some(5 * MS), "{latest:?}");
}
