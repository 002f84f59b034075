//! Changes kernel settings and puts them back: the former values are on disk before the first
//! write, every write is read back, and a crash at any point leaves enough to revert exactly.
//! It knows no plan; what to write is decided by the caller.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::profile::{Rule, Scope, normal};

/// Where the back-up lives unless told otherwise.
pub const STATE_DIR: &str = "/var/lib/mcp-load-preflight";
const STATE_FILE: &str = "sysctl-before.json";
const STATE_VERSION: u32 = 1;

/// Settings by name: the kernel's, or a test's.
pub trait Tree {
    /// The value as the kernel prints it, without the newline.
    fn read(&self, key: &str) -> io::Result<String>;
    /// Writes; that it took is for the caller to find out.
    fn write(&mut self, key: &str, value: &str) -> io::Result<()>;
}

/// /proc/sys.
pub struct ProcSys;

impl Tree for ProcSys {
    fn read(&self, key: &str) -> io::Result<String> {
        let text = fs::read_to_string(super::gather::sysctl_path(key))?;
        Ok(text.trim_end_matches('\n').to_owned())
    }

    fn write(&mut self, key: &str, value: &str) -> io::Result<()> {
        let path = super::gather::sysctl_path(key);
        // One write(2) with the newline: an empty list is written as a bare newline.
        OpenOptions::new().write(true).open(path)?.write_all(format!("{value}\n").as_bytes())
    }
}

/// One value to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Name.
    pub key: String,
    /// The wanted value.
    pub wanted: String,
    /// How it is compared and combined with what is there.
    pub rule: Rule,
    /// Whose setting it is.
    pub scope: Scope,
}

/// What became of one setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum Outcome {
    /// It was good before.
    Fine {
        /// The value.
        value: String,
    },
    /// It was written and reads back as wanted.
    Written {
        /// The value before.
        before: String,
        /// The value that is there.
        after: String,
    },
    /// The write was accepted and the value is not the wanted one.
    NotTaken {
        /// What was written.
        wanted: String,
        /// The value that is there.
        after: String,
    },
    /// The write failed.
    Refused {
        /// Why.
        error: String,
    },
    /// It is not there.
    Absent,
    /// It belongs to another network namespace than this process's.
    Elsewhere {
        /// The namespace.
        network: String,
    },
}

impl Outcome {
    /// Whether the setting is as it should be.
    pub fn good(&self) -> bool {
        matches!(self, Outcome::Fine { .. } | Outcome::Written { .. })
    }
}

/// The setting and what became of it.
pub type Done = (String, Outcome);

/// What keeps values from being changed at all.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The back-up cannot be kept: nothing was written.
    #[error("state directory {dir}: {source}; name another one with --state DIR")]
    State {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another one is at it.
    #[error("another preflight is changing this host ({0} is locked)")]
    Busy(PathBuf),
    /// The back-up cannot be understood.
    #[error("{path} is not a back-up that can be read ({reason}); it is left as it is")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The back-up is of another namespace.
    #[error(
        "{path} holds the values of network namespace {network}, and this is {here}: revert there \
         first, or name another --state DIR"
    )]
    OtherNetwork {
        /// The file.
        path: PathBuf,
        /// Its namespace.
        network: String,
        /// This process's.
        here: String,
    },
    /// There is nothing to revert to.
    #[error("{0} does not exist: nothing was applied since this host started")]
    Nothing(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    version: u32,
    /// Settings live as long as the boot they were made in.
    boot: String,
    network: String,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    key: String,
    before: String,
    scope: Scope,
}

/// Which boot and which network namespace values belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Here {
    /// The boot's random id.
    pub boot: String,
    /// The namespace, `net:[4026531840]`.
    pub network: String,
}

impl Here {
    /// This process's.
    pub fn read() -> Here {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let network = fs::read_link("/proc/self/ns/net").unwrap_or_default();
        Here { boot: boot.trim().to_owned(), network: network.to_string_lossy().into_owned() }
    }
}

/// The back-up's directory, locked while this lives.
pub struct Store {
    dir: PathBuf,
    _lock: Flock<File>,
}

impl Store {
    /// Makes the directory where it is missing, and locks it.
    pub fn open(dir: &Path) -> Result<Store, ApplyError> {
        let failed = |source| ApplyError::State { dir: dir.to_path_buf(), source };
        fs::create_dir_all(dir).map_err(failed)?;
        let path = dir.join("lock");
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        let lock =
            Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| match e {
                nix::errno::Errno::EWOULDBLOCK => ApplyError::Busy(path.clone()),
                other => failed(other.into()),
            })?;
        Ok(Store { dir: dir.to_path_buf(), _lock: lock })
    }

    /// The back-up.
    pub fn path(&self) -> PathBuf {
        self.dir.join(STATE_FILE)
    }

    fn load(&self) -> Result<Option<State>, ApplyError> {
        let path = self.path();
        let damaged = |reason: String| ApplyError::Damaged { path: path.clone(), reason };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(damaged(e.to_string())),
        };
        let state: State = serde_json::from_str(&text).map_err(|e| damaged(e.to_string()))?;
        match state.version {
            STATE_VERSION => Ok(Some(state)),
            other => Err(damaged(format!("version {other}"))),
        }
    }

    /// Whole or not at all: a new file, forced to disk, takes the old one's name.
    fn save(&self, state: &State) -> Result<(), ApplyError> {
        let attempt = || -> io::Result<()> {
            let fresh = self.dir.join("sysctl-before.new");
            let mut file = File::create(&fresh)?;
            serde_json::to_writer_pretty(&mut file, state)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&fresh, self.path())?;
            File::open(&self.dir)?.sync_all()
        };
        attempt().map_err(|source| ApplyError::State { dir: self.dir.clone(), source })
    }

    fn remove(&self) -> Result<(), ApplyError> {
        fs::remove_file(self.path())
            .and_then(|()| File::open(&self.dir)?.sync_all())
            .map_err(|source| ApplyError::State { dir: self.dir.clone(), source })
    }
}

