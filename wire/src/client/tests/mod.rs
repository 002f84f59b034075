//! The exchange with answers as captured from real servers, each in every chunking: the driver.

mod answers;
mod hostile;
mod streams;

use super::*;
use crate::Violation;
use crate::jsonrpc::Method;

const ID: u64 = 7;
const ANSWER: &str = r#"{"jsonrpc":"2.0","id":7,"result":{"content":[],"id":9}}"#;
const PROGRESS: &str = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"id":7}}"#;
const JSON: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
const SSE: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// A connection with its buffers, as a worker holds it.
struct Peer {
    exchange: Exchange,
    limits: Limits,
    session: Vec<u8>,
    last_event: Vec<u8>,
    spill: Vec<u8>,
    endpoint: Vec<u8>,
}

impl Peer {
    fn http(expectation: Expectation) -> Self {
        Self::new(Exchange::http(), expectation)
    }

    fn new(mut exchange: Exchange, expectation: Expectation) -> Self {
        exchange.expect(expectation).unwrap();
        let buffers = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (session, last_event, spill, endpoint) = buffers;
        let limits = Limits::default();
        Self { exchange, limits, session, last_event, spill, endpoint }
    }

    fn feed(&mut self, input: &[u8], size: usize) -> Vec<Event> {
        let mut events = Vec::new();
        for mut chunk in input.chunks(size.max(1)) {
            loop {
                let side = Side {
                    limits: &self.limits,
                    session: &mut self.session,
                    last_event: Some(&mut self.last_event),
                    spill: &mut self.spill,
                };
                let (used, event) = self.exchange.feed(chunk, side);
                chunk = &chunk[used..];
                let Some(event) = event else { break };
                if event == Event::Endpoint {
                    self.endpoint = std::mem::take(&mut self.spill);
                }
                events.push(event);
            }
            assert!(chunk.is_empty(), "no event means that all input is used");
            assert!(!self.exchange.is_idle() || self.spill.is_empty(), "given back empty");
        }
        events
    }
}

/// Plays an answer in every chunking, which must not matter; ends with the peer's close if so told.
fn play(expectation: Expectation, input: &str, eof: bool) -> (Vec<Event>, Peer) {
    play_on(&Exchange::http(), expectation, input, eof)
}

fn play_on(
    exchange: &Exchange,
    expectation: Expectation,
    input: &str,
    eof: bool,
) -> (Vec<Event>, Peer) {
    let run = |size| {
        let mut peer = Peer::new(exchange.clone(), expectation);
        let mut events = peer.feed(input.as_bytes(), size);
        if eof {
            events.extend(peer.exchange.eof());
        }
        (events, peer)
    };
    let whole = run(input.len());
    for size in 1..input.len() {
        let (events, peer) = run(size);
        assert_eq!(events, whole.0, "in pieces of {size}: {input}");
        assert_eq!((&peer.session, &peer.endpoint), (&whole.1.session, &whole.1.endpoint));
        assert_eq!(peer.last_event, whole.1.last_event);
    }
    whole
}

fn request() -> Expectation {
    Expectation::new(Purpose::Request, ID)
}

fn for_purpose(purpose: Purpose) -> Expectation {
    Expectation { carried_session: true, ..Expectation::new(purpose, ID) }
}

fn stream() -> Expectation {
    Expectation { id: Expectation::NO_ID, ..for_purpose(Purpose::Stream) }
}

fn answer(reply: Reply, status: u16) -> Event {
    Event::Answer(Answer { reply, status, rpc_code: 0, streamed: false, revision: None })
}

fn streamed(reply: Reply) -> Event {
    Event::Answer(Answer { reply, status: 200, rpc_code: 0, streamed: true, revision: None })
}

fn violation(violation: Violation, status: u16) -> Event {
    answer(Reply::Violation(violation), status)
}

fn with_length(head: &str, body: &str) -> String {
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn chunked(parts: &[&str]) -> String {
    let mut text = String::new();
    for (index, part) in parts.iter().enumerate() {
        let len = part.len();
        let size = if index % 2 == 0 { format!("{len:x}") } else { format!("{len:X}") };
        text += &format!("{size}\r\n{part}\r\n");
    }
    text + "0\r\n\r\n"
}
