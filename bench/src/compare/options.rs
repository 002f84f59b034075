//! What was typed for the comparison.

use std::time::Duration;

use clap::Parser;

use crate::units;

/// Runs every HTTP load generator that is on PATH against the same fast target, closed loop, turn
/// by turn, and prints requests a second and generator CPU for each request.
///
/// Requests are counted by the target, not by the tools; CPU is what the kernel charged to the
/// tool's process, user and system.
#[derive(Clone, Debug, Parser)]
#[command(name = "bench-compare", version)]
pub struct Options {
    /// Numbers of connections
    #[arg(long, value_delimiter = ',', default_values_t = [512, 8000])]
    pub connections: Vec<u32>,
    /// How long each run lasts
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration)]
    pub duration: Duration,
    /// Runs of each tool; every second round goes in reverse order
    #[arg(long, default_value_t = 4)]
    pub rounds: usize,
    /// Only these tools (names as printed)
    #[arg(long, value_delimiter = ',')]
    pub tools: Vec<String>,
    /// Core of the target
    #[arg(long, default_value_t = 0)]
    pub server_core: usize,
    /// Core of the generators
    #[arg(long, default_value_t = 1)]
    pub generator_core: usize,
    /// Let the kernel place everything, as on a host with one core
    #[arg(long)]
    pub unpinned: bool,
    /// Measure in a network namespace of its own (root): no firewall, no connection tracker, and a
    /// backlog that takes all connects at once
    #[arg(long)]
    pub own_network: bool,
    /// Print what the tools print
    #[arg(long)]
    pub verbose: bool,
}
