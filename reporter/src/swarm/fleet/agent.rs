//! One generator of the fleet as this program sees it: a process whose pipes lead to it, and what
//! it has said so far.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use serde_json::{Value, json};

use super::clocks::{Exchange, Offset, estimate};
use crate::clock;
use crate::exit::Failure;
use crate::generator::{Message, Status, parse};
use crate::run::interrupt::{Interrupt, kill_group};

/// Questions for the clock, one after the other.
const EXCHANGES: usize = 15;
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// A log beyond this is none of a run that was planned here.
const FILE_BYTES_MAX: u64 = 1 << 40;

/// What the pipe brought.
enum Heard {
    /// A line.
    Line(String),
    File(PathBuf),
    Broken(String),
}

/// See the module. Dropping it ends the process.
pub struct Agent {
    child: Child,
    stdin: Option<ChildStdin>,
    heard: Receiver<Heard>,
    interrupt: Interrupt,
    clock: Option<u64>,
    /// What it planned, once its targets were asked.
    pub ready: Option<Value>,
    /// Where it stands.
    pub status: Status,
    /// Whether its ramp has come to its end.
    pub ramped: bool,
    /// Its summary, once the run is over.
    pub done: Option<Value>,
    /// Its log, once it was fetched.
    pub file: Option<PathBuf>,
    /// What it could not do.
    pub errors: Vec<String>,
    /// Whether the pipe has ended.
    pub ended: bool,
}

impl Agent {
    /// Starts the process; files that come go to `dir`.
    ///
    /// # Errors
    /// If the process or the folder cannot be made.
    pub fn start(
        program: &Path,
        arguments: &[String],
        dir: &Path,
        interrupt: &Interrupt,
    ) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| {
            Failure::host(format!("cannot start {}: {error}", program.display()))
        };
        fs::create_dir_all(dir)
            .map_err(|error| Failure::usage(format!("cannot use {}: {error}", dir.display())))?;
        let stderr = File::create(dir.join("relay.stderr.log")).map_err(failed)?;
        let mut command = Command::new(program);
        // A group of its own: Ctrl-C is for this program, which lets the generators end.
        command.args(arguments).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().map_err(failed)?;
        interrupt.remember(child.id());
        let (sender, heard) = channel();
        if let Some(stdout) = child.stdout.take() {
            let dir = dir.to_owned();
            std::thread::spawn(move || read(BufReader::new(stdout), &dir, &sender));
        }
        Ok(Self {
            stdin: child.stdin.take(),
            child,
            heard,
            interrupt: interrupt.clone(),
            clock: None,
            ready: None,
            status: Status::default(),
            ramped: false,
            done: None,
            file: None,
            errors: Vec::new(),
            ended: false,
        })
    }

    /// Orders something; one that is gone does not hear it, which its end will tell.
    pub fn order(&mut self, command: &Value) {
        let sent = self.stdin.as_mut().map(|pipe| {
            pipe.write_all(format!("{command}\n").as_bytes()).and_then(|()| pipe.flush())
        });
        if !matches!(sent, Some(Ok(()))) {
            self.stdin = None;
        }
    }

    /// Takes what has come, waiting up to `wait` for the first of it.
    pub fn look(&mut self, wait: Duration) {
        let mut next = self.heard.recv_timeout(wait);
        loop {
            match next {
                Ok(Heard::Line(line)) => self.take(&line),
                Ok(Heard::File(path)) => self.file = Some(path),
                Ok(Heard::Broken(why)) => self.errors.push(why),
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => {
                    self.ended = true;
                    return;
                }
            }
            next = self.heard.recv_timeout(Duration::ZERO);
        }
    }

    fn take(&mut self, line: &str) {
        match parse(line) {
            Message::Status(status) => {
                let value: Value = serde_json::from_str(line).unwrap_or_default();
                self.ramped |= value["ramped"].as_bool().unwrap_or(false);
                self.status = *status;
            }
            Message::Error(message) => self.errors.push(message),
            Message::Done => {
                let value: Value = serde_json::from_str(line).unwrap_or_default();
                self.done = Some(value["stage"].clone());
            }
            Message::Other(line) => {
                let value: Value = serde_json::from_str(&line).unwrap_or_default();
                match value["type"].as_str() {
                    Some("ready") => self.ready = Some(value),
                    Some("clock") => self.clock = value["real_ns"].as_u64(),
                    _ => {}
                }
            }
        }
    }

    /// Asks a few times what its host's clock shows; none if it does not answer.
    pub fn compare_clocks(&mut self) -> Option<Offset> {
        let mut exchanges = Vec::new();
        for _ in 0..EXCHANGES {
            self.clock = None;
            let asked_ns = clock::real_ns();
            self.order(&json!({"cmd": "clock"}));
            let mut waited = Duration::ZERO;
            while self.clock.is_none() && !self.ended && waited < ANSWER_MAX {
                let before_ns = clock::mono_ns();
                self.look(ANSWER_MAX - waited);
                waited += Duration::from_nanos(clock::mono_ns() - before_ns);
            }
            let heard_ns = clock::real_ns();
            exchanges.push(Exchange { asked_ns, there_ns: self.clock?, heard_ns });
        }
        estimate(&exchanges)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stdin = None;
        kill_group(self.child.id());
        self.interrupt.forget(self.child.id());
        let _ = self.child.wait();
    }
}

