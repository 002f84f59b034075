//! What this host's io_uring really does: every operation that a worker uses, tried on loopback;
//! and whether epoll can stand in.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use serde_json::{Value, json};

use super::epoll::EpollRing;
use super::kernel::KernelRing;
use super::{Completion, Family, Handle, Op, OpKind, Ring, RingConfig, Source};
use crate::cli::EngineWish;
use crate::plan::engine::{Choice, Engine, Sockets, choose};
use crate::plan::host::Host;
use crate::plan::{HELPERS, table_max};

/// The findings.
pub struct Probe {
    error: Option<String>,
    tried: Vec<(&'static str, bool)>,
    table_max: u32,
    engine: Option<Engine>,
    workers_for: Vec<(u32, u32)>,
}

/// Builds a small ring as the workers build theirs.
///
/// # Errors
/// Names the step that failed and the setting behind it.
pub fn try_io_uring() -> io::Result<()> {
    // On a thread of its own: the kernel takes a ring apart by and by, in task work of the thread
    // that used it, and so would interrupt that thread's blocking calls (EINTR without a signal).
    let trial = std::thread::spawn(|| KernelRing::new(&SMALL).map(drop));
    trial.join().unwrap_or_else(|_| Err(io::Error::other("the trial of io_uring panicked")))
}

/// Tries everything once; takes well under a second and leaves nothing behind.
pub fn probe(connections: u32, wish: EngineWish) -> Probe {
    let host = Host::read();
    let mut tried = NAMES.map(|name| (name, false)).to_vec();
    let found = try_ring(KernelRing::new, &mut tried);
    let table_max = if found.is_ok() { largest_table(table_max(host.descriptors)) } else { 0 };
    let mut error = found.as_ref().err().map(ToString::to_string);
    let mut choice = choose(wish, || found).ok();
    if choice.as_ref().is_some_and(|c| c.engine == Engine::Epoll)
        && let Err(e) = try_ring(EpollRing::new, &mut Vec::new())
    {
        error = Some(format!("{}epoll: {e}", error.map_or_else(String::new, |e| e + "; ")));
        choice = None;
    }
    let mut sizes = vec![1000, 10_000, 100_000, 1_000_000, connections];
    sizes.sort_unstable();
    sizes.dedup();
    let cores = host.cores.len() as u32;
    let workers = |choice: &Choice, sessions| {
        let sockets = Sockets { sessions, each: 1, helpers: HELPERS };
        choice.workers(sockets, None, cores, host.descriptors).ok()
    };
    let workers_for = match &choice {
        Some(choice) => sizes.iter().filter_map(|n| Some((*n, workers(choice, *n)?))).collect(),
        None => Vec::new(),
    };
    let engine = choice.map(|c| c.engine);
    Probe { error, tried, table_max, engine, workers_for }
}

impl Probe {
    /// Whether the generator can work here, by whatever engine.
    pub fn usable(&self) -> bool {
        self.engine.is_some()
    }

    /// The findings as one object.
    pub fn to_json(&self) -> Value {
        let map = |pairs: &[(u32, u32)]| -> serde_json::Map<String, Value> {
            pairs.iter().map(|(n, w)| (n.to_string(), json!(w))).collect()
        };
        let features: serde_json::Map<String, Value> =
            self.tried.iter().map(|(name, ok)| ((*name).to_owned(), json!(ok))).collect();
        json!({
            "probe": 1,
            "io_uring": self.table_max > 0,
            "engine": self.engine.map_or("none", Engine::name),
            "error": self.error,
            "features": features,
            "ring_table_max": self.table_max,
            "workers_max": 1024,
            "workers_for": map(&self.workers_for),
            "memory_per_connection_bytes": null,
            "memory_per_worker_bytes": null,
        })
    }
}

const SMALL: RingConfig = RingConfig {
    slots: 8,
    entries: 8,
    recv_buffers: 8,
    recv_buffer_bytes: 256,
    send_buffers: 2,
    send_buffer_bytes: 64,
};

fn largest_table(wished: u32) -> u32 {
    let fits = |slots: u32| KernelRing::new(&RingConfig { slots, ..SMALL }).is_ok();
    let (mut low, mut high) = (SMALL.slots, wished);
    if fits(high) {
        return high;
    }
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        if fits(middle) { low = middle } else { high = middle }
    }
    low
}

const NAMES: [&str; 10] = [
    "single_issuer",
    "defer_taskrun",
    "direct_descriptors",
    "buffer_ring",
    "ext_arg",
    "connect",
    "send",
    "recv_multishot",
    "cancel",
    "close_direct",
];

/// Runs one operation of each kind, and ticks off what it shows to work.
fn try_ring<R: Ring>(
    engine: fn(&RingConfig) -> io::Result<R>,
    tried: &mut [(&'static str, bool)],
) -> io::Result<()> {
    let mut ok = |name: &str| {
        if let Some(entry) = tried.iter_mut().find(|(n, _)| *n == name) {
            entry.1 = true;
        }
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address: SocketAddr = listener.local_addr()?;
    let mut ring = engine(&SMALL)?;
    for name in ["single_issuer", "defer_taskrun", "buffer_ring"] {
        ok(name);
    }
    let peer = ring.add_peer(&address.into());
    let handle = Handle { slot: 0, generation: 1 };
    ring.open(0, Source { bind: None, family: Family::V4 })?;
    ok("direct_descriptors");
    run_one(&mut ring, handle, Op::Connect(peer))?;
    ok("connect");
    ok("ext_arg");
    let (mut other, _) = listener.accept()?;
    other.set_read_timeout(Some(Duration::from_secs(1)))?;
    let buffer = ring.take_send_buffer().ok_or_else(|| io::Error::other("no send buffer"))?;
    ring.send_bytes_mut(buffer)[..4].copy_from_slice(b"ping");
    run_one(&mut ring, handle, Op::Send { buffer, from: 0, to: 4 })?;
    let mut got = [0; 4];
    other.read_exact(&mut got)?;
    ok("send");
    other.write_all(b"pong")?;
    let received = run_one(&mut ring, handle, Op::Receive)?;
    if !received.more {
        return Err(io::Error::other("a multishot receive ended after one completion"));
    }
    ok("recv_multishot");
    ring.push(handle, Op::Cancel(OpKind::Receive)).map_err(|_| io::Error::other("queue full"))?;
    wait_for(&mut ring, OpKind::Cancel)?;
    ok("cancel");
    run_one(&mut ring, handle, Op::Close)?;
    ok("close_direct");
    Ok(())
}

fn run_one(ring: &mut impl Ring, handle: Handle, op: Op) -> io::Result<Completion> {
    ring.push(handle, op).map_err(|_| io::Error::other("queue full"))?;
    let completion = wait_for(ring, op.kind())?;
    match completion.result {
        Ok(_) => Ok(completion),
        Err(errno) => {
            let error = io::Error::from_raw_os_error(errno.0);
            Err(io::Error::new(error.kind(), format!("{:?}: {error}", op.kind())))
        }
    }
}

fn wait_for(ring: &mut impl Ring, kind: OpKind) -> io::Result<Completion> {
    for _ in 0..50 {
        ring.enter(20_000_000)?;
        while let Some(completion) = ring.pop() {
            if let Some(buffer) = completion.buffer {
                ring.recycle(buffer);
            }
            if completion.kind == kind {
                return Ok(completion);
            }
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("{kind:?} did not complete")))
}
