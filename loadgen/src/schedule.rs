//! When requests and connections are due: pure functions of an index, known before the run.
//!
//! The schedule is fleet-wide. Worker `w` of `n` takes every `n`-th item, so that adding workers
//! changes who sends a request and never when it is due.

use crate::chance::{Stream, Topic};
use crate::curve::Curve;

/// A sequence of due times without chance: item `k` where the rate has made `k` items due.
#[derive(Clone, Debug)]
pub struct Even {
    start_ns: u64,
    curve: Curve,
    next: u64,
    stride: u64,
}

impl Even {
    /// The share of worker `index` of `workers`.
    pub fn new(start_ns: u64, curve: Curve, index: u32, workers: u32) -> Self {
        assert!(index < workers);
        Self { start_ns, curve, next: u64::from(index), stride: u64::from(workers) }
    }

    /// When the next item is due.
    pub fn next_due_ns(&self) -> u64 {
        self.start_ns.saturating_add(self.curve.offset_ns(self.next as f64))
    }

    /// When the item after the next is due.
    pub fn following_due_ns(&self) -> u64 {
        let following = self.next + self.stride;
        self.start_ns.saturating_add(self.curve.offset_ns(following as f64))
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

/// How requests follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Arrivals {
    /// At even distances
    Constant,
    /// As of many independent users: exponential distances, so that bursts and pauses come
    Poisson,
}

impl Arrivals {
    /// The name on the command line and in the log.
    pub fn name(self) -> &'static str {
        match self {
            Arrivals::Constant => "constant",
            Arrivals::Poisson => "poisson",
        }
    }
}

/// A request of the fleet's schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// When it is due.
    pub at_ns: u64,
    /// Its number in the fleet's schedule.
    pub index: u64,
}

/// When the requests of one worker are due.
#[derive(Clone, Debug)]
pub struct Schedule(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Constant(Even),
    Poisson(Poisson),
}

impl Schedule {
    /// The share of worker `index` of `workers`.
    pub fn new(
        arrivals: Arrivals,
        seed: u64,
        start_ns: u64,
        curve: Curve,
        (index, workers): (u32, u32),
    ) -> Self {
        Self(match arrivals {
            Arrivals::Constant => Kind::Constant(Even::new(start_ns, curve, index, workers)),
            Arrivals::Poisson => Kind::Poisson(Poisson::new(seed, start_ns, curve, index, workers)),
        })
    }

    /// When the next request is due.
    pub fn next_due_ns(&self) -> u64 {
        match &self.0 {
            Kind::Constant(even) => even.next_due_ns(),
            Kind::Poisson(poisson) => poisson.next_due_ns,
        }
    }

    /// When the request after the next is due.
    pub fn following_due_ns(&self) -> u64 {
        match &self.0 {
            Kind::Constant(even) => even.following_due_ns(),
            Kind::Poisson(poisson) => poisson.following_due_ns,
        }
    }

    /// Takes the next request if it is due by `now_ns`.
    pub fn take(&mut self, now_ns: u64) -> Option<Due> {
        match &mut self.0 {
            Kind::Constant(even) => {
                let index = even.next;
                even.take(now_ns).map(|at_ns| Due { at_ns, index })
            }
            Kind::Poisson(poisson) => poisson.take(now_ns),
        }
    }
}

/// Poisson arrivals: item `k` where the rate has made `gap 0 + ... + gap k` items due, each gap a pure
/// function of the seed and its index, exponential with mean 1; a rate that changes over time is
/// followed exactly so. Every worker adds up the gaps of
/// the whole fleet and takes every `n`-th item. That costs a logarithm for each request of the
/// fleet (about 10 ns), and buys a schedule that no number of workers changes. The sum is kept in
/// integers, so that nothing drifts however long the run.
#[derive(Clone, Debug)]
struct Poisson {
    start_ns: u64,
    curve: Curve,
    stream: Stream,
    stride: u64,
    /// The item that is next.
    index: u64,
    /// The gaps up to the one after it, added up, in units of 2^-32.
    gaps: u128,
    next_due_ns: u64,
    following_due_ns: u64,
}

