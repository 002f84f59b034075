//! How near to their time requests leave; see `bench::fidelity`.
#![forbid(unsafe_code)]

use bench::fidelity;
use clap::Parser;

fn main() -> anyhow::Result<()> {
    fidelity::run::run(&fidelity::options::Options::parse())
}
