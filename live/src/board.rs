//! The state of the dashboard: what readings, events and samples add up to. Pure: it is given
//! times and reads no clock.

use std::collections::VecDeque;

use crate::reading::Reading;

/// Seconds that the sparklines remember; more than a wide terminal has columns.
const HISTORY: usize = 400;
/// Events and messages that are kept.
const EVENTS: usize = 200;
const SECOND_NS: u64 = 1_000_000_000;

/// Everything that is drawn.
#[derive(Clone, Debug, Default)]
pub struct Board {
    /// What is tested, in a line.
    pub title: String,
    /// When the first reading or event was; 0 before.
    pub start_ns: u64,
    /// The time that the picture is of.
    pub now_ns: u64,
    /// The stages of the run in their order; empty for a generator alone.
    pub stages: Vec<StageMark>,
    /// The latest reading.
    pub reading: Reading,
    /// Rates of the last second.
    pub rates: Rates,
    /// Answers a second, the newest last.
    pub throughput: VecDeque<u64>,
    /// p99 of each second in microseconds, the newest last; 0 where nothing was answered.
    pub p99_us: VecDeque<u64>,
    /// The replicas under test; empty where they are not known.
    pub replicas: Vec<ReplicaMark>,
    /// What happened, the newest last.
    pub events: VecDeque<EventMark>,
    /// The run was asked to end.
    pub ending: bool,
}

/// Requests a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// That became due and were sent or dropped.
    pub offered_per_s: f64,
    /// That were answered well.
    pub achieved_per_s: f64,
    /// That failed or were dropped.
    pub failed_per_s: f64,
}

/// Where a stage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageState {
    /// It has not begun.
    Waiting,
    /// It runs.
    Running,
    /// It has ended.
    Done,
    /// It was left out, or cut short.
    Skipped,
}

/// A stage of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageMark {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub state: StageState,
}

/// Where a replica is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaState {
    /// Its process runs, and its health check has not answered.
    Starting,
    /// Its health check has answered.
    Healthy,
    /// It was told to end.
    Stopping,
    /// It has ended.
    Gone,
}

impl ReplicaState {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Stopping => "stopping",
            Self::Gone => "gone",
        }
    }
}

/// A replica under test.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaMark {
    /// Its address.
    pub name: String,
    /// Where it is.
    pub state: ReplicaState,
    /// Resident memory; none where it is not seen.
    pub rss_bytes: Option<u64>,
    /// CPU use in cores; none where it is not seen.
    pub cpu_cores: Option<f64>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventMark {
    /// When.
    pub at_ns: u64,
    /// It is bad news.
    pub bad: bool,
    /// In a line.
    pub text: String,
}

impl Board {
    /// A board before anything has happened.
    pub fn new(title: impl Into<String>, now_ns: u64) -> Self {
        Self { title: title.into(), start_ns: now_ns, now_ns, ..Self::default() }
    }

    /// Takes a status. The first one of a generator, whose counters begin anew, gives no rates.
    pub fn read(&mut self, reading: Reading) {
        let before = std::mem::replace(&mut self.reading, reading);
        let now = &self.reading;
        self.now_ns = self.now_ns.max(now.t_ns);
        let seconds = now.t_ns.saturating_sub(before.t_ns) as f64 / 1e9;
        let anew = before.t_ns == 0 || now.sent < before.sent || now.ok < before.ok;
        self.rates = Rates::default();
        if !anew && seconds > 0.0 {
            let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
            self.rates = Rates {
                offered_per_s: rate(now.sent + now.dropped, before.sent + before.dropped),
                achieved_per_s: rate(now.ok, before.ok),
                failed_per_s: rate(now.failed + now.dropped, before.failed + before.dropped),
            };
        }
        push(&mut self.throughput, self.rates.achieved_per_s.round() as u64);
        push(&mut self.p99_us, now.last.map_or(0, |last| last.p99_ns / 1_000));
    }

    /// Forgets the reading: the generator has ended, and the next one counts from 0.
    pub fn generator_ended(&mut self) {
        let planned = self.reading.planned;
        self.reading =
            Reading { planned, phase: "between stages".to_owned(), ..Reading::default() };
        self.rates = Rates::default();
    }

    /// Adds a line to the events.
    pub fn event(&mut self, at_ns: u64, text: impl Into<String>, bad: bool) {
        self.now_ns = self.now_ns.max(at_ns);
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(EventMark { at_ns, bad, text: text.into() });
    }

    /// A stage has changed its state; one that is not listed is added.
    pub fn stage(&mut self, name: &str, state: StageState) {
        match self.stages.iter_mut().find(|stage| stage.name == name) {
            Some(stage) => stage.state = state,
            None => self.stages.push(StageMark { name: name.to_owned(), state }),
        }
    }

