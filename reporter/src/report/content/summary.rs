//! The top of the report: notices, headline figures, thresholds, and whether to believe them.

use super::{Context, section};
use crate::report::document::{Block, Cell, Headline, Mood, Notice, Section, Stamp, Table};
use crate::report::units;
use crate::results::{
    Finding, Percentiles, Results, Severity, ThresholdOrigin, ThresholdResult, Verdict,
};

pub(super) fn stamp(results: &Results) -> Stamp {
    let note = if results.valid { "the run is valid" } else { "THE RUN IS NOT VALID" };
    Stamp {
        word: results.verdict.name().to_owned(),
        mood: match results.verdict {
            Verdict::Pass => Mood::Good,
            Verdict::Fail => Mood::Bad,
        },
        note: note.to_owned(),
    }
}

pub(super) fn notices(context: &Context<'_>) -> Vec<Notice> {
    let results = context.results;
    let mut notices = Vec::new();
    let mut say = |mood: Mood, head: &str, text: String| {
        notices.push(Notice { mood, head: head.to_owned(), text });
    };
    if results.interrupted {
        let ran = results.stages.iter().filter(|stage| stage.skipped.is_none()).count();
        let text = format!(
            "A signal ended this run early: {ran} of {} planned stages ran to their end.",
            results.stages.len()
        );
        say(Mood::Bad, "Interrupted.", text);
    }
    if let Some(broken) = &results.broken {
        say(Mood::Bad, "The run broke.", broken.clone());
    }
    if !results.valid {
        let text = results.invalid_because.join("; ");
        say(Mood::Bad, "Do not believe these figures.", text);
    }
    let suspect: Vec<&str> = results
        .stages
        .iter()
        .filter(|stage| !stage.suspect_because.is_empty())
        .map(|stage| stage.name.as_str())
        .collect();
    if results.valid && !suspect.is_empty() {
        let text = format!(
            "The figures of {} are suspect; the reasons are under “Is the run to be believed?”.",
            suspect.join(", ")
        );
        say(Mood::Doubt, "Suspect.", text);
    }
    let unjudged: Vec<String> = results
        .thresholds
        .iter()
        .filter(|threshold| threshold.pass.is_none())
        .map(|threshold| {
            format!("{} ({})", threshold.name, threshold.because.as_deref().unwrap_or("no reason"))
        })
        .collect();
    if !unjudged.is_empty() {
        say(Mood::Doubt, "Not judged:", format!("{}.", unjudged.join("; ")));
    }
    let skipped: Vec<String> = results
        .stages
        .iter()
        .filter_map(|stage| Some(format!("{} ({})", stage.name, stage.skipped.as_ref()?)))
        .collect();
    if !skipped.is_empty() {
        say(Mood::Doubt, "Not run as planned:", format!("{}.", skipped.join("; ")));
    }
    notices
}

pub(super) fn headline(context: &Context<'_>) -> Vec<Headline> {
    let wanted = ["sessions", "success", "throughput", "p99", "avg", "recovery"];
    let find = |name: &str| context.results.thresholds.iter().find(|it| it.name == name);
    let mut figures: Vec<Headline> = wanted
        .iter()
        .filter_map(|name| find(name))
        .filter(|threshold| threshold.pass.is_some())
        .map(|threshold| Headline {
            name: title(&threshold.name),
            value: value(threshold),
            note: format!("limit {}", threshold.limit),
            mood: mood(threshold),
        })
        .collect();
    if let (Some(top), Some(first)) = (context.top(), figures.first_mut())
        && let Some(alive) = top.connections.session_alive_min
        && first.name == title("sessions")
    {
        first.value = units::count(alive);
        first.note = format!("lowest, of {}", units::count(top.connections.planned));
    }
    figures
}

