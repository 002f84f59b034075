//! What was done to the cluster while it was under load: failover and scaling.

use super::{Context, count, section};
use crate::report::document::{Block, Cell, Mood, Section, Table};
use crate::report::units;
use crate::results::{FailoverResult, ScalingResult};
use crate::run::record::{EventRecord, EventRecordKind};

type Part = (&'static str, fn(&FailoverResult) -> Cell);

const FAILOVER_PARTS: [Part; 13] = [
    ("replicas that ended", |k| count(k.replicas)),
    ("first error (failed request or lost connection)", |k| or_word(k.first_error_ns, "none")),
    ("last failed request", |k| or_word(k.last_error_ns, "none")),
    ("from the first error to the last failed request", |k| {
        let window = k.last_error_ns.zip(k.first_error_ns);
        or_word(window.map(|(last, first)| last.saturating_sub(first)), "none")
    }),
    ("requests failed or dropped", |k| count(k.lost_requests)),
    ("sessions lost", |k| count(k.sessions_lost)),
    ("sessions established again", |k| count(k.sessions_reestablished)),
    ("last lost session alive again", |k| match k.sessions_lost {
        0 => Cell::text("none was lost"),
        _ => or_word(k.sessions_recovered_ns, "never"),
    }),
    ("replica started again", |k| or_word(k.replica_started_ns, "never")),
    ("replica healthy again", |k| or_word(k.replica_healthy_ns, "never")),
    ("recovery: the later of sessions and replica", |k| or_word(k.recovery_ns, "never")),
    ("recovery, from the restart of the replica on", |k| {
        match (k.recovery_ns, k.replica_started_ns) {
            (Some(all), Some(started)) if k.cause == "kill" => {
                Cell::text(units::duration(all.saturating_sub(started)))
            }
            _ => Cell::text("—"),
        }
    }),
    ("spread evenly over the replicas that hold any", |k| {
        or_word(k.balanced_ns, "not in this stage")
    }),
];

pub(super) fn failover(context: &Context<'_>) -> Option<Section> {
    let kills = &context.results.failovers;
    if kills.is_empty() {
        return None;
    }
    let mut table = Table::new(&["<Since the kill or the command"]);
    for kill in kills {
        table.heads.push(crate::report::document::Head {
            text: format!("{} of {} in {}", cause(kill), kill.replica, kill.stage),
            left: false,
        });
    }
    for (name, part) in FAILOVER_PARTS {
        let mut row = vec![Cell::text(name)];
        row.extend(kills.iter().map(part));
        table.row(row);
    }
    let mut blocks = vec![Block::Table(table)];
    let delay = context.analysis.run.restart_delay_ns;
    if delay > 0 {
        blocks.push(Block::Text(format!(
            "The supervisor starts a dead replica again after {}. Requests count as lost if they \
             were due between the kill and the recovery, or on their way to the killed replica, \
             and failed or were never sent. Of several replicas, started and healthy are those of \
             the last one.",
            units::duration(delay)
        )));
    }
    blocks.extend(context.chart("failover"));
    blocks.extend(kills.iter().filter_map(|kill| shares(context, kill)).flatten());
    section("failover", "Failover", true, blocks)
}

/// What the blow was, in words.
fn cause(failover: &FailoverResult) -> String {
    failover.cause.replace('_', " ")
}

fn shares(context: &Context<'_>, failover: &FailoverResult) -> Option<[Block; 2]> {
    let of = failover.share_of.as_deref()?;
    let mut table = Table::new(&["<Replica", "Before", "After", "Share after"]);
    table.sortable = true;
    let all: u64 = failover.shares.iter().map(|share| share.after).sum();
    for share in &failover.shares {
        let part = share.after as f64 / all.max(1) as f64;
        table.row(vec![
            Cell::text(&share.replica),
            count(share.before),
            count(share.after),
            Cell::figure(units::share(part), part),
        ]);
    }
    let mut text = format!(
        "{} by replica, just before the {} and at the end of the hold phase of stage {}.",
        if of == "sessions" { "Sessions" } else { "Descriptors beyond those without load" },
        cause(failover),
        failover.stage
    );
    if !failover.idle.is_empty() {
        text += &format!(" Healthy at that time, and holding none: {}.", failover.idle.join(", "));
    }
    if has_new_addresses(&context.analysis.run.events, failover) {
        text += " A replica that was started anew has another address.";
    }
    Some([Block::Text(text), Block::Table(table)])
}

/// Whether a replica was started after the blow where none had been before it.
fn has_new_addresses(events: &[EventRecord], failover: &FailoverResult) -> bool {
    let starts = events.iter().filter(|event| event.kind == EventRecordKind::ReplicaStart);
    let (before, after): (Vec<&EventRecord>, Vec<&EventRecord>) =
        starts.partition(|start| start.at_ns < failover.killed_at_ns);
    let known =
        |start: &&EventRecord| before.iter().any(|own| own.own_address() == start.own_address());
    after.iter().any(|start| start.stage == failover.stage && !known(start))
}

pub(super) fn scaling(context: &Context<'_>) -> Option<Section> {
    let results = context.results;
    if results.scaling.is_empty() {
        return None;
    }
    let mut table = Table::new(&[
        "<Stage",
        "<Replicas",
        "Replicas converged",
        "Sessions converged",
        "Requests failed or dropped",
    ]);
    for change in &results.scaling {
        let of = results.stages.iter().find(|stage| stage.name == change.stage);
        let cut_short = of.is_some_and(|stage| stage.skipped.is_some());
        table.row(vec![
            Cell::text(&change.stage),
            Cell::text(format!("{} → {}", change.from, change.to)),
            or_word(change.converged_ns, "never"),
            sessions_converged(change, cut_short),
            count(change.failed_requests),
        ]);
    }
    let looks = match results.backend.as_str() {
        "swarm" => "a quarter of a second",
        _ => "20 ms",
    };
    let exactness = format!(
        "Requests are counted by their own times. Replicas converged when the driver saw it, which \
         looks every {looks}; sessions when the generator's status said so, which comes once a \
         second, and of which one of the first second after a step is not believed: up to 2 s late."
    );
    let mut blocks = vec![Block::Table(table), Block::Text(exactness)];
    blocks.extend(context.chart("scaling"));
    section("scaling", "Scaling", true, blocks)
}

/// A stage that was cut short did not give them their time.
fn sessions_converged(change: &ScalingResult, cut_short: bool) -> Cell {
    match change.sessions_converged_ns {
        None if !cut_short => Cell::text("not in time").mood(Mood::Bad),
        seen => or_word(seen, "not seen"),
    }
}

fn or_word(ns: Option<u64>, word: &str) -> Cell {
    match ns {
        Some(ns) => Cell::figure(units::duration(ns), ns as f64),
        None if word == "never" => Cell::text(word).mood(Mood::Bad),
        None => Cell::text(word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_that_did_not_converge_are_told_from_those_that_nobody_waited_for() {
        let change = |seen: Option<u64>| ScalingResult {
            stage: "scaling".to_owned(),
            from: 16,
            to: 8,
            commanded_at_ns: 1,
            converged_ns: Some(7_110_000_000),
            sessions_converged_ns: seen,
            failed_requests: 0,
        };
        let late = sessions_converged(&change(None), false);
        assert_eq!((late.text.as_str(), late.mood), ("not in time", Mood::Bad));
        assert_eq!(sessions_converged(&change(None), true).text, "not seen");
        assert_eq!(sessions_converged(&change(Some(8_000_000_000)), false).text, "8.00 s");
    }
    #[test]
    fn a_replica_that_comes_back_where_it_was_has_no_new_address() {
        let kill: FailoverResult = serde_json::from_value(serde_json::json!({
            "stage": "failover", "cause": "kill", "replica": "a", "replicas": 1,
            "killed_at_ns": 10, "lost_requests": 0, "sessions_lost": 0,
            "sessions_reestablished": 0, "shares": [],
        }))
        .expect("a kill");
        let start = |at_ns, replica: &str, stage: &str| EventRecord {
            replica: replica.to_owned(),
            stage: stage.to_owned(),
            ..EventRecord::at(at_ns, EventRecordKind::ReplicaStart)
        };
        let mut events = vec![start(1, "a", ""), start(12, "a", "failover")];
        events.push(start(90, "c", "scaling"));
        assert!(!has_new_addresses(&events, &kill));
        events.push(EventRecord { address: "b".to_owned(), ..start(13, "a", "failover") });
        assert!(has_new_addresses(&events, &kill));
    }
}
