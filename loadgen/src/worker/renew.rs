//! Sessions that go on over another connection: because each request has one of its own, because
//! the answer comes elsewhere, or because it broke off and is asked for again. And sessions that
//! their server forgets, again and again.

use std::cmp::Reverse;
use std::io;

use latlog::{EventKind, Outcome};

use super::Worker;
use super::lists::ANSWERING;
use super::session::{After, Crossed, Next, State};
use crate::clock::Clock;
use crate::ops::Op;
use crate::ring::Ring;

/// The next attempt to get a send buffer, where there was none for a resumption.
const AGAIN_NS: u64 = 1_000_000;

/// How long a stream may outlast the answer that it was opened for.
const LEFT_OPEN_NS: u64 = 20_000_000;

impl<R: Ring, C: Clock> Worker<R, C> {
    /// Whether what follows the answer just read goes over another connection.
    pub(super) fn renews(&self, session: u32) -> bool {
        let s = &self.sessions[session as usize];
        let more = match s.after {
            Some(After::Confirm | After::Establish | After::Free | After::OpenAgain) => true,
            Some(After::Resume | After::GiveUp | After::Close) | None => false,
        };
        self.plan.fresh && more && self.prepared[usize::from(s.target)].dialect.is_http()
    }

    /// Drops the connection of a session that goes on.
    pub(super) fn renew(&mut self, session: u32) -> io::Result<()> {
        let after = self.sessions[session as usize].after;
        self.close(session, Next::Renew)?;
        self.sessions[session as usize].after = after;
        Ok(())
    }

    /// The connection is dropped: goes on, and connects once there is something to send.
    pub(super) fn renewed(&mut self, session: u32) -> io::Result<()> {
        let s = &mut self.sessions[session as usize];
        if let Some(current) = &s.current {
            // It is answered elsewhere, within the time that it always had.
            let sent_ns = current.sent_ns;
            s.state = match current.op {
                Op::Call(_) | Op::Ping => State::Busy,
                Op::Initialize
                | Op::Initialized
                | Op::Discover
                | Op::Delete
                | Op::Verify
                | Op::Stream
                | Op::Pong
                | Op::Decline => State::Opening,
            };
            self.enqueue(ANSWERING, session);
            self.sessions[session as usize].since_ns = sent_ns;
            return Ok(());
        }
        if session < self.ending_next {
            return self.take_leave(session, Next::End);
        }
        self.carry_on(session)
    }

    /// Whether a session waits for an answer that does not come over its connection.
    pub(super) fn waits_elsewhere(&self, session: u32) -> bool {
        let s = &self.sessions[session as usize];
        let accepted = s.current.is_some_and(|c| c.first_byte_ns > 0) && s.after.is_none();
        accepted && self.prepared[usize::from(s.target)].dialect.answers_on_stream()
    }

    /// The rest of an answer has come. Servers may leave its stream open, on which nothing else is
    /// awaited: the session then goes on over another connection.
    pub(super) fn leave_resumed(&mut self, session: u32) {
        let generation = self.sessions[session as usize].generation;
        self.later.push(Reverse((self.now_ns + LEFT_OPEN_NS, session, generation)));
    }

    /// Asks for the rest of an answer that broke off, over the session's connection.
    pub(super) fn resume(&mut self, session: u32) -> io::Result<()> {
        let s = &self.sessions[session as usize];
        if s.current.is_none() && s.after.is_some() && s.state == State::Busy {
            return self.close(session, self.next_attempt());
        }
        let waits = s.marked && s.open && s.exchange.is_idle() && s.sending.is_none();
        if !waits || s.current.is_none() {
            return Ok(());
        }
        self.marks.take(session, &mut self.mark);
        let sent = self.send_apart(session, None);
        let s = &self.sessions[session as usize];
        if s.state == State::Closing {
            self.mark.clear();
            return sent.map(|_| ());
        }
        self.marks.keep(session, &mut self.mark);
        if sent? {
            self.recorder.now.resumed += 1;
        } else {
            let again_ns = self.now_ns + AGAIN_NS;
            self.later.push(Reverse((again_ns, session, s.generation)));
        }
        Ok(())
    }

    /// An answer broke off to be resumed, and the connection ends as well: the rest is asked for
    /// once the session has another one.
    pub(super) fn resume_elsewhere(&mut self, session: u32) -> io::Result<()> {
        let (outcome, v) = (Outcome::Violation, wire::Violation::AnswerCutShort as i32);
        let wait_ms = self.sessions[session as usize].exchange.retry_ms().unwrap_or(0);
        let s = &mut self.sessions[session as usize];
        let Some(current) = s.current.take_if(|c| matches!(c.op, Op::Call(_) | Op::Ping)) else {
            return self.lose(session, outcome, v);
        };
        // The server did as it may: without the rest, it is a request that was never answered.
        let outcome = Outcome::Unanswered;
        s.crossed = Some(Crossed { current, outcome, detail: 0, lost_ns: self.now_ns });
        s.marked = true;
        s.attempt_ns = self.now_ns;
        self.marks.keep(session, &mut self.mark);
        self.resume_at.insert(session, self.now_ns + u64::from(wait_ms) * 1_000_000);
        self.event(session, EventKind::Lost, Outcome::Eof, 0, 0);
        self.recorder.now.losses += 1;
        self.close(session, Next::Reconnect)
    }

    /// The server has forgotten a session that it had: what to do about it. The first time in a
    /// row it is opened anew at once; then it waits, so that a server that has just lost all of its
    /// sessions, or loses each at once, is not asked without a pause.
    pub(super) fn after_lapse(&mut self, session: u32) -> After {
        let reinit_max = self.plan.reinit_max;
        let s = &mut self.sessions[session as usize];
        s.forgotten = s.forgotten.saturating_add(1);
        s.lapses = s.lapses.saturating_add(1);
        if s.forgotten > reinit_max {
            return After::GiveUp;
        }
        match s.lapses.checked_sub(2) {
            None => After::OpenAgain,
            Some(waited) => {
                s.attempt = waited;
                After::Close
            }
        }
    }
}
