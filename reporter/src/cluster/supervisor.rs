//! One replica's life as a state machine: no process, no clock, no lock.
//!
//! It restarts a replica that ends unasked after a fixed delay, as Swarm's `restart_policy` does,
//! and gives up on one that ends before it was ever healthy: that is a server that cannot start.

use super::Phase;

/// What happened to the replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// It is wanted.
    Start,
    /// It is not wanted: SIGTERM, then SIGKILL after `grace_ns`.
    Stop {
        /// Time between the two signals.
        grace_ns: u64,
    },
    /// Its process was started.
    Spawned {
        /// The process.
        pid: u32,
    },
    /// Its process could not be started.
    SpawnFailed {
        /// Why.
        reason: String,
    },
    /// The health check of an incarnation answered.
    Healthy {
        /// Which.
        incarnation: u32,
    },
    /// The process of an incarnation has ended.
    Exited {
        /// Which.
        incarnation: u32,
        /// How it ended.
        status: String,
    },
    /// Time has passed.
    Tick,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    None,
    /// Start a process; answer with `Spawned` or `SpawnFailed`.
    Spawn,
    /// SIGTERM.
    Terminate(u32),
    /// SIGKILL.
    Kill(u32),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Absent,
    Spawning,
    Starting { pid: u32 },
    Healthy { pid: u32 },
    Stopping { pid: u32, kill_at_ns: u64, wanted_again: bool },
    Waiting { start_at_ns: u64 },
    Failed { reason: String },
}

/// The machine of one replica.
#[derive(Clone, Debug)]
pub struct Machine {
    state: State,
    incarnation: u32,
    was_healthy: bool,
    restart_delay_ns: u64,
}

impl Machine {
    /// A replica that is not wanted yet.
    pub fn new(restart_delay_ns: u64) -> Self {
        Self { state: State::Absent, incarnation: 0, was_healthy: false, restart_delay_ns }
    }

    /// Takes one input and says what to do.
    pub fn step(&mut self, input: Input, now_ns: u64) -> Action {
        match input {
            Input::Start => self.start(),
            Input::Stop { grace_ns } => self.stop(now_ns.saturating_add(grace_ns)),
            Input::Spawned { pid } => {
                if self.state == State::Spawning {
                    self.state = State::Starting { pid };
                }
                Action::None
            }
            Input::SpawnFailed { reason } => {
                self.state = State::Failed { reason };
                Action::None
            }
            Input::Healthy { incarnation } => {
                if let State::Starting { pid } = self.state
                    && incarnation == self.incarnation
                {
                    self.state = State::Healthy { pid };
                    self.was_healthy = true;
                }
                Action::None
            }
            Input::Exited { incarnation, status } if incarnation == self.incarnation => {
                self.exited(status, now_ns)
            }
            Input::Exited { .. } => Action::None,
            Input::Tick => self.tick(now_ns),
        }
    }

    fn start(&mut self) -> Action {
        match &mut self.state {
            State::Absent | State::Failed { .. } => self.spawn(),
            State::Stopping { wanted_again, .. } => {
                *wanted_again = true;
                Action::None
            }
            State::Spawning
            | State::Starting { .. }
            | State::Healthy { .. }
            | State::Waiting { .. } => Action::None,
        }
    }

    fn spawn(&mut self) -> Action {
        self.incarnation += 1;
        self.state = State::Spawning;
        Action::Spawn
    }

    fn stop(&mut self, kill_at_ns: u64) -> Action {
        match self.state {
            State::Starting { pid } | State::Healthy { pid } => {
                self.state = State::Stopping { pid, kill_at_ns, wanted_again: false };
                Action::Terminate(pid)
            }
            State::Stopping { pid, .. } => {
                self.state = State::Stopping { pid, kill_at_ns, wanted_again: false };
                Action::None
            }
            State::Absent | State::Spawning | State::Waiting { .. } | State::Failed { .. } => {
                self.state = State::Absent;
                Action::None
            }
        }
    }

    fn exited(&mut self, status: String, now_ns: u64) -> Action {
        match self.state {
            State::Starting { .. } if !self.was_healthy => {
                self.state = State::Failed { reason: status };
                Action::None
            }
            State::Starting { .. } | State::Healthy { .. } => {
                self.state =
                    State::Waiting { start_at_ns: now_ns.saturating_add(self.restart_delay_ns) };
                self.tick(now_ns)
            }
            State::Stopping { wanted_again: true, .. } => self.spawn(),
            State::Stopping { wanted_again: false, .. } => {
                self.state = State::Absent;
                Action::None
            }
            State::Absent | State::Spawning | State::Waiting { .. } | State::Failed { .. } => {
                Action::None
            }
        }
    }

    fn tick(&mut self, now_ns: u64) -> Action {
        match self.state {
            State::Waiting { start_at_ns } if now_ns >= start_at_ns => self.spawn(),
            State::Stopping { pid, kill_at_ns, wanted_again } if now_ns >= kill_at_ns => {
                // One SIGKILL is enough; the exit will follow.
                self.state = State::Stopping { pid, kill_at_ns: u64::MAX, wanted_again };
                Action::Kill(pid)
            }
            State::Absent
            | State::Spawning
            | State::Starting { .. }
            | State::Healthy { .. }
            | State::Stopping { .. }
            | State::Waiting { .. }
            | State::Failed { .. } => Action::None,
        }
    }

