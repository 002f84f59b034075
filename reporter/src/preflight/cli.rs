//! The command line of `reporter preflight`: what was typed, turned into a plan or a change.

use std::ffi::OsString;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser};

use super::apply::{self, Change, Done, Here, Outcome, ProcSys, Store};
use super::emit::{self, Format};
use super::items::{self, Given};
use super::plan::{self, Plan, Role, SourceSet};
use super::profile::Profile;
use super::table::TableStyle;
use super::{check, gather};

const EXAMPLES: &str = "\
Examples:
  reporter preflight --connections 1M
      what this host would need for a million, what it has, and the commands that fix it
  reporter preflight -c 100K --targets 10.0.0.5:8080,10.0.0.6:8080
      the same for the generator alone, with servers on other hosts
  sudo reporter preflight -c 100K --apply
      write the kernel settings that are missing; --revert puts the former ones back
  reporter preflight -c 100K --print sysctl > /etc/sysctl.d/90-load.conf
      the same settings as a file

Exit status: 0 the plan fits, or every change took; 1 it does not fit, or a change did not take; \
2 bad usage; 4 cannot tell, or not permitted.";

/// Options of `reporter preflight`.
#[derive(Debug, Clone, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Connections held at once; K and M stand for thousands and millions
    #[arg(short, long, default_value = "100000", value_parser = count, value_name = "N")]
    pub connections: u64,
    /// Requests a second over all connections
    #[arg(short, long, default_value = "0", value_parser = count, value_name = "N")]
    pub rate: u64,
    /// New connections a second while ramping
    #[arg(long, default_value_t = plan::RAMP_PER_S, value_parser = count, value_name = "N")]
    pub ramp: u64,
    /// Connections closed and replaced a second while holding
    #[arg(long, default_value = "0", value_parser = count, value_name = "N")]
    pub closes: u64,
    /// Targets: HOST:PORT or URLs, separated by commas [default: the local replicas]
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub targets: Vec<String>,
    /// Source addresses and prefixes, separated by commas [default on loopback: 127.0.0.0/8]
    #[arg(long, value_name = "LIST")]
    pub sources: Option<SourceSet>,
    /// Server processes on this host
    #[arg(long, default_value_t = 12, value_name = "N")]
    pub replicas: u32,
    /// Which end is on this host [default: both, or generator where no target is local]
    #[arg(long)]
    pub role: Option<Role>,
    /// Generator workers; 0: as many as needed
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub workers: u32,
    /// Server processes that run already: their own limits count
    #[arg(long, value_delimiter = ',', value_name = "PID")]
    pub pid: Vec<u32>,
    /// Server memory a session, bytes
    #[arg(long, default_value_t = plan::SESSION_BYTES, value_name = "BYTES")]
    pub session_bytes: u64,
    /// How long a server may stop accepting, ms: sizes the accept queue
    #[arg(long, default_value_t = plan::ACCEPT_STALL_MS, value_name = "MS")]
    pub accept_stall_ms: u64,
    /// Print preflight.json instead of the table
    #[arg(long)]
    pub json: bool,
    /// Show only what is not fine
    #[arg(short, long)]
    pub quiet: bool,
    /// Write the kernel settings that differ (root), with a back-up
    #[arg(long, conflicts_with_all = ["revert", "print"])]
    pub apply: bool,
    /// Put every kernel setting back as it was before --apply (root)
    #[arg(long, conflicts_with = "print")]
    pub revert: bool,
    /// Print the tuning as a file for other tools
    #[arg(long, value_name = "FORMAT")]
    pub print: Option<Format>,
    /// Where --apply keeps its back-up
    #[arg(long, default_value = apply::STATE_DIR, value_name = "DIR")]
    pub state: PathBuf,
}

/// `100000`, `100_000`, `100K`, `1M`.
fn count(text: &str) -> Result<u64, String> {
    let text = text.trim().replace(['_', ','], "");
    let (digits, factor) = match text.chars().last() {
        Some('k' | 'K') => (&text[..text.len() - 1], 1_000),
        Some('m' | 'M') => (&text[..text.len() - 1], 1_000_000),
        _ => (text.as_str(), 1),
    };
    let number: u64 = digits.parse().map_err(|_| "not a number (100000, 100K, 1M)".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "too large".to_owned())
}

