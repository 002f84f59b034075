//! Each fault does what it says. Times are only ever bounded from below.

mod common;

use std::io::{ErrorKind, Read};

use bench::clock;
use common::{Target, request};
use serde_json::json;

const MS: u64 = 1_000_000;

/// Nanoseconds that `work` takes.
fn took_ns<T>(work: impl FnOnce() -> T) -> (u64, T) {
    let start_ns = clock::now_ns();
    let result = work();
    (clock::now_ns() - start_ns, result)
}

#[test]
fn a_delay_holds_each_answer_and_pipelined_requests_share_it() {
    need_io_uring!();
    let target = Target::http(&["--protocol=http", "--delay=60ms", "--delay-jitter=5ms"]);
    let mut client = target.connect();
    let (ns, answer) = took_ns(|| client.get("/"));
    assert_eq!(answer.status, 200);
    assert!(ns >= 60 * MS, "{ns}");
    // One after another they would take 100 times 60 ms.
    let (ns, ()) = took_ns(|| {
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100));
        (0..100).for_each(|_| assert_eq!(client.answer().status, 200));
    });
    assert!((60 * MS..6000 * MS).contains(&ns), "{ns}");
    assert_eq!(target.stop()["faults_delayed"], 101);
}

#[test]
fn a_stall_holds_answers_until_its_end() {
    need_io_uring!();
    let target = Target::http(&["--protocol=http", "--stall=200ms@1ms", "--stall=100ms@150ms"]);
    let (mut first, mut second) = (target.connect(), target.connect());
    let start_ns = clock::now_ns();
    first.get("/");
    while clock::now_ns() < start_ns + 20 * MS {
        std::thread::yield_now();
    }
    // Both stalls run from the first request: 1..201 ms and 150..250 ms.
    second.get("/");
    let end_ns = clock::now_ns();
    assert!(end_ns - start_ns >= 250 * MS, "{}", end_ns - start_ns);
    assert_eq!(target.stop()["faults_stalled"], 1);
}

#[test]
fn error_shares_are_kept_and_seeded() {
    need_io_uring!();
    let run = |seed: &str| {
        let arguments = [
            "--era=sessionless",
            "--error-share=0.2",
            "--rpc-error-share=0.2",
            "--tool-error-share=20%",
            seed,
        ];
        let target = Target::http(&arguments);
        let mut client = target.connect();
        let seen: Vec<(u16, bool, bool)> = (0..500)
            .map(|_| {
                let answer = client.call("1", "tools/call");
                if answer.status == 500 {
                    return (500, false, false);
                }
                let json = answer.json();
                let is_error = json["result"]["isError"] == json!(true);
                (answer.status, json["error"]["code"] == json!(-32603), is_error)
            })
            .collect();
        (seen, target.stop())
    };
    let (seen, stats) = run("--seed=5");
    let count = |wanted| seen.iter().filter(|&&got| got == wanted).count();
    // Of 500: 100 expected, then 80, then 64, each within five standard deviations.
    assert!((55..=145).contains(&count((500, false, false))));
    assert!((35..=125).contains(&count((200, true, false))));
    assert!((24..=104).contains(&count((200, false, true))));
    assert_eq!(stats["faults_http_500"], count((500, false, false)));
    assert_eq!(stats["faults_rpc_error"], count((200, true, false)));
    assert_eq!(stats["faults_tool_error"], count((200, false, true)));
    assert_eq!(run("--seed=5").0, seen, "a seed repeats a run");
    assert_ne!(run("--seed=6").0, seen);
}

