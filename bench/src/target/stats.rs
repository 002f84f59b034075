//! Counters of one thread, written by it alone and read by whoever prints them.

use std::sync::atomic::{AtomicU64, Ordering};

/// What is counted, by the name under which it is printed.
macro_rules! counts {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// One counter of a thread.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Count { $($(#[$doc])* $variant,)* }
        /// The printed names, in the order of [`Count`].
        pub const NAMES: &[&str] = &[$($name,)*];
    };
}

counts! {
    /// Connections accepted.
    Accepted = "connections_accepted",
    /// Connections gone, whoever ended them.
    Closed = "connections_closed",
    /// accept(2) failed; EMFILE for the most part.
    AcceptErrors = "accept_errors",
    /// Requests that want an answer, of any protocol.
    Requests = "requests",
    /// JSON-RPC notifications and responses taken.
    Notifications = "notifications",
    /// Requests that could not be read.
    BadRequests = "bad_requests",
    /// Long-lived streams opened.
    Streams = "streams_opened",
    /// Bytes received.
    BytesIn = "bytes_in",
    /// Turns in which the socket's buffer was full.
    FullSockets = "full_sockets",
    /// Answers given later than at once.
    Delayed = "faults_delayed",
    /// Answers held by a stall.
    Stalled = "faults_stalled",
    /// HTTP 500.
    Errors = "faults_http_500",
    /// JSON-RPC -32603.
    RpcErrors = "faults_rpc_error",
    /// isError results.
    ToolErrors = "faults_tool_error",
    /// RST instead of an answer.
    Resets = "faults_reset",
    /// Answers withheld.
    Unanswered = "faults_never_answered",
    /// Hostile answers.
    Hostile = "faults_hostile",
    /// Connections closed for their number of requests.
    ClosedAfter = "faults_closed_after",
    /// Connections closed for idleness.
    IdleClosed = "faults_idle_closed",
    /// Streams cut.
    StreamsCut = "faults_streams_cut",
}

/// The counters of one thread.
#[derive(Debug)]
pub struct Counters {
    values: Vec<AtomicU64>,
    first_ns: AtomicU64,
    last_ns: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            values: NAMES.iter().map(|_| AtomicU64::new(0)).collect(),
            first_ns: AtomicU64::new(0),
            last_ns: AtomicU64::new(0),
        }
    }
}

impl Counters {
    /// Adds `amount`. Only the owning thread calls it: there is no read-modify-write instruction.
    pub fn add(&self, count: Count, amount: u64) {
        let value = &self.values[count as usize];
        value.store(value.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
    }

    /// Notes that bytes arrived at `now_ns`.
    pub fn stamp(&self, now_ns: u64) {
        if self.first_ns.load(Ordering::Relaxed) == 0 {
            self.first_ns.store(now_ns, Ordering::Relaxed);
        }
        self.last_ns.store(now_ns, Ordering::Relaxed);
    }

    /// When the first and the last bytes arrived (ns), if any did.
    pub fn stamps(&self) -> Option<(u64, u64)> {
        let first_ns = self.first_ns.load(Ordering::Relaxed);
        (first_ns > 0).then(|| (first_ns, self.last_ns.load(Ordering::Relaxed)))
    }

    /// All values, in the order of [`NAMES`].
    pub fn all(&self) -> impl Iterator<Item = u64> {
        self.values.iter().map(|value| value.load(Ordering::Relaxed))
    }
}
