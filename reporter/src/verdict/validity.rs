//! Is the run itself to be believed? One pure function a rule, each from measured facts to a
//! finding or nothing.
//!
//! A finding on the stage that the thresholds judge makes the run invalid if the rule says that
//! its figures are not the server's; on another stage it makes that stage's figures suspect.

mod generator;

use std::collections::BTreeMap;

pub use self::generator::{
    buffers, completion_queue, drops, generator_cpu, log_lost, reap_lag, send_buffers,
    sessions_busy, slip, turn,
};
use crate::report::units;
use crate::results::{BalancerResult, Finding, LogResult, ScalingResult, Severity};
use crate::run::record::{EventRecord, EventRecordKind, StageRecord};

/// Share of the p99 limit from which a delay of the generator is material.
pub const MATERIAL: f64 = 0.1;
/// Share of connects that may need a second SYN.
pub const SYN_RETRANSMITS_SHARE: f64 = 0.001;
/// Share of the planned connections that must have been open for the stage to be what it says.
pub const CONNECTIONS_SHARE: f64 = 0.99;
/// Share of the planned connections from which failures on this host count.
pub const LOCAL_FAILURES_SHARE: f64 = 0.001;
/// CPU time stolen by the hypervisor.
pub const STEAL_SHARE: f64 = 0.02;
/// Host CPU use from which a generator and servers on one host compete.
pub const HOST_BUSY: f64 = 0.95;
/// Movement of real time against monotonic time that slewing cannot explain, beside 500 ppm.
pub const CLOCK_STEP_NS: u64 = 50_000_000;
/// Certain error of a clock's offset from which the merged time line is doubtful: a tenth of its
/// shortest bucket.
pub const CLOCK_WRONG_NS: u64 = 100_000_000;

/// What the rules look at in one stage.
#[derive(Clone, Debug, Default)]
pub struct StageFacts {
    /// Its name.
    pub name: String,
    /// The stage that latency and throughput are judged at.
    pub judged: bool,
    /// Replicas are killed or scaled in it: losses are its purpose.
    pub disturbed: bool,
    /// The run was interrupted.
    pub interrupted: bool,
    /// Why it was cut short.
    pub skipped: Option<String>,
    /// The generator's exit code; none: ended by a signal.
    pub exit_code: Option<i32>,
    /// Last lines of its stderr.
    pub stderr_tail: String,
    /// It has a hold phase.
    pub held: bool,
    /// Response p99 in the hold phase.
    pub response_p99_ns: Option<u64>,
    /// Slip p99 in the hold phase.
    pub slip_p99_ns: Option<u64>,
    /// The limit that p99 is judged by.
    pub p99_limit_ns: f64,
    /// The busiest worker's CPU share.
    pub worker_cpu_share: Option<f64>,
    /// Longest delay from a completion to its handling.
    pub reap_lag_ns_max: Option<u64>,
    /// Longest turn of a worker, sleep not counted.
    pub turn_ns_max: Option<u64>,
    /// Age of the oldest request that was due while no session was free.
    pub debt_ns_max: Option<u64>,
    /// Load requests due in the hold phase.
    pub offered: u64,
    /// Those never sent.
    pub dropped: u64,
    /// Records whose times are not in order.
    pub disordered: u64,
    /// All request records.
    pub records: u64,
    /// Its logs.
    pub logs: Vec<LogResult>,
    /// Records that did not reach the log.
    pub log_lost_records: u64,
    /// Receives that found no buffer, whole stage.
    pub enobufs: u64,
    /// Completions, whole stage.
    pub completions: u64,
    /// Completions that did not fit their queue, whole stage.
    pub cq_overflow: u64,
    /// Requests that waited for a send buffer, whole stage.
    pub send_buffer_waits: u64,
    /// Load requests sent, whole stage.
    pub sent: u64,
    /// Connections asked for.
    pub planned: u64,
    /// The most TCP connections open.
    pub tcp_open_peak: Option<u64>,
    /// Failed attempts to connect, by reason.
    pub connect_failures: BTreeMap<String, u64>,
    /// TCP connections established, whole stage.
    pub connects: u64,
    /// SYNs sent again on this host, whole stage.
    pub syn_retransmits: Option<f64>,
    /// Connections that found the accept queue full, whole stage.
    pub listen_overflows: Option<f64>,
    /// Packets dropped before the stack, whole stage.
    pub softnet_dropped: Option<f64>,
    /// CPU time used on the host over all its CPU time, hold phase.
    pub host_busy_share: Option<f64>,
    /// CPU time stolen, hold phase.
    pub host_steal_share: Option<f64>,
    /// CPU time of the replicas and the generator over all CPU time used on the host, hold phase.
    pub own_cpu_share: Option<f64>,
    /// Server and generator share the host.
    pub shared_host: bool,
}

