//! The binary over loopback: exact counts, and runs that go wrong while they last.

mod support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use latlog::{BlockKind, LogReader, Outcome, Request};
use loadgen::clock::{Clock, Monotonic};
use nix::sys::signal::Signal;
use serde_json::Value;
use support::generator::{Place, command, end, run, signal, wait_until};
use support::server::{Kind, Server};

/// Environment variable that makes [`serve_as_a_child`] a server.
const SERVE: &str = "LOADGEN_TEST_SERVES";

/// A server in a process of its own, killed with the test.
struct Target {
    child: Child,
    url: String,
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Target {
    fn start(command: &mut Command, ready: impl Fn(&str) -> Option<String>) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut lines = stdout.lines().map_while(Result::ok);
        let url = lines.find_map(|line| ready(&line)).expect("the server gets ready");
        // Its further output goes nowhere, and does not break it.
        std::thread::spawn(move || lines.count());
        Self { child, url }
    }

    /// This file's own server, in a process that can be stopped.
    fn own() -> Self {
        let program = std::env::current_exe().expect("this test has a path");
        let mut command = Command::new(program);
        command.args(["--exact", "serve_as_a_child", "--nocapture"]).env(SERVE, "1");
        Self::start(&mut command, |line| {
            line.split_once("serving ").map(|(_, url)| url.trim().to_owned())
        })
    }

    /// The fast target, where it has been built: in FAST_TARGET, or beside the generator.
    fn fast(options: &[&str]) -> Option<Self> {
        let beside = Path::new(env!("CARGO_BIN_EXE_loadgen")).with_file_name("fast-target");
        let program = std::env::var_os("FAST_TARGET").map_or(beside, PathBuf::from);
        if !program.is_file() {
            let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(!ci, "{} is missing: build it first (-p bench)", program.display());
            eprintln!("SKIPPED: {} is missing: build it with -p bench", program.display());
            return None;
        }
        let mut command = Command::new(program);
        command.args(["--listen", "127.0.0.1:0"]).args(options);
        Some(Self::start(&mut command, |line| {
            let url = line.strip_prefix("ready")?.split_whitespace().next()?;
            Some(if url.contains("/mcp") { url.to_owned() } else { format!("{url}/mcp") })
        }))
    }
}

/// No test by itself: the server of [`Target::own`].
#[test]
fn serve_as_a_child() {
    if std::env::var_os(SERVE).is_none() {
        return;
    }
    println!("serving {}", Server::start(Kind::Mcp).url());
    loop {
        std::thread::park();
    }
}

/// All requests of a log, and whether it is whole.
fn read_log(path: &Path) -> (Vec<Request>, bool) {
    let mut reader = LogReader::open(path).expect("the log opens");
    let mut requests = Vec::new();
    for block in reader.blocks() {
        let block = block.expect("the file can be read");
        if block.head().kind == BlockKind::Requests {
            block.read_requests(&mut requests).expect("sound blocks decode");
        }
    }
    assert_eq!(reader.damage().bad_blocks, 0);
    (requests, reader.damage().is_none())
}

/// Number of the operation `call` in the log.
fn calls(path: &Path, requests: &[Request]) -> usize {
    let plan = LogReader::open(path).expect("the log opens").header().plan.clone();
    let ops = plan["ops"].as_array().expect("the operations");
    let call = ops.iter().position(|op| op["name"] == "call").expect("there is a call");
    requests.iter().filter(|r| usize::from(r.op) == call).count()
}

fn count(summary: &Value, name: &str) -> u64 {
    summary["requests"][name].as_u64().unwrap_or_else(|| panic!("{name} in {summary}"))
}

