//! Many runs in order of time: the headline figures of each, marked by its verdicts.
//!
//! It reads the `results.json` of every folder below one folder, and judges nothing: `compare` says
//! whether two runs differ for certain. A figure that a run did not measure stays empty, and a run
//! that cannot be read is listed with its reason.

mod chart;

use std::path::Path;

use anyhow::Context;
use askama::Template;
use serde::Serialize;

use super::compare::memory_per_session;
use crate::exit::Failure;
use crate::report::charts::canvas;
use crate::report::units;
use crate::results::{self, Results, Verdict};
use crate::verdict::judge::top_stage;

/// The headline figures of one run, all of its top stage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Name of the results folder.
    pub folder: String,
    /// Nanoseconds since the unix epoch.
    pub started_real_ns: u64,
    /// About the server.
    pub verdict: Verdict,
    /// Whether the figures can be believed.
    pub valid: bool,
    /// The stage that the figures are of; empty if no stage ran.
    pub stage: String,
    /// Connections that the stage was planned with.
    pub connections_planned: u64,
    /// done - intended.
    pub p99_ns: Option<f64>,
    /// Arithmetic mean of done - intended.
    pub mean_ns: Option<f64>,
    /// Answered load requests.
    pub throughput_per_s: Option<f64>,
    /// Answered over due, in percent.
    pub success_percent: Option<f64>,
    /// The most sessions alive at once.
    pub sessions: Option<f64>,
    /// Memory of all replicas over the sessions.
    pub memory_per_session_bytes: Option<f64>,
}

/// A folder whose results could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unread {
    /// Its name.
    pub folder: String,
    /// Why.
    pub because: String,
}

/// All runs below a folder.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trend {
    /// In the order of their starts.
    pub runs: Vec<Point>,
    /// In the order of their names.
    pub unread: Vec<Unread>,
}

/// One figure of a point.
pub struct Measure {
    /// Heading of its column and its panel.
    pub name: &'static str,
    /// Which direction is an improvement; for the panel's corner.
    pub better: &'static str,
    /// The unit that [`units::in_unit`] knows.
    pub unit: &'static str,
    /// Its value in that unit.
    pub of: fn(&Point) -> Option<f64>,
}

/// In the order of columns and panels.
pub const MEASURES: [Measure; 6] = [
    Measure { name: "p99", better: "less is better", unit: "ns", of: |run| run.p99_ns },
    Measure { name: "average", better: "less is better", unit: "ns", of: |run| run.mean_ns },
    Measure {
        name: "throughput",
        better: "more is better",
        unit: "/s",
        of: |run| run.throughput_per_s,
    },
    Measure { name: "success", better: "more is better", unit: "%", of: |run| run.success_percent },
    Measure { name: "sessions", better: "more is better", unit: "", of: |run| run.sessions },
    Measure {
        name: "memory/session",
        better: "less is better",
        unit: "bytes",
        of: |run| run.memory_per_session_bytes,
    },
];

impl Measure {
    /// A value with its unit.
    pub fn show(&self, value: f64) -> String {
        match self.unit {
            "bytes" => units::bytes(value),
            unit => units::in_unit(value, unit),
        }
    }

    fn cell(&self, run: &Point) -> String {
        (self.of)(run).map_or_else(|| "—".to_owned(), |value| self.show(value))
    }
}

/// Reads every results folder directly below `dir`.
///
/// # Errors
/// `dir` cannot be listed, or no folder in it has a readable `results.json`.
pub fn read(dir: &Path) -> anyhow::Result<Trend> {
    let listed = std::fs::read_dir(dir)
        .map_err(|error| Failure::usage(format!("cannot read {}: {error}", dir.display())))?;
    let mut trend = Trend { runs: Vec::new(), unread: Vec::new() };
    for entry in listed {
        let path = entry.with_context(|| format!("cannot read {}", dir.display()))?.path();
        let file = path.join("results.json");
        if !path.is_dir() || !(file.exists() || path.join("run.json").exists()) {
            continue;
        }
        let folder = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let read = std::fs::read_to_string(&file)
            .map_err(|error| format!("no results.json ({error}): `reporter report` makes it"))
            .and_then(|text| results::parse(&text).map_err(|error| error.to_string()));
        match read {
            Ok(results) => trend.runs.push(Point::of(folder, &results)),
            Err(because) => trend.unread.push(Unread { folder, because }),
        }
    }
    if trend.runs.is_empty() {
        let reason = trend.unread.first().map_or_else(
            || "give the folder that results folders are in".to_owned(),
            |unread| format!("{}: {}", unread.folder, unread.because),
        );
        return Err(Failure::usage(format!("{} has no run: {reason}", dir.display())).into());
    }
    trend.runs.sort_by(|a, b| (a.started_real_ns, &a.folder).cmp(&(b.started_real_ns, &b.folder)));
    trend.unread.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(trend)
}

