//! What to look at next after a threshold was not met: chosen by what was measured, never a fixed
//! remark. Each function gives nothing if no measurement points anywhere.

use std::collections::BTreeMap;

use crate::analysis::replicas::certain_growth;
use crate::report::units;
use crate::results::{FailoverResult, Percentiles, Results, StageResult, ThresholdResult};
use crate::verdict::threshold::{Metric, Threshold};

/// Where the measurements point after `result` failed.
pub fn after_failure(
    threshold: &Threshold,
    result: &ThresholdResult,
    results: &Results,
) -> Option<String> {
    let stage = results.stages.iter().find(|stage| result.stage.as_ref() == Some(&stage.name));
    match threshold.metric {
        Metric::Success | Metric::Failed => reasons(&stage?.errors),
        Metric::Dropped => stage.and_then(dropped),
        Metric::Latency(..) => stage.and_then(|stage| latency(stage, results)),
        Metric::Throughput => stage.and_then(|stage| throughput(threshold.limit, stage, results)),
        Metric::Sessions => stage.and_then(sessions),
        Metric::Recovery | Metric::LostRequests => {
            let kill = results.failover.as_ref()?;
            recovery(kill).or_else(|| stage.and_then(sessions))
        }
        Metric::Converge => None,
        Metric::RssGrowth => growth(results),
    }
}

/// Which part of a recovery did not come to its end.
pub fn why_never(kill: &FailoverResult) -> String {
    let sessions_away = kill.sessions_lost - kill.sessions_reestablished;
    match (kill.replica_started_ns, kill.replica_healthy_ns, sessions_away) {
        (None, _, _) => format!("never: {} was not started again", kill.replica),
        (Some(started), None, _) => format!(
            "never: {} was started again after {} and was not healthy by the end of the stage",
            kill.replica,
            units::duration(started)
        ),
        (Some(_), Some(_), away) => format!(
            "never: {} of {} lost sessions were not alive again by the end of the stage",
            units::count(away),
            units::count(kill.sessions_lost)
        ),
    }
}

/// The most frequent reason, with its share and where it is decided.
fn reasons(errors: &BTreeMap<String, u64>) -> Option<String> {
    let total: u64 = errors.values().sum();
    let (reason, count) = errors.iter().max_by_key(|(_, count)| **count)?;
    Some(format!(
        "{} of {} failures are `{reason}`: {}",
        units::count(*count),
        units::count(total),
        meaning(reason)
    ))
}

/// Where a reason is decided; for the reader who has not met it.
pub fn meaning(reason: &str) -> &'static str {
    match reason {
        "refused" => "nothing listened on the port; see whether the replica ran at that time",
        "reset" => "the peer closed hard; see the replica's exit and its log at that time",
        "eof" => "the peer closed before the answer; see its idle and keep-alive limits",
        "timeout" => "no answer within the timeout; see the replica's CPU and its queue",
        "connect_timeout" => "SYN unanswered; see listen overflows, somaxconn and SYN retransmits",
        "http_status" => "an HTTP error; the example shows the status",
        "session_gone" => "the replica did not know the session (404); see restarts and stickiness",
        "session_limit" => "the server took no more sessions (503); see its session limit",
        "rpc_error" => "a JSON-RPC error; the example shows its code",
        "tool_error" => "the tool reported an error; the example shows its text",
        "violation" => "the answer broke the protocol; the example shows it",
        "unanswered" => "sent, and no answer by the end; see the replica's queue",
        "dropped" => "due and never sent: no session was free, or the generator was behind",
        "no_address" => "no free source address and port; see the source addresses of the plan",
        "tls" => "the TLS handshake or records failed",
        "unreachable" => "no route to the target",
        _ => "the example shows the errno",
    }
}

fn dropped(stage: &StageResult) -> Option<String> {
    let share = stage.generator.cpu_share?;
    let lost: u64 = stage.losses.values().sum();
    Some(if share >= 0.9 {
        format!("the busiest worker used {:.0} % of its core: add workers or hosts", share * 100.0)
    } else {
        format!(
            "the busiest worker used {:.0} % of its core and {} connections were lost: see the \
             sessions' losses",
            share * 100.0,
            units::count(lost)
        )
    })
}

