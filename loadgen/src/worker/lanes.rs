//! Several requests in flight on one session (`--in-flight`), over lines and WebSocket, where answers
//! are told apart by their ids. Without it all of this is empty.
//!
//! A request is a slot's own until it is handed to the kernel. From then on it waits here, and the slot
//! is free for the next one, until as many wait as may. All wait for the same time at most, so that
//! their queue is their timer.

use std::io;

use latlog::Outcome;
use wire::mcp::Reply;

use super::Worker;
use super::lists::{Links, Queue};
use super::receive::outcome_of_reply;
use super::session::{Current, State};
use crate::clock::Clock;
use crate::ops::Op;
use crate::ring::Ring;

/// A request that was sent.
#[derive(Clone, Copy, Debug)]
struct Sent {
    id: u32,
    current: Current,
}

/// The requests in flight of a worker, beside those that are their slots' own.
#[derive(Debug)]
pub(super) struct Lanes {
    /// So many for each slot, one after the other.
    all: Vec<Option<Sent>>,
    /// How many a slot may have; 0 where a request stays its slot's own.
    each: u32,
    /// How many each slot has.
    used: Vec<u32>,
    /// When something was last received that each slot sent for.
    heard_ns: Vec<u64>,
    /// Whether each slot begins nothing more, because it is to move.
    leaving: Vec<bool>,
    /// Those that wait, in the order of their sending.
    waiting: Queue,
    links: Links,
}

impl Lanes {
    /// Room for so many on each slot.
    pub(super) fn new(slots: u32, in_flight: u32) -> Self {
        let (slots, each) = if in_flight > 1 { (slots, in_flight) } else { (0, 0) };
        Self {
            all: vec![None; (slots * each) as usize],
            each,
            used: vec![0; slots as usize],
            heard_ns: vec![0; slots as usize],
            leaving: vec![false; slots as usize],
            waiting: Queue::new(0),
            links: Links::new(slots * each),
        }
    }

    /// Whether every request stays its slot's own.
    pub(super) fn is_off(&self) -> bool {
        self.each == 0
    }

    /// Requests in flight.
    pub(super) fn in_flight(&self) -> u32 {
        self.waiting.len()
    }

    /// Requests in flight of a slot.
    pub(super) fn of(&self, slot: u32) -> u32 {
        self.used.get(slot as usize).copied().unwrap_or(0)
    }

    /// Whether a slot has as many as it may.
    pub(super) fn is_full(&self, slot: u32) -> bool {
        self.each > 0 && self.of(slot) == self.each
    }

    /// When the oldest was sent.
    pub(super) fn oldest_ns(&self) -> Option<u64> {
        let lane = self.waiting.front()?;
        self.all[lane as usize].map(|sent| sent.current.sent_ns)
    }

    fn range(&self, slot: u32) -> std::ops::Range<u32> {
        if self.of(slot) == 0 { 0..0 } else { slot * self.each..(slot + 1) * self.each }
    }

    fn put(&mut self, slot: u32, sent: Sent) {
        let mut lanes = slot * self.each..(slot + 1) * self.each;
        let free = lanes.find(|lane| self.all[*lane as usize].is_none());
        let lane = free.expect("a slot that is full begins nothing");
        self.all[lane as usize] = Some(sent);
        self.used[slot as usize] += 1;
        self.waiting.push_back(&mut self.links, lane);
    }

    fn take(&mut self, lane: u32) -> Option<Current> {
        let sent = self.all[lane as usize].take()?;
        self.used[(lane / self.each) as usize] -= 1;
        self.waiting.remove(&mut self.links, lane);
        Some(sent.current)
    }

    /// The lane of a slot's request of this id.
    fn find(&self, slot: u32, id: u64) -> Option<u32> {
        let same =
            |lane: &u32| self.all[*lane as usize].is_some_and(|sent| u64::from(sent.id) == id);
        self.range(slot).find(same)
    }
}

impl<R: Ring, C: Clock> Worker<R, C> {
    /// Whether a request goes into a lane once it is sent.
    pub(super) fn goes_into_lane(&self, op: Op) -> bool {
        !self.lanes.is_off() && op.is_load()
    }

    /// The request of a slot is handed to the kernel: it waits apart, and the slot is free for another.
    pub(super) fn take_lane(&mut self, slot: u32) {
        let s = &mut self.sessions[slot as usize];
        let Some(current) = s.current.take() else { return };
        let id = s.request_id;
        self.lanes.put(slot, Sent { id, current });
        if !self.lanes.is_full(slot) {
            self.free(slot);
        }
    }

    /// A response that the slot's own request does not wait for: that of one in a lane, or nobody's.
    pub(super) fn answered_in_lane(&mut self, slot: u32, id: Option<u64>, reply: Reply) {
        let lane = id.and_then(|id| self.lanes.find(slot, id));
        let Some(current) = lane.and_then(|lane| self.lanes.take(lane)) else {
            self.recorder.now.unsolicited += 1;
            return;
        };
        let (outcome, detail) = outcome_of_reply(reply);
        self.lanes.heard_ns[slot as usize] = self.now_ns;
        if outcome.is_ok() {
            self.mark_alive(slot);
        }
        // The first byte of an answer among several cannot be told: it counts as come at its end.
        self.record_end(slot, &current, outcome, detail);
        self.leave_lane(slot);
    }

    /// A slot has one less: free for another, unless it is at something else, or is to move and
    /// waits for the last of them.
    fn leave_lane(&mut self, slot: u32) {
        let s = &self.sessions[slot as usize];
        let waits = s.state == State::Busy && s.current.is_none();
        let last = self.lanes.of(slot) == 0;
        if waits && (last || !self.lanes.leaving[slot as usize]) {
            self.lanes.leaving[slot as usize] = false;
            self.free(slot);
        }
    }

    /// A slot that is free and has requests in flight is to move: it begins no others. Whether it is
    /// to wait.
    pub(super) fn waits_for_lanes(&mut self, slot: u32) -> bool {
        if self.lanes.of(slot) == 0 {
            return false;
        }
        self.unqueue(slot);
        self.sessions[slot as usize].state = State::Busy;
        self.lanes.leaving[slot as usize] = true;
        true
    }

    /// The connection of a slot is gone, and with it all that was in flight on it.
    pub(super) fn fail_lanes(&mut self, slot: u32, outcome: Outcome, detail: i32) {
        for lane in self.lanes.range(slot) {
            if let Some(current) = self.lanes.take(lane) {
                self.record_end(slot, &current, outcome, detail);
            }
        }
        if let Some(leaving) = self.lanes.leaving.get_mut(slot as usize) {
            *leaving = false;
        }
    }

    /// Gives up what has waited for longer than the timeout: that request alone, where the connection
    /// has brought answers to others since; otherwise the connection.
    pub(super) fn time_out_lanes(&mut self) -> io::Result<()> {
        while let Some(sent_ns) = self.lanes.oldest_ns()
            && sent_ns + self.plan.timeout_ns <= self.now_ns
            && let Some(lane) = self.lanes.waiting.front()
        {
            let slot = lane / self.lanes.each;
            if self.lanes.heard_ns[slot as usize] < sent_ns {
                self.lose(slot, Outcome::Timeout, 0)?;
                continue;
            }
            if let Some(current) = self.lanes.take(lane) {
                self.record_end(slot, &current, Outcome::Timeout, 0);
                self.leave_lane(slot);
            }
        }
        Ok(())
    }
}
