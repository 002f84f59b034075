//! Event streams that are held beside sessions: how they are opened, what they carry, how they are
//! lost and come back, and how their answers reach the session (2024-11-05, HTTP+SSE).
//!
//! A stream is a connection of its own. It belongs to its session: it is opened once that stands,
//! carries its id, and goes when the session goes.

use std::cmp::Reverse;
use std::io;

use latlog::{EventKind, Outcome};
use wire::client::{Answer, Event};
use wire::mcp::Reply;

use super::Worker;
use super::receive::outcome_of_reply;
use super::session::{After, Next, Standing, State};
use super::slots::Role;
use crate::clock::Clock;
use crate::dialect::{SESSION_ID_BYTES, endpoint_path};
use crate::ops::Op;
use crate::orders::Stage;
use crate::ring::Ring;
use crate::schedule::{BACKOFF_STEPS, backoff_ns};

/// A stream that lived for this long has not failed at once: its next attempt is the first.
const LIVED_NS: u64 = 5_000_000_000;

/// Stands in the place of failed attempts for a stream that the server does not offer.
const NOT_OFFERED: u8 = u8::MAX;

/// What became of the streams of a worker, over the whole run.
#[derive(Clone, Debug, Default)]
pub struct StreamCounts {
    /// Opened, also again.
    pub opened: u64,
    /// Sessions whose server does not offer one (405).
    pub not_offered: u64,
    /// Ended by the server or with their connection, by reason; `Ok`: ended in good order.
    pub lost: std::collections::BTreeMap<Outcome, u64>,
}

impl StreamCounts {
    /// Adds another worker's.
    pub fn merge(&mut self, other: &Self) {
        self.opened += other.opened;
        self.not_offered += other.not_offered;
        for (reason, count) in &other.lost {
            *self.lost.entry(*reason).or_default() += count;
        }
    }
}

impl<R: Ring, C: Clock> Worker<R, C> {
    /// The slot of a session's stream, if sessions have any.
    pub(super) fn stream_of(&self, session: u32) -> Option<u32> {
        (self.streams > 0).then_some(self.count + session)
    }

    /// Whether a session wants its stream to be open.
    pub(super) fn wants_stream(&self, session: u32) -> bool {
        let s = &self.sessions[session as usize];
        let prepared = &self.prepared[usize::from(s.target)];
        let needs = prepared.dialect.answers_on_stream();
        let offered = prepared.requests.get(Op::Stream).is_some();
        let opening = needs && s.state == State::Opening;
        let renews =
            s.state == State::Closing && s.next == Next::Renew && s.after != Some(After::OpenAgain);
        match s.state {
            State::Deleting | State::Finishing | State::Ended => false,
            State::Closing if !renews => false,
            State::Closing
            | State::Waiting
            | State::BackingOff
            | State::Connecting
            | State::Handshaking
            | State::Opening
            | State::Idle
            | State::Busy
            | State::Streaming => {
                self.stage != Stage::Cooldown
                    && offered
                    && ((s.established && (self.plan.streams || needs)) || opening)
            }
        }
    }

    /// Opens a session's stream, if it wants one and has none.
    pub(super) fn open_stream(&mut self, session: u32) -> io::Result<()> {
        let Some(slot) = self.stream_of(session) else { return Ok(()) };
        if self.sessions[slot as usize].state != State::Waiting || !self.wants_stream(session) {
            return Ok(());
        }
        let target = self.sessions[session as usize].target;
        let s = &mut self.sessions[slot as usize];
        s.target = target;
        s.attempt_ns = self.now_ns;
        if let Err(e) = self.dial(slot)? {
            let errno = crate::ring::Errno(e.raw_os_error().unwrap_or(0));
            let (outcome, detail) = super::connect::outcome_of(errno);
            self.event(session, EventKind::ConnectFailed, outcome, detail, 0);
            self.stream_later(session, 0);
        }
        Ok(())
    }

    /// The stream's connection stands: asks for the stream.
    pub(super) fn ask_for_stream(&mut self, slot: u32) {
        let intended_ns = self.sessions[slot as usize].attempt_ns;
        self.begin(slot, Op::Stream, State::Opening, intended_ns);
    }

