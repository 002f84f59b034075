//! What the slots of a worker are for: sessions first, then the stream of each, then helpers.
//! Derived from a slot's number, and stored nowhere.

use std::io;

use latlog::Outcome;

use super::Worker;
use super::lists::CONNECTING;
use super::session::{Next, State};
use crate::clock::Clock;
use crate::ring::{Errno, Family, GENERATIONS, Op as RingOp, OpKind, Ring, Source};

/// What a slot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A session and its connection.
    Session,
    /// The event stream beside the session of this number.
    Stream(u32),
    /// A connection for answers to requests of servers; which one.
    Helper(u32),
}

impl<R: Ring, C: Clock> Worker<R, C> {
    /// What a slot is for.
    pub(super) fn role(&self, slot: u32) -> Role {
        match slot.checked_sub(self.count) {
            None => Role::Session,
            Some(n) if n < self.streams => Role::Stream(n),
            Some(n) => Role::Helper(n - self.streams),
        }
    }

    /// The session that a slot belongs to, as the log numbers it.
    pub(super) fn owner(&self, slot: u32) -> u32 {
        match self.role(slot) {
            Role::Session => slot,
            Role::Stream(session) => session,
            Role::Helper(helper) => self.helpers[helper as usize].map_or(0, |ask| ask.session),
        }
    }

    /// Opens a slot's socket from its planned start and connects it.
    ///
    /// # Errors
    /// The outer: what makes the ring unusable. The inner: no socket.
    pub(super) fn dial(&mut self, slot: u32) -> io::Result<io::Result<()>> {
        let s = &self.sessions[slot as usize];
        let prepared = &self.prepared[usize::from(s.target)];
        let (peer, family) = (prepared.peer, prepared.family);
        let (places, index) = (&self.plan.places, self.index);
        let number = match self.role(slot) {
            Role::Session => places.session(index, slot),
            Role::Stream(session) => places.stream(index, session),
            Role::Helper(helper) => places.helper(index, helper),
        };
        let sources = self.plan.sources.as_ref().filter(|_| family != Family::Unix);
        let bind = sources.map(|all| all.start(number, s.generation));
        if let Err(e) = self.ring.open(slot, Source { bind, family }) {
            // The next attempt starts from another pair of the slot.
            let s = &mut self.sessions[slot as usize];
            s.generation = (s.generation + 1) % GENERATIONS;
            // Before Linux 6.3, it is bind(2) that finds a port taken.
            let taken = self.takes_other_pair(slot, Errno(e.raw_os_error().unwrap_or(0)));
            return if taken { self.dial(slot) } else { Ok(Err(e)) };
        }
        self.submit(slot, RingOp::Connect(peer))?;
        let s = &mut self.sessions[slot as usize];
        s.armed.set(OpKind::Connect);
        s.state = State::Connecting;
        self.enqueue(CONNECTING, slot);
        Ok(Ok(()))
    }

    /// The connection of a slot that is no session could not be made, or is gone.
    pub(super) fn lose_beside(
        &mut self,
        slot: u32,
        outcome: Outcome,
        detail: i32,
    ) -> io::Result<()> {
        match self.role(slot) {
            Role::Session => Ok(()),
            Role::Stream(session) => self.lose_stream(session, outcome, detail),
            Role::Helper(_) => self.lose_helper(slot, outcome, detail),
        }
    }

    /// The kernel has let go of a slot that is no session.
    pub(super) fn beside_closed(&mut self, slot: u32) -> io::Result<()> {
        match self.role(slot) {
            Role::Session => Ok(()),
            Role::Stream(session) => self.stream_closed(session),
            Role::Helper(helper) => self.helper_closed(slot, helper),
        }
    }

    /// Whether nothing of a slot is under way.
    pub(super) fn rests(&self, slot: u32) -> bool {
        match self.sessions[slot as usize].state {
            State::Waiting | State::BackingOff | State::Ended => true,
            State::Connecting
            | State::Handshaking
            | State::Opening
            | State::Idle
            | State::Busy
            | State::Streaming
            | State::Deleting
            | State::Finishing
            | State::Closing => false,
        }
    }

    /// Once all sessions have ended: closes what is left beside them; whether nothing is.
    pub(super) fn end_beside(&mut self) -> io::Result<bool> {
        let mut over = true;
        for slot in self.count..self.sessions.len() as u32 {
            if self.rests(slot) {
                continue;
            }
            over = false;
            if self.sessions[slot as usize].state != State::Closing {
                self.end_request(slot, Outcome::Stopped, 0);
                self.close(slot, Next::End)?;
            }
        }
        Ok(over)
    }
}
