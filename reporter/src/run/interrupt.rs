//! Ctrl-C, SIGTERM and the loss of the terminal: the first asks the run to end and keep what it has,
//! the second ends at once.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::Exit;

/// A handle that every wait looks at; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    signals: AtomicU32,
    /// Leaders of the process groups that this run has started and not yet reaped.
    groups: Mutex<BTreeSet<u32>>,
    /// What an end at once would leave behind: the command that mends it, and what it is.
    behind: Mutex<Vec<(String, String)>>,
}

impl Interrupt {
    /// Takes over SIGINT, SIGTERM and SIGHUP of this process; the last not if it is ignored.
    ///
    /// # Errors
    /// If the handlers cannot be set.
    pub fn install() -> io::Result<Self> {
        let interrupt = Self::default();
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        if !live::screen::outlives_terminal() {
            signals.add_signal(SIGHUP)?;
        }
        let shared = interrupt.clone();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for _ in signals.forever() {
                if shared.raise() > 1 {
                    shared.kill_groups();
                    live::screen::restore();
                    for line in shared.farewell() {
                        eprintln!("{line}");
                    }
                    std::process::exit(i32::from(Exit::Interrupted.code()));
                }
                if live::screen::is_taken() {
                    // The dashboard says so.
                    continue;
                }
                eprintln!("ending: results are kept; once more to kill everything at once");
            }
        })?;
        Ok(interrupt)
    }

    /// True once the run was asked to end.
    pub fn pending(&self) -> bool {
        self.shared.signals.load(Ordering::Acquire) > 0
    }

    /// Counts one signal and says how many there were.
    pub fn raise(&self) -> u32 {
        self.shared.signals.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Remembers a process group until [`Interrupt::forget`], which must come before it is reaped:
    /// afterwards its number may belong to somebody else.
    pub fn remember(&self, pid: u32) {
        self.groups().insert(pid);
    }

    /// See [`Interrupt::remember`].
    pub fn forget(&self, pid: u32) {
        self.groups().remove(&pid);
    }

    /// Remembers what stays behind if this process ends at once, by the command that mends it.
    pub fn leaves_behind(&self, what: &str, command: &str) {
        self.behind().push((command.to_owned(), what.to_owned()));
    }

    /// What the command mends is mended.
    pub fn mended(&self, command: &str) {
        self.behind().retain(|(own, _)| own != command);
    }

    /// The last words of an end at once: what may stay behind, a line each.
    fn farewell(&self) -> Vec<String> {
        let line = |(command, what): &(String, String)| format!("may be left: {what}; `{command}`");
        self.behind().iter().map(line).collect()
    }

    fn behind(&self) -> MutexGuard<'_, Vec<(String, String)>> {
        self.shared.behind.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kill_groups(&self) {
        for &pid in self.groups().iter() {
            kill_group(pid);
        }
    }

    fn groups(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.shared.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// SIGKILL to a process group that this program started; one that is gone is no error.
pub fn kill_group(leader: u32) {
    // Group 0 would be our own, and a negative number somebody else's.
    if let Some(leader) = i32::try_from(leader).ok().filter(|&leader| leader > 1) {
        let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_signal_is_pending_in_every_clone() {
        let interrupt = Interrupt::default();
        let clone = interrupt.clone();
        assert!(!clone.pending());
        assert_eq!(interrupt.raise(), 1);
        assert!(clone.pending());
    }
    #[test]
    fn an_end_at_once_says_what_may_stay_behind_and_what_mends_it() {
        let interrupt = Interrupt::default();
        let clone = interrupt.clone();
        clone.leaves_behind("the stack erlmcp-swarm", "reporter swarm rm");
        clone.leaves_behind("node n2, drained", "reporter swarm undrain n2");
        let stack = "may be left: the stack erlmcp-swarm; `reporter swarm rm`";
        let node = "may be left: node n2, drained; `reporter swarm undrain n2`";
        assert_eq!(interrupt.farewell(), [stack, node]);
        clone.mended("reporter swarm undrain n2");
        assert_eq!(interrupt.farewell(), [stack]);
    }
}
