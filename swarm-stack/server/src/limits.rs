//! The process's descriptor limit: raised to what the host allows, and explained.
//!
//! Owns RLIMIT_NOFILE. It must not know who opens descriptors.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors this process may have open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoFile {
    /// The limit in force.
    pub soft: u64,
    /// What an unprivileged process may raise it to.
    pub hard: u64,
}

/// Raises the soft descriptor limit to the hard limit and returns both.
///
/// # Errors
/// The text names the call that failed and the setting to change.
pub fn raise_nofile() -> Result<NoFile, LimitError> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(LimitError::Read)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(|errno| LimitError::Raise {
            soft,
            hard,
            errno,
        })?;
    }
    Ok(NoFile { soft: hard, hard })
}

/// Why the descriptor limit is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// getrlimit failed.
    #[error("cannot read the descriptor limit (RLIMIT_NOFILE): {0}")]
    Read(nix::errno::Errno),
    /// setrlimit failed.
    #[error(
        "cannot raise the descriptor limit from {soft} to the hard limit {hard}: {errno}; \
         start the server with `ulimit -n {hard}`"
    )]
    Raise {
        /// Limit in force.
        soft: u64,
        /// Limit wanted.
        hard: u64,
        /// What the kernel said.
        errno: nix::errno::Errno,
    },
}