/// A run of 1,000 requests, all of which are answered, whatever the sessions are; its summary.
fn thousand(place: &Place, sessions: &[&str], url: &str) -> serde_json::Value {
    let (dir, json) = (place.path().to_owned(), place.json());
    let (dir, json) = (dir.to_str().expect("a path"), json.to_str().expect("a path"));
    let all = ["-r500", "-d2s", "--log", dir, "--json", json, url];
    let ended = run(&[sessions, &all].concat());
    assert_eq!(ended.code, Some(0), "{ended}");
    let summary = place.summary();
    assert_eq!(count(&summary, "offered"), 1_000, "{ended}");
    assert_eq!(count(&summary, "ok"), 1_000, "{ended}");
    assert_eq!(count(&summary, "failed") + count(&summary, "dropped"), 0, "{ended}");
    let (requests, whole) = read_log(&place.log());
    assert!(whole);
    assert!(requests.iter().all(|r| r.outcome == Outcome::Ok));
    assert_eq!(calls(&place.log(), &requests), 1_000);
    summary
}

fn whole_run(url: &str) -> Place {
    let place = Place::new();
    let summary = thousand(&place, &["-c200", "--ramp=2000"], url);
    assert_eq!(summary["connections"]["tcp_open_peak"], 200);
    assert_eq!(summary["connections"]["session_alive_peak"], 200);
    place
}

#[test]
fn two_hundred_sessions_count_exactly() {
    let server = Server::start(Kind::Mcp);
    whole_run(&server.url());
    let counts = &server.counts;
    let get = |n: &std::sync::atomic::AtomicU64| n.load(std::sync::atomic::Ordering::Relaxed);
    // Beside the load, the server was asked what it is: once more a call, and some sessions.
    assert_eq!(get(&counts.calls), 1_001);
    assert!(get(&counts.opened) == 201, "{counts:?}");
    assert_eq!(get(&counts.deleted), get(&counts.opened), "no session is left behind");
}

#[test]
fn more_sessions_than_connections_count_exactly() {
    for (kind, lost) in [(Kind::Mcp, false), (Kind::Restless, true)] {
        let server = Server::start(kind);
        let place = Place::new();
        let sessions = ["-c10", "--sessions=300", "--ramp=1000", "--heartbeat=5s"];
        let summary = thousand(&place, &sessions, &server.url());
        let held = &summary["connections"];
        assert_eq!((&held["planned"], &held["sessions_planned"]), (&10.into(), &300.into()));
        assert_eq!(held["tcp_open_peak"], 10, "{held}");
        assert_eq!(held["session_alive_peak"], 300, "{held}");
        assert_eq!(held["stream_open_peak"], 0, "{held}");
        let counts = &server.counts;
        let get = |n: &std::sync::atomic::AtomicU64| n.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(get(&counts.calls), 1_001, "{kind:?}: the load, and what was asked before it");
        assert!(get(&counts.opened) == 301, "{kind:?}: {counts:?}");
        assert_eq!(get(&counts.deleted), get(&counts.opened), "{kind:?}: none is left behind");
        let connections = get(&counts.connections);
        assert_eq!(connections > 30, lost, "{kind:?}: over {connections} connections");
    }
}

/// The generator's command in a mount namespace where `hosts` is /etc/hosts; `None` where that is not
/// allowed.
fn with_hosts(hosts: &Path, arguments: &[&str]) -> Option<Command> {
    if !nix::unistd::geteuid().is_root() {
        let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!ci, "a mount namespace needs root");
        eprintln!("SKIPPED: a mount namespace needs root");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", r#"mount --bind "$0" /etc/hosts && exec "$@""#]);
    command.arg(hosts).arg(env!("CARGO_BIN_EXE_loadgen")).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Some(command)
}

