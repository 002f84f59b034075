//! The workers' samples: the three counts of connections over time, and each worker's own load.
//!
//! It knows the names of `sample_fields` and nothing of files.

use std::collections::BTreeMap;

use latlog::Sample;

use super::frame::{Buckets, Span};
use crate::results::WorkerResult;

/// The positions of the fields that are used; a log that lacks one has no figure for it.
#[derive(Clone, Debug, Default)]
pub struct Fields(BTreeMap<String, usize>);

impl Fields {
    /// From the plan's `sample_fields`.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self(names.into_iter().enumerate().map(|(index, name)| (name.to_owned(), index)).collect())
    }

    fn get(&self, sample: &Sample, name: &str) -> Option<u64> {
        sample.values.get(*self.0.get(name)?).copied()
    }
}

/// The counts of connections; each is the sum of all workers' at the end of a bucket.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// TCP established.
    pub tcp_open: Vec<Option<u64>>,
    /// Sessions established.
    pub session_established: Vec<Option<u64>>,
    /// Sessions whose last heartbeat was answered in time.
    pub session_alive: Vec<Option<u64>>,
    /// SSE streams open.
    pub stream_open: Vec<Option<u64>>,
    /// Requests sent and not yet answered.
    pub in_flight: Vec<Option<u64>>,
}

const GAUGES: [&str; 5] =
    ["tcp_open", "session_established", "session_alive", "stream_open", "in_flight"];

/// The gauges whose extremes are told: those of every sample, where [`Counts`] has one of each
/// bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// TCP established.
    TcpOpen,
    /// Sessions whose last heartbeat was answered in time.
    SessionAlive,
    /// SSE streams open.
    StreamOpen,
}

const HELD: [(Held, &str); 3] = [
    (Held::TcpOpen, "tcp_open"),
    (Held::SessionAlive, "session_alive"),
    (Held::StreamOpen, "stream_open"),
];

/// One worker's samples.
#[derive(Clone, Debug)]
pub struct WorkerSamples {
    gauges: [Vec<Option<u64>>; 5],
    /// (at, value) of each of [`HELD`] whenever it differs from the sample before, and of the first
    /// sample of the hold phase.
    changes: [Vec<(u64, u64)>; HELD.len()],
    cpu: Vec<Option<(u64, u64)>>,
    first_in_hold: Option<Sample>,
    last_in_hold: Option<Sample>,
    last: Option<Sample>,
    reap_lag_ns_max: Option<u64>,
    turn_ns_max: Option<u64>,
    debt_ns_max: Option<u64>,
    rss_bytes_max: u64,
}

/// All workers of a stage.
#[derive(Clone, Debug)]
pub struct Samples {
    buckets: Buckets,
    hold: Option<Span>,
    fields: BTreeMap<u16, Fields>,
    hosts: BTreeMap<u16, String>,
    workers: BTreeMap<(u16, u16), WorkerSamples>,
}

impl Samples {
    /// Nothing seen yet.
    pub fn new(buckets: Buckets, hold: Option<Span>) -> Self {
        let (fields, hosts) = (BTreeMap::new(), BTreeMap::new());
        Self { buckets, hold, fields, hosts, workers: BTreeMap::new() }
    }

    /// Says where a log is from and what its samples contain; before its first sample.
    pub fn describe(&mut self, log: u16, host: &str, fields: Fields) {
        self.fields.insert(log, fields);
        self.hosts.insert(log, host.to_owned());
    }

