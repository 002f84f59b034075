//! What the generator says of itself once a second: the status line of `--control` as a type, so
//! that who writes it and who reads it cannot disagree. Counters are since the generator's start.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One status. Fields that a writer does not know read as nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reading {
    /// When it was taken, `CLOCK_MONOTONIC`.
    pub t_ns: u64,
    /// `ramp`, `warmup`, `hold` or `cooldown`.
    pub phase: String,
    /// How much of the phase is over, from 0 to 1; none where its end is not known.
    pub phase_share: Option<f64>,
    /// Connections asked for.
    pub planned: u64,
    /// Requests a second by schedule; none in closed loop.
    pub planned_per_s: Option<f64>,
    /// TCP connections that stand.
    pub tcp_open: u64,
    /// Sessions established.
    pub session_established: u64,
    /// Sessions that answered within the heartbeat interval.
    pub session_alive: u64,
    /// SSE streams that have not ended.
    pub stream_open: u64,
    /// Full TLS handshakes.
    pub tls_full: u64,
    /// TLS handshakes that took up an earlier session.
    pub tls_resumed: u64,
    /// TLS handshakes that failed.
    pub tls_failed: u64,
    /// Load requests sent.
    pub sent: u64,
    /// Answered well.
    pub ok: u64,
    /// Answered badly, or lost.
    pub failed: u64,
    /// Due and never sent.
    pub dropped: u64,
    /// Due and not yet sent.
    pub queued: u64,
    /// Sent and not yet answered.
    pub in_flight: u64,
    /// Mean response time in the last second; none if nothing was answered.
    pub avg_ns: Option<u64>,
    /// 99th percentile in the last second; none if nothing was answered.
    pub p99_ns: Option<u64>,
    /// Response of the last second; none if nothing was answered.
    pub last: Option<Latency>,
    /// Response since the start, of the seconds that were seen.
    pub run: Option<Latency>,
    /// Load requests that failed or were dropped, by reason.
    pub failures: BTreeMap<String, u64>,
    /// Lost connections and sessions, and attempts to connect that failed, by reason.
    pub losses: BTreeMap<String, u64>,
    /// By worker.
    pub workers: Vec<WorkerLoad>,
}

/// Response latency (done - intended) of answered load requests, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Latency {
    /// Answers.
    pub count: u64,
    /// Median.
    pub p50_ns: u64,
    /// 90 %.
    pub p90_ns: u64,
    /// 99 %.
    pub p99_ns: u64,
    /// Largest.
    pub max_ns: u64,
}

/// A worker's own load in the last second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerLoad {
    /// CPU time over wall time.
    pub cpu_share: f64,
    /// Longest time from the return of the kernel to the reading of a completion.
    pub reap_lag_ns_max: u64,
    /// Due and not yet sent.
    pub queued: u64,
    /// Sent and not yet answered.
    pub in_flight: u64,
}
