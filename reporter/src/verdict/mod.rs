//! From figures to a verdict on the server and one on the run itself.
//!
//! It knows the measured figures and the thresholds; it reads no file and draws nothing.

pub mod file;
pub mod growth;
pub mod judge;
pub mod next;
pub mod threshold;
pub mod validity;

use crate::analysis::frame::Span;
use crate::analysis::replicas::cpu_cores;
use crate::analysis::stage::Stage;
use crate::analysis::{Analysis, balancer};
use crate::results::{
    BalancerResult, Finding, NOT_RECORDED, RESULTS_VERSION, Results, ServerResult, Severity,
    StageResult, Verdict, WorkerResult,
};
use validity::StageFacts;

/// The limit that delays of the generator are compared with if p99 has none.
const P99_LIMIT_NS: f64 = 5e8;

/// Judges a run: the whole of `results.json`.
pub fn judge(analysis: &Analysis) -> anyhow::Result<Results> {
    let thresholds = threshold::resolve(&analysis.run.thresholds)?;
    let p99 = thresholds.iter().find(|threshold| threshold.name() == "p99");
    let p99_limit_ns = p99.map_or(P99_LIMIT_NS, |threshold| threshold.limit);
    let mut results = measured(analysis);
    results.findings = findings(analysis, p99_limit_ns);
    for stage in &mut results.stages {
        stage.suspect_because = suspicions(&stage.name, &results.findings);
    }
    results.invalid_because = results
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Invalid)
        .map(|finding| match &finding.stage {
            Some(stage) => format!("{stage}: {}", finding.because),
            None => finding.because.clone(),
        })
        .collect();
    results.valid = results.invalid_because.is_empty();
    results.thresholds = judge::judge(&thresholds, &results);
    results.verdict = judge::verdict(&results.thresholds);
    Ok(results)
}

/// The figures alone, before any judgement.
fn measured(analysis: &Analysis) -> Results {
    let run = &analysis.run;
    let stages: Vec<StageResult> = analysis.stages.iter().map(Stage::result).collect();
    let ended = run.stages.iter().map(|stage| stage.end_ns).max().unwrap_or(0);
    let failovers = analysis.failovers();
    let longest = |recovery: Option<u64>| recovery.unwrap_or(u64::MAX);
    // An update takes its time by plan.
    let unplanned = failovers.iter().filter(|failover| !failover.is_planned());
    Results {
        version: RESULTS_VERSION,
        verdict: Verdict::Fail,
        valid: false,
        invalid_because: Vec::new(),
        interrupted: run.interrupted,
        broken: run.broken.clone(),
        command: run.command.clone(),
        backend: run.backend.clone(),
        profile: run.profile.clone(),
        started_real_ns: run.started_real_ns,
        duration_ns: ended.max(run.ended_mono_ns).saturating_sub(run.started_mono_ns),
        server: ServerResult {
            program: run.server.program.clone(),
            version: run.server.version.clone(),
            replicas_planned: run.replicas_planned,
        },
        thresholds: Vec::new(),
        failover: unplanned.max_by_key(|kill| longest(kill.recovery_ns)).cloned(),
        failovers,
        scaling: analysis.stages.iter().flat_map(Stage::scalings).collect(),
        replicas: analysis.replicas.clone(),
        balancer: balancer(analysis),
        generator: analysis.generator(),
        findings: Vec::new(),
        logs: analysis
            .stages
            .iter()
            .filter_map(|stage| stage.merged.as_ref())
            .flat_map(|merged| merged.logs.clone())
            .collect(),
        host: serde_json::to_value(&run.host).unwrap_or_default(),
        versions: serde_json::Value::Object(run.versions.clone()),
        stages,
    }
}

fn balancer(analysis: &Analysis) -> Vec<BalancerResult> {
    let Some(table) = &analysis.balancer else { return Vec::new() };
    let one = |stage: &Stage| {
        let (record, hold) = (&stage.record, stage.merged.as_ref()?.frame.hold);
        let span = Span { start_ns: record.start_ns, end_ns: record.end_ns };
        balancer::in_stage(table, &record.name, span, hold)
    };
    analysis.stages.iter().filter_map(one).collect()
}

