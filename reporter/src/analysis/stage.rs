//! One stage's figures as `results.json` has them, from its merged logs.

use std::collections::BTreeMap;
use std::path::Path;

use latlog::Outcome;
use serde_json::Value;

use super::balance::Course;
use super::failover::names_of;
use super::frame::Span;
use super::merge::{self, Merged};
use super::samples::Held;
use super::tally::{ByOutcome, PartTally, TARGETS_MAX};
use crate::results::{
    ConnectionsResult, FailoverResult, GeneratorResult, Mark, NOT_RECORDED, OperationResult,
    RequestsResult, ScalingResult, StageResult, TargetResult, Timeline, TlsResult,
};
use crate::run::record::{EventRecordKind, RunRecord, StageRecord};

/// A stage with everything that is known of it.
pub struct Stage {
    /// What was asked for and done.
    pub record: StageRecord,
    /// Its logs; none if it never began.
    pub merged: Option<Merged>,
    /// The generator's own summary.
    pub summary: Option<Value>,
    /// Each target's share.
    pub targets: Vec<TargetResult>,
    /// Sessions of each target at the end of each bucket.
    pub sessions_by_target: Vec<Vec<u64>>,
    /// The generator's load.
    pub generator: GeneratorResult,
    /// The course of the stage.
    pub timeline: Timeline,
}