/// Writes what is not good yet; the former values are kept first.
pub fn apply(
    tree: &mut dyn Tree,
    store: &Store,
    here: &Here,
    changes: &[Change],
) -> Result<Vec<Done>, ApplyError> {
    let mut state = fitting_state(store, here)?;
    let mut to_write = Vec::new();
    let mut done: Vec<Done> = Vec::new();
    for change in changes {
        match tree.read(&change.key) {
            Err(_) => done.push((change.key.clone(), Outcome::Absent)),
            Ok(now) if change.rule.satisfied(&now, &change.wanted) => {
                done.push((change.key.clone(), Outcome::Fine { value: normal(&now) }));
            }
            Ok(now) => {
                // The first apply's "before" stays: revert goes back to the beginning.
                if !state.entries.iter().any(|e| e.key == change.key) {
                    state.entries.push(Entry {
                        key: change.key.clone(),
                        before: now.clone(),
                        scope: change.scope,
                    });
                }
                to_write.push((change, now));
            }
        }
    }
    if !to_write.is_empty() {
        store.save(&state)?;
    }
    for (change, before) in to_write {
        done.push((change.key.clone(), write_one(tree, change, &before)));
    }
    Ok(done)
}

/// The back-up to add to: that of this boot and namespace, or a new one.
fn fitting_state(store: &Store, here: &Here) -> Result<State, ApplyError> {
    let new = State {
        version: STATE_VERSION,
        boot: here.boot.clone(),
        network: here.network.clone(),
        entries: Vec::new(),
    };
    match store.load()? {
        // Values of an earlier boot are gone with it.
        Some(old) if old.boot != here.boot => Ok(new),
        Some(old) if old.network != here.network => Err(ApplyError::OtherNetwork {
            path: store.path(),
            network: old.network,
            here: here.network.clone(),
        }),
        Some(old) => Ok(old),
        None => Ok(new),
    }
}

fn write_one(tree: &mut dyn Tree, change: &Change, before: &str) -> Outcome {
    let value = change.rule.combine(before, &change.wanted);
    if let Err(e) = tree.write(&change.key, &value) {
        return Outcome::Refused { error: e.to_string() };
    }
    match tree.read(&change.key) {
        Err(e) => Outcome::Refused { error: format!("reading back: {e}") },
        Ok(after) if change.rule.satisfied(&after, &change.wanted) => {
            Outcome::Written { before: normal(before), after: normal(&after) }
        }
        Ok(after) => Outcome::NotTaken { wanted: value, after: normal(&after) },
    }
}

/// Puts every value back; what could not be put back stays in the back-up.
pub fn revert(tree: &mut dyn Tree, store: &Store, here: &Here) -> Result<Vec<Done>, ApplyError> {
    let state = match store.load()? {
        Some(state) if state.boot == here.boot => state,
        _ => return Err(ApplyError::Nothing(store.path())),
    };
    let mut done = Vec::new();
    let mut left = Vec::new();
    for entry in state.entries.iter().rev() {
        let outcome = if entry.scope == Scope::Namespace && state.network != here.network {
            Outcome::Elsewhere { network: state.network.clone() }
        } else {
            restore_one(tree, entry)
        };
        if !outcome.good() {
            left.insert(0, entry.clone());
        }
        done.push((entry.key.clone(), outcome));
    }
    if left.is_empty() {
        store.remove()?;
    } else {
        store.save(&State { entries: left, ..state })?;
    }
    Ok(done)
}

fn restore_one(tree: &mut dyn Tree, entry: &Entry) -> Outcome {
    let now = match tree.read(&entry.key) {
        Ok(now) => now,
        Err(_) => return Outcome::Absent,
    };
    if now == entry.before {
        return Outcome::Fine { value: normal(&now) };
    }
    if let Err(e) = tree.write(&entry.key, &entry.before) {
        return Outcome::Refused { error: e.to_string() };
    }
    match tree.read(&entry.key) {
        Ok(after) if after == entry.before => {
            Outcome::Written { before: normal(&now), after: normal(&after) }
        }
        Ok(after) => Outcome::NotTaken { wanted: normal(&entry.before), after: normal(&after) },
        Err(e) => Outcome::Refused { error: format!("reading back: {e}") },
    }
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