#[test]
fn a_name_is_followed_while_the_run_lasts() {
    let first = Server::start(Kind::Mcp);
    let beside = |host| {
        let address = format!("127.0.0.{host}:{}", first.address.port());
        Server::start_at(Kind::Mcp, address.parse().expect("an address"))
    };
    let (second, third) = (beside(2), beside(3));
    let place = Place::new();
    let hosts = place.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 mcp.test\n127.0.0.2 mcp.test\n").expect("a file");
    let url = format!("http://mcp.test:{}/mcp", first.address.port());
    let json = place.json();
    let arguments = ["-c30", "-r200", "-d0", "--control", "--resolve-every=200ms", "--json"];
    let arguments = [&arguments[..], &[json.to_str().expect("a path"), &url]].concat();
    let Some(mut command) = with_hosts(&hosts, &arguments) else { return };
    let mut generator = command.spawn().expect("it starts");
    let stdout = BufReader::new(generator.stdout.take().expect("stdout is piped"));
    let mut lines = stdout.lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("\"phase\":\"hold\"")), "the hold is reached");
    let rest = std::thread::spawn(move || lines.count());
    let get = |n: &std::sync::atomic::AtomicU64| n.load(std::sync::atomic::Ordering::Relaxed);
    assert!(get(&first.counts.calls) > 10 && get(&second.counts.calls) > 10, "both are loaded");
    assert_eq!(get(&third.counts.opened), 0);
    // The first vanishes, and a third joins.
    std::fs::write(&hosts, "127.0.0.2 mcp.test\n127.0.0.3 mcp.test\n").expect("a file");
    wait_until("the third is loaded and the first is left", || {
        let left = get(&first.counts.deleted) + 3 >= get(&first.counts.opened);
        left && get(&third.counts.calls) > 100
    });
    let stdin = generator.stdin.as_mut().expect("stdin is piped");
    std::io::Write::write_all(stdin, b"{\"cmd\":\"end\"}\n").expect("it reads");
    let ended = end(generator);
    rest.join().expect("it reads to the end");
    assert_eq!(ended.code, Some(0), "{ended}");
    let summary = place.summary();
    assert_eq!(count(&summary, "offered"), count(&summary, "ok"), "none is lost: {ended}");
    let all = [&first, &second, &third].map(|server| &server.counts);
    // Each was asked once what it is, with a call.
    let calls: u64 = all.iter().map(|counts| get(&counts.calls)).sum();
    assert_eq!(calls, count(&summary, "ok") + 3);
    for (at, counts) in all.iter().enumerate() {
        assert_eq!(get(&counts.deleted), get(&counts.opened), "sessions are left at {at}");
    }
    // All 30 were opened there, and half of them moved on to the third, or more.
    assert!(get(&all[2].opened) >= 15, "{:?}", all[2]);
}

#[test]
fn sockets_in_the_file_system_count_exactly() {
    let place = Place::new();
    let get = |n: &std::sync::atomic::AtomicU64| n.load(std::sync::atomic::Ordering::Relaxed);
    for engine in ["auto", "epoll"] {
        for (kind, scheme, path) in [(Kind::Mcp, "http+unix", ":/mcp"), (Kind::Lines, "unix", "")] {
            let socket = place.path().join(format!("{engine}-{scheme}.sock"));
            let counts = Server::start_socket(kind, &socket);
            let url = format!("{scheme}:{}{path}", socket.display());
            let json = place.json();
            let json = json.to_str().expect("a path");
            let ended = run(&["-c50", "-r400", "-d1s", "--json", json, "--engine", engine, &url]);
            assert_eq!(ended.code, Some(0), "{url}: {ended}");
            let summary = place.summary();
            assert_eq!(count(&summary, "offered"), 400, "{url}: {ended}");
            assert_eq!(count(&summary, "ok"), 400, "{url}: {ended}");
            assert_eq!(summary["connections"]["tcp_open_peak"], 50, "{url}");
            assert_eq!(summary["connections"]["session_alive_peak"], 50, "{url}");
            assert_eq!(get(&counts.calls), 401, "{url}");
            if kind == Kind::Mcp {
                assert_eq!(get(&counts.deleted), get(&counts.opened), "{url}");
            }
        }
    }
    let nobody = format!("unix:{}", place.path().join("nobody.sock").display());
    run(&["-c1", "-d1s", &nobody]).refused(2, &["there is no socket", "nobody.sock"]);
}

