//! Event streams as answers: which event is a message, a priming event or an address.
//!
//! Owns the use of the spill buffer inside a body. Must not know how the stream is framed.

use super::exchange::{Exchange, Owed, Phase, server_request, unsolicited};
use super::{Event, Expectation, Purpose, Side};
use crate::Violation;
use crate::jsonrpc::{Id, Kind, Message, Method};
use crate::mcp::judge_message;
use crate::sse::{Dispatch, Name, Piece};

/// What the spill buffer holds of the event under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Spilled {
    Nothing,
    /// The id so far.
    Id,
    /// An id that is too long to keep, or not fit for a header field.
    BadId,
    /// The address of an `endpoint` event so far.
    Endpoint,
    /// An address that is too long.
    BadEndpoint,
}

impl Exchange {
    /// Takes content; returns how much was read, which is all of it unless there is an event.
    pub(super) fn on_events(&mut self, data: &[u8], side: &mut Side<'_>) -> (usize, Option<Event>) {
        let mut read = 0;
        loop {
            let (taken, piece) = self.sse.next(&data[read..]);
            read += taken;
            self.event_bytes = self.event_bytes.saturating_add(taken as u32);
            if self.event_bytes > side.limits.message_bytes {
                return (data.len(), Some(self.endless_event()));
            }
            match piece {
                Piece::Nothing => return (read, None),
                Piece::Data(text) => self.on_event_data(text, side),
                Piece::IdStart => {
                    let wanted = side.last_event.is_some() && !self.spilled.is_endpoint();
                    if wanted {
                        side.spill.clear();
                        self.spilled = Spilled::Id;
                    }
                }
                Piece::Id(text) => self.on_event_id(text, side),
                Piece::Dispatch(dispatch) => {
                    self.event_bytes = 0;
                    if let Some(event) = self.on_dispatch(dispatch, side) {
                        return (read, Some(event));
                    }
                }
            }
        }
    }

    /// An event has grown beyond the limit and has no end, whatever it consists of. Nothing can follow
    /// it: a stream that is open is over by this, and an answer too.
    fn endless_event(&mut self) -> Event {
        self.event_bytes = 0;
        self.data_violation = None;
        self.answered &= !self.open;
        self.fail(Violation::MessageTooLong)
    }

    fn on_event_id(&mut self, text: &[u8], side: &mut Side<'_>) {
        if self.spilled != Spilled::Id {
            return;
        }
        let fits = side.spill.len() + text.len() <= side.limits.event_id_bytes;
        // Such bytes cannot be repeated in a header field (RFC 9110 section 5.5).
        if fits && !text.iter().any(u8::is_ascii_control) {
            side.spill.extend_from_slice(text);
        } else {
            side.spill.clear();
            self.spilled = Spilled::BadId;
        }
    }

    fn on_event_data(&mut self, text: &[u8], side: &mut Side<'_>) {
        if self.sse.name() == Name::Endpoint {
            if !self.spilled.is_endpoint() {
                side.spill.clear();
                self.spilled = Spilled::Endpoint;
            }
            let fits = side.spill.len() + text.len() <= side.limits.endpoint_bytes;
            if fits && text.iter().all(u8::is_ascii_graphic) {
                side.spill.extend_from_slice(text);
            } else {
                side.spill.clear();
                self.spilled = Spilled::BadEndpoint;
            }
        } else if self.data_violation.is_none() {
            // Whether the data has to be JSON is known only with the event's name.
            self.data_violation = self.scanner.feed(text, side.limits).err();
        }
    }

    fn on_dispatch(&mut self, dispatch: Dispatch, side: &mut Side<'_>) -> Option<Event> {
        let spilled = std::mem::replace(&mut self.spilled, Spilled::Nothing);
        let violation = self.data_violation.take();
        if let (Some(last_event), Spilled::Id | Spilled::BadId) = (&mut side.last_event, spilled) {
            last_event.clear();
            last_event.extend_from_slice(side.spill);
        }
        let keeps_spill = spilled == Spilled::Endpoint && dispatch.name == Name::Endpoint;
        if !keeps_spill {
            side.spill.clear();
        }
        match dispatch.name {
            Name::Message => {}
            Name::Endpoint => {
                self.scanner.reset();
                if !keeps_spill || side.spill.is_empty() {
                    return Some(self.report(Violation::BadEndpoint));
                }
                self.owed = Owed::Spill;
                return Some(Event::Endpoint);
            }
            Name::Other => {
                self.scanner.reset();
                return Some(Event::StreamEvent);
            }
        }
        if let Some(violation) = violation {
            self.scanner.reset();
            return Some(self.event_violation(violation));
        }
        if self.scanner.is_blank() {
            self.scanner.reset();
            return Some(Event::StreamEvent);
        }
        Some(match self.scanner.finish() {
            Ok(message) => self.on_message(&message, side),
            Err(violation) => self.event_violation(violation),
        })
    }

    /// A message that is none. An open stream goes on; an answer is over.
    fn event_violation(&mut self, violation: Violation) -> Event {
        let event = self.report(violation);
        if !self.open {
            self.phase = Phase::Skip;
        }
        event
    }

    fn on_message(&mut self, message: &Message, side: &Side<'_>) -> Event {
        let Some(expected) = self.expected else { return unsolicited(message) };
        let unacknowledged = expected.purpose == Purpose::Listen && !self.open && !self.answered;
        match message.kind {
            Kind::Request(_) | Kind::Notification(_) if !self.count_message(side) => {
                self.fail(Violation::TooManyMessages)
            }
            Kind::Notification(Method::SubscriptionsAcknowledged) if unacknowledged => {
                self.open = true;
                self.answered = true;
                Event::StreamOpen
            }
            Kind::Request(_) | Kind::Notification(_) if unacknowledged => {
                self.event_violation(Violation::NotAcknowledged)
            }
            Kind::Notification(method) => Event::Notification(method),
            Kind::Request(method) => server_request(message, method),
            Kind::Result | Kind::ToolError | Kind::Error(_) => self.on_response(expected, message),
        }
    }

    fn on_response(&mut self, expected: Expectation, message: &Message) -> Event {
        let ours = message.id == Some(Id::Number(expected.id));
        if self.answered || (expected.purpose == Purpose::Stream && !ours) {
            return unsolicited(message);
        }
        self.answered = true;
        Event::Answer(self.answer(judge_message(&expected, message), Some(message)))
    }

    /// What the end of an event stream means.
    pub(super) fn end_events(&mut self, expected: &Expectation) -> Option<Event> {
        self.spilled = Spilled::Nothing;
        self.data_violation = None;
        self.event_bytes = 0;
        if self.open {
            return Some(Event::StreamEnd);
        }
        if self.answered {
            return None;
        }
        let resumable = !expected.stateless && expected.purpose != Purpose::Listen;
        if resumable {
            self.answered = true;
            return Some(Event::Interrupted);
        }
        Some(self.report(Violation::AnswerCutShort))
    }
}

impl Spilled {
    fn is_endpoint(self) -> bool {
        matches!(self, Self::Endpoint | Self::BadEndpoint)
    }
}
