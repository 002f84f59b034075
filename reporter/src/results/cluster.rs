//! The replicas', the balancer's and the generator's part of `results.json`: what was done to them,
//! and what they held and used.

use serde::{Deserialize, Serialize};

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
    /// Sessions that ended with the replica, also those that were missed only when they were next
    /// asked, by the end of the stage.
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
    /// The replicas that were healthy at the end of the hold phase and held nothing: `balanced_ns`
    /// is without them.
    #[serde(default)]
    pub idle: Vec<String>,
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
    /// Until the sessions were seen to be all alive, and spread over the replicas where some came: up
    /// to 2 s late; `null`: not in time, or not by the end of a stage that was cut short.
    pub sessions_converged_ns: Option<u64>,
    /// Load requests due between the command and the later of both that failed or were dropped.
    pub failed_requests: u64,
}

/// A replica's share and its process. Its memory is what the process and its children have resident;
/// on swarm it is that of its container.
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
    /// The most memory in the run.
    pub rss_bytes_max: Option<u64>,
    /// Memory at the start of the judged window.
    pub rss_bytes_start: Option<u64>,
    /// Memory at its end.
    pub rss_bytes_end: Option<u64>,
    /// The trend of memory in the judged window; `null`: cannot tell.
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
    /// Age of the oldest request that was due while no session was free; `null`: not known.
    #[serde(default)]
    pub debt_ns_max: Option<u64>,
    /// Receives that found no buffer.
    pub enobufs: u64,
    /// Sends that had to wait.
    pub send_buffer_waits: u64,
    /// Records that did not reach the log.
    pub log_lost_records: u64,
}
