//! Servers to load and where they come from; the table of what was found. Knows nothing of what a
//! test expects.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::venv;

/// Longest wait for something that has to come.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(20);

/// Where tests keep files: `target/tmp`.
pub fn tmp() -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(&dir).expect("the target directory is writable");
    dir
}

/// Loaded servers that run at a time. They wait more than they work, and each is late where it gets no
/// core.
const PLACES: usize = 3;

static FREE: (Mutex<usize>, Condvar) = (Mutex::new(PLACES), Condvar::new());

/// Places among those of the servers that run; free again with its end.
pub struct Places(usize);

/// Waits for a place to run a server and load it.
pub fn place() -> Places {
    take(1)
}

/// Waits until no other server runs, and keeps it so.
pub fn alone() -> Places {
    take(PLACES)
}

fn take(wanted: usize) -> Places {
    let free = FREE.0.lock().expect("no holder panics");
    let mut free = FREE.1.wait_while(free, |free| *free < wanted).expect("no holder panics");
    *free -= wanted;
    Places(wanted)
}

impl Drop for Places {
    fn drop(&mut self) {
        *FREE.0.lock().expect("no holder panics") += self.0;
        FREE.1.notify_all();
    }
}

/// Checks each of several modes on a thread of its own, as many at a time as there are places.
pub fn each<T: Sync>(modes: &[T], check: impl Fn(&T) + Sync) {
    std::thread::scope(|threads| {
        for mode in modes {
            let check = &check;
            threads.spawn(move || {
                let _place = place();
                check(mode);
            });
        }
    });
}

/// Says that a test does not run, past the capture of its output; not allowed under `CI=true`.
pub fn skip(why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "CI=true and {why}");
    let _ = writeln!(std::io::stderr(), "\nSKIPPED: {why}");
}

/// Waits until there is something.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..PATIENCE.as_millis() / LOOK.as_millis() {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(LOOK);
    }
    panic!("{what}: not within {PATIENCE:?}");
}

/// A server process with the addresses that it said it listens on; ends with its owner.
pub struct Server {
    child: Child,
    urls: Vec<String>,
    lines: Receiver<String>,
}

impl Server {
    /// Starts a server and waits for a line with `mark`, on the stream that it writes it to.
    pub fn start(command: &mut Command, mark: &str, on_stdout: bool) -> Self {
        command.stdin(Stdio::null());
        if on_stdout {
            command.stdout(Stdio::piped());
        } else {
            command.stdout(Stdio::null()).stderr(Stdio::piped());
        }
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let stream: Box<dyn Read + Send> = if on_stdout {
            Box::new(child.stdout.take().expect("piped"))
        } else {
            Box::new(child.stderr.take().expect("piped"))
        };
        let (send, lines) = channel();
        std::thread::spawn(move || {
            // Read to the end, so that the server never waits for its reader.
            BufReader::new(stream).lines().map_while(Result::ok).for_each(|line| {
                let _ = send.send(line);
            });
        });
        let mut server = Self { child, urls: Vec::new(), lines };
        let ready = wait_for("the server's ready line", || {
            let line = server.lines.try_recv().ok();
            let ended = server.child.try_wait().ok().flatten();
            assert!(line.is_some() || ended.is_none(), "{command:?} ended: {ended:?}");
            line.filter(|l| l.contains(mark))
        });
        server.urls = ready.split(' ').filter(|w| w.contains("://")).map(str::to_owned).collect();
        server
    }

    /// The address that contains `part`.
    pub fn url(&self, part: &str) -> &str {
        let url = self.urls.iter().find(|u| u.contains(part));
        url.unwrap_or_else(|| panic!("no {part} among {:?}", self.urls))
    }

    /// What the server answers to a plain GET on the host of its address that contains `part`.
    pub fn get(&self, part: &str, path: &str) -> String {
        let url = self.url(part);
        let authority = url.split('/').nth(2).expect("http://authority/");
        let address: SocketAddr = authority.parse().expect("an address");
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or(answer)
    }

    /// The Python servers' own counts.
    pub fn count(&self) -> Value {
        let body = self.get("http://", "/count");
        let object = body.find('{').and_then(|from| Some(&body[from..=body.rfind('}')?]));
        serde_json::from_str(object.expect("an object")).expect("JSON")
    }

