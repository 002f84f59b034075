//! What a thread of the server holds: its counters, dice, faults, output buffer, connections.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value, json};

use super::faults::Faults;
use super::mcp::Texts;
use super::options::Options;
use super::sessions::{Limits, Sessions};
use super::stats::{Counters, NAMES};
use super::sweep::{self, Table};
use crate::clock;
use crate::rng::Rng;

/// Size of a thread's input buffer.
const INPUT_BYTES: usize = 64 << 10;

/// What all threads of the process share.
#[derive(Debug)]
pub struct Shared {
    /// The options.
    pub options: Options,
    /// The sessions that live.
    sessions: Mutex<Sessions>,
    /// When the first request came (ns), 0 before.
    pub first_request_ns: AtomicU64,
    open: AtomicU64,
    open_peak: AtomicU64,
    counters: Vec<Counters>,
}

impl Shared {
    /// The state of a process that has served nothing.
    pub fn new(options: Options) -> Arc<Self> {
        let faults = &options.faults;
        // Pid and time make identifiers of an earlier process at the same address unknown here.
        let nonce = Rng::new(clock::now_ns(), u64::from(std::process::id())).next() as u32;
        let limits = Limits {
            alive_max: faults.session_limit.unwrap_or(usize::MAX),
            ttl_ns: faults.session_ttl.map_or(u64::MAX, |ttl| ttl.as_nanos() as u64),
            nonce,
        };
        Arc::new(Self {
            sessions: Mutex::new(Sessions::new(limits)),
            first_request_ns: AtomicU64::new(0),
            open: AtomicU64::new(0),
            open_peak: AtomicU64::new(0),
            counters: (0..options.threads).map(|_| Counters::default()).collect(),
            options,
        })
    }

    /// The sessions, locked for one look-up.
    pub fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counters of all threads together, as one flat JSON object of whole numbers.
    pub fn stats(&self) -> Map<String, Value> {
        let mut sums = vec![0; NAMES.len()];
        for counters in &self.counters {
            for (sum, value) in sums.iter_mut().zip(counters.all()) {
                *sum += value;
            }
        }
        let mut stats: Map<String, Value> =
            NAMES.iter().zip(sums).map(|(name, sum)| ((*name).to_owned(), json!(sum))).collect();
        let stamps: Vec<(u64, u64)> = self.counters.iter().filter_map(Counters::stamps).collect();
        let totals = self.sessions().totals();
        let more = [
            ("first_arrival_ns", stamps.iter().map(|stamp| stamp.0).min().unwrap_or(0)),
            ("last_arrival_ns", stamps.iter().map(|stamp| stamp.1).max().unwrap_or(0)),
            ("connections_open", self.open.load(Ordering::Relaxed)),
            ("connections_open_peak", self.open_peak.load(Ordering::Relaxed)),
            ("sessions_alive", totals.alive),
            ("sessions_alive_peak", totals.alive_peak),
            ("sessions_created", totals.created),
            ("sessions_deleted", totals.deleted),
            ("sessions_expired", totals.expired),
            ("sessions_forgotten", totals.forgotten),
            ("sessions_refused", totals.refused),
        ];
        stats.extend(more.map(|(name, value)| (name.to_owned(), json!(value))));
        stats
    }
}

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 (plain or MCP, see the options).
    Http,
    /// JSON-RPC lines.
    Lines,
}

/// A bound listener and what is spoken on it.
#[derive(Debug)]
pub struct Bound {
    /// The listener.
    pub listener: std::net::TcpListener,
    /// What is spoken.
    pub protocol: Protocol,
    /// The address, its port as given by the kernel.
    pub addr: SocketAddr,
}

/// One thread of the server.
pub struct Worker {
    /// What is shared.
    pub shared: Arc<Shared>,
    /// This thread's dice.
    pub rng: Rng,
    /// What is spoiled.
    pub faults: Faults,
    /// Precomputed answers.
    pub texts: Texts,
    /// The answers of one turn, sent at its end: connections own no output buffer.
    pub out: RefCell<Vec<u8>>,
    /// Where a turn takes what does not fit into the connection's own small buffer.
    pub input: RefCell<Vec<u8>>,
    /// Connections that the sweeper looks after.
    pub table: RefCell<Table>,
    /// Whether anybody asks when bytes arrived: an honest server without counters does not.
    pub needs_time: bool,
    index: usize,
}

impl Worker {
    /// Thread number `index` (from 0) of the process.
    pub fn new(shared: Arc<Shared>, index: usize) -> Rc<Self> {
        let options = &shared.options;
        let stream = u64::from(options.child.unwrap_or(0)) << 16 | index as u64;
        Rc::new(Self {
            rng: Rng::new(options.faults.seed, stream),
            faults: Faults::new(&options.faults),
            texts: Texts::new(options),
            out: RefCell::new(Vec::with_capacity(16 << 10)),
            input: RefCell::new(vec![0; INPUT_BYTES]),
            table: RefCell::new(Table::default()),
            needs_time: options.json_stats
                || sweep::is_wanted(options)
                || Faults::new(&options.faults).spoils_delivery(),
            index,
            shared,
        })
    }

    /// This thread's counters.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters[self.index]
    }

    /// Counts a connection in.
    pub fn count_open(&self) {
        let open = self.shared.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.shared.open_peak.fetch_max(open, Ordering::Relaxed);
    }

    /// Counts a connection out.
    pub fn count_closed(&self) {
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
    }
}
