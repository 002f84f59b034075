//! What a worker records: every request and event to the log, and counts and histograms for the
//! live line and the summary. Full blocks travel to the writer thread and empty buffers back;
//! when none is left, records are lost, counted, and the worker goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, TrySendError};
use hdrhistogram::Histogram;
use latlog::{BlockBuilder, BlockKind, Event, EventKind, Outcome, Request};

use super::handshakes::Handshakes;
use super::sample::Sample;
use super::streams::StreamCounts;
use crate::ops::Op;

/// Bytes of a block: at 12 bytes a request a few thousand records.
pub const BLOCK_BYTES: usize = 32 * 1024;
/// Buffers of one worker that may be on their way to the disk.
pub const SPARE_BLOCKS: usize = 16;

/// The longest wait for each of a worker's last blocks to be taken.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// A sealed block on its way to the writer thread.
pub struct Sealed {
    /// Whose it is, and so where its buffer goes back.
    pub worker: u16,
    /// The block.
    pub bytes: Vec<u8>,
}

/// The two ends that a worker holds of its traffic with the writer thread.
pub struct LogLink {
    /// Sealed blocks go here.
    pub full: Sender<Sealed>,
    /// Empty buffers come from here.
    pub empty: Receiver<Vec<u8>>,
}

/// Latencies, recorded in nanoseconds to three significant digits.
pub type Latencies = Histogram<u64>;

/// An empty histogram from 1 us to 1 hour.
pub fn latencies() -> Latencies {
    let mut histogram =
        Histogram::new_with_bounds(1_000, 3_600_000_000_000, 3).expect("the bounds are valid");
    histogram.auto(false);
    histogram
}

/// Counts by reason, in the order of [`Outcome::ALL`].
pub type ByOutcome = [u64; Outcome::ALL.len()];

/// Counts and latencies of the load requests that were due in the counted part of the run.
pub struct Tally {
    /// Requests sent.
    pub sent: u64,
    /// Requests that succeeded.
    pub ok: u64,
    /// Requests due and never sent.
    pub dropped: u64,
    /// Failures by reason and detail.
    pub errors: BTreeMap<(Outcome, i32), u64>,
    /// `done - intended` of answered requests.
    pub response: Latencies,
    /// `done - sent` of answered requests.
    pub service: Latencies,
    /// `sent - intended` of sent requests.
    pub slip: Latencies,
    /// Time of the latest completion.
    pub last_done_ns: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            sent: 0,
            ok: 0,
            dropped: 0,
            errors: BTreeMap::new(),
            response: latencies(),
            service: latencies(),
            slip: latencies(),
            last_done_ns: 0,
        }
    }
}

impl Tally {
    fn record(&mut self, request: &Request) {
        self.last_done_ns = self.last_done_ns.max(request.done_ns);
        if request.outcome == Outcome::Dropped {
            self.dropped += 1;
            return;
        }
        self.sent += 1;
        self.slip.saturating_record(request.slip_ns());
        if request.outcome.is_ok() {
            self.ok += 1;
        } else {
            *self.errors.entry((request.outcome, request.detail)).or_default() += 1;
        }
        if answered(request.outcome) {
            self.response.saturating_record(request.response_ns());
            self.service.saturating_record(request.service_ns());
        }
    }

    /// Adds another worker's tally.
    pub fn merge(&mut self, other: &Tally) {
        self.sent += other.sent;
        self.ok += other.ok;
        self.dropped += other.dropped;
        for (reason, count) in &other.errors {
            *self.errors.entry(*reason).or_default() += count;
        }
        let pairs = [
            (&mut self.response, &other.response),
            (&mut self.service, &other.service),
            (&mut self.slip, &other.slip),
        ];
        for (to, from) in pairs {
            to.add(from).expect("all histograms have the same bounds");
        }
        self.last_done_ns = self.last_done_ns.max(other.last_done_ns);
    }
}

/// Whether an outcome is an answer, good or bad, so that its time is a latency.
pub fn answered(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Ok
        | Outcome::HttpStatus
        | Outcome::SessionGone
        | Outcome::SessionLimit
        | Outcome::RpcError
        | Outcome::ToolError
        | Outcome::Violation => true,
        Outcome::Refused
        | Outcome::Reset
        | Outcome::Eof
        | Outcome::Timeout
        | Outcome::ConnectTimeout
        | Outcome::Unanswered
        | Outcome::Dropped
        | Outcome::NoAddress
        | Outcome::Tls
        | Outcome::Unreachable
        | Outcome::Stopped
        | Outcome::Other => false,
    }
}

