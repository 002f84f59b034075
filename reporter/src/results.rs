//! `results.json`, version 1: every figure of a run for programs to read.
//!
//! The types here are the format; `schema/results.schema.json` says the same for other languages.
//! They hold figures and reasons only: no layout, no sentence of the report.
//!
//! Every `_ns` is a duration unless its name says `at`, `start`, or `end`: those are instants on
//! the driving host's `CLOCK_MONOTONIC`. A figure that was not measured is `null`, never 0.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version that this program writes.
pub const RESULTS_VERSION: u32 = 1;

/// Why a `results.json` could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Not JSON, or not of the shape of version 1.
    #[error("not a results.json: {0}")]
    Shape(#[from] serde_json::Error),
    /// No `version`.
    #[error("this file has no `version`: it is not a results.json")]
    NoVersion,
    /// Another version than [`RESULTS_VERSION`].
    #[error(
        "results.json has version {0}, this reporter reads version {RESULTS_VERSION}: \
         read it with the reporter that wrote it, or make it again with `reporter report`"
    )]
    Version(u64),
}

/// Reads a `results.json`; another version than ours is refused before anything else is looked at.
pub fn parse(text: &str) -> Result<Results, ReadError> {
    let value: Value = serde_json::from_str(text)?;
    match value.get("version").and_then(Value::as_u64) {
        None => Err(ReadError::NoVersion),
        Some(version) if version == u64::from(RESULTS_VERSION) => {
            Ok(serde_json::from_value(value)?)
        }
        Some(version) => Err(ReadError::Version(version)),
    }
}

/// Whether the server met the thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// Every threshold that was judged is met, and every one that had to be judged was.
    Pass,
    /// At least one is not met, or could not be judged although the plan asked for it.
    Fail,
}

impl Verdict {
    /// `PASS` or `FAIL`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
        }
    }
}

/// The whole of `results.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// [`RESULTS_VERSION`].
    pub version: u32,
    /// About the server.
    pub verdict: Verdict,
    /// About the run itself: false if its headline figures cannot be believed.
    pub valid: bool,
    /// One reason each; empty if `valid`.
    pub invalid_because: Vec<String>,
    /// A signal ended the run early.
    pub interrupted: bool,
    /// What broke the run, if something did.
    pub broken: Option<String>,
    /// The command that makes this run again.
    pub command: String,
    /// `local`, `external`, or `swarm`.
    pub backend: String,
    /// The plan's name.
    pub profile: String,
    /// Nanoseconds since the unix epoch.
    pub started_real_ns: u64,
    /// From the start of the run to the end of its last stage.
    pub duration_ns: u64,
    /// The server under test.
    pub server: ServerResult,
    /// In the order of judgement: the mission's first, then those that the user added.
    pub thresholds: Vec<ThresholdResult>,
    /// In the order of the run.
    pub stages: Vec<StageResult>,
    /// The kill, drain or node loss with the longest recovery; `null` if there was none.
    pub failover: Option<FailoverResult>,
    /// Every kill, node drain, node loss and rolling update, in order.
    pub failovers: Vec<FailoverResult>,
    /// Every change of the number of replicas, in order.
    pub scaling: Vec<ScalingResult>,
    /// One for each replica address that was seen.
    pub replicas: Vec<ReplicaResult>,
    /// The balancer that the load went through, in each stage; empty if it went through none.
    pub balancer: Vec<BalancerResult>,
    /// The load generator's own load.
    pub generator: GeneratorResult,
    /// What makes a figure or the whole run doubtful, and what was found to be in order.
    pub findings: Vec<Finding>,
    /// The logs that were read.
    pub logs: Vec<LogResult>,
    /// As `run.json` has it.
    pub host: Value,
    /// Versions of the programs, as `run.json` has them.
    pub versions: Value,
}

/// The server under test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerResult {
    /// Its command, image or addresses.
    pub program: String,
    /// What it says of itself; empty if unknown.
    pub version: String,
    /// Replicas at the start of the run.
    pub replicas_planned: u32,
}

/// One threshold and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThresholdResult {
    /// The metric with its scope: `p99`, `stage:stress-10k:p99`.
    pub name: String,
    /// The operator and the limit with its unit: `< 500 ms`.
    pub limit: String,
    /// In the metric's base unit (`ns`, `%`, `/s`, `%/h`, or a count); `null`: not measured.
    pub value: Option<f64>,
    /// The base unit of `value`.
    pub unit: String,
    /// `null` if this run's plan does not contain what the threshold is about; see `because`.
    pub pass: Option<bool>,
    /// The stage that was judged.
    pub stage: Option<String>,
    /// Where the limit comes from.
    pub origin: ThresholdOrigin,
    /// Why there is no value, or what to know of it.
    pub because: Option<String>,
    /// Why the value is doubtful; empty if it is believed.
    pub suspect_because: Vec<String>,
    /// If it is not met: what to look at next, from what was measured.
    pub next: Option<String>,
}

