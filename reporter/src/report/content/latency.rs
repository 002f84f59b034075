//! The measurements of the stages: rates, latencies, errors, connections.

use serde_json::Value;

use super::{Context, section};
use crate::report::document::{Block, Cell, Mood, Section, Table};
use crate::report::units;
use crate::results::{Percentiles, StageResult};
use crate::verdict::next::meaning;

pub(super) fn stages(context: &Context<'_>) -> Option<Section> {
    let mut table = Table::new(&[
        "<Stage", "Hold", "Offered", "Achieved", "Due", "Answered", "Failed", "Dropped", "Success",
        "p50", "p95", "p99",
    ]);
    for stage in &context.results.stages {
        table.row(stage_row(stage));
    }
    let mut blocks = vec![Block::Table(table)];
    let closed: Vec<&str> = context
        .results
        .stages
        .iter()
        .filter(|stage| stage.model.as_deref() == Some("closed"))
        .map(|stage| stage.name.as_str())
        .collect();
    if !closed.is_empty() {
        blocks.push(Block::Text(format!(
            "Closed loop in {}: a request waits for the one before, so a slow server is asked less \
             and the latency of those who would have waited is not in the figures.",
            closed.join(", ")
        )));
    }
    section("stages", "Stages: offered and achieved", true, blocks)
}

fn stage_row(stage: &StageResult) -> Vec<Cell> {
    let requests = &stage.requests;
    let count = |n: u64| Cell::figure(units::count(n), n as f64);
    let rate = |rate: Option<f64>| Cell::maybe(rate, |rate| format!("{}/s", units::rate(rate)));
    let time = |ns: Option<u64>| Cell::maybe(ns.map(|ns| ns as f64), units::duration_f64);
    let bad = |cell: Cell, is: bool| if is { cell.mood(Mood::Doubt) } else { cell };
    let ran = stage.hold_ns.is_some();
    let or_dash = |cell: Cell| if ran { cell } else { Cell::text("—") };
    vec![
        Cell::text(&stage.name),
        time(stage.hold_ns),
        rate(stage.offered_per_s),
        rate(stage.throughput_per_s),
        or_dash(count(requests.offered)),
        or_dash(count(requests.ok)),
        or_dash(bad(count(requests.failed), requests.failed > 0)),
        or_dash(bad(count(requests.dropped), requests.dropped > 0)),
        Cell::maybe(requests.success_share, units::share),
        time(stage.response_ns.as_ref().map(|response| response.p50)),
        time(stage.response_ns.as_ref().and_then(|response| response.p95)),
        time(stage.response_ns.as_ref().and_then(|response| response.p99)),
    ]
}

pub(super) fn latency(context: &Context<'_>) -> Option<Section> {
    let mut table = Table::new(&[
        "<Stage", "<Latency", "Samples", "min", "mean", "p50", "p90", "p95", "p99", "p99.9",
        "p99.99", "max",
    ]);
    for stage in &context.results.stages {
        let mut stage_name = stage.name.as_str();
        for (name, of) in [
            ("response", &stage.response_ns),
            ("service", &stage.service_ns),
            ("slip", &stage.slip_ns),
            ("failures", &stage.failure_ns),
        ] {
            if let Some(of) = of {
                table.row(percentile_row(stage_name, name, of));
                // Once for its group of rows.
                stage_name = "";
            }
        }
    }
    if table.rows.is_empty() {
        return None;
    }
    let mut blocks = vec![Block::Table(table)];
    blocks.push(Block::Text(
        "Response = done - intended: what a user would have waited. Service = done - sent: what \
         the target took. Slip = sent - intended: what the generator added; it counts every \
         request that was sent. Failures: time until the failure was known. Count, min, mean and \
         max are exact, percentiles to 0.1 %; one that fewer than ten samples lie beyond is \
         neither stated nor judged (p90 below 100 samples, p95 below 200, p99 below 1,000, p99.99 \
         below 100,000)."
            .to_owned(),
    ));
    section("latency", "Latency", true, blocks)
}

