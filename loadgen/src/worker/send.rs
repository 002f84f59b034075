//! How a request gets into the ring, and how its end is recorded.

use std::io;

use latlog::{Outcome, Request};
use wire::mcp::Fields;

use super::Worker;
use super::lists::{ANSWERING, OUTBOX};
use super::session::{Current, Sending, Standing, State};
use crate::clock::Clock;
use crate::ops::Op;
use crate::ring::{Op as RingOp, OpKind, Ring};
use crate::schedule::Due;

impl<R: Ring, C: Clock> Worker<R, C> {
    /// Queues a request of a session that has none.
    pub(super) fn begin(&mut self, session: u32, op: Op, state: State, intended_ns: u64) {
        self.unqueue(session);
        let s = &mut self.sessions[session as usize];
        debug_assert!(s.current.is_none(), "a request is under way");
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
    /// never far from its time stamp.
    pub(super) fn flush_outbox(&mut self) -> io::Result<()> {
        let mut pushed = 0;
        self.send_unsent()?;
        while let Some(session) = self.queues[OUTBOX].front() {
            let Some(buffer) = self.ring.take_send_buffer() else {
                self.recorder.now.send_buffer_waits += 1;
                break;
            };
            self.unqueue(session);
            let s = &mut self.sessions[session as usize];
            let current = s.current.as_mut().expect("a session in the outbox has a request");
            s.request_id = s.request_id.wrapping_add(1);
            let requests = &self.prepared[usize::from(s.target)].requests;
            let op = current.op;
            let template = requests.get(op).expect("begun only where the dialect has it");
            let fields = Fields::request(u64::from(s.request_id), &s.id);
            if s.layer.is_some() {
                self.send_layered(session, buffer)?;
                pushed += 1;
                if self.enough(pushed)? {
                    break;
                }
                continue;
            }
            let written = template.render_to(self.ring.send_bytes_mut(buffer), &fields);
            let ready = match template.expectation(&fields) {
                Some(expectation) => s.exchange.expect(expectation).is_ok(),
                None => true,
            };
            let (Some(len), true, None) = (written, ready, s.sending) else {
                self.ring.release(buffer);
                self.lose(session, Outcome::Violation, 0)?;
                continue;
            };
            s.sending = Some(Sending { buffer, from: 0, to: len as u32 });
            self.now_ns = self.clock.now_ns();
            current.sent_ns = self.now_ns;
            self.recorder.now.sent += u64::from(op.is_load() && !current.again);
            self.recorder.now.bytes_out += len as u64;
            s.armed.set(OpKind::Send);
            self.enqueue(ANSWERING, session);
            let send = RingOp::Send { buffer, from: 0, to: len as u32 };
            // Nothing follows from the sending but of a notification over lines; see `sent`.
            if op == Op::Initialized {
                self.submit(session, send)?;
            } else {
                self.submit_quietly(session, send)?;
            }
            pushed += 1;
            if self.enough(pushed)? {
                break;
            }
        }
        Ok(())
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

    /// The kernel took `len` bytes of a request.
    pub(super) fn sent(&mut self, session: u32, len: u32) -> io::Result<()> {
        let s = &mut self.sessions[session as usize];
        let Some(mut sending) = s.sending else { return Ok(()) };
        sending.from += len;
        if sending.from < sending.to {
            s.sending = Some(sending);
            s.armed.set(OpKind::Send);
            let Sending { buffer, from, to } = sending;
            return self.submit(session, RingOp::Send { buffer, from, to });
        }
        s.sending = None;
        if s.layer.is_some() {
            return self.sent_layered(session, sending.buffer);
        }
        self.ring.release(sending.buffer);
        self.all_sent(session);
        Ok(())
    }

    /// Nothing of what a session had to send is left.
    pub(super) fn all_sent(&mut self, session: u32) {
        let s = &mut self.sessions[session as usize];
        let unanswered = s.exchange.expected().is_none() && s.state == State::Opening;
        let sent = |c: &Current| c.op == Op::Initialized && c.sent_ns > 0;
        if unanswered && s.current.as_ref().is_some_and(sent) {
            // A notification over lines gets no answer: it is done when it is sent.
            s.standing = Standing::Confirmed;
            self.unqueue(session);
            self.end_request(session, Outcome::Ok, 0);
            self.establish(session);
        }
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
