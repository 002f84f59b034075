//! The worker on a simulated ring: a coordinator in small, and what must hold at every turn and at
//! the end of every run.
#![allow(clippy::single_range_in_vec_init, reason = "a script's windows are often one")]

mod arrivals;
mod check;
mod ends;
mod lanes;
mod limit;
mod moves;
mod pool;
mod seeds;
mod streams;
mod truth;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use clap::Parser;
use crossbeam::channel::{Receiver, Sender, bounded};
use latlog::{Event, EventKind, FileHeader, LogReader, Outcome, Request};

use super::lists::ANSWERING;
use super::{BLOCK_BYTES, LogLink, Remains, SPARE_BLOCKS, Sealed, Tally, Window, Worker};
use crate::cli::{Cli, Protocol};
use crate::dialect::{Dialect, Requests};
use crate::mix::Mix;
use crate::ops::Op;
use crate::orders::{Orders, Stage};
use crate::plan::engine::{Choice, Engine};
use crate::plan::host::Host;
use crate::plan::sources::Ports;
use crate::plan::target::Framing;
use crate::plan::{Plan, Target, Work};
use crate::ring::sim::{Kernel, Script, SimClock, SimConfig, SimRing, Speaks};
use crate::schedule::{Due, Schedule};

const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;
/// When a simulation begins: not at 0, which stands for "not yet" in some places.
const BEGIN_NS: u64 = 10 * S;
/// What the coordinator allows between an order and its effect.
const NOTICE_NS: u64 = 60 * MS;

/// A run to be made.
#[derive(Clone)]
struct Case {
    /// Options as typed, without targets.
    options: String,
    scripts: Vec<Script>,
    kernel: Kernel,
    seed: u64,
    heal_ns: u64,
    /// The worker's index, and how many there are.
    worker: (u32, u32),
    recv_buffers: u16,
    send_buffers: u32,
    entries: u32,
    tick_ns: u64,
}

impl Case {
    /// A friendly kernel and these servers.
    fn new(options: &str, scripts: Vec<Script>) -> Self {
        Self {
            options: options.into(),
            scripts,
            kernel: Kernel::default(),
            seed: 1,
            heal_ns: 0,
            worker: (0, 1),
            recv_buffers: 64,
            send_buffers: 64,
            entries: 64,
            tick_ns: 100,
        }
    }

    fn plan(&self) -> Plan {
        let count = self.scripts.len();
        let mut words = vec!["loadgen".to_owned()];
        words.extend(self.options.split_whitespace().map(str::to_owned));
        words.push(format!("--workers={}", self.worker.1));
        words.extend((0..count).map(|n| target(n, self.scripts[n].speaks).url.to_string()));
        let cli = Cli::try_parse_from(words).expect("the options parse");
        let targets: Vec<Target> = (0..count).map(|n| target(n, self.scripts[n].speaks)).collect();
        let work = work(&cli, self.scripts[0].speaks);
        let longest = targets.iter().map(|t| {
            let requests = Requests::prepare(&t.url, t.dialect, &work).expect("prepares");
            requests.longest()
        });
        let longest = longest.max().expect("there is a target");
        let host = Host {
            name: "host".into(),
            kernel: "0".into(),
            cores: vec![0],
            descriptors: 20_000,
            ports: Ports::parse("32768 60999", "").expect("parses"),
        };
        let engine = Choice { engine: Engine::IoUring, refusal: None };
        let mut plan = Plan::resolve(&cli, &host, engine, targets, work, longest).expect("fits");
        plan.limits.recv_buffers = self.recv_buffers;
        plan.limits.send_buffers = self.send_buffers;
        plan.limits.ring_entries = self.entries;
        plan
    }
}

/// Target `n`, which speaks this.
fn target(n: usize, speaks: Speaks) -> Target {
    use wire::mcp::Revision;
    let (scheme, dialect) = match speaks {
        Speaks::Sessions => ("http", Dialect::Mcp(Revision::V2025_11_25)),
        Speaks::Stateless => ("http", Dialect::Mcp(Revision::V2026_07_28)),
        Speaks::Plain => ("http", Dialect::Http),
        Speaks::Lines => ("tcp", Dialect::Lines(Revision::V2025_11_25)),
        Speaks::HttpSse => ("http", Dialect::HttpSse(Revision::V2024_11_05)),
    };
    let url: crate::plan::target::TargetUrl =
        format!("{scheme}://127.0.0.{}:8080/mcp", n + 11).parse().expect("a target");
    assert_eq!(url.scheme.framing == Framing::Http, dialect.is_http());
    let address: std::net::SocketAddr =
        format!("127.0.0.{}:8080", n + 11).parse().expect("an address");
    let address = address.into();
    Target { url, address, dialect, wrapping: None, terms: None, one_of_several: false }
}