fn percentile_row(stage: &str, name: &str, of: &Percentiles) -> Vec<Cell> {
    let time = |ns: u64| Cell::figure(units::duration(ns), ns as f64);
    let tail = |ns: Option<u64>| Cell::maybe(ns.map(|ns| ns as f64), units::duration_f64);
    vec![
        Cell::text(stage),
        Cell::text(name),
        Cell::figure(units::count(of.count), of.count as f64),
        time(of.min),
        Cell::figure(units::duration_f64(of.mean), of.mean),
        time(of.p50),
        tail(of.p90),
        tail(of.p95),
        tail(of.p99),
        tail(of.p999),
        tail(of.p9999),
        time(of.max),
    ]
}

pub(super) fn over_time(context: &Context<'_>) -> Option<Section> {
    let blocks: Vec<Block> = context.chart("timeline").into_iter().collect();
    section("time", "Over time", true, blocks)
}

/// What a line of percentiles hides: the heat map, and the whole spectrum.
pub(super) fn distribution(context: &Context<'_>) -> Option<Section> {
    let mut blocks: Vec<Block> = context.chart("heatmap").into_iter().collect();
    blocks.extend(context.chart("spectrum"));
    section("distribution", "Distribution of the latency", true, blocks)
}

/// The share of each operation, where there are several.
pub(super) fn operations(context: &Context<'_>) -> Option<Section> {
    let mut table = Table::new(&[
        "<Stage",
        "<Operation",
        "Sent",
        "Answered",
        "Failed",
        "service p50",
        "service p99",
        "response p50",
        "response p99",
    ]);
    table.sortable = true;
    let mixed = context.results.stages.iter().filter(|stage| stage.operations.len() > 1);
    for stage in mixed {
        for operation in &stage.operations {
            let count = |n: u64| Cell::figure(units::count(n), n as f64);
            let p50 = |of: &Option<Percentiles>| of.as_ref().map(|of| of.p50 as f64);
            let p99 = |of: &Option<Percentiles>| of.as_ref()?.p99.map(|ns| ns as f64);
            let time = |ns: Option<f64>| Cell::maybe(ns, units::duration_f64);
            table.row(vec![
                Cell::text(&stage.name),
                Cell::text(format!("`{}`", operation.name)),
                count(operation.sent),
                count(operation.ok),
                count(operation.failed),
                time(p50(&operation.service_ns)),
                time(p99(&operation.service_ns)),
                time(p50(&operation.response_ns)),
                time(p99(&operation.response_ns)),
            ]);
        }
    }
    if table.rows.is_empty() {
        return None;
    }
    let note = "Percentiles of an operation are exact to 1 %.".to_owned();
    section("operations", "By operation", true, vec![Block::Table(table), Block::Text(note)])
}

pub(super) fn errors(context: &Context<'_>) -> Option<Section> {
    let mut table =
        Table::new(&["<Stage", "<Reason", "Requests", "Share of due", "<Where to look"]);
    for stage in &context.results.stages {
        for (reason, count) in &stage.errors {
            let share = *count as f64 / stage.requests.offered.max(1) as f64;
            table.row(vec![
                Cell::text(&stage.name),
                Cell::text(format!("`{reason}`")),
                Cell::figure(units::count(*count), *count as f64),
                Cell::figure(units::share(share), share),
                Cell::text(meaning(reason)),
            ]);
        }
    }
    if table.rows.is_empty() {
        return None;
    }
    table.sortable = true;
    let mut blocks = vec![Block::Table(table)];
    let examples: Vec<String> = context
        .results
        .stages
        .iter()
        .flat_map(|stage| stage.examples.iter().map(|example| example_line(stage, example)))
        .collect();
    if !examples.is_empty() {
        blocks.push(Block::Heading("First examples".to_owned()));
        blocks.push(Block::List(examples));
    }
    section("errors", "Failed and dropped requests", true, blocks)
}

fn example_line(stage: &StageResult, example: &crate::results::ExampleResult) -> String {
    let at = example.at_ns.saturating_sub(stage.timeline.start_ns);
    let text = match &example.example {
        Value::String(text) => text.clone(),
        value => concise(value).to_string(),
    };
    let when = format!("{}, {} into the stage", stage.name, units::duration(at));
    let quoted = |text: &str| text.replace('`', "'").chars().take(600).collect::<String>();
    match in_words(&example.example) {
        Some((words, None)) => format!("{when}: {}", quoted(&words)),
        Some((words, Some(bytes))) => {
            format!("{when}: {}; received: `{}`", quoted(&words), quoted(&bytes))
        }
        None => format!("{when}: `{}`", quoted(&text)),
    }
}