impl Stage {
    /// Reads the logs of a stage; one that never began has none.
    pub fn read(dir: &Path, run: &RunRecord, record: &StageRecord) -> anyhow::Result<Self> {
        let summary = std::fs::read_to_string(dir.join(&record.json))
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok());
        let mut stage = Self {
            record: record.clone(),
            merged: None,
            summary,
            targets: Vec::new(),
            sessions_by_target: Vec::new(),
            generator: GeneratorResult::default(),
            timeline: Timeline::default(),
        };
        if record.start_ns == 0 {
            return Ok(stage);
        }
        let merged = merge::stage(dir, run, record)?;
        stage.sessions_by_target = merged.sessions.over_time();
        stage.targets = targets(&merged, &stage.sessions_by_target);
        stage.generator = generator(&merged);
        stage.timeline = timeline(&merged, run, record);
        stage.merged = Some(merged);
        Ok(stage)
    }

    /// Its part of `results.json`; what makes it doubtful is added by the verdict.
    pub fn result(&self) -> StageResult {
        let merged = self.merged.as_ref();
        let tally = merged.map(|merged| &merged.tally);
        let hold = merged.and_then(|merged| merged.frame.hold);
        let rate = |count: u64| hold.map(|hold| count as f64 / (hold.length_ns() as f64 / 1e9));
        StageResult {
            name: self.record.name.clone(),
            kind: self.record.kind.name().to_owned(),
            skipped: match self.record.is_unfinished() {
                true => Some(NOT_RECORDED.to_owned()),
                false => self.record.skipped.clone(),
            },
            model: merged.map(|merged| merged.plan.model.clone()),
            hold_start_ns: hold.map(|hold| hold.start_ns),
            hold_ns: hold.map(|hold| hold.length_ns()),
            rate_planned_per_s: self.record.rate_per_s,
            connections: self.connections(),
            requests: self.requests(),
            response_ns: tally.and_then(|tally| tally.response.percentiles()),
            service_ns: tally.and_then(|tally| tally.service.percentiles()),
            slip_ns: tally.and_then(|tally| tally.slip.percentiles()),
            failure_ns: tally.and_then(|tally| tally.failure.percentiles()),
            throughput_per_s: tally.and_then(|tally| rate(tally.done_in_hold)),
            offered_per_s: tally.and_then(|tally| rate(tally.offered())),
            errors: tally.map(|tally| named(&tally.outcomes)).unwrap_or_default(),
            losses: merged.map(|merged| named(&merged.sessions.losses)).unwrap_or_default(),
            connect_failures: merged
                .map(|merged| named(&merged.sessions.connect_failures))
                .unwrap_or_default(),
            tls: self.tls(),
            examples: merged.map(|merged| merged.examples.clone()).unwrap_or_default(),
            targets: self.targets.clone(),
            operations: merged.map(operations).unwrap_or_default(),
            generator: self.generator.clone(),
            timeline: self.timeline.clone(),
            suspect_because: Vec::new(),
        }
    }

    fn tls(&self) -> Option<TlsResult> {
        let merged = self.merged.as_ref()?;
        let (sessions, plan) = (&merged.sessions, merged.plan.tls.as_ref());
        let (through, resumed) = (sessions.handshake.count(), sessions.handshakes_resumed);
        let failures = named(&sessions.handshake_failures);
        (plan.is_some() || through > 0 || !failures.is_empty()).then(|| TlsResult {
            full: through - resumed,
            resumed,
            failures,
            handshake_ns: sessions.handshake.percentiles(),
            insecure: plan.is_some_and(|tls| tls.insecure),
            terms: plan.map(|tls| tls.terms.clone()).unwrap_or_default(),
        })
    }

    fn requests(&self) -> RequestsResult {
        let Some(merged) = &self.merged else { return RequestsResult::default() };
        let tally = &merged.tally;
        let (offered, ok, dropped) = (tally.offered(), tally.ok(), tally.dropped());
        RequestsResult {
            offered,
            sent: offered - dropped,
            ok,
            failed: offered - dropped - ok,
            dropped,
            success_share: (offered > 0).then(|| ok as f64 / offered as f64),
        }
    }

    fn connections(&self) -> ConnectionsResult {
        let mut result =
            ConnectionsResult { planned: self.record.connections, ..ConnectionsResult::default() };
        let Some(merged) = &self.merged else { return result };
        result.tcp_open_peak = merged.samples.peak(Held::TcpOpen);
        result.session_alive_peak = merged.samples.peak(Held::SessionAlive);
        result.stream_open_peak = merged.samples.peak(Held::StreamOpen);
        result.session_alive_min = self.alive_in_hold().map(|(low, _)| low);
        let ramp = merged.phases.iter().find(|phase| phase.name == "ramp");
        result.ramp_ns = ramp.and_then(|ramp| {
            let next = merged.phases.iter().find(|phase| phase.at_ns > ramp.at_ns)?;
            Some(next.at_ns - ramp.at_ns)
        });
        result.connections_lost = merged.sessions.connections_lost;
        result.tries_lost = merged.sessions.tries_lost;
        result.sessions_lost = merged.sessions.sessions_lost;
        result.connect_ns = merged.sessions.connect.percentiles();
        result.session_ns = merged.sessions.establish.percentiles();
        result
    }

    /// The lowest and the highest number of sessions alive at any sample in the hold phase's whole
    /// buckets: at its very ends a worker may not yet, or no longer, be in it.
    pub fn alive_in_hold(&self) -> Option<(u64, u64)> {
        let merged = self.merged.as_ref()?;
        let (hold, buckets) = (merged.frame.hold?, &merged.frame.buckets);
        let into_ns = hold.start_ns.saturating_sub(buckets.start_ns);
        let first = into_ns.div_ceil(buckets.width_ns) as usize;
        let start_ns = buckets.start_of(first);
        let whole = hold.end_ns.checked_sub(start_ns)? / buckets.width_ns;
        let end_ns = start_ns + whole * buckets.width_ns;
        if whole == 0 {
            return None;
        }
        merged.samples.range(Held::SessionAlive, Span { start_ns, end_ns })
    }

    /// What each target held over time, if there were several, each with figures of its own.
    pub fn courses(&self) -> Option<Vec<Course>> {
        let targets = &self.merged.as_ref()?.plan.targets;
        if !(2..=TARGETS_MAX).contains(&targets.len()) {
            return None;
        }
        let urls: Vec<&str> = targets.iter().map(String::as_str).collect();
        let named = names_of(&urls).into_iter().zip(&self.sessions_by_target);
        let course = |(name, held): (&str, &Vec<u64>)| Course {
            replica: name.to_owned(),
            held: held.clone(),
        };
        Some(named.map(course).collect())
    }

    /// Its kills and other blows.
    pub fn failovers(&self) -> Vec<FailoverResult> {
        let Some(merged) = &self.merged else { return Vec::new() };
        let windows = &merged.tally.windows;
        let pairs = merged.kills.iter().zip(windows);
        pairs.map(|(kill, failed)| kill.result(&self.record.name, failed)).collect()
    }

    /// Its scale commands.
    pub fn scalings(&self) -> Vec<ScalingResult> {
        let Some(merged) = &self.merged else { return Vec::new() };
        let windows = &merged.tally.windows[merged.kills.len()..];
        let pairs = merged.scales.iter().zip(windows);
        pairs.map(|(scale, failed)| scale.result(&self.record.name, failed)).collect()
    }
}

/// Failures by name of the outcome; those that did not occur are absent.
fn named(outcomes: &ByOutcome) -> BTreeMap<String, u64> {
    Outcome::ALL
        .iter()
        .zip(outcomes)
        .filter(|(outcome, count)| !outcome.is_ok() && **count > 0)
        .map(|(outcome, count)| (outcome.name().to_owned(), *count))
        .collect()
}

