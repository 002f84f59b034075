//! Counting the request records of a stage: what each thread does, and how two counts merge.
//!
//! A tally is bounded by the frame (buckets, windows) and by [`TARGETS_MAX`], never by the number
//! of records. It knows no file and decides nothing.

use latlog::{Outcome, Request};

use super::frame::Frame;
use super::histogram::{Distribution, Small};

/// Targets with figures of their own; those beyond share the last place.
pub const TARGETS_MAX: usize = 256;
/// Number of outcomes.
pub const OUTCOMES: usize = Outcome::ALL.len();

/// Failures by outcome, in the order of [`Outcome::ALL`].
pub type ByOutcome = [u64; OUTCOMES];

/// What is counted of the load requests due in the hold phase, and of all load requests over time.
#[derive(Clone)]
pub struct Tally {
    /// Request records of any kind and phase.
    pub records: u64,
    /// Load requests due in the hold phase, by outcome; `Ok` too.
    pub outcomes: ByOutcome,
    /// Answered load requests with `done` in the hold phase.
    pub done_in_hold: u64,
    /// done - intended of answered ones.
    pub response: Distribution,
    /// done - sent of answered ones.
    pub service: Distribution,
    /// sent - intended of sent ones.
    pub slip: Distribution,
    /// done - intended of sent and failed ones.
    pub failure: Distribution,
    /// Records of any kind whose times are not in order.
    pub disordered: u64,
    /// Session requests (initialize, delete) of the whole stage, by outcome.
    pub session_outcomes: ByOutcome,
    /// By target.
    pub targets: Vec<PartTally>,
    /// By place in the mix; empty where there is one load operation.
    pub operations: Vec<PartTally>,
    /// By time.
    pub buckets: Vec<BucketTally>,
    /// By window of the frame.
    pub windows: Vec<WindowTally>,
}

/// A target's or an operation's share of the load requests due in the hold phase.
#[derive(Clone)]
pub struct PartTally {
    /// Sent.
    pub sent: u64,
    /// Answered.
    pub ok: u64,
    /// done - intended of answered ones.
    pub response: Distribution,
    /// done - sent of answered ones.
    pub service: Distribution,
}

/// One bucket of the time axis, load requests of any phase.
#[derive(Clone, Default)]
pub struct BucketTally {
    /// Due in it.
    pub offered: u64,
    /// By outcome, done in it; `Ok` too.
    pub outcomes: ByOutcome,
    /// Response of those answered in it; none if there were none.
    pub response: Option<Box<Small>>,
}

/// Failures in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowTally {
    /// Load requests that failed or were dropped.
    pub failed: u64,
    /// The first one's `done`; `u64::MAX` without one.
    pub first_ns: u64,
    /// The last one's `done`; 0 without one.
    pub last_ns: u64,
}

impl Tally {
    /// An empty tally for a stage.
    pub fn new(frame: &Frame, targets: usize) -> Self {
        let none = WindowTally { failed: 0, first_ns: u64::MAX, last_ns: 0 };
        Self {
            records: 0,
            outcomes: [0; OUTCOMES],
            done_in_hold: 0,
            response: Distribution::fine(),
            service: Distribution::fine(),
            slip: Distribution::fine(),
            failure: Distribution::fine(),
            disordered: 0,
            session_outcomes: [0; OUTCOMES],
            targets: vec![PartTally::new(); targets.min(TARGETS_MAX)],
            operations: vec![PartTally::new(); frame.mix.iter().flatten().count()],
            buckets: vec![BucketTally::default(); frame.buckets.count],
            windows: vec![none; frame.windows.len()],
        }
    }

    /// Counts one record, whose times are on the frame's clock.
    pub fn record(&mut self, frame: &Frame, request: &Request) {
        self.records += 1;
        let ordered = request.intended_ns <= request.sent_ns
            && request.sent_ns <= request.first_byte_ns
            && request.first_byte_ns <= request.done_ns;
        self.disordered += u64::from(!ordered);
        if !frame.is_load(request.op) {
            self.session_outcomes[request.outcome as usize] += 1;
            return;
        }
        self.record_in_time(frame, request);
        if !request.outcome.is_ok() {
            self.record_in_windows(frame, request);
        }
        if request.outcome.is_ok() && frame.in_hold(request.done_ns) {
            self.done_in_hold += 1;
        }
        if frame.in_hold(request.intended_ns) {
            self.record_in_hold(frame, request);
        }
    }

