//! The event stream of a target that is asked over HTTP+SSE (2024-11-05): says where messages go,
//! and brings their answers.

use std::time::Duration;

use wire::client::{Answer, Event, Exchange, Expectation, Side};
use wire::jsonrpc::{Id, Method};
use wire::mcp::{Fields, IdField, Revision};

use super::{Asked, Probe, explain};
use crate::dialect::{Dialect, Requests, endpoint_path};
use crate::ops::Op;
use crate::plan::Work;

use super::stream::Stream;

/// An open event stream.
pub(super) struct Events {
    stream: Stream,
    exchange: Exchange,
    /// Received and not yet read.
    rest: Vec<u8>,
}

impl Probe<'_> {
    /// Opens the event stream; leaves in `endpoint` where messages go.
    pub(super) fn open_events(
        &mut self,
        dialect: Dialect,
        work: &Work,
        endpoint: &mut Vec<u8>,
    ) -> Result<(), String> {
        let address = self.stream.address();
        let mut stream = Stream::connect(&[address], self.wrapping, self.timeout)?;
        let requests = Requests::prepare(self.url, dialect, work).map_err(|e| e.to_string())?;
        let template = requests.get(Op::Stream).ok_or("this revision lacks the request")?;
        let id = IdField::Number(Expectation::NO_ID);
        let fields = Fields { id, session: &[], last_event: &[] };
        let mut bytes = Vec::new();
        template.render(&mut bytes, &fields);
        stream.send(&bytes).map_err(|e| format!("the connection failed: {e}"))?;
        let mut exchange = Exchange::http();
        let expectation = template.expectation(&fields).ok_or("a GET has an answer")?;
        exchange.expect(expectation).map_err(|e| e.to_string())?;
        let events = Events { stream, exchange, rest: Vec::new() };
        self.events = Some(events);
        loop {
            let (event, spilled) = self.next_event()?;
            match event {
                Event::Endpoint => {
                    let path = endpoint_path(&spilled, &self.url.authority());
                    let path = path.ok_or("its event stream names an endpoint elsewhere")?;
                    endpoint.clear();
                    endpoint.extend_from_slice(path);
                    return Ok(());
                }
                Event::Answer(a) => return Err(format!("has no event stream: {}", explain(&a))),
                Event::Idle | Event::Closed | Event::StreamEnd | Event::Truncated { .. } => {
                    return Err("ended its event stream before it named an endpoint".into());
                }
                Event::StreamOpen
                | Event::StreamEvent
                | Event::Interrupted
                | Event::Notification(_)
                | Event::ServerRequest { .. }
                | Event::Unsolicited { .. } => {}
            }
        }
    }

    /// Waits for an answer on the event stream.
    pub(super) fn answer_on_stream(
        &mut self,
        asked: &Asked<'_>,
        session: &[u8],
    ) -> Result<Answer, String> {
        loop {
            match self.next_event()?.0 {
                Event::ServerRequest { id, method } => {
                    let text = self.events.as_ref().map_or(&[][..], |e| e.exchange.text());
                    let token = token_of(id, text);
                    self.answer_server(asked, session, &token, method)?;
                }
                Event::Unsolicited { id: Some(id), reply } if id == asked.id => {
                    let exchange = self.events.as_ref().map(|events| &events.exchange);
                    let revision = exchange.and_then(|exchange| Revision::parse(exchange.text()));
                    return Ok(Answer {
                        reply,
                        status: 200,
                        rpc_code: 0,
                        streamed: true,
                        revision,
                    });
                }
                Event::Idle | Event::Closed | Event::StreamEnd | Event::Truncated { .. } => {
                    return Err("ended its event stream instead of answering".into());
                }
                Event::Answer(_)
                | Event::Endpoint
                | Event::StreamOpen
                | Event::StreamEvent
                | Event::Interrupted
                | Event::Notification(_)
                | Event::Unsolicited { .. } => {}
            }
        }
    }

    /// Answers a request of the server, as the run will: over a connection of its own where that
    /// of the request may wait for just this answer.
    pub(super) fn answer_server(
        &mut self,
        asked: &Asked<'_>,
        session: &[u8],
        token: &[u8],
        method: Method,
    ) -> Result<(), String> {
        let op = if method == Method::Ping { Op::Pong } else { Op::Decline };
        let Some(template) = asked.requests.get(op).filter(|_| !token.is_empty()) else {
            return Ok(());
        };
        let fields = Fields { id: IdField::Raw(token), session, last_event: &[] };
        let mut bytes = Vec::new();
        template.render(&mut bytes, &fields);
        let trouble = |e: std::io::Error| format!("the connection failed: {e}");
        if template.expectation(&fields).is_none() {
            return self.stream.send(&bytes).map_err(trouble);
        }
        let address = self.stream.address();
        let mut apart = Stream::connect(&[address], self.wrapping, self.timeout)?;
        apart.send(&bytes).map_err(trouble)?;
        // What it says to that is for the run to judge.
        apart.read(&mut [0; 4096]).map(|_| ()).map_err(|e| self.read_failure(&e))
    }

    /// Asks for the rest of an answer that broke off, when the server wants that.
    pub(super) fn resume(
        &mut self,
        asked: &Asked<'_>,
        session: &[u8],
        last_event: &[u8],
        broken: &Exchange,
    ) -> Result<Exchange, String> {
        let wait_ms = u64::from(broken.retry_ms().unwrap_or(0));
        std::thread::sleep(Duration::from_millis(wait_ms).min(self.timeout));
        self.reconnect()?;
        let template = asked.requests.get(Op::Stream).ok_or("broke off its answer")?;
        let fields = Fields { id: IdField::Number(asked.id), session, last_event };
        let mut bytes = Vec::new();
        template.render(&mut bytes, &fields);
        self.stream.send(&bytes).map_err(|e| format!("the connection failed: {e}"))?;
        let mut exchange = Exchange::http();
        let expectation = template.expectation(&fields).ok_or("a GET has an answer")?;
        exchange.expect(expectation).map_err(|e| e.to_string())?;
        Ok(exchange)
    }

    /// The next event, and what it leaves in the spill buffer.
    fn next_event(&mut self) -> Result<(Event, Vec<u8>), String> {
        let limits = wire::Limits::default();
        let (mut session, mut spill) = (Vec::new(), Vec::new());
        let events = self.events.as_mut().ok_or("there is no event stream")?;
        let mut chunk = [0; 4096];
        loop {
            let side = Side::new(&limits, &mut session, &mut spill);
            let (used, event) = events.exchange.feed(&events.rest, side);
            events.rest.drain(..used);
            if let Some(event) = event {
                return Ok((event, spill));
            }
            match events.stream.read(&mut chunk) {
                Ok(0) => {
                    let last = events.exchange.eof();
                    return Ok((last.unwrap_or(Event::Closed), spill));
                }
                Ok(n) => events.rest.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.read_failure(&e)),
            }
        }
    }
}

/// The raw token of a server's id, to be repeated; empty where there is none to repeat.
pub(super) fn token_of(id: Id, text: &[u8]) -> Vec<u8> {
    match id {
        Id::Number(number) => number.to_string().into_bytes(),
        Id::Text => text.to_vec(),
        Id::Null | Id::Other => Vec::new(),
    }
}
