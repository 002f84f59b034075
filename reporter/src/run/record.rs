//! `run.json`, version 1: what a run was asked to do, what it did, and when.
//!
//! It is the one file through which the driving half speaks to the reporting half. It is written
//! again after each stage, so that an interrupted run can be reported. It holds no measurement of
//! requests: those are in each stage's latency log, which `StageRecord::log_dir` names.
//!
//! Every path is relative to the results folder. Every `_ns` is `CLOCK_MONOTONIC` of this host,
//! except `started_real_ns` (unix epoch).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::sampler::{GENERATOR_CSV, HOST_CSV, REPLICAS_CSV};
use crate::clock;

/// The version that this program writes. Readers refuse a larger one.
pub const RUN_VERSION: u32 = 1;

/// The file's name inside the results folder.
pub const RUN_FILE: &str = "run.json";

/// The whole of `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// [`RUN_VERSION`].
    pub version: u32,
    /// The command line that makes this run again, quoted for a shell.
    pub command: String,
    /// The arguments as they were given, without the program's name.
    pub args: Vec<String>,
    /// Which backend held the replicas: `local`, `external` or `swarm`; `logs` if logs were only read.
    pub backend: String,
    /// `quick` or `full`.
    pub profile: String,
    /// Start of the run, nanoseconds since the unix epoch.
    pub started_real_ns: u64,
    /// The same instant on the monotonic clock.
    pub started_mono_ns: u64,
    /// End of the last stage so far; 0 before the first one has ended.
    #[serde(default)]
    pub ended_mono_ns: u64,
    /// True if a signal ended the run early; stages that never began are then `skipped`.
    pub interrupted: bool,
    /// Set when the run itself broke (a replica or the generator could not do its work).
    #[serde(default)]
    pub broken: Option<String>,
    /// The server under test.
    pub server: ServerRecord,
    /// The thresholds as they were given, such as `p99<500ms`.
    pub thresholds: Vec<String>,
    /// Replicas at the start of the run.
    pub replicas_planned: u32,
    /// The highest number of connections that the plan asks for.
    #[serde(default)]
    pub connections_planned: u64,
    /// Nanoseconds within which a session must answer to count as alive.
    #[serde(default)]
    pub heartbeat_ns: u64,
    /// The delay after which the supervisor starts a dead replica again; 0 if there is none.
    #[serde(default)]
    pub restart_delay_ns: u64,
    /// The stages in their order; a planned one that did not run carries `skipped`.
    pub stages: Vec<StageRecord>,
    /// What the orchestrator did and saw, in order of `at_ns`.
    pub events: Vec<EventRecord>,
    /// One line a replica a second; see [`REPLICAS_HEADER`].
    pub replicas_csv: String,
    /// One line a second for the generator process; see [`GENERATOR_HEADER`].
    pub generator_csv: String,
    /// One line a second for the host; see [`HOST_HEADER`].
    pub host_csv: String,
    /// One line a second for the balancer that the load went through; see [`BALANCER_HEADER`]. None
    /// if it went through none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balancer_csv: Option<String>,
    /// The preflight's findings, if it ran.
    pub preflight: Option<String>,
    /// What the backend says of the cluster: engine and nodes, the path of the load and how many
    /// connections it can hold. None for local processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Value>,
    /// Other hosts' clocks beside this one's, where they were compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clocks: Vec<ClockRecord>,
    /// The host that everything ran on.
    pub host: HostRecord,
    /// Versions of the programs: `reporter`, `loadgen`, `server`, each as the program prints it.
    pub versions: Map<String, Value>,
}

impl RunRecord {
    /// A run of which nothing is known but what drives it and where; the caller fills in the rest.
    pub fn new(backend: &str, host: HostRecord) -> Self {
        Self {
            version: RUN_VERSION,
            command: String::new(),
            args: Vec::new(),
            backend: backend.to_owned(),
            profile: String::new(),
            started_real_ns: 0,
            started_mono_ns: 0,
            ended_mono_ns: 0,
            interrupted: false,
            broken: None,
            server: ServerRecord::default(),
            thresholds: Vec::new(),
            replicas_planned: 0,
            connections_planned: 0,
            heartbeat_ns: 0,
            restart_delay_ns: 0,
            stages: Vec::new(),
            events: Vec::new(),
            replicas_csv: REPLICAS_CSV.to_owned(),
            generator_csv: GENERATOR_CSV.to_owned(),
            host_csv: HOST_CSV.to_owned(),
            balancer_csv: None,
            preflight: None,
            cluster: None,
            clocks: Vec::new(),
            host,
            versions: Map::new(),
        }
    }

