//! What was tested and on what, the logs, and how to make the run again.

use serde_json::Value;

use super::{Context, section};
use crate::report::document::{Block, Cell, Mood, Section, Table};
use crate::report::units;
use crate::results::Results;

pub(super) fn title(results: &Results) -> String {
    let most = results.stages.iter().map(|stage| stage.connections.planned).max().unwrap_or(0);
    let server = match results.server.version.as_str() {
        "" => several(&results.server.program),
        version => version.to_owned(),
    };
    format!(
        "{server}: {} connections on {} replicas",
        units::count(most),
        results.server.replicas_planned
    )
}

/// The first of a list of addresses, and how many more there are.
fn several(program: &str) -> String {
    match program.split(", ").collect::<Vec<_>>().as_slice() {
        [first, second, rest @ ..] if second.contains("://") => {
            format!("{first} and {} more", rest.len() + 1)
        }
        _ => program.to_owned(),
    }
}

pub(super) fn subtitle(results: &Results) -> String {
    let nanoseconds = i128::from(results.started_real_ns);
    let started = jiff::Timestamp::from_nanosecond(nanoseconds)
        .map_or_else(|_| String::new(), |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string());
    let profile = match results.profile.as_str() {
        "" => String::new(),
        profile => format!(" · profile {profile}"),
    };
    format!(
        "Started {started} · ran {} · backend {}{profile}",
        units::duration(results.duration_ns),
        results.backend,
    )
}

pub(super) fn tested(context: &Context<'_>) -> Option<Section> {
    let results = context.results;
    let mut facts = Table::new(&["<What", "<Value"]);
    let mut fact = |name: &str, value: String| {
        if !value.is_empty() {
            facts.row(vec![Cell::text(name), Cell::text(value)]);
        }
    };
    fact("server", format!("`{}`", results.server.program));
    fact("its version", results.server.version.clone());
    fact("replicas", results.server.replicas_planned.to_string());
    let plan = context.analysis.stages.iter().find_map(|stage| Some(&stage.merged.as_ref()?.plan));
    if let Some(plan) = plan {
        fact("protocol", plan.protocol.clone());
        let load: Vec<&str> =
            plan.ops.iter().filter(|(_, load)| *load).map(|(name, _)| name.as_str()).collect();
        fact("requests", load.join(", "));
        fact("seed", plan.seed.map_or(String::new(), |seed| seed.to_string()));
    }
    if context.analysis.run.heartbeat_ns > 0 {
        fact("heartbeat", units::duration(context.analysis.run.heartbeat_ns));
    }
    if let Value::Object(versions) = &results.versions {
        for (name, version) in versions {
            fact(&format!("program {name}"), text_of(version));
        }
    }
    let mut said = context.analysis.run.cluster.clone().unwrap_or(Value::Null);
    // They have a table of their own.
    said.as_object_mut().and_then(|said| said.remove("generators"));
    let mut cluster = Vec::new();
    flatten("cluster", &said, &mut cluster);
    cluster.into_iter().for_each(|(name, value)| fact(&name, value));
    let mut plan =
        Table::new(&["<Stage", "<Kind", "Connections", "Requests/s", "<Load model", "<Ran"]);
    for stage in &results.stages {
        let ran = match &stage.skipped {
            Some(reason) => Cell::text(format!("no: {reason}")).mood(Mood::Doubt),
            None => Cell::text("as planned"),
        };
        plan.row(vec![
            Cell::text(&stage.name),
            Cell::text(&stage.kind),
            Cell::text(units::count(stage.connections.planned)),
            Cell::text(units::rate(stage.rate_planned_per_s)),
            Cell::text(stage.model.as_deref().unwrap_or("—")),
            ran,
        ]);
    }
    let blocks = vec![Block::Table(facts), Block::Table(plan)];
    section("tested", "What was tested", false, blocks)
}