#[test]
fn a_reset_is_a_reset_and_an_ordinary_end_is_none() {
    need_io_uring!();
    let target = Target::http(&["--protocol=http", "--reset-share=0.5"]);
    let (mut resets, mut answers) = (0, 0);
    for _ in 0..40 {
        let mut client = target.connect();
        client.send("GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
        let mut got = Vec::new();
        match client.socket.read_to_end(&mut got) {
            Ok(_) => {
                assert!(got.starts_with(b"HTTP/1.1 200"));
                answers += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                assert_eq!(got, b"");
                resets += 1;
            }
        }
    }
    assert!(resets > 0 && answers > 0, "{resets} {answers}");
    assert_eq!(target.stop()["faults_reset"], resets);
}

#[test]
fn never_answering_reads_on() {
    need_io_uring!();
    let target = Target::http(&["--never-answer", "--spare-handshake"]);
    let mut client = target.connect();
    assert_eq!(client.initialize().status, 200);
    let bytes = client.post_bytes(&request("1", "ping"), "");
    client.send(bytes.repeat(3));
    client.finish();
    assert_eq!(client.rest(), b"");
    let stats = target.stop();
    assert_eq!((&stats["requests"], &stats["faults_never_answered"]), (&json!(4), &json!(3)));
}

#[test]
fn a_connection_is_closed_after_its_number_of_requests() {
    need_io_uring!();
    let target = Target::http(&["--protocol=http", "--close-after=3"]);
    let mut client = target.connect();
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(5));
    for _ in 0..3 {
        assert_eq!(client.answer().status, 200);
    }
    // Two requests are left unread, which a kernel tells the peer by a reset.
    let mut rest = Vec::new();
    let _ = client.socket.read_to_end(&mut rest);
    assert_eq!(rest, b"");
    assert_eq!(target.stop()["faults_closed_after"], 1);
}

#[test]
fn an_idle_connection_is_closed_and_a_used_one_is_not_counted() {
    need_io_uring!();
    let target = Target::http(&["--idle-close=150ms"]);
    let mut client = target.connect();
    assert_eq!(client.initialize().status, 200);
    let (ns, rest) = took_ns(|| client.rest());
    assert_eq!(rest, b"");
    assert!(ns >= 100 * MS, "{ns}");
    // The session outlives its connection.
    let mut again = target.connect();
    again.session = client.session.clone();
    assert_eq!(again.call("1", "ping").status, 200);
    assert_eq!(target.stop()["faults_idle_closed"], 1);
}

#[test]
fn accepting_can_be_slow_or_never() {
    need_io_uring!();
    let target = Target::http(&["--protocol=http", "--slow-accept=20/s"]);
    let (ns, ()) = took_ns(|| {
        let mut clients: Vec<_> = (0..6).map(|_| target.connect()).collect();
        clients.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
    });
    assert!(ns >= 4 * 50 * MS, "{ns}");

    let target = Target::http(&["--accept-never"]);
    let mut client = target.connect();
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(target.stop()["connections_accepted"], 0);
}

#[test]
fn short_writes_arrive_in_pieces_and_whole() {
    need_io_uring!();
    let target = Target::http(&["--short-writes=7", "--short-write-gap=2ms"]);
    let mut client = target.connect();
    assert_eq!(client.initialize().status, 200);
    client.send(client.post_bytes(&request("1", "ping"), ""));
    let first = client.piece().len();
    assert!(first.is_multiple_of(7), "the first read saw whole pieces: {first}");
    assert!(first < 100, "the answer came at once: {first}");
}

#[test]
fn sessions_are_limited_expire_and_are_forgotten() {
    need_io_uring!();
    let target = Target::http(&["--session-limit=2"]);
    let mut client = target.connect();
    let statuses: Vec<u16> = (0..3).map(|_| client.initialize().status).collect();
    assert_eq!(statuses, [200, 200, 503]);
    assert_eq!(target.stop()["sessions_refused"], 1);

    let target = Target::http(&["--session-ttl=20ms"]);
    let mut client = target.connect();
    client.initialize();
    std::thread::sleep(std::time::Duration::from_millis(60));
    assert_eq!(client.call("1", "ping").status, 404);
    assert_eq!(client.initialize().status, 200);
    assert_eq!(target.stop()["sessions_expired"], 1);

    let target = Target::http(&["--forget-sessions-share=1", "--spare-handshake"]);
    let mut client = target.connect();
    client.initialize();
    assert_eq!(client.call("1", "ping").status, 404);
    assert_eq!(client.call("2", "ping").status, 404);
    assert_eq!(target.stop()["sessions_forgotten"], 1);
}

#[test]
fn faults_hit_lines_too() {
    need_io_uring!();
    let target = Target::lines(&["--rpc-error-share=1", "--delay=20ms", "--spare-handshake"]);
    let mut client = target.connect();
    client.send(format!("{}\n", request("1", "initialize")));
    assert!(client.line()["result"].is_object());
    let (ns, answer) = took_ns(|| {
        client.send(format!("{}\n", request("2", "tools/call")));
        client.line()
    });
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(2), &json!(-32603)));
    assert!(ns >= 20 * MS, "{ns}");
}
