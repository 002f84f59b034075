//! Requests of servers, and how they are answered: a `ping` with an empty result, anything else
//! with the error that says that this client does not have it.
//!
//! Over lines the answer goes over the session's own connection. Over HTTP it is a POST of its own
//! (2025-11-25, "Sending Messages to the Server"), and the session's connection may be waiting for
//! an answer that the server gives only after this one: a helper's connection carries it.

use std::io;

use latlog::{EventKind, Outcome};
use wire::client::{Answer, Event};
use wire::jsonrpc::{Id, Method, TEXT_BYTES};
use wire::mcp::{Fields, IdField};

use super::Worker;
use super::pool::Pool;
use super::receive::outcome_of_reply;
use super::session::{After, Next, Session, State};
use crate::clock::Clock;
use crate::ops::Op;
use crate::plan::ASKS_MAX;
use crate::ring::Ring;

/// A request of a server that is to be answered.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// The slot of its session.
    pub session: u32,
    /// The number of its session, which another slot may have by the time of the answer.
    number: u32,
    /// The use of the session's slot that it came over, where it is answered over that.
    generation: u32,
    /// What answers it.
    pub op: Op,
    /// When it was read.
    at_ns: u64,
    /// The raw token of its id, to be repeated.
    id: [u8; TEXT_BYTES],
    id_len: u8,
}

impl Ask {
    /// The id of its session.
    pub(super) fn session_id<'a>(&self, pool: &'a Pool, slots: &'a [Session]) -> &'a [u8] {
        pool.id_of(self.number, self.session, slots)
    }

    fn id(&self) -> &[u8] {
        &self.id[..usize::from(self.id_len)]
    }

    /// What the answer carries beside its text.
    pub(super) fn fields<'a>(&'a self, session_id: &'a [u8]) -> Fields<'a> {
        Fields { id: IdField::Raw(self.id()), session: session_id, last_event: &[] }
    }
}

/// What can be done about a request of a server now.
enum Turn {
    /// Its answer is on its way, or it never will be.
    Over,
    /// Nothing yet.
    Later,
}

impl<R: Ring, C: Clock> Worker<R, C> {
    /// A server asks something, over the connection of `slot`.
    pub(super) fn asked(&mut self, slot: u32, session: u32, id: Id, method: Method) {
        self.recorder.now.server_requests += 1;
        let s = &self.sessions[slot as usize];
        let op = if method == Method::Ping { Op::Pong } else { Op::Decline };
        let has_answer = self.prepared[usize::from(s.target)].requests.get(op).is_some();
        let digits;
        let token: &[u8] = match id {
            Id::Number(number) => {
                digits = itoa(number);
                &digits.1[digits.0..]
            }
            // A longer one is not kept.
            Id::Text => s.exchange.text(),
            Id::Null | Id::Other => &[],
        };
        if token.is_empty() || !has_answer || self.asks.len() >= ASKS_MAX {
            self.recorder.now.server_requests_given_up += 1;
            return;
        }
        let mut kept = [0; TEXT_BYTES];
        kept[..token.len()].copy_from_slice(token);
        let (generation, id_len) = (s.generation, token.len() as u8);
        let at_ns = self.now_ns;
        let number = self.pool.number(session);
        self.asks.push_back(Ask { session, number, generation, op, at_ns, id: kept, id_len });
    }

    /// Answers what can be answered now.
    pub(super) fn serve_asks(&mut self) -> io::Result<()> {
        for _ in 0..self.asks.len() {
            let Some(ask) = self.asks.pop_front() else { return Ok(()) };
            let s = &self.sessions[ask.session as usize];
            let apart = self.prepared[usize::from(s.target)].dialect.answers_apart();
            let late = ask.at_ns + self.plan.timeout_ns <= self.now_ns;
            let gone = !apart && (s.generation != ask.generation || !s.open);
            let turn = match (late || gone, apart) {
                (true, _) => {
                    self.recorder.now.server_requests_given_up += 1;
                    Turn::Over
                }
                (false, true) => self.find_helper(&ask)?,
                (false, false) => self.answer_here(&ask)?,
            };
            match turn {
                Turn::Over => {}
                Turn::Later => self.asks.push_back(ask),
            }
        }
        Ok(())
    }