/// One fact for each leaf of what the backend says: an object's keys become words of the name, the
/// items of a list stand in one line.
fn flatten(name: &str, value: &Value, facts: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                flatten(&format!("{name} {}", key.replace('_', " ")), value, facts);
            }
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(in_line).collect();
            facts.push((name.to_owned(), items.join("; ")));
        }
        Value::Null => {}
        other => facts.push((name.to_owned(), in_line(other))),
    }
}

fn in_line(value: &Value) -> String {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| format!("{} {}", key.replace('_', " "), in_line(value)))
            .collect::<Vec<_>>()
            .join(", "),
        Value::Number(number) => number.as_u64().map_or_else(|| number.to_string(), units::count),
        other => text_of(other),
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub(super) fn host(context: &Context<'_>) -> Option<Section> {
    let host = &context.analysis.run.host;
    let mut table = Table::new(&["<What", "<Value"]);
    let mut fact = |name: &str, value: String| {
        table.row(vec![Cell::text(name), Cell::text(value)]);
    };
    fact("host", host.name.clone());
    fact("kernel", format!("{} {}", host.kernel, host.arch));
    fact("CPU", format!("{} × {}", host.cores, host.cpu_model));
    fact(
        "memory",
        format!(
            "{}, {} available at the start",
            units::bytes(host.mem_bytes as f64),
            units::bytes(host.mem_available_bytes as f64)
        ),
    );
    fact("clock source", host.clocksource.clone());
    fact("load average at the start", format!("{:.2}", host.load_1min));
    fact(
        "open files limit",
        format!("{} / {}", units::count(host.nofile_soft), units::count(host.nofile_hard)),
    );
    let mut blocks = vec![Block::Table(table)];
    if context.analysis.run.shares_host() {
        blocks.push(Block::Text(format!(
            "Generator and replicas shared this host and its {} cores.",
            host.cores
        )));
    }
    blocks.extend(tuning(context.analysis.preflight.as_ref()));
    // The conditions stay in sight; what preflight found is a long list before the figures.
    let title =
        format!("What it ran on: {} × {}, kernel {}", host.cores, host.cpu_model, host.kernel);
    let title = if host.cores > 0 { title } else { "What it ran on".to_owned() };
    section("host", &title, false, blocks)
}

/// What preflight found: items that do not fit, and values that differ from the profile.
fn tuning(preflight: Option<&Value>) -> Vec<Block> {
    let Some(preflight) = preflight else { return Vec::new() };
    let mut blocks = Vec::new();
    let rows = |key: &str| preflight[key].as_array().cloned().unwrap_or_default();
    let cell = |value: &Value| match value {
        Value::Null => Cell::text("—"),
        value => Cell::text(text_of(value)),
    };
    let items = rows("items");
    let status = |item: &Value| text_of(item.get("verdict").unwrap_or(&Value::Null));
    if !items.is_empty() {
        let mut table = Table::new(&["<Preflight", "<Needed", "<Actual", "<Status"]);
        for item in items.iter().filter(|item| status(item) != "ok") {
            let name = item.get("title").or_else(|| item.get("id")).unwrap_or(&Value::Null);
            table.row(vec![
                cell(name),
                cell(&item["needed"]),
                cell(&item["actual"]),
                Cell::text(status(item).replace('_', " ")).mood(Mood::Doubt),
            ]);
        }
        let fine = items.len() - table.rows.len();
        blocks.push(Block::Heading("Preflight".to_owned()));
        blocks.push(Block::Text(format!(
            "{fine} of {} checks fit the plan; preflight.json has all.",
            items.len()
        )));
        blocks.extend((!table.rows.is_empty()).then_some(Block::Table(table)));
    }
    let tuned = rows("tuning");
    if !tuned.is_empty() {
        let mut table = Table::new(&["<Setting", "<Profile has", "<This host has"]);
        let differs = |item: &&Value| item["differs"].as_bool().unwrap_or(false);
        for item in tuned.iter().filter(differs) {
            let value = |value: &Value| match value.as_str() {
                Some("") => Cell::text("(empty)"),
                _ => cell(value),
            };
            table.row(vec![cell(&item["key"]), value(&item["wanted"]), value(&item["actual"])]);
        }
        let same = tuned.len() - table.rows.len();
        blocks.push(Block::Heading("Tuning: differences from the profile".to_owned()));
        blocks.push(Block::Text(format!(
            "{same} of {} settings are as the tuning profile has them.",
            tuned.len()
        )));
        blocks.extend((!table.rows.is_empty()).then_some(Block::Table(table)));
    }
    blocks
}

