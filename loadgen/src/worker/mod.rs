//! One worker: a ring, the sessions on it, and the loop that turns both.
//!
//! A turn is: take orders, start what is due, put requests into the ring, enter the kernel until
//! the next thing is due, then read every completion. Nothing here blocks but the kernel's wait,
//! and nothing allocates once the sessions stand. Files: `session` (state), `connect` (how
//! connections come and go), `leave` (how sessions do), `receive` (completions), `send`
//! (requests), `layered` (TLS and WebSocket in between), `due` (timers and schedule), `slots` (what
//! slots are for), `pool` (more sessions than slots), `lanes` (several requests in flight),
//! `streams` (event streams beside sessions), `answers` (requests of servers), `renew` (from one
//! connection to another), `record` (log and counts), `targets` (where to), `lists`, `sample`.

mod answers;
mod connect;
mod due;
mod handshakes;
mod lanes;
mod layered;
mod leave;
mod lists;
mod pool;
mod receive;
mod record;
mod renew;
pub mod sample;
mod send;
mod session;
mod slots;
mod spill;
mod streams;
mod targets;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use latlog::{Event, EventKind, Outcome};

use crate::clock::{Clock, thread_cpu_ns};
use crate::dialect::{Dialect, Requests, SESSION_ID_BYTES};
use crate::layer::{Scratch, Wrapping};
use crate::metrics::Counts;
use crate::orders::{Orders, Stage};
use crate::plan::{ASKS_MAX, Plan, Target};
use crate::ring::{Family, Handle, Op as RingOp, Peer, RecvBuffer, Ring};
use crate::schedule::{Due, Even, Pacer, Schedule};
pub use handshakes::Handshakes;
use lanes::Lanes;
use lists::{ANSWERING, Links, QUEUES, Queue};
use pool::Pool;
pub use record::{
    BLOCK_BYTES, ByOutcome, Latencies, LogLink, Recorder, SPARE_BLOCKS, Sealed, Tally, latencies,
};
use sample::Shared;
use session::{Session, State};
use spill::Spills;
pub use streams::StreamCounts;
use targets::Targets;

/// Time between two samples.
const SAMPLE_NS: u64 = 1_000_000_000;
/// Longest sleep, so that orders are seen.
const LONGEST_WAIT_NS: u64 = 20_000_000;
/// With `--spin`, the last part of a wait that is polled instead of slept.
const SPIN_NS: u64 = 300_000;
/// A wait shorter than this is polled: to sleep costs a core more (docs/journal/fidelity.md).
const POLL_NS: u64 = 10_000;
/// A due time nearer than this is not worth being foreseen.
const FORESEEN_NS: u64 = 100_000;

/// What a worker shares with the thread that watches it.
#[derive(Default)]
pub struct Window {
    /// The latest sample.
    pub sample: Shared,
    /// Responses of the second before the latest sample.
    pub interval: std::sync::Mutex<Option<Latencies>>,
    /// How often the interval was replaced.
    pub intervals: AtomicU64,
    /// Load requests that failed or were dropped, by outcome; as of the latest sample.
    pub failures: [AtomicU64; Outcome::ALL.len()],
    /// Lost connections and failed attempts to connect, by outcome; as of the latest sample.
    pub losses: [AtomicU64; Outcome::ALL.len()],
    /// Whether the worker has seen the end of the schedule, and all that was due before it has come
    /// to its end. Counts alone do not tell: those of a worker that had no core for a while are
    /// from before.
    pub drained: AtomicBool,
    /// What was counted up to the end of a round, until the coordinator takes it.
    pub round: std::sync::Mutex<Option<Tally>>,
    /// What was counted from the start, as of the latest sample.
    pub counts: Counts,
}

/// What is left of a worker when it has ended.
pub struct Remains {
    /// Counts and latencies of the counted part.
    pub tally: Tally,
    /// What became of event streams, over the whole run.
    pub streams: StreamCounts,
    /// The last sample.
    pub last: sample::Sample,
    /// For the log's end block.
    pub totals: latlog::WorkerTotals,
    /// TLS handshakes, over the whole run.
    pub handshakes: Handshakes,
    /// The first example of each kind of failure.
    pub examples: Vec<Example>,
}

