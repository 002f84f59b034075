//! More sessions than connections (`--sessions`): a connection carries a request of one session,
//! and then one of the session that has rested for longest.
//!
//! A slot stays a connection with a session at it, so that the rest of the worker knows one session
//! a slot. The others rest here, each in one queue: those that stand, in that of the target that
//! keeps them, for any connection to it; those that are to be opened, in one of their own, for slots
//! that were told to open so many more. Without `--sessions` all of this is empty, and a slot's
//! number is its session's.

use std::io;

use latlog::{Event, EventKind, Outcome};

use super::Worker;
use super::lists::{Links, Queue};
use super::session::{After, Next, Session, Standing, State};
use crate::cli::End;
use crate::clock::Clock;
use crate::dialect::SESSION_ID_BYTES;
use crate::ops::Op;
use crate::orders::Stage;
use crate::ring::Ring;

/// What is kept of a session while it is at no slot.
#[derive(Debug)]
struct Resting {
    id: Vec<u8>,
    standing: Standing,
    request_id: u32,
    forgotten: u16,
    lapses: u8,
    established: bool,
    stood: bool,
    /// When a request on it was last answered; also while it is at a slot.
    answered_ns: u64,
    /// Since when it has had nothing to do; also while it is at a slot.
    rested_ns: u64,
}

/// The sessions of a worker that are at no slot.
#[derive(Debug)]
pub(super) struct Pool {
    /// By number; of those at slots only the times mean anything.
    all: Vec<Resting>,
    links: Links,
    /// Sessions that stand, by target, those first that have rested for longest.
    standing: Vec<Queue>,
    /// Sessions that are to be opened.
    unopened: Queue,
    /// The number of the session at each slot.
    at: Vec<u32>,
    /// How many sessions each slot is to open yet; together as many as there are unopened.
    owed: Vec<u32>,
    /// How many sessions leave their target together with each slot, and are to be deleted there.
    along: Vec<u32>,
    /// Those that stand, of all targets.
    established: u32,
}

impl Pool {
    /// Room for all sessions of a worker, where it has more than slots for them.
    pub(super) fn new(sessions: u32, slots: u32) -> Self {
        let (sessions, slots) = if sessions > slots { (sessions, slots) } else { (0, 0) };
        let resting = |_| Resting {
            id: Vec::with_capacity(SESSION_ID_BYTES / 2),
            standing: Standing::Unknown,
            request_id: 0,
            forgotten: 0,
            lapses: 0,
            established: false,
            stood: false,
            answered_ns: 0,
            rested_ns: 0,
        };
        Self {
            all: (0..sessions).map(resting).collect(),
            links: Links::new(sessions),
            standing: Vec::new(),
            unopened: Queue::new(0),
            at: (0..slots).collect(),
            owed: vec![0; slots as usize],
            along: vec![0; slots as usize],
            established: 0,
        }
    }

    /// Whether every session has its slot.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The number of the session at a slot.
    pub(super) fn number(&self, slot: u32) -> u32 {
        self.at.get(slot as usize).copied().unwrap_or(slot)
    }

    /// Sessions that stand and rest.
    pub(super) fn established(&self) -> u32 {
        self.established
    }

    /// There is another target.
    pub(super) fn add_target(&mut self) {
        // Only fronts are taken out, so that nothing has to tell the queues apart.
        self.standing.push(Queue::new(0));
    }

    /// When a request was last answered on a session that is not asked at its slot.
    pub(super) fn answered_ns(&self, number: u32) -> u64 {
        self.all[number as usize].answered_ns
    }

    /// Notes that a request was answered on the session at a slot; its number.
    pub(super) fn answered(&mut self, slot: u32, now_ns: u64) -> u32 {
        let number = self.number(slot);
        self.all[number as usize].answered_ns = now_ns;
        number
    }

    /// Since when the session at a slot has had nothing to do, where it may have rested before.
    pub(super) fn rested_ns(&self, slot: u32) -> Option<u64> {
        let number = self.at.get(slot as usize)?;
        Some(self.all[*number as usize].rested_ns)
    }

    /// The id of a session, wherever it is; `slot` is where it was.
    pub(super) fn id_of<'a>(&'a self, number: u32, slot: u32, slots: &'a [Session]) -> &'a [u8] {
        match self.all.get(number as usize) {
            Some(resting) if self.number(slot) != number => &resting.id,
            Some(_) | None => &slots[slot as usize].id,
        }
    }

    fn take(&mut self, target: u16) -> Option<u32> {
        let queue = &mut self.standing[usize::from(target)];
        let number = queue.front()?;
        queue.remove(&mut self.links, number);
        self.established -= u32::from(self.all[number as usize].established);
        Some(number)
    }

    fn take_unopened(&mut self) -> Option<u32> {
        let number = self.unopened.front()?;
        self.unopened.remove(&mut self.links, number);
        Some(number)
    }