pub(super) fn thresholds(context: &Context<'_>) -> Option<Section> {
    let mut table = Table::new(&[
        "<Threshold",
        "Limit",
        "Measured",
        "Samples",
        "<Verdict",
        "<Stage",
        "<Figure",
        "<Remark",
    ]);
    for threshold in &context.results.thresholds {
        let verdict = match threshold.pass {
            Some(true) => "pass",
            Some(false) => "FAIL",
            None => "not judged",
        };
        let believed = match (threshold.value, threshold.suspect_because.is_empty()) {
            (None, _) => Cell::text("—"),
            (Some(_), true) => Cell::text("valid"),
            (Some(_), false) => Cell::text("suspect").mood(Mood::Doubt),
        };
        let stated = match threshold.origin {
            ThresholdOrigin::Default => String::new(),
            ThresholdOrigin::User => " (given)".to_owned(),
        };
        let mut remarks: Vec<String> = Vec::new();
        remarks.extend(threshold.because.clone());
        remarks.extend(threshold.next.as_ref().map(|next| format!("Next: {next}.")));
        table.row(vec![
            Cell::text(format!("{}{stated}", threshold.name)),
            Cell::text(&threshold.limit),
            Cell::text(value(threshold)),
            samples(context, threshold),
            Cell::text(verdict).mood(mood_of_verdict(threshold)),
            Cell::text(threshold.stage.as_deref().unwrap_or("—")),
            believed,
            Cell::text(remarks.join(". ")),
        ]);
    }
    let mut blocks = vec![Block::Table(table)];
    if let Some(top) = context.top() {
        blocks.push(Block::Text(format!(
            "Latency, throughput and sessions are judged in stage {}, the one with the most \
             planned connections; success in the worst stage. Latency is response time (done - \
             intended) of answered requests due in the hold phase; failures are counted apart. \
             Sessions is the lowest number alive in the hold phase, sampled once a second, over the \
             planned connections.",
            top.name
        )));
    }
    section("thresholds", "Thresholds", true, blocks)
}

pub(super) fn validity(context: &Context<'_>) -> Option<Section> {
    let results = context.results;
    let judged: Vec<_> =
        results.findings.iter().filter(|it| it.severity >= Severity::Suspect).collect();
    let mut blocks = Vec::new();
    if judged.is_empty() {
        blocks.push(Block::Text(soundness(context)));
    }
    if !results.findings.is_empty() {
        let mut table = Table::new(&["<Weight", "<Stage", "<Measured", "<Next"]);
        for group in &groups(&results.findings) {
            let finding = shown(context, group);
            let (word, mood) = match finding.severity {
                Severity::Invalid => ("not valid", Mood::Bad),
                Severity::Suspect => ("suspect", Mood::Doubt),
                Severity::Note => ("note", Mood::Plain),
            };
            table.row(vec![
                Cell::text(word).mood(mood),
                Cell::text(where_found(group)),
                Cell::text(match (group.len(), &finding.stage) {
                    (1, _) | (_, None) => finding.because.clone(),
                    (_, Some(stage)) => format!("{stage}: {}", finding.because),
                }),
                Cell::text(&finding.next),
            ]);
        }
        blocks.push(Block::Table(table));
        if groups(&results.findings).iter().any(|group| group.len() > 1) {
            blocks.push(Block::Text(
                "Where a rule speaks of several stages, the figures are those of the stage named; \
                 results.json has every stage's."
                    .to_owned(),
            ));
        }
    }
    section("validity", "Is the run to be believed?", true, blocks)
}

/// Findings of one rule and weight, which differ in their stages and figures only.
fn groups(findings: &[Finding]) -> Vec<Vec<&Finding>> {
    let mut groups: Vec<Vec<&Finding>> = Vec::new();
    for finding in findings {
        let same = |group: &&mut Vec<&Finding>| {
            (&group[0].rule, group[0].severity) == (&finding.rule, finding.severity)
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(finding),
            None => groups.push(vec![finding]),
        }
    }
    groups
}

