//! From a results folder to figures: `run.json`, the latency logs, the metrics.
//!
//! It measures and judges nothing: `verdict` does. It reads the folder and nothing else, so that
//! the same folder always gives the same figures.

pub mod balance;
pub mod balancer;
pub mod failover;
pub mod frame;
pub mod histogram;
pub mod logs;
pub mod merge;
pub mod replicas;
pub mod samples;
pub mod scraped;
pub mod service_log;
pub mod sessions;
pub mod stage;
pub mod table;
pub mod tally;
pub mod trend;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value;

use self::replicas::ByReplica;
use self::scraped::Scraped;
use self::service_log::Excerpt;
use self::stage::Stage;
use self::table::Table;
use crate::results::{FailoverResult, GeneratorResult, ReplicaResult};
use crate::run::record::{RUN_FILE, RUN_VERSION, RunRecord, StageKind};

/// Everything measured in a run.
pub struct Analysis {
    /// What was asked for and done.
    pub run: RunRecord,
    /// In the order of the run.
    pub stages: Vec<Stage>,
    /// Samples of the replicas' processes.
    pub processes: ByReplica,
    /// Counters and gauges of the host.
    pub host: Table,
    /// Samples of the balancer, if the load went through one.
    pub balancer: Option<Table>,
    /// The stage and time in which memory is judged.
    pub memory_window: Option<replicas::Window>,
    /// One for each replica.
    pub replicas: Vec<ReplicaResult>,
    /// As preflight wrote it.
    pub preflight: Option<Value>,
    /// What the stack's Prometheus saw.
    pub scraped: Scraped,
    /// What the replicas wrote around each event.
    pub excerpts: Vec<Excerpt>,
}

