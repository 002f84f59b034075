//! What was typed for the fidelity scenario.

use std::str::FromStr;
use std::time::Duration;

use clap::Parser;

use crate::units;

/// Measures how late requests leave loadgen (slip), open loop, beside a bare absolute-time sleeper
/// with 1 ns of timer slack on the same core, round by round; and response times and CPU a request
/// beside zrk and wrk2, where they are on PATH.
#[derive(Clone, Debug, Parser)]
#[command(name = "bench-fidelity", version)]
pub struct Options {
    /// Requests a second and connections of each measurement beside the sleeper
    #[arg(long, value_delimiter = ',', value_name = "RATE:CONNECTIONS")]
    #[arg(default_values = ["2000:1000", "20000:1000", "2000:100000", "20000:100000"])]
    pub points: Vec<Point>,
    /// Requests a second and connections of each measurement beside other tools
    #[arg(long, value_delimiter = ',', value_name = "RATE:CONNECTIONS")]
    #[arg(default_values = ["2000:100", "20000:1000"])]
    pub beside: Vec<Point>,
    /// How long each run lasts
    #[arg(long, value_name = "TIME", default_value = "4s", value_parser = units::duration)]
    pub duration: Duration,
    /// Runs of each
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Core of the target
    #[arg(long, default_value_t = 0)]
    pub server_core: usize,
    /// Core of the generators and of the sleeper
    #[arg(long, default_value_t = 1)]
    pub generator_core: usize,
    /// Measure in a network namespace of its own (root): no firewall, no connection tracker
    #[arg(long)]
    pub own_network: bool,
}

/// A load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Requests a second.
    pub rate: u32,
    /// Connections.
    pub connections: u32,
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad =
            || format!("{text:?} is no load; write requests a second and connections: 2000:100");
        let (rate, connections) = text.split_once(':').ok_or_else(bad)?;
        let number = |text: &str| text.parse().ok().filter(|n| *n > 0).ok_or_else(bad);
        Ok(Self { rate: number(rate)?, connections: number(connections)? })
    }
}
