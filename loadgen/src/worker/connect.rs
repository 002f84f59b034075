//! How connections come and go: start, loss, close, and what opens a session over them.

use std::cmp::Reverse;
use std::io;

use latlog::{EventKind, Outcome};

use super::Worker;
use super::lists::{ANSWERING, BACKOFF, IDLE, OUTBOX};
use super::session::{After, Crossed, Current, Next, Standing, State};
use super::slots::Role;
use super::targets::IDLE_CLOSE_NS_MIN;
use crate::clock::Clock;
use crate::ops::Op;
use crate::orders::Stage;
use crate::plan::sources::{PAIRS_TRIED_MAX, Sources, planned_target};
use crate::ring::{Errno, GENERATIONS, Op as RingOp, OpKind, Ring};
use crate::schedule::BACKOFF_STEPS;
use wire::client::Exchange;

impl<R: Ring, C: Clock> Worker<R, C> {
    /// Begins an attempt at a connection.
    pub(super) fn start(&mut self, session: u32) -> io::Result<()> {
        let global = session * self.plan.workers + self.index;
        let s = &self.sessions[session as usize];
        let first = s.state == State::Waiting;
        let preferred = match (first, s.assigned) {
            (true, _) => Some(self.planned_target(global)),
            (false, true) => Some(s.target),
            (false, false) => None,
        };
        if first {
            self.sessions[session as usize].attempt_ns = self.now_ns;
        }
        let Some(target) = self.targets.pick(preferred, self.now_ns) else {
            return self.retry_later(session);
        };
        self.assign(session, target)?;
        if let Err(e) = self.dial(session)? {
            self.connect_failed(session, Errno(e.raw_os_error().unwrap_or(0)));
            return self.retry_later(session);
        }
        Ok(())
    }

    /// Makes the connection that the next request of a session goes over, where each has its own:
    /// as its user sees it, it is under way from here on.
    pub(super) fn dial_for_request(&mut self, session: u32) -> io::Result<()> {
        self.unqueue(session);
        self.stamp_sent(session);
        let s = &mut self.sessions[session as usize];
        let deleting = s.state == State::Deleting;
        let Err(e) = self.dial(session)? else { return Ok(()) };
        self.connect_failed(session, Errno(e.raw_os_error().unwrap_or(0)));
        let s = &mut self.sessions[session as usize];
        self.established -= u32::from(std::mem::take(&mut s.established));
        if deleting {
            s.state = State::Closing;
            self.end(session)
        } else {
            self.retry_later(session)
        }
    }

    /// A connect has failed.
    pub(super) fn connect_lost(&mut self, slot: u32, errno: Errno) -> io::Result<()> {
        if self.takes_other_pair(slot, errno) {
            return self.close(slot, Next::OtherPair);
        }
        if slot < self.count {
            self.connect_failed(slot, errno);
            return self.close(slot, self.next_attempt());
        }
        let (outcome, detail) = outcome_of(errno);
        if outcome != Outcome::NoAddress {
            self.targets.failed(self.sessions[slot as usize].target, self.now_ns);
        }
        self.lose_beside(slot, outcome, detail)
    }

    fn planned_target(&self, global: u32) -> u16 {
        planned_target(global, self.plan.targets.len() as u32)
    }

    fn assign(&mut self, session: u32, target: u16) -> io::Result<()> {
        let elsewhere = self.sessions[session as usize].target != target;
        if elsewhere {
            self.fail_crossed(session);
            self.leave_others(session);
        }
        let s = &mut self.sessions[session as usize];
        if s.assigned {
            self.targets.leave(s.target);
        }
        let s = &mut self.sessions[session as usize];
        let named = !s.id.is_empty();
        s.target = target;
        s.assigned = true;
        self.targets.assign(target);
        if elsewhere {
            s.standing = Standing::Unknown;
        }
        if elsewhere && named {
            // A session lives on one replica: elsewhere it has to be opened anew.
            self.forget_session(session, Outcome::Stopped, 0)
        } else if elsewhere {
            self.drop_stream(session, Outcome::Stopped)
        } else {
            Ok(())
        }
    }

    /// The server no longer has the session, or it cannot be reached any more.
    pub(super) fn forget_session(
        &mut self,
        session: u32,
        outcome: Outcome,
        detail: i32,
    ) -> io::Result<()> {
        let s = &mut self.sessions[session as usize];
        s.id.clear();
        s.standing = Standing::Unknown;
        s.in_doubt = false;
        if outcome == Outcome::SessionGone {
            self.targets.forgot_sessions(s.target);
        }
        self.no_longer_alive(session);
        self.fail_crossed(session);
        self.event(session, EventKind::SessionLost, outcome, detail, 0);
        self.drop_stream(session, outcome)
    }