fn work(cli: &Cli, speaks: Speaks) -> Work {
    let protocol = if speaks == Speaks::Plain { Protocol::Http } else { Protocol::Mcp };
    let seed = cli.seed.unwrap_or(1);
    let mix = Mix::parse(&cli.call, &cli.tool_args, seed).expect("a mix");
    let transport = Arc::default();
    let (headers, secrets, plain) = Default::default();
    Work { protocol, headers, secrets, plain, transport, mix, seed }
}

/// A run under way.
struct Run {
    worker: Worker<SimRing, SimClock>,
    orders: Arc<Orders>,
    plan: Arc<Plan>,
    window: Arc<Window>,
    clock: SimClock,
    full: Receiver<Sealed>,
    empty: Sender<Vec<u8>>,
    log: Vec<u8>,
    index: u32,
    turns: u64,
    max_opening: u32,
}

/// What a run has left.
struct Finished {
    tally: Tally,
    last: super::sample::Sample,
    streams: super::StreamCounts,
    requests: Vec<Request>,
    events: Vec<Event>,
    hold: Range<u64>,
    plan: Arc<Plan>,
}

impl Run {
    fn new(case: &Case) -> Self {
        let plan = Arc::new(case.plan());
        let clock = SimClock::new(BEGIN_NS, case.tick_ns);
        let config = SimConfig {
            ring: plan.limits.ring(),
            seed: case.seed,
            kernel: case.kernel.clone(),
            scripts: case.scripts.clone(),
            heal_ns: case.heal_ns,
        };
        let orders = Arc::new(Orders::new(BEGIN_NS + NOTICE_NS));
        let window = Arc::new(Window::default());
        let (full, blocks) = bounded(2 * SPARE_BLOCKS);
        let (give, empty) = bounded(SPARE_BLOCKS);
        for _ in 0..SPARE_BLOCKS {
            give.send(Vec::with_capacity(BLOCK_BYTES)).expect("the channel has this room");
        }
        let index = case.worker.0;
        let worker = Worker::new(
            plan.clone(),
            orders.clone(),
            window.clone(),
            index,
            SimRing::new(config, clock.clone()),
            clock.clone(),
            Some(LogLink { full, empty }),
        );
        Self {
            worker: worker.expect("the requests can be built"),
            orders,
            plan,
            window,
            clock,
            full: blocks,
            empty: give,
            log: Vec::new(),
            index,
            turns: 0,
            max_opening: 0,
        }
    }

    fn now_ns(&self) -> u64 {
        self.clock.peek_ns()
    }

    /// One turn and its checks; whether it was the last.
    fn turn(&mut self) -> bool {
        let last = self.worker.turn().expect("the ring stays usable");
        self.turns += 1;
        self.worker.check();
        self.max_opening = self.max_opening.max(self.worker.opening());
        for Sealed { mut bytes, .. } in self.full.try_iter() {
            self.log.extend_from_slice(&bytes);
            bytes.clear();
            self.empty.try_send(bytes).expect("only what was taken comes back");
        }
        last
    }

    /// Turns until something is so, or the time is up; whether it is so.
    fn turn_until(&mut self, until_ns: u64, mut so: impl FnMut(&Self) -> bool) -> bool {
        while !so(self) {
            if self.now_ns() >= until_ns {
                return false;
            }
            assert!(!self.turn(), "the worker ended by itself in {:?}", self.worker.stage);
        }
        true
    }

    fn turn_until_ns(&mut self, until_ns: u64) {
        self.turn_until(until_ns, |_| false);
    }

    fn all_established(&self) -> bool {
        self.worker.established == self.worker.members
    }

    /// Ramps up until all sessions stand, `most_ns` at the longest, and announces the hold.
    fn ramp(&mut self, most_ns: u64) -> bool {
        let stands = self.turn_until(self.now_ns() + most_ns, Self::all_established);
        let warmup_ns = self.now_ns() + NOTICE_NS;
        let from_ns = warmup_ns + self.plan.warmup_ns;
        let until_ns = self.plan.duration_ns.map_or(u64::MAX, |d| from_ns + d);
        self.orders.begin(warmup_ns, from_ns..until_ns);
        stands
    }

