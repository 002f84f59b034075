//! What is due: orders, ramp, schedule, heartbeats, deadlines. Decides when; others do it.

use std::cmp::Reverse;
use std::io;

use latlog::Outcome;

use super::Worker;
use super::lists::{ANSWERING, BACKOFF, CONNECTING, HANDSHAKING, IDLE};
use super::session::State;
use crate::clock::Clock;
use crate::curve::Curve;
use crate::ops::Op;
use crate::orders::Stage;
use crate::ring::{Errno, Ring};
use crate::schedule::{BACKOFF_STEPS, Due, Schedule, backoff_ns};

impl<R: Ring, C: Clock> Worker<R, C> {
    /// Sees what the coordinator wants.
    pub(super) fn take_orders(&mut self) -> io::Result<()> {
        let stage = self.orders.stage(self.now_ns);
        let from_ns = self.orders.warmup_from_ns();
        if stage != Stage::Ramp && self.scheduled.start != from_ns {
            self.scheduled = from_ns..self.orders.hold().end;
            let plan = &self.plan;
            let curve = self.orders.rate().map_or_else(|| plan.curve.clone(), Curve::Steady);
            let seat = (self.index, plan.workers);
            let schedule = Schedule::new(plan.arrivals, plan.seed, from_ns, curve, seat);
            self.schedule = Some(schedule);
        }
        if self.rounds_seen != self.orders.rounds() {
            self.end_round();
        }
        self.recorder.set_hold(self.orders.hold());
        self.stage = stage;
        let version = self.orders.version();
        if version != self.orders_seen {
            self.orders_seen = version;
            self.take_targets()?;
        }
        Ok(())
    }

    /// Hands over what was counted. All of the round has come to its end, but for requests that
    /// wait for their session to come back.
    fn end_round(&mut self) {
        self.rounds_seen = self.orders.rounds();
        (0..self.count).for_each(|session| self.fail_crossed(session));
        let tally = std::mem::take(&mut self.recorder.tally);
        if let Ok(mut round) = self.window.round.lock() {
            *round = Some(tally);
        }
    }

    /// Starts and gives up whatever is due.
    pub(super) fn start_due(&mut self) -> io::Result<()> {
        self.time_out()?;
        self.expire_alive();
        if !self.asks.is_empty() {
            self.serve_asks()?;
        }
        match self.stage {
            Stage::Ramp | Stage::Warmup | Stage::Hold => {
                self.start_connections()?;
                self.move_some()?;
                self.schedule_requests();
                self.assign_requests();
                self.ping_idle();
            }
            Stage::Drain => {
                if self.plan.find_limit.is_some() || !self.resume_at.is_empty() {
                    // Between two steps, sessions come back; or for the rest of an answer.
                    self.start_connections()?;
                }
                self.schedule_requests();
                self.assign_requests();
            }
            // A worker that did not run for a while finds requests that became due before.
            Stage::Cooldown => {
                self.schedule_requests();
                self.end_some()?;
            }
            Stage::Abandon => self.schedule_requests(),
        }
        // Streams come back at the same rate as sessions, and after them.
        if self.later.is_empty() { Ok(()) } else { self.wake_some() }
    }

    fn start_connections(&mut self) -> io::Result<()> {
        let mut starts = 0;
        let room = self.plan.limits.opening.saturating_sub(self.opening());
        let most = self.plan.limits.starts_per_turn.min(room);
        while self.ramp_next < self.members && starts < most {
            if self.ramp.take(self.now_ns).is_none() {
                break;
            }
            let session = self.ramp_next;
            self.ramp_next += 1;
            starts += 1;
            if session < self.count {
                self.start(session)?;
            } else {
                self.admit(session)?;
            }
        }
        while starts < most
            && let Some((due_ns, session)) = self.next_retry()
            && due_ns <= self.now_ns
            && self.reconnects.take(self.now_ns)
        {
            starts += 1;
            self.unqueue(session);
            self.start(session)?;
        }
        Ok(())
    }