/// The finding that stands for its group: the judged stage's, else the last.
fn shown<'f>(context: &Context<'_>, group: &[&'f Finding]) -> &'f Finding {
    let top = context.top().map(|stage| stage.name.as_str());
    let of_top = group.iter().find(|finding| finding.stage.as_deref() == top);
    of_top.unwrap_or(&group[group.len() - 1])
}

fn where_found(group: &[&Finding]) -> String {
    let mut stages: Vec<&str> =
        group.iter().map(|finding| finding.stage.as_deref().unwrap_or("the run")).collect();
    stages.dedup();
    stages.join(", ")
}

/// What was measured of the generator where nothing speaks against the run.
fn soundness(context: &Context<'_>) -> String {
    let results = context.results;
    let mut parts = Vec::new();
    if let Some(top) = context.top()
        && let (Some(slip), Some(response)) = (&top.slip_ns, &top.response_ns)
        && let (Some(slip), Some(response)) = (slip.p99, response.p99)
    {
        parts.push(format!(
            "in stage {} slip p99 is {} beside response p99 {}",
            top.name,
            units::duration(slip),
            units::duration(response)
        ));
    }
    if let Some(share) = context.top().and_then(|top| top.generator.cpu_share) {
        parts.push(format!("the busiest worker used {:.0} % of its core there", share * 100.0));
    }
    let dropped: u64 = results.stages.iter().map(|stage| stage.requests.dropped).sum();
    parts.push(format!("{} due requests were not sent", units::count(dropped)));
    let whole = results.logs.iter().filter(|log| log.ended && log.missing_blocks == 0).count();
    parts.push(format!("{whole} of {} logs are whole", results.logs.len()));
    format!("No rule speaks against this run: {}.", parts.join(", "))
}

/// How many samples a threshold's figure is of.
fn samples(context: &Context<'_>, threshold: &ThresholdResult) -> Cell {
    let stage = context.results.stages.iter().find(|it| threshold.stage.as_ref() == Some(&it.name));
    let metric = threshold.name.rsplit(':').next().unwrap_or_default();
    let count = stage.filter(|_| threshold.value.is_some()).and_then(|stage| {
        let latency = |of: &Option<Percentiles>| of.as_ref().map(|of| of.count);
        match metric {
            "recovery" | "lost_requests" => {
                let blows = context.results.failovers.iter().filter(|it| !it.is_planned());
                Some(blows.count() as u64)
            }
            "converge" => Some(context.results.scaling.len() as u64),
            "success" | "dropped" | "failed" => Some(stage.requests.offered),
            "throughput" => Some(stage.requests.ok),
            "sessions" => Some(stage.connections.planned),
            "rss_growth" => {
                let slopes = context.results.replicas.iter().filter_map(|it| it.rss_slope.as_ref());
                Some(slopes.map(|slope| slope.points).sum())
            }
            metric if metric.starts_with("service_") => latency(&stage.service_ns),
            metric if metric.starts_with("slip_") => latency(&stage.slip_ns),
            _ => latency(&stage.response_ns),
        }
    });
    Cell::maybe(count.map(|n| n as f64), |n| units::count(n as u64))
}

fn title(name: &str) -> String {
    match name {
        "sessions" => "Sessions held",
        "success" => "Success",
        "throughput" => "Throughput",
        "p99" => "Response p99",
        "avg" => "Response average",
        "recovery" => "Recovery",
        other => other,
    }
    .to_owned()
}

fn value(threshold: &ThresholdResult) -> String {
    match (threshold.value, &threshold.because) {
        (Some(value), _) => units::in_unit(value, &threshold.unit),
        (None, Some(because)) if because.starts_with("never") => "never".to_owned(),
        (None, Some(because)) if because.starts_with("cannot tell") => "cannot tell".to_owned(),
        (None, _) => "not measured".to_owned(),
    }
}

fn mood(threshold: &ThresholdResult) -> Mood {
    match (threshold.pass, threshold.suspect_because.is_empty()) {
        (Some(false), _) => Mood::Bad,
        (Some(true), true) => Mood::Good,
        (Some(true), false) | (None, _) => Mood::Doubt,
    }
}

fn mood_of_verdict(threshold: &ThresholdResult) -> Mood {
    match threshold.pass {
        Some(true) => Mood::Good,
        Some(false) => Mood::Bad,
        None => Mood::Doubt,
    }
}