/// Lines, and after a line that announces a file that many bytes.
fn read(mut input: impl BufRead, dir: &Path, to: &Sender<Heard>) {
    let mut line = Vec::new();
    loop {
        line.clear();
        match input.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line).trim().to_owned();
        let heard = match announced(&text) {
            None => Heard::Line(text),
            Some((name, bytes)) => match save(&mut input, &dir.join(name), bytes) {
                Ok(path) => Heard::File(path),
                Err(error) => Heard::Broken(format!("its log did not come over whole: {error}")),
            },
        };
        if to.send(heard).is_err() {
            return;
        }
    }
}

/// Name and size of the file that follows this line. The name is the other side's word: it stays
/// inside the folder.
fn announced(line: &str) -> Option<(String, u64)> {
    let value: Value = serde_json::from_str(line).ok()?;
    if value["type"].as_str() != Some("file") {
        return None;
    }
    let name = Path::new(value["name"].as_str()?).file_name()?.to_string_lossy().into_owned();
    Some((name, value["bytes"].as_u64().filter(|&bytes| bytes < FILE_BYTES_MAX)?))
}

fn save(input: &mut impl Read, path: &Path, bytes: u64) -> std::io::Result<PathBuf> {
    let mut file = File::create(path)?;
    let copied = std::io::copy(&mut input.take(bytes), &mut file)?;
    match copied == bytes {
        true => Ok(path.to_owned()),
        false => Err(std::io::Error::other(format!("{copied} of {bytes} bytes"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(script: &str, dir: &Path) -> Agent {
        let arguments = ["-c".to_owned(), script.to_owned()];
        Agent::start(Path::new("sh"), &arguments, dir, &Interrupt::default()).expect("starts")
    }

    fn until(agent: &mut Agent, met: impl Fn(&Agent) -> bool) {
        while !met(agent) {
            assert!(!agent.ended, "it ended before: {:?}", agent.errors);
            agent.look(Duration::from_secs(10));
        }
    }

    #[test]
    fn what_it_says_is_kept_and_a_file_of_any_bytes_comes_over() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut agent = agent(
            r#"echo '{"type":"ready","engine":"epoll"}'
               echo '{"type":"status","session_alive":7,"ramped":true}'
               read -r order
               echo '{"type":"file","name":"../x.latlog","bytes":6}'; printf '\000\n{}\n\377'
               echo '{"type":"error","message":"boom"}'
               echo '{"type":"done","stage":{"name":"loadgen"}}'; read -r order"#,
            dir.path(),
        );
        until(&mut agent, |agent| agent.ramped);
        assert_eq!(agent.ready.as_ref().expect("was said")["engine"], "epoll");
        assert_eq!(agent.status.session_alive, 7);
        agent.order(&json!({"cmd": "fetch"}));
        until(&mut agent, |agent| agent.done.is_some());
        assert_eq!(agent.file, Some(dir.path().join("x.latlog")), "inside the folder");
        assert_eq!(fs::read(dir.path().join("x.latlog")).expect("reads"), b"\x00\n{}\n\xff");
        assert_eq!(agent.errors, ["boom"]);
    }

    #[test]
    fn a_file_that_ends_early_and_an_end_are_seen() {
        let dir = tempfile::tempdir().expect("a folder");
        let script = r#"echo '{"type":"file","name":"x","bytes":9}'; printf 12"#;
        let mut agent = agent(script, dir.path());
        while !agent.ended {
            agent.look(Duration::from_secs(10));
        }
        assert!(agent.errors[0].contains("2 of 9 bytes"), "{:?}", agent.errors);
        assert_eq!(agent.compare_clocks(), None);
    }

    #[test]
    fn the_same_clock_is_found_to_be_the_same() {
        let dir = tempfile::tempdir().expect("a folder");
        let script = r#"while read -r order; do
            printf '{"type":"clock","real_ns":%s}\n' "$(date +%s%N)"; done"#;
        let mut agent = agent(script, dir.path());
        let offset = agent.compare_clocks().expect("answers");
        assert!(offset.offset_ns.unsigned_abs() <= offset.error_ns, "{offset:?}");
    }
}