impl Poisson {
    fn new(seed: u64, start_ns: u64, curve: Curve, index: u32, workers: u32) -> Self {
        assert!(index < workers);
        let stream = Stream::new(seed, Topic::Arrivals);
        let (first, stride) = (u64::from(index), u64::from(workers));
        let gaps = (0..=first).map(|k| gap(stream, k)).sum();
        let mut new = Self {
            start_ns,
            curve,
            stream,
            stride,
            index: first,
            gaps,
            next_due_ns: 0,
            following_due_ns: 0,
        };
        new.next_due_ns = new.due_ns();
        new.look_ahead();
        new
    }

    /// When the item is due that the gaps lead to.
    fn due_ns(&self) -> u64 {
        let items = self.gaps as f64 / (1u64 << 32) as f64;
        self.start_ns.saturating_add(self.curve.offset_ns(items))
    }

    /// Adds the gaps between the next item and the one after it.
    fn look_ahead(&mut self) {
        let following = self.index + self.stride;
        self.gaps += (self.index + 1..=following).map(|k| gap(self.stream, k)).sum::<u128>();
        self.following_due_ns = self.due_ns();
    }

    fn take(&mut self, now_ns: u64) -> Option<Due> {
        let due = Due { at_ns: self.next_due_ns, index: self.index };
        if due.at_ns > now_ns {
            return None;
        }
        self.index += self.stride;
        self.next_due_ns = self.following_due_ns;
        self.look_ahead();
        Some(due)
    }
}