/// How other hosts' clocks were brought onto this one's.
const OFFSETS: &str = "A clock offset is what was added to a log's times: the difference between both hosts' offsets \
     of monotonic to real time, which is as good as their agreement on real time.";
/// How good that is where the generators were driven from here.
const BOUNDED: &str = "The log cannot begin before its generator was started here nor end after that was seen to \
     end, so the offset is off by no more than the error stated.";
/// How good it is where nobody saw them.
const UNBOUNDED: &str =
    "Nobody saw when these generators were started and ended, so that nothing bounds the error.";
/// What the error does.
const SHIFTED: &str = "On the merged time line the records of that host stand shifted by as much; durations are \
     measured on one clock each, and have no part of it.";

pub(super) fn logs(context: &Context<'_>) -> Option<Section> {
    let mut table = Table::new(&[
        "<Log",
        "<Host",
        "Requests",
        "Events",
        "Clock offset",
        "Error, at most",
        "Missing blocks",
        "<State",
    ]);
    for log in &context.results.logs {
        let state = match (&log.error, log.ended, log.missing_blocks + log.torn_tail_bytes) {
            (Some(error), _, _) => Cell::text(error).mood(Mood::Bad),
            (None, true, 0) => Cell::text("whole"),
            (None, false, _) => Cell::text("no End block").mood(Mood::Bad),
            (None, true, _) => Cell::text("damaged").mood(Mood::Bad),
        };
        let offset = log.clock_offset_ns;
        table.row(vec![
            Cell::text(&log.path),
            Cell::text(&log.host),
            Cell::figure(units::count(log.requests), log.requests as f64),
            Cell::figure(units::count(log.events), log.events as f64),
            Cell::text(match offset {
                0 => "same clock".to_owned(),
                offset => {
                    let sign = if offset < 0 { '-' } else { '+' };
                    format!("{sign}{}", units::duration(offset.unsigned_abs()))
                }
            }),
            match log.clock_error_ns {
                Some(0) => Cell::text("none"),
                Some(error) => Cell::figure(format!("±{}", units::duration(error)), error as f64),
                None => Cell::text("not bounded").mood(Mood::Doubt),
            },
            Cell::figure(units::count(log.missing_blocks), log.missing_blocks as f64),
            state,
        ]);
    }
    let mut blocks = if table.rows.is_empty() { Vec::new() } else { vec![Block::Table(table)] };
    let moved = || context.results.logs.iter().filter(|log| log.clock_offset_ns != 0);
    if moved().count() > 0 {
        let bounded = moved().all(|log| log.clock_error_ns.is_some());
        let error = if bounded { BOUNDED } else { UNBOUNDED };
        blocks.push(Block::Text(format!("{OFFSETS} {error} {SHIFTED}")));
    }
    section("logs", "Logs", false, blocks)
}

pub(super) fn again(context: &Context<'_>) -> Option<Section> {
    let blocks = vec![Block::Code(context.results.command.clone())];
    section("again", "The command that makes this run again", true, blocks)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::flatten;

    #[test]
    fn what_the_backend_says_becomes_one_fact_a_leaf() {
        let mut facts = Vec::new();
        let said = json!({
            "image": "server:1",
            "nodes": [{"name": "a", "role": "manager"}, {"name": "b", "role": null}],
            "path": {"kind": "tasks", "connections_max": 1_048_576, "limit": null},
        });
        flatten("cluster", &said, &mut facts);
        let facts: Vec<(&str, &str)> =
            facts.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(
            facts,
            [
                ("cluster image", "server:1"),
                ("cluster nodes", "name a, role manager; name b"),
                ("cluster path connections max", "1,048,576"),
                ("cluster path kind", "tasks"),
            ]
        );
    }
}
