//! Each kind of garbage is what it says, over HTTP and over lines.

mod common;

use std::io::Read;

use common::{Client, Target, request};
use serde_json::{Value, json};

fn over_http(kind: &str, more: &[&str]) -> (Target, Client) {
    let kind = format!("--hostile={kind}");
    let target = Target::http(&[&[kind.as_str(), "--spare-handshake"], more].concat());
    let mut client = target.connect();
    assert_eq!(client.initialize().status, 200);
    client.send(client.post_bytes(&request("1", "tools/call"), ""));
    (target, client)
}

fn over_lines(kind: &str) -> (Target, Client) {
    let target = Target::lines(&[&format!("--hostile={kind}")]);
    let mut client = target.connect();
    client.send(format!("{}\n", request("1", "tools/call")));
    (target, client)
}

/// Reads `bytes` and returns them: an endless answer has as many as one wants.
fn take(client: &mut Client, bytes: usize) -> Vec<u8> {
    let mut taken = vec![0; bytes];
    client.socket.read_exact(&mut taken).unwrap();
    taken
}

#[test]
fn malformed_json_has_sound_framing() {
    need_io_uring!();
    let (target, mut client) = over_http("malformed-json", &[]);
    let answer = client.answer();
    assert_eq!(answer.status, 200);
    assert!(serde_json::from_slice::<Value>(&answer.body).is_err());
    assert_eq!(target.stop()["faults_hostile"], 1);
    let (_target, mut client) = over_lines("malformed-json");
    let line = take(&mut client, 10);
    assert_eq!(&line, b"{\"jsonrpc\"");
}

#[test]
fn malformed_http_is_no_http_and_ends() {
    need_io_uring!();
    let (_target, mut client) = over_http("malformed-http", &[]);
    assert!(!client.rest().starts_with(b"HTTP/1."));
    let (_target, mut client) = over_lines("malformed-http");
    assert!(serde_json::from_slice::<Value>(&client.rest()).is_err());
}

#[test]
fn a_foreign_answer_comes_instead_of_or_before_the_right_one() {
    need_io_uring!();
    for more in [&[][..], &["--sse"]] {
        let (_target, mut client) = over_http("wrong-id", more);
        assert_eq!(client.answer().json()["id"], json!(9_007_199_254_740_993_u64));
        let (_target, mut client) = over_http("unsolicited-answer", more);
        assert_eq!(client.answer().json()["id"], json!(9_007_199_254_740_993_u64));
        assert_eq!(client.answer().json()["id"], 1);
    }
    let (_target, mut client) = over_lines("unsolicited-answer");
    assert_ne!(client.line()["id"], 1);
    assert_eq!(client.line()["id"], 1);
}

#[test]
fn endless_answers_do_not_end() {
    need_io_uring!();
    const MANY: usize = 4 << 20;
    let (_target, mut client) = over_http("endless-headers", &[]);
    let head = take(&mut client, MANY);
    assert!(!head.windows(4).any(|window| window == b"\r\n\r\n"));
    let (_target, mut client) = over_http("endless-line", &[]);
    let line = take(&mut client, MANY);
    assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1, "the status line only");
    let (_target, mut client) = over_http("endless-line", &["--sse"]);
    client.head();
    let data = (0..100).flat_map(|_| client.chunk()).collect::<Vec<u8>>();
    assert!(data.starts_with(b"data: xxx") && !data.contains(&b'\n'));
    for kind in ["endless-line", "endless-headers"] {
        let (_target, mut client) = over_lines(kind);
        assert!(!take(&mut client, MANY).contains(&b'\n'));
    }
}

#[test]
fn a_flood_is_notifications_only() {
    need_io_uring!();
    let (_target, mut client) = over_http("notification-flood", &[]);
    client.head();
    for _ in 0..5000 {
        let event = String::from_utf8(client.chunk()).unwrap();
        assert!(event.contains("notifications/message") && !event.contains("\"id\""));
    }
    let (_target, mut client) = over_lines("notification-flood");
    for _ in 0..5000 {
        assert_eq!(client.line()["method"], "notifications/message");
    }
}

#[test]
fn a_huge_chunk_is_announced_and_withheld() {
    need_io_uring!();
    let (_target, mut client) = over_http("huge-chunk", &[]);
    client.head();
    client.finish();
    let rest = client.rest();
    assert!(rest.starts_with(b"40000000\r\n"), "{rest:?}");
    assert!(rest.len() < 100);
}

#[test]
fn a_dripped_answer_is_right_in_the_end_and_a_cut_one_is_half() {
    need_io_uring!();
    let (_target, mut client) = over_lines("drip");
    assert_eq!(client.piece(), b"{");
    assert_eq!(client.piece(), b"\"");
    let (_target, mut client) = over_http("cut", &[]);
    let half = client.rest();
    assert!(half.starts_with(b"HTTP/1.1 200") && !half.ends_with(b"}"));
}

#[test]
fn kinds_mix_with_right_answers() {
    need_io_uring!();
    let target = Target::http(&[
        "--era=sessionless",
        "--hostile=wrong-id",
        "--hostile=malformed-json",
        "--hostile-share=0.5",
    ]);
    let mut client = target.connect();
    let (mut right, mut wrong, mut broken) = (0, 0, 0);
    for _ in 0..200 {
        match serde_json::from_slice::<Value>(&client.call("1", "ping").body) {
            Ok(json) if json["id"] == 1 => right += 1,
            Ok(_) => wrong += 1,
            Err(_) => broken += 1,
        }
    }
    assert!(right > 50 && wrong > 10 && broken > 10, "{right} {wrong} {broken}");
    assert_eq!(target.stop()["faults_hostile"], wrong + broken);
}
