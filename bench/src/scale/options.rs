//! What was typed for the scale scenario.

use std::time::Duration;

use clap::Parser;

use crate::units;

/// Holds so many MCP sessions between loadgen and a fast target in many processes, and prints the
/// connect rate of each second and the memory of each connection on both sides.
///
/// Exit status: 0 all sessions were held to the end; 1 they were not; 4 this host lacks something.
#[derive(Clone, Debug, Parser)]
#[command(name = "bench-scale", version)]
pub struct Options {
    /// Sessions to hold
    #[arg(long, short = 'n', default_value_t = 1_000_000,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub sessions: u32,
    /// New connections a second
    #[arg(long, value_name = "RATE", default_value = "20000", value_parser = units::rate_per_s)]
    pub ramp: f64,
    /// How long to hold all sessions
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration)]
    pub hold: Duration,
    /// Each session sends a request within this time
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = units::duration)]
    pub heartbeat: Duration,
    /// Give up when the sessions do not stand after this time
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = units::duration)]
    pub patience: Duration,
    /// Processes of the target [default: as many as the descriptor limit needs]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub processes: Option<u16>,
    /// Port of every process
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// Raise net.netfilter.nf_conntrack_max for the run where it is too low, and put it back
    #[arg(long)]
    pub raise_conntrack: bool,
    /// Start although memory or descriptors do not suffice
    #[arg(long)]
    pub force: bool,
    /// Write the result as JSON to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<std::path::PathBuf>,
    /// Further arguments of loadgen
    #[arg(last = true)]
    pub loadgen: Vec<String>,
}
