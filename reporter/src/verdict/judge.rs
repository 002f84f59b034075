//! Each threshold against the figure that it is about. Pure functions on [`Results`].
//!
//! Which figure:
//! - latencies, throughput and sessions: the *top stage*, the stress stage with the most planned
//!   connections (then the highest rate), whether or not it ran;
//! - success, failed, dropped: the worst of all stages that ran;
//! - recovery, lost requests: the worst kill; converge: the slowest change;
//! - rss_growth: the upper bound of the replica that may have grown the most, or the lower bound of
//!   the one that certainly grew the most if that misses the limit (see `growth`).
//!
//! With `stage:NAME:` it is that stage; NAME is its whole name or its end after a `-`.
//!
//! A figure that is missing does not pass: the threshold fails and says why. The exceptions are
//! default thresholds whose subject the plan does not contain (no stage kills a replica; no hold
//! phase is long enough for a trend; fewer requests are due than a percentile needs), or whose
//! measurement does not decide (an interval with the limit in it): `pass` is `null` and the report
//! says so beside the verdict. A threshold that the user gave has no such exceptions.

use crate::analysis::replicas::WINDOW_NS_MIN;
use crate::report::units;
use crate::results::{
    Percentiles, Results, StageResult, ThresholdOrigin, ThresholdResult, Verdict,
};
use crate::verdict::threshold::{Figure, Metric, Op, Series, Threshold};
use crate::verdict::{growth, next};

/// What a threshold finds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Found {
    /// A figure, the stage it is of, and what to know of it.
    Value { value: f64, stage: Option<String>, because: Option<String> },
    /// It should be there and is not.
    Missing { stage: Option<String>, because: String },
    /// It was measured, and does not decide.
    Undecided { stage: Option<String>, because: String },
    /// The plan does not contain its subject.
    NotPlanned(String),
}

/// Judges all thresholds, in their order.
pub fn judge(thresholds: &[Threshold], results: &Results) -> Vec<ThresholdResult> {
    thresholds.iter().map(|threshold| judge_one(threshold, results)).collect()
}

/// PASS unless one failed.
pub fn verdict(thresholds: &[ThresholdResult]) -> Verdict {
    let failed = thresholds.iter().any(|threshold| threshold.pass == Some(false));
    let judged = thresholds.iter().any(|threshold| threshold.pass.is_some());
    if failed || !judged { Verdict::Fail } else { Verdict::Pass }
}

/// The stress stage with the most planned connections, then the highest rate; any stage if there
/// is no stress stage.
pub fn top_stage(results: &Results) -> Option<&StageResult> {
    let size = |stage: &&StageResult| (stage.connections.planned, stage.rate_planned_per_s as u64);
    let stress = results.stages.iter().filter(|stage| stage.kind == "stress");
    stress.max_by_key(size).or_else(|| results.stages.iter().max_by_key(size))
}

fn judge_one(threshold: &Threshold, results: &Results) -> ThresholdResult {
    let found = find(threshold, results);
    // Whoever gave a threshold wants it judged.
    let unjudged = (threshold.origin == ThresholdOrigin::User).then_some(false);
    let (value, pass, stage, because) = match found {
        Found::Value { value, stage, because } => {
            (Some(value), Some(threshold.holds(value)), stage, because)
        }
        Found::Missing { stage, because } => (None, Some(false), stage, Some(because)),
        Found::Undecided { stage, because } => (None, unjudged, stage, Some(because)),
        Found::NotPlanned(because) => (None, unjudged, None, Some(because)),
    };
    let mut result = ThresholdResult {
        name: threshold.name(),
        limit: format!("{} {}", threshold.op.sign(), threshold.limit_text),
        value,
        unit: threshold.metric.unit().base().to_owned(),
        pass,
        stage,
        origin: threshold.origin,
        because,
        suspect_because: Vec::new(),
        next: None,
    };
    result.suspect_because = suspicions(&result, results);
    if result.pass == Some(false) {
        result.next = next::after_failure(threshold, &result, results);
    }
    result
}

/// What makes the stage doubtful makes its figures doubtful.
fn suspicions(threshold: &ThresholdResult, results: &Results) -> Vec<String> {
    let stage = results.stages.iter().find(|stage| threshold.stage.as_ref() == Some(&stage.name));
    match (stage, threshold.value) {
        (Some(stage), Some(_)) => stage.suspect_because.clone(),
        _ => Vec::new(),
    }
}