    /// Has a slot open a session that is at none.
    fn owe(&mut self, slot: u32, number: u32) {
        self.unopened.push_back(&mut self.links, number);
        self.owed[slot as usize] += 1;
    }

    /// Puts a session that stands among those of its target: as the last one to be used, or, where
    /// it was not used since it was taken from there, as the first.
    fn put(&mut self, number: u32, target: u16, used: bool) {
        let queue = &mut self.standing[usize::from(target)];
        match used {
            true => queue.push_back(&mut self.links, number),
            false => queue.push_front(&mut self.links, number),
        }
        self.established += u32::from(self.all[number as usize].established);
    }

    /// Puts a session in the place of the one at a slot, which is in no queue then.
    fn bring(&mut self, slot: u32, number: u32, s: &mut Session) {
        let leaving = std::mem::replace(&mut self.at[slot as usize], number);
        for number in [leaving, number] {
            self.all[number as usize].exchange(s);
        }
        s.answered_ns = self.all[number as usize].answered_ns;
        s.in_doubt = false;
    }
}

#[cfg(test)]
impl Pool {
    /// What must hold between any two turns.
    pub(super) fn check(&self) {
        assert_eq!(self.unopened.len(), self.owed.iter().sum::<u32>(), "each is owed by a slot");
        let standing: u32 = self.standing.iter().map(Queue::len).sum();
        assert_eq!(self.established, standing, "what rests stands");
        let mut places = vec![0; self.all.len()];
        self.at.iter().for_each(|&number| places[number as usize] += 1);
        let rests = |number: usize| self.links.queue_of(number as u32).is_some();
        for (number, count) in places.into_iter().enumerate() {
            assert!(count + u32::from(rests(number)) <= 1, "session {number} is in two places");
        }
    }
}

impl Resting {
    fn exchange(&mut self, s: &mut Session) {
        use std::mem::swap;
        swap(&mut self.id, &mut s.id);
        swap(&mut self.standing, &mut s.standing);
        swap(&mut self.request_id, &mut s.request_id);
        swap(&mut self.forgotten, &mut s.forgotten);
        swap(&mut self.lapses, &mut s.lapses);
        swap(&mut self.established, &mut s.established);
        swap(&mut self.stood, &mut s.stood);
    }
}

impl<R: Ring, C: Clock> Worker<R, C> {
    /// A session's turn in the ramp, where it has no slot of its own.
    pub(super) fn admit(&mut self, number: u32) -> io::Result<()> {
        // One whose slot was given up with its session goes to the next.
        let ended = |slot: &u32| self.sessions[*slot as usize].state == State::Ended;
        let mut slots = (0..self.count).map(|n| (number + n) % self.count);
        let Some(slot) = slots.find(|slot| !ended(slot)) else { return Ok(()) };
        self.pool.owe(slot, number);
        let idle = self.sessions[slot as usize].state == State::Idle;
        if idle { self.take_turns(slot, false) } else { Ok(()) }
    }

    /// A session has been served: its connection is free for it, or for another one.
    pub(super) fn rest(&mut self, slot: u32) -> io::Result<()> {
        if self.pool.is_empty() {
            self.free(slot);
            return Ok(());
        }
        let number = self.pool.number(slot);
        self.pool.all[number as usize].rested_ns = self.now_ns;
        self.take_turns(slot, true)
    }

    /// Brings the session to a slot whose turn it is.
    fn take_turns(&mut self, slot: u32, used: bool) -> io::Result<()> {
        let target = self.sessions[slot as usize].target;
        let opens = self.pool.owed[slot as usize] > 0 && self.stage != Stage::Cooldown;
        let next = match opens {
            true => self.pool.take_unopened(),
            false => self.pool.take(target),
        };
        let Some(next) = next else {
            self.free(slot);
            return Ok(());
        };
        self.pool.owed[slot as usize] -= u32::from(opens);
        let leaving = self.pool.number(slot);
        let s = &mut self.sessions[slot as usize];
        self.pool.bring(slot, next, s);
        self.pool.put(leaving, target, used);
        if !opens {
            self.free(slot);
            return Ok(());
        }
        self.sessions[slot as usize].attempt_ns = self.now_ns;
        self.go_on_opening(slot)
    }

    /// How many resting sessions leave a target together with one of its slots.
    fn share_of_resting(&self, target: u16) -> u32 {
        let resting = self.pool.standing[usize::from(target)].len();
        resting.div_ceil(self.targets.assigned(target).max(1))
    }

    /// A slot is told to leave its target: those that go with it are to be deleted there too.
    pub(super) fn leaves_with_others(&mut self, slot: u32) {
        if !self.pool.is_empty() {
            let target = self.sessions[slot as usize].target;
            self.pool.along[slot as usize] = self.share_of_resting(target);
        }
    }