#[test]
fn several_requests_in_flight_are_told_apart_by_their_ids() {
    let server = Server::start(Kind::Backwards);
    let place = Place::new();
    let (dir, json) = (place.path().to_owned(), place.json());
    let ended = run(&[
        "-c4",
        "--in-flight=8",
        "-r400",
        "-d1s",
        "--log",
        dir.to_str().expect("a path"),
        "--json",
        json.to_str().expect("a path"),
        &format!("tcp://{}", server.address),
    ]);
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(ended.stdout.contains("up to 8 in flight"), "{ended}");
    let summary = place.summary();
    assert_eq!(summary["requests"]["in_flight_per_session"], 8);
    assert_eq!((count(&summary, "offered"), count(&summary, "ok")), (400, 400), "{ended}");
    assert_eq!(summary["from_server"]["unsolicited"], 0, "{ended}");
    let get = |n: &std::sync::atomic::AtomicU64| n.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(get(&server.counts.calls), 401);
    let most = get(&server.counts.pending_max);
    assert!((2..=8).contains(&most), "{most} waited on one connection at most");
    let (requests, whole) = read_log(&place.log());
    assert!(whole && calls(&place.log(), &requests) == 400);
}

#[test]
fn the_fast_target_counts_the_same() {
    let Some(target) = Target::fast(&[]) else { return };
    whole_run(&target.url);
    let Some(target) = Target::fast(&["--sse", "--short-writes=40"]) else { return };
    whole_run(&target.url);
}

#[test]
fn a_stopped_server_shows_as_its_users_would_see_it() {
    let target = Target::own();
    let place = Place::new();
    let json = place.json();
    let json = json.to_str().expect("a path");
    let dir = place.path().to_str().expect("a path").to_owned();
    let arguments =
        ["-c20", "-r200", "-d6s", "--log", &dir, "--json", json, "--control", &target.url];
    let mut generator = command(&arguments).spawn().expect("it starts");
    let stdout = BufReader::new(generator.stdout.take().expect("stdout is piped"));
    let mut lines = stdout.lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("\"phase\":\"hold\"")), "the hold is reached");
    let rest = std::thread::spawn(move || lines.count());
    signal(&target.child, Signal::SIGSTOP);
    let stopped_ns = Monotonic.now_ns();
    std::thread::sleep(std::time::Duration::from_secs(2));
    let resumed_ns = Monotonic.now_ns();
    signal(&target.child, Signal::SIGCONT);
    let ended = end(generator);
    rest.join().expect("it reads to the end");
    assert_eq!(ended.code, Some(0), "{ended}");
    let summary = place.summary();
    assert_eq!(count(&summary, "offered"), 1_200);
    assert_eq!(count(&summary, "sent") + count(&summary, "dropped"), 1_200);
    let at = |name: &str| summary["response_ns"][name].as_u64().expect("a time");
    // Whatever was due while nobody answered waited for the end of that, each as long as was left.
    let (requests, whole) = read_log(&place.log());
    assert!(whole, "the log is whole");
    // What was sent just before may have been answered and not yet read.
    let frozen = stopped_ns + 50_000_000..resumed_ns;
    let waited: Vec<&Request> =
        requests.iter().filter(|r| frozen.contains(&r.intended_ns)).collect();
    assert!(waited.len() as u64 >= (frozen.end - frozen.start) / 5_000_000 - 1, "all were due");
    assert!(waited.iter().all(|r| r.done_ns >= resumed_ns), "{waited:?}");
    let frozen_ns = resumed_ns - stopped_ns;
    assert!(at("max") >= frozen_ns * 98 / 100 - 5_000_000, "{summary}");
    assert!(at("max") < frozen_ns + 2_000_000_000, "{summary}");
    // A third of all requests fell into the 2 s: the slowest twentieth waited for most of them.
    assert!(at("p95") >= 1_500_000_000, "{summary}");
}

