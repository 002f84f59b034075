//! The exit codes of `reporter` and the one error type that carries them to `main`.

use std::fmt;

/// How the program ends; the number is the process's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The run is valid and every threshold held.
    Pass = 0,
    /// A threshold failed.
    ThresholdFailed = 1,
    /// The command line or a path or address in it cannot be used.
    Usage = 2,
    /// The run itself is not valid: its figures stand for nothing.
    Invalid = 3,
    /// Something is missing on this host: a program, a limit, a kernel feature.
    HostLacks = 4,
    /// A signal ended the run; what was measured is kept.
    Interrupted = 130,
}

impl Exit {
    /// The process's exit code.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// An error that knows its exit code; its text is for a person and names the fix.
#[derive(Debug)]
pub struct Failure {
    /// What the process exits with.
    pub exit: Exit,
    /// One sentence, or a few lines where a log's tail is shown.
    pub message: String,
}

impl Failure {
    /// A wrong command line.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, message: message.into() }
    }

    /// A run that cannot stand.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self { exit: Exit::Invalid, message: message.into() }
    }

    /// A host that lacks something.
    pub fn host(message: impl Into<String>) -> Self {
        Self { exit: Exit::HostLacks, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// The exit code of an error from anywhere: a [`Failure`]'s own, else "the run is not valid".
pub fn of(error: &anyhow::Error) -> Exit {
    error.downcast_ref::<Failure>().map_or(Exit::Invalid, |failure| failure.exit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_failure_keeps_its_code_under_added_context() {
        let failed: Result<(), Failure> = Err(Failure::host("no loadgen"));
        let error = failed.context("while starting").expect_err("is an error");
        assert_eq!(of(&error), Exit::HostLacks);
        assert_eq!(of(&anyhow::anyhow!("other")), Exit::Invalid);
    }

    #[test]
    fn codes_are_the_documented_ones() {
        let codes = [
            Exit::Pass,
            Exit::ThresholdFailed,
            Exit::Usage,
            Exit::Invalid,
            Exit::HostLacks,
            Exit::Interrupted,
        ]
        .map(Exit::code);
        assert_eq!(codes, [0, 1, 2, 3, 4, 130]);
    }
}