    /// The session whose back-off is over first, and when. The order of all steps together counts:
    /// where reconnects are many, those with a short wait would otherwise starve the others.
    fn next_retry(&self) -> Option<(u64, u32)> {
        let front = |step: u8| {
            let session = self.queues[BACKOFF + usize::from(step)].front()?;
            Some((self.sessions[session as usize].since_ns + backoff_ns(step), session))
        };
        (0..BACKOFF_STEPS).filter_map(front).min()
    }

    /// Connections that are being made or whose session is being opened.
    pub(super) fn opening(&self) -> u32 {
        let sessions = self.open - self.open_beside;
        let established = self.established - self.pool.established();
        self.queues[CONNECTING].len() + sessions.saturating_sub(established)
    }

    /// Gives up what has waited for longer than the timeout.
    fn time_out(&mut self) -> io::Result<()> {
        while let Some(session) = self.overdue(CONNECTING) {
            self.connect_lost(session, Errno(nix::libc::ETIMEDOUT))?;
        }
        while let Some(session) = self.overdue(HANDSHAKING) {
            self.lose(session, Outcome::Timeout, 0)?;
        }
        self.time_out_lanes()?;
        while let Some(session) = self.overdue(ANSWERING) {
            match self.sessions[session as usize].state {
                State::Finishing | State::Deleting => {
                    self.end_request(session, Outcome::Timeout, 0);
                    let next = self.sessions[session as usize].next;
                    self.close(session, next)?;
                }
                _ => self.lose(session, Outcome::Timeout, 0)?,
            }
        }
        Ok(())
    }

    fn overdue(&self, queue: usize) -> Option<u32> {
        let session = self.queues[queue].front()?;
        let until_ns = self.sessions[session as usize].since_ns + self.plan.timeout_ns;
        (until_ns <= self.now_ns).then_some(session)
    }

    /// Takes from the schedule what has become due.
    fn schedule_requests(&mut self) {
        let hold = self.orders.hold();
        let end_ns = hold.end.min(self.scheduled.end);
        let until_ns = self.now_ns.min(end_ns.saturating_sub(1));
        while let Some(due) = self.schedule.as_mut().and_then(|s| s.take(until_ns)) {
            if self.due.len() < self.plan.limits.due as usize {
                self.due.push_back(due);
            } else {
                self.record_dropped(due);
            }
        }
    }

    /// Hands due requests to the sessions that have been free for longest, and gives up those that
    /// waited for longer than the timeout.
    fn assign_requests(&mut self) {
        while let Some(&due) = self.due.front() {
            if due.at_ns + self.plan.timeout_ns <= self.now_ns {
                self.due.pop_front();
                self.record_dropped(due);
                continue;
            }
            let Some(session) = self.queues[IDLE].front() else { break };
            self.due.pop_front();
            self.begin_call(session, due);
        }
        if let Some(due) = self.due.front() {
            let debt_ns = self.now_ns.saturating_sub(due.at_ns);
            let sample = &mut self.recorder.now;
            sample.debt_ns_max = sample.debt_ns_max.max(debt_ns);
        }
        let loaded = matches!(self.stage, Stage::Warmup | Stage::Hold);
        if self.plan.closed && loaded {
            while let Some(session) = self.queues[IDLE].front() {
                let index = self.closed_requests * u64::from(self.plan.workers);
                let index = index + u64::from(self.index);
                self.closed_requests += 1;
                self.begin_call(session, Due { at_ns: self.now_ns, index });
            }
        }
    }

    /// Begins the call that the mix has for a request of the schedule.
    fn begin_call(&mut self, session: u32, due: Due) {
        let op = Op::Call(self.plan.work.mix.pick(due.index));
        self.begin(session, op, State::Busy, due.at_ns);
        if let Some(current) = &mut self.sessions[session as usize].current {
            current.index = due.index;
        }
    }

    /// Keeps sessions alive that have had nothing to do for most of a heartbeat.
    fn ping_idle(&mut self) {
        while let Some(session) = self.queues[IDLE].front() {
            let due_ns = self.ping_due_ns(session);
            if due_ns > self.now_ns {
                return;
            }
            self.begin(session, Op::Ping, State::Busy, due_ns);
        }
    }

