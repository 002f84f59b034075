//! What must hold for the receive side whatever a peer sends. Shared by the test beside it and by
//! the fuzz target `exchange`.
//!
//! An input is two bytes (what is expected; how it is cut into pieces) and what the peer sends.

use wire::client::{Event, Exchange, Expectation, Purpose, Side};
use wire::{Limits, jsonrpc};

/// The id that answers of the corpus carry.
const ID: u64 = 7;

const PURPOSES: [Purpose; 7] = [
    Purpose::Plain,
    Purpose::Request,
    Purpose::Initialize,
    Purpose::Notification,
    Purpose::Stream,
    Purpose::Listen,
    Purpose::Delete,
];

/// Small, so that inputs of an ordinary length reach them.
fn limits() -> Limits {
    Limits {
        head_bytes: 256,
        headers: 8,
        interim_responses: 2,
        chunk_line_bytes: 16,
        trailer_bytes: 64,
        session_id_bytes: 16,
        event_id_bytes: 16,
        endpoint_bytes: 32,
        depth: 8,
        message_bytes: 512,
        messages_per_answer: 8,
    }
}

/// All that a caller sees.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    events: Vec<Event>,
    session: Vec<u8>,
    last_event: Vec<u8>,
    endpoints: Vec<Vec<u8>>,
}

/// Panics if an input breaks a rule.
pub fn check(input: &[u8]) {
    let [kind, cut, bytes @ ..] = input else { return };
    let limits = limits();
    let whole = play(*kind, &limits, bytes, |_| usize::MAX);
    let single = play(*kind, &limits, bytes, |_| 1);
    assert_eq!(single, whole, "byte by byte");
    let mut state = u32::from(*cut) + 1;
    let pieces = play(*kind, &limits, bytes, |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as usize % 40
    });
    assert_eq!(pieces, whole, "in pieces drawn by {cut}");
    check_scan(bytes, &limits);
}

/// Lets a connection read the bytes in pieces.
fn play(kind: u8, limits: &Limits, bytes: &[u8], mut piece: impl FnMut(usize) -> usize) -> Seen {
    let expectation = Expectation {
        carried_session: kind & 8 != 0,
        stateless: kind & 16 != 0,
        head: kind & 32 != 0,
        ..Expectation::new(PURPOSES[usize::from(kind & 7) % PURPOSES.len()], ID)
    };
    let mut exchange = if kind & 64 != 0 { Exchange::line() } else { Exchange::http() };
    exchange.expect(expectation).expect("a new connection is free");
    let (mut seen, mut spill) = (Seen::default(), Vec::new());
    let mut rest = bytes;
    while !rest.is_empty() {
        let (mut now, later) = rest.split_at(piece(rest.len()).min(rest.len()));
        rest = later;
        let mut calls_left = 4 * now.len() + 16;
        loop {
            let side = Side {
                limits,
                session: &mut seen.session,
                last_event: Some(&mut seen.last_event),
                spill: &mut spill,
            };
            let (used, event) = exchange.feed(now, side);
            now = &now[used..];
            calls_left -= 1;
            assert!(calls_left > 0, "feeding comes to no end");
            let most = limits.head_bytes.max(limits.event_id_bytes).max(limits.endpoint_bytes);
            assert!(spill.len() <= most, "{} bytes of spill", spill.len());
            assert!(seen.session.len() <= limits.session_id_bytes);
            assert!(seen.last_event.len() <= limits.event_id_bytes);
            let Some(event) = event else { break };
            if event == Event::Endpoint {
                seen.endpoints.push(spill.clone());
            }
            seen.events.push(event);
            if event == Event::Idle {
                exchange.expect(expectation).expect("it said that it is idle");
            }
        }
        assert!(now.is_empty(), "no event means that all input is used");
    }
    seen.events.extend(exchange.eof());
    assert_eq!(exchange.eof(), None, "there is one end");
    seen
}

/// The scanner agrees with itself on any cut.
fn check_scan(bytes: &[u8], limits: &Limits) {
    let whole = jsonrpc::scan(bytes, limits);
    let mut scanner = jsonrpc::Scanner::new();
    let fed = bytes.chunks(1).try_for_each(|byte| scanner.feed(byte, limits));
    assert_eq!(fed.and_then(|()| scanner.finish()), whole, "byte by byte");
}