/// All findings of a stage.
pub fn stage(facts: &StageFacts) -> Vec<Finding> {
    let rules: [fn(&StageFacts) -> Option<Finding>; 18] = [
        local_failures,
        exit_code,
        no_hold,
        slip,
        sessions_busy,
        generator_cpu,
        turn,
        reap_lag,
        drops,
        connections,
        buffers,
        send_buffers,
        completion_queue,
        tcp_queues,
        clock,
        host_cpu,
        host_steal,
        log_lost,
    ];
    let mut findings: Vec<Finding> = rules.iter().filter_map(|rule| rule(facts)).collect();
    findings.extend(facts.logs.iter().filter_map(|log| log_damage(facts, log)));
    findings.extend(facts.logs.iter().filter_map(|log| clock_step(facts, log)));
    findings.extend(facts.logs.iter().filter_map(|log| clock_offset(facts, log)));
    findings
}

/// The balancer holds as much as it can: what does not fit is not the replicas' doing.
pub fn balancer(held: &BalancerResult) -> Option<Finding> {
    let reached = crate::analysis::balancer::full(held)?;
    Some(Finding {
        rule: "balancer".to_owned(),
        severity: Severity::Suspect,
        stage: Some(held.stage.clone()),
        because: format!(
            "the balancer had {reached}: it is the bottleneck of this stage, not the replicas"
        ),
        next: "Raise ERLMCP_NOFILE and ERLMCP_LB_MAXCONN, run more balancers, or use --path tasks."
            .to_owned(),
    })
}

/// Replicas that ended in a stage in which nobody ended one.
pub fn replica_died(stage: &StageRecord, events: &[EventRecord]) -> Option<Finding> {
    if stage.kind.is_disturbed() {
        return None;
    }
    let exits = || {
        let of_stage = events.iter().filter(|event| event.stage == stage.name);
        of_stage.filter(|event| event.kind == EventRecordKind::ReplicaExit)
    };
    let first = exits().next()?;
    let into = units::duration(first.at_ns.saturating_sub(stage.start_ns));
    let who = match exits().count() {
        1 => format!("replica {} ended by itself", first.replica),
        all => format!("replicas ended by themselves {all} times, first {}", first.replica),
    };
    Some(Finding {
        rule: "replica_died".to_owned(),
        severity: Severity::Suspect,
        stage: Some(stage.name.clone()),
        because: format!(
            "{who}, {into} into the stage ({}): the figures are not of all replicas",
            first.text
        ),
        next: "See its log in logs/, its memory limit, and the kernel's log for the OOM killer."
            .to_owned(),
    })
}

/// A scale command after which the sessions were not seen to be all there. No figure is doubted.
pub fn sessions_converged(change: &ScalingResult) -> Option<Finding> {
    change.sessions_converged_ns.is_none().then(|| Finding {
        rule: "sessions_converged".to_owned(),
        severity: Severity::Note,
        stage: Some(change.stage.clone()),
        because: format!(
            "after {} -> {} replicas the sessions did not converge in the time that they had",
            change.from, change.to
        ),
        next: "See how many were alive at that time, and the remark in run.json.".to_owned(),
    })
}

impl StageFacts {
    fn finding(
        &self,
        rule: &str,
        severity: Severity,
        because: String,
        next: &str,
    ) -> Option<Finding> {
        Some(Finding {
            rule: rule.to_owned(),
            severity,
            stage: Some(self.name.clone()),
            because,
            next: next.to_owned(),
        })
    }

    /// What falsifies the judged stage falsifies the run; elsewhere only its stage's figures.
    fn falsified(&self) -> Severity {
        if self.judged { Severity::Invalid } else { Severity::Suspect }
    }

    fn material_ns(&self) -> f64 {
        self.p99_limit_ns * MATERIAL
    }
}

