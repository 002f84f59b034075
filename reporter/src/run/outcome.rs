//! The run's three calls into the other parts: thresholds, preflight, report.

use std::net::SocketAddr;
use std::path::Path;

use super::console::Console;
use crate::exit::{Exit, Failure};
use crate::folder;
use crate::preflight::{self, Plan, Role, Verdict};
use crate::report::{self, Outcome};
use crate::results;
use crate::verdict::threshold;

/// Checks the thresholds before anything is started for them.
///
/// # Errors
/// A usage failure that names the one that cannot be read.
pub fn check_thresholds(thresholds: &[String]) -> Result<(), Failure> {
    threshold::resolve(thresholds)
        .map(|_| ())
        .map_err(|error| Failure::usage(format!("--threshold: {error}")))
}

/// What the preflight is asked about.
#[derive(Clone, Debug)]
pub struct PreflightPlan {
    /// Connections at once.
    pub connections: u64,
    /// Requests a second.
    pub rate_per_s: f64,
    /// New connections a second.
    pub ramp_per_s: f64,
    /// Replicas that will run on this host.
    pub replicas: u32,
    /// Servers elsewhere; empty for local replicas.
    pub urls: Vec<String>,
    /// Whether the server is the bundled one, whose memory a session is known.
    pub bundled: bool,
}

/// Asks whether this host can carry the plan, and keeps the answer as `file`.
///
/// # Errors
/// A host failure that names what does not fit and how to fix it, unless `force`.
pub fn preflight(
    asked: &PreflightPlan,
    file: &Path,
    console: &Console,
    force: bool,
) -> Result<(), Failure> {
    let mut plan = Plan {
        connections: asked.connections,
        rate_per_s: asked.rate_per_s.ceil() as u64,
        ramp_per_s: asked.ramp_per_s.ceil() as u64,
        replicas: asked.replicas,
        ..Plan::default()
    };
    if !asked.bundled {
        // What a session of somebody else's server costs is for the run to find out.
        plan.session_bytes = 0;
    }
    if !asked.urls.is_empty() {
        plan.role = Role::Generator;
        plan.replicas = 0;
        plan.targets = asked.urls.iter().flat_map(|url| addresses(url)).collect();
    }
    let report = preflight::check(&plan);
    report
        .write_json(file)
        .map_err(|error| Failure::invalid(format!("cannot write {}: {error}", file.display())))?;
    console.progress(&format!("preflight: {}", report.summary()));
    let problems: Vec<String> = report
        .problems()
        .map(|item| {
            let fix = item.fix.as_ref().map_or_else(String::new, |fix| format!("; fix: {fix}"));
            format!("  {}: needs {}, has {}{fix}", item.title, item.needed, item.actual)
        })
        .collect();
    // What cannot be told is for the run to find out.
    let fits = report.verdict != Verdict::DoesNotFit;
    if fits || force {
        problems.iter().for_each(|problem| console.progress(problem));
        return Ok(());
    }
    Err(Failure::host(format!(
        "this host cannot carry {} connections; `reporter preflight` shows all, --force goes on \
         all the same:\n{}",
        asked.connections,
        problems.join("\n")
    )))
}

fn addresses(url: &str) -> Vec<SocketAddr> {
    preflight::plan::parse_target(url).unwrap_or_default()
}

/// Makes the report of a results folder, and prints what it says and where it is.
///
/// # Errors
/// If the folder cannot be read or written.
pub fn report(dir: &Path, console: &Console, json: bool) -> anyhow::Result<Exit> {
    folder::read_record(dir)?;
    let outcome = report::write(dir)?;
    let exit = exit(&outcome);
    let text = std::fs::read_to_string(dir.join("results.txt")).unwrap_or_default();
    for line in text.lines() {
        console.progress(line);
    }
    console.line(&format!("verdict: {}{}", outcome.verdict.name(), qualification(&outcome)));
    console.line(&format!("report: {}", dir.join("FINAL_REPORT.md").display()));
    if json {
        let summary = serde_json::json!({
            "verdict": outcome.verdict.name(),
            "valid": outcome.valid,
            "interrupted": outcome.interrupted,
            "exit_code": exit.code(),
            "results_dir": dir,
            "results": dir.join("results.json"),
            "report": dir.join("FINAL_REPORT.md"),
            "report_html": dir.join("FINAL_REPORT.html"),
        });
        println!("{summary}");
    }
    Ok(exit)
}

/// A run that is not valid says nothing about the server, so that comes before the verdict.
fn exit(outcome: &Outcome) -> Exit {
    match (outcome.interrupted, outcome.valid, outcome.verdict) {
        (true, ..) => Exit::Interrupted,
        (false, false, _) => Exit::Invalid,
        (false, true, results::Verdict::Fail) => Exit::ThresholdFailed,
        (false, true, results::Verdict::Pass) => Exit::Pass,
    }
}

fn qualification(outcome: &Outcome) -> &'static str {
    match (outcome.valid, outcome.interrupted) {
        (true, false) => "; the run is valid",
        (true, true) => "; interrupted, valid as far as it went",
        (false, false) => "; the run is NOT VALID: the report says why",
        (false, true) => "; interrupted and NOT VALID: the report says why",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_tell_an_invalid_run_from_a_failed_one() {
        let exit_of = |verdict, valid, interrupted| exit(&Outcome { verdict, valid, interrupted });
        use crate::results::Verdict::{Fail, Pass};
        assert_eq!(exit_of(Pass, true, false), Exit::Pass);
        assert_eq!(exit_of(Fail, true, false), Exit::ThresholdFailed);
        assert_eq!(exit_of(Pass, false, false), Exit::Invalid);
        assert_eq!(exit_of(Fail, false, false), Exit::Invalid);
        assert_eq!(exit_of(Fail, true, true), Exit::Interrupted);
    }

    #[test]
    fn a_threshold_that_cannot_be_read_is_a_usage_failure() {
        let failure = check_thresholds(&["p99<<5 parsecs".to_owned()]).expect_err("is nonsense");
        assert_eq!(failure.exit, Exit::Usage);
        check_thresholds(&["p99<500ms".to_owned()]).expect("is a threshold");
    }
}