/// The first failure of a kind, kept for the report.
#[derive(Clone, Debug)]
pub struct Example {
    /// When it happened.
    pub at_ns: u64,
    /// Where.
    pub target: u16,
    /// What was asked for.
    pub op: crate::ops::Op,
    /// Why it failed.
    pub outcome: Outcome,
    /// Status, code or errno.
    pub detail: i32,
    /// The beginning of what was received last.
    pub bytes: Vec<u8>,
    /// A sentence about the cause, where there is one.
    pub text: String,
}

/// The received bytes that are being read.
#[derive(Clone, Copy, Debug)]
enum Reading {
    /// The first so many of a receive buffer.
    Received(RecvBuffer, u32),
    /// What a layer made of them, in [`Worker::plain`].
    Plain,
}

/// A target with what is prepared for it.
struct Prepared {
    peer: Peer,
    family: Family,
    dialect: Dialect,
    requests: Requests,
    wrapping: Option<Wrapping>,
    /// `host:port`, as its addresses name it.
    authority: String,
}

/// A worker; see the module.
pub struct Worker<R: Ring, C: Clock> {
    plan: Arc<Plan>,
    orders: Arc<Orders>,
    orders_seen: u64,
    window: Arc<Window>,
    index: u32,
    ring: R,
    clock: C,
    now_ns: u64,
    /// All slots, those of the sessions first; see `slots`.
    sessions: Vec<Session>,
    /// How many of them are sessions.
    count: u32,
    /// How many sessions there are, those counted in that have no slot of their own.
    members: u32,
    /// Those.
    pool: Pool,
    /// Requests in flight beside those of slots.
    lanes: Lanes,
    /// And how many are their streams: as many, or none.
    streams: u32,
    /// What each helper is to answer, until there is a record of it.
    helpers: Vec<Option<answers::Ask>>,
    /// Requests of servers that wait to be answered.
    asks: VecDeque<answers::Ask>,
    /// Waits of streams and of answers that are resumed, whose lengths servers may choose: when they
    /// end, and the slot and its generation.
    later: BinaryHeap<Reverse<(u64, u32, u32)>>,
    prepared: Vec<Prepared>,
    targets: Targets,
    /// The queues that a session waits in, one at a time; see the constants of `lists`.
    queues: [Queue; QUEUES],
    links: Links,
    /// Sessions in the order of their last answer, by number; see `pool`.
    alive: Queue,
    alive_links: Links,
    /// Requests that are due and wait for a session.
    due: VecDeque<Due>,
    /// Sessions whose receive ended for want of buffers.
    rearm: Vec<u32>,
    spills: Spills,
    /// The head of an answer that is split over receives, while it is being read.
    scratch: Vec<u8>,
    reading: Option<Reading>,
    /// What a layer made of received bytes, while they are being read; otherwise empty.
    plain: Vec<u8>,
    /// A request on its way into a layer.
    rendered: Vec<u8>,
    layers: Scratch,
    /// Connections with layers, so far: each gets a number of its own.
    layers_begun: u64,
    /// Sessions whose layer has bytes to send and found no send buffer.
    unsent: VecDeque<u32>,
    /// The ids of last events, of answers that can be resumed.
    marks: Spills,
    /// That of the answer that is being read.
    mark: Vec<u8>,
    /// When sessions that come back may ask for the rest of an answer.
    resume_at: HashMap<u32, u64>,
    /// Takes what a connection that is no session's cannot bring.
    lent: Vec<u8>,
    ramp: Even,
    ramp_next: u32,
    reconnects: Pacer,
    schedule: Option<Schedule>,
    /// When the schedule begins and ends, as ordered.
    scheduled: std::ops::Range<u64>,
    rounds_seen: u64,
    /// Requests of this worker in closed loop.
    closed_requests: u64,
    stage: Stage,
    moving: Option<leave::Moving>,
    ending_next: u32,
    ending_open: u32,
    ended: u32,
    established: u32,
    stood: u32,
    /// TCP connections that stand; those beside the sessions are counted in.
    open: u32,
    /// Those beside the sessions.
    open_beside: u32,
    /// Event streams that are open.
    streaming: u32,
    recorder: Recorder,
    examples: Vec<Example>,
    next_sample_ns: u64,
    next_publish_ns: u64,
    wire_limits: wire::Limits,
}

