//! results.txt: the classic block for a terminal or a pull request, one for each stage.

use std::fmt::Write;

use super::units;
use crate::results::{Results, StageResult};

/// Columns of a terminal.
const COLUMNS: usize = 80;
/// A space at which no line is folded.
const TIED: &str = "\u{a0}";

/// The text.
pub fn render(results: &Results) -> String {
    let mut out = String::new();
    for line in unfolded(results).lines() {
        fold(&mut out, line);
    }
    out
}

/// Breaks a line between words; what follows stands under its text.
fn fold(out: &mut String, line: &str) {
    let hang = if line.starts_with("  ") { 15 } else { 2 };
    let mut column = 0;
    for word in line.split_inclusive(' ') {
        let width = word.trim_end().chars().count();
        if column > hang && column + width > COLUMNS {
            out.truncate(out.trim_end_matches(' ').len());
            let _ = write!(out, "\n{:hang$}", "");
            column = hang;
        }
        out.push_str(&word.replace(TIED, " "));
        column += word.chars().count();
    }
    out.push('\n');
}

fn unfolded(results: &Results) -> String {
    let mut out = String::new();
    let validity = if results.valid { "run valid" } else { "RUN NOT VALID" };
    let interrupted = if results.interrupted { ", INTERRUPTED" } else { "" };
    let _ = writeln!(out, "{} ({validity}{interrupted})", results.verdict.name());
    for reason in &results.invalid_because {
        let _ = writeln!(out, "  not valid: {reason}");
    }
    for threshold in &results.thresholds {
        let word = match threshold.pass {
            Some(true) => "pass",
            Some(false) => "FAIL",
            None => "----",
        };
        let value = match threshold.value {
            Some(value) => units::in_unit(value, &threshold.unit),
            None => threshold.because.clone().unwrap_or_default(),
        };
        let _ = writeln!(out, "  {word}  {:<12} {:<12} {value}", threshold.name, threshold.limit);
    }
    for stage in &results.stages {
        write_stage(&mut out, stage);
    }
    write_changes(&mut out, results);
    out
}

fn write_stage(out: &mut String, stage: &StageResult) {
    let _ = writeln!(out, "\n{} ({})", stage.name, stage.kind);
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "  {name:<12} {value}");
    };
    if let Some(reason) = &stage.skipped {
        line("Skipped", reason.clone());
    }
    let Some(hold) = stage.hold_ns else { return };
    let held = &stage.connections;
    let alive = held.session_alive_peak.map_or("?".to_owned(), units::count);
    let requests = &stage.requests;
    line("Duration", units::duration(hold));
    line("Connections", format!("{alive} alive of {} planned", units::count(held.planned)));
    line(
        "Requests",
        format!(
            "{} due, {} answered, {} failed, {} dropped",
            units::count(requests.offered),
            units::count(requests.ok),
            units::count(requests.failed),
            units::count(requests.dropped)
        ),
    );
    line("Success", requests.success_share.map_or("-".to_owned(), units::share));
    if let Some(response) = &stage.response_ns {
        let figures = [
            ("min", Some(response.min as f64)),
            ("p50", Some(response.p50 as f64)),
            ("p95", response.p95.map(|ns| ns as f64)),
            ("p99", response.p99.map(|ns| ns as f64)),
            ("avg", Some(response.mean)),
            ("max", Some(response.max as f64)),
        ];
        // A figure stays with its name and its unit.
        let figure = |(name, ns): (&str, Option<f64>)| {
            let ns = ns.map_or("-".to_owned(), units::duration_f64);
            format!("{name} {ns}").replace(' ', TIED)
        };
        line("Response", figures.map(figure).join("  "));
    }
    let rate = |rate: Option<f64>| rate.map_or("-".to_owned(), units::rate);
    line(
        "Requests/s",
        format!("{} of {} offered", rate(stage.throughput_per_s), rate(stage.offered_per_s)),
    );
    for (reason, count) in &stage.errors {
        line("Error", format!("{reason} {}", units::count(*count)));
    }
    for reason in &stage.suspect_because {
        line("Suspect", reason.clone());
    }
}

fn write_changes(out: &mut String, results: &Results) {
    let time = |ns: Option<u64>| ns.map_or("never".to_owned(), units::duration);
    for kill in &results.failovers {
        let _ = writeln!(
            out,
            "\n{} of {}: recovered {}, {} requests lost, {} of {} sessions back",
            units::words(&kill.cause),
            kill.replica,
            time(kill.recovery_ns),
            units::count(kill.lost_requests),
            units::count(kill.sessions_reestablished),
            units::count(kill.sessions_lost)
        );
    }
    for change in &results.scaling {
        let _ = writeln!(
            out,
            "Scaling {} -> {}: converged {}, {} requests lost",
            change.from,
            change.to,
            time(change.converged_ns),
            units::count(change.failed_requests)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_folded_under_its_text() {
        let folded = |line: &str| {
            let mut out = String::new();
            fold(&mut out, line);
            out
        };
        let short = "  Success      100 %";
        assert_eq!(folded(short), format!("{short}\n"));
        let long = format!("  Suspect      {}", "word ".repeat(30));
        let text = folded(long.trim_end());
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("               word")), "{text}");
        assert_eq!(text.split_whitespace().count(), 31, "nothing is lost");
    }
}
