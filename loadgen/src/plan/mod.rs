//! The resolved configuration: what was typed, held against this host. Every limit has its name
//! here, and the rest of the crate sees only this.

pub mod engine;
pub mod host;
pub mod sources;
pub mod target;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::cli::{Cli, End, Protocol};
use crate::curve::{Curve, Segment, Stage, stepped_ramp};
use crate::dialect::Dialect;
use crate::layer::{Transport, Wrapping};
use crate::mix::Mix;
use crate::ring::Address;
use crate::ring::RingConfig;
use crate::schedule::Arrivals;
use crate::search::Threshold;
use engine::{Choice, Sockets};
use host::Host;
use sources::{Places, Sources, TooFewPorts};
use target::TargetUrl;
use wire::mcp::Operation;

/// Descriptors that a process needs beside the table: log, pipes, rings, a socket being opened.
const DESCRIPTOR_MARGIN: u64 = 64;
/// Workers that can be told apart in a log's block header are more; threads are the limit.
const WORKERS_MAX: u32 = 1024;
/// Requests a second that a search has queues for.
const SEARCH_RATE: f64 = 1e6;
/// Connections of a worker that carry answers to requests of servers. Such an answer takes a round
/// trip or two, so that few carry thousands a second.
pub const HELPERS: u32 = 8;
/// Answers to requests of servers that wait for a connection; more are given up, and counted.
pub const ASKS_MAX: usize = 1024;
/// What stands for the time to a ping that is never sent.
const NEVER_NS: u64 = u64::MAX / 4;
/// A request longer than this is refused at the start.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// Limits of one worker, each computed from the plan.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Sessions, each with a slot of the ring's table.
    pub sessions: u32,
    /// Slots of event streams, which follow those of the sessions: as many, or none.
    pub streams: u32,
    /// Slots of connections that carry answers to requests of servers; they come last.
    pub helpers: u32,
    /// Entries of the submission queue.
    pub ring_entries: u32,
    /// Receive buffers, a power of two.
    pub recv_buffers: u16,
    /// Bytes of a receive buffer: a fast socket takes the buffers of no more than this at once.
    pub recv_buffer_bytes: u32,
    /// Send buffers: requests that are on their way into the kernel at one time.
    pub send_buffers: u32,
    /// Bytes of a send buffer: the longest request with its session id.
    pub send_buffer_bytes: u32,
    /// Requests that are due and wait for a session; more are dropped, and counted.
    pub due: u32,
    /// Entries pushed before the kernel is entered, so that a time stamp stays near its send.
    pub batch: u32,
    /// Requests pushed in one turn: completions do not wait longer to be read, nor do answers take
    /// more receive buffers meanwhile.
    pub sends_per_turn: u32,
    /// Connections started in one turn.
    pub starts_per_turn: u32,
    /// Connections that are being made, or whose session is being opened, at one time: a server
    /// that is slower than the ramp sets its pace, instead of timing out under a growing heap of
    /// half-open sessions.
    pub opening: u32,
}

impl Limits {
    /// Slots of the ring's table.
    pub fn slots(&self) -> u32 {
        self.sessions + self.streams + self.helpers
    }

    /// The sizes of the ring.
    pub fn ring(&self) -> RingConfig {
        RingConfig {
            slots: self.slots(),
            entries: self.ring_entries,
            recv_buffers: self.recv_buffers,
            recv_buffer_bytes: self.recv_buffer_bytes,
            send_buffers: self.send_buffers,
            send_buffer_bytes: self.send_buffer_bytes,
        }
    }
}

/// A target, resolved.
#[derive(Clone, Debug)]
pub struct Target {
    /// As typed.
    pub url: TargetUrl,
    /// Where connections go.
    pub address: Address,
    /// What is spoken there, as found out.
    pub dialect: Dialect,
    /// What lies between a connection and its messages; nothing over TCP in clear.
    pub wrapping: Option<Wrapping>,
    /// What TLS agreed upon when the target was asked.
    pub terms: Option<String>,
    /// Whether its name has other addresses too, each a target of its own.
    pub one_of_several: bool,
}

impl Target {
    /// As logs and reports call it: its URL, with the address where the name has several.
    pub fn name(&self) -> String {
        match self.address.ip().filter(|_| self.one_of_several) {
            Some(address) => format!("{}#{}", self.url, address.ip()),
            None => self.url.to_string(),
        }
    }
}

