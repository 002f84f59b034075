//! The crate's one clock: CLOCK_MONOTONIC in nanoseconds, and sleeping on it.
//!
//! It knows nothing of runtimes; asynchronous sleeping belongs to [`crate::net`].

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};

/// Nanoseconds in a second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// CLOCK_MONOTONIC in nanoseconds, comparable between the processes of one host.
///
/// # Panics
/// Only where the kernel has no CLOCK_MONOTONIC, which Linux always has.
pub fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux always has CLOCK_MONOTONIC");
    time.tv_sec() as u64 * SECOND_NS + time.tv_nsec() as u64
}

/// Blocks the calling thread until the absolute time `due_ns` on the same clock.
///
/// # Errors
/// Whatever `clock_nanosleep(2)` says, except EINTR, which resumes the sleep.
pub fn sleep_until_ns(due_ns: u64) -> nix::Result<()> {
    let due = TimeSpec::new((due_ns / SECOND_NS) as i64, (due_ns % SECOND_NS) as i64);
    loop {
        let flags = ClockNanosleepFlags::TIMER_ABSTIME;
        match clock_nanosleep(ClockId::CLOCK_MONOTONIC, flags, &due) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