impl Args {
    /// The plan that was typed.
    pub fn plan(&self) -> Result<Plan, String> {
        let mut targets: Vec<SocketAddr> = Vec::new();
        for text in &self.targets {
            targets.extend(plan::parse_target(text)?);
        }
        let remote = !targets.is_empty() && targets.iter().all(|t| !t.ip().is_loopback());
        let role = self.role.unwrap_or(if remote { Role::Generator } else { Role::Both });
        Ok(Plan {
            connections: self.connections,
            rate_per_s: self.rate,
            ramp_per_s: self.ramp,
            closes_per_s: self.closes,
            targets,
            sources: self.sources.clone().unwrap_or_default(),
            replicas: self.replicas.max(1),
            role,
            workers: self.workers,
            server_pids: self.pid.clone(),
            session_bytes: self.session_bytes,
            accept_stall_ms: self.accept_stall_ms,
        })
    }
}

#[derive(Debug, clap::Parser)]
#[command(
    name = "reporter preflight",
    about = "Whether this host can carry a plan, and what to do"
)]
struct Alone {
    #[command(flatten)]
    args: Args,
}

/// Parses what follows `reporter preflight` and does it; ends the process at a usage error.
pub fn from_arguments(arguments: &[OsString]) -> u8 {
    let name = OsString::from("reporter preflight");
    let all = std::iter::once(&name).chain(arguments);
    match Alone::try_parse_from(all) {
        Ok(alone) => run(&alone.args).unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            3
        }),
        Err(error) => error.exit(),
    }
}

/// Does what was asked and prints it. The number is the exit code: 0 fits (or: every change took),
/// 1 does not fit (or: a change did not take), 2 bad usage, 4 cannot tell (or: not permitted).
pub fn run(args: &Args) -> anyhow::Result<u8> {
    let plan = match args.plan() {
        Ok(plan) => plan,
        Err(message) => {
            eprintln!("reporter preflight: {message}");
            return Ok(2);
        }
    };
    if args.revert {
        return Ok(change(args, None));
    }
    if args.apply {
        return Ok(change(args, Some(&plan)));
    }
    if let Some(format) = args.print {
        let profile = Profile::built_in();
        let host = gather::read(&plan, &profile);
        print!("{}", emit::text(&Given { plan: &plan, host: &host, profile: &profile }, format));
        return Ok(0);
    }
    let report = check(&plan);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.table(&TableStyle { all: !args.quiet, ..TableStyle::detect() }));
    }
    Ok(report.exit_code())
}

/// Applies a plan's settings, or reverts.
fn change(args: &Args, plan: Option<&Plan>) -> u8 {
    let name = if plan.is_some() { "--apply" } else { "--revert" };
    if !nix::unistd::geteuid().is_root() {
        eprintln!("reporter preflight {name}: needs root; nothing was changed");
        return 4;
    }
    let here = Here::read();
    let result = Store::open(&args.state).and_then(|store| match plan {
        Some(plan) => {
            apply::apply(&mut ProcSys, &store, &here, &changes(plan)).map(|d| (d, store.path()))
        }
        None => apply::revert(&mut ProcSys, &store, &here).map(|d| (d, store.path())),
    });
    match result {
        Err(error) => {
            eprintln!("reporter preflight {name}: {error}");
            4
        }
        Ok((done, path)) => {
            let bad = done.iter().filter(|(_, o)| !o.good()).count();
            if args.json {
                println!("{}", serde_json::json!({ "changes": as_json(&done), "failed": bad }));
            } else {
                print!("{}", listing(&done));
                println!("{}", closing(&done, plan.is_some(), &path.display().to_string()));
            }
            // A setting that this kernel or container does not have is reported, not failed.
            let failed = done.iter().any(|(_, o)| !o.good() && *o != Outcome::Absent);
            u8::from(failed)
        }
    }
}

fn changes(plan: &Plan) -> Vec<Change> {
    let profile = Profile::built_in();
    let host = gather::read(plan, &profile);
    let tuning = items::tuning(&Given { plan, host: &host, profile: &profile });
    let change = |t: super::report::Tuning| Change {
        key: t.key,
        wanted: t.wanted,
        rule: t.rule,
        scope: t.scope,
    };
    tuning.into_iter().map(change).collect()
}

