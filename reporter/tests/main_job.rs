//! The main job with the real generator and real servers: what passes, what fails, and what is not
//! to be believed. Slow by nature (minutes), and one at a time, since local replicas have fixed
//! addresses.

#[path = "../../live/tests/support/pty.rs"]
mod pty;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;

use nix::sys::signal::Signal;
use serde_json::Value;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A program of another package, built beside this test.
fn sibling(name: &str) -> Option<PathBuf> {
    let own = PathBuf::from(env!("CARGO_BIN_EXE_reporter"));
    let path = own.parent().expect("a binary lies in a folder").join(name);
    if path.exists() {
        return Some(path);
    }
    let reason = format!("{name} is not built: run `cargo build --workspace` first");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "CI=true and {reason}");
    eprintln!("SKIPPED, NOT TESTED: {reason}");
    None
}

/// A fast target on a port of its own.
struct FastTarget {
    child: Child,
    url: String,
}

impl FastTarget {
    fn start(program: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(["--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the fast target starts");
        let mut line = String::new();
        let output = child.stdout.take().expect("its output is a pipe");
        BufReader::new(output).read_line(&mut line).expect("it says where it listens");
        let address = line.split_whitespace().nth(1).expect("ready <address>");
        let url = format!("{}/mcp", address.trim_end_matches('/'));
        Self { child, url }
    }
}

impl Drop for FastTarget {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the reporter; its output and its results.
fn run(out: &Path, arguments: &[&str], loadgen: Option<&Path>) -> (Output, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reporter"));
    command.args(["run", "--force", "--out"]).arg(out).args(arguments).stdin(Stdio::null());
    if let Some(program) = loadgen {
        command.env("LOADGEN", program);
    }
    let output = command.output().expect("the reporter runs");
    let shown = format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let folder = std::fs::read_dir(out)
        .expect("the out folder")
        .map(|e| e.expect("an entry").path())
        .find(|p| p.is_dir())
        .unwrap_or_else(|| panic!("no results folder:\n{shown}"));
    let text = std::fs::read_to_string(folder.join("results.json"))
        .unwrap_or_else(|e| panic!("no results.json ({e}):\n{shown}"));
    for name in ["FINAL_REPORT.md", "FINAL_REPORT.html", "results.txt", "charts/timeline.svg"] {
        assert!(folder.join(name).exists(), "{name} is missing:\n{shown}");
    }
    (output, serde_json::from_str(&text).expect("results.json is JSON"))
}

fn threshold<'a>(results: &'a Value, name: &str) -> &'a Value {
    let all = results["thresholds"].as_array().expect("thresholds");
    all.iter().find(|t| t["name"] == name).unwrap_or_else(|| panic!("no threshold {name}"))
}

#[test]
fn replicas_die_and_come_back_and_the_report_says_so() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    if sibling("loadgen").is_none() || sibling("erlmcp-server").is_none() {
        return;
    }
    let out = tempfile::tempdir().expect("a folder");
    // Busy test hosts are slow: what is asserted is what happened, not how fast.
    let slack = ["--threshold", "p99<60s", "--threshold", "avg<60s", "--threshold"];
    let arguments = [&slack[..], &["throughput>1/s", "-c", "300", "--replicas", "3"]].concat();
    let (output, results) = run(out.path(), &arguments, None);
    assert_eq!(results["verdict"], "PASS", "{results:#}");
    assert!(matches!(output.status.code(), Some(0 | 3)), "{:?}", output.status);
    let stress = &results["stages"].as_array().expect("stages")[1];
    assert_eq!(stress["connections"]["session_alive_peak"], 300);
    assert!(results["failover"]["recovery_ns"].as_u64().is_some_and(|ns| ns > 0));
    let scaled: Vec<_> = results["scaling"]
        .as_array()
        .expect("scaling")
        .iter()
        .map(|s| (s["from"].as_u64(), s["to"].as_u64(), s["converged_ns"].is_u64()))
        .collect();
    assert_eq!(scaled, [(Some(3), Some(4), true), (Some(4), Some(2), true)]);
}

#[test]
fn a_server_that_is_too_slow_fails_and_the_threshold_is_named() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    let (Some(_), Some(target)) = (sibling("loadgen"), sibling("fast-target")) else { return };
    let out = tempfile::tempdir().expect("a folder");
    let target = FastTarget::start(&target, &["--delay", "700ms"]);
    let arguments = ["-c", "100", "--rate", "120", "--server", &target.url];
    let (output, results) = run(out.path(), &arguments, None);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(results["verdict"], "FAIL");
    assert_eq!(threshold(&results, "p99")["pass"], false);
    assert_eq!(threshold(&results, "avg")["pass"], false);
    let p99_ns = results["stages"][1]["response_ns"]["p99"].as_u64().expect("a p99");
    assert!(p99_ns >= 700_000_000, "the ordered delay shows: {p99_ns}");
}

#[test]
fn a_generator_deprived_of_cpu_makes_the_run_invalid() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    let (Some(loadgen), Some(target)) = (sibling("loadgen"), sibling("fast-target")) else {
        return;
    };
    let out = tempfile::tempdir().expect("a folder");
    let tools = tempfile::tempdir().expect("a folder");
    let starved = tools.path().join("loadgen");
    // Stopped for most of the time, as on a host whose cores others have.
    let script = format!(
        "#!/bin/sh\nexec 3<&0\n{:?} \"$@\" <&3 &\npid=$!\n\
         trap 'kill -CONT $pid; kill -INT $pid' INT TERM\n\
         while kill -0 $pid 2>/dev/null; do\n  sleep 0.1; kill -STOP $pid 2>/dev/null\n  \
         sleep 0.4; kill -CONT $pid 2>/dev/null\ndone\nwait $pid\n",
        loadgen
    );
    std::fs::write(&starved, script).expect("a script");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&starved, mode).expect("executable");
    let target = FastTarget::start(&target, &[]);
    let arguments = ["-c", "100", "--rate", "500", "--server", &target.url];
    let (output, results) = run(out.path(), &arguments, Some(&starved));
    assert_eq!(results["valid"], false, "{:#}", results["stages"][1]["slip_ns"]);
    let because = results["invalid_because"].to_string();
    assert!(because.contains("slip"), "{because}");
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_terminal_comes_back_on_every_signal() {
    let (Some(target), Some(loadgen)) = (sibling("fast-target"), sibling("loadgen")) else {
        return;
    };
    let _alone = ONE_AT_A_TIME.lock();
    let target = FastTarget::start(&target, &[]);
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let out = tempfile::tempdir().expect("a folder");
        let pty = pty::Pty::open();
        let mut reporter = Command::new(env!("CARGO_BIN_EXE_reporter"));
        reporter.args(["run", "--tui", "--force", "-c", "50", "--server", &target.url, "--out"]);
        let mut reporter = pty.spawn(reporter.arg(out.path()).env("LOADGEN", &loadgen));
        pty.wait_until_taken();
        pty.wait_for("▶");
        reporter.signal(signal);
        let ended = reporter.wait();
        let said = pty.given_back();
        assert_eq!(ended.code(), Some(130), "{signal}: {said}");
        assert!(said.contains("interrupted"), "{signal}: its last words can be read: {said}");
    }
}