/// The resolved configuration of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The command line, headers left out.
    pub command: String,
    /// Targets in the order of their indices in the log.
    pub targets: Vec<Target>,
    /// Connections of all workers.
    pub connections: u32,
    /// Their sessions: as many, or more, which then take turns.
    pub sessions: u32,
    /// Requests that may be in flight on a session at one time.
    pub in_flight: u32,
    /// Scheduled requests a second, the most where they change; 0 in closed loop.
    pub rate_per_s: f64,
    /// How they change over time, the warm-up included.
    pub curve: Curve,
    /// The stages that this was made of, if it was.
    pub stages: Vec<Stage>,
    /// How requests follow each other.
    pub arrivals: Arrivals,
    /// Decides what is left to chance: arrivals, and which call a request makes.
    pub seed: u64,
    /// New connections a second.
    pub ramp_per_s: f64,
    /// How they come over time.
    pub ramp: Curve,
    /// In how many steps.
    pub ramp_steps: u32,
    /// Time between two of these steps.
    pub ramp_pause_ns: u64,
    /// Whether a session sends as soon as it is answered.
    pub closed: bool,
    /// Length of the counted part; `None` lasts until told to end.
    pub duration_ns: Option<u64>,
    /// What the highest rate is searched for, if it is.
    pub find_limit: Option<Threshold>,
    /// Length of a step of that search.
    pub step_ns: u64,
    /// Load before the counted part.
    pub warmup_ns: u64,
    /// Whether each session holds an event stream beside it.
    pub streams: bool,
    /// Whether every request gets a connection of its own.
    pub fresh: bool,
    /// How often a session may be opened anew that its server has forgotten.
    pub reinit_max: u16,
    /// How long an answer keeps a session alive; 0 where that is not asked.
    pub heartbeat_ns: u64,
    /// Idle time after which a session is pinged: early enough for the answer to come in time.
    pub ping_after_ns: u64,
    /// Longest wait for a connection or an answer.
    pub timeout_ns: u64,
    /// A ramp without a further session for this long has come to its end.
    pub stall_ns: u64,
    /// How sessions end.
    pub end: End,
    /// Whether to poll shortly before a request is due.
    pub spin: bool,
    /// What carries the connections.
    pub engine: Choice,
    /// Worker threads.
    pub workers: u32,
    /// Cores to pin them to, in turn.
    pub cores: Vec<usize>,
    /// Local addresses and ports.
    pub sources: Option<Sources>,
    /// Which of them each connection has.
    pub places: Places,
    /// What is called and how.
    pub work: Work,
    /// Limits of each worker.
    pub limits: Limits,
}

/// What sessions do.
#[derive(Clone, Debug)]
pub struct Work {
    /// Plain HTTP or MCP, on http:// targets.
    pub protocol: Protocol,
    /// Header lines for every HTTP request.
    pub headers: Vec<(String, String)>,
    /// What of them, and of what a server may repeat of them, no output shows.
    pub secrets: Vec<String>,
    /// The request of plain HTTP.
    pub plain: PlainRequest,
    /// TLS and WebSocket as the options want them.
    pub transport: Arc<Transport>,
    /// What the scheduled requests ask for.
    pub mix: Mix,
    /// See [`Plan::seed`].
    pub seed: u64,
}

/// The request of plain HTTP.
#[derive(Clone, Debug)]
pub struct PlainRequest {
    /// Its method.
    pub method: String,
    /// Its content; empty for none.
    pub body: Vec<u8>,
}

impl Default for PlainRequest {
    fn default() -> Self {
        Self { method: "GET".into(), body: Vec::new() }
    }
}

impl PlainRequest {
    /// As the protocol crate wants it.
    pub fn operation(&self) -> Operation<'_> {
        Operation::Plain { method: &self.method, body: &self.body }
    }
}

