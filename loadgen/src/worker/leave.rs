//! How sessions leave: for good, as `--end` says, or for another target.

use std::io;

use latlog::{EventKind, Outcome};

use super::Worker;
use super::lists::ANSWERING;
use super::session::{Next, State};
use crate::cli::End;
use crate::clock::Clock;
use crate::ops::Op;
use crate::orders::Stage;
use crate::ring::{Op as RingOp, OpKind, Ring};
use crate::schedule::Pacer;

/// Sessions that are looked at in one turn while sessions move.
const MOVE_SCAN: u32 = 4096;
/// Sessions that may be on their way out at one time during the cool-down.
const ENDING_MAX: u32 = 256;

/// Sessions leaving targets that are unwanted or overfull.
#[derive(Debug)]
pub(super) struct Moving {
    rebalance: bool,
    cursor: u32,
    pacer: Pacer,
}

impl<R: Ring, C: Clock> Worker<R, C> {
    /// Ends a session politely, as `--end` says; one that is busy is left for later.
    pub(super) fn end_session(&mut self, session: u32, next: Next) -> io::Result<bool> {
        let owes = next == Next::End && self.owes_delete(session);
        let s = &mut self.sessions[session as usize];
        match s.state {
            State::BackingOff if owes => {
                s.next = next;
                self.unqueue(session);
                self.start(session)?;
                if self.sessions[session as usize].state == State::BackingOff {
                    self.unqueue(session);
                    self.end(session)?;
                }
            }
            // Once it stands.
            State::Connecting | State::Handshaking | State::Opening if owes => s.next = next,
            State::Waiting | State::BackingOff => {
                if next == Next::End {
                    self.unqueue(session);
                    self.end(session)?;
                }
            }
            State::Idle => self.take_leave(session, next)?,
            State::Connecting | State::Handshaking | State::Opening => self.close(session, next)?,
            State::Busy | State::Streaming => return Ok(false),
            State::Deleting | State::Finishing | State::Closing => s.next = next,
            State::Ended => {}
        }
        Ok(true)
    }

    /// Whether the server keeps a session that it shall be asked to delete.
    pub(super) fn owes_delete(&self, session: u32) -> bool {
        let s = &self.sessions[session as usize];
        let deletes = || self.prepared[usize::from(s.target)].requests.get(Op::Delete).is_some();
        self.plan.end == End::Delete && !s.id.is_empty() && deletes()
    }

    pub(super) fn take_leave(&mut self, session: u32, next: Next) -> io::Result<()> {
        self.unqueue(session);
        self.no_longer_alive(session);
        let owes = self.owes_delete(session);
        let s = &mut self.sessions[session as usize];
        self.established -= u32::from(std::mem::take(&mut s.established));
        s.next = next;
        match self.plan.end {
            End::Delete if owes => {
                self.begin(session, Op::Delete, State::Deleting, self.now_ns);
            }
            // The end of a WebSocket session is a message of its own.
            End::Delete if s.layer.as_ref().is_some_and(|layer| layer.is_closed_by_peer()) => {
                self.say_goodbye(session)?;
            }
            End::Close if s.layer.is_some() => self.say_goodbye(session)?,
            End::Close if s.open => {
                s.state = State::Finishing;
                self.submit(session, RingOp::Finish)?;
                self.sessions[session as usize].armed.set(OpKind::Finish);
                self.enqueue(ANSWERING, session);
            }
            End::Delete | End::Close | End::Reset | End::Abandon => self.close(session, next)?,
        }
        Ok(())
    }

    /// The cool-down: ends sessions, so many at a time.
    pub(super) fn end_some(&mut self) -> io::Result<()> {
        while self.ending_open < ENDING_MAX && self.ending_next < self.count {
            let session = self.ending_next;
            self.ending_next += 1;
            if self.sessions[session as usize].state == State::Busy {
                self.close(session, Next::End)?;
            } else {
                self.end_session(session, Next::End)?;
            }
            let ended = self.sessions[session as usize].state == State::Ended;
            self.ending_open += u32::from(!ended);
        }
        Ok(())
    }

    /// Takes changed targets over.
    pub(super) fn take_targets(&mut self) -> io::Result<()> {
        let order = self.orders.targets();
        for target in order.known.iter().skip(self.prepared.len()) {
            // Built before from the same parts by the coordinator, which refuses what cannot be.
            let _ = self.add_target(target);
        }
        self.targets.activate(&order.wanted);
        let rate = self.plan.ramp_per_s / f64::from(self.plan.workers);
        let pacer = Pacer::new(rate);
        self.moving = Some(Moving { rebalance: order.rebalance, cursor: 0, pacer });
        self.abort_connects()
    }

    /// Gives up connects to targets that are unwanted: one that does not answer would keep its
    /// sessions for as long as the timeout.
    fn abort_connects(&mut self) -> io::Result<()> {
        for session in 0..self.count {
            let s = &self.sessions[session as usize];
            let connects = matches!(s.state, State::Connecting | State::Handshaking);
            if connects && self.targets.should_leave(s.target, None) {
                self.end_request(session, Outcome::Stopped, 0);
                self.close(session, self.next_attempt())?;
            }
        }
        Ok(())
    }

    /// Moves some sessions off targets that are unwanted or hold more than their share.
    pub(super) fn move_some(&mut self) -> io::Result<()> {
        let Some(mut moving) = self.moving.take() else { return Ok(()) };
        let count = self.count;
        let share = moving.rebalance.then(|| self.targets.fair_share(count - self.ended));
        if count == 0 || self.targets.settled(share) {
            return Ok(());
        }
        for _ in 0..MOVE_SCAN.min(count) {
            let session = moving.cursor;
            let s = &self.sessions[session as usize];
            let leaves = s.assigned && self.targets.should_leave(s.target, share);
            if leaves && s.state == State::Idle && !self.waits_for_lanes(session) {
                let at_slots = self.established - self.pool.established();
                let under_way = self.ramp_next.min(count) - at_slots - self.ended;
                if under_way >= self.plan.limits.opening || !moving.pacer.take(self.now_ns) {
                    break;
                }
                self.leaves_with_others(session);
                self.sessions[session as usize].assigned = false;
                self.targets.leave(self.sessions[session as usize].target);
                self.sessions[session as usize].attempt_ns = self.now_ns;
                self.drop_stream(session, Outcome::Stopped)?;
                self.end_session(session, Next::Reconnect)?;
            }
            moving.cursor = (moving.cursor + 1) % count;
        }
        self.moving = Some(moving);
        Ok(())
    }

    /// Nothing more will happen to it.
    pub(super) fn end(&mut self, session: u32) -> io::Result<()> {
        self.fail_crossed(session);
        self.drop_stream(session, Outcome::Stopped)?;
        let s = &mut self.sessions[session as usize];
        let deleted = s.state == State::Closing && self.stage == Stage::Cooldown;
        s.state = State::Ended;
        if std::mem::take(&mut s.assigned) {
            self.targets.leave(s.target);
        }
        self.ended += 1;
        self.ending_open = self.ending_open.saturating_sub(u32::from(deleted));
        self.session_ended(session);
        if self.ended == self.count {
            self.end_resting();
        }
        Ok(())
    }

    /// The session at a slot is no more.
    pub(super) fn session_ended(&mut self, session: u32) {
        self.no_longer_alive(session);
        let given_up = self.sessions[session as usize].forgotten > self.plan.reinit_max;
        let outcome = if given_up { Outcome::SessionGone } else { Outcome::Stopped };
        self.event(session, EventKind::Ended, outcome, 0, 0);
    }
}