/// The generator did not end as it should.
pub fn exit_code(facts: &StageFacts) -> Option<Finding> {
    let how = match facts.exit_code {
        Some(0) => return None,
        Some(130) if facts.interrupted => return None,
        None if facts.interrupted => return None,
        Some(3) => "exit code 3: its log is not whole".to_owned(),
        Some(2) => "exit code 2: the target or the options were refused".to_owned(),
        Some(4) => "exit code 4: the host lacks something it needs".to_owned(),
        Some(code) => format!("exit code {code}"),
        None => "a signal".to_owned(),
    };
    let last = facts.stderr_tail.lines().rfind(|line| !line.trim().is_empty());
    let said = last.map_or(String::new(), |line| format!("; it said: {}", line.trim()));
    let because = format!("the load generator ended with {how}{said}");
    facts.finding("exit_code", Severity::Invalid, because, "Read the stage's stderr in run.json.")
}

/// The stage ended before its hold phase.
pub fn no_hold(facts: &StageFacts) -> Option<Finding> {
    if facts.held || facts.interrupted {
        return None;
    }
    let because = "no hold phase is in the logs, so nothing can be judged".to_owned();
    facts.finding("no_hold", facts.falsified(), because, "See whether the ramp ever completed.")
}

/// The planned connections were not reached, because of this side.
pub fn connections(facts: &StageFacts) -> Option<Finding> {
    // With blocks missing, the samples of a worker may be among them.
    if facts.logs.iter().any(|log| log.missing_blocks > 0 || log.error.is_some()) {
        return None;
    }
    let peak = facts.tcp_open_peak?;
    if peak as f64 >= facts.planned as f64 * CONNECTIONS_SHARE {
        return None;
    }
    let reached = format!(
        "{} of {} planned connections were open at once",
        units::count(peak),
        units::count(facts.planned)
    );
    let own = |reason: &str| facts.connect_failures.get(reason).copied().unwrap_or(0);
    let local = own("no_address") + own("other");
    let all: u64 = facts.connect_failures.values().sum();
    if local > 0 && local * 2 >= all {
        let because = format!(
            "{reached}; {} of {} failed attempts failed on this host before a packet left",
            units::count(local),
            units::count(all)
        );
        let next = "Add source addresses (--sources) and see preflight.";
        return facts.finding("connections", facts.falsified(), because, next);
    }
    let because = match facts.connect_failures.iter().max_by_key(|(_, count)| **count) {
        Some((reason, count)) => {
            format!("{reached}; {} attempts ended with `{reason}`", units::count(*count))
        }
        None => format!("{reached}, and no attempt failed: the ramp was not finished"),
    };
    facts.finding(
        "connections",
        Severity::Suspect,
        because,
        "See the ramp and the servers' limits.",
    )
}

/// Attempts to connect failed before a packet left this host.
pub fn local_failures(facts: &StageFacts) -> Option<Finding> {
    let failed = facts.connect_failures.get("no_address").copied().unwrap_or(0);
    if failed < 10 || (failed as f64) < facts.planned as f64 * LOCAL_FAILURES_SHARE {
        return None;
    }
    // Where replicas are killed or scaled, recovery is judged: a session that the generator could
    // not make again would count against the server.
    let severity = if facts.disturbed { Severity::Invalid } else { facts.falsified() };
    let because = format!(
        "{} attempts to connect found no free source address and port on this host",
        units::count(failed)
    );
    let next = "Add source addresses (--sources), see net.ipv4.ip_local_port_range and TIME_WAIT.";
    facts.finding("no_address", severity, because, next)
}

/// The host's TCP lost SYNs or refused to queue connections.
pub fn tcp_queues(facts: &StageFacts) -> Option<Finding> {
    let again = facts.syn_retransmits.unwrap_or(0.0);
    let full = facts.listen_overflows.unwrap_or(0.0);
    let lost = facts.softnet_dropped.unwrap_or(0.0);
    let many = again >= 10.0 && again >= facts.connects as f64 * SYN_RETRANSMITS_SHARE;
    if !many && full < 1.0 && lost < 1.0 {
        return None;
    }
    let because = format!(
        "{} SYNs were sent again, {} connections met a full accept queue, {} packets were dropped \
         by the host in this stage: connect times contain waits of a second and more",
        units::count(again as u64),
        units::count(full as u64),
        units::count(lost as u64)
    );
    let next = "Raise net.core.somaxconn and the server's backlog, or lower --ramp.";
    facts.finding("tcp_queues", Severity::Suspect, because, next)
}