    /// TCP connect is through.
    pub(super) fn connected(&mut self, session: u32) -> io::Result<()> {
        self.unqueue(session);
        let s = &mut self.sessions[session as usize];
        let (took_ns, target) = (self.now_ns - s.since_ns, s.target);
        let dialect = self.prepared[usize::from(target)].dialect;
        s.open = true;
        s.pairs_taken = 0;
        s.exchange = if dialect.is_http() { Exchange::http() } else { Exchange::line() };
        s.after = None;
        self.open += 1;
        if session < self.count {
            self.recorder.now.connects += 1;
            self.event(session, EventKind::Connected, Outcome::Ok, 0, took_ns);
        } else {
            self.open_beside += 1;
        }
        self.arm_receive(session)?;
        if self.prepared[usize::from(target)].wrapping.is_some() {
            return self.begin_handshake(session);
        }
        self.ready(session)
    }

    /// The connection may carry requests.
    pub(super) fn ready(&mut self, session: u32) -> io::Result<()> {
        self.targets.succeeded(self.sessions[session as usize].target);
        match self.role(session) {
            Role::Session => {}
            Role::Stream(_) => {
                self.ask_for_stream(session);
                return Ok(());
            }
            Role::Helper(helper) => {
                self.answer_over(session, helper);
                return Ok(());
            }
        }
        let s = &mut self.sessions[session as usize];
        if let Some(current) = &s.current {
            // It was made for this request.
            s.state = match current.op {
                Op::Initialize | Op::Initialized | Op::Discover | Op::Verify => State::Opening,
                Op::Delete => State::Deleting,
                Op::Ping | Op::Call(_) | Op::Stream | Op::Pong | Op::Decline => State::Busy,
            };
            self.enqueue(OUTBOX, session);
            return Ok(());
        }
        if self.stage == Stage::Cooldown {
            return self.take_leave(session, Next::End);
        }
        self.go_on_opening(session)
    }

    pub(super) fn arm_receive(&mut self, session: u32) -> io::Result<()> {
        self.submit(session, RingOp::Receive)?;
        self.sessions[session as usize].armed.set(OpKind::Receive);
        Ok(())
    }

    /// Takes the next step towards a session that may be used.
    pub(super) fn go_on_opening(&mut self, session: u32) -> io::Result<()> {
        let s = &mut self.sessions[session as usize];
        let dialect = self.prepared[usize::from(s.target)].dialect;
        if dialect.answers_on_stream() && s.id.is_empty() {
            // The stream comes first, and says where to go on.
            s.state = State::Opening;
            self.unqueue(session);
            self.enqueue(ANSWERING, session);
            self.drop_stream(session, Outcome::Stopped)?;
            return self.open_stream(session);
        }
        let opening = dialect.opening();
        let op = match (opening, s.standing) {
            (None, _) => None,
            (Some(op), Standing::Unknown) => Some(op),
            (Some(_), Standing::Accepted) => Some(Op::Initialized),
            (Some(_), Standing::Confirmed) if s.in_doubt => Some(Op::Verify),
            (Some(_), Standing::Confirmed) => None,
        };
        match op {
            Some(op) => {
                self.begin(session, op, State::Opening, self.now_ns);
                Ok(())
            }
            None => self.establish(session),
        }
    }

    /// The session stands and is free.
    pub(super) fn establish(&mut self, session: u32) -> io::Result<()> {
        let s = &mut self.sessions[session as usize];
        s.attempt = 0;
        s.in_doubt = false;
        if !s.established {
            s.established = true;
            self.established += 1;
            self.stood += u32::from(!std::mem::replace(&mut s.stood, true));
            let took_ns = self.now_ns - s.attempt_ns;
            self.event(session, EventKind::Alive, Outcome::Ok, 0, took_ns);
        }
        self.open_stream(session)?;
        let s = &mut self.sessions[session as usize];
        let Some(Crossed { current, .. }) = s.crossed else {
            self.ping_sooner(session);
            return self.rest(session);
        };
        if s.marked {
            // It had been answered in part: the rest is asked for.
            s.crossed = None;
            s.state = State::Busy;
            s.current = Some(current);
            self.unqueue(session);
            self.enqueue(ANSWERING, session);
            let at_ns = self.resume_at.remove(&session).unwrap_or(0).max(self.now_ns);
            let generation = self.sessions[session as usize].generation;
            self.later.push(Reverse((at_ns, session, generation)));
        } else if self.targets.closes_after(s.target, current.idle_ns) {
            s.crossed = None;
            self.begin(session, current.op, State::Busy, current.intended_ns);
            let s = &mut self.sessions[session as usize];
            let index = current.index;
            s.current = s.current.map(|current| Current { index, again: true, ..current });
        } else {
            self.fail_crossed(session);
            self.rest(session)?;
        }
        Ok(())
    }

