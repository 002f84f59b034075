//! What the coordinator wants from all workers: plain words in atomics, read once a turn.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::plan::Target;

/// The part of a run that a worker is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Connections are being made.
    Ramp,
    /// Scheduled load that does not count yet.
    Warmup,
    /// Scheduled load that counts.
    Hold,
    /// Nothing new is due; what was due or sent is waited for.
    Drain,
    /// Sessions are ended.
    Cooldown,
    /// Exit as it is.
    Abandon,
}

impl Stage {
    /// The name in the log and on the status line.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Ramp => "ramp",
            Stage::Warmup => "warmup",
            Stage::Hold => "hold",
            Stage::Drain | Stage::Cooldown | Stage::Abandon => "cooldown",
        }
    }
}

/// The targets wanted from now on.
#[derive(Clone, Debug, Default)]
pub struct TargetOrder {
    /// All targets ever known, in the order of their indices.
    pub known: Vec<Target>,
    /// Indices of those wanted.
    pub wanted: Vec<u16>,
    /// Whether sessions are to be spread evenly over them.
    pub rebalance: bool,
}

/// Orders to all workers. Times are CLOCK_MONOTONIC; `u64::MAX` is "not yet known".
#[derive(Debug)]
pub struct Orders {
    start_ns: u64,
    warmup_from_ns: AtomicU64,
    hold_from_ns: AtomicU64,
    hold_until_ns: AtomicU64,
    cooldown_from_ns: AtomicU64,
    cooldown_until_ns: AtomicU64,
    abandon: AtomicBool,
    /// The rate as the bits of a float.
    rate_per_s: AtomicU64,
    rounds: AtomicU64,
    version: AtomicU64,
    targets: Mutex<TargetOrder>,
}

impl Orders {
    /// Orders for a run whose ramp begins at `start_ns`.
    pub fn new(start_ns: u64) -> Self {
        let unknown = || AtomicU64::new(u64::MAX);
        Self {
            start_ns,
            warmup_from_ns: unknown(),
            hold_from_ns: unknown(),
            hold_until_ns: unknown(),
            cooldown_from_ns: unknown(),
            cooldown_until_ns: unknown(),
            abandon: AtomicBool::new(false),
            rate_per_s: unknown(),
            rounds: AtomicU64::new(0),
            version: AtomicU64::new(0),
            targets: Mutex::default(),
        }
    }

    /// When the ramp begins.
    pub fn start_ns(&self) -> u64 {
        self.start_ns
    }

    /// Says how much is due from the next [`Orders::begin`] on.
    pub fn set_rate(&self, rate_per_s: f64) {
        self.rate_per_s.store(rate_per_s.to_bits(), Ordering::Relaxed);
    }

    /// Requests a second, where they are not those of the plan.
    pub fn rate(&self) -> Option<f64> {
        let bits = self.rate_per_s.load(Ordering::Relaxed);
        (bits != u64::MAX).then(|| f64::from_bits(bits))
    }

    /// Has all workers hand over what they counted since they did so last.
    pub fn end_round(&self) {
        self.rounds.fetch_add(1, Ordering::AcqRel);
    }

    /// How often [`Orders::end_round`] was called.
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Acquire)
    }

    /// Fixes when the schedule begins, counts, and ends (`u64::MAX`: until told). May be called
    /// again once all of the schedule before has come to its end.
    pub fn begin(&self, warmup_from_ns: u64, hold: std::ops::Range<u64>) {
        self.hold_until_ns.store(hold.end, Ordering::Relaxed);
        self.hold_from_ns.store(hold.start, Ordering::Relaxed);
        self.warmup_from_ns.store(warmup_from_ns, Ordering::Release);
    }

    /// Ends the schedule at `at_ns`, if it does not end before; whether it had begun.
    pub fn end_load(&self, at_ns: u64) -> bool {
        self.hold_until_ns.fetch_min(at_ns, Ordering::AcqRel);
        if self.hold_from_ns.load(Ordering::Acquire) == u64::MAX {
            // Nothing was counted: there is no hold, and its place in time is empty.
            self.begin(at_ns, at_ns..at_ns);
            return false;
        }
        true
    }

    /// Lets sessions end from `from_ns` on, until `until_ns` at the latest.
    pub fn cool_down(&self, from_ns: u64, until_ns: u64) {
        self.cooldown_until_ns.store(until_ns, Ordering::Relaxed);
        self.cooldown_from_ns.store(from_ns, Ordering::Release);
    }

    /// Lets workers exit with all open.
    pub fn abandon(&self) {
        self.abandon.store(true, Ordering::Release);
    }

    /// When the schedule begins.
    pub fn warmup_from_ns(&self) -> u64 {
        self.warmup_from_ns.load(Ordering::Acquire)
    }

    /// The counted part.
    pub fn hold(&self) -> std::ops::Range<u64> {
        self.hold_from_ns.load(Ordering::Acquire)..self.hold_until_ns.load(Ordering::Acquire)
    }

    /// When workers stop at the latest.
    pub fn cooldown_until_ns(&self) -> u64 {
        self.cooldown_until_ns.load(Ordering::Relaxed)
    }

    /// The stage at `now_ns`.
    pub fn stage(&self, now_ns: u64) -> Stage {
        if self.abandon.load(Ordering::Acquire) {
            return Stage::Abandon;
        }
        if now_ns >= self.cooldown_from_ns.load(Ordering::Acquire) {
            return Stage::Cooldown;
        }
        let warmup_from_ns = self.warmup_from_ns();
        let hold = self.hold();
        // The load may be ended before it counts, or before it begins.
        if now_ns >= hold.end {
            Stage::Drain
        } else if now_ns < warmup_from_ns {
            Stage::Ramp
        } else if now_ns < hold.start {
            Stage::Warmup
        } else {
            Stage::Hold
        }
    }

    /// Changes the wanted targets.
    pub fn set_targets(&self, order: TargetOrder) {
        *self.targets.lock().expect("no holder panics") = order;
        self.version.fetch_add(1, Ordering::Release);
    }

    /// A number that changes with every [`Orders::set_targets`].
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The wanted targets.
    pub fn targets(&self) -> TargetOrder {
        self.targets.lock().expect("no holder panics").clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_follow_each_other() {
        let orders = Orders::new(0);
        assert_eq!(orders.stage(5), Stage::Ramp);
        orders.begin(10, 20..30);
        let at = |t| orders.stage(t);
        assert_eq!(
            [at(9), at(10), at(20), at(30)],
            [Stage::Ramp, Stage::Warmup, Stage::Hold, Stage::Drain]
        );
        assert!(orders.end_load(25));
        assert_eq!(orders.stage(25), Stage::Drain);
        orders.cool_down(40, 50);
        assert_eq!(orders.stage(40), Stage::Cooldown);
        orders.abandon();
        assert_eq!(orders.stage(0), Stage::Abandon);
    }

    #[test]
    fn ending_before_the_hold_leaves_it_empty() {
        let orders = Orders::new(0);
        assert!(!orders.end_load(7));
        assert!(orders.hold().is_empty());
        assert_eq!(orders.stage(8), Stage::Drain);
    }

    #[test]
    fn what_ends_the_load_waits_for_no_stage() {
        // In the warm-up, and between its announcement and its beginning.
        for at_ns in [15, 8] {
            let orders = Orders::new(0);
            orders.begin(10, 20..30);
            assert!(orders.end_load(at_ns));
            assert_eq!(orders.stage(at_ns), Stage::Drain);
            assert!(orders.hold().is_empty());
        }
    }
}