fn as_json(done: &[Done]) -> Vec<serde_json::Value> {
    let one = |(key, outcome): &Done| {
        let mut value = serde_json::to_value(outcome).unwrap_or_default();
        if let Some(object) = value.as_object_mut() {
            object.insert("key".to_owned(), key.clone().into());
        }
        value
    };
    done.iter().map(one).collect()
}

fn listing(done: &[Done]) -> String {
    let mut out = String::new();
    let width = done.iter().map(|(k, _)| k.len()).max().unwrap_or(0);
    for (key, outcome) in done {
        let text = match outcome {
            Outcome::Fine { value } => format!("fine       {value}"),
            Outcome::Written { before, after } => format!("written    {before} -> {after}"),
            Outcome::NotTaken { wanted, after } => {
                format!("NOT TAKEN  wrote {wanted}, it reads {after}")
            }
            Outcome::Refused { error } => format!("REFUSED    {error}"),
            Outcome::Absent => {
                "absent     not visible here: set it on the host, if at all".to_owned()
            }
            Outcome::Elsewhere { network } => format!("ELSEWHERE  belongs to {network}"),
        };
        let _ = writeln!(out, "{key:<width$}  {text}");
    }
    out
}

fn closing(done: &[Done], applied: bool, path: &str) -> String {
    let written = done.iter().filter(|(_, o)| matches!(o, Outcome::Written { .. })).count();
    let bad = done.iter().filter(|(_, o)| !o.good() && *o != Outcome::Absent).count();
    match (applied, bad) {
        (true, _) if written == 0 && bad == 0 => "Nothing was to be changed.".to_owned(),
        (true, 0) => {
            format!("{written} changed; the former values are in {path}; --revert restores them.")
        }
        (true, _) => {
            format!("{written} changed, {bad} could not be; the former values are in {path}.")
        }
        (false, 0) => format!("All as before ({written} put back)."),
        (false, _) => format!("{written} put back, {bad} could not be: they stay in {path}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn plan(arguments: &[&str]) -> Plan {
        let all = std::iter::once("preflight").chain(arguments.iter().copied());
        Cli::try_parse_from(all).unwrap().args.plan().unwrap()
    }

    #[test]
    fn counts_have_suffixes() {
        assert_eq!((count("100K"), count("1m")), (Ok(100_000), Ok(1_000_000)));
        assert_eq!((count("100_000"), count("7")), (Ok(100_000), Ok(7)));
        assert!(count("").is_err() && count("K").is_err() && count("-1").is_err());
        assert!(count("99999999999999999M").is_err());
    }

    #[test]
    fn remote_targets_make_this_host_a_generator() {
        assert_eq!(plan(&["--targets", "192.0.2.1:80"]).role, Role::Generator);
        assert_eq!(plan(&["--targets", "127.0.0.1:80"]).role, Role::Both);
        assert_eq!(plan(&["--targets", "192.0.2.1:80", "--role", "both"]).role, Role::Both);
        assert_eq!(plan(&[]).role, Role::Both);
    }

    #[test]
    fn everything_typed_reaches_the_plan() {
        let p = plan(&[
            "-c",
            "5K",
            "--rate",
            "10",
            "--ramp",
            "7",
            "--closes",
            "3",
            "--sources",
            "10.0.0.0/30",
            "--replicas",
            "2",
            "--workers",
            "4",
            "--pid",
            "11,12",
            "--accept-stall-ms",
            "50",
        ]);
        assert_eq!((p.connections, p.rate_per_s, p.ramp_per_s, p.closes_per_s), (5_000, 10, 7, 3));
        assert_eq!((p.source_count(), p.replicas, p.workers), (2, 2, 4));
        assert_eq!((p.server_pids, p.accept_stall_ms), (vec![11, 12], 50));
    }

    #[test]
    fn changing_and_printing_exclude_each_other() {
        for pair in [["--apply", "--revert"], ["--apply", "--print=sysctl"]] {
            assert!(Cli::try_parse_from(["x", pair[0], pair[1]]).is_err());
        }
    }

    #[test]
    fn a_failed_change_is_loud_in_the_list() {
        let done = vec![
            ("a".to_owned(), Outcome::NotTaken { wanted: "5".into(), after: "1".into() }),
            ("bb".to_owned(), Outcome::Absent),
        ];
        let text = listing(&done);
        assert!(text.contains("a   NOT TAKEN  wrote 5, it reads 1"), "{text}");
        assert!(closing(&done, true, "p").contains("1 could not be"));
    }
}