fn targets(merged: &Merged, sessions: &[Vec<u64>]) -> Vec<TargetResult> {
    let many = merged.plan.targets.len() > TARGETS_MAX;
    merged
        .tally
        .targets
        .iter()
        .enumerate()
        .map(|(index, tally)| TargetResult {
            url: match merged.plan.targets.get(index) {
                Some(_) if many && index == TARGETS_MAX - 1 => "others".to_owned(),
                Some(url) => url.clone(),
                None => String::new(),
            },
            sent: tally.sent,
            ok: tally.ok,
            failed: tally.sent - tally.ok,
            response_ns: tally.response.percentiles(),
            service_ns: tally.service.percentiles(),
            connects: merged.sessions.connects_by_target[index],
            sessions_peak: sessions[index].iter().copied().max().unwrap_or(0),
            losses: merged.sessions.losses_by_target[index],
        })
        .collect()
}

/// The share of each load operation; where there is one, it has all.
fn operations(merged: &Merged) -> Vec<OperationResult> {
    let names = merged.plan.ops.iter().filter(|(_, load)| *load).map(|(name, _)| name.clone());
    let tally = &merged.tally;
    if tally.operations.is_empty() {
        let sent = tally.offered() - tally.dropped();
        let all = |name| OperationResult {
            name,
            sent,
            ok: tally.ok(),
            failed: sent - tally.ok(),
            response_ns: tally.response.percentiles(),
            service_ns: tally.service.percentiles(),
        };
        return names.take(1).map(all).collect();
    }
    let part = |(name, part): (String, &PartTally)| OperationResult {
        name,
        sent: part.sent,
        ok: part.ok,
        failed: part.sent - part.ok,
        response_ns: part.response.percentiles(),
        service_ns: part.service.percentiles(),
    };
    names.zip(&tally.operations).map(part).collect()
}

fn generator(merged: &Merged) -> GeneratorResult {
    let per_worker = merged.samples.workers();
    let share = per_worker.iter().filter_map(|worker| worker.cpu_share).max_by(f64::total_cmp);
    GeneratorResult {
        cpu_share: share,
        rss_bytes_max: merged.samples.rss_bytes_max(),
        workers: per_worker.len() as u64,
        per_worker,
        stage: None,
    }
}

fn timeline(merged: &Merged, run: &RunRecord, record: &StageRecord) -> Timeline {
    let buckets = &merged.tally.buckets;
    let quantile = |quantile: f64| -> Vec<Option<u64>> {
        buckets
            .iter()
            .map(|bucket| bucket.response.as_ref().and_then(|small| small.quantile_ns(quantile)))
            .collect()
    };
    let of = |outcome: Outcome| -> Vec<u64> {
        buckets.iter().map(|bucket| bucket.outcomes[outcome as usize]).collect()
    };
    let counts = merged.samples.counts();
    let errors = Outcome::ALL
        .iter()
        .filter(|outcome| !outcome.is_ok() && **outcome != Outcome::Dropped)
        .map(|outcome| (outcome.name().to_owned(), of(*outcome)))
        .filter(|(_, course)| course.iter().any(|count| *count > 0))
        .collect();
    Timeline {
        start_ns: merged.frame.buckets.start_ns,
        bucket_ns: merged.frame.buckets.width_ns,
        ok: of(Outcome::Ok),
        offered: buckets.iter().map(|bucket| bucket.offered).collect(),
        dropped: of(Outcome::Dropped),
        errors,
        p50_ns: quantile(0.5),
        p95_ns: quantile(0.95),
        p99_ns: quantile(0.99),
        max_ns: quantile(1.0),
        tcp_open: counts.tcp_open,
        session_alive: counts.session_alive,
        stream_open: counts.stream_open,
        losses: merged.sessions.losses_over_time.clone(),
        phases: merged.phases.clone(),
        events: run
            .events
            .iter()
            .filter(|event| event.stage == record.name)
            .map(|event| Mark {
                at_ns: event.at_ns,
                name: event_name(event.kind).to_owned(),
                text: if event.text.is_empty() {
                    event.replica.clone()
                } else {
                    format!("{} {}", event.replica, event.text).trim().to_owned()
                },
            })
            .collect(),
    }
}

fn event_name(kind: EventRecordKind) -> &'static str {
    match kind {
        EventRecordKind::ReplicaStart => "replica_start",
        EventRecordKind::ReplicaHealthy => "replica_healthy",
        EventRecordKind::Kill => "kill",
        EventRecordKind::NodeDrain => "node_drain",
        EventRecordKind::NodeLoss => "node_loss",
        EventRecordKind::UpdateCommand => "update_command",
        EventRecordKind::Recovered => "recovered",
        EventRecordKind::ReplicaExit => "replica_exit",
        EventRecordKind::ScaleCommand => "scale_command",
        EventRecordKind::ScaleConverged => "scale_converged",
        EventRecordKind::Drain => "drain",
        EventRecordKind::Stop => "stop",
        EventRecordKind::SessionsConverged => "sessions_converged",
        EventRecordKind::Mark => "mark",
    }
}
