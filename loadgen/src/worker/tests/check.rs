//! What must hold for a worker between any two turns.

use std::cmp::Reverse;

use crate::clock::Clock;
use crate::ring::OpKind;
use crate::ring::Ring;
use crate::schedule::BACKOFF_STEPS;
use crate::worker::Worker;
use crate::worker::lists::{ANSWERING, BACKOFF, CONNECTING, HANDSHAKING, IDLE, OUTBOX};
use crate::worker::session::{NO_TARGET, Session, State};
use crate::worker::slots::Role;

impl<R: Ring, C: Clock> Worker<R, C> {
    /// Panics with the session that breaks a rule.
    pub(super) fn check(&self) {
        let (mut open, mut established, mut ended) = (0, 0, 0);
        let (mut open_beside, mut streaming) = (0, 0);
        for (number, s) in self.sessions.iter().enumerate() {
            self.check_queue(number as u32, s);
            let beside = number >= self.count as usize;
            open_beside += u32::from(beside && s.open);
            streaming += u32::from(s.state == State::Streaming);
            let what = || format!("session {number}: {s:?}");
            open += u32::from(s.open);
            established += u32::from(s.established);
            ended += u32::from(s.state == State::Ended && !beside);
            let on_stream = s.target != NO_TARGET
                && self.prepared[usize::from(s.target)].dialect.answers_on_stream();
            // It may be between two connections and go on.
            let renews = self.plan.fresh || on_stream;
            assert!(s.open || !s.established || renews, "established and not open: {}", what());
            let stands = matches!(
                s.state,
                State::Handshaking
                    | State::Opening
                    | State::Idle
                    | State::Busy
                    | State::Streaming
                    | State::Deleting
                    | State::Finishing
            );
            assert!(s.open == stands || (renews && stands), "open or not: {}", what());
            if s.open {
                let receives =
                    s.armed.has(OpKind::Receive) || self.rearm.contains(&(number as u32));
                assert!(receives, "nothing will be received: {}", what());
            }
            if s.state == State::Idle {
                let lanes = !self.lanes.is_off();
                let sends = s.sending.is_some() && s.layer.is_none() && !lanes;
                assert!(s.established && s.current.is_none() && !sends, "{}", what());
            }
            if let Role::Stream(session) = self.role(number as u32) {
                let planned = self.sessions[session as usize].target != NO_TARGET;
                let forgotten = planned && s.state == State::Waiting && self.wants_stream(session);
                assert!(!forgotten, "nobody opens the stream: {}", what());
            }
            let rests = matches!(s.state, State::Waiting | State::BackingOff | State::Ended);
            assert!(!rests || s.armed.is_empty(), "something is under way: {}", what());
            assert!(!beside || !s.established && s.crossed.is_none(), "no session: {}", what());
            assert!(!rests || s.current.is_none(), "a request without a connection: {}", what());
            assert!(
                s.state != State::Closing || !s.armed.is_empty(),
                "waits for nothing: {}",
                what()
            );
            assert_eq!(s.sending.is_some(), s.armed.has(OpKind::Send), "{}", what());
        }
        established += self.pool.established();
        assert_eq!((self.open, self.established, self.ended), (open, established, ended));
        self.pool.check();
        assert_eq!((self.open_beside, self.streaming), (open_beside, streaming));
        assert!(self.alive.len() <= self.members);
        assert!(self.mark.is_empty() && self.lent.is_empty());
        assert!(self.due.len() <= self.plan.limits.due as usize + self.sessions.len());
        let assigned = self.sessions.iter().filter(|s| s.assigned).count();
        assert_eq!(self.targets.assigned_total() as usize, assigned);
        assert!(self.scratch.is_empty(), "the head of an answer is left in the scratch");
    }

    /// A session that waits is in the queue that will wake it.
    fn check_queue(&self, number: u32, s: &Session) {
        let queue = self.links.queue_of(number).map(usize::from);
        let waits_later = || {
            let mut all = self.later.iter();
            all.any(|&Reverse((_, slot, generation))| (slot, generation) == (number, s.generation))
        };
        let beside = number >= self.count;
        let fine = match s.state {
            State::BackingOff if beside => queue.is_none() && waits_later(),
            State::Streaming => queue.is_none() && beside,
            State::Waiting | State::Closing | State::Ended => queue.is_none(),
            State::BackingOff => {
                queue.is_some_and(|q| (BACKOFF..BACKOFF + usize::from(BACKOFF_STEPS)).contains(&q))
            }
            State::Connecting => queue == Some(CONNECTING),
            State::Handshaking => queue == Some(HANDSHAKING),
            State::Idle => queue == Some(IDLE),
            State::Busy if s.current.is_none() && self.lanes.of(number) > 0 => queue.is_none(),
            State::Opening | State::Busy | State::Deleting => {
                queue == Some(OUTBOX) || queue == Some(ANSWERING)
            }
            State::Finishing => queue == Some(ANSWERING),
        };
        assert!(fine, "session {number} is in queue {queue:?}: {s:?}");
    }
}
