//! A stage's part of `results.json`: its requests, latencies, connections and course.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::GeneratorResult;

/// [`StageResult::skipped`] of a stage that the run did not live to record.
pub const NOT_RECORDED: &str =
    "not recorded, since the run was killed, its disk was full, or it still goes on";

/// One stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageResult {
    /// Unique in the run.
    pub name: String,
    /// `baseline`, `stress`, `failover`, `scaling`, or `update`.
    pub kind: String,
    /// Why it did not run or was cut short.
    pub skipped: Option<String>,
    /// `open`: requests are due on a schedule; `closed`: each waits for the one before.
    pub model: Option<String>,
    /// Start of the hold phase.
    pub hold_start_ns: Option<u64>,
    /// Its length.
    pub hold_ns: Option<u64>,
    /// Requests a second that the plan asks for.
    pub rate_planned_per_s: f64,
    /// Connections planned and reached.
    pub connections: ConnectionsResult,
    /// Load requests due in the hold phase.
    pub requests: RequestsResult,
    /// done - intended, of answered load requests.
    pub response_ns: Option<Percentiles>,
    /// done - sent, of answered load requests.
    pub service_ns: Option<Percentiles>,
    /// sent - intended, of every load request that was sent.
    pub slip_ns: Option<Percentiles>,
    /// done - intended, of failed load requests that were sent.
    pub failure_ns: Option<Percentiles>,
    /// Answered load requests with `done` in the hold phase, over its length.
    pub throughput_per_s: Option<f64>,
    /// Load requests that were due in the hold phase, over its length.
    pub offered_per_s: Option<f64>,
    /// Load requests due in the hold phase that were not answered, by reason.
    pub errors: BTreeMap<String, u64>,
    /// Lost connections and sessions of the whole stage, by reason.
    pub losses: BTreeMap<String, u64>,
    /// Attempts to connect that failed, of the whole stage, by reason.
    pub connect_failures: BTreeMap<String, u64>,
    /// TLS handshakes of the whole stage; `null` where no target speaks TLS.
    pub tls: Option<TlsResult>,
    /// First example of each kind of failure.
    pub examples: Vec<ExampleResult>,
    /// Share by target address.
    pub targets: Vec<TargetResult>,
    /// Share by operation, in the order of the plan.
    #[serde(default)]
    pub operations: Vec<OperationResult>,
    /// The generator in this stage.
    pub generator: GeneratorResult,
    /// The course of the stage.
    pub timeline: Timeline,
    /// Why this stage's figures are doubtful; empty if they are believed.
    pub suspect_because: Vec<String>,
}

/// Connections: planned, and the highest number held, each counted in its own way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConnectionsResult {
    /// Asked for.
    pub planned: u64,
    /// TCP established, the highest sum over all workers.
    pub tcp_open_peak: Option<u64>,
    /// Sessions whose last heartbeat was answered in time, the highest sum.
    pub session_alive_peak: Option<u64>,
    /// The lowest sum of sessions alive at any sample in the hold phase; a worker takes one a second.
    pub session_alive_min: Option<u64>,
    /// SSE streams open, the highest sum.
    pub stream_open_peak: Option<u64>,
    /// Connections lost with a session standing on them, over the whole stage.
    #[serde(default)]
    pub connections_lost: u64,
    /// Connections lost while no session stood on them, as tries that came to nothing.
    #[serde(default)]
    pub tries_lost: u64,
    /// Sessions that the server forgot, or that were left behind.
    #[serde(default)]
    pub sessions_lost: u64,
    /// From the start of the ramp to the hold phase.
    pub ramp_ns: Option<u64>,
    /// Time to establish a TCP connection, over the whole stage.
    pub connect_ns: Option<Percentiles>,
    /// Time from the attempt to an established session, over the whole stage.
    pub session_ns: Option<Percentiles>,
}

/// TLS handshakes of a stage, apart from the connects that they follow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TlsResult {
    /// In full.
    pub full: u64,
    /// Gone on from an earlier session.
    pub resumed: u64,
    /// Failed, by reason.
    pub failures: BTreeMap<String, u64>,
    /// Time of those that came through, from TCP established on.
    pub handshake_ns: Option<Percentiles>,
    /// Any certificate was believed: nothing is known of who answered.
    pub insecure: bool,
    /// Version, cipher and protocol, as agreed upon before the run.
    pub terms: Vec<String>,
}

