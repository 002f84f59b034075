//! What processes that were started here have cost.

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};

/// CPU of all children that were waited for, user and system, in microseconds.
///
/// # Errors
/// Those of `getrusage(2)`.
pub fn children_cpu_us() -> Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("getrusage")?;
    let us =
        |time: nix::sys::time::TimeVal| time.tv_sec() as u64 * 1_000_000 + time.tv_usec() as u64;
    Ok(us(usage.user_time()) + us(usage.system_time()))
}