    /// Ends the load, waits for what is open as the coordinator does, cools down, and checks.
    fn finish(mut self) -> Finished {
        if self.orders.hold().end > self.now_ns() {
            self.orders.end_load(self.now_ns());
        }
        let drained = |run: &Self| {
            let open = run.worker.owes_answers() || run.worker.queues[ANSWERING].len() > 0;
            run.worker.stage == Stage::Drain && !open
        };
        self.turn_until(self.now_ns() + self.plan.timeout_ns + 2 * NOTICE_NS, drained);
        let count = u64::from(self.worker.members);
        let limit_ns = 2 * self.plan.timeout_ns + count * MS + 10 * S;
        let until_ns = self.now_ns() + limit_ns;
        self.orders.cool_down(self.now_ns(), until_ns);
        while !self.turn() {
            assert!(self.now_ns() < until_ns + S, "the cool-down does not end");
        }
        let ended = self.worker.ended == self.worker.count;
        assert!(ended, "{} of {count} sessions ended in time", self.worker.ended);
        self.end()
    }

    /// Takes apart a worker that has had its last turn.
    fn end(mut self) -> Finished {
        if self.worker.ended == self.worker.count {
            self.worker.ring.assert_all_home();
        }
        for server in self.worker.ring.servers() {
            assert!(server.misuse.is_empty(), "misuse of a server: {:?}", server.misuse);
        }
        let remains: Remains = self.worker.finish();
        for Sealed { bytes, .. } in self.full.try_iter() {
            self.log.extend_from_slice(&bytes);
        }
        assert_eq!(remains.last.log_lost_records, 0);
        let (requests, events) = decode(self.log, &self.plan, &remains);
        let hold = self.orders.hold();
        let finished = Finished {
            tally: remains.tally,
            last: remains.last,
            streams: remains.streams,
            requests,
            events,
            hold,
            plan: self.plan,
        };
        finished.check(self.orders.warmup_from_ns(), self.index);
        finished
    }
}

/// Reads the blocks back, and holds them against the totals.
fn decode(log: Vec<u8>, plan: &Plan, remains: &Remains) -> (Vec<Request>, Vec<Event>) {
    let start = latlog::Anchor { mono_ns: 0, real_ns: 0 };
    let header = FileHeader { host: "sim".into(), pid: 1, start, plan: plan.to_json() };
    let mut reader = LogReader::salvage(log, header).expect("memory can be read");
    let (mut requests, mut events, mut blocks) = (Vec::new(), Vec::new(), 0);
    for block in reader.blocks() {
        let block = block.expect("memory can be read");
        assert_eq!(block.head().seq, blocks, "blocks come in order");
        blocks += 1;
        match block.head().kind {
            latlog::BlockKind::Requests => block.read_requests(&mut requests).expect("sound"),
            latlog::BlockKind::Events => events.extend(block.events().map(|e| e.expect("sound"))),
            latlog::BlockKind::Samples => assert!(block.samples().all(|s| s.is_ok())),
            latlog::BlockKind::Notes | latlog::BlockKind::End => panic!("not a worker's block"),
        }
    }
    assert_eq!(reader.damage().bad_blocks, 0);
    let totals = &remains.totals;
    assert_eq!(blocks, totals.blocks);
    assert_eq!((requests.len(), events.len()), (totals.requests as usize, totals.events as usize));
    (requests, events)
}

impl Finished {
    /// Requests of the counted part.
    fn counted(&self) -> impl Iterator<Item = &Request> {
        let ops: Vec<Op> = Op::all(self.plan.work.mix.count()).collect();
        let load = move |r: &&Request| ops[usize::from(r.op)].is_load();
        self.requests.iter().filter(load).filter(|r| self.hold.contains(&r.intended_ns))
    }

    fn count(&self, kind: EventKind) -> u64 {
        self.events.iter().filter(|e| e.kind == kind).count() as u64
    }

    /// What must hold after every run.
    fn check(&self, warmup_ns: u64, index: u32) {
        for r in &self.requests {
            let ordered = r.intended_ns <= r.sent_ns
                && r.sent_ns <= r.first_byte_ns
                && r.first_byte_ns <= r.done_ns;
            assert!(ordered, "times out of order: {r:?}");
            check_reason(r.outcome, r.detail, || format!("{r:?}"));
        }
        self.check_tally();
        self.check_offered(warmup_ns, index);
        self.check_events();
        let last = &self.last;
        assert_eq!(last.sent, last.ok + last.failed, "what was sent has an end: {last:?}");
        assert_eq!(last.connects, self.count(EventKind::Connected));
        assert_eq!(last.losses, self.count(EventKind::Lost));
        // Over lines, answers to the server are no requests and have no records.
        if self.plan.targets.iter().all(|target| target.dialect.answers_apart()) {
            let op = |r: &&Request| [Op::Pong, Op::Decline].iter().any(|op| op.number() == r.op);
            let answers = self.requests.iter().filter(op).count() as u64;
            assert_eq!(last.server_requests, answers + last.server_requests_given_up, "{last:?}");
        }
    }

