//! Event streams beside sessions, requests of servers, answers that break off, HTTP+SSE, and
//! sessions that go from connection to connection.

use super::*;
use crate::ring::sim::{Faults, Streams, Style};

fn run(options: &str, script: Script) -> Run {
    Run::new(&Case::new(options, vec![script]))
}

fn offering(streams: Streams) -> Script {
    Script { streams: Streams { offered: true, ..streams }, ..Script::healthy(Speaks::Sessions) }
}

fn all_stream(run: &Run) -> bool {
    run.worker.streaming == run.worker.count
}

#[test]
fn each_session_holds_a_stream_beside_it() {
    for speaks in [Speaks::Sessions, Speaks::Stateless] {
        let script = Script { speaks, ..offering(Streams::default()) };
        let mut run = run("-c 20 --ramp 1000 -r 50 -d 2s --streams", script);
        assert!(run.ramp(S));
        assert!(run.turn_until(run.now_ns() + S, all_stream));
        run.turn_until_ns(run.orders.hold().end);
        let sample = run.window.sample.read();
        assert_eq!((sample.tcp_open, sample.session_alive, sample.stream_open), (40, 20, 20));
        assert_eq!(run.worker.ring.servers()[0].counts.streams, 20);
        let finished = run.finish();
        assert_eq!((finished.count(EventKind::StreamOpen), finished.tally.ok), (20, 100));
        let ends: Vec<_> =
            finished.events.iter().filter(|e| e.kind == EventKind::StreamEnd).collect();
        assert!(ends.iter().all(|e| e.outcome == Outcome::Stopped), "no loss: {ends:?}");
        assert_eq!((finished.streams.opened, finished.streams.lost.len()), (20, 0));
    }
}

#[test]
fn a_server_without_streams_is_asked_once_a_session() {
    let mut run = run("-c 20 --ramp 1000 -r 50 -d 8s --streams", Script::healthy(Speaks::Sessions));
    assert!(run.ramp(S));
    run.turn_until_ns(run.orders.hold().end);
    assert_eq!(run.worker.streaming, 0);
    let finished = run.finish();
    let streams: Vec<_> =
        finished.requests.iter().filter(|r| r.op == Op::Stream.number()).collect();
    assert_eq!(streams.len(), 20);
    assert!(streams.iter().all(|r| (r.outcome, r.detail) == (Outcome::HttpStatus, 405)));
    assert_eq!((finished.streams.not_offered, finished.tally.ok), (20, 400));
}

/// Streams that end are opened again, from the last event on, and not before the server wants it.
#[test]
fn streams_that_end_come_back() {
    let life_ns = 2 * S..2 * S + 1;
    let script = offering(Streams { life_ns, retry_ms: 700, ..Streams::default() });
    let mut run = run("-c 10 --ramp 1000 -r 10 -d 10s --streams", script);
    assert!(run.ramp(S));
    run.turn_until_ns(run.orders.hold().end);
    let finished = run.finish();
    let mut ended = BTreeMap::new();
    let mut again = 0;
    for e in &finished.events {
        match e.kind {
            EventKind::StreamEnd => {
                assert!(
                    matches!(e.outcome, Outcome::Ok | Outcome::Eof | Outcome::Stopped),
                    "{e:?}"
                );
                ended.insert(e.session, e.at_ns);
            }
            EventKind::StreamOpen => {
                if let Some(ended_ns) = ended.get(&e.session) {
                    assert!(e.at_ns - ended_ns >= 700 * MS, "not so soon: {e:?}");
                    again += 1;
                }
            }
            _ => {}
        }
    }
    assert!((20..=40).contains(&again), "{again} of 10 streams in 10 s");
    let lost: u64 = finished.streams.lost.values().sum();
    assert_eq!(finished.last.stream_losses, lost);
    assert!(lost >= again && finished.tally.ok == 100);
    assert_eq!(finished.count(EventKind::SessionLost) + finished.count(EventKind::Lost), 0);
}

/// What a session's stream brings is counted, and requests are answered over a connection apart.
#[test]
fn requests_on_a_stream_are_answered() {
    let mut run = run(
        "-c 20 --ramp 1000 -r 100 -d 2s --streams",
        offering(Streams { chatter: 1.0, ..Streams::default() }),
    );
    assert!(run.ramp(S));
    run.turn_until_ns(run.orders.hold().end + S);
    let counts = run.worker.ring.servers()[0].counts;
    assert!(counts.asked >= 200 && counts.told == counts.asked, "{counts:?}");
    let finished = run.finish();
    let last = &finished.last;
    assert_eq!((last.server_requests, last.server_requests_given_up), (counts.asked, 0));
    assert_eq!(last.notifications, counts.asked);
    let op = |op: Op| finished.requests.iter().filter(move |r| r.op == op.number());
    let all = op(Op::Pong).chain(op(Op::Decline));
    assert!(all.clone().all(|r| r.outcome == Outcome::Ok));
    assert_eq!(all.count() as u64, counts.asked);
    assert_eq!(op(Op::Pong).count() as u64, counts.asked.div_ceil(3));
}