/// All that a worker records.
pub struct Recorder {
    link: Option<LogLink>,
    requests: BlockBuilder,
    events: BlockBuilder,
    samples: BlockBuilder,
    worker: u16,
    seq: u32,
    /// Totals for the log's end block.
    pub requests_total: u64,
    /// Totals for the log's end block.
    pub events_total: u64,
    /// Counters of this worker; gauges are set when a sample is taken.
    pub now: Sample,
    /// Load requests that failed or were dropped, whatever the phase.
    pub failures: ByOutcome,
    /// Connections and sessions that were lost, and attempts to connect that failed.
    pub losses: ByOutcome,
    /// The counted part of the run.
    pub tally: Tally,
    /// TLS handshakes, over the whole run.
    pub handshakes: Handshakes,
    /// What became of event streams, over the whole run.
    pub streams: StreamCounts,
    /// Responses since the last sample: sum and count for the live line's average.
    pub interval: Latencies,
    hold: std::ops::Range<u64>,
}

impl Recorder {
    /// A recorder; without a link nothing is logged and all is counted.
    pub fn new(worker: u16, link: Option<LogLink>) -> Self {
        let builder = |kind| BlockBuilder::new(worker, kind, BLOCK_BYTES);
        let mut interval =
            Histogram::new_with_bounds(1_000, 3_600_000_000_000, 2).expect("the bounds are valid");
        interval.auto(false);
        Self {
            link,
            requests: builder(BlockKind::Requests),
            events: builder(BlockKind::Events),
            samples: builder(BlockKind::Samples),
            worker,
            seq: 0,
            requests_total: 0,
            events_total: 0,
            now: Sample::default(),
            failures: ByOutcome::default(),
            losses: ByOutcome::default(),
            tally: Tally::default(),
            handshakes: Handshakes::default(),
            streams: StreamCounts::default(),
            interval,
            hold: u64::MAX..u64::MAX,
        }
    }

    /// Says which intended times are in the counted part.
    pub fn set_hold(&mut self, hold: std::ops::Range<u64>) {
        self.hold = hold;
    }

    /// Counts a TLS handshake.
    pub fn handshake(&mut self, target: u16, resumed: bool, took_ns: u64) {
        let count = if resumed { &mut self.now.tls_resumed } else { &mut self.now.tls_full };
        *count += 1;
        self.handshakes.done(target, resumed, took_ns);
    }

    /// Counts a TLS handshake that failed.
    pub fn handshake_failed(&mut self, target: u16) {
        self.now.tls_failed += 1;
        self.handshakes.failed(target);
    }

    /// Blocks sealed so far.
    pub fn blocks(&self) -> u32 {
        self.seq
    }

    /// Records a request that has come to its end.
    pub fn request(&mut self, op: Op, request: &Request) {
        if op.is_load() {
            match request.outcome {
                Outcome::Ok => self.now.ok += 1,
                Outcome::Dropped => self.now.dropped += 1,
                _ => self.now.failed += 1,
            }
            if !request.outcome.is_ok() {
                self.failures[request.outcome as usize] += 1;
            }
            if answered(request.outcome) {
                self.interval.saturating_record(request.response_ns());
            }
            if self.hold.contains(&request.intended_ns) {
                self.tally.record(request);
            }
        }
        if self.link.is_none() {
            return;
        }
        self.requests_total += 1;
        if self.requests.is_full() {
            self.ship(BlockKind::Requests);
        }
        if self.requests.push_request(request).is_err() {
            self.now.log_lost_records += 1;
        }
    }