impl<R: Ring, C: Clock> Worker<R, C> {
    /// A worker with all its memory taken and nothing started.
    ///
    /// # Errors
    /// A request of a target that cannot be built.
    pub fn new(
        plan: Arc<Plan>,
        orders: Arc<Orders>,
        window: Arc<Window>,
        index: u32,
        ring: R,
        clock: C,
        link: Option<LogLink>,
    ) -> Result<Self, wire::mcp::BuildError> {
        let (count, members) = (plan.slots_of(index), plan.sessions_of(index));
        let streams = if plan.limits.streams > 0 { count } else { 0 };
        let slots = count + streams + plan.limits.helpers;
        let now_ns = clock.now_ns();
        let mut worker = Self {
            orders_seen: 0,
            index,
            ring,
            clock,
            now_ns,
            sessions: (0..slots)
                .map(|slot| Session::new(if slot < count { SESSION_ID_BYTES / 2 } else { 0 }))
                .collect(),
            count,
            members,
            pool: Pool::new(members, count),
            lanes: Lanes::new(count, plan.in_flight),
            streams,
            helpers: vec![None; plan.limits.helpers as usize],
            asks: VecDeque::with_capacity(if plan.limits.helpers > 0 { ASKS_MAX } else { 0 }),
            later: BinaryHeap::with_capacity(streams as usize),
            prepared: Vec::new(),
            targets: Targets::default(),
            queues: std::array::from_fn(|id| Queue::new(id as u8)),
            links: Links::new(slots),
            alive: Queue::new(0),
            alive_links: Links::new(members),
            // What was assigned and could not be sent comes back.
            due: VecDeque::with_capacity((plan.limits.due + count) as usize),
            rearm: Vec::with_capacity(slots as usize),
            spills: Spills::new(),
            scratch: Vec::with_capacity(4096),
            marks: Spills::new(),
            mark: Vec::with_capacity(256),
            resume_at: HashMap::new(),
            lent: Vec::new(),
            reading: None,
            plain: Vec::new(),
            rendered: Vec::new(),
            layers: Scratch::default(),
            layers_begun: 0,
            unsent: VecDeque::new(),
            ramp: Even::new(orders.start_ns(), plan.ramp.clone(), index, plan.workers),
            ramp_next: 0,
            reconnects: Pacer::new(plan.ramp_per_s / f64::from(plan.workers)),
            schedule: None,
            scheduled: u64::MAX..u64::MAX,
            rounds_seen: 0,
            closed_requests: 0,
            stage: Stage::Ramp,
            moving: None,
            ending_next: 0,
            ending_open: 0,
            ended: 0,
            established: 0,
            stood: 0,
            open: 0,
            open_beside: 0,
            streaming: 0,
            recorder: Recorder::new(index as u16, link),
            examples: Vec::new(),
            next_sample_ns: now_ns + SAMPLE_NS,
            next_publish_ns: now_ns,
            wire_limits: wire::Limits::default(),
            plan,
            orders,
            window,
        };
        // Later samples find it there.
        if let Ok(mut interval) = worker.window.interval.lock() {
            *interval = Some(worker.recorder.interval.clone());
        }
        for target in worker.plan.clone().targets.iter() {
            worker.add_target(target)?;
        }
        Ok(worker)
    }

    fn add_target(&mut self, target: &Target) -> Result<(), wire::mcp::BuildError> {
        let requests = Requests::prepare(&target.url, target.dialect, &self.plan.work)?;
        let peer = self.ring.add_peer(&target.address);
        let family = target.address.family();
        let wrapping = target.wrapping.as_ref().map(Wrapping::for_worker);
        let dialect = target.dialect;
        let authority = target.url.authority();
        self.prepared.push(Prepared { peer, family, dialect, requests, wrapping, authority });
        self.targets.add();
        self.pool.add_target();
        Ok(())
    }

    /// Runs until the sessions have ended.
    ///
    /// # Errors
    /// Only what makes the ring unusable.
    pub fn run(mut self) -> io::Result<Remains> {
        while !self.turn()? {}
        Ok(self.finish())
    }

    /// Records what is left open, and hands over what was measured.
    fn finish(mut self) -> Remains {
        self.now_ns = self.clock.now_ns();
        self.give_up_the_rest();
        self.take_sample();
        self.recorder.finish();
        Remains {
            totals: latlog::WorkerTotals {
                worker: self.index as u16,
                blocks: self.recorder.blocks(),
                requests: self.recorder.requests_total,
                events: self.recorder.events_total,
            },
            last: self.recorder.now,
            tally: self.recorder.tally,
            handshakes: self.recorder.handshakes,
            streams: self.recorder.streams,
            examples: self.examples,
        }
    }

