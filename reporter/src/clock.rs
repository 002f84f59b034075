//! The driving half's one clock: `CLOCK_MONOTONIC` in nanoseconds, the axis of every log.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds in a second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// Nanoseconds of `CLOCK_MONOTONIC`, comparable between the processes of one host.
pub fn mono_ns() -> u64 {
    read(ClockId::CLOCK_MONOTONIC)
}

/// Nanoseconds since the unix epoch; only for naming and dating a run.
pub fn real_ns() -> u64 {
    read(ClockId::CLOCK_REALTIME)
}

/// Sleeps; a signal may make it shorter only inside the standard library, which resumes.
pub fn sleep_ns(duration_ns: u64) {
    std::thread::sleep(Duration::from_nanos(duration_ns));
}

/// Time left until `deadline_ns`, zero once it has passed.
pub fn until(deadline_ns: u64) -> Duration {
    Duration::from_nanos(deadline_ns.saturating_sub(mono_ns()))
}

fn read(id: ClockId) -> u64 {
    // Both clocks exist on every Linux; clock_gettime fails only for an unknown id (man 2).
    let time = clock_gettime(id).expect("a clock that every Linux has");
    u64::try_from(time.tv_sec()).unwrap_or(0) * SECOND_NS
        + u64::try_from(time.tv_nsec()).unwrap_or(0)
}
