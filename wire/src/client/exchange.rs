//! The state machine behind [`Exchange`]: what is expected, what is owed, and lines.
//!
//! Owns the order of events. Must not read HTTP or event streams itself; [`super::http`] and
//! [`super::events`] do.

use super::events::Spilled;
use super::{Answer, Busy, Event, Expectation, Purpose, Side};
use crate::jsonrpc::{Id, Kind, Message, Method, Scanner};
use crate::mcp::{Reply, Revision, judge_message};
use crate::{Violation, http1, ndjson, sse};

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// HTTP, nothing expected.
    Idle,
    /// HTTP, before the end of the head.
    Head,
    /// HTTP, a body that is not looked at (any more).
    Skip,
    /// HTTP, one JSON-RPC message.
    Json,
    /// HTTP, an event stream.
    Events,
    /// Lines.
    Line,
    /// No byte means anything any more.
    Dead,
}

/// What the next call of `feed` does before it looks at its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Owed {
    Nothing,
    /// Yield [`Event::Idle`].
    Idle,
    /// Yield [`Event::Closed`].
    Closed,
    /// Take back the buffer that [`Event::Endpoint`] showed.
    Spill,
}

/// The receive side of one connection. It keeps no bytes of what it reads; see [`Side`].
#[derive(Debug, Clone)]
pub struct Exchange {
    pub(super) expected: Option<Expectation>,
    pub(super) scanner: Scanner,
    pub(super) reader: http1::Reader,
    pub(super) sse: sse::Parser,
    /// The status of the response under way.
    pub(super) status: u16,
    /// Notifications and server requests since the request was announced.
    pub(super) messages: u16,
    pub(super) phase: Phase,
    pub(super) owed: Owed,
    /// Whether the request got its event: an answer, an open stream, or an interruption.
    pub(super) answered: bool,
    /// Whether the stream that the request asked for is open.
    pub(super) open: bool,
    pub(super) any_bytes: bool,
    /// What is wrong with the data of the event under way.
    pub(super) data_violation: Option<Violation>,
    /// Bytes of the event under way, whatever they are.
    pub(super) event_bytes: u32,
    pub(super) spilled: Spilled,
}

impl Exchange {
    /// For a connection that speaks HTTP/1.1.
    pub fn http() -> Self {
        Self::new(Phase::Idle)
    }

    /// For a connection that speaks newline-delimited JSON-RPC.
    pub fn line() -> Self {
        Self::new(Phase::Line)
    }

    fn new(phase: Phase) -> Self {
        Self {
            expected: None,
            scanner: Scanner::new(),
            reader: http1::Reader::new(),
            sse: sse::Parser::new(),
            status: 0,
            messages: 0,
            phase,
            owed: Owed::Nothing,
            answered: false,
            open: false,
            any_bytes: false,
            data_violation: None,
            event_bytes: 0,
            spilled: Spilled::Nothing,
        }
    }

    /// Announces the request about to be sent. Over lines, a request that is still unanswered is
    /// forgotten: its late answer becomes [`Event::Unsolicited`]; and one may be announced as soon
    /// as the one before is answered, in which case there is no [`Event::Idle`] between them.
    ///
    /// # Errors
    /// [`Busy`] over HTTP before [`Event::Idle`], and after [`Event::Closed`].
    pub fn expect(&mut self, expectation: Expectation) -> Result<(), Busy> {
        match self.phase {
            Phase::Idle if self.owed == Owed::Nothing => self.phase = Phase::Head,
            // The request takes the place of an `Idle` that is still owed.
            Phase::Line => self.owed = Owed::Nothing,
            _ => return Err(Busy),
        }
        self.expected = Some(expectation);
        self.messages = 0;
        self.answered = false;
        self.open = false;
        self.any_bytes = false;
        Ok(())
    }

    /// Takes bytes from the peer; returns how many were used, and what they amount to. To be
    /// called with the rest until it returns `None`, which means that all input is used; after an
    /// event there may be another even if no input is left.
    pub fn feed(&mut self, input: &[u8], mut side: Side<'_>) -> (usize, Option<Event>) {
        match std::mem::replace(&mut self.owed, Owed::Nothing) {
            Owed::Nothing => {}
            Owed::Idle => return (0, Some(Event::Idle)),
            Owed::Closed => return (0, Some(Event::Closed)),
            Owed::Spill => side.spill.clear(),
        }
        self.any_bytes |= !input.is_empty();
        match self.phase {
            Phase::Dead => (input.len(), None),
            Phase::Line => self.feed_line(input, &side),
            Phase::Idle if input.is_empty() => (0, None),
            Phase::Idle => {
                let event = self.fail(Violation::Unsolicited);
                (input.len(), Some(event))
            }
            Phase::Head | Phase::Skip | Phase::Json | Phase::Events => {
                let (used, event) = self.feed_http(input, &mut side);
                if self.phase == Phase::Dead {
                    side.spill.clear();
                }
                (used, event)
            }
        }
    }

