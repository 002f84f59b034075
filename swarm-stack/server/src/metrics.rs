//! What the server counts, and its OpenMetrics text.
//!
//! Owns names, labels and units of every metric. It must not know who scrapes it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

use crate::{clock, process};

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A result.
    Ok,
    /// A tool result with `isError`.
    ToolError,
    /// A JSON-RPC error.
    RpcError,
    /// An HTTP status of 4xx.
    ClientError,
    /// An HTTP status of 5xx.
    ServerError,
    /// 503 for want of sessions.
    SessionLimit,
    /// The client left before the answer.
    Abandoned,
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
        let name = match self {
            Self::Ok => "ok",
            Self::ToolError => "tool_error",
            Self::RpcError => "rpc_error",
            Self::ClientError => "client_error",
            Self::ServerError => "server_error",
            Self::SessionLimit => "session_limit",
            Self::Abandoned => "abandoned",
        };
        EncodeLabelValue::encode(&name, encoder)
    }
}

/// What carries a connection or a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// Streamable HTTP.
    Http,
    /// Newline-delimited JSON-RPC.
    Tcp,
}

impl EncodeLabelValue for Carrier {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
        let name = match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
        };
        EncodeLabelValue::encode(&name, encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    transport: Carrier,
    method: &'static str,
    outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CarrierLabel {
    transport: Carrier,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// Buckets of the latency histogram, in seconds: 100 us to 60 s.
const LATENCY_BUCKETS_S: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
    15.0, 60.0,
];

/// Methods that have a series of their own; all others share `other`, which bounds the series.
const METHODS: [&str; 14] = [
    "initialize",
    "notifications/initialized",
    "notifications/cancelled",
    "ping",
    "tools/list",
    "tools/call",
    "server/discover",
    "subscriptions/listen",
    "resources/list",
    "prompts/list",
    "GET",
    "DELETE",
    "response",
    "other",
];

/// The label for a method name from the wire.
pub fn method_label(method: &str) -> &'static str {
    METHODS.into_iter().find(|known| *known == method).unwrap_or("other")
}

/// All counters, shared by every part of the server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    latency: Histogram,
    connections: Family<CarrierLabel, Gauge>,
    connections_total: Family<CarrierLabel, Counter>,
    accept_errors: Family<ReasonLabel, Counter>,
    sessions_open: Gauge,
    sessions_created: Counter,
    sessions_closed: Counter,
    streams_open: Gauge,
    started: clock::Tick,
}

impl Metrics {
    /// All counters at zero.
    pub fn new() -> Arc<Self> {
        let mut metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            latency: Histogram::new(LATENCY_BUCKETS_S),
            connections: Family::default(),
            connections_total: Family::default(),
            accept_errors: Family::default(),
            sessions_open: Gauge::default(),
            sessions_created: Counter::default(),
            sessions_closed: Counter::default(),
            streams_open: Gauge::default(),
            started: clock::Tick::now(),
        };
        metrics.register();
        for transport in [Carrier::Http, Carrier::Tcp] {
            let _ = metrics.connections.get_or_create(&CarrierLabel { transport });
        }
        // There from the start, at 0: an alert on a figure that is not there never comes.
        for reason in ["shortage", "aborted"] {
            let _ = metrics.accept_errors.get_or_create(&ReasonLabel { reason });
        }
        Arc::new(metrics)
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        let own = registry.sub_registry_with_prefix("erlmcp");
        own.register("requests", "MCP requests and notifications answered", self.requests.clone());
        own.register_with_unit(
            "request_duration",
            "Time from a request's arrival to its answer",
            Unit::Seconds,
            self.latency.clone(),
        );
        own.register("connections_open", "TCP connections open", self.connections.clone());
        own.register("connections", "TCP connections accepted", self.connections_total.clone());
        own.register("accept_errors", "Accept calls that failed", self.accept_errors.clone());
        own.register("sessions_open", "Sessions open", self.sessions_open.clone());
        own.register("sessions_created", "Sessions created", self.sessions_created.clone());
        own.register("sessions_closed", "Sessions closed", self.sessions_closed.clone());
        own.register(
            "streams_open",
            "GET streams and subscriptions open",
            self.streams_open.clone(),
        );
        own.register(
            "build",
            "Build of the server",
            Info::new(vec![
                ("version", env!("CARGO_PKG_VERSION")),
                ("profile", if cfg!(debug_assertions) { "debug" } else { "release" }),
            ]),
        );
        registry.register_collector(Box::new(process::ProcessMetrics::starting_now()));
    }

    /// The exposition, in OpenMetrics text format 1.0.0.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(8192);
        // Writing to a String cannot fail; an encoder's error leaves a text without `# EOF`, which
        // scrapers refuse.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// Counts one answered request.
    pub fn request(
        &self,
        transport: Carrier,
        method: &'static str,
        outcome: Outcome,
        took: Duration,
    ) {
        self.requests.get_or_create(&RequestLabels { transport, method, outcome }).inc();
        self.latency.observe(took.as_secs_f64());
    }

    /// Counts a failed accept.
    pub fn accept_error(&self, reason: &'static str) {
        self.accept_errors.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts a connection until the guard is dropped.
    pub fn connection_opened(&self, transport: Carrier) -> GaugeGuard {
        let label = CarrierLabel { transport };
        self.connections_total.get_or_create(&label).inc();
        GaugeGuard::new(self.connections.get_or_create(&label).clone())
    }

    /// Counts a stream until the guard is dropped.
    pub fn stream_opened(&self) -> GaugeGuard {
        GaugeGuard::new(self.streams_open.clone())
    }

    /// Counts a new session.
    pub fn session_created(&self) {
        self.sessions_created.inc();
        self.sessions_open.inc();
    }

    /// Counts the end of a session.
    pub fn session_closed(&self) {
        self.sessions_closed.inc();
        self.sessions_open.dec();
    }

    /// Sessions open.
    pub fn sessions_open(&self) -> i64 {
        self.sessions_open.get()
    }

    /// Connections open on `transport`.
    pub fn connections_open(&self, transport: Carrier) -> i64 {
        self.connections.get_or_create(&CarrierLabel { transport }).get()
    }

    /// Time since the server started.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Holds a gauge up by one for its own lifetime.
#[derive(Debug)]
pub struct GaugeGuard(Gauge);

impl GaugeGuard {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Requests in flight, to be waited for at the end.
#[derive(Debug, Default)]
pub struct InFlight(AtomicU64);

impl InFlight {
    /// Counts one until the guard is dropped.
    pub fn enter(self: &Arc<Self>) -> InFlightGuard {
        self.0.fetch_add(1, Ordering::Relaxed);
        InFlightGuard(self.clone())
    }

    /// Requests in flight.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One request in flight.
#[derive(Debug)]
pub struct InFlightGuard(Arc<InFlight>);

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
