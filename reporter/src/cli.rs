//! What was typed, and nothing about what it means: that is `run`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::exit::Failure;
use crate::run::outcome::check_thresholds;
use crate::verdict::{file as threshold_file, threshold};

const EXAMPLES: &str = "\
Examples:
  reporter run
      100,000 MCP sessions on 12 local replicas: baseline, stress in stages, a replica killed under \
load, scaling 12 -> 16 -> 8; about three minutes, then a report in test-results/
  reporter run --connections 1000 --threshold 'p99<50ms'
      the same with 1,000, and exit status 1 if the 99th percentile is 50 ms or more
  reporter run --server 'python3 server.py --host {ip} --port {port}'
      your own server, one process a replica
  reporter run --server http://10.0.0.5:8080/mcp,http://10.0.0.6:8080/mcp
      servers that run already; failover and scaling are skipped, and the report says so
  reporter report test-results/full-100k-20260101T120000Z
      make the report again from what was measured
  reporter report host-a/*.latlog host-b/*.latlog --out merged --threshold 'p99<200ms'
      a report of logs that `loadgen --log` left on several hosts
  reporter preflight --connections 1000000
      what this host would need, what it has, and the commands that fix it

TIME is a number with ms, s, m or h (500ms, 10s, 2m); without a unit, seconds.

Exit status of run and report: 0 valid and every threshold held; 1 a threshold failed; 2 bad \
usage; 3 the run is not valid; 4 this host lacks something; 130 interrupted, with what was measured \
kept and reported. The help of each other command has its own.";

const REPORT_EXAMPLES: &str = "\
Examples:
  reporter report test-results/full-100k-20260101T120000Z
      make the report again from what was measured
  reporter report host-a/*.latlog host-b/*.latlog --out merged --threshold 'p99<200ms'
      a report of logs that `loadgen --log` left on several hosts

Exit status: that of the run: 0 valid and every threshold held; 1 a threshold failed; 2 bad usage; \
3 the run is not valid, or cannot be read; 130 it was interrupted.";

/// Tests how many concurrent connections an MCP server really holds, how fast, and what happens if
/// a replica dies or the cluster is scaled.
#[derive(Parser, Debug)]
#[command(name = "reporter", version, after_help = EXAMPLES, max_term_width = 100)]
#[command(arg_required_else_help = true)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run everything: preflight, cluster, baseline, stress, failover, scaling, report
    Run(Box<RunArgs>),
    /// Make the report again from a results folder, or a new one from latency logs
    Report(ReportArgs),
    /// Check this host against a plan before a run, and tune it
    Preflight(crate::preflight::cli::Args),
    /// Compare two runs; with --fail-on, fail if a figure got worse for certain
    Compare(crate::tools::cli::CompareArgs),
    /// Show the headline figures of every run in a folder, in order of time
    Trend(crate::tools::cli::TrendArgs),
    /// Write a run's verdict as JUnit XML or as a GitHub job summary
    Export(crate::tools::cli::ExportArgs),
    /// Write a latency log as CSV, JSON, JSON lines, or an HdrHistogram interval log
    Dump(crate::tools::cli::DumpArgs),
    /// Read latency logs through and say what they lack
    Verify(crate::tools::cli::VerifyArgs),
    /// Deploy and drive the stack on Docker Swarm
    Swarm(crate::swarm::cli::SwarmArgs),
}

/// Options of `reporter run`.
#[derive(Args, Debug, Clone)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// Connections of the highest stage; the stages are 1K, 10K, 50K and 100K up to this number
    #[arg(short, long, default_value_t = 100_000, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub connections: u64,

    /// quick takes minutes, full about two hours
    #[arg(long, value_enum, default_value_t = ProfileArg::Quick)]
    pub profile: ProfileArg,

    /// Where the replicas run
    #[arg(long, value_enum, default_value_t = Backend::Local)]
    pub backend: Backend,

    /// Replicas at the start; scaling goes to a third more and a third less
    #[arg(long, default_value_t = 12, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=180))]
    pub replicas: u32,

    /// A server program with its arguments, where {ip}, {port}, {tcp_port} and {metrics_port} are
    /// filled in for each replica; or addresses of running servers, separated by commas
    /// [default: the erlmcp-server beside this program]
    #[arg(long, value_name = "PROGRAM|ADDRESSES")]
    pub server: Option<String>,

    /// Path of the MCP endpoint
    #[arg(long, default_value = "/mcp", value_name = "PATH")]
    pub mcp_path: String,

    /// Folder in which the results folder is made
    #[arg(long, default_value = "test-results", value_name = "DIR")]
    pub out: PathBuf,

    /// What the results must meet
    #[command(flatten)]
    pub judged: Judged,

    /// All of [`RunArgs::judged`], once it is read.
    #[arg(skip)]
    pub thresholds: Vec<String>,

    /// Requests a second in every stage above the baseline
    /// [default: by the number of connections, so that each is asked within its heartbeat]
    #[arg(long, value_parser = positive, value_name = "REQ/S")]
    pub rate: Option<f64>,

    /// A session counts as alive while it was answered within this time
    #[arg(long, default_value = "30s", value_parser = duration_ns, value_name = "TIME")]
    pub heartbeat: u64,

    /// Delay before a dead replica is started again
    #[arg(long, default_value = "1s", value_parser = duration_ns, value_name = "TIME")]
    pub restart_delay: u64,

    /// What befalls the cluster in the failover stage; drain and node-loss need --backend swarm
    #[arg(long, value_enum, default_value_t = Failover::Kill)]
    pub failover: Failover,

    /// Leave the scaling stage out
    #[arg(long)]
    pub no_scaling: bool,

    /// MCP revision: the newest with sessions, the newest at all, or one
    #[arg(long, default_value = "sessions", value_name = "sessions|auto|DATE")]
    pub mcp_revision: String,

    /// What is spoken
    #[arg(long, value_enum, default_value_t = ProtocolArg::Mcp)]
    pub protocol: ProtocolArg,

    /// Option for the load generator, such as --generator-option=--ca=ca.pem for an https:// server;
    /// several times; `loadgen --help` lists them
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    pub generator_option: Vec<String>,

    /// Go on although the preflight says that this host cannot carry the plan
    #[arg(long)]
    pub force: bool,

    /// Show a dashboard while the run goes on: rates, connections, latency, errors, the generator's own
    /// load, stages, replicas and events. `q` ends the run and keeps the results; without a
    /// terminal, plain lines
    #[arg(long)]
    pub tui: bool,

    /// Print one JSON object about the outcome on standard output; progress goes to standard error
    #[arg(long)]
    pub json: bool,

    /// Print the outcome only
    #[arg(short, long)]
    pub quiet: bool,

    /// What the stack consists of; last, since all that follows would stand under its heading.
    #[command(flatten)]
    pub swarm: crate::swarm::cli::RunOptions,
}

/// The conditions that results are judged by, beside the defaults.
#[derive(Args, Debug, Clone, Default)]
pub struct Judged {
    /// Conditions beside the defaults, or in the place of some.
    #[arg(long = "threshold", value_name = "EXPR", help = threshold::help())]
    pub typed: Vec<String>,

    /// A TOML file of conditions: p99 = "< 500ms", and tables such as [stage.failover]; what is
    /// typed with --threshold takes the place of the file's
    #[arg(long = "threshold-file", value_name = "FILE")]
    pub file: Option<PathBuf>,
}

impl Judged {
    /// The file's conditions and those that were typed, each as it would be typed.
    ///
    /// # Errors
    /// A usage failure that names the one that cannot be read.
    pub fn all(&self) -> Result<Vec<String>, Failure> {
        let mut all = match &self.file {
            Some(file) => threshold_file::read(file)
                .map_err(|problem| Failure::usage(format!("--threshold-file {problem}")))?,
            None => Vec::new(),
        };
        all.extend(self.typed.iter().cloned());
        check_thresholds(&all)?;
        Ok(all)
    }
}

/// Options of `reporter report`.
#[derive(Args, Debug, Clone)]
#[command(after_help = REPORT_EXAMPLES)]
pub struct ReportArgs {
    /// A results folder of an earlier run; or, with --out, latency logs of any number of hosts and
    /// runs, or folders of them
    #[arg(required = true, value_name = "DIR|LOG")]
    pub paths: Vec<PathBuf>,

    /// Make a results folder of these logs, with its report
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Print one JSON object about the outcome on standard output
    #[arg(long)]
    pub json: bool,

    /// Print the outcome only
    #[arg(short, long)]
    pub quiet: bool,

    /// What the logs' results must meet.
    #[command(
        flatten,
        next_help_heading = "With --out (a results folder is judged as its run was)"
    )]
    pub judged: Judged,
}

/// See [`RunArgs::profile`].
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfileArg {
    /// Everything once, about three minutes
    Quick,
    /// The two-hour run
    Full,
}

/// See [`RunArgs::backend`].
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// One process a replica on loopback addresses of this host
    Local,
    /// The stack on Docker Swarm, which `reporter swarm init` prepares
    Swarm,
}

/// See [`RunArgs::failover`].
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failover {
    /// One replica gets SIGKILL
    Kill,
    /// One node gives up its replicas, and takes part again after the stage
    Drain,
    /// One node is gone: --node-off ends it
    NodeLoss,
    /// Nothing: the stage is left out
    None,
}

/// See [`RunArgs::protocol`].
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolArg {
    /// MCP over HTTP
    Mcp,
    /// MCP as JSON lines over TCP
    Tcp,
    /// Plain HTTP GETs of /health
    Http,
}

pub(crate) fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 && value <= 1e9 => Ok(value),
        _ => Err("must be a number above 0 and at most 1000000000".to_owned()),
    }
}

/// `500ms`, `10s`, `2m`, or seconds without a unit; above 0 and at most a day.
pub(crate) fn duration_ns(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit_s = match unit {
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        _ => return Err(format!("unknown unit '{unit}': use ms, s, m or h")),
    };
    let seconds = number.parse::<f64>().map_or(f64::NAN, |number| number * unit_s);
    if seconds > 0.0 && seconds <= 86_400.0 {
        Ok((seconds * 1e9) as u64)
    } else {
        Err(format!("'{text}' is not a time such as 500ms, 10s or 2m, above 0 and up to 24h"))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn run(arguments: &[&str]) -> Result<RunArgs, clap::Error> {
        let all = ["reporter", "run"].iter().chain(arguments);
        match Cli::try_parse_from(all)?.command {
            Command::Run(args) => Ok(*args),
            other => panic!("not a run: {other:?}"),
        }
    }

    #[test]
    fn the_bare_command_is_the_main_job() {
        let args = run(&[]).expect("parses");
        assert_eq!((args.connections, args.replicas), (100_000, 12));
        assert_eq!((args.heartbeat, args.restart_delay), (30_000_000_000, 1_000_000_000));
        assert_eq!(args.out, PathBuf::from("test-results"));
    }

    #[test]
    fn thresholds_add_up() {
        let args = run(&["--threshold", "p99<500ms", "--threshold", "success>99%"]);
        let judged = args.expect("parses").judged;
        assert_eq!(judged.all().expect("they are sound"), ["p99<500ms", "success>99%"]);
    }

    #[test]
    fn what_is_typed_takes_the_place_of_the_files() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("limits.toml");
        std::fs::write(&file, "p99 = '< 1s'\nmax = '< 9s'").expect("writes");
        let file = file.display().to_string();
        let args = run(&["--threshold-file", &file, "--threshold", "p99<500ms"]).expect("parses");
        let all = crate::verdict::threshold::resolve(&args.judged.all().expect("sound"));
        let all = all.expect("resolves");
        let limit = |name: &str| all.iter().find(|it| it.name() == name).map(|it| it.limit);
        assert_eq!((limit("p99"), limit("max")), (Some(5e8), Some(9e9)));
        std::fs::write(&file, "p99 = '< 5%'").expect("writes");
        let failure = args.judged.all().expect_err("a wrong unit");
        assert!(failure.message.contains("limits.toml: threshold `p99< 5%`"), "{failure}");
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            &["--connections", "0"][..],
            &["--replicas", "0"],
            &["--replicas", "181"],
            &["--rate", "nan"],
            &["--heartbeat", "0s"],
            &["--heartbeat", "5 years"],
            &["--restart-delay", "-1s"],
            &["--backend", "cloud"],
            &["extra"],
        ] {
            assert!(run(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    fn help(path: &[&str]) -> clap::Command {
        let mut command = Cli::command();
        command.build();
        let named = |command: clap::Command, name: &&str| {
            command.find_subcommand(name).expect("a command of this name").clone()
        };
        path.iter().fold(command, named)
    }

    #[test]
    fn what_a_run_is_judged_by_is_in_every_help_that_takes_thresholds() {
        for path in [&["run"][..], &["report"], &["swarm", "loadgen"]] {
            let help = help(path).term_width(1_000).render_long_help().to_string();
            for default in threshold::DEFAULTS {
                assert!(help.contains(default), "{path:?} lacks {default}: {help}");
            }
        }
    }

    #[test]
    fn options_stand_under_the_heading_that_they_belong_to() {
        let swarm = crate::swarm::cli::RunOptions::augment_args(clap::Command::new("swarm"));
        let judged = Judged::augment_args(clap::Command::new("judged"));
        for (path, under) in [("run", swarm), ("report", judged)] {
            let ids = |command: &clap::Command, headed: bool| -> Vec<String> {
                let all = command.get_arguments();
                let wanted = all.filter(|it| !headed || it.get_help_heading().is_some());
                wanted.map(|it| it.get_id().to_string()).collect()
            };
            assert_eq!(ids(&help(&[path]), true), ids(&under, false), "{path}");
        }
    }

    #[test]
    fn every_command_on_results_shows_how_it_is_called_and_how_it_ends() {
        for name in ["run", "report", "preflight", "compare", "trend", "export", "dump", "verify"] {
            let help = help(&[name]).render_long_help().to_string();
            assert!(help.contains("Exit status"), "{name}: {help}");
            assert!(help.contains(&format!("\n  reporter {name}")), "{name}: {help}");
        }
    }
}
