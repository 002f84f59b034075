//! One run of the program, and its log read back by name.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::Range;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use latlog::{BlockKind, Event, EventKind, Outcome, Request};
use serde_json::Value;

use crate::harness::{PATIENCE, wait_for};

/// A run that goes on.
pub struct Running {
    child: Child,
    status: Receiver<Value>,
    dir: tempfile::TempDir,
    /// Most resident memory seen, bytes.
    pub resident_bytes_max: u64,
}

/// A run that has ended.
pub struct Run {
    /// Exit code.
    pub code: Option<i32>,
    /// Standard error.
    pub said: String,
    /// What `--json` wrote.
    pub summary: Value,
    /// The plan in the log's header.
    pub plan: Value,
    /// All requests, in the order of the log.
    pub requests: Vec<Request>,
    /// All events, each with its worker: sessions are numbered by worker.
    pub events: Vec<(u16, Event)>,
    /// Most resident memory that was seen, bytes.
    pub resident_bytes_max: u64,
    hold: Range<u64>,
}

impl Running {
    /// Starts the program, driven by us; `line` is what would be typed, without quotes.
    pub fn start(line: &str) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        if !line.contains("--timeout") {
            // A busy machine is no reason to fail.
            command.args(["--timeout", "60s"]);
        }
        // Nor are servers that take longer to open a session than the ramp allows: they set the pace.
        command.args(["--opening", "32"]);
        let mut child = command
            .arg("--control")
            .args(line.split_whitespace())
            .arg("--log")
            .arg(dir.path())
            .arg("--json")
            .arg(dir.path().join("summary.json"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (send, status) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = serde_json::from_str(&line).map(|value| send.send(value));
            }
        });
        Self { child, status, dir, resident_bytes_max: 0 }
    }

    /// Waits for a status that satisfies.
    pub fn until(&mut self, what: &str, mut satisfied: impl FnMut(&Value) -> bool) -> Value {
        wait_for(what, || {
            self.look_at_memory();
            let status = self.status.try_recv().ok()?;
            assert_ne!(status["type"], "done", "{what}: the run ended before");
            satisfied(&status).then_some(status)
        })
    }

    /// Gives a command.
    pub fn tell(&mut self, command: &Value) {
        let stdin = self.child.stdin.as_mut().expect("piped");
        writeln!(stdin, "{command}").expect("it reads");
    }

    fn look_at_memory(&mut self) {
        self.resident_bytes_max = self.resident_bytes_max.max(self.memory("VmHWM:").unwrap_or(0));
    }

    /// Resident memory, bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.memory("VmRSS:").expect("it runs")
    }

    fn memory(&self, name: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let kib = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(kib.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
    }

    /// Waits for the end and reads what the run left.
    pub fn finish(mut self) -> Run {
        let mut waits = 0;
        let code = loop {
            self.look_at_memory();
            if let Some(status) = self.child.try_wait().expect("ours") {
                break status.code();
            }
            waits += 1;
            assert!(waits < 4 * PATIENCE.as_millis() / 20, "the run does not end");
            std::thread::sleep(std::time::Duration::from_millis(20));
        };
        let mut said = String::new();
        let _ = self.child.stderr.take().expect("piped").read_to_string(&mut said);
        let text = std::fs::read_to_string(self.dir.path().join("summary.json"));
        let mut run = Run {
            code,
            said,
            summary: serde_json::from_str(&text.unwrap_or_default()).unwrap_or_default(),
            plan: Value::Null,
            requests: Vec::new(),
            events: Vec::new(),
            resident_bytes_max: self.resident_bytes_max,
            hold: 0..u64::MAX,
        };
        run.read_log(self.dir.path());
        run
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Run {
    /// Starts the program and waits for its end.
    pub fn load(line: &str) -> Self {
        Running::start(line).finish()
    }

    /// How many sessions were opened and lost, and how the calls ended.
    pub fn held(&self) -> String {
        format!(
            "{} sessions opened, {} lost; {}",
            self.sessions(EventKind::Alive).len(),
            self.events(EventKind::SessionLost),
            if self.plan.is_null() { "no log".into() } else { self.ended("call") },
        )
    }

    fn read_log(&mut self, dir: &std::path::Path) {
        let entries = std::fs::read_dir(dir).expect("dir").map(|e| e.expect("entry").path());
        let mut logs = entries.filter(|p| p.extension().is_some_and(|e| e == "latlog"));
        let Some(path) = logs.next() else { return };
        if let Some(kept) = std::env::var_os("CONFORMANCE_LOGS") {
            let kept = std::path::Path::new(&kept).join(path.file_name().expect("a file"));
            std::fs::copy(&path, kept).expect("CONFORMANCE_LOGS names a directory");
        }
        let mut reader = latlog::LogReader::open(&path).expect("a log");
        self.plan = reader.header().plan.clone();
        let (requests, events, hold) = (&mut self.requests, &mut self.events, &mut self.hold);
        for block in reader.blocks() {
            let block = block.expect("readable");
            match block.kind() {
                BlockKind::Requests => requests.extend(block.requests().map(|r| r.expect("sound"))),
                BlockKind::Events => {
                    let worker = block.head().worker;
                    events.extend(block.events().map(|e| (worker, e.expect("sound"))));
                }
                BlockKind::Notes => {
                    for note in block.notes().map(|n| n.expect("sound")) {
                        match (note.name.as_str(), note.text.as_str()) {
                            ("phase", "hold") => hold.start = note.at_ns,
                            ("phase", "cooldown") => hold.end = note.at_ns,
                            _ => {}
                        }
                    }
                }
                BlockKind::Samples | BlockKind::End => {}
            }
        }
        assert!(reader.damage().is_none(), "{}", reader.damage());
    }

    fn op(&self, name: &str) -> u8 {
        let ops = self.plan["ops"].as_array().expect("in the plan");
        ops.iter().position(|op| op["name"] == name).expect("an operation") as u8
    }

    /// How the requests of an operation ended, by reason and detail, in one line.
    pub fn ended(&self, op: &str) -> String {
        self.ended_at(op, None)
    }

    /// The same, of one target.
    pub fn ended_at(&self, op: &str, target: Option<u16>) -> String {
        let op = self.op(op);
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for request in &self.requests {
            if request.op == op && target.is_none_or(|t| t == request.target) {
                let reason = loadgen::summary::reason(request.outcome, request.detail);
                *counts.entry(reason).or_default() += 1;
            }
        }
        let words: Vec<String> = counts.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
        if words.is_empty() { "none".into() } else { words.join(", ") }
    }

    /// Requests of an operation that ended so.
    pub fn requests(&self, op: &str, outcome: Outcome) -> usize {
        let op = self.op(op);
        self.requests.iter().filter(|r| r.op == op && r.outcome == outcome).count()
    }

    /// Events of a kind.
    pub fn events(&self, kind: EventKind) -> usize {
        self.events.iter().filter(|(_, e)| e.kind == kind).count()
    }

    /// Sessions with an event of a kind.
    pub fn sessions(&self, kind: EventKind) -> BTreeSet<(u16, u32)> {
        let of_kind = self.events.iter().filter(|(_, e)| e.kind == kind);
        of_kind.map(|(worker, e)| (*worker, e.session)).collect()
    }

    /// Connections that ended before the cool-down though nobody asked them to.
    pub fn losses(&self) -> usize {
        let held = |(_, e): &&(u16, Event)| e.kind == EventKind::Lost && e.at_ns < self.hold.end;
        self.events.iter().filter(held).count()
    }

    /// What a failed assertion should show.
    pub fn context(&self) -> String {
        let events: BTreeMap<String, usize> =
            self.events.iter().fold(BTreeMap::new(), |mut m, (_, e)| {
                *m.entry(format!("{:?} {} {}", e.kind, e.outcome, e.detail)).or_default() += 1;
                m
            });
        let ops = ["initialize", "initialized", "discover", "delete", "ping", "call", "verify"];
        let ended: Vec<String> = match self.plan.is_null() {
            true => Vec::new(),
            false => ops.iter().map(|op| format!("{op}: {}", self.ended(op))).collect(),
        };
        let examples = &self.summary["examples"];
        format!("exit {:?}\n{}\n{ended:#?}\n{events:#?}\n{examples:#}", self.code, self.said)
    }
}
