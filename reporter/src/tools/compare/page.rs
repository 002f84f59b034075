//! A comparison as a document: the same for Markdown and HTML, with its pictures.

use std::path::Path;

use anyhow::Context;

use super::interval::BATCHES;
use super::{Change, FailOn, Metric, SECONDS_MIN, chart, compare, differences};
use crate::report::charts::{Chart, canvas};
use crate::report::document::{
    Block, Cell, Document, Headline, Mood, Notice, Section, Stamp, Table,
};
use crate::report::{html, markdown, put};
use crate::results::{Results, StageResult};
use crate::verdict::judge::top_stage;

/// File names in the folder given.
pub const MARKDOWN_FILE: &str = "COMPARISON.md";
/// See [`MARKDOWN_FILE`].
pub const HTML_FILE: &str = "COMPARISON.html";

/// Writes COMPARISON.md, COMPARISON.html and charts/*.svg into `dir`, which is made.
///
/// # Errors
/// A file that cannot be written.
pub fn write(
    dir: &Path,
    base: &Results,
    new: &Results,
    conditions: &[FailOn],
) -> anyhow::Result<()> {
    let changes = compare(base, new);
    let stage = shared_stage(base, new);
    let charts = stage.map_or_else(Vec::new, |stage| draw(stage, &changes));
    let folder = dir.join("charts");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    for chart in &charts {
        put(&folder.join(format!("{}.svg", chart.name)), &chart.svg)?;
    }
    let document = document(base, new, &changes, conditions, &charts);
    put(&dir.join(MARKDOWN_FILE), &markdown::render(&document))?;
    put(&dir.join(HTML_FILE), &html::render(&document)?)
}

/// The base's top stage, if the new run has one of its name.
fn shared_stage<'r>(
    base: &'r Results,
    new: &'r Results,
) -> Option<(&'r StageResult, &'r StageResult)> {
    let top = top_stage(base)?;
    Some((top, new.stages.iter().find(|stage| stage.name == top.name)?))
}

fn draw((base, new): (&StageResult, &StageResult), changes: &[Change]) -> Vec<Chart> {
    let drawn =
        [chart::changes(&base.name, changes), chart::spectrum(base, new), chart::course(base, new)];
    drawn.into_iter().flatten().collect()
}

fn document(
    base: &Results,
    new: &Results,
    changes: &[Change],
    conditions: &[FailOn],
    charts: &[Chart],
) -> Document {
    let mut sections = vec![
        section("changes", "What changed", vec![table(changes, conditions), method()]),
        section("pictures", "Side by side", charts.iter().map(picture).collect()),
        section("runs", "The two runs", runs(base, new)),
    ];
    sections.retain(|section| !section.blocks.is_empty());
    Document {
        stamp: stamp(base, new, changes, conditions),
        title: format!("{} beside {}", name(new), name(base)),
        subtitle: format!("Base started {} · new started {}", started(base), started(new)),
        notices: notices(base, new),
        headline: headline(base, changes),
        sections,
        footer: "Made from the results.json of both runs.".to_owned(),
    }
}

fn section(id: &'static str, title: &str, blocks: Vec<Block>) -> Section {
    Section { id, title: title.to_owned(), open: true, blocks }
}

fn picture(chart: &Chart) -> Block {
    Block::Chart {
        name: chart.name.clone(),
        caption: chart.caption.clone(),
        svg: canvas::bare(&chart.svg),
    }
}

/// With conditions, whether one is broken; without, whether a figure of the top stage changed for
/// certain.
fn stamp(base: &Results, new: &Results, changes: &[Change], conditions: &[FailOn]) -> Stamp {
    let broken = |change: &Change| conditions.iter().any(|condition| condition.broken_by(change));
    let top = top_stage(base).map(|stage| stage.name.as_str());
    let certain = |change: &Change| {
        top == Some(&change.stage) && change.interval.is_some() && change.is_certain()
    };
    let (word, mood) = match conditions.is_empty() {
        false if changes.iter().any(broken) => ("FAIL", Mood::Bad),
        false => ("PASS", Mood::Good),
        true if changes.iter().any(certain) => ("CHANGED", Mood::Doubt),
        true => ("EQUAL", Mood::Good),
    };
    let note = match (base.valid, new.valid) {
        (true, true) => "both runs are valid",
        (false, true) => "THE BASE RUN IS NOT VALID",
        (true, false) => "THE NEW RUN IS NOT VALID",
        (false, false) => "NEITHER RUN IS VALID",
    };
    Stamp { word: word.to_owned(), mood, note: note.to_owned() }
}

fn name(results: &Results) -> String {
    match results.server.version.as_str() {
        "" => results.server.program.clone(),
        version => version.to_owned(),
    }
}