    /// Ends the server in good order, and what it said on the way.
    pub fn terminate(mut self) -> Vec<String> {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it runs");
        self.child.wait().expect("it ends");
        // The reader ends with the stream.
        self.lines.iter().collect()
    }

    /// Ends the server at once.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A binary of this workspace: by environment, or beside the test binary, or of the other profile.
pub fn binary(name: &str, variable: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Some(path.into());
    }
    let own = std::env::current_exe().expect("known");
    let profile = own.parent()?.parent()?;
    let target = profile.parent()?;
    let places = [profile.to_owned(), target.join("debug"), target.join("release")];
    let found = places.iter().map(|place| place.join(name)).find(|path| path.is_file());
    if found.is_none() {
        skip(&format!("no {name} beside this test: build it, or set {variable}"));
    }
    found
}

/// A line of the Python SDK.
#[derive(Clone, Copy)]
pub enum Sdk {
    /// 1.x: sessions era only.
    One,
    /// 2.x: both eras.
    Two,
}

impl Sdk {
    fn requirements(self) -> &'static str {
        match self {
            Sdk::One => "requirements-1.txt",
            Sdk::Two => "requirements-2.txt",
        }
    }

    /// As the table names it.
    pub fn name(self) -> String {
        let text = std::fs::read_to_string(scripts().join(self.requirements())).expect("there");
        let version = text.lines().find_map(|l| l.strip_prefix("mcp==")).expect("pinned");
        format!("Python SDK {version}")
    }

    /// Its echo server with these options; `None`, loudly, where there is no such environment.
    pub fn serve(self, options: &[&str]) -> Option<Server> {
        let python = environment(self.requirements())?;
        let mut command = Command::new(python);
        // Its WebSocket transport warns each time that it is used.
        command.args(["-W", "ignore"]).arg(scripts().join("python_sdk.py")).args(options);
        Some(Server::start(&mut command, "ready ", true))
    }
}

/// One of the small servers that need nothing but python3.
pub fn script(name: &str, options: &[&str]) -> Option<Server> {
    let mut command = Command::new(python3()?);
    command.arg(scripts().join(name)).args(options);
    Some(Server::start(&mut command, "ready ", true))
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers")
}

/// The interpreter, if there is one.
pub fn python3() -> Option<&'static str> {
    venv::interpreter().inspect_err(|why| skip(why)).ok()
}

/// The interpreter of a virtual environment with pinned requirements, made once and then kept.
fn environment(requirements: &str) -> Option<PathBuf> {
    let dir = tmp().join(requirements.replace("requirements", "venv").replace(".txt", ""));
    let made = venv::environment(&scripts().join(requirements), &dir);
    made.inspect_err(|cause| skip(&format!("{requirements} cannot be installed: {cause}"))).ok()
}

/// Adds a row to the table; called before the assertion, so that the table shows what was found.
pub fn row(server: &str, mode: &str, expected: &str, found: &str) {
    static TABLE: Mutex<()> = Mutex::new(());
    let _one_at_a_time = TABLE.lock();
    let line = format!("| {server} | {mode} | {expected} | {found} |");
    let _ = writeln!(std::io::stderr(), "{line}");
    let path = tmp().join("conformance.md");
    let old = std::fs::read_to_string(&path).unwrap_or_default();
    let key = format!("| {server} | {mode} |");
    let mut rows: Vec<&str> =
        old.lines().skip(2).filter(|l| !l.is_empty() && !l.starts_with(&key)).collect();
    rows.push(&line);
    rows.sort_unstable();
    let mut text = String::from("| server | mode | expected | found |\n|---|---|---|---|\n");
    rows.iter().for_each(|row| writeln!(text, "{row}").expect("to memory"));
    std::fs::write(&path, text).expect("writable");
}

/// Adds a row and insists on it.
pub fn insist(server: &str, mode: &str, expected: &str, found: &str, context: &str) {
    row(server, mode, expected, found);
    assert_eq!(found, expected, "{server}, {mode}:\n{context}");
}
