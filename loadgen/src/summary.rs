//! What is said about a run: the line a second, the final block, and the same as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use latlog::Outcome;
use serde_json::{Value, json};

use crate::mix::Mix;
use crate::observed::Observed;
use crate::plan::host::Host;
use crate::plan::{Plan, Target};
use crate::worker::sample::Sample;
use crate::worker::{Example, Handshakes, Latencies, StreamCounts, Tally, Window, latencies};

/// Everything that the final report says.
pub struct Summary<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The host.
    pub host: &'a Host,
    /// The counted part.
    pub hold: Range<u64>,
    /// What was counted in it.
    pub tally: &'a Tally,
    /// All TLS handshakes.
    pub handshakes: &'a Handshakes,
    /// What became of event streams, over the whole run.
    pub streams: &'a StreamCounts,
    /// The last sample.
    pub last: &'a Sample,
    /// Peaks.
    pub observed: &'a Observed,
    /// First examples of failures.
    pub examples: &'a [Example],
    /// All targets.
    pub targets: &'a [Target],
    /// Where the log is.
    pub log: Option<PathBuf>,
    /// What is wrong with it.
    pub log_error: Option<String>,
}

impl Summary<'_> {
    fn seconds(&self) -> f64 {
        let until = self.hold.end.max(self.tally.last_done_ns);
        let end = if self.hold.end == u64::MAX { self.tally.last_done_ns } else { until };
        end.saturating_sub(self.hold.start) as f64 / 1e9
    }

    fn per_second(&self, count: u64) -> f64 {
        let seconds = self.seconds();
        if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
    }

    /// Whether sessions were asked if they are alive.
    fn asked(&self) -> bool {
        self.plan.heartbeat_ns > 0
    }

    /// Streams lost, by reason.
    fn streams_lost(&self) -> impl Iterator<Item = (String, u64)> {
        let name = |outcome: Outcome| match outcome {
            Outcome::Ok => "ended by the server".to_owned(),
            other => other.to_string(),
        };
        self.streams.lost.iter().map(move |(reason, count)| (name(*reason), *count))
    }

    /// Rows on streams, and on what servers sent of their own accord.
    fn unasked_rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = Vec::new();
        if self.plan.limits.streams > 0 {
            let lost: Vec<_> = self.streams_lost().map(|(name, n)| format!("{n} {name}")).collect();
            rows.push((
                "Streams",
                format!(
                    "{} open at peak, {} opened, {} not offered (405); lost: {}",
                    self.observed.stream_open_peak,
                    self.streams.opened,
                    self.streams.not_offered,
                    if lost.is_empty() { "none".into() } else { lost.join(", ") },
                ),
            ));
        }
        let last = self.last;
        if last.notifications + last.server_requests + last.unsolicited + last.resumed > 0 {
            rows.push((
                "From servers",
                format!(
                    "{} notifications, {} requests ({} without an answer), {} responses that \
                     nobody waited for, {} answers resumed",
                    last.notifications,
                    last.server_requests,
                    last.server_requests_given_up,
                    last.unsolicited,
                    last.resumed,
                ),
            ));
        }
        rows
    }

    /// Errors by reason, with their code where they have one.
    fn errors(&self) -> BTreeMap<String, u64> {
        let mut errors: BTreeMap<String, u64> = BTreeMap::new();
        for ((outcome, detail), count) in &self.tally.errors {
            *errors.entry(reason(*outcome, *detail)).or_default() += count;
        }
        errors
    }

    /// The object that `--json` writes: one stage, with generator and host.
    pub fn to_json(&self) -> Value {
        let tally = self.tally;
        let offered = tally.sent + tally.dropped;
        let cpu = self.cpu_share();
        let limits = &self.plan.limits;
        json!({
            "name": "loadgen",
            "connections": {
                "planned": self.plan.connections,
                "sessions_planned": self.plan.sessions,
                "tcp_open_peak": self.observed.tcp_open_peak,
                "session_alive_peak": self.asked().then_some(self.observed.session_alive_peak),
                "stream_open_peak": self.observed.stream_open_peak,
            },
            "streams": {
                "opened": self.streams.opened,
                "not_offered": self.streams.not_offered,
                "lost": self.streams_lost().collect::<BTreeMap<_, _>>(),
            },
            "from_server": {
                "notifications": self.last.notifications,
                "requests": self.last.server_requests,
                "requests_given_up": self.last.server_requests_given_up,
                "unsolicited": self.last.unsolicited,
                "answers_resumed": self.last.resumed,
            },
            "requests": {
                "offered": offered,
                "sent": tally.sent,
                "ok": tally.ok,
                "failed": tally.sent - tally.ok,
                "dropped": tally.dropped,
                "in_flight_per_session": self.plan.in_flight,
            },
            "response_ns": percentiles(&tally.response),
            "service_ns": percentiles(&tally.service),
            "slip_ns": percentiles(&tally.slip),
            "throughput_per_s": self.per_second(tally.ok),
            "errors": self.errors(),
            "tls": self.tls_json(),
            "model": if self.plan.closed { "closed" } else { "open" },
            "examples": self.examples.iter().map(|e| example_json(e, self.targets, &self.plan.work.mix))
                .collect::<Vec<_>>(),
            "generator": {
                "cpu_share": cpu,
                "worker_cpu_shares": self.observed.hold().map(|hold| hold.worker_cpu_shares),
                "rss_bytes_max": self.observed.rss_bytes_max,
                "engine": self.plan.engine.engine.name(),
                "workers": self.plan.workers,
                "reap_lag_ns_max": self.observed.most.reap_lag_ns_max,
                "turn_ns_max": self.observed.most.turn_ns_max,
                "debt_ns_max": self.observed.most.debt_ns_max,
                "reaped_max": self.observed.most.reaped_max,
                "recv_buffers": [self.observed.most.recv_buffers_used_max, u64::from(limits.recv_buffers)],
                "send_buffers": [self.observed.most.send_buffers_used_max, u64::from(limits.send_buffers)],
                "enobufs": self.last.enobufs,
                "cq_overflow": self.last.cq_overflow,
                "send_buffer_waits": self.last.send_buffer_waits,
                "log_lost_records": self.last.log_lost_records,
                "log_error": self.log_error,
            },
            "host": {
                "name": self.host.name,
                "kernel": self.host.kernel,
                "cores": self.host.cores.len(),
                "descriptors": self.host.descriptors,
            },
        })
    }

    /// CPU of this process in the counted part, as a share of its cores.
    fn cpu_share(&self) -> Option<f64> {
        self.observed.hold().map(|hold| hold.cpu_share / self.host.cores.len() as f64)
    }

    /// What the generator says about itself: how near it came to limits of its own.
    fn own_row(&self) -> String {
        let (most, limits) = (&self.observed.most, &self.plan.limits);
        format!(
            "CPU {:.0} % of {} core(s), {:.0} % of one by the busiest worker, longest turn {}, reap \
             lag {}, schedule debt {}; at most {} completions at once, {} of {} receive and {} of {} \
             send buffers of a worker",
            self.cpu_share().unwrap_or(0.0) * 100.0,
            self.host.cores.len(),
            self.observed.hold().map_or(0.0, |hold| hold.busiest_worker()) * 100.0,
            ms(most.turn_ns_max),
            ms(most.reap_lag_ns_max),
            ms(most.debt_ns_max),
            most.reaped_max,
            most.recv_buffers_used_max,
            limits.recv_buffers,
            most.send_buffers_used_max,
            limits.send_buffers,
        )
    }

    fn speaks_tls(&self) -> bool {
        self.targets.iter().any(|t| t.url.scheme.tls)
    }

    fn target_name(&self, index: u16) -> Option<String> {
        self.targets.get(usize::from(index)).map(Target::name)
    }

    /// The TLS handshakes of the whole run; nothing where no target speaks TLS.
    fn tls_json(&self) -> Option<Value> {
        let options = &self.plan.work.transport.options;
        self.speaks_tls().then(|| {
            json!({
                "handshakes": {
                    "full": self.last.tls_full,
                    "resumed": self.last.tls_resumed,
                    "failed": self.last.tls_failed,
                },
                "handshake_ns": self.handshakes.times().map(percentiles),
                "targets": self.handshakes.targets().map(|(index, of_target)| json!({
                    "target": self.target_name(index),
                    "full": of_target.full,
                    "resumed": of_target.resumed,
                    "failed": of_target.failed,
                    "handshake_ns": percentiles(&of_target.times),
                })).collect::<Vec<_>>(),
                "insecure": options.insecure,
                "terms": self.targets.iter().map(|t| &t.terms).collect::<Vec<_>>(),
            })
        })
    }

    fn tls_rows(&self, row: &mut impl FnMut(&str, String)) {
        if !self.speaks_tls() {
            return;
        }
        let words = |[full, resumed, failed]: [u64; 3], times: Option<&Latencies>| {
            let times = times.filter(|h| !h.is_empty()).map_or(String::new(), |h| {
                let (p50, p99) = (h.value_at_quantile(0.5), h.value_at_quantile(0.99));
                format!("; p50 {}, p99 {}, max {}", ms(p50), ms(p99), ms(h.max()))
            });
            format!("{full} full handshakes, {resumed} resumed, {failed} failed{times}")
        };
        let Sample { tls_full, tls_resumed, tls_failed, .. } = *self.last;
        row("TLS", words([tls_full, tls_resumed, tls_failed], self.handshakes.times()));
        if self.handshakes.targets().count() > 1 {
            for (index, of) in self.handshakes.targets() {
                let words = words([of.full, of.resumed, of.failed], Some(&of.times));
                row("TLS", format!("{}: {words}", self.target_name(index).unwrap_or_default()));
            }
        }
        if self.plan.work.transport.options.insecure {
            row("TLS", "INSECURE: any certificate was believed (--insecure)".into());
        }
    }

    /// The final block.
    pub fn text(&self) -> String {
        let tally = self.tally;
        let offered = tally.sent + tally.dropped;
        let share = if offered > 0 { 100.0 * tally.ok as f64 / offered as f64 } else { 0.0 };
        let h = &tally.response;
        let mut out = String::from("\n=== FINAL TEST REPORT ===\n");
        let mut row = |name: &str, value: String| {
            let _ = writeln!(out, "{name:<13}{value}");
        };
        row("Duration", format!("{:.1} s counted", self.seconds()));
        row(
            "Connections",
            format!(
                "{} planned, {} open at peak, {}",
                match self.plan.sessions > self.plan.connections {
                    true =>
                        format!("{} for {} sessions", self.plan.connections, self.plan.sessions),
                    false => self.plan.connections.to_string(),
                },
                self.observed.tcp_open_peak,
                match self.asked() {
                    true => format!("{} sessions alive at peak", self.observed.session_alive_peak),
                    false => "sessions not asked if they are alive".into(),
                }
            ),
        );
        for (name, value) in self.unasked_rows() {
            row(name, value);
        }
        row(
            "Requests",
            format!(
                "{offered} offered = {} sent + {} dropped; {} ok, {} failed{}",
                tally.sent,
                tally.dropped,
                tally.ok,
                tally.sent - tally.ok,
                match self.plan.in_flight {
                    1 => String::new(),
                    several => format!("; up to {several} in flight on a session"),
                }
            ),
        );
        row("Success", format!("{share:.3} %"));
        let at = |q| ms(h.value_at_quantile(q));
        if h.is_empty() {
            row("Response", "no request was answered".into());
        } else {
            row(
                "Response",
                format!(
                    "min {}, p50 {}, p95 {}, p99 {}, avg {}, max {}",
                    ms(h.min()),
                    at(0.5),
                    at(0.95),
                    at(0.99),
                    ms(h.mean() as u64),
                    ms(h.max())
                ),
            );
            let (service, slip) = (&tally.service, &tally.slip);
            row("Service p99", ms(service.value_at_quantile(0.99)));
            row("Slip p99", ms(slip.value_at_quantile(0.99)));
        }
        let bytes = self.observed.hold().map_or(0.0, |hold| hold.bytes_per_s / 1e6);
        row("Throughput", format!("{:.1} req/s, {bytes:.2} MB/s", self.per_second(tally.ok)));
        self.tls_rows(&mut row);
        row("Generator", self.own_row());
        if self.plan.closed {
            row(
                "Model",
                "closed loop: waiting that slow answers impose is not in these times".into(),
            );
        }
        let errors = self.errors();
        if errors.is_empty() {
            row("Errors", "none".into());
        }
        for (name, count) in &errors {
            row("Errors", format!("{count} {name}"));
        }
        for example in self.examples {
            row("Example", describe_example(example, self.targets, &self.plan.work.mix));
        }
        if let Some(path) = &self.log {
            row("Log", path.display().to_string());
        }
        if let Some(cause) = &self.log_error {
            row("Log", format!("INCOMPLETE: {cause}"));
        }
        out.trim_end().to_owned()
    }
}

