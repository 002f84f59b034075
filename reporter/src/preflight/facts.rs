//! What is known of the host, as plain data: needs are compared with this and with nothing else.
//! It is filled by `gather` (read) and `trial` (tried), and by hand in tests.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize, Serializer};

use super::counters::Counters;

/// A soft and a hard limit; `u64::MAX` is unlimited, and null in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// In force.
    #[serde(serialize_with = "unlimited_is_null")]
    pub soft: u64,
    /// What the process may raise the soft limit to by itself.
    #[serde(serialize_with = "unlimited_is_null")]
    pub hard: u64,
}

fn unlimited_is_null<S: Serializer>(limit: &u64, to: S) -> Result<S::Ok, S::Error> {
    (*limit != u64::MAX).then_some(*limit).serialize(to)
}

/// An outcome in JSON: the value itself, or `{"error": "why"}`.
#[derive(Serialize)]
#[serde(untagged)]
enum Answer<'a, T> {
    Good(&'a T),
    Bad { error: &'a str },
}

impl<'a, T> From<&'a Result<T, String>> for Answer<'a, T> {
    fn from(result: &'a Result<T, String>) -> Self {
        match result {
            Ok(value) => Answer::Good(value),
            Err(error) => Answer::Bad { error },
        }
    }
}

fn answer<T: Serialize, S: Serializer>(
    result: &Option<Result<T, String>>,
    to: S,
) -> Result<S::Ok, S::Error> {
    result.as_ref().map(Answer::from).serialize(to)
}

fn answers<T: Serialize, S: Serializer>(
    results: &[Result<T, String>],
    to: S,
) -> Result<S::Ok, S::Error> {
    to.collect_seq(results.iter().map(Answer::from))
}

/// One sysctl as this process sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The value, with blanks as the kernel prints them turned into single spaces.
    pub value: String,
    /// Whether a write could be opened by this user in this container.
    pub writable: bool,
}

/// Sockets of TCP in this network namespace (/proc/net/sockstat).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct SockStat {
    /// Sockets in use.
    pub inuse: u64,
    /// Closed by their process, not yet by TCP.
    pub orphan: u64,
    /// TIME_WAIT.
    pub time_wait: u64,
    /// Pages of buffer memory, of the whole host.
    pub mem_pages: u64,
}

/// Control groups that bound this process.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Cgroup {
    /// "v1", "v2", "v1+v2" or "none visible".
    pub version: String,
    /// Memory that this group, or one above it, may use; `None`: no limit.
    pub memory_limit_bytes: Option<u64>,
    /// Memory that is used under that limit.
    pub memory_used_bytes: u64,
    /// Cores by CPU quota; `None`: no quota.
    pub cpu_quota_cores: Option<f64>,
    /// Tasks allowed; `None`: no limit.
    pub pids_max: Option<u64>,
    /// Tasks that exist.
    pub pids_used: u64,
}

/// A socket that listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listener {
    /// `address:port` as `ss` prints it.
    pub address: String,
    /// Connections that wait to be accepted.
    pub queued: u64,
    /// The queue's limit: min(what listen(2) asked for, somaxconn).
    pub backlog: u64,
}

/// A server process that runs already.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServerFacts {
    /// Process id.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Its own descriptor limit.
    pub nofile: Limit,
    /// Descriptors it holds; `None`: not ours to read.
    pub open: Option<u64>,
    /// Whether it lives in this process's network namespace.
    pub same_network: Option<bool>,
    /// Its control groups.
    pub cgroup: Cgroup,
}

/// What is known about the clock's distance from true time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClockFacts {
    /// Who says so: "chrony", "timedatectl".
    pub by: String,
    /// Whether the clock is disciplined at all.
    pub synchronized: bool,
    /// Offset, where known.
    pub offset_us: Option<f64>,
    /// Half-width of the interval that the true offset lies in, where known.
    pub uncertainty_us: Option<f64>,
}

/// One source address and what bind(2) said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceTrial {
    /// The address.
    pub address: IpAddr,
    /// The error; `None`: bound.
    pub error: Option<String>,
}

/// A small share of the plan, opened to this very process and closed again.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct SocketTrial {
    /// Connections that were to be opened.
    pub asked: u64,
    /// Connections that opened.
    pub opened: u64,
    /// Why it ended early.
    pub stopped_by: Option<String>,
    /// Kernel memory a socket; `None`: the host is too restless to say.
    pub kernel_bytes_per_socket: Option<u64>,
    /// connect + accept pairs a second, one thread.
    pub connects_per_s: u64,
    /// How far nf_conntrack_count rose; `None`: conntrack is not there.
    pub conntrack_rise: Option<i64>,
}

