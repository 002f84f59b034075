//! Preflight's predictions against real failures, each in a network namespace of its own: a narrow
//! port range, a full connection tracking table, a short accept queue, a low descriptor limit. In
//! each, preflight names the number, a forced load fails at it, the named command fixes it.

mod preflight_support;

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use preflight_support::{
    Guard, Namespace, able, beside, close, helper_main, item, open, settle, skip,
};
use serde_json::Value;

const TARGET: &str = "127.0.0.1:8080";

/// Not a test: what the tests start inside a namespace.
#[test]
#[ignore = "a helper process of the other tests"]
fn helper() {
    helper_main();
}

fn failing<'a>(report: &'a (i32, Value), id: &str) -> &'a Value {
    let found = item(&report.1, id);
    assert_eq!(found["verdict"], "does_not_fit", "{found:#}");
    assert_eq!(report.0, 1, "exit code");
    assert_eq!(report.1["verdict"], "does_not_fit");
    found
}

fn fine(report: &(i32, Value), id: &str) {
    let found = item(&report.1, id);
    assert_eq!(found["verdict"], "ok", "{found:#}");
    assert_ne!(report.0, 1, "{:#}", report.1["items"]);
}

fn fix(item: &Value) -> String {
    item["fix"].as_str().expect("a command").to_owned()
}

#[test]
fn a_narrow_port_range_fails_at_the_predicted_number() {
    if !able(&["ip", "setsid", "ss"]) {
        return;
    }
    let ns = Namespace::new();
    ns.sh("sysctl -qw net.ipv4.ip_local_port_range='40000 40999'");
    let plan = ["-c", "2000", "--sources", "127.0.0.1", "--targets", TARGET, "--replicas", "1"];
    let report = ns.preflight(&plan, None);
    let ports = failing(&report, "ports");
    let predicted = ports["holds"].as_u64().unwrap();
    assert_eq!(report.1["capacity"]["as_is"]["by"], "ports");
    let mut server = ns.helper(&format!("serve {TARGET}"), None);
    assert_eq!(server.answer(), "ready");
    let (opened, error, load) = open(&ns, TARGET, 2_000, 2_000);
    assert!(close(opened, predicted), "{opened} opened, {predicted} predicted");
    assert_eq!(error, "AddrNotAvailable");
    drop((load, server));
    loadgen_meets_the_port_limit(&ns, predicted);
    ns.sh(&fix(ports));
    fine(&ns.preflight(&plan, None), "ports");
    let mut server = ns.helper(&format!("serve {TARGET}"), None);
    assert_eq!(server.answer(), "ready");
    let (opened, error, _load) = open(&ns, TARGET, 2_000, 2_000);
    assert_eq!((opened, error.as_str()), (2_000, "none"));
}

/// The generator plans its ports: it refuses more than the predicted number, with the number, and
/// forced to go on it reaches that number.
fn loadgen_meets_the_port_limit(ns: &Namespace, predicted: u64) {
    let (Some(loadgen), Some(server)) = (beside("loadgen"), beside("erlmcp-server")) else {
        return;
    };
    let _serving = ns.start(&server, &["--log", "error"], None);
    let run = |connections: u64, force: &[&str]| {
        let json = tempfile::NamedTempFile::new().expect("file");
        let done = ns
            .command(&loadgen.to_string_lossy(), None)
            .args(["-c", &connections.to_string(), "--sources", "127.0.0.2"])
            .args(force)
            .args(["--ramp", "5000", "-d", "1s", "--timeout", "2s", "--end", "reset"])
            .args(["--protocol", "http", "--json", &json.path().to_string_lossy()])
            .arg(format!("http://{TARGET}/health"))
            .output()
            .expect("loadgen");
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        let result = fs::read_to_string(json.path()).unwrap_or_default();
        let result: Value = serde_json::from_str(&result).unwrap_or_default();
        (said, result["connections"]["tcp_open_peak"].as_u64())
    };
    let (said, peak) = run(predicted, &[]);
    assert!(peak.is_some_and(|p| close(p, predicted)), "{peak:?} of {predicted}: {said}");
    let (said, peak) = run(predicted + predicted / 10, &[]);
    assert!(peak.is_none() && said.contains(&format!("= {predicted}:")), "{peak:?}: {said}");
    let (said, peak) = run(predicted + predicted / 10, &["--force"]);
    assert!(peak.is_some_and(|p| close(p, predicted)), "{peak:?} of {predicted}: {said}");
}