/// A reason with its code: `rpc_error:-32603`, `http_status:500`, `violation:wrong id`.
pub fn reason(outcome: Outcome, detail: i32) -> String {
    match (outcome, detail) {
        (Outcome::Violation, n) => match violation(n) {
            Some(text) => format!("{outcome}:{text}"),
            None => outcome.to_string(),
        },
        (Outcome::Tls, n) => match crate::layer::describe(n) {
            Some(text) => format!("{outcome}:{text}"),
            None => outcome.to_string(),
        },
        (Outcome::Eof, n) if n > 0 => format!("{outcome}:WebSocket close {n}"),
        (Outcome::HttpStatus | Outcome::RpcError | Outcome::Other, n) => format!("{outcome}:{n}"),
        _ => outcome.to_string(),
    }
}

fn violation(number: i32) -> Option<&'static str> {
    wire::Violation::ALL.iter().find(|v| **v as i32 == number).map(|v| v.describe())
}

fn percentiles(h: &Latencies) -> Value {
    if h.is_empty() {
        return Value::Null;
    }
    let at = |q| h.value_at_quantile(q);
    json!({
        "count": h.len(), "min": h.min(), "mean": h.mean().round() as u64, "p50": at(0.5),
        "p90": at(0.9), "p95": at(0.95), "p99": at(0.99), "p999": at(0.999), "max": h.max(),
    })
}