/// Reads a results folder.
pub fn read(dir: &Path) -> anyhow::Result<Analysis> {
    let run = read_run(dir)?;
    let stages = run
        .stages
        .iter()
        .map(|record| {
            Stage::read(dir, &run, record).with_context(|| format!("stage {}", record.name))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let processes = replicas::by_replica(&Table::read(&dir.join(&run.replicas_csv))?);
    let host = Table::read(&dir.join(&run.host_csv))?;
    let balancer =
        run.balancer_csv.as_ref().map(|name| Table::read(&dir.join(name))).transpose()?;
    let memory_window = memory_window(&stages);
    let through_balancer = balancer.is_some();
    let replicas = replica_results(&stages, &processes, memory_window.as_ref(), through_balancer);
    let preflight = run
        .preflight
        .as_ref()
        .and_then(|name| serde_json::from_str(&std::fs::read_to_string(dir.join(name)).ok()?).ok());
    let scraped = scraped::read(&dir.join("metrics/prometheus"), run.started_real_ns);
    let excerpts = service_log::read(dir, &run);
    Ok(Analysis {
        run,
        stages,
        processes,
        host,
        balancer,
        memory_window,
        replicas,
        preflight,
        scraped,
        excerpts,
    })
}

fn read_run(dir: &Path) -> anyhow::Result<RunRecord> {
    let path = dir.join(RUN_FILE);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("{} is not a results folder: no {RUN_FILE}", dir.display()))?;
    let value: Value =
        serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?;
    match value["version"].as_u64() {
        Some(version) if version == u64::from(RUN_VERSION) => {}
        Some(version) => bail!(
            "{} has version {version}, this reporter reads version {RUN_VERSION}: \
             use the reporter that made the run",
            path.display()
        ),
        None => bail!("{} has no version: it is not a {RUN_FILE}", path.display()),
    }
    serde_json::from_value(value).with_context(|| format!("{}", path.display()))
}

impl Analysis {
    /// The stage that latency, throughput and connections are judged at: the stress stage with
    /// the most planned connections, then the highest rate; any stage where there is none.
    pub fn top_stage(&self) -> Option<&Stage> {
        top_stage(&self.stages)
    }

    /// Every kill and every other blow, with what each replica held before and after it.
    pub fn failovers(&self) -> Vec<FailoverResult> {
        let one = |stage: &Stage| {
            let mut failovers = stage.failovers();
            failovers.iter_mut().for_each(|failover| self.spread(stage, failover));
            failovers
        };
        self.stages.iter().flat_map(one).collect()
    }

    fn spread(&self, stage: &Stage, failover: &mut FailoverResult) {
        let Some(frame) = stage.merged.as_ref().map(|merged| &merged.frame) else { return };
        let Some(hold) = frame.hold else { return };
        let buckets = &frame.buckets;
        // What is held in the last whole bucket before each moment.
        let at = |at_ns: u64| buckets.nearest(at_ns.saturating_sub(buckets.width_ns));
        let (before, last) = (at(failover.killed_at_ns), at(hold.end_ns));
        let (of, courses) = match stage.courses() {
            Some(sessions) => ("sessions", sessions),
            None => ("descriptors", balance::by_descriptors(&self.processes, buckets)),
        };
        failover.shares = balance::shares(&courses, before, last);
        if failover.shares.is_empty() {
            return;
        }
        failover.share_of = Some(of.to_owned());
        failover.idle = balance::idle(&courses, last, &self.run.events, hold.end_ns);
        let balanced = balance::balanced(&courses, before, last);
        failover.balanced_ns = balanced.map(|bucket| {
            (buckets.start_of(bucket) + buckets.width_ns).saturating_sub(failover.killed_at_ns)
        });
    }

    /// The generator's load in the stage where its busiest worker was busiest.
    pub fn generator(&self) -> GeneratorResult {
        let share = |stage: &&Stage| stage.generator.cpu_share.unwrap_or(-1.0);
        let busiest = self.stages.iter().max_by(|a, b| share(a).total_cmp(&share(b)));
        let mut generator = busiest.map(|stage| stage.generator.clone()).unwrap_or_default();
        generator.stage = busiest
            .filter(|stage| stage.generator.cpu_share.is_some())
            .map(|stage| stage.record.name.clone());
        generator.rss_bytes_max =
            self.stages.iter().filter_map(|stage| stage.generator.rss_bytes_max).max();
        generator
    }
}

fn top_stage(stages: &[Stage]) -> Option<&Stage> {
    let size = |stage: &&Stage| (stage.record.connections, stage.record.rate_per_s as u64);
    let stress = stages.iter().filter(|stage| stage.record.kind == StageKind::Stress);
    stress.max_by_key(size).or_else(|| stages.iter().max_by_key(size))
}

/// The longest hold phase in which the number of sessions was constant, of a stage that neither
/// kills nor scales; the later of equal ones.
fn memory_window(stages: &[Stage]) -> Option<replicas::Window> {
    stages
        .iter()
        .filter(|stage| !stage.record.kind.is_disturbed())
        .filter_map(|stage| {
            let span = stage.merged.as_ref()?.frame.hold?;
            let sessions = stage.alive_in_hold()?;
            let stage = stage.record.name.clone();
            Some(replicas::Window { stage, span, sessions })
        })
        .filter(replicas::Window::is_constant)
        .max_by_key(|window| window.span.length_ns())
}

fn replica_results(
    stages: &[Stage],
    processes: &ByReplica,
    window: Option<&replicas::Window>,
    through_balancer: bool,
) -> Vec<ReplicaResult> {
    let mut found: BTreeMap<Address, (u64, u64)> = BTreeMap::new();
    for address in processes.keys() {
        found.entry(Address::new(address)).or_default();
    }
    // A balancer's address is no replica's.
    let own = if through_balancer { &[][..] } else { stages };
    for stage in own {
        let urls: Vec<&str> = stage.targets.iter().map(|target| target.url.as_str()).collect();
        for (name, target) in failover::names_of(&urls).into_iter().zip(&stage.targets) {
            if name.is_empty() {
                continue;
            }
            let (ok, peak) = found.entry(Address::new(name)).or_default();
            *ok += target.ok;
            *peak = (*peak).max(target.sessions_peak);
        }
    }
    let cpu_span = top_stage(stages).and_then(|stage| stage.merged.as_ref()?.frame.hold);
    found
        .into_iter()
        .map(|(address, (requests_ok, sessions_peak))| {
            let samples = processes.get(&address.text).map_or(&[][..], Vec::as_slice);
            let memory = window.map(|window| replicas::memory(samples, window));
            let trend = memory.as_ref().map(|memory| memory.trend.clone());
            let peak = samples.iter().map(|sample| sample.rss_bytes as u64).max();
            ReplicaResult {
                address: address.text,
                requests_ok,
                sessions_peak,
                cpu_cores: cpu_span.and_then(|span| replicas::cpu_cores(samples, span)),
                rss_bytes_max: peak,
                rss_bytes_start: memory.as_ref().and_then(|memory| memory.start_bytes),
                rss_bytes_end: memory.as_ref().and_then(|memory| memory.end_bytes),
                rss_because: match &trend {
                    Some(Err(reason)) => Some(reason.clone()),
                    Some(Ok(_)) => None,
                    None => Some("no stage had a hold phase with constant sessions".to_owned()),
                },
                rss_slope: trend.and_then(Result::ok),
                incarnations: samples.iter().map(|sample| sample.incarnation).max().unwrap_or(0),
            }
        })
        .collect()
}

/// A replica's address, ordered as a person counts: 127.0.0.9 before 127.0.0.10.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Address {
    numeric: Option<std::net::IpAddr>,
    text: String,
}

impl Address {
    fn new(text: &str) -> Self {
        Self { numeric: text.parse().ok(), text: text.to_owned() }
    }
}