    /// What a stream brings.
    pub(super) fn on_stream_event(&mut self, session: u32, event: Event) -> io::Result<()> {
        let slot = self.count + session;
        match event {
            Event::StreamOpen => self.stream_opened(session),
            Event::Answer(answer) => self.stream_refused(session, &answer)?,
            Event::StreamEnd => self.lose_stream(session, Outcome::Ok, 0)?,
            Event::Idle | Event::Closed => self.close(slot, Next::Reconnect)?,
            Event::Interrupted | Event::Truncated { .. } => {
                self.lose_stream(session, Outcome::Eof, 0)?;
            }
            Event::StreamEvent => {}
            Event::Notification(_) => self.recorder.now.notifications += 1,
            Event::ServerRequest { id, method } => self.asked(slot, session, id, method),
            Event::Endpoint => self.endpoint(session)?,
            Event::Unsolicited { id, reply } => self.answered_on_stream(session, id, reply)?,
        }
        Ok(())
    }

    fn stream_opened(&mut self, session: u32) {
        let slot = self.count + session;
        self.unqueue(slot);
        self.end_request(slot, Outcome::Ok, 0);
        let s = &mut self.sessions[slot as usize];
        let took_ns = self.now_ns - s.attempt_ns;
        s.state = State::Streaming;
        s.answered_ns = self.now_ns;
        self.streaming += 1;
        self.recorder.streams.opened += 1;
        self.event(session, EventKind::StreamOpen, Outcome::Ok, 0, took_ns);
    }

    /// The server answers the request for a stream with something else.
    fn stream_refused(&mut self, session: u32, answer: &Answer) -> io::Result<()> {
        let slot = self.count + session;
        let (outcome, detail) = outcome_of_reply(answer.reply);
        self.end_request(slot, outcome, detail);
        let owner = &self.sessions[session as usize];
        let needed = self.prepared[usize::from(owner.target)].dialect.answers_on_stream();
        match answer.reply {
            // 2025-11-25, "Listening for Messages from the Server": it offers none.
            Reply::HttpStatus(405) if !needed => {
                self.recorder.streams.not_offered += 1;
                self.sessions[slot as usize].attempt = NOT_OFFERED;
                self.close(slot, Next::End)
            }
            // The session is told what a request of its own would have been told.
            Reply::SessionGone if self.sessions[session as usize].state == State::Idle => {
                self.forget_session(session, outcome, detail)?;
                let after = self.after_lapse(session);
                let s = &mut self.sessions[session as usize];
                s.after = Some(after);
                // It may be between two connections.
                if s.open { self.free_again(session) } else { self.carry_on(session) }
            }
            Reply::Ok
            | Reply::HttpStatus(_)
            | Reply::SessionGone
            | Reply::SessionLimit
            | Reply::RpcError(_)
            | Reply::ToolError
            | Reply::Violation(_) => self.lose_stream(session, outcome, detail),
        }
    }

    /// The stream is gone. It is opened again after a while; where the answers come on it, the
    /// session is gone with it.
    pub(super) fn lose_stream(
        &mut self,
        session: u32,
        outcome: Outcome,
        detail: i32,
    ) -> io::Result<()> {
        let slot = self.count + session;
        let s = &mut self.sessions[slot as usize];
        let lived_ns = self.now_ns - s.answered_ns;
        match s.state {
            State::Streaming => {
                s.attempt = if lived_ns >= LIVED_NS { 0 } else { s.attempt };
                let owner = self.sessions[session as usize].state;
                let leaving = matches!(owner, State::Deleting | State::Finishing | State::Ended);
                if leaving || self.stage == Stage::Cooldown {
                    return self.drop_stream(session, Outcome::Stopped);
                }
                *self.recorder.streams.lost.entry(outcome).or_default() += 1;
                self.recorder.now.stream_losses += 1;
                self.event(session, EventKind::StreamEnd, outcome, detail, lived_ns);
                if !outcome.is_ok() {
                    self.keep_example(slot, Op::Stream, outcome, detail);
                }
            }
            State::Connecting | State::Handshaking => {
                self.event(session, EventKind::ConnectFailed, outcome, detail, 0);
                self.keep_example(slot, Op::Stream, outcome, detail);
            }
            State::Opening => self.end_request(slot, outcome, detail),
            State::Waiting
            | State::BackingOff
            | State::Idle
            | State::Busy
            | State::Deleting
            | State::Finishing
            | State::Closing
            | State::Ended => return Ok(()),
        }
        let owner = &self.sessions[session as usize];
        let needed = self.prepared[usize::from(owner.target)].dialect.answers_on_stream();
        self.close(slot, if needed { Next::End } else { Next::Reconnect })?;
        if needed { self.lose_with_stream(session, outcome, detail) } else { Ok(()) }
    }

