//! How a request gets into the ring, and how its end is recorded.

use std::io;

use latlog::{Outcome, Request};
use wire::client::Expectation;
use wire::mcp::{Fields, IdField};

use super::Worker;
use super::answers::Ask;
use super::lists::{ANSWERING, OUTBOX};
use super::pool::Pool;
use super::session::{Current, Sending, Session, Standing, State};
use super::slots::Role;
use crate::clock::Clock;
use crate::dialect::Dialect;
use crate::ops::Op;
use crate::ring::{Op as RingOp, OpKind, Ring, SendBuffer};
use crate::schedule::Due;

impl<R: Ring, C: Clock> Worker<R, C> {
    /// Queues a request of a session that has none.
    pub(super) fn begin(&mut self, session: u32, op: Op, state: State, intended_ns: u64) {
        self.unqueue(session);
        let s = &mut self.sessions[session as usize];
        debug_assert!(s.current.is_none(), "a request is under way");
        if std::mem::take(&mut s.marked) {
            self.marks.forget(session);
        }
        let idle_ns = if s.state == State::Idle { self.now_ns - s.since_ns } else { 0 };
        s.state = state;
        s.current = Some(Current {
            op,
            intended_ns,
            index: 0,
            sent_ns: 0,
            first_byte_ns: 0,
            idle_ns,
            again: false,
        });
        self.enqueue(OUTBOX, session);
    }

    /// Puts queued requests into the ring, entering the kernel after every few, so that a send is
    /// never far from its time stamp. Whether there are more that only wait for the next turn; others
    /// that are left wait for a send buffer, and so for a completion.
    pub(super) fn flush_outbox(&mut self) -> io::Result<bool> {
        let (mut pushed, mut postponed) = (0, 0);
        self.send_unsent()?;
        while let Some(session) = self.queues[OUTBOX].front() {
            let s = &self.sessions[session as usize];
            if !s.open {
                self.dial_for_request(session)?;
                continue;
            }
            let in_turn = |answer| answer || (!self.lanes.is_off() && s.layer.is_none());
            if s.sending.is_some_and(|sending| in_turn(sending.answer)) {
                // An answer to the server, or a request, is being sent: this one comes after it.
                if postponed >= self.queues[OUTBOX].len() {
                    break;
                }
                postponed += 1;
                self.unqueue(session);
                self.enqueue(OUTBOX, session);
                continue;
            }
            let Some(buffer) = self.ring.take_send_buffer() else {
                self.recorder.now.send_buffer_waits += 1;
                break;
            };
            self.unqueue(session);
            self.send_request(session, buffer)?;
            pushed += 1;
            if self.enough(pushed)? {
                return Ok(self.queues[OUTBOX].len() > 0);
            }
        }
        Ok(false)
    }

    /// Whether so many requests are enough for one turn; enters the kernel after every few.
    fn enough(&mut self, pushed: u32) -> io::Result<bool> {
        if pushed == self.plan.limits.sends_per_turn {
            return Ok(true);
        }
        if pushed.is_multiple_of(self.plan.limits.batch) && self.queues[OUTBOX].len() > 0 {
            self.ring.enter(0)?;
        }
        Ok(false)
    }