/// Times that cannot be.
pub fn clock(facts: &StageFacts) -> Option<Finding> {
    if facts.disordered == 0 {
        return None;
    }
    let because = format!(
        "{} of {} request records have times out of order",
        units::count(facts.disordered),
        units::count(facts.records)
    );
    let next = "See the host's clock source; with several hosts, their clocks' offsets.";
    facts.finding("clock", facts.falsified(), because, next)
}

/// Real time was stepped while the log was written.
pub fn clock_step(facts: &StageFacts, log: &LogResult) -> Option<Finding> {
    let drift = log.clock_drift_ns?;
    if drift.unsigned_abs() < CLOCK_STEP_NS {
        return None;
    }
    let severity = if log.clock_offset_ns == 0 { Severity::Note } else { Severity::Suspect };
    let because = format!(
        "on host {} real time moved by {} against the monotonic clock during the stage",
        log.host,
        units::duration(drift.unsigned_abs())
    );
    let next = "Durations use the monotonic clock; only the merge of several hosts uses real time.";
    facts.finding("clock_step", severity, because, next)
}

/// Another host's clock does not agree with when its generator was started and seen to end.
pub fn clock_offset(facts: &StageFacts, log: &LogResult) -> Option<Finding> {
    if log.clock_wrong_ns < CLOCK_WRONG_NS {
        return None;
    }
    let because = format!(
        "on the driving host's clock the log of host {} begins before its generator was started, \
         or ends after that was seen to end, by {}: the hosts disagree about real time",
        log.host,
        units::duration(log.clock_wrong_ns)
    );
    let next =
        "Synchronize the hosts' clocks (chrony, NTP); durations of one host are not affected.";
    facts.finding("clock_offset", Severity::Suspect, because, next)
}

/// Generator and servers compete for one host's cores, with each other or with other programs.
pub fn host_cpu(facts: &StageFacts) -> Option<Finding> {
    let busy = facts.host_busy_share.filter(|busy| *busy >= HOST_BUSY && facts.shared_host)?;
    let own = facts.own_cpu_share;
    let whose = own.map_or(String::new(), |own| {
        format!(", {:.0} % of that by servers and generator", own * 100.0)
    });
    let because = format!(
        "the host's cores were {:.0} % busy{whose}: the latency contains waiting for a core",
        busy * 100.0
    );
    let next = match own {
        Some(own) if own < 0.7 => "Stop the other programs on this host.",
        _ => "Run the generator on a host of its own, or lower the rate.",
    };
    facts.finding("host_cpu", Severity::Suspect, because, next)
}

/// The hypervisor gave the CPU to others.
pub fn host_steal(facts: &StageFacts) -> Option<Finding> {
    let steal = facts.host_steal_share.filter(|steal| *steal >= STEAL_SHARE)?;
    let because =
        format!("the hypervisor took {:.1} % of the CPU time in the hold phase", steal * 100.0);
    let next = "Use a host without neighbours.";
    facts.finding("host_steal", Severity::Suspect, because, next)
}

/// The log is not whole.
pub fn log_damage(facts: &StageFacts, log: &LogResult) -> Option<Finding> {
    let mut parts = Vec::new();
    let mut say = |count: u64, what: &str| {
        if count > 0 {
            parts.push(format!("{} {what}", units::count(count)));
        }
    };
    say(log.missing_blocks, "blocks missing");
    say(log.bad_blocks, "blocks damaged");
    say(log.missing_requests.unwrap_or(0), "requests missing");
    say(log.torn_tail_bytes, "bytes of a torn block at its end");
    say(log.skipped_bytes, "bytes unreadable");
    if let Some(error) = &log.error {
        parts.push(error.clone());
    } else if !log.ended {
        parts.push("no End block: its generator was killed or its disk was full".to_owned());
    }
    if parts.is_empty() {
        return None;
    }
    let because = format!("{}: {}", log.path, parts.join(", "));
    let next = "The figures are of what is there; `reporter verify` lists what is missing.";
    facts.finding("log_damage", facts.falsified(), because, next)
}

#[cfg(test)]
mod tests;
