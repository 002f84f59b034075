//! The local backend with fake servers: `sleep`, a shell that fails, and one that serves.

use super::*;
use crate::exit::Exit;

/// A server in a few lines; each test has ports of its own on addresses that runs do not use.
const SERVER: &str = "import http.server,sys\n\
class H(http.server.BaseHTTPRequestHandler):\n\
\x20def do_GET(s): s.send_response(200); s.end_headers()\n\
\x20def log_message(s,*a): pass\n\
http.server.HTTPServer((sys.argv[1],int(sys.argv[2])),H).serve_forever()\n";

fn spec(dir: &Path, program: &str, arguments: &[&str], port: u16) -> LocalSpec {
    LocalSpec {
        program: super::super::launch::user_program(program).expect("is installed"),
        arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
        ports: vec![port],
        entry: Entry::Http("/mcp".to_owned()),
        health_by_connect: false,
        has_version: false,
        restart_delay_ns: SECOND_NS / 20,
        log_dir: dir.to_owned(),
        launcher: Launcher::default(),
        first_host: 201,
        port,
        tcp_port: port + 1,
        metrics_port: port + 2,
    }
}

fn wait(local: &Local, what: &str, met: impl Fn(&Local) -> bool) {
    let deadline_ns = clock::mono_ns() + 60 * SECOND_NS;
    while !met(local) {
        assert!(clock::mono_ns() < deadline_ns, "never: {what}; {:?}", local.status());
        clock::sleep_ns(SECOND_NS / 200);
    }
}

fn kinds(journal: &Journal, replica: &str) -> Vec<EventRecordKind> {
    journal.events().iter().filter(|e| e.replica == replica).map(|e| e.kind).collect()
}

#[test]
fn replicas_come_up_die_come_back_and_go() {
    let dir = tempfile::tempdir().expect("a folder");
    let journal = Journal::default();
    let server = spec(dir.path(), "python3", &["-c", SERVER, "{ip}", "{port}"], 28_080);
    let mut local = Local::new(server, journal.clone(), Interrupt::default());
    local.scale(2).expect("deploys");
    wait(&local, "healthy", |l| l.settled().expect("no failure"));
    assert_eq!(local.endpoints()[1].url, "http://127.0.0.202:28080/mcp");
    assert_eq!(local.sampler().sample().len(), 2);
    assert!(local.held("127.0.0.202").is_some());

    let killed = local.kill("127.0.0.202").expect("runs");
    assert!(killed.before_ns <= killed.after_ns);
    wait(&local, "restarted", |l| {
        l.settled().expect("no failure") && l.status()[1].incarnation == 2
    });
    use EventRecordKind::{Kill, ReplicaExit, ReplicaHealthy, ReplicaStart, Stop};
    assert_eq!(
        kinds(&journal, "127.0.0.202"),
        [ReplicaStart, ReplicaHealthy, Kill, ReplicaExit, ReplicaStart, ReplicaHealthy]
    );

    assert_eq!(local.leaving(1)[0].replica, "127.0.0.202");
    local.scale(1).expect("scales down");
    wait(&local, "one left", |l| l.settled().expect("no failure"));
    assert_eq!(local.status().len(), 1);
    assert!(kinds(&journal, "127.0.0.202").ends_with(&[Stop, ReplicaExit]));
    let pid = local.status()[0].pid.expect("runs");
    local.teardown();
    assert_eq!(procfs::process(pid, Units::of_this_host()), None, "is gone");
}

#[test]
fn one_that_dies_at_its_start_shows_the_end_of_its_log() {
    let dir = tempfile::tempdir().expect("a folder");
    let script = "echo cannot read the licence >&2; exit 9";
    let server = spec(dir.path(), "sh", &["-c", script], 28_180);
    let mut local = Local::new(server, Journal::default(), Interrupt::default());
    local.scale(1).expect("starts");
    wait(&local, "failed", |l| l.settled().is_err());
    let failure = local.settled().expect_err("has failed");
    assert_eq!(failure.exit, Exit::HostLacks);
    assert!(failure.message.contains("exit code 9"), "{failure}");
    assert!(failure.message.contains("cannot read the licence"), "{failure}");
}

#[test]
fn a_taken_port_names_its_holder_before_anything_is_started() {
    let listener = std::net::TcpListener::bind("127.0.0.201:28280").expect("binds");
    let dir = tempfile::tempdir().expect("a folder");
    let server = spec(dir.path(), "sleep", &["100"], 28_280);
    let mut local = Local::new(server, Journal::default(), Interrupt::default());
    let failure = local.scale(1).expect_err("the port is taken");
    assert!(failure.message.contains(&format!("pid {}", std::process::id())), "{failure}");
    assert!(local.status().is_empty());
    drop(listener);
}

#[test]
fn one_that_is_never_healthy_is_ended_by_teardown() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = spec(dir.path(), "sleep", &["1000"], 28_380);
    let mut local = Local::new(server, Journal::default(), Interrupt::default());
    local.scale(1).expect("starts");
    wait(&local, "a process", |l| l.status().first().is_some_and(|s| s.pid.is_some()));
    assert!(!local.settled().expect("no failure"));
    let pid = local.status()[0].pid.expect("runs");
    drop(local);
    assert_eq!(procfs::process(pid, Units::of_this_host()), None, "is gone");
}

#[test]
fn a_kill_of_nobody_is_an_error() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = spec(dir.path(), "sleep", &["1"], 28_480);
    let mut local = Local::new(server, Journal::default(), Interrupt::default());
    assert!(local.kill("127.0.0.201").is_err());
}