    /// Sends the request of a session from the outbox.
    fn send_request(&mut self, session: u32, buffer: SendBuffer) -> io::Result<()> {
        let role = self.role(session);
        let s = &mut self.sessions[session as usize];
        s.request_id = s.request_id.wrapping_add(1);
        if s.layer.is_some() {
            return self.send_layered(session, buffer);
        }
        let op = s.current.as_ref().expect("what is in the outbox has a request").op;
        let prepared = &self.prepared[usize::from(s.target)];
        let template = prepared.requests.get(op).expect("begun only where the dialect has it");
        let fields =
            fields(role, session, &self.sessions, &self.helpers, &self.pool, prepared.dialect);
        let written = template.render_to(self.ring.send_bytes_mut(buffer), &fields);
        let apart = self.goes_into_lane(op);
        let expectation = template.expectation(&fields).filter(|_| !apart);
        let s = &mut self.sessions[session as usize];
        let ready = expectation.is_none_or(|expected| s.exchange.expect(expected).is_ok());
        let (Some(len), true, None) = (written, ready, s.sending) else {
            self.ring.release(buffer);
            return self.lose(session, Outcome::Violation, 0);
        };
        s.sending = Some(Sending { buffer, from: 0, to: len as u32, answer: false });
        s.armed.set(OpKind::Send);
        self.stamp_sent(session);
        self.recorder.now.bytes_out += len as u64;
        if apart {
            self.take_lane(session);
        } else {
            self.enqueue(ANSWERING, session);
        }
        let send = RingOp::Send { buffer, from: 0, to: len as u32 };
        // Nothing follows from the sending but of a notification over lines, see `sent`, and where
        // another request is to follow.
        if op == Op::Initialized || apart {
            self.submit(session, send)
        } else {
            self.submit_quietly(session, send)
        }
    }

    /// The request of a session is handed to the kernel now, unless it already counts as sent.
    pub(super) fn stamp_sent(&mut self, session: u32) {
        self.now_ns = self.clock.now_ns();
        let Some(current) = &mut self.sessions[session as usize].current else { return };
        if current.sent_ns == 0 {
            current.sent_ns = self.now_ns;
            self.recorder.now.sent += u64::from(current.op.is_load() && !current.again);
        }
    }

    /// Sends a message that is none of the outbox: an answer to the server over the connection
    /// where it asked, or else the request for the rest of the session's own answer. Whether it is
    /// on its way; it is not where no send buffer is free.
    pub(super) fn send_apart(&mut self, session: u32, ask: Option<&Ask>) -> io::Result<bool> {
        let s = &self.sessions[session as usize];
        let op = ask.map_or(Op::Stream, |ask| ask.op);
        let requests = &self.prepared[usize::from(s.target)].requests;
        let template = requests.get(op).expect("looked for before");
        let fields = match ask {
            Some(ask) => ask.fields(&[]),
            None => {
                Fields { last_event: &self.mark, ..Fields::request(u64::from(s.request_id), &s.id) }
            }
        };
        let expectation = template.expectation(&fields);
        let layered = s.layer.is_some();
        let (mut buffer, mut len) = (None, None);
        if layered {
            self.rendered.clear();
            template.render(&mut self.rendered, &fields);
        } else {
            let Some(free) = self.ring.take_send_buffer() else { return Ok(false) };
            buffer = Some(free);
            len = template.render_to(self.ring.send_bytes_mut(free), &fields);
        }
        let s = &mut self.sessions[session as usize];
        let ready = expectation.is_none_or(|expected| s.exchange.expect(expected).is_ok());
        match (buffer, len) {
            (Some(buffer), Some(len)) if ready => {
                let to = len as u32;
                s.sending = Some(Sending { buffer, from: 0, to, answer: ask.is_some() });
                s.armed.set(OpKind::Send);
                self.recorder.now.bytes_out += len as u64;
                self.submit(session, RingOp::Send { buffer, from: 0, to })?;
            }
            (None, _) if ready => {
                if let Some(layer) = &mut s.layer {
                    layer.seal(&self.rendered, &mut self.layers);
                }
                self.send_output(session)?;
            }
            (buffer, _) => {
                buffer.into_iter().for_each(|buffer| self.ring.release(buffer));
                self.lose(session, Outcome::Violation, 0)?;
            }
        }
        Ok(true)
    }

    /// The kernel took `len` bytes of a request.
    pub(super) fn sent(&mut self, session: u32, len: u32) -> io::Result<()> {
        let s = &mut self.sessions[session as usize];
        let Some(mut sending) = s.sending else { return Ok(()) };
        sending.from += len;
        if sending.from < sending.to {
            s.sending = Some(sending);
            s.armed.set(OpKind::Send);
            let Sending { buffer, from, to, answer: _ } = sending;
            return self.submit(session, RingOp::Send { buffer, from, to });
        }
        s.sending = None;
        if s.layer.is_some() {
            return self.sent_layered(session, sending.buffer);
        }
        self.ring.release(sending.buffer);
        if sending.answer { Ok(()) } else { self.all_sent(session) }
    }

