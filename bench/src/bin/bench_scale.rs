//! The scale scenario's entry: parse, run, exit code.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use bench::scale::{options::Options, run};
use clap::Parser;

/// The host lacks something, or one side does not work.
const CANNOT_RUN: u8 = 4;

fn main() -> ExitCode {
    match run::run(&Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench-scale: {error:#}");
            ExitCode::from(CANNOT_RUN)
        }
    }
}
