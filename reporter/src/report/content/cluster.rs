//! The replicas, the balancer and the generator: shares and processes.

use serde_json::Value;

use super::{Context, count, section};
use crate::analysis::failover::names_of;
use crate::analysis::replicas::certain_growth;
use crate::analysis::service_log::{Excerpt, place};
use crate::report::document::{Block, Cell, Mood, Section, Table};
use crate::report::units;
use crate::results::{GeneratorResult, ReplicaResult};
use crate::run::record::EventRecordKind;
use crate::verdict::growth::{self, Growth};
use crate::verdict::threshold::Threshold;

pub(super) fn targets(context: &Context<'_>) -> Option<Section> {
    let top = context.top()?;
    if top.targets.is_empty() {
        return None;
    }
    let mut blocks: Vec<Block> = context.chart("targets").into_iter().collect();
    let mut table = Table::new(&[
        "<Target",
        "Sent",
        "Answered",
        "Failed",
        "Sessions",
        "Connects",
        "Losses",
        "Service p50",
        "p99",
        "Response p99",
    ]);
    table.sortable = true;
    let urls: Vec<&str> = top.targets.iter().map(|target| target.url.as_str()).collect();
    for (target, name) in top.targets.iter().zip(names_of(&urls)) {
        let count = |n: u64| Cell::figure(units::count(n), n as f64);
        let time = |ns: Option<u64>| Cell::maybe(ns.map(|ns| ns as f64), units::duration_f64);
        let service = target.service_ns.as_ref();
        table.row(vec![
            Cell::text(if name.is_empty() { &target.url } else { name }),
            count(target.sent),
            count(target.ok),
            count(target.failed),
            count(target.sessions_peak),
            count(target.connects),
            count(target.losses),
            time(service.map(|service| service.p50)),
            time(service.and_then(|service| service.p99)),
            time(target.response_ns.as_ref().and_then(|response| response.p99)),
        ]);
    }
    blocks.push(Block::Table(table));
    section("targets", &format!("Share of each target in stage {}", top.name), false, blocks)
}

pub(super) fn processes(context: &Context<'_>) -> Option<Section> {
    let replicas: Vec<&ReplicaResult> =
        context.results.replicas.iter().filter(|replica| replica.rss_bytes_max.is_some()).collect();
    if replicas.is_empty() {
        return None;
    }
    let mut table = Table::new(&[
        "<Replica",
        "Cores",
        if context.results.counts_containers() { "Memory, most" } else { "RSS, most" },
        "start",
        "end",
        "Trend/h",
        "95 % interval",
        "<Growth",
        "Sessions, most",
        "Started",
    ]);
    table.sortable = true;
    let limit = growth::limit(&context.analysis.run.thresholds)?;
    for replica in &replicas {
        table.row(replica_row(replica, &limit));
    }
    let mut blocks = vec![Block::Table(table)];
    blocks.extend(a_session(context));
    blocks.push(Block::Text(how_memory_is_judged(context, &replicas)));
    blocks.extend(context.chart("memory"));
    blocks.extend(context.chart("cpu"));
    section("processes", "Memory and CPU of the replicas", true, blocks)
}

/// What all replicas together hold for a session.
fn a_session(context: &Context<'_>) -> Option<Block> {
    let bytes = crate::tools::compare::memory_per_session(context.results)?;
    let window = context.analysis.memory_window.as_ref()?;
    Some(Block::Text(format!(
        "At the end of the hold phase of stage {} all replicas together had {} {} a session held \
         there, what they have without sessions included.",
        window.stage,
        units::bytes(bytes),
        if context.results.counts_containers() { "of memory" } else { "resident" }
    )))
}

