//! The search for a limit, against servers whose limit is known.

use super::*;
use crate::search::{Found, Step};
use crate::stepping::Stepping;

/// Searches as the coordinator does; all that was found.
fn search(options: &str, script: Script) -> (Found, Vec<Step>, Run) {
    let options = format!("--ramp 1000 --heartbeat 60s --timeout 500ms --step 5s {options}");
    let mut run = Run::new(&Case::new(&options, vec![script]));
    assert!(run.turn_until(run.now_ns() + 5 * S, Run::all_established));
    let mut stepping = Stepping::new(&run.plan).expect("a search is planned");
    let windows = [run.window.clone()];
    while stepping.found().is_none() {
        stepping.advance(run.now_ns(), &run.orders, &windows);
        run.turn_until_ns(run.now_ns() + 20 * MS);
        assert!(run.now_ns() < 1_000 * S, "the search does not end");
    }
    let found = stepping.found().expect("it is over").clone();
    (found, stepping.steps, run)
}

/// Two sessions on a server that takes 10 ms for a request: more than 200 a second cannot be.
#[test]
fn the_knee_of_a_server_is_where_arithmetic_says() {
    let mut script = Script::healthy(Speaks::Sessions);
    script.service_ns = 10 * MS..10 * MS + 1;
    script.network_ns = 1..2;
    let (found, steps, run) = search("-c 2 -r 20 --find-limit p99<50ms,success>=99%", script);
    let Found::Knee { holds, breaks } = found else { panic!("{found:?}") };
    assert!(holds <= 201.0 && breaks > 199.0 && breaks / holds <= 1.05, "{found:?}");
    assert!(steps.len() >= 6);
    for step in &steps {
        let offered = step.seen.tally.sent + step.seen.tally.dropped;
        let scheduled = step.rate_per_s * 5.0;
        assert!((offered as f64 - scheduled).abs() <= 1.0, "{offered} of {scheduled}");
    }
    assert_eq!(run.worker.established, 2);
    assert_eq!(run.worker.recorder.now.connects, 2, "all steps are made on the same sessions");
}

/// A server that fails each request is at fault at any rate.
#[test]
fn a_server_that_never_does_is_said_never_to() {
    let mut script = Script::healthy(Speaks::Sessions);
    script.service_ns = 60 * MS..60 * MS + 1;
    let (found, ..) = search("-c 10 -r 2 --find-limit p50<50ms", script);
    assert_eq!(found, Found::Never);
}

/// A search that is told to end says what it knows, and leaves a worker that comes to its end.
#[test]
fn a_search_can_be_ended() {
    let options = "-c 4 --ramp 1000 -r 100 --find-limit p99<50ms --heartbeat 60s --step 2s";
    let mut run = Run::new(&Case::new(options, vec![Script::healthy(Speaks::Sessions)]));
    assert!(run.turn_until(run.now_ns() + S, Run::all_established));
    let mut stepping = Stepping::new(&run.plan).expect("a search is planned");
    // Into the middle of the second step.
    for _ in 0..200 {
        stepping.advance(run.now_ns(), &run.orders, &[run.window.clone()]);
        run.turn_until_ns(run.now_ns() + 20 * MS);
    }
    run.orders.end_load(run.now_ns());
    stepping.advance(run.now_ns(), &run.orders, &[run.window.clone()]);
    let Some(Found::Open { holds: Some(100.0), breaks: None }) = stepping.found() else {
        panic!("{:?}", stepping.found());
    };
    run.turn_until_ns(run.now_ns() + S);
    assert_eq!(run.worker.stage, Stage::Drain);
    run.orders.cool_down(run.now_ns(), run.now_ns() + 10 * S);
    while !run.turn() {}
    assert_eq!(run.worker.ended, 4);
}
