//! A bare absolute-time sleeper: what it measures no generator that sleeps can be better than.

use anyhow::{Context, Result};

use crate::clock;

/// How late each of `count` wake-ups was, in nanoseconds. A wake-up missed by more than a period
/// does not make the following ones late: each is due on the schedule from its own start.
///
/// # Errors
/// Those of `clock_nanosleep(2)`.
pub fn lateness(period_ns: u64, count: usize) -> Result<Vec<u64>> {
    let mut late_ns = Vec::with_capacity(count);
    let mut due_ns = clock::now_ns() + period_ns;
    for _ in 0..count {
        clock::sleep_until_ns(due_ns).context("clock_nanosleep")?;
        let now_ns = clock::now_ns();
        late_ns.push(now_ns.saturating_sub(due_ns));
        while due_ns <= now_ns {
            due_ns += period_ns;
        }
    }
    Ok(late_ns)
}

/// The value that this share of all is not above; 0 of none.
pub fn quantile(values: &mut [u64], share: f64) -> u64 {
    values.sort_unstable();
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * share) as usize).copied().unwrap_or(0)
}
