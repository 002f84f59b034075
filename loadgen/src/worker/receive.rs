//! What completions mean: bytes, answers, losses. Each is stamped when it is read.

use std::io;

use latlog::Outcome;
use wire::client::{Answer, Event, Purpose, Side};
use wire::mcp::Reply;

use super::connect::outcome_of;
use super::session::{After, Next, Standing, State};
use super::slots::Role;
use super::{Reading, Worker};
use crate::clock::Clock;
use crate::ops::Op;
use crate::ring::{Completion, Errno, OpKind, RecvBuffer, Ring};

impl<R: Ring, C: Clock> Worker<R, C> {
    /// Reads all completions; how long after the kernel's return the last one was read.
    pub(super) fn reap(&mut self) -> io::Result<u64> {
        let returned_ns = self.clock.now_ns();
        self.now_ns = returned_ns;
        let (mut reaped, mut received) = (0, 0);
        while let Some(completion) = self.ring.pop() {
            reaped += 1;
            received += u64::from(completion.buffer.is_some());
            // That a request is through has no time of its own.
            if completion.kind != OpKind::Send || completion.result.is_err() {
                self.now_ns = self.clock.now_ns();
            }
            self.dispatch(completion)?;
        }
        let sample = &mut self.recorder.now;
        sample.reaped_max = sample.reaped_max.max(reaped);
        sample.recv_buffers_used_max = sample.recv_buffers_used_max.max(received);
        self.rearm_receives()?;
        Ok(self.now_ns - returned_ns)
    }

    fn dispatch(&mut self, c: Completion) -> io::Result<()> {
        let session = c.handle.slot;
        let known = self.sessions.get(session as usize);
        if known.is_none_or(|s| s.generation != c.handle.generation) {
            // Of a connection that is gone.
            self.recycle(c.buffer);
            return Ok(());
        }
        let s = &mut self.sessions[session as usize];
        if !c.more {
            s.armed.clear(c.kind);
        }
        if s.state == State::Closing {
            self.recycle(c.buffer);
            return self.let_go(session, c.kind);
        }
        match c.kind {
            OpKind::Connect => match c.result {
                Ok(_) => self.connected(session),
                Err(errno) => self.connect_lost(session, errno),
            },
            OpKind::Send => match c.result {
                Ok(len) => self.sent(session, len),
                Err(errno) => {
                    self.release_sending(session);
                    let (outcome, detail) = outcome_of(errno);
                    self.lose(session, outcome, detail)
                }
            },
            OpKind::Receive => self.on_receive(session, &c),
            OpKind::Cancel | OpKind::Finish | OpKind::Close => Ok(()),
        }
    }

    fn recycle(&mut self, buffer: Option<RecvBuffer>) {
        if let Some(buffer) = buffer {
            self.ring.recycle(buffer);
        }
    }

    /// A completion for a connection that is being closed.
    fn let_go(&mut self, session: u32, kind: OpKind) -> io::Result<()> {
        if kind == OpKind::Send {
            self.release_sending(session);
        }
        if self.sessions[session as usize].armed.is_empty() {
            self.closed(session)?;
        }
        Ok(())
    }

    fn release_sending(&mut self, session: u32) {
        if let Some(sending) = self.sessions[session as usize].sending.take() {
            self.ring.release(sending.buffer);
        }
    }

    fn on_receive(&mut self, session: u32, c: &Completion) -> io::Result<()> {
        match (c.result, c.buffer) {
            (Ok(len), Some(buffer)) if len > 0 => {
                self.recorder.now.bytes_in += u64::from(len);
                self.reading = Some(Reading::Received(buffer, len));
                let read = match self.sessions[session as usize].layer {
                    None => self.read_bytes(session, Reading::Received(buffer, len)),
                    Some(_) => self.read_layered(session, buffer, len),
                };
                self.reading = None;
                self.ring.recycle(buffer);
                read?;
                let s = &self.sessions[session as usize];
                if s.open && s.state != State::Closing && !s.armed.has(OpKind::Receive) {
                    self.rearm.push(session);
                }
                Ok(())
            }
            (Ok(_), buffer) => {
                self.recycle(buffer);
                self.at_eof(session)
            }
            (Err(Errno(nix::libc::ENOBUFS)), _) => {
                self.recorder.now.enobufs += 1;
                self.rearm.push(session);
                Ok(())
            }
            (Err(errno), _) => {
                let (outcome, detail) = outcome_of(errno);
                self.lose(session, outcome, detail)
            }
        }
    }

    /// Arms the receives that ended, once there are buffers for them.
    fn rearm_receives(&mut self) -> io::Result<()> {
        while self.ring.recv_buffers_free() > 0
            && let Some(session) = self.rearm.pop()
        {
            let s = &self.sessions[session as usize];
            if s.open && s.state != State::Closing && !s.armed.has(OpKind::Receive) {
                self.arm_receive(session)?;
            }
        }
        Ok(())
    }