/// Where a limit comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThresholdOrigin {
    /// The defaults.
    Mission,
    /// `--threshold`.
    User,
}

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
    /// The lowest number of sessions alive during the hold phase.
    pub session_alive_min: Option<u64>,
    /// SSE streams open, the highest sum.
    pub stream_open_peak: Option<u64>,
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
/// to 0.1 %. A percentile that fewer than ten samples lie beyond is `null` from p99.9 on.
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
    /// 90 %.
    pub p90: u64,
    /// 95 %.
    pub p95: u64,
    /// 99 %.
    pub p99: u64,
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

/// One killed replica, or another blow to the cluster, and how the service came back. All durations
/// begin at the kill or the command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailoverResult {
    /// The stage it happened in.
    pub stage: String,
    /// `kill`, `node_drain`, `node_loss` or `rolling_update`.
    pub cause: String,
    /// The killed replica's address, the node's name, or the service's.
    pub replica: String,
    /// Replicas that ended by it.
    pub replicas: u64,
    /// The kill or the command, just before it was sent.
    pub killed_at_ns: u64,
    /// The first failed load request or lost connection; `null`: no error was seen.
    pub first_error_ns: Option<u64>,
    /// The last failed load request that belongs to this kill.
    pub last_error_ns: Option<u64>,
    /// Load requests that failed or were dropped because of it: due between the kill and the
    /// recovery, or on their way to the killed replica.
    pub lost_requests: u64,
    /// Sessions that ended with the replica.
    pub sessions_lost: u64,
    /// Those of them that were established again.
    pub sessions_reestablished: u64,
    /// Until the last lost session was alive again; `null`: never.
    pub sessions_recovered_ns: Option<u64>,
    /// Until the replica's process was started again, of several the last one; `null`: never.
    pub replica_started_ns: Option<u64>,
    /// Until its health endpoint answered again, of several the last one's, and the last old one had
    /// ended; `null`: never.
    pub replica_healthy_ns: Option<u64>,
    /// The later of sessions and replica; `null`: never.
    pub recovery_ns: Option<u64>,
    /// Until each replica that holds something at the end of the hold phase held within 10 % of
    /// their mean, and all of them at least 99 % of what was held before; `null`: not in that time.
    pub balanced_ns: Option<u64>,
    /// What the shares count: `sessions`, or `descriptors` where the replicas stand behind one
    /// address; `null`: neither is known.
    pub share_of: Option<String>,
    /// What each replica held just before the blow, and at the end of the hold phase.
    pub shares: Vec<ShareResult>,
}

impl FailoverResult {
    /// True for what an operator does on purpose and in steps: its length is no recovery.
    pub fn is_planned(&self) -> bool {
        self.cause == "rolling_update"
    }
}

/// What a replica held before a blow and after it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShareResult {
    /// Its address.
    pub replica: String,
    /// Just before.
    pub before: u64,
    /// At the end of the hold phase.
    pub after: u64,
}

/// The balancer in one stage. Every figure is the highest of its samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BalancerResult {
    /// The stage.
    pub stage: String,
    /// Clients' connections by its own figures; `null`: it gives none.
    pub connections: Option<u64>,
    /// How many it accepts by its own figures; `null`: as many as its descriptors allow.
    pub connections_max: Option<u64>,
    /// Descriptors open.
    pub fds: u64,
    /// Descriptors that it may open.
    pub fds_max: u64,
    /// Memory of its container.
    pub rss_bytes: u64,
    /// CPU use in the stage's hold phase, in cores; `null`: too few samples.
    pub cpu_cores: Option<f64>,
}

/// One change of the number of replicas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScalingResult {
    /// The stage it happened in.
    pub stage: String,
    /// Replicas before.
    pub from: u32,
    /// Replicas wanted.
    pub to: u32,
    /// When it was asked for.
    pub commanded_at_ns: u64,
    /// Until the replicas wanted were healthy, or the surplus ones had ended; `null`: never.
    pub converged_ns: Option<u64>,
    /// Until the sessions were spread over the replicas; `null`: not seen.
    pub sessions_converged_ns: Option<u64>,
    /// Load requests due between the command and the later of both that failed or were dropped.
    pub failed_requests: u64,
}

/// A replica's share and its process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplicaResult {
    /// Its address, such as `127.0.0.12`.
    pub address: String,
    /// Load requests answered, all stages.
    pub requests_ok: u64,
    /// The most sessions at once.
    pub sessions_peak: u64,
    /// Median CPU use in the hold phase of the judged stage, in cores.
    pub cpu_cores: Option<f64>,
    /// The highest resident memory in the run.
    pub rss_bytes_max: Option<u64>,
    /// Resident memory at the start of the judged window.
    pub rss_bytes_start: Option<u64>,
    /// Resident memory at its end.
    pub rss_bytes_end: Option<u64>,
    /// The trend of resident memory in the judged window; `null`: cannot tell.
    pub rss_slope: Option<SlopeResult>,
    /// Why there is no trend.
    pub rss_because: Option<String>,
    /// Times that the process was started.
    pub incarnations: u32,
}

