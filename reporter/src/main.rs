//! The reporter's entry point: what was typed becomes one call, and its end an exit code.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use reporter::cli::{Cli, Command, ReportArgs, RunArgs};
use reporter::cluster::launch::{CHILD_MODE, Launcher, become_child};
use reporter::exit::{self, Exit, Failure};
use reporter::preflight;
use reporter::run;
use reporter::run::console::Console;
use reporter::swarm;
use reporter::tools;

fn main() -> ExitCode {
    let typed: Vec<OsString> = std::env::args_os().skip(1).collect();
    if typed.first().is_some_and(|first| first == CHILD_MODE) {
        return become_child(&typed[1..]);
    }
    let ended = match Cli::parse().command {
        Command::Run(args) => start_run(&args, &typed),
        Command::Report(args) => make_report(&args),
        Command::Preflight(args) => return coded(preflight::cli::run(&args)),
        Command::Compare(args) => return coded(tools::cli::run_compare(&args)),
        Command::Trend(args) => return coded(tools::cli::run_trend(&args)),
        Command::Export(args) => return coded(tools::cli::run_export(&args)),
        Command::Dump(args) => return coded(tools::cli::run_dump(&args)),
        Command::Verify(args) => return coded(tools::cli::run_verify(&args)),
        Command::Swarm(args) => match swarm::commands::main(&args) {
            Ok(code) => return ExitCode::from(code),
            Err(failure) => Err(failure.into()),
        },
    };
    coded(ended.map(Exit::code))
}

fn coded(ended: anyhow::Result<u8>) -> ExitCode {
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(exit::of(&error).code())
        }
    }
}

/// Of a results folder, or of logs that become one.
fn make_report(args: &ReportArgs) -> anyhow::Result<Exit> {
    let thresholds = args.judged.all()?;
    let dir = match (args.paths.as_slice(), &args.out) {
        (paths, Some(out)) => {
            run::from_logs::make(paths, out, &thresholds)?;
            out
        }
        ([dir], None) if thresholds.is_empty() => dir,
        ([_], None) => {
            return Err(Failure::usage(
                "a results folder is judged by the thresholds of its run (in run.json): \
                 --threshold goes with logs and --out",
            )
            .into());
        }
        (_, None) => {
            return Err(
                Failure::usage("name a folder for the report of these logs: --out DIR").into()
            );
        }
    };
    run::outcome::report(dir, &Console::new(args.quiet, args.json), args.json)
}

fn start_run(args: &RunArgs, typed: &[OsString]) -> anyhow::Result<Exit> {
    let launcher = Launcher::with(std::env::current_exe()?);
    let typed: Vec<String> = typed.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    run::run(args, &typed, &launcher)
}