/// The answer to a call may depend on that to a request of the server.
#[test]
fn calls_whose_answer_waits_for_ours_are_answered() {
    for speaks in [Speaks::Sessions, Speaks::Lines] {
        let streams = Streams { asks: 1.0, ..Streams::default() };
        let script = Script { streams, ..Script::healthy(speaks) };
        let mut run = run("-c 20 --ramp 1000 -r 100 -d 2s", script);
        assert!(run.ramp(S));
        run.turn_until_ns(run.orders.hold().end + S);
        let counts = run.worker.ring.servers()[0].counts;
        assert_eq!((counts.asked, counts.told), (200, 200), "{speaks:?}");
        assert_eq!(run.finish().tally.ok, 200, "{speaks:?}");
    }
}

/// A port that a program listens on is barred to everybody, and so every other connection of a
/// helper, or all first ones of a stream, may find its planned pair taken.
#[test]
fn a_planned_pair_that_is_taken_costs_no_answer_and_no_stream() {
    let script = offering(Streams { asks: 1.0, ..Streams::default() });
    let kernel = Kernel { connect_taken: 0.3, ..Kernel::default() };
    let options = "-c 20 --ramp 1000 -r 100 -d 2s --streams";
    let mut run = Run::new(&Case { kernel, heal_ns: u64::MAX, ..Case::new(options, vec![script]) });
    assert!(run.ramp(S));
    run.turn_until_ns(run.orders.hold().end + S);
    let counts = run.worker.ring.servers()[0].counts;
    assert_eq!((counts.asked, counts.told), (200, 200));
    let finished = run.finish();
    assert_eq!((finished.tally.ok, finished.last.server_requests_given_up), (200, 0));
    assert_eq!(finished.streams.opened, 20);
    assert_eq!(finished.count(EventKind::ConnectFailed), 0);
}

#[test]
fn answers_that_break_off_are_resumed() {
    let script = Script {
        streams: Streams { interrupts: 1.0, retry_ms: 120, ..Streams::default() },
        ..Script::healthy(Speaks::Sessions)
    };
    let mut run = run("-c 20 --ramp 1000 -r 50 -d 2s", script);
    assert!(run.ramp(S));
    run.turn_until_ns(run.orders.hold().end + S);
    let counts = run.worker.ring.servers()[0].counts;
    assert_eq!((counts.broken, counts.resumed), (100, 100));
    let finished = run.finish();
    assert_eq!((finished.tally.ok, finished.last.resumed), (100, 100));
    let calls = finished.requests.iter().filter(|r| r.op == Op::Call(0).number());
    for r in calls {
        assert!(r.response_ns() >= 120 * MS, "the wait that the server wants is in it: {r:?}");
    }
}

#[test]
fn over_http_and_sse_answers_come_on_the_stream() {
    let mut run = run("-c 20 --ramp 1000 -r 100 -d 3s", Script::healthy(Speaks::HttpSse));
    assert!(run.ramp(S));
    run.turn_until_ns(run.orders.hold().end);
    let sample = run.window.sample.read();
    assert_eq!((sample.tcp_open, sample.session_alive, sample.stream_open), (40, 20, 20));
    assert_eq!(run.worker.ring.servers()[0].counts.opened, 20);
    let finished = run.finish();
    assert_eq!((finished.tally.ok, finished.tally.sent), (300, 300));
    assert_eq!(finished.last.unsolicited, 0);
}

/// A session of 2024-11-05 is its stream; elsewhere it outlives it.
#[test]
fn with_the_stream_of_http_and_sse_goes_the_session() {
    let streams = Streams { life_ns: 3 * S..3 * S + 1, ..Streams::default() };
    let script = Script { streams, ..Script::healthy(Speaks::HttpSse) };
    let mut run = run("-c 10 --ramp 1000 -r 10 -d 4s", script);
    assert!(run.ramp(S));
    run.turn_until_ns(run.orders.hold().end);
    let finished = run.finish();
    let lost = finished.events.iter().filter(|e| e.kind == EventKind::SessionLost);
    assert!(lost.clone().all(|e| e.outcome == Outcome::Eof));
    assert!(lost.count() >= 10);
    assert!(finished.streams.opened >= 20);
}

#[test]
fn each_request_has_a_connection_of_its_own() {
    for speaks in [Speaks::Sessions, Speaks::Stateless, Speaks::Plain, Speaks::HttpSse] {
        let options = "-c 10 --ramp 1000 -r 100 -d 2s --new-connection-per-request";
        let mut run = run(options, Script::healthy(speaks));
        assert!(run.ramp(S), "{speaks:?}");
        run.turn_until_ns(run.orders.hold().end + 500 * MS);
        let counts = run.worker.ring.servers()[0].counts;
        let opening = match speaks {
            Speaks::Sessions => 20,
            Speaks::Stateless => 10,
            Speaks::Plain => 0,
            Speaks::HttpSse => 30,
            Speaks::Lines => unreachable!(),
        };
        // Without anything to open a session with, a first connection is made and kept.
        let first = if speaks == Speaks::Plain { 10 } else { opening };
        let more = if speaks == Speaks::Plain { 190 } else { 200 };
        assert_eq!(counts.accepted, first + more, "{speaks:?}: {counts:?}");
        let finished = run.finish();
        assert_eq!((finished.tally.ok, finished.tally.sent), (200, 200), "{speaks:?}");
        assert_eq!(finished.count(EventKind::Lost), 0, "{speaks:?}: on purpose is no loss");
        assert_eq!(finished.count(EventKind::Alive), 10, "{speaks:?}: the sessions go on");
    }
}