/// All workers' responses of the last second.
pub fn merge_intervals(windows: &[Arc<Window>]) -> Latencies {
    let mut all = latencies();
    for window in windows {
        if let Ok(interval) = window.interval.lock()
            && let Some(interval) = interval.as_ref()
        {
            let _ = all.add(interval);
        }
    }
    all
}

/// The progress line.
pub fn line(elapsed_s: u64, plan: &Plan, sum: &Sample, interval: &Latencies) -> String {
    let handshakes = match (sum.tls_full + sum.tls_resumed, sum.tls_failed) {
        (0, 0) => String::new(),
        (done, 0) => format!(" | TLS: {done}"),
        (done, failed) => format!(" | TLS: {done}, {failed} failed"),
    };
    let streams = match plan.limits.streams {
        0 => String::new(),
        _ => format!(" | Streams: {}", sum.stream_open),
    };
    format!(
        "[{elapsed_s:>3}s] Connections: {} | Sessions: {}{streams} | Sent: {} | Success: {} | \
         Failed: {} | Avg Latency: {}{handshakes}",
        sum.tcp_open,
        match plan.heartbeat_ns {
            0 => format!("{} (not asked)", sum.session_established),
            _ => sum.session_alive.to_string(),
        },
        sum.sent,
        sum.ok,
        sum.failed + sum.dropped,
        if interval.is_empty() { "-".into() } else { ms(interval.mean() as u64) },
    )
}

