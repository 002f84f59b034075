//! The program with each engine, and on a host that refuses io_uring: there with a filter on the
//! system call, as container runtimes set one.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const LOADGEN: &str = env!("CARGO_BIN_EXE_loadgen");

/// Runs its arguments as a command in which io_uring_setup(2) (425 on every architecture) fails
/// with EPERM: a seccomp filter of four instructions, set without privileges.
const REFUSING: &str = r#"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
rows = [(0x20, 0, 0, 0), (0x15, 0, 1, 425), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *row) for row in rows))
class Program(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
program = Program(len(rows), ctypes.addressof(code))
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
assert libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"#;

/// `loadgen` where io_uring is refused; `None`, loudly, where there is no python3 to refuse it.
fn refused() -> Option<Command> {
    let mut command = Command::new("python3");
    if command.arg("--version").output().is_err() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "python3 is needed here");
        eprintln!("SKIPPED: no python3 to set a seccomp filter with");
        return None;
    }
    let mut command = Command::new("python3");
    command.args(["-c", REFUSING, LOADGEN]);
    Some(command)
}

/// A server that answers every request with 200, a thread a connection.
fn server() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listener");
    let address = listener.local_addr().expect("address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut writer = stream.try_clone().expect("clone");
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                    if line.is_empty() && writer.write_all(answer).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

fn load(command: &mut Command, target: SocketAddr, dir: &Path) -> (Output, Value) {
    let json = dir.join("summary.json");
    let output = command
        .args(["-c", "8", "--closed", "--protocol", "http", "-d", "300ms", "--json"])
        .arg(&json)
        .arg("--log")
        .arg(dir)
        .arg(format!("http://{target}/"))
        .output()
        .expect("it starts");
    let text = std::fs::read_to_string(json).unwrap_or_default();
    (output, serde_json::from_str(&text).unwrap_or_default())
}

fn engine_in_log(dir: &Path) -> Value {
    let is_log = |p: &std::path::PathBuf| p.extension().is_some_and(|e| e == "latlog");
    let mut entries = std::fs::read_dir(dir).expect("dir").map(|e| e.expect("entry").path());
    let path = entries.find(is_log).expect("a log");
    latlog::LogReader::open(&path).expect("readable").header().plan["engine"].clone()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn where_io_uring_is_refused_epoll_takes_over_and_says_so() {
    let Some(mut command) = refused() else { return };
    let dir = tempfile::tempdir().expect("dir");
    let (output, summary) = load(&mut command, server(), dir.path());
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(said.matches("going on with epoll").count(), 1, "{said}");
    assert!(said.contains("io_uring_setup: Operation not permitted"), "{said}");
    assert_eq!(summary["generator"]["engine"], "epoll");
    assert!(summary["requests"]["ok"].as_u64() > Some(0), "{summary}");
    assert_eq!(summary["requests"]["failed"], 0, "{summary}");
    assert_eq!(engine_in_log(dir.path()), "epoll");
}

#[test]
fn where_io_uring_is_refused_it_cannot_be_insisted_on() {
    let Some(mut command) = refused() else { return };
    let dir = tempfile::tempdir().expect("dir");
    let (output, _) = load(command.args(["--engine", "uring"]), server(), dir.path());
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("--engine uring: io_uring_setup: Operation not permitted"), "{said}");
    assert!(said.contains("kernel.io_uring_disabled"), "{said}");
}

fn probe(command: &mut Command) -> (Option<i32>, Value) {
    let output = command.arg("--probe").output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    (output.status.code(), serde_json::from_str(text.trim()).expect("one object"))
}

#[test]
fn the_probe_says_what_would_run() {
    if let Some(mut command) = refused() {
        let (code, found) = probe(&mut command);
        assert_eq!((code, &found["engine"]), (Some(0), &Value::from("epoll")), "{found}");
        assert_eq!((&found["io_uring"], &found["ring_table_max"]), (&false.into(), &0.into()));
        assert!(found["error"].as_str().is_some_and(|e| e.contains("io_uring_setup")), "{found}");
        assert_eq!(found["features"]["connect"], false);
        let mut command = refused().expect("as before");
        let (code, found) = probe(command.args(["--engine", "uring"]));
        assert_eq!((code, &found["engine"]), (Some(4), &Value::from("none")), "{found}");
    }
    let (_, found) = probe(&mut Command::new(LOADGEN));
    let dir = tempfile::tempdir().expect("dir");
    let (output, summary) = load(&mut Command::new(LOADGEN), server(), dir.path());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(summary["generator"]["engine"], found["engine"]);
    assert_eq!(engine_in_log(dir.path()), found["engine"]);
}

#[test]
fn epoll_can_be_asked_for_and_needs_no_excuse() {
    let dir = tempfile::tempdir().expect("dir");
    let mut command = Command::new(LOADGEN);
    let (output, summary) = load(command.args(["--engine", "epoll"]), server(), dir.path());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!stderr(&output).contains("going on"), "{}", stderr(&output));
    assert_eq!(summary["generator"]["engine"], "epoll");
    assert!(summary["requests"]["ok"].as_u64() > Some(0), "{summary}");
    assert_eq!(summary["errors"], serde_json::json!({}), "{summary}");
}

#[test]
fn more_connections_than_descriptors_are_refused_with_the_way_out() {
    let target = format!("http://{}/", server());
    let args = ["--engine", "epoll", "-c", "4000000000", "--protocol", "http", &target];
    let output = Command::new(LOADGEN).args(args).output().expect("it starts");
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(4), "{said}");
    for part in ["every connection needs a descriptor: 4000000000 >", "ulimit -n", "io_uring"] {
        assert!(said.contains(part), "{said}");
    }
}
