//! Counts and latencies for Prometheus, as text over HTTP: what all workers have published, put
//! together when somebody asks. The coordinator serves it between two looks; workers know nothing
//! of it.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use latlog::Outcome;

use crate::clock::real_ns;
use crate::setup::SetupError;
use crate::worker::sample::Sample;
use crate::worker::{Latencies, Window};

/// Upper bounds of the response histogram's buckets; above the last one is +Inf.
pub const BOUNDS_NS: [u64; 17] = [
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    75_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    750_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];
/// Connections that are served at one time; more wait in the backlog.
const PEERS_MAX: usize = 8;
/// A request that is longer is none of Prometheus'.
const REQUEST_BYTES_MAX: usize = 8192;
/// Looks after which a peer that sends no request is let go: five seconds.
const LOOKS_MAX: u32 = 250;
/// Remarks that are kept.
const MARKS_MAX: usize = 32;

/// What a worker has counted from its start, readable by other threads. Written once a second, from
/// what the worker keeps anyway.
#[derive(Debug, Default)]
pub struct Counts {
    /// Answered load requests by response time, one more than there are bounds.
    buckets: [AtomicU64; BOUNDS_NS.len() + 1],
    response_ns: AtomicU64,
}

impl Counts {
    /// Adds the responses of another second.
    pub fn add(&self, interval: &Latencies) {
        let mut sum_ns = 0_u64;
        for step in interval.iter_recorded() {
            let (ns, count) = (step.value_iterated_to(), step.count_at_value());
            let bucket = BOUNDS_NS.partition_point(|&bound| bound < ns);
            self.buckets[bucket].fetch_add(count, Ordering::Relaxed);
            sum_ns = sum_ns.saturating_add(ns.saturating_mul(count));
        }
        self.response_ns.fetch_add(sum_ns, Ordering::Relaxed);
    }
}

/// What the page says beside the workers' counts.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Version of the generator.
    pub version: &'a str,
    /// `io_uring` or `epoll`.
    pub engine: &'a str,
    /// Stage of the run.
    pub phase: &'a str,
    /// Connections asked for.
    pub planned: u32,
    /// Sessions asked for.
    pub sessions: u32,
    /// Requests a second asked for.
    pub rate_per_s: f64,
}

/// Serves the page.
pub struct Metrics {
    listener: TcpListener,
    peers: VecDeque<Peer>,
    /// Name, text, unix time.
    marks: VecDeque<(String, String, u64)>,
}

struct Peer {
    stream: TcpStream,
    request: Vec<u8>,
    looks: u32,
}

impl Metrics {
    /// Takes the address.
    ///
    /// # Errors
    /// It cannot be had.
    pub fn listen(address: SocketAddr) -> Result<Self, SetupError> {
        TcpListener::bind(address)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map(|listener| Self { listener, peers: VecDeque::new(), marks: VecDeque::new() })
            .map_err(|e| {
                SetupError::Option(format!("--metrics {address}: {e}: name another address"))
            })
    }

    /// Keeps a remark, so that dashboards can show when it was made.
    pub fn mark(&mut self, name: &str, text: &str) {
        self.marks.retain(|(own, own_text, _)| own != name || own_text != text);
        if self.marks.len() == MARKS_MAX {
            self.marks.pop_front();
        }
        self.marks.push_back((name.to_owned(), text.to_owned(), real_ns()));
    }

    /// Serves whoever has asked, and waits for nobody.
    pub fn look(&mut self, facts: &Facts<'_>, windows: &[Arc<Window>]) {
        while self.peers.len() < PEERS_MAX {
            let Ok((stream, _)) = self.listener.accept() else { break };
            if stream.set_nonblocking(true).is_ok() {
                self.peers.push_back(Peer { stream, request: Vec::new(), looks: 0 });
            }
        }
        for _ in 0..self.peers.len() {
            let Some(mut peer) = self.peers.pop_front() else { return };
            match peer.read() {
                Asked::Whole => peer.answer(&page(facts, windows, &self.marks)),
                Asked::Part => self.peers.push_back(peer),
                Asked::Nothing => {}
            }
        }
    }
}

