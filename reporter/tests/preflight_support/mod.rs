//! Network namespaces, helper processes and the reporter itself, for the preflight tests. Everything
//! made here is gone when the test process ends, however it ends.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use socket2::{Domain, Socket, Type};

/// The reporter under test.
pub const REPORTER: &str = env!("CARGO_BIN_EXE_reporter");

/// Says why a test does nothing here; where CI=true it may not do nothing.
pub fn skip(reason: &str) {
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "CI=true and this test cannot run: {reason}"
    );
    eprintln!("SKIPPED, NOT TESTED: {reason}");
}

/// Whether namespaces can be made here; says what is missing.
pub fn able(tools: &[&str]) -> bool {
    if !nix::unistd::geteuid().is_root() {
        skip("not root");
        return false;
    }
    for tool in tools {
        let there = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output();
        if !there.is_ok_and(|o| o.status.success()) {
            skip(&format!("{tool} is missing"));
            return false;
        }
    }
    true
}

/// Runs a shell line when this process is gone, even if it was killed, or when this is dropped.
pub struct Guard {
    child: Child,
    line: Option<ChildStdin>,
}

impl Guard {
    /// `command` runs once, when nobody holds the other end of a pipe any more.
    pub fn new(command: &str) -> Guard {
        let script = format!("trap '' INT TERM HUP; read -r _; {command}");
        let mut child = Command::new("setsid")
            .args(["--wait", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("setsid and sh");
        Guard { line: child.stdin.take(), child }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.line.take());
        let _ = self.child.wait();
    }
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A network namespace with a loopback device that is up.
pub struct Namespace {
    name: String,
    _guard: Guard,
}

impl Namespace {
    pub fn new() -> Namespace {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("preflight-{}-{number}", std::process::id());
        // The guard first: there is no moment without one.
        let guard = Guard::new(&format!("ip netns del {name}"));
        let made = Command::new("ip").args(["netns", "add", &name]).status().expect("ip");
        assert!(made.success(), "ip netns add {name}");
        let namespace = Namespace { name, _guard: guard };
        namespace.sh("ip link set lo up");
        namespace
    }

    /// A command inside, with a descriptor limit `soft:hard` where one is given.
    pub fn command(&self, program: &str, limit: Option<&str>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]);
        if let Some(limit) = limit {
            command.args(["prlimit", &format!("--nofile={limit}")]);
        }
        command.arg(program);
        command
    }

    /// A shell line inside; it must succeed.
    pub fn sh(&self, line: &str) -> String {
        let done = self.command("sh", None).args(["-c", line]).output().expect("sh");
        assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    /// Preflight inside: its exit code and its JSON.
    pub fn preflight(&self, arguments: &[&str], limit: Option<&str>) -> (i32, Value) {
        let mut command = self.command(REPORTER, limit);
        let done = command.arg("preflight").args(arguments).arg("--json").output();
        let done = done.expect("reporter");
        let text = String::from_utf8_lossy(&done.stdout);
        let json = serde_json::from_str(&text)
            .unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&done.stderr)));
        (done.status.code().unwrap_or(-1), json)
    }

    /// `reporter preflight` with its plain output.
    pub fn reporter(&self, arguments: &[&str]) -> Output {
        self.command(REPORTER, None).arg("preflight").args(arguments).output().expect("reporter")
    }

    /// A server program inside that is up, until this is dropped.
    pub fn start(&self, program: &Path, arguments: &[&str], limit: Option<&str>) -> Serving {
        let mut command = self.command(&program.to_string_lossy(), limit);
        let child = command.args(arguments).stdin(Stdio::null()).spawn().expect("server");
        let serving = Serving(child);
        for _ in 0..200 {
            std::thread::sleep(Duration::from_millis(50));
            if !self.sh("ss -Hltn 'sport = :8080'").is_empty() {
                return serving;
            }
        }
        panic!("{} does not listen", program.display());
    }

    /// The generator inside, on its way to `connections`, whatever the plan says.
    pub fn load(&self, loadgen: &Path, connections: u64, ramp: &str) -> Serving {
        let child = self
            .command(&loadgen.to_string_lossy(), None)
            .args(["-c", &connections.to_string(), "--force", "--ramp", ramp])
            .args(["-d", "60s", "--timeout", "3s", "--protocol", "http"])
            .arg("http://127.0.0.1:8080/health")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("loadgen");
        Serving(child)
    }

    /// Connections to port 8080 that are established at their client's end.
    pub fn established(&self) -> u64 {
        let text = self.sh("ss -Htn state established 'dport = :8080' | wc -l");
        text.trim().parse().expect("a number")
    }

    /// Connections that wait to be accepted at port 8080.
    pub fn queued(&self) -> u64 {
        let text = self.sh("ss -Hltn 'sport = :8080'");
        text.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a listener")
    }

    /// This test's executable inside, as a helper.
    pub fn helper(&self, task: &str, limit: Option<&str>) -> Helper {
        let me = std::env::current_exe().expect("own path");
        let mut command = self.command(&me.to_string_lossy(), limit);
        command.args(["--exact", "helper", "--ignored", "--nocapture"]).env(TASK, task);
        Helper::start(command)
    }
}

/// A process that is ended and reaped with this.
pub struct Serving(Child);