/// An exponential number with mean 1, in units of 2^-32.
fn gap(stream: Stream, index: u64) -> u128 {
    (-stream.unit_at(index).ln() * (1u64 << 32) as f64) as u128
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
        for arrivals in [Arrivals::Constant, Arrivals::Poisson] {
            let mut none = Schedule::new(arrivals, 1, 5, Curve::Steady(0.0), (0, 1));
            assert_eq!(none.take(u64::MAX - 1), None);
        }
    }

    #[test]
    fn backoff_doubles_to_a_cap() {
        assert_eq!(backoff_ns(0), 50_000_000);
        assert_eq!(backoff_ns(6), 3_200_000_000);
        assert_eq!(backoff_ns(255), 3_200_000_000);
    }

    fn poisson(seed: u64, rate: f64, seat: (u32, u32)) -> Schedule {
        Schedule::new(Arrivals::Poisson, seed, 0, Curve::Steady(rate), seat)
    }

    /// Counts in 20,000 windows of 50 ms at 100/s: a Poisson number of mean 5 has variance 5, and
    /// the gaps have a standard deviation that is their mean. Bounds are five standard errors.
    #[test]
    fn poisson_arrivals_have_the_mean_and_the_variance_of_their_kind() {
        const WINDOWS: usize = 20_000;
        for seed in 0..5 {
            let mut schedule = poisson(seed, 100.0, (0, 1));
            let mut counts = vec![0.0; WINDOWS];
            let mut gaps = Vec::new();
            let mut before_ns = 0;
            while let Some(due) = schedule.take(WINDOWS as u64 * 50_000_000 - 1) {
                counts[(due.at_ns / 50_000_000) as usize] += 1.0;
                gaps.push((due.at_ns - before_ns) as f64);
                before_ns = due.at_ns;
            }
            let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
            let variance = |of: &[f64]| {
                let m = mean(of);
                of.iter().map(|x| (x - m) * (x - m)).sum::<f64>() / of.len() as f64
            };
            let n = WINDOWS as f64;
            assert!((mean(&counts) - 5.0).abs() < 5.0 * (5.0 / n).sqrt(), "seed {seed}");
            // The variance of a sample variance is (m4 - v^2) / n; for Poisson m4 = v + 3 v^2.
            let error = ((5.0 + 2.0 * 25.0) / n).sqrt();
            assert!((variance(&counts) - 5.0).abs() < 5.0 * error, "{}", variance(&counts));
            let spread = variance(&gaps).sqrt() / mean(&gaps);
            assert!((spread - 1.0).abs() < 5.0 * (2.0 / gaps.len() as f64).sqrt(), "{spread}");
            // Neighbouring gaps say nothing about each other.
            let m = mean(&gaps);
            let shared: f64 = gaps.windows(2).map(|w| (w[0] - m) * (w[1] - m)).sum();
            let correlation = shared / (gaps.len() as f64 * variance(&gaps));
            assert!(correlation.abs() < 5.0 / (gaps.len() as f64).sqrt(), "{correlation}");
        }
    }

    proptest! {
        #[test]
        fn workers_together_make_one_poisson_schedule(
            workers in 1u32..9, rate in 1.0f64..1e6, start in 0u64..1 << 40, seed: u64,
        ) {
            let curve = Curve::Steady(rate);
            let new = |seat| Schedule::new(Arrivals::Poisson, seed, start, curve.clone(), seat);
            let mut all = Vec::new();
            for w in 0..workers {
                let mut share = new((w, workers));
                all.extend((0..50).filter_map(|_| share.take(u64::MAX - 1)));
            }
            all.sort_unstable_by_key(|due| due.index);
            let mut alone = new((0, 1));
            for due in all {
                prop_assert_eq!(Some(due), alone.take(u64::MAX - 1));
            }
        }

        /// Item `k` is where a sum that is made anew, in another order, has it: to the nanosecond
        /// and what a float of its size cannot tell apart.
        #[test]
        fn poisson_arrivals_do_not_drift(rate in 0.1f64..1e5, seed: u64, k in 1u64..5_000) {
            let mut schedule = poisson(seed, rate, (0, 1));
            let mut before_ns = 0;
            for index in 0..k {
                let (next_ns, following_ns) =
                    (schedule.next_due_ns(), schedule.following_due_ns());
                prop_assert!(next_ns >= before_ns);
                before_ns = next_ns;
                if next_ns > 0 {
                    prop_assert_eq!(schedule.take(next_ns - 1), None, "early");
                }
                prop_assert_eq!(schedule.take(next_ns), Some(Due { at_ns: next_ns, index }));
                prop_assert_eq!(schedule.next_due_ns(), following_ns);
            }
            let stream = Stream::new(seed, Topic::Arrivals);
            let sum: u128 = (0..=k).rev().map(|k| gap(stream, k)).sum();
            let exact_ns = sum as f64 / 4_294_967_296.0 * 1e9 / rate;
            let actual_ns = schedule.next_due_ns() as f64;
            prop_assert!((actual_ns - exact_ns).abs() <= 1.0 + exact_ns * 1e-15);
        }

        #[test]
        fn the_rate_scales_poisson_time_and_nothing_else(seed: u64, rate in 1.0f64..1e3) {
            let (mut slow, mut fast) = (poisson(seed, rate, (0, 1)), poisson(seed, 8.0 * rate, (0, 1)));
            for _ in 0..100 {
                let pair = (slow.take(u64::MAX - 1), fast.take(u64::MAX - 1));
                let (Some(a), Some(b)) = pair else { panic!("due by the end of time") };
                prop_assert!(a.at_ns.abs_diff(8 * b.at_ns) <= 8);
            }
        }

        #[test]
        fn workers_together_make_the_fleet_schedule(
            workers in 1u32..9, rate in 1.0f64..1e6, start in 0u64..1 << 40,
        ) {
            let mut all = Vec::new();
            for w in 0..workers {
                let mut share = Even::new(start, Curve::Steady(rate), w, workers);
                for _ in 0..50 {
                    all.push(share.take(u64::MAX - 1).expect("due by the end of time"));
                }
            }
            all.sort_unstable();
            let mut alone = Even::new(start, Curve::Steady(rate), 0, 1);
            for due in all {
                prop_assert_eq!(Some(due), alone.take(u64::MAX - 1));
            }
        }

        #[test]
        fn nothing_is_early_and_nothing_drifts(rate in 1.0f64..1e5, k in 1u64..2_000) {
            let mut even = Even::new(0, Curve::Steady(rate), 0, 1);
            for _ in 0..k {
                let due = even.next_due_ns();
                if due > 0 {
                    prop_assert_eq!(even.take(due - 1), None);
                }
                prop_assert_eq!(even.take(due), Some(due));
            }
            let exact = k as f64 * 1e9 / rate;
            prop_assert!((even.next_due_ns() as f64 - exact).abs() <= 1.0);
        }
    }
}
