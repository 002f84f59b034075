//! The generator as a process, and what it left.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// A directory of its own for each run.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn json(&self) -> PathBuf {
        self.0.path().join("summary.json")
    }

    /// The summary that the run wrote.
    pub fn summary(&self) -> Value {
        let text = std::fs::read_to_string(self.json()).expect("the summary was written");
        serde_json::from_str(&text).expect("the summary is JSON")
    }

    /// The only log in the directory.
    pub fn log(&self) -> PathBuf {
        let files = std::fs::read_dir(self.path()).expect("it can be read");
        let mut logs = files
            .map(|file| file.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|e| e == "latlog"));
        let log = logs.next().expect("there is a log");
        assert_eq!(logs.next(), None, "there is one log");
        log
    }
}

/// What a run has said and how it ended.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Asserts an exit code and that the cause is said in one line that holds all of `words`.
    pub fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self}");
        let causes: Vec<&str> =
            self.stderr.lines().filter(|line| line.starts_with("loadgen: ")).collect();
        let fits = |line: &&&str| words.iter().all(|word| line.contains(word));
        assert!(causes.iter().any(|line| fits(&line)), "no line says {words:?}: {self}");
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit {:?}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}

/// The command with its arguments, ready to be started.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end.
pub fn run(arguments: &[&str]) -> Ended {
    end(command(arguments).spawn().expect("it starts"))
}

/// Waits for a run to end. Never does it end by a panic.
pub fn end(child: Child) -> Ended {
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let ended = Ended {
        code: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    };
    assert!(!ended.stderr.contains("panicked"), "{ended}");
    ended
}

/// Waits until something is so; for a minute at the most.
pub fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..1200 {
        if so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("waited for a minute: {what}");
}

/// Sends a signal to a child.
pub fn signal(child: &Child, signal: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, signal).expect("the child is there");
}
