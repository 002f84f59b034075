//! What a person sees while a run goes on. Progress goes to standard output, or to standard error
//! where standard output is for a program; with a dashboard, it goes there.

use std::io::{IsTerminal, Write};

use super::dashboard::Dashboard;

/// Where lines go; clones share the dashboard.
#[derive(Clone, Default)]
pub struct Console {
    quiet: bool,
    to_stderr: bool,
    /// Does nothing until it is opened.
    pub dashboard: Dashboard,
}

impl Console {
    /// `quiet` leaves out progress; `json` keeps standard output for the outcome.
    pub fn new(quiet: bool, json: bool) -> Self {
        Self { quiet, to_stderr: json, dashboard: Dashboard::default() }
    }

    /// A line of progress.
    pub fn progress(&self, line: &str) {
        self.dashboard.say(line, false);
        if !self.quiet && !self.is_covered() {
            self.line(line);
        }
    }

    /// A line about where the generator stands, which a dashboard shows anyhow.
    pub fn standing(&self, line: &str) {
        if !self.quiet && !self.is_covered() {
            self.line(line);
        }
    }

    /// A line that is worth reading even by who wants no progress.
    pub fn warn(&self, line: &str) {
        if self.dashboard.is_open() {
            self.dashboard.say(line, true);
            return;
        }
        // A closed standard error must not end a run of two hours.
        let _ = writeln!(std::io::stderr(), "{line}");
    }

    /// A line of the outcome.
    pub fn line(&self, line: &str) {
        let _ = if self.to_stderr {
            writeln!(std::io::stderr(), "{line}")
        } else {
            writeln!(std::io::stdout(), "{line}")
        };
    }

    /// Ends the dashboard, if there is one, and says what was said on it.
    pub fn close(&self) {
        let covered = self.is_covered();
        for (line, bad) in self.dashboard.close() {
            match bad {
                true => self.warn(&line),
                // Where lines went to a file all the time, they are there.
                false if covered => self.progress(&line),
                false => {}
            }
        }
    }

    /// A dashboard covers the terminal that lines would go to.
    fn is_covered(&self) -> bool {
        let terminal = match self.to_stderr {
            true => std::io::stderr().is_terminal(),
            false => std::io::stdout().is_terminal(),
        };
        terminal && self.dashboard.is_open()
    }
}
