//! Was the generator the bottleneck? Its marks of its own work, and what each says of the figures:
//! docs/validity.md has them in a table.
//!
//! A request that is sent late was late for one of two reasons, and slip alone does not tell which: the
//! generator was busy or had no core, or none of its sessions was free because the server held all of
//! them. The first is no figure of the server's; the second is. A worker that had a core to spare, read
//! what came at once, and owed the schedule as much as slip says, waited for the server.

use super::{Finding, HOST_BUSY, Severity, StageFacts};
use crate::report::units;

/// Busiest worker's CPU share from which it has no reserve.
pub const CPU_CEILING: f64 = 0.95;
/// Share of the response p99 from which slip p99 is comparable to it.
pub const SLIP_COMPARABLE: f64 = 0.5;
/// Share of offered requests that may be dropped before a stage's figures are doubtful.
pub const DROPS_SUSPECT: f64 = 0.001;
/// The same before they are not to be believed.
pub const DROPS_INVALID: f64 = 0.01;
/// Share of completions or requests that may meet a limit of the generator's own: find no buffer, wait
/// for one, not fit the queue.
pub const LIMIT_SHARE: f64 = 0.01;
/// Fewer of them than this are no storm.
pub const LIMIT_MIN: u64 = 100;

impl StageFacts {
    /// No worker was held up by its own work or by others on its core.
    fn in_time(&self) -> bool {
        let short = |ns: Option<u64>| ns.is_some_and(|ns| (ns as f64) < self.material_ns());
        self.worker_cpu_share.is_some_and(|share| share < CPU_CEILING)
            && self.host_busy_share.is_some_and(|busy| busy < HOST_BUSY)
            && short(self.reap_lag_ns_max)
            && short(self.turn_ns_max)
    }

    /// How long requests waited for a free session, if that is what made them late by `late_ns`.
    fn waited_for_sessions(&self, late_ns: u64) -> Option<u64> {
        self.debt_ns_max.filter(|debt| *debt >= late_ns && self.in_time())
    }

    /// Slip and response p99, if slip is a good part of it and matters.
    fn late(&self) -> Option<(u64, u64)> {
        let (slip, response) = (self.slip_p99_ns?, self.response_p99_ns?);
        let comparable = slip as f64 >= response as f64 * SLIP_COMPARABLE;
        (comparable && slip as f64 >= self.material_ns()).then_some((slip, response))
    }

    fn slip_is_material(&self) -> bool {
        self.slip_p99_ns.is_some_and(|slip| slip as f64 >= self.material_ns())
    }
}

/// Most of the latency is the generator's own delay.
pub fn slip(facts: &StageFacts) -> Option<Finding> {
    let (slip, response) = (facts.slip_p99_ns?, facts.response_p99_ns?);
    if (slip as f64) < response as f64 * SLIP_COMPARABLE {
        return None;
    }
    let material = facts.late().is_some();
    if material && facts.waited_for_sessions(slip).is_some() {
        return None;
    }
    // Without the servers' part the comparison says nothing below a clock tick or so.
    if !material && slip < 1_000_000 {
        return None;
    }
    let severity = if material { facts.falsified() } else { Severity::Note };
    let because = format!(
        "slip p99 {} beside response p99 {}: {}",
        units::duration(slip),
        units::duration(response),
        if material {
            "requests left the generator late, and the latency is partly its own"
        } else {
            "comparable, and small against the limit"
        }
    );
    let next = "Compare slip and service; give the generator more cores or a host of its own.";
    facts.finding("slip", severity, because, next)
}

/// Most of the latency is waiting for a session that is free: the server held them all.
pub fn sessions_busy(facts: &StageFacts) -> Option<Finding> {
    let (slip, response) = facts.late()?;
    let debt = facts.waited_for_sessions(slip)?;
    let because = format!(
        "slip p99 {} beside response p99 {}: requests waited for a free session, up to {}, while \
         the generator had time to spare; the latency is what so few sessions with so slow answers \
         give",
        units::duration(slip),
        units::duration(response),
        units::duration(debt)
    );
    let next = "Compare rate x service time with the connections; more connections, or less rate.";
    facts.finding("sessions_busy", Severity::Suspect, because, next)
}