    /// Reads bytes of the protocol.
    pub(super) fn read_bytes(&mut self, session: u32, reading: Reading) -> io::Result<()> {
        let s = &mut self.sessions[session as usize];
        if let Some(current) = &mut s.current
            && current.first_byte_ns == 0
            && current.sent_ns > 0
        {
            current.first_byte_ns = self.now_ns;
        }
        let beside = session >= self.count;
        if !beside && self.sessions[session as usize].marked {
            self.marks.take(session, &mut self.mark);
        }
        let mut at = 0;
        loop {
            let s = &mut self.sessions[session as usize];
            if s.state == State::Closing {
                self.mark.clear();
                return Ok(());
            }
            if std::mem::take(&mut s.spilled) {
                self.spills.take(session, &mut self.scratch);
            }
            let input = match reading {
                Reading::Received(buffer, len) => &self.ring.received(buffer, len)[at..],
                Reading::Plain => &self.plain[at..],
            };
            let (id, last_event) = match beside {
                false => (&mut s.id, &mut self.mark),
                true => (&mut self.lent, &mut s.id),
            };
            let side = Side {
                limits: &self.wire_limits,
                session: id,
                last_event: Some(last_event),
                spill: &mut self.scratch,
            };
            let (used, event) = s.exchange.feed(input, side);
            at += used;
            let Some(event) = event else { break };
            self.on_event(session, event)?;
        }
        if !self.scratch.is_empty() {
            self.spills.keep(session, &mut self.scratch);
            self.sessions[session as usize].spilled = true;
        }
        if !beside {
            self.sessions[session as usize].marked = !self.mark.is_empty();
            if !self.mark.is_empty() {
                self.marks.keep(session, &mut self.mark);
            }
        }
        Ok(())
    }

    fn on_event(&mut self, session: u32, event: Event) -> io::Result<()> {
        match self.role(session) {
            Role::Session => {}
            Role::Stream(owner) => return self.on_stream_event(owner, event),
            Role::Helper(_) => return self.on_helper_event(session, event),
        }
        match event {
            Event::Answer(answer) => self.answered(session, &answer),
            Event::Idle => self.free_again(session),
            Event::Closed => self.reopen(session),
            Event::Interrupted => {
                self.interrupted(session);
                Ok(())
            }
            Event::StreamEnd => {
                // Of a resumed answer; it may end before that too.
                let s = &self.sessions[session as usize];
                if s.current.is_some() && s.after.is_none() {
                    self.interrupted(session);
                }
                Ok(())
            }
            Event::Notification(_) => {
                self.recorder.now.notifications += 1;
                Ok(())
            }
            Event::ServerRequest { id, method } => {
                self.asked(session, session, id, method);
                Ok(())
            }
            Event::Unsolicited { id, reply } => {
                self.answered_in_lane(session, id, reply);
                Ok(())
            }
            // Held streams are connections of their own.
            Event::StreamOpen | Event::StreamEvent | Event::Endpoint | Event::Truncated { .. } => {
                Ok(())
            }
        }
    }

    /// The connection may carry another request.
    pub(super) fn free_again(&mut self, session: u32) -> io::Result<()> {
        let s = &self.sessions[session as usize];
        let messages = s.layer.as_ref().is_some_and(|layer| layer.is_closed_by_peer());
        if s.sending.is_some_and(|sending| !sending.answer) && !messages {
            // Answered before it was asked to the end: what is still being sent would be taken for
            // the next request.
            self.sessions[session as usize].after = Some(After::Close);
        }
        if self.renews(session) {
            self.renew(session)
        } else if !self.pool.is_empty() && self.deletes_another(session)? {
            Ok(())
        } else {
            self.carry_on(session)
        }
    }

    pub(super) fn at_eof(&mut self, session: u32) -> io::Result<()> {
        if session >= self.count {
            return self.lose_beside(session, Outcome::Eof, 0);
        }
        if self.waits_elsewhere(session) {
            return self.close(session, Next::Renew);
        }
        match self.sessions[session as usize].exchange.eof() {
            Some(Event::Answer(answer)) => {
                self.answered(session, &answer)?;
                self.reopen(session)
            }
            _ => match self.sessions[session as usize].state {
                State::Finishing | State::Deleting => {
                    self.end_request(session, Outcome::Eof, 0);
                    let next = self.sessions[session as usize].next;
                    self.close(session, next)
                }
                _ => self.lose(session, Outcome::Eof, 0),
            },
        }
    }