    fn record_in_hold(&mut self, frame: &Frame, request: &Request) {
        self.outcomes[request.outcome as usize] += 1;
        if request.outcome == Outcome::Dropped {
            return;
        }
        self.slip.record(request.slip_ns());
        let last = self.targets.len().saturating_sub(1);
        let target = self.targets.get_mut(usize::from(request.target).min(last));
        if request.outcome.is_ok() {
            self.response.record(request.response_ns());
            self.service.record(request.service_ns());
        } else {
            self.failure.record(request.response_ns());
        }
        if let Some(target) = target {
            target.record(request);
        }
        if let Some(place) = frame.place(request.op) {
            self.operations[place].record(request);
        }
    }

    fn record_in_time(&mut self, frame: &Frame, request: &Request) {
        if let Some(bucket) = frame.buckets.of(request.intended_ns) {
            self.buckets[bucket].offered += 1;
        }
        if let Some(bucket) = frame.buckets.of(request.done_ns) {
            let bucket = &mut self.buckets[bucket];
            bucket.outcomes[request.outcome as usize] += 1;
            if request.outcome.is_ok() {
                bucket.response.get_or_insert_default().record(request.response_ns());
            }
        }
    }

    fn record_in_windows(&mut self, frame: &Frame, request: &Request) {
        for (window, tally) in frame.windows.iter().zip(&mut self.windows) {
            if window.claims(request.intended_ns, request.done_ns, request.target) {
                tally.failed += 1;
                tally.first_ns = tally.first_ns.min(request.done_ns);
                tally.last_ns = tally.last_ns.max(request.done_ns);
            }
        }
    }

    /// Adds another tally of the same frame.
    pub fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.done_in_hold += other.done_in_hold;
        self.disordered += other.disordered;
        add_outcomes(&mut self.outcomes, &other.outcomes);
        add_outcomes(&mut self.session_outcomes, &other.session_outcomes);
        self.response.add(&other.response);
        self.service.add(&other.service);
        self.slip.add(&other.slip);
        self.failure.add(&other.failure);
        let pairs =
            [(&mut self.targets, &other.targets), (&mut self.operations, &other.operations)];
        for (parts, others) in pairs {
            parts.iter_mut().zip(others).for_each(|(part, more)| part.add(more));
        }
        for (bucket, more) in self.buckets.iter_mut().zip(&other.buckets) {
            bucket.offered += more.offered;
            add_outcomes(&mut bucket.outcomes, &more.outcomes);
            if let Some(response) = &more.response {
                bucket.response.get_or_insert_default().add(response);
            }
        }
        for (window, more) in self.windows.iter_mut().zip(&other.windows) {
            window.failed += more.failed;
            window.first_ns = window.first_ns.min(more.first_ns);
            window.last_ns = window.last_ns.max(more.last_ns);
        }
    }

    /// Load requests due in the hold phase.
    pub fn offered(&self) -> u64 {
        self.outcomes.iter().sum()
    }

    /// Those of them that were answered.
    pub fn ok(&self) -> u64 {
        self.outcomes[Outcome::Ok as usize]
    }

    /// Those of them that were never sent.
    pub fn dropped(&self) -> u64 {
        self.outcomes[Outcome::Dropped as usize]
    }
}

impl PartTally {
    fn new() -> Self {
        Self { sent: 0, ok: 0, response: Distribution::coarse(), service: Distribution::coarse() }
    }

    /// Counts a request that was sent.
    fn record(&mut self, request: &Request) {
        self.sent += 1;
        if request.outcome.is_ok() {
            self.ok += 1;
            self.response.record(request.response_ns());
            self.service.record(request.service_ns());
        }
    }

    fn add(&mut self, more: &Self) {
        self.sent += more.sent;
        self.ok += more.ok;
        self.response.add(&more.response);
        self.service.add(&more.service);
    }
}