#[test]
fn a_killed_generator_leaves_a_log_without_its_last_blocks() {
    let server = Server::start(Kind::Mcp);
    let place = Place::new();
    let dir = place.path().to_str().expect("a path");
    let mut generator =
        command(&["-c10", "-r200", "-d60s", "--log", dir, &server.url()]).spawn().expect("starts");
    wait_until("requests in the log", || {
        let logs = std::fs::read_dir(place.path()).expect("it can be read").flatten();
        logs.filter_map(|file| LogReader::open(file.path()).ok())
            .any(|mut log| log.blocks().flatten().any(|b| b.head().kind == BlockKind::Requests))
    });
    generator.kill().expect("it runs");
    generator.wait().expect("it has ended");
    let (requests, whole) = read_log(&place.log());
    assert!(!whole, "it says that its end is missing");
    assert!(!requests.is_empty());
}

#[test]
fn an_interrupted_run_keeps_its_results() {
    let server = Server::start(Kind::Mcp);
    let place = Place::new();
    let (dir, json) = (place.path().to_owned(), place.json());
    let arguments = [
        "-c10",
        "-r200",
        "-d0",
        "--log",
        dir.to_str().expect("a path"),
        "--json",
        json.to_str().expect("a path"),
        &server.url(),
    ];
    let generator = command(&arguments).spawn().expect("it starts");
    wait_until("calls at the server", || {
        server.counts.calls.load(std::sync::atomic::Ordering::Relaxed) > 100
    });
    signal(&generator, Signal::SIGINT);
    let ended = end(generator);
    assert_eq!(ended.code, Some(130), "{ended}");
    let summary = place.summary();
    assert!(count(&summary, "ok") > 50, "{summary}");
    assert_eq!(count(&summary, "offered"), count(&summary, "ok"), "{summary}");
    let (requests, whole) = read_log(&place.log());
    assert!(whole);
    assert_eq!(calls(&place.log(), &requests) as u64, count(&summary, "offered"));
    assert!(ended.stdout.contains("FINAL TEST REPORT"), "{ended}");
}

/// Runs with a log that cannot grow: exit code 3, the cause in words, and results all the same.
fn run_out_of_room(mut command: Command, place: &Place, cause: &str) {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ended = end(child.spawn().expect("it starts"));
    ended.refused(3, &[cause, "gap"]);
    assert!(ended.stdout.contains("INCOMPLETE"), "{ended}");
    let summary = place.summary();
    assert!(count(&summary, "ok") > 1_000, "{summary}");
    assert!(summary["generator"]["log_error"].is_string(), "{summary}");
}

#[test]
fn a_log_beyond_the_limit_of_a_file_spoils_the_run() {
    let server = Server::start(Kind::Mcp);
    let place = Place::new();
    let dir = place.path().display();
    // The shell ignores SIGXFSZ, and so does what it starts: writes beyond 8 KiB fail.
    let script = format!(
        "trap '' XFSZ; ulimit -f 8; exec {} -c20 -r1000 -d3s --log {dir} --json {dir}/summary.json \
         {}",
        env!("CARGO_BIN_EXE_loadgen"),
        server.url()
    );
    let mut command = Command::new("bash");
    command.args(["-c", &script]);
    run_out_of_room(command, &place, "too large");
    let (_, whole) = read_log(&place.log());
    assert!(!whole, "its damage is told");
}

#[test]
fn a_full_disk_spoils_the_run() {
    let place = Place::new();
    let disk = place.path().join("disk");
    std::fs::create_dir(&disk).expect("a directory");
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=16k", "tmpfs"]).arg(&disk);
    let mounted = mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !mounted {
        eprintln!("SKIPPED: this user may not mount a tmpfs; the limit of a file stands for it");
        return;
    }
    let server = Server::start(Kind::Mcp);
    let disk = Mounted(disk);
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(["-c20", "-r1000", "-d3s", "--log"]).arg(&disk.0);
    command.arg("--json").arg(place.json()).arg(server.url());
    run_out_of_room(command, &place, "No space left");
}

/// A file system that is unmounted with the test.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
