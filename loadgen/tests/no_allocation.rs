//! Nothing allocates while load is carried: not over a simulated ring, nor over the real ones.

mod support;

use std::io;
use std::sync::Arc;

use clap::Parser;
use loadgen::cli::Cli;
use loadgen::clock::{Clock, Monotonic};
use loadgen::orders::Orders;
use loadgen::plan::Plan;
use loadgen::ring::sim::{Kernel, Script, SimClock, SimConfig, SimRing, Speaks, Style};
use loadgen::ring::{
    Address, Completion, EpollRing, Handle, KernelRing, Op, Peer, QueueFull, RecvBuffer, Ring,
    RingStats, SendBuffer, Source,
};
use loadgen::setup::Setup;
use loadgen::worker::{BLOCK_BYTES, LogLink, SPARE_BLOCKS, Sealed, Window, Worker};
use support::server::{Kind, Server};

const MS: u64 = 1_000_000;

/// A ring whose own allocations do not count: those of the models behind it.
struct Uncounted<R>(R);

/// Runs something without counting what it allocates.
fn uncounted<T>(f: impl FnOnce() -> T) -> T {
    let mut result = None;
    allocation_counter::opt_out(|| result = Some(f()));
    result.expect("it ran")
}

impl<R: Ring> Ring for Uncounted<R> {
    fn add_peer(&mut self, address: &Address) -> Peer {
        self.0.add_peer(address)
    }

    fn open(&mut self, slot: u32, source: Source) -> io::Result<()> {
        uncounted(|| self.0.open(slot, source))
    }

    fn push(&mut self, handle: Handle, op: Op) -> Result<(), QueueFull> {
        uncounted(|| self.0.push(handle, op))
    }

    fn push_quiet(&mut self, handle: Handle, op: Op) -> Result<(), QueueFull> {
        uncounted(|| self.0.push_quiet(handle, op))
    }

    fn enter(&mut self, wait_ns: u64) -> io::Result<()> {
        uncounted(|| self.0.enter(wait_ns))
    }

    fn foresee(&mut self, at_ns: u64) {
        uncounted(|| self.0.foresee(at_ns));
    }

    fn pop(&mut self) -> Option<Completion> {
        uncounted(|| self.0.pop())
    }

    fn received(&self, buffer: RecvBuffer, len: u32) -> &[u8] {
        self.0.received(buffer, len)
    }

    fn recycle(&mut self, buffer: RecvBuffer) {
        uncounted(|| self.0.recycle(buffer));
    }

    fn take_send_buffer(&mut self) -> Option<SendBuffer> {
        self.0.take_send_buffer()
    }

    fn send_bytes_mut(&mut self, buffer: SendBuffer) -> &mut [u8] {
        self.0.send_bytes_mut(buffer)
    }

    fn release(&mut self, buffer: SendBuffer) {
        uncounted(|| self.0.release(buffer));
    }

    fn recv_buffers_free(&self) -> u32 {
        self.0.recv_buffers_free()
    }

    fn stats(&self) -> RingStats {
        self.0.stats()
    }
}

/// Ramps up, and then counts what the turns of `hold_ns` allocate; answers and allocations.
fn allocations<R: Ring, C: Clock + Clone>(
    plan: Plan,
    ring: R,
    clock: C,
    hold_ns: u64,
) -> (u64, allocation_counter::AllocationInfo) {
    let (plan, window) = (Arc::new(plan), Arc::new(Window::default()));
    let orders = Arc::new(Orders::new(clock.now_ns()));
    let (full, blocks) = crossbeam::channel::bounded::<Sealed>(2 * SPARE_BLOCKS);
    let (give, empty) = crossbeam::channel::bounded(SPARE_BLOCKS);
    for _ in 0..SPARE_BLOCKS {
        give.send(Vec::with_capacity(BLOCK_BYTES)).expect("the channel has this room");
    }
    let sessions = u64::from(plan.sessions);
    let link = Some(LogLink { full, empty });
    let mut worker =
        Worker::new(plan, orders.clone(), window.clone(), 0, ring, clock.clone(), link)
            .expect("the requests can be built");
    let mut turn = || {
        assert!(!worker.turn().expect("the ring stays usable"));
        // The writer's part, which hands buffers back.
        for Sealed { mut bytes, .. } in blocks.try_iter() {
            bytes.clear();
            give.try_send(bytes).expect("only what was taken comes back");
        }
    };
    let late_ns = clock.now_ns() + 60_000 * MS;
    while window.sample.read().session_established < sessions {
        assert!(clock.now_ns() < late_ns, "the sessions do not stand");
        turn();
    }
    let from_ns = clock.now_ns();
    orders.begin(from_ns, from_ns..u64::MAX);
    // The first second is the ramp's: buffers find their size.
    while clock.now_ns() < from_ns + 1_000 * MS {
        turn();
    }
    let before = window.sample.read().ok;
    let until_ns = clock.now_ns() + hold_ns;
    let counted = allocation_counter::measure(|| {
        while clock.now_ns() < until_ns {
            turn();
        }
    });
    let sample = window.sample.read();
    assert_eq!(sample.failed + sample.dropped + sample.losses, 0, "{sample:?}");
    (sample.ok - before, counted)
}