enum Asked {
    Whole,
    Part,
    Nothing,
}

impl Peer {
    fn read(&mut self) -> Asked {
        self.looks += 1;
        let mut buffer = [0; 2048];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Asked::Nothing,
                Ok(count) => self.request.extend_from_slice(&buffer[..count]),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return Asked::Nothing,
            }
            if self.request.len() > REQUEST_BYTES_MAX {
                return Asked::Nothing;
            }
        }
        match self.request.windows(4).any(|four| four == b"\r\n\r\n") {
            true => Asked::Whole,
            false if self.looks > LOOKS_MAX => Asked::Nothing,
            false => Asked::Part,
        }
    }

    /// The page fits the socket's buffer, so that writing never waits.
    fn answer(&mut self, page: &str) {
        let path = self.request.split(|&b| b == b' ').nth(1).unwrap_or_default();
        let (status, body) = match (self.request.starts_with(b"GET "), path) {
            (true, b"/metrics" | b"/") => ("200 OK", page),
            (true, _) => ("404 Not Found", "the counts are at /metrics\n"),
            (false, _) => ("405 Method Not Allowed", "only GET is answered\n"),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let _ = self.stream.write_all((head + body).as_bytes());
    }
}

/// One family: its comment lines, then its samples.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help);
        self.sample(name, "", value);
    }
}

/// The page; see Prometheus' text exposition format 0.0.4.
fn page(
    facts: &Facts<'_>,
    windows: &[Arc<Window>],
    marks: &VecDeque<(String, String, u64)>,
) -> String {
    let samples: Vec<Sample> = windows.iter().map(|w| w.sample.read()).collect();
    let mut sum = Sample::default();
    samples.iter().for_each(|sample| sum.add(sample));
    let mut page = Page(String::with_capacity(8192));
    let labels = format!("{{version=\"{}\",engine=\"{}\"}}", facts.version, facts.engine);
    page.family("loadgen_info", "gauge", "The generator.");
    page.sample("loadgen_info", &labels, 1);
    page.family("loadgen_phase", "gauge", "The stage that the run is in has the value 1.");
    for phase in ["ramp", "warmup", "hold", "cooldown"] {
        let labels = format!("{{phase=\"{phase}\"}}");
        page.sample("loadgen_phase", &labels, u8::from(phase == facts.phase));
    }
    gauges(&mut page, facts, &sum);
    counters(&mut page, &sum);
    failures(&mut page, windows);
    responses(&mut page, windows);
    workers(&mut page, &samples);
    marked(&mut page, marks);
    page.0
}

fn gauges(page: &mut Page, facts: &Facts<'_>, sum: &Sample) {
    let planned = u64::from(facts.planned);
    for (name, help, value) in [
        ("loadgen_connections_planned", "Connections asked for.", planned),
        ("loadgen_sessions_planned", "Sessions asked for.", u64::from(facts.sessions)),
        ("loadgen_connections_open", "TCP connections that stand.", sum.tcp_open),
        (
            "loadgen_sessions_established",
            "Sessions that the server has accepted, on a connection that stands.",
            sum.session_established,
        ),
        (
            "loadgen_sessions_alive",
            "Sessions on which a request was answered within the heartbeat interval.",
            sum.session_alive,
        ),
        ("loadgen_streams_open", "Event streams that have not ended.", sum.stream_open),
        ("loadgen_requests_queued", "Requests that are due and not sent yet.", sum.queued),
        ("loadgen_requests_in_flight", "Requests sent and not answered yet.", sum.in_flight),
        ("loadgen_resident_bytes", "Resident memory of the generator.", sum.rss_bytes),
    ] {
        page.one(name, "gauge", help, value);
    }
    let help = "Longest turn of a worker's loop in the last second.";
    page.one("loadgen_turn_max_seconds", "gauge", help, sum.turn_ns_max as f64 / 1e9);
    let help = "Requests a second that are due; 0 in closed loop.";
    page.one("loadgen_rate_planned_per_second", "gauge", help, facts.rate_per_s);
}