/// Why a plan cannot be carried out here.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// See [`TooFewPorts`].
    #[error(transparent)]
    Ports(#[from] TooFewPorts),
    /// The tables of all workers cannot hold the connections.
    #[error(
        "{connections} connections need {needed} workers of at most {table} connections each \
         (RLIMIT_NOFILE bounds each ring's table), but --workers is {workers}: raise `ulimit -n` \
         or --workers"
    )]
    Workers {
        /// Connections asked for.
        connections: u32,
        /// Workers that they need.
        needed: u32,
        /// Connections that one ring's table holds.
        table: u32,
        /// Workers allowed.
        workers: u32,
    },
    /// io_uring is insisted on and does not work.
    #[error("--engine uring: {0}")]
    NoRing(String),
    /// More connections than descriptors.
    #[error(
        "with the epoll engine every connection needs a descriptor: {connections} > {most} \
         (RLIMIT_NOFILE is {descriptors}): raise `ulimit -n` or use several processes; io_uring \
         would need none because it keeps connections in tables of its own: {advice}"
    )]
    Epoll {
        /// Connections asked for.
        connections: u32,
        /// Connections that the descriptors allow.
        most: u64,
        /// RLIMIT_NOFILE.
        descriptors: u64,
        /// How to get io_uring.
        advice: String,
    },
    /// RLIMIT_NOFILE leaves nothing.
    #[error("RLIMIT_NOFILE is {0}: raise `ulimit -n` to at least 256")]
    Descriptors(u64),
    /// A request that fits no send buffer.
    #[error(
        "a request of {0} bytes is longer than the 1 MiB that one may have: shorten --tool-args"
    )]
    RequestTooLong(usize),
}

/// Connections that one ring's table can hold on this host.
pub fn table_max(descriptors: u64) -> u32 {
    u32::try_from(descriptors.saturating_sub(DESCRIPTOR_MARGIN)).unwrap_or(u32::MAX)
}

/// Workers that `connections` need: one a core, more where a ring's table is too small.
pub fn workers_for(connections: u32, cores: u32, table: u32) -> u32 {
    connections.div_ceil(table.max(1)).max(cores.min(connections)).max(1)
}

impl Plan {
    /// Holds the command line against the host. `request_bytes` is the longest request.
    ///
    /// # Errors
    /// [`PlanError`] names the limit that is in the way.
    pub fn resolve(
        cli: &Cli,
        host: &Host,
        engine: Choice,
        targets: Vec<Target>,
        work: Work,
        request_bytes: usize,
    ) -> Result<Self, PlanError> {
        let connections = cli.connections;
        let sessions = cli.sessions.unwrap_or(connections);
        let (wanted, cores) = (cli.workers.map(u32::from), host.cores.len() as u32);
        let sockets = sockets(cli, &targets);
        let workers = engine.workers(sockets, wanted, cores, host.descriptors)?;
        if request_bytes > REQUEST_BYTES_MAX {
            return Err(PlanError::RequestTooLong(request_bytes));
        }
        let limits_of = |rate_per_s: f64, timeout_ns| {
            limits(
                cli.opening.div_ceil(workers),
                Sockets { sessions: connections.div_ceil(workers), ..sockets },
                planned_rate(cli, rate_per_s) / f64::from(workers),
                timeout_ns,
                request_bytes,
            )
        };
        let places = Places::new(&limits_of(0.0, 0), workers, targets.len() as u32);
        let sources = sources(cli, places.count(connections), host, &targets)?;
        let heartbeat_ns = cli.heartbeat.as_nanos() as u64;
        let silent = heartbeat_ns == 0;
        let default_rate = match silent {
            true => 0.0,
            false => (f64::from(sessions) * 1e9 / heartbeat_ns as f64).max(10.0),
        };
        let curve = curve_of(cli, default_rate);
        let rate_per_s = curve.most_per_s();
        let timeout_ns = cli.timeout.as_nanos() as u64;
        Ok(Self {
            command: String::new(),
            connections,
            sessions,
            in_flight: cli.in_flight,
            rate_per_s,
            curve,
            stages: cli.stage.clone(),
            arrivals: cli.arrivals,
            seed: work.seed,
            ramp_per_s: cli.ramp,
            ramp: stepped_ramp(sessions, cli.ramp, cli.ramp_steps, cli.ramp_pause),
            ramp_steps: cli.ramp_steps,
            ramp_pause_ns: cli.ramp_pause.as_nanos() as u64,
            closed: cli.closed,
            duration_ns: duration_of(cli),
            find_limit: cli.find_limit.clone(),
            step_ns: cli.step.as_nanos() as u64,
            warmup_ns: cli.warmup.as_nanos() as u64,
            heartbeat_ns,
            ping_after_ns: if silent { NEVER_NS } else { heartbeat_ns / 10 * 9 },
            streams: cli.streams,
            fresh: cli.new_connection_per_request,
            reinit_max: cli.reinit_max.unwrap_or(u16::MAX),
            timeout_ns,
            stall_ns: 3 * timeout_ns + cli.ramp_pause.as_nanos() as u64,
            end: cli.end,
            spin: cli.spin,
            engine,
            workers,
            cores: host.cores.clone(),
            sources,
            places,
            limits: limits_of(rate_per_s, timeout_ns),
            targets,
            work,
        })
    }

