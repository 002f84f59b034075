//! The dashboard of `--tui`: what the run's parts say becomes a board on the terminal.
//!
//! Every part of a run has a handle and tells it what it sees; where there is no dashboard, that
//! does nothing. It decides nothing and measures nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use live::board::{ReplicaState, StageState};
use live::{Board, Screen};

use super::interrupt::Interrupt;
use super::journal::Journal;
use super::plan::Stage;
use super::record::{EventRecord, EventRecordKind};
use crate::clock;
use crate::cluster::ReplicaSample;
use crate::generator::Status;

/// Lines that are said again once the terminal is back.
const SAID_MAX: usize = 1_000;

/// A handle; clones share the dashboard.
#[derive(Clone, Default)]
pub struct Dashboard {
    shared: Arc<Mutex<Option<Shown>>>,
}

struct Shown {
    screen: Screen,
    journal: Journal,
    interrupt: Interrupt,
    /// Events of the journal that are on the board.
    events: usize,
    /// Process, time and CPU time of each replica's last sample.
    sampled: BTreeMap<String, (u32, u64, u64)>,
    said: Vec<(String, bool)>,
}

impl Dashboard {
    /// Takes the terminal over and shows what is planned.
    ///
    /// # Errors
    /// Why there is no dashboard, in a sentence.
    pub fn open(
        &self,
        title: String,
        stages: &[Stage],
        journal: &Journal,
        interrupt: &Interrupt,
    ) -> Result<(), String> {
        let mut board = Board::new(title, clock::mono_ns());
        for stage in stages {
            let state = match stage.skipped {
                Some(_) => StageState::Skipped,
                None => StageState::Waiting,
            };
            board.stage(&stage.name, state);
        }
        let screen = Screen::take(board)?;
        *self.lock() = Some(Shown {
            screen,
            journal: journal.clone(),
            interrupt: interrupt.clone(),
            events: 0,
            sampled: BTreeMap::new(),
            said: Vec::new(),
        });
        Ok(())
    }

    /// Whether there is one.
    pub fn is_open(&self) -> bool {
        self.lock().is_some()
    }

    /// Gives the terminal back, and the lines that were said meanwhile with whether they are bad.
    pub fn close(&self) -> Vec<(String, bool)> {
        let shown = self.lock().take();
        shown.map_or_else(Vec::new, |shown| {
            let Shown { screen, said, .. } = shown;
            drop(screen);
            said
        })
    }

    /// A line for the person who watches.
    pub fn say(&self, text: &str, bad: bool) {
        self.update(|shown| {
            if shown.said.len() < SAID_MAX {
                shown.said.push((text.to_owned(), bad));
            }
            let now_ns = clock::mono_ns();
            shown.screen.update(|board| board.event(now_ns, text, bad));
        });
    }

    /// The generator's status.
    pub fn read(&self, status: &Status) {
        self.update(|shown| shown.screen.update(|board| board.read(status.clone())));
    }

    /// A stage has begun or ended.
    pub fn stage(&self, name: &str, state: StageState) {
        self.update(|shown| {
            shown.screen.update(|board| {
                board.stage(name, state);
                match state {
                    StageState::Running => {}
                    StageState::Waiting | StageState::Done | StageState::Skipped => {
                        board.generator_ended();
                    }
                }
            });
        });
    }

    /// Samples of the replicas that run at this moment.
    pub fn sampled(&self, at_ns: u64, samples: &[ReplicaSample]) {
        self.update(|shown| {
            let marks: Vec<_> =
                samples.iter().map(|sample| load(&mut shown.sampled, at_ns, sample)).collect();
            shown.screen.update(|board| {
                board.now_ns = board.now_ns.max(at_ns);
                for (replica, rss_bytes, cores) in marks {
                    board.sampled(&replica, rss_bytes, cores);
                }
            });
        });
    }