fn findings(analysis: &Analysis, p99_limit_ns: f64) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(broken) = &analysis.run.broken {
        findings.push(Finding {
            rule: "broken".to_owned(),
            severity: Severity::Invalid,
            stage: None,
            because: format!("the run broke: {broken}"),
            next: "See the stage that ran at that time.".to_owned(),
        });
    }
    let judged = analysis.top_stage().map(|stage| stage.record.name.as_str());
    findings.extend(balancer(analysis).iter().filter_map(validity::balancer));
    findings.extend(analysis.stages.iter().find_map(insecure));
    findings.extend(analysis.stages.iter().filter_map(unfinished));
    let died = |stage: &Stage| validity::replica_died(&stage.record, &analysis.run.events);
    findings.extend(analysis.stages.iter().filter_map(died));
    let whole = analysis.stages.iter().filter(|stage| stage.record.skipped.is_none());
    let changes = whole.flat_map(Stage::scalings);
    findings.extend(changes.filter_map(|change| validity::sessions_converged(&change)));
    for stage in &analysis.stages {
        if let Some(facts) = facts(analysis, stage, judged, p99_limit_ns) {
            findings.extend(validity::stage(&facts));
            if facts.logs.is_empty() {
                findings.push(no_log(&facts.name));
            }
        }
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// Said once, of the first stage of which it is true.
fn insecure(stage: &Stage) -> Option<Finding> {
    let tls = stage.merged.as_ref()?.plan.tls.as_ref()?;
    tls.insecure.then(|| Finding {
        rule: "insecure_tls".to_owned(),
        severity: Severity::Note,
        stage: Some(stage.record.name.clone()),
        because: "any certificate was believed (--insecure): the run cannot tell who answered"
            .to_owned(),
        next: "Give the root of the server's certificate by --ca.".to_owned(),
    })
}

fn unfinished(stage: &Stage) -> Option<Finding> {
    stage.record.is_unfinished().then(|| Finding {
        rule: "unfinished".to_owned(),
        severity: Severity::Invalid,
        stage: Some(stage.record.name.clone()),
        because: format!("the stage is {NOT_RECORDED}"),
        next: "Make the run again; logs/ may hold what it measured.".to_owned(),
    })
}

fn no_log(stage: &str) -> Finding {
    Finding {
        rule: "no_log".to_owned(),
        severity: Severity::Invalid,
        stage: Some(stage.to_owned()),
        because: "the stage ran and left no latency log".to_owned(),
        next: "See the generator's stderr in run.json and the disk's free space.".to_owned(),
    }
}

/// The facts of a stage that ran.
fn facts(
    analysis: &Analysis,
    stage: &Stage,
    judged: Option<&str>,
    p99_limit_ns: f64,
) -> Option<StageFacts> {
    let merged = stage.merged.as_ref()?;
    let result = stage.result();
    let record = &stage.record;
    let whole = |column: &str| analysis.host.growth(column, record.start_ns, record.end_ns);
    let shares = host_shares(analysis, stage, merged.frame.hold);
    let total = |name: &str| merged.samples.total(name).unwrap_or(0);
    let most = |of: fn(&WorkerResult) -> Option<u64>| {
        stage.generator.per_worker.iter().filter_map(of).max()
    };
    Some(StageFacts {
        name: record.name.clone(),
        judged: judged == Some(record.name.as_str()),
        disturbed: record.kind.is_disturbed(),
        interrupted: analysis.run.interrupted,
        skipped: record.skipped.clone(),
        exit_code: record.exit_code,
        stderr_tail: record.stderr_tail.clone(),
        held: merged.frame.hold.is_some(),
        // Of however few samples: a generator that was late is no figure of the server.
        response_p99_ns: result.response_ns.as_ref().map(|_| merged.tally.response.quantile(0.99)),
        slip_p99_ns: result.slip_ns.as_ref().map(|_| merged.tally.slip.quantile(0.99)),
        p99_limit_ns,
        worker_cpu_share: stage.generator.cpu_share,
        reap_lag_ns_max: most(|worker| worker.reap_lag_ns_max),
        turn_ns_max: most(|worker| worker.turn_ns_max),
        debt_ns_max: most(|worker| worker.debt_ns_max),
        offered: result.requests.offered,
        dropped: result.requests.dropped,
        disordered: merged.tally.disordered,
        records: merged.tally.records,
        logs: merged.logs.clone(),
        log_lost_records: total("log_lost_records"),
        enobufs: total("enobufs"),
        completions: total("completions"),
        cq_overflow: total("cq_overflow"),
        send_buffer_waits: total("send_buffer_waits"),
        sent: total("sent"),
        planned: record.connections,
        tcp_open_peak: result.connections.tcp_open_peak,
        connect_failures: result.connect_failures.clone(),
        connects: merged.sessions.connect.count(),
        syn_retransmits: whole("tcp_syn_retrans"),
        listen_overflows: whole("listen_overflows"),
        softnet_dropped: whole("softnet_dropped"),
        host_busy_share: shares.map(|shares| shares.busy),
        host_steal_share: shares.map(|shares| shares.steal),
        own_cpu_share: shares.and_then(|shares| shares.own),
        shared_host: analysis.run.shares_host(),
    })
}

/// Where the host's CPU time went in a hold phase.
#[derive(Clone, Copy, Debug)]
struct HostShares {
    /// Used over all.
    busy: f64,
    /// Taken by the hypervisor over all.
    steal: f64,
    /// Of servers and generator over what was used.
    own: Option<f64>,
}

fn host_shares(analysis: &Analysis, stage: &Stage, hold: Option<Span>) -> Option<HostShares> {
    let hold = hold?;
    let growth = |column: &str| analysis.host.growth(column, hold.start_ns, hold.end_ns);
    let (busy, idle) = (growth("cpu_busy_ns")?, growth("cpu_idle_ns")?);
    let steal = growth("cpu_steal_ns").unwrap_or(0.0);
    let all = busy + idle + steal;
    if all <= 0.0 || busy <= 0.0 {
        return None;
    }
    // Cores on average, so that the different sampling instants do not matter.
    let used_cores = busy / all * f64::from(analysis.run.host.cores.max(1));
    let servers: Option<f64> = analysis
        .processes
        .values()
        .filter_map(|samples| cpu_cores(samples, hold))
        .reduce(|a, b| a + b);
    let workers: f64 = stage.generator.per_worker.iter().filter_map(|it| it.cpu_share).sum();
    let own = servers.map(|servers| ((servers + workers) / used_cores).min(1.0));
    Some(HostShares { busy: busy / all, steal: steal / all, own })
}

/// What makes a stage's figures doubtful: its own findings and those on the whole run.
fn suspicions(stage: &str, findings: &[Finding]) -> Vec<String> {
    findings
        .iter()
        .filter(|finding| finding.severity >= Severity::Suspect)
        .filter(|finding| finding.stage.as_deref().is_none_or(|name| name == stage))
        .map(|finding| finding.because.clone())
        .collect()
}