    /// Takes what was typed after the program's name, and that the run begins now.
    pub fn typed_now(self, typed: &[String]) -> Self {
        let words = std::iter::once("reporter").chain(typed.iter().map(String::as_str));
        Self {
            command: shell_words::join(words),
            args: typed.to_vec(),
            started_real_ns: clock::real_ns(),
            started_mono_ns: clock::mono_ns(),
            ..self
        }
    }

    /// Adds what a program says of its version.
    pub fn add_version(&mut self, program: &str, version: impl Into<String>) {
        self.versions.insert(program.to_owned(), Value::String(version.into()));
    }

    /// Whether generator and replicas ran on one host, and so on the same cores: local processes,
    /// a swarm of one node, or addresses that are all of this host.
    pub fn shares_host(&self) -> bool {
        match self.backend.as_str() {
            "local" => true,
            "swarm" => {
                let nodes = self.cluster.as_ref().and_then(|facts| facts["nodes"].as_array());
                nodes.is_some_and(|nodes| nodes.len() == 1)
            }
            _ => {
                let addresses = self.server.program.split(',').map(str::trim);
                addresses.clone().all(is_loopback) && addresses.count() > 0
            }
        }
    }
}

/// Whether an address such as `http://127.0.0.1:8080/mcp` is of the host that names it.
fn is_loopback(url: &str) -> bool {
    let host = crate::analysis::failover::host_of(url);
    host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// How far the real clock of another host was from this one's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockRecord {
    /// The host, as its logs name it.
    pub host: String,
    /// Its clock minus this one's.
    pub offset_ns: i64,
    /// How far that may be from the truth, either way.
    pub error_ns: u64,
}

/// The server under test.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerRecord {
    /// The program with its arguments as templates, or the addresses of running servers.
    pub program: String,
    /// What the program or the `initialize` answer says of itself; empty if unknown.
    pub version: String,
}

/// What a stage is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StageKind {
    /// A few connections at a low rate: what the server does without load.
    Baseline,
    /// Connections held while requests are made at a fixed rate.
    Stress,
    /// One replica is killed under load and comes back.
    Failover,
    /// The number of replicas changes up and down under load.
    Scaling,
    /// Every replica is replaced under load, a few at a time.
    Update,
}

impl StageKind {
    /// The name in files and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Stress => "stress",
            Self::Failover => "failover",
            Self::Scaling => "scaling",
            Self::Update => "update",
        }
    }

    /// True if replicas are killed, moved, scaled or replaced: losses are the stage's purpose.
    pub fn is_disturbed(self) -> bool {
        match self {
            Self::Baseline | Self::Stress => false,
            Self::Failover | Self::Scaling | Self::Update => true,
        }
    }
}

/// One run of the generator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// Unique in the run, such as `stress-10k`.
    pub name: String,
    /// What it is for.
    pub kind: StageKind,
    /// Connections asked for.
    pub connections: u64,
    /// Requests a second asked for, over all connections.
    pub rate_per_s: f64,
    /// Folder of the generator's latency logs, such as `logs/01-baseline`.
    pub log_dir: String,
    /// The generator's own summary; the file is absent if the generator did not end by itself.
    pub json: String,
    /// When the generator was started; 0 if it never was, or if the run ended before it recorded
    /// the stage.
    pub start_ns: u64,
    /// When it had ended; 0 if it never was started.
    pub end_ns: u64,
    /// This program started the generator and saw it end; false for logs that were only read.
    #[serde(default = "yes")]
    pub driven: bool,
    /// The generator's exit code; none if it was ended by a signal or never was started.
    pub exit_code: Option<i32>,
    /// The last lines of what it wrote to stderr.
    pub stderr_tail: String,
    /// Why the stage did not run, or was cut short; none if it ran as planned.
    pub skipped: Option<String>,
}

fn yes() -> bool {
    true
}

impl StageRecord {
    /// A stage that has not run; `number` counts from 1 and is part of its folder's name.
    pub fn planned(
        number: usize,
        name: impl Into<String>,
        kind: StageKind,
        connections: u64,
        rate_per_s: f64,
    ) -> Self {
        let name = name.into();
        let log_dir = format!("logs/{number:02}-{name}");
        Self {
            name,
            kind,
            connections,
            rate_per_s,
            json: format!("{log_dir}/loadgen.json"),
            log_dir,
            start_ns: 0,
            end_ns: 0,
            driven: true,
            exit_code: None,
            stderr_tail: String::new(),
            skipped: None,
        }
    }