    /// A session is its stream (2024-11-05).
    fn lose_with_stream(&mut self, session: u32, outcome: Outcome, detail: i32) -> io::Result<()> {
        // Ended in good order, it is the end of the session all the same.
        let outcome = if outcome.is_ok() { Outcome::Eof } else { outcome };
        if !self.sessions[session as usize].id.is_empty() {
            self.forget_session(session, outcome, detail)?;
        }
        let s = &mut self.sessions[session as usize];
        match s.state {
            // It is opened anew from the beginning.
            State::Waiting | State::BackingOff | State::Ended => Ok(()),
            State::Connecting | State::Handshaking if s.current.is_none() => Ok(()),
            State::Closing => {
                if matches!(s.next, Next::Renew | Next::OtherPair) {
                    s.next = Next::Reconnect;
                }
                Ok(())
            }
            State::Connecting
            | State::Handshaking
            | State::Opening
            | State::Idle
            | State::Busy
            | State::Streaming
            | State::Deleting
            | State::Finishing => {
                let target = s.target;
                self.targets.failed(target, self.now_ns);
                self.lose(session, outcome, detail)
            }
        }
    }

    /// Takes a session's stream away on purpose.
    pub(super) fn drop_stream(&mut self, session: u32, outcome: Outcome) -> io::Result<()> {
        let Some(slot) = self.stream_of(session) else { return Ok(()) };
        self.sessions[slot as usize].id.clear();
        match self.sessions[slot as usize].state {
            State::Streaming => {
                let lived_ns = self.now_ns - self.sessions[slot as usize].answered_ns;
                self.event(session, EventKind::StreamEnd, outcome, 0, lived_ns);
                if outcome != Outcome::Stopped {
                    *self.recorder.streams.lost.entry(outcome).or_default() += 1;
                    self.recorder.now.stream_losses += 1;
                }
                self.close(slot, Next::End)
            }
            State::Connecting | State::Handshaking | State::Opening => {
                self.end_request(slot, outcome, 0);
                self.close(slot, Next::End)
            }
            State::Closing => {
                let s = &mut self.sessions[slot as usize];
                (s.next, s.attempt) = (Next::End, 0);
                Ok(())
            }
            State::Waiting | State::BackingOff | State::Ended => {
                let s = &mut self.sessions[slot as usize];
                (s.state, s.attempt) = (State::Waiting, 0);
                Ok(())
            }
            State::Idle | State::Busy | State::Deleting | State::Finishing => Ok(()),
        }
    }

    /// The kernel has let go of a stream's connection.
    pub(super) fn stream_closed(&mut self, session: u32) -> io::Result<()> {
        let slot = self.count + session;
        let retry_ms = self.sessions[slot as usize].exchange.retry_ms();
        let s = &mut self.sessions[slot as usize];
        match s.next {
            Next::OtherPair => {
                s.state = State::Waiting;
                self.open_stream(session)
            }
            Next::Reconnect | Next::Renew => {
                self.stream_later(session, u64::from(retry_ms.unwrap_or(0)) * 1_000_000);
                Ok(())
            }
            // Until the session is another one.
            Next::End if s.attempt == NOT_OFFERED => {
                s.state = State::Ended;
                Ok(())
            }
            Next::End => {
                s.state = State::Waiting;
                s.attempt = 0;
                self.open_stream(session)
            }
        }
    }

    /// Opens a stream again after its back-off, and not before the server wants it.
    fn stream_later(&mut self, session: u32, retry_ns: u64) {
        let slot = self.count + session;
        let s = &mut self.sessions[slot as usize];
        let wait_ns = backoff_ns(s.attempt).max(retry_ns);
        s.attempt = (s.attempt + 1).min(BACKOFF_STEPS);
        s.state = State::BackingOff;
        self.later.push(Reverse((self.now_ns + wait_ns, slot, s.generation)));
    }