    /// Takes one sample, whose time is on the frame's clock.
    pub fn feed(&mut self, log: u16, worker: u16, sample: &Sample) {
        let Some(fields) = self.fields.get(&log) else { return };
        let count = self.buckets.count;
        let state = self.workers.entry((log, worker)).or_insert_with(|| WorkerSamples::new(count));
        if let Some(bucket) = self.buckets.of(sample.at_ns) {
            for (gauge, name) in state.gauges.iter_mut().zip(GAUGES) {
                gauge[bucket] = fields.get(sample, name);
            }
            state.cpu[bucket] = fields.get(sample, "cpu_ns").map(|cpu| (sample.at_ns, cpu));
        }
        let begins = state.first_in_hold.is_none();
        let begins = begins && self.hold.is_some_and(|hold| hold.contains(sample.at_ns));
        for (changes, (_, name)) in state.changes.iter_mut().zip(HELD) {
            let Some(value) = fields.get(sample, name) else { continue };
            if begins || changes.last().is_none_or(|last| last.1 != value) {
                changes.push((sample.at_ns, value));
            }
        }
        let rss = fields.get(sample, "rss_bytes").unwrap_or(0);
        state.rss_bytes_max = state.rss_bytes_max.max(rss);
        if self.hold.is_some_and(|hold| hold.contains(sample.at_ns)) {
            state.reap_lag_ns_max =
                state.reap_lag_ns_max.max(fields.get(sample, "reap_lag_ns_max"));
            state.turn_ns_max = state.turn_ns_max.max(fields.get(sample, "turn_ns_max"));
            state.debt_ns_max = state.debt_ns_max.max(fields.get(sample, "debt_ns_max"));
            state.first_in_hold.get_or_insert_with(|| sample.clone());
            state.last_in_hold = Some(sample.clone());
        }
        state.last = Some(sample.clone());
    }

    /// The counts of connections.
    pub fn counts(&self) -> Counts {
        let sum = |gauge: usize| {
            let courses: Vec<Vec<Option<u64>>> =
                self.workers.values().map(|worker| carried(&worker.gauges[gauge])).collect();
            (0..self.buckets.count)
                .map(|bucket| {
                    courses.iter().filter_map(|course| course[bucket]).reduce(|a, b| a + b)
                })
                .collect()
        };
        Counts {
            tcp_open: sum(0),
            session_established: sum(1),
            session_alive: sum(2),
            stream_open: sum(3),
            in_flight: sum(4),
        }
    }

    /// The highest sum over all workers at any sample; none if no log has the gauge.
    pub fn peak(&self, held: Held) -> Option<u64> {
        self.sums(held).into_iter().map(|(_, sum)| sum).max()
    }

    /// The lowest and the highest sum over all workers at any sample in `span`, which is of the
    /// hold phase, once each of them has been sampled in that phase.
    pub fn range(&self, held: Held, span: Span) -> Option<(u64, u64)> {
        let hold = self.hold?;
        let first = |worker: &WorkerSamples| {
            let changes = &worker.changes[held as usize];
            changes.iter().map(|change| change.0).find(|at_ns| hold.contains(*at_ns))
        };
        let from_ns = self.workers.values().filter_map(first).max()?.max(span.start_ns);
        let sums = self.sums(held);
        let (until, inside) = sums.split_at(sums.partition_point(|sum| sum.0 <= from_ns));
        let inside = inside.iter().filter(|sum| sum.0 < span.end_ns);
        until.last().into_iter().chain(inside).fold(None, |range, &(_, sum)| {
            let (low, high) = range.unwrap_or((sum, sum));
            Some((low.min(sum), high.max(sum)))
        })
    }

    /// (at, sum of each worker's last value) whenever one of them has changed, in order of time.
    fn sums(&self, held: Held) -> Vec<(u64, u64)> {
        let of_worker = |(worker, samples): (usize, &WorkerSamples)| {
            let changes = samples.changes[held as usize].clone();
            changes.into_iter().map(move |(at_ns, value)| (at_ns, worker, value))
        };
        let mut changes: Vec<(u64, usize, u64)> =
            self.workers.values().enumerate().flat_map(of_worker).collect();
        changes.sort_unstable();
        let mut last = vec![0; self.workers.len()];
        let (mut sum, mut sums) = (0, Vec::<(u64, u64)>::new());
        for (at_ns, worker, value) in changes {
            sum = sum - std::mem::replace(&mut last[worker], value) + value;
            // What several workers say of one instant is one sum.
            match sums.last_mut() {
                Some(same) if same.0 == at_ns => same.1 = sum,
                Some(_) | None => sums.push((at_ns, sum)),
            }
        }
        sums
    }

    /// Each worker in the hold phase.
    pub fn workers(&self) -> Vec<WorkerResult> {
        let result = |(index, (key, worker)): (usize, (&(u16, u16), &WorkerSamples))| {
            let fields = &self.fields[&key.0];
            let host = self.hosts.get(&key.0).cloned().unwrap_or_default();
            WorkerResult { host, ..worker.result(index as u64, fields) }
        };
        self.workers.iter().enumerate().map(result).collect()
    }