    /// Answers over the session's own connection, unless something is being sent over it.
    fn answer_here(&mut self, ask: &Ask) -> io::Result<Turn> {
        let s = &self.sessions[ask.session as usize];
        let layered = s.layer.is_some();
        if (s.sending.is_some() && !layered) || s.state == State::Finishing {
            return Ok(Turn::Later);
        }
        Ok(if self.send_apart(ask.session, Some(ask))? { Turn::Over } else { Turn::Later })
    }

    /// Gives an answer to a helper that is free.
    fn find_helper(&mut self, ask: &Ask) -> io::Result<Turn> {
        let first = self.count + self.streams;
        let free = |n: &u32| {
            let rests = self.sessions[(first + n) as usize].state == State::Waiting;
            rests && self.helpers[*n as usize].is_none()
        };
        let Some(helper) = (0..self.helpers.len() as u32).find(free) else {
            return Ok(Turn::Later);
        };
        let slot = first + helper;
        self.sessions[slot as usize].target = self.sessions[ask.session as usize].target;
        self.helpers[helper as usize] = Some(*ask);
        if self.dial(slot)?.is_err() {
            self.helpers[helper as usize] = None;
            return Ok(Turn::Later);
        }
        Ok(Turn::Over)
    }

    /// The connection of a helper could not be made, or is gone.
    pub(super) fn lose_helper(
        &mut self,
        slot: u32,
        outcome: Outcome,
        detail: i32,
    ) -> io::Result<()> {
        let connecting =
            matches!(self.sessions[slot as usize].state, State::Connecting | State::Handshaking);
        let owner = self.owner(slot);
        if connecting && self.sessions[owner as usize].state != State::Ended {
            self.event(owner, EventKind::ConnectFailed, outcome, detail, 0);
            self.keep_example(slot, Op::Pong, outcome, detail);
        }
        self.end_request(slot, outcome, detail);
        self.close(slot, Next::End)
    }

    /// The kernel has let go of a helper's connection.
    pub(super) fn helper_closed(&mut self, slot: u32, helper: u32) -> io::Result<()> {
        self.sessions[slot as usize].state = State::Waiting;
        let other_pair = self.sessions[slot as usize].next == Next::OtherPair;
        if other_pair && self.dial(slot)?.is_ok() {
            return Ok(());
        }
        let unsent = self.helpers[helper as usize].take();
        if other_pair {
            self.asks.extend(unsent);
        } else {
            self.recorder.now.server_requests_given_up += u64::from(unsent.is_some());
        }
        Ok(())
    }

    /// Counts as given up what the end finds unanswered.
    pub(super) fn give_up_asks(&mut self) {
        let unsent = self.helpers.iter_mut().filter_map(Option::take).count() + self.asks.len();
        self.asks.clear();
        self.recorder.now.server_requests_given_up += unsent as u64;
    }

    /// A helper's connection stands: sends the answer over it.
    pub(super) fn answer_over(&mut self, slot: u32, helper: u32) {
        if let Some(ask) = self.helpers[helper as usize] {
            self.begin(slot, ask.op, State::Busy, ask.at_ns);
        }
    }

    /// What the server says to an answer: 202, and nothing else.
    pub(super) fn on_helper_event(&mut self, slot: u32, event: Event) -> io::Result<()> {
        match event {
            Event::Answer(Answer { reply, .. }) => {
                let (outcome, detail) = outcome_of_reply(reply);
                self.end_request(slot, outcome, detail);
                self.sessions[slot as usize].after = Some(After::Close);
                Ok(())
            }
            Event::Idle | Event::Closed => self.close(slot, Next::End),
            Event::Interrupted
            | Event::StreamOpen
            | Event::StreamEnd
            | Event::StreamEvent
            | Event::Notification(_)
            | Event::ServerRequest { .. }
            | Event::Endpoint
            | Event::Unsolicited { .. } => Ok(()),
            Event::Truncated { .. } => {
                self.end_request(slot, Outcome::Eof, 0);
                self.close(slot, Next::End)
            }
        }
    }
}

/// The decimal digits of a number: where they begin, and where they stand at the end of.
fn itoa(mut number: u64) -> (usize, [u8; 20]) {
    let (mut at, mut digits) = (20, [0; 20]);
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return (at, digits);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::itoa;

    #[test]
    fn numbers_are_written_in_decimal() {
        for number in [0, 7, 10, 12_345, u64::MAX] {
            let (at, digits) = itoa(number);
            assert_eq!(&digits[at..], number.to_string().as_bytes());
        }
    }
}