/// A worker has no CPU left.
pub fn generator_cpu(facts: &StageFacts) -> Option<Finding> {
    let share = facts.worker_cpu_share.filter(|share| *share >= CPU_CEILING)?;
    let slip = facts.slip_p99_ns.unwrap_or(0);
    let severity = if facts.slip_is_material() { facts.falsified() } else { Severity::Note };
    let because = format!(
        "the busiest worker used {:.0} % of its core, with slip p99 {}",
        share * 100.0,
        units::duration(slip)
    );
    let next = "Add workers (--workers), cores, or a second generator host.";
    facts.finding("generator_cpu", severity, because, next)
}

/// A worker was at one turn of its loop for long: it sent and read nothing meanwhile.
pub fn turn(facts: &StageFacts) -> Option<Finding> {
    let turn = facts.turn_ns_max.filter(|turn| *turn as f64 >= facts.material_ns())?;
    let late = facts.slip_is_material();
    let severity = if late { Severity::Suspect } else { Severity::Note };
    let because = format!(
        "a worker's longest turn took {}: what was due meanwhile left late{}",
        units::duration(turn),
        if late { ", and slip p99 shows it" } else { ", and slip p99 does not show it" }
    );
    let next = "See what else ran on the workers' cores; give each worker a core of its own.";
    facts.finding("turn", severity, because, next)
}

/// Completions waited before they were seen: service times contain it.
pub fn reap_lag(facts: &StageFacts) -> Option<Finding> {
    let lag = facts.reap_lag_ns_max.filter(|lag| *lag as f64 >= facts.material_ns())?;
    let because = format!(
        "a completion waited {} for its worker; that time counts as the server's",
        units::duration(lag)
    );
    let next = "See the workers' longest turn and what else ran on their cores.";
    facts.finding("reap_lag", Severity::Suspect, because, next)
}

/// The generator did not send what was due.
pub fn drops(facts: &StageFacts) -> Option<Finding> {
    if facts.dropped == 0 || facts.disturbed {
        return None;
    }
    let share = facts.dropped as f64 / facts.offered.max(1) as f64;
    let busy = facts.waited_for_sessions(facts.material_ns() as u64).is_some();
    let severity = if share >= DROPS_INVALID {
        if busy { Severity::Suspect } else { facts.falsified() }
    } else if share >= DROPS_SUSPECT {
        Severity::Suspect
    } else {
        Severity::Note
    };
    let because = format!(
        "{} of {} due requests were never sent ({}){}; they count as not answered",
        units::count(facts.dropped),
        units::count(facts.offered),
        units::share(share),
        if busy { ": no session was free, and the generator had time to spare" } else { "" }
    );
    let next = "See whether sessions were missing or the generator was behind (slip, worker CPU).";
    facts.finding("drops", severity, because, next)
}

/// Receives found no buffer again and again.
pub fn buffers(facts: &StageFacts) -> Option<Finding> {
    let met = (facts.enobufs, facts.completions);
    let next = "More receive buffers a worker, or more workers.";
    limit(facts, "enobufs", met, "completions found no receive buffer", next)
}

/// Requests waited for a send buffer again and again.
pub fn send_buffers(facts: &StageFacts) -> Option<Finding> {
    let met = (facts.send_buffer_waits, facts.sent);
    let next = "More workers: each has its own send buffers; or targets that read faster.";
    limit(facts, "send_buffers", met, "requests waited for a send buffer of the generator", next)
}

/// Completions did not fit their queue again and again: a worker read them later than they came.
pub fn completion_queue(facts: &StageFacts) -> Option<Finding> {
    let met = (facts.cq_overflow, facts.completions);
    let next = "More workers, or a core of its own for each.";
    limit(facts, "cq_overflow", met, "completions did not fit the generator's queue", next)
}

/// A limit of the generator's own that was met `met.0` times of `met.1`.
fn limit(
    facts: &StageFacts,
    rule: &str,
    met: (u64, u64),
    what: &str,
    next: &str,
) -> Option<Finding> {
    let share = met.0 as f64 / met.1.max(1) as f64;
    if met.0 < LIMIT_MIN || share < LIMIT_SHARE {
        return None;
    }
    let (times, of) = (units::count(met.0), units::count(met.1));
    let because = format!("{times} of {of} {what} ({})", units::share(share));
    facts.finding(rule, Severity::Suspect, because, next)
}

/// Workers could not hand their records to the log.
pub fn log_lost(facts: &StageFacts) -> Option<Finding> {
    if facts.log_lost_records == 0 {
        return None;
    }
    let because = format!(
        "{} records did not reach the log, so the counts are too small",
        units::count(facts.log_lost_records)
    );
    let next = "See the disk's write rate and its free space.";
    facts.finding("log_lost", facts.falsified(), because, next)
}
