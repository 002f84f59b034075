//! The frame that a stage's records are counted in: its hold phase, its time buckets, the windows
//! around kills and scale commands. Pure arithmetic on instants; all `_ns` on the driving host's
//! `CLOCK_MONOTONIC`.

/// Time buckets of a stage; a longer stage has wider buckets.
pub const BUCKETS_MAX: usize = 1_800;

/// Widths of a bucket, in order of preference.
const WIDTHS_NS: [u64; 10] = [
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
    20_000_000_000,
    30_000_000_000,
    60_000_000_000,
    120_000_000_000,
    300_000_000_000,
    600_000_000_000,
];

/// A half-open interval of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First instant inside.
    pub start_ns: u64,
    /// First instant after it.
    pub end_ns: u64,
}

impl Span {
    /// Whether `at_ns` is inside.
    pub fn contains(self, at_ns: u64) -> bool {
        self.start_ns <= at_ns && at_ns < self.end_ns
    }

    /// Its length.
    pub fn length_ns(self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }
}

/// The time axis of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buckets {
    /// Start of the first one.
    pub start_ns: u64,
    /// Width of each.
    pub width_ns: u64,
    /// How many.
    pub count: usize,
}

impl Buckets {
    /// Buckets that cover `span`, [`BUCKETS_MAX`] at most; at least one.
    pub fn cover(span: Span) -> Self {
        let length = span.length_ns().max(1);
        let fits = |width: &u64| length.div_ceil(*width) <= BUCKETS_MAX as u64;
        let width_ns =
            WIDTHS_NS.into_iter().find(fits).unwrap_or(length.div_ceil(BUCKETS_MAX as u64));
        let count = length.div_ceil(width_ns) as usize;
        Self { start_ns: span.start_ns, width_ns, count }
    }

    /// The bucket of an instant; none outside.
    pub fn of(&self, at_ns: u64) -> Option<usize> {
        let bucket = (at_ns.checked_sub(self.start_ns)? / self.width_ns) as usize;
        (bucket < self.count).then_some(bucket)
    }

    /// As [`Self::of`], the nearest one for an instant outside.
    pub fn nearest(&self, at_ns: u64) -> usize {
        (at_ns.saturating_sub(self.start_ns) / self.width_ns).min(self.count as u64 - 1) as usize
    }

    /// Start of a bucket.
    pub fn start_of(&self, bucket: usize) -> u64 {
        self.start_ns + bucket as u64 * self.width_ns
    }
}

/// A kill or a scale command whose failed requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// From the kill or command until the service had come back, or the end of the stage.
    pub span: Span,
    /// The killed target: its failures count by `done` inside the span, whenever they were due.
    pub target: Option<u16>,
}

impl Window {
    /// Whether a failed request belongs to it.
    pub fn claims(&self, intended_ns: u64, done_ns: u64, target: u16) -> bool {
        self.span.contains(intended_ns)
            || (self.target == Some(target) && self.span.contains(done_ns))
    }
}

/// All that a record is compared with.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The hold phase that all generators share; none if there was none.
    pub hold: Option<Span>,
    /// The time axis.
    pub buckets: Buckets,
    /// By number of the operation: true for kind "load".
    pub load_ops: Vec<bool>,
    /// By number of the operation: its place among the load operations; empty unless there are
    /// several, so that the plain case pays nothing for a mix.
    pub mix: Vec<Option<usize>>,
    /// Kills and scale commands.
    pub windows: Vec<Window>,
}

/// [`Frame::mix`] of a list of operations.
pub fn mix(load_ops: &[bool]) -> Vec<Option<usize>> {
    if load_ops.iter().filter(|load| **load).count() < 2 {
        return Vec::new();
    }
    let mut places = 0..;
    load_ops.iter().map(|load| if *load { places.next() } else { None }).collect()
}

impl Frame {
    /// The place of an operation in a mix.
    pub fn place(&self, op: u8) -> Option<usize> {
        self.mix.get(usize::from(op)).copied().flatten()
    }

    /// Whether an operation is load; an unknown one is not.
    pub fn is_load(&self, op: u8) -> bool {
        self.load_ops.get(usize::from(op)).copied().unwrap_or(false)
    }

    /// Whether an instant is in the hold phase.
    pub fn in_hold(&self, at_ns: u64) -> bool {
        self.hold.is_some_and(|hold| hold.contains(at_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn a_long_stage_has_wider_buckets() {
        let span = |seconds: u64| Span { start_ns: 7, end_ns: 7 + seconds * SECOND_NS };
        for (seconds, width) in [(1, 1), (1_800, 1), (1_801, 2), (7_200, 5), (86_400, 60)] {
            let buckets = Buckets::cover(span(seconds));
            assert_eq!(buckets.width_ns, width * SECOND_NS, "{seconds} s");
            assert!(buckets.count <= BUCKETS_MAX);
            assert_eq!(buckets.of(span(seconds).end_ns - 1), Some(buckets.count - 1));
        }
        assert_eq!(Buckets::cover(span(0)).count, 1);
    }

    #[test]
    fn instants_outside_have_no_bucket_but_a_nearest_one() {
        let buckets = Buckets::cover(Span { start_ns: 100, end_ns: 100 + 3 * SECOND_NS });
        assert_eq!((buckets.of(99), buckets.nearest(99)), (None, 0));
        assert_eq!((buckets.of(u64::MAX), buckets.nearest(u64::MAX)), (None, 2));
    }

    #[test]
    fn only_several_load_operations_are_a_mix() {
        assert_eq!(mix(&[true, false, true]), [Some(0), None, Some(1)]);
        assert!(mix(&[false, true]).is_empty() && mix(&[]).is_empty());
    }

    #[test]
    fn a_window_claims_by_due_time_and_the_killed_target_by_done() {
        let window = Window { span: Span { start_ns: 10, end_ns: 20 }, target: Some(3) };
        assert!(window.claims(10, 99, 1), "due inside, whatever the target");
        assert!(window.claims(5, 12, 3), "in flight to the killed target");
        assert!(!window.claims(5, 12, 1), "in flight to another one");
        assert!(!window.claims(20, 21, 3));
    }
}
