//! What a person sees while a run goes on. Progress goes to standard output, or to standard error
//! where standard output is for a program.

use std::io::Write;

/// Where lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Console {
    quiet: bool,
    to_stderr: bool,
}

impl Console {
    /// `quiet` leaves out progress; `json` keeps standard output for the outcome.
    pub fn new(quiet: bool, json: bool) -> Self {
        Self { quiet, to_stderr: json }
    }

    /// A line of progress.
    pub fn progress(self, line: &str) {
        if !self.quiet {
            self.line(line);
        }
    }

    /// A line that is worth reading even by who wants no progress.
    pub fn warn(self, line: &str) {
        // A closed standard error must not end a run of two hours.
        let _ = writeln!(std::io::stderr(), "{line}");
    }

    /// A line of the outcome.
    pub fn line(self, line: &str) {
        let _ = if self.to_stderr {
            writeln!(std::io::stderr(), "{line}")
        } else {
            writeln!(std::io::stdout(), "{line}")
        };
    }
}
