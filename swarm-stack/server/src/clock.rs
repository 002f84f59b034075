//! The server's one clock: monotonic time for durations, wall time for the start stamp.
//!
//! Owns every call to the system clocks. It must not know what is timed.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point on `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, Copy)]
pub struct Tick(Instant);

impl Tick {
    /// The present moment.
    #[allow(clippy::disallowed_methods)]
    pub fn now() -> Self {
        Self(Instant::now())
    }

    /// Time passed since this moment.
    pub fn elapsed(self) -> Duration {
        Self::now().0.duration_since(self.0)
    }
}

/// Seconds since the Unix epoch on the wall clock.
#[allow(clippy::disallowed_methods)]
pub fn unix_time_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