impl Serving {
    /// Its pid: `ip netns exec` and prlimit replace themselves.
    pub fn pid(&self) -> i32 {
        self.0.id() as i32
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An item of preflight.json.
pub fn item<'a>(report: &'a Value, id: &str) -> &'a Value {
    let items = report["items"].as_array().expect("items");
    items.iter().find(|i| i["id"] == id).unwrap_or_else(|| panic!("no item {id}"))
}

/// Whether two counts are within 2 % of each other.
pub fn close(actual: u64, predicted: u64) -> bool {
    actual.abs_diff(predicted) * 50 <= predicted
}

/// A program built beside the reporter; says what is missing.
pub fn beside(name: &str) -> Option<PathBuf> {
    let path = Path::new(REPORTER).parent()?.join(name);
    if path.is_file() {
        return Some(path);
    }
    skip(&format!("{} is not built: the part with it is left out", path.display()));
    None
}

/// A count that has stopped changing.
pub fn settle(mut count: impl FnMut() -> u64) -> u64 {
    let mut last = 0;
    let mut same = 0;
    for _ in 0..200 {
        let next = count();
        same = if next == last && next > 0 { same + 1 } else { 0 };
        if same == 4 {
            return next;
        }
        last = next;
        std::thread::sleep(Duration::from_millis(150));
    }
    last
}

const TASK: &str = "PREFLIGHT_TEST_TASK";
const MARK: &str = "@@";

/// A helper process that answers lines with lines, and ends when its input does.
pub struct Helper {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Helper {
    fn start(mut command: Command) -> Helper {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("helper");
        let to = child.stdin.take();
        let from = BufReader::new(child.stdout.take().expect("piped"));
        Helper { child, to, from }
    }

    /// The next answer.
    pub fn answer(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            let read = self.from.read_line(&mut line).expect("helper's output");
            assert!(read > 0, "the helper ended");
            // libtest prints its own text before the first answer, on the same line.
            if let Some((_, answer)) = line.split_once(MARK) {
                return answer.trim().to_owned();
            }
        }
    }

    /// Asks for a number.
    pub fn count(&mut self) -> u64 {
        writeln!(self.to.as_mut().expect("open"), "count").expect("helper's input");
        self.answer().parse().expect("a number")
    }

    /// `ip netns exec` and prlimit replace themselves: the helper's own process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.to.take());
        let _ = self.child.wait();
    }
}

/// The helper's main: does what the environment says.
pub fn helper_main() {
    let task = std::env::var(TASK).expect("started by a test");
    let words: Vec<&str> = task.split_whitespace().collect();
    match words[..] {
        ["serve", address] => serve(address, true),
        ["stall", address] => serve(address, false),
        ["connect", address, count, wait_ms] => connect(
            address.parse().expect("address"),
            count.parse().expect("count"),
            Duration::from_millis(wait_ms.parse().expect("ms")),
        ),
        _ => panic!("no such task: {task}"),
    }
}

fn say(text: &str) {
    println!("{MARK}{text}");
}

fn serve(address: &str, accepts: bool) {
    let address: SocketAddr = address.parse().expect("address");
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("socket");
    socket.set_reuse_address(true).expect("option");
    socket.bind(&address.into()).expect("bind");
    socket.listen(65_535).expect("listen");
    let listener: TcpListener = socket.into();
    static ACCEPTED: AtomicU64 = AtomicU64::new(0);
    if accepts {
        std::thread::spawn(move || accept_all(&listener, &ACCEPTED));
    } else {
        std::mem::forget(listener);
    }
    say("ready");
    for _ in std::io::stdin().lines() {
        say(&ACCEPTED.load(Ordering::Relaxed).to_string());
    }
    std::process::exit(0);
}

fn accept_all(listener: &TcpListener, accepted: &AtomicU64) {
    let mut held = Vec::new();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                held.push(stream);
                accepted.fetch_add(1, Ordering::Relaxed);
            }
            // No descriptor left: connections wait in the queue until the limit is raised.
            Err(e) if e.kind() != ErrorKind::Interrupted => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(_) => {}
        }
    }
}

/// Opens connections one by one until the first that fails, and holds them.
fn connect(to: SocketAddr, count: usize, wait: Duration) {
    let mut held = Vec::with_capacity(count);
    let mut error = "none".to_owned();
    while held.len() < count {
        match TcpStream::connect_timeout(&to, wait) {
            Ok(stream) => {
                // Reset at the end: no TIME_WAIT is left to hold a port.
                let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                held.push(stream);
            }
            Err(e) => {
                error = format!("{:?}", e.kind());
                break;
            }
        }
    }
    say(&format!("{} {error}", held.len()));
    for _ in std::io::stdin().lines() {}
    std::process::exit(0);
}

/// Opens `count` connections from a helper: how many opened, and the error that ended it.
pub fn open(namespace: &Namespace, to: &str, count: u64, wait_ms: u64) -> (u64, String, Helper) {
    let mut helper = namespace.helper(&format!("connect {to} {count} {wait_ms}"), None);
    let answer = helper.answer();
    let (opened, error) = answer.split_once(' ').expect("two words");
    (opened.parse().expect("a number"), error.to_owned(), helper)
}