fn started(results: &Results) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(results.started_real_ns))
        .map_or_else(|_| "?".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

fn notices(base: &Results, new: &Results) -> Vec<Notice> {
    let mut notices = Vec::new();
    for (results, which) in [(base, "base"), (new, "new")] {
        if !results.valid {
            notices.push(Notice {
                mood: Mood::Bad,
                head: format!("The {which} run is not valid:"),
                text: format!("{}.", results.invalid_because.join("; ")),
            });
        }
    }
    let differ = differences(base, new);
    if !differ.is_empty() {
        notices.push(Notice {
            mood: Mood::Doubt,
            head: "The conditions differ.".to_owned(),
            text: format!("A change may come from there: {}.", differ.join("; ")),
        });
    }
    notices
}

fn headline(base: &Results, changes: &[Change]) -> Vec<Headline> {
    let Some(top) = top_stage(base) else { return Vec::new() };
    let of_top = changes.iter().filter(|it| it.stage == top.name || it.stage == "run");
    of_top
        .map(|change| Headline {
            name: change.metric.title().to_owned(),
            value: percentage(change),
            note: format!(
                "{} → {}",
                change.metric.show(change.base),
                change.metric.show(change.new)
            ),
            mood: match (change.interval, change.is_certain()) {
                (Some(_), true) => Mood::Doubt,
                (Some(_), false) => Mood::Good,
                (None, _) => Mood::Plain,
            },
        })
        .collect()
}

fn percentage(change: &Change) -> String {
    match change.percent {
        percent if percent.is_finite() => format!("{percent:+.1} %"),
        _ => "from 0".to_owned(),
    }
}

fn table(changes: &[Change], conditions: &[FailOn]) -> Block {
    let mut table = Table::new(&[
        "<Stage",
        "<Figure",
        "Base",
        "New",
        "Change",
        "95 % interval",
        "Slip",
        "<Certain",
        "<Condition",
    ]);
    table.sortable = true;
    for change in changes {
        let (interval, certain) = match change.interval {
            Some((low, high)) => (
                Cell::text(format!("{low:+.1} … {high:+.1} %")),
                match change.is_certain() {
                    true => Cell::text("yes").mood(Mood::Doubt),
                    false => Cell::text("no"),
                },
            ),
            None if change.metric.is_once() => (Cell::text("—"), Cell::text("once a run")),
            None => (Cell::text("—"), Cell::text(format!("under {SECONDS_MIN} s"))),
        };
        let own = conditions.iter().filter(|condition| condition.metric == change.metric);
        let broken = own.clone().find(|condition| condition.broken_by(change));
        let beyond = own.clone().any(|condition| condition.exceeded_by(change));
        let judged = match (broken, own.count()) {
            (Some(condition), _) => Cell::text(format!("FAIL {}", condition.text)).mood(Mood::Bad),
            (None, 0) => Cell::text(""),
            (None, _) if beyond => Cell::text("not certain").mood(Mood::Doubt),
            (None, _) => Cell::text("holds").mood(Mood::Good),
        };
        table.row(vec![
            Cell::text(&change.stage),
            Cell::text(change.metric.title()),
            Cell::figure(change.metric.show(change.base), change.base),
            Cell::figure(change.metric.show(change.new), change.new),
            Cell::figure(percentage(change), change.percent),
            interval,
            match change.noise > 0.0 {
                true => Cell::figure(change.metric.show(change.noise), change.noise),
                false => Cell::text("—"),
            },
            certain,
            judged,
        ]);
    }
    Block::Table(table)
}

fn method() -> Block {
    Block::Text(format!(
        "Compared is the median second of each stage's hold phase: the median of the p50 of every \
         whole second, of its p99, of its answers. Its interval comes from the medians of {BATCHES} \
         stretches of each hold phase: how far they lie apart, with Student's t for their small \
         number (the method of batch means). Stretches, because neighbouring seconds are not \
         independent (a pause of the server lasts several), which a rank test such as Mann-Whitney \
         takes for granted; and an interval says by how much, not only that. A change is certain if its \
         interval does not contain 0 % and it is more than one step of the scale that a second's \
         latencies are known on ({:.2} %), and more than either run's slip at that percentile: what \
         the generator and its host added by themselves differs from run to run, and no server has a \
         part in it. Under {SECONDS_MIN} whole seconds there is no interval, and nothing is certain. Of equal runs, one interval in twenty misses 0 % by chance: the word \
         on top is about the top stage, and a single certain figure of another stage is no finding.",
        Metric::P99.resolution_percent()
    ))
}

fn runs(base: &Results, new: &Results) -> Vec<Block> {
    let mut table = Table::new(&["<What", "<Base", "<New"]);
    let mut row = |name: &str, pick: fn(&Results) -> String| {
        table.row(vec![Cell::text(name), Cell::text(pick(base)), Cell::text(pick(new))]);
    };
    row("verdict", |it| it.verdict.name().to_owned());
    row("valid", |it| if it.valid { "yes" } else { "no" }.to_owned());
    row("started", started);
    row("server", |it| format!("`{}`", it.server.program));
    row("backend", |it| it.backend.clone());
    row("host", |it| it.host["name"].as_str().unwrap_or("?").to_owned());
    row("kernel", |it| it.host["kernel"].as_str().unwrap_or("?").to_owned());
    row("command", |it| format!("`{}`", it.command));
    vec![Block::Table(table)]
}