fn counters(page: &mut Page, sum: &Sample) {
    let offered = sum.sent + sum.dropped;
    let help = "Load requests that were due, sent or not.";
    page.one("loadgen_requests_offered_total", "counter", help, offered);
    page.one("loadgen_requests_sent_total", "counter", "Load requests sent.", sum.sent);
    let name = "loadgen_requests_total";
    page.family(name, "counter", "Load requests that have come to an end, by how.");
    for (outcome, count) in [("ok", sum.ok), ("failed", sum.failed), ("dropped", sum.dropped)] {
        page.sample(name, &format!("{{outcome=\"{outcome}\"}}"), count);
    }
    for (name, help, value) in [
        ("loadgen_connects_total", "Connections established.", sum.connects),
        ("loadgen_losses_total", "Connections lost.", sum.losses),
        ("loadgen_received_bytes_total", "Bytes received.", sum.bytes_in),
        ("loadgen_sent_bytes_total", "Bytes sent.", sum.bytes_out),
        (
            "loadgen_log_lost_records_total",
            "Records that could not be logged.",
            sum.log_lost_records,
        ),
    ] {
        page.one(name, "counter", help, value);
    }
}

fn failures(page: &mut Page, windows: &[Arc<Window>]) {
    let name = "loadgen_failures_total";
    page.family(name, "counter", "Load requests that failed after they were sent, by reason.");
    for (index, outcome) in Outcome::ALL.iter().enumerate() {
        let count = |w: &Arc<Window>| w.failures[index].load(Ordering::Relaxed);
        let count: u64 = windows.iter().map(count).sum();
        if !matches!(outcome, Outcome::Ok | Outcome::Dropped | Outcome::Stopped) {
            page.sample(name, &format!("{{reason=\"{outcome}\"}}"), count);
        }
    }
}

fn responses(page: &mut Page, windows: &[Arc<Window>]) {
    let name = "loadgen_response_seconds";
    page.family(name, "histogram", "From when a load request was due to its whole answer.");
    let mut below = 0;
    for index in 0..=BOUNDS_NS.len() {
        let count = |w: &Arc<Window>| w.counts.buckets[index].load(Ordering::Relaxed);
        below += windows.iter().map(count).sum::<u64>();
        let bound = match BOUNDS_NS.get(index) {
            Some(&bound_ns) => (bound_ns as f64 / 1e9).to_string(),
            None => "+Inf".to_owned(),
        };
        page.sample("loadgen_response_seconds_bucket", &format!("{{le=\"{bound}\"}}"), below);
    }
    let sum_ns: u64 = windows.iter().map(|w| w.counts.response_ns.load(Ordering::Relaxed)).sum();
    page.sample("loadgen_response_seconds_sum", "", sum_ns as f64 / 1e9);
    page.sample("loadgen_response_seconds_count", "", below);
}

fn workers(page: &mut Page, samples: &[Sample]) {
    type Part = (&'static str, &'static str, fn(&Sample) -> u64);
    let parts: [Part; 2] = [
        ("loadgen_worker_cpu_seconds_total", "CPU time of a worker's thread.", |s| s.cpu_ns),
        ("loadgen_worker_wait_seconds_total", "Time asleep, waiting for the kernel.", |s| {
            s.wait_ns
        }),
    ];
    for (name, help, part) in parts {
        page.family(name, "counter", help);
        for (worker, sample) in samples.iter().enumerate() {
            page.sample(name, &format!("{{worker=\"{worker}\"}}"), part(sample) as f64 / 1e9);
        }
    }
}

fn marked(page: &mut Page, marks: &VecDeque<(String, String, u64)>) {
    let name = "loadgen_mark_timestamp_seconds";
    page.family(name, "gauge", "When the driver remarked this: a kill, a scale command.");
    for (mark, text, at_ns) in marks {
        let labels = format!("{{name=\"{}\",text=\"{}\"}}", escape(mark), escape(text));
        page.sample(name, &labels, *at_ns as f64 / 1e9);
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