    /// CPU share of each worker over time: CPU time over wall time from sample to sample.
    pub fn cpu_over_time(&self) -> Vec<Vec<Option<f64>>> {
        let course = |worker: &WorkerSamples| {
            let mut before: Option<(u64, u64)> = None;
            worker
                .cpu
                .iter()
                .map(|sample| {
                    let (at, cpu) = (*sample)?;
                    let share = before.and_then(|(at_before, cpu_before)| {
                        let wall = at.checked_sub(at_before).filter(|wall| *wall > 0)?;
                        Some(cpu.saturating_sub(cpu_before) as f64 / wall as f64)
                    });
                    before = Some((at, cpu));
                    share
                })
                .collect()
        };
        self.workers.values().map(course).collect()
    }

    /// The last value of a counter, summed over all workers; none if no log has it.
    pub fn total(&self, name: &str) -> Option<u64> {
        let last = |(key, worker): (&(u16, u16), &WorkerSamples)| {
            self.fields[&key.0].get(worker.last.as_ref()?, name)
        };
        self.workers.iter().filter_map(last).reduce(|a, b| a + b)
    }

    /// The highest resident memory of a generator process.
    pub fn rss_bytes_max(&self) -> Option<u64> {
        self.workers.values().map(|worker| worker.rss_bytes_max).max().filter(|rss| *rss > 0)
    }
}

impl WorkerSamples {
    fn new(buckets: usize) -> Self {
        Self {
            gauges: std::array::from_fn(|_| vec![None; buckets]),
            changes: std::array::from_fn(|_| Vec::new()),
            cpu: vec![None; buckets],
            first_in_hold: None,
            last_in_hold: None,
            last: None,
            reap_lag_ns_max: None,
            turn_ns_max: None,
            debt_ns_max: None,
            rss_bytes_max: 0,
        }
    }

    fn result(&self, worker: u64, fields: &Fields) -> WorkerResult {
        let growth = |name: &str| {
            let first = fields.get(self.first_in_hold.as_ref()?, name)?;
            Some(fields.get(self.last_in_hold.as_ref()?, name)?.saturating_sub(first))
        };
        let wall_ns = self
            .first_in_hold
            .as_ref()
            .zip(self.last_in_hold.as_ref())
            .map(|(first, last)| last.at_ns.saturating_sub(first.at_ns))
            .filter(|wall| *wall > 0);
        let share = |name: &str| Some(growth(name)? as f64 / wall_ns? as f64);
        let last = |name: &str| self.last.as_ref().and_then(|last| fields.get(last, name));
        WorkerResult {
            worker,
            host: String::new(),
            cpu_share: share("cpu_ns"),
            wait_share: share("wait_ns"),
            sent: growth("sent").unwrap_or(0),
            turn_ns_max: self.turn_ns_max,
            reap_lag_ns_max: self.reap_lag_ns_max,
            debt_ns_max: self.debt_ns_max,
            enobufs: growth("enobufs").unwrap_or(0),
            send_buffer_waits: growth("send_buffer_waits").unwrap_or(0),
            log_lost_records: last("log_lost_records").unwrap_or(0),
        }
    }
}

