//! The fast target's entry: parse, serve in one process or several, exit code.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use bench::target::options::Options;
use bench::target::{processes, server};
use clap::Parser;

fn main() -> ExitCode {
    match serve(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fast-target: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: Options) -> anyhow::Result<()> {
    let options = options.resolved()?;
    if options.child.is_some() {
        processes::follow_parent()?;
    } else if options.processes > 1 {
        return processes::run(&options);
    }
    server::run(options)
}