    /// A slot is about to be assigned to another target: what has not been deleted of those that
    /// go with it is left behind, and they are opened anew.
    pub(super) fn leave_others(&mut self, slot: u32) {
        let s = &self.sessions[slot as usize];
        if self.pool.is_empty() || s.target == super::session::NO_TARGET {
            return;
        }
        let (target, assigned) = (s.target, s.assigned);
        let told = std::mem::take(&mut self.pool.along[slot as usize]);
        let count = if assigned { self.share_of_resting(target) } else { told };
        for _ in 0..count {
            let Some(number) = self.pool.take(target) else { return };
            self.resting_event(number, target, EventKind::SessionLost);
            self.no_longer_rests(number);
            let resting = &mut self.pool.all[number as usize];
            resting.id.clear();
            resting.standing = Standing::Unknown;
            self.pool.owe(slot, number);
        }
    }

    /// A session is deleted and its connection free: deletes the next that is to be. Whether there
    /// is one.
    pub(super) fn deletes_another(&mut self, slot: u32) -> io::Result<bool> {
        let s = &self.sessions[slot as usize];
        let deleted = s.state == State::Deleting && s.after == Some(After::Close);
        if !deleted || s.sending.is_some() || !s.exchange.is_idle() {
            return Ok(false);
        }
        let (target, next) = (s.target, s.next);
        let number = match next {
            Next::End => self.take_owing(target),
            Next::Reconnect if self.pool.along[slot as usize] > 0 => {
                self.pool.along[slot as usize] -= 1;
                self.pool.take(target)
            }
            Next::Reconnect | Next::OtherPair | Next::Renew => None,
        };
        let Some(number) = number else { return Ok(false) };
        let leaving = self.pool.number(slot);
        if next == Next::End {
            self.session_ended(slot);
        }
        self.pool.bring(slot, number, &mut self.sessions[slot as usize]);
        if next != Next::End {
            self.pool.owe(slot, leaving);
        }
        self.sessions[slot as usize].after = None;
        self.sessions[slot as usize].attempt = 0;
        self.take_leave(slot, next)?;
        Ok(true)
    }

    /// The connection of a slot has come to its end: whether another session goes on at it.
    pub(super) fn succeeded_by_another(&mut self, slot: u32) -> bool {
        if self.pool.is_empty() {
            return false;
        }
        let target = self.sessions[slot as usize].target;
        let ending = self.stage == Stage::Cooldown;
        let number = match ending {
            // One attempt at a connection for it, as for any other.
            true if self.sessions[slot as usize].attempt > 0 => None,
            true => self.take_owing(target),
            false if self.pool.owed[slot as usize] > 0 => {
                self.pool.owed[slot as usize] -= 1;
                self.pool.take_unopened()
            }
            false => self.pool.take(target),
        };
        let Some(number) = number else { return false };
        self.session_ended(slot);
        self.pool.bring(slot, number, &mut self.sessions[slot as usize]);
        // As of any session whose connection is gone.
        let s = &mut self.sessions[slot as usize];
        self.established -= u32::from(std::mem::take(&mut s.established));
        s.in_doubt = !ending && !s.id.is_empty();
        s.attempt_ns = self.now_ns;
        true
    }

    /// A resting session that its target shall be asked to delete; ends those before it that
    /// nothing is to be asked for.
    fn take_owing(&mut self, target: u16) -> Option<u32> {
        let deletes = self.plan.end == End::Delete
            && self.prepared[usize::from(target)].requests.get(Op::Delete).is_some();
        if !deletes {
            return None;
        }
        loop {
            let number = self.pool.take(target)?;
            let resting = &self.pool.all[number as usize];
            if !resting.id.is_empty() {
                return Some(number);
            }
            self.resting_event(number, target, EventKind::Ended);
            self.no_longer_rests(number);
        }
    }

    /// The last slot has ended, and with it what rests.
    pub(super) fn end_resting(&mut self) {
        for target in 0..self.pool.standing.len() as u16 {
            while let Some(number) = self.pool.take(target) {
                self.resting_event(number, target, EventKind::Ended);
                self.no_longer_rests(number);
            }
        }
        while let Some(number) = self.pool.take_unopened() {
            self.resting_event(number, 0, EventKind::Ended);
        }
    }

    fn no_longer_rests(&mut self, number: u32) {
        let resting = &mut self.pool.all[number as usize];
        self.established -= u32::from(std::mem::take(&mut resting.established));
        self.alive.remove(&mut self.alive_links, number);
    }

    fn resting_event(&mut self, session: u32, target: u16, kind: EventKind) {
        let (at_ns, outcome) = (self.now_ns, Outcome::Stopped);
        self.recorder.event(&Event { at_ns, kind, session, target, outcome, detail: 0, value: 0 });
    }
}
