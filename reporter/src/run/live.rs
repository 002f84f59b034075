//! A stage while it runs: the generator's status, the progress lines, and waits with conditions.

use std::time::Duration;

use super::console::Console;
use super::interrupt::Interrupt;
use super::plan::Stage;
use crate::clock::{self, SECOND_NS};
use crate::generator::{Command, Generator, Message, Next, Status, progress_line};

/// Longest time that a wait does not look at its condition.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// The condition held.
    Met,
    /// It did not hold in time.
    Deadline,
    /// The generator has ended.
    Ended,
    /// The run is to end.
    Interrupted,
}

/// The generator of the running stage, and what it said last.
pub struct Live<'a> {
    generator: Generator,
    stage: &'a Stage,
    console: Console,
    interrupt: &'a Interrupt,
    start_ns: u64,
    progress_every_ns: u64,
    progress_due_ns: u64,
    status: Status,
    errors: Vec<String>,
}

impl<'a> Live<'a> {
    /// Takes over a generator that was just started.
    pub fn new(
        generator: Generator,
        stage: &'a Stage,
        console: Console,
        interrupt: &'a Interrupt,
        progress_every_ns: u64,
    ) -> Self {
        let start_ns = clock::mono_ns();
        Self {
            generator,
            stage,
            console,
            interrupt,
            start_ns,
            progress_every_ns,
            progress_due_ns: start_ns + progress_every_ns,
            status: Status::default(),
            errors: Vec::new(),
        }
    }

    /// Reads the generator until `met` says yes of its latest status, or until something else ends
    /// the wait. `met` is asked at least every 20 ms.
    pub fn wait(&mut self, deadline_ns: u64, mut met: impl FnMut(&Status) -> bool) -> Waited {
        loop {
            match self.generator.next(LOOK_EVERY.min(clock::until(deadline_ns))) {
                Next::Message(message) => self.take(message),
                Next::Nothing => {}
                Next::End => return Waited::Ended,
            }
            if self.interrupt.pending() {
                return Waited::Interrupted;
            }
            if met(&self.status) {
                return Waited::Met;
            }
            if clock::mono_ns() >= deadline_ns {
                return Waited::Deadline;
            }
        }
    }

    /// Lets time pass under load.
    pub fn steady(&mut self, duration_ns: u64) -> Waited {
        match self.wait(clock::mono_ns() + duration_ns, |_| false) {
            Waited::Deadline => Waited::Met,
            other => other,
        }
    }

    /// Lets the generator end; it is told to hurry if `early` or if the run is to end. True if the
    /// run is to end.
    pub fn let_end(&mut self, deadline_ns: u64, early: bool) -> bool {
        let mut hurried = early;
        if early {
            self.generator.interrupt();
        }
        while clock::mono_ns() < deadline_ns {
            match self.generator.next(LOOK_EVERY) {
                Next::Message(message) => self.take(message),
                Next::Nothing => {}
                Next::End => return self.interrupt.pending() && hurried,
            }
            if self.interrupt.pending() && !hurried {
                hurried = true;
                self.generator.interrupt();
            }
        }
        // It does not end by being asked; its owner's own deadline is next.
        self.generator.interrupt();
        self.interrupt.pending() && hurried
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Status(status) => {
                let new_phase = status.phase != self.status.phase;
                self.status = *status;
                self.console.dashboard.read(&self.status);
                let now_ns = clock::mono_ns();
                if new_phase || now_ns >= self.progress_due_ns {
                    self.progress_due_ns = now_ns + self.progress_every_ns;
                    let elapsed_s = (now_ns - self.start_ns) / SECOND_NS;
                    let line = progress_line(&self.stage.name, elapsed_s, &self.status);
                    self.console.standing(&line);
                }
            }
            Message::Error(message) => {
                self.console.warn(&format!("{}: {message}", self.stage.name));
                self.errors.push(message);
            }
            // A newer generator may say more than this program understands.
            Message::Done | Message::Other(_) => {}
        }
    }

    /// A line for the person who waits.
    pub fn say(&self, text: &str) {
        let elapsed_s = (clock::mono_ns() - self.start_ns) / SECOND_NS;
        self.console.dashboard.say(text, false);
        self.console.standing(&format!("{} [{elapsed_s:>3}s] {text}", self.stage.name));
    }

    /// Sends the generator a command.
    pub fn send(&mut self, command: &Command) {
        self.generator.send(command);
    }

    /// The latest status.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// The stage.
    pub fn stage(&self) -> &'a Stage {
        self.stage
    }

    /// Gives the generator back, with the errors that it named.
    pub fn into_parts(self) -> (Generator, Vec<String>) {
        (self.generator, self.errors)
    }
}

/// True if every planned session stands and has answered lately. Connections do not count: a session
/// may be between two of them, or share one.
pub fn all_alive(status: &Status, planned: u64) -> bool {
    status.session_established >= planned && status.session_alive >= planned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_alive_by_their_answers() {
        let status = |tcp_open, session_established, session_alive| Status {
            tcp_open,
            session_established,
            session_alive,
            ..Status::default()
        };
        assert!(all_alive(&status(0, 10, 10), 10), "each request has a connection of its own");
        assert!(!all_alive(&status(10, 9, 10), 10), "one has lost its connection");
        assert!(!all_alive(&status(10, 10, 9), 10), "one has not answered");
    }
}