    /// What is held, in words.
    pub fn held(&self) -> String {
        let (sessions, connections) = (self.sessions, self.connections);
        match self.in_flight {
            1 if sessions > connections => {
                format!("{sessions} sessions over {connections} connections")
            }
            1 => format!("{connections} connections"),
            several => {
                format!("{connections} connections (up to {several} requests in flight on each)")
            }
        }
    }

    /// Connections of one worker: every `workers`-th of all.
    pub fn slots_of(&self, worker: u32) -> u32 {
        (self.connections + self.workers - 1 - worker) / self.workers
    }

    /// Sessions of one worker, likewise.
    pub fn sessions_of(&self, worker: u32) -> u32 {
        (self.sessions + self.workers - 1 - worker) / self.workers
    }

    /// How targets are trusted, and what was agreed upon with each; nothing without TLS.
    fn tls_json(&self) -> Option<serde_json::Value> {
        let options = &self.work.transport.options;
        self.targets.iter().any(|t| t.url.scheme.tls).then(|| {
            json!({
                "insecure": options.insecure,
                "roots": options.ca.as_ref().map_or("system".into(), |p| p.display().to_string()),
                "client_certificate": options.identity.is_some(),
                "server_name": options.server_name,
                "resume": options.resume,
                "terms": self.targets.iter().map(|t| &t.terms).collect::<Vec<_>>(),
            })
        })
    }

    /// The plan as the log's header keeps it; see FORMAT.md.
    pub fn to_json(&self) -> serde_json::Value {
        let l = &self.limits;
        let sources: Vec<IpAddr> = self.sources.as_ref().map_or_else(Vec::new, Sources::addresses);
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "command": self.command,
            "targets": self.targets.iter().map(Target::name).collect::<Vec<_>>(),
            "ops": crate::ops::table(&self.work.mix),
            "sample_fields": crate::worker::sample::FIELDS,
            "connections": self.connections,
            "sessions": self.sessions,
            "in_flight": self.in_flight,
            "rate_per_s": self.rate_per_s,
            "arrivals": self.arrivals.name(),
            "stages": self.stages.iter().map(Stage::to_string).collect::<Vec<_>>(),
            "ramp_per_s": self.ramp_per_s,
            "ramp_steps": self.ramp_steps,
            "ramp_pause_ns": self.ramp_pause_ns,
            "duration_ns": self.duration_ns.unwrap_or(0),
            "find_limit": self.find_limit.as_ref().map(Threshold::to_string),
            "step_ns": self.step_ns,
            "warmup_ns": self.warmup_ns,
            "heartbeat_ns": self.heartbeat_ns,
            "timeout_ns": self.timeout_ns,
            "engine": self.engine.engine.name(),
            "engine_because": self.engine.refusal,
            "workers": self.workers,
            "protocol": match self.work.protocol { Protocol::Http => "http", Protocol::Mcp => "mcp" },
            "mcp_revision": self.targets.iter().map(|t| t.dialect.name()).collect::<Vec<_>>(),
            "model": if self.closed { "closed" } else { "open" },
            "streams": self.streams,
            "new_connection_per_request": self.fresh,
            "sources": sources,
            "limits": {
                "sessions": l.sessions, "streams": l.streams, "helpers": l.helpers,
                "ring_entries": l.ring_entries,
                "recv_buffers": l.recv_buffers, "recv_buffer_bytes": l.recv_buffer_bytes,
                "send_buffers": l.send_buffers, "send_buffer_bytes": l.send_buffer_bytes,
                "due": l.due, "batch": l.batch, "opening": l.opening,
            },
            "tls": self.tls_json(),
            "end": self.end.name(),
            "seed": self.seed,
        })
    }
}

/// The requested rate over time, from the beginning of the warm-up on.
fn curve_of(cli: &Cli, default_rate: f64) -> Curve {
    let Some(first) = cli.stage.first() else {
        let rate_per_s = if cli.closed { 0.0 } else { cli.rate.unwrap_or(default_rate) };
        return Curve::Steady(rate_per_s);
    };
    let warmup_ns = cli.warmup.as_nanos() as u64;
    let rate_per_s = first.from_per_s;
    let warmup = Segment { ns: warmup_ns, from_per_s: rate_per_s, to_per_s: rate_per_s };
    let mut segments = if warmup_ns > 0 { vec![warmup] } else { Vec::new() };
    segments.extend(cli.stage.iter().flat_map(Stage::segments));
    Curve::of(&segments)
}