fn latency(stage: &StageResult, results: &Results) -> Option<String> {
    let p99 = |of: &Option<Percentiles>| of.as_ref()?.p99;
    let (response, service, slip) =
        (p99(&stage.response_ns)?, p99(&stage.service_ns)?, p99(&stage.slip_ns)?);
    if slip * 2 > response {
        return Some(format!(
            "slip p99 is {} of {}: requests left the generator late; see its CPU and queues first",
            units::duration(slip),
            units::duration(response)
        ));
    }
    let mut by_target: Vec<_> = stage
        .targets
        .iter()
        .filter_map(|target| Some((p99(&target.service_ns)?, target.url.as_str())))
        .collect();
    by_target.sort();
    if let (Some(slowest), Some(middle)) = (by_target.last(), by_target.get(by_target.len() / 2))
        && by_target.len() > 2
        && slowest.0 > 2 * middle.0
    {
        return Some(format!(
            "{} has service p99 {} and the median target {}: see that replica",
            slowest.1,
            units::duration(slowest.0),
            units::duration(middle.0)
        ));
    }
    let cpu = busiest_replica(results).map_or(String::new(), |(address, cores)| {
        format!("; the busiest replica, {address}, used {cores:.2} cores")
    });
    let busy = results
        .findings
        .iter()
        .find(|finding| finding.rule == "host_cpu" && finding.stage.as_ref() == Some(&stage.name))
        .map_or(String::new(), |finding| format!("; {}", finding.because));
    Some(format!(
        "service p99 is {} of response p99 {}: the time passes after sending{cpu}{busy}",
        units::duration(service),
        units::duration(response)
    ))
}

fn busiest_replica(results: &Results) -> Option<(&str, f64)> {
    results
        .replicas
        .iter()
        .filter_map(|replica| Some((replica.address.as_str(), replica.cpu_cores?)))
        .max_by(|a, b| a.1.total_cmp(&b.1))
}

fn throughput(limit: f64, stage: &StageResult, results: &Results) -> Option<String> {
    let offered = stage.offered_per_s?;
    if offered <= limit {
        return Some(format!(
            "the plan offered {}/s in stage {}: it never asked for more; raise the rate",
            units::rate(offered),
            stage.name
        ));
    }
    reasons(&stage.errors).or_else(|| latency(stage, results))
}

fn sessions(stage: &StageResult) -> Option<String> {
    let mut why = stage.connect_failures.clone();
    stage
        .losses
        .iter()
        .for_each(|(reason, count)| *why.entry(reason.clone()).or_default() += count);
    why.remove("stopped");
    reasons(&why).or_else(|| {
        let alive = stage.connections.session_alive_min?;
        let open = stage.connections.tcp_open_peak?;
        Some(format!(
            "no connection failed; {} TCP connections were open and {} sessions answered their \
             heartbeat at the lowest point: see the heartbeat interval and the servers' CPU",
            units::count(open),
            units::count(alive)
        ))
    })
}

fn recovery(kill: &FailoverResult) -> Option<String> {
    let (started, healthy) = (kill.replica_started_ns?, kill.replica_healthy_ns?);
    let sessions = match kill.sessions_lost {
        0 => 0,
        _ => kill.sessions_recovered_ns?,
    };
    Some(if sessions > healthy {
        format!(
            "the replica was healthy after {} and the last session back after {}: see the \
             reconnect back-off and the session start rate",
            units::duration(healthy),
            units::duration(sessions)
        )
    } else {
        format!(
            "the replica was started again after {} and needed {} to be healthy: the longer of \
             both is where the time went",
            units::duration(started),
            units::duration(healthy.saturating_sub(started))
        )
    })
}

fn growth(results: &Results) -> Option<String> {
    let growing = results
        .replicas
        .iter()
        .filter_map(|replica| Some((replica, replica.rss_slope.as_ref()?)))
        .filter(|(_, slope)| certain_growth(slope) > 0.0)
        .max_by(|a, b| a.1.bytes_per_h_low.total_cmp(&b.1.bytes_per_h_low))?;
    let (replica, slope) = growing;
    let per_session = replica.sessions_peak.max(1) as f64;
    Some(format!(
        "{} grew by {}/h ({} a session) with {} sessions held: see what it keeps for each request",
        replica.address,
        units::bytes(slope.bytes_per_h),
        units::bytes(slope.bytes_per_h / per_session),
        units::count(replica.sessions_peak)
    ))
}
