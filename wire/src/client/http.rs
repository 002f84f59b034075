//! HTTP responses as answers: what a head promises, what a body amounts to, when it is over.
//!
//! Owns the judgement of heads and ends. Must not read chunks ([`crate::http1`] does) or events
//! ([`super::events`] does).

use super::exchange::{Exchange, Owed, Phase};
use super::{Event, Purpose, Side};
use crate::http1::{Content, Framing, Head, Lent, Piece};
use crate::mcp::{Reply, judge_http};
use crate::{Violation, sse};

impl Exchange {
    pub(super) fn feed_http(
        &mut self,
        input: &[u8],
        side: &mut Side<'_>,
    ) -> (usize, Option<Event>) {
        let mut used = 0;
        loop {
            let Some(expected) = self.expected else { return (input.len(), None) };
            let wants_session = expected.purpose == Purpose::Initialize;
            let mut lent = Lent {
                limits: side.limits,
                spill: &mut *side.spill,
                session: wants_session.then_some(&mut *side.session),
            };
            let event = match self.reader.next(&input[used..], expected.head, &mut lent) {
                Err(violation) => return (input.len(), Some(self.fail(violation))),
                Ok((taken, piece)) => {
                    used += taken;
                    match piece {
                        Piece::Nothing => return (used, None),
                        Piece::Head(head) => self.on_head(&head),
                        Piece::Data(data) => {
                            let (read, event) = self.on_data(data, side);
                            self.reader.unread(data.len() - read);
                            used -= data.len() - read;
                            event
                        }
                        Piece::End { reuse } => {
                            let event = self.on_end(reuse);
                            side.spill.clear();
                            event
                        }
                    }
                }
            };
            if event.is_some() {
                return (used, event);
            }
        }
    }

    fn on_head(&mut self, head: &Head) -> Option<Event> {
        let expected = self.expected?;
        self.status = head.status;
        if head.status == 101 {
            return Some(self.fail(Violation::UnexpectedUpgrade));
        }
        let success = (200..300).contains(&head.status);
        self.phase = Phase::Skip;
        if !success {
            // The body of an error may hold a JSON-RPC error; whatever else it holds is no breach.
            if head.content == Content::Json && !head.encoded && expected.purpose != Purpose::Plain
            {
                self.phase = Phase::Json;
            }
            return None;
        }
        match expected.purpose {
            Purpose::Plain | Purpose::Notification | Purpose::Delete => return None,
            Purpose::Request | Purpose::Initialize | Purpose::Stream | Purpose::Listen => {}
        }
        if head.encoded {
            return Some(self.report(Violation::ContentEncoded));
        }
        let stream = expected.purpose == Purpose::Stream;
        match head.content {
            Content::Json if !stream => {
                self.phase = Phase::Json;
                None
            }
            Content::EventStream => {
                self.phase = Phase::Events;
                self.sse = sse::Parser::new();
                self.open = stream;
                // A resumed stream is open and still owes an answer.
                self.answered = stream && expected.id == super::Expectation::NO_ID;
                stream.then_some(Event::StreamOpen)
            }
            // Without a body there is nothing to be of a wrong type; the end tells.
            _ if head.framing == Framing::Empty && !stream => None,
            Content::Json | Content::Absent | Content::Other => {
                Some(self.report(Violation::WrongContentType))
            }
        }
    }

    /// Takes content; returns how much was read, which is all of it unless there is an event.
    fn on_data(&mut self, data: &[u8], side: &mut Side<'_>) -> (usize, Option<Event>) {
        match self.phase {
            Phase::Events => self.on_events(data, side),
            Phase::Json => (data.len(), self.on_json(data, side)),
            Phase::Idle | Phase::Head | Phase::Skip | Phase::Line | Phase::Dead => {
                (data.len(), None)
            }
        }
    }

    fn on_json(&mut self, data: &[u8], side: &Side<'_>) -> Option<Event> {
        let violation = self.scanner.feed(data, side.limits).err()?;
        self.scanner.reset();
        let success = (200..300).contains(&self.status);
        if violation == Violation::MessageTooLong && success {
            return Some(self.fail(violation));
        }
        self.phase = Phase::Skip;
        success.then(|| self.report(violation))
    }

    /// The response is over: yields what is left to say, and owes the fate of the connection.
    fn on_end(&mut self, reuse: bool) -> Option<Event> {
        let event = self.end_body();
        self.expected = None;
        let (phase, owed, fate) = match reuse {
            true => (Phase::Idle, Owed::Idle, Event::Idle),
            false => (Phase::Dead, Owed::Closed, Event::Closed),
        };
        self.phase = phase;
        if event.is_some() {
            self.owed = owed;
            return event;
        }
        Some(fate)
    }

    /// What the end of the body means.
    pub(super) fn end_body(&mut self) -> Option<Event> {
        let expected = self.expected?;
        let blank = self.scanner.is_blank();
        match self.phase {
            Phase::Events => {
                // An event without its blank line is discarded (WHATWG HTML 9.2.6).
                self.scanner.reset();
                self.end_events(&expected)
            }
            _ if self.answered => {
                self.scanner.reset();
                None
            }
            Phase::Json if !blank => {
                let message = self.scanner.finish();
                let success = (200..300).contains(&self.status);
                let reply = match &message {
                    Err(violation) if success => Reply::Violation(*violation),
                    _ => judge_http(&expected, self.status, message.as_ref().ok()),
                };
                self.answered = true;
                Some(Event::Answer(self.answer(reply, message.as_ref().ok())))
            }
            Phase::Json | Phase::Skip | Phase::Head | Phase::Idle | Phase::Line | Phase::Dead => {
                let reply = judge_http(&expected, self.status, None);
                self.answered = true;
                Some(Event::Answer(self.answer(reply, None)))
            }
        }
    }
}
