//! The records as values. Nothing here knows how they lie on disk.

use serde::{Deserialize, Serialize};

use crate::names::{EventKind, Outcome};

/// One instant, read on two clocks one right after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// `CLOCK_MONOTONIC`, ns.
    pub mono_ns: u64,
    /// `CLOCK_REALTIME`, ns since the Unix epoch.
    pub real_ns: u64,
}

/// One request of a load test. All times are `CLOCK_MONOTONIC`, ns.
///
/// Ordinarily `intended <= sent <= first_byte <= done`. The format keeps any values exactly; values
/// out of that order only cost more bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Request {
    /// When the schedule wanted it sent.
    pub intended_ns: u64,
    /// When it was handed to the kernel; for a dropped one, when it was given up.
    pub sent_ns: u64,
    /// When the first byte of the answer was seen; equal to `done_ns` if none came.
    pub first_byte_ns: u64,
    /// When its outcome was known.
    pub done_ns: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// HTTP status, JSON-RPC code or errno; 0 if none. Not kept for [`Outcome::Ok`]: reads as 0.
    pub detail: i32,
    /// Index of the target in the plan.
    pub target: u16,
    /// Index of the operation in the plan.
    pub op: u8,
}

impl Request {
    /// `sent - intended`: what the generator added or had to queue, ns.
    #[inline]
    pub const fn slip_ns(&self) -> u64 {
        self.sent_ns.saturating_sub(self.intended_ns)
    }

    /// `done - sent`: what the target took, ns.
    #[inline]
    pub const fn service_ns(&self) -> u64 {
        self.done_ns.saturating_sub(self.sent_ns)
    }

    /// `done - intended`: what a user would have waited, ns.
    #[inline]
    pub const fn response_ns(&self) -> u64 {
        self.done_ns.saturating_sub(self.intended_ns)
    }
}

/// Something that happened to a connection, session or stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Event {
    /// When, `CLOCK_MONOTONIC` ns.
    pub at_ns: u64,
    /// What.
    pub kind: EventKind,
    /// The session's number within the worker.
    pub session: u32,
    /// Index of the target in the plan.
    pub target: u16,
    /// Why, for losses; `Ok` otherwise.
    pub outcome: Outcome,
    /// HTTP status, JSON-RPC code or errno; 0 if none.
    pub detail: i32,
    /// What the kind says; 0 if nothing.
    pub value: u64,
}

/// One row of a worker's counters. The plan's `sample_fields` names the columns.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sample {
    /// When, `CLOCK_MONOTONIC` ns.
    pub at_ns: u64,
    /// The counters, in the order of `sample_fields`.
    pub values: Vec<u64>,
}

/// A named remark on the time axis: a phase, a mark, an example of a failure.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Note {
    /// When, `CLOCK_MONOTONIC` ns.
    pub at_ns: u64,
    /// What sort of remark: `phase`, `mark`, `target_added`...
    pub name: String,
    /// The remark.
    pub text: String,
}

/// What one worker produced, whether or not it reached the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerTotals {
    /// Whose totals.
    pub worker: u16,
    /// Blocks that it sealed: one more than its last sequence number.
    pub blocks: u32,
    /// Requests that it recorded.
    pub requests: u64,
    /// Events that it recorded.
    pub events: u64,
}

/// The last block of a run that was not killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The clocks at the end.
    pub anchor: Anchor,
    /// Each worker's totals, and those of [`RUN_WORKER`](crate::RUN_WORKER) if it sealed a block.
    pub totals: Vec<WorkerTotals>,
}