    /// Neither run nor skipped: the run was cut off before it wrote what became of this stage.
    pub fn is_unfinished(&self) -> bool {
        self.start_ns == 0 && self.skipped.is_none()
    }
}

/// What the orchestrator did or saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventRecordKind {
    /// A replica's process was started; `incarnation` counts them from 1.
    ReplicaStart,
    /// Its health endpoint answered for the first time in this incarnation.
    ReplicaHealthy,
    /// SIGKILL was sent: `at_ns` is just before the call, `until_ns` just after it.
    Kill,
    /// A node was told to give up its replicas; `replica` is its name. `at_ns` is just before the
    /// call, `until_ns` just after it, as with the next two.
    NodeDrain,
    /// A node was ended as by a power loss; `replica` is its name.
    NodeLoss,
    /// The orchestrator was told to replace every replica; `replica` is the service.
    UpdateCommand,
    /// After one of these three: the replicas wanted are healthy, and the others have ended.
    Recovered,
    /// A replica's process was seen to have ended.
    ReplicaExit,
    /// The number of replicas wanted changed, `from` -> `to`.
    ScaleCommand,
    /// The replicas wanted are healthy (up), or the surplus ones have ended (down).
    ScaleConverged,
    /// A replica was taken out of the targets; its sessions are moved elsewhere.
    Drain,
    /// SIGTERM was sent to a replica.
    Stop,
    /// The sessions of the stage are alive in the planned number, or are spread evenly; see `text`.
    /// Once for each scale command, by the generator's status: up to 2 s after it was so.
    SessionsConverged,
    /// Anything else worth a line on the charts; see `text`.
    Mark,
}

/// What an event is to a service under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Impact {
    /// Replicas or a node were lost or moved.
    Blow,
    /// The orchestrator was told to replace replicas, or to have more or fewer of them.
    Change,
}

/// One event of the orchestrator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventRecord {
    /// When it happened or was seen.
    pub at_ns: u64,
    /// End of the interval in which it must have happened; equal to `at_ns` if it is an instant.
    #[serde(default)]
    pub until_ns: u64,
    /// What happened.
    pub kind: EventRecordKind,
    /// The stage that was running; empty between stages.
    #[serde(default)]
    pub stage: String,
    /// The replica's address, such as `127.0.0.12`; empty if it concerns none.
    #[serde(default)]
    pub replica: String,
    /// The address of a process that is told under another's name: after a kill the start and the
    /// health of what comes in its place are those of the killed replica. Else empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// The replica's incarnation, from 1; 0 if it concerns none.
    #[serde(default)]
    pub incarnation: u32,
    /// Replicas wanted before, for `scale_command` and `scale_converged`; else 0.
    #[serde(default)]
    pub from: u32,
    /// Replicas wanted after; else 0.
    #[serde(default)]
    pub to: u32,
    /// For a person: exit status, reason, what converged.
    #[serde(default)]
    pub text: String,
}

/// The host, as far as the kernel tells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostRecord {
    /// The node name.
    pub name: String,
    /// Kernel release.
    pub kernel: String,
    /// CPU architecture.
    pub arch: String,
    /// Cores usable by this process.
    pub cores: u32,
    /// As `/proc/cpuinfo` names it.
    pub cpu_model: String,
    /// MemTotal.
    pub mem_bytes: u64,
    /// MemAvailable at the start of the run.
    pub mem_available_bytes: u64,
    /// RLIMIT_NOFILE.
    pub nofile_soft: u64,
    /// RLIMIT_NOFILE's ceiling.
    pub nofile_hard: u64,
    /// The clock source in use, such as `tsc`.
    pub clocksource: String,
    /// Load average over one minute at the start of the run.
    pub load_1min: f64,
}

impl EventRecord {
    /// An instant; the caller fills in what else is known of it.
    pub fn at(at_ns: u64, kind: EventRecordKind) -> Self {
        Self {
            at_ns,
            until_ns: at_ns,
            kind,
            stage: String::new(),
            replica: String::new(),
            address: String::new(),
            incarnation: 0,
            from: 0,
            to: 0,
            text: String::new(),
        }
    }

    /// The address of the process that it is about.
    pub fn own_address(&self) -> &str {
        if self.address.is_empty() { &self.replica } else { &self.address }
    }