    /// Whether a connection ended as this server ends all that are idle for so long: that says
    /// nothing about the session, and asking each time would be a load of its own. What was last
    /// answered has to stay recent enough until it would end again.
    fn is_habit(&self, session: u32, outcome: Outcome) -> bool {
        let s = &self.sessions[session as usize];
        let idle_ns = self.now_ns - s.since_ns;
        s.state == State::Idle
            && outcome == Outcome::Eof
            && self.targets.has_habit(s.target, idle_ns, self.now_ns)
            && self.now_ns + idle_ns < s.answered_ns + self.plan.ping_after_ns
    }

    /// A connection that stood is gone: sets its request aside if that may have crossed the close
    /// of an idle connection. Such a request fails no user of an ordinary client, which does not
    /// use a connection that has been idle for about as long as the server allows; here it keeps
    /// its intended time. A server that ended, or lost the session, cannot hide behind this.
    fn set_aside(&mut self, session: u32, outcome: Outcome, detail: i32) {
        let s = &mut self.sessions[session as usize];
        let loaded = matches!(self.stage, Stage::Ramp | Stage::Warmup | Stage::Hold);
        let http = self.prepared[usize::from(s.target)].dialect.is_http();
        if !loaded || !http || !matches!(outcome, Outcome::Eof | Outcome::Reset) {
            return;
        }
        if s.state == State::Idle {
            self.targets.closed_idle(s.target, self.now_ns - s.since_ns, self.now_ns);
            return;
        }
        let lost_ns = self.now_ns;
        let unread = |c: &Current| c.sent_ns > 0 && c.first_byte_ns == 0 && !c.again;
        let idle = |c: &Current| c.idle_ns >= IDLE_CLOSE_NS_MIN;
        if let Some(current) = s.current.take_if(|c| unread(c) && idle(c)) {
            s.crossed = Some(Crossed { current, outcome, detail, lost_ns });
        }
    }

    /// The request that was set aside has failed for the reason that its connection was lost for.
    pub(super) fn fail_crossed(&mut self, session: u32) {
        let Some(crossed) = self.sessions[session as usize].crossed.take() else { return };
        self.resume_at.remove(&session);
        let Crossed { current, outcome, detail, lost_ns } = crossed;
        // It ended then, and what is being read, if anything, is no part of it.
        let reading = self.reading.take();
        let now_ns = std::mem::replace(&mut self.now_ns, lost_ns);
        self.record_end(session, &current, outcome, detail);
        (self.now_ns, self.reading) = (now_ns, reading);
    }

    /// The session waits for a request.
    pub(super) fn free(&mut self, session: u32) {
        self.unqueue(session);
        self.sessions[session as usize].state = State::Idle;
        self.enqueue(IDLE, session);
    }

    /// Whether an attempt that found its planned pair taken goes on from another one: where sessions
    /// share pairs, some of a session's are in use for its target by others, and a port that a program
    /// listens on is barred anywhere. It is a search of this
    /// program's, which the time to connect contains, and no failure until all of it found nothing.
    pub(super) fn takes_other_pair(&mut self, session: u32, errno: Errno) -> bool {
        let others = self.plan.sources.as_ref().is_some_and(Sources::has_other_pairs);
        let s = &mut self.sessions[session as usize];
        let goes_on = others
            && self.stage != Stage::Cooldown
            && outcome_of(errno).0 == Outcome::NoAddress
            && s.pairs_taken < PAIRS_TRIED_MAX;
        s.pairs_taken = if goes_on { s.pairs_taken + 1 } else { 0 };
        goes_on
    }

    /// Connect or socket creation failed.
    pub(super) fn connect_failed(&mut self, session: u32, errno: Errno) {
        let (outcome, detail) = outcome_of(errno);
        let target = self.sessions[session as usize].target;
        if outcome != Outcome::NoAddress {
            self.targets.failed(target, self.now_ns);
        }
        self.fail_crossed(session);
        // Where a connection is made for a request, this is its end.
        self.end_request(session, outcome, detail);
        self.no_longer_alive(session);
        let s = &mut self.sessions[session as usize];
        s.in_doubt = !s.id.is_empty();
        self.event(session, EventKind::ConnectFailed, outcome, detail, 0);
        self.keep_example(session, Op::Initialize, outcome, detail);
    }