#[test]
fn a_short_accept_queue_stalls_at_the_predicted_number() {
    if !able(&["ip", "setsid", "ss"]) {
        return;
    }
    let ns = Namespace::new();
    ns.sh("sysctl -qw net.core.somaxconn=200");
    let plan = ["-c", "2000", "--ramp", "10000", "--targets", TARGET, "--replicas", "1"];
    let report = ns.preflight(&plan, None);
    let queue = failing(&report, "somaxconn");
    let note = queue["note"].as_str().unwrap();
    let words = note.split_once("stall after ").unwrap().1;
    let predicted: u64 = words.split(' ').next().unwrap().parse().unwrap();
    let mut server = ns.helper(&format!("stall {TARGET}"), None);
    assert_eq!(server.answer(), "ready");
    let (opened, error, load) = open(&ns, TARGET, 2_000, 700);
    assert!(close(opened, predicted), "{opened} opened, {predicted} predicted");
    assert_eq!(error, "TimedOut");
    let overflows = ns.preflight(&plan, None);
    assert_eq!(item(&overflows.1, "listener_backlog")["verdict"], "does_not_fit");
    assert!(overflows.1["host"]["counters"]["listen_overflows"].as_u64().unwrap() > 0);
    drop((load, server));
    if let Some((open, queued)) = loadgen_meets_a_stopped_server(&ns, 2_000) {
        assert!(close(queued, predicted), "{queued} queued by loadgen, {predicted} predicted");
        assert!(open < 2_000);
    }
    ns.sh(&fix(queue));
    fine(&ns.preflight(&plan, None), "somaxconn");
    if let Some((open, queued)) = loadgen_meets_a_stopped_server(&ns, 2_000) {
        assert!(open == 2_000 && queued > 4 * predicted, "{open} open, {queued} queued");
    }
    let mut server = ns.helper(&format!("stall {TARGET}"), None);
    assert_eq!(server.answer(), "ready");
    let (opened, error, _load) = open(&ns, TARGET, 2_000, 700);
    assert_eq!((opened, error.as_str()), (2_000, "none"));
}