    /// Tells that the peer has closed its side. A body that ends with the connection is complete;
    /// an exchange cut short yields [`Event::Truncated`], an idle one nothing. What the call leaves
    /// in [`Side::spill`] is of no use.
    pub fn eof(&mut self) -> Option<Event> {
        self.owed = Owed::Nothing;
        let event = match self.phase {
            Phase::Idle | Phase::Dead => None,
            Phase::Line if self.expected.is_some() => {
                Some(Event::Truncated { any_bytes: !self.scanner.is_blank() })
            }
            Phase::Line => None,
            Phase::Head | Phase::Skip | Phase::Json | Phase::Events => {
                if self.reader.ends_at_eof() {
                    self.end_body()
                } else if self.open {
                    Some(Event::StreamEnd)
                } else if self.answered {
                    None
                } else {
                    Some(Event::Truncated { any_bytes: self.any_bytes })
                }
            }
        };
        self.phase = Phase::Dead;
        self.expected = None;
        event
    }

    /// Whether a request may be announced and sent.
    pub fn is_idle(&self) -> bool {
        match self.phase {
            Phase::Idle => self.owed == Owed::Nothing,
            Phase::Line => self.expected.is_none(),
            Phase::Head | Phase::Skip | Phase::Json | Phase::Events | Phase::Dead => false,
        }
    }

    /// The request that waits for its answer, or whose exchange is not over.
    pub fn expected(&self) -> Option<&Expectation> {
        self.expected.as_ref()
    }

    /// The wait that the event stream read last wants before it is opened again, ms.
    pub fn retry_ms(&self) -> Option<u32> {
        self.sse.retry_ms()
    }

    /// The text kept of the last message: `result.protocolVersion`, or the raw token of a text id.
    /// Empty if there was none or it was too long.
    pub fn text(&self) -> &[u8] {
        self.scanner.text()
    }

    fn feed_line(&mut self, input: &[u8], side: &Side<'_>) -> (usize, Option<Event>) {
        match ndjson::next(&mut self.scanner, input, side.limits) {
            Ok((used, None)) => (used, None),
            Ok((used, Some(message))) => {
                let event = self.on_line(&message, side);
                (used, Some(event))
            }
            Err(violation) => (input.len(), Some(self.fail(violation))),
        }
    }

    fn on_line(&mut self, message: &Message, side: &Side<'_>) -> Event {
        match (message.kind, self.expected) {
            (Kind::Request(_) | Kind::Notification(_), _) if !self.count_message(side) => {
                self.fail(Violation::TooManyMessages)
            }
            (Kind::Notification(Method::SubscriptionsAcknowledged), Some(expected))
                if expected.purpose == Purpose::Listen =>
            {
                self.expected = None;
                self.owed = Owed::Idle;
                Event::StreamOpen
            }
            (Kind::Notification(method), _) => Event::Notification(method),
            (Kind::Request(method), _) => server_request(message, method),
            (Kind::Result | Kind::ToolError | Kind::Error(_), Some(expected)) => {
                let reply = judge_message(&expected, message);
                if reply == Reply::Violation(Violation::WrongId) {
                    return unsolicited(message);
                }
                self.expected = None;
                self.owed = Owed::Idle;
                Event::Answer(self.answer(reply, Some(message)))
            }
            (Kind::Result | Kind::ToolError | Kind::Error(_), None) => unsolicited(message),
        }
    }

    /// Counts a message that is no answer; `false` if there are too many while one is awaited.
    pub(super) fn count_message(&mut self, side: &Side<'_>) -> bool {
        self.messages = self.messages.saturating_add(1);
        let waiting = self.expected.is_some() && !self.answered;
        !waiting || self.messages <= side.limits.messages_per_answer
    }

    /// Gives the connection up: yields the violation, then [`Event::Closed`].
    pub(super) fn fail(&mut self, violation: Violation) -> Event {
        let event = self.report(violation);
        self.phase = Phase::Dead;
        self.owed = Owed::Closed;
        self.scanner.reset();
        event
    }

    /// The event for a violation: the answer, unless the request has had one.
    pub(super) fn report(&mut self, violation: Violation) -> Event {
        let reply = Reply::Violation(violation);
        if self.expected.is_none() || self.answered {
            return Event::Unsolicited { id: None, reply };
        }
        self.answered = true;
        Event::Answer(self.answer(reply, None))
    }

    pub(super) fn answer(&self, reply: Reply, message: Option<&Message>) -> Answer {
        let rpc_code = match message {
            Some(Message { kind: Kind::Error(code), .. }) => *code,
            _ => 0,
        };
        let has_version = message.is_some_and(|message| message.has_version);
        let revision = if has_version { Revision::parse(self.text()) } else { None };
        let streamed = self.phase == Phase::Events;
        Answer { reply, status: self.status, rpc_code, streamed, revision }
    }
}

pub(super) fn server_request(message: &Message, method: Method) -> Event {
    Event::ServerRequest { id: message.id.unwrap_or(Id::Other), method }
}

/// The event for a response that is not the awaited one.
pub(super) fn unsolicited(message: &Message) -> Event {
    match message.id {
        Some(Id::Number(id)) => {
            let expected = Expectation::new(Purpose::Request, id);
            Event::Unsolicited { id: Some(id), reply: judge_message(&expected, message) }
        }
        _ => Event::Unsolicited { id: None, reply: Reply::Violation(Violation::Unsolicited) },
    }
}