impl Point {
    /// The figures of one run.
    pub fn of(folder: String, results: &Results) -> Self {
        let stage = top_stage(results);
        let response = stage.and_then(|stage| stage.response_ns.as_ref());
        Self {
            folder,
            started_real_ns: results.started_real_ns,
            verdict: results.verdict,
            valid: results.valid,
            stage: stage.map_or_else(String::new, |stage| stage.name.clone()),
            connections_planned: stage.map_or(0, |stage| stage.connections.planned),
            p99_ns: response.and_then(|response| response.p99).map(|ns| ns as f64),
            mean_ns: response.map(|response| response.mean),
            throughput_per_s: stage.and_then(|stage| stage.throughput_per_s),
            success_percent: stage
                .and_then(|stage| stage.requests.success_share)
                .map(|share| 100.0 * share),
            sessions: stage
                .and_then(|stage| stage.connections.session_alive_peak)
                .map(|sessions| sessions as f64),
            memory_per_session_bytes: memory_per_session(results),
        }
    }

    /// `PASS`, `FAIL`, or `not valid`: a run that is not valid says nothing of the server.
    pub fn mark(&self) -> &'static str {
        if self.valid { self.verdict.name() } else { "not valid" }
    }

    /// When it began, for a person.
    pub fn started(&self) -> String {
        jiff::Timestamp::from_nanosecond(i128::from(self.started_real_ns))
            .map_or_else(|_| String::new(), |at| at.strftime("%Y-%m-%d %H:%M").to_string())
    }

    /// Runs of another plan are no comparison: the line through the points is broken there.
    fn same_plan(&self, other: &Self) -> bool {
        (&self.stage, self.connections_planned) == (&other.stage, other.connections_planned)
    }
}

impl Trend {
    /// A line for each run, in columns.
    pub fn table(&self) -> String {
        let mut rows = vec![columns()];
        rows.extend(self.runs.iter().map(row));
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
        let widths: Vec<usize> = (0..rows[0].len()).filter_map(width).collect();
        let mut text = String::new();
        for row in &rows {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                match column {
                    // Words to the left, figures to the right.
                    0..WORDS => format!("{cell:<width$}"),
                    _ => format!("{cell:>width$}"),
                }
            });
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        for unread in &self.unread {
            text.push_str(&format!("not read: {}: {}\n", unread.folder, unread.because));
        }
        text
    }

    /// The panels as one picture.
    pub fn svg(&self) -> String {
        chart::draw(&self.runs)
    }

    /// Picture and table as one page that needs nothing else.
    pub fn html(&self) -> anyhow::Result<String> {
        let page = Page {
            chart: canvas::bare(&self.svg()),
            chart_style: canvas::style(".chart ", ".chart "),
            columns: columns(),
            words: WORDS,
            rows: self.runs.iter().map(|run| (run.folder.as_str(), row(run))).collect(),
            unread: &self.unread,
        };
        Ok(page.render()?)
    }
}

#[derive(Template)]
#[template(path = "trend.html")]
struct Page<'a> {
    chart: String,
    chart_style: String,
    columns: Vec<String>,
    words: usize,
    rows: Vec<(&'a str, Vec<String>)>,
    unread: &'a [Unread],
}

/// Columns of words; figures follow.
const WORDS: usize = 3;

fn columns() -> Vec<String> {
    let words = ["started (UTC)", "verdict", "stage"].map(str::to_owned);
    words.into_iter().chain(MEASURES.iter().map(|measure| measure.name.to_owned())).collect()
}

fn row(run: &Point) -> Vec<String> {
    let words = [run.started(), run.mark().to_owned(), run.stage.clone()];
    words.into_iter().chain(MEASURES.iter().map(|measure| measure.cell(run))).collect()
}