    /// A connection that stood is gone, or is given up: the request on it fails with this reason.
    pub(super) fn lose(&mut self, session: u32, outcome: Outcome, detail: i32) -> io::Result<()> {
        self.handshake_ended(session, outcome, detail);
        if session >= self.count {
            return self.lose_beside(session, outcome, detail);
        }
        self.recorder.now.losses += 1;
        self.event(session, EventKind::Lost, outcome, detail, 0);
        let habit = self.is_habit(session, outcome);
        self.set_aside(session, outcome, detail);
        self.end_request(session, outcome, detail);
        self.fail_lanes(session, outcome, detail);
        let s = &mut self.sessions[session as usize];
        s.attempt_ns = self.now_ns;
        let lines = !self.prepared[usize::from(s.target)].dialect.is_http();
        if lines && s.established {
            self.forget_session(session, outcome, detail)?;
        }
        let s = &mut self.sessions[session as usize];
        let named = !s.id.is_empty();
        s.in_doubt = named && !habit;
        if !named {
            // Without an id there is nothing to ask about.
            s.standing = Standing::Unknown;
        }
        let (state, next) = (s.state, s.next);
        let next = match state {
            State::Deleting | State::Finishing => next,
            // Its turn comes, and with it a connection to delete it over.
            _ if session >= self.ending_next && self.owes_delete(session) => Next::Reconnect,
            _ => self.next_attempt(),
        };
        if !habit {
            self.no_longer_alive(session);
        }
        self.close(session, next)
    }

    /// Drops the connection; what follows happens when the kernel has let go of all of it.
    pub(super) fn close(&mut self, session: u32, next: Next) -> io::Result<()> {
        let renews = match next {
            Next::Renew | Next::OtherPair => true,
            Next::Reconnect | Next::End => false,
        };
        if !renews {
            // Where there was a reason, the request has ended with it; otherwise we hang up on it.
            self.end_request(session, Outcome::Unanswered, 0);
            self.fail_lanes(session, Outcome::Unanswered, 0);
        }
        self.unqueue(session);
        self.drop_layer(session)?;
        self.spills.forget(session);
        let s = &mut self.sessions[session as usize];
        if s.marked && s.crossed.is_none() {
            s.marked = false;
            self.marks.forget(session);
        }
        // Between two connections there is nothing to close.
        let bare = !s.open && s.state != State::Connecting;
        if !self.prepared[usize::from(s.target)].dialect.is_http() {
            // Over lines, a session is its connection.
            s.standing = Standing::Unknown;
        }
        s.spilled = false;
        s.after = None;
        self.streaming -= u32::from(s.state == State::Streaming);
        self.open_beside -= u32::from(s.open && session >= self.count);
        self.open -= u32::from(std::mem::take(&mut s.open));
        if !renews {
            self.established -= u32::from(std::mem::take(&mut s.established));
        }
        s.next = next;
        s.state = State::Closing;
        if bare {
            return self.closed(session);
        }
        let armed = s.armed;
        for kind in [OpKind::Connect, OpKind::Send, OpKind::Receive] {
            if armed.has(kind) {
                self.submit(session, RingOp::Cancel(kind))?;
            }
        }
        self.submit(session, RingOp::Close)?;
        self.sessions[session as usize].armed.set(OpKind::Close);
        Ok(())
    }

    /// The kernel has let go: the slot is free.
    pub(super) fn closed(&mut self, session: u32) -> io::Result<()> {
        let s = &mut self.sessions[session as usize];
        s.generation = (s.generation + 1) % GENERATIONS;
        if session >= self.count {
            return self.beside_closed(session);
        }
        let (next, fresh) = (s.next, s.attempt == 0);
        if matches!(next, Next::Reconnect | Next::End) {
            // What had meant to go on does not.
            self.established -= u32::from(std::mem::take(&mut s.established));
            self.end_request(session, Outcome::Unanswered, 0);
        }
        match next {
            Next::End if fresh && self.stage == Stage::Cooldown && self.owes_delete(session) => {
                // Its DELETE, or what came before it, was lost with the connection: once more.
                self.start_once(session)
            }
            Next::End if self.succeeded_by_another(session) => match self.stage {
                Stage::Cooldown => self.start_once(session),
                _ => self.retry_later(session),
            },
            Next::End => self.end(session),
            Next::Reconnect | Next::OtherPair if session < self.ending_next => self.end(session),
            Next::Reconnect => self.retry_later(session),
            Next::OtherPair if self.sessions[session as usize].current.is_some() => {
                self.dial_for_request(session)
            }
            Next::OtherPair => self.start(session),
            Next::Renew => self.renewed(session),
        }
    }

