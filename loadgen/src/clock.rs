//! The one clock. Nothing else in this crate reads time, so that a test can step it.

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds on a time line that never goes back.
pub trait Clock {
    /// The present time.
    fn now_ns(&self) -> u64;
}

/// CLOCK_MONOTONIC: comparable between the processes of one host.
#[derive(Clone, Copy, Debug, Default)]
pub struct Monotonic;

impl Clock for Monotonic {
    fn now_ns(&self) -> u64 {
        read(ClockId::CLOCK_MONOTONIC)
    }
}

/// CLOCK_REALTIME in nanoseconds since 1970.
pub fn real_ns() -> u64 {
    read(ClockId::CLOCK_REALTIME)
}

/// CPU time that the calling thread has used.
pub fn thread_cpu_ns() -> u64 {
    read(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time that the whole process has used.
pub fn process_cpu_ns() -> u64 {
    read(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

/// The same instant on both clocks. Read between two monotonic readings, so that its error is half
/// their distance; the best of a few tries is kept.
pub fn anchor() -> latlog::Anchor {
    let mut best = (u64::MAX, latlog::Anchor { mono_ns: 0, real_ns: 0 });
    for _ in 0..8 {
        let before = Monotonic.now_ns();
        let real_ns = real_ns();
        let after = Monotonic.now_ns();
        if after - before < best.0 {
            let mono_ns = before + (after - before) / 2;
            best = (after - before, latlog::Anchor { mono_ns, real_ns });
        }
    }
    best.1
}

fn read(id: ClockId) -> u64 {
    let time = clock_gettime(id).expect("these clocks exist on every Linux");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}
