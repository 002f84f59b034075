//! A terminal for a program under test: a pseudo-terminal, what was written to it, and whether it was
//! given back as it was found. It knows nothing of the programs.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{FlowArg, LocalFlags, Termios, tcflow, tcgetattr};
use nix::unistd::Pid;

/// Longest wait for what has to come.
const PATIENCE: Duration = Duration::from_secs(60);
/// Begins and ends the alternate screen, hides and shows the cursor (xterm control sequences).
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";
const HIDE: &str = "\x1b[?25l";
const SHOW: &str = "\x1b[?25h";

/// A terminal of 120 columns and 40 lines.
pub struct Pty {
    slave: File,
    found: Termios,
    seen: Arc<(Mutex<Vec<u8>>, Condvar)>,
}

impl Pty {
    pub fn open() -> Self {
        let size = Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(Some(&size), None).expect("the system has pseudo-terminals");
        let slave = File::from(pair.slave);
        let found = tcgetattr(&slave).expect("it is a terminal");
        let seen = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let (theirs, mut master) = (Arc::clone(&seen), File::from(pair.master));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count) = master.read(&mut bytes) {
                theirs.0.lock().expect("no reader panics").extend_from_slice(&bytes[..count]);
                theirs.1.notify_all();
            }
        });
        Self { slave, found, seen }
    }

    /// Starts a program that has nothing but this terminal.
    pub fn spawn(&self, command: &mut Command) -> Program {
        let end = || self.slave.try_clone().expect("a descriptor is free");
        let term = command_term(command);
        command.env("TERM", term).stdin(end()).stdout(end()).stderr(end());
        Program(command.spawn().expect("the program starts"))
    }

    /// Waits until a text was written, and gives all that was.
    pub fn wait_for(&self, text: &str) -> String {
        let (seen, changed) = &*self.seen;
        let has = |seen: &Vec<u8>| String::from_utf8_lossy(seen).contains(text);
        let seen = seen.lock().expect("no reader panics");
        let (seen, late) = changed
            .wait_timeout_while(seen, PATIENCE, |seen| !has(seen))
            .expect("no reader panics");
        let all = String::from_utf8_lossy(&seen).into_owned();
        assert!(!late.timed_out(), "{text:?} did not come: {all:?}");
        all
    }

    /// Waits until the dashboard is there, and insists that keys are not echoed meanwhile.
    pub fn wait_until_taken(&self) {
        self.wait_for(ENTER);
        self.wait_for("Connections");
        let flags = tcgetattr(&self.slave).expect("it is a terminal").local_flags;
        assert!(!flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO), "{flags:?}");
    }

    /// Lets the terminal take nothing more, as Ctrl-S does.
    pub fn stop(&self) {
        tcflow(&self.slave, FlowArg::TCOOFF).expect("it is a terminal");
    }

    /// After the program's end: insists that the terminal is as it was found, and gives what was
    /// written after it was given back.
    pub fn given_back(&self) -> String {
        // What comes before this mark was written before it.
        (&self.slave).write_all(b"<the end>").expect("the terminal takes it");
        let all = self.wait_for("<the end>");
        let last = |text: &str| all.rfind(text).unwrap_or_else(|| panic!("no {text:?} in {all:?}"));
        assert!(last(LEAVE) > last(ENTER), "the alternate screen is left: {all:?}");
        if let Some(hidden) = all.rfind(HIDE) {
            assert!(last(SHOW) > hidden, "the cursor is shown: {all:?}");
        }
        let left = tcgetattr(&self.slave).expect("it is a terminal");
        assert_eq!(left.local_flags, self.found.local_flags, "lines are edited and echoed");
        assert_eq!(left.input_flags, self.found.input_flags);
        assert_eq!(left.output_flags, self.found.output_flags, "a line feed begins a line");
        all[last(LEAVE)..].to_owned()
    }

    /// Insists that nothing was done to the terminal, and gives what was written.
    pub fn left_alone(&self) -> String {
        (&self.slave).write_all(b"<the end>").expect("the terminal takes it");
        let all = self.wait_for("<the end>");
        assert!(!all.contains('\x1b'), "no control sequences: {all:?}");
        assert_eq!(tcgetattr(&self.slave).expect("it is a terminal"), self.found);
        all
    }
}

/// A program that does not outlive its test.
pub struct Program(Child);

impl Program {
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).expect("it runs");
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.0.wait().expect("it ends")
    }

    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("it is ours").is_some()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// As the caller set it, or a common one.
fn command_term(command: &Command) -> std::ffi::OsString {
    let set = command.get_envs().find(|(name, _)| *name == "TERM").and_then(|(_, value)| value);
    set.map_or_else(|| "xterm-256color".into(), ToOwned::to_owned)
}
