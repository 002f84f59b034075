//! When requests and connections are due: pure functions of an index, known before the run.
//!
//! The schedule is fleet-wide. Worker `w` of `n` takes every `n`-th item, so that adding workers
//! changes who sends a request and never when it is due.

/// A steady sequence of due times: item `k` at `start + k / rate`.
#[derive(Clone, Copy, Debug)]
pub struct Steady {
    start_ns: u64,
    rate_per_s: f64,
    next: u64,
    stride: u64,
}

impl Steady {
    /// The share of worker `index` of `workers`. A rate of 0 is never due.
    pub fn new(start_ns: u64, rate_per_s: f64, index: u32, workers: u32) -> Self {
        assert!(index < workers);
        Self { start_ns, rate_per_s, next: u64::from(index), stride: u64::from(workers) }
    }

    /// When the next item is due.
    pub fn next_due_ns(&self) -> u64 {
        if self.rate_per_s <= 0.0 {
            return u64::MAX;
        }
        let offset_ns = self.next as f64 * 1e9 / self.rate_per_s;
        self.start_ns.saturating_add(offset_ns as u64)
    }

    /// Takes the next item if it is due by `now_ns`, and says when it was due.
    pub fn take(&mut self, now_ns: u64) -> Option<u64> {
        let due_ns = self.next_due_ns();
        if due_ns > now_ns {
            return None;
        }
        self.next += self.stride;
        Some(due_ns)
    }
}

/// Lets at most so many things happen a second, evenly, without saving up.
#[derive(Clone, Copy, Debug)]
pub struct Pacer {
    interval_ns: u64,
    next_ns: u64,
}

impl Pacer {
    /// A pacer for `rate_per_s` things a second.
    pub fn new(rate_per_s: f64) -> Self {
        Self { interval_ns: (1e9 / rate_per_s.max(1e-3)) as u64, next_ns: 0 }
    }

    /// When the next thing may happen.
    pub fn next_ns(&self) -> u64 {
        self.next_ns
    }

    /// Whether a thing may happen; it then counts as happened. A pacer that was late by less than
    /// 50 ms catches up, so that coarse turns do not lower the rate.
    pub fn take(&mut self, now_ns: u64) -> bool {
        if now_ns < self.next_ns {
            return false;
        }
        self.next_ns = self.next_ns.max(now_ns.saturating_sub(50_000_000)) + self.interval_ns;
        true
    }
}

/// The wait before attempt `attempt` (from 0) at a lost connection: 50 ms doubling to 3.2 s.
pub fn backoff_ns(attempt: u8) -> u64 {
    50_000_000 << attempt.min(BACKOFF_STEPS - 1)
}

/// How many different waits [`backoff_ns`] has.
pub const BACKOFF_STEPS: u8 = 7;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_rate_of_zero_is_never_due() {
        let mut none = Steady::new(5, 0.0, 0, 1);
        assert_eq!(none.take(u64::MAX - 1), None);
    }

    #[test]
    fn backoff_doubles_to_a_cap() {
        assert_eq!(backoff_ns(0), 50_000_000);
        assert_eq!(backoff_ns(6), 3_200_000_000);
        assert_eq!(backoff_ns(255), 3_200_000_000);
    }

    proptest! {
        #[test]
        fn workers_together_make_the_fleet_schedule(
            workers in 1u32..9, rate in 1.0f64..1e6, start in 0u64..1 << 40,
        ) {
            let mut all = Vec::new();
            for w in 0..workers {
                let mut share = Steady::new(start, rate, w, workers);
                for _ in 0..50 {
                    all.push(share.take(u64::MAX - 1).expect("due by the end of time"));
                }
            }
            all.sort_unstable();
            let mut alone = Steady::new(start, rate, 0, 1);
            for due in all {
                prop_assert_eq!(Some(due), alone.take(u64::MAX - 1));
            }
        }

        #[test]
        fn nothing_is_early_and_nothing_drifts(rate in 1.0f64..1e5, k in 1u64..2_000) {
            let mut steady = Steady::new(0, rate, 0, 1);
            for _ in 0..k {
                let due = steady.next_due_ns();
                if due > 0 {
                    prop_assert_eq!(steady.take(due - 1), None);
                }
                prop_assert_eq!(steady.take(due), Some(due));
            }
            let exact = k as f64 * 1e9 / rate;
            prop_assert!((steady.next_due_ns() as f64 - exact).abs() <= 1.0);
        }
    }
}
