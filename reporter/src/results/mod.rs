//! `results.json`, version 1: every figure of a run for programs to read.
//!
//! The types here are the format; `schema/results.schema.json` says the same for other languages.
//! They hold figures and reasons only: no layout, no sentence of the report.
//!
//! Every `_ns` is a duration unless its name says `at`, `start`, or `end`: those are instants on
//! the driving host's `CLOCK_MONOTONIC`. A figure that was not measured is `null`, never 0.
//!
//! The `origin` of a default threshold is `default`. Where a file says `mission` it is read as that; a
//! reader that knows only `mission` refuses a file that says `default`.

mod cluster;
mod stage;

pub use cluster::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;
pub use stage::*;

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
    /// In the order of judgement: the defaults first, then those that the user added.
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

impl Results {
    /// Whether the replicas' memory is that of their containers, and not of their processes.
    pub fn counts_containers(&self) -> bool {
        self.backend == "swarm"
    }
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
    /// `null` if this run's plan does not contain what the threshold is about, or if what was
    /// measured does not decide it; see `because`.
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
    /// The defaults; a file may say `mission`, as earlier ones do.
    #[serde(alias = "mission")]
    Default,
    /// `--threshold`.
    User,
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
    fn the_origin_of_a_default_is_read_under_its_other_name_too() {
        let origin = ThresholdOrigin::Default;
        assert_eq!(serde_json::to_string(&origin).expect("writes"), r#""default""#);
        for name in [r#""default""#, r#""mission""#] {
            assert_eq!(serde_json::from_str::<ThresholdOrigin>(name).expect(name), origin);
        }
    }

    #[test]
    fn another_version_is_refused_with_a_sentence() {
        let error = parse(r#"{"version":2}"#).expect_err("version 2 is unknown");
        assert!(error.to_string().contains("has version 2, this reporter reads version 1"));
        assert!(matches!(parse(r#"{"a":1}"#), Err(ReadError::NoVersion)));
        assert!(matches!(parse(r#"{"version":1}"#), Err(ReadError::Shape(_))));
        assert!(matches!(parse("x"), Err(ReadError::Shape(_))));
    }
}