/// Connections that stand and that wait after a server is stopped in mid-ramp.
fn loadgen_meets_a_stopped_server(ns: &Namespace, connections: u64) -> Option<(u64, u64)> {
    let (loadgen, server) = (beside("loadgen")?, beside("erlmcp-server")?);
    let serving = ns.start(&server, &["--log", "error"], None);
    let _load = ns.load(&loadgen, connections, "500");
    // The generator's first connection looks the target over; the second belongs to the ramp.
    while ns.established() < 2 {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    kill(Pid::from_raw(serving.pid()), Signal::SIGSTOP).expect("the server runs");
    let open = settle(|| ns.established());
    Some((open, ns.queued()))
}

#[test]
fn a_low_descriptor_limit_stops_a_server_at_the_predicted_number() {
    if !able(&["ip", "setsid", "prlimit"]) {
        return;
    }
    let ns = Namespace::new();
    let mut server = ns.helper(&format!("serve {TARGET}"), Some("8000:16000"));
    assert_eq!(server.answer(), "ready");
    let pid = server.pid().to_string();
    let plan = ["-c", "9000", "--role", "server", "--pid", &pid, "--targets", TARGET];
    let report = ns.preflight(&plan, None);
    let limit = failing(&report, "server_process");
    let predicted = limit["holds"].as_u64().unwrap();
    let (opened, _, _load) = open(&ns, TARGET, 9_000, 2_000);
    assert_eq!(opened, 9_000, "the rest waits in the accept queue");
    let accepted = settle(|| server.count());
    assert!(close(accepted, predicted), "{accepted} accepted, {predicted} predicted");
    ns.sh(&fix(limit));
    fine(&ns.preflight(&plan, None), "server_process");
    assert_eq!(settle(|| server.count()), 9_000);
}

#[test]
fn a_hard_descriptor_limit_is_predicted_for_a_server_to_be_started() {
    if !able(&["ip", "setsid", "prlimit"]) {
        return;
    }
    // Low enough to be quick, high enough that preflight's margin is within 2 % of it.
    let limit = Some("4500:4500");
    let ns = Namespace::new();
    let plan = ["-c", "5000", "--role", "server", "--replicas", "1", "--targets", TARGET];
    let report = ns.preflight(&plan, limit);
    let predicted = failing(&report, "server_descriptors")["holds"].as_u64().unwrap();
    if let Some(server) = beside("erlmcp-server")
        && let Some(loadgen) = beside("loadgen")
    {
        let alive = sessions(&ns, &server, &loadgen, limit, 5_000);
        assert!(close(alive, predicted), "{alive} sessions, {predicted} predicted");
    }
    // Two replicas under the same limit hold it.
    let plan = ["-c", "5000", "--role", "server", "--replicas", "2", "--targets", TARGET];
    fine(&ns.preflight(&plan, limit), "server_descriptors");
}

/// Sessions that the bundled server keeps alive under a descriptor limit.
fn sessions(
    ns: &Namespace,
    server: &Path,
    loadgen: &Path,
    limit: Option<&str>,
    connections: u64,
) -> u64 {
    let _serving = ns.start(server, &["--log", "error"], limit);
    let json = tempfile::NamedTempFile::new().expect("file");
    let done = ns
        .command(&loadgen.to_string_lossy(), None)
        .args(["-c", &connections.to_string(), "--force", "--ramp", "2000"])
        .args(["-d", "4s", "--timeout", "8s", "--end", "reset"])
        .args(["--json", &json.path().to_string_lossy()])
        .arg(format!("http://{TARGET}/mcp"))
        .output()
        .expect("loadgen");
    let text = fs::read_to_string(json.path()).unwrap_or_default();
    let result: Value = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&done.stderr)));
    result["connections"]["session_alive_peak"].as_u64().expect("a count")
}

const CONNTRACK_MAX: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
/// Entries during the test: more than a quiet host has, fewer than a process's descriptors.
const ENTRIES: u64 = 8_000;

/// A namespace that tracks connections.
fn tracking() -> Namespace {
    let ns = Namespace::new();
    ns.sh("nft add table ip t && \
         nft add chain ip t c '{ type filter hook input priority 0; }' && \
         nft add rule ip t c ct state established accept");
    ns
}

/// Connections that the host tracks, once few are left: closed ones stay for two minutes.
fn quiet_count() -> u64 {
    let read = || {
        let text = fs::read_to_string(CONNTRACK_MAX.replace("_max", "_count")).unwrap_or_default();
        text.trim().parse().unwrap_or(u64::MAX)
    };
    for _ in 0..36 {
        if read() <= ENTRIES / 2 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_secs(5));
    }
    read()
}