fn find(threshold: &Threshold, results: &Results) -> Found {
    match threshold.metric {
        Metric::Recovery | Metric::LostRequests => failover(threshold, results),
        Metric::Converge => converge(threshold, results),
        Metric::RssGrowth => memory(threshold, results),
        Metric::Success | Metric::Dropped | Metric::Failed if threshold.stage.is_none() => {
            worst_stage(threshold, results)
        }
        Metric::Success
        | Metric::Dropped
        | Metric::Failed
        | Metric::Latency(..)
        | Metric::Throughput
        | Metric::Sessions => match &threshold.stage {
            None => match top_stage(results) {
                Some(stage) => of_stage(threshold.metric, stage),
                None => Found::Missing { stage: None, because: "the run has no stage".to_owned() },
            },
            Some(scope) => match stage_by_scope(scope, results) {
                Ok(stage) => of_stage(threshold.metric, stage),
                Err(because) => Found::Missing { stage: None, because },
            },
        },
    }
}

fn stage_by_scope<'r>(scope: &str, results: &'r Results) -> Result<&'r StageResult, String> {
    if let Some(stage) = results.stages.iter().find(|stage| stage.name == scope) {
        return Ok(stage);
    }
    let ending = format!("-{scope}");
    let mut matching = results.stages.iter().filter(|stage| stage.name.ends_with(&ending));
    match (matching.next(), matching.next()) {
        (Some(stage), None) => Ok(stage),
        (Some(_), Some(_)) => Err(format!("`{scope}` names more than one stage")),
        (None, _) => Err(format!("the run has no stage `{scope}`")),
    }
}

fn of_stage(metric: Metric, stage: &StageResult) -> Found {
    let requests = &stage.requests;
    let value = match metric {
        Metric::Success => requests.success_share.map(|share| share * 100.0),
        Metric::Dropped => stage.hold_ns.map(|_| requests.dropped as f64),
        Metric::Failed => stage.hold_ns.map(|_| requests.failed as f64),
        Metric::Throughput => stage.throughput_per_s,
        Metric::Sessions => stage
            .connections
            .session_alive_min
            .filter(|_| stage.connections.planned > 0)
            .map(|alive| 100.0 * alive as f64 / stage.connections.planned as f64),
        Metric::Latency(series, figure) => latency(series, stage).and_then(|it| pick(figure, it)),
        Metric::Recovery | Metric::LostRequests | Metric::Converge | Metric::RssGrowth => None,
    };
    let name = Some(stage.name.clone());
    match value {
        Some(value) => Found::Value { value, stage: name, because: stage.skipped.clone() },
        None => match too_few(metric, stage) {
            Some((because, true)) => Found::Undecided { stage: name, because },
            Some((because, false)) => Found::Missing { stage: name, because },
            None => Found::Missing { stage: name, because: why_missing(stage) },
        },
    }
}

/// Says that the samples are too few for a percentile, and whether that is because too few requests
/// were due: then not even a server that answered all of them could be judged.
fn too_few(metric: Metric, stage: &StageResult) -> Option<(String, bool)> {
    let Metric::Latency(series, figure) = metric else { return None };
    let (had, needed) = (latency(series, stage)?.count, figure.samples_min());
    let because = format!(
        "cannot tell: {} samples in stage {}, and {} needs {}",
        units::count(had),
        stage.name,
        figure.name(),
        units::count(needed)
    );
    (had < needed).then_some((because, stage.requests.offered < needed))
}

fn why_missing(stage: &StageResult) -> String {
    if let Some(because) = not_as_planned(stage) {
        return because;
    }
    if stage.hold_ns.is_none() {
        return format!("stage {} has no hold phase in its logs", stage.name);
    }
    format!("stage {} has no answered request in its hold phase", stage.name)
}

/// Why the stage has not all that the plan asked of it.
fn not_as_planned(stage: &StageResult) -> Option<String> {
    let reason = stage.skipped.as_ref()?;
    Some(format!("stage {} did not run as planned: {reason}", stage.name))
}

fn latency(series: Series, stage: &StageResult) -> Option<&Percentiles> {
    match series {
        Series::Response => stage.response_ns.as_ref(),
        Series::Service => stage.service_ns.as_ref(),
        Series::Slip => stage.slip_ns.as_ref(),
    }
}

fn pick(figure: Figure, of: &Percentiles) -> Option<f64> {
    let value = match figure {
        Figure::Avg => return Some(of.mean),
        Figure::P50 => of.p50,
        Figure::P90 => of.p90?,
        Figure::P95 => of.p95?,
        Figure::P99 => of.p99?,
        Figure::P999 => of.p999?,
        Figure::P9999 => of.p9999?,
        Figure::Max => of.max,
    };
    Some(value as f64)
}

/// The worst figure of all stages that ran to their hold phase.
fn worst_stage(threshold: &Threshold, results: &Results) -> Found {
    let mut worst: Option<(f64, &StageResult)> = None;
    for stage in &results.stages {
        let Found::Value { value, .. } = of_stage(threshold.metric, stage) else { continue };
        if worst.is_none_or(|(before, _)| worse(threshold.op, value, before)) {
            worst = Some((value, stage));
        }
    }
    match worst {
        Some((value, stage)) => {
            Found::Value { value, stage: Some(stage.name.clone()), because: stage.skipped.clone() }
        }
        None => Found::Missing {
            stage: None,
            because: "no stage has a request in its hold phase".to_owned(),
        },
    }
}

