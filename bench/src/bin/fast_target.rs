//! The fast target's entry: parse, serve, exit code.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use bench::target::options::Options;
use bench::target::server;
use clap::Parser;

fn main() -> ExitCode {
    match server::run(Options::parse().resolved()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fast-target: {error:#}");
            ExitCode::FAILURE
        }
    }
}