    /// Records an event.
    pub fn event(&mut self, event: &Event) {
        let lost = match event.kind {
            EventKind::Lost | EventKind::ConnectFailed => event.outcome != Outcome::Stopped,
            // Others end with their connection, which counts.
            EventKind::SessionLost => event.outcome == Outcome::SessionGone,
            EventKind::Connected
            | EventKind::Alive
            | EventKind::Ended
            | EventKind::StreamOpen
            | EventKind::StreamEnd
            | EventKind::Handshake => false,
        };
        self.losses[event.outcome as usize] += u64::from(lost);
        if self.link.is_none() {
            return;
        }
        self.events_total += 1;
        if self.events.is_full() {
            self.ship(BlockKind::Events);
        }
        if self.events.push_event(event).is_err() {
            self.now.log_lost_records += 1;
        }
    }

    /// Records a sample and hands all open blocks on, so that a killed process loses no more than
    /// the time between two samples.
    pub fn sample(&mut self, at_ns: u64) {
        let values = self.now.values();
        if self.link.is_some() && self.samples.push_values(at_ns, &values).is_err() {
            self.ship(BlockKind::Samples);
            let _ = self.samples.push_values(at_ns, &values);
        }
        self.flush();
        self.interval.reset();
        self.now.turn_ns_max = 0;
        self.now.reap_lag_ns_max = 0;
        self.now.debt_ns_max = 0;
        self.now.reaped_max = 0;
        self.now.recv_buffers_used_max = 0;
    }

    /// Hands all open blocks on.
    pub fn flush(&mut self) {
        for kind in [BlockKind::Requests, BlockKind::Events, BlockKind::Samples] {
            self.ship(kind);
        }
    }

    /// Hands the last blocks on, which no other records follow: they need no buffer to go on with,
    /// and nothing is measured any more, so that there is time for a disk that stands still.
    pub fn finish(&mut self) {
        self.flush();
        let Some(link) = &self.link else { return };
        for builder in [&mut self.requests, &mut self.events, &mut self.samples] {
            if builder.is_empty() {
                continue;
            }
            let count = u64::from(builder.count());
            let bytes = builder.swap(self.seq, Vec::new());
            self.seq += 1;
            if link.full.send_timeout(Sealed { worker: self.worker, bytes }, LAST_WAIT).is_err() {
                self.now.log_lost_records += count;
            }
        }
    }

    /// Sends a block to the writer if there is a buffer to go on with; otherwise, if it is full,
    /// gives its records up.
    fn ship(&mut self, kind: BlockKind) {
        let Some(link) = &self.link else { return };
        let builder = match kind {
            BlockKind::Requests => &mut self.requests,
            BlockKind::Events => &mut self.events,
            BlockKind::Samples => &mut self.samples,
            BlockKind::Notes | BlockKind::End => return,
        };
        if builder.is_empty() {
            return;
        }
        let Ok(spare) = link.empty.try_recv() else {
            if builder.is_full() {
                self.now.log_lost_records += u64::from(builder.count());
                builder.clear();
            }
            return;
        };
        let count = u64::from(builder.count());
        let bytes = builder.swap(self.seq, spare);
        self.seq += 1;
        match link.full.try_send(Sealed { worker: self.worker, bytes }) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.now.log_lost_records += count;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam::channel::bounded;

    /// A recorder with one request that found no buffer to go on with, its traffic with a writer
    /// that has taken nothing yet, and the other end of that.
    fn with_one_left() -> (Recorder, Receiver<Sealed>) {
        let (full, blocks) = bounded(1);
        let mut recorder = Recorder::new(0, Some(LogLink { full, empty: bounded(1).1 }));
        let request = Request {
            intended_ns: 1,
            sent_ns: 1,
            first_byte_ns: 2,
            done_ns: 2,
            outcome: Outcome::Ok,
            detail: 0,
            target: 0,
            op: Op::Ping.number(),
        };
        recorder.request(Op::Ping, &request);
        recorder.flush();
        assert!(blocks.is_empty(), "it waits for a buffer");
        (recorder, blocks)
    }

    #[test]
    fn the_last_records_need_no_buffer_to_go_on_with() {
        let (mut recorder, blocks) = with_one_left();
        recorder.finish();
        assert_eq!((blocks.len(), recorder.blocks(), recorder.now.log_lost_records), (1, 1, 0));
    }

    #[test]
    fn last_records_that_nobody_takes_are_counted() {
        let (mut recorder, blocks) = with_one_left();
        drop(blocks);
        recorder.finish();
        assert_eq!(recorder.now.log_lost_records, 1);
    }
}