/// The maximum is one number for the machine: it is low for seconds, and only where nobody else
/// has connections that would suffer.
#[test]
fn a_full_connection_tracking_table_stops_at_the_predicted_number() {
    if !able(&["ip", "setsid", "ss", "nft"]) {
        return;
    }
    let Ok(before) = fs::read_to_string(CONNTRACK_MAX) else {
        return skip("connection tracking is not in this kernel, or not loaded");
    };
    let used = quiet_count();
    if used > ENTRIES / 2 {
        return skip(&format!("the host tracks {used} connections that the test would disturb"));
    }
    let plan = ["-c", "9000", "--targets", TARGET, "--replicas", "1"];
    let loaded = tracking();
    let asked = tracking();
    let mut server = loaded.helper(&format!("serve {TARGET}"), None);
    assert_eq!(server.answer(), "ready");
    let low = Guard::new(&format!("echo {} > {CONNTRACK_MAX}", before.trim()));
    fs::write(CONNTRACK_MAX, ENTRIES.to_string()).unwrap();
    let report = asked.preflight(&plan, None);
    let (opened, error, load) = open(&loaded, TARGET, 9_000, 1_500);
    drop((load, server, loaded));
    let generated = loadgen_meets_the_table();
    drop(low);
    assert_eq!(fs::read_to_string(CONNTRACK_MAX).unwrap(), before, "the maximum is as before");
    let table = failing(&report, "conntrack");
    assert_eq!(table["evidence"], "tried", "{table:#}");
    let note = table["note"].as_str().unwrap_or_default();
    assert!(note.contains("is read-only in this"), "{table:#}");
    let predicted = table["holds"].as_u64().unwrap();
    assert!(close(opened, predicted), "{opened} opened, {predicted} predicted");
    assert_eq!(error, "TimedOut");
    if let Some(open) = generated {
        assert!(close(open, predicted), "{open} by loadgen, {predicted} predicted");
    }
    after_conntrack_fix(&before, table, &plan);
}

/// Connections that the generator comes to under the low maximum.
fn loadgen_meets_the_table() -> Option<u64> {
    let (loadgen, server) = (beside("loadgen")?, beside("erlmcp-server")?);
    let ns = tracking();
    let _serving = ns.start(&server, &["--log", "error"], None);
    let _load = ns.load(&loadgen, 9_000, "6000");
    Some(settle(|| ns.established()))
}

/// The command is for the host: it runs there, for a moment.
fn after_conntrack_fix(before: &str, table: &Value, plan: &[&str]) {
    let ns = tracking();
    let mut server = ns.helper(&format!("serve {TARGET}"), None);
    assert_eq!(server.answer(), "ready");
    let _guard = Guard::new(&format!("echo {} > {CONNTRACK_MAX}", before.trim()));
    let fixed = Command::new("sh").args(["-c", &fix(table)]).output().expect("sh");
    assert!(fixed.status.success());
    let (opened, error, _load) = open(&ns, TARGET, 9_000, 1_500);
    assert_eq!((opened, error.as_str()), (9_000, "none"));
    drop((_load, server));
    fine(&tracking().preflight(plan, None), "conntrack");
}

#[test]
fn a_namespace_that_does_not_track_is_found_by_trying() {
    if !able(&["ip", "setsid", "ss"]) {
        return;
    }
    if !Path::new(CONNTRACK_MAX).exists() {
        return skip("connection tracking is not in this kernel, or not loaded");
    }
    let report = Namespace::new().preflight(&["-c", "300000"], None);
    let found = item(&report.1, "conntrack");
    assert_eq!((&found["verdict"], &found["evidence"]), (&"ok".into(), &"tried".into()));
}

#[test]
fn namespaces_are_gone_when_their_owner_is() {
    if !able(&["ip", "setsid", "ss"]) {
        return;
    }
    let ns = Namespace::new();
    let list = || {
        let out = Command::new("ip").args(["netns", "list"]).output().expect("ip");
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let own = format!("preflight-{}-", std::process::id());
    assert!(list().contains(&own));
    let marker = tempfile::tempdir().unwrap();
    let file = marker.path().join("gone");
    drop(Guard::new(&format!("echo x > {}", file.display())));
    assert!(file.exists(), "a guard runs its line before its drop returns");
    drop(ns);
}