fn setup(options: &str, server: &Server) -> Plan {
    setup_for(options, &server.url())
}

fn setup_for(options: &str, url: &str) -> Plan {
    let words = format!("loadgen {options} --workers 1 {url}");
    let cli = Cli::try_parse_from(words.split(' ')).expect("the options parse");
    Setup::prepare(&cli).expect("the server can be loaded").plan
}

#[test]
fn a_simulated_run_does_not_allocate() {
    let server = Server::start(Kind::Mcp);
    for load in ["-r 2000", "--closed", "-r 2000 --sessions 400"] {
        let plan = setup(&format!("-c 50 --ramp 1000 --heartbeat 1s {load}"), &server);
        let clock = SimClock::new(1_000 * MS, 100);
        let mut script = Script::healthy(Speaks::Sessions);
        // Every framing, in as many pieces as come: also heads that are split over receives.
        script.style = Style { sse: 0.3, chunked: 0.5, apart: 0.5, ..Style::default() };
        script.service_ns = MS..5 * MS;
        let kernel = Kernel { split: 0.5, short_send: 0.3, ends: 0.1, ..Kernel::default() };
        let config = SimConfig {
            ring: plan.limits.ring(),
            seed: 1,
            kernel,
            scripts: vec![script],
            heal_ns: u64::MAX,
        };
        let ring = Uncounted(SimRing::new(config, clock.clone()));
        let (answers, counted) = allocations(plan, ring, clock, 3_000 * MS);
        assert!(answers > 4_000, "{answers} answers");
        assert_eq!(counted.count_total, 0, "{load}: {counted:?} for {answers} answers");
    }
}

#[test]
fn a_simulated_run_with_several_requests_in_flight_does_not_allocate() {
    let server = Server::start(Kind::Lines);
    let url = format!("tcp://{}", server.address);
    let plan = setup_for("-c 20 --in-flight 8 --ramp 1000 --heartbeat 1s -r 2000", &url);
    let clock = SimClock::new(1_000 * MS, 100);
    let script =
        Script { several: true, service_ns: 20 * MS..50 * MS, ..Script::healthy(Speaks::Lines) };
    let config = SimConfig {
        ring: plan.limits.ring(),
        seed: 1,
        kernel: Kernel { split: 0.5, short_send: 0.3, ..Kernel::default() },
        scripts: vec![script],
        heal_ns: u64::MAX,
    };
    let ring = Uncounted(SimRing::new(config, clock.clone()));
    let (answers, counted) = allocations(plan, ring, clock, 3_000 * MS);
    assert!(answers > 4_000, "{answers} answers");
    assert_eq!(counted.count_total, 0, "{counted:?} for {answers} answers");
}

#[test]
fn a_real_run_does_not_allocate() {
    let server = Server::start(Kind::Mcp);
    let plan = setup("-c 20 --ramp 1000 --heartbeat 1s -r 500", &server);
    let config = plan.limits.ring();
    let ring = EpollRing::new(&config).expect("epoll is there");
    let (answers, counted) = allocations(plan.clone(), ring, Monotonic, 1_500 * MS);
    assert!(answers > 100, "{answers} answers");
    assert_eq!(counted.count_total, 0, "epoll: {counted:?} for {answers} answers");
    match KernelRing::new(&config) {
        Ok(ring) => {
            let (answers, counted) = allocations(plan, ring, Monotonic, 1_500 * MS);
            assert!(answers > 100, "{answers} answers");
            assert_eq!(counted.count_total, 0, "io_uring: {counted:?} for {answers} answers");
        }
        Err(cause) => eprintln!("SKIPPED for io_uring, which is not allowed here: {cause}"),
    }
}