    /// A session that goes on over another connection without having been asked, and still counts as
    /// alive, is free for less long than it was last answered: it is pinged out of turn, where its
    /// turn would be too late.
    pub(super) fn ping_sooner(&mut self, session: u32) {
        let s = &self.sessions[session as usize];
        let due_ns = s.answered_ns + self.plan.ping_after_ns;
        let turn_ns = self.now_ns + self.plan.ping_after_ns;
        let asked = self.plan.heartbeat_ns > 0 && self.pool.is_empty();
        let alive = self.alive_links.queue_of(session).is_some();
        if asked && alive && turn_ns > s.answered_ns + self.plan.heartbeat_ns {
            self.later.push(Reverse((due_ns, session, s.generation)));
        }
    }

    /// The time has come that [`Self::ping_sooner`] set, and the session is free.
    pub(super) fn ping_unasked(&mut self, session: u32) {
        let due_ns = self.sessions[session as usize].answered_ns + self.plan.ping_after_ns;
        let loaded = matches!(self.stage, Stage::Ramp | Stage::Warmup | Stage::Hold);
        if loaded && due_ns <= self.now_ns {
            self.begin(session, Op::Ping, State::Busy, due_ns);
        }
    }

    /// When a session at a slot that is free is to be pinged.
    fn ping_due_ns(&self, session: u32) -> u64 {
        let since_ns = self.sessions[session as usize].since_ns;
        self.pool.rested_ns(session).unwrap_or(since_ns) + self.plan.ping_after_ns
    }

    /// When the next connection may be started.
    fn next_start_ns(&self) -> u64 {
        let mut next_ns = u64::MAX;
        if self.ramp_next < self.members {
            next_ns = self.ramp.next_due_ns();
        }
        if let Some((due_ns, _)) = self.next_retry() {
            next_ns = next_ns.min(due_ns.max(self.reconnects.next_ns()));
        }
        next_ns
    }

    /// When the scheduled request after the next is due, in a stage that lets it be sent.
    pub(super) fn following_due_ns(&self) -> Option<u64> {
        match self.stage {
            Stage::Ramp | Stage::Warmup | Stage::Hold => {
                let due_ns = self.schedule.as_ref().map(Schedule::following_due_ns);
                due_ns.filter(|due_ns| *due_ns < self.scheduled.end)
            }
            Stage::Drain | Stage::Cooldown | Stage::Abandon => None,
        }
    }

    /// When the next thing is due; a moment in the past means now.
    pub(super) fn next_due_ns(&self) -> u64 {
        let front = |queue: usize, wait_ns: u64| match self.queues[queue].front() {
            Some(session) => self.sessions[session as usize].since_ns + wait_ns,
            None => u64::MAX,
        };
        let mut next_ns = self
            .next_sample_ns
            .min(front(CONNECTING, self.plan.timeout_ns))
            .min(front(HANDSHAKING, self.plan.timeout_ns))
            .min(front(ANSWERING, self.plan.timeout_ns));
        if let Some(sent_ns) = self.lanes.oldest_ns() {
            next_ns = next_ns.min(sent_ns + self.plan.timeout_ns);
        }
        if let Some(&Reverse((due_ns, slot, _))) = self.later.peek() {
            let paced_ns = if slot < self.count { 0 } else { self.reconnects.next_ns() };
            next_ns = next_ns.min(due_ns.max(paced_ns));
        }
        match self.stage {
            Stage::Ramp | Stage::Warmup | Stage::Hold => {
                let idle = self.queues[IDLE].front();
                next_ns = next_ns.min(idle.map_or(u64::MAX, |session| self.ping_due_ns(session)));
                // Without room for another, a completion is what is waited for.
                if self.opening() < self.plan.limits.opening {
                    next_ns = next_ns.min(self.next_start_ns());
                }
                if self.stage == Stage::Ramp {
                    next_ns = next_ns.min(self.orders.warmup_from_ns());
                }
                let scheduled_ns = self.schedule.as_ref().map(Schedule::next_due_ns);
                if let Some(due_ns) = scheduled_ns.filter(|due_ns| *due_ns < self.scheduled.end) {
                    next_ns = next_ns.min(due_ns);
                }
            }
            Stage::Drain | Stage::Cooldown | Stage::Abandon => {}
        }
        match self.due.front() {
            Some(due) => next_ns.min(due.at_ns + self.plan.timeout_ns),
            None => next_ns,
        }
    }
}