/// Load requests that were due in the hold phase.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RequestsResult {
    /// sent + dropped.
    pub offered: u64,
    /// Left the generator.
    pub sent: u64,
    /// Answered with success.
    pub ok: u64,
    /// Sent and not answered with success.
    pub failed: u64,
    /// Due and never sent.
    pub dropped: u64,
    /// `ok / offered`; `null` if nothing was offered.
    pub success_share: Option<f64>,
}

/// A distribution in nanoseconds. `count`, `min`, `mean` and `max` are exact; percentiles are exact
/// to 0.1 %. A percentile that fewer than ten samples lie beyond is `null`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Samples.
    pub count: u64,
    /// Smallest.
    pub min: u64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: u64,
    /// 90 %; `null` below 100 samples.
    pub p90: Option<u64>,
    /// 95 %; `null` below 200 samples.
    pub p95: Option<u64>,
    /// 99 %; `null` below 1,000 samples.
    pub p99: Option<u64>,
    /// 99.9 %; `null` below 10,000 samples.
    pub p999: Option<u64>,
    /// 99.99 %; `null` below 100,000 samples.
    pub p9999: Option<u64>,
    /// Largest.
    pub max: u64,
}

/// The first example of a failure, as the generator noted it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExampleResult {
    /// When.
    pub at_ns: u64,
    /// The note: JSON as the generator wrote it, or its text.
    pub example: Value,
}

/// A target's share of a stage's load requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetResult {
    /// Its URL; `others` gathers targets beyond the 256th.
    pub url: String,
    /// Load requests sent to it.
    pub sent: u64,
    /// Answered with success.
    pub ok: u64,
    /// Not answered with success.
    pub failed: u64,
    /// done - intended, of answered ones.
    pub response_ns: Option<Percentiles>,
    /// done - sent, of answered ones.
    pub service_ns: Option<Percentiles>,
    /// Connections established to it over the stage.
    pub connects: u64,
    /// Sessions held at the end of the hold phase, and the most at once.
    pub sessions_peak: u64,
    /// Connections to it that were lost.
    pub losses: u64,
}

/// An operation's share of a stage's load requests: a tool of the mix, a ping, a GET.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperationResult {
    /// As the generator's plan names it.
    pub name: String,
    /// Load requests sent.
    pub sent: u64,
    /// Answered with success.
    pub ok: u64,
    /// Not answered with success.
    pub failed: u64,
    /// done - intended, of answered ones.
    pub response_ns: Option<Percentiles>,
    /// done - sent, of answered ones.
    pub service_ns: Option<Percentiles>,
}

/// The course of a stage in buckets of equal width. All columns have the same length. Requests
/// count by `done`; latency columns are of answered load requests and exact to 6 %.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// Start of the first bucket.
    pub start_ns: u64,
    /// Width of a bucket.
    pub bucket_ns: u64,
    /// Answered with success.
    pub ok: Vec<u64>,
    /// Due (by `intended`): sent + dropped.
    pub offered: Vec<u64>,
    /// Dropped by the generator.
    pub dropped: Vec<u64>,
    /// Failed, by reason.
    pub errors: BTreeMap<String, Vec<u64>>,
    /// Median response; `null` in a bucket without answers.
    pub p50_ns: Vec<Option<u64>>,
    /// 95 % of response.
    pub p95_ns: Vec<Option<u64>>,
    /// 99 % of response.
    pub p99_ns: Vec<Option<u64>>,
    /// Largest response.
    pub max_ns: Vec<Option<u64>>,
    /// TCP connections open at the end of the bucket; `null` without a sample.
    pub tcp_open: Vec<Option<u64>>,
    /// Sessions alive.
    pub session_alive: Vec<Option<u64>>,
    /// Streams open.
    pub stream_open: Vec<Option<u64>>,
    /// Connections and sessions lost in the bucket.
    pub losses: Vec<u64>,
    /// Phase marks: name and when it began.
    pub phases: Vec<Mark>,
    /// The orchestrator's events in this stage.
    pub events: Vec<Mark>,
}

/// A point on the time axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// When.
    pub at_ns: u64,
    /// `ramp`, `hold`, `kill`, `scale_command`.
    pub name: String,
    /// For a person.
    pub text: String,
}