    /// Makes a connection to delete a session over, without a second attempt.
    fn start_once(&mut self, session: u32) -> io::Result<()> {
        self.sessions[session as usize].attempt = 1;
        self.start(session)?;
        if self.sessions[session as usize].state == State::BackingOff {
            self.unqueue(session);
            self.sessions[session as usize].state = State::Closing;
            self.end(session)?;
        }
        Ok(())
    }

    /// What follows a failed attempt.
    pub(super) fn next_attempt(&self) -> Next {
        if self.stage == Stage::Cooldown { Next::End } else { Next::Reconnect }
    }

    pub(super) fn retry_later(&mut self, session: u32) -> io::Result<()> {
        let s = &mut self.sessions[session as usize];
        s.state = State::BackingOff;
        let wait = s.attempt.min(BACKOFF_STEPS - 1);
        s.attempt = s.attempt.saturating_add(1);
        self.enqueue(BACKOFF + usize::from(wait), session);
        Ok(())
    }

    /// An exchange is over and its connection free: what was decided when it was answered.
    pub(super) fn carry_on(&mut self, session: u32) -> io::Result<()> {
        let leaves = session < self.ending_next && self.owes_delete(session);
        let s = &mut self.sessions[session as usize];
        match s.after.take() {
            None => {}
            // It was being opened when its turn to end came.
            Some(After::Confirm | After::Establish) if leaves => {
                return self.take_leave(session, Next::End);
            }
            Some(After::Confirm) => {
                self.begin(session, Op::Initialized, State::Opening, self.now_ns);
            }
            Some(After::Establish) => self.establish(session)?,
            Some(After::Free) => self.rest(session)?,
            Some(After::Resume) => self.resume_later(session),
            Some(After::OpenAgain) => {
                self.established -= u32::from(std::mem::take(&mut s.established));
                s.attempt_ns = self.now_ns;
                self.go_on_opening(session)?;
            }
            Some(After::GiveUp) => self.close(session, Next::End)?,
            Some(After::Close) => {
                let next = match s.state {
                    State::Deleting => s.next,
                    _ if self.stage == Stage::Cooldown => Next::End,
                    _ => Next::Reconnect,
                };
                self.close(session, next)?;
            }
        }
        Ok(())
    }

    /// The peer ends the connection in good order: the session goes on over another one.
    pub(super) fn reopen(&mut self, session: u32) -> io::Result<()> {
        let s = &mut self.sessions[session as usize];
        let leaving = s.state == State::Deleting || s.state == State::Finishing;
        if leaving || s.after == Some(After::Close) {
            s.after = Some(After::Close);
            return self.carry_on(session);
        }
        if s.after == Some(After::Resume) {
            return self.resume_elsewhere(session);
        }
        if self.waits_elsewhere(session) {
            return self.close(session, Next::Renew);
        }
        if self.renews(session) {
            return self.renew(session);
        }
        let s = &mut self.sessions[session as usize];
        let answered = s.after.is_some();
        s.attempt_ns = self.now_ns;
        // One that waits longer and longer goes on doing so.
        s.attempt = if answered { s.lapses.saturating_sub(1) } else { s.attempt };
        if !answered {
            return self.lose(session, Outcome::Eof, 0);
        }
        self.event(session, EventKind::Lost, Outcome::Eof, 0, 0);
        self.recorder.now.losses += 1;
        self.close(session, Next::Reconnect)
    }
}

/// What an error of connect, send or receive means for a connection.
pub(super) fn outcome_of(errno: Errno) -> (Outcome, i32) {
    use nix::libc;
    let outcome = match errno.0 {
        // Of a socket of this host: a queue that is full, and a file that is not there.
        libc::ECONNREFUSED | libc::EAGAIN | libc::ENOENT => Outcome::Refused,
        libc::ECONNRESET | libc::EPIPE => Outcome::Reset,
        libc::ETIMEDOUT => Outcome::ConnectTimeout,
        libc::EADDRNOTAVAIL | libc::EADDRINUSE => Outcome::NoAddress,
        libc::EHOSTUNREACH | libc::ENETUNREACH => Outcome::Unreachable,
        _ => Outcome::Other,
    };
    (outcome, errno.0)
}