#[test]
fn a_connection_that_is_refused_is_the_failure_of_its_request() {
    let script = Script { refuses: vec![13 * S..14 * S], ..Script::healthy(Speaks::Sessions) };
    let options = "-c 10 --ramp 1000 -r 100 -d 5s --new-connection-per-request";
    let mut run = run(options, script);
    assert!(run.ramp(S));
    run.turn_until_ns(run.orders.hold().end);
    let finished = run.finish();
    let failed = finished.tally.errors.get(&(Outcome::Refused, nix::libc::ECONNREFUSED));
    assert!(failed.is_some_and(|n| *n >= 5), "{:?}", finished.tally.errors);
    assert_eq!(finished.tally.errors.len(), 1, "{:?}", finished.tally.errors);
}

/// Nothing is sent to idle sessions, and nothing is said about them.
#[test]
fn deliberate_silence_is_silent() {
    let options = "-c 10 --ramp 1000 -d 60s --heartbeat off";
    let mut run = run(options, Script::healthy(Speaks::Sessions));
    assert!(run.ramp(S));
    run.turn_until_ns(run.orders.hold().end);
    let counts = run.worker.ring.servers()[0].counts;
    assert_eq!((counts.pings, counts.calls), (0, 0));
    let sample = run.window.sample.read();
    assert_eq!((sample.session_established, sample.session_alive), (10, 0));
    assert_eq!(run.finish().count(EventKind::Lost), 0);
}

/// A session that is forgotten again and again is opened anew with longer and longer waits, and
/// ends with that reason once it has happened too often.
#[test]
fn a_session_is_opened_anew_so_often_and_not_more_often() {
    let faults = Faults { forget: 0.5, ..Faults::default() };
    let script = Script { faults, ..Script::healthy(Speaks::Sessions) };
    let mut case = Case::new("-c 1 --ramp 1000 -r 100 -d 0 --reinit-max 3", vec![script]);
    case.heal_ns = u64::MAX;
    let mut run = Run::new(&case);
    run.ramp(100 * MS);
    run.turn_until(run.now_ns() + 20 * S, |run| run.worker.ended == 1);
    assert_eq!(run.worker.ended, 1);
    let finished = run.finish();
    let ended = finished.events.iter().find(|e| e.kind == EventKind::Ended).expect("it ended");
    assert_eq!(ended.outcome, Outcome::SessionGone);
}

#[test]
fn a_style_with_streams_and_closing_answers_keeps_its_sessions() {
    let style = Style { sse: 1.0, closing: 0.5, ..Style::default() };
    let streams = Streams { asks: 0.3, interrupts: 0.3, chatter: 0.3, ..Streams::default() };
    let script = Script { style, ..offering(streams) };
    let mut run = run("-c 20 --ramp 1000 -r 100 -d 3s --streams", script);
    assert!(run.ramp(3 * S));
    run.turn_until_ns(run.orders.hold().end + S);
    let finished = run.finish();
    assert_eq!((finished.tally.ok, finished.tally.sent), (300, 300), "{:?}", finished.tally.errors);
    assert_eq!(finished.count(EventKind::SessionLost), 0);
}

/// After a loss of all, sessions come back at the rate of the ramp; what their streams need comes
/// with them, and costs them no place.
#[test]
fn streams_keep_no_session_from_coming_back() {
    let kills = vec![13 * S..13 * S + 50 * MS];
    let script = Script { kills, ..offering(Streams::default()) };
    let mut run = run("-c 100 --ramp 100 -r 10 -d 8s --streams", script);
    assert!(run.ramp(2 * S));
    run.turn_until_ns(13 * S + 60 * MS);
    assert!(run.worker.established < 10);
    run.turn_until_ns(13 * S + 1_200 * MS);
    assert_eq!(run.worker.established, 100);
    run.turn_until_ns(run.now_ns() + 2 * S);
    assert_eq!(run.worker.streaming, 100);
    run.finish();
}

/// A stream whose time comes while its session is between two connections is opened as well.
#[test]
fn streams_come_back_beside_connections_for_each_request() {
    let streams = Streams { life_ns: 200 * MS..400 * MS, ..Streams::default() };
    let script = Script { service_ns: 50 * MS..90 * MS, ..offering(streams) };
    let options = "-c 10 --ramp 1000 -r 100 -d 20s --streams --new-connection-per-request";
    let mut run = run(options, script);
    assert!(run.ramp(S));
    run.turn_until_ns(run.orders.hold().end);
    run.finish();
}
