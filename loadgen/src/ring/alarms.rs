//! Alarms: completions at absolute times, by which waits end before their timeouts do.
//!
//! A timeout of a wait is armed with it and taken back when an answer ends it, and each of the two
//! programs the clock's hardware; where the kernel is a guest, that leaves it for the host and costs
//! more than the request. An alarm stays armed over all the waits before it. One that is set behind
//! another programs nothing at all: the interrupt of the first does, which has to anyway.

use std::time::Duration;

use io_uring::{squeue, types};

use super::entry::alarm;

/// Alarms that may be armed at one time.
const ALARMS: usize = 4;

/// The alarms of a ring.
pub(super) struct Alarms {
    /// When each goes off; `None` where it is not armed.
    at_ns: [Option<u64>; ALARMS],
    /// These times as the kernel reads them.
    times: Box<[types::Timespec; ALARMS]>,
}

impl Alarms {
    /// None armed.
    pub fn new() -> Self {
        Self { at_ns: [None; ALARMS], times: Box::default() }
    }

    /// Whether one goes off by then. One that does so early ends one wait early.
    pub fn ring_by(&self, until_ns: u64) -> bool {
        self.at_ns.iter().flatten().any(|at_ns| *at_ns <= until_ns)
    }

    /// Whether one goes off just then.
    pub fn ring_at(&self, at_ns: u64) -> bool {
        self.at_ns.contains(&Some(at_ns))
    }

    /// Arms another one with what `push` does; whether there was one and it could be pushed. The
    /// entry points at a time that stays in place, unchanged, until the alarm has gone off.
    pub fn set(&mut self, at_ns: u64, push: impl FnOnce(&squeue::Entry) -> bool) -> bool {
        let Some(number) = self.at_ns.iter().position(Option::is_none) else { return false };
        self.times[number] = types::Timespec::from(Duration::from_nanos(at_ns));
        let armed = push(&alarm(number, &raw const self.times[number]));
        self.at_ns[number] = armed.then_some(at_ns);
        armed
    }

    /// The completion of one has been popped.
    pub fn went_off(&mut self, number: usize) {
        if let Some(at_ns) = self.at_ns.get_mut(number) {
            *at_ns = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_armed_until_it_has_gone_off() {
        let mut alarms = Alarms::new();
        assert!(!alarms.set(10, |_| false), "what cannot be pushed is not armed");
        assert!(!alarms.ring_by(u64::MAX));
        for at_ns in [40, 10, 30, 20] {
            assert!(alarms.set(at_ns, |_| true));
        }
        assert!(!alarms.set(50, |_| true), "all are armed");
        assert!(alarms.ring_by(10) && !alarms.ring_by(9) && alarms.ring_at(30));
        alarms.went_off(1);
        assert!(!alarms.ring_by(19) && alarms.ring_by(20));
        assert!(alarms.set(50, |_| true) && alarms.ring_at(50));
    }
}
