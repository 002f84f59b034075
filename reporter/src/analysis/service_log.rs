//! What the replicas wrote around an event: lines of `logs/service.log`, with the time that the engine
//! of each gave them.

use std::fs;
use std::path::Path;

use crate::run::record::{EventRecord, RunRecord};
use crate::swarm::model::real_ns;

/// Lines from so long before an event, until so long after it.
const BEFORE_NS: u64 = 2_000_000_000;
const AFTER_NS: u64 = 4_000_000_000;
/// Lines that are shown of an event, and events of a run.
const LINES_MAX: usize = 20;
const EVENTS_MAX: usize = 12;

/// Lines around one event.
#[derive(Clone, Debug, PartialEq)]
pub struct Excerpt {
    /// The event.
    pub event: EventRecord,
    /// The lines in order of time: seconds from the event, task, text.
    pub lines: Vec<(f64, String, String)>,
    /// Further ones that are not shown.
    pub more: usize,
}

/// Reads the log of a run on a swarm; none where there is none.
pub fn read(dir: &Path, run: &RunRecord) -> Vec<Excerpt> {
    let text = fs::read_to_string(dir.join("logs/service.log")).unwrap_or_default();
    let mono = |real_ns: u64| {
        let since = i128::from(real_ns) - i128::from(run.started_real_ns);
        u64::try_from(i128::from(run.started_mono_ns) + since).unwrap_or(0)
    };
    let mut lines: Vec<(u64, &str, &str)> = text
        .lines()
        .filter_map(parse)
        .map(|(at_real_ns, task, text)| (mono(at_real_ns), task, text))
        .collect();
    lines.sort_by_key(|line| line.0);
    let events = run.events.iter().filter(|event| event.impact().is_some()).take(EVENTS_MAX);
    events.map(|event| around(event, &lines)).filter(|found| !found.lines.is_empty()).collect()
}

fn around(event: &EventRecord, lines: &[(u64, &str, &str)]) -> Excerpt {
    let window = event.at_ns.saturating_sub(BEFORE_NS)..=event.at_ns.saturating_add(AFTER_NS);
    let mut near = lines.iter().filter(|line| window.contains(&line.0));
    let shown: Vec<(f64, String, String)> = near
        .by_ref()
        .take(LINES_MAX)
        .map(|(at_ns, task, text)| {
            let since_s = (*at_ns as f64 - event.at_ns as f64) / 1e9;
            (since_s, (*task).to_owned(), (*text).to_owned())
        })
        .collect();
    Excerpt { event: event.clone(), lines: shown, more: near.count() }
}

/// `TIME SERVICE.SLOT.ID@NODE | TEXT`; the time that the program itself wrote before its text is left
/// out. The task is shown as `SLOT@NODE`.
fn parse(line: &str) -> Option<(u64, &str, &str)> {
    let (time, rest) = line.split_once(' ')?;
    let (task, text) = rest.split_once('|')?;
    let text = text.trim();
    let text = match text.split_once(' ') {
        Some((first, rest)) if real_ns(first) > 0 => rest.trim_start(),
        _ => text,
    };
    let at_ns = Some(real_ns(time)).filter(|&at_ns| at_ns > 0)?;
    Some((at_ns, task.trim(), text))
}

/// `erlmcp-swarm_erlmcp-server.5.3yfqh...@node1` for a person: slot and node.
pub fn place(task: &str) -> String {
    let (name, node) = task.split_once('@').unwrap_or((task, ""));
    let slot = name.split('.').nth(1).unwrap_or(name);
    format!("slot {slot} on {node}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::record::EventRecordKind;

    #[test]
    fn lines_near_an_event_are_told_by_its_time_and_others_are_not() {
        let lines = [
            (1_000_000_000, "s.1.a@n", "too early"),
            (9_500_000_000, "s.2.b@n", "before"),
            (12_000_000_000, "s.3.c@n", "after"),
            (15_000_000_000, "s.4.d@n", "too late"),
        ];
        let event = EventRecord::at(10_000_000_000, EventRecordKind::Kill);
        let found = around(&event, &lines);
        let texts: Vec<&str> = found.lines.iter().map(|line| line.2.as_str()).collect();
        assert_eq!((texts, found.more), (vec!["before", "after"], 0));
        assert_eq!(found.lines[0].0, -0.5);
        let many = vec![(10_000_000_000, "s.1.a@n", "x"); LINES_MAX + 3];
        assert_eq!(around(&event, &many).more, 3);
    }

    #[test]
    fn a_line_of_the_engine_is_time_task_and_text() {
        let line = "2026-11-24T09:34:04.053486649Z erlmcp-swarm_erlmcp-server.5.3yfq@node1     | \
                    2026-11-24T09:34:04.044796Z  INFO erlmcp_server: up to 20000 descriptors";
        let (at_ns, task, text) = parse(line).expect("is a line");
        assert_eq!(at_ns % 1_000_000_000, 53_486_649);
        assert_eq!(place(task), "slot 5 on node1");
        assert_eq!(text, "INFO erlmcp_server: up to 20000 descriptors");
        assert_eq!(parse("a line of the client itself"), None);
    }
}
