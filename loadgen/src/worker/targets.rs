//! Which target a connection goes to: as planned at first, later as behind a balancer that
//! notices dead backends by the connections they refuse.

use crate::schedule::backoff_ns;

/// One target as a worker sees it.
#[derive(Clone, Copy, Debug)]
struct Target {
    active: bool,
    assigned: u32,
    failures: u8,
    avoid_until_ns: u64,
    /// The shortest time for which a connection had been idle that it closed; 0 where it closed none.
    idle_close_ns: u64,
    /// When it last closed one after about that time.
    idle_close_at_ns: u64,
    /// Since when that time has been known, about.
    idle_close_since_ns: u64,
}

/// Connections that end after less idle time say nothing about a server's habits.
pub const IDLE_CLOSE_NS_MIN: u64 = 500_000_000;

/// A longer idle time is believed once the shorter one has not been seen for so long. A server that
/// stands still (in a garbage collection, say) closes late what it should have closed meanwhile, and
/// on time again afterwards.
const IDLE_CLOSE_KEPT_NS: u64 = 30_000_000_000;

/// What is known for so long is a habit. A server that ends closes connections of any idle time at
/// one moment, the first of which tells nothing of the others.
const HABIT_AFTER_NS: u64 = 1_000_000_000;

/// All targets of a worker, in the order of their indices in the log.
#[derive(Debug, Default)]
pub struct Targets(Vec<Target>);

impl Targets {
    /// Adds a target, which is active.
    pub fn add(&mut self) {
        self.0.push(Target {
            active: true,
            assigned: 0,
            failures: 0,
            avoid_until_ns: 0,
            idle_close_ns: 0,
            idle_close_at_ns: 0,
            idle_close_since_ns: 0,
        });
    }

    /// Says which targets are wanted from now on.
    pub fn activate(&mut self, wanted: &[u16]) {
        for (index, target) in self.0.iter_mut().enumerate() {
            target.active = wanted.contains(&(index as u16));
        }
    }

    /// Notes that a session belongs to a target.
    pub fn assign(&mut self, target: u16) {
        self.0[usize::from(target)].assigned += 1;
    }

    /// Sessions that belong to a target.
    pub fn assigned(&self, target: u16) -> u32 {
        self.0[usize::from(target)].assigned
    }

    /// Notes that a session left its target.
    pub fn leave(&mut self, target: u16) {
        self.0[usize::from(target)].assigned -= 1;
    }

    /// Notes that a target refused, or did not answer, a connection: it is avoided for a while
    /// that doubles, and is longer than what a session waits that was refused as often: it comes
    /// back to another target.
    pub fn failed(&mut self, target: u16, now_ns: u64) {
        let target = &mut self.0[usize::from(target)];
        if now_ns >= target.avoid_until_ns {
            target.avoid_until_ns = now_ns + backoff_ns(target.failures + 2);
            target.failures = target.failures.saturating_add(1).min(5);
        }
    }

    /// Notes that a target accepted a connection.
    pub fn succeeded(&mut self, target: u16) {
        let target = &mut self.0[usize::from(target)];
        target.failures = 0;
        target.avoid_until_ns = 0;
    }

    /// Notes that a target ended a connection that had been idle for so long.
    pub fn closed_idle(&mut self, target: u16, idle_ns: u64, now_ns: u64) {
        if idle_ns < IDLE_CLOSE_NS_MIN {
            return;
        }
        let known = self.closes_after(target, idle_ns);
        let t = &mut self.0[usize::from(target)];
        let stale = now_ns >= t.idle_close_at_ns + IDLE_CLOSE_KEPT_NS;
        if !known || stale {
            t.idle_close_since_ns = now_ns;
        }
        if t.idle_close_ns == 0 || idle_ns <= t.idle_close_ns || stale {
            t.idle_close_ns = idle_ns;
        }
        if idle_ns <= t.idle_close_ns + t.idle_close_ns / 8 {
            t.idle_close_at_ns = now_ns;
        }
    }

    /// Notes that a target lost its sessions: what it closed before, it closed because it ended.
    pub fn forgot_sessions(&mut self, target: u16) {
        self.0[usize::from(target)].idle_close_ns = 0;
    }

    /// Whether a target closes connections that have been idle for so long; an eighth is allowed
    /// for what its timers and its load add.
    pub fn closes_after(&self, target: u16, idle_ns: u64) -> bool {
        let known_ns = self.0[usize::from(target)].idle_close_ns;
        known_ns > 0 && idle_ns >= known_ns - known_ns / 8
    }

    /// Whether a target has closed connections that were idle for so long for some time already.
    pub fn has_habit(&self, target: u16, idle_ns: u64, now_ns: u64) -> bool {
        let since_ns = self.0[usize::from(target)].idle_close_since_ns;
        self.closes_after(target, idle_ns) && now_ns >= since_ns + HABIT_AFTER_NS
    }

