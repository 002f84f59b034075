//! Following sessions through the events of a stage: where each one lives, what was lost and why,
//! and whether the sessions of a killed replica came back.
//!
//! It holds one entry a session, 40 bytes or so, and one counter a target and bucket. Events of
//! one worker must be fed in their order; workers may come in any order.

use std::collections::{BTreeMap, HashMap};

use latlog::{Event, EventKind};

use super::frame::Buckets;
use super::histogram::Distribution;
use super::tally::{ByOutcome, OUTCOMES, TARGETS_MAX};

/// A session: the log, its worker, and its number in the worker.
pub type SessionKey = (u16, u16, u32);

/// A kill as far as sessions are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kill {
    /// When.
    pub at_ns: u64,
    /// The killed target; none: it is not known which, and any session counts.
    pub target: Option<u16>,
}

impl Kill {
    /// Whether a session of this home that is lost at `lost_ns` is lost by the kill. It may be long
    /// after: a session without an open connection is missed when it is next asked. One that has
    /// come to the target since then is of its next process.
    fn takes(&self, home: Home, lost_ns: u64) -> bool {
        let there = |target| target == home.target && home.since_ns < self.at_ns;
        self.at_ns <= lost_ns && self.target.is_none_or(there)
    }
}

/// Where a session lives.
#[derive(Clone, Copy, Debug)]
struct Home {
    target: u16,
    since_ns: u64,
}

/// What became of the sessions of a kill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Victims {
    /// Sessions that were lost.
    pub lost: u64,
    /// Those that were established again.
    pub back: u64,
    /// The first loss.
    pub first_loss_ns: Option<u64>,
    /// When the last one was back, if all are.
    pub all_back_ns: Option<u64>,
}

/// The state while events are fed.
pub struct Sessions {
    buckets: Buckets,
    kills: Vec<Kill>,
    home: HashMap<SessionKey, Home>,
    victims: Vec<HashMap<SessionKey, (u64, Option<u64>)>>,
    moves: Vec<BTreeMap<usize, i64>>,
    /// Event records.
    pub records: u64,
    /// Time to establish TCP.
    pub connect: Distribution,
    /// Time to establish a session.
    pub establish: Distribution,
    /// Lost connections and sessions, by outcome.
    pub losses: ByOutcome,
    /// Connections that were lost with a session standing on them.
    pub connections_lost: u64,
    /// Connections that were lost while no session stood on them, as tries that came to nothing.
    pub tries_lost: u64,
    /// Sessions that the server forgot, or that had to be left behind.
    pub sessions_lost: u64,
    /// Attempts to connect that failed, by outcome.
    pub connect_failures: ByOutcome,
    /// Time of TLS handshakes that came through.
    pub handshake: Distribution,
    /// Of these, those that resumed an earlier session.
    pub handshakes_resumed: u64,
    /// TLS handshakes that failed, by outcome.
    pub handshake_failures: ByOutcome,
    /// Losses in each bucket.
    pub losses_over_time: Vec<u64>,
    /// Connects by target.
    pub connects_by_target: Vec<u64>,
    /// Lost connections by target.
    pub losses_by_target: Vec<u64>,
}

impl Sessions {
    /// Nothing seen yet.
    pub fn new(buckets: Buckets, targets: usize, kills: Vec<Kill>) -> Self {
        let targets = targets.clamp(1, TARGETS_MAX);
        Self {
            buckets,
            victims: vec![HashMap::new(); kills.len()],
            kills,
            home: HashMap::new(),
            moves: vec![BTreeMap::new(); targets],
            records: 0,
            connect: Distribution::fine(),
            establish: Distribution::fine(),
            losses: [0; OUTCOMES],
            connections_lost: 0,
            tries_lost: 0,
            sessions_lost: 0,
            connect_failures: [0; OUTCOMES],
            handshake: Distribution::fine(),
            handshakes_resumed: 0,
            handshake_failures: [0; OUTCOMES],
            losses_over_time: vec![0; buckets.count],
            connects_by_target: vec![0; targets],
            losses_by_target: vec![0; targets],
        }
    }