/// The status object for a driving program.
pub fn status(reading: &live::Reading) -> Value {
    let mut status = json!(reading);
    status["type"] = json!("status");
    status
}

/// The earliest example of each kind.
pub fn first_of_each(mut examples: Vec<Example>) -> Vec<Example> {
    examples.sort_by_key(|e| e.at_ns);
    let mut kept: Vec<Example> = Vec::new();
    for example in examples {
        if !kept.iter().any(|k| k.outcome == example.outcome && k.detail == example.detail) {
            kept.push(example);
        }
    }
    kept
}

/// Hides what a server has repeated of the secrets that it was sent.
pub fn hide_secrets(examples: &mut [Example], secrets: &[String]) {
    const INSTEAD: &[u8] = b"[hidden]";
    for example in examples {
        for secret in secrets {
            example.text = example.text.replace(secret.as_str(), "[hidden]");
            let (secret, mut from) = (secret.as_bytes(), 0);
            let next = |bytes: &[u8]| bytes.windows(secret.len()).position(|w| w == secret);
            while let Some(at) = example.bytes.get(from..).and_then(next) {
                let at = from + at;
                example.bytes.splice(at..at + secret.len(), INSTEAD.iter().copied());
                from = at + INSTEAD.len();
            }
            // What is kept may end in the middle of one.
            let cut = (8..secret.len()).rev().find(|len| example.bytes.ends_with(&secret[..*len]));
            if let Some(len) = cut {
                example.bytes.truncate(example.bytes.len() - len);
            }
        }
    }
}

/// An example in one line.
pub fn describe_example(example: &Example, targets: &[Target], mix: &Mix) -> String {
    let target = targets.get(usize::from(example.target));
    let url = target.map_or_else(|| "?".into(), Target::name);
    let why = match example.outcome {
        Outcome::Refused
        | Outcome::Reset
        | Outcome::NoAddress
        | Outcome::Unreachable
        | Outcome::ConnectTimeout
        | Outcome::Other
            if example.detail > 0 =>
        {
            format!("{} ({})", example.outcome, std::io::Error::from_raw_os_error(example.detail))
        }
        _ => reason(example.outcome, example.detail),
    };
    let more = if example.text.is_empty() { "" } else { " - " };
    format!("{} at {url}: {why}{more}{}", example.op.name(mix), example.text)
}

/// An example for the log and the JSON.
pub fn example_json(example: &Example, targets: &[Target], mix: &Mix) -> Value {
    let target = targets.get(usize::from(example.target));
    json!({
        "at_ns": example.at_ns,
        "target": target.map(Target::name),
        "op": example.op.name(mix),
        "reason": reason(example.outcome, example.detail),
        "detail": example.detail,
        "text": (!example.text.is_empty()).then_some(&example.text),
        "bytes": String::from_utf8_lossy(&example.bytes),
    })
}

/// A time in milliseconds, with more digits the shorter it is.
fn ms(ns: u64) -> String {
    let ms = ns as f64 / 1e6;
    match ms {
        _ if ms < 1.0 => format!("{ms:.3}ms"),
        _ if ms < 10.0 => format!("{ms:.2}ms"),
        _ if ms < 100.0 => format!("{ms:.1}ms"),
        _ => format!("{ms:.0}ms"),
    }
}
