//! TLS handshakes: how many there were with which target, and how long they took. Knows no connections.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::record::{Latencies, latencies};

/// Handshakes of a worker, or of all.
#[derive(Clone, Debug, Default)]
pub struct Handshakes {
    all: Option<Box<Latencies>>,
    targets: BTreeMap<u16, OfTarget>,
}

/// Handshakes with one target.
#[derive(Clone, Debug)]
pub struct OfTarget {
    /// In full.
    pub full: u64,
    /// Gone on from an earlier one.
    pub resumed: u64,
    /// Failed, for whatever reason.
    pub failed: u64,
    /// How long those took that did not fail, ns, to two significant digits: there may be many targets.
    pub times: Latencies,
}

impl OfTarget {
    fn none() -> Self {
        let mut times =
            Histogram::new_with_bounds(1_000, 3_600_000_000_000, 2).expect("the bounds are valid");
        times.auto(false);
        Self { full: 0, resumed: 0, failed: 0, times }
    }
}

impl Handshakes {
    /// Counts one that came through.
    pub fn done(&mut self, target: u16, resumed: bool, took_ns: u64) {
        let all = self.all.get_or_insert_with(|| Box::new(latencies()));
        all.saturating_record(took_ns);
        let of_target = self.of(target);
        of_target.full += u64::from(!resumed);
        of_target.resumed += u64::from(resumed);
        of_target.times.saturating_record(took_ns);
    }

    /// Counts one that failed.
    pub fn failed(&mut self, target: u16) {
        self.of(target).failed += 1;
    }

    fn of(&mut self, target: u16) -> &mut OfTarget {
        self.targets.entry(target).or_insert_with(OfTarget::none)
    }

    /// Adds another worker's.
    pub fn merge(&mut self, other: &Self) {
        const SAME: &str = "all histograms have the same bounds";
        if let Some(times) = &other.all {
            self.all.get_or_insert_with(|| Box::new(latencies())).add(&**times).expect(SAME);
        }
        for (&target, theirs) in &other.targets {
            let ours = self.of(target);
            ours.full += theirs.full;
            ours.resumed += theirs.resumed;
            ours.failed += theirs.failed;
            ours.times.add(&theirs.times).expect(SAME);
        }
    }

    /// How long those took that did not fail, ns; `None` where there were none.
    pub fn times(&self) -> Option<&Latencies> {
        self.all.as_deref()
    }

    /// Those with each target, by its index.
    pub fn targets(&self) -> impl Iterator<Item = (u16, &OfTarget)> {
        self.targets.iter().map(|(&target, of_target)| (target, of_target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_has_its_own_and_all_have_the_sum() {
        let (mut one, mut other) = (Handshakes::default(), Handshakes::default());
        one.done(0, false, 2_000_000);
        one.done(3, true, 1_000_000);
        other.done(3, false, 5_000_000);
        other.failed(0);
        one.merge(&other);
        let counts: Vec<_> =
            one.targets().map(|(n, t)| (n, t.full, t.resumed, t.failed, t.times.len())).collect();
        assert_eq!(counts, [(0, 1, 0, 1, 1), (3, 1, 1, 0, 2)]);
        assert_eq!(one.times().map(|times| times.len()), Some(3));
        assert!(Handshakes::default().times().is_none());
    }
}