/// What was asked for, where, how it failed, and what was received; none if the note has another
/// shape.
fn in_words(example: &Value) -> Option<(String, Option<String>)> {
    let text = |key: &str| example[key].as_str().filter(|text| !text.is_empty());
    let (op, reason, target) = (text("op")?, text("reason")?, text("target")?);
    let code = match example["detail"].as_i64() {
        // An errno says more than its number.
        Some(errno @ 1..=133) if !reason.contains(':') => {
            let error = std::io::Error::from_raw_os_error(errno as i32);
            format!(" ({error})")
        }
        _ => String::new(),
    };
    Some((format!("{op} to {target}: {reason}{code}"), text("bytes").map(str::to_owned)))
}

/// Without its own time, which stands before it, and without fields that say nothing.
fn concise(example: &Value) -> Value {
    let mut example = example.clone();
    if let Value::Object(fields) = &mut example {
        let empty = |value: &Value| value.is_null() || value == 0 || value == "";
        fields.retain(|name, value| name != "at_ns" && !empty(value));
    }
    example
}

pub(super) fn connections(context: &Context<'_>) -> Option<Section> {
    let mut table = Table::new(&[
        "<Stage",
        "Planned",
        "TCP open",
        "Alive, most",
        "lowest",
        "Streams",
        "Ramp",
        "Connect p99",
        "Session p99",
        "Failed",
        "Lost",
        "Tries lost",
        "Sessions lost",
    ]);
    for stage in &context.results.stages {
        let held = &stage.connections;
        let gauge = |n: Option<u64>| Cell::maybe(n.map(|n| n as f64), |n| units::count(n as u64));
        let time = |ns: Option<u64>| Cell::maybe(ns.map(|ns| ns as f64), units::duration_f64);
        let failed: u64 = stage.connect_failures.values().sum();
        let count = |n: u64| Cell::figure(units::count(n), n as f64);
        table.row(vec![
            Cell::text(&stage.name),
            Cell::figure(units::count(held.planned), held.planned as f64),
            gauge(held.tcp_open_peak),
            gauge(held.session_alive_peak),
            gauge(held.session_alive_min),
            gauge(held.stream_open_peak),
            time(held.ramp_ns),
            time(held.connect_ns.as_ref().and_then(|connect| connect.p99)),
            time(held.session_ns.as_ref().and_then(|session| session.p99)),
            count(failed),
            count(held.connections_lost),
            count(held.tries_lost),
            count(held.sessions_lost),
        ]);
    }
    let mut blocks = vec![
        Block::Table(table),
        Block::Text(
            "TCP open, sessions alive (the last heartbeat was answered in time) and streams open \
             are counted each in its own way; the figures are the highest sums over all workers \
             and, of sessions alive, the lowest one in the hold phase, each at any of their samples, \
             which every worker takes once a second. Failed are attempts to connect; lost \
             are connections on which a session stood, tries lost those on which none did, sessions \
             lost those that the server forgot or that were left behind."
                .to_owned(),
        ),
    ];
    blocks.extend(reasons(context));
    blocks.extend(context.chart("connections"));
    section("connections", "Connections", true, blocks)
}

/// Why connections were lost or not made.
fn reasons(context: &Context<'_>) -> Option<Block> {
    let mut lines = Vec::new();
    for stage in &context.results.stages {
        for (what, reasons) in
            [("lost", &stage.losses), ("attempts failed", &stage.connect_failures)]
        {
            let parts: Vec<String> = reasons
                .iter()
                .map(|(reason, count)| format!("`{reason}` {}", units::count(*count)))
                .collect();
            if !parts.is_empty() {
                lines.push(format!("{}, {what}: {}", stage.name, parts.join(", ")));
            }
        }
    }
    (!lines.is_empty()).then_some(Block::List(lines))
}