/// Length of the counted part; `None` lasts until told to end.
fn duration_of(cli: &Cli) -> Option<u64> {
    let staged: Duration = cli.stage.iter().map(|stage| stage.duration).sum();
    let duration = if cli.stage.is_empty() { cli.duration } else { staged };
    (!duration.is_zero()).then_some(duration.as_nanos() as u64)
}

/// The sockets that a session needs, and a worker beside them.
fn sockets(cli: &Cli, targets: &[Target]) -> Sockets {
    let http = targets.iter().any(|t| t.dialect.is_http() && t.dialect != Dialect::Http);
    let on_stream = targets.iter().any(|t| t.dialect.answers_on_stream());
    let each = 1 + u32::from((cli.streams && http) || on_stream);
    let apart = targets.iter().any(|t| t.dialect.answers_apart());
    Sockets { sessions: cli.connections, each, helpers: if apart { HELPERS } else { 0 } }
}

/// Where so many connections come from.
fn sources(
    cli: &Cli,
    connections: u32,
    host: &Host,
    targets: &[Target],
) -> Result<Option<Sources>, PlanError> {
    let given: Vec<IpAddr> =
        cli.sources.iter().flat_map(|s| sources::parse_addresses(s).unwrap_or_default()).collect();
    let planned = |addresses: Vec<IpAddr>| {
        let destinations = targets.len() as u32;
        Sources::given(connections, addresses, host.ports.clone(), destinations, cli.force)
    };
    if !given.is_empty() {
        return Ok(Some(planned(given)?));
    }
    let addresses: Vec<SocketAddr> = targets.iter().filter_map(|t| t.address.ip()).collect();
    if addresses.is_empty() {
        return Ok(None);
    }
    if addresses.iter().all(|a| a.is_ipv4() && a.ip().is_loopback()) {
        let seed = std::process::id();
        return Ok(Some(Sources::loopback(connections, host.ports.clone(), seed)));
    }
    let mut routed: Vec<IpAddr> = addresses.into_iter().filter_map(route_source).collect();
    routed.sort_unstable();
    routed.dedup();
    match routed[..] {
        // One address reaches all targets: its ports are planned. Otherwise the kernel chooses.
        [one] => Ok(Some(planned(vec![one])?)),
        _ => Ok(None),
    }
}

/// The local address that the kernel would use towards `to`; sends nothing.
fn route_source(to: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr =
        if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = std::net::UdpSocket::bind(any).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// The rate that limits are made for: a search may go far beyond the one that it begins with.
fn planned_rate(cli: &Cli, rate_per_s: f64) -> f64 {
    if cli.find_limit.is_some() { rate_per_s.max(SEARCH_RATE) } else { rate_per_s }
}

fn limits(
    opening: u32,
    sockets: Sockets,
    rate_per_s: f64,
    timeout_ns: u64,
    request_bytes: usize,
) -> Limits {
    let Sockets { sessions, each, helpers } = sockets;
    let held = sessions.saturating_mul(each);
    let recv_buffers = held.clamp(64, 4096).next_power_of_two() as u16;
    let due = (rate_per_s * timeout_ns as f64 / 1e9).clamp(1024.0, 4_000_000.0) as u32;
    Limits {
        sessions,
        streams: held - sessions,
        helpers,
        ring_entries: held.clamp(64, 1024).next_power_of_two(),
        recv_buffers,
        recv_buffer_bytes: 1024,
        send_buffers: sessions.min(2048),
        send_buffer_bytes: (request_bytes as u32).next_multiple_of(64),
        due,
        batch: 16,
        sends_per_turn: 128,
        starts_per_turn: 64,
        opening,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_table_means_more_workers_than_cores() {
        let table = table_max(20_000);
        assert_eq!(workers_for(1, 2, table), 1);
        assert_eq!(workers_for(1_000, 2, table), 2);
        assert_eq!(workers_for(100_000, 2, table), 6);
        assert_eq!(workers_for(1_000_000, 2, table), 51);
    }

    #[test]
    fn limits_stay_within_the_kernels() {
        for sessions in [1, 63, 64, 1000, 20_000, u32::MAX] {
            let sockets = engine::Sockets { sessions, each: 1, helpers: 8 };
            let l = limits(1024, sockets, 1e6, 10_000_000_000, 300);
            assert!(l.recv_buffers.is_power_of_two() && l.recv_buffers <= 1 << 15);
            assert!(l.ring_entries.is_power_of_two() && l.ring_entries <= 1 << 15);
            assert!(l.send_buffers > 0 && l.due >= 1024);
        }
    }
}