/// What `loadgen --probe` printed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Probe {
    /// A ring was built as the workers build it and its operations ran.
    pub io_uring: bool,
    /// "io_uring", "epoll" or "none".
    #[serde(default)]
    pub engine: String,
    /// What failed.
    #[serde(default)]
    pub error: Option<String>,
    /// Features by name, each tried.
    #[serde(default)]
    pub features: BTreeMap<String, bool>,
    /// The largest direct-descriptor table that one ring registered.
    #[serde(default)]
    pub ring_table_max: u64,
    /// The generator's own bound on workers.
    #[serde(default)]
    pub workers_max: Option<u64>,
    /// Workers that the generator would start, by connections.
    #[serde(default)]
    pub workers_for: BTreeMap<String, u64>,
    /// User memory of the generator a connection.
    #[serde(default)]
    pub memory_per_connection_bytes: Option<u64>,
    /// User memory of the generator a worker.
    #[serde(default)]
    pub memory_per_worker_bytes: Option<u64>,
}

/// Everything that was found out by trying.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Trials {
    /// Source addresses that were bound; empty where routing picks the address.
    pub sources: Vec<SourceTrial>,
    /// A probing share of connections; an error text where none could be tried.
    #[serde(serialize_with = "answer")]
    pub sockets: Option<Result<SocketTrial, String>>,
    /// The generator's own probe; an error text where it did not answer. `None`: not asked.
    #[serde(serialize_with = "answer")]
    pub probe: Option<Result<Probe, String>>,
}

/// The host, as this process sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HostFacts {
    /// Node name.
    pub host: String,
    /// Kernel release.
    pub kernel: String,
    /// Cores online.
    pub cpus_online: u64,
    /// Cores that this process may run on.
    pub cpus_allowed: u64,
    /// Frequency governors in use; empty: none visible (a virtual machine).
    pub governors: Vec<String>,
    /// The kernel's clock source.
    pub clocksource: Option<String>,
    /// Transparent huge pages: "always", "madvise" or "never".
    pub huge_pages: Option<String>,
    /// Whether irqbalance runs; `None`: other processes are not visible.
    pub irqbalance: Option<bool>,
    /// Bytes a page.
    pub page_bytes: u64,
    /// RAM.
    pub memory_total_bytes: u64,
    /// MemAvailable.
    pub memory_available_bytes: u64,
    /// Control groups of this process.
    pub cgroup: Cgroup,
    /// RLIMIT_NOFILE.
    pub nofile: Limit,
    /// RLIMIT_MEMLOCK, bytes.
    pub memlock: Limit,
    /// Whether this process may raise its hard limits (CAP_SYS_RESOURCE).
    pub may_raise_limits: bool,
    /// Whether this process has root's user id.
    pub root: bool,
    /// Seccomp mode: 0 none, 1 strict, 2 filter.
    pub seccomp: Option<u64>,
    /// Open files of the whole host (/proc/sys/fs/file-nr).
    pub files_open: Option<u64>,
    /// Sysctls by name; absent: not visible here.
    pub settings: BTreeMap<String, Setting>,
    /// TCP sockets.
    pub sockstat: SockStat,
    /// Tracked connections; `None`: conntrack is not loaded or not visible.
    pub conntrack_count: Option<u64>,
    /// Whether this is the host's own network namespace; global network settings are only there.
    pub initial_network: bool,
    /// What kind of container this is; `None`: no sign of one.
    pub container: Option<String>,
    /// Listening sockets; `None`: `ss` is missing.
    pub listeners: Option<Vec<Listener>>,
    /// Kernel counters since boot.
    pub counters: Counters,
    /// The servers named by pid; an error text for one that cannot be read.
    #[serde(serialize_with = "answers")]
    pub servers: Vec<Result<ServerFacts, String>>,
    /// The clock; `None`: nobody here says.
    pub clock: Option<ClockFacts>,
    /// What was tried.
    pub trials: Trials,
}

impl HostFacts {
    /// A sysctl's text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.settings.get(key).map(|s| s.value.as_str())
    }

    /// A sysctl's first number.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.numbers(key)?.first().copied()
    }

    /// A sysctl's numbers; `None` if it is absent or holds anything else.
    pub fn numbers(&self, key: &str) -> Option<Vec<u64>> {
        let all: Result<Vec<u64>, _> = self.text(key)?.split_whitespace().map(str::parse).collect();
        all.ok().filter(|v| !v.is_empty())
    }

    /// The generator's probe, if it answered.
    pub fn probe(&self) -> Option<&Probe> {
        self.trials.probe.as_ref().and_then(|p| p.as_ref().ok())
    }

    /// The trial of sockets, if it ran.
    pub fn socket_trial(&self) -> Option<&SocketTrial> {
        self.trials.sockets.as_ref().and_then(|t| t.as_ref().ok())
    }
}