    /// Takes one event, whose time is on the frame's clock.
    pub fn feed(&mut self, log: u16, worker: u16, event: &Event) {
        self.records += 1;
        let key = (log, worker, event.session);
        let target = usize::from(event.target).min(self.moves.len() - 1);
        match event.kind {
            EventKind::Connected => {
                self.connect.record(event.value);
                self.connects_by_target[target] += 1;
            }
            EventKind::Alive => {
                self.establish.record(event.value);
                self.leave(key, event.at_ns);
                self.enter(key, event.target, event.at_ns);
                for victims in &mut self.victims {
                    if let Some((_, back @ None)) = victims.get_mut(&key) {
                        *back = Some(event.at_ns);
                    }
                }
            }
            EventKind::Lost | EventKind::SessionLost => {
                let home = self.leave(key, event.at_ns);
                self.losses[event.outcome as usize] += 1;
                let counter = match (event.kind == EventKind::Lost, home.is_some()) {
                    (false, _) => &mut self.sessions_lost,
                    (true, true) => &mut self.connections_lost,
                    (true, false) => &mut self.tries_lost,
                };
                *counter += 1;
                if let Some(bucket) = self.buckets.of(event.at_ns) {
                    self.losses_over_time[bucket] += 1;
                }
                self.losses_by_target[target] += u64::from(event.kind == EventKind::Lost);
                if let Some(home) = home {
                    self.note_victim(key, home, event.at_ns);
                }
            }
            EventKind::Ended => {
                self.leave(key, event.at_ns);
            }
            EventKind::ConnectFailed => self.connect_failures[event.outcome as usize] += 1,
            EventKind::Handshake if event.outcome.is_ok() => {
                self.handshake.record(event.value);
                self.handshakes_resumed += u64::from(event.detail == 1);
            }
            EventKind::Handshake => self.handshake_failures[event.outcome as usize] += 1,
            EventKind::StreamOpen | EventKind::StreamEnd => {}
        }
    }

    fn note_victim(&mut self, key: SessionKey, home: Home, lost_ns: u64) {
        for (kill, victims) in self.kills.iter().zip(&mut self.victims) {
            if kill.takes(home, lost_ns) {
                victims.entry(key).or_insert((lost_ns, None));
            }
        }
    }

    fn enter(&mut self, key: SessionKey, target: u16, at_ns: u64) {
        self.home.insert(key, Home { target, since_ns: at_ns });
        self.step(target, at_ns, 1);
    }

    fn leave(&mut self, key: SessionKey, at_ns: u64) -> Option<Home> {
        let home = self.home.remove(&key)?;
        self.step(home.target, at_ns, -1);
        Some(home)
    }

    fn step(&mut self, target: u16, at_ns: u64, by: i64) {
        let target = usize::from(target).min(self.moves.len() - 1);
        *self.moves[target].entry(self.buckets.nearest(at_ns)).or_insert(0) += by;
    }

    /// Sessions at the end of each bucket, for each target.
    pub fn over_time(&self) -> Vec<Vec<u64>> {
        let course = |moves: &BTreeMap<usize, i64>| {
            let mut held = 0i64;
            (0..self.buckets.count)
                .map(|bucket| {
                    held += moves.get(&bucket).copied().unwrap_or(0);
                    held.max(0) as u64
                })
                .collect()
        };
        self.moves.iter().map(course).collect()
    }