    /// One turn; whether it was the last.
    ///
    /// # Errors
    /// Only what makes the ring unusable.
    pub fn turn(&mut self) -> io::Result<bool> {
        self.now_ns = self.clock.now_ns();
        let began_ns = self.now_ns;
        self.take_orders()?;
        self.start_due()?;
        let more = self.flush_outbox()?;
        if self.finished()? {
            return Ok(true);
        }
        self.recorder.now.turns += 1;
        let asleep_ns = self.sleep(more)?;
        let lag_ns = self.reap()?;
        let sample = &mut self.recorder.now;
        sample.reap_lag_ns_max = sample.reap_lag_ns_max.max(lag_ns);
        self.now_ns = self.clock.now_ns();
        let turn_ns = (self.now_ns - began_ns).saturating_sub(asleep_ns);
        sample.turn_ns_max = sample.turn_ns_max.max(turn_ns);
        sample.wait_ns += asleep_ns;
        if self.now_ns >= self.next_sample_ns {
            self.take_sample();
        } else if self.now_ns >= self.next_publish_ns {
            self.publish();
        }
        Ok(false)
    }

    /// Enters the kernel until something completes or is due, or does not wait where there is `more`
    /// to do; how long that took.
    fn sleep(&mut self, more: bool) -> io::Result<u64> {
        let before_ns = self.clock.now_ns();
        let due_ns = self.next_due_ns().max(before_ns);
        let mut wait_ns = (due_ns - before_ns).min(LONGEST_WAIT_NS);
        if self.plan.spin {
            wait_ns = wait_ns.saturating_sub(SPIN_NS);
        }
        if more || wait_ns < POLL_NS {
            wait_ns = 0;
        }
        // Who polls until a request is due has no use for an interrupt at just that time.
        if !self.plan.spin
            && let Some(due_ns) = self.following_due_ns()
            && due_ns > before_ns + FORESEEN_NS
        {
            self.ring.foresee(due_ns);
        }
        self.ring.enter(wait_ns)?;
        Ok(self.clock.now_ns() - before_ns)
    }

    /// Queues an operation, entering the kernel first if the queue is full.
    fn submit(&mut self, session: u32, op: RingOp) -> io::Result<()> {
        let generation = self.sessions[session as usize].generation;
        let handle = Handle { slot: session, generation };
        while self.ring.push(handle, op).is_err() {
            self.ring.enter(0)?;
        }
        Ok(())
    }

    /// As [`Self::submit`], for a send that nothing waits for.
    fn submit_quietly(&mut self, session: u32, op: RingOp) -> io::Result<()> {
        let generation = self.sessions[session as usize].generation;
        let handle = Handle { slot: session, generation };
        while self.ring.push_quiet(handle, op).is_err() {
            self.ring.enter(0)?;
        }
        Ok(())
    }

    fn enqueue(&mut self, queue: usize, session: u32) {
        self.sessions[session as usize].since_ns = self.now_ns;
        self.queues[queue].push_back(&mut self.links, session);
    }

    /// Takes a session out of whatever queue it waits in.
    fn unqueue(&mut self, session: u32) {
        if let Some(queue) = self.links.queue_of(session) {
            self.queues[usize::from(queue)].remove(&mut self.links, session);
        }
    }

    fn event(&mut self, session: u32, kind: EventKind, outcome: Outcome, detail: i32, value: u64) {
        let session = self.owner(session);
        let target = self.sessions[session as usize].target;
        let session = self.pool.number(session);
        let at_ns = self.now_ns;
        self.recorder.event(&Event { at_ns, kind, session, target, outcome, detail, value });
    }

