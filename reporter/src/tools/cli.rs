//! Options of the commands on finished runs, and what they print.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::compare::{Change, FailOn, SECONDS_MIN, compare, differences, page};
use super::{dump, export, trend, verify};
use crate::results::{self, Results};

const DUMP_EXAMPLES: &str = "\
Examples:
  reporter dump run.latlog --format csv | head
      the first requests
  reporter dump run.latlog --format hlog > run.hlog
      for the tools of HdrHistogram

Exit status: 0 all is written; 2 bad usage; 3 the log is incomplete (what it holds is written all the \
same), or cannot be read.";

const VERIFY_EXAMPLES: &str = "\
Example:
  reporter verify host-a/*.latlog host-b/*.latlog

Exit status: 0 every log is whole; 2 bad usage; 3 one is incomplete, or cannot be read.";

const COMPARE_EXAMPLES: &str = "\
Examples:
  reporter compare BASE NEW
      what has changed, stage by stage, and whether that is certain
  reporter compare BASE NEW --fail-on 'p99>+10%' --out DIR
      the same as a page with charts, and exit status 1 if p99 certainly grew by more than 10 %

Exit status: 0 no condition of --fail-on is met; 1 one is; 2 bad usage; 3 a run cannot be read.";

const TREND_EXAMPLES: &str = "\
Example:
  reporter trend test-results

Exit status: 0 whatever the verdicts are; 2 bad usage, or no run there; 3 what is made of them cannot \
be written.";

const EXPORT_EXAMPLES: &str = "\
Examples:
  reporter export test-results/full-100k-20260101T120000Z --format junit > junit.xml
  reporter export test-results/full-100k-20260101T120000Z --format github >> $GITHUB_STEP_SUMMARY

Exit status: 0 whatever the verdict is; 2 bad usage; 3 the run cannot be read.";

/// Options of `reporter dump`.
#[derive(Args, Debug, Clone)]
#[command(after_help = DUMP_EXAMPLES)]
pub struct DumpArgs {
    /// A latency log, *.latlog
    pub log: PathBuf,

    /// How it is written to standard output
    #[arg(long, value_enum, default_value_t = FormatArg::Csv)]
    pub format: FormatArg,
}

/// See [`DumpArgs::format`].
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatArg {
    /// Requests, one a line
    Csv,
    /// Requests as one array
    Json,
    /// Everything, one object a line
    Ndjson,
    /// HdrHistogram interval log of the response latency, microseconds
    Hlog,
}

/// Options of `reporter verify`.
#[derive(Args, Debug, Clone)]
#[command(after_help = VERIFY_EXAMPLES)]
pub struct VerifyArgs {
    /// Latency logs, *.latlog
    #[arg(required = true)]
    pub logs: Vec<PathBuf>,
}

/// Options of `reporter compare`.
#[derive(Args, Debug, Clone)]
#[command(after_help = COMPARE_EXAMPLES)]
pub struct CompareArgs {
    /// The results folder, or its results.json, to compare with
    pub base: PathBuf,
    /// The results folder, or its results.json, to be judged
    pub new: PathBuf,

    /// Exit with 1 on a change such as 'p99>+10%' or 'throughput<-5%' that is certain; repeatable.
    /// Figures: p50, p95, p99, throughput, failures, memory_per_session
    #[arg(long, value_name = "COND")]
    pub fail_on: Vec<FailOn>,

    /// Write the comparison as COMPARISON.html, COMPARISON.md and charts/*.svg into this folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Options of `reporter trend`.
#[derive(Args, Debug, Clone)]
#[command(after_help = TREND_EXAMPLES)]
pub struct TrendArgs {
    /// A folder of results folders; trend.svg and trend.html are written into it
    pub dir: PathBuf,

    /// Print the figures as one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Options of `reporter export`.
#[derive(Args, Debug, Clone)]
#[command(after_help = EXPORT_EXAMPLES)]
pub struct ExportArgs {
    /// A results folder, or its results.json
    pub dir: PathBuf,

    /// What is written to standard output
    #[arg(long, value_enum)]
    pub format: ExportArg,
}

/// See [`ExportArgs::format`].
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportArg {
    /// JUnit XML, one test case a threshold
    Junit,
    /// Markdown for $GITHUB_STEP_SUMMARY
    Github,
}

/// Writes a log's content; the exit code is 0, or 3 if the log lacks something.
pub fn run_dump(args: &DumpArgs) -> anyhow::Result<u8> {
    let format = match args.format {
        FormatArg::Csv => dump::Format::Csv,
        FormatArg::Json => dump::Format::Json,
        FormatArg::Ndjson => dump::Format::Ndjson,
        FormatArg::Hlog => dump::Format::Hlog,
    };
    let damage = match dump::dump(&args.log, format, &mut std::io::stdout().lock()) {
        Ok(damage) => damage,
        Err(error) if is_broken_pipe(&error) => return Ok(0),
        Err(error) => return Err(error),
    };
    if damage.is_none() {
        return Ok(0);
    }
    eprintln!("{}: {damage}", args.log.display());
    Ok(3)
}

/// `reporter dump LOG | head` is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Prints a line for each log; the exit code is 0 if all are whole, 3 if one is not.
pub fn run_verify(args: &VerifyArgs) -> anyhow::Result<u8> {
    let mut code = 0;
    for log in &args.logs {
        let verified = verify::verify(log).with_context(|| format!("{}", log.display()))?;
        println!("{}: {verified}", log.display());
        if !verified.is_whole() {
            code = 3;
        }
    }
    Ok(code)
}

/// Prints the changes; the exit code is 0, or 1 if a condition is broken.
pub fn run_compare(args: &CompareArgs) -> anyhow::Result<u8> {
    let (base, new) = (read(&args.base)?, read(&args.new)?);
    if let Some(dir) = &args.out {
        page::write(dir, &base, &new, &args.fail_on)?;
    }
    let mut out = std::io::stdout().lock();
    for difference in differences(&base, &new) {
        writeln!(out, "differs  {difference}")?;
    }
    let mut code = 0;
    for change in compare(&base, &new) {
        let broken = args.fail_on.iter().find(|condition| condition.broken_by(&change));
        writeln!(out, "{}", line(&change, broken))?;
        if broken.is_some() {
            code = 1;
        }
    }
    if let Some(dir) = &args.out {
        writeln!(out, "written  {}", dir.join(page::HTML_FILE).display())?;
    }
    Ok(code)
}

fn line(change: &Change, broken: Option<&FailOn>) -> String {
    let show = |value: f64| change.metric.show(value);
    let interval = match change.interval {
        Some((low, high)) => format!("[{low:+.1} … {high:+.1} %]"),
        None if change.metric.is_once() => "[once a run]".to_owned(),
        None => format!("[under {SECONDS_MIN} seconds]"),
    };
    let word = match (broken, change.is_certain()) {
        (Some(condition), _) => format!("FAIL {}", condition.text),
        (None, true) if change.interval.is_some() => "certain".to_owned(),
        (None, _) => String::new(),
    };
    format!(
        "{:<14} {:<18} {:>12} -> {:>12}  {:>+8.1} %  {interval:<22} {word}",
        change.stage,
        change.metric.name(),
        show(change.base),
        show(change.new),
        change.percent
    )
    .trim_end()
    .to_owned()
}

/// Prints a line for each run and draws them; the exit code is 0 whatever the verdicts are.
pub fn run_trend(args: &TrendArgs) -> anyhow::Result<u8> {
    let trend = trend::read(&args.dir)?;
    for (name, content) in [("trend.svg", trend.svg()), ("trend.html", trend.html()?)] {
        let path = args.dir.join(name);
        std::fs::write(&path, content)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let text = match args.json {
        true => serde_json::to_string_pretty(&trend)? + "\n",
        false => trend.table(),
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(0)
}

/// Prints a verdict in the format of a CI system; the exit code is 0.
pub fn run_export(args: &ExportArgs) -> anyhow::Result<u8> {
    let results = read(&args.dir)?;
    let text = match args.format {
        ExportArg::Junit => export::junit(&results),
        ExportArg::Github => export::github_summary(&results),
    };
    print!("{text}");
    Ok(0)
}

fn read(path: &Path) -> anyhow::Result<Results> {
    let file = if path.is_dir() { path.join("results.json") } else { path.to_owned() };
    let text = std::fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
    results::parse(&text).with_context(|| format!("{}", file.display()))
}