/// A gauge with its gaps filled by the value before, from its first to its last sample.
fn carried(gauge: &[Option<u64>]) -> Vec<Option<u64>> {
    let end = gauge.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    let mut held = None;
    gauge
        .iter()
        .enumerate()
        .map(|(bucket, value)| {
            held = if bucket < end { value.or(held) } else { None };
            held
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn samples() -> Samples {
        let buckets = Buckets::cover(Span { start_ns: 0, end_ns: 5 * SECOND_NS });
        let hold = Span { start_ns: SECOND_NS, end_ns: 4 * SECOND_NS };
        let mut samples = Samples::new(buckets, Some(hold));
        samples.describe(0, "h", Fields::new(["tcp_open", "cpu_ns", "sent", "log_lost_records"]));
        samples
    }

    #[test]
    fn the_greatest_mark_of_the_hold_phase_counts_and_none_is_none() {
        let mut samples = samples();
        samples.describe(1, "h", Fields::new(["turn_ns_max", "debt_ns_max"]));
        for (second, marks) in [(0, [900, 900]), (1, [5, 7]), (2, [9, 3])] {
            let sample = Sample { at_ns: second * SECOND_NS, values: marks.to_vec() };
            samples.feed(1, 0, &sample);
            samples.feed(0, 0, &Sample { values: vec![0; 4], ..sample });
        }
        let marks = |worker: &WorkerResult| (worker.turn_ns_max, worker.debt_ns_max);
        let marks: Vec<_> = samples.workers().iter().map(marks).collect();
        assert_eq!(marks, [(None, None), (Some(9), Some(7))]);
    }

    fn sample(at_ns: u64, values: [u64; 4]) -> Sample {
        Sample { at_ns, values: values.to_vec() }
    }

    #[test]
    fn counts_are_sums_over_workers_with_gaps_carried() {
        let mut samples = samples();
        samples.feed(0, 0, &sample(0, [10, 0, 0, 0]));
        samples.feed(0, 0, &sample(2 * SECOND_NS, [30, 0, 0, 0]));
        samples.feed(0, 1, &sample(SECOND_NS, [5, 0, 0, 0]));
        let counts = samples.counts();
        assert_eq!(counts.tcp_open, [Some(10), Some(15), Some(30), None, None]);
        assert_eq!(counts.stream_open, [None; 5], "a field that the log lacks has no figure");
    }

    #[test]
    fn an_outage_that_is_over_by_the_end_of_its_bucket_is_the_lowest() {
        // Two hours: buckets of 5 s.
        let span = Span { start_ns: 0, end_ns: 7_200 * SECOND_NS };
        let mut samples = Samples::new(Buckets::cover(span), Some(span));
        samples.describe(0, "h", Fields::new(["session_alive", "tcp_open"]));
        for second in 0..100 {
            let away = u64::from(second == 52 || second == 71);
            for worker in 0..2 {
                // One is lost to both workers, the other to one after the other.
                let away = if second < 60 || worker == second % 2 { away } else { 0 };
                let values = vec![10 - 4 * away, 10 + 3 * away];
                let at_ns = second * SECOND_NS + worker;
                samples.feed(0, worker as u16, &Sample { at_ns, values });
            }
        }
        assert_eq!(samples.counts().session_alive[10], Some(20), "it is over at its end");
        assert_eq!(samples.range(Held::SessionAlive, span), Some((12, 20)));
        let later = Span { start_ns: 60 * SECOND_NS, ..span };
        assert_eq!(samples.range(Held::SessionAlive, later), Some((16, 20)));
        let quiet = Span { start_ns: 80 * SECOND_NS, ..span };
        assert_eq!(samples.range(Held::SessionAlive, quiet), Some((20, 20)));
        assert_eq!(samples.peak(Held::TcpOpen), Some(26));
        assert_eq!(samples.peak(Held::StreamOpen), None, "a gauge that the log lacks");
    }

    #[test]
    fn a_worker_that_was_not_yet_sampled_in_the_hold_phase_makes_no_low() {
        let span = Span { start_ns: 0, end_ns: 9 * SECOND_NS };
        let hold = Span { start_ns: 3 * SECOND_NS, ..span };
        let mut samples = Samples::new(Buckets::cover(span), Some(hold));
        samples.describe(0, "h", Fields::new(["session_alive"]));
        for (at_ms, worker, alive) in [(2_000, 0, 2), (2_500, 1, 2), (3_000, 0, 10), (3_500, 1, 10)]
        {
            samples.feed(0, worker, &Sample { at_ns: at_ms * 1_000_000, values: vec![alive] });
        }
        assert_eq!(samples.range(Held::SessionAlive, hold), Some((20, 20)));
    }

    #[test]
    fn a_workers_share_is_of_the_hold_phase() {
        let mut samples = samples();
        samples.feed(0, 0, &sample(0, [0, 0, 0, 0]));
        samples.feed(0, 0, &sample(SECOND_NS, [0, SECOND_NS, 100, 0]));
        samples.feed(0, 0, &sample(3 * SECOND_NS, [0, 2 * SECOND_NS, 300, 0]));
        samples.feed(0, 0, &sample(4 * SECOND_NS, [0, 3 * SECOND_NS, 400, 7]));
        let worker = &samples.workers()[0];
        assert_eq!(worker.host, "h");
        assert_eq!(worker.cpu_share, Some(0.5));
        assert_eq!((worker.sent, worker.log_lost_records), (200, 7));
        assert_eq!(worker.wait_share, None);
        let course = &samples.cpu_over_time()[0];
        assert_eq!(course[1..4], [Some(1.0), None, Some(0.5)]);
        assert_eq!(samples.total("sent"), Some(400));
    }
}