    /// What became of each kill's sessions.
    pub fn victims(&self) -> Vec<Victims> {
        self.victims
            .iter()
            .map(|victims| {
                let lost = victims.len() as u64;
                let back = victims.values().filter(|(_, back)| back.is_some()).count() as u64;
                let last = victims.values().filter_map(|(_, back)| *back).max();
                Victims {
                    lost,
                    back,
                    first_loss_ns: victims.values().map(|(lost, _)| *lost).min(),
                    all_back_ns: if lost == back { last } else { None },
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use latlog::Outcome;

    use super::super::frame::Span;
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn event(seconds: u64, kind: EventKind, session: u32, target: u16) -> Event {
        let lost = matches!(kind, EventKind::Lost | EventKind::SessionLost);
        Event {
            at_ns: seconds * SECOND_NS,
            kind,
            session,
            target,
            outcome: if lost { Outcome::Reset } else { Outcome::Ok },
            detail: 0,
            value: 1_000,
        }
    }

    fn sessions(target: Option<u16>) -> Sessions {
        let kill = Kill { at_ns: 4 * SECOND_NS, target };
        let buckets = Buckets::cover(Span { start_ns: 0, end_ns: 10 * SECOND_NS });
        Sessions::new(buckets, 2, vec![kill])
    }

    fn feed(sessions: &mut Sessions, events: &[Event]) {
        events.iter().for_each(|event| sessions.feed(0, 0, event));
    }

    #[test]
    fn a_session_lives_on_one_target_at_a_time() {
        let mut sessions = sessions(None);
        let events = [
            event(0, EventKind::Alive, 1, 0),
            event(0, EventKind::Alive, 2, 0),
            event(2, EventKind::Lost, 1, 0),
            event(2, EventKind::SessionLost, 1, 0),
            event(3, EventKind::Alive, 1, 1),
            event(6, EventKind::Ended, 1, 1),
        ];
        feed(&mut sessions, &events);
        let held = sessions.over_time();
        assert_eq!(held[0], [2, 2, 1, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!(held[1], [0, 0, 0, 1, 1, 1, 0, 0, 0, 0]);
        assert_eq!(sessions.losses[Outcome::Reset as usize], 2);
        assert_eq!((sessions.connections_lost, sessions.sessions_lost), (1, 1));
        assert_eq!(sessions.tries_lost, 0);
        sessions.feed(0, 0, &event(7, EventKind::Lost, 1, 0));
        assert_eq!((sessions.connections_lost, sessions.tries_lost), (1, 1), "none stood on it");
        assert_eq!(sessions.losses_by_target, [2, 0], "the session's loss is the same one's");
    }

    #[test]
    fn victims_are_the_killed_targets_sessions() {
        let mut sessions = sessions(Some(0));
        let events = [
            event(0, EventKind::Alive, 1, 0),
            event(0, EventKind::Alive, 2, 0),
            event(0, EventKind::Alive, 3, 1),
            event(2, EventKind::Lost, 2, 0), // before the kill
            event(3, EventKind::Alive, 2, 0),
            event(5, EventKind::Lost, 3, 1), // another target
            event(5, EventKind::Lost, 1, 0),
            event(5, EventKind::Lost, 2, 0),
            event(6, EventKind::Alive, 1, 1),
        ];
        feed(&mut sessions, &events);
        let expected =
            Victims { lost: 2, back: 1, first_loss_ns: Some(5 * SECOND_NS), all_back_ns: None };
        assert_eq!(sessions.victims()[0], expected);
        sessions.feed(0, 0, &event(7, EventKind::Alive, 2, 1));
        assert_eq!(sessions.victims()[0].all_back_ns, Some(7 * SECOND_NS));
    }

    #[test]
    fn a_session_that_is_asked_long_after_the_kill_is_a_victim_and_one_that_came_since_is_not() {
        let mut sessions = sessions(Some(0));
        let events = [
            event(0, EventKind::Alive, 1, 0),
            event(0, EventKind::Alive, 2, 0),
            event(5, EventKind::Alive, 3, 0), // on the new process
            event(8, EventKind::SessionLost, 3, 0),
            event(9, EventKind::SessionLost, 1, 0),
            // Its target was down when it was asked: it is assigned to another one, and lost there.
            event(9, EventKind::SessionLost, 2, 1),
            event(9, EventKind::Alive, 1, 0),
            event(10, EventKind::Alive, 2, 1),
        ];
        feed(&mut sessions, &events);
        let expected = Victims {
            lost: 2,
            back: 2,
            first_loss_ns: Some(9 * SECOND_NS),
            all_back_ns: Some(10 * SECOND_NS),
        };
        assert_eq!(sessions.victims()[0], expected);
    }

    #[test]
    fn the_same_number_in_another_worker_is_another_session() {
        let mut sessions = sessions(Some(0));
        sessions.feed(0, 0, &event(0, EventKind::Alive, 1, 0));
        sessions.feed(0, 1, &event(0, EventKind::Alive, 1, 0));
        sessions.feed(1, 0, &event(0, EventKind::Alive, 1, 0));
        assert_eq!(sessions.over_time()[0][0], 3);
        sessions.feed(0, 1, &event(5, EventKind::Lost, 1, 0));
        assert_eq!(sessions.victims()[0].lost, 1);
    }
}