/// A Theil-Sen slope with its 95 % confidence interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlopeResult {
    /// The stage whose hold phase was the window: its sessions are constant.
    pub stage: String,
    /// Length of the window.
    pub window_ns: u64,
    /// Points that the slope was computed from.
    pub points: u64,
    /// Median of the pairwise slopes.
    pub bytes_per_h: f64,
    /// Lower bound.
    pub bytes_per_h_low: f64,
    /// Upper bound.
    pub bytes_per_h_high: f64,
    /// The slope over the memory at the window's start.
    pub percent_per_h: f64,
    /// Lower bound.
    pub percent_per_h_low: f64,
    /// Upper bound.
    pub percent_per_h_high: f64,
}

/// The generator's own load.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GeneratorResult {
    /// CPU time of its workers over their wall time, of the busiest worker, in the hold phase.
    pub cpu_share: Option<f64>,
    /// The highest resident memory of the process.
    pub rss_bytes_max: Option<u64>,
    /// Workers, over all generator processes.
    pub workers: u64,
    /// One for each worker; for the whole run: those of the busiest stage.
    pub per_worker: Vec<WorkerResult>,
    /// Where the figures come from, for the whole run.
    pub stage: Option<String>,
}

/// One worker in the hold phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerResult {
    /// Its number; processes of several hosts count on.
    pub worker: u64,
    /// The host that it ran on.
    #[serde(default)]
    pub host: String,
    /// CPU time over wall time.
    pub cpu_share: Option<f64>,
    /// Time asleep in the ring over wall time.
    pub wait_share: Option<f64>,
    /// Load and session requests sent.
    pub sent: u64,
    /// Longest turn of its loop.
    pub turn_ns_max: Option<u64>,
    /// Longest delay between a completion and its handling.
    pub reap_lag_ns_max: Option<u64>,
    /// Receives that found no buffer.
    pub enobufs: u64,
    /// Sends that had to wait.
    pub send_buffer_waits: u64,
    /// Records that did not reach the log.
    pub log_lost_records: u64,
}

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth a line; no figure is doubted.
    Note,
    /// The figures of its stage are doubtful.
    Suspect,
    /// The run is not to be believed.
    Invalid,
}

/// One observation on the run itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule: `slip`, `generator_cpu`, `log_damage`.
    pub rule: String,
    /// How much it weighs.
    pub severity: Severity,
    /// The stage; `null`: the whole run.
    pub stage: Option<String>,
    /// What was measured, in one sentence.
    pub because: String,
    /// What to look at next.
    pub next: String,
}

/// A latency log and its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogResult {
    /// Path inside the results folder.
    pub path: String,
    /// The stage it belongs to.
    pub stage: String,
    /// The generator's host.
    pub host: String,
    /// Request records, whatever their kind or phase.
    pub requests: u64,
    /// Event records.
    pub events: u64,
    /// Offset that was added to its times to bring them onto the driving host's clock.
    pub clock_offset_ns: i64,
    /// How far real time moved against the monotonic clock while the log was written.
    pub clock_drift_ns: Option<i64>,
    /// How far its times may be off on the driving host's clock: 0 on one and the same clock;
    /// `null`: nobody saw when its generator started and ended, and the offset is as good as the
    /// hosts' agreement on real time.
    #[serde(default)]
    pub clock_error_ns: Option<u64>,
    /// By how much its times are certainly off: it begins before its generator was started, or
    /// ends after that was seen to end.
    #[serde(default)]
    pub clock_wrong_ns: u64,
    /// Bytes of an incomplete block at its end.
    pub torn_tail_bytes: u64,
    /// Bytes inside that belong to no sound block.
    pub skipped_bytes: u64,
    /// Blocks with a wrong checksum or shape.
    pub bad_blocks: u64,
    /// Gaps in the workers' block numbers.
    pub missing_blocks: u64,
    /// Requests that the workers recorded and the log lacks; `null`: nobody knows.
    pub missing_requests: Option<u64>,
    /// The End block is there: the generator closed the log itself.
    pub ended: bool,
    /// Why it could not be read at all.
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_refused_with_a_sentence() {
        let error = parse(r#"{"version":2}"#).expect_err("version 2 is unknown");
        assert!(error.to_string().contains("has version 2, this reporter reads version 1"));
        assert!(matches!(parse(r#"{"a":1}"#), Err(ReadError::NoVersion)));
        assert!(matches!(parse(r#"{"version":1}"#), Err(ReadError::Shape(_))));
        assert!(matches!(parse("x"), Err(ReadError::Shape(_))));
    }
}