    /// The log and the tally are two records of the same things.
    fn check_tally(&self) {
        let tally = &self.tally;
        let (mut sent, mut ok, mut dropped) = (0, 0, 0);
        let mut errors = BTreeMap::new();
        let mut response_ns = 0u128;
        for r in self.counted() {
            match r.outcome {
                Outcome::Dropped => dropped += 1,
                Outcome::Ok => ok += 1,
                other => *errors.entry((other, r.detail)).or_insert(0) += 1,
            }
            sent += u64::from(r.outcome != Outcome::Dropped);
            if super::record::answered(r.outcome) {
                response_ns += u128::from(r.response_ns());
            }
        }
        assert_eq!((tally.sent, tally.ok, tally.dropped), (sent, ok, dropped));
        assert_eq!(tally.errors, errors);
        let mean = response_ns as f64 / tally.response.len().max(1) as f64;
        // Three significant digits, and nothing below a microsecond.
        assert!((tally.response.mean() - mean).abs() <= mean * 0.002 + 1000.0);
    }

    /// Every request of the schedule has one record, and no other has any.
    fn check_offered(&self, warmup_ns: u64, index: u32) {
        if self.plan.closed {
            return;
        }
        let what = |r: &Request| (r.intended_ns, r.op);
        let mut recorded: Vec<(u64, u8)> = self.counted().map(what).collect();
        recorded.sort_unstable();
        let plan = &self.plan;
        let seat = (index, plan.workers);
        let mut schedule =
            Schedule::new(plan.arrivals, plan.seed, warmup_ns, plan.curve.clone(), seat);
        let mut due = Vec::new();
        while let Some(Due { at_ns, index }) = schedule.take(self.hold.end.saturating_sub(1)) {
            if self.hold.contains(&at_ns) {
                due.push((at_ns, Op::Call(plan.work.mix.pick(index)).number()));
            }
        }
        due.sort_unstable();
        assert_eq!(recorded.len(), due.len(), "offered is what the schedule says");
        assert_eq!(recorded, due);
    }

    /// Each session's events make a story.
    fn check_events(&self) {
        // A connection is noted with the session that is at it just then.
        let pooled = self.plan.sessions > self.plan.connections;
        let mut open: BTreeMap<u32, bool> = BTreeMap::new();
        let mut ended: BTreeMap<u32, bool> = BTreeMap::new();
        let mut streams: BTreeMap<u32, bool> = BTreeMap::new();
        for e in &self.events {
            let over = ended.insert(e.session, e.kind == EventKind::Ended);
            assert_ne!(over, Some(true), "after its end: {e:?}");
            match e.kind {
                EventKind::StreamOpen => {
                    assert!(!streams.insert(e.session, true).unwrap_or(false), "{e:?}");
                }
                EventKind::StreamEnd => {
                    assert_eq!(streams.insert(e.session, false), Some(true), "not open: {e:?}");
                    check_reason(e.outcome, e.detail, || format!("{e:?}"));
                }
                EventKind::Connected => {
                    open.insert(e.session, true);
                }
                EventKind::Lost => {
                    let was = open.insert(e.session, false);
                    assert!(pooled || was == Some(true), "not open: {e:?}");
                    check_reason(e.outcome, e.detail, || format!("{e:?}"));
                    assert_ne!(e.outcome, Outcome::Ok, "a loss has a reason: {e:?}");
                }
                EventKind::Alive => {
                    assert!(pooled || open.get(&e.session) == Some(&true), "not open: {e:?}");
                    assert!(e.value < 1_000 * S, "took too long: {e:?}");
                }
                EventKind::ConnectFailed | EventKind::SessionLost => {
                    check_reason(e.outcome, e.detail, || format!("{e:?}"));
                    assert_ne!(e.outcome, Outcome::Ok, "a loss has a reason: {e:?}");
                }
                EventKind::Ended | EventKind::Handshake => {}
            }
        }
    }
}

/// A failure says why: none is "other" without a number, and none is our own cancelling.
fn check_reason(outcome: Outcome, detail: i32, what: impl Fn() -> String) {
    let nameless = outcome == Outcome::Other && detail == 0;
    assert!(!nameless, "a failure without a reason: {}", what());
    assert_ne!(detail, nix::libc::ECANCELED, "our own cancelling as a reason: {}", what());
}