    /// When a `Tick` would do something; none if only an event can.
    pub fn due_ns(&self) -> Option<u64> {
        match self.state {
            State::Waiting { start_at_ns } => Some(start_at_ns),
            State::Stopping { kill_at_ns, .. } if kill_at_ns < u64::MAX => Some(kill_at_ns),
            State::Absent
            | State::Spawning
            | State::Starting { .. }
            | State::Healthy { .. }
            | State::Stopping { .. }
            | State::Failed { .. } => None,
        }
    }

    /// Where it is, for others.
    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Absent => Phase::Absent,
            State::Spawning | State::Starting { .. } => Phase::Starting,
            State::Healthy { .. } => Phase::Healthy,
            State::Stopping { .. } => Phase::Stopping,
            State::Waiting { .. } => Phase::Waiting,
            State::Failed { reason } => Phase::Failed(reason.clone()),
        }
    }

    /// The process, while there is one.
    pub fn pid(&self) -> Option<u32> {
        match self.state {
            State::Starting { pid } | State::Healthy { pid } | State::Stopping { pid, .. } => {
                Some(pid)
            }
            State::Absent | State::Spawning | State::Waiting { .. } | State::Failed { .. } => None,
        }
    }

    /// How often it was started.
    pub fn incarnation(&self) -> u32 {
        self.incarnation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY_NS: u64 = 1_000;

    fn healthy() -> Machine {
        let mut machine = Machine::new(DELAY_NS);
        assert_eq!(machine.step(Input::Start, 0), Action::Spawn);
        machine.step(Input::Spawned { pid: 7 }, 1);
        machine.step(Input::Healthy { incarnation: 1 }, 2);
        assert_eq!(machine.phase(), Phase::Healthy);
        machine
    }

    fn exited(incarnation: u32) -> Input {
        Input::Exited { incarnation, status: "signal 9".to_owned() }
    }

    #[test]
    fn a_killed_replica_is_started_again_after_the_delay_and_not_before() {
        let mut machine = healthy();
        assert_eq!(machine.step(exited(1), 100), Action::None);
        assert_eq!((machine.phase(), machine.pid()), (Phase::Waiting, None));
        assert_eq!(machine.due_ns(), Some(100 + DELAY_NS));
        assert_eq!(machine.step(Input::Tick, 99 + DELAY_NS), Action::None);
        assert_eq!(machine.step(Input::Tick, 100 + DELAY_NS), Action::Spawn);
        assert_eq!(machine.incarnation(), 2);
        assert_eq!(machine.due_ns(), None);
    }

    #[test]
    fn one_that_dies_before_it_was_ever_healthy_has_failed() {
        let mut machine = Machine::new(DELAY_NS);
        machine.step(Input::Start, 0);
        machine.step(Input::Spawned { pid: 7 }, 1);
        assert_eq!(machine.step(exited(1), 2), Action::None);
        assert_eq!(machine.phase(), Phase::Failed("signal 9".to_owned()));
        assert_eq!(machine.step(Input::Tick, u64::MAX), Action::None);
    }

    #[test]
    fn one_that_dies_at_a_later_start_is_tried_again() {
        let mut machine = healthy();
        machine.step(exited(1), 100);
        machine.step(Input::Tick, 100 + DELAY_NS);
        machine.step(Input::Spawned { pid: 8 }, 2_000);
        machine.step(exited(2), 2_001);
        assert_eq!(machine.phase(), Phase::Waiting);
    }

    #[test]
    fn news_of_an_earlier_incarnation_changes_nothing() {
        let mut machine = healthy();
        machine.step(exited(1), 100);
        machine.step(Input::Tick, 100 + DELAY_NS);
        machine.step(Input::Spawned { pid: 8 }, 2_000);
        machine.step(Input::Healthy { incarnation: 1 }, 2_001);
        assert_eq!(machine.phase(), Phase::Starting);
        assert_eq!(machine.step(exited(1), 2_002), Action::None);
        assert_eq!(machine.pid(), Some(8));
    }

    #[test]
    fn stopping_is_terminate_then_kill_once_then_absent() {
        let mut machine = healthy();
        assert_eq!(machine.step(Input::Stop { grace_ns: 50 }, 100), Action::Terminate(7));
        assert_eq!(machine.step(Input::Tick, 149), Action::None);
        assert_eq!(machine.step(Input::Tick, 150), Action::Kill(7));
        assert_eq!(machine.step(Input::Tick, 151), Action::None);
        assert_eq!(machine.step(exited(1), 152), Action::None);
        assert_eq!((machine.phase(), machine.due_ns()), (Phase::Absent, None));
    }

    #[test]
    fn one_that_is_wanted_again_while_it_ends_is_started_when_it_has() {
        let mut machine = healthy();
        machine.step(Input::Stop { grace_ns: 50 }, 100);
        assert_eq!(machine.step(Input::Start, 110), Action::None);
        assert_eq!(machine.step(exited(1), 120), Action::Spawn);
        assert_eq!(machine.incarnation(), 2);
    }

    #[test]
    fn one_that_waits_for_its_restart_is_stopped_at_once() {
        let mut machine = healthy();
        machine.step(exited(1), 100);
        assert_eq!(machine.step(Input::Stop { grace_ns: 50 }, 110), Action::None);
        assert_eq!(machine.phase(), Phase::Absent);
        assert_eq!(machine.step(Input::Tick, u64::MAX), Action::None);
    }
}