    /// What a wait of its own length was for.
    pub(super) fn wake_some(&mut self) -> io::Result<()> {
        while let Some(&Reverse((due_ns, slot, generation))) = self.later.peek()
            && due_ns <= self.now_ns
        {
            let current = self.sessions[slot as usize].generation == generation;
            let waits = self.sessions[slot as usize].state == State::BackingOff;
            match self.role(slot) {
                Role::Stream(session) if current && waits => {
                    // One whose session does not want it is opened once that stands again.
                    if self.wants_stream(session) && !self.reconnects.take(self.now_ns) {
                        return Ok(());
                    }
                    self.later.pop();
                    self.sessions[slot as usize].state = State::Waiting;
                    self.open_stream(session)?;
                }
                Role::Session if current && self.sessions[slot as usize].state == State::Idle => {
                    self.later.pop();
                    self.ping_unasked(slot);
                }
                Role::Session if current => {
                    self.later.pop();
                    self.resume(slot)?;
                }
                Role::Stream(_) | Role::Session | Role::Helper(_) => {
                    self.later.pop();
                }
            }
        }
        Ok(())
    }

    /// The stream says where the session's messages go (2024-11-05, "HTTP with SSE").
    fn endpoint(&mut self, session: u32) -> io::Result<()> {
        let owner = &mut self.sessions[session as usize];
        let prepared = &self.prepared[usize::from(owner.target)];
        if !prepared.dialect.answers_on_stream() || !owner.id.is_empty() {
            return Ok(());
        }
        let path = endpoint_path(&self.scratch, &prepared.authority);
        let Some(path) = path.filter(|p| p.len() <= SESSION_ID_BYTES) else {
            self.scratch.clear();
            let violation = wire::Violation::BadEndpoint as i32;
            return self.lose_stream(session, Outcome::Violation, violation);
        };
        owner.id.extend_from_slice(path);
        self.scratch.clear();
        owner.standing = Standing::Unknown;
        if owner.state == State::Opening && owner.current.is_none() {
            self.go_on_opening(session)?;
        }
        Ok(())
    }

    /// A response that the stream brings: that of the session's request, if answers come so.
    fn answered_on_stream(
        &mut self,
        session: u32,
        id: Option<u64>,
        reply: Reply,
    ) -> io::Result<()> {
        let s = &mut self.sessions[session as usize];
        let on_stream = self.prepared[usize::from(s.target)].dialect.answers_on_stream();
        let ours = id == Some(u64::from(s.request_id)) && on_stream;
        let Some(current) = s.current.as_mut().filter(|c| ours && c.sent_ns > 0) else {
            self.recorder.now.unsolicited += 1;
            return Ok(());
        };
        // What came before was the acceptance of the request.
        current.first_byte_ns = self.now_ns;
        let (outcome, detail) = outcome_of_reply(reply);
        self.conclude(session, outcome, detail)?;
        let s = &self.sessions[session as usize];
        let free = !s.open || (s.exchange.is_idle() && s.sending.is_none());
        // One whose connection is being dropped goes on when it is.
        if free && s.state != State::Closing { self.free_again(session) } else { Ok(()) }
    }

    /// The answer that a session waits for broke off: it comes on a stream that is asked for, if
    /// the events had ids (2025-11-25, "Resumability and Redelivery").
    pub(super) fn interrupted(&mut self, session: u32) {
        let s = &mut self.sessions[session as usize];
        let resumes = self.prepared[usize::from(s.target)].requests.get(Op::Stream).is_some();
        if resumes && !self.mark.is_empty() {
            s.after = Some(After::Resume);
            return;
        }
        let v = wire::Violation::AnswerCutShort;
        self.end_request(session, Outcome::Violation, v as i32);
        self.sessions[session as usize].after = Some(After::Close);
    }

    /// Asks for the rest of an answer once the server wants that.
    pub(super) fn resume_later(&mut self, session: u32) {
        let s = &self.sessions[session as usize];
        let wait_ns = u64::from(s.exchange.retry_ms().unwrap_or(0)) * 1_000_000;
        self.later.push(Reverse((self.now_ns + wait_ns, session, s.generation)));
    }
}