    /// Nothing of what a session had to send is left.
    pub(super) fn all_sent(&mut self, session: u32) -> io::Result<()> {
        let s = &mut self.sessions[session as usize];
        let unanswered = s.exchange.expected().is_none() && s.state == State::Opening;
        let sent = |c: &Current| c.op == Op::Initialized && c.sent_ns > 0;
        if unanswered && s.current.as_ref().is_some_and(sent) {
            // A notification over lines gets no answer: it is done when it is sent.
            s.standing = Standing::Confirmed;
            self.unqueue(session);
            self.end_request(session, Outcome::Ok, 0);
            return self.establish(session);
        }
        Ok(())
    }

    /// Records the end of the request of a session, if it has one. A load request that was never
    /// sent goes back to the front of those that are due.
    pub(super) fn end_request(&mut self, session: u32, outcome: Outcome, detail: i32) {
        let s = &mut self.sessions[session as usize];
        let Some(current) = s.current.take() else { return };
        if current.sent_ns == 0 {
            if current.op.is_load() && !self.plan.closed {
                self.due.push_front(Due { at_ns: current.intended_ns, index: current.index });
            }
            return;
        }
        self.record_end(session, &current, outcome, detail);
    }

    /// Records how a request of a session ended.
    pub(super) fn record_end(
        &mut self,
        session: u32,
        current: &Current,
        outcome: Outcome,
        detail: i32,
    ) {
        let (op, target) = (current.op, self.sessions[session as usize].target);
        let done_ns = self.now_ns.max(current.sent_ns);
        let first_byte_ns =
            if current.first_byte_ns == 0 { done_ns } else { current.first_byte_ns };
        let request = Request {
            intended_ns: current.intended_ns,
            sent_ns: current.sent_ns,
            first_byte_ns,
            done_ns,
            outcome,
            detail,
            target,
            op: op.number(),
        };
        self.recorder.request(op, &request);
        if !outcome.is_ok() {
            self.keep_example(session, op, outcome, detail);
        }
        if let Role::Helper(helper) = self.role(session) {
            self.helpers[helper as usize] = None;
        }
    }

    /// Records a request that was due and is given up unsent.
    pub(super) fn record_dropped(&mut self, due: Due) {
        let op = Op::Call(self.plan.work.mix.pick(due.index));
        let now_ns = self.now_ns.max(due.at_ns);
        let request = Request {
            intended_ns: due.at_ns,
            sent_ns: now_ns,
            first_byte_ns: now_ns,
            done_ns: now_ns,
            outcome: Outcome::Dropped,
            detail: 0,
            target: 0,
            op: op.number(),
        };
        self.recorder.request(op, &request);
    }
}

/// What the request of a slot carries beside its text.
pub(super) fn fields<'a>(
    role: Role,
    slot: u32,
    sessions: &'a [Session],
    helpers: &'a [Option<Ask>],
    pool: &'a Pool,
    dialect: Dialect,
) -> Fields<'a> {
    let s = &sessions[slot as usize];
    match role {
        Role::Session => Fields::request(u64::from(s.request_id), &s.id),
        Role::Stream(owner) => {
            // Nothing is awaited on the stream of a session.
            let awaited = dialect.opening() == Some(Op::Discover);
            let id = if awaited { u64::from(s.request_id) } else { Expectation::NO_ID };
            let session = &sessions[owner as usize].id;
            Fields { id: IdField::Number(id), session, last_event: &s.id }
        }
        Role::Helper(helper) => {
            let ask = helpers[helper as usize].as_ref().expect("a helper has an answer to carry");
            ask.fields(ask.session_id(pool, sessions))
        }
    }
}
