//! What is said about a target that stands still; see `bench::freeze`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use bench::freeze;
use clap::Parser;

fn main() -> ExitCode {
    match freeze::run(&freeze::Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("bench-freeze: {error:#}");
            ExitCode::from(4)
        }
    }
}