fn worse(op: Op, value: f64, than: f64) -> bool {
    if op.larger_is_worse() { value > than } else { value < than }
}

fn failover(threshold: &Threshold, results: &Results) -> Found {
    let in_scope = |stage: &str| match &threshold.stage {
        Some(scope) => stage == scope || stage.ends_with(&format!("-{scope}")),
        None => true,
    };
    let kills: Vec<_> = results
        .failovers
        .iter()
        .filter(|kill| in_scope(&kill.stage) && !kill.is_planned())
        .collect();
    let Some(last) = kills.last() else {
        let planned = results.stages.iter().find(|stage| stage.kind == "failover");
        return match planned {
            None => Found::NotPlanned("the plan has no failover stage".to_owned()),
            Some(stage) => Found::Missing {
                stage: Some(stage.name.clone()),
                because: not_as_planned(stage)
                    .unwrap_or_else(|| format!("no replica was killed in stage {}", stage.name)),
            },
        };
    };
    let name = Some(last.stage.clone());
    if threshold.metric == Metric::LostRequests {
        let lost = kills.iter().map(|kill| kill.lost_requests).max().unwrap_or(0);
        return Found::Value { value: lost as f64, stage: name, because: None };
    }
    let mut longest = 0;
    for kill in &kills {
        match kill.recovery_ns {
            Some(recovery) => longest = longest.max(recovery),
            None => {
                let because = next::why_never(kill);
                return Found::Missing { stage: Some(kill.stage.clone()), because };
            }
        }
    }
    Found::Value { value: longest as f64, stage: name, because: None }
}

fn converge(threshold: &Threshold, results: &Results) -> Found {
    let in_scope = |stage: &str| threshold.stage.as_ref().is_none_or(|scope| scope == stage);
    let mut slowest: Option<(u64, &str)> = None;
    for change in results.scaling.iter().filter(|change| in_scope(&change.stage)) {
        match change.converged_ns {
            Some(took) if slowest.is_none_or(|(before, _)| took > before) => {
                slowest = Some((took, &change.stage));
            }
            Some(_) => {}
            None => {
                return Found::Missing {
                    stage: Some(change.stage.clone()),
                    because: format!("{} -> {} replicas: never", change.from, change.to),
                };
            }
        }
    }
    match slowest {
        Some((took, stage)) => {
            Found::Value { value: took as f64, stage: Some(stage.to_owned()), because: None }
        }
        None => match missing_stage(results, &["scaling"]) {
            Some((stage, because)) => Found::Missing { stage: Some(stage), because },
            None => Found::NotPlanned("the run changed no number of replicas".to_owned()),
        },
    }
}

/// The first stage of these kinds that did not run as planned, and why.
fn missing_stage(results: &Results, kinds: &[&str]) -> Option<(String, String)> {
    let stages = results.stages.iter().filter(|stage| kinds.contains(&stage.kind.as_str()));
    stages.filter_map(|stage| Some((stage.name.clone(), not_as_planned(stage)?))).next()
}

fn memory(threshold: &Threshold, results: &Results) -> Found {
    if let Some(found) = growth::find(threshold, &results.replicas) {
        return found;
    }
    if let Some((stage, because)) = missing_stage(results, &["baseline", "stress"]) {
        return Found::Missing { stage: Some(stage), because };
    }
    let longest = results
        .stages
        .iter()
        .filter(|stage| matches!(stage.kind.as_str(), "baseline" | "stress"))
        .filter_map(|stage| stage.hold_ns)
        .max();
    match longest {
        Some(hold) if hold < WINDOW_NS_MIN => Found::NotPlanned(format!(
            "the longest hold phase without kills or scaling is {} s; a trend of memory needs {} s",
            hold / 1_000_000_000,
            WINDOW_NS_MIN / 1_000_000_000
        )),
        Some(_) if matches!(results.backend.as_str(), "external" | "logs") => Found::NotPlanned(
            "the server's processes are not on this host: its memory was not sampled".to_owned(),
        ),
        Some(_) => {
            let of_all = || results.replicas.iter().find_map(|it| it.rss_because.clone());
            let reason = growth::without_trend(&results.replicas)
                .or_else(of_all)
                .unwrap_or_else(|| "no replica has samples of its memory".to_owned());
            Found::Missing { stage: None, because: reason }
        }
        None => Found::Missing {
            stage: None,
            because: "no stage reached a hold phase with constant sessions".to_owned(),
        },
    }
}