    fn update(&self, change: impl FnOnce(&mut Shown)) {
        if let Some(shown) = self.lock().as_mut() {
            change(shown);
            shown.take_events();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Shown>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shown {
    fn take_events(&mut self) {
        let events = self.journal.since(self.events);
        self.events += events.len();
        let ending = self.interrupt.pending();
        self.screen.update(|board| {
            board.ending |= ending;
            events.iter().for_each(|event| show_event(board, event));
        });
    }
}

/// A sample's memory, and its CPU use since the one before.
fn load(
    before: &mut BTreeMap<String, (u32, u64, u64)>,
    at_ns: u64,
    sample: &ReplicaSample,
) -> (String, u64, Option<f64>) {
    let now = (sample.pid, at_ns, sample.process.cpu_ns);
    let cores = before.insert(sample.replica.clone(), now).and_then(|(pid, then_ns, cpu_ns)| {
        let wall_ns = at_ns.saturating_sub(then_ns);
        let used_ns = sample.process.cpu_ns.saturating_sub(cpu_ns);
        (pid == sample.pid && wall_ns > 0).then(|| used_ns as f64 / wall_ns as f64)
    });
    (sample.replica.clone(), sample.process.rss_bytes, cores)
}

/// What an event of the orchestrator changes; what the steps say of it in words is shown by them.
fn show_event(board: &mut Board, event: &EventRecord) {
    let state = match event.kind {
        EventRecordKind::ReplicaStart => ReplicaState::Starting,
        EventRecordKind::ReplicaHealthy => ReplicaState::Healthy,
        EventRecordKind::Kill | EventRecordKind::ReplicaExit => ReplicaState::Gone,
        EventRecordKind::Drain | EventRecordKind::Stop => ReplicaState::Stopping,
        EventRecordKind::NodeDrain
        | EventRecordKind::NodeLoss
        | EventRecordKind::UpdateCommand
        | EventRecordKind::Recovered
        | EventRecordKind::ScaleCommand
        | EventRecordKind::ScaleConverged
        | EventRecordKind::SessionsConverged
        | EventRecordKind::Mark => return,
    };
    if event.replica.is_empty() {
        return;
    }
    // One that was told to end does so, and that is no bad news.
    let told = board
        .replicas
        .iter()
        .any(|replica| replica.name == event.replica && replica.state == ReplicaState::Stopping);
    board.replica(&event.replica, state);
    // The first start of every replica is no news.
    let text = match event.kind {
        EventRecordKind::ReplicaExit => match event.text.strip_prefix("ended ") {
            Some(how) => format!("{} ended {how}", event.replica),
            None => format!("{} ended {}", event.replica, event.text),
        },
        EventRecordKind::ReplicaHealthy if event.incarnation > 1 => {
            format!("{} is healthy again", event.replica)
        }
        _ => return,
    };
    let bad = event.kind == EventRecordKind::ReplicaExit && !told;
    board.event(event.at_ns, text.trim_end(), bad);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::procfs::ProcessSample;

    fn event(kind: EventRecordKind, incarnation: u32) -> EventRecord {
        let replica = "127.0.0.12".to_owned();
        EventRecord { replica, incarnation, ..EventRecord::at(5_000_000_000, kind) }
    }

    #[test]
    fn a_killed_replica_goes_and_comes_back() {
        let mut board = Board::new("run", 0);
        let mut state_after = |kind, incarnation| {
            show_event(&mut board, &event(kind, incarnation));
            board.replicas[0].state
        };
        assert_eq!(state_after(EventRecordKind::ReplicaStart, 1), ReplicaState::Starting);
        assert_eq!(state_after(EventRecordKind::ReplicaHealthy, 1), ReplicaState::Healthy);
        assert_eq!(state_after(EventRecordKind::Kill, 1), ReplicaState::Gone);
        assert_eq!(state_after(EventRecordKind::ReplicaExit, 1), ReplicaState::Gone);
        assert_eq!(state_after(EventRecordKind::ReplicaHealthy, 2), ReplicaState::Healthy);
        let said: Vec<&str> = board.events.iter().map(|event| event.text.as_str()).collect();
        assert_eq!(said, ["127.0.0.12 ended", "127.0.0.12 is healthy again"]);
    }

    #[test]
    fn cpu_use_is_of_one_process() {
        let mut before = BTreeMap::new();
        let mut cores = |at_ns, pid, cpu_ns| {
            let process = ProcessSample { rss_bytes: 1, cpu_ns, fds: 0, threads: 1 };
            let replica = "127.0.0.11".to_owned();
            let sample = ReplicaSample { replica, pid, incarnation: 1, process };
            load(&mut before, at_ns, &sample).2
        };
        assert_eq!(cores(1_000, 7, 100), None);
        assert_eq!(cores(2_000, 7, 600), Some(0.5));
        assert_eq!(cores(3_000, 8, 10), None, "another process");
    }

    #[test]
    fn without_a_dashboard_nothing_is_said_or_kept() {
        let dashboard = Dashboard::default();
        dashboard.say("x", true);
        dashboard.sampled(1, &[]);
        assert!(!dashboard.is_open() && dashboard.close().is_empty());
    }
}
