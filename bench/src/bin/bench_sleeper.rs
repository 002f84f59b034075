//! A bare absolute-time sleeper: how late this host wakes a thread that does nothing else.
//!
//! The reference for the generator's fidelity: slip below these figures cannot be had by sleeping.
#![forbid(unsafe_code)]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bench::sleeper::lateness;
use bench::units;
use clap::Parser;
use nix::sys::prctl;

/// Sleeps until absolute times on CLOCK_MONOTONIC and prints how late it wakes, in microseconds.
///
/// Pin it with taskset to measure one core. The default timer slack of a thread is 50 us.
#[derive(Debug, Parser)]
#[command(name = "bench-sleeper", version)]
struct Options {
    /// Time between two wake-ups
    #[arg(long, default_value = "1ms", value_parser = units::duration)]
    period: Duration,
    /// Number of wake-ups
    #[arg(long, default_value_t = 5000)]
    count: usize,
    /// Timer slack to ask for (PR_SET_TIMERSLACK); 1 is the least
    #[arg(long, value_name = "NS")]
    slack_ns: Option<u64>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    ensure!(options.count > 0 && !options.period.is_zero(), "--count and --period must be above 0");
    if let Some(slack_ns) = options.slack_ns {
        prctl::set_timerslack(slack_ns).context("prctl(PR_SET_TIMERSLACK)")?;
    }
    let slack_ns = prctl::get_timerslack().context("prctl(PR_GET_TIMERSLACK)")?;
    let mut late_ns = lateness(options.period.as_nanos() as u64, options.count)?;
    late_ns.sort_unstable();
    let at = |share: f64| late_ns[((late_ns.len() - 1) as f64 * share) as usize] as f64 / 1e3;
    println!(
        "count {} period_us {} slack_ns {slack_ns} late_us p50 {:.1} p90 {:.1} p99 {:.1} max {:.1}",
        options.count,
        options.period.as_micros(),
        at(0.50),
        at(0.90),
        at(0.99),
        at(1.0),
    );
    Ok(())
}