    /// Whether it disturbs the load, and how; the first start of the replicas does not.
    pub fn impact(&self) -> Option<Impact> {
        match self.kind {
            EventRecordKind::Kill | EventRecordKind::NodeDrain | EventRecordKind::NodeLoss => {
                Some(Impact::Blow)
            }
            EventRecordKind::UpdateCommand => Some(Impact::Change),
            EventRecordKind::ScaleCommand if self.from > 0 => Some(Impact::Change),
            EventRecordKind::ScaleCommand
            | EventRecordKind::ReplicaStart
            | EventRecordKind::Recovered
            | EventRecordKind::ReplicaHealthy
            | EventRecordKind::ReplicaExit
            | EventRecordKind::ScaleConverged
            | EventRecordKind::Drain
            | EventRecordKind::Stop
            | EventRecordKind::SessionsConverged
            | EventRecordKind::Mark => None,
        }
    }
}

/// Columns of the replicas' samples. `rss_bytes` is what the process has resident, and on swarm the
/// memory of its container (see `results.schema.json`). `cpu_ns` is the CPU time since the process started; a
/// process's children are included; a restart shows as a new `pid` and `incarnation` and begins at zero.
pub const REPLICAS_HEADER: &str = "at_ns,replica,pid,incarnation,rss_bytes,cpu_ns,fds,threads";

/// Columns of the generator's samples; the process is another one in each stage.
pub const GENERATOR_HEADER: &str = "at_ns,stage,pid,rss_bytes,cpu_ns,fds,threads";

/// Columns of the balancer's samples. `fds_max` is its limit; `connections` are clients', and
/// `connections_max` how many it accepts, both by its own figures and empty where it has none.
pub const BALANCER_HEADER: &str =
    "at_ns,address,rss_bytes,cpu_ns,fds,fds_max,connections,connections_max";

/// Columns of the host's samples. Counters are since boot, `mem_available_bytes`, `load_1min`,
/// `sockets_*` and `conntrack_count` are gauges; a column that the host does not have is empty.
pub const HOST_HEADER: &str = "at_ns,mem_available_bytes,load_1min,cpu_busy_ns,cpu_idle_ns,\
cpu_steal_ns,sockets_tcp_inuse,sockets_tcp_tw,sockets_tcp_mem_pages,listen_overflows,listen_drops,\
tcp_timeouts,retrans_segs,tcp_syn_retrans,softnet_dropped,conntrack_count";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_the_names_of_the_documented_format() {
        let kill = serde_json::to_string(&EventRecordKind::Kill).expect("serializes");
        assert_eq!(kill, r#""kill""#);
        let up = serde_json::to_string(&EventRecordKind::ReplicaHealthy).expect("serializes");
        assert_eq!(up, r#""replica_healthy""#);
        for kind in
            [StageKind::Baseline, StageKind::Stress, StageKind::Failover, StageKind::Scaling]
        {
            let json = serde_json::to_string(&kind).expect("serializes");
            assert_eq!(json, format!("\"{}\"", kind.name()));
        }
    }

    #[test]
    fn blows_and_changes_disturb_and_the_first_start_does_not() {
        let event = |kind, from| EventRecord { from, to: 12, ..EventRecord::at(1, kind) };
        let impact = |kind, from| event(kind, from).impact();
        assert_eq!(impact(EventRecordKind::Kill, 0), Some(Impact::Blow));
        assert_eq!(impact(EventRecordKind::ScaleCommand, 8), Some(Impact::Change));
        assert_eq!(impact(EventRecordKind::ScaleCommand, 0), None);
        assert_eq!(impact(EventRecordKind::Recovered, 8), None);
    }

    #[test]
    fn loopback_addresses_are_of_this_host() {
        for own in ["http://127.0.0.11:8080/mcp", "tcp://[::1]:5555", "http://localhost:80"] {
            assert!(is_loopback(own), "{own}");
        }
        for other in ["http://10.0.0.5:8080/mcp", "erlmcp-server --bind {ip}", ""] {
            assert!(!is_loopback(other), "{other}");
        }
    }

    #[test]
    fn a_record_without_the_optional_fields_is_read() {
        let text = r#"{"at_ns":5,"kind":"mark"}"#;
        let event: EventRecord = serde_json::from_str(text).expect("parses");
        assert_eq!((event.at_ns, event.from, event.replica.as_str()), (5, 0, ""));
    }
}