    fn answered(&mut self, session: u32, answer: &Answer) -> io::Result<()> {
        let s = &self.sessions[session as usize];
        let Some(current) = s.current else { return Ok(()) };
        let (outcome, detail) = outcome_of_reply(answer.reply);
        let dialect = self.prepared[usize::from(s.target)].dialect;
        if dialect.answers_on_stream() && outcome.is_ok() && current.op != Op::Initialized {
            // It is accepted: the answer comes on the stream.
            return Ok(());
        }
        let expected = s.exchange.expected();
        let resumed = expected.is_some_and(|expected| expected.purpose == Purpose::Stream);
        self.conclude(session, outcome, detail)?;
        if resumed {
            self.leave_resumed(session);
        }
        let lines = !dialect.is_http();
        if lines { self.carry_on(session) } else { Ok(()) }
    }

    /// The request of a session is answered: records it, and decides what follows once its
    /// connection is free.
    pub(super) fn conclude(
        &mut self,
        session: u32,
        outcome: Outcome,
        detail: i32,
    ) -> io::Result<()> {
        let Some(current) = self.sessions[session as usize].current else { return Ok(()) };
        if outcome.is_ok() && current.op != Op::Delete {
            self.mark_alive(session);
        }
        // Nothing is to be resumed.
        self.mark.clear();
        // The session stays among those that are waited for: an answer whose end never comes, as
        // of an event stream that is left open, keeps its connection no longer than the timeout.
        self.end_request(session, outcome, detail);
        let after = self.what_follows(session, current.op, outcome, detail)?;
        self.sessions[session as usize].after = Some(after);
        Ok(())
    }

    /// Decides what follows an answer once the connection is free.
    fn what_follows(
        &mut self,
        session: u32,
        op: Op,
        outcome: Outcome,
        detail: i32,
    ) -> io::Result<After> {
        let s = &mut self.sessions[session as usize];
        Ok(match (op, outcome) {
            (Op::Initialize, Outcome::Ok) => {
                s.standing = Standing::Accepted;
                After::Confirm
            }
            (Op::Initialized | Op::Discover, Outcome::Ok) => {
                s.standing = Standing::Confirmed;
                After::Establish
            }
            (Op::Initialize | Op::Initialized | Op::Discover, _) => {
                s.id.clear();
                s.standing = Standing::Unknown;
                let target = s.target;
                self.targets.failed(target, self.now_ns);
                self.fail_crossed(session);
                After::Close
            }
            (Op::Ping | Op::Call(_) | Op::Verify, Outcome::SessionGone) => {
                self.forget_session(session, outcome, detail)?;
                self.after_lapse(session)
            }
            (Op::Verify, Outcome::Ok) => {
                // Said here and not when it stands: this answer may end the connection.
                s.in_doubt = false;
                After::Establish
            }
            (Op::Verify, _) => After::Close,
            (Op::Ping | Op::Call(_) | Op::Stream | Op::Pong | Op::Decline, _) => {
                s.lapses = if outcome.is_ok() { 0 } else { s.lapses };
                After::Free
            }
            (Op::Delete, _) => {
                s.id.clear();
                s.standing = Standing::Unknown;
                After::Close
            }
        })
    }

    pub(super) fn mark_alive(&mut self, session: u32) {
        self.sessions[session as usize].answered_ns = self.now_ns;
        let number = match self.pool.is_empty() {
            true => session,
            false => self.pool.answered(session, self.now_ns),
        };
        self.alive.remove(&mut self.alive_links, number);
        self.alive.push_back(&mut self.alive_links, number);
    }

    /// The session at a slot no longer counts as alive.
    pub(super) fn no_longer_alive(&mut self, session: u32) {
        self.alive.remove(&mut self.alive_links, self.pool.number(session));
    }

    /// Sessions whose last answer is older than a heartbeat no longer count as alive.
    pub(super) fn expire_alive(&mut self) {
        if self.plan.heartbeat_ns == 0 {
            return;
        }
        while let Some(session) = self.alive.front() {
            let answered_ns = match self.pool.is_empty() {
                true => self.sessions[session as usize].answered_ns,
                false => self.pool.answered_ns(session),
            };
            if answered_ns + self.plan.heartbeat_ns >= self.now_ns {
                return;
            }
            self.alive.remove(&mut self.alive_links, session);
        }
    }
}

pub(super) fn outcome_of_reply(reply: Reply) -> (Outcome, i32) {
    let outcome = match reply {
        Reply::Ok => Outcome::Ok,
        Reply::HttpStatus(_) => Outcome::HttpStatus,
        Reply::SessionGone => Outcome::SessionGone,
        Reply::SessionLimit => Outcome::SessionLimit,
        Reply::RpcError(_) => Outcome::RpcError,
        Reply::ToolError => Outcome::ToolError,
        Reply::Violation(_) => Outcome::Violation,
    };
    (outcome, reply.detail())
}
