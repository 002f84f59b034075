//! The comparison's entry: parse, run, exit code.
#![forbid(unsafe_code)]

use bench::compare::{options::Options, run};
use clap::Parser;

fn main() -> anyhow::Result<()> {
    run::run(&Options::parse())
}