fn how_memory_is_judged(context: &Context<'_>, replicas: &[&ReplicaResult]) -> String {
    let mut reasons: Vec<&str> =
        replicas.iter().filter_map(|replica| replica.rss_because.as_deref()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    let untold = match reasons.as_slice() {
        [] => String::new(),
        reasons => format!(" Where there is no trend: {}.", reasons.join("; ")),
    };
    let window = match &context.analysis.memory_window {
        Some(window) => format!(
            "Memory is judged in the hold phase of stage {} ({}), in which {} sessions were \
             alive. The trend is the Theil-Sen slope of at most 60 medians of the window, its \
             interval from Kendall's distribution. The limit of rss_growth is met if the interval's \
             upper bound meets it, and missed if its lower bound misses it; less than 16 KiB over \
             the window counts as none.",
            window.stage,
            units::duration(window.span.length_ns()),
            match window.sessions {
                (low, high) if low == high => units::count(low),
                (low, high) => format!("{} to {}", units::count(low), units::count(high)),
            }
        ),
        None => "In no hold phase was the number of sessions constant.".to_owned(),
    };
    let what = match context.results.counts_containers() {
        true => {
            "Memory is that of each replica's container, by its control group: with what the kernel \
             holds for it, such as sockets, and without file pages that can be dropped at once."
        }
        false => {
            "RSS is what each replica's process and its children have resident; what the kernel \
             holds for their sockets is not in it."
        }
    };
    format!(
        "{what} {window}{untold} Cores is the median CPU use in the hold phase of the judged stage."
    )
}

fn replica_row(replica: &ReplicaResult, limit: &Threshold) -> Vec<Cell> {
    let bytes = |n: Option<u64>| Cell::maybe(n.map(|n| n as f64), units::bytes);
    let (trend, interval, growth) = match &replica.rss_slope {
        Some(slope) => (
            Cell::figure(format!("{:+.1} %", slope.percent_per_h), slope.percent_per_h),
            Cell::figure(
                format!("{:+.1} … {:+.1} %", slope.percent_per_h_low, slope.percent_per_h_high),
                slope.percent_per_h_low,
            ),
            match Growth::of(slope, limit) {
                Growth::Over => Cell::text("over the limit").mood(Mood::Bad),
                Growth::Within if certain_growth(slope) > 0.0 => Cell::text("within the limit"),
                Growth::Within => Cell::text("none").mood(Mood::Good),
                Growth::Unsure => Cell::text("cannot tell").mood(Mood::Doubt),
            },
        ),
        None => {
            let untold = Cell::text("cannot tell").mood(Mood::Doubt);
            (Cell::text("—"), Cell::text("—"), untold)
        }
    };
    vec![
        Cell::text(&replica.address),
        Cell::maybe(replica.cpu_cores, |cores| format!("{cores:.2}")),
        bytes(replica.rss_bytes_max),
        bytes(replica.rss_bytes_start),
        bytes(replica.rss_bytes_end),
        trend,
        interval,
        growth,
        Cell::figure(units::count(replica.sessions_peak), replica.sessions_peak as f64),
        Cell::figure(format!("{}×", replica.incarnations), f64::from(replica.incarnations)),
    ]
}

pub(super) fn balancer(context: &Context<'_>) -> Option<Section> {
    if context.results.balancer.is_empty() {
        return None;
    }
    let mut table = Table::new(&[
        "<Stage",
        "Connections, most",
        "accepts",
        "Descriptors, most",
        "may open",
        "Memory, most",
        "Cores",
        "<Limit reached",
    ]);
    for held in &context.results.balancer {
        let figure = |n: Option<u64>| Cell::maybe(n.map(|n| n as f64), |n| units::count(n as u64));
        let reached = match crate::analysis::balancer::full(held) {
            Some(reached) => Cell::text(reached).mood(Mood::Bad),
            None => Cell::text("none").mood(Mood::Good),
        };
        table.row(vec![
            Cell::text(&held.stage),
            figure(held.connections),
            figure(held.connections_max),
            count(held.fds),
            count(held.fds_max),
            Cell::figure(units::bytes(held.rss_bytes as f64), held.rss_bytes as f64),
            Cell::maybe(held.cpu_cores, |cores| format!("{cores:.2}")),
            reached,
        ]);
    }
    let text = "Connections are clients', by the balancer's own figures, sampled once a second. Each \
                takes a descriptor to the client and, while it has one to a replica, another.";
    let blocks = vec![Block::Table(table), Block::Text(text.to_owned())];
    section("balancer", "The balancer", true, blocks)
}

/// The load of each generator host, where there are several.
fn hosts(generator: &GeneratorResult) -> Vec<Block> {
    let mut table = Table::new(&["<Host", "Workers", "CPU of the busiest", "CPU in cores", "Sent"]);
    let mut names: Vec<&str> = generator.per_worker.iter().map(|it| it.host.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if names.len() < 2 {
        return Vec::new();
    }
    for name in names {
        let own = || generator.per_worker.iter().filter(|worker| worker.host == name);
        let shares = || own().filter_map(|worker| worker.cpu_share);
        table.row(vec![
            Cell::text(name),
            count(own().count() as u64),
            Cell::maybe(shares().reduce(f64::max), |share| format!("{:.0} %", share * 100.0)),
            Cell::maybe(shares().reduce(|a, b| a + b), |cores| format!("{cores:.2}")),
            count(own().map(|worker| worker.sent).sum()),
        ]);
    }
    vec![Block::Table(table)]
}

pub(super) fn generator(context: &Context<'_>) -> Option<Section> {
    let top = context.top()?;
    let generator = &top.generator;
    if generator.per_worker.is_empty() {
        return None;
    }
    let mut table = Table::new(&[
        "Worker",
        "<Host",
        "CPU",
        "Asleep",
        "Sent",
        "Longest turn",
        "Reap lag, most",
        "Schedule debt",
        "No buffer",
        "Send waits",
        "Log records lost",
    ]);
    table.sortable = true;
    for worker in &generator.per_worker {
        let share =
            |share: Option<f64>| Cell::maybe(share, |share| format!("{:.0} %", share * 100.0));
        let time = |ns: Option<u64>| Cell::maybe(ns.map(|ns| ns as f64), units::duration_f64);
        table.row(vec![
            Cell::figure(worker.worker.to_string(), worker.worker as f64),
            Cell::text(&worker.host),
            share(worker.cpu_share),
            share(worker.wait_share),
            count(worker.sent),
            time(worker.turn_ns_max),
            time(worker.reap_lag_ns_max),
            time(worker.debt_ns_max),
            count(worker.enobufs),
            count(worker.send_buffer_waits),
            count(worker.log_lost_records),
        ]);
    }
    let mut blocks = hosts(generator);
    blocks.push(Block::Table(table));
    blocks.push(Block::Text(
        "Sent is by how much a worker's counter grew between its first and its last sample in the \
         hold phase, which is up to two seconds less than the phase, so that it differs from what \
         was due."
            .to_owned(),
    ));
    if let Some(rss) = context.results.generator.rss_bytes_max {
        blocks.push(Block::Text(format!(
            "The generator's process had {} resident at most in any stage.",
            units::bytes(rss as f64)
        )));
    }
    blocks.extend(context.chart("generator"));
    section("generator", &format!("The generator's own load in stage {}", top.name), false, blocks)
}

/// The generators of a run that several hosts drove: shares, engines, clocks.
pub(super) fn generators(context: &Context<'_>) -> Option<Section> {
    let said = context.analysis.run.cluster.as_ref()?["generators"].as_array()?;
    let mut table = Table::new(&[
        "<Generator",
        "<Host",
        "Connections",
        "Alive, most",
        "Requests/s",
        "Answered",
        "<Engine",
        "Clock offset",
        "±",
    ]);
    let mut notes = Vec::new();
    for one in said {
        let text = |name: &str| Cell::text(one[name].as_str().unwrap_or("—"));
        let number = |name: &str, show: fn(f64) -> String| Cell::maybe(one[name].as_f64(), show);
        let whole = |n: f64| units::count(n as u64);
        table.row(vec![
            text("name"),
            text("host"),
            number("connections", whole),
            number("session_alive_peak", whole),
            number("rate_per_s", units::rate),
            number("requests_ok", whole),
            text("engine"),
            number("clock_offset_ns", |ns| {
                let sign = if ns < 0.0 { "−" } else { "+" };
                format!("{sign}{}", units::duration_f64(ns.abs()))
            }),
            number("clock_error_ns", units::duration_f64),
        ]);
        if let (Some(host), Value::String(cause)) = (one["host"].as_str(), &one["engine_because"]) {
            notes.push(format!("{host} went on with epoll: {cause}"));
        }
    }
    let mut blocks = vec![Block::Table(table)];
    blocks.push(Block::Text(
        "All generators were told one time to begin at, and one to begin to count at, each in the \
         time of its own host's clock. Clock offset is that clock minus the driving host's, from \
         the quickest of several questions; half of the time that this one took is the error."
            .to_owned(),
    ));
    if !notes.is_empty() {
        blocks.push(Block::List(notes));
    }
    section("generators", "Generators", true, blocks)
}

/// What the stack's own Prometheus saw of it.
pub(super) fn scraped(context: &Context<'_>) -> Option<Section> {
    let blocks: Vec<Block> = context.chart("prometheus").into_iter().collect();
    section("prometheus", "What Prometheus saw", false, blocks)
}

/// What the replicas wrote around each event.
pub(super) fn excerpts(context: &Context<'_>) -> Option<Section> {
    let mut blocks = Vec::new();
    for excerpt in &context.analysis.excerpts {
        blocks.push(Block::Heading(heading(excerpt)));
        let mut text = String::new();
        for (since_s, task, line) in &excerpt.lines {
            text += &format!("{since_s:+.3} s  {}: {line}\n", place(task));
        }
        if excerpt.more > 0 {
            text += &format!("and {} more in logs/service.log\n", excerpt.more);
        }
        blocks.push(Block::Code(text.trim_end().to_owned()));
    }
    section("service-log", "What the replicas wrote around each event", false, blocks)
}

fn heading(excerpt: &Excerpt) -> String {
    let event = &excerpt.event;
    let what = match event.kind {
        EventRecordKind::Kill => format!("kill of {}", event.replica),
        EventRecordKind::NodeDrain => format!("drain of node {}", event.replica),
        EventRecordKind::NodeLoss => format!("loss of node {}", event.replica),
        EventRecordKind::UpdateCommand => "update".to_owned(),
        EventRecordKind::ScaleCommand => format!("scaling {} → {}", event.from, event.to),
        EventRecordKind::ReplicaStart
        | EventRecordKind::ReplicaHealthy
        | EventRecordKind::ReplicaExit
        | EventRecordKind::Recovered
        | EventRecordKind::ScaleConverged
        | EventRecordKind::Drain
        | EventRecordKind::Stop
        | EventRecordKind::SessionsConverged
        | EventRecordKind::Mark => event.text.clone(),
    };
    format!("{what} in {}", event.stage)
}