fn add_outcomes(into: &mut ByOutcome, more: &ByOutcome) {
    into.iter_mut().zip(more).for_each(|(into, more)| *into += more);
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Buckets, Span, Window};
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn frame() -> Frame {
        Frame {
            hold: Some(Span { start_ns: SECOND_NS, end_ns: 3 * SECOND_NS }),
            buckets: Buckets::cover(Span { start_ns: 0, end_ns: 5 * SECOND_NS }),
            load_ops: vec![false, true],
            mix: Vec::new(),
            windows: vec![Window {
                span: Span { start_ns: 2 * SECOND_NS, end_ns: 4 * SECOND_NS },
                target: Some(1),
            }],
        }
    }

    fn request(intended_ns: u64, outcome: Outcome) -> Request {
        Request {
            intended_ns,
            sent_ns: intended_ns + 10,
            first_byte_ns: intended_ns + 900,
            done_ns: intended_ns + 1_000,
            outcome,
            detail: 0,
            target: 1,
            op: 1,
        }
    }

    #[test]
    fn only_load_requests_due_in_the_hold_phase_are_headline() {
        let frame = frame();
        let mut tally = Tally::new(&frame, 2);
        tally.record(&frame, &request(SECOND_NS - 1, Outcome::Ok)); // due before, done inside
        tally.record(&frame, &request(SECOND_NS, Outcome::Ok));
        tally.record(&frame, &request(3 * SECOND_NS - 1, Outcome::Ok)); // done after
        tally.record(&frame, &request(3 * SECOND_NS, Outcome::Ok)); // due after
        tally.record(&frame, &Request { op: 0, ..request(SECOND_NS, Outcome::Ok) });
        assert_eq!((tally.offered(), tally.ok(), tally.records), (2, 2, 5));
        assert_eq!(tally.done_in_hold, 2, "throughput counts by done");
        assert_eq!(tally.response.count(), 2);
        assert_eq!(tally.session_outcomes[0], 1);
    }

    #[test]
    fn a_dropped_request_is_offered_and_has_no_latency() {
        let frame = frame();
        let mut tally = Tally::new(&frame, 2);
        tally.record(&frame, &request(SECOND_NS, Outcome::Dropped));
        tally.record(&frame, &request(SECOND_NS, Outcome::Reset));
        assert_eq!((tally.offered(), tally.dropped(), tally.ok()), (2, 1, 0));
        assert_eq!((tally.slip.count(), tally.failure.count()), (1, 1));
        assert_eq!((tally.response.count(), tally.targets[1].sent), (0, 1));
    }

    #[test]
    fn failures_in_a_window_have_a_first_and_a_last() {
        let frame = frame();
        let mut tally = Tally::new(&frame, 2);
        for at in [2, 3, 4] {
            tally.record(&frame, &request(at * SECOND_NS, Outcome::Reset));
        }
        tally.record(&frame, &request(2 * SECOND_NS, Outcome::Ok));
        let expected = WindowTally {
            failed: 2,
            first_ns: 2 * SECOND_NS + 1_000,
            last_ns: 3 * SECOND_NS + 1_000,
        };
        assert_eq!(tally.windows[0], expected);
    }

    #[test]
    fn the_operations_of_a_mix_are_counted_apart() {
        let load_ops = vec![true, true, false];
        let frame = Frame { mix: super::super::frame::mix(&load_ops), load_ops, ..frame() };
        let mut tally = Tally::new(&frame, 2);
        for (op, outcome) in
            [(0, Outcome::Ok), (1, Outcome::Ok), (1, Outcome::Reset), (2, Outcome::Ok)]
        {
            tally.record(&frame, &Request { op, ..request(SECOND_NS, outcome) });
        }
        let mut total = Tally::new(&frame, 2);
        total.add(&tally);
        let counts: Vec<_> = total.operations.iter().map(|part| (part.sent, part.ok)).collect();
        assert_eq!(counts, [(1, 1), (2, 1)]);
        assert_eq!(total.operations[1].service.count(), 1);
    }

    #[test]
    fn a_target_beyond_the_limit_shares_the_last_place() {
        let frame = frame();
        let mut tally = Tally::new(&frame, 70_000);
        assert_eq!(tally.targets.len(), TARGETS_MAX);
        tally.record(&frame, &Request { target: 60_000, ..request(SECOND_NS, Outcome::Ok) });
        assert_eq!(tally.targets[TARGETS_MAX - 1].ok, 1);
    }

    #[test]
    fn a_clock_that_goes_back_is_counted() {
        let frame = frame();
        let mut tally = Tally::new(&frame, 2);
        let back = Request { sent_ns: 5, ..request(SECOND_NS, Outcome::Ok) };
        tally.record(&frame, &back);
        assert_eq!(tally.disordered, 1);
        assert_eq!(tally.slip.percentiles().expect("one sample").max, 0);
    }
}
