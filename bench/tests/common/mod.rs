//! A running fast target and a plain blocking client: `std` sockets, nothing shared with either
//! side's implementation.
#![allow(dead_code)] // Each test binary uses its own part.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// A test that waits this long has failed: nothing here is meant to take seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether this host can run the target. Says so loudly where it cannot; under CI it must.
pub fn has_io_uring() -> bool {
    match bench::net::probe() {
        Ok(()) => true,
        Err(error) => {
            let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
            assert!(!in_ci, "this host gives no io_uring ({error}), and CI=true forbids skipping");
            eprintln!("SKIPPED: this host gives no io_uring ({error}): NOTHING WAS TESTED");
            false
        }
    }
}

/// Leaves the test where the host has no io_uring.
#[macro_export]
macro_rules! need_io_uring {
    () => {
        if !common::has_io_uring() {
            return;
        }
    };
}

/// A target that runs until it is dropped or stopped.
pub struct Target {
    process: Child,
    stdout: BufReader<ChildStdout>,
    /// Where it listens, in the order HTTP, TCP.
    pub addresses: Vec<SocketAddr>,
}

impl Target {
    /// HTTP on a port that the kernel chooses.
    pub fn http(arguments: &[&str]) -> Self {
        Self::start(&[&["--listen=127.0.0.1:0"], arguments].concat())
    }

    /// JSON-RPC lines on a port that the kernel chooses.
    pub fn lines(arguments: &[&str]) -> Self {
        Self::start(&[&["--tcp=127.0.0.1:0"], arguments].concat())
    }

    /// Whatever the arguments say.
    pub fn start(arguments: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_fast-target"))
            .args(arguments)
            .arg("--json-stats")
            .stdout(Stdio::piped())
            .spawn()
            .expect("starting the target");
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let words = line.strip_prefix("ready").unwrap_or_else(|| panic!("not ready: {line:?}"));
        let address = |word: &str| word.split_once("://").unwrap().1.parse().unwrap();
        let addresses = words.split_whitespace().map(address).collect();
        Self { process, stdout, addresses }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.addresses[0])
    }

    /// Ends it as an operator would and returns its counters.
    pub fn stop(mut self) -> Value {
        let pid = nix::unistd::Pid::from_raw(self.process.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let mut said = String::new();
        self.stdout.read_to_string(&mut said).unwrap();
        assert!(self.process.wait().unwrap().success());
        serde_json::from_str(said.trim()).expect(&said)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Already gone after `stop`; a failed test ends it here.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The JSON of the body, or of the only event in it.
    pub fn json(&self) -> Value {
        let text = match self.header("content-type") {
            Some("text/event-stream") => {
                self.text().lines().find_map(|line| line.strip_prefix("data: ")).unwrap()
            }
            _ => self.text(),
        };
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
    }
}

/// One blocking connection.
pub struct Client {
    pub socket: BufReader<TcpStream>,
    pub session: Option<String>,
}

impl Client {
    pub fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { socket: BufReader::new(stream), session: None }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// Says that nothing follows.
    pub fn finish(&mut self) {
        self.socket.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
    }

    pub fn line(&mut self) -> Value {
        let mut line = String::new();
        self.socket.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    /// What one read from the socket gives.
    pub fn piece(&mut self) -> Vec<u8> {
        let mut piece = vec![0; 4096];
        loop {
            match self.socket.get_mut().read(&mut piece) {
                // A read with a timeout is not restarted when a ring's teardown interrupts it.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => {
                    piece.truncate(result.unwrap());
                    return piece;
                }
            }
        }
    }

    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.socket.read_to_end(&mut rest).unwrap();
        rest
    }

    /// A request without a body.
    pub fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        self.answer()
    }

    pub fn post_bytes(&self, body: &str, headers: &str) -> String {
        let session = match &self.session {
            Some(id) => format!("Mcp-Session-Id: {id}\r\n"),
            None => String::new(),
        };
        format!(
            "POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\n{session}{headers}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    pub fn post(&mut self, body: &str) -> Answer {
        self.send(self.post_bytes(body, ""));
        self.answer()
    }

    pub fn call(&mut self, id: &str, method: &str) -> Answer {
        self.post(&request(id, method))
    }

    /// Initializes a session and remembers it.
    pub fn initialize(&mut self) -> Answer {
        let body = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
        let answer = self.post(body);
        self.session = answer.header("mcp-session-id").map(str::to_owned);
        answer
    }

    pub fn head(&mut self) -> (u16, String) {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.socket.read_line(&mut head).unwrap(), 0, "the end, after {head:?}");
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head)
    }

    pub fn answer(&mut self) -> Answer {
        let (status, head) = self.head();
        let mut answer = Answer { status, head, body: Vec::new() };
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let chunk = self.chunk();
                if chunk.is_empty() {
                    return answer;
                }
                answer.body.extend(chunk);
            }
        }
        let length = answer.header("content-length").unwrap().parse().unwrap();
        answer.body.resize(length, 0);
        self.socket.read_exact(&mut answer.body).unwrap();
        answer
    }

    /// The next chunk; empty at the end.
    pub fn chunk(&mut self) -> Vec<u8> {
        let mut size = String::new();
        self.socket.read_line(&mut size).unwrap();
        let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        self.socket.read_exact(&mut chunk).unwrap();
        assert_eq!(chunk.split_off(size), b"\r\n");
        chunk
    }
}

/// A JSON-RPC request without a line end.
pub fn request(id: &str, method: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{"id":"decoy"}}}}"#)
}