    /// Shows the present counts to the coordinator, which waits for some of them.
    fn publish(&mut self) {
        self.next_publish_ns = self.now_ns + LONGEST_WAIT_NS;
        let stats = self.ring.stats();
        let sample = &mut self.recorder.now;
        sample.cpu_ns = thread_cpu_ns();
        sample.tcp_open = u64::from(self.open);
        sample.session_established = u64::from(self.established);
        sample.session_stood = u64::from(self.stood);
        let asked = self.plan.heartbeat_ns > 0;
        sample.session_alive = if asked { u64::from(self.alive.len()) } else { 0 };
        sample.stream_open = u64::from(self.streaming);
        sample.queued = self.due.len() as u64;
        sample.in_flight = u64::from(self.queues[ANSWERING].len() + self.lanes.in_flight());
        sample.completions = stats.completions;
        sample.send_buffers_used_max = u64::from(stats.send_buffers_used_max);
        sample.cq_overflow = stats.cq_overflow;
        self.window.sample.publish(sample);
        let drained = self.stage == Stage::Drain && !self.owes_answers();
        self.window.drained.store(drained, Ordering::Release);
    }

    /// Whether something that was due has not come to its end.
    fn owes_answers(&self) -> bool {
        let sessions = &self.sessions[..self.count as usize];
        // A request may be what a connection is being made for.
        let waits = |s: &Session| {
            s.state == State::Busy || s.current.is_some_and(|current| current.op.is_load())
        };
        !self.due.is_empty()
            || !self.resume_at.is_empty()
            || self.lanes.in_flight() > 0
            || sessions.iter().any(waits)
    }

    fn take_sample(&mut self) {
        let sample = &mut self.recorder.now;
        sample.rss_bytes = if self.index == 0 { sample::resident_bytes() } else { 0 };
        self.expire_alive();
        self.publish();
        if let Ok(mut interval) = self.window.interval.try_lock() {
            let interval = interval.get_or_insert_with(|| self.recorder.interval.clone());
            interval.set_to(&self.recorder.interval).expect("both have the same bounds");
            self.window.intervals.fetch_add(1, Ordering::Release);
        }
        let pairs = [
            (&self.window.failures, &self.recorder.failures),
            (&self.window.losses, &self.recorder.losses),
        ];
        for (shown, counted) in pairs {
            shown.iter().zip(counted).for_each(|(to, from)| to.store(*from, Ordering::Relaxed));
        }
        self.window.counts.add(&self.recorder.interval);
        self.recorder.sample(self.now_ns);
        while self.next_sample_ns <= self.now_ns {
            self.next_sample_ns += SAMPLE_NS;
        }
    }

    /// Keeps the first example of each kind of failure.
    fn keep_example(&mut self, session: u32, op: crate::ops::Op, outcome: Outcome, detail: i32) {
        self.keep_explained(session, op, outcome, detail, "");
    }

    /// Keeps the first example of each kind of failure, with a sentence about its cause.
    fn keep_explained(
        &mut self,
        session: u32,
        op: crate::ops::Op,
        outcome: Outcome,
        detail: i32,
        text: &str,
    ) {
        const EXAMPLES_MAX: usize = 16;
        const EXAMPLE_BYTES: usize = 512;
        let known = |e: &Example| e.outcome == outcome && e.detail == detail;
        if self.examples.len() >= EXAMPLES_MAX || self.examples.iter().any(known) {
            return;
        }
        let read = match self.reading {
            None => &[],
            Some(Reading::Received(buffer, len)) => self.ring.received(buffer, len),
            Some(Reading::Plain) => &self.plain[..],
        };
        let bytes = read[..read.len().min(EXAMPLE_BYTES)].to_vec();
        self.examples.push(Example {
            at_ns: self.now_ns,
            target: self.sessions[session as usize].target,
            op,
            outcome,
            detail,
            bytes,
            text: text.to_owned(),
        });
    }

    fn finished(&mut self) -> io::Result<bool> {
        match self.stage {
            Stage::Abandon => Ok(true),
            Stage::Cooldown if self.now_ns >= self.orders.cooldown_until_ns() => Ok(true),
            Stage::Cooldown if self.ended == self.count => self.end_beside(),
            Stage::Cooldown | Stage::Ramp | Stage::Warmup | Stage::Hold | Stage::Drain => Ok(false),
        }
    }

    /// Records what is still open at the end: nothing that was due or sent goes uncounted.
    fn give_up_the_rest(&mut self) {
        for slot in 0..self.sessions.len() as u32 {
            self.fail_crossed(slot);
            self.end_request(slot, Outcome::Unanswered, 0);
            self.fail_lanes(slot, Outcome::Unanswered, 0);
        }
        self.give_up_asks();
        while let Some(due) = self.due.pop_front() {
            self.record_dropped(due);
        }
    }
}

#[cfg(test)]
mod tests;
