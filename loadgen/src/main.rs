//! `loadgen`: parse, set up, run, report, exit code. What each means is the library's.

use std::process::ExitCode;

use loadgen::cli::Cli;
use loadgen::run::{Ended, run};
use loadgen::scenario;
use loadgen::setup::{Setup, SetupError};

fn main() -> ExitCode {
    let cli = match scenario::command_line() {
        Ok(cli) => cli,
        Err(e) => {
            eprintln!("loadgen: {e}");
            return ExitCode::from(2);
        }
    };
    if cli.probe {
        let probe = loadgen::ring::probe(cli.connections, cli.engine);
        println!("{}", probe.to_json());
        return ExitCode::from(if probe.usable() { 0 } else { 4 });
    }
    let setup = match Setup::prepare(&cli) {
        Ok(setup) => setup,
        Err(e) => return refuse(&cli, &e),
    };
    match run(&cli, setup) {
        Ok(Ended::Whole) => ExitCode::SUCCESS,
        Ok(Ended::Spoiled) => ExitCode::from(3),
        Ok(Ended::Interrupted) => ExitCode::from(130),
        Err(e) => refuse(&cli, &e),
    }
}

/// One line that names the cause, for people on stderr and for a driving program on stdout.
fn refuse(cli: &Cli, error: &SetupError) -> ExitCode {
    if cli.control {
        println!("{}", serde_json::json!({"type": "error", "message": error.to_string()}));
    }
    eprintln!("loadgen: {error}");
    ExitCode::from(error.exit_code())
}