    /// A replica has changed its state; one that is not listed is added, and one that was told to
    /// end and has ended is no part of the picture any more.
    pub fn replica(&mut self, name: &str, state: ReplicaState) {
        let leaves = |replica: &ReplicaMark| {
            replica.name == name
                && replica.state == ReplicaState::Stopping
                && state == ReplicaState::Gone
        };
        if let Some(at) = self.replicas.iter().position(leaves) {
            self.replicas.remove(at);
            return;
        }
        let mark = self.replica_mut(name);
        mark.state = state;
        if state == ReplicaState::Gone {
            (mark.rss_bytes, mark.cpu_cores) = (None, None);
        }
    }

    /// A sample of a listed replica's process.
    pub fn sampled(&mut self, name: &str, rss_bytes: u64, cpu_cores: Option<f64>) {
        if let Some(mark) = self.replicas.iter_mut().find(|replica| replica.name == name) {
            (mark.rss_bytes, mark.cpu_cores) = (Some(rss_bytes), cpu_cores);
        }
    }

    fn replica_mut(&mut self, name: &str) -> &mut ReplicaMark {
        let at = self.replicas.iter().position(|replica| replica.name == name);
        let at = at.unwrap_or_else(|| {
            let (state, name) = (ReplicaState::Starting, name.to_owned());
            self.replicas.push(ReplicaMark { name, state, rss_bytes: None, cpu_cores: None });
            self.replicas.len() - 1
        });
        &mut self.replicas[at]
    }

    /// Seconds since the start.
    pub fn elapsed_s(&self) -> u64 {
        self.since_start_s(self.now_ns)
    }

    /// Seconds from the start to an instant.
    pub fn since_start_s(&self, at_ns: u64) -> u64 {
        at_ns.saturating_sub(self.start_ns) / SECOND_NS
    }
}

fn push(history: &mut VecDeque<u64>, value: u64) {
    if history.len() == HISTORY {
        history.pop_front();
    }
    history.push_back(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Latency;

    fn reading(t_s: u64, ok: u64, failed: u64, dropped: u64) -> Reading {
        let last = Some(Latency { p99_ns: 5_000_000, ..Latency::default() });
        let sent = ok + failed;
        Reading { t_ns: t_s * SECOND_NS, ok, failed, dropped, sent, last, ..Reading::default() }
    }

    #[test]
    fn rates_are_between_two_readings() {
        let mut board = Board::new("t", SECOND_NS);
        board.read(reading(1, 100, 0, 0));
        assert_eq!(board.rates, Rates::default(), "nothing to compare with");
        board.read(reading(3, 300, 10, 30));
        let expected = Rates { offered_per_s: 120.0, achieved_per_s: 100.0, failed_per_s: 20.0 };
        assert_eq!(board.rates, expected);
        assert_eq!(board.throughput, [0, 100]);
        assert_eq!(board.p99_us, [5_000, 5_000]);
        assert_eq!(board.elapsed_s(), 2);
    }

    #[test]
    fn the_next_generator_counts_from_nothing() {
        let mut board = Board::new("t", 0);
        board.read(reading(1, 500, 0, 0));
        board.generator_ended();
        board.read(reading(9, 5, 0, 0));
        assert_eq!(board.rates, Rates::default());
        let mut board = Board::new("t", 0);
        board.read(reading(1, 500, 0, 0));
        board.read(reading(2, 5, 0, 0));
        assert_eq!(board.rates, Rates::default(), "without a word between, too");
    }

    #[test]
    fn histories_and_events_have_an_end() {
        let mut board = Board::new("t", 0);
        for second in 1..=HISTORY as u64 + 5 {
            board.read(reading(second, second * 7, 0, 0));
            board.event(second * SECOND_NS, "x", false);
        }
        assert_eq!((board.throughput.len(), board.events.len()), (HISTORY, EVENTS));
        assert_eq!(board.throughput.back(), Some(&7));
    }

    #[test]
    fn a_replica_that_is_gone_has_no_memory() {
        let mut board = Board::new("t", 0);
        board.replica("127.0.0.11", ReplicaState::Healthy);
        board.sampled("127.0.0.11", 4096, Some(0.5));
        assert_eq!(board.replicas[0].rss_bytes, Some(4096));
        board.replica("127.0.0.11", ReplicaState::Gone);
        assert_eq!((board.replicas.len(), board.replicas[0].rss_bytes), (1, None));
        board.replica("127.0.0.11", ReplicaState::Stopping);
        board.replica("127.0.0.11", ReplicaState::Gone);
        board.sampled("127.0.0.11", 4096, None);
        assert!(board.replicas.is_empty(), "it left as it was told");
    }
}