    /// The target for a connection: `preferred` while it is active and not avoided, otherwise the
    /// active one with the fewest sessions that is not avoided; when all are avoided, the one that
    /// will be tried soonest. `None` without any active target.
    pub fn pick(&self, preferred: Option<u16>, now_ns: u64) -> Option<u16> {
        let usable = |t: &Target| t.active && now_ns >= t.avoid_until_ns;
        if let Some(p) = preferred
            && self.0.get(usize::from(p)).is_some_and(usable)
        {
            return Some(p);
        }
        let active = || self.0.iter().enumerate().filter(|(_, t)| t.active);
        let (index, _) = active()
            .filter(|(_, t)| usable(t))
            .min_by_key(|(_, t)| t.assigned)
            .or_else(|| active().min_by_key(|(_, t)| t.avoid_until_ns))?;
        Some(index as u16)
    }

    /// Sessions that an active target may have when `sessions` are spread evenly.
    pub fn fair_share(&self, sessions: u32) -> u32 {
        let active = self.0.iter().filter(|t| t.active).count() as u32;
        sessions.div_ceil(active.max(1))
    }

    /// Whether a session should leave this target: it is unwanted, or holds more than `share`.
    pub fn should_leave(&self, target: u16, share: Option<u32>) -> bool {
        let target = &self.0[usize::from(target)];
        !target.active || share.is_some_and(|share| target.assigned > share)
    }

    /// Sessions of all targets.
    #[cfg(test)]
    pub fn assigned_total(&self) -> u32 {
        self.0.iter().map(|t| t.assigned).sum()
    }

    /// Whether every session is where it should be.
    pub fn settled(&self, share: Option<u32>) -> bool {
        (0..self.0.len()).all(|t| self.0[t].assigned == 0 || !self.should_leave(t as u16, share))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Targets {
        let mut targets = Targets::default();
        (0..3).for_each(|_| targets.add());
        targets
    }

    #[test]
    fn a_refusing_target_is_avoided_and_tried_again() {
        let mut targets = three();
        targets.failed(0, 1000);
        assert_eq!(targets.pick(Some(0), 1000), Some(1));
        assert_eq!(targets.pick(Some(0), 1000 + backoff_ns(2)), Some(0));
        targets.failed(1, 0);
        targets.failed(2, 0);
        assert_eq!(targets.pick(None, 1000), Some(1), "all avoided: the soonest");
        targets.succeeded(0);
        assert_eq!(targets.pick(None, 1000), Some(0));
    }

    #[test]
    fn failures_of_one_outage_count_once() {
        let mut targets = three();
        (0..1000).for_each(|_| targets.failed(0, 1000));
        assert_eq!(targets.pick(Some(0), 1000 + backoff_ns(2)), Some(0));
    }

    #[test]
    fn the_idle_time_that_a_target_allows_is_known_from_its_closes() {
        let mut targets = three();
        assert!(!targets.closes_after(0, 5_000_000_000), "it has closed none");
        targets.closed_idle(0, 1000, 0);
        assert!(!targets.closes_after(0, 5_000_000_000), "that one had just been used");
        targets.closed_idle(0, 5_100_000_000, 0);
        assert!(targets.closes_after(0, 4_990_000_000));
        assert!(!targets.closes_after(0, 4_000_000_000));
        assert!(!targets.closes_after(1, 5_000_000_000), "another target");
        targets.forgot_sessions(0);
        assert!(!targets.closes_after(0, 5_000_000_000), "it closed them because it ended");
    }

    #[test]
    fn what_ends_at_one_moment_is_no_habit() {
        let mut targets = three();
        let (idle_ns, now_ns) = (5_000_000_000, 60_000_000_000);
        targets.closed_idle(0, idle_ns, now_ns);
        assert!(!targets.has_habit(0, idle_ns, now_ns));
        targets.closed_idle(0, idle_ns + 1, now_ns + HABIT_AFTER_NS);
        assert!(targets.has_habit(0, idle_ns, now_ns + HABIT_AFTER_NS));
        // It ends, and with it all connections, whatever their idle time.
        targets.closed_idle(0, idle_ns / 2, now_ns + HABIT_AFTER_NS);
        assert!(!targets.has_habit(0, idle_ns / 2, now_ns + HABIT_AFTER_NS));
    }

    #[test]
    fn a_server_that_stood_still_does_not_allow_more_idle_time() {
        let mut targets = three();
        let (idle_ns, stalled_ns) = (5_000_000_000, 8_000_000_000);
        targets.closed_idle(0, idle_ns, 0);
        targets.closed_idle(0, stalled_ns, IDLE_CLOSE_KEPT_NS - 1);
        assert!(targets.closes_after(0, idle_ns), "it closed late once");
        targets.closed_idle(0, stalled_ns, IDLE_CLOSE_KEPT_NS);
        assert!(!targets.closes_after(0, idle_ns), "it allows more from some time on");
        targets.closed_idle(0, idle_ns, IDLE_CLOSE_KEPT_NS);
        assert!(targets.closes_after(0, idle_ns), "less is believed at once");
    }

    #[test]
    fn unwanted_and_overfull_targets_are_left() {
        let mut targets = three();
        (0..9).for_each(|_| targets.assign(0));
        assert!(targets.settled(None));
        let share = targets.fair_share(9);
        assert_eq!(share, 3);
        assert!(targets.should_leave(0, Some(share)) && !targets.settled(Some(share)));
        targets.activate(&[1, 2]);
        assert!(targets.should_leave(0, None));
        assert_eq!(targets.pick(Some(0), 0), Some(1));
        targets.activate(&[]);
        assert_eq!(targets.pick(Some(0), 0), None);
    }
}
