//! `loadgen`: parse, set up, run, report, exit code. What each means is the library's.

use std::process::ExitCode;

use loadgen::control::Link;
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
    if let Some(address) = cli.relay {
        return match loadgen::control::relay(address) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("loadgen: cannot reach {address}: {e}");
                ExitCode::from(2)
            }
        };
    }
    let link = match Link::open(&cli) {
        Ok(link) => link,
        Err(e) => return refuse(None, &e),
    };
    let setup = match Setup::prepare(&cli) {
        Ok(setup) => setup,
        Err(e) => return refuse(link.as_ref(), &e),
    };
    match run(&cli, setup, link.clone()) {
        Ok(Ended::Whole) => ExitCode::SUCCESS,
        Ok(Ended::Spoiled) => ExitCode::from(3),
        Ok(Ended::Interrupted) => ExitCode::from(130),
        Err(e) => refuse(link.as_ref(), &e),
    }
}

/// One line that names the cause, for people on stderr and for a driving program.
fn refuse(link: Option<&Link>, error: &SetupError) -> ExitCode {
    if let Some(link) = link {
        link.say(&serde_json::json!({"type": "error", "message": error.to_string()}));
    }
    eprintln!("loadgen: {error}");
    ExitCode::from(error.exit_code())
}
